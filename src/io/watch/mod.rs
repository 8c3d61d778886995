//! Watches folders: hints from the kernel, own recursion, resumable scans, looks at files.
//!
//! Owns the thread that turns hints into observations, and its handle. Says only "look here" and
//! "this is what I saw": what a change means is decided in [`crate::core::candidate`]. Events are
//! hints, the directory is the truth; whatever was lost becomes a scan, never silence.

pub mod arm;
pub mod backend;
pub mod cover;
pub mod descend;
pub mod dirty;
pub mod hints;
pub mod inotify;
pub mod mounts;
pub mod places;
pub mod recover;
pub mod report;
pub mod roots;
pub mod scan;
pub mod seek;
pub mod sweep;
pub mod way;
pub mod worker;

use std::io;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{Builder, JoinHandle};

use crossbeam_channel::Sender;

use crate::core::candidate::{Observed, Row};
use crate::core::id::Name;
use crate::core::path::Bytes;
use crate::core::trigger::TriggerSpec;

use dirty::Inbox;
use places::Places;
use report::Reporter;
use worker::Worker;

/// What the watch thread reads of the ledger, each call in one snapshot that is at least as new as
/// the sequence number read before it.
pub trait Ledger: Send {
    /// The row of a path relative to the trigger's root.
    fn row(&mut self, trigger: &str, rel: &Bytes) -> Option<Row>;

    /// Open rows of files right in `dir` (relative to the root, empty for the root itself) whose
    /// name is greater than `after`, in order of their names, `limit` at most.
    fn open_rows(
        &mut self,
        trigger: &str,
        dir: &[u8],
        after: &[u8],
        limit: usize,
    ) -> Vec<(Bytes, Row)>;

    /// The directories (relative to the root) greater than `after` that hold open rows, in order,
    /// `limit` at most.
    fn dirs(&mut self, trigger: &str, after: &[u8], limit: usize) -> Vec<Bytes>;
}

/// What the watch thread tells.
#[derive(Debug)]
pub enum FromWatch {
    /// What it saw.
    Observed(Observed),
    /// An [`ToWatch::Arm`] is taken up: what follows was found under the triggers that it named.
    Rearmed,
    /// A full scan of a trigger has ended; all that it found was sent before.
    Scanned {
        /// The trigger.
        trigger: Name,
    },
    /// A count has ended.
    Counted {
        /// The trigger.
        trigger: Name,
        /// Matching regular files, the asked limit plus one at most.
        files: u64,
    },
}

/// What the watch thread is told. Orders are followed in order.
#[derive(Debug)]
pub enum ToWatch {
    /// The full set of triggers to cover; others are ignored, differences are found here. The
    /// sender hears when all directories under existing roots are watched.
    Arm(Vec<Arc<TriggerSpec>>, Option<Sender<()>>),
    /// Scan all of a trigger; asked while a scan runs, another one follows it.
    Scan(Name),
    /// Count a trigger's matching files, up to this limit plus one.
    Count(Name, u64),
    /// Look at a path relative to the trigger's root, and report whatever is there.
    Look(Name, Bytes),
    /// Report no hints and scan results of a trigger for now.
    Hold(Name),
    /// Go on with a held trigger.
    Release(Name),
    /// End the thread.
    Stop,
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
    /// What is not as it should be, each with its remedy.
    pub problems: Vec<String>,
    /// Times that hints were lost and a scan made up for it.
    pub overflows: u64,
}

/// The coverage of all triggers, as published by the watch thread.
// lock: written by the watch thread, read by whoever shows the status; held for a copy only
type Published = Arc<Mutex<Vec<Coverage>>>;

/// Tells the watch thread what to do. Cheap to clone.
#[derive(Clone)]
pub struct WatchHandle {
    inbox: Arc<Inbox>,
    stop: Sender<()>,
    coverage: Published,
}

impl WatchHandle {
    /// Hands over an order; never waits for the watch thread.
    pub fn send(&self, to: ToWatch) {
        if matches!(to, ToWatch::Stop) {
            // Full means that it was told before, disconnected that it has ended.
            self.stop.try_send(()).ok();
        }
        self.inbox.order(to);
    }

    /// How well each trigger is covered, as last published.
    pub fn coverage(&self) -> Vec<Coverage> {
        self.coverage.lock().unwrap_or_else(PoisonError::into_inner).clone()
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

/// Starts the watch thread. `committed` is the sequence number of the newest committed state, read
/// before the first look of each batch. `out` should be bounded: the thread may wait on it.
/// Errors: the thread cannot be started. Without inotify it polls, and says so in the coverage.
pub fn spawn(
    ledger: Box<dyn Ledger>,
    committed: Arc<AtomicU64>,
    out: Sender<FromWatch>,
) -> io::Result<(WatchHandle, JoinHandle<()>)> {
    spawn_with(ledger, committed, out, Limits::default())
}

/// The same as [`spawn`], with other limits.
pub fn spawn_with(
    ledger: Box<dyn Ledger>,
    committed: Arc<AtomicU64>,
    out: Sender<FromWatch>,
    limits: Limits,
) -> io::Result<(WatchHandle, JoinHandle<()>)> {
    let inbox = Arc::new(Inbox::new(limits.dirty));
    let (stop, stopped) = crossbeam_channel::bounded(1);
    // lock: see `Published`
    let coverage: Published = Arc::new(Mutex::new(Vec::new()));
    let handle = WatchHandle { inbox: inbox.clone(), stop, coverage: coverage.clone() };
    let reporter = Reporter::new(ledger, committed, out, stopped);
    let places = Arc::new(Places::new()?);
    let followed = places.clone();
    let thread = Builder::new().name("dagd-watch".to_owned()).spawn(move || {
        Worker::new(inbox.clone(), reporter, followed.clone(), coverage).run();
        inbox.close();
        followed.stop();
    })?;
    Builder::new().name("dagd-places".to_owned()).spawn(move || places.run())?;
    Ok((handle, thread))
}
