//! Watches folders: hints from the kernel, own recursion, resumable scans, looks at files.
//!
//! Owns the thread that turns hints into observations, and its handle. Says only "look here" and
//! "this is what I saw": what a change means is decided in [`crate::core::candidate`]. Events are
//! hints, the directory is the truth; whatever was lost becomes a scan, never silence.

pub mod arm;
pub mod backend;
pub mod backends;
pub mod confirm;
pub mod cover;
pub mod descend;
pub mod desk;
pub mod dirty;
pub mod fanotify;
pub mod flood;
pub mod hints;
pub mod ignores;
pub mod inotify;
pub mod limits;
pub mod links;
pub mod listing;
pub mod means;
pub mod measure;
pub mod mounts;
pub mod places;
pub mod pulse;
pub mod reach;
pub mod recover;
pub mod report;
pub mod roots;
pub mod rules;
pub mod scan;
pub mod seek;
pub mod staff;
pub mod stamps;
pub mod sweep;
pub mod way;
pub mod worker;

use std::io;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use crossbeam_channel::Sender;

use crate::core::candidate::{Observed, Row};
use crate::core::id::Name;
use crate::core::ledger::Placed;
use crate::core::path::Bytes;
use crate::core::trigger::TriggerSpec;

use desk::{Desk, Parts};
use places::Places;

/// What the watch thread reads of the ledger, each call in one snapshot that is at least as new as
/// the sequence number read before it.
pub trait Ledger: Send {
    /// Another one like it, for another thread.
    fn another(&self) -> Box<dyn Ledger>;

    /// The row of a path relative to the trigger's root.
    fn row(&mut self, trigger: &str, rel: &Bytes) -> Option<Row>;

    /// Open rows of files right in `dir` (relative to the root, empty for the root itself) that
    /// were delivered from the file system `place`, or from nobody knows which, and whose name is
    /// greater than `after`, in order of their names, `limit` at most.
    fn open_rows(
        &mut self,
        trigger: &str,
        dir: &[u8],
        place: &str,
        after: &[u8],
        limit: usize,
    ) -> Vec<(Bytes, Row)>;

    /// Whether the open row of a path was delivered from the file system `place`, or from nobody
    /// knows which.
    fn is_of(&mut self, trigger: &str, rel: &Bytes, place: &str) -> bool;

    /// The directories (relative to the root) greater than `after` that hold open rows, in order,
    /// `limit` at most.
    fn dirs(&mut self, trigger: &str, after: &[u8], limit: usize) -> Vec<Bytes>;
}

/// What the watch side tells, and the number of the arming under which it was found.
#[derive(Debug)]
pub struct Told {
    /// As [`WatchHandle::arm`] gave it, or greater: what is told of a trigger under a lower number
    /// than before is out of date.
    pub arming: u64,
    /// What.
    pub what: FromWatch,
}

/// What the watch side tells.
#[derive(Debug)]
pub enum FromWatch {
    /// What it saw.
    Observed(Observed),
    /// The folder of a trigger may not answer: nobody should wait for it.
    Apart {
        /// The trigger.
        trigger: Name,
    },
    /// Where a trigger's files lie: what is told of it after this was seen there.
    Placed {
        /// The trigger.
        trigger: Name,
        /// The file systems.
        places: Vec<Placed>,
    },
    /// A full scan of a trigger has ended; all that it found was sent before.
    Scanned {
        /// The trigger.
        trigger: Name,
    },
    /// A count has ended.
    Counted {
        /// The trigger.
        trigger: Name,
        /// How many matching regular files, the asked limit plus one at most.
        files: u64,
    },
}

/// What the watch side is told. Orders for a trigger are followed in order.
#[derive(Debug)]
pub enum ToWatch {
    /// Scan all of a trigger; asked while a scan runs, another one follows it.
    Scan(Name),
    /// Count a trigger's matching files, up to this limit plus one.
    Count(Name, u64),
    /// Look at a path relative to the trigger's root, and report whatever is there.
    Look(Name, Bytes),
    /// Look at a path whose time may have been set, and report it unless it is as the ledger says.
    Recheck(Name, Bytes),
    /// Report no hints and scan results of a trigger for now.
    Hold(Name),
    /// Go on with a held trigger.
    Release(Name),
}

impl ToWatch {
    /// The trigger that an order is for.
    pub fn trigger(&self) -> &Name {
        match self {
            Self::Scan(name)
            | Self::Count(name, _)
            | Self::Look(name, _)
            | Self::Recheck(name, _)
            | Self::Hold(name)
            | Self::Release(name) => name,
        }
    }
}

/// How well a trigger is covered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Coverage {
    /// The trigger.
    pub trigger: Name,
    /// Whether its root exists.
    pub exists: bool,
    /// Directories covered, those that have to be polled included.
    pub directories: u64,
    /// How completeness is established: `proved` or `inferred`.
    pub readiness: &'static str,
    /// How changes are noticed: `events`, `scans`, or both.
    pub noticed_by: &'static str,
    /// What is not as it should be, each with its remedy.
    pub problems: Vec<String>,
    /// How long its file system has not answered, if it does not.
    pub silent: Option<Duration>,
    /// Whether its file system may not answer, so that nobody waits for what is found there.
    pub apart: bool,
}

impl Coverage {
    /// Whether its root is not there. Of one that may not answer that is not said.
    pub fn is_missing(&self) -> bool {
        !self.exists && !self.apart && self.problems.is_empty()
    }

    /// Of a trigger of which nothing is known yet.
    fn unknown(trigger: Name) -> Self {
        Self {
            trigger,
            exists: false,
            directories: 0,
            readiness: "inferred",
            noticed_by: "scans",
            problems: Vec::new(),
            silent: None,
            apart: true,
        }
    }
}

/// The coverage of a worker's triggers, as published by it.
// lock: written by the worker, read by whoever shows the status; held for a copy only
type Published = Arc<Mutex<Vec<Coverage>>>;

/// Tells the watch side what to do. Cheap to clone. Nothing here waits for a file system.
#[derive(Clone)]
pub struct WatchHandle {
    desk: Arc<Desk>,
}

impl WatchHandle {
    /// Covers this full set of triggers; others are ignored, differences are found there. Returns
    /// the number with which all that is found under them is told. `ack` hears when all directories
    /// are watched under existing roots that answer; it is dropped when another one comes before that.
    pub fn arm(&self, specs: Vec<Arc<TriggerSpec>>, ack: Option<Sender<()>>) -> u64 {
        self.desk.arm(specs, ack)
    }

    /// Hands over an order.
    pub fn send(&self, to: ToWatch) {
        self.desk.send(to);
    }

    /// How well each trigger is covered, as last published.
    pub fn coverage(&self) -> Vec<Coverage> {
        self.desk.coverage()
    }

    /// Times that hints were lost and a scan made up for it, since the start.
    pub fn overflows(&self) -> u64 {
        self.desk.overflows.load(Ordering::Relaxed)
    }

    /// Ends all threads.
    pub fn stop(&self) {
        self.desk.stop();
    }
}

/// Limits that a test may want to be small.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Hints that wait, at most; more collapse to a scan of their roots.
    pub dirty: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { dirty: dirty::DIRTY_MAX }
    }
}

/// Starts the watch side. `committed` is the sequence number of the newest committed state, read
/// before the first look of each batch. `out` should be bounded: the threads may wait on it. The
/// handle of the thread that ends last is returned; it panics if another one did.
/// Errors: a thread cannot be started. Without inotify folders are polled, which the coverage tells.
pub fn spawn(
    ledger: Box<dyn Ledger>,
    committed: Arc<AtomicU64>,
    out: Sender<Told>,
) -> io::Result<(WatchHandle, JoinHandle<()>)> {
    spawn_with(ledger, committed, out, Limits::default())
}

/// The same as [`spawn`], with other limits.
pub fn spawn_with(
    ledger: Box<dyn Ledger>,
    committed: Arc<AtomicU64>,
    out: Sender<Told>,
    limits: Limits,
) -> io::Result<(WatchHandle, JoinHandle<()>)> {
    let places = Arc::new(Places::new()?);
    let desk = Desk::open(Parts { ledger, committed, out, places: places.clone(), limits })?;
    let handle = WatchHandle { desk: desk.clone() };
    let thread = Builder::new().name("dagd-places".to_owned()).spawn(move || {
        places.run(|| desk.check());
        if let Err(panic) = desk.close() {
            resume_unwind(panic);
        }
    })?;
    Ok((handle, thread))
}
