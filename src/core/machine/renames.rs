//! Triggers that come, go and change their names: what is known of each outlives its place in the
//! configuration.
//!
//! A trigger that was given another name takes over all that was known of the former one, before it
//! looks at a file. One that is gone is remembered until it has been gone for long enough.

use std::collections::BTreeMap;

use super::lane::Stored;
use super::{Machine, Name};
use crate::core::effect::Out;
use crate::core::id::{Now, Wall};
use crate::core::model::Model;
use crate::core::record::Record;
use crate::core::trigger::TriggerSpec;

impl Machine {
    /// Triggers of a configuration that take over the ledger of another one, by its name.
    pub fn heirs<'a>(&self, model: &'a Model) -> BTreeMap<&'a Name, &'a Name> {
        former_names(model).filter(|(_, to)| !self.is_armed(to)).collect()
    }

    /// Triggers of a configuration that cannot take over a ledger that is there, each behind the
    /// name of that: they have their own.
    pub fn heirs_in_vain<'a>(
        &self,
        model: &'a Model,
    ) -> impl Iterator<Item = (&'a Name, &'a Name)> {
        former_names(model).filter(|(from, to)| self.known(from).is_some() && self.is_armed(to))
    }

    /// A trigger takes over what is known of its former name, if it has one, as long as it has no
    /// ledger of its own.
    pub(super) fn take_over(&mut self, now: Now, name: &Name, out: &mut Out) {
        let spec = self.model.triggers.get(name).filter(|_| !self.is_armed(name));
        let from = spec.and_then(|spec| former_name(&self.model, spec));
        if let Some(from) = from.filter(|from| self.dormant.contains_key(*from)) {
            let (from, to) = (from.clone(), name.clone());
            self.emit(now, Record::TriggerRenamed { from, to, at: now.wall }, out);
        }
    }

    fn known(&self, name: &Name) -> Option<&Stored> {
        self.lanes.get(name).map(|lane| &lane.stored).or(self.dormant.get(name))
    }

    /// Whether a trigger has a ledger of its own.
    fn is_armed(&self, name: &Name) -> bool {
        self.known(name).is_some_and(|stored| stored.armed)
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

/// The former names of a configuration's triggers, each with the trigger's name now.
fn former_names(model: &Model) -> impl Iterator<Item = (&Name, &Name)> {
    model.triggers.values().filter_map(|spec| Some((former_name(model, spec)?, &spec.name)))
}

/// The former name of a trigger, unless there is one of that name.
fn former_name<'a>(model: &Model, spec: &'a TriggerSpec) -> Option<&'a Name> {
    let from = spec.folder()?.renamed_from.as_ref();
    from.filter(|from| !model.triggers.contains_key(*from))
}
