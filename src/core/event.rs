//! Everything that may enter the machine, in the past tense.

use std::sync::Arc;

use super::candidate::Observed;
use super::check::Checked;
use super::disposition::{Disposed, Phase};
use super::id::{AttemptId, Name, RunId, Wall};
use super::ledger::Placed;
use super::model::Model;
use super::path::Bytes;
use super::record::SignalInfo;
use super::selector::Selector;
use super::task::Ended;

/// A fact from outside.
#[derive(Clone, Debug)]
pub enum Event {
    /// Time passed: a deadline or an occurrence may be due.
    Tick,
    /// The calendar clock was set: what was due then may not be due now, and the reverse.
    ClockSet,
    /// The watch side looked at paths.
    Observed(Observed),
    /// The watch side knows on which file systems a trigger's files lie.
    Placed {
        /// The trigger.
        trigger: Name,
        /// The file systems.
        places: Vec<Placed>,
    },
    /// The watch side has gone through all of a trigger's folder.
    Scanned {
        /// The trigger.
        trigger: Name,
    },
    /// The watch side has counted the files that a first scan would deliver.
    Counted {
        /// The trigger.
        trigger: Name,
        /// How many; counting stops one above the trigger's `initial_max`.
        files: u64,
    },
    /// A file was checked.
    Checked(Checked),
    /// A signal came.
    Signalled {
        /// The trigger that is configured for it.
        trigger: Name,
        /// Sender and value.
        info: SignalInfo,
    },
    /// An attempt's executor saw its end.
    Ended {
        /// Which attempt.
        id: AttemptId,
        /// How.
        ended: Ended,
    },
    /// A file was disposed of, or could not be.
    Moved {
        /// The run.
        run: RunId,
        /// Index in the run's files.
        file: u32,
        /// Which of its dispositions it was.
        phase: Phase,
        /// What came of it.
        outcome: Disposed,
    },
    /// A new configuration is valid.
    Reloaded(Arc<Model>),
    /// What left the configuration before this time need not be remembered any more.
    Expired {
        /// The time.
        before: Wall,
    },
    /// dagd was asked to stop; asked again, it hastens.
    StopRequested,
    /// A person asked for something; the answer goes to the token.
    Requested {
        /// Whom to answer.
        token: u64,
        /// What.
        request: Request,
    },
}

/// What a person can ask of the machine.
#[derive(Clone, Debug)]
pub enum Request {
    /// Start a run by hand.
    Fire(Fire),
    /// Cancel a run, or one task of it.
    Cancel {
        /// The run.
        run: RunId,
        /// The task; `None`: all.
        task: Option<Name>,
    },
    /// Take no new work from a trigger.
    Pause {
        /// The trigger.
        trigger: Name,
    },
    /// Take work again.
    Resume {
        /// The trigger.
        trigger: Name,
    },
}

/// A start by hand, by `retry` or by `replay`.
#[derive(Clone, Debug)]
pub struct Fire {
    /// What to run.
    pub what: FireWhat,
    /// Files to run for; as the trigger would have delivered them.
    pub files: Vec<FireFile>,
}

/// What a start by hand runs.
#[derive(Clone, Debug)]
pub enum FireWhat {
    /// A trigger's selection, under its policies.
    Trigger(Name),
    /// The same, for files that were delivered before.
    Replay(Name),
    /// A selection, at once.
    Select(Selector),
    /// A finished run once more.
    Retry(Box<RetryOf>),
}

/// A finished run, as far as a retry needs it.
#[derive(Clone, Debug)]
pub struct RetryOf {
    /// The run.
    pub run: RunId,
    /// Its trigger; it may be gone from the configuration.
    pub trigger: Option<Name>,
    /// Its selection.
    pub select: Selector,
    /// The signal that it was for.
    pub signal: Option<SignalInfo>,
    /// The occurrence that it was for.
    pub scheduled: Option<Wall>,
    /// Tasks that are not run again, with what they wrote to `DAGD_OUTPUT`.
    pub keep: Vec<(Name, std::collections::BTreeMap<String, String>)>,
}

/// A file that a start by hand names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FireFile {
    /// Path relative to the trigger's root; the name for a file outside.
    pub rel: Bytes,
    /// Where it is now, absolute.
    pub path: Bytes,
    /// Its version now.
    pub version: super::candidate::Version,
    /// Whether it lies at its place below the trigger's root, so that the ledger is to know.
    pub in_place: bool,
}
