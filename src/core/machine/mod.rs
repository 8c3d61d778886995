//! The state machine: all live state, one way in, one way out.
//!
//! [`Machine::step`] takes an event and says which records to store and which commands to act on
//! afterwards. Every change of durable state goes through [`Machine::evolve`], which recovery folds
//! over the stored records: one path. What is derived (the order of ready tasks, pool use, busy
//! keys, timers) is never recorded.
//!
//! - [`lane`]: a trigger's live side; what waits for a run
//! - [`groups`]: which ready files become a run together, and whose turn it is
//! - [`members`]: how files come into groups and out of them
//! - [`waiting`]: accepted events, and whose turn it is
//! - [`rank`]: the order among ready files
//! - [`rate`]: how many runs may start in a time
//! - [`recent`]: what changed lately in the ledger
//! - [`files`]: observations become candidates
//! - [`checks`]: ready files are checked; one of a key is delivered
//! - [`admit`]: what waits becomes runs
//! - [`schedule`]: ready tasks become attempts
//! - [`lineage`]: runs that cause each other
//! - [`parked`]: those that a pool is too short for
//! - [`finish`]: ended runs are disposed of
//! - [`moves`]: what becomes of files, until it is done
//! - [`requests`]: what people ask for
//! - [`stop`]: dagd is asked to stop, and hastened
//! - [`reload`]: another configuration is in force
//! - [`leaving`]: what triggers have left to do that are not configured any more
//! - [`renames`]: triggers that come, go and change their names
//! - [`stamps`]: times that are set after the delivery
//! - [`times`]: schedules and silences
//! - [`recover`]: stored records become a machine

pub mod lane;

mod admit;
mod checks;
mod evolve;
mod files;
mod finish;
mod groups;
mod invariants;
mod leaving;
mod lineage;
mod members;
mod moves;
mod parked;
mod rank;
mod rate;
mod recent;
mod recover;
mod reload;
mod renames;
mod requests;
mod schedule;
mod stamps;
mod stop;
mod times;
mod waiting;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use self::lane::{Gate, Lane, Stored};
use self::rate::Buckets;
use self::recent::Recent;
use self::schedule::Schedule;
use self::stop::Stopping;
use super::effect::{Command, Out, Reply};
use super::event::Event;
use super::graph::{Graph, Plan};
use super::id::{AttemptId, ItemId, Mono, Name, Now, Rev, RunId, Seq, Wall};
use super::model::Model;
use super::path::Bytes;
use super::record::{ItemQueued, Record};
use super::run::Run;
use super::selector::Selector;
use super::task::{Ended, StopCause, TaskState};

pub use self::evolve::Illegal;
pub use self::leaving::LEAVING_MAX;
pub use self::moves::Stuck;
pub use self::recover::{By, Left, Recovering, Start};
pub use self::schedule::InFlight;

/// Plans kept at most, beside those that live runs use: one for each trigger, and for each selection that
/// was asked for by hand. Then those that nothing uses are forgotten, and made anew when asked for.
const PLANS_MAX: usize = 1024;

/// All live state of dagd.
#[derive(Debug)]
pub struct Machine {
    model: Arc<Model>,
    /// Graphs by revision: the current one, and those that live runs are pinned to.
    graphs: BTreeMap<Rev, Arc<Graph>>,
    /// Graphs that nothing has used since [`Machine::forget`]: records may still name them.
    dropped: Vec<Arc<Graph>>,
    plans: BTreeMap<(Rev, String), Arc<Plan>>,
    runs: BTreeMap<RunId, Run>,
    /// Runs that ended since [`Machine::forget`]: their history is being written.
    ended: BTreeMap<RunId, Run>,
    items: BTreeMap<ItemId, ItemQueued>,
    /// Items that wait for nothing but room.
    loose: BTreeSet<ItemId>,
    lanes: BTreeMap<Name, Lane>,
    /// What waits of triggers that the configuration does not have any more.
    leaving: BTreeMap<Name, leaving::Leaving>,
    /// What the rate limits of such triggers still let start.
    buckets: Buckets,
    /// What is stored of triggers that the configuration does not have: it may have them again.
    dormant: BTreeMap<Name, Stored>,
    schedule: Schedule,
    /// Dispositions that could not be done yet.
    stuck: BTreeMap<(RunId, u32), Stuck>,
    timers: BTreeSet<(Mono, Timer)>,
    /// When schedules are due next: one entry for each that is.
    due: BTreeSet<(Wall, Name)>,
    /// Who listens to a trigger.
    listeners: BTreeMap<Name, BTreeSet<Name>>,
    /// Mean time of a task's successful attempts, in nanoseconds.
    durations: BTreeMap<Name, u64>,
    next_run: RunId,
    next_item: ItemId,
    seed: u64,
    /// The number under which the records of this step will be committed.
    seq: Seq,
    recent: Recent,
    fading: lineage::Fading,
    /// Runs whose tasks are all final, or whose files are all disposed of.
    finished: BTreeSet<RunId>,
    /// Lanes in which something may have become admissible.
    hot: BTreeSet<Name>,
    /// Lanes whose fill may have crossed a mark.
    touched: BTreeSet<Name>,
    /// The number of the last check that was asked for.
    last_check: u64,
    /// The lane that was served last.
    turn: Option<Name>,
    stopping: Option<Stopping>,
    /// Starts by hand whose answer waits for the end of the step.
    asked: Vec<(u64, ItemId)>,
}

/// What may be due. Checked against the state when it fires: a timer need not be taken back.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    /// An attempt has reached its time limit.
    Limit(AttemptId),
    /// An attempt that was asked to end has not.
    Kill(AttemptId),
    /// The delay after this attempt has passed.
    Retry(AttemptId),
    /// A path is to be looked at again.
    Look(Name, Bytes),
    /// Files of a lane that miss a member of their set may have waited for too long.
    Late(Name),
    /// A disposition is to be tried again.
    Move(RunId, u32),
    /// A window of a lane may close, or its rate let another run start.
    Lane(Name),
    /// A trigger may have been silent for long enough.
    Silence(Name),
    /// Draining has lasted long enough.
    Drained,
}

impl Machine {
    /// Takes an event. Its records must be committed, under `seq`, before a command is acted on.
    pub fn step(&mut self, now: Now, seq: Seq, event: Event, out: &mut Out) {
        self.seq = seq;
        self.fading.trim(now.mono);
        let from = out.commands.len();
        match event {
            Event::Tick => self.tick(now, out),
            Event::ClockSet => self.clock_set(now, out),
            Event::Observed(observed) => self.observe(now, observed, out),
            Event::Placed { trigger, places } => {
                self.emit(now, Record::FilesPlaced { trigger, places, at: now.wall }, out);
            }
            Event::Scanned { trigger } => self.scanned(now, &trigger, out),
            Event::Counted { trigger, files } => self.counted(now, &trigger, files, out),
            Event::Checked(checked) => self.checked(now, checked, out),
            Event::Signalled { trigger, info } => self.signalled(now, &trigger, info, out),
            Event::Ended { id, ended } => self.attempt_ended(now, id, ended, out),
            Event::Moved { run, file, phase, outcome } => {
                self.moved(now, (run, file, phase), outcome, out);
            }
            Event::Reloaded(model) => self.reload(now, model, out),
            Event::StopRequested => self.stop(now, out),
            Event::Expired { before } => self.expire(now, before, out),
            Event::Requested { token, request } => self.request(now, token, request, out),
        }
        self.settle(now, out);
        self.note_looks(&out.commands[from..]);
        self.answer(out);
    }

    /// When the next [`Event::Tick`] is due.
    pub fn next_deadline(&self) -> Option<Mono> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// When the next occurrence is due: [`Event::Tick`] is, then.
    pub fn next_occurrence(&self) -> Option<Wall> {
        self.due.first().map(|(at, _)| *at)
    }

    /// The configuration in force.
    pub fn model(&self) -> &Arc<Model> {
        &self.model
    }

    /// The live runs.
    pub fn runs(&self) -> &BTreeMap<RunId, Run> {
        &self.runs
    }

    /// A live run, or one whose end is being committed.
    pub fn run(&self, id: RunId) -> Option<&Run> {
        self.runs.get(&id).or_else(|| self.ended.get(&id))
    }

    /// A graph that something uses, or has used until a step whose end is being committed.
    pub fn graph(&self, rev: &Rev) -> Option<&Arc<Graph>> {
        self.graphs.get(rev).or_else(|| self.dropped.iter().find(|graph| graph.rev() == rev))
    }

    /// The live sides of the triggers.
    pub fn lanes(&self) -> &BTreeMap<Name, Lane> {
        &self.lanes
    }

    /// What is stored of triggers that are not configured.
    pub fn dormant(&self) -> &BTreeMap<Name, Stored> {
        &self.dormant
    }

    /// When the rate of a trigger that is not configured lets another run of it start, if that is
    /// in the way.
    pub fn rated_leaving(&self, trigger: &Name, now: Now) -> Option<Mono> {
        self.buckets.fills(trigger, now.mono)
    }

    /// Accepted events that wait for a run.
    pub fn items(&self) -> &BTreeMap<ItemId, ItemQueued> {
        &self.items
    }

    /// Attempts in flight.
    pub fn in_flight(&self) -> &BTreeMap<AttemptId, InFlight> {
        self.schedule.in_flight()
    }

    /// How many tasks wait for a slot or a pool.
    pub fn ready_tasks(&self) -> usize {
        self.schedule.ready_len()
    }

    /// Tasks that wait because something was short when they were to start: the run, the place in
    /// its plan, why, and when they are tried again.
    pub fn short_tasks(&self) -> impl Iterator<Item = (&Run, usize, &str, Mono)> {
        self.timers.iter().filter_map(|(due, timer)| {
            let Timer::Retry(id) = timer else { return None };
            let run = self.runs.get(&id.run)?;
            let place = run.place(id.node)?;
            let node = &run.nodes()[place];
            let waits = node.state == TaskState::Retrying && node.attempt == id.attempt;
            let why = node.error.as_deref().filter(|_| waits && node.tries.shortages > 0)?;
            Some((run, place, why, *due))
        })
    }

    /// Whether a first scan still remembers what is there: what comes now may be taken for old.
    /// Nobody waits for those of the triggers `apart`.
    pub fn is_baselining(&self, apart: &BTreeSet<Name>) -> bool {
        let waits = |lane: &Lane| lane.gate == Gate::Baseline && !apart.contains(&lane.spec.name);
        self.lanes.values().any(waits)
    }

    /// The commit of the last step is done: runs that ended in it are forgotten.
    pub fn forget(&mut self) {
        self.ended.clear();
        self.dropped.clear();
    }

    /// Records a fact: the only way in which a step changes durable state.
    fn emit(&mut self, now: Now, record: Record, out: &mut Out) {
        self.evolve(&record, now).expect("a record that a step made is legal");
        out.records.push(record);
    }

    /// Goes on until nothing more can happen: runs end, what waits becomes runs, ready tasks
    /// become attempts.
    fn settle(&mut self, now: Now, out: &mut Out) {
        loop {
            self.finish_runs(now, out);
            self.drop_leaving(now, out);
            self.admit(now, out);
            let freed = self.settle_keys(now, out);
            self.start_tasks(now, out);
            if self.finished.is_empty() && !freed {
                break;
            }
        }
        self.note_drained(now, out);
        self.mark_lanes(out);
        self.exit_if_done(out);
    }

    /// Answers the starts by hand of this step: with the run, if there was room for it.
    fn answer(&mut self, out: &mut Out) {
        for (token, item) in std::mem::take(&mut self.asked) {
            let run = out.records.iter().find_map(|record| match record {
                Record::RunCreated(created) if created.items.contains(&item) => Some(created.run),
                _ => None,
            });
            let reply = run.map_or(Reply::Queued(item), Reply::Run);
            out.commands.push(Command::Reply { token, reply });
        }
    }

    fn tick(&mut self, now: Now, out: &mut Out) {
        while let Some((_, timer)) = self.timers.first().filter(|(at, _)| *at <= now.mono).cloned()
        {
            self.timers.pop_first();
            match timer {
                Timer::Limit(id) => self.stop_attempt(now, id, StopCause::Timeout, out),
                Timer::Kill(id) => self.kill_attempt(id, out),
                Timer::Retry(id) => self.retry_due(id),
                Timer::Look(trigger, rel) => self.look_due(now, &trigger, &rel, out),
                Timer::Late(trigger) => self.late_due(now, &trigger, out),
                Timer::Move(run, file) => self.move_due(now, run, file, out),
                Timer::Lane(trigger) => self.lane_due(now, trigger),
                Timer::Silence(trigger) => self.silence_due(now, &trigger, out),
                Timer::Drained => self.hasten(now, Stopping::Term, out),
            }
        }
        self.occurrences(now, out);
    }

    fn retry_due(&mut self, id: AttemptId) {
        let Some(run) = self.runs.get_mut(&id.run) else { return };
        let Some(place) = run.place(id.node) else { return };
        if run.retry(place, id.attempt) {
            self.schedule.push(run, place);
        }
    }

    fn attempt_ended(&mut self, now: Now, id: AttemptId, ended: Ended, out: &mut Out) {
        let Some(flight) = self.schedule.in_flight().get(&id) else { return };
        let stop = flight.stop;
        let Some(run) = self.runs.get(&id.run) else { return };
        let Some(place) = run.place(id.node) else { return };
        let spec = run.graph().task(id.node);
        let draw = draw(run.info().seed, id);
        let verdict = super::task::judge(spec, &ended, stop, run.nodes()[place].tries, draw);
        let AttemptId { run, node, attempt } = id;
        let ended = Box::new(ended);
        self.emit(now, Record::AttemptEnded { run, node, attempt, ended, stop, verdict }, out);
    }

    /// The plan for a selection of a graph, from the cache.
    fn plan(&mut self, graph: &Arc<Graph>, select: &Selector) -> Arc<Plan> {
        let key = (graph.rev().clone(), select.text().to_owned());
        if self.plans.len() >= PLANS_MAX && !self.plans.contains_key(&key) {
            self.plans.retain(|_, plan| Arc::strong_count(plan) > 1);
        }
        self.plans.entry(key).or_insert_with(|| Arc::new(graph.plan(select))).clone()
    }
}

/// A number in `0.0..1.0` that depends on nothing but the run's seed and the attempt.
fn draw(seed: u64, id: AttemptId) -> f64 {
    let bits = mix(seed ^ mix((u64::from(id.node.0) << 32) | u64::from(id.attempt.0)));
    #[expect(clippy::cast_precision_loss, reason = "53 bits fit a double exactly")]
    let fraction = (bits >> 11) as f64 / (1u64 << 53) as f64;
    fraction
}

/// The finaliser of splitmix64: spreads the bits of a number.
fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
