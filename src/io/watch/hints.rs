//! From a hint to a look, and to the roots and directories that it concerns.
//!
//! A hint says that something happened to a name. What it was is found by looking: a file is
//! reported, a directory is covered, a root is armed or given up.

use std::io;
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use crate::core::candidate::Origin;
use crate::core::path::Bytes;
use crate::core::trigger::{FileType, FollowSymlinks};
use crate::io::disk::{self, DirId, Found};

use super::cover::News;
use super::ignores::is_ignore_file;
use super::report::{BATCH_MAX, Stopped};
use super::sweep::is_missing;
use super::way::parent;
use super::worker::Worker;

/// Pauses before a closed file that somebody seems to write is looked at again. Later it is the
/// core's turn, which asks from a quarter of a second on.
const AGAIN: [Duration; 6] = [
    Duration::from_micros(200),
    Duration::from_millis(1),
    Duration::from_millis(4),
    Duration::from_millis(15),
    Duration::from_millis(50),
    Duration::from_millis(150),
];

/// Files that are looked at again soon, at most; others wait for the core to ask.
const CLOSING_MAX: usize = 1024;

/// A file whose writer has closed it and still counts.
pub struct Closing {
    /// Its absolute path.
    path: Bytes,
    tries: usize,
    /// When it is looked at again.
    pub at: Instant,
}

impl Worker {
    /// Serves a batch of hints.
    pub(super) fn step_hints(&mut self) -> Result<(), Stopped> {
        for _ in 0..BATCH_MAX {
            let Some((path, how)) = self.hints.next() else { break };
            // The hint before may have led to another root.
            self.tell_places()?;
            if how.stamped {
                self.stamp(&path);
                continue;
            }
            self.reporter.closed = how.closed;
            let busy = self.hint(&path, how.gone)?;
            self.reporter.closed = false;
            if busy && how.closed {
                self.closing(path.clone());
            }
            self.touch_roots(&path, how.gone);
        }
        self.report()
    }

    /// Serves a hint. Returns whether somebody writes there.
    fn hint(&mut self, path: &Bytes, gone: bool) -> Result<bool, Stopped> {
        let dir = parent(path);
        let mount = self.cover.get(&dir).map(|dir| dir.id.mount);
        let mut concerned: Vec<usize> =
            (0..self.triggers.len()).filter(|&at| self.triggers[at].wants(&dir, mount)).collect();
        let mut first = None;
        for &at in &concerned {
            let Some(root) = self.triggers[at].open() else { continue };
            let Some(rel) = self.triggers[at].rel(path) else { continue };
            self.reporter.before_look(Origin::Event)?;
            let follow = self.triggers[at].folder.follow_symlinks;
            first = Some((follow, disk::find(root.as_fd(), &rel, follow)));
            break;
        }
        let Some((follow, found)) = first else { return Ok(false) };
        if found.as_ref().is_err_and(is_scarcity) {
            // It may be a directory: a scan finds out.
            for &at in &concerned {
                self.triggers[at].doubtful = true;
            }
        }
        self.hint_at_link(&concerned, path, &found);
        if let Ok(Found::Directory(id)) = &found {
            self.directory(path, id, gone);
            self.folder_changed(&concerned, path)?;
            // What went may have been a file.
            let is_file = |at: &usize| self.triggers[*at].folder.file_type == FileType::File;
            concerned.retain(|at| gone && is_file(at));
        } else if self.cover.get(path).is_some() || self.cover.is_begun(path) {
            self.vanish(path, gone);
        }
        if is_ignore_file(path.name()) {
            self.hint_at_ignores(&concerned, &dir);
        }
        let missing = is_missing(&found, FileType::File);
        let (mut found, mut busy) = (Some(found), false);
        for at in concerned {
            let Some(rel) = self.triggers[at].rel(path) else { continue };
            if missing && self.is_gone_with_mount(at, &rel)? {
                continue;
            }
            // For the first only: behind a report, which may wait, it is out of date.
            let found = found.take().map(|found| (follow, found));
            busy |= self.hint_at_work(at, path, &rel, found)?;
            self.sidecar(at, &rel)?;
        }
        Ok(busy)
    }

    /// A hint concerned something that may be work of a trigger, or be in it. What was `found`, for
    /// whoever follows links so, was found just now. Returns whether somebody writes there.
    fn hint_at_work(
        &mut self,
        at: usize,
        path: &Bytes,
        rel: &Bytes,
        found: Option<(FollowSymlinks, io::Result<Found>)>,
    ) -> Result<bool, Stopped> {
        let trigger = &mut self.triggers[at];
        let Some(target) = trigger.target(path) else { return Ok(false) };
        if trigger.held {
            trigger.keep(target.rel);
            return Ok(false);
        }
        // Where there has to be a done file, that is looked at first.
        let simple = target.done.is_none() && target.work == FileType::File;
        let same = |found: &(FollowSymlinks, _)| simple && target.follow == found.0;
        if let Some((_, found)) = found.filter(same) {
            return Ok(self.reporter.found(target, found, false));
        }
        let Some(root) = trigger.open() else { return Ok(false) };
        let done = target.done.as_ref() == Some(rel);
        let work = target.rel.clone();
        let busy = self.reporter.look(Some(root.as_fd()), target, Origin::Event, false)?;
        if done {
            self.reporter.measures.hurry(&trigger.name, &work);
        }
        Ok(busy)
    }

    /// Whether what is at the path leads to a directory has to be looked at, if it may, or did.
    fn hint_at_link(&mut self, concerned: &[usize], path: &Bytes, found: &io::Result<Found>) {
        for &at in concerned {
            let trigger = &self.triggers[at];
            if trigger.folder.follow_symlinks != FollowSymlinks::All {
                continue;
            }
            let Some(rel) = trigger.rel(path) else { continue };
            if matches!(found, Ok(Found::Other)) || trigger.scene.grafts.contains_key(&rel) {
                self.ask_link(at, rel, News::Arrived);
            }
        }
    }

    /// An ignore file has changed: its directory is read again, and all below.
    fn hint_at_ignores(&mut self, concerned: &[usize], dir: &Bytes) {
        if concerned.iter().any(|&at| self.triggers[at].folder.gitignore) {
            self.cover.ask(dir.clone(), News::Arrived);
        }
    }

    /// A hint concerned a folder: those for which folders are work look at it.
    fn folder_changed(&mut self, concerned: &[usize], path: &Bytes) -> Result<(), Stopped> {
        for &at in concerned {
            let trigger = &mut self.triggers[at];
            if trigger.folder.file_type != FileType::Dir {
                continue;
            }
            let Some(target) = trigger.target(path) else { continue };
            if trigger.held {
                trigger.keep(target.rel);
            } else {
                self.reporter.look(None, target, Origin::Event, false)?;
            }
        }
        Ok(())
    }

    /// The kernel tells of a close before it stops to count the writer; for a large file it can be
    /// long before. Looking again at once saves the pause after which the core would ask.
    fn closing(&mut self, path: Bytes) {
        if self.closing.len() < CLOSING_MAX {
            self.closing.push(Closing { path, tries: 0, at: Instant::now() + AGAIN[0] });
        }
    }

    /// Looks again where a writer was about to be gone.
    pub(super) fn step_closing(&mut self) -> Result<(), Stopped> {
        if self.closing.is_empty() {
            return Ok(());
        }
        let now = Instant::now();
        for mut closing in std::mem::take(&mut self.closing) {
            if closing.at <= now {
                if !self.is_still_busy(&closing.path)? {
                    continue;
                }
                closing.tries += 1;
                let Some(pause) = AGAIN.get(closing.tries) else { continue };
                closing.at = now + *pause;
            }
            self.closing.push(closing);
        }
        self.report()
    }

    fn is_still_busy(&mut self, path: &Bytes) -> Result<bool, Stopped> {
        let mut busy = false;
        for trigger in &mut self.triggers {
            let Some(target) = trigger.target(path) else { continue };
            if trigger.held {
                trigger.keep(target.rel);
            } else if let Some(root) = trigger.open() {
                busy |= self.reporter.look_again(root.as_fd(), target)?;
            }
        }
        Ok(busy)
    }

    /// A hint concerned a name that is a directory now.
    fn directory(&mut self, path: &Bytes, id: &DirId, gone: bool) {
        let wanted = self.triggers.iter().any(|trigger| trigger.wants(path, Some(id.mount)));
        if let Some(known) = self.cover.get(path) {
            // The usual case: it was found by reading its parent before its own hint came. If
            // something went from this name, the backend may have forgotten the new one with it.
            if wanted && !gone && known.watched && known.id == *id {
                return;
            }
            self.vanish(path, gone);
        } else if gone && self.cover.is_begun(path) {
            self.vanish(path, gone);
        }
        if wanted {
            self.cover.ask(path.clone(), News::Arrived);
        }
    }

    /// A covered directory is not at its path any more: it is forgotten with all below, and what
    /// was delivered from there is looked for.
    fn vanish(&mut self, path: &Bytes, told: bool) {
        for trigger in &mut self.triggers {
            if let Some(rel) = trigger.rel(path).filter(|rel| !rel.as_bytes().is_empty()) {
                trigger.scene.ignores.forget(&rel);
            }
        }
        self.forget(path, told);
        self.sweep_under(path, true);
    }

    pub(super) fn forget(&mut self, path: &Bytes, told: bool) {
        self.changed = true;
        self.reading.forget(path);
        for (path, dir) in self.cover.forget(path, told) {
            for trigger in &mut self.triggers {
                if trigger.wants(&path, Some(dir.id.mount)) {
                    trigger.directories = trigger.directories.saturating_sub(1);
                }
            }
        }
    }
}

/// Whether an error says that too much is open or in use, rather than something of the path.
pub fn is_scarcity(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM))
}
