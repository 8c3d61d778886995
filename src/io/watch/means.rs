//! How the changes beneath a root are noticed: by events, by looking at intervals, or by both.
//!
//! Decides from the configuration, the type of the file system and a live probe, which writes
//! nothing. What is noticed is found elsewhere, always by the same scans.

use std::fs::File;
use std::mem::MaybeUninit;
use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, Reader, WatchFlags};

use crate::core::path::Bytes;
use crate::core::trigger::{Backend, FolderSpec};

use super::mounts::Mounts;

/// How often a folder is scanned whose events do not tell everything, if nothing else is said.
pub const DEGRADED: Duration = Duration::from_mins(1);

/// How long the probe waits for its event, which comes at once where any come.
const PROBE_MAX: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };

/// How the changes beneath a root are noticed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Means {
    /// Whether its directories are watched.
    pub watches: bool,
    /// How often it is scanned.
    pub every: Option<Duration>,
    /// Why events do not tell everything, if they do not, in words for the user.
    pub deaf: Option<String>,
}

impl Means {
    /// What is known of a folder whose root was not looked at.
    pub fn new(folder: &FolderSpec) -> Self {
        let Some(every) = polled(folder) else {
            return Self { watches: true, every: folder.reconcile_interval, deaf: None };
        };
        Self { watches: false, every: Some(every), deaf: None }
    }

    /// What is known of a folder whose root is at `base`. The root is opened.
    pub fn of(folder: &FolderSpec, base: &Bytes, mounts: &Mounts) -> Self {
        if folder.backend == Backend::Poll {
            return Self::new(folder);
        }
        let entered = mounts.beneath(base).filter(|_| folder.cross_filesystem);
        let mut all = mounts.over(base).into_iter().chain(entered);
        let by_type = all.find_map(|mount| Some((&mount.kind, mounts.nature(mount).deaf?)));
        let by_type = by_type.map(|(kind, why)| format!("{kind}: {why}"));
        let heard = hears(base.as_path());
        let silence = || Some("an event that was caused on purpose did not arrive".to_owned());
        let why = if heard { by_type } else { silence() };
        let Some(why) = why else { return Self::new(folder) };
        if folder.backend != Backend::Auto {
            let every = folder.reconcile_interval;
            let remedy = match every {
                Some(every) => format!("it is scanned every {}", text(every)),
                None => "set reconcile_interval, or backend = \"auto\"".to_owned(),
            };
            let deaf = Some(format!("{}: {why}; {remedy}", base.lossy()));
            return Self { watches: true, every, deaf };
        }
        let every = folder.reconcile_interval.unwrap_or(DEGRADED);
        let deaf = Some(format!("{} is scanned every {}: {why}", base.lossy(), text(every)));
        Self { watches: heard, every: Some(every), deaf }
    }

    /// One word for it.
    pub fn word(&self) -> &'static str {
        match (self.watches, self.every) {
            (true, None) => "events",
            (true, Some(_)) => "events, scans",
            (false, _) => "scans",
        }
    }
}

/// How often a folder is scanned that is not to be watched.
fn polled(folder: &FolderSpec) -> Option<Duration> {
    let often =
        folder.reconcile_interval.map_or(folder.poll_interval, |r| r.min(folder.poll_interval));
    (folder.backend == Backend::Poll).then_some(often)
}

fn text(duration: Duration) -> String {
    format!("{} s", duration.as_secs_f64())
}

/// Whether the kernel tells of what happens to a directory: opens it and expects to hear of that.
/// Where that cannot be tried nothing is known against it; what is in the way is told elsewhere.
fn hears(dir: &Path) -> bool {
    let Ok(queue) = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK) else {
        return true;
    };
    if inotify::add_watch(&queue, dir, WatchFlags::OPEN | WatchFlags::ONLYDIR).is_err()
        || File::open(dir).is_err()
    {
        return true;
    }
    let mut ready = [PollFd::new(&queue, PollFlags::IN)];
    if !matches!(poll(&mut ready, Some(&PROBE_MAX)), Ok(1)) {
        return false;
    }
    let mut buffer = [MaybeUninit::uninit(); 4096];
    Reader::new(&queue, &mut buffer).next().is_ok()
}
