//! Looks at paths and sends what was seen, in batches.
//!
//! Owns the order that makes an observation trustworthy: the committed sequence number first, then
//! the disk, then the ledger row. The only place of the watch thread that waits for the engine.

use std::collections::BTreeSet;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::{io, mem};

use crossbeam_channel::{Receiver, Sender, select};

use crate::core::candidate::{Disk, Observed, Origin, Probe, Row, Seen};
use crate::core::id::{Name, Seq};
use crate::core::path::Bytes;
use crate::core::trigger::{FileType, FollowSymlinks, ReadLock};
use crate::io::disk::{self, Found, FoundFile, Prober};

use super::measure::Measures;
use super::pulse::Pulse;
use super::{FromWatch, Ledger, Told};

/// Looks in a batch at most: enough that the hop to the engine costs nothing per file, few enough
/// that its step stays short.
pub const BATCH_MAX: usize = 256;

/// Full batches that are kept until a step has ended: more than one can make, but for very many
/// triggers of one folder.
const FULL_MAX: usize = 8;

/// Files remembered in each of two generations: more than fit into a channel of 64 batches, so that
/// a report that the engine has not dealt with is still remembered.
pub const RECENT_MAX: usize = 16_384;

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
    /// Which links count.
    pub follow: FollowSymlinks,
    /// What it takes for work.
    pub work: FileType,
    /// The file that has to be there before it is complete, relative to the root.
    pub done: Option<Bytes>,
    /// Whether a program can open it by its path.
    pub reachable: bool,
}

impl Target {
    /// Whether what tells that it is complete is there. To be asked before the file itself is
    /// looked at: then what is found is complete.
    pub fn is_done(&self, root: BorrowedFd<'_>) -> bool {
        self.done.as_ref().is_none_or(|done| disk::is_there(root, done, self.follow))
    }
}

/// The ledger, which may have to be waited for: meanwhile no file system is touched.
pub struct Rows {
    ledger: Box<dyn Ledger>,
    pulse: Arc<Pulse>,
}

impl Rows {
    /// See [`Ledger::row`].
    pub fn row(&mut self, trigger: &str, rel: &Bytes) -> Option<Row> {
        self.pulse.rest();
        self.ledger.row(trigger, rel)
    }

    /// See [`Ledger::open_rows`].
    pub fn open_rows(
        &mut self,
        trigger: &str,
        dir: &[u8],
        place: &str,
        after: &[u8],
        limit: usize,
    ) -> Vec<(Bytes, Row)> {
        self.pulse.rest();
        self.ledger.open_rows(trigger, dir, place, after, limit)
    }

    /// See [`Ledger::is_of`].
    pub fn is_of(&mut self, trigger: &str, rel: &Bytes, place: &str) -> bool {
        self.pulse.rest();
        self.ledger.is_of(trigger, rel, place)
    }

    /// See [`Ledger::dirs`].
    pub fn dirs(&mut self, trigger: &str, after: &[u8], limit: usize) -> Vec<Bytes> {
        self.pulse.rest();
        self.ledger.dirs(trigger, after, limit)
    }
}

/// Sends observations to the engine.
pub struct Reporter {
    /// What was delivered.
    pub ledger: Rows,
    /// Who writes.
    pub prober: Prober,
    /// Folders that are looked at as a whole.
    pub measures: Measures,
    committed: Arc<AtomicU64>,
    out: Sender<Told>,
    stop: Receiver<()>,
    /// The worker's signs of life.
    pub pulse: Arc<Pulse>,
    /// The number of the arming under which it looks.
    pub arming: u64,
    /// Whether the hint that is served tells that whoever wrote has closed.
    pub closed: bool,
    batch: Observed,
    /// What was seen before that, and not sent yet.
    full: Vec<Observed>,
    /// Files in it that nobody wrote to, although no hint has told yet that they were closed.
    doubted: Vec<(Name, Bytes)>,
    /// Files that were reported not long ago, in two generations.
    recent: [BTreeSet<(Name, Bytes)>; 2],
}

impl Reporter {
    /// A reporter with an empty batch.
    pub fn new(
        ledger: Box<dyn Ledger>,
        committed: Arc<AtomicU64>,
        out: Sender<Told>,
        stop: Receiver<()>,
        pulse: Arc<Pulse>,
    ) -> Self {
        let ledger = Rows { ledger, pulse: pulse.clone() };
        let batch = Observed { seq: Seq(0), origin: Origin::Event, seen: Vec::new() };
        let recent = [BTreeSet::new(), BTreeSet::new()];
        let (prober, measures) = (Prober::new(), Measures::default());
        Self {
            ledger,
            prober,
            measures,
            committed,
            out,
            stop,
            pulse,
            arming: 0,
            closed: false,
            batch,
            full: Vec::new(),
            doubted: Vec::new(),
            recent,
        }
    }

    /// Must be called before each look: opens a batch if there is none for this origin.
    pub fn before_look(&mut self, origin: Origin) -> Result<(), Stopped> {
        if self.batch.origin != origin || self.batch.seen.len() >= BATCH_MAX {
            self.close_batch();
            if self.full.len() >= FULL_MAX {
                self.flush()?;
            }
        }
        if self.batch.seen.is_empty() {
            let seq = self.committed();
            self.batch = Observed { seq, origin, seen: Vec::new() };
        }
        Ok(())
    }

    /// Completes and reports what was found at a target after [`Reporter::before_look`]. With
    /// `only_new`, a file whose open row has the same version is left out, without asking who
    /// writes. Returns whether somebody writes.
    pub fn found(&mut self, target: Target, found: io::Result<Found>, only_new: bool) -> bool {
        self.complete(target, found, true, only_new)
    }

    /// The same, where it is known whether its done file is there.
    fn complete(
        &mut self,
        target: Target,
        found: io::Result<Found>,
        done: bool,
        only_new: bool,
    ) -> bool {
        let Some((disk, row)) = self.compare(&target, found, done, only_new) else { return false };
        let busy = is_busy(&disk);
        self.measured(target, disk, row, only_new);
        busy
    }

    /// Completes what was found at a target, and reads what the ledger says. With `only_new`, a
    /// file whose open row has the same version comes to nothing.
    fn compare(
        &mut self,
        target: &Target,
        found: io::Result<Found>,
        done: bool,
        only_new: bool,
    ) -> Option<(Disk, Option<Row>)> {
        let row = self.ledger.row(&target.trigger, &target.rel);
        self.pulse.touch(&target.trigger);
        let disk = match (found, target.work) {
            (Ok(Found::Absent), _) => Disk::Absent,
            (Ok(Found::File(file)), FileType::File) => {
                let known = |row: &Row| row.tells_of(&file.version);
                if only_new && row.as_ref().is_some_and(known) {
                    return None;
                }
                self.probe(target, file, done)
            }
            (Ok(_), _) => Disk::Other,
            (Err(error), _) => {
                // It is pending for that, as whoever asks is told; it is looked at again and again.
                let (trigger, path) = (&*target.trigger, target.rel.lossy());
                tracing::debug!(trigger, %path, %error, "cannot look at a file");
                disk::unknown(&error)
            }
        };
        Some((disk, row))
    }

    /// Reports what was found, unless with `only_new` that is nothing new.
    pub fn measured(&mut self, target: Target, disk: Disk, row: Option<Row>, only_new: bool) {
        let known = match (&disk, &row) {
            (Disk::File { version, .. }, Some(row)) => row.tells_of(version),
            (Disk::File { .. }, None) | (_, Some(_)) => false,
            (_, None) => true,
        };
        if !(only_new && known) {
            self.push(target, disk, row);
        }
    }

    /// Completes a file that was found, as far as the target wants to know.
    fn probe(&mut self, target: &Target, file: FoundFile, done: bool) -> Disk {
        match (target.reachable, done) {
            (false, _) => Disk::File { version: file.version, probe: Probe::Unreachable },
            (true, false) => Disk::File { version: file.version, probe: Probe::NotDone },
            (true, true) => self.prober.probe(file, target.lock),
        }
    }

    /// Looks again at a target where somebody wrote, and reports it unless somebody still does.
    /// Returns whether somebody still writes.
    pub fn look_again(&mut self, root: BorrowedFd<'_>, target: Target) -> Result<bool, Stopped> {
        if target.work == FileType::Dir {
            self.measures.ask(target, Origin::Event, false);
            return Ok(false);
        }
        self.before_look(Origin::Event)?;
        self.pulse.touch(&target.trigger);
        let done = target.is_done(root);
        let disk = match disk::find(root, &target.rel, target.follow) {
            Ok(Found::File(file)) => self.probe(&target, file, done),
            Ok(Found::Absent) => Disk::Absent,
            Ok(Found::Other | Found::Directory(_)) => Disk::Other,
            Err(_) => return Ok(true),
        };
        if is_busy(&disk) {
            return Ok(true);
        }
        let row = self.ledger.row(&target.trigger, &target.rel);
        self.push(target, disk, row);
        Ok(false)
    }

    /// Looks at a target and reports what is there; a folder that is work itself once it is
    /// measured. `root` is `None` if there is no root. Returns whether somebody writes.
    pub fn look(
        &mut self,
        root: Option<BorrowedFd<'_>>,
        target: Target,
        origin: Origin,
        only_new: bool,
    ) -> Result<bool, Stopped> {
        if target.work == FileType::Dir {
            self.measures.ask(target, origin, only_new);
            return Ok(false);
        }
        self.before_look(origin)?;
        self.pulse.touch(&target.trigger);
        let done = root.is_none_or(|root| target.is_done(root));
        let found =
            root.map_or(Ok(Found::Absent), |root| disk::find(root, &target.rel, target.follow));
        Ok(self.complete(target, found, done, only_new))
    }

    /// Answers for a target at which nobody can look, or none of its trigger's files can be: what was
    /// delivered there counts as being there still, and anything else as not being there.
    pub fn unseen(&mut self, target: Target, origin: Origin) -> Result<(), Stopped> {
        self.before_look(origin)?;
        let row = self.ledger.row(&target.trigger, &target.rel);
        let delivered = row.as_ref().filter(|row| row.open).map(|row| row.version.clone());
        let disk = delivered
            .map_or(Disk::Absent, |version| Disk::File { version, probe: Probe::NotAsked });
        self.push(target, disk, row);
        Ok(())
    }

    fn push(&mut self, target: Target, disk: Disk, row: Option<Row>) {
        if let Disk::File { version, probe: Probe::Free } = &disk
            && !self.closed
            && !row.as_ref().is_some_and(|row| row.tells_of(version))
        {
            self.doubted.push((target.trigger.clone(), target.rel.clone()));
        }
        let seen = self.seen(target, disk, row);
        self.batch.seen.push(seen);
    }

    fn seen(&mut self, target: Target, disk: Disk, row: Option<Row>) -> Seen {
        if matches!(disk, Disk::File { .. }) {
            if self.recent[0].len() >= RECENT_MAX {
                self.recent[1] = mem::take(&mut self.recent[0]);
            }
            self.recent[0].insert((target.trigger.clone(), target.rel.clone()));
        }
        Seen { trigger: target.trigger, rel: target.rel, disk, row }
    }

    /// The newest committed state.
    pub fn committed(&self) -> Seq {
        Seq(self.committed.load(Ordering::Acquire))
    }

    /// Looks at a file of which only attributes have changed, without reporting it. `None` if it is
    /// as the ledger says, or not there, or somebody writes: then a hint has come or will come.
    /// The flag tells whether it has but one name, so that nobody has changed it by another.
    pub fn look_at_stamp(&mut self, root: BorrowedFd<'_>, target: Target) -> Option<(Seen, bool)> {
        self.pulse.touch(&target.trigger);
        let done = target.is_done(root);
        let found = disk::find(root, &target.rel, target.follow);
        let alone = matches!(&found, Ok(Found::File(file)) if file.names == 1);
        let (disk, row) = self.compare(&target, found, done, true)?;
        let told = !matches!(disk, Disk::File { .. }) || is_busy(&disk);
        (!told).then(|| (self.seen(target, disk, row), alone))
    }

    /// Sends what was seen elsewhere, behind all that was seen before.
    pub fn tell(&mut self, seq: Seq, origin: Origin, seen: Vec<Seen>) -> Result<(), Stopped> {
        if seen.is_empty() {
            return Ok(());
        }
        self.send(FromWatch::Observed(Observed { seq, origin, seen }))
    }

    /// Files under `top` that were reported not long ago: the ledger may not know them yet. `top`
    /// is relative to the trigger's root.
    pub fn recent(&self, trigger: &Name, top: &Bytes) -> Vec<Bytes> {
        let first = if top.as_bytes().is_empty() { Bytes::default() } else { top.join(b"") };
        let of = |recent: &BTreeSet<(Name, Bytes)>| {
            let from = recent.range((trigger.clone(), first.clone())..);
            from.take_while(|(name, rel)| {
                name == trigger && rel.as_bytes().starts_with(first.as_bytes())
            })
            .map(|(_, rel)| rel.clone())
            .collect::<Vec<_>>()
        };
        self.recent.iter().flat_map(of).collect()
    }

    /// Forgets what was reported of a trigger: its files lie elsewhere now.
    pub fn forget(&mut self, trigger: &Name) {
        for recent in &mut self.recent {
            recent.retain(|(name, _)| name != trigger);
        }
    }

    /// Files among what is not sent yet that nobody writes to, although no hint has told that they
    /// were closed. Asked once.
    pub fn doubted(&mut self) -> Vec<(Name, Bytes)> {
        mem::take(&mut self.doubted)
    }

    /// What was seen of these files is not sent.
    pub fn leave_out(&mut self, files: &BTreeSet<(Name, Bytes)>) {
        for batch in self.full.iter_mut().chain([&mut self.batch]) {
            batch.seen.retain(|seen| !files.contains(&(seen.trigger.clone(), seen.rel.clone())));
        }
    }

    fn close_batch(&mut self) {
        if !self.batch.seen.is_empty() {
            let empty = Observed { seq: Seq(0), origin: self.batch.origin, seen: Vec::new() };
            self.full.push(mem::replace(&mut self.batch, empty));
        }
    }

    /// Sends what has been seen.
    pub fn flush(&mut self) -> Result<(), Stopped> {
        self.close_batch();
        self.doubted.clear();
        for batch in mem::take(&mut self.full) {
            self.put(FromWatch::Observed(batch))?;
        }
        Ok(())
    }

    /// Sends a message behind all that has been seen, and waits for room.
    pub fn send(&mut self, message: FromWatch) -> Result<(), Stopped> {
        self.flush()?;
        self.put(message)
    }

    fn put(&mut self, message: FromWatch) -> Result<(), Stopped> {
        self.pulse.rest();
        if self.pulse.is_abandoned() {
            return Err(Stopped);
        }
        let told = Told { arming: self.arming, what: message };
        select! {
            send(self.out, told) -> sent => sent.map_err(|_| Stopped),
            recv(self.stop) -> _ => Err(Stopped),
        }
    }
}

fn is_busy(disk: &Disk) -> bool {
    matches!(disk, Disk::File { probe: Probe::WriterOpen, .. })
}
