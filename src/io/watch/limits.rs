//! The kernel's limits of inotify: what they are, what is used of them, what to type when one is
//! reached.
//!
//! Only reads `/proc`. The limits are the kernel's own: for each user, in his user namespace and in
//! all above it.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// A limit that the kernel keeps for each user.
#[derive(Debug)]
pub struct Limit {
    /// Its name in the namespace where dagd runs.
    own: &'static str,
    /// Its name for the whole machine.
    machine: &'static str,
}

/// Watched directories.
pub const WATCHES: Limit =
    Limit { own: "user.max_inotify_watches", machine: "fs.inotify.max_user_watches" };

/// Queues of events.
pub const INSTANCES: Limit =
    Limit { own: "user.max_inotify_instances", machine: "fs.inotify.max_user_instances" };

/// Events that wait in a queue, read when the queue is made; it is not kept for each user.
pub const QUEUE: Limit =
    Limit { own: "fs.inotify.max_queued_events", machine: "fs.inotify.max_queued_events" };

impl Limit {
    /// The setting that binds, and its value. Of the two the lower one binds: outside of containers
    /// they are the same. `None` where there is no `/proc`.
    pub fn binding(&self) -> Option<(&'static str, u64)> {
        let machine = value(self.machine);
        let own = value(self.own).filter(|own| machine.is_none_or(|machine| *own < machine));
        own.map(|own| (self.own, own)).or_else(|| machine.map(|value| (self.machine, value)))
    }

    /// What to type so that `more` fit, with as many again to spare.
    pub fn remedy(&self, more: usize) -> String {
        let (name, now) = self.binding().unwrap_or((self.machine, 0));
        let more = u64::try_from(more).unwrap_or(u64::MAX);
        format!("sysctl -w {name}={}", now.saturating_add(more).saturating_mul(2))
    }
}

fn value(name: &str) -> Option<u64> {
    let path = format!("/proc/sys/{}", name.replace('.', "/"));
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// What the processes of a user hold, as far as they may be looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Used {
    /// Queues.
    pub instances: u64,
    /// Watches of them all.
    pub watches: u64,
    /// Whether there are more processes that may not be looked at.
    pub hidden: bool,
}

/// Counts what the processes of user `uid` hold.
pub fn used(uid: u32) -> Used {
    let mut used = Used::default();
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    for process in processes {
        let number = process.file_name().to_string_lossy().bytes().all(|b| b.is_ascii_digit());
        if number && process.metadata().is_ok_and(|meta| meta.uid() == uid) {
            held(&process.path(), &mut used);
        }
    }
    used
}

/// Adds what one process holds.
fn held(process: &Path, used: &mut Used) {
    let open = fs::read_dir(process.join("fd"));
    used.hidden |= open.as_ref().is_err_and(|error| error.kind() == ErrorKind::PermissionDenied);
    for fd in open.into_iter().flatten().flatten() {
        let is_queue = fs::read_link(fd.path())
            .is_ok_and(|to| to.as_os_str().as_encoded_bytes() == b"anon_inode:inotify");
        if !is_queue {
            continue;
        }
        used.instances += 1;
        let info = process.join("fdinfo").join(fd.file_name());
        let text = fs::read_to_string(info).unwrap_or_default();
        let watches = text.lines().filter(|line| line.starts_with("inotify wd:")).count();
        used.watches = used.watches.saturating_add(u64::try_from(watches).unwrap_or(u64::MAX));
    }
}

#[cfg(test)]
mod tests {
    use rustix::fs::inotify::{self, CreateFlags, WatchFlags};

    use super::used;

    #[test]
    fn what_a_user_holds_is_counted() {
        let uid = rustix::process::geteuid().as_raw();
        let dir = tempfile::tempdir().unwrap();
        let queue = inotify::init(CreateFlags::CLOEXEC).unwrap();
        inotify::add_watch(&queue, dir.path(), WatchFlags::CREATE).unwrap();
        let now = used(uid);
        assert!(now.instances >= 1 && now.watches >= 1, "{now:?}");
        assert_eq!(used(u32::MAX - 7), super::Used::default(), "nobody's");
    }
}
