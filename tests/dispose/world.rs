//! A drop folder and a place to move to, and moves between them.

use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use dagd::core::candidate::Kind;
use dagd::core::disposition::{Disposed, Goal, MoveResult, Phase};
use dagd::core::effect::Move;
use dagd::core::id::{RunId, Wall};
use dagd::core::path::Bytes;
use dagd::core::record::FileClaim;
use dagd::core::sidecar::Sidecar;
use dagd::core::trigger::{FileType, OnConflict};
use dagd::io::disk::{tree_at, version_at};
use tempfile::TempDir;

/// A drop folder and a place to move to, perhaps on another file system.
pub(crate) struct World {
    pub(crate) inbox: TempDir,
    pub(crate) done: TempDir,
}

impl World {
    pub(crate) fn on_one_file_system() -> Self {
        Self { inbox: tempfile::tempdir().unwrap(), done: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn across() -> Option<Self> {
        let inbox = tempfile::tempdir().unwrap();
        let done = TempDir::new_in("/dev/shm").ok();
        let done = done.filter(|done| dev(done.path()) != dev(inbox.path()));
        if done.is_none() {
            crate::skip("/dev/shm is no second file system here");
        }
        Some(Self { inbox, done: done? })
    }

    pub(crate) fn both() -> impl Iterator<Item = Self> {
        std::iter::once(Self::on_one_file_system()).chain(Self::across())
    }

    pub(crate) fn file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.inbox.path().join(name);
        fs::write(&path, content).unwrap();
        path
    }

    pub(crate) fn to(&self, name: &str) -> PathBuf {
        self.done.path().join(name)
    }
}

pub(crate) fn dev(path: &Path) -> u64 {
    fs::metadata(path).unwrap().dev()
}

pub(crate) fn claim(path: &Path) -> FileClaim {
    FileClaim {
        rel: Bytes::from(path.file_name().unwrap().as_bytes()),
        path: Bytes::from(path),
        kind: Kind::Created,
        version: version(path).expect("the test has just made it"),
        first_seen_at: Wall(0),
        in_place: true,
        key: None,
    }
}

pub(crate) fn version(path: &Path) -> Option<dagd::core::candidate::Version> {
    if path.is_dir() { tree_at(path) } else { version_at(path) }.unwrap()
}

pub(crate) fn sidecar(text: &str) -> Sidecar {
    Sidecar::parse(text).unwrap()
}

/// A move that may have been tried before: what follows from that is the same for a first try.
pub(crate) fn plan(path: &Path, target: &Path) -> Move {
    let file_type = if path.is_dir() { FileType::Dir } else { FileType::File };
    Move { file_type, ..of_claim(claim(path), target) }
}

/// The same for what was claimed before.
pub(crate) fn of_claim(claim: FileClaim, target: &Path) -> Move {
    Move {
        run: RunId(7),
        file: 0,
        phase: Phase::After,
        trigger: None,
        claim,
        goal: Goal::To(Bytes::from(target)),
        on_conflict: OnConflict::Rename,
        file_type: FileType::File,
        companions: Vec::new(),
        again: true,
    }
}

pub(crate) fn moved(path: &Path) -> Disposed {
    let version = version(path).expect("it has arrived");
    Disposed::Done(MoveResult::Moved { to: Bytes::from(path), version })
}

pub(crate) fn done(result: MoveResult) -> Disposed {
    Disposed::Done(result)
}

pub(crate) fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

pub(crate) fn failure(outcome: Disposed) -> String {
    let Disposed::Done(MoveResult::Failed(text)) = outcome else {
        panic!("not failed: {outcome:?}")
    };
    text
}

pub(crate) fn not_yet(outcome: Disposed) -> String {
    let Disposed::NotYet(text) = outcome else { panic!("not to be tried again: {outcome:?}") };
    text
}
