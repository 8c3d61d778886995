//! One dagd per state directory.
//!
//! The lock belongs to the process and is released by the kernel when it ends, however it ends: a
//! child that is just being started does not share it, as it would share one of the open file. The
//! process number in the file is for people only.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rustix::fs::{FlockOperation, fcntl_lock};
use rustix::io::Errno;

use super::error::{StoreError, io_error};
use super::files::ensure_dir;

/// Keeps every other dagd out of a state directory as long as it lives.
#[derive(Debug)]
pub struct InstanceLock {
    _file: File,
}

/// Takes the lock `state_dir/lock`; creates the directory (0700) if it is not there. To be taken
/// after the process has detached itself, and once: a process does not lock itself out, and closing
/// any descriptor of the file releases it.
///
/// # Errors
/// [`StoreError::Locked`] with the other process's number; `Passing` if the file cannot be had.
pub fn lock(state_dir: &Path) -> Result<InstanceLock, StoreError> {
    ensure_dir(state_dir)?;
    let path = state_dir.join("lock");
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(|error| io_error(&path, "cannot be opened", &error))?;
    match fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(Errno::WOULDBLOCK | Errno::ACCESS) => {
            return Err(StoreError::Locked { path: state_dir.to_owned(), pid: holder(&mut file) });
        }
        Err(error) => return Err(io_error(&path, "cannot be locked", &error.into())),
    }
    let written = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
    if let Err(error) = written {
        tracing::warn!(path = %path.display(), %error, "process number not written");
    }
    Ok(InstanceLock { _file: file })
}

/// The number in the file; 0 if there is none yet.
fn holder(file: &mut File) -> u32 {
    let mut text = String::new();
    match file.take(32).read_to_string(&mut text) {
        Ok(_) => text.trim().parse().unwrap_or(0),
        Err(_) => 0,
    }
}
