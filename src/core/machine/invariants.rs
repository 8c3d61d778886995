//! What must hold after every step. Checked by the simulator after each step.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::lane::STUCK_MAX;
use super::{Machine, PLANS_MAX, Timer};
use crate::core::candidate::Stage;
use crate::core::id::{ItemId, RunId};
use crate::core::task::{Rule, Tally, TaskState};
use crate::core::trigger::Overlap;

impl Machine {
    /// Checks the whole machine. Costs a walk over all live state.
    ///
    /// # Panics
    /// When an invariant does not hold: the program is wrong.
    pub fn check_invariants(&self) {
        self.check_attempts();
        self.check_runs();
        self.check_moves();
        self.check_lanes();
        let used = self.plans.values().filter(|plan| Arc::strong_count(plan) > 1).count();
        assert!(self.plans.len() <= PLANS_MAX + used, "plans that nothing uses are forgotten");
    }

    /// Checks the limits of the configuration. They bound what is started: state that was there
    /// before a limit was lowered may exceed it for a while.
    ///
    /// # Panics
    /// When a limit is exceeded.
    pub fn check_limits(&self) {
        let of_all = self.lanes.len() + self.dormant.len();
        let most = self.model.max_live_runs + of_all * STUCK_MAX;
        assert!(self.runs.len() <= most, "max_live_runs holds");
        assert!(self.in_flight().len() <= self.model.slots, "slots hold");
        for lane in self.lanes.values().filter(|lane| lane.spec.overlap != Overlap::Parallel) {
            assert!(lane.spec.max_runs.is_none_or(|max| lane.live_runs <= max), "max_runs holds");
            let keyed = lane.spec.overlap != Overlap::Queue || lane.spec.has_keys();
            assert!(
                !keyed || lane.live.values().all(|live| *live <= 1),
                "one run of a key is alive"
            );
        }
        for (pool, size) in &self.model.pools {
            let uses = self.in_flight().keys().map(|id| {
                let task = self.runs[&id.run].graph().task(id.node);
                task.uses.get(pool).copied().unwrap_or(0).min(*size)
            });
            assert!(uses.sum::<u32>() <= *size, "pool {pool} holds");
        }
    }

    /// Checks that no event of a trigger that is not configured waits for nothing, once a step has
    /// come to its end. Those with a rate are left out.
    ///
    /// # Panics
    /// When one does.
    pub fn check_draining(&self) {
        if self.is_stopping() || self.runs.len() >= self.model.max_live_runs {
            return;
        }
        let (busy, moving) = self.at_work();
        for (name, of) in self.leaving.iter().filter(|(name, _)| !busy.contains(*name)) {
            let stored = self.dormant.get(name).filter(|stored| stored.paused.is_none());
            let bound = stored.and_then(|stored| stored.bound.as_ref());
            let Some(bound) = bound.filter(|bound| bound.rate_limit.is_none()) else { continue };
            let moving = moving.get(name).map_or(&[][..], Vec::as_slice);
            let held =
                |id: &ItemId| bound.has_keys() && moving.contains(&bound.key_of(&self.items[id]));
            let held = moving.len() >= STUCK_MAX || of.keys().all(held);
            assert!(held, "an event of {name} waits for nothing");
        }
    }

    /// How many entries each of the maps has that could grow with time.
    pub fn sizes(&self) -> Vec<(&'static str, usize)> {
        let of_lanes = |size: fn(&super::Lane) -> usize| self.lanes.values().map(size).sum();
        vec![
            ("graphs", self.graphs.len()),
            ("dropped graphs", self.dropped.len()),
            ("plans", self.plans.len()),
            ("runs", self.runs.len() + self.ended.len()),
            ("items", self.items.len() + self.loose.len() + self.leaving.len()),
            ("candidates", of_lanes(|lane| lane.candidates.len() + lane.away.len())),
            ("busy keys", of_lanes(|lane| lane.live.len() + lane.stuck.len())),
            ("dormant", self.dormant.len() + self.buckets.len()),
            ("tasks", self.in_flight().len() + self.ready_tasks()),
            ("stuck", self.stuck.len()),
            ("timers", self.timers.len() + self.due.len()),
            ("listeners", self.listeners.values().map(BTreeSet::len).sum()),
            ("durations", self.durations.len()),
            ("recent", self.recent.len()),
            ("fading", self.fading.len()),
            ("hot", self.hot.len() + self.touched.len() + self.finished.len()),
        ]
    }

    /// At most one attempt of a task is in flight, and it is the task's current one.
    fn check_attempts(&self) {
        for id in self.in_flight().keys() {
            let run = self.runs.get(&id.run).expect("an attempt in flight has a live run");
            let place = run.place(id.node).expect("an attempt in flight is of a planned task");
            let node = &run.nodes()[place];
            assert_eq!(node.state, TaskState::Running, "an attempt in flight is of a running task");
            assert_eq!(node.attempt, id.attempt, "an attempt in flight is the current one");
        }
        let running = self.runs.values().flat_map(crate::core::run::Run::nodes);
        let running = running.filter(|node| node.state == TaskState::Running).count();
        assert_eq!(
            running,
            self.in_flight().len(),
            "a running task has exactly one attempt in flight"
        );
    }

    /// A task that has started was allowed to by what it needs.
    fn check_runs(&self) {
        for run in self.runs.values() {
            let touched = run.nodes().iter().any(|node| node.state != TaskState::Waiting);
            assert!(run.has_begun() || !touched, "no task before its files are claimed");
            for (planned, node) in run.plan().nodes().iter().zip(run.nodes()) {
                let started = matches!(node.state, TaskState::Running | TaskState::Retrying);
                let rule = run.graph().task(planned.ix).rule;
                if started && rule == Rule::AllSuccess {
                    let ok = |&at: &u32| run.nodes()[at as usize].state.tally() == Some(Tally::Ok);
                    assert!(planned.needs.iter().all(ok), "a task starts after all that it needs");
                }
                assert!(!(planned.pass && started), "a pass-through is never started");
            }
        }
    }

    /// What could not be done yet is planned, and will be tried again.
    fn check_moves(&self) {
        for ((id, file), stuck) in &self.stuck {
            let run = self.runs.get(id).expect("what is stuck is of a live run");
            assert!(run.files()[*file as usize].planned().is_some(), "what is stuck is planned");
            let timer = |due| self.timers.contains(&(due, Timer::Move(*id, *file)));
            assert!(stuck.due.is_none_or(timer), "what is stuck has a timer");
        }
    }

    /// Every claim has its run, every ready candidate is in one group, and what is busy is counted.
    fn check_lanes(&self) {
        for (name, lane) in &self.lanes {
            lane.check_checks(self.is_stopping());
            for (rel, candidate) in &lane.candidates {
                match candidate.stage {
                    Stage::Ready | Stage::Checking { .. } => {}
                    Stage::Claimed { run, .. } => {
                        let run = self.runs.get(&run).expect("a claim has a live run");
                        let of_run = run.claims().any(|(_, file)| file.claim.rel == *rel);
                        assert!(of_run, "a claim is of its run");
                    }
                    Stage::Pending(reason, due) => {
                        let again = due.is_some() || reason.is_told();
                        assert!(again, "what no event tells of is looked at again");
                    }
                }
            }
            lane.check(&self.items);
            let of = |run: &RunId| self.runs[run].info().trigger.as_ref() == Some(name);
            let stuck: BTreeSet<RunId> =
                self.stuck.keys().map(|(run, _)| *run).filter(of).collect();
            assert_eq!(stuck, lane.stuck, "runs that cannot move their files are counted");
            let due = self.due.iter().filter(|(_, of)| of == name).map(|(at, _)| *at);
            assert!(due.eq(lane.due), "a schedule has one next occurrence");
            let live =
                self.runs.values().filter(|r| r.info().trigger.as_ref() == Some(name)).count();
            assert_eq!(live, lane.live_runs, "live runs of a trigger are counted");
        }
    }
}
