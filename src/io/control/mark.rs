//! The mark of a daemon that serves a socket: a lock in the socket's folder, for everybody to see.
//!
//! A socket that the service manager holds is there while no daemon runs, and who connects to it
//! starts one; so that whoever only looks can tell, the one that serves it has a lock. The kernel takes it
//! away with the process. Nobody has to take a lock to see one, so that looking is in nobody's way.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// That a socket is served; until this is dropped.
#[derive(Debug)]
pub(super) struct Mark {
    _folder: File,
}

impl Mark {
    /// Marks a socket as served by this process. Errors: its folder may not be read.
    pub(super) fn set(socket: &Path) -> io::Result<Self> {
        let folder = folder(socket)?;
        locks(&folder, libc::F_OFD_SETLK, libc::F_RDLCK, place(socket)?)?;
        Ok(Self { _folder: folder })
    }
}

/// Whether a daemon serves the socket, without asking it. Errors: the socket is not there, or its folder may
/// not be read.
pub fn is_served(socket: &Path) -> io::Result<bool> {
    // What would be in the way of a lock that keeps all others out.
    let found = locks(&folder(socket)?, libc::F_OFD_GETLK, libc::F_WRLCK, place(socket)?)?;
    Ok(found != libc::F_UNLCK)
}

fn folder(socket: &Path) -> io::Result<File> {
    let folder = socket.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))
}

/// The byte of the folder that stands for the socket: its number. A folder has no bytes that anybody
/// else locks.
fn place(socket: &Path) -> io::Result<libc::off_t> {
    let number = std::fs::symlink_metadata(socket)?.ino();
    // Without its highest bits every number is a place in a file.
    libc::off_t::try_from(number & (u64::MAX >> 2)).map_err(io::Error::other)
}

/// Sets or asks for a lock that belongs to an open file; the type of the lock as the call leaves it.
fn locks(
    folder: &File,
    what: libc::c_int,
    kind: libc::c_int,
    at: libc::off_t,
) -> io::Result<libc::c_int> {
    let short = |number: libc::c_int| libc::c_short::try_from(number).map_err(io::Error::other);
    let mut lock = libc::flock {
        l_type: short(kind)?,
        l_whence: short(libc::SEEK_SET)?,
        l_start: at,
        l_len: 1,
        l_pid: 0,
    };
    #[expect(
        unsafe_code,
        reason = "locks of an open file have no safe wrapper in our dependencies"
    )]
    // SAFETY: the descriptor is open, and the call reads and writes the one structure, which is alive.
    let code = unsafe { libc::fcntl(folder.as_raw_fd(), what, &raw mut lock) };
    if code == 0 { Ok(lock.l_type.into()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::{Mark, is_served};

    #[test]
    fn a_mark_is_seen_while_it_is_there_and_for_its_socket_alone() {
        let folder = tempfile::tempdir().unwrap();
        let (one, two) = (folder.path().join("one"), folder.path().join("two"));
        assert!(is_served(&one).is_err());
        let _listeners = [UnixListener::bind(&one).unwrap(), UnixListener::bind(&two).unwrap()];
        assert!(!is_served(&one).unwrap());
        let mark = Mark::set(&one).unwrap();
        let again = Mark::set(&one).unwrap();
        assert!(is_served(&one).unwrap() && !is_served(&two).unwrap());
        drop(again);
        assert!(is_served(&one).unwrap());
        drop(mark);
        assert!(!is_served(&one).unwrap());
    }
}
