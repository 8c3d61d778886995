//! Covers directories: watch a batch, then read it, down the tree.
//!
//! What is read after it is watched can be missed by neither. Directories found are covered in
//! turn; files found are reported if they came with their directory.

use std::io;
use std::os::fd::AsFd as _;

use rustix::fs::{Dir, FileType};

use crate::core::candidate::Origin;
use crate::core::path::Bytes;
use crate::core::trigger::{FileType as Work, FollowSymlinks};
use crate::io::disk::{self, Found};

use super::cover::News;
use super::dirty::beneath;
use super::report::Stopped;
use super::roots::Armed;
use super::worker::Worker;

/// Names read in one step, so that hints are served in between.
pub const STEP_MAX: usize = 1024;

/// Directories that are watched and have to be read.
#[derive(Default)]
pub struct Reading {
    batch: Vec<(Bytes, News)>,
    open: Option<Open>,
}

struct Open {
    path: Bytes,
    news: News,
    mount: u64,
    dir: Dir,
}

impl Reading {
    /// Whether nothing is to be read.
    pub fn is_empty(&self) -> bool {
        self.batch.is_empty() && self.open.is_none()
    }

    /// Forgets a directory and all below it: what is there now is watched first.
    pub fn forget(&mut self, top: &Bytes) {
        let below = |path: &Bytes| beneath(top.as_bytes(), path.as_bytes()).is_some();
        self.batch.retain(|(path, _)| !below(path));
        if self.open.as_ref().is_some_and(|open| below(&open.path)) {
            self.open = None;
        }
    }
}

impl Worker {
    /// Watches a batch of directories, or reads some of those that are watched.
    pub(super) fn step_cover(&mut self) -> Result<(), Stopped> {
        if self.reading.is_empty() {
            if !self.cover.is_waiting() {
                return Ok(());
            }
            let triggers = &self.triggers;
            let wants = |path: &Bytes| triggers.iter().any(|trigger| trigger.wants(path, None));
            let marks = |path: &Bytes| {
                triggers.iter().any(|trigger| trigger.is_marked() && trigger.wants(path, None))
            };
            self.reading.batch = self.cover.next(wants, marks);
        }
        // Also in the last step of a batch, behind which nothing more may come.
        self.changed = true;
        let mut left = STEP_MAX;
        while left > 0 {
            if self.reading.open.is_none() {
                let Some((path, news)) = self.reading.batch.pop() else { break };
                left -= 1;
                self.reading.open = self.enter(path, news);
            } else {
                left -= 1;
                self.read_name()?;
            }
        }
        self.report()
    }

    /// Opens a watched directory for reading.
    fn enter(&mut self, path: Bytes, news: News) -> Option<Open> {
        let Some(at) = self.triggers.iter().position(|trigger| trigger.wants(&path, None)) else {
            self.cover.release(&[path]);
            return None;
        };
        let root = self.triggers[at].open()?;
        let rel = self.triggers[at].rel(&path)?;
        let follow = self.triggers[at].folder.follow_symlinks;
        let (dir, id) = match disk::open_dir(root.as_fd(), &rel, follow) {
            Ok(opened) => opened,
            Err(error) if is_gone(&error) => return None,
            Err(error) => {
                self.cover.refuse(path, error.kind().to_string());
                return None;
            }
        };
        let mount = id.mount;
        if !self.triggers.iter().any(|trigger| trigger.wants(&path, Some(mount))) {
            // Another file system begins here.
            self.cover.release(&[path]);
            return None;
        }
        let new = self.cover.enter(&path, id);
        let mut unread = None;
        for trigger in &mut self.triggers {
            if !trigger.wants(&path, Some(mount)) {
                continue;
            }
            trigger.directories += u64::from(new);
            if let (true, Ok(fd), Some(rel)) =
                (trigger.folder.gitignore, dir.fd(), trigger.rel(&path))
            {
                // Whatever is out by now is given up once all is read.
                match trigger.scene.ignores.read(fd, &rel) {
                    Ok(others) => self.unwanted |= others,
                    Err(error) => unread = Some(error),
                }
            }
        }
        if let Some(error) = unread {
            self.cover.refuse(path, error.kind().to_string());
            return None;
        }
        self.must_read(&path, news, &dir).then_some(Open { path, news, mount, dir })
    }

    /// Whether anything in a directory is to be found by reading it: not its files if they are
    /// known, and no folders where nobody wants them or there are none.
    fn must_read(&self, path: &Bytes, news: News, dir: &Dir) -> bool {
        let deep = |trigger: &Armed| trigger.folder.recursive && trigger.rel(path).is_some();
        let links = |trigger: &Armed| trigger.folder.follow_symlinks == FollowSymlinks::All;
        !matches!(news, News::Known | News::Again)
            || self.triggers.iter().any(|trigger| deep(trigger) && links(trigger))
            || (self.triggers.iter().any(deep) && !dir.fd().is_ok_and(disk::is_leaf))
    }

    fn read_name(&mut self) -> Result<(), Stopped> {
        let Some(open) = &mut self.reading.open else { return Ok(()) };
        let entry = match open.dir.read() {
            Some(Ok(entry)) => entry,
            Some(Err(error)) => {
                let (path, why) = (open.path.clone(), io::Error::from(error).kind().to_string());
                self.reading.open = None;
                self.cover.refuse(path, why);
                return Ok(());
            }
            None => {
                self.reading.open = None;
                return Ok(());
            }
        };
        let name = entry.file_name().to_bytes();
        if name == b"." || name == b".." {
            return Ok(());
        }
        let (path, news, mount) = (open.path.join(name), open.news, open.mount);
        match entry.file_type() {
            FileType::Directory => return self.found_dir(path, news, mount),
            FileType::RegularFile => return self.found(&path, news, FileType::RegularFile),
            FileType::Symlink => return self.found_symlink(&path, news),
            FileType::Unknown => match self.find(&path) {
                Some(Found::Directory(_)) => return self.found_dir(path, news, mount),
                Some(Found::File(_)) => return self.found(&path, news, FileType::RegularFile),
                Some(Found::Other) => return self.found_symlink(&path, news),
                _ => {}
            },
            _ => {}
        }
        Ok(())
    }

    fn found_dir(&mut self, path: Bytes, news: News, mount: u64) -> Result<(), Stopped> {
        // Who looks for what is new leaves a directory that is known to its own watch or poll.
        let (known, asked) = match news {
            News::Polled => (self.cover.get(&path).is_some(), news),
            News::Again => (self.cover.has(&path), News::Arrived),
            News::Known | News::Arrived => (false, news),
        };
        self.found(&path, news, FileType::Directory)?;
        if !known && self.triggers.iter().any(|trigger| trigger.wants(&path, Some(mount))) {
            self.cover.ask(path, asked);
        }
        Ok(())
    }

    /// There is a link, or nothing that counts.
    fn found_symlink(&mut self, path: &Bytes, news: News) -> Result<(), Stopped> {
        self.found_link(path, news);
        self.found(path, news, FileType::Symlink)
    }

    /// A file was found; or a folder, which is news only where folders are work; or a link, which
    /// counts as the file that it leads to for those that follow it.
    fn found(&mut self, path: &Bytes, news: News, kind: FileType) -> Result<(), Stopped> {
        let origin = match news {
            News::Known | News::Again => return Ok(()),
            News::Polled => Origin::Scan,
            News::Arrived => Origin::Event,
        };
        for trigger in &mut self.triggers {
            let counts = match kind {
                FileType::Directory => trigger.folder.file_type == Work::Dir,
                FileType::Symlink => trigger.folder.follow_symlinks != FollowSymlinks::Never,
                _ => true,
            };
            let Some(target) = trigger.target(path).filter(|_| counts) else { continue };
            if trigger.held {
                trigger.keep(target.rel);
            } else if let Some(root) = trigger.open() {
                self.reporter.look(Some(root.as_fd()), target, origin, true)?;
            }
        }
        Ok(())
    }

    /// For file systems that do not tell the type of a name.
    fn find(&mut self, path: &Bytes) -> Option<Found> {
        let trigger = self.triggers.iter_mut().find(|trigger| trigger.rel(path).is_some())?;
        let (root, rel) = (trigger.open()?, trigger.rel(path)?);
        // No links: what they lead to is found later.
        disk::find(root.as_fd(), &rel, FollowSymlinks::Never).ok()
    }
}

/// Whether an error says that there is no directory, rather than that it cannot be read.
pub fn is_gone(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR | libc::ELOOP | libc::EXDEV))
}
