//! Asks the kernel for groups and marks, and says why it refuses.
//!
//! Holds nothing and reads nothing: what a mark hears is read in [`super`].

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};

use rustix::io::Errno;

use crate::io::watch::backend::{Outcome, Problem};
use crate::io::watch::hints::is_scarcity;

use super::event::MASK;

/// What can be done where there is no fanotify.
const INSTEAD: &str = "set backend = \"inotify\"";

/// A group that tells names. Its queue has no limit where that is granted: the mark hears what
/// concerns nobody as well, and a burst of that would be a scan of everything. What is queued is
/// read at once, into a map that has a limit.
#[expect(unsafe_code, reason = "rustix has no fanotify")]
pub fn init() -> io::Result<OwnedFd> {
    let flags =
        libc::FAN_CLASS_NOTIF | libc::FAN_CLOEXEC | libc::FAN_NONBLOCK | libc::FAN_REPORT_DFID_NAME;
    // SAFETY: it takes two numbers and touches no memory of ours.
    let mut fd = unsafe { libc::fanotify_init(flags | libc::FAN_UNLIMITED_QUEUE, 0) };
    if fd < 0 && io::Error::last_os_error().raw_os_error() == Some(libc::EPERM) {
        // SAFETY: as above.
        fd = unsafe { libc::fanotify_init(flags, 0) };
    }
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is new and open, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Marks the file system on which a directory lies.
#[expect(unsafe_code, reason = "rustix has no fanotify")]
pub fn mark(group: BorrowedFd<'_>, dir: BorrowedFd<'_>) -> Result<(), Errno> {
    let flags = libc::FAN_MARK_ADD | libc::FAN_MARK_FILESYSTEM;
    let (group, dir) = (group.as_raw_fd(), dir.as_raw_fd());
    // SAFETY: both descriptors are open for the call, and the path is a valid C string, of which
    // the kernel keeps no pointer.
    let done = unsafe { libc::fanotify_mark(group, flags, MASK, dir, c".".as_ptr()) };
    if done == 0 {
        return Ok(());
    }
    Err(Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::INVAL))
}

/// Why the kernel refuses a group or a mark, and what to do about that.
pub fn because(error: &io::Error) -> Problem {
    Problem::Broken(match error.raw_os_error() {
        Some(libc::EPERM) => format!(
            "fanotify needs the capability CAP_SYS_ADMIN, outside of any user namespace; give it \
             to dagd, or {INSTEAD}"
        ),
        Some(libc::EOPNOTSUPP | libc::EXDEV | libc::ENODEV) => {
            format!("fanotify cannot watch this file system; {INSTEAD}")
        }
        Some(libc::EINVAL | libc::ENOSYS) => {
            format!("fanotify of this kernel tells no names, as from Linux 5.9 on; {INSTEAD}")
        }
        Some(libc::EMFILE) => format!(
            "no fanotify group left; raise fs.fanotify.max_user_groups or the limit of open files, \
             or {INSTEAD}"
        ),
        Some(libc::ENOSPC) => {
            format!("no fanotify mark left; raise fs.fanotify.max_user_marks, or {INSTEAD}")
        }
        _ => format!("fanotify does not work: {error}; {INSTEAD}"),
    })
}

/// What an error says of a directory that cannot be looked at.
pub fn outcome_of(error: Errno) -> Outcome {
    let why = io::Error::from(error);
    match error {
        Errno::NOENT | Errno::NOTDIR | Errno::LOOP => Outcome::Gone,
        _ if is_scarcity(&why) => Outcome::Failed(Problem::Broken(why.to_string())),
        _ => Outcome::Failed(Problem::Refused(why.kind().to_string())),
    }
}
