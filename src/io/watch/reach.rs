//! How far a folder trigger reaches: which paths beneath its root belong to it, by their names and by
//! what is on disk.
//!
//! What names tell is in [`crate::core::scope`]. What has to be looked at on disk, such as ignore
//! files and mounts, is kept in a [`Scene`], which those fill that read directories.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::core::path::Bytes;
use crate::core::trigger::{FileType, FolderSpec};

use super::dirty::beneath;
use super::ignores::{Ignored, Ignores};
use super::roots::Root;

/// What was found beneath a root that widens or narrows the reach of its trigger.
#[derive(Debug, Default)]
pub struct Scene {
    /// Mounts that begin beneath the root, or beneath a graft, by number and path. Bounded by the
    /// kernel's limit of mounts.
    pub foreign: BTreeSet<(u64, Bytes)>,
    /// Links that lead to directories or to nothing, relative to the root.
    pub links: BTreeSet<Bytes>,
    /// Whether there are more links than fit.
    pub more_links: bool,
    /// Those of the links whose directories, elsewhere, belong to the trigger by them.
    pub grafts: BTreeMap<Bytes, Root>,
    /// Ignore files.
    pub ignores: Ignores,
}

/// Why a path does not belong to a trigger, by what is on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Out {
    /// It is a symbolic link, or lies behind one, that is not followed.
    Link(Bytes),
    /// It lies behind a link to a folder that belongs to the trigger by its own name.
    Twice {
        /// The link.
        link: Bytes,
        /// The folder.
        own: Bytes,
    },
    /// Another file system begins at this path.
    Mount(Bytes),
    /// An ignore file says so, of it or of a folder on the way to it.
    Ignored(Ignored),
}

impl fmt::Display for Out {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Link(link) => write!(f, "follow_symlinks: `{}` is a link", quoted(link)),
            Self::Twice { link, own } => {
                let (link, own) = (quoted(link), quoted(own));
                write!(f, "follow_symlinks: `{link}` leads to `{own}`, which counts by that name")
            }
            Self::Mount(point) => {
                write!(f, "cross_filesystem: false, and `{}` is a mount", quoted(point))
            }
            Self::Ignored(Ignored { dir, pattern }) => {
                write!(f, "gitignore: `{pattern}`")?;
                if dir.as_bytes().is_empty() { Ok(()) } else { write!(f, " in `{}`", quoted(dir)) }
            }
        }
    }
}

fn quoted(path: &Bytes) -> impl fmt::Display {
    path.as_bytes().escape_ascii().to_string()
}

/// A trigger's folder as it is on disk.
#[derive(Clone, Copy, Debug)]
pub struct Reach<'a> {
    /// The folder.
    pub folder: &'a FolderSpec,
    /// Its root's path without links, if it is there.
    pub base: Option<&'a Bytes>,
    /// What was found beneath.
    pub scene: &'a Scene,
}

impl Reach<'_> {
    /// Where a path relative to the root lies, without links on the way to it.
    pub fn path(&self, rel: &Bytes) -> Option<Bytes> {
        let graft = self.graft_over(rel);
        graft.map(|(graft, rest)| graft.base.join(rest)).or_else(|| {
            let base = self.base?;
            Some(if rel.as_bytes().is_empty() { base.clone() } else { base.join(rel.as_bytes()) })
        })
    }

    /// The graft that a path relative to the root lies in, and its path there.
    fn graft_over<'r>(&self, rel: &'r Bytes) -> Option<(&Root, &'r [u8])> {
        let grafts = self.scene.grafts.iter();
        let over = grafts.filter_map(|(link, graft)| {
            Some((link, graft, beneath(link.as_bytes(), rel.as_bytes())?))
        });
        let longest = over.max_by_key(|(link, ..)| link.as_bytes().len());
        longest.map(|(_, graft, rest)| (graft, rest))
    }

    /// A path without links, relative to the root: the root or the graft over it that is nearest.
    pub fn rel(&self, path: &Bytes) -> Option<Bytes> {
        let base = self.base.map(|base| (base, &EMPTY));
        let grafts = self.scene.grafts.iter().map(|(link, graft)| (&graft.base, link.as_bytes()));
        let all = base.into_iter().map(|(base, empty)| (base, &empty[..])).chain(grafts);
        let over = all.filter_map(|(base, link)| {
            Some((base, link, beneath(base.as_bytes(), path.as_bytes())?))
        });
        let (_, link, rest) = over.max_by_key(|(base, ..)| base.as_bytes().len())?;
        Some(match (link, rest) {
            ([], rest) => Bytes::from(rest),
            (link, []) => Bytes::from(link),
            (link, rest) => Bytes::from(link).join(rest),
        })
    }

    /// Whether the directory `rel`, relative to the root, is looked into.
    pub fn enters(&self, rel: &Bytes) -> bool {
        rel.as_bytes().is_empty()
            || (self.folder.enters(rel) && self.against(rel, true).is_none() && self.is_own(rel))
    }

    /// Whether a directory belongs to the trigger by this path. One over the root, or over another
    /// graft, may be a graft as well: what is in both is reached by two paths.
    fn is_own(&self, rel: &Bytes) -> bool {
        self.scene.grafts.is_empty()
            || self.path(rel).is_none_or(|path| self.rel(&path).as_ref() == Some(rel))
    }

    /// What a change at `rel` is a change of, as [`FolderSpec::work_at`] has it; `None` if it is no
    /// work, by its name or by what is on disk.
    pub fn work_at(&self, rel: &Bytes) -> Option<Bytes> {
        let is_dir = self.folder.file_type == FileType::Dir;
        self.folder.work_at(rel).filter(|work| self.against(work, is_dir).is_none())
    }

    /// Why the path `rel` relative to the root does not belong to the trigger, by what is on disk.
    pub fn against(&self, rel: &Bytes, is_dir: bool) -> Option<Out> {
        if let Some(point) = self.mount_over(rel).filter(|_| !self.folder.cross_filesystem) {
            return Some(Out::Mount(point));
        }
        if !self.folder.gitignore {
            return None;
        }
        let ends = rel.as_bytes().iter().enumerate().filter(|(_, b)| **b == b'/').map(|(at, _)| at);
        let mut above = ends.map(|end| Bytes::from(&rel.as_bytes()[..end]));
        let ignored =
            |rel: &Bytes, is_dir| self.scene.ignores.against(rel, is_dir).map(Out::Ignored);
        above.find_map(|dir| ignored(&dir, true)).or_else(|| ignored(rel, is_dir))
    }

    /// The mount that begins beneath the root at a path relative to it, or over it. Links may lead
    /// to other mounts, but from there it goes on to no further one.
    pub fn mount_over(&self, rel: &Bytes) -> Option<Bytes> {
        if self.scene.foreign.is_empty() {
            return None;
        }
        let path = self.path(rel)?;
        let home = self.graft_over(rel).map(|(graft, _)| &graft.base).or(self.base)?;
        let is_over = |point: &&Bytes| {
            beneath(point.as_bytes(), path.as_bytes()).is_some()
                && beneath(home.as_bytes(), point.as_bytes()).is_some_and(|rest| !rest.is_empty())
        };
        self.scene.foreign.iter().map(|(_, point)| point).find(is_over).cloned()
    }
}

const EMPTY: [u8; 0] = [];
