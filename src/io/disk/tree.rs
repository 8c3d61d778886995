//! Measures a folder with all that is in it: its size, its newest time, who writes in it.
//!
//! Goes through the folder in bounded steps, so that others are served in between. Follows no
//! symbolic link, enters no other file system, and counts regular files only.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Dir, FileType, Mode, OFlags, Statx, openat};
use rustix::io::Errno;

use super::{
    FoundFile, Prober, beneath, dev_of, is, mount_of, mtime_of, open_root, stat_of, version_of,
};
use crate::core::candidate::{Disk, Probe, Version};
use crate::core::path::Bytes;
use crate::core::trigger::ReadLock;

/// Names in a step of [`tree_at`], which takes as many steps as it needs.
const STEP: usize = 1024;

/// A folder that is being measured.
pub struct Tree {
    version: Version,
    probe: Probe,
    mount: u64,
    /// Folders that are still to be read, relative to the root. Depth first, so that it stays short.
    stack: Vec<Bytes>,
    open: Option<(Bytes, Dir)>,
    /// Names that were read.
    names: usize,
}

impl Tree {
    /// Begins with the folder `rel` beneath `root` (itself, if `rel` is empty); `None` if there is
    /// no folder. Errors: what keeps dagd from looking at it.
    pub fn begin(root: BorrowedFd<'_>, rel: &Bytes) -> io::Result<Option<Self>> {
        let fd = match beneath(root, rel, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC) {
            Ok(fd) => fd,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV) => return Ok(None),
            Err(errno) => return Err(errno.into()),
        };
        let stat = stat_of(fd.as_fd())?;
        let version = Version { size: 0, ..version_of(fd.as_fd(), &stat) };
        let (mount, stack) = (mount_of(&stat), vec![rel.clone()]);
        let probe = Probe::Free;
        Ok(Some(Self { version, probe, mount, stack, open: None, names: 0 }))
    }

    /// Goes on, for `most` names at most. With a `prober`, asks for each file who writes, as far
    /// as `lock` wants to know. Returns whether all is measured.
    pub fn step(
        &mut self,
        root: BorrowedFd<'_>,
        mut prober: Option<(&mut Prober, ReadLock)>,
        most: usize,
    ) -> bool {
        for _ in 0..most {
            self.names += 1;
            let Some((folder, dir)) = &mut self.open else {
                let Some(rel) = self.stack.pop() else { return true };
                self.enter(root, rel);
                continue;
            };
            let entry = match dir.read() {
                Some(Ok(entry)) => entry,
                Some(Err(error)) => {
                    self.open = None;
                    self.cannot(error);
                    continue;
                }
                None => {
                    self.open = None;
                    continue;
                }
            };
            let name = entry.file_name().to_bytes();
            if name == b"." || name == b".." {
                continue;
            }
            match entry.file_type() {
                FileType::Directory => self.stack.push(folder.join(name)),
                FileType::RegularFile | FileType::Unknown => {
                    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                    let opened = dir
                        .fd()
                        .and_then(|dir| openat(dir, entry.file_name(), flags, Mode::empty()));
                    let found = opened.and_then(|fd| Ok((stat_of(fd.as_fd())?, fd)));
                    let rel = folder.join(name);
                    let asks = prober.as_mut().map(|(prober, lock)| (&mut **prober, *lock));
                    self.found(rel, found, asks);
                }
                _ => {}
            }
        }
        false
    }

    /// Names read so far.
    pub fn names(&self) -> usize {
        self.names
    }

    /// What was measured; complete once [`Tree::step`] said so. `torn`: it has changed meanwhile,
    /// so that nothing is proved.
    pub fn end(self, torn: bool) -> Disk {
        let unproved = torn && self.probe == Probe::Free;
        let probe = if unproved { Probe::Unproved } else { self.probe };
        Disk::File { version: self.version, probe }
    }

    /// Whether it is the folder at `rel`, still.
    pub fn is_at(&self, root: BorrowedFd<'_>, rel: &Bytes) -> bool {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        beneath(root, rel, flags).is_ok_and(|fd| {
            stat_of(fd.as_fd())
                .is_ok_and(|stat| version_of(fd.as_fd(), &stat).file == self.version.file)
        })
    }

    fn enter(&mut self, root: BorrowedFd<'_>, rel: Bytes) {
        let opened = beneath(root, &rel, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC)
            .and_then(|fd| Ok((stat_of(fd.as_fd())?, fd)));
        match opened {
            Ok((stat, fd)) if mount_of(&stat) == self.mount => {
                self.version.mtime_ns = self.version.mtime_ns.max(mtime_of(&stat));
                match Dir::new(fd) {
                    Ok(dir) => self.open = Some((rel, dir)),
                    Err(error) => self.cannot(error),
                }
            }
            Ok(_) => {}
            Err(error) => self.cannot(error),
        }
    }

    fn found(
        &mut self,
        rel: Bytes,
        found: Result<(Statx, OwnedFd), Errno>,
        prober: Option<(&mut Prober, ReadLock)>,
    ) {
        let (stat, fd) = match found {
            Ok(found) => found,
            Err(error) => return self.cannot(error),
        };
        if is(&stat, FileType::Directory) {
            self.stack.push(rel);
        }
        if !is(&stat, FileType::RegularFile) {
            return;
        }
        let (size, mtime_ns) = (stat.stx_size, mtime_of(&stat));
        let version = Version { size, mtime_ns, ..Version::unknown() };
        let (owner, dev, names) = (stat.stx_uid, dev_of(&stat), stat.stx_nlink);
        let file = FoundFile { version, fd, owner, dev, names };
        let disk = match prober {
            Some((prober, lock)) => prober.probe(file, lock),
            None => Disk::File { version: file.version, probe: Probe::NotAsked },
        };
        if let Disk::File { version, probe } = disk {
            self.version.size = self.version.size.saturating_add(version.size);
            self.version.mtime_ns = self.version.mtime_ns.max(version.mtime_ns);
            self.worsen(probe);
        }
    }

    /// Something in it could not be looked at. What is gone by now is no part of it.
    fn cannot(&mut self, error: Errno) {
        match error {
            Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV => {}
            Errno::NAMETOOLONG => self.worsen(Probe::Unreachable),
            _ => self.worsen(Probe::Unreadable),
        }
    }

    fn worsen(&mut self, probe: Probe) {
        let rank = |probe: Probe| match probe {
            Probe::Free => 0,
            Probe::NotAsked => 1,
            Probe::Unproved => 2,
            Probe::Unreadable => 3,
            Probe::WriterOpen => 4,
            Probe::NotDone => 5,
            Probe::Unreachable => 6,
        };
        if rank(probe) > rank(self.probe) {
            self.probe = probe;
        }
    }
}

/// The version of the folder at `path`; `None` if no folder is there. A symbolic link at the end is
/// not followed. Takes as long as it takes to look at each file in it. Errors: `NotFound` if nothing
/// is there, else what the kernel says, also of what is in it.
pub fn tree_at(path: &Path) -> io::Result<Option<Version>> {
    if !path.symlink_metadata()?.is_dir() {
        return Ok(None);
    }
    let (root, itself) = (open_root(path)?, Bytes::default());
    let Some(mut tree) = Tree::begin(root.as_fd(), &itself)? else { return Ok(None) };
    while !tree.step(root.as_fd(), None, STEP) {}
    match tree.probe {
        Probe::Unreadable => Err(io::ErrorKind::PermissionDenied.into()),
        Probe::Unreachable => Err(io::ErrorKind::InvalidFilename.into()),
        _ => Ok(Some(tree.version)),
    }
}
