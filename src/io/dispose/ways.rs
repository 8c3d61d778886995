//! The ways in which a file gets to its target: by rename, by link, by copy, over what is there.

use std::io;
use std::path::Path;

use rustix::io::Errno;

use super::error::{Doing as _, Error};
use super::job::{Job, Step};
use super::{item, place};
use crate::core::disposition::MoveResult;
use crate::core::trigger::{FileType, OnConflict};
use crate::io::failpoint::failpoint;

impl Job<'_> {
    /// Within one file system.
    pub(super) fn rename(&self, from: &Path) -> Result<Step, Error> {
        for there in self.names() {
            match place::rename(from, &there) {
                Ok(()) => {
                    failpoint!("dispose.renamed");
                    return self.check_renamed(&there);
                }
                Err(Errno::EXIST) if self.is_claimed(&there)? => return self.retire(from, &there),
                Err(Errno::EXIST) => {}
                Err(Errno::XDEV) => return self.copy(from),
                Err(Errno::NOENT) => return Ok(Step::Again),
                Err(error) if place::cannot_rename(error) => return self.link(from),
                Err(error) => return Err(error).doing("rename it"),
            }
        }
        self.taken(from)
    }

    /// Between the check and the rename somebody may have put another file in place, or opened
    /// this one.
    fn check_renamed(&self, there: &Path) -> Result<Step, Error> {
        match self.look(there)? {
            Some(version) if version == *self.claim && !item::writer_open(self.what, there) => {}
            // Whoever waits for it has taken it already.
            None => {}
            Some(_) => {
                self.put_back(there)?;
                return Ok(Step::Done(MoveResult::Superseded));
            }
        }
        place::sync_folder(there).doing("sync the target's folder")?;
        place::sync_folder(self.source).doing("sync the file's folder")?;
        self.moved(there).map(Step::Done)
    }

    /// Where the file system cannot rename without replacing.
    pub(super) fn link(&self, from: &Path) -> Result<Step, Error> {
        if self.what == FileType::Dir {
            return self.rename_onto_own(from);
        }
        for there in self.names() {
            match place::link(from, &there) {
                Ok(()) => {
                    failpoint!("dispose.linked");
                    return self.retire(from, &there);
                }
                Err(Errno::EXIST) if self.is_claimed(&there)? => return self.retire(from, &there),
                Err(Errno::EXIST) => {}
                Err(Errno::XDEV) => return self.copy(from),
                Err(Errno::NOENT) => return Ok(Step::Again),
                Err(error) => return Err(error).doing("link it"),
            }
        }
        self.taken(from)
    }

    /// The same for a folder, which has no second names: an empty folder takes the place, and only
    /// an empty one gives way to another.
    fn rename_onto_own(&self, from: &Path) -> Result<Step, Error> {
        for there in self.names() {
            match place::rename_folder(from, &there) {
                Ok(()) => {
                    failpoint!("dispose.renamed");
                    return self.check_renamed(&there);
                }
                Err(Errno::EXIST) => {}
                Err(Errno::XDEV) => return self.copy(from),
                Err(Errno::NOENT) => return Ok(Step::Again),
                Err(error) => return Err(error).doing("rename it"),
            }
        }
        self.taken(from)
    }

    /// To another file system.
    fn copy(&self, from: &Path) -> Result<Step, Error> {
        if self.mv.again
            && let Some(there) = self.own_copy(from)?
        {
            return self.retire(from, &there);
        }
        let step = self.copy_anew(from);
        self.remove_temp();
        step
    }

    pub(super) fn copy_anew(&self, from: &Path) -> Result<Step, Error> {
        let copied = match item::copy(self.what, from, &self.temp, self.claim) {
            Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                return Ok(Step::Again);
            }
            copied => copied?,
        };
        if !copied || !self.is_claimed(from)? {
            return Ok(Step::Done(MoveResult::Superseded));
        }
        failpoint!("dispose.copied");
        for there in self.names() {
            match place::place(&self.temp, &there) {
                Ok(()) => {
                    failpoint!("dispose.placed");
                    return self.retire(from, &there);
                }
                Err(Errno::EXIST) => {}
                Err(Errno::NOENT) => return Ok(Step::Again),
                Err(error) => return Err(error).doing("give the copy its name"),
            }
        }
        if self.mv.on_conflict == OnConflict::Replace {
            return self.replace_by_copy(from);
        }
        self.taken(from)
    }

    /// All names that it may have are taken.
    fn taken(&self, from: &Path) -> Result<Step, Error> {
        if self.mv.on_conflict == OnConflict::Replace {
            return self.replace(from);
        }
        if from == self.aside {
            // It cannot stay where it was, either: another one has come there.
            return Err(self.kept(from));
        }
        match self.mv.on_conflict {
            OnConflict::Keep => Ok(Step::Done(MoveResult::Kept)),
            OnConflict::Fail => Err(Error::Taken),
            OnConflict::Rename | OnConflict::Replace => Err(Error::NoFreeName),
        }
    }

    /// Over the file that is there. What is there is lost with the rename, so that the original is
    /// checked before: aside, where nobody can replace or open it.
    fn replace(&self, from: &Path) -> Result<Step, Error> {
        let target = self.replaceable()?;
        if let Some(step) = self.set_aside(from)? {
            return Ok(step);
        }
        match std::fs::rename(&self.aside, target) {
            Ok(()) => {
                failpoint!("dispose.replaced");
                // Both may have been names of one file, which a rename leaves as they are.
                item::remove(self.what, &self.aside).doing("remove a second name")?;
                place::sync_folder(target).doing("sync the target's folder")?;
                place::sync_folder(self.source).doing("sync the file's folder")?;
                self.moved(target).map(Step::Done)
            }
            Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {
                self.put_back(&self.aside)?;
                self.copy(self.source)
            }
            Err(error) => {
                self.put_back(&self.aside)?;
                Err(error).doing("rename it over what is there")
            }
        }
    }

    /// The same with a copy that is complete.
    fn replace_by_copy(&self, from: &Path) -> Result<Step, Error> {
        let target = self.replaceable()?;
        if let Some(step) = self.set_aside(from)? {
            return Ok(step);
        }
        if let Err(error) = std::fs::rename(&self.temp, target) {
            self.put_back(&self.aside)?;
            return Err(error).doing("rename the copy over what is there");
        }
        failpoint!("dispose.replaced");
        place::sync_folder(target).doing("sync the target's folder")?;
        self.discard()?;
        self.moved(target).map(Step::Done)
    }

    /// The target, if what is there may be replaced.
    fn replaceable(&self) -> Result<&Path, Error> {
        let target = self.target().ok_or(Error::BadTarget)?;
        let file = target.symlink_metadata().doing("look at what is there")?.is_file();
        if file && self.what == FileType::File { Ok(target) } else { Err(Error::Irreplaceable) }
    }
}
