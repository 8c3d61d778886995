//! Looks at paths and sends what was seen, in batches.
//!
//! Owns the order that makes an observation trustworthy: the committed sequence number first, then
//! the disk, then the ledger row. The only place of the watch thread that waits for the engine.

use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::{io, mem};

use crossbeam_channel::{Receiver, Sender, select};

use crate::core::candidate::{Disk, Observed, Origin, Row, Seen};
use crate::core::id::{Name, Seq};
use crate::core::path::Bytes;
use crate::core::trigger::ReadLock;
use crate::io::disk::{self, Found, Prober};

use super::{FromWatch, Ledger};

/// Looks in a batch at most: enough that the hop to the engine costs nothing per file, few enough
/// that its step stays short.
pub const BATCH_MAX: usize = 256;

/// Nobody listens any more, or the thread was told to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stopped;

/// A path under a trigger that is to be looked at.
#[derive(Clone, Debug)]
pub struct Target {
    /// The trigger.
    pub trigger: Name,
    /// The path relative to its root.
    pub rel: Bytes,
    /// How much it wants to know.
    pub lock: ReadLock,
}

/// Sends observations to the engine.
pub struct Reporter {
    /// What was delivered.
    pub ledger: Box<dyn Ledger>,
    /// Who writes.
    pub prober: Prober,
    committed: Arc<AtomicU64>,
    out: Sender<FromWatch>,
    stop: Receiver<()>,
    batch: Observed,
}

impl Reporter {
    /// A reporter with an empty batch.
    pub fn new(
        ledger: Box<dyn Ledger>,
        committed: Arc<AtomicU64>,
        out: Sender<FromWatch>,
        stop: Receiver<()>,
    ) -> Self {
        let batch = Observed { seq: Seq(0), origin: Origin::Event, seen: Vec::new() };
        Self { ledger, prober: Prober::new(), committed, out, stop, batch }
    }

    /// Must be called before each look: opens a batch if there is none for this origin.
    pub fn before_look(&mut self, origin: Origin) -> Result<(), Stopped> {
        if self.batch.origin != origin || self.batch.seen.len() >= BATCH_MAX {
            self.flush()?;
        }
        if self.batch.seen.is_empty() {
            let seq = Seq(self.committed.load(Ordering::Acquire));
            self.batch = Observed { seq, origin, seen: Vec::new() };
        }
        Ok(())
    }

    /// Completes and reports what was found at a target after [`Reporter::before_look`]. With
    /// `only_new`, a file whose open row has the same version is left out, without asking who
    /// writes.
    pub fn found(&mut self, target: Target, found: io::Result<Found>, only_new: bool) {
        let row = self.ledger.row(&target.trigger, &target.rel);
        let disk = match found {
            Ok(Found::Absent) => Disk::Absent,
            Ok(Found::Other | Found::Directory(_)) => Disk::Other,
            Ok(Found::File(file)) => {
                let known = |row: &Row| row.open && row.version == file.version;
                if only_new && row.as_ref().is_some_and(known) {
                    return;
                }
                self.prober.probe(file, target.lock)
            }
            Err(error) => {
                let (trigger, path) = (&*target.trigger, target.rel.lossy());
                tracing::warn!(trigger, %path, %error, "cannot look at a file");
                disk::unreadable()
            }
        };
        if only_new && row.is_none() && !matches!(disk, Disk::File { .. }) {
            return;
        }
        self.push(target, disk, row);
    }

    /// Looks at a target and reports what is there. `root` is `None` if there is no root.
    pub fn look(
        &mut self,
        root: Option<BorrowedFd<'_>>,
        target: Target,
        origin: Origin,
        only_new: bool,
    ) -> Result<(), Stopped> {
        self.before_look(origin)?;
        let found = root.map_or(Ok(Found::Absent), |root| disk::find(root, &target.rel));
        self.found(target, found, only_new);
        Ok(())
    }

    fn push(&mut self, target: Target, disk: Disk, row: Option<Row>) {
        self.batch.seen.push(Seen { trigger: target.trigger, rel: target.rel, disk, row });
    }

    /// Sends what has been seen.
    pub fn flush(&mut self) -> Result<(), Stopped> {
        if self.batch.seen.is_empty() {
            return Ok(());
        }
        let empty = Observed { seq: Seq(0), origin: self.batch.origin, seen: Vec::new() };
        let batch = mem::replace(&mut self.batch, empty);
        self.send(FromWatch::Observed(batch))
    }

    /// Sends a message behind all that has been seen, and waits for room.
    pub fn send(&mut self, message: FromWatch) -> Result<(), Stopped> {
        if !self.batch.seen.is_empty() {
            self.flush()?;
        }
        select! {
            send(self.out, message) -> sent => sent.map_err(|_| Stopped),
            recv(self.stop) -> _ => Err(Stopped),
        }
    }
}
