//! What time brings: occurrences of schedules, and silences of other triggers.
//!
//! What is settled is in each trigger's [`TimeMark`], of the same commit as what came of it: a crash
//! finds both or neither. What is due follows from the marks, the configuration and the time.

use std::time::Duration;

use super::lane::Lane;
use super::{Machine, Timer};
use crate::core::calendar::TimeMark;
use crate::core::candidate::{Candidate, Stage};
use crate::core::effect::Out;
use crate::core::id::{Name, Now, Wall};
use crate::core::record::{ItemQueued, Reason, Record};
use crate::core::trigger::{CatchUp, Source};

/// Missed occurrences that `catch_up = "all"` runs: the last ones. More is recorded as dropped.
const CATCH_UP_MAX: usize = 100;

/// An occurrence that is not later than this is on time, the next one of the finest schedule.
const LATE: Duration = Duration::from_mins(1);

/// A clock that is set back by less goes through times that are settled once more, and nothing
/// repeats. Set back by more it was wrong before: what is settled begins anew.
const BACK: Duration = Duration::from_hours(3);

impl Machine {
    /// Arms a trigger that waits for time, and catches up on what it has missed.
    pub(super) fn begin_time(&mut self, now: Now, name: &Name, out: &mut Out) {
        let Some(lane) = self.lanes.get(name) else { return };
        let of: Name = match &lane.spec.source {
            Source::Schedule(spec) => spec.schedule.id().into(),
            Source::Absent { of, .. } => of.clone(),
            Source::Folder(_) | Source::Signal { .. } => return,
        };
        let known = |mark: &TimeMark| mark.of == of && mark.at <= now.wall.after(BACK);
        if !lane.stored.mark.as_ref().is_some_and(known) {
            self.mark(now, name, TimeMark { of, at: now.wall, told: false }, out);
        }
        if self.lanes[name].spec.schedule().is_some() {
            self.occur(now, name, out);
        } else {
            self.listen(now, name);
        }
    }

    /// Nothing is due for a trigger any more.
    pub(super) fn end_time(&mut self, name: &Name) {
        let Some(lane) = self.lanes.get_mut(name) else { return };
        if let Some(at) = lane.due.take() {
            self.due.remove(&(at, name.clone()));
        }
        lane.silence = None;
    }

    fn mark(&mut self, now: Now, name: &Name, mark: TimeMark, out: &mut Out) {
        self.emit(now, Record::TimeMarked { trigger: name.clone(), mark }, out);
    }

    /// What is due by the calendar occurs.
    pub(super) fn occurrences(&mut self, now: Now, out: &mut Out) {
        while let Some((_, name)) = self.due.first().filter(|(at, _)| *at <= now.wall).cloned() {
            self.occur(now, &name, out);
        }
    }

    /// The calendar clock was set.
    pub(super) fn clock_set(&mut self, now: Now, out: &mut Out) {
        let scheduled = self.due.iter().map(|(_, name)| name.clone());
        for name in scheduled.collect::<Vec<_>>() {
            self.begin_time(now, &name, out);
        }
    }

    /// Settles a schedule up to now.
    fn occur(&mut self, now: Now, name: &Name, out: &mut Out) {
        self.end_time(name);
        let Some(lane) = self.lanes.get(name) else { return };
        let (spec, Some(mark)) = (lane.spec.clone(), lane.stored.mark.clone()) else { return };
        let Some(spec) = spec.schedule() else { return };
        let keep = match spec.catch_up {
            CatchUp::All => CATCH_UP_MAX,
            CatchUp::Last | CatchUp::None => 1,
        };
        let mut found = spec.schedule.last(keep + 1, mark.at, now.wall);
        let newest = found.last().copied();
        let missed = newest.is_some_and(|at| at.until(now.wall) > LATE);
        let keep = if spec.catch_up == CatchUp::None && missed { 0 } else { keep };
        let due = found.split_off(found.len().saturating_sub(keep));
        if let Some(at) = found.last() {
            self.passed_over(now, name, *at, spec.catch_up, out);
        }
        for at in due {
            self.occurred(now, name, at, out);
        }
        let settled = newest.unwrap_or(mark.at);
        if newest.is_some() {
            self.mark(now, name, TimeMark { at: settled, ..mark }, out);
        }
        let next = spec.schedule.after(settled);
        if let (Some(lane), Some(at)) = (self.lanes.get_mut(name), next) {
            lane.due = Some(at);
            self.due.insert((at, name.clone()));
        }
    }

    fn occurred(&mut self, now: Now, name: &Name, at: Wall, out: &mut Out) {
        let blank = self.blank_item(now, name, Reason::Schedule);
        self.came(now, name, ItemQueued { scheduled: Some(at), ..blank }, out);
    }

    /// Occurrences were missed and do not run: one record tells of the last of them, since there
    /// may be any number.
    fn passed_over(&mut self, now: Now, name: &Name, at: Wall, policy: CatchUp, out: &mut Out) {
        let blank = self.blank_item(now, name, Reason::Schedule);
        let item = blank.item;
        self.emit(now, Record::ItemQueued(ItemQueued { scheduled: Some(at), ..blank }), out);
        let more = if policy == CatchUp::All { " with those that fit" } else { "" };
        let word = policy.word();
        let reason = format!("catch_up = \"{word}\": missed, as all before it{more}");
        let trigger = Some(name.clone());
        self.emit(now, Record::ItemDropped { item, trigger, reason, at: now.wall }, out);
    }

    /// Derives who listens to whom.
    pub(super) fn find_listeners(&mut self) {
        self.listeners.clear();
        for (name, spec) in &self.model.triggers {
            if let Source::Absent { of, .. } = &spec.source {
                self.listeners.entry(of.clone()).or_default().insert(name.clone());
            }
        }
    }

    /// A trigger has started a run: whoever listens for its silence begins anew.
    pub(super) fn heard(&mut self, now: Now, of: &Name, out: &mut Out) {
        let listeners = self.listeners.get(of).cloned().unwrap_or_default();
        for name in listeners {
            let mark = TimeMark { of: of.clone(), at: now.wall, told: false };
            self.mark(now, &name, mark, out);
            self.listen(now, &name);
        }
    }

    /// A folder was gone through for the first time: what had come before is known.
    pub(super) fn caught_up(&mut self, now: Now, of: &Name) {
        // What is not delivered yet may be, and be heard.
        let claimed = |c: &Candidate| matches!(c.stage, Stage::Claimed { .. });
        if self.lanes.get(of).is_some_and(|lane| lane.candidates.values().all(claimed)) {
            for name in self.listeners.get(of).cloned().unwrap_or_default() {
                self.listen(now, &name);
            }
        }
    }

    /// Sets the time at which the silence will have lasted long enough. What came while dagd was
    /// down is found by a first scan: until that has ended, only the time since the start counts.
    fn listen(&mut self, now: Now, name: &Name) {
        let Some(lane) = self.lanes.get(name) else { return };
        let (Source::Absent { after, of }, Some(mark)) = (&lane.spec.source, &lane.stored.mark)
        else {
            return;
        };
        let unknown = |lane: &Lane| lane.spec.folder().is_some() && !lane.caught_up;
        let deaf = self.lanes.get(of).is_some_and(unknown);
        let passed = if deaf { Duration::ZERO } else { mark.at.until(now.wall) };
        let (left, told) = (after.saturating_sub(passed), mark.told);
        let Some(lane) = self.lanes.get_mut(name) else { return };
        lane.silence = (!told).then(|| now.mono.after(left));
        self.set_ear(name);
    }

    /// One timer for each listener: it moves on when it fires, not with each run that is heard.
    fn set_ear(&mut self, name: &Name) {
        let Some(lane) = self.lanes.get_mut(name) else { return };
        let Some(at) = lane.silence else { return };
        if lane.ear.is_none_or(|ear| at < ear) {
            lane.ear = Some(at);
            self.timers.insert((at, Timer::Silence(name.clone())));
        }
    }

    /// A silence may have lasted long enough.
    pub(super) fn silence_due(&mut self, now: Now, name: &Name, out: &mut Out) {
        let Some(lane) = self.lanes.get_mut(name) else { return };
        lane.ear = lane.ear.filter(|ear| *ear > now.mono);
        if lane.silence.is_none_or(|at| at > now.mono) {
            return self.set_ear(name);
        }
        lane.silence = None;
        let Some(mark) = lane.stored.mark.clone() else { return };
        let item = self.blank_item(now, name, Reason::Absence);
        self.came(now, name, item, out);
        self.mark(now, name, TimeMark { told: true, ..mark }, out);
    }
}
