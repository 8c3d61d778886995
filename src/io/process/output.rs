//! One log file per attempt, recycled: standard output and standard error in the order of writing.
//!
//! A new file per attempt costs more than its process does on a busy disk. So a slot keeps a spare:
//! an attempt that wrote nothing gives it back, any other has it renamed to its own name. The file
//! is given back only when no process of the attempt can still hold it.
//!
//! Of a log that grows above its bound, head and tail are kept: the middle is punched out, so that
//! the file keeps its length and gives up its blocks. Where the file system cannot do that, only
//! the head is kept, and what is written after each cut.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::fs::{FallocateFlags, OFlags, fallocate, fcntl_setfl, fstat, ftruncate};
use rustix::io::Errno;

/// Holes begin and end at multiples of this many bytes: what the file system can give up.
const BLOCK: u64 = 4096;

/// An empty file that waits for an attempt.
#[derive(Debug)]
pub struct Spare {
    file: Arc<File>,
    path: PathBuf,
}

impl Spare {
    /// Makes `path`, which must not be there, in the folder of the spares.
    pub fn create(path: PathBuf) -> io::Result<Self> {
        let made = OpenOptions::new()
            .append(true)
            .create_new(true)
            .mode(0o600)
            .custom_flags(libc::O_CLOEXEC)
            .open(&path)?;
        Ok(Self { file: Arc::new(made), path })
    }

    /// The log at `path` of an attempt that goes on.
    pub fn used(path: PathBuf) -> io::Result<Self> {
        let file = OpenOptions::new().append(true).custom_flags(libc::O_CLOEXEC).open(&path)?;
        Ok(Self { file: Arc::new(file), path })
    }

    /// The file, to be handed to a process.
    pub fn file(&self) -> Arc<File> {
        Arc::clone(&self.file)
    }
}

/// The log of the attempt that a slot runs now.
#[derive(Debug, Default)]
pub struct Log {
    // lock: the slot sleeps in its wait while the keeper tends the log; both may name or cut it.
    live: Mutex<Option<Live>>,
}

#[derive(Debug)]
struct Live {
    spare: Spare,
    target: PathBuf,
    max: u64,
    named: bool,
    /// Bytes that were cut off where no hole could be punched.
    cut: u64,
    since: Instant,
}

impl Log {
    /// An attempt begins whose log will be `target`, of which `max` bytes are kept.
    pub fn begin(&self, spare: Spare, target: PathBuf, max: u64) {
        let named = spare.path == target;
        let live = Live { spare, target, max, named, cut: 0, since: Instant::now() };
        *self.lock() = Some(live);
    }

    /// The attempt has ended. `clean` tells that none of its processes is left. Returns the bytes
    /// that it wrote, and the spare if it can be used again.
    pub fn end(&self, clean: bool) -> (u64, Option<Spare>) {
        let Some(mut live) = self.lock().take() else {
            return (0, None);
        };
        let bytes = live.bound();
        if bytes > 0 {
            live.name();
            return (bytes, None);
        }
        // A process may have changed the flags of the description that it shared with us.
        if clean && !live.named && fcntl_setfl(&live.spare.file, OFlags::APPEND).is_ok() {
            return (0, Some(live.spare));
        }
        remove(&live.spare.path);
        (0, None)
    }

    /// Takes the file back from the attempt's user.
    pub fn own(&self) {
        let guard = self.lock();
        if let Some(live) = guard.as_ref() {
            take_back(&live.spare.file, &live.target);
        }
    }

    /// Names and cuts the log of an attempt that has been running for `age` and has written
    /// something. Returns whether an attempt is running.
    pub fn tend(&self, age: Duration) -> bool {
        let mut guard = self.lock();
        let Some(live) = guard.as_mut() else {
            return false;
        };
        if live.since.elapsed() >= age && live.bound() > 0 {
            live.name();
        }
        true
    }

    /// Gives the log its name at once: an attempt that may outlive dagd is found by it.
    pub fn name(&self) {
        if let Some(live) = self.lock().as_mut() {
            live.name();
        }
    }

    /// Where the output goes now, if this is the log of the attempt whose log will be `target`.
    pub fn now(&self, target: &Path) -> Option<PathBuf> {
        self.lock()
            .as_ref()
            .filter(|live| live.target == target)
            .map(|live| live.spare.path.clone())
    }

    fn lock(&self) -> MutexGuard<'_, Option<Live>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Live {
    /// Gives up what is above the bound. Returns all bytes written so far.
    fn bound(&mut self) -> u64 {
        let size = match fstat(&self.spare.file) {
            Ok(stat) => u64::try_from(stat.st_size).unwrap_or(0),
            Err(_) => 0,
        };
        let written = size + self.cut;
        let Some((from, len)) = hole(size, self.max) else {
            return written;
        };
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        match fallocate(&self.spare.file, flags, from, len) {
            Ok(()) => {}
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => {
                if ftruncate(&self.spare.file, from).is_ok() {
                    self.cut += size - from;
                }
            }
            Err(error) => {
                tracing::warn!(path = %self.target.display(), %error, "cannot bound a log");
            }
        }
        written
    }

    /// Gives the log its own name, once.
    fn name(&mut self) {
        if self.named {
            return;
        }
        match std::fs::rename(&self.spare.path, &self.target) {
            Ok(()) => {
                self.spare.path.clone_from(&self.target);
                self.named = true;
            }
            Err(error) => {
                let (from, to) = (self.spare.path.display(), self.target.display());
                tracing::warn!(%from, %to, %error, "cannot name a log");
            }
        }
    }
}

/// Makes the folder of the spares below `logs`, and removes the spares of an earlier dagd.
pub fn spares(logs: &Path) -> io::Result<PathBuf> {
    let dir = logs.join("spare");
    let named =
        |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", dir.display()));
    std::fs::create_dir_all(&dir).map_err(named)?;
    for entry in std::fs::read_dir(&dir).map_err(named)? {
        remove(&entry.map_err(named)?.path());
    }
    Ok(dir)
}

/// Takes the log at `path` of an attempt that has ended without a dagd back from its user. One that
/// is not there is fine.
pub fn own(path: &Path) {
    let opened =
        OpenOptions::new().append(true).custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC).open(path);
    match opened {
        Ok(file) => take_back(&file, path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "cannot look whose a log is");
        }
    }
}

fn take_back(file: &File, path: &Path) {
    let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
    if fstat(file).is_ok_and(|stat| stat.st_uid == uid.as_raw()) {
        return;
    }
    if let Err(error) = rustix::fs::fchown(file, Some(uid), Some(gid)) {
        tracing::warn!(path = %path.display(), %error, "a log stays with its task's user");
    }
}

/// What to give up of `size` bytes so that about `max` are kept: offset and length.
fn hole(size: u64, max: u64) -> Option<(u64, u64)> {
    if size <= max {
        return None;
    }
    let from = (max / 2).checked_next_multiple_of(BLOCK)?;
    let to = (size - max / 2) / BLOCK * BLOCK;
    (to > from).then(|| (from, to - from))
}

fn remove(path: &Path) {
    if let Err(error) = std::fs::remove_file(path)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(path = %path.display(), %error, "cannot remove a spare log");
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::unix::fs::MetadataExt as _;
    use std::time::Duration;

    use super::{Log, Spare, hole};

    #[test]
    fn holes_leave_head_and_tail() {
        assert_eq!(hole(100, 100), None);
        assert_eq!(hole(8192, 8190), None);
        assert_eq!(hole(1 << 20, 1 << 16), Some((1 << 15, (1 << 20) - (1 << 16))));
        assert_eq!(hole(u64::MAX, 0), Some((0, u64::MAX / 4096 * 4096)));
        assert_eq!(hole(u64::MAX, u64::MAX), None);
    }

    #[test]
    fn an_empty_one_is_given_back_and_a_used_one_named() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("1.a.1.log");
        let log = Log::default();
        assert!(!log.tend(Duration::ZERO));

        log.begin(Spare::create(dir.path().join("s1")).unwrap(), target.clone(), 8192);
        assert!(log.tend(Duration::ZERO));
        let (bytes, spare) = log.end(true);
        assert_eq!(bytes, 0);
        let spare = spare.unwrap();
        assert!(!target.exists());

        let file = spare.file();
        log.begin(spare, target.clone(), 8192);
        (&*file).write_all(&vec![b'x'; 1 << 20]).unwrap();
        assert!(log.tend(Duration::ZERO));
        assert!(std::fs::metadata(&target).unwrap().blocks() * 512 <= 16384);
        (&*file).write_all(b"the end").unwrap();
        let (bytes, spare) = log.end(true);
        assert_eq!(bytes, (1 << 20) + 7);
        assert!(spare.is_none());
        let kept = std::fs::read(&target).unwrap();
        assert!(kept.starts_with(b"xxxx") && kept.ends_with(b"xthe end"));

        log.begin(Spare::create(dir.path().join("s2")).unwrap(), target, 8192);
        assert!(log.end(false).1.is_none());
        assert!(!dir.path().join("s2").exists());
    }
}
