//! The control API: HTTP over a Unix socket, for the command line and `curl --unix-socket`.
//!
//! Owns the socket and the connections. Decides nothing about runs: what changes state is asked of
//! the engine as an [`Ask`], what is past is read through [`History`], what lies on disk is looked
//! at in threads. Never keeps the engine waiting: every reply goes to a oneshot.

mod act;
mod door;
mod explain;
mod files;
mod held;
mod logs;
mod mark;
mod patience;
mod place;
mod refuse;
mod reply;
mod room;
mod routes;
mod server;
mod threads;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::oneshot;

use crate::config::Group;
use crate::core::candidate::Version;
use crate::core::effect::Reply;
use crate::core::event::Request;
use crate::core::graph::Graph;
use crate::core::id::{ItemId, Name, Rev, RunId, Wall};
use crate::core::path::Bytes;
use crate::core::record::{FileClaim, RunState, SignalInfo};
use crate::core::selector::Selector;
use crate::core::trigger::TriggerSpec;
use crate::wire;

pub use door::make_folder;
pub use explain::{View, explain};
pub use mark::is_served;
pub use place::{below, rule_against};
pub use refuse::refuse;
pub use server::{Server, Socket, spawn};

/// Questions that wait for the engine, at most. A client that leaves takes none back, so that half of
/// them are for those who may act; further ones are told to come again.
pub const ASKS_MAX: usize = 64;

/// Runs in one listing, at most: some 40 MB of JSON.
pub const RUNS_MAX: usize = 100_000;

/// What the server asks of the engine. A sender that is dropped without an answer means that the
/// engine is gone, or what the variant says.
#[derive(Debug)]
pub enum Ask {
    /// Something that the machine decides.
    Request(Request, oneshot::Sender<Reply>),
    /// The daemon at a glance.
    Status(oneshot::Sender<wire::Status>),
    /// What waits.
    Pending(oneshot::Sender<Vec<wire::PendingEntry>>),
    /// What a live run cannot move yet: the index of each such file with the reason.
    Stuck(RunId, oneshot::Sender<Vec<(usize, String)>>),
    /// Answered when the run has ended; dropped if no such run is alive.
    Wait(RunId, oneshot::Sender<RunState>),
    /// Answered when the accepted event has become a run; dropped if it waits no more.
    Item(ItemId, oneshot::Sender<RunId>),
    /// Where an attempt in flight writes its output now; dropped if it is not in flight.
    LiveLog(LiveLog, oneshot::Sender<PathBuf>),
    /// Read the configuration again; answered with the outcome.
    Reload(oneshot::Sender<wire::Reload>),
    /// Stop gracefully; answered when stopping has begun.
    Stop(oneshot::Sender<()>),
}

impl Ask {
    /// Whether nobody waits for the answer any more. A stop holds all the same.
    pub fn is_given_up(&self) -> bool {
        match self {
            Self::Request(_, reply) => reply.is_closed(),
            Self::Status(reply) => reply.is_closed(),
            Self::Pending(reply) => reply.is_closed(),
            Self::Stuck(_, reply) => reply.is_closed(),
            Self::Wait(_, reply) => reply.is_closed(),
            Self::Item(_, reply) => reply.is_closed(),
            Self::LiveLog(_, reply) => reply.is_closed(),
            Self::Reload(reply) => reply.is_closed(),
            Self::Stop(_) => false,
        }
    }
}

/// An attempt, as the API names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveLog {
    /// The run.
    pub run: RunId,
    /// The task.
    pub task: Name,
    /// The try, from 1.
    pub attempt: u32,
}

/// The triggers in force.
pub type Triggers = Arc<dyn Fn() -> Vec<Arc<TriggerSpec>> + Send + Sync>;

/// Opens the history for reading; an `Err` says why it cannot be read.
pub type OpenHistory = Arc<dyn Fn() -> Result<Box<dyn History + Send>, String> + Send + Sync>;

/// Where the server's answers come from.
#[derive(Clone)]
pub struct Sources {
    /// To the engine. Bounded by [`ASKS_MAX`].
    pub asks: crossbeam_channel::Sender<Ask>,
    /// The state folder.
    pub state_dir: PathBuf,
    /// The triggers in force.
    pub triggers: Triggers,
    /// The history.
    pub reader: OpenHistory,
    /// Whose members may act, beside root and the user that this is.
    pub write_group: Option<Group>,
}

/// Which runs to list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunFilter {
    /// How many, at most; never above [`RUNS_MAX`].
    pub limit: usize,
    /// Only this trigger's.
    pub trigger: Option<String>,
    /// Only those in this state.
    pub state: Option<String>,
}

/// What the ledger tells of a path under a trigger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// The version that was delivered last, or remembered.
    pub version: Version,
    /// Whether it was still at its path when dagd last looked.
    pub open: bool,
    /// The run it was delivered to; `None` for a baseline.
    pub run: Option<RunId>,
    /// That run's state; `baseline` without one.
    pub state: String,
    /// Whether the version stays out until somebody asks for it: that run has failed.
    pub quarantined: bool,
    /// Where that run took the file.
    pub location: Option<Bytes>,
    /// What came of disposing of it: a word and, where it is not where it was to be, why.
    pub outcome: Option<(String, Option<String>)>,
}

/// A finished run, as far as a retry needs it.
#[derive(Clone, Debug)]
pub struct RetrySource {
    /// Its trigger; it may be gone from the configuration.
    pub trigger: Option<Name>,
    /// Its selection.
    pub select: Selector,
    /// The graph that it was pinned to, by name.
    pub rev: Rev,
    /// That graph; `None` if it is no longer kept.
    pub graph: Option<Arc<Graph>>,
    /// The run's state.
    pub state: String,
    /// The signal that it was for.
    pub signal: Option<SignalInfo>,
    /// The occurrence that it was for.
    pub scheduled: Option<Wall>,
    /// Its files, each with the place where it is; `None`: that run has deleted it.
    pub files: Vec<(FileClaim, Option<Bytes>)>,
    /// Its tasks with the word for their state and what they wrote to `DAGD_OUTPUT`.
    pub tasks: Vec<(Name, String, BTreeMap<String, String>)>,
}

/// The past, and the live as far as it is stored. Every `Err` is a text for people.
pub trait History {
    /// Runs, newest first.
    fn runs(&mut self, filter: &RunFilter) -> Result<Vec<wire::Run>, String>;
    /// One run; `None` if there is no such run.
    fn run(&mut self, id: RunId) -> Result<Option<wire::RunDetail>, String>;
    /// What the ledger tells of `rel` under `trigger`.
    fn explain_row(&mut self, trigger: &str, rel: &Bytes) -> Result<Option<Told>, String>;
    /// Triggers and relative paths from which runs moved a file to the absolute `path`.
    fn located(&mut self, path: &Bytes) -> Result<Vec<(Name, Bytes)>, String>;
    /// How many files of each trigger stay where they came in because their run has failed.
    fn quarantined(&mut self) -> Result<Vec<(Name, u64)>, String>;
    /// What a retry of a finished run needs; `None` if the run is not finished or not there.
    fn retry_source(&mut self, id: RunId) -> Result<Option<RetrySource>, String>;
}
