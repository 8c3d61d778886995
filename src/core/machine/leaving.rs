//! What triggers have left to do that are not configured any more.
//!
//! An accepted event of a trigger that goes is run all the same, unless its `on_removal` says
//! otherwise: by the tasks that it was accepted for, one at a time, behind the trigger's live runs.
//! What that takes is recorded while the trigger is configured, so that it makes no difference
//! whether it goes by a reload or between a stop and a start. Files that no run has claimed stay
//! where they are: the folder keeps them.

use std::collections::BTreeSet;

use super::rate::Bucket;
use super::{Machine, Timer};
use crate::core::bound::{Bound, OnRemoval};
use crate::core::disposition::Disposition;
use crate::core::effect::Out;
use crate::core::id::{ItemId, Name, Now, Rev};
use crate::core::path::Bytes;
use crate::core::record::{ItemQueued, Record, RunCreated};
use crate::core::trigger::{Folder, Overlap, TriggerSpec};

/// What waits of a trigger that is not configured any more.
#[derive(Debug, Default)]
pub(super) struct Leaving {
    /// Its accepted events, by arrival.
    pub(super) items: BTreeSet<ItemId>,
    /// What its `rate_limit` still holds.
    bucket: Option<Bucket>,
}

impl Bound {
    /// What a trigger's accepted events need, when the graph is `rev`.
    fn of(spec: &TriggerSpec, rev: &Rev) -> Self {
        let folder = spec.folder();
        Self {
            spec: spec.rev.clone(),
            rev: rev.clone(),
            select: spec.select.clone(),
            on_removal: spec.on_removal,
            merge: spec.overlap == Overlap::Coalesce,
            rate_limit: spec.rate_limit,
            drop: folder.is_some_and(|folder| folder.folder == Folder::Drop),
            root: folder.map(|folder| Bytes::from(folder.root.as_path())),
            disposition: folder.map(Disposition::of).unwrap_or_default(),
        }
    }
}

impl Machine {
    /// Accepts an event.
    pub(super) fn queue(&mut self, now: Now, queued: ItemQueued, out: &mut Out) {
        if let Some(name) = &queued.trigger {
            self.bind(now, name, out);
        }
        self.emit(now, Record::ItemQueued(queued), out);
    }

    /// Records what the events of a trigger need should it leave the configuration, unless that is
    /// known.
    pub(super) fn bind(&mut self, now: Now, name: &Name, out: &mut Out) {
        let Some(lane) = self.lanes.get(name) else { return };
        let rev = self.model.graph.rev();
        let known = lane.stored.bound.as_ref();
        if known.is_none_or(|bound| bound.spec != lane.spec.rev || bound.rev != *rev) {
            let bound = Box::new(Bound::of(&lane.spec, rev));
            let trigger = name.clone();
            self.emit(now, Record::TriggerBound { trigger, bound, at: now.wall }, out);
        }
    }

    /// The same for all triggers of which something waits: the configuration has changed.
    pub(super) fn bind_waiting(&mut self, now: Now, out: &mut Out) {
        let waiting = self.lanes.iter().filter(|(_, lane)| !lane.items.is_empty());
        for name in waiting.map(|(name, _)| name.clone()).collect::<Vec<_>>() {
            self.bind(now, &name, out);
        }
    }

    /// A trigger goes: what waits of it is kept apart from now on.
    pub(super) fn leave(&mut self, name: &Name) {
        let Some(lane) = self.lanes.get_mut(name) else { return };
        let items: BTreeSet<ItemId> = lane.items.ids().collect();
        let bucket = lane.bucket.take();
        if !items.is_empty() {
            self.leaving.insert(name.clone(), Leaving { items, bucket });
        }
    }

    /// Drops what waits of triggers that are not configured, where that is their policy, or where
    /// nobody knows how to run it.
    pub(super) fn drop_leaving(&mut self, now: Now, out: &mut Out) {
        let drops = |name: &Name| {
            let bound = self.dormant.get(name).and_then(|stored| stored.bound.as_ref());
            bound.is_none_or(|bound| bound.on_removal == OnRemoval::Drop)
        };
        let leaving = self.leaving.iter().filter(|(name, _)| drops(name));
        let gone = leaving.flat_map(|(name, of)| of.items.iter().map(|item| (name.clone(), *item)));
        for (name, item) in gone.collect::<Vec<_>>() {
            let reason = "the trigger is no longer configured".to_owned();
            let trigger = Some(name);
            self.emit(now, Record::ItemDropped { item, trigger, reason, at: now.wall }, out);
        }
    }

    /// What is next of a trigger that is not configured any more. One run of each is alive, which
    /// no policy forbids.
    pub(super) fn next_leaving(&mut self, now: Now) -> Option<(Name, Vec<ItemId>)> {
        let Self { leaving, dormant, runs, items, timers, .. } = self;
        for (name, of) in leaving {
            let Some(stored) = dormant.get(name).filter(|stored| stored.paused.is_none()) else {
                continue;
            };
            let Some(bound) = stored.bound.as_ref() else { continue };
            if runs.values().any(|run| run.info().trigger.as_ref() == Some(name)) {
                continue;
            }
            let bucket = of.bucket.take().or(bound.rate_limit.map(Bucket::full));
            of.bucket = bucket;
            if let Some(at) = of.bucket.as_ref().and_then(|bucket| bucket.fills(now.mono)) {
                timers.insert((at, Timer::Lane(name.clone())));
                continue;
            }
            let Some(first) = of.items.first().copied() else { continue };
            let merges = |id: &ItemId| bound.merge && items[id].merges();
            let unit = if merges(&first) {
                of.items.iter().filter(|id| merges(id)).copied().collect()
            } else {
                vec![first]
            };
            if let Some(bucket) = &mut of.bucket {
                bucket.take(now.mono);
            }
            return Some((name.clone(), unit));
        }
        None
    }

    /// A run of a trigger that is not configured any more, with nothing in it but what the trigger
    /// said.
    pub(super) fn run_leaving(&self, name: &Name, blank: RunCreated) -> RunCreated {
        let bound = self.dormant.get(name).and_then(|stored| stored.bound.as_deref());
        let Some(bound) = bound.cloned() else { return blank };
        let Bound { rev, select, root, disposition, .. } = bound;
        let key = Bytes::from(&**name);
        RunCreated { trigger: Some(name.clone()), rev, select, root, disposition, key, ..blank }
    }

    /// Whether a trigger delivers each version of a file, so that a run that gave way comes back.
    pub(super) fn is_drop(&self, name: &Name) -> bool {
        let lane = self.lanes.get(name).map(|lane| lane.spec.folder());
        let bound = self.dormant.get(name).and_then(|stored| stored.bound.as_ref());
        lane.map_or_else(
            || bound.is_some_and(|bound| bound.drop),
            |folder| folder.is_some_and(|folder| folder.folder == Folder::Drop),
        )
    }

    /// Notes which triggers that are not configured any more have nothing left to do.
    pub(super) fn note_drained(&mut self, now: Now, out: &mut Out) {
        let done = |name: &Name| {
            let of = |run: &super::Run| run.info().trigger.as_ref() == Some(name);
            !self.leaving.contains_key(name) && !self.runs.values().any(of)
        };
        let bound = self.dormant.iter().filter(|(_, stored)| stored.bound.is_some());
        let done = bound.filter(|(name, _)| done(name)).map(|(name, _)| name.clone());
        let done: Vec<Name> = done.collect();
        let any = !done.is_empty();
        for trigger in done {
            self.emit(now, Record::TriggerDrained { trigger, at: now.wall }, out);
        }
        if any {
            self.drop_graphs();
        }
    }

    /// An event of a trigger that is not configured waits.
    pub(super) fn enqueue_leaving(&mut self, name: &Name, item: ItemId) {
        self.leaving.entry(name.clone()).or_default().items.insert(item);
    }

    /// It waits no longer.
    pub(super) fn dequeue_leaving(&mut self, name: &Name, item: ItemId) {
        let Some(leaving) = self.leaving.get_mut(name) else { return };
        leaving.items.remove(&item);
        if leaving.items.is_empty() {
            self.leaving.remove(name);
        }
    }

    /// Whether what waits of a trigger that is not configured may still be run by this graph.
    pub(super) fn is_bound_to(&self, rev: &Rev) -> bool {
        self.dormant.values().filter_map(|stored| stored.bound.as_ref()).any(|b| b.rev == *rev)
    }
}
