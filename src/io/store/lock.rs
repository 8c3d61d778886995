//! One dagd per state directory.
//!
//! Two locks on one file. The first belongs to the process: the kernel releases it when the process
//! ends, however it ends, and it keeps every other dagd out. The second belongs to the open file,
//! which a child shares from its fork to its exec: it is free once every attempt that a killed dagd
//! was just starting has become visible, with its token, to the sweep at boot. The process number
//! in the file is for people only.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, fcntl_lock, flock};
use rustix::io::Errno;

use super::error::{StoreError, io_error};
use super::files::ensure_dir;

/// How long a child of a killed dagd may take from its fork to its exec: one that loads its program
/// from a slow disk on a busy machine.
const EXEC_MAX: Duration = Duration::from_secs(10);

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
    outlive_children(&file).map_err(|error| {
        let what = "is still shared by a process that a killed dagd was starting";
        io_error(&path, what, &error.into())
    })?;
    let written = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
    if let Err(error) = written {
        tracing::warn!(path = %path.display(), %error, "process number not written");
    }
    Ok(InstanceLock { _file: file })
}

/// Waits until no child shares the file any more. The kernel has no event for the end of an exec
/// that could be waited for with a limit, and it takes microseconds.
fn outlive_children(file: &File) -> Result<(), Errno> {
    let deadline = Instant::now() + EXEC_MAX;
    loop {
        match flock(file, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) if Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(1));
            }
            other => return other,
        }
    }
}

/// The number in the file; 0 if there is none yet.
fn holder(file: &mut File) -> u32 {
    let mut text = String::new();
    match file.take(32).read_to_string(&mut text) {
        Ok(_) => text.trim().parse().unwrap_or(0),
        Err(_) => 0,
    }
}
