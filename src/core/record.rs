//! The facts that are stored, in the past tense.
//!
//! A record names one aggregate. All changes of durable state go through
//! [`super::machine::Machine`]'s `evolve`, live and in recovery alike. The store keeps the records of
//! what lives, and turns those of a run that ends into history rows in the same transaction.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::bound::Bound;
use super::calendar::TimeMark;
use super::candidate::{Kind, Origin, Version};
use super::disposition::{Disposition, Goal, MoveResult, Phase};
use super::id::{Attempt, ItemId, Name, NodeIx, Rev, RunId, Wall};
use super::ledger::{Noted, Placed};
use super::path::Bytes;
use super::selector::Selector;
use super::task::{Ended, StopCause, Verdict};
use super::trigger::Group;

/// What a record belongs to: the unit that is stored, folded and deleted together.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Aggregate {
    /// A run.
    Run(RunId),
    /// An accepted event that waits for its run.
    Item(ItemId),
    /// A trigger.
    Trigger(Name),
    /// Nothing that lives: the record only changes the ledger.
    Ledger(Name),
}

/// A fact.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Record {
    /// An event was accepted and waits for its run.
    ItemQueued(ItemQueued),
    /// An accepted event was dropped or merged, by policy.
    ItemDropped {
        /// The item.
        item: ItemId,
        /// Its trigger.
        trigger: Option<Name>,
        /// The policy, in words.
        reason: String,
        /// When.
        at: Wall,
    },
    /// A run was created, and its files claimed.
    RunCreated(Box<RunCreated>),
    /// An attempt is about to start.
    AttemptStarted {
        /// The run.
        run: RunId,
        /// The task.
        node: NodeIx,
        /// The try.
        attempt: Attempt,
        /// When.
        at: Wall,
    },
    /// An attempt ended.
    AttemptEnded {
        /// The run.
        run: RunId,
        /// The task.
        node: NodeIx,
        /// The try.
        attempt: Attempt,
        /// How.
        ended: Box<Ended>,
        /// Why dagd ended it, if it did.
        stop: Option<StopCause>,
        /// What that means for the task.
        verdict: Verdict,
    },
    /// A run, or one task of it, was asked to be cancelled.
    CancelRequested {
        /// The run.
        run: RunId,
        /// The task; `None`: all.
        node: Option<NodeIx>,
        /// By whom or what.
        reason: String,
        /// When.
        at: Wall,
    },
    /// What will become of a file of a run.
    MovePlanned {
        /// The run.
        run: RunId,
        /// Index in the run's files.
        file: u32,
        /// Before its first task, or after its last.
        phase: Phase,
        /// What.
        goal: Goal,
        /// When.
        at: Wall,
    },
    /// What came of it.
    MoveDone {
        /// The run.
        run: RunId,
        /// Index in the run's files.
        file: u32,
        /// Before its first task, or after its last.
        phase: Phase,
        /// The outcome.
        result: MoveResult,
        /// When.
        at: Wall,
    },
    /// A run ended: its records become history.
    RunEnded {
        /// The run.
        run: RunId,
        /// How.
        state: RunState,
        /// When.
        at: Wall,
    },
    /// A trigger takes no new work.
    TriggerPaused {
        /// The trigger.
        trigger: Name,
        /// By whom or what.
        reason: String,
        /// Whether its first scan did, by what it found.
        #[serde(default)]
        flooded: bool,
        /// When.
        at: Wall,
    },
    /// A trigger takes work again.
    TriggerResumed {
        /// The trigger.
        trigger: Name,
        /// When.
        at: Wall,
    },
    /// Where a trigger's files lie from now on: what is missing on one file system tells nothing
    /// about what was delivered from another.
    FilesPlaced {
        /// The trigger.
        trigger: Name,
        /// The file systems; the root's is among them.
        places: Vec<Placed>,
        /// When.
        at: Wall,
    },
    /// A trigger's first scan is decided: from now on the ledger tells what is new.
    TriggerArmed {
        /// The trigger.
        trigger: Name,
        /// When.
        at: Wall,
    },
    /// A trigger that something is known of is not configured any more.
    TriggerLeft {
        /// The trigger.
        trigger: Name,
        /// When.
        at: Wall,
    },
    /// It is configured again.
    TriggerBack {
        /// The trigger.
        trigger: Name,
        /// When.
        at: Wall,
    },
    /// A trigger was given another name: all that was known of it is known of that one, its live
    /// runs and accepted events included.
    TriggerRenamed {
        /// Its former name.
        from: Name,
        /// Its name.
        to: Name,
        /// When.
        at: Wall,
    },
    /// What the accepted events of a trigger need to be run, should it leave the configuration.
    TriggerBound {
        /// The trigger.
        trigger: Name,
        /// What.
        bound: Box<Bound>,
        /// When.
        at: Wall,
    },
    /// A trigger that has left the configuration has nothing left to do.
    TriggerDrained {
        /// The trigger.
        trigger: Name,
        /// When.
        at: Wall,
    },
    /// Nothing is known of a trigger any more.
    TriggerForgotten {
        /// The trigger.
        trigger: Name,
        /// When.
        at: Wall,
    },
    /// What time means for a trigger is settled up to a point.
    TimeMarked {
        /// The trigger.
        trigger: Name,
        /// Up to where.
        mark: TimeMark,
    },
    /// A version was remembered without a run: a baseline, or a change that is no work.
    FileNoted {
        /// The trigger.
        trigger: Name,
        /// The path below its root.
        rel: Bytes,
        /// The version.
        version: Version,
        /// Why there is no run for it.
        why: Noted,
        /// When.
        at: Wall,
    },
    /// The time of a delivered file was set back: it is the version that was delivered.
    FileStamped {
        /// The trigger.
        trigger: Name,
        /// The path below its root.
        rel: Bytes,
        /// The version that it is now.
        version: Version,
        /// The live run that it was delivered to; `None` if that has ended, or there was none.
        run: Option<RunId>,
        /// When.
        at: Wall,
    },
    /// The delivered version has left its path.
    FileDeparted {
        /// The trigger.
        trigger: Name,
        /// The path below its root.
        rel: Bytes,
        /// When.
        at: Wall,
    },
}

/// An accepted event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ItemQueued {
    /// Its number.
    pub item: ItemId,
    /// The trigger under whose policies it waits; `None`: it waits for nothing but room.
    pub trigger: Option<Name>,
    /// What to run, if not the trigger's selection.
    pub select: Option<Selector>,
    /// Why.
    pub reason: Reason,
    /// The signal, if it was one.
    pub signal: Option<SignalInfo>,
    /// The occurrence, if it was one of a schedule.
    pub scheduled: Option<Wall>,
    /// Files named by hand.
    pub files: Vec<FileClaim>,
    /// The run that it repeats.
    pub parent: Option<RunId>,
    /// Tasks of that run that are not run again, with their outputs.
    pub keep: Vec<(Name, BTreeMap<String, String>)>,
    /// When.
    pub at: Wall,
}

impl ItemQueued {
    /// Whether it and others of its kind can become one run: nobody asked for each of them.
    pub fn merges(&self) -> bool {
        matches!(self.reason, Reason::Signal | Reason::Schedule | Reason::Absence)
    }

    /// Whether it brings back a run that gave way to newer work of its key.
    pub fn gave_way(&self) -> bool {
        self.parent.is_some() && self.reason != Reason::Retry
    }
}

/// Why a run exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The kernel hinted at a file.
    Event,
    /// A scan found a file.
    Scan,
    /// A signal came.
    Signal,
    /// A schedule was due.
    Schedule,
    /// Another trigger was silent.
    Absence,
    /// A person asked.
    Manual,
    /// A person asked for a finished run once more.
    Retry,
    /// A person asked for a file once more.
    Replay,
}

impl Reason {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Event => "event",
            Self::Scan => "scan",
            Self::Signal => "signal",
            Self::Schedule => "schedule",
            Self::Absence => "absence",
            Self::Manual => "manual",
            Self::Retry => "retry",
            Self::Replay => "replay",
        }
    }
}

impl From<Origin> for Reason {
    fn from(origin: Origin) -> Self {
        match origin {
            Origin::Event | Origin::Look | Origin::Stamp => Self::Event,
            Origin::Scan => Self::Scan,
        }
    }
}

/// A signal as it came.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignalInfo {
    /// Its name as configured, such as `SIGUSR1` or `SIGRTMIN+1`.
    pub signal: Name,
    /// The value queued with a real-time signal.
    pub value: Option<i32>,
    /// The sender's process, where the kernel tells.
    pub pid: Option<i32>,
    /// The sender's user, where the kernel tells.
    pub uid: Option<u32>,
}

/// A file that a run is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileClaim {
    /// Its path below the trigger's root.
    pub rel: Bytes,
    /// Its absolute path when it was claimed.
    pub path: Bytes,
    /// What happened to it.
    pub kind: Kind,
    /// Which version.
    pub version: Version,
    /// When that version was seen first.
    pub first_seen_at: Wall,
    /// Whether the ledger remembers it as delivered from its place below the root.
    pub in_place: bool,
    /// The key under which no other file is delivered, where the trigger has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<Bytes>,
}

/// A run, as created.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunCreated {
    /// Its number.
    pub run: RunId,
    /// The trigger.
    pub trigger: Option<Name>,
    /// The name of the trigger when the run was created, if it was given another one since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub formerly: Option<Name>,
    /// The graph that it is pinned to.
    pub rev: Rev,
    /// The selection.
    pub select: Selector,
    /// Why.
    pub reason: Reason,
    /// The accepted events that it consumes.
    pub items: Vec<ItemId>,
    /// The files that it claims.
    pub files: Vec<FileClaim>,
    /// The signal that it is for.
    pub signal: Option<SignalInfo>,
    /// The occurrence of a schedule that it is for. Dates in names are of it, and so is the offset.
    pub scheduled: Option<Wall>,
    /// The trigger's folder.
    pub root: Option<Bytes>,
    /// What becomes of its files.
    pub disposition: Disposition,
    /// The key under which it is busy.
    pub key: Bytes,
    /// What its files have in common, where runs are for that.
    pub group: Option<Group>,
    /// The run that it repeats.
    pub parent: Option<RunId>,
    /// Tasks of that run that are not run again, with their outputs.
    pub keep: Vec<(Name, BTreeMap<String, String>)>,
    /// Source of its jitter.
    pub seed: u64,
    /// When. Dates in names are frozen at it.
    pub at: Wall,
    /// Seconds east of UTC at that time.
    pub utc_offset_s: i32,
}

impl RunCreated {
    /// The trigger's name for the run's tasks: it stays the same for as long as the run lives, and
    /// so does whatever is made from it.
    pub fn trigger_told(&self) -> Option<&Name> {
        self.formerly.as_ref().or(self.trigger.as_ref())
    }

    /// The trigger was given another name.
    pub fn rename(&mut self, to: &Name) {
        let Some(from) = self.trigger.replace(to.clone()) else { return };
        if self.key.as_bytes() == from.as_bytes() {
            self.key = Bytes::from(&**to);
        }
        self.formerly.get_or_insert(from);
    }

    /// The time that dates in names tell, with its offset from UTC in seconds.
    pub fn date(&self) -> (Wall, i32) {
        (self.scheduled.unwrap_or(self.at), self.utc_offset_s)
    }
}

/// A run's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunState {
    /// No attempt has started.
    Queued,
    /// One has.
    Running,
    /// Ended; nothing failed or was cancelled.
    Succeeded,
    /// Ended; a task failed, timed out or was lost.
    Failed,
    /// Ended; nothing failed, a task was cancelled.
    Cancelled,
}

impl RunState {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// Whether it is the end.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled)
    }
}

impl Record {
    /// What the record belongs to.
    pub fn aggregate(&self) -> Aggregate {
        match self {
            Self::ItemQueued(queued) => Aggregate::Item(queued.item),
            Self::ItemDropped { item, .. } => Aggregate::Item(*item),
            Self::RunCreated(created) => Aggregate::Run(created.run),
            Self::AttemptStarted { run, .. }
            | Self::AttemptEnded { run, .. }
            | Self::CancelRequested { run, .. }
            | Self::MovePlanned { run, .. }
            | Self::MoveDone { run, .. }
            | Self::FileStamped { run: Some(run), .. }
            | Self::RunEnded { run, .. } => Aggregate::Run(*run),
            Self::TriggerPaused { trigger, .. }
            | Self::TriggerResumed { trigger, .. }
            | Self::TriggerArmed { trigger, .. }
            | Self::TriggerLeft { trigger, .. }
            | Self::TriggerBack { trigger, .. }
            | Self::TriggerBound { trigger, .. }
            | Self::TriggerDrained { trigger, .. }
            | Self::TriggerForgotten { trigger, .. }
            | Self::TimeMarked { trigger, .. }
            | Self::TriggerRenamed { to: trigger, .. } => Aggregate::Trigger(trigger.clone()),
            Self::FilesPlaced { trigger, .. }
            | Self::FileNoted { trigger, .. }
            | Self::FileStamped { trigger, run: None, .. }
            | Self::FileDeparted { trigger, .. } => Aggregate::Ledger(trigger.clone()),
        }
    }
}
