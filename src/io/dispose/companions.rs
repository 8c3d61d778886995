//! What lies beside a file and goes along with it: a file that says that it is complete, or holds
//! its checksum.
//!
//! It is set aside before the file goes, and moved on when that has gone. So it is told at any time
//! whether it belongs to the file that goes or to one that comes.

use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::error::{Doing as _, Error};
use super::item;
use super::job::{Job, Step};
use super::place;
use crate::core::disposition::{Goal, MoveResult};
use crate::core::effect::Move;
use crate::core::path::Bytes;
use crate::core::record::FileClaim;
use crate::core::sidecar::Sidecar;
use crate::core::trigger::{FileType, OnConflict};
use crate::io::failpoint::failpoint;

impl Job<'_> {
    /// Each kind of companion, with the name under which it is set aside.
    fn companions(&self) -> impl Iterator<Item = (&Sidecar, String)> {
        let own = |(nth, sidecar)| (sidecar, format!("{}.with{nth}", self.own));
        self.mv.companions.iter().enumerate().map(own)
    }

    fn beside(&self, name: &str) -> PathBuf {
        self.source.with_file_name(format!("{name}.tmp"))
    }

    /// Where the companion of the file at `path` lies.
    fn path(sidecar: &Sidecar, path: &Path) -> Bytes {
        sidecar.of(&Bytes::from(path))
    }

    /// Sets them aside, as far as they are there.
    pub(super) fn set_companions_aside(&self) -> Result<(), Error> {
        for (sidecar, own) in self.companions() {
            let path = Self::path(sidecar, self.source);
            if item::look(FileType::File, path.as_path())?.is_none() {
                continue;
            }
            match rustix::fs::rename(path.as_path(), self.beside(&own)) {
                Err(Errno::NOENT) => {}
                done => done.doing("set aside what goes along with it")?,
            }
            failpoint!("dispose.with_aside");
        }
        Ok(())
    }

    /// Lets them go the way that the file has gone.
    pub(super) fn with_companions(&self, step: Step) -> Result<Step, Error> {
        match &step {
            Step::Done(MoveResult::Moved { to, .. }) => {
                for (sidecar, own) in self.companions() {
                    self.follow(&own, Self::path(sidecar, to.as_path()))?;
                }
            }
            Step::Done(MoveResult::Deleted) => {
                for (_, own) in self.companions() {
                    let removed = item::remove(FileType::File, &self.beside(&own));
                    removed.doing("remove what goes along with it")?;
                    failpoint!("dispose.with_removed");
                }
            }
            Step::Done(_) | Step::Again => self.return_companions(),
        }
        Ok(step)
    }

    /// Moves one of them on to `target`, or to a free name beside it.
    fn follow(&self, own: &str, target: Bytes) -> Result<(), Error> {
        let aside = self.beside(own);
        let inner = format!("{own}.on");
        // A crash may have come while it was on its way.
        let further = self.source.with_file_name(format!("{inner}.old.tmp"));
        match place::place(&further, &aside) {
            Ok(()) | Err(Errno::NOENT | Errno::NOTDIR | Errno::EXIST) => {}
            Err(error) => return Err(error).doing("go on with what goes along with it"),
        }
        let Some(version) = item::look(FileType::File, &aside)? else { return Ok(()) };
        let on_conflict = match self.mv.on_conflict {
            OnConflict::Replace => OnConflict::Replace,
            // The file has gone already: what belongs to it cannot stay behind.
            OnConflict::Rename | OnConflict::Fail | OnConflict::Keep => OnConflict::Rename,
        };
        let mv = Move {
            claim: FileClaim {
                path: Bytes::from(aside.as_path()),
                version,
                ..self.mv.claim.clone()
            },
            goal: Goal::To(target),
            on_conflict,
            file_type: FileType::File,
            companions: Vec::new(),
            again: true,
            ..self.mv.clone()
        };
        let job = Job::named(&mv, None, inner);
        match job.go() {
            Ok(Step::Done(MoveResult::Moved { .. } | MoveResult::Gone)) => {
                failpoint!("dispose.with_moved");
                Ok(())
            }
            Ok(_) => Err(Error::Refused("what goes along with it is being written".to_owned())),
            Err(error) if error.may_pass() => Err(Error::Refused(job.failure(&error))),
            Err(error) => {
                // The file itself has gone, and that counts.
                tracing::warn!("{}", self.tell(&job.failure(&error)));
                self.return_companions();
                Ok(())
            }
        }
    }

    /// Puts back what was set aside. If there is another one by now, it is for a newer file.
    pub(super) fn return_companions(&self) {
        for (sidecar, own) in self.companions() {
            let (aside, path) = (self.beside(&own), Self::path(sidecar, self.source));
            let returned = match place::place(&aside, path.as_path()) {
                Err(Errno::NOENT | Errno::NOTDIR) => Ok(()),
                Err(Errno::EXIST) => rustix::fs::unlink(&aside),
                done => done,
            };
            if let Err(error) = returned {
                let text = format!("cannot put {} back: {error}", aside.display());
                tracing::warn!("{}", self.tell(&text));
            }
        }
    }
}
