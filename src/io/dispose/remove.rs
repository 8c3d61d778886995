//! How an original goes: aside first, where nobody can replace or open it, then checked, then away.

use std::path::Path;

use rustix::io::Errno;

use super::error::{Doing as _, Error};
use super::job::{Job, Step};
use super::{item, place};
use crate::core::disposition::MoveResult;
use crate::core::trigger::FileType;
use crate::io::failpoint::failpoint;

impl Job<'_> {
    /// Takes the original away, now that `there` has its content as well.
    pub(super) fn retire(&self, from: &Path, there: &Path) -> Result<Step, Error> {
        let placed = self.look(there)?.map(|version| version.file);
        let twin = placed.as_ref() == Some(&self.claim.file);
        if twin && from == self.source && place::same_entry(from, there) {
            return self.moved(there).map(Step::Done);
        }
        place::sync_folder(there).doing("sync the target's folder")?;
        if from == self.source {
            match rustix::fs::rename(self.source, &self.aside) {
                Err(Errno::NOENT) => return self.moved(there).map(Step::Done),
                done => done.doing("set the original aside")?,
            }
            failpoint!("dispose.aside");
        }
        let ours = self.is_ours_aside()?;
        let now = self.look(there)?.map(|version| version.file);
        // A second name of the file must still be one. A copy may have been taken up by whoever
        // waits for it.
        let safe = !twin || now == placed;
        if ours && safe {
            self.discard()?;
            return self.moved(there).map(Step::Done);
        }
        self.put_back(&self.aside)?;
        if ours {
            return Ok(Step::Again);
        }
        if now.is_some() && now == placed {
            self.drop_copy(there)?;
        }
        Ok(Step::Done(MoveResult::Superseded))
    }

    /// Takes the original away for good.
    pub(super) fn delete(&self, from: &Path) -> Result<Step, Error> {
        if let Some(step) = self.set_aside(from)? {
            return Ok(step);
        }
        self.discard()?;
        Ok(Step::Done(MoveResult::Deleted))
    }

    /// Sets the original aside and checks it; what that has come to, if it does not go on.
    pub(super) fn set_aside(&self, from: &Path) -> Result<Option<Step>, Error> {
        if from == self.source {
            match rustix::fs::rename(self.source, &self.aside) {
                Err(Errno::NOENT) => return Ok(Some(Step::Again)),
                done => done.doing("set it aside")?,
            }
            failpoint!("dispose.aside");
        }
        if self.is_ours_aside()? {
            return Ok(None);
        }
        self.put_back(&self.aside)?;
        Ok(Some(Step::Done(MoveResult::Superseded)))
    }

    fn is_ours_aside(&self) -> Result<bool, Error> {
        Ok(self.is_claimed(&self.aside)? && !item::writer_open(self.what, &self.aside))
    }

    /// Removes what is aside and was checked. A folder gets a name that says so: half removed, it
    /// is another version.
    pub(super) fn discard(&self) -> Result<(), Error> {
        let last = match self.what {
            FileType::File => &self.aside,
            FileType::Dir => {
                rustix::fs::rename(&self.aside, &self.doomed).doing("set the original aside")?;
                failpoint!("dispose.doomed");
                &self.doomed
            }
        };
        item::remove(self.what, last).doing("remove the original")?;
        failpoint!("dispose.removed");
        place::sync_folder(self.source).doing("sync the file's folder")
    }

    /// Removes the copy of a version that is no longer the one to be moved.
    fn drop_copy(&self, there: &Path) -> Result<(), Error> {
        let doing = "remove the copy of an old version";
        if self.what == FileType::Dir {
            rustix::fs::rename(there, &self.temp).doing(doing)?;
            return item::remove(self.what, &self.temp).doing(doing);
        }
        item::remove(self.what, there).doing(doing)
    }
}
