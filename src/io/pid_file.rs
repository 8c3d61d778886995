//! The pid file of a background daemon: locked for as long as the daemon lives.
//!
//! The lock belongs to the open file, so that it is taken before the process detaches itself and goes
//! with it. The kernel releases it when the daemon ends, however it ends: a file that was left behind
//! is no obstacle, whosever number is in it.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long a killed daemon, or a child that it was starting, may hold the lock on a machine that is
/// busy. The kernel has no event for its release that could be waited for with a limit.
const GOING_MAX: Duration = Duration::from_secs(10);

/// A pid file that is ours.
#[derive(Debug)]
pub struct PidFile {
    file: File,
    path: PathBuf,
}

/// Why a pid file is not ours.
#[derive(Debug, thiserror::Error)]
pub enum PidFileError {
    /// A daemon has it.
    #[error("a daemon runs already (pid {pid}, {}); `dagd stop` stops it", path.display())]
    Running {
        /// Its process.
        pid: u32,
        /// The file.
        path: PathBuf,
    },
    /// Somebody has it who has not written a number yet.
    #[error("another daemon is just starting ({} is locked)", path.display())]
    Starting {
        /// The file.
        path: PathBuf,
    },
    /// It cannot be had.
    #[error("the pid file {}: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
}

impl PidFile {
    /// Opens, creates, locks and empties the file; who was the owner of one that nobody holds does not
    /// matter.
    pub fn claim(path: &Path) -> Result<Self, PidFileError> {
        let failed = |error| PidFileError::Io { path: path.to_owned(), error };
        let deadline = Instant::now() + GOING_MAX;
        loop {
            let mut file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o644)
                .custom_flags(libc::O_NOFOLLOW)
                .open(path)
                .map_err(failed)?;
            match file.try_lock() {
                // Unless a daemon that ended has removed it in between.
                Ok(()) if is_at(&file, path) => {
                    // What one that was killed has left is the number of somebody else by now.
                    file.set_len(0).map_err(failed)?;
                    return Ok(Self { file, path: path.to_owned() });
                }
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => match told(&mut file) {
                    None => return Err(PidFileError::Starting { path: path.to_owned() }),
                    Some(pid) if lives(pid) || Instant::now() > deadline => {
                        return Err(PidFileError::Running { pid, path: path.to_owned() });
                    }
                    // It was killed: what is left of it, or a child that it was starting, holds the
                    // lock for a moment.
                    Some(_) => std::thread::sleep(Duration::from_millis(1)),
                },
                Err(TryLockError::Error(error)) => return Err(failed(error)),
            }
        }
    }

    /// Writes this process's number.
    pub fn write(&mut self) -> Result<(), PidFileError> {
        let failed = |error| PidFileError::Io { path: self.path.clone(), error };
        self.file.set_len(0).map_err(failed)?;
        self.file.rewind().map_err(failed)?;
        writeln!(self.file, "{}", std::process::id()).map_err(failed)
    }

    /// Removes the file, while it is still locked.
    pub fn remove(self) {
        if is_at(&self.file, &self.path)
            && let Err(error) = std::fs::remove_file(&self.path)
        {
            tracing::warn!(%error, path = %self.path.display(), "the pid file stays behind");
        }
    }
}

/// Whether the file is the one at this path.
fn is_at(file: &File, path: &Path) -> bool {
    let (Ok(own), Ok(there)) = (file.metadata(), std::fs::symlink_metadata(path)) else {
        return false;
    };
    (own.dev(), own.ino()) == (there.dev(), there.ino())
}

/// The number in the file; `None` if there is none yet.
fn told(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.take(32).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

/// Whether a process is there, and not just on its way out: one that was killed holds the lock until
/// the last of its threads has gone.
fn lives(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| {
        let state = stat.rsplit(") ").next().and_then(|rest| rest.chars().next());
        !matches!(state, None | Some('Z' | 'X'))
    })
}

#[cfg(test)]
mod tests {
    use super::{PidFile, PidFileError};

    #[test]
    fn the_number_of_one_that_was_killed_is_told_to_nobody() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pid");
        std::fs::write(&path, "1\n").unwrap();
        let mut own = PidFile::claim(&path).unwrap();
        let another = || PidFile::claim(&path).unwrap_err();
        assert!(matches!(another(), PidFileError::Starting { .. }), "{}", another());
        own.write().unwrap();
        let here = std::process::id();
        assert!(matches!(another(), PidFileError::Running { pid, .. } if pid == here));
        own.remove();
        assert!(!path.exists());
    }
}
