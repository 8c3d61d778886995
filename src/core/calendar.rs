//! A schedule: which instants a cron expression means in a time zone.
//!
//! Arithmetic only: the zone's rules are in the value, and the time is an argument. Where clocks
//! are put forward, a time of day that is left out is the instant of the shift. Where they are put
//! back, a time of day that comes twice is its first; only a schedule with `*` in its minutes or
//! hours, which means an interval, goes on through both.

use std::collections::VecDeque;
use std::time::Duration;

use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};
use serde::{Deserialize, Serialize};

use super::id::{Name, Wall};

/// When a trigger is due.
#[derive(Clone, Debug)]
pub struct Schedule {
    cron: Cron,
    zone: TimeZone,
    /// What it says and where, as one text: the identity of what was settled so far.
    id: Box<str>,
}

/// Up to where a schedule or a silence is settled. Of the same commit as what came of it, so that a
/// crash neither loses nor doubles an occurrence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimeMark {
    /// What it is about: the schedule with its zone, or the trigger that is listened to. Of another
    /// one it tells nothing.
    pub of: Name,
    /// The last occurrence that is settled, or the beginning of the silence.
    pub at: Wall,
    /// Whether the silence was told.
    pub told: bool,
}

/// Why a text is no schedule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    /// It has another number of fields.
    #[error("a schedule has five fields, not {0}")]
    Fields(usize),
    /// A field cannot be read; the text is the reader's.
    #[error("not a schedule: {0}")]
    Pattern(String),
    /// No day fits it.
    #[error("no day fits this schedule")]
    Never,
}

impl Schedule {
    /// Reads `text`: minute, hour, day of the month, month, day of the week. `place` is the name of
    /// `zone`, as far as it has one.
    pub fn new(text: &str, zone: TimeZone, place: &str) -> Result<Self, ScheduleError> {
        let fields = text.split_ascii_whitespace().count();
        if fields != 5 {
            return Err(ScheduleError::Fields(fields));
        }
        let parser =
            CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
        let cron = parser.parse(text).map_err(|why| ScheduleError::Pattern(told(&why)))?;
        let words: Vec<&str> = text.split_ascii_whitespace().collect();
        let schedule = Self { cron, zone, id: format!("{} {place}", words.join(" ")).into() };
        // Any day does: what fits a date fits one within the 28 years in which all dates return.
        schedule.after(Wall(0)).map(|_| schedule).ok_or(ScheduleError::Never)
    }

    /// The five fields and the zone.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Seconds east of UTC at `at`.
    pub fn offset(&self, at: Wall) -> i32 {
        stamp(at).map_or(0, |stamp| self.zone.to_offset(stamp).seconds())
    }

    /// The first occurrence after `at`.
    pub fn after(&self, at: Wall) -> Option<Wall> {
        let found = self.cron.find_next_occurrence(&self.zoned(at)?, false).ok()?;
        wall(&found).filter(|found| *found > at)
    }

    /// The last `many` occurrences after `since` and at `until` or before, the earliest first.
    ///
    /// Found by searching forward alone, so that all who ask mean the same instants, from so short
    /// a time before `until` that the cost is bounded by `many`, not by how long ago `since` is.
    pub fn last(&self, many: usize, since: Wall, until: Wall) -> Vec<Wall> {
        let mut span = Duration::from_mins(1);
        loop {
            let span_ns = i64::try_from(span.as_nanos()).unwrap_or(i64::MAX);
            let from = since.max(Wall(until.0.saturating_sub(span_ns)));
            let mut found = VecDeque::new();
            let mut now = from;
            while let Some(next) = self.after(now).filter(|next| *next <= until) {
                if found.len() >= many {
                    found.pop_front();
                }
                found.push_back(next);
                now = next;
            }
            if found.len() >= many || from <= since {
                return found.into();
            }
            span = span.saturating_mul(2);
        }
    }

    fn zoned(&self, at: Wall) -> Option<Zoned> {
        Some(stamp(at)?.to_zoned(self.zone.clone()))
    }
}

fn stamp(at: Wall) -> Option<Timestamp> {
    Timestamp::from_nanosecond(at.0.into()).ok()
}

fn wall(at: &Zoned) -> Option<Wall> {
    i64::try_from(at.timestamp().as_nanosecond()).ok().map(Wall)
}

/// The reader's words without what it says before them.
fn told(why: &croner::errors::CronError) -> String {
    use croner::errors::CronError;
    match why {
        CronError::InvalidPattern(text)
        | CronError::IllegalCharacters(text)
        | CronError::ComponentError(text) => text.trim_end_matches('.').to_owned(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests;
