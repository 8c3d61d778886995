//! Stored records become a machine.
//!
//! [`Recovering`] has no `step`: no event can be taken before recovery has ended. That is a change
//! of type, not a flag.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::lane::{Lane, Stored};
use super::recent::Recent;
use super::schedule::Schedule;
use super::{Illegal, Machine};
use crate::core::effect::Out;
use crate::core::graph::Graph;
use crate::core::id::{AttemptId, ItemId, Name, Now, RunId, Seq};
use crate::core::model::Model;
use crate::core::record::Record;
use crate::core::task::{Ended, Exit, StopCause};

/// A machine whose stored records are being folded.
#[derive(Debug)]
pub struct Recovering {
    machine: Machine,
    /// What is known of attempts that were in flight.
    left: BTreeMap<AttemptId, Left>,
}

/// What an attempt that was in flight has come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Left {
    /// It is gone without a word, and has left this many bytes of output.
    Gone(u64),
    /// It has ended meanwhile.
    Ended(Box<Ended>, By),
    /// It is still running, and whoever watches it will tell its end. For how long it has run, where
    /// that is known: the calendar clock may have been set since it began.
    Running(Option<Duration>),
}

/// What may have ended an attempt that has ended without a dagd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// Nothing that is known of.
    Itself,
    /// It was asked to end: by the last dagd, or by whoever may.
    Term,
    /// The machine was shut down.
    Shutdown,
}

/// What recovery starts from.
#[derive(Debug)]
pub struct Start {
    /// The configuration.
    pub model: Arc<Model>,
    /// The graphs that stored runs are pinned to.
    pub graphs: Vec<Arc<Graph>>,
    /// The first run number that was never used.
    pub next_run: RunId,
    /// The first item number that was never used.
    pub next_item: ItemId,
    /// Triggers that the ledger knows, configured or not.
    pub triggers: Vec<Name>,
    /// Mean times of tasks, in nanoseconds.
    pub durations: BTreeMap<Name, u64>,
    /// Source of all randomness.
    pub seed: u64,
}

impl Recovering {
    /// An empty machine that knows its configuration and its past graphs.
    pub fn new(start: Start) -> Self {
        let Start { model, graphs, next_run, next_item, triggers, durations, seed } = start;
        let lanes =
            model.triggers.values().map(|spec| (spec.name.clone(), Lane::new(spec.clone())));
        let current = (model.graph.rev().clone(), model.graph.clone());
        let past = graphs.into_iter().map(|graph| (graph.rev().clone(), graph));
        let machine = Machine {
            lanes: lanes.collect(),
            leaving: BTreeMap::new(),
            buckets: super::rate::Buckets::default(),
            graphs: past.chain([current]).collect(),
            dormant: triggers
                .into_iter()
                .filter(|name| !model.triggers.contains_key(name))
                .map(|name| (name, Stored::default()))
                .collect(),
            model,
            dropped: Vec::new(),
            plans: BTreeMap::new(),
            runs: BTreeMap::new(),
            ended: BTreeMap::new(),
            items: BTreeMap::new(),
            loose: std::collections::BTreeSet::new(),
            schedule: Schedule::default(),
            stuck: BTreeMap::new(),
            timers: std::collections::BTreeSet::new(),
            due: std::collections::BTreeSet::new(),
            listeners: BTreeMap::new(),
            durations,
            next_run,
            next_item,
            seed,
            seq: Seq(0),
            recent: Recent::default(),
            fading: super::lineage::Fading::default(),
            finished: std::collections::BTreeSet::new(),
            hot: std::collections::BTreeSet::new(),
            touched: std::collections::BTreeSet::new(),
            last_check: 0,
            turn: None,
            stopping: None,
            asked: Vec::new(),
        };
        Self { machine, left: BTreeMap::new() }
    }

    /// Applies a stored record. They must come in the order in which they were committed.
    pub fn fold(&mut self, record: &Record, now: Now) -> Result<(), Illegal> {
        self.machine.evolve(record, now)
    }

    /// What an attempt that was in flight has come to. Of which nothing is said are gone, without
    /// output.
    pub fn found(&mut self, id: AttemptId, left: Left) {
        self.left.insert(id, left);
    }

    /// What was folded, for looking only: the machine as it was when the last record was stored.
    pub fn view(&self) -> &Machine {
        &self.machine
    }

    /// Ends recovery. All processes of the past must be gone but those of attempts that were found
    /// running: the other attempts in flight are lost, moves that were planned are issued again,
    /// first scans and catch-ups begin.
    pub fn finish(mut self, now: Now, seq: Seq, out: &mut Out) -> Machine {
        let machine = &mut self.machine;
        machine.seq = seq;
        machine.drop_graphs();
        for id in machine.in_flight().keys().copied().collect::<Vec<_>>() {
            match self.left.remove(&id).unwrap_or(Left::Gone(0)) {
                Left::Running(passed) => {
                    machine.retime(now, id, passed);
                    machine.stop_again(now, id, out);
                }
                Left::Ended(ended, by) => {
                    machine.stop_again(now, id, out);
                    machine.note_cause(id, &ended, by);
                    machine.attempt_ended(now, id, *ended, out);
                }
                Left::Gone(log_bytes) => {
                    let ended = Ended::without_process(Exit::Unknown, now.wall);
                    machine.attempt_ended(now, id, Ended { log_bytes, ..ended }, out);
                }
            }
        }
        let names: Vec<Name> = machine.lanes.keys().cloned().collect();
        for name in &names {
            machine.take_over(now, name, out);
        }
        machine.note_presence(now, out);
        machine.bind_waiting(now, out);
        out.commands.extend(machine.outstanding_moves());
        machine.find_listeners();
        for name in names {
            machine.begin_lane(now, &name, out);
            machine.hot.insert(name);
        }
        machine.finished = machine.runs.keys().copied().collect();
        machine.settle(now, out);
        self.machine
    }
}

impl Machine {
    /// It is known for how long an attempt has run: its time limit goes by that.
    fn retime(&mut self, now: Now, id: AttemptId, passed: Option<Duration>) {
        let timeout = self.runs[&id.run].graph().task(id.node).timeout;
        let Some((timeout, passed)) = timeout.zip(passed) else { return };
        let limit = now.mono.after(timeout.saturating_sub(passed));
        if let Some((was, is)) = self.schedule.move_limit(id, limit) {
            self.timers.remove(&was);
            self.timers.insert(is);
        }
    }

    /// An attempt was not over when dagd was: if it was to be cancelled, it still is.
    fn stop_again(&mut self, now: Now, id: AttemptId, out: &mut Out) {
        let run = &self.runs[&id.run];
        let place = run.place(id.node).expect("an attempt in flight is of a planned task");
        if run.is_cancelled(place) {
            self.stop_attempt(now, id, StopCause::Cancel, out);
        }
    }
    /// Why an attempt has ended, if not by itself: the last dagd may have ended it for its time limit
    /// and died before it could tell.
    fn note_cause(&mut self, id: AttemptId, ended: &Ended, by: By) {
        let limit = self.runs[&id.run].graph().task(id.node).timeout;
        let ran = u64::try_from(ended.ended_at.0.saturating_sub(ended.started_at.0)).unwrap_or(0);
        let late = limit.is_some_and(|limit| Duration::from_nanos(ran) >= limit);
        match by {
            By::Term | By::Shutdown if late => self.schedule.note_stop(id, StopCause::Timeout),
            By::Shutdown => self.schedule.note_stop(id, StopCause::Shutdown),
            By::Itself | By::Term => {}
        }
    }
}
