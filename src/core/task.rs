//! A task: what it is, the states it goes through, and how an attempt's end is judged.
//!
//! Pure tables. What starts when is the business of [`super::run`] and [`super::machine`].

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::confine::{Confine, Usage};
use super::id::{Name, Wall};
use super::template::Template;

mod retry;

pub use retry::{FailureKind, Retry};

/// What a task runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Body {
    /// An argument list; no shell is involved.
    Command(Vec<Template>),
    /// A script, passed to the program as its last argument.
    Shell {
        /// The program and its options, by default `/bin/sh -ec`.
        program: Vec<String>,
        /// The script; without placeholders.
        script: String,
    },
}

/// What becomes of an attempt that was in flight when dagd died.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnCrash {
    /// It is run again, outside the retry budget.
    #[default]
    Retry,
    /// The task is lost.
    Fail,
}

/// What becomes of an attempt in flight when dagd stops or dies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnDaemonStop {
    /// It ends with dagd, and is run again.
    #[default]
    Stop,
    /// It goes on, and the next dagd takes it over.
    Leave,
}

/// When a task may start, as a function of how what it needs has ended. Airflow's names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// All succeeded.
    #[default]
    AllSuccess,
    /// All ended, in whatever way.
    AllDone,
    /// One succeeded; does not wait for the rest.
    OneSuccess,
    /// One failed; does not wait for the rest.
    OneFailed,
    /// All failed.
    AllFailed,
    /// All ended and none failed.
    NoneFailed,
    /// All ended, none failed, one succeeded.
    NoneFailedMinOneSuccess,
    /// All ended; runs after a cancel, too.
    Always,
}

/// A task of the graph, as configured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskSpec {
    /// Its name, unique in the graph.
    pub name: Name,
    /// The tasks it depends on.
    pub needs: Vec<Name>,
    /// What it runs.
    pub body: Body,
    /// Variables added to the clean base environment.
    pub env: BTreeMap<String, Template>,
    /// Variables taken over from dagd's own environment.
    pub env_pass: Vec<String>,
    /// Names of credentials that dagd's service manager keeps for it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub credentials: Vec<String>,
    /// A file of `KEY=value` lines, read when an attempt starts.
    pub env_file: Option<PathBuf>,
    /// Working directory; `None`: `/`.
    pub cwd: Option<Template>,
    /// Patterns of absolute paths that it writes: they start no trigger that runs it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub outputs: Vec<String>,
    /// Limit of one attempt.
    pub timeout: Option<Duration>,
    /// Time between TERM and KILL.
    pub kill_after: Duration,
    /// Further attempts.
    pub retry: Retry,
    /// Exit codes that are a success.
    pub success: BTreeSet<i32>,
    /// Exit codes that mean "nothing to do".
    pub skip: BTreeSet<i32>,
    /// Demand on pools.
    pub uses: BTreeMap<Name, u32>,
    /// Higher starts first.
    pub priority: i32,
    /// For selectors.
    pub tags: BTreeSet<Name>,
    /// Whether its failure leaves the run's verdict alone.
    pub allow_failure: bool,
    /// After a crash of dagd.
    pub on_crash: OnCrash,
    /// When dagd stops or dies.
    #[serde(default)]
    pub on_daemon_stop: OnDaemonStop,
    /// When it may start.
    pub rule: Rule,
    /// Bytes of output that are kept: head and tail.
    pub log_max: u64,
    /// As whom it runs and how much it may take; `None`: as dagd itself does, as much as there is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confine: Option<Box<Confine>>,
}

impl TaskSpec {
    /// A task that runs `command`, with the defaults of the configuration.
    pub fn new(name: &str, command: Vec<Template>) -> Self {
        Self {
            name: name.into(),
            needs: Vec::new(),
            body: Body::Command(command),
            env: BTreeMap::new(),
            env_pass: Vec::new(),
            credentials: Vec::new(),
            env_file: None,
            cwd: None,
            outputs: Vec::new(),
            timeout: None,
            kill_after: Duration::from_secs(10),
            retry: Retry::default(),
            success: BTreeSet::from([0]),
            skip: BTreeSet::new(),
            uses: BTreeMap::new(),
            priority: 0,
            tags: BTreeSet::new(),
            allow_failure: false,
            on_crash: OnCrash::Retry,
            on_daemon_stop: OnDaemonStop::Stop,
            rule: Rule::AllSuccess,
            log_max: 64 << 20,
            confine: None,
        }
    }

    /// All templates that an attempt fills.
    pub fn templates(&self) -> impl Iterator<Item = &Template> {
        let command = match &self.body {
            Body::Command(arguments) => arguments.as_slice(),
            Body::Shell { .. } => &[],
        };
        command.iter().chain(self.env.values()).chain(&self.cwd)
    }
}

/// Why a task was not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SkipCause {
    /// It ended with one of its `skip` codes.
    ExitCode,
    /// Its rule cannot be met any more.
    Rule,
    /// Something that it needs failed.
    UpstreamFailed,
    /// Something that it needs was skipped.
    UpstreamSkipped,
}

/// A task's state within a run. The words of the histories.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskState {
    /// Its rule cannot be decided yet.
    Waiting,
    /// It may start: it waits for a slot or a pool.
    Ready,
    /// An attempt is in flight.
    Running,
    /// An attempt failed and another follows after a delay.
    Retrying,
    /// Done.
    Succeeded,
    /// The last attempt failed.
    Failed,
    /// The last attempt reached its time limit.
    TimedOut,
    /// Cancelled before or while it ran.
    Cancelled,
    /// Not run.
    Skipped(SkipCause),
    /// dagd died too often while it ran.
    Lost,
}

/// How an ended task counts in the rules of those that need it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tally {
    /// As a success.
    Ok,
    /// As a failure.
    Failed,
    /// As a skip.
    Skipped,
}

impl TaskState {
    /// Whether it is the end.
    pub fn is_final(self) -> bool {
        !matches!(self, Self::Waiting | Self::Ready | Self::Running | Self::Retrying)
    }

    /// How it counts for its dependents; `None` while it is not final. A cancelled task counts as
    /// failed: what needs it cannot run.
    pub fn tally(self) -> Option<Tally> {
        match self {
            Self::Waiting | Self::Ready | Self::Running | Self::Retrying => None,
            Self::Succeeded => Some(Tally::Ok),
            Self::Failed
            | Self::TimedOut
            | Self::Lost
            | Self::Cancelled
            | Self::Skipped(SkipCause::UpstreamFailed) => Some(Tally::Failed),
            Self::Skipped(SkipCause::ExitCode | SkipCause::Rule | SkipCause::UpstreamSkipped) => {
                Some(Tally::Skipped)
            }
        }
    }

    /// Whether it makes the run's verdict `failed`.
    pub fn is_failure(self) -> bool {
        matches!(self, Self::Failed | Self::TimedOut | Self::Lost)
    }

    /// The word for it in histories and JSON.
    pub fn word(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Ready => "ready",
            Self::Running => "running",
            Self::Retrying => "retrying",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::TimedOut => "timed_out",
            Self::Cancelled => "cancelled",
            Self::Skipped(_) => "skipped",
            Self::Lost => "lost",
        }
    }
}

impl SkipCause {
    /// The word for it in histories and JSON.
    pub fn word(self) -> &'static str {
        match self {
            Self::ExitCode => "exit_code",
            Self::Rule => "rule",
            Self::UpstreamFailed => "upstream_failed",
            Self::UpstreamSkipped => "upstream_skipped",
        }
    }
}

/// How an attempt's process ended, as its executor saw it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Exit {
    /// It ended by itself with this code.
    Code(i32),
    /// A signal ended it.
    Signal(i32),
    /// The kernel killed it for want of memory: its own limit was reached, or there was none left.
    Oom,
    /// It never started; the text says why and what to do.
    NotStarted(String),
    /// It never started for want of processes, memory, space or descriptors, which may be there
    /// again; the text says of what, and what to do.
    Shortage(String),
    /// A placeholder names an output that was not written.
    MissingOutput(String),
    /// dagd died while it ran; how it ended is not known.
    Unknown,
}

impl Exit {
    /// The exit code, if it ended by itself.
    pub fn code(&self) -> Option<i32> {
        if let Self::Code(code) = self { Some(*code) } else { None }
    }

    /// The signal that ended it, if one did.
    pub fn signal(&self) -> Option<i32> {
        match self {
            Self::Signal(signal) => Some(*signal),
            // What the kernel kills by.
            Self::Oom => Some(9),
            _ => None,
        }
    }

    /// Why the attempt did not do its work, where neither code nor signal says so.
    pub fn error(&self) -> Option<String> {
        match self {
            Self::Code(_) | Self::Signal(_) => None,
            Self::Oom => Some("oom: killed for want of memory; raise memory_max".to_owned()),
            Self::NotStarted(why) | Self::Shortage(why) => Some(why.clone()),
            Self::MissingOutput(name) => Some(format!("missing_output: {name} was not written")),
            Self::Unknown => Some("dagd ended while it ran".to_owned()),
        }
    }
}

/// All that is known of an ended attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// How.
    pub exit: Exit,
    /// When it was started, by the calendar.
    pub started_at: Wall,
    /// When its end was seen.
    pub ended_at: Wall,
    /// Processes of it that were still there at its end, and were killed.
    pub leftovers: u32,
    /// Bytes of output that were written, of which `log_max` are kept; 0: no log file.
    pub log_bytes: u64,
    /// What it wrote to `DAGD_OUTPUT`.
    pub outputs: BTreeMap<String, String>,
    /// What it used.
    #[serde(default, skip_serializing_if = "Usage::is_empty")]
    pub usage: Usage,
}

impl Ended {
    /// An end without a process: nothing was started, nothing written.
    pub fn without_process(exit: Exit, at: Wall) -> Self {
        Self {
            exit,
            started_at: at,
            ended_at: at,
            leftovers: 0,
            log_bytes: 0,
            outputs: BTreeMap::new(),
            usage: Usage::default(),
        }
    }
}

/// Why dagd ended an attempt before it ended itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StopCause {
    /// Its time limit.
    Timeout,
    /// A cancel of its run or task.
    Cancel,
    /// dagd stops; the task is re-queued.
    Shutdown,
}

impl StopCause {
    /// The cause in words.
    pub fn text(self) -> &'static str {
        match self {
            Self::Timeout => "time limit reached",
            Self::Cancel => "cancelled",
            Self::Shutdown => "dagd was stopping",
        }
    }
}

/// What an attempt's end means for its task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The task has this final state.
    Final(TaskState),
    /// Another attempt follows after this delay: within the retry budget, or outside of it after a
    /// shortage.
    Retry(Duration),
    /// Another attempt follows at once, outside the budget: dagd stopped or died.
    Requeue,
}

/// Re-runs after a crash of dagd, at most, before a task is lost.
pub const CRASHES_MAX: u32 = 3;

/// First and longest delay after a shortage: what takes all processes or fills a disk lasts for
/// seconds to hours. There is no last one: it is not the task that is at fault.
const SHORTAGE_DELAY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(1));

/// How often a task was tried, and on whose account.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tries {
    /// Attempts followed by another within the retry budget.
    pub retries: u32,
    /// Attempts lost to a crash of dagd.
    pub crashes: u32,
    /// Shortages in a row.
    pub shortages: u32,
}

/// Judges an attempt's end. `draw` in `0.0..1.0` is the randomness for jitter.
pub fn judge(
    spec: &TaskSpec,
    ended: &Ended,
    stop: Option<StopCause>,
    tries: Tries,
    draw: f64,
) -> Verdict {
    let retry_or = |failure: FailureKind, last: TaskState| {
        spec.retry
            .delay(tries.retries + 1, failure, draw)
            .map_or(Verdict::Final(last), Verdict::Retry)
    };
    match (stop, &ended.exit) {
        (_, Exit::Unknown) if spec.on_crash == OnCrash::Fail || tries.crashes >= CRASHES_MAX => {
            Verdict::Final(TaskState::Lost)
        }
        (_, Exit::Unknown) => Verdict::Requeue,
        (Some(StopCause::Cancel), _) => Verdict::Final(TaskState::Cancelled),
        (Some(StopCause::Timeout), _) => retry_or(FailureKind::Timeout, TaskState::TimedOut),
        (_, Exit::Code(code)) if spec.success.contains(code) => {
            Verdict::Final(TaskState::Succeeded)
        }
        (_, Exit::Code(code)) if spec.skip.contains(code) => {
            Verdict::Final(TaskState::Skipped(SkipCause::ExitCode))
        }
        (Some(StopCause::Shutdown), _) => Verdict::Requeue,
        (None, Exit::Code(code)) => retry_or(FailureKind::Code(*code), TaskState::Failed),
        (None, Exit::Signal(_)) => retry_or(FailureKind::Signal, TaskState::Failed),
        (None, Exit::Oom) => retry_or(FailureKind::Oom, TaskState::Failed),
        (None, Exit::Shortage(_)) => {
            let (first, longest) = SHORTAGE_DELAY;
            Verdict::Retry(longest.min(first.saturating_mul(1 << tries.shortages.min(8))))
        }
        (None, Exit::NotStarted(_) | Exit::MissingOutput(_)) => Verdict::Final(TaskState::Failed),
    }
}
