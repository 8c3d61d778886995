//! The triggers that are armed: where their roots are, and which paths concern them.
//!
//! Watches nothing itself and holds no root open: an open root would keep its file system from
//! being unmounted. Roots are found in [`super::seek`].

use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;
use std::time::Instant;

use indexmap::IndexSet;

use crate::core::id::Name;
use crate::core::ledger::Placed;
use crate::core::path::Bytes;
use crate::core::trigger::{Backend, FolderSpec, TriggerSpec};
use crate::io::disk::{self, DirId};

use super::backend::Problem;
use super::dirty::{DIRTY_MAX, beneath};
use super::means::Means;
use super::pulse::Pulse;
use super::reach::{Reach, Scene};
use super::report::Target;

/// The longest path that a program can open, with the byte that ends it.
const PATH_MAX: usize = 4096;

/// A directory from which on files of a trigger lie: its root, or where a link beneath it leads.
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
#[expect(clippy::struct_excessive_bools, reason = "they have nothing to do with each other")]
pub struct Armed {
    /// Its name.
    pub name: Name,
    /// Its revision.
    pub rev: Arc<str>,
    /// Its folder.
    pub folder: FolderSpec,
    /// Its root, if it exists.
    pub root: Option<Root>,
    /// Where its files lie; the root's place is the first.
    pub places: Vec<Placed>,
    /// What was told of that.
    pub told: Vec<Placed>,
    /// What was found beneath its root that tells how far it reaches.
    pub scene: Scene,
    /// Why its root cannot be opened although it exists.
    pub trouble: Option<String>,
    /// Whether that is only because there are no more descriptors or threads for now: then nothing
    /// is known of the root, or against the one that it has, and what is to be looked at waits.
    pub scarce: bool,
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
    /// Whether all that was there when its root was found has been told: what has happened since,
    /// hints tell, or another scan.
    pub known: bool,
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
    /// Its root could not be opened, or turned out to be another directory than it was; or what is
    /// beneath it could not be looked at because too much is open.
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
            places: Vec::new(),
            told: Vec::new(),
            scene: Scene::default(),
            trouble: None,
            scarce: false,
            unfollowed: None,
            held: false,
            kept: Kept::default(),
            directories: 0,
            unread: None,
            known: false,
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
        (self.root, self.places, self.told) = (was.root, was.places, was.told);
        self.scene.foreign = was.scene.foreign;
        (self.held, self.kept) = (was.held, was.kept);
        (self.trouble, self.scarce, self.unfollowed) = (was.trouble, was.scarce, was.unfollowed);
        (self.directories, self.unread) = (was.directories, was.unread);
    }

    /// How far it reaches.
    pub fn reach(&self) -> Reach<'_> {
        let base = self.root.as_ref().map(|root| &root.base);
        Reach { folder: &self.folder, base, scene: &self.scene }
    }

    /// A path without links, relative to the root, if it is there and the path belongs to it.
    pub fn rel(&self, path: &Bytes) -> Option<Bytes> {
        self.root.as_ref()?;
        self.reach().rel(path)
    }

    /// The file system on which the files right in a directory lie; `None` if that is one of which
    /// none count.
    pub fn place_of(&self, dir: &Bytes) -> Option<&str> {
        if self.reach().mount_over(dir).is_some() && !self.folder.cross_filesystem {
            return None;
        }
        let over = self.places.iter().filter(|placed| {
            beneath(placed.dir.as_bytes(), dir.as_bytes()).is_some()
                || placed.dir == Bytes::default()
        });
        over.max_by_key(|placed| placed.dir.as_bytes().len()).map(|placed| placed.what.as_str())
    }

    /// The directories under which all of its own lie.
    pub fn bases(&self) -> impl Iterator<Item = &Bytes> {
        let grafts = self.scene.grafts.values().map(|graft| &graft.base);
        self.root.iter().map(|root| &root.base).chain(grafts)
    }

    /// Whether the directory `path` on the mount `mount` (unknown if `None`) is to be watched for
    /// the trigger.
    pub fn wants(&self, path: &Bytes, mount: Option<u64>) -> bool {
        let rel = self.rel(path).filter(|_| self.means.watches);
        mount.is_none_or(|mount| self.enters(mount)) && rel.is_some_and(|rel| self.wants_rel(&rel))
    }

    /// Whether its directories are to be watched by a mark on their file systems.
    pub fn is_marked(&self) -> bool {
        self.folder.backend == Backend::Fanotify
    }

    /// Whether a directory relative to the root belongs to the trigger.
    pub fn wants_rel(&self, rel: &Bytes) -> bool {
        self.reach().enters(rel)
    }

    /// Whether a directory that was opened belongs to the trigger, by the mount that it is on.
    pub fn enters(&self, mount: u64) -> bool {
        let home = self.root.as_ref().is_some_and(|root| root.id.mount == mount);
        let graft = || self.scene.grafts.values().any(|graft| graft.id.mount == mount);
        self.folder.cross_filesystem || home || graft()
    }

    /// What a change at `path` is a change of, as a target, if that counts.
    pub fn target(&self, path: &Bytes) -> Option<Target> {
        let rel = self.rel(path).filter(|rel| !rel.as_bytes().is_empty())?;
        self.target_rel(&rel)
    }

    /// The same for a path relative to the root.
    pub fn target_rel(&self, rel: &Bytes) -> Option<Target> {
        let work = self.reach().work_at(rel).filter(|_| self.wants_rel(&Bytes::from(rel.dir())));
        work.map(|work| self.any_target(work))
    }

    /// A target, whether its name counts or not.
    pub fn any_target(&self, rel: Bytes) -> Target {
        let root = self.folder.root.as_os_str().len();
        Target {
            trigger: self.name.clone(),
            lock: self.folder.read_lock,
            work: self.folder.file_type,
            follow: self.folder.follow_symlinks,
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

    /// Whether nothing beneath its root can be looked at for now.
    pub fn waits(&self) -> bool {
        self.scarce
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
        let links = self.scene.more_links.then(|| {
            let root = self.folder.root.display();
            format!("more links below {root} lead to folders than are followed; remove some")
        });
        let all = self.trouble.clone().into_iter().chain(deaf).chain(way);
        all.chain(unread).chain(links).collect()
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
