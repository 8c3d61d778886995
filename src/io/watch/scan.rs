//! Walks over a trigger's tree: full scans and counts; and single looks.
//!
//! A walk finds what is there and not known; what is known and not there is found by the sweep
//! that ends it. It stops after a bounded step and goes on later, so that hints are served in
//! between; that of a held trigger waits.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::time::Instant;

use rustix::fs::{Dir, FileType};

use crate::core::candidate::Origin;
use crate::core::id::Name;
use crate::core::path::Bytes;
use crate::core::trigger::{FileType as Work, FolderSpec, FollowSymlinks};
use crate::io::disk::{self, Found};

use super::FromWatch;
use super::cover::News;
use super::descend::{STEP_MAX, is_gone};
use super::hints::is_scarcity;
use super::report::{BATCH_MAX, Stopped};
use super::roots::Armed;
use super::sweep::{Sweep, is_missing};
use super::worker::Worker;

enum Purpose {
    /// Report; `again`: it was asked for anew.
    Scan { again: bool },
    /// Count up to `limit` plus one.
    Count { limit: u64, files: u64 },
}

/// A walk over a trigger's tree.
pub struct Walk {
    /// The trigger.
    pub trigger: Name,
    purpose: Purpose,
    /// Directories still to be read, relative to the root. Depth first, so that it stays short.
    stack: Vec<Bytes>,
    open: Option<(Bytes, Dir)>,
    /// Links that it has gone into.
    links: BTreeSet<Bytes>,
    /// Directories read.
    dirs: u64,
    /// Directories that could not be read: how many, one of them, and why.
    unread: Option<(u64, Bytes, String)>,
    /// A folder that it has come by and that is being measured.
    measured: Option<Bytes>,
    /// The sweep that ends a scan.
    sweep: Option<Sweep>,
}

impl Walk {
    fn new(trigger: Name, purpose: Purpose) -> Self {
        Self {
            trigger,
            purpose,
            stack: vec![Bytes::default()],
            open: None,
            links: BTreeSet::new(),
            dirs: 0,
            unread: None,
            measured: None,
            sweep: None,
        }
    }

    /// The next name in the open directory, relative to the root, and what it seems to be. `None` if
    /// it is none, or there is no other: then the directory is closed. Errors: the directory cannot
    /// be read on, and why.
    fn read(&mut self) -> Option<Result<(Bytes, FileType), (Bytes, io::Error)>> {
        let (dir, stream) = self.open.as_mut()?;
        let end = match stream.read() {
            Some(Ok(entry)) => {
                let name = entry.file_name().to_bytes();
                let dots = name == b"." || name == b"..";
                return (!dots).then(|| Ok((dir.join(name), entry.file_type())));
            }
            Some(Err(errno)) => Some(Err((dir.clone(), errno.into()))),
            None => None,
        };
        self.open = None;
        end
    }

    /// Whether it reports.
    pub fn is_scan(&self) -> bool {
        matches!(self.purpose, Purpose::Scan { .. })
    }
}

impl Worker {
    /// Asks for a full scan.
    pub(super) fn scan(&mut self, name: &Name) {
        if self.trigger(name).is_none() {
            return;
        }
        let running = self.walks.iter_mut().find(|walk| walk.trigger == *name && walk.is_scan());
        match running {
            Some(walk) => walk.purpose = Purpose::Scan { again: true },
            None => {
                self.walks.push_back(Walk::new(name.clone(), Purpose::Scan { again: false }));
            }
        }
    }

    /// Asks for a count; a running one is replaced.
    pub(super) fn count(&mut self, name: &Name, limit: u64) {
        if self.trigger(name).is_some() {
            self.walks.retain(|walk| walk.is_scan() || walk.trigger != *name);
            self.walks.push_back(Walk::new(name.clone(), Purpose::Count { limit, files: 0 }));
        }
    }

    /// Looks at one path and reports whatever is there.
    pub(super) fn look(&mut self, name: &Name, rel: Bytes) -> Result<(), Stopped> {
        let Some(at) = self.triggers.iter().position(|trigger| trigger.name == *name) else {
            return Ok(());
        };
        let missing = |of: &mut Self| {
            let trigger = &mut of.triggers[at];
            let (follow, work) = (trigger.folder.follow_symlinks, trigger.folder.file_type);
            let root = trigger.open();
            root.is_some_and(|root| is_missing(&disk::find(root.as_fd(), &rel, follow), work))
        };
        let away = missing(self) && self.is_gone_with_mount(at, &rel)?;
        let root = self.triggers[at].open();
        let trigger = &self.triggers[at];
        let is_dir = trigger.folder.file_type == Work::Dir;
        let belongs = trigger.reach().against(&rel, is_dir).is_none();
        let target = trigger.any_target(rel);
        let Some(root) = root.filter(|_| belongs && !away) else {
            return self.reporter.unseen(target, Origin::Look);
        };
        self.reporter.look(Some(root.as_fd()), target, Origin::Look, false)?;
        Ok(())
    }

    /// The trigger has changed: what runs for it begins anew.
    pub(super) fn renew_walks(&mut self, name: &Name) {
        for walk in self.walks.iter_mut().filter(|walk| walk.trigger == *name) {
            let purpose = match walk.purpose {
                Purpose::Scan { .. } => Purpose::Scan { again: false },
                Purpose::Count { limit, .. } => Purpose::Count { limit, files: 0 },
            };
            *walk = Walk::new(name.clone(), purpose);
        }
        self.drop_looks(name);
    }

    fn drop_looks(&mut self, name: &Name) {
        self.listings.forget(name);
        self.reporter.measures.forget(name);
    }

    /// The trigger is gone or has another root: nothing runs for it.
    pub(super) fn drop_walks(&mut self, name: &Name) {
        self.walks.retain(|walk| walk.trigger != *name);
        self.sweeps.retain(|sweep| sweep.trigger != *name);
        self.drop_looks(name);
    }

    /// Looks at some of what was kept while triggers were held.
    pub(super) fn step_kept(&mut self) -> Result<(), Stopped> {
        for trigger in self.triggers.iter_mut().filter(|trigger| !trigger.held) {
            let some = trigger.kept.rels.len().min(BATCH_MAX);
            let rels: Vec<Bytes> = trigger.kept.rels.drain(..some).collect();
            for rel in rels {
                // It may have been kept under a configuration under which it counted.
                let Some(target) = trigger.target_rel(&rel) else { continue };
                if let Some(root) = trigger.open() {
                    self.reporter.look(Some(root.as_fd()), target, Origin::Event, false)?;
                }
            }
        }
        self.report()
    }

    /// Goes on with the first walk that may, once everything is covered: what is listed after it
    /// is watched can be missed by neither.
    pub(super) fn step_walk(&mut self) -> Result<(), Stopped> {
        if self.is_covering() {
            return Ok(());
        }
        let at = self.walks.iter().position(|walk| self.may_walk(walk));
        let Some(mut walk) = at.and_then(|at| self.walks.remove(at)) else { return Ok(()) };
        if self.walk_on(&mut walk)? {
            return self.end_walk(walk);
        }
        self.walks.push_back(walk);
        Ok(())
    }

    /// Whether a walk can go on.
    pub(super) fn may_walk(&self, walk: &Walk) -> bool {
        let waits = |trigger: &Armed| trigger.waits() || (walk.is_scan() && trigger.held);
        !self.triggers.iter().any(|trigger| trigger.name == walk.trigger && waits(trigger))
    }

    fn end_walk(&mut self, walk: Walk) -> Result<(), Stopped> {
        let trigger = walk.trigger;
        match walk.purpose {
            Purpose::Count { files, .. } => {
                self.reporter.send(FromWatch::Counted { trigger, files })
            }
            Purpose::Scan { again } => {
                if again {
                    self.scan(&trigger);
                } else if let Some(armed) = self.trigger(&trigger) {
                    // Of what is watched the coverage tells.
                    if !armed.means.watches && armed.root.is_some() {
                        (armed.directories, armed.unread) = (walk.dirs, walk.unread);
                    }
                    armed.known = true;
                    let every = armed.means.every;
                    armed.next_scan = every.map(|every| Instant::now() + every);
                    self.changed = true;
                }
                self.report()?;
                self.reporter.send(FromWatch::Scanned { trigger })
            }
        }
    }

    /// A step of a walk. Returns whether it has ended.
    fn walk_on(&mut self, walk: &mut Walk) -> Result<bool, Stopped> {
        let Some(at) = self.triggers.iter().position(|t| t.name == walk.trigger) else {
            return Ok(true);
        };
        let Some(root) = self.triggers[at].open() else {
            // Without a root there is nothing; one that cannot be opened now is looked for first.
            return Ok(self.triggers[at].root.is_none());
        };
        if let Some(sweep) = &mut walk.sweep {
            return self.sweep_on(sweep);
        }
        let measures = &self.reporter.measures;
        if let Some(rel) = walk.measured.take_if(|rel| measures.is_scanning(&walk.trigger, rel)) {
            walk.measured = Some(rel);
            return Ok(false);
        }
        walk.measured = None;
        let follow = self.triggers[at].folder.follow_symlinks;
        for _ in 0..STEP_MAX {
            if walk.open.is_none() {
                let Some(rel) = walk.stack.pop() else {
                    // Links that were found are looked at before it goes on.
                    let waits = self.links.keys().any(|(name, _)| *name == walk.trigger);
                    return Ok(!waits && Self::listed(walk));
                };
                match self.open_dir(at, root.as_fd(), &rel) {
                    Ok(dir) => {
                        walk.dirs += u64::from(dir.is_some());
                        walk.open = dir.map(|dir| (rel, dir));
                    }
                    Err(error) if is_gone(&error) => {}
                    Err(error) => {
                        self.unread(at, walk, rel, &error);
                        return Ok(false);
                    }
                }
                continue;
            }
            let (rel, kind) = match walk.read() {
                Some(Ok(read)) => read,
                Some(Err((rel, error))) => {
                    self.unread(at, walk, rel, &error);
                    return Ok(false);
                }
                None => continue,
            };
            let kind = match kind {
                FileType::Unknown => kind_of(root.as_fd(), &rel),
                kind => kind,
            };
            let work = self.triggers[at].folder.file_type;
            let seen_enough = match (kind, work) {
                (FileType::Directory, Work::File) => self.walk_into(at, walk, rel, true),
                (FileType::Directory, Work::Dir) => {
                    let whole = self.triggers[at].reach().work_at(&rel).is_some();
                    self.walk_into(at, walk, rel.clone(), !whole);
                    whole && self.walk_over(at, walk, rel, false)?
                }
                (FileType::RegularFile, Work::File) => self.walk_over(at, walk, rel, false)?,
                (FileType::Symlink, Work::File) if follow != FollowSymlinks::Never => {
                    if follow == FollowSymlinks::All {
                        self.ask_link(at, rel.clone(), News::Known);
                    }
                    self.walk_over(at, walk, rel, true)?
                }
                _ => false,
            };
            if seen_enough || walk.measured.is_some() {
                return Ok(seen_enough);
            }
        }
        Ok(false)
    }

    /// All is listed. Returns whether that was all.
    fn listed(walk: &mut Walk) -> bool {
        if walk.is_scan() {
            let name = walk.trigger.clone();
            walk.sweep = Some(Sweep::new(name, Bytes::default(), true, Origin::Scan));
        }
        !walk.is_scan()
    }

    /// The running walks of a trigger go into the directory that a link leads to, once.
    pub(super) fn walk_also(&mut self, at: usize, link: &Bytes) {
        let name = &self.triggers[at].name;
        for walk in self.walks.iter_mut().filter(|walk| walk.trigger == *name) {
            if walk.sweep.is_none() && walk.links.insert(link.clone()) {
                walk.stack.push(link.clone());
            }
        }
    }

    /// Opens a directory, with its ignore files read. `None` if it is on another file system, which
    /// is not entered.
    fn open_dir(
        &mut self,
        at: usize,
        root: BorrowedFd<'_>,
        rel: &Bytes,
    ) -> io::Result<Option<Dir>> {
        let trigger = &mut self.triggers[at];
        let (dir, id) = disk::open_dir(root, rel, trigger.folder.follow_symlinks)?;
        if !trigger.enters(id.mount) {
            return Ok(None);
        }
        if trigger.folder.gitignore {
            self.unwanted |= trigger.scene.ignores.read(dir.fd()?, rel)?;
        }
        Ok(Some(dir))
    }

    /// A walk cannot read a directory, or not all of it.
    fn unread(&mut self, at: usize, walk: &mut Walk, rel: Bytes, error: &io::Error) {
        let trigger = &mut self.triggers[at];
        if is_scarcity(error) {
            let path = trigger.folder.root.join(rel.as_path());
            trigger.trouble = Some(format!("cannot open {}: {error}", path.display()));
            trigger.scarce = true;
            self.changed = true;
            walk.stack.push(rel);
        } else if trigger.means.watches {
            self.cover_anew(at, &rel);
        } else {
            let why = || (0, rel, error.kind().to_string());
            walk.unread.get_or_insert_with(why).0 += 1;
        }
    }

    /// A walk has come to a folder; `deeper`: it goes on in it. Never returns that it has seen
    /// enough.
    fn walk_into(&mut self, at: usize, walk: &mut Walk, rel: Bytes, deeper: bool) -> bool {
        let trigger = &self.triggers[at];
        if !trigger.wants_rel(&rel) {
            return false;
        }
        let path = trigger.reach().path(&rel);
        let path = path.filter(|path| trigger.means.watches && self.cover.get(path).is_none());
        if let Some(path) = path {
            self.cover.ask(path, News::Arrived);
        }
        if deeper {
            walk.stack.push(rel);
        }
        false
    }

    /// A walk has come to a regular file. Returns whether it has seen enough.
    fn walk_over(
        &mut self,
        at: usize,
        walk: &mut Walk,
        rel: Bytes,
        link: bool,
    ) -> Result<bool, Stopped> {
        let trigger = &mut self.triggers[at];
        if trigger.folder.rejects(&rel).is_some()
            || trigger.reach().against(&rel, trigger.folder.file_type == Work::Dir).is_some()
        {
            return Ok(false);
        }
        let root = trigger.open();
        let root = root.as_ref().map(|root| root.as_fd());
        match &mut walk.purpose {
            Purpose::Count { limit, files } => {
                *files += u64::from(counts(&trigger.folder, root, &rel, link));
                Ok(*files > *limit)
            }
            Purpose::Scan { .. } => {
                let target = trigger.any_target(rel.clone());
                walk.measured = (target.work == Work::Dir).then_some(rel);
                self.reporter.look(root, target, Origin::Scan, true)?;
                Ok(false)
            }
        }
    }
}

/// Whether a name that counts is delivered by a first scan: its size may not count, and a link may
/// lead to no file. What a folder holds is not known before it is measured.
fn counts(folder: &FolderSpec, root: Option<BorrowedFd<'_>>, rel: &Bytes, link: bool) -> bool {
    let any = folder.min_size == 0 && folder.max_size == u64::MAX;
    if (any && !link) || folder.file_type == Work::Dir {
        return true;
    }
    match root.map(|root| disk::find(root, rel, folder.follow_symlinks)) {
        Some(Ok(Found::File(file))) => folder.rejects_size(file.version.size).is_none(),
        _ => !link,
    }
}

/// What is there, where a file system's listings do not tell.
fn kind_of(root: BorrowedFd<'_>, rel: &Bytes) -> FileType {
    match disk::find(root, rel, FollowSymlinks::Never) {
        Ok(Found::Directory(_)) => FileType::Directory,
        Ok(Found::File(_)) => FileType::RegularFile,
        Ok(Found::Other) => FileType::Symlink,
        _ => FileType::Unknown,
    }
}
