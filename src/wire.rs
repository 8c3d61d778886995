//! The shapes of the control API: what `--json` prints, what the client and the page read.
//!
//! Stable: fields are added, never changed or removed. Absent values are null. Times are RFC 3339
//! in UTC with nanoseconds. A path is `path` (lossy, for people) with `path_b64` (exact).

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::config::Change;
use crate::core::id::Wall;
use crate::core::path::Bytes;

/// A time as it is printed: RFC 3339, UTC, always nine digits of a second.
pub fn time(at: Wall) -> String {
    Timestamp::from_nanosecond(i128::from(at.0))
        .map_or_else(|_| String::new(), |t| format!("{t:.9}"))
}

/// A file's path, twice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathText {
    /// For people: invalid UTF-8 is replaced.
    pub path: String,
    /// The exact bytes in base64.
    pub path_b64: String,
}

impl From<&Bytes> for PathText {
    fn from(path: &Bytes) -> Self {
        Self { path: path.lossy().into_owned(), path_b64: path.b64() }
    }
}

/// A run in a listing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// Its number.
    pub id: u64,
    /// The trigger; null for a start by selection.
    pub trigger: Option<String>,
    /// `event`, `scan`, `signal`, `schedule`, `absence`, `manual`, `retry` or `replay`.
    pub reason: String,
    /// `queued`, `running`, `succeeded`, `failed` or `cancelled`.
    pub state: String,
    /// The files that it is for.
    pub files: Vec<RunFile>,
    /// The graph that it is pinned to.
    pub rev: String,
    /// When it was created.
    pub created_at: String,
    /// When its first attempt started.
    pub started_at: Option<String>,
    /// When it ended.
    pub ended_at: Option<String>,
}

/// A file of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunFile {
    /// Where it was when the run was created.
    #[serde(flatten)]
    pub path: PathText,
    /// The path below the trigger's folder.
    pub rel: String,
    /// `created`, `modified` or `deleted`.
    pub kind: String,
    /// Bytes.
    pub size: u64,
    /// Where the run took it, before its tasks or after them; null if it stayed.
    pub moved_to: Option<PathText>,
    /// Why it could not be disposed of as configured; null if it could.
    pub move_error: Option<String>,
    /// What came of disposing of it last: `moved`, `deleted`, `kept`, `superseded`, `gone` or
    /// `failed`; `moving` while that is being done; null if it was to stay.
    #[serde(default)]
    pub outcome: Option<String>,
}

/// A run with its tasks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunDetail {
    /// As in the listing.
    #[serde(flatten)]
    pub run: Run,
    /// The selection.
    pub select: String,
    /// The run that this one repeats.
    pub parent: Option<u64>,
    /// The signal that it is for.
    pub signal: Option<Signal>,
    /// The occurrence of a schedule that it is for.
    pub scheduled_at: Option<String>,
    /// Its tasks, in the order of their names.
    pub tasks: Vec<Task>,
}

/// A signal that started a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signal {
    /// Its name.
    pub signal: String,
    /// The value queued with it.
    pub value: Option<i32>,
    /// The sender's process.
    pub sender_pid: Option<i32>,
    /// The sender's user.
    pub sender_uid: Option<u32>,
}

/// A task of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    /// Its name.
    pub name: String,
    /// `waiting`, `ready`, `running`, `retrying`, `succeeded`, `failed`, `timed_out`, `cancelled`,
    /// `skipped` or `lost`.
    pub state: String,
    /// Why it is in that state, where the state alone does not say.
    pub cause: Option<String>,
    /// Its tries.
    pub attempts: Vec<AttemptRow>,
}

/// A try at a task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptRow {
    /// Its number, from 1.
    pub attempt: u32,
    /// The command's exit code.
    pub exit_code: Option<i32>,
    /// The signal that ended the command.
    pub signal: Option<i32>,
    /// Why it could not be started, was ended by dagd, or was lost.
    pub error: Option<String>,
    /// Processes that it left behind, which were killed.
    pub leftovers: u32,
    /// When it started.
    pub started_at: Option<String>,
    /// When it ended.
    pub ended_at: Option<String>,
    /// Bytes of memory that it had at the most; null if that is not known.
    #[serde(default)]
    pub memory_peak: Option<u64>,
    /// Microseconds of processor time that it used; null if that is not known.
    #[serde(default)]
    pub cpu_us: Option<u64>,
    /// The file with its output; null if there was none.
    pub log: Option<String>,
}

/// The daemon at a glance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The program's version.
    pub version: String,
    /// The daemon's process.
    pub pid: u32,
    /// `running`, `stalled` or `stopping`.
    pub state: String,
    /// Why it is stalled; null if it is not.
    pub stalled: Option<String>,
    /// When it started.
    pub started_at: String,
    /// The configuration file.
    pub config: String,
    /// The outcome of the last reload; null before the first.
    pub reload: Option<Reload>,
    /// The graph that new runs are pinned to.
    pub rev: String,
    /// Where the state lies.
    pub state_dir: String,
    /// How processes of tasks are kept together here: in which cgroup and with which limits, or as
    /// process groups, and why.
    #[serde(default)]
    pub containment: String,
    /// Attempts in flight.
    pub running: u64,
    /// Attempts in flight, at most.
    pub slots: u64,
    /// Tasks that wait for a slot or a pool.
    pub ready: u64,
    /// Runs that are alive.
    pub live_runs: u64,
    /// Runs that are alive, at most.
    pub max_live_runs: u64,
    /// Each trigger.
    pub triggers: Vec<TriggerStatus>,
    /// What cannot be covered, and what to do about it; empty if all is well.
    pub problems: Vec<String>,
    /// Counters since the start, by name.
    pub counters: BTreeMap<String, u64>,
}

/// A trigger at a glance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TriggerStatus {
    /// Its name.
    pub name: String,
    /// `drop`, `watch`, `signal`, `schedule` or `absent`.
    pub kind: String,
    /// The folder, the signal's name, the schedule and its zone, or how long which trigger is to be
    /// silent.
    pub source: String,
    /// `active`, `paused` or `waiting` (its folder does not exist).
    pub state: String,
    /// Why it is not active.
    pub reason: Option<String>,
    /// How completeness of files is established: `proved`, `inferred` or `none`; null for signals.
    pub readiness: Option<String>,
    /// How changes are noticed: `events`, `scans`, or `events, scans`; null for signals.
    pub noticed_by: Option<String>,
    /// Folders that are watched or scanned.
    pub directories: u64,
    /// Files or events that are not ready.
    pub pending: u64,
    /// Files that have not become ready within `ready_alarm`.
    #[serde(default)]
    pub late: u64,
    /// The one of them that has waited longest.
    #[serde(default)]
    pub late_oldest: Option<PathText>,
    /// Files or events that are ready and wait for a run.
    pub queued: u64,
    /// Its runs that are alive.
    pub live_runs: u64,
    /// Whether its folder is still gone through for the first time since the start, or since a reload
    /// that changed the trigger: files that came before may not be known yet.
    #[serde(default)]
    pub scanning: bool,
    /// Files whose run has failed and that stay where they came in: a new version, `retry` or
    /// `replay` has them run again.
    #[serde(default)]
    pub quarantined: u64,
    /// Files that wait for what keeps dagd from moving them to pass.
    #[serde(default)]
    pub stuck: u64,
    /// When it is due next, if it waits for time.
    pub next_at: Option<String>,
}

/// The outcome of a reload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reload {
    /// Whether the new configuration is in force.
    pub ok: bool,
    /// What changed, or why nothing did: for people, several lines.
    pub text: String,
    /// Who asked for it: `request`, `signal`, or `change` of the configuration's files.
    #[serde(default)]
    pub cause: String,
    /// What changed; empty if nothing did.
    #[serde(default)]
    pub changes: Vec<ReloadChange>,
    /// What is allowed but hardly meant, one sentence each.
    #[serde(default)]
    pub warnings: Vec<String>,
    /// When.
    pub at: String,
}

/// What a reload changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReloadChange {
    /// `added`, `removed` or `changed`.
    pub change: String,
    /// `task`, `trigger`, `pool` or `setting`.
    pub what: String,
    /// Its name.
    pub name: String,
    /// The keys that differ, of a changed task or trigger.
    pub keys: Vec<String>,
    /// What it was, of a pool or setting.
    pub old: Option<String>,
    /// What it is.
    pub new: Option<String>,
    /// What remains of a trigger that was removed, and what becomes of that.
    pub remains: Vec<String>,
}

impl From<&Change> for ReloadChange {
    fn from(change: &Change) -> Self {
        let Change { how, what, name, keys, old, new } = change;
        Self {
            change: how.word().to_owned(),
            what: (*what).to_owned(),
            name: name.clone(),
            keys: keys.iter().map(ToString::to_string).collect(),
            old: old.clone(),
            new: new.clone(),
            remains: Vec::new(),
        }
    }
}

/// Something that waits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PendingEntry {
    /// The trigger; null for a start by selection.
    pub trigger: Option<String>,
    /// The file; null for an event without one.
    pub file: Option<PathText>,
    /// `pending`, `queued`, `starting`, `running` or `moving`.
    pub stage: String,
    /// What it waits for.
    pub reason: String,
    /// Since when.
    pub since: String,
    /// The run, once there is one.
    pub run: Option<u64>,
}

/// Why a path did or did not run: one entry per trigger that it concerns.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explain {
    /// The path that was asked for.
    #[serde(flatten)]
    pub path: PathText,
    /// What is there now: `file`, `other`, `absent`.
    pub now: String,
    /// One per trigger whose folder holds or held the path.
    pub triggers: Vec<ExplainTrigger>,
}

/// One trigger's view of a path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExplainTrigger {
    /// The trigger.
    pub trigger: String,
    /// `ignored`, `delivered`, `quarantined`, `running`, `moving`, `queued`, `pending`, `baseline`
    /// or `unseen`.
    pub verdict: String,
    /// The whole story in a sentence or two.
    pub text: String,
    /// The run that it was delivered to last.
    pub run: Option<u64>,
    /// That run's state.
    pub run_state: Option<String>,
    /// Where that run's end took the file.
    pub moved_to: Option<PathText>,
}

/// A request to start by hand. Either `trigger` or `select`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FireRequest {
    /// The trigger whose selection and policies apply.
    pub trigger: Option<String>,
    /// A selection.
    pub select: Option<String>,
    /// Absolute paths in base64.
    #[serde(default)]
    pub paths_b64: Vec<String>,
}

/// The answer to a start by hand, a retry or a replay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accepted {
    /// The run, if there was room for it.
    pub run: Option<u64>,
    /// The number under which the event waits, if there was not.
    pub item: Option<u64>,
}

/// What became of a replay under one trigger: it was accepted, or `error` tells why not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replayed {
    /// The trigger.
    pub trigger: String,
    /// The run, if there was room for it.
    pub run: Option<u64>,
    /// The number under which the event waits, if there was not.
    pub item: Option<u64>,
    /// Why it was refused; null if it was accepted.
    pub error: Option<String>,
}

/// A request to cancel a run, or one task of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CancelRequest {
    /// The task; null: all.
    #[serde(default)]
    pub task: Option<String>,
}

/// A request to run a finished run once more.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetryRequest {
    /// Whether tasks that succeeded, and do not depend on one that is run again, are kept.
    #[serde(default)]
    pub failed: bool,
}

/// A request to deliver a file once more.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplayRequest {
    /// The absolute path in base64.
    pub path_b64: String,
}

/// How a run that was waited for has ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waited {
    /// The run.
    pub run: u64,
    /// `succeeded`, `failed` or `cancelled`.
    pub state: String,
}

/// The answer to a request that has no other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// Always true.
    pub ok: bool,
}

/// An error's body.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// What is wrong, and what to do about it.
    pub error: String,
}

/// One thing that `doctor` has looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// What was looked at: `daemon`, `configuration`, `watches`, `instances`, `queue`, `folder`,
    /// `readiness`, `move`, `capabilities`, `containment`, `clock`, `state` or `database`.
    pub check: String,
    /// What of it, such as a trigger; null if there is but one.
    pub subject: Option<String>,
    /// How good it is.
    pub level: Level,
    /// What was found.
    pub found: String,
    /// What to do about it; null if nothing has to be done.
    pub remedy: Option<String>,
}

/// How good a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// As it should be.
    Ok,
    /// Worth knowing.
    Note,
    /// A promise holds only in part.
    Warning,
    /// dagd cannot do its work.
    Problem,
}
