//! Which ready task starts next, and what is in flight.
//!
//! Order: priority, then admission of the run, then the longest remaining path, then the name. A
//! burst flows through depth-first. A task that does not fit its pools is parked at the first one
//! that is short, and later ones may pass it (first fit), until it has waited for [`AGE`]: from
//! then on the one that has waited longest is the next to draw from the pools that it uses.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::parked::Parked;
use super::{Machine, Timer};
use crate::core::effect::{Command, Out, Start, Stop};
use crate::core::id::{Attempt, AttemptId, Mono, Name, NodeIx, Now, RunId};
use crate::core::model::Model;
use crate::core::record::Record;
use crate::core::run::Run;
use crate::core::task::{OnDaemonStop, StopCause, TaskSpec, TaskState};
use crate::core::template::Slot;

/// How long a task waits for a pool before it is served before all others. Long enough for first
/// fit to use the pool well, short enough that a large demand does not starve.
const AGE: Duration = Duration::from_secs(10);

/// A ready task, in the order of starting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    priority: Reverse<i32>,
    run: RunId,
    weight: Reverse<u64>,
    node: NodeIx,
}

/// Ready tasks, pool use, attempts in flight: all derived from the runs.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    ready: BTreeSet<Key>,
    /// Tasks that a pool was too short for: each at the first such pool.
    parked: Parked,
    used: BTreeMap<Name, u32>,
    in_flight: BTreeMap<AttemptId, InFlight>,
    /// How many parked tasks were looked at.
    #[cfg(test)]
    looked: usize,
}

/// An attempt in flight.
#[derive(Clone, Debug)]
pub struct InFlight {
    /// Since when.
    pub since: Mono,
    /// Why dagd asked it to end, if it did.
    pub stop: Option<StopCause>,
    /// Whether it was killed, too.
    pub killed: bool,
    /// The deadlines that it has: its time limit, and its kill once it was asked to end. They go
    /// with it: most attempts end long before.
    deadlines: Vec<(Mono, Timer)>,
    uses: Vec<(Name, u32)>,
}

impl Schedule {
    pub(super) fn in_flight(&self) -> &BTreeMap<AttemptId, InFlight> {
        &self.in_flight
    }

    /// An attempt is ended for this reason, unless there was one before.
    pub(super) fn note_stop(&mut self, id: AttemptId, cause: StopCause) {
        if let Some(flight) = self.in_flight.get_mut(&id) {
            flight.stop.get_or_insert(cause);
        }
    }

    pub(super) fn ready_len(&self) -> usize {
        // What was offered a pool is parked there until it starts.
        let parked = self.parked.keys().filter(|key| !self.ready.contains(key));
        self.ready.len() + parked.count()
    }

    /// The task at `place` has become ready.
    pub(super) fn push(&mut self, run: &Run, place: usize) {
        self.ready.insert(key(run, place));
    }

    /// Takes out all tasks of a run.
    pub(super) fn remove_run(&mut self, run: &Run) {
        for place in 0..run.nodes().len() {
            let key = key(run, place);
            self.ready.remove(&key);
            self.parked.remove(key);
        }
    }

    /// An attempt of the task at `place` is in flight, known since `since` and for so long before it.
    /// Returns when its time limit is reached.
    pub(super) fn start(
        &mut self,
        run: &Run,
        place: usize,
        attempt: Attempt,
        since: Mono,
        passed: Duration,
    ) -> Option<(Mono, Timer)> {
        let key = key(run, place);
        self.ready.remove(&key);
        self.parked.remove(key);
        let uses: Vec<_> = run.graph().task(key.node).uses.clone().into_iter().collect();
        for (pool, demand) in &uses {
            *self.used.entry(pool.clone()).or_default() += demand;
        }
        let id = AttemptId { run: key.run, node: key.node, attempt };
        let limit = run.graph().task(key.node).timeout;
        let left = limit.map(|limit| limit.saturating_sub(passed));
        let limit = left.map(|left| (since.after(left), Timer::Limit(id)));
        let deadlines = limit.iter().cloned().collect();
        self.in_flight.insert(id, InFlight { since, stop: None, killed: false, deadlines, uses });
        limit
    }

    /// The time limit of an attempt in flight is reached at `due`. Returns the deadline that it had
    /// and the one that it has; `None` if it has no limit.
    pub(super) fn move_limit(
        &mut self,
        id: AttemptId,
        due: Mono,
    ) -> Option<((Mono, Timer), (Mono, Timer))> {
        let deadlines = &mut self.in_flight.get_mut(&id)?.deadlines;
        let limit = deadlines.iter_mut().find(|(_, timer)| *timer == Timer::Limit(id))?;
        let was = limit.clone();
        limit.0 = due;
        Some((was, limit.clone()))
    }

    /// An attempt is no longer in flight: its pools are offered to who waits for them. Returns the
    /// deadlines that it had.
    pub(super) fn end(&mut self, id: AttemptId, model: &Model, now: Mono) -> Vec<(Mono, Timer)> {
        let Some(flight) = self.in_flight.remove(&id) else { return Vec::new() };
        for (pool, demand) in &flight.uses {
            if let Some(used) = self.used.get_mut(pool) {
                *used = used.saturating_sub(*demand);
            }
        }
        for (pool, _) in &flight.uses {
            self.offer(pool, model, now, &BTreeSet::new());
        }
        flight.deadlines
    }

    /// Offers all pools: their sizes have changed.
    pub(super) fn offer_all(&mut self, model: &Model, now: Mono) {
        for pool in &self.parked.pools() {
            self.offer(pool, model, now, &BTreeSet::new());
        }
    }

    /// Makes ready what is parked at `pool` and fits into what is free of it.
    fn offer(&mut self, pool: &Name, model: &Model, now: Mono, tried: &BTreeSet<Key>) {
        let size = model.pools.get(pool).copied().unwrap_or(u32::MAX);
        let mut free = model.pools.get(pool).map_or(u32::MAX, |_| self.free(pool, model));
        if let Some(kept) = self.kept(pool, now) {
            let demand = self.parked.at(pool, kept).map(|demand| demand.min(size));
            if demand.is_some_and(|demand| demand <= free && free > 0) && !tried.contains(&kept) {
                self.ready.insert(kept);
            }
            return;
        }
        let mut last = None;
        while free > 0
            && let Some((key, demand)) = self.parked.first_fit(pool, last, free, size)
        {
            #[cfg(test)]
            {
                self.looked += 1;
            }
            last = Some(key);
            if !tried.contains(&key) {
                free -= demand.min(size);
                self.ready.insert(key);
            }
        }
    }

    /// Whether too little is free of a pool. A demand above its size, from before a reload, is met
    /// by the whole of it; a pool that is gone limits nothing.
    fn is_short(&self, pool: &Name, demand: u32, model: &Model) -> bool {
        let size = model.pools.get(pool);
        size.is_some_and(|size| demand.min(*size) > self.free(pool, model))
    }

    fn free(&self, pool: &Name, model: &Model) -> u32 {
        let size = model.pools.get(pool).copied().unwrap_or(0);
        size.saturating_sub(self.used.get(pool).copied().unwrap_or(0))
    }

    /// The task that the pool is kept for, because it has waited too long. Pools are kept for one
    /// task at a time, the one that has waited longest: two could wait for each other.
    fn kept(&self, pool: &Name, now: Mono) -> Option<Key> {
        let (key, waiting) = self.parked.oldest()?;
        let old = waiting.since.after(AGE) <= now;
        (old && waiting.task.uses.contains_key(pool)).then_some(key)
    }

    /// The first pool that is too short for the task, or kept for another one.
    fn lacks(&self, key: Key, spec: &TaskSpec, model: &Model, now: Mono) -> Option<(Name, u32)> {
        let lacking = spec.uses.iter().find(|(pool, demand)| {
            self.is_short(pool, **demand, model)
                || self.kept(pool, now).is_some_and(|kept| kept != key)
        });
        lacking.map(|(pool, demand)| (pool.clone(), *demand))
    }

    /// The next task that can start. Those that a pool is too short for are parked, and what they
    /// leave is offered on; each is tried once.
    fn next(&mut self, runs: &BTreeMap<RunId, Run>, model: &Model, now: Mono) -> Option<Key> {
        let mut tried = BTreeSet::new();
        while let Some(key) = self.ready.pop_first() {
            let spec = runs[&key.run].graph().task(key.node).clone();
            let Some((short, demand)) = self.lacks(key, &spec, model, now) else {
                return Some(key);
            };
            tried.insert(key);
            self.parked.park(key, short.clone(), demand, spec.clone(), now);
            // A pool that is not short was offered to this task before it was kept for another.
            let kept = !self.is_short(&short, demand, model);
            for pool in spec.uses.keys().filter(|pool| kept || **pool != short) {
                self.offer(pool, model, now, &tried);
            }
        }
        None
    }
}

fn key(run: &Run, place: usize) -> Key {
    let node = run.plan().nodes()[place].ix;
    Key {
        priority: Reverse(run.graph().task(node).priority),
        run: run.info().run,
        weight: Reverse(run.nodes()[place].weight),
        node,
    }
}

impl Machine {
    /// Starts ready tasks while there are slots.
    pub(super) fn start_tasks(&mut self, now: Now, out: &mut Out) {
        while self.stopping.is_none() && self.in_flight().len() < self.model.slots {
            let Some(key) = self.schedule.next(&self.runs, &self.model, now.mono) else { break };
            let run = &self.runs[&key.run];
            let place = run.place(key.node).expect("a ready task is in its plan");
            let attempt = Attempt(run.nodes()[place].attempt.0 + 1);
            let Key { run, node, .. } = key;
            let record = Record::AttemptStarted { run, node, attempt, at: now.wall };
            self.emit(now, record, out);
            out.commands.push(Command::Start(self.start_of(AttemptId { run, node, attempt })));
        }
    }

    fn start_of(&self, id: AttemptId) -> Start {
        let run = &self.runs[&id.run];
        let task = run.graph().task(id.node).clone();
        let wants_failed = task
            .templates()
            .flat_map(crate::core::template::Template::slots)
            .any(|slot| *slot == Slot::Failed);
        let outputs = outputs_for(run, &task);
        let failed = if wants_failed { run.failed() } else { Vec::new() };
        Start { id, task, run: run.info().clone(), failed, outputs }
    }

    /// Asks an attempt to end, for a reason. The first reason holds.
    pub(super) fn stop_attempt(
        &mut self,
        now: Now,
        id: AttemptId,
        cause: StopCause,
        out: &mut Out,
    ) {
        let Some(flight) = self.schedule.in_flight.get_mut(&id) else { return };
        if flight.stop.is_some() {
            return;
        }
        flight.stop = Some(cause);
        let kill_after = self.runs[&id.run].graph().task(id.node).kill_after;
        let kill = (now.mono.after(kill_after), Timer::Kill(id));
        flight.deadlines.push(kill.clone());
        self.timers.insert(kill);
        out.commands.push(Command::Stop { id, how: Stop::Term });
    }

    /// Ends an attempt.
    pub(super) fn kill_attempt(&mut self, id: AttemptId, out: &mut Out) {
        if let Some(flight) = self.schedule.in_flight.get_mut(&id)
            && !flight.killed
        {
            flight.killed = true;
            out.commands.push(Command::Stop { id, how: Stop::Kill });
        }
    }

    /// Whether an attempt goes on when dagd stops. One that was asked to end does not.
    pub(super) fn is_left(&self, id: AttemptId, flight: &InFlight) -> bool {
        let spec = self.runs[&id.run].graph().task(id.node);
        self.model.can_leave && flight.stop.is_none() && spec.on_daemon_stop == OnDaemonStop::Leave
    }

    /// Whether nothing is in flight that has to end before dagd does.
    pub(super) fn may_exit(&self) -> bool {
        self.in_flight().iter().all(|(id, flight)| self.is_left(*id, flight))
    }
}

/// The outputs of the tasks that `task` names in `{out.TASK.KEY}`.
fn outputs_for(run: &Run, task: &TaskSpec) -> Vec<(Name, BTreeMap<String, String>)> {
    let named: BTreeSet<&str> = task
        .templates()
        .flat_map(crate::core::template::Template::slots)
        .filter_map(
            |slot| if let Slot::Out { task, .. } = slot { Some(task.as_str()) } else { None },
        )
        .collect();
    let found = named.into_iter().filter_map(|name| {
        let node = &run.nodes()[run.place(run.graph().find(name)?)?];
        (node.state == TaskState::Succeeded).then(|| (name.into(), node.outputs.clone()))
    });
    found.collect()
}

#[cfg(test)]
mod tests;
