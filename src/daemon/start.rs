//! A start or a stop that takes long, as the service manager sees it: it is given the time that it
//! needs.
//!
//! A start asks for more time for as long as it goes on. What says that it goes on is that files and folders are found. One that finds nothing more and is
//! not ready either gets no more time: it hangs.

use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;

use super::Ready;
use super::engine::{Engine, Settling};
use crate::io::systemd;
use crate::io::watch::{FromWatch, Told, WatchHandle};

/// How much longer than its tasks may a stop takes: they are killed, their ends are committed, the
/// database is closed.
const STOP_LONGER: Duration = Duration::from_secs(30);

/// A start that is under way.
#[derive(Debug)]
pub struct Start {
    /// How often it is looked at.
    every: Duration,
    next: Instant,
    /// Files found so far; a file that several triggers have is counted for each.
    files: u64,
    /// Files and folders when it was told of last.
    told: (u64, u64),
}

impl Start {
    /// It begins now. `None` if there is nobody to be told of it.
    pub fn new() -> Option<Self> {
        let every = systemd::start_interval()?;
        Some(Self { every, next: Instant::now() + every, files: 0, told: (0, 0) })
    }

    /// How long until it is to be looked at again.
    pub fn left(&self) -> Duration {
        self.next.saturating_duration_since(Instant::now())
    }

    /// Counts what was found.
    pub fn note(&mut self, told: &Told) {
        if let FromWatch::Observed(observed) = &told.what {
            self.files += u64::try_from(observed.seen.len()).unwrap_or(u64::MAX);
        }
    }
}

impl Engine {
    /// Tells that events are being watched, once they are and every first scan knows what was there
    /// before. Errors: there is no thread to be had that waits for it.
    pub fn tell_ready(&mut self, armed: Receiver<()>, ready: Option<Ready>) -> std::io::Result<()> {
        systemd::status("the folders are being covered");
        self.start = Start::new();
        match &self.ports.reloader {
            Some(reloader) => reloader.await_armed(armed, Settling::Start(ready)),
            None => Ok(()),
        }
    }

    /// Asks for more time if the start is under way and has come further.
    pub(super) fn tell_start(&mut self) {
        let Some(start) = self.start.as_mut().filter(|start| start.left().is_zero()) else {
            return;
        };
        start.next = Instant::now() + start.every;
        let coverage = self.ports.watch.as_ref().map(WatchHandle::coverage).unwrap_or_default();
        let folders = coverage.iter().map(|of| of.directories).sum();
        let found = (start.files, folders);
        if found != start.told {
            start.told = found;
            let files = start.files;
            systemd::starting(&format!("the first scan: {folders} folders, {files} files so far"));
        }
    }

    /// The same while nothing can be committed: a disk that may come back is waited for.
    pub(super) fn tell_stalled_start(&self, why: &str) {
        if self.start.is_some() {
            systemd::starting(&format!("stalled: {why}"));
        }
    }

    /// The stop has begun.
    pub(super) fn tell_stopping(&self) {
        systemd::stopping(self.machine.model().stop_timeout.saturating_add(STOP_LONGER));
    }
}
