//! Whether somebody has a file open for writing: the kernel's answer, where it has one.
//!
//! The lease is taken and given back at once; nothing is held, nobody is made to wait.

use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;

/// File systems whose answer counts, by the type that `statfs` tells. A network file system may
/// answer "try again" for reasons of its own, which would look like a writer for ever.
const LOCAL: [u64; 13] = [
    0xEF53,      // ext2, ext3, ext4
    0x5846_5342, // XFS
    0x9123_683E, // Btrfs
    0x0102_1994, // tmpfs
    0x794C_7630, // overlayfs
    0x2FC1_2FC1, // ZFS
    0xF2F5_2010, // F2FS
    0xCA45_1A4E, // bcachefs
    0x8584_58F6, // ramfs
    0x3153_464A, // JFS
    0x4D44,      // FAT
    0x2011_BAB0, // exFAT
    0x7366_746E, // NTFS
];

/// Whether somebody has the regular file at `path` open for writing. `false` if there is none, or
/// if nobody can tell.
pub(super) fn writer_open(path: &Path) -> bool {
    let Some(seen) = regular(path) else { return false };
    let type_of = rustix::fs::fstatfs(&seen).map(|stat| stat.f_type.cast_unsigned());
    if !type_of.is_ok_and(|kind| LOCAL.contains(&kind)) {
        return false;
    }
    // By way of what was seen, so that nothing else can be opened in its place.
    let again = format!("/proc/self/fd/{}", seen.as_raw_fd());
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    match rustix::fs::open(again, flags, Mode::empty()) {
        Ok(fd) => lease_refused(&fd),
        // A file server holds it for a client.
        Err(Errno::AGAIN) => true,
        Err(_) => false,
    }
}

/// The file without opening it: a fifo or a device would notice being opened.
fn regular(path: &Path) -> Option<OwnedFd> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = rustix::fs::open(path, flags, Mode::empty()).ok()?;
    let stat = rustix::fs::fstat(&fd).ok()?;
    (FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile).then_some(fd)
}

#[expect(unsafe_code, reason = "rustix has no leases")]
fn lease_refused(fd: &OwnedFd) -> bool {
    // SAFETY: both commands take an integer and touch no memory; the descriptor is open.
    let taken = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETLEASE, libc::F_RDLCK) };
    if taken == -1 {
        return std::io::Error::last_os_error().raw_os_error() == Some(libc::EAGAIN);
    }
    // SAFETY: as above. Closing the descriptor would give the lease back, too.
    let _ = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETLEASE, libc::F_UNLCK) };
    false
}
