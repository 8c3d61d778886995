//! What triggers have left to do that are not configured any more.
//!
//! An accepted event of a trigger that goes is run all the same, unless its `on_removal` says
//! otherwise: by the tasks that it was accepted for, one at a time, behind the trigger's live runs.
//! What that takes is recorded while the trigger is configured, so that it makes no difference
//! whether it goes by a reload or between a stop and a start. Files that no run has claimed stay
//! where they are: the folder keeps them.

use std::collections::{BTreeMap, BTreeSet};

use super::lane::{ITEMS_MAX, STUCK_MAX};
use super::{Machine, Timer};
use crate::core::bound::{Bound, Grouping, OnRemoval};
use crate::core::disposition::Disposition;
use crate::core::effect::Out;
use crate::core::id::{ItemId, Name, Now, Rev};
use crate::core::model::Model;
use crate::core::path::Bytes;
use crate::core::record::{ItemQueued, Record, RunCreated};
use crate::core::trigger::{Folder, Overlap, TriggerSpec};

/// Accepted events that may wait of triggers which are not configured any more, of all together: as
/// many as four of them can have. A reload that would leave more behind is refused. Only a start with
/// another configuration, and runs that give way later, can exceed it.
pub const LEAVING_MAX: usize = 4 * ITEMS_MAX;

/// Accepted events of a trigger that is not configured, each with its key once that was asked for.
pub(super) type Leaving = BTreeMap<ItemId, Option<Bytes>>;

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
            order_key: spec.order_key.clone(),
            grouping: folder.and_then(Grouping::of),
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
    pub(super) fn leave(&mut self, now: Now, name: &Name) {
        let Some(lane) = self.lanes.get_mut(name) else { return };
        let items: Leaving = lane.items.ids().map(|item| (item, None)).collect();
        self.buckets.keep(name, lane.bucket.take(), now.mono);
        if !items.is_empty() {
            self.leaving.insert(name.clone(), items);
        }
    }

    /// How many accepted events wait of triggers that are not configured, and how many would under
    /// another configuration. Those count that are to be run, not those that are dropped.
    pub fn would_leave(&self, model: &Model) -> (usize, usize) {
        let heirs = self.heirs(model);
        let goes = |name: &Name| !model.triggers.contains_key(name) && !heirs.contains_key(name);
        let lanes = self
            .lanes
            .iter()
            .filter(|(name, lane)| goes(name) && lane.spec.on_removal == OnRemoval::Drain);
        let of_lanes: usize = lanes.map(|(_, lane)| lane.items.len()).sum();
        let stay = self.leaving.iter().filter(|(name, _)| goes(name));
        let stay: usize = stay.map(|(_, items)| items.len()).sum();
        (self.leaving.values().map(BTreeMap::len).sum(), stay + of_lanes)
    }

    /// Drops what waits of triggers that are not configured, where that is their policy, or where
    /// nobody knows how to run it: whether it did when they left, or came back since from a run that
    /// gave way.
    pub(super) fn drop_leaving(&mut self, now: Now, out: &mut Out) {
        let drops = |name: &Name| {
            let bound = self.dormant.get(name).and_then(|stored| stored.bound.as_ref());
            bound.is_none_or(|bound| bound.on_removal == OnRemoval::Drop)
        };
        let leaving = self.leaving.iter().filter(|(name, _)| drops(name));
        let gone = leaving.flat_map(|(name, of)| of.keys().map(|item| (name.clone(), *item)));
        for (name, item) in gone.collect::<Vec<_>>() {
            let reason = "the trigger is no longer configured".to_owned();
            let trigger = Some(name);
            self.emit(now, Record::ItemDropped { item, trigger, reason, at: now.wall }, out);
        }
    }

    /// What is next of a trigger that is not configured any more. One run of each is at work, which
    /// no policy forbids; those that wait for nothing but a move of their files hold up their key at
    /// most.
    pub(super) fn next_leaving(&mut self, now: Now) -> Option<(Name, Vec<ItemId>)> {
        if self.leaving.is_empty() {
            return None;
        }
        let (busy, moving) = self.at_work();
        let Self { leaving, dormant, buckets, items, timers, .. } = self;
        for (name, of) in leaving {
            let Some(stored) = dormant.get(name).filter(|stored| stored.paused.is_none()) else {
                continue;
            };
            let Some(bound) = stored.bound.as_ref() else { continue };
            let moving = moving.get(name).map_or(&[][..], Vec::as_slice);
            if busy.contains(name) || moving.len() >= STUCK_MAX {
                continue;
            }
            if let Some(at) = buckets.fills(name, now.mono) {
                timers.insert((at, Timer::Lane(name.clone())));
                continue;
            }
            let keys = if bound.has_keys() { moving } else { &[] };
            let is_held = |id: &ItemId, key: &mut Option<Bytes>| {
                !keys.is_empty()
                    && keys.contains(key.get_or_insert_with(|| bound.key_of(&items[id])))
            };
            let free = of.iter_mut().find_map(|(id, key)| (!is_held(id, key)).then_some(*id));
            let Some(first) = free else { continue };
            let merges = |id: &ItemId| bound.merge && items[id].merges();
            let unit = if merges(&first) {
                of.keys().filter(|id| merges(id)).copied().collect()
            } else {
                vec![first]
            };
            buckets.spend(name, bound.rate_limit, now.mono);
            return Some((name.clone(), unit));
        }
        None
    }

    /// Triggers that are not configured: those of which a run is at work, and the keys of those runs
    /// that wait for a move which cannot be done at present, with all their tasks ended.
    pub(super) fn at_work(&self) -> (BTreeSet<Name>, BTreeMap<Name, Vec<Bytes>>) {
        let (mut busy, mut moving) = (BTreeSet::new(), BTreeMap::<_, Vec<_>>::new());
        let gone = self.runs.values().filter_map(|run| {
            let name = run.info().trigger.clone()?;
            (!self.lanes.contains_key(&name)).then_some((name, run))
        });
        for (name, run) in gone {
            let info = run.info();
            if run.verdict().is_some() && self.stuck_of(info.run).next().is_some() {
                moving.entry(name).or_default().push(info.key.clone());
            } else {
                busy.insert(name);
            }
        }
        (busy, moving)
    }

    /// Runs of triggers that are not configured which wait for a move: so many count towards no
    /// limit but their trigger's.
    pub(super) fn stuck_leaving(&self) -> usize {
        let moving = if self.stuck.is_empty() { BTreeMap::new() } else { self.at_work().1 };
        moving.into_values().map(|runs| runs.len().min(STUCK_MAX)).sum()
    }

    /// A run of a trigger that is not configured any more, with nothing in it but what the trigger
    /// said.
    pub(super) fn run_leaving(&self, item: &ItemQueued, blank: RunCreated) -> RunCreated {
        let Some(name) = &item.trigger else { return blank };
        let bound = self.dormant.get(name).and_then(|stored| stored.bound.as_deref());
        let Some(bound) = bound.cloned() else { return blank };
        let (key, group) = (bound.key_of(item), bound.group_of(item));
        let Bound { rev, select, root, disposition, .. } = bound;
        let trigger = Some(name.clone());
        RunCreated { trigger, rev, select, root, disposition, key, group, ..blank }
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
        self.leaving.entry(name.clone()).or_default().insert(item, None);
    }

    /// It waits no longer.
    pub(super) fn dequeue_leaving(&mut self, name: &Name, item: ItemId) {
        let Some(leaving) = self.leaving.get_mut(name) else { return };
        leaving.remove(&item);
        if leaving.is_empty() {
            self.leaving.remove(name);
        }
    }

    /// Whether what waits of a trigger that is not configured may still be run by this graph.
    pub(super) fn is_bound_to(&self, rev: &Rev) -> bool {
        self.dormant.values().filter_map(|stored| stored.bound.as_ref()).any(|b| b.rev == *rev)
    }
}
