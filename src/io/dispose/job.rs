//! One disposition, from whatever state things are in: what is there, and which way it goes.

use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::error::{Doing as _, Error};
use super::pin::Pin;
use super::{copy, item, place};
use crate::core::candidate::Version;
use crate::core::disposition::{Disposed, Goal, MoveResult, Phase};
use crate::core::effect::Move;
use crate::core::id::RunId;
use crate::core::path::Bytes;
use crate::core::trigger::{FileType, OnConflict};
use crate::io::failpoint::failpoint;

/// Free names in a row after which an arrived file is looked for no further.
const GAP_MAX: u32 = 16;

/// What a try came to.
pub(super) enum Step {
    /// This.
    Done(MoveResult),
    /// Something that was there a moment ago is gone: look again.
    Again,
}

/// What a crash has left behind.
pub(super) enum Left {
    /// Nothing that matters: begin anew.
    Nothing,
    /// The original, aside, and another file has come to its path: go on with it from there.
    Aside,
    /// All was done but the last step, which has been done now.
    Done(MoveResult),
}

/// One disposition, with the names that it may use on its way.
pub(super) struct Job<'a> {
    pub(super) mv: &'a Move,
    pub(super) run: RunId,
    pub(super) what: FileType,
    pub(super) claim: &'a Version,
    /// The source, by way of its folder if that is held.
    pub(super) source: &'a Path,
    pin: Option<&'a Pin>,
    /// What begins the names of all that is its own.
    pub(super) own: String,
    /// The copy in the making, in the target's folder; of no use without a target.
    pub(super) temp: PathBuf,
    /// The original on its way out, in the source's folder.
    pub(super) aside: PathBuf,
    /// The same, found to be the claimed version: what is left of it is removed.
    pub(super) doomed: PathBuf,
}

impl<'a> Job<'a> {
    pub(super) fn new(mv: &'a Move, pin: Option<&'a Pin>) -> Self {
        // Two machines may move files of their seventh runs into one shared folder.
        let mut hash = blake3::Hasher::new();
        for part in [mv.claim.path.as_bytes(), mv.claim.version.file.as_bytes()] {
            hash.update(&(part.len() as u64).to_le_bytes()).update(part);
        }
        hash.update(&mv.claim.version.mtime_ns.to_le_bytes());
        let hash = hash.finalize().to_hex();
        Self::named(mv, pin, format!(".dagd-{}-{}-{}", mv.run, mv.file, &hash[..8]))
    }

    /// With names of its own that begin so.
    pub(super) fn named(mv: &'a Move, pin: Option<&'a Pin>, own: String) -> Self {
        let source = pin.map_or(mv.claim.path.as_path(), Pin::path);
        let target = match &mv.goal {
            Goal::To(target) => target.as_path(),
            Goal::Delete => source,
        };
        Self {
            mv,
            run: mv.run,
            what: mv.file_type,
            claim: &mv.claim.version,
            source,
            pin,
            temp: target.with_file_name(format!("{own}.tmp")),
            aside: source.with_file_name(format!("{own}.old.tmp")),
            doomed: source.with_file_name(format!("{own}.gone.tmp")),
            own,
        }
    }

    /// The text of a disposition that could not be done.
    pub(super) fn failure(&self, error: &Error) -> String {
        let source = self.source.display();
        self.tell(&match &self.mv.goal {
            Goal::To(target) => {
                format!("cannot move {source} to {}: {error}", target.as_path().display())
            }
            Goal::Delete => format!("cannot delete {source}: {error}"),
        })
    }

    /// A text with paths as the user knows them.
    pub(super) fn tell(&self, text: &str) -> String {
        self.pin.map_or_else(|| text.to_owned(), |pin| pin.tell(text))
    }

    /// Where it goes; `None`: away.
    pub(super) fn target(&self) -> Option<&'a Path> {
        match &self.mv.goal {
            Goal::To(target) => Some(target.as_path()),
            Goal::Delete => None,
        }
    }

    /// One try, from whatever state things are in.
    pub(super) fn go(&self) -> Result<Step, Error> {
        failpoint!("dispose.begun");
        self.check_target()?;
        self.clear_own()?;
        let from = match self.recover()? {
            Left::Nothing => self.source,
            Left::Aside => &self.aside,
            Left::Done(result) => return self.with_companions(Step::Done(result)),
        };
        if from == self.source
            && let Some(result) = self.ended()?
        {
            return self.with_companions(Step::Done(result));
        }
        if self.target().is_some() {
            place::make_folders(self.folder()).doing("make the target's folder")?;
            failpoint!("dispose.folders");
        }
        // Another file at the path has companions of its own.
        let beside = if from == self.source { self.set_companions_aside() } else { Ok(()) };
        let gone = beside.and_then(|()| match self.target() {
            Some(_) => self.rename(from),
            None => self.delete(from),
        });
        match gone {
            Ok(step) => {
                failpoint!("dispose.done");
                self.with_companions(step)
            }
            Err(error) => {
                self.return_companions();
                Err(error)
            }
        }
    }

    /// What the state of the source alone has decided: it is not there as it should be.
    fn ended(&self) -> Result<Option<MoveResult>, Error> {
        let at_source = self.look(self.source)?;
        let found = at_source.is_some();
        if at_source.as_ref() == Some(self.claim) {
            let writes = item::writer_open(self.what, self.source);
            return Ok(writes.then_some(MoveResult::Superseded));
        }
        // It may have gone to its target before a crash, and another one come to its path since.
        if (!found || self.mv.again)
            && let Some(there) = self.arrived()?
        {
            // Whoever brought it there may not have brought it to the disk.
            place::sync_folder(&there).doing("sync the target's folder")?;
            place::sync_folder(self.source).doing("sync the file's folder")?;
            return self.moved(&there).map(Some);
        }
        Ok(Some(match (found, &self.mv.goal) {
            (true, _) => MoveResult::Superseded,
            (false, Goal::Delete) if self.mv.again => MoveResult::Deleted,
            (false, _) => MoveResult::Gone,
        }))
    }

    /// Another version is in its place, or will be. If only its time is another one, that may have
    /// been set after it was claimed. If somebody has it open and has not written yet, it is still
    /// to be disposed of. Errors: that.
    pub(super) fn superseded(&self) -> Result<Disposed, Error> {
        let found = self.look(self.source).ok().flatten();
        if self.mv.phase == Phase::After && found.as_ref() == Some(self.claim) {
            return Err(Error::Busy);
        }
        let found = found.filter(|_| self.what == FileType::File);
        let found = found.filter(|found| found.is_set_back_from(self.claim));
        let found = found.filter(|_| !item::writer_open(self.what, self.source));
        Ok(found.map_or(Disposed::Done(MoveResult::Superseded), Disposed::Stamped))
    }

    fn check_target(&self) -> Result<(), Error> {
        let Some(target) = self.target() else { return Ok(()) };
        let folder = target.as_os_str().as_encoded_bytes().ends_with(b"/");
        let source = self.mv.claim.path.as_path();
        let within = self.what == FileType::Dir && target != source && target.starts_with(source);
        let bad = folder || within || !target.is_absolute() || target.file_name().is_none();
        if bad { Err(Error::BadTarget) } else { Ok(()) }
    }

    /// The target's folder.
    pub(super) fn folder(&self) -> &'a Path {
        self.target().and_then(Path::parent).unwrap_or(Path::new("/"))
    }

    /// The names that it may have at its target, the wanted one first.
    pub(super) fn names(&self) -> impl Iterator<Item = PathBuf> + use<'a> {
        let most = match self.mv.on_conflict {
            OnConflict::Rename => place::CONFLICTS_MAX as usize,
            OnConflict::Replace | OnConflict::Fail | OnConflict::Keep => 1,
        };
        let run = self.run;
        self.target().into_iter().flat_map(move |target| place::names(target, run).take(most))
    }

    /// A crash may have left the original aside: put it back and begin anew.
    pub(super) fn recover(&self) -> Result<Left, Error> {
        let Some(version) = self.look(&self.aside)? else { return Ok(Left::Nothing) };
        match place::place(&self.aside, self.source) {
            Ok(()) => return Ok(Left::Nothing),
            Err(Errno::EXIST) => {}
            Err(error) => return Err(stranded(&self.aside, error)),
        }
        let at_source = self.look(self.source)?;
        if at_source.is_some_and(|other| other.file == version.file) {
            // Both names are the same file: the crash came while it was put back.
            rustix::fs::unlink(&self.aside).doing("remove a second name of the original")?;
            return Ok(Left::Nothing);
        }
        if version != *self.claim {
            return Err(self.kept(&self.aside));
        }
        if let Some(there) = self.own_copy(&self.aside)? {
            self.discard()?;
            return self.moved(&there).map(Left::Done);
        }
        Ok(Left::Aside)
    }

    /// The claimed version under one of the target's names, or a copy of it, while `like` still
    /// has the content.
    pub(super) fn own_copy(&self, like: &Path) -> Result<Option<PathBuf>, Error> {
        self.find(|there, version| {
            let same = version == self.claim;
            let copied = || {
                copy::resembles(version, self.claim) && item::same_content(self.what, like, there)
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
        for there in self.names() {
            match self.look(&there)? {
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

    /// What is at a path, if it is of the right kind.
    pub(super) fn look(&self, path: &Path) -> Result<Option<Version>, Error> {
        item::look(self.what, path)
    }

    pub(super) fn is_claimed(&self, path: &Path) -> Result<bool, Error> {
        Ok(self.look(path)?.is_some_and(|version| version == *self.claim))
    }

    /// It is there. Whoever waits for it may have taken it already.
    pub(super) fn moved(&self, there: &Path) -> Result<MoveResult, Error> {
        let version = self.look(there)?.unwrap_or_else(|| self.claim.clone());
        Ok(MoveResult::Moved { to: Bytes::from(there), version })
    }

    /// What was found to be another version goes back to where it was.
    pub(super) fn put_back(&self, kept: &Path) -> Result<(), Error> {
        match place::place(kept, self.source) {
            Ok(()) => {
                failpoint!("dispose.put_back");
                Ok(())
            }
            Err(Errno::EXIST) => Err(self.kept(kept)),
            Err(error) => Err(stranded(kept, error)),
        }
    }

    pub(super) fn kept(&self, kept: &Path) -> Error {
        Error::Kept { kept: kept.to_path_buf(), taken: self.source.to_path_buf() }
    }

    /// What an earlier try has left of its own: a copy that is of use to nobody, and what it was
    /// removing.
    fn clear_own(&self) -> Result<(), Error> {
        self.remove_temp();
        item::remove(self.what, &self.doomed).doing("remove the rest of the original")
    }

    pub(super) fn remove_temp(&self) {
        if self.target().is_some()
            && let Err(error) = item::remove(self.what, &self.temp)
        {
            tracing::debug!(%error, temp = %self.temp.display(), "not removed");
        }
    }
}

fn stranded(kept: &Path, error: Errno) -> Error {
    Error::Stranded { kept: kept.to_path_buf(), source: error.into() }
}
