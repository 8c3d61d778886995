//! The folder of what is disposed of, held open while that goes on.
//!
//! Whoever may write to a folder above could else put a link in its place between two steps: what
//! was checked would lie in one folder, and what is renamed in another one. A link that is there
//! before leads to a file that is not the claimed version, and nothing is done with that.

use std::fs;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

/// A file's folder, held, and the file's path by way of that.
pub(super) struct Pin {
    /// The path that leads to the same folder whatever becomes of the folder's own path.
    path: PathBuf,
    held: String,
    told: String,
    _folder: OwnedFd,
}

impl Pin {
    /// Holds the folder of `path`. `None` if it cannot be held, or cannot be named: then the plain
    /// path has to do.
    pub(super) fn of(path: &Path) -> Option<Self> {
        let (parent, name) = (path.parent()?, path.file_name()?);
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = rustix::fs::open(parent, flags, Mode::empty()).ok()?;
        let held = PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd()));
        fs::metadata(&held).ok()?;
        let begin = |folder: &Path| folder.join("").display().to_string();
        Some(Self {
            path: held.join(name),
            held: begin(&held),
            told: begin(parent),
            _folder: folder,
        })
    }

    /// The file's path by way of the folder.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// A text with paths as the user knows them.
    pub(super) fn tell(&self, text: &str) -> String {
        text.replace(&self.held, &self.told)
    }
}
