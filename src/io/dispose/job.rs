//! One disposition, step by step, from whatever state things are in.

use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::error::{Doing as _, Error};
use super::{copy, lease, place};
use crate::core::candidate::Version;
use crate::core::effect::Move;
use crate::core::id::RunId;
use crate::core::path::Bytes;
use crate::core::record::MoveResult;
use crate::io::disk::version_at;

/// Free names in a row after which an arrived file is looked for no further.
const GAP_MAX: u32 = 16;

/// What a try came to.
pub(super) enum Step {
    /// This.
    Done(MoveResult),
    /// Something that was there a moment ago is gone: look again.
    Again,
}

/// One move, with the names that it may use on its way.
pub(super) struct Job<'a> {
    run: RunId,
    claim: &'a Version,
    source: &'a Path,
    target: &'a Path,
    /// The copy in the making, in the target's folder.
    pub(super) temp: PathBuf,
    /// The original on its way out, in the source's folder.
    pub(super) aside: PathBuf,
}

impl<'a> Job<'a> {
    pub(super) fn new(mv: &'a Move) -> Self {
        let (source, target) = (mv.claim.path.as_path(), mv.target.as_path());
        // Two machines may move files of their seventh runs into one shared folder.
        let mut hash = blake3::Hasher::new();
        for part in [mv.claim.path.as_bytes(), mv.claim.version.file.as_bytes()] {
            hash.update(&(part.len() as u64).to_le_bytes()).update(part);
        }
        hash.update(&mv.claim.version.mtime_ns.to_le_bytes());
        let hash = hash.finalize().to_hex();
        let own = format!(".dagd-{}-{}-{}", mv.run, mv.file, &hash[..8]);
        Self {
            run: mv.run,
            claim: &mv.claim.version,
            source,
            target,
            temp: target.with_file_name(format!("{own}.tmp")),
            aside: source.with_file_name(format!("{own}.old.tmp")),
        }
    }

    /// The text of a failed move.
    pub(super) fn failure(&self, error: &Error) -> String {
        format!("cannot move {} to {}: {error}", self.source.display(), self.target.display())
    }

    /// One try, from whatever state things are in.
    pub(super) fn go(&self) -> Result<Step, Error> {
        let folder = self.target.as_os_str().as_encoded_bytes().ends_with(b"/");
        if folder || !self.target.is_absolute() || self.target.file_name().is_none() {
            return Err(Error::BadTarget);
        }
        self.remove_temp();
        if let Some(step) = self.recover()? {
            return Ok(step);
        }
        match look(self.source)? {
            Some(version) if version == *self.claim => {}
            Some(_) => return Ok(Step::Done(MoveResult::Superseded)),
            None => {
                let there = self.arrived()?;
                return Ok(Step::Done(there.map_or(MoveResult::Gone, |there| moved(&there))));
            }
        }
        if lease::writer_open(self.source) {
            return Ok(Step::Done(MoveResult::Superseded));
        }
        let folder = self.target.parent().unwrap_or(Path::new("/"));
        place::make_folders(folder).doing("make the target's folder")?;
        self.rename()
    }

    /// A crash may have left the original aside: put it back and begin anew.
    pub(super) fn recover(&self) -> Result<Option<Step>, Error> {
        let Some(version) = look(&self.aside)? else {
            return Ok(None);
        };
        match place::place(&self.aside, self.source) {
            Ok(()) => return Ok(None),
            Err(Errno::EXIST) => {}
            Err(error) => return Err(stranded(&self.aside, error)),
        }
        let at_source = look(self.source)?;
        if at_source.is_some_and(|other| other.file == version.file) {
            // Both names are the same file: the crash came while it was put back.
            rustix::fs::unlink(&self.aside).doing("remove a second name of the original")?;
            return Ok(None);
        }
        if version == *self.claim
            && let Some(there) = self.own_copy(&self.aside)?
        {
            rustix::fs::unlink(&self.aside).doing("remove the original")?;
            return Ok(Some(Step::Done(moved(&there))));
        }
        Err(self.kept(&self.aside))
    }

    pub(super) fn rename(&self) -> Result<Step, Error> {
        for there in place::names(self.target, self.run) {
            match place::rename(self.source, &there) {
                Ok(()) => return self.check_renamed(&there),
                Err(Errno::EXIST) if self.is_claimed(&there)? => return self.retire(&there),
                Err(Errno::EXIST) => {}
                Err(Errno::XDEV) => return self.copy(),
                Err(Errno::NOENT) => return Ok(Step::Again),
                Err(error) if place::cannot_rename(error) => return self.link(),
                Err(error) => return Err(error).doing("rename it"),
            }
        }
        Err(Error::NoFreeName)
    }

    /// Between the check and the rename somebody may have put another file in place, or opened
    /// this one.
    fn check_renamed(&self, there: &Path) -> Result<Step, Error> {
        match look(there)? {
            Some(version) if version == *self.claim && !lease::writer_open(there) => {}
            // Whoever waits for it has taken it already.
            None => {}
            Some(_) => {
                self.put_back(there)?;
                return Ok(Step::Done(MoveResult::Superseded));
            }
        }
        place::sync_folder(there).doing("sync the target's folder")?;
        place::sync_folder(self.source).doing("sync the file's folder")?;
        Ok(Step::Done(moved(there)))
    }

    /// Where the file system cannot rename without replacing.
    pub(super) fn link(&self) -> Result<Step, Error> {
        for there in place::names(self.target, self.run) {
            match place::link(self.source, &there) {
                Ok(()) => return self.retire(&there),
                Err(Errno::EXIST) if self.is_claimed(&there)? => return self.retire(&there),
                Err(Errno::EXIST) => {}
                Err(Errno::XDEV) => return self.copy(),
                Err(Errno::NOENT) => return Ok(Step::Again),
                Err(error) => return Err(error).doing("link it"),
            }
        }
        Err(Error::NoFreeName)
    }

    /// To another file system.
    fn copy(&self) -> Result<Step, Error> {
        if let Some(there) = self.own_copy(self.source)? {
            return self.retire(&there);
        }
        let step = self.copy_anew();
        self.remove_temp();
        step
    }

    pub(super) fn copy_anew(&self) -> Result<Step, Error> {
        let copied = match copy::copy(self.source, &self.temp, self.claim) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Step::Again),
            copied => copied.doing("copy it")?,
        };
        if !copied || !self.is_claimed(self.source)? {
            return Ok(Step::Done(MoveResult::Superseded));
        }
        for there in place::names(self.target, self.run) {
            match place::place(&self.temp, &there) {
                Ok(()) => return self.retire(&there),
                Err(Errno::EXIST) => {}
                Err(Errno::NOENT) => return Ok(Step::Again),
                Err(error) => return Err(error).doing("give the copy its name"),
            }
        }
        Err(Error::NoFreeName)
    }

    /// Takes the original away, now that `there` has its content as well. Under its own name it
    /// could be replaced or opened between a check and its removal; aside it cannot.
    pub(super) fn retire(&self, there: &Path) -> Result<Step, Error> {
        let placed = look(there)?.map(|version| version.file);
        let twin = placed.as_ref() == Some(&self.claim.file);
        if twin && place::same_entry(self.source, there) {
            return Ok(Step::Done(moved(there)));
        }
        place::sync_folder(there).doing("sync the target's folder")?;
        match rustix::fs::rename(self.source, &self.aside) {
            Err(Errno::NOENT) => return Ok(Step::Done(moved(there))),
            done => done.doing("set the original aside")?,
        }
        let ours = self.is_claimed(&self.aside)? && !lease::writer_open(&self.aside);
        let now = look(there)?.map(|version| version.file);
        // A second name of the file must still be one. A copy may have been taken up by whoever
        // waits for it.
        let safe = !twin || now == placed;
        if ours && safe {
            rustix::fs::unlink(&self.aside).doing("remove the original")?;
            place::sync_folder(self.source).doing("sync the file's folder")?;
            return Ok(Step::Done(moved(there)));
        }
        self.put_back(&self.aside)?;
        if ours {
            return Ok(Step::Again);
        }
        if now.is_some() && now == placed {
            rustix::fs::unlink(there).doing("remove the copy of an old version")?;
        }
        Ok(Step::Done(MoveResult::Superseded))
    }

    /// The claimed version under one of the target's names, or a copy of it, while `like` still
    /// has the content.
    fn own_copy(&self, like: &Path) -> Result<Option<PathBuf>, Error> {
        self.find(|there, version| {
            let same = version == self.claim;
            let copied = || {
                copy::resembles(version, self.claim)
                    && copy::same_content(like, there).unwrap_or(false)
            };
            same || copied()
        })
    }

    /// The same when nothing is left to compare with.
    fn arrived(&self) -> Result<Option<PathBuf>, Error> {
        self.find(|_, version| version == self.claim || copy::resembles(version, self.claim))
    }

    fn find(&self, known: impl Fn(&Path, &Version) -> bool) -> Result<Option<PathBuf>, Error> {
        let mut gap = 0;
        for there in place::names(self.target, self.run) {
            match look(&there)? {
                Some(version) if known(&there, &version) => return Ok(Some(there)),
                Some(_) => gap = 0,
                None => gap += 1,
            }
            if gap == GAP_MAX {
                break;
            }
        }
        Ok(None)
    }

    fn is_claimed(&self, path: &Path) -> Result<bool, Error> {
        Ok(look(path)?.is_some_and(|version| version == *self.claim))
    }

    /// What was found to be another version goes back to where it was.
    fn put_back(&self, kept: &Path) -> Result<(), Error> {
        match place::place(kept, self.source) {
            Ok(()) => Ok(()),
            Err(Errno::EXIST) => Err(self.kept(kept)),
            Err(error) => Err(stranded(kept, error)),
        }
    }

    fn kept(&self, kept: &Path) -> Error {
        Error::Kept { kept: kept.to_path_buf(), taken: self.source.to_path_buf() }
    }

    /// Ours alone, and of use to nobody: a try begins with a new one.
    fn remove_temp(&self) {
        match rustix::fs::unlink(&self.temp) {
            Ok(()) | Err(Errno::NOENT | Errno::NOTDIR) => {}
            Err(error) => tracing::debug!(%error, temp = %self.temp.display(), "not removed"),
        }
    }
}

fn moved(there: &Path) -> MoveResult {
    MoveResult::Moved(Bytes::from(there))
}

fn stranded(kept: &Path, error: Errno) -> Error {
    Error::Stranded { kept: kept.to_path_buf(), source: error.into() }
}

/// [`version_at`], where a folder that is gone or no folder means that nothing is there.
fn look(path: &Path) -> Result<Option<Version>, Error> {
    use io::ErrorKind::{NotADirectory, NotFound};
    match version_at(path) {
        Err(error) if matches!(error.kind(), NotFound | NotADirectory) => Ok(None),
        looked => looked.doing("look at the file"),
    }
}
