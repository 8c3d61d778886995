//! Looks at candidate files: what is there, which version, and whether anybody still writes.
//!
//! The only place that opens a file that somebody dropped. It opens beneath a root, follows no
//! symbolic link unless the trigger says so, never opens what is not a regular file, never reads
//! content and never changes anything. What a finding means is decided in [`crate::core::candidate`].
//! Folders that count as a whole are measured in [`tree`], and file handles are in [`handle`].

mod beneath;
pub mod handle;
mod tree;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::Once;
use std::sync::atomic::AtomicBool;

use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Mode, OFlags, Statx, StatxFlags, StatxTimestamp, openat, statx,
};
use rustix::io::Errno;
use rustix::thread::CapabilitySet;

use crate::core::candidate::{Disk, Probe, Version};
use crate::core::path::Bytes;
use crate::core::trigger::{FileType as Work, FollowSymlinks, ReadLock};

use beneath::{at, beneath};
pub use tree::{Tree, tree_at};

/// Remembered owners and devices at most; beyond it everything is forgotten and learned anew.
const REMEMBERED_MAX: usize = 4096;

/// Types of local file systems (`statfs`) whose lease is an exact answer: ext2/3/4, xfs, btrfs,
/// tmpfs, f2fs, zfs. `NFSv4` is left out for a reason: it refuses a lease for reasons of its own.
const LOCAL: [u32; 6] = [0xef53, 0x5846_5342, 0x9123_683e, 0x0102_1994, 0xf2f5_2010, 0x2fc1_2fc1];

/// The number of the initial user namespace, in `/proc` (`USER_NS_INIT_INO`).
const INITIAL_USER_NS: u64 = 0xefff_fffd;

/// The version of the regular file at `path`; `None` if something else is there. A symbolic link at
/// the end is not followed. Errors: `NotFound` if nothing is there, else what the kernel says.
pub fn version_at(path: &Path) -> io::Result<Option<Version>> {
    let fd = openat(CWD, path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    let stat = stat_of(fd.as_fd())?;
    Ok(is(&stat, FileType::RegularFile).then(|| version_of(fd.as_fd(), &stat)))
}

/// Whether anything but a directory is at `rel` beneath `root`. What cannot be looked at is not
/// there.
pub fn is_there(root: BorrowedFd<'_>, rel: &Bytes, follow: FollowSymlinks) -> bool {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    at(root, rel, flags, follow == FollowSymlinks::All)
        .is_ok_and(|fd| stat_of(fd.as_fd()).is_ok_and(|stat| !is(&stat, FileType::Directory)))
}

/// The version of the file or folder at `path`, whichever is work; `None` if something else is
/// there. Errors: as [`version_at`] and [`tree_at`].
pub fn work_at(path: &Path, work: Work) -> io::Result<Option<Version>> {
    match work {
        Work::File => version_at(path),
        Work::Dir => tree_at(path),
    }
}

/// Which directory it is: survives a rename, differs after reuse of the inode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirId {
    /// The mount through which it was reached: another one after its file system was mounted anew.
    pub mount: u64,
    /// Its identity, as in a version.
    pub file: Bytes,
}

/// What is at a path.
#[derive(Debug)]
pub enum Found {
    /// Nothing, or nothing that can be reached beneath the root without a symbolic link.
    Absent,
    /// A symbolic link, fifo, device or socket.
    Other,
    /// A directory.
    Directory(DirId),
    /// A regular file, not yet opened.
    File(FoundFile),
}

/// A regular file that was found and can be probed.
#[derive(Debug)]
pub struct FoundFile {
    /// Its version when it was found.
    pub version: Version,
    fd: OwnedFd,
    owner: u32,
    dev: u64,
    /// How many names it has.
    pub names: u32,
}

impl FoundFile {
    /// Opens it for reading. By number, not by name: whatever is at the path by now, only this file
    /// is opened, which is known to be a regular one. To open is no read: the access time stays.
    pub fn open(&self) -> Result<OwnedFd, Errno> {
        let by_number = format!("/proc/self/fd/{}", self.fd.as_raw_fd());
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        openat(CWD, by_number.as_str(), flags, Mode::empty())
    }
}

impl AsFd for FoundFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// A file as it is at an instant. As long as it stays the same, so does the content, whatever the
/// times of the file say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// The version.
    pub version: Version,
    /// When its status changed last, which nobody can set; nanoseconds since 1970.
    changed_ns: i64,
}

/// How an open file is now.
pub fn stamp(fd: BorrowedFd<'_>) -> io::Result<Stamp> {
    let stat = stat_of(fd)?;
    Ok(Stamp { version: version_of(fd, &stat), changed_ns: nanos(&stat.stx_ctime) })
}

/// Finds what is at `rel` beneath `root`, for a trigger that follows links so: a link at the end is
/// the regular file that it leads to, wherever that is, or [`Found::Other`]. Errors: what keeps
/// dagd from looking, such as a directory that may not be searched or a path that is too long.
pub fn find(root: BorrowedFd<'_>, rel: &Bytes, follow: FollowSymlinks) -> io::Result<Found> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let found = match at(root, rel, flags, follow == FollowSymlinks::All) {
        Ok(fd) => found(fd)?,
        Err(errno) if is_nothing(errno) => return Ok(Found::Absent),
        Err(errno) => return Err(errno.into()),
    };
    if follow == FollowSymlinks::Never || !matches!(found, Found::Other) {
        return Ok(found);
    }
    match at(root, rel, OFlags::PATH | OFlags::CLOEXEC, true) {
        Ok(fd) => Ok(match self::found(fd)? {
            file @ Found::File(_) => file,
            _ => Found::Other,
        }),
        Err(errno) if is_nothing(errno) => Ok(Found::Absent),
        Err(errno) => Err(errno.into()),
    }
}

/// Whether an error says that nothing is there, or nothing that may be reached. LOOP: a symbolic
/// link on the way; XDEV: an escape from the root.
fn is_nothing(errno: Errno) -> bool {
    matches!(errno, Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV)
}

fn found(fd: OwnedFd) -> io::Result<Found> {
    let stat = stat_of(fd.as_fd())?;
    Ok(match FileType::from_raw_mode(u32::from(stat.stx_mode)) {
        FileType::RegularFile => {
            let version = version_of(fd.as_fd(), &stat);
            let (owner, dev, names) = (stat.stx_uid, dev_of(&stat), stat.stx_nlink);
            Found::File(FoundFile { version, fd, owner, dev, names })
        }
        FileType::Directory => Found::Directory(dir_of(fd.as_fd(), &stat)),
        _ => Found::Other,
    })
}

/// Opens the directory `rel` beneath `root` (itself, if `rel` is empty) for reading; through links
/// only for a trigger that follows them all. Errors: what the kernel says, `NotADirectory` for a
/// symbolic link.
pub fn open_dir(
    root: BorrowedFd<'_>,
    rel: &Bytes,
    follow: FollowSymlinks,
) -> io::Result<(Dir, DirId)> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let fd = at(root, rel, flags, follow == FollowSymlinks::All)?;
    let id = dir_id(fd.as_fd())?;
    Ok((Dir::new(fd)?, id))
}

/// Opens the directory `rel` beneath `root` (itself, if `rel` is empty) to ask what is in it,
/// without a right to read it; through links as [`open_dir`]. Errors: see there.
pub fn open_folder(
    root: BorrowedFd<'_>,
    rel: &Bytes,
    follow: FollowSymlinks,
) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(at(root, rel, flags, follow == FollowSymlinks::All)?)
}

/// Whether a regular file has this name in a folder; also `false` where nobody can tell.
pub fn holds_file(folder: BorrowedFd<'_>, name: &Bytes) -> bool {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    let stat = statx(folder, name.as_path(), flags, StatxFlags::TYPE);
    stat.is_ok_and(|stat| is(&stat, FileType::RegularFile))
}

/// Whether an open directory certainly holds no other: only local file systems count for sure how
/// many it holds, and those that do not count say 1.
pub fn is_leaf(dir: BorrowedFd<'_>) -> bool {
    let alone = |stat: &Statx| stat.stx_nlink == 2;
    is_local(dir)
        && statx(dir, c"", AtFlags::EMPTY_PATH, StatxFlags::NLINK).is_ok_and(|s| alone(&s))
}

/// Opens a root, through symbolic links if its path has any, without a right to read it.
pub fn open_root(path: &Path) -> io::Result<OwnedFd> {
    Ok(openat(CWD, path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}

/// Which directory an open file is.
pub fn dir_id(fd: BorrowedFd<'_>) -> io::Result<DirId> {
    Ok(dir_of(fd, &stat_of(fd)?))
}

fn dir_of(fd: BorrowedFd<'_>, stat: &Statx) -> DirId {
    DirId { mount: mount_of(stat), file: identity_of(fd, stat) }
}

/// Asks the kernel whether anybody can still be writing, and remembers where it cannot tell.
#[derive(Debug, Default)]
pub struct Prober {
    /// Owners on whose files dagd may take no lease.
    foreign: BTreeSet<u32>,
    /// Devices, and whether leases work there.
    devices: BTreeMap<u64, bool>,
}

impl Prober {
    /// A prober that remembers nothing. The first one installs a handler for SIGIO that does
    /// nothing, because a lease that a writer breaks would otherwise kill the process.
    pub fn new() -> Self {
        static SIGIO: Once = Once::new();
        SIGIO.call_once(|| {
            let unused = Arc::new(AtomicBool::new(false));
            if let Err(error) = signal_hook::flag::register(libc::SIGIO, unused) {
                tracing::warn!(%error, "cannot install a handler for SIGIO");
            }
        });
        Self::default()
    }

    /// Completes what was found by asking who writes, as far as `lock` wants to know.
    pub fn probe(&mut self, file: FoundFile, lock: ReadLock) -> Disk {
        let probe = match lock {
            ReadLock::Changed | ReadLock::None => Probe::NotAsked,
            ReadLock::Auto | ReadLock::Lease => return self.ask(file),
        };
        Disk::File { version: file.version, probe }
    }

    fn ask(&mut self, file: FoundFile) -> Disk {
        let opened = file.open();
        let FoundFile { mut version, owner, dev, .. } = file;
        let probe = match opened {
            Ok(open) if self.can_tell(open.as_fd(), owner, dev) => {
                match lease(open.as_fd(), true) {
                    Ok(()) => {
                        // While the lease is held nobody can begin to write: this is the version of
                        // which "nobody writes" is true.
                        if let Ok(stat) = stat_of(open.as_fd()) {
                            (version.size, version.mtime_ns) = (stat.stx_size, mtime_of(&stat));
                        }
                        if let Err(errno) = lease(open.as_fd(), false) {
                            tracing::warn!(%errno, "cannot give a lease back");
                        }
                        Probe::Free
                    }
                    Err(Errno::AGAIN) => Probe::WriterOpen,
                    Err(Errno::ACCESS) => self.no_lease_of(owner),
                    Err(_) => self.no_lease_on(dev),
                }
            }
            Ok(_) => Probe::Unproved,
            // Somebody else holds a write lease: the file is being written through it.
            Err(Errno::AGAIN) => Probe::WriterOpen,
            Err(_) => Probe::Unreadable,
        };
        Disk::File { version, probe }
    }

    /// How completeness under `root` is known, with `lock`: `proved` by the kernel, `inferred` from
    /// stability, or `none` where nobody asks for it. Without `CAP_LEASE` it is proved only where
    /// nobody else may put files: those of others would have to be inferred.
    pub fn readiness(&mut self, root: &Path, lock: ReadLock) -> &'static str {
        match lock {
            ReadLock::None => return "none",
            ReadLock::Changed => return "inferred",
            ReadLock::Auto | ReadLock::Lease => {}
        }
        let proves = |fd: OwnedFd| {
            let stat = stat_of(fd.as_fd())?;
            let leases = self.has_leases(fd.as_fd(), dev_of(&stat));
            Ok(leases && (leases_all() || is_private(&stat)))
        };
        if open_root(root).and_then(proves).unwrap_or(false) { "proved" } else { "inferred" }
    }

    /// Forgets where leases do not work; for a reload, after which capabilities or mounts may have
    /// changed.
    pub fn forget(&mut self) {
        self.foreign.clear();
        self.devices.clear();
    }

    fn can_tell(&mut self, fd: BorrowedFd<'_>, owner: u32, dev: u64) -> bool {
        !self.foreign.contains(&owner) && self.has_leases(fd, dev)
    }

    fn has_leases(&mut self, fd: BorrowedFd<'_>, dev: u64) -> bool {
        if self.devices.len() >= REMEMBERED_MAX {
            self.devices.clear();
        }
        *self.devices.entry(dev).or_insert_with(|| is_local(fd))
    }

    fn no_lease_of(&mut self, owner: u32) -> Probe {
        if self.foreign.len() >= REMEMBERED_MAX {
            self.foreign.clear();
        }
        self.foreign.insert(owner);
        Probe::Unproved
    }

    fn no_lease_on(&mut self, dev: u64) -> Probe {
        self.devices.insert(dev, false);
        Probe::Unproved
    }
}

/// Whether dagd may take leases on everybody's files. The kernel asks for the capability in the
/// initial user namespace: one that a container grants does not count.
fn leases_all() -> bool {
    let capable = rustix::thread::capabilities(None)
        .is_ok_and(|sets| sets.effective.contains(CapabilitySet::LEASE));
    capable && rustix::fs::stat(c"/proc/self/ns/user").is_ok_and(|ns| ns.st_ino == INITIAL_USER_NS)
}

/// Whether nobody but dagd's user, and root, may put files into a directory.
fn is_private(stat: &Statx) -> bool {
    let others = Mode::WGRP | Mode::WOTH;
    let mode = Mode::from_raw_mode(u32::from(stat.stx_mode));
    stat.stx_uid == rustix::process::geteuid().as_raw() && !mode.intersects(others)
}

/// Whether leases tell the truth on the file system of the folder at `path`. Not if there is none.
pub fn has_leases(path: &Path) -> bool {
    open_root(path).is_ok_and(|root| is_local(root.as_fd()))
}

/// Whether others than dagd's user, and root, may put files into the folder at `path`. Not if there
/// is none.
pub fn others_may_write(path: &Path) -> bool {
    let Ok(stat) = rustix::fs::stat(path) else { return false };
    let known = stat.st_uid == 0 || stat.st_uid == rustix::process::geteuid().as_raw();
    !known || Mode::from_raw_mode(stat.st_mode).intersects(Mode::WGRP | Mode::WOTH)
}

/// What is reported of a path that cannot even be looked at, for this reason.
pub fn unknown(error: &io::Error) -> Disk {
    let too_long = error.raw_os_error() == Some(libc::ENAMETOOLONG);
    let probe = if too_long { Probe::Unreachable } else { Probe::Unreadable };
    Disk::File { version: Version::unknown(), probe }
}

/// Asks for a number of the mount that is never used again, where the kernel has one (6.8).
const STATX_MNT_ID_UNIQUE: u32 = 0x4000;

fn is_local(fd: BorrowedFd<'_>) -> bool {
    rustix::fs::fstatfs(fd).is_ok_and(|fs| {
        // The kernel's magic numbers have 32 bits; the field is wider on some machines.
        u32::try_from(fs.f_type & 0xffff_ffff).is_ok_and(|magic| LOCAL.contains(&magic))
    })
}

fn stat_of(fd: BorrowedFd<'_>) -> Result<Statx, Errno> {
    let unique = StatxFlags::from_bits_retain(STATX_MNT_ID_UNIQUE);
    let mask = StatxFlags::BASIC_STATS | StatxFlags::BTIME | StatxFlags::MNT_ID | unique;
    statx(fd, c"", AtFlags::EMPTY_PATH, mask)
}

fn is(stat: &Statx, kind: FileType) -> bool {
    FileType::from_raw_mode(u32::from(stat.stx_mode)) == kind
}

fn dev_of(stat: &Statx) -> u64 {
    u64::from(stat.stx_dev_major) << 32 | u64::from(stat.stx_dev_minor)
}

/// The mount; the device where the kernel does not number mounts.
fn mount_of(stat: &Statx) -> u64 {
    let numbered = StatxFlags::MNT_ID.bits() | STATX_MNT_ID_UNIQUE;
    if stat.stx_mask & numbered == 0 { dev_of(stat) } else { stat.stx_mnt_id }
}

fn mtime_of(stat: &Statx) -> i64 {
    nanos(&stat.stx_mtime)
}

fn nanos(time: &StatxTimestamp) -> i64 {
    time.tv_sec.saturating_mul(1_000_000_000).saturating_add(i64::from(time.tv_nsec))
}

fn version_of(fd: BorrowedFd<'_>, stat: &Statx) -> Version {
    let file = identity_of(fd, stat);
    Version { file, size: stat.stx_size, mtime_ns: mtime_of(stat) }
}

/// The file handle; where the file system makes none, the inode and when it was made.
fn identity_of(fd: BorrowedFd<'_>, stat: &Statx) -> Bytes {
    handle::of(fd).unwrap_or_else(|| {
        let mut id = b"i".to_vec();
        id.extend_from_slice(&dev_of(stat).to_le_bytes());
        id.extend_from_slice(&stat.stx_ino.to_le_bytes());
        id.extend_from_slice(&stat.stx_btime.tv_sec.to_le_bytes());
        id.extend_from_slice(&stat.stx_btime.tv_nsec.to_le_bytes());
        Bytes::from(id)
    })
}

/// Takes a read lease on a file, or gives it back.
#[expect(unsafe_code, reason = "rustix has no F_SETLEASE")]
fn lease(fd: BorrowedFd<'_>, take: bool) -> Result<(), Errno> {
    let kind = if take { libc::F_RDLCK } else { libc::F_UNLCK };
    // SAFETY: F_SETLEASE takes an int and touches no memory of ours; `fd` is open for the call.
    let done = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETLEASE, libc::c_int::from(kind)) };
    if done == 0 {
        return Ok(());
    }
    Err(Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::INVAL))
}
