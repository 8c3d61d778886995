//! One file that is being checked: opened, read slice by slice, and compared.
//!
//! What is compared is what is delivered: the file is the claimed version when the reading begins,
//! while it goes on, and when it has ended; not even its status has changed. The file's own lease
//! is left alone.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, OwnedFd};

use rustix::fs::{Advice, fadvise};

use super::hash::{Digests, Hashers, Wanted};
use crate::core::check::{Check, Finding, KeyOf, content_key};
use crate::core::id::Name;
use crate::core::path::Bytes;
use crate::core::sums;
use crate::io::disk::{self, Found, Stamp};

/// The largest checksum file that is read, in bytes: ten thousand lines. Of a larger one nothing is
/// taken.
pub(super) const SIDECAR_MAX: u64 = 1 << 20;

/// Bytes that are read in one go. What is to be stopped stops after that much.
pub(super) const BUFFER: usize = 1 << 20;

/// Buffers in a slice: a large file delays the others of its trigger by that much.
const SLICE: usize = 16;

/// What is known of a content, as long as the file is this one.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub(super) stamp: Stamp,
    pub(super) wanted: Wanted,
    pub(super) digests: Digests,
}

/// A file that is being checked.
pub(super) struct Job {
    pub(super) check: Check,
    root: OwnedFd,
    file: File,
    stamp: Stamp,
    wanted: Wanted,
    hashers: Hashers,
}

/// What a step came to.
pub(super) enum Step {
    /// There is more to be read.
    More(Box<Job>),
    /// That was all.
    Done(Done),
}

/// The end of a check.
pub(super) struct Done {
    pub(super) number: u64,
    pub(super) trigger: Name,
    /// The key, if one is asked for, or what was found against the file.
    pub(super) found: Result<Option<Bytes>, Finding>,
}

/// The end of `check`.
fn done(check: Check, found: Result<Option<Bytes>, Finding>) -> Step {
    let Check { number, trigger, .. } = check;
    Step::Done(Done { number, trigger, found })
}

impl Job {
    /// Begins a check. `known` is what an earlier one has read.
    pub(super) fn begin(check: Check, known: Option<Known>) -> (Step, Option<Known>) {
        let wanted = Wanted {
            checksum: check.checksum.as_ref().map(|(_, kind)| *kind),
            key: check.key == Some(KeyOf::Content),
        };
        if wanted.checksum.is_none() && !wanted.key {
            let key = known_key(&check);
            return (done(check, Ok(key)), None);
        }
        let opened = Self::open(check.clone(), wanted);
        let job = match opened {
            Ok(job) => job,
            Err(finding) => return (done(check, Err(finding)), None),
        };
        match known.filter(|known| known.stamp == job.stamp && known.wanted == wanted) {
            Some(known) => job.compare(known.digests),
            None => (Step::More(Box::new(job)), None),
        }
    }

    fn open(check: Check, wanted: Wanted) -> Result<Self, Finding> {
        let root = disk::open_root(check.root.as_path()).map_err(|error| finding(&error))?;
        if told(&root, &check)?.is_none() && wanted.checksum.is_some() {
            return Err(Finding::Untold);
        }
        let found =
            disk::find(root.as_fd(), &check.rel, check.follow).map_err(|error| finding(&error))?;
        let Found::File(found) = found else { return Err(Finding::Changed) };
        let file = File::from(found.open().map_err(|errno| finding(&errno.into()))?);
        let stamp = disk::stamp(file.as_fd()).map_err(|error| finding(&error))?;
        if stamp.version != check.version {
            return Err(Finding::Changed);
        }
        // Only advice: a file system that takes none reads as well.
        fadvise(&file, 0, None, Advice::Sequential).ok();
        Ok(Self { check, root, file, stamp, wanted, hashers: Hashers::new(wanted) })
    }

    /// Reads on. `stopped` is asked before each buffer; a job that is stopped comes to nothing.
    pub(super) fn read_on(
        mut self: Box<Self>,
        buffer: &mut [u8],
        stopped: impl Fn(&Check) -> bool,
    ) -> (Option<Step>, Option<Known>) {
        let ended = |check, finding| (Some(done(check, Err(finding))), None);
        for _ in 0..SLICE {
            if stopped(&self.check) {
                return (None, None);
            }
            match self.file.read(buffer) {
                Ok(0) => {
                    let hashers =
                        std::mem::replace(&mut self.hashers, Hashers::new(Wanted::NOTHING));
                    let (step, known) = self.compare(hashers.finish());
                    return (Some(step), known);
                }
                Ok(n) => self.hashers.update(&buffer[..n]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return ended(self.check, finding(&error)),
            }
        }
        match disk::stamp(self.file.as_fd()) {
            Ok(stamp) if stamp == self.stamp => (Some(Step::More(self)), None),
            Ok(_) => ended(self.check, Finding::Changed),
            Err(error) => ended(self.check, finding(&error)),
        }
    }

    /// All is read: is it still the same file, and what does the checksum file say by now?
    fn compare(self, digests: Digests) -> (Step, Option<Known>) {
        let Self { check, root, stamp, wanted, .. } = self;
        let now = disk::find(root.as_fd(), &check.rel, check.follow);
        let same = match now {
            Ok(Found::File(found)) => disk::stamp(found.as_fd()).map_err(|error| finding(&error)),
            Ok(_) => Err(Finding::Changed),
            Err(error) => Err(finding(&error)),
        };
        match same {
            Ok(now) if now == stamp => {}
            Ok(_) => return (done(check, Err(Finding::Changed)), None),
            Err(finding) => return (done(check, Err(finding)), None),
        }
        let verdict = match told(&root, &check) {
            Err(finding) => Err(finding),
            Ok(told) if wanted.checksum.is_some() && told.is_none() => Err(Finding::Untold),
            Ok(told) if told != digests.checksum => Err(Finding::Differs),
            Ok(_) => Ok(match &digests.key {
                Some(hash) => Some(content_key(hash)),
                None => known_key(&check),
            }),
        };
        (done(check, verdict), Some(Known { stamp, wanted, digests }))
    }
}

fn known_key(check: &Check) -> Option<Bytes> {
    match &check.key {
        Some(KeyOf::Known(key)) => Some(key.clone()),
        Some(KeyOf::Content) | None => None,
    }
}

/// The checksum that the file's checksum file tells; `None` if none is asked for, or it tells none.
fn told(root: &OwnedFd, check: &Check) -> Result<Option<Vec<u8>>, Finding> {
    let Some((sidecar, kind)) = &check.checksum else { return Ok(None) };
    let rel = sidecar.of(&check.rel);
    let found = match disk::find(root.as_fd(), &rel, check.follow) {
        Ok(Found::File(found)) => found,
        Ok(_) => return Ok(None),
        Err(error) => return Err(finding(&error)),
    };
    let file = File::from(found.open().map_err(|errno| finding(&errno.into()))?);
    let mut text = Vec::new();
    let read = file.take(SIDECAR_MAX + 1).read_to_end(&mut text);
    read.map_err(|error| finding(&error))?;
    if text.len() as u64 > SIDECAR_MAX {
        return Ok(None);
    }
    Ok(sums::find(&text, check.rel.name(), sidecar, *kind))
}

fn finding(error: &io::Error) -> Finding {
    match error.kind() {
        io::ErrorKind::NotFound => Finding::Changed,
        _ => Finding::Unreadable,
    }
}

impl Wanted {
    const NOTHING: Self = Self { checksum: None, key: false };
}
