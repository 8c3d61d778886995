//! The files around the database: the state directory, names of logs.
//!
//! Creates what is missing and makes it last; never removes anything.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::error::{StoreError, io_error};
use crate::core::id::{Attempt, RunId};

/// The database's name in the state directory.
pub const FILE: &str = "dagd.db";

/// The directory of the attempts' logs in the state directory.
pub const LOGS: &str = "logs";

/// The name of an attempt's log under [`LOGS`].
pub fn log_name(run: RunId, task: &str, attempt: Attempt) -> String {
    format!("{run}.{task}.{attempt}.log")
}

/// The database's absolute path: SQLite reads a relative one that begins with `file:` as an address.
pub(super) fn database(dir: &Path) -> Result<PathBuf, StoreError> {
    let path = dir.join(FILE);
    std::path::absolute(&path).map_err(|error| io_error(&path, "no absolute path", &error))
}

/// Creates the directory for the user alone, if it is not there.
pub(super) fn ensure_dir(dir: &Path) -> Result<(), StoreError> {
    if dir.is_dir() {
        return Ok(());
    }
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .and_then(|()| dir.parent().map_or(Ok(()), sync_dir))
        .map_err(|error| io_error(dir, "cannot be created", &error))
}

/// Creates the database's file for the user alone, if it is not there; SQLite would let the umask
/// decide. The log and the index take over its mode.
pub(super) fn ensure_file(path: &Path) -> Result<(), StoreError> {
    // Only a file that did not exist is opened here: closing a descriptor of one that is in use
    // would drop SQLite's locks on it.
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(io_error(path, "cannot be created", &error)),
    }
}

/// Waits until the directory's entries are on disk.
pub(super) fn sync_dir(dir: &Path) -> io::Result<()> {
    let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
    match File::open(dir)?.sync_all() {
        // Some file systems do not sync directories.
        Err(error) if error.kind() == ErrorKind::InvalidInput => Ok(()),
        other => other,
    }
}
