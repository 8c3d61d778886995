//! Triggers that wait for time: `schedule` and `absent`, with the keys around them.
//!
//! Reads no clock. The rules of a time zone come from the system's database of them, once, while
//! the configuration is read.

use jiff::tz::TimeZone;

use super::diagnostics::{Problem, Span};
use super::reader::{Reader, Value};
use super::trigger::RawTrigger;
use super::triggers::Triggers;
use super::words;
use crate::core::calendar::{Schedule, ScheduleError};
use crate::core::id::Name;
use crate::core::trigger::{CatchUp, ScheduleSpec, Source};

/// What the five fields are, for who has written others.
const FIELDS: &str = "write minute, hour, day of the month, month and day of the week, as in \
                      \"0 3 * * *\" for every day at 3 o'clock";

/// A time zone and its name.
pub fn timezone<'s>(reader: &mut Reader<'s>, value: Value<'s>) -> Option<(TimeZone, String)> {
    let name = reader.text(value)?;
    if let Ok(zone) = TimeZone::get(name) {
        return Some((zone, name.to_owned()));
    }
    let what = format!("there is no time zone \"{}\" on this machine", words::shown(name));
    let known: Vec<String> = jiff::tz::db().available().map(|name| name.to_string()).collect();
    let help = if known.is_empty() {
        "install the package `tzdata`, or write \"UTC\"".to_owned()
    } else {
        let meant = reader.suggest.did_you_mean(name, known.iter().map(String::as_str));
        meant.unwrap_or_else(|| "names are such as \"Europe/Berlin\" and \"UTC\"".to_owned())
    };
    reader.note(Problem::at(value.span(), what).help(help));
    None
}

/// The source of a `schedule`.
pub fn schedule(
    reader: &mut Reader<'_>,
    raw: &RawTrigger<'_>,
    defaults: &RawTrigger<'_>,
) -> Option<Source> {
    let text = raw.schedule.as_ref()?;
    let named = raw.key("timezone").or(defaults.key("timezone")).is_some();
    let written = if raw.key("timezone").is_some() { &raw.timezone } else { &defaults.timezone };
    let (zone, place) = match written.clone() {
        Some(zone) => zone,
        None if named => return None,
        None => {
            let zone = TimeZone::system();
            let place = zone.iana_name().unwrap_or("local time").to_owned();
            (zone, place)
        }
    };
    let catch_up = raw.catch_up.or(defaults.catch_up).unwrap_or(CatchUp::Last);
    match Schedule::new(text.value, zone, &place) {
        Ok(schedule) => Some(Source::Schedule(Box::new(ScheduleSpec { schedule, catch_up }))),
        Err(why) => {
            let help = match why {
                ScheduleError::Fields(_) | ScheduleError::Pattern(_) => FIELDS,
                ScheduleError::Never => "there is no such day in any year",
            };
            reader.note(Problem::at(text.span, why.to_string()).help(help));
            None
        }
    }
}

/// The source of an `absent`. Whether there is such a trigger is asked when all are known.
pub fn absent(reader: &mut Reader<'_>, name: Span, raw: &RawTrigger<'_>) -> Option<Source> {
    if raw.key("of").is_none() {
        let at = raw.key("absent").unwrap_or(name);
        let help = "name the trigger that is to be heard of, as in of = \"orders\"";
        reader.note(Problem::at(at, "`absent` needs an `of`").help(help).absence());
    }
    let (after, of) = (raw.absent?, raw.of.as_ref()?);
    Some(Source::Absent { after, of: of.value.into() })
}

/// Checks that everyone listens to a trigger that there is, and not to themselves: nor in a circle,
/// in which each would end the silence of the next for ever.
pub fn siblings(reader: &mut Reader<'_>, triggers: &Triggers) {
    for (name, spec) in &triggers.specs {
        let Source::Absent { of, .. } = &spec.source else { continue };
        let Some(span) = triggers.places.get(name).and_then(|place| place.of) else { continue };
        let shown = words::shown(of);
        if of == name {
            let what = format!("trigger `{shown}` cannot be for its own silence");
            reader.note(Problem::at(span, what).help("name another trigger"));
        } else if !triggers.is_known(of) {
            let names = triggers.specs.keys().filter(|known| *known != name);
            let meant = reader.suggest.did_you_mean(of, names.map(AsRef::as_ref));
            let help = meant.unwrap_or_else(|| "name one that is configured".to_owned());
            reader.note(Problem::at(span, format!("there is no trigger `{shown}`")).help(help));
        } else if let Some(circle) = circle(triggers, name) {
            let what = format!("these triggers listen to each other: {circle}");
            let help = "let one of them listen to a trigger that does not listen itself";
            reader.note(Problem::at(span, what).help(help));
        }
    }
}

/// The circle in which a trigger listens to itself by way of others, if it is the first by name of
/// those in it: one problem is enough.
fn circle(triggers: &Triggers, first: &Name) -> Option<String> {
    let (mut circle, mut at) = (vec![first], first);
    for _ in 0..triggers.specs.len() {
        let Source::Absent { of, .. } = &triggers.specs.get(at)?.source else { return None };
        circle.push(of);
        if of == first {
            let shown = circle.iter().map(|name| format!("`{}`", words::shown(name)));
            return Some(shown.collect::<Vec<_>>().join(" → "));
        }
        if of < first {
            return None;
        }
        at = of;
    }
    None
}
