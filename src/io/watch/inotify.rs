//! The notify backend: one watch per directory, never recursive, added in batches.
//!
//! Its thread writes hints straight into the inbox and does nothing else. Which directories are
//! watched is decided in [`super::cover`]. notify keeps its own table of paths: it forgets a
//! directory and all below it when it sees that it goes, and a second watch of a path that it knows
//! does nothing. So a queue overflow, in which it may have missed that, needs a new watcher.

use std::io;
use std::mem;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::Builder;
use std::time::Instant;

use notify::event::{AccessKind, ModifyKind, RenameMode};
use notify::{
    Config, ErrorKind, Event, EventKind, EventKindMask, PathOp, RecommendedWatcher, RecursiveMode,
    UpdatePathsError, WatchPathConfig, Watcher as _,
};

use crate::core::path::Bytes;

use super::backend::{OLD_MAX, Outcome, Problem};
use super::dirty::{How, Inbox};
use super::flood::{Flood, Gate, goes};

/// No reads, or our own looks would be hints. No plain writes: a million appends would cost the
/// writer twice the time and three times the processor. So a truncation by path, which makes
/// nothing else, is found by the next scan only. Attributes for the sake of times that are set.
fn mask() -> EventKindMask {
    EventKindMask::CREATE
        | EventKindMask::REMOVE
        | EventKindMask::MODIFY_NAME
        | EventKindMask::MODIFY_META
        | EventKindMask::ACCESS_CLOSE
}

/// A watcher, and what its thread is told.
struct Watcher {
    /// `None` only while it is dropped.
    notify: Option<RecommendedWatcher>,
    gate: Arc<Gate>,
}

impl Watcher {
    /// Waits until the inbox has all that the kernel has queued by now. `false` if that cannot be
    /// known.
    fn drain(&mut self) -> bool {
        let Some((notify, _call)) = self.notify.as_mut().zip(self.gate.call()) else {
            return false;
        };
        // It reads all that is queued, answers, and hands it on: when it answers once more, it has.
        (0..2).all(|_| notify.update_paths(Vec::new()).is_ok())
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.gate.retired.store(true, Ordering::Relaxed);
        // First, because its thread must still be there to hear of it.
        self.notify = None;
        self.gate.let_go();
    }
}

/// The backend.
pub struct Inotify {
    inbox: Arc<Inbox>,
    current: Result<Watcher, Problem>,
    /// Kept until their successor covers everything, when nothing was lost: the first watches all
    /// that was covered, and each later one what has come since.
    old: Vec<Watcher>,
}

impl Inotify {
    /// A backend that watches nothing yet. If the system grants no inotify instance or no thread,
    /// every watch fails with the reason, so that the directories are polled.
    pub fn new(inbox: Arc<Inbox>) -> Self {
        let current = start(&inbox);
        Self { inbox, current, old: Vec::new() }
    }

    /// Watches directories, besides as many `others`; the outcomes have the order of the paths.
    pub fn watch(&mut self, paths: &[Bytes], others: usize) -> Vec<Outcome> {
        let failed = |problem: &Problem| vec![Outcome::Failed(problem.clone()); paths.len()];
        let Watcher { notify, gate } = match &mut self.current {
            Ok(watcher) => watcher,
            Err(problem) => return failed(problem),
        };
        let Some((watcher, _call)) = notify.as_mut().zip(gate.call()) else {
            return failed(&replaced());
        };
        gate.watches.store(others + paths.len(), Ordering::Relaxed);
        watch_all(watcher, paths.iter().map(path_of), false)
    }

    /// Stops watching a few directories; each costs as much as there are watches.
    pub fn unwatch(&mut self, paths: &[Bytes]) {
        let Ok(Watcher { notify, gate }) = &mut self.current else { return };
        let Some((watcher, _call)) = notify.as_mut().zip(gate.call()) else { return };
        let mut ops: Vec<_> = paths.iter().map(|path| PathOp::Unwatch(path_of(path))).collect();
        // An unknown path ends the batch; it is what is wanted, so go on behind it.
        while let Err(error) = watcher.update_paths(mem::take(&mut ops)) {
            if error.remaining.is_empty() {
                break;
            }
            ops = error.remaining;
        }
    }

    /// Waits until the inbox has all that the kernel has queued by now. `false` if that cannot be
    /// known.
    pub fn drain(&mut self) -> bool {
        self.current.as_mut().is_ok_and(Watcher::drain)
    }

    /// Begins with a new watcher that watches nothing. With `overlap`, the old ones go on until
    /// [`Inotify::settle`].
    pub fn renew(&mut self, overlap: bool) {
        let old = mem::replace(&mut self.current, Err(replaced())).ok();
        self.old.extend(old);
        if !overlap {
            self.old.clear();
        } else if self.old.len() > OLD_MAX {
            self.old.clear();
            self.inbox.lose();
        }
        self.current = start(&self.inbox);
    }

    /// The new watcher covers everything. What the old ones have heard before is not lost.
    pub fn settle(&mut self) {
        for mut old in self.old.drain(..) {
            // One that does not answer is doomed, and has said so.
            old.drain();
        }
    }

    /// Tries again to get a watcher if there is none.
    pub fn retry(&mut self) {
        if self.current.is_err() {
            self.current = start(&self.inbox);
        }
    }
}

fn start(inbox: &Arc<Inbox>) -> Result<Watcher, Problem> {
    let gate = Arc::new(Gate::default());
    let (shared, inbox) = (gate.clone(), inbox.clone());
    let mut flood = Flood::default();
    let handler = move |event: notify::Result<Event>| {
        if shared.retired.load(Ordering::Relaxed) {
            return;
        }
        let watches = || shared.watches.load(Ordering::Relaxed);
        if goes(&event) && flood.grows(watches(), Instant::now()) && shared.doom() {
            tracing::info!("very many folders are going, watching anew");
            inbox.lose();
            shared.end();
        }
        hint(&inbox, event);
    };
    match open(handler) {
        Ok(notify) => Ok(Watcher { notify: Some(notify), gate }),
        Err(problem) => {
            tracing::warn!("no watcher, folders are polled: {}", problem.why(1));
            Err(problem)
        }
    }
}

/// Has a watcher watch these directories, through links to them only if it is to `follow` them; the
/// outcomes have the order of the paths.
pub fn watch_all(
    watcher: &mut RecommendedWatcher,
    paths: impl Iterator<Item = PathBuf>,
    follow: bool,
) -> Vec<Outcome> {
    let config =
        || WatchPathConfig::new(RecursiveMode::NonRecursive).with_dereference_symlinks(follow);
    let mut ops: Vec<_> = paths.map(|path| PathOp::Watch(path, config())).collect();
    let many = ops.len();
    let mut outcomes = Vec::with_capacity(many);
    while outcomes.len() < many {
        let tried = ops.len();
        let Err(error) = watcher.update_paths(mem::take(&mut ops)) else {
            outcomes.resize(many, Outcome::Watched);
            break;
        };
        let UpdatePathsError { source, origin, remaining } = error;
        let done = if origin.is_some() { tried - remaining.len() - 1 } else { 0 };
        outcomes.resize(outcomes.len() + done, Outcome::Watched);
        let outcome = outcome_of(source.kind);
        // The limit concerns all that follow; so does a watcher that does not answer.
        if origin.is_none() || matches!(outcome, Outcome::Failed(Problem::Limit)) {
            outcomes.resize(many, outcome);
        } else {
            outcomes.push(outcome);
            ops = remaining;
        }
    }
    outcomes
}

/// A watcher that watches nothing yet and answers. Errors: the system grants no inotify instance or
/// no thread.
pub fn open(
    handler: impl FnMut(notify::Result<Event>) + Send + 'static,
) -> Result<RecommendedWatcher, Problem> {
    let config = Config::default().with_event_kinds(mask()).with_follow_symlinks(false);
    let begun = has_thread().and_then(|()| RecommendedWatcher::new(handler, config));
    let error = match begun.map(|mut notify| (notify.update_paths(Vec::new()), notify)) {
        Ok((Ok(()), notify)) => return Ok(notify),
        Ok((Err(error), notify)) => {
            // To drop it would panic, because nobody is there to hear of it.
            mem::forget(notify);
            error.source
        }
        Err(error) => error,
    };
    Err(match error.kind {
        ErrorKind::Io(e) if e.raw_os_error() == Some(libc::EMFILE) => Problem::Instances,
        kind => Problem::Broken(notify::Error::new(kind).to_string()),
    })
}

/// Whether another thread can be had: notify does not tell if its own was refused, and leaves a
/// descriptor behind.
fn has_thread() -> notify::Result<()> {
    let thread = Builder::new().name("dagd-probe".to_owned()).spawn(|| {});
    let refused = |error: io::Error| notify::Error::generic(&format!("no thread for it: {error}"));
    thread.map(|thread| drop(thread.join())).map_err(refused)
}

fn replaced() -> Problem {
    Problem::Broken("the watcher is being replaced".to_owned())
}

/// Turns an event into hints. The flag that hints were lost comes without a path.
fn hint(inbox: &Inbox, event: notify::Result<Event>) {
    let event = match event {
        Ok(event) => event,
        Err(error) => {
            tracing::warn!(%error, "the watcher failed, scanning");
            return inbox.lose();
        }
    };
    if event.need_rescan() {
        return inbox.lose();
    }
    let mut how = How::default();
    match event.kind {
        // Both halves were told before.
        EventKind::Modify(ModifyKind::Name(RenameMode::Both)) => return,
        EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(RenameMode::From)) => {
            how.gone = true;
        }
        EventKind::Access(AccessKind::Close(_)) => how.closed = true,
        EventKind::Modify(ModifyKind::Metadata(_)) => how.stamped = true,
        _ => {}
    }
    for path in event.paths {
        inbox.mark(Bytes::from(path.as_path()), how);
    }
}

fn path_of(path: &Bytes) -> PathBuf {
    Path::to_path_buf(path.as_path())
}

fn outcome_of(kind: ErrorKind) -> Outcome {
    match kind {
        ErrorKind::PathNotFound => Outcome::Gone,
        ErrorKind::MaxFilesWatch => Outcome::Failed(Problem::Limit),
        ErrorKind::Io(error) => match error.raw_os_error() {
            Some(libc::ENOTDIR | libc::ELOOP) => Outcome::Gone,
            _ => Outcome::Failed(Problem::Refused(because(&error))),
        },
        kind => Outcome::Failed(Problem::Broken(notify::Error::new(kind).to_string())),
    }
}

fn because(error: &io::Error) -> String {
    error.kind().to_string()
}
