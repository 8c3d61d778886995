//! Sweeps over a trigger's ledger rows: finds what is known and not there any more.
//!
//! A sweep stops after a bounded step and goes on later, so that hints are served in between. It
//! never concludes anything from a root that is not there.

use std::collections::VecDeque;
use std::io;
use std::os::fd::AsFd as _;

use crate::core::candidate::Origin;
use crate::core::id::Name;
use crate::core::path::Bytes;
use crate::core::trigger::FileType;
use crate::io::disk::{self, Found};

use super::descend::STEP_MAX;
use super::report::Stopped;
use super::worker::Worker;

/// Sweeps that wait at most; more become one over the whole trigger.
const SWEEPS_MAX: usize = 1024;

/// The longest name of a file, in bytes.
const NAME_MAX: usize = 255;

/// Rows, and directories with rows, read from the ledger at once.
const PAGE: usize = 256;

/// A walk over ledger rows: reports those whose file is gone.
pub struct Sweep {
    /// The trigger.
    pub trigger: Name,
    origin: Origin,
    top: Bytes,
    deep: bool,
    dir: Bytes,
    /// The name after which it goes on in `dir`.
    after: Vec<u8>,
    /// Directories that come next, a page of them.
    next: VecDeque<Bytes>,
    /// Files that are looked at although the ledger may not know them yet.
    also: Vec<Bytes>,
}

impl Sweep {
    /// A sweep over the rows of files in `top`, relative to the root; `deep`: below it, too.
    pub fn new(trigger: Name, top: Bytes, deep: bool, origin: Origin) -> Self {
        let dir = top.clone();
        Self {
            trigger,
            origin,
            top,
            deep,
            dir,
            after: Vec::new(),
            next: VecDeque::new(),
            also: Vec::new(),
        }
    }
}

impl Worker {
    /// Asks that rows under `top`, relative to the root, be compared with the disk.
    pub(super) fn sweep(&mut self, name: &Name, top: Bytes, deep: bool, origin: Origin) {
        if self.sweeps.len() >= SWEEPS_MAX {
            self.sweeps.retain(|sweep| sweep.trigger != *name);
            let mut all = Sweep::new(name.clone(), Bytes::default(), true, Origin::Scan);
            all.also = self.reporter.recent(name, &all.top);
            self.sweeps.push_back(all);
        } else {
            let mut sweep = Sweep::new(name.clone(), top, deep, origin);
            sweep.also = self.reporter.recent(name, &sweep.top);
            self.sweeps.push_back(sweep);
        }
    }

    /// The same for all triggers over the directory `path`.
    pub(super) fn sweep_under(&mut self, path: &Bytes, deep: bool) {
        let concerned: Vec<_> = (self.triggers.iter())
            .filter_map(|trigger| Some((trigger.name.clone(), trigger.rel(path)?)))
            .collect();
        let origin = if deep { Origin::Event } else { Origin::Scan };
        for (name, rel) in concerned {
            self.sweep(&name, rel, deep, origin);
        }
    }

    /// Goes on with the first sweep whose trigger is not held.
    pub(super) fn step_sweep(&mut self) -> Result<(), Stopped> {
        let at = self.sweeps.iter().position(|sweep| !self.is_held(&sweep.trigger));
        let Some(mut sweep) = at.and_then(|at| self.sweeps.remove(at)) else { return Ok(()) };
        if !self.sweep_on(&mut sweep)? {
            self.sweeps.push_back(sweep);
        }
        Ok(())
    }

    /// A step of a sweep. Returns whether it has ended.
    pub(super) fn sweep_on(&mut self, sweep: &mut Sweep) -> Result<bool, Stopped> {
        let Some(at) = self.triggers.iter().position(|t| t.name == sweep.trigger) else {
            return Ok(true);
        };
        // Without a root nothing is known to be gone: it may only be unmounted.
        let Some(root) = self.triggers[at].open() else { return Ok(true) };
        let name = sweep.trigger.clone();
        let follow = self.triggers[at].folder.follow_symlinks;
        let work = self.triggers[at].folder.file_type;
        let missing = |rel: &Bytes| is_missing(&disk::find(root.as_fd(), rel, follow), work);
        if !sweep.also.is_empty() {
            let some = sweep.also.split_off(sweep.also.len().saturating_sub(STEP_MAX));
            let gone: Vec<Bytes> = some.into_iter().filter(missing).collect();
            if !gone.is_empty() && self.is_remounted() {
                sweep.also.extend(gone);
                return Ok(false);
            }
            for rel in gone {
                if !self.is_gone_with_mount(at, &rel)? {
                    self.report_missing(at, rel, sweep.origin, false)?;
                }
            }
            return Ok(false);
        }
        for _ in 0..STEP_MAX / PAGE {
            let ledger = &mut self.reporter.ledger;
            // What is missing tells nothing about what was delivered from another file system.
            let place = self.triggers[at].place_of(&sweep.dir);
            let rows = place.map_or(Vec::new(), |place| {
                ledger.open_rows(&name, sweep.dir.as_bytes(), place, &sweep.after, PAGE)
            });
            let full = rows.len() >= PAGE;
            self.reporter.pulse.touch(&name);
            // Nearly all are there: to see that takes one call for each, to look at it four.
            let folder = disk::open_folder(root.as_fd(), &sweep.dir, follow).ok();
            let is_there = |file: &Bytes| {
                folder.as_ref().is_some_and(|folder| disk::holds_file(folder.as_fd(), file))
            };
            let last = rows.last().map(|(file, _)| file.as_bytes().to_vec());
            let gone = rows.into_iter().filter(|(file, _)| !is_there(file));
            let gone = gone.map(|(file, _)| sweep.dir.join(file.as_bytes()));
            let gone: Vec<Bytes> = gone.filter(missing).collect();
            if !gone.is_empty() && self.is_remounted() {
                return Ok(false);
            }
            sweep.after = last.unwrap_or_default();
            for rel in gone {
                self.report_missing(at, rel, sweep.origin, true)?;
            }
            if !full && !self.next_dir(sweep) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Reports a file that was missing, as it is found by now.
    fn report_missing(
        &mut self,
        at: usize,
        rel: Bytes,
        origin: Origin,
        only_new: bool,
    ) -> Result<(), Stopped> {
        self.reporter.before_look(origin)?;
        let trigger = &mut self.triggers[at];
        let Some(root) = trigger.open() else { return Ok(()) };
        let found = disk::find(root.as_fd(), &rel, trigger.folder.follow_symlinks);
        if is_missing(&found, trigger.folder.file_type) {
            self.reporter.found(trigger.any_target(rel), found, only_new);
        }
        Ok(())
    }

    /// Whether other file systems are mounted than was known: a hint at what went with one may come
    /// before the word that it was unmounted. Asked once something is missing; if so, they are known
    /// now.
    pub(super) fn is_remounted(&mut self) -> bool {
        if !self.mount_news.any() {
            return false;
        }
        let before = self.mounts.clone();
        self.read_mounts();
        let other = self.mounts != before;
        if other {
            self.wander();
        }
        other
    }

    /// Whether what was delivered at a path, and is missing, lies on a file system that is not there:
    /// that tells nothing, then.
    pub(super) fn is_gone_with_mount(&mut self, at: usize, rel: &Bytes) -> Result<bool, Stopped> {
        let row = self.reporter.ledger.row(&self.triggers[at].name, rel);
        if !row.is_some_and(|row| row.open) {
            return Ok(false);
        }
        if self.is_remounted() {
            self.tell_places()?;
        }
        let Self { triggers, reporter, .. } = self;
        let trigger = &triggers[at];
        let place = trigger.place_of(&Bytes::from(rel.dir()));
        Ok(!place.is_some_and(|place| reporter.ledger.is_of(&trigger.name, rel, place)))
    }

    /// Moves a sweep on to the next directory with rows; false if there is none.
    fn next_dir(&mut self, sweep: &mut Sweep) -> bool {
        if !sweep.deep {
            return false;
        }
        let first =
            if sweep.top.as_bytes().is_empty() { Bytes::default() } else { sweep.top.join(b"") };
        // Those below `top` follow `top/`, which is no directory's name itself: those whose names
        // are text, and behind all others that are text those whose names are not.
        let mut after = first.as_bytes().max(sweep.dir.as_bytes()).to_vec();
        loop {
            if sweep.next.is_empty() {
                sweep.next = self.reporter.ledger.dirs(&sweep.trigger, &after, PAGE).into();
            }
            let Some(dir) = sweep.next.pop_front() else { return false };
            if dir.as_bytes().starts_with(first.as_bytes()) {
                sweep.dir = dir;
                sweep.after.clear();
                return true;
            }
            if str::from_utf8(&after).is_err() {
                return false;
            }
            after = before(first.as_bytes());
            sweep.next.clear();
        }
    }
}

/// What is no text and comes right before all that begins with `first`, which ends in a slash.
fn before(first: &[u8]) -> Vec<u8> {
    let mut before = first.to_vec();
    before.pop();
    // What sorts before the slash; and then more than any name is long.
    before.push(b'/' - 1);
    before.resize(before.len() + NAME_MAX, 0xff);
    before
}

/// Whether there is certainly nothing that is work.
pub fn is_missing(found: &io::Result<Found>, work: FileType) -> bool {
    match found {
        Ok(Found::Absent | Found::Other) => true,
        Ok(Found::Directory(_)) => work == FileType::File,
        Ok(Found::File(_)) => work == FileType::Dir,
        Err(_) => false,
    }
}
