//! What each record does to the state: the same live and in recovery.
//!
//! Decides nothing and asks for nothing. A record that the state does not allow is refused.

use std::sync::Arc;

use super::lane::Stored;
use super::{Machine, Timer};
use crate::core::disposition::{Goal, MoveResult, Phase};
use crate::core::id::{AttemptId, ItemId, Name, Now, RunId, Wall};
use crate::core::record::{ItemQueued, Record, RunCreated};
use crate::core::run::Run;
use crate::core::task::{Ended, TaskState, Verdict};

/// A record that the state does not allow: stored state that no machine could have written.
#[derive(Debug, thiserror::Error)]
#[error("illegal record: {what}: {record}")]
pub struct Illegal {
    what: &'static str,
    record: String,
}

impl Machine {
    /// Applies a record.
    pub(super) fn evolve(&mut self, record: &Record, now: Now) -> Result<(), Illegal> {
        let legal = match record {
            Record::ItemQueued(queued) => self.item_queued(queued),
            Record::ItemDropped { item, .. } => self.item_gone(*item),
            Record::RunCreated(created) => self.run_created(created, now),
            Record::AttemptStarted { run, node, attempt, at } => {
                let id = AttemptId { run: *run, node: *node, attempt: *attempt };
                self.attempt_started(id, *at, now)
            }
            Record::AttemptEnded { run, node, attempt, ended, verdict, .. } => {
                let id = AttemptId { run: *run, node: *node, attempt: *attempt };
                self.attempt_over(id, ended, *verdict, now)
            }
            Record::CancelRequested { run, node, reason, .. } => {
                let place = node.map(|node| self.runs.get(run).and_then(|run| run.place(node)));
                match place {
                    Some(None) => Err("no such task"),
                    Some(Some(place)) => self.cancelled(*run, Some(place), reason, now),
                    None => self.cancelled(*run, None, reason, now),
                }
            }
            Record::MovePlanned { run, file, phase, goal, .. } => {
                self.move_planned(*run, *file, *phase, goal)
            }
            Record::MoveDone { run, file, phase, result, .. } => {
                self.move_done(*run, *file, *phase, result)
            }
            Record::RunEnded { run, .. } => self.run_ended(*run, now),
            Record::TriggerPaused { trigger, .. }
            | Record::TriggerResumed { trigger, .. }
            | Record::TriggerArmed { trigger, .. }
            | Record::TriggerLeft { trigger, .. }
            | Record::TriggerBack { trigger, .. }
            | Record::TriggerBound { trigger, .. }
            | Record::TriggerDrained { trigger, .. }
            | Record::TimeMarked { trigger, .. } => self.trigger_told(trigger, record),
            Record::TriggerRenamed { from, to, .. } => self.renamed(from, to, now),
            Record::TriggerForgotten { trigger, .. } => {
                self.dormant.remove(trigger).map(drop).ok_or("nothing is known of the trigger")
            }
            // Only the ledger knows where files lie.
            Record::FilesPlaced { .. } => Ok(()),
            Record::FileStamped { trigger, rel, version, run, .. } => {
                self.file_stamped(trigger, rel, version, *run)
            }
            Record::FileNoted { trigger, rel, .. } | Record::FileDeparted { trigger, rel, .. } => {
                self.recent.mark(self.seq, trigger, rel);
                self.with_lane(trigger, |lane| lane.forget(rel, now.mono));
                Ok(())
            }
        };
        legal.map_err(|what| Illegal { what, record: format!("{record:?}") })
    }

    /// What is stored of a trigger, whether it is configured at present or not.
    pub(super) fn stored(&mut self, name: &Name) -> &mut Stored {
        match self.lanes.get_mut(name) {
            Some(lane) => {
                self.hot.insert(name.clone());
                &mut lane.stored
            }
            None => self.dormant.entry(name.clone()).or_default(),
        }
    }

    /// What is stored of a trigger changes, and nothing else.
    fn trigger_told(&mut self, name: &Name, record: &Record) -> Result<(), &'static str> {
        let stored = self.stored(name);
        match record {
            Record::TriggerPaused { reason, flooded, .. } => {
                (stored.paused, stored.flooded) = (Some(reason.clone()), *flooded);
            }
            Record::TriggerResumed { .. } => (stored.paused, stored.flooded) = (None, false),
            Record::TriggerArmed { .. } => stored.armed = true,
            Record::TriggerLeft { at, .. } => stored.left = Some(*at),
            Record::TriggerBack { .. } => stored.left = None,
            Record::TriggerBound { bound, .. } => stored.bound = Some(bound.clone()),
            Record::TriggerDrained { .. } => stored.bound = None,
            Record::TimeMarked { mark, .. } => stored.mark = Some(mark.clone()),
            _ => return Err("it is not of a trigger"),
        }
        Ok(())
    }

    /// Candidates of a trigger that the configuration no longer has are not kept.
    fn with_lane(&mut self, name: &Name, change: impl FnOnce(&mut super::Lane)) {
        if let Some(lane) = self.lanes.get_mut(name) {
            change(lane);
            self.hot.insert(name.clone());
        }
    }

    fn item_queued(&mut self, queued: &ItemQueued) -> Result<(), &'static str> {
        if self.items.contains_key(&queued.item) {
            return Err("the item is there already");
        }
        self.next_item = self.next_item.max(ItemId(queued.item.0 + 1));
        match queued.trigger.as_ref().and_then(|name| self.lanes.get_mut(name)) {
            Some(lane) => {
                lane.enqueue(queued);
                self.hot.extend(queued.trigger.clone());
            }
            None => match &queued.trigger {
                Some(name) => self.enqueue_leaving(name, queued.item),
                None => drop(self.loose.insert(queued.item)),
            },
        }
        self.items.insert(queued.item, queued.clone());
        Ok(())
    }

    fn item_gone(&mut self, item: ItemId) -> Result<(), &'static str> {
        let queued = self.items.remove(&item).ok_or("no such item")?;
        self.loose.remove(&item);
        match queued.trigger.as_ref().map(|name| (name, self.lanes.get_mut(name))) {
            Some((_, Some(lane))) => lane.items.remove(item),
            Some((name, None)) => self.dequeue_leaving(name, item),
            None => {}
        }
        Ok(())
    }

    fn run_created(&mut self, created: &RunCreated, now: Now) -> Result<(), &'static str> {
        if self.runs.contains_key(&created.run) {
            return Err("the run is there already");
        }
        let graph = self.graphs.get(&created.rev).ok_or("its graph is not stored")?.clone();
        // In a fold they are not there: the store forgets an item when a run consumes it.
        for item in &created.items {
            self.item_gone(*item).ok();
        }
        self.next_run = self.next_run.max(RunId(created.run.0 + 1));
        let plan = self.plan(&graph, &created.select);
        let mut ready = Vec::new();
        let run = Run::new(Arc::new(created.clone()), graph, plan, &self.durations, &mut ready);
        for place in ready {
            self.schedule.push(&run, place);
        }
        if run.verdict().is_some() {
            self.finished.insert(created.run);
        }
        self.runs.insert(created.run, run);
        if let Some(name) = &created.trigger {
            for file in created.files.iter().filter(|file| file.in_place) {
                self.recent.mark(self.seq, name, &file.rel);
            }
            if let Some(lane) = self.lanes.get_mut(name) {
                lane.add(created);
                for file in &created.files {
                    lane.claim(created, file, now, self.seq);
                }
            }
        }
        Ok(())
    }

    fn attempt_started(&mut self, id: AttemptId, at: Wall, now: Now) -> Result<(), &'static str> {
        let run = self.runs.get_mut(&id.run).ok_or("no such run")?;
        let place = run.place(id.node).ok_or("no such task")?;
        if !run.start(place, id.attempt, at) {
            return Err("the task is not ready for it");
        }
        let passed = at.until(now.wall);
        self.timers.extend(self.schedule.start(run, place, id.attempt, now.mono, passed));
        Ok(())
    }

    fn attempt_over(
        &mut self,
        id: AttemptId,
        ended: &Ended,
        verdict: Verdict,
        now: Now,
    ) -> Result<(), &'static str> {
        let run = self.runs.get_mut(&id.run).ok_or("no such run")?;
        let place = run.place(id.node).ok_or("no such task")?;
        let mut ready = Vec::new();
        if !run.finish(place, id.attempt, ended, verdict, &mut ready) {
            return Err("the attempt is not current");
        }
        for deadline in self.schedule.end(id, &self.model, now.mono) {
            self.timers.remove(&deadline);
        }
        for place in ready {
            self.schedule.push(run, place);
        }
        if let (TaskState::Retrying, Verdict::Retry(delay)) = (run.nodes()[place].state, verdict) {
            // What has passed of the delay while dagd was down has passed; the clock may have been
            // set since.
            let left = delay.saturating_sub(ended.ended_at.until(now.wall));
            self.timers.insert((now.mono.after(left), Timer::Retry(id)));
        }
        if run.verdict().is_some() {
            self.finished.insert(id.run);
        }
        if verdict == Verdict::Final(TaskState::Succeeded) {
            let name = run.name(place).clone();
            self.learn(name, nanos(ended.started_at.until(ended.ended_at)));
        }
        Ok(())
    }

    /// A moving average, so that the order follows what tasks take nowadays.
    fn learn(&mut self, name: Name, took: u64) {
        let mean = self.durations.entry(name).or_insert(took);
        *mean = *mean - *mean / 4 + took / 4;
    }

    fn cancelled(
        &mut self,
        id: RunId,
        place: Option<usize>,
        reason: &str,
        now: Now,
    ) -> Result<(), &'static str> {
        let run = self.runs.get_mut(&id).ok_or("no such run")?;
        let mut ready = Vec::new();
        match place {
            Some(place) => run.cancel_task(place, &mut ready),
            None => run.cancel(reason, &mut ready),
        }
        self.schedule.remove_run(run);
        for place in 0..run.nodes().len() {
            if run.nodes()[place].state == TaskState::Ready {
                self.schedule.push(run, place);
            }
        }
        if run.verdict().is_some() {
            self.finished.insert(id);
        }
        // A pool may have been kept for a task that no longer waits for it.
        self.schedule.offer_all(&self.model, now.mono);
        Ok(())
    }

    fn move_planned(
        &mut self,
        id: RunId,
        file: u32,
        phase: Phase,
        goal: &Goal,
    ) -> Result<(), &'static str> {
        let run = self.runs.get_mut(&id).ok_or("no such run")?;
        let planned = run.plan_move(file, phase, goal.clone());
        planned.then_some(()).ok_or("no such file, or planned before")
    }

    fn move_done(
        &mut self,
        id: RunId,
        file: u32,
        phase: Phase,
        result: &MoveResult,
    ) -> Result<(), &'static str> {
        let run = self.runs.get_mut(&id).ok_or("no such run")?;
        let mut ready = Vec::new();
        if !run.end_move(file, phase, result.clone(), &mut ready) {
            return Err("no such move is planned");
        }
        for place in ready {
            self.schedule.push(run, place);
        }
        self.unstick(id, file);
        let run = &self.runs[&id];
        let (name, claim) = (&run.info().trigger, &run.files()[file as usize].claim);
        if let Some(name) = name {
            self.recent.mark(self.seq, name, &claim.rel);
            if phase == Phase::Before && result.is_lost() && claim.key.is_some() {
                // What was left out because of its key is not in the ledger any more.
                self.recent.mark_all(self.seq, name);
            }
            let lane = self.lanes.get_mut(name).filter(|_| phase == Phase::Before);
            match (lane, result) {
                (None, _) | (Some(_), MoveResult::Failed(_)) => {}
                (Some(lane), lost) if lost.is_lost() => lane.lose(id, claim, self.seq),
                // It leaves its path to others while its run goes on.
                (Some(lane), _) => lane.take_away(id, claim),
            }
        }
        if !run.is_moving() {
            self.finished.insert(id);
        }
        Ok(())
    }

    fn run_ended(&mut self, id: RunId, now: Now) -> Result<(), &'static str> {
        let run = self.runs.remove(&id).ok_or("no such run")?;
        self.finished.remove(&id);
        self.schedule.remove_run(&run);
        if let Some(name) = &run.info().trigger {
            if let Some(lane) = self.lanes.get_mut(name) {
                let files = lane.release(&run);
                // A run that was cancelled has given way to what came, and has not caused it.
                if run.cancelled().is_none() {
                    self.fading.fade(name, files, now.mono);
                }
            }
            self.hot.insert(name.clone());
        }
        let rev = run.graph().rev().clone();
        self.ended.insert(id, run);
        self.drop_graph(&rev);
        Ok(())
    }

    /// Forgets all graphs that nothing uses.
    pub(super) fn drop_graphs(&mut self) {
        for rev in self.graphs.keys().cloned().collect::<Vec<_>>() {
            self.drop_graph(&rev);
        }
    }

    /// Forgets a graph that neither the configuration nor a live run uses.
    pub(super) fn drop_graph(&mut self, rev: &super::Rev) {
        let used = self.model.graph.rev() == rev
            || self.is_bound_to(rev)
            || self.runs.values().any(|r| r.graph().rev() == rev);
        if !used {
            self.dropped.extend(self.graphs.remove(rev));
            self.plans.retain(|(of, _), _| of != rev);
        }
    }
}

fn nanos(d: std::time::Duration) -> u64 {
    u64::try_from(d.as_nanos()).unwrap_or(u64::MAX)
}
