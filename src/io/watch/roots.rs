//! The triggers that are armed: where their roots are, and which paths concern them.
//!
//! Watches nothing itself and holds no root open: an open root would keep its file system from
//! being unmounted. Roots are found in [`super::seek`].

use std::collections::BTreeSet;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;
use std::time::Instant;

use indexmap::IndexSet;

use crate::core::id::Name;
use crate::core::path::Bytes;
use crate::core::trigger::{FolderSpec, TriggerSpec};
use crate::io::disk::{self, DirId};

use super::backend::Problem;
use super::dirty::{DIRTY_MAX, beneath};
use super::means::Means;
use super::pulse::Pulse;
use super::report::Target;

/// The longest path that a program can open, with the byte that ends it.
const PATH_MAX: usize = 4096;

/// Where a trigger's root is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Root {
    /// Its path without symbolic links: two triggers that reach it differently share its watch.
    pub base: Bytes,
    /// Which directory it is.
    pub id: DirId,
}

/// What a held trigger has missed.
#[derive(Debug, Default)]
pub struct Kept {
    /// Paths relative to the root.
    pub rels: IndexSet<Bytes>,
    /// Whether there were more than fit.
    pub lost: bool,
}

/// A folder trigger.
#[derive(Debug)]
pub struct Armed {
    /// Its name.
    pub name: Name,
    /// Its revision.
    pub rev: Arc<str>,
    /// Its folder.
    pub folder: FolderSpec,
    /// Its root, if it exists.
    pub root: Option<Root>,
    /// The mount that its root was on last.
    pub last_mount: Option<u64>,
    /// Mounts that begin beneath its root, by number and path. Bounded by the kernel's limit.
    pub foreign: BTreeSet<(u64, Bytes)>,
    /// Why its root cannot be opened although it exists.
    pub trouble: Option<String>,
    /// Why the way to its root cannot be followed.
    pub unfollowed: Option<Problem>,
    /// Whether it was told to hold.
    pub held: bool,
    /// What it missed while held.
    pub kept: Kept,
    /// Directories covered.
    pub directories: u64,
    /// Directories that its last scan could not read: how many, one of them, and why.
    pub unread: Option<(u64, Bytes, String)>,
    /// Times that hints were lost.
    pub overflows: u64,
    /// How changes are noticed.
    pub means: Means,
    /// How completeness is established.
    pub readiness: &'static str,
    /// When it is scanned next.
    pub next_scan: Option<Instant>,
    /// Whether it is served elsewhere by now.
    pub apart: bool,
    pulse: Arc<Pulse>,
    /// The root, open for the present step.
    opened: Option<Arc<OwnedFd>>,
    /// Its root turned out to be another directory than it was.
    pub doubtful: bool,
}

impl Armed {
    /// A trigger whose root was not looked for yet; `None` if it is no folder trigger.
    pub fn new(spec: &TriggerSpec, pulse: Arc<Pulse>) -> Option<Self> {
        Some(Self {
            name: spec.name.clone(),
            rev: spec.rev.clone(),
            folder: spec.folder()?.clone(),
            root: None,
            last_mount: None,
            foreign: BTreeSet::new(),
            trouble: None,
            unfollowed: None,
            held: false,
            kept: Kept::default(),
            directories: 0,
            unread: None,
            overflows: 0,
            means: Means::new(spec.folder()?),
            readiness: "inferred",
            next_scan: None,
            apart: false,
            pulse,
            opened: None,
            doubtful: false,
        })
    }

    /// Takes over what another revision of the trigger, with the same root, knew.
    pub fn inherit(&mut self, was: Self) {
        (self.root, self.last_mount, self.foreign) = (was.root, was.last_mount, was.foreign);
        (self.held, self.kept, self.overflows) = (was.held, was.kept, was.overflows);
        (self.trouble, self.unfollowed) = (was.trouble, was.unfollowed);
        (self.directories, self.unread) = (was.directories, was.unread);
    }

    /// The path relative to the root, if there is a root over it.
    pub fn rel(&self, path: &Bytes) -> Option<Bytes> {
        let root = self.root.as_ref()?;
        beneath(root.base.as_bytes(), path.as_bytes()).map(Bytes::from)
    }

    /// Whether the directory `path` on the mount `mount` (unknown if `None`) is to be watched for
    /// the trigger.
    pub fn wants(&self, path: &Bytes, mount: Option<u64>) -> bool {
        let Some((root, rel)) = self.root.as_ref().zip(self.rel(path)) else { return false };
        self.means.watches
            && mount.is_none_or(|mount| mount == root.id.mount)
            && self.wants_rel(&rel)
    }

    /// Whether a directory relative to the root, on the root's mount, belongs to the trigger.
    pub fn wants_rel(&self, rel: &Bytes) -> bool {
        if rel.as_bytes().is_empty() {
            return true;
        }
        if self.is_foreign(rel) && !self.folder.cross_filesystem {
            return false;
        }
        self.folder.enters(rel)
    }

    /// Whether another mount begins at a path relative to the root, or over it.
    fn is_foreign(&self, rel: &Bytes) -> bool {
        let Some(root) = self.root.as_ref().filter(|_| !self.foreign.is_empty()) else {
            return false;
        };
        let path = root.base.join(rel.as_bytes());
        let over = |point: &Bytes| beneath(point.as_bytes(), path.as_bytes()).is_some();
        self.foreign.iter().any(|(_, point)| over(point))
    }

    /// What a change at `path` is a change of, as a target, if that counts.
    pub fn target(&self, path: &Bytes) -> Option<Target> {
        let rel = self.rel(path).filter(|rel| !rel.as_bytes().is_empty())?;
        self.target_rel(&rel)
    }

    /// The same for a path relative to the root.
    pub fn target_rel(&self, rel: &Bytes) -> Option<Target> {
        let work = self.folder.work_at(rel).filter(|_| self.wants_rel(&Bytes::from(rel.dir())));
        work.map(|work| self.any_target(work))
    }

    /// A target, whether its name counts or not.
    pub fn any_target(&self, rel: Bytes) -> Target {
        let root = self.folder.root.as_os_str().len();
        Target {
            trigger: self.name.clone(),
            lock: self.folder.read_lock,
            work: self.folder.file_type,
            done: self.folder.done_of(&rel),
            reachable: root + rel.as_bytes().len() + 2 <= PATH_MAX,
            rel,
        }
    }

    /// The root, open until [`Armed::close`]; `None` if it is not there or another one by now.
    pub fn open(&mut self) -> Option<Arc<OwnedFd>> {
        self.pulse.touch(&self.name);
        if self.opened.is_none() {
            let root = self.root.as_ref()?;
            let now = disk::open_root(root.base.as_path())
                .ok()
                .filter(|fd| disk::dir_id(fd.as_fd()).is_ok_and(|id| id == root.id));
            self.doubtful |= now.is_none();
            self.opened = now.map(Arc::new);
        }
        self.opened.clone()
    }

    /// What keeps its files from being noticed as they should be, apart from what concerns single
    /// directories that are watched; a line for each.
    pub fn problems(&self) -> Vec<String> {
        let deaf = self.means.deaf.clone().filter(|_| self.root.is_some());
        let way = self
            .unfollowed
            .as_ref()
            .map(|problem| problem.line(1, &format!("the way to {}", self.folder.root.display())));
        let unread = self.unread.as_ref().map(|(count, rel, why)| {
            let path = self.folder.root.join(rel.as_path());
            let count = match count {
                1 => path.display().to_string(),
                n => format!("{n} directories (such as {})", path.display()),
            };
            format!("{count} cannot be read: {why}; let dagd's user read and search it")
        });
        self.trouble.clone().into_iter().chain(deaf).chain(way).chain(unread).collect()
    }

    /// Closes the root.
    pub fn close(&mut self) {
        self.opened = None;
    }

    /// Remembers a path for the time after the hold.
    pub fn keep(&mut self, rel: Bytes) {
        if self.kept.rels.len() >= DIRTY_MAX {
            self.kept = Kept { rels: IndexSet::new(), lost: true };
        }
        if !self.kept.lost {
            self.kept.rels.insert(rel);
        }
    }
}
