//! Triggers that come, go and change their names: what is known of each outlives its place in the
//! configuration.
//!
//! A trigger that was given another name takes over all that was known of the former one, before it
//! looks at a file. One that is gone is remembered until it has been gone for long enough.

use super::lane::Stored;
use super::{Machine, Name};
use crate::core::effect::Out;
use crate::core::id::{Now, Wall};
use crate::core::model::Model;
use crate::core::record::Record;

impl Machine {
    /// Whose ledger a trigger of the configuration takes over: that of its former name, as long as
    /// it has none of its own.
    fn former(&self, name: &Name) -> Option<Name> {
        let Model { triggers, .. } = &*self.model;
        let from = triggers.get(name)?.folder()?.renamed_from.clone()?;
        let known = self.lanes.get(name).map(|lane| &lane.stored).or(self.dormant.get(name));
        let armed = known.is_some_and(|stored| stored.armed);
        (!armed && !triggers.contains_key(&from)).then_some(from)
    }

    /// A trigger takes over what is known of its former name, if it has one.
    pub(super) fn take_over(&mut self, now: Now, name: &Name, out: &mut Out) {
        let from = self.former(name).filter(|from| self.dormant.contains_key(from));
        if let Some(from) = from {
            let to = name.clone();
            self.emit(now, Record::TriggerRenamed { from, to, at: now.wall }, out);
        }
    }

    /// Notes which of the triggers that something is known of are configured.
    pub(super) fn note_presence(&mut self, now: Now, out: &mut Out) {
        let back = self.lanes.values().filter(|lane| lane.stored.left.is_some());
        let back: Vec<Name> = back.map(|lane| lane.spec.name.clone()).collect();
        let left = self.dormant.iter().filter(|(_, stored)| stored.left.is_none());
        let left: Vec<Name> = left.map(|(name, _)| name.clone()).collect();
        for trigger in back {
            self.emit(now, Record::TriggerBack { trigger, at: now.wall }, out);
        }
        for trigger in left {
            self.emit(now, Record::TriggerLeft { trigger, at: now.wall }, out);
        }
    }

    /// Whether something is known of triggers that left the configuration before this time.
    pub fn has_left_before(&self, before: Wall) -> bool {
        self.dormant.values().any(|stored| stored.left.is_some_and(|left| left < before))
    }

    /// Forgets triggers that left the configuration before this time and have nothing alive.
    pub(super) fn expire(&mut self, now: Now, before: Wall, out: &mut Out) {
        let old = |stored: &Stored| stored.left.is_some_and(|left| left < before);
        let idle = |name: &&Name| {
            let is = |trigger: &Option<Name>| trigger.as_ref() == Some(*name);
            !self.runs.values().any(|run| is(&run.info().trigger))
                && !self.items.values().any(|item| is(&item.trigger))
        };
        let old = self.dormant.iter().filter(|(_, stored)| old(stored)).map(|(name, _)| name);
        let gone: Vec<Name> = old.filter(idle).cloned().collect();
        for trigger in gone {
            self.emit(now, Record::TriggerForgotten { trigger, at: now.wall }, out);
        }
    }

    /// What was known of `from` is known of `to`, with all that lives.
    pub(super) fn renamed(&mut self, from: &Name, to: &Name, now: Now) -> Result<(), &'static str> {
        if self.lanes.contains_key(from) {
            return Err("the former trigger is there");
        }
        let stored = self.dormant.remove(from).ok_or("nothing is known of the former trigger")?;
        let lane = self.lanes.get_mut(to).ok_or("no such trigger")?;
        lane.stored = Stored { left: None, ..stored };
        for item in self.items.values_mut().filter(|item| item.trigger.as_ref() == Some(from)) {
            item.trigger = Some(to.clone());
            lane.enqueue(item);
        }
        for run in self.runs.values_mut().filter(|run| run.info().trigger.as_ref() == Some(from)) {
            run.rename(to);
            lane.add(run.info());
            for (_, file) in run.claims() {
                lane.claim(run.info(), &file.claim, now, self.seq);
            }
        }
        lane.bucket = self.buckets.take(from, lane.spec.rate_limit).or(lane.bucket.take());
        self.leaving.remove(from);
        self.recent.mark_all(self.seq, to);
        self.hot.insert(to.clone());
        Ok(())
    }
}
