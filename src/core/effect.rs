//! Everything that may leave the machine: records to store, then commands to act on.

use std::sync::Arc;

use super::check::Check;
use super::disposition::{Goal, Phase};
use super::id::{AttemptId, Name, RunId, Wall};
use super::path::Bytes;
use super::record::{FileClaim, Record, RunState};
use super::run::RunInfo;
use super::sidecar::Sidecar;
use super::task::TaskSpec;
use super::trigger::{FileType, OnConflict};

/// What a step asks for. The records are committed before any command is acted on.
#[derive(Debug, Default)]
pub struct Out {
    /// To store, in order, in one transaction.
    pub records: Vec<Record>,
    /// To act on afterwards, in order.
    pub commands: Vec<Command>,
}

impl Out {
    /// Whether nothing is asked for.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty() && self.commands.is_empty()
    }
}

/// How an attempt's processes are ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// Asked to end.
    Term,
    /// Ended.
    Kill,
    /// Only told, by this signal.
    Signal(i32),
}

/// A thing to do, in the imperative.
#[derive(Clone, Debug)]
pub enum Command {
    /// Start an attempt.
    Start(Start),
    /// Send a signal to an attempt's processes.
    Stop {
        /// The attempt.
        id: AttemptId,
        /// Which.
        how: Stop,
    },
    /// Dispose of a file. Only after its record is on disk.
    Move(Move),
    /// Look at a path again.
    Look {
        /// The trigger.
        trigger: Name,
        /// The path below its root.
        rel: Bytes,
    },
    /// Look at a path again whose time may have been set, and find out whether that is all.
    Recheck {
        /// The trigger.
        trigger: Name,
        /// The path below its root.
        rel: Bytes,
    },
    /// Go through all of a trigger's folder.
    Scan {
        /// The trigger.
        trigger: Name,
    },
    /// Count what a first scan would deliver, up to one above `limit`.
    Count {
        /// The trigger.
        trigger: Name,
        /// Where to stop.
        limit: u64,
    },
    /// Check a file.
    Check(Box<Check>),
    /// Nobody waits any more for the checks of a trigger that were asked for so far.
    Uncheck {
        /// The trigger.
        trigger: Name,
    },
    /// Tell that a file has waited for longer than its trigger's `ready_alarm`.
    Alarm {
        /// The trigger.
        trigger: Name,
        /// The path below its root.
        rel: Bytes,
        /// Since when it has been waited for.
        since: Wall,
        /// Whether others of the trigger are only counted for a while.
        last: bool,
    },
    /// Send no more of a trigger's paths: the folder is the queue.
    Hold {
        /// The trigger.
        trigger: Name,
    },
    /// Send them again.
    Release {
        /// The trigger.
        trigger: Name,
    },
    /// A run has ended: tell who waits for it, and clear away its event files.
    Finished {
        /// The run.
        run: RunId,
        /// How.
        state: RunState,
    },
    /// Answer a request.
    Reply {
        /// Whom.
        token: u64,
        /// What.
        reply: Reply,
    },
    /// Everything has stopped: dagd may exit.
    Exit,
}

/// An attempt to start.
#[derive(Clone, Debug)]
pub struct Start {
    /// Which.
    pub id: AttemptId,
    /// The task.
    pub task: Arc<TaskSpec>,
    /// The run.
    pub run: Arc<RunInfo>,
    /// Names of the run's tasks that have failed so far.
    pub failed: Vec<Name>,
    /// Outputs of the tasks that this one depends on, directly or not, as far as it names them.
    pub outputs: Vec<(Name, std::collections::BTreeMap<String, String>)>,
}

/// A file to dispose of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Move {
    /// The run.
    pub run: RunId,
    /// Index in the run's files.
    pub file: u32,
    /// Which of its dispositions this is.
    pub phase: Phase,
    /// The trigger, whose other files need not wait for this one longer than they must.
    pub trigger: Option<Name>,
    /// The file, where it is and as the version that it is to be.
    pub claim: FileClaim,
    /// What is to become of it.
    pub goal: Goal,
    /// What to do where the place is taken.
    pub on_conflict: OnConflict,
    /// What it is.
    pub file_type: FileType,
    /// Files beside it that go along.
    pub companions: Vec<Sidecar>,
    /// Whether it was tried before, perhaps by a dagd that died while it did.
    pub again: bool,
}

/// An answer to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Done.
    Done,
    /// The start was accepted and already has its run.
    Run(RunId),
    /// The start was accepted and waits for its run.
    Queued(super::id::ItemId),
    /// It cannot be done: not found.
    NotFound(String),
    /// It cannot be done: refused.
    Refused(String),
}
