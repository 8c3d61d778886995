//! Whether somebody is still writing the configuration's files. Reads none of them.

use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::core::candidate::{Disk, Probe};
use crate::core::path::Bytes;
use crate::core::trigger::{FollowSymlinks, ReadLock};
use crate::io::config_files;
use crate::io::disk::{Found, Prober, find, open_root};

/// How long files have to stay as they are where the kernel does not tell who writes them.
const STABLE: Duration = Duration::from_secs(2);

/// Whether somebody is still writing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writing {
    /// Nobody is.
    Over,
    /// Somebody has a file open for writing: its end will be told.
    Open,
    /// The kernel does not tell of a file, and it has changed a moment ago: whether it stays as it
    /// is will be known after this time.
    Perhaps(Duration),
}

/// Whether somebody is still writing one of the configuration's files.
pub fn writing(main: &Path) -> Writing {
    let mut prober = Prober::new();
    let mut perhaps = Duration::ZERO;
    for file in config_files::files(main) {
        match probe(&mut prober, &file) {
            Some(Probe::WriterOpen) => return Writing::Open,
            Some(Probe::Unproved) => perhaps = perhaps.max(unstable(&file)),
            Some(_) | None => {}
        }
    }
    if perhaps.is_zero() { Writing::Over } else { Writing::Perhaps(perhaps) }
}

fn probe(prober: &mut Prober, file: &Path) -> Option<Probe> {
    let (folder, name) = (file.parent()?, file.file_name()?);
    let root = open_root(folder).ok()?;
    let name = Bytes::from(Path::new(name));
    let Ok(Found::File(found)) = find(root.as_fd(), &name, FollowSymlinks::Files) else {
        return None;
    };
    match prober.probe(found, ReadLock::Auto) {
        Disk::File { probe, .. } => Some(probe),
        Disk::Absent | Disk::Other => None,
    }
}

/// How much longer a file has to stay as it is. A time that is still to come tells nothing.
fn unstable(file: &Path) -> Duration {
    let Ok(meta) = file.metadata() else { return Duration::ZERO };
    let now = SystemTime::now();
    let left = |(s, ns): (i64, i64)| {
        let since = Duration::new(u64::try_from(s).ok()?, u32::try_from(ns).ok()?);
        let age = now.duration_since(UNIX_EPOCH.checked_add(since)?).ok()?;
        STABLE.checked_sub(age)
    };
    let stamps = [(meta.mtime(), meta.mtime_nsec()), (meta.ctime(), meta.ctime_nsec())];
    stamps.into_iter().filter_map(left).max().unwrap_or_default()
}
