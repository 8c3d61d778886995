//! Copies of files across file systems: made durable under a temporary name, and recognised later.
//!
//! It never writes to a name that exists, and never takes the original away.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::fs::{Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags};

use crate::core::candidate::Version;

/// Steps in which a file system may keep times, in nanoseconds: 100 ns over SMB, a second on old
/// file systems, two on FAT.
const TIME_STEPS_NS: [i64; 5] = [100, 1_000, 1_000_000, 1_000_000_000, 2_000_000_000];

/// Bytes compared at a time.
const COMPARE_CHUNK: usize = 64 << 10;

/// Longest extended attribute that is copied: the kernel's own limit.
const XATTR_MAX: usize = 64 << 10;

/// Copies the claimed version from `source` to the new name `temp` and syncs it, with its mode,
/// times, owner and extended attributes as far as this user may set them. `Ok(false)`: it is
/// another version by now; what is under `temp` is of no use.
pub(super) fn copy(source: &Path, temp: &Path, claim: &Version) -> io::Result<bool> {
    let from = open(source)?;
    let stat = from.metadata()?;
    if !stat.is_file() || stat.size() != claim.size || mtime_ns(&stat) != claim.mtime_ns {
        return Ok(false);
    }
    // One more than there should be, so that a file that grows is noticed and not followed.
    let copied = fill(&from, temp, &stat, claim.size.saturating_add(1))?;
    Ok(copied == claim.size)
}

/// The same for whatever the file is: whether it was the right one, the caller finds out.
pub(super) fn copy_file(source: &Path, target: &Path) -> io::Result<()> {
    let from = open(source)?;
    let stat = from.metadata()?;
    fill(&from, target, &stat, u64::MAX).map(drop)
}

fn open(source: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    Ok(File::from(rustix::fs::open(source, flags | OFlags::CLOEXEC, Mode::empty())?))
}

/// Makes the file `target` of the first `most` bytes of `from`, durably. Returns how many they are.
fn fill(from: &File, target: &Path, stat: &std::fs::Metadata, most: u64) -> io::Result<u64> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
    let private = Mode::RUSR | Mode::WUSR;
    let mut to = File::from(rustix::fs::open(target, flags | OFlags::CLOEXEC, private)?);
    let copied = io::copy(&mut from.take(most), &mut to)?;
    dress(from, &to, stat)?;
    to.sync_all()?;
    Ok(copied)
}

/// Whether the file `version` can be a copy of `claim`: as long, and as old as far as its file
/// system can say.
pub(super) fn resembles(version: &Version, claim: &Version) -> bool {
    let (kept, meant) = (version.mtime_ns, claim.mtime_ns);
    let same_time = kept == meant
        || TIME_STEPS_NS.iter().any(|&step| {
            kept.rem_euclid(step) == 0 && meant.saturating_sub(meant.rem_euclid(step)) == kept
        });
    version.size == claim.size && same_time
}

/// Whether two files hold the same bytes.
pub(super) fn same_content(a: &Path, b: &Path) -> io::Result<bool> {
    let (a, b) = (open(a)?, open(b)?);
    let mut left = a.metadata()?.len();
    if left != b.metadata()?.len() {
        return Ok(false);
    }
    let (mut one, mut other) = (vec![0; COMPARE_CHUNK], vec![0; COMPARE_CHUNK]);
    while left > 0 {
        let n = usize::try_from(left).unwrap_or(COMPARE_CHUNK).min(COMPARE_CHUNK);
        (&a).read_exact(&mut one[..n])?;
        (&b).read_exact(&mut other[..n])?;
        if one[..n] != other[..n] {
            return Ok(false);
        }
        left -= n as u64;
    }
    Ok(true)
}

/// Gives the copy what the original wears. Only the time is required: a copy is known by it.
pub(super) fn dress(from: &File, to: &File, stat: &std::fs::Metadata) -> io::Result<()> {
    let owner = (Uid::from_raw(stat.uid()), Gid::from_raw(stat.gid()));
    let given = rustix::fs::fchown(to, Some(owner.0), Some(owner.1)).is_ok();
    // Set-user-id on a file of another owner would hand out that owner's rights.
    let mode = stat.mode() & if given { 0o7777 } else { 0o777 };
    if rustix::fs::fchmod(to, Mode::from_raw_mode(mode)).is_err() {
        tracing::debug!(mode, "the target's file system keeps no such mode");
    }
    copy_xattrs(from, to);
    let time = |tv_sec, tv_nsec| Timespec { tv_sec, tv_nsec };
    let times = Timestamps {
        last_access: time(stat.atime(), stat.atime_nsec()),
        last_modification: time(stat.mtime(), stat.mtime_nsec()),
    };
    Ok(rustix::fs::futimens(to, &times)?)
}

/// Best effort: the target's file system may have none, and some are for root alone.
fn copy_xattrs(from: &File, to: &File) {
    let mut names = vec![0; XATTR_MAX];
    let Ok(n) = rustix::fs::flistxattr(from, &mut names) else { return };
    let mut value = vec![0; XATTR_MAX];
    for name in names[..n].split(|&byte| byte == 0).filter(|name| !name.is_empty()) {
        if let Ok(n) = rustix::fs::fgetxattr(from, name, &mut value)
            && let Err(error) = rustix::fs::fsetxattr(to, name, &value[..n], XattrFlags::empty())
        {
            let name = String::from_utf8_lossy(name);
            tracing::debug!(%error, %name, "extended attribute not copied");
        }
    }
}

fn mtime_ns(stat: &std::fs::Metadata) -> i64 {
    stat.mtime().saturating_mul(1_000_000_000).saturating_add(stat.mtime_nsec())
}

#[cfg(test)]
mod tests {
    use super::{Version, resembles};

    #[test]
    fn a_copy_is_known_by_size_and_time_as_far_as_it_is_kept() {
        let at = |mtime_ns, size| Version { file: "x".into(), size, mtime_ns };
        let claim = at(1_700_000_001_123_456_789, 5);
        for kept in [
            1_700_000_001_123_456_789, // whole
            1_700_000_001_123_456_700, // SMB
            1_700_000_001_000_000_000, // seconds
            1_700_000_000_000_000_000, // FAT
        ] {
            assert!(resembles(&at(kept, 5), &claim), "{kept}");
            assert!(!resembles(&at(kept, 6), &claim), "{kept}");
        }
        for other in [1_700_000_001_123_456_788, 1_700_000_002_000_000_000, 0] {
            assert!(!resembles(&at(other, 5), &claim), "{other}");
        }
        assert!(resembles(&at(-2_000_000_000, 5), &at(-1, 5)));
    }
}
