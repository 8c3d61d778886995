//! Plain views of the machine, in the shapes of the control API. Changes nothing.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use super::clock::{Clock, wall};
use super::counters::Counters;
use super::waiting::{place_of, stuck_of};
use crate::core::candidate::{Candidate, Stage};
use crate::core::disposition::MoveResult;
use crate::core::graph::Graph;
use crate::core::id::{Attempt, AttemptId, Name, Now, Wall};
use crate::core::machine::Machine;
use crate::core::machine::lane::{CANDIDATES_MAX, Gate, Lane};
use crate::core::model::Model;
use crate::core::path::Bytes;
use crate::core::record::Record;
use crate::core::run::Run;
use crate::core::task::{Ended, Exit, StopCause, TaskState, Verdict};
use crate::core::trigger::TriggerSpec;
use crate::io::store::{Loaded, log_name};
use crate::io::watch::Coverage;
use crate::wire;

/// What is known of the daemon beside the machine.
pub struct Facts {
    started_at: Wall,
    config: PathBuf,
    state_dir: PathBuf,
    /// How processes are kept together.
    pub containment: String,
    /// The control socket.
    pub socket: Option<PathBuf>,
    /// Why the store cannot be written, if it cannot.
    pub stalled: Option<String>,
    /// Why what was written cannot be brought to disk, if it cannot: files are not moved then.
    pub unsynced: Option<String>,
    /// The last reload.
    pub reload: Option<wire::Reload>,
    /// The triggers in force, shared with the control server.
    pub triggers: Shared,
    /// What was committed since the start.
    pub counters: Counters,
}

/// The triggers in force, for a thread that only looks.
#[derive(Clone, Default)]
pub struct Shared {
    // lock: written by the engine at a reload, read by the control server; held for a copy.
    triggers: Arc<Mutex<Vec<Arc<TriggerSpec>>>>,
}

impl Shared {
    /// A copy.
    pub fn get(&self) -> Vec<Arc<TriggerSpec>> {
        self.triggers.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Puts others in force.
    pub fn set(&self, model: &Model) {
        let triggers = model.triggers.values().cloned().collect();
        *self.triggers.lock().unwrap_or_else(PoisonError::into_inner) = triggers;
    }
}

impl Facts {
    /// Nothing has happened yet.
    pub fn new(clock: &Clock, config: PathBuf, state_dir: PathBuf) -> Self {
        Self {
            started_at: clock.now().wall,
            config,
            state_dir,
            containment: String::new(),
            socket: None,
            stalled: None,
            unsynced: None,
            reload: None,
            triggers: Shared::default(),
            counters: Counters::default(),
        }
    }
}

impl Facts {
    /// Why work stalls, if it does.
    pub fn stall(&self) -> Option<&String> {
        self.stalled.as_ref().or(self.unsynced.as_ref())
    }
}

/// The daemon at a glance. `overflows` is how often hints were lost; `unwatched` why changes of the
/// configuration's files may go unnoticed, if they should not.
pub fn status(
    machine: &Machine,
    facts: &Facts,
    coverage: &[Coverage],
    (overflows, unwatched): (u64, Option<String>),
    now: Now,
) -> wire::Status {
    let covered: HashMap<&str, &Coverage> = coverage.iter().map(|c| (&*c.trigger, c)).collect();
    let lanes = machine.lanes().values();
    let mut counters: BTreeMap<String, u64> =
        facts.counters.all().map(|(name, count)| (name.to_owned(), count)).collect();
    counters.insert("overflows".to_owned(), overflows);
    let mut problems: Vec<String> =
        facts.stall().into_iter().map(|why| format!("stalled: {why}")).collect();
    problems.extend(lanes.clone().filter_map(|lane| stuck_problem(machine, lane)));
    problems.extend(short_problem(machine));
    problems.extend(unwatched);
    problems.extend(coverage.iter().flat_map(|c| c.problems.iter().cloned()));
    problems.extend(machine.lanes().values().filter_map(loops));
    let state = match (facts.stall(), machine.is_stopping()) {
        (Some(_), _) => "stalled",
        (None, true) => "stopping",
        (None, false) => "running",
    };
    wire::Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        state: state.to_owned(),
        stalled: facts.stall().cloned(),
        started_at: wire::time(facts.started_at),
        config: facts.config.display().to_string(),
        reload: facts.reload.clone(),
        rev: machine.model().graph.rev().to_string(),
        state_dir: facts.state_dir.display().to_string(),
        containment: facts.containment.clone(),
        running: machine.in_flight().len() as u64,
        slots: machine.model().slots as u64,
        ready: machine.ready_tasks() as u64,
        live_runs: machine.runs().len() as u64,
        max_live_runs: machine.model().max_live_runs as u64,
        triggers: lanes
            .map(|lane| trigger(machine, lane, covered.get(&*lane.spec.name).copied(), now))
            .collect(),
        problems,
        counters,
    }
}

/// What is said of a trigger whose runs seem to cause each other.
fn loops(lane: &Lane) -> Option<String> {
    let name = &lane.spec.name;
    let (rel, hops) = lane.braked().next()?;
    let files = lane.braked().count();
    Some(format!(
        "trigger {name}: runs seem to write the files that start the next: {} waits after {hops} in \
         a row, and {} more; declare `outputs` of the task or `exclude` them; `dagd resume {name}` \
         lets them go on",
        rel.lossy(),
        files - 1,
    ))
}

/// What keeps tasks from being started, as a problem of the daemon.
fn short_problem(machine: &Machine) -> Option<String> {
    let count = machine.short_tasks().count();
    let (run, place, why, _) = machine.short_tasks().next()?;
    let tasks = if count == 1 { "a task waits".to_owned() } else { format!("{count} tasks wait") };
    Some(format!("{tasks} to be started: {} of run {}: {why}", run.name(place), run.info().run))
}

/// What keeps a trigger's files from being moved, as a problem of the daemon.
fn stuck_problem(machine: &Machine, lane: &Lane) -> Option<String> {
    let name = &lane.spec.name;
    let (count, first) = stuck_of(machine, name);
    let why = &first?.why;
    let files = if count == 1 { "a file waits" } else { "files wait" };
    let count = if count == 1 { String::new() } else { format!("{count} ") };
    Some(format!("trigger {name}: {count}{files} to be moved: {why}"))
}

fn trigger(
    machine: &Machine,
    lane: &Lane,
    covered: Option<&Coverage>,
    now: Now,
) -> wire::TriggerStatus {
    let (kind, source) = lane.spec.source.told();
    let missing = covered.and_then(|covered| match covered.silent {
        Some(since) => Some(format!("the folder has not answered for {} s", since.as_secs())),
        None => (!covered.exists).then(|| "the folder does not exist".to_owned()),
    });
    let (stuck, first) = stuck_of(machine, &lane.spec.name);
    let (state, reason) = match (&lane.stored.paused, missing, lane.gate) {
        (Some(why), _, _) => ("paused", Some(why.clone())),
        (None, Some(why), _) => ("waiting", Some(why)),
        (None, None, Gate::Counting) => ("active", Some("counting for the first scan".to_owned())),
        (None, None, Gate::Baseline) => ("active", Some("the first scan is under way".to_owned())),
        (None, None, Gate::Open) => {
            let full = lane.candidates.len() >= CANDIDATES_MAX;
            let why = || format!("{CANDIDATES_MAX} files wait: more are read when some have gone");
            let moving = first.map(|stuck| format!("moving: {}", stuck.why));
            ("active", moving.or_else(|| full.then(why)))
        }
    };
    let pending = |(_, c): &(&Bytes, &Candidate)| {
        matches!(c.stage, Stage::Pending(..) | Stage::Checking { .. }) || lane.is_incomplete(c)
    };
    let alarm = lane.spec.folder().and_then(|folder| folder.ready_alarm);
    let overdue = |(_, c): &(&Bytes, &Candidate)| {
        alarm.is_some_and(|alarm| c.waiting_since.until(now.mono) >= alarm)
    };
    let overdue: Vec<_> = lane.candidates.iter().filter(pending).filter(overdue).collect();
    let oldest = overdue.iter().min_by_key(|(_, candidate)| candidate.waiting_since);
    wire::TriggerStatus {
        name: lane.spec.name.to_string(),
        kind: kind.to_owned(),
        source,
        state: state.to_owned(),
        reason,
        readiness: covered.map(|covered| covered.readiness.to_owned()),
        noticed_by: covered.map(|covered| covered.noticed_by.to_owned()),
        directories: covered.map_or(0, |covered| covered.directories),
        pending: lane.candidates.iter().filter(pending).count() as u64,
        late: overdue.len() as u64,
        late_oldest: oldest.map(|(rel, _)| (&place_of(lane, rel)).into()),
        queued: (lane.queued() + lane.items.len()) as u64,
        live_runs: lane.live_runs as u64,
        scanning: lane.is_scanning(),
        quarantined: 0,
        stuck,
        next_at: lane.next_at().map(wire::time),
    }
}

/// How the tasks of a run stand, for its history.
pub fn task_ends(run: &Run) -> Vec<(Name, TaskState, Option<String>)> {
    let places = 0..run.nodes().len();
    let shown = places.filter(|&place| !run.plan().nodes()[place].pass);
    shown
        .map(|place| (run.name(place).clone(), run.nodes()[place].state, cause(run, place)))
        .collect()
}

/// Why a task is in its state, where the state alone does not say.
pub fn cause(run: &Run, place: usize) -> Option<String> {
    let node = &run.nodes()[place];
    match node.state {
        TaskState::Skipped(cause) => Some(cause.word().to_owned()),
        TaskState::Cancelled => run.cancelled().map(str::to_owned),
        _ => node.error.clone(),
    }
}

/// The word and the detail for an attempt's end.
pub fn attempt_end(ended: &Ended, verdict: Verdict) -> (&'static str, Option<String>) {
    let state = match verdict {
        Verdict::Final(state) => state.word(),
        Verdict::Retry(_) => TaskState::Retrying.word(),
        Verdict::Requeue => TaskState::Ready.word(),
    };
    let detail = match &ended.exit {
        Exit::Code(0) => None,
        Exit::Code(code) => Some(format!("exit code {code}")),
        Exit::Signal(signal) => Some(format!("ended by signal {signal}")),
        other => other.error(),
    };
    (state, detail)
}

/// The live runs of a stored state, as the machine would tell them.
pub fn live(loaded: &Loaded) -> Vec<wire::RunDetail> {
    let attempts = attempts(&loaded.records);
    let graph = Graph::build(Vec::new()).expect("no tasks make a graph");
    let model = Model {
        graph: Arc::new(graph),
        triggers: BTreeMap::new(),
        pools: BTreeMap::new(),
        slots: 0,
        max_live_runs: usize::MAX,
        stop_timeout: std::time::Duration::ZERO,
        can_leave: false,
    };
    let now = Now { wall: wall(), ..Now::default() };
    let folded = super::boot::recovering(Arc::new(model), loaded, Vec::new(), now);
    let Ok(recovering) = folded else { return Vec::new() };
    recovering.view().runs().values().map(|run| detail(run, &attempts)).collect()
}

fn detail(run: &Run, attempts: &BTreeMap<AttemptId, Tried<'_>>) -> wire::RunDetail {
    let info = run.info();
    let tasks =
        (0..run.nodes().len()).filter(|&place| !run.plan().nodes()[place].pass).map(|place| {
            let node = run.plan().nodes()[place].ix;
            let id = |attempt| AttemptId { run: info.run, node, attempt };
            let tries = attempts.range(id(Attempt(0))..=id(Attempt(u32::MAX)));
            wire::Task {
                name: run.name(place).to_string(),
                state: run.nodes()[place].state.word().to_owned(),
                cause: cause(run, place),
                attempts: tries.map(|(id, tried)| tried.row(*id, run.name(place))).collect(),
            }
        });
    wire::RunDetail {
        run: wire::Run {
            id: info.run.0,
            trigger: info.trigger.as_ref().map(ToString::to_string),
            reason: info.reason.word().to_owned(),
            state: run.state().word().to_owned(),
            files: files(run),
            rev: info.rev.to_string(),
            created_at: wire::time(info.at),
            started_at: run.started_at().map(wire::time),
            ended_at: None,
        },
        select: info.select.to_string(),
        parent: info.parent.map(|run| run.0),
        scheduled_at: info.scheduled.map(wire::time),
        signal: info.signal.as_ref().map(|signal| wire::Signal {
            signal: signal.signal.to_string(),
            value: signal.value,
            sender_pid: signal.pid,
            sender_uid: signal.uid,
        }),
        tasks: tasks.collect(),
    }
}

fn files(run: &Run) -> Vec<wire::RunFile> {
    let shown = run.files().iter().map(|file| {
        let came_in = &file.came_in;
        let outcome = match (file.planned(), file.outcome()) {
            (Some(_), _) => Some("moving"),
            (None, outcome) => outcome.map(MoveResult::word),
        };
        wire::RunFile {
            path: came_in.into(),
            rel: file.claim.rel.lossy().into_owned(),
            kind: file.claim.kind.word().to_owned(),
            size: file.claim.version.size,
            moved_to: (file.claim.path != *came_in).then(|| (&file.claim.path).into()),
            move_error: file.outcome().and_then(MoveResult::text),
            outcome: outcome.map(str::to_owned),
        }
    });
    shown.collect()
}

/// An attempt, as its records tell it.
struct Tried<'a> {
    started_at: Wall,
    end: Option<(&'a Ended, Option<StopCause>)>,
}

/// The attempts in the records of live runs.
fn attempts(records: &[Record]) -> BTreeMap<AttemptId, Tried<'_>> {
    let mut tried = BTreeMap::new();
    for record in records {
        match record {
            Record::AttemptStarted { run, node, attempt, at } => {
                let id = AttemptId { run: *run, node: *node, attempt: *attempt };
                tried.insert(id, Tried { started_at: *at, end: None });
            }
            Record::AttemptEnded { run, node, attempt, ended, stop, .. } => {
                let id = AttemptId { run: *run, node: *node, attempt: *attempt };
                let end = Some((&**ended, *stop));
                tried.insert(id, Tried { started_at: ended.started_at, end });
            }
            _ => {}
        }
    }
    tried
}

impl Tried<'_> {
    fn row(&self, id: AttemptId, task: &str) -> wire::AttemptRow {
        let ended = self.end.map(|(ended, _)| ended);
        let stopped = self.end.and_then(|(_, stop)| stop).map(|stop| stop.text().to_owned());
        wire::AttemptRow {
            attempt: id.attempt.0,
            exit_code: ended.and_then(|ended| ended.exit.code()),
            signal: ended.and_then(|ended| ended.exit.signal()),
            error: ended.and_then(|ended| ended.exit.error()).or(stopped),
            leftovers: ended.map_or(0, |ended| ended.leftovers),
            started_at: Some(wire::time(self.started_at)),
            ended_at: ended.map(|ended| wire::time(ended.ended_at)),
            memory_peak: ended.and_then(|ended| ended.usage.memory_peak),
            cpu_us: ended.and_then(|ended| ended.usage.cpu_us),
            log: ended.filter(|e| e.log_bytes > 0).map(|_| log_name(id.run, task, id.attempt)),
        }
    }
}
