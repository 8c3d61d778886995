//! The triggers that are armed: where their roots are, and which paths concern them.
//!
//! Finds roots, and the nearest directory to watch for one that does not exist. It watches nothing
//! itself and holds no root open: an open root would keep its file system from being unmounted.

use std::fs;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use indexmap::IndexSet;

use crate::core::id::Name;
use crate::core::path::Bytes;
use crate::core::trigger::{FolderSpec, TriggerSpec};
use crate::io::disk::{self, DirId};

use super::dirty::{DIRTY_MAX, beneath};
use super::report::Target;

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
    /// What is watched until its root appears, and the name in it that is missing.
    pub awaits: Option<(Bytes, Bytes)>,
    /// The device that its root was on last.
    pub last_dev: Option<u64>,
    /// Why its root cannot be opened although it exists.
    pub trouble: Option<String>,
    /// Whether it was told to hold.
    pub held: bool,
    /// What it missed while held.
    pub kept: Kept,
    /// Directories covered.
    pub directories: u64,
    /// Times that hints were lost.
    pub overflows: u64,
    /// How completeness is established.
    pub readiness: &'static str,
    /// When it is scanned next.
    pub next_scan: Option<Instant>,
    /// The root, open for the present step.
    opened: Option<Arc<OwnedFd>>,
    /// Its root turned out to be another directory than it was.
    pub doubtful: bool,
}

impl Armed {
    /// A trigger whose root was not looked for yet; `None` if it is no folder trigger.
    pub fn new(spec: &TriggerSpec) -> Option<Self> {
        Some(Self {
            name: spec.name.clone(),
            rev: spec.rev.clone(),
            folder: spec.folder()?.clone(),
            root: None,
            awaits: None,
            last_dev: None,
            trouble: None,
            held: false,
            kept: Kept::default(),
            directories: 0,
            overflows: 0,
            readiness: "inferred",
            next_scan: None,
            opened: None,
            doubtful: false,
        })
    }

    /// The path relative to the root, if there is a root over it.
    pub fn rel(&self, path: &Bytes) -> Option<Bytes> {
        let root = self.root.as_ref()?;
        beneath(root.base.as_bytes(), path.as_bytes()).map(Bytes::from)
    }

    /// Whether the directory `path` on the device `dev` (unknown if `None`) belongs to the trigger.
    pub fn wants(&self, path: &Bytes, dev: Option<u64>) -> bool {
        let Some((root, rel)) = self.root.as_ref().zip(self.rel(path)) else { return false };
        dev.is_none_or(|dev| dev == root.id.dev) && self.wants_rel(&rel)
    }

    /// The same for a directory relative to the root, on the root's device.
    pub fn wants_rel(&self, rel: &Bytes) -> bool {
        if rel.as_bytes().is_empty() {
            return true;
        }
        let ends = rel.as_bytes().iter().enumerate().filter(|(_, b)| **b == b'/').map(|(at, _)| at);
        self.folder.recursive
            && !ends
                .chain([rel.as_bytes().len()])
                .any(|end| self.folder.filter.prunes(&Bytes::from(&rel.as_bytes()[..end])))
    }

    /// The file `path` as a target, if its name counts.
    pub fn target(&self, path: &Bytes) -> Option<Target> {
        let rel = self.rel(path).filter(|rel| !rel.as_bytes().is_empty())?;
        self.target_rel(rel)
    }

    /// The same for a path relative to the root.
    pub fn target_rel(&self, rel: Bytes) -> Option<Target> {
        (self.wants_rel(&Bytes::from(rel.dir())) && self.folder.filter.rejects(&rel).is_none())
            .then(|| self.any_target(rel))
    }

    /// A target, whether its name counts or not.
    pub fn any_target(&self, rel: Bytes) -> Target {
        Target { trigger: self.name.clone(), rel, lock: self.folder.read_lock }
    }

    /// The root, open until [`Armed::close`]; `None` if it is not there or another one by now.
    pub fn open(&mut self) -> Option<Arc<OwnedFd>> {
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

/// Where a root is, or what to watch until it appears.
#[derive(Debug)]
pub enum Sought {
    /// Here it is.
    Here(Root),
    /// Not there: watch `anchor` until `awaits`, a name in it, changes.
    Away {
        /// The nearest existing directory.
        anchor: Bytes,
        /// What is missing in it.
        awaits: Bytes,
        /// Why it cannot be opened, if it exists.
        trouble: Option<String>,
    },
}

/// Looks for a root.
pub fn seek(path: &Path) -> Sought {
    let trouble = match open(path) {
        Ok(root) => return Sought::Here(root),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => Some(format!("cannot open {}: {error}", path.display())),
    };
    let mut below = path;
    for above in path.ancestors().skip(1) {
        if let Ok(anchor) = open(above) {
            let name = below.file_name().unwrap_or_default();
            let awaits = Bytes::from(Path::new(&anchor.base.as_path().join(name)));
            return Sought::Away { anchor: anchor.base, awaits, trouble };
        }
        below = above;
    }
    let top = Bytes::from("/");
    Sought::Away { awaits: top.clone(), anchor: top, trouble }
}

fn open(path: &Path) -> std::io::Result<Root> {
    let base: PathBuf = fs::canonicalize(path)?;
    let fd = disk::open_root(&base)?;
    let id = disk::dir_id(fd.as_fd())?;
    Ok(Root { base: Bytes::from(base.as_path()), id })
}
