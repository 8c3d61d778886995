//! Notices that the way to a root has changed: mounts, renamed ancestors, links that lead elsewhere.
//!
//! Owns a thread that sleeps in the kernel until the table of mounts changes, something happens to
//! a directory or name on the way to a root, or the alarm rings, and then tells those whom it
//! concerns. It looks at no file system itself.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::{io, mem};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::io::Errno;

use crate::core::id::Name;
use crate::core::path::Bytes;

use super::backend::Problem;
use super::dirty::{Inbox, beneath};
use super::mounts::{MOUNTINFO, Mount, Mounts};
use super::pulse::{Alarm, Pulse};
use super::way::{Way, parent};

/// Bytes read from the kernel's queue at once: some hundred events.
const BUFFER: usize = 16 * 1024;

/// Pause after a failed wait for events.
const RETRY: std::time::Duration = std::time::Duration::from_secs(1);

/// Pause before a table of mounts that could not be read is read again.
const AGAIN: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };

/// What happens to a directory itself. Nothing of what happens in it: that would be noise.
const ITSELF: WatchFlags = WatchFlags::MOVE_SELF
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::ONLYDIR)
    .union(WatchFlags::DONT_FOLLOW)
    .union(WatchFlags::MASK_ADD);

/// What happens to names in a directory: only where a name leads elsewhere once it changes.
const NAMES: WatchFlags = WatchFlags::CREATE
    .union(WatchFlags::DELETE)
    .union(WatchFlags::MOVED_FROM)
    .union(WatchFlags::MOVED_TO);

/// Whoever follows a way: a worker, by its number, for a trigger.
pub type Follower = (u64, Name);

/// A way that is followed.
struct Followed {
    inbox: Arc<Inbox>,
    through: BTreeSet<Bytes>,
    hinges: BTreeSet<Bytes>,
    /// The root, if it is there, and where links beneath it lead.
    ends: BTreeSet<Bytes>,
}

impl Followed {
    /// Whether all that concerns it concerned the other one. Otherwise something that was watched
    /// for somebody else may have happened before it was told of.
    fn is_within(&self, other: &Self) -> bool {
        self.through.is_subset(&other.through)
            && self.hinges.is_subset(&other.hinges)
            && self.ends.is_subset(&other.ends)
    }

    /// Whether a mount that comes or goes at `point` concerns the way, or what is beneath its ends.
    fn is_touched(&self, point: &Bytes) -> bool {
        let within = |dir: &Bytes| beneath(point.as_bytes(), dir.as_bytes()).is_some();
        let end = self.ends.union(&self.hinges).any(within);
        let below = |base: &Bytes| {
            beneath(base.as_bytes(), point.as_bytes()).is_some_and(|r| !r.is_empty())
        };
        end || self.through.iter().any(within) || self.ends.iter().any(below)
    }
}

#[derive(Default)]
struct Table {
    /// Bounded by the triggers, and each by the components of its path.
    ways: BTreeMap<Follower, Followed>,
    /// The watch of each directory on a way, and whether it tells of names in it as well.
    dirs: BTreeMap<Bytes, (i32, bool)>,
    mounts: Mounts,
    stopped: bool,
}

impl Table {
    /// Gives up a watch that no directory has any more.
    fn unwatch(&self, fd: &OwnedFd, wd: i32) {
        if !self.dirs.values().any(|(kept, _)| *kept == wd) {
            // An error means that it has gone with its directory.
            inotify::remove_watch(fd, wd).ok();
        }
    }
}

/// What is followed, and by whom.
pub struct Places {
    /// Rings when somebody has touched a file system for long.
    alarm: Arc<Alarm>,
    /// `None` if there was no instance to be had yet.
    // lock: made again by whoever finds none; held for that only
    inotify: Mutex<Option<Arc<OwnedFd>>>,
    /// Wakes the thread.
    wake: OwnedFd,
    // lock: written by those who follow, read by the thread; never held across a call that looks
    // at a path
    table: Mutex<Table>,
}

impl Places {
    /// Nothing is followed yet. Errors: no event descriptor is left.
    pub fn new() -> io::Result<Self> {
        let table = Table { mounts: Mounts::read().unwrap_or_default(), ..Table::default() };
        Ok(Self {
            alarm: Arc::new(Alarm::new()?),
            // lock: see the fields
            inotify: Mutex::new(None),
            wake: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
            // lock: see the fields
            table: Mutex::new(table),
        })
    }

    /// The pulse of a worker; once it has touched something for long, the alarm rings.
    pub fn pulse(&self) -> Pulse {
        Pulse::new(self.alarm.clone())
    }

    /// Follows a way instead of what was followed before. Returns whether something on it was not
    /// followed until now: then it may have changed after it was walked. Directories that `shuns`
    /// picks are not touched. Errors: what has to be polled because it cannot be followed.
    pub fn follow(
        &self,
        who: &Follower,
        inbox: &Arc<Inbox>,
        way: &Way,
        shuns: impl Fn(&Bytes) -> bool,
    ) -> Result<bool, Problem> {
        let hinged: BTreeSet<Bytes> = way.hinges.iter().map(parent).collect();
        let followed = Followed {
            inbox: inbox.clone(),
            through: way.through.iter().filter(|dir| !shuns(dir)).cloned().collect(),
            hinges: way.hinges.iter().cloned().collect(),
            ends: way.ends.iter().cloned().collect(),
        };
        let dirs: Vec<Bytes> = followed.through.iter().cloned().collect();
        // In the table before they are watched: nobody gives up a watch that is wanted.
        let (was, fresh) = {
            let mut table = self.table();
            let fresh = table.ways.get(who).is_none_or(|was| !followed.is_within(was));
            (table.ways.insert(who.clone(), followed), fresh)
        };
        let fd = self.instance()?;
        let mut outcome = Ok(fresh);
        for dir in dirs {
            match self.watch(&fd, &dir, hinged.contains(&dir)) {
                Ok(fresh) => outcome = outcome.map(|any| any | fresh),
                Err(problem) => outcome = Err(problem),
            }
        }
        self.tidy(was);
        outcome
    }

    /// Watches a directory on a way. Returns whether it tells of more than before.
    fn watch(&self, fd: &OwnedFd, dir: &Bytes, names: bool) -> Result<bool, Problem> {
        let flags = if names { ITSELF | NAMES } else { ITSELF };
        match inotify::add_watch(fd, dir.as_path(), flags) {
            Ok(wd) => {
                let mut table = self.table();
                let was = table.dirs.get(dir).copied();
                let same = was.filter(|(was, _)| *was == wd).map(|(_, names)| names);
                // A watch keeps what it was once asked to tell.
                table.dirs.insert(dir.clone(), (wd, names || same == Some(true)));
                if let Some((was, _)) = was.filter(|(was, _)| *was != wd) {
                    table.unwatch(fd, was);
                }
                Ok(same.is_none() || (names && same == Some(false)))
            }
            // Gone or another thing by now: that is for the next walk.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(true),
            Err(Errno::NOSPC) => Err(Problem::Limit),
            Err(errno) => Err(Problem::Refused(io::Error::from(errno).kind().to_string())),
        }
    }

    /// Follows a way no longer.
    pub fn leave(&self, who: &Follower) {
        let was = self.table().ways.remove(who);
        self.tidy(was);
    }

    /// The worker follows nothing any more.
    pub fn leave_all(&self, worker: u64) {
        let left: Vec<Followed> = {
            let mut table = self.table();
            table
                .ways
                .extract_if(.., |(number, _), _| *number == worker)
                .map(|(_, way)| way)
                .collect()
        };
        self.tidy(left);
    }

    /// Gives up the watches of ways that are followed no longer, apart from those that others want.
    fn tidy(&self, left: impl IntoIterator<Item = Followed>) {
        let fd = self.inotify().clone();
        let mut table = self.table();
        for dir in left.into_iter().flat_map(|way| way.through) {
            if table.ways.values().any(|way| way.through.contains(&dir)) {
                continue;
            }
            if let Some(((wd, _), fd)) = table.dirs.remove(&dir).zip(fd.as_ref()) {
                table.unwatch(fd, wd);
            }
        }
    }

    /// The instance; makes one if there is none.
    fn instance(&self) -> Result<Arc<OwnedFd>, Problem> {
        let mut slot = self.inotify();
        if let Some(fd) = &*slot {
            return Ok(fd.clone());
        }
        match inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK) {
            Ok(fd) => {
                let fd = Arc::new(fd);
                *slot = Some(fd.clone());
                drop(slot);
                self.rouse();
                Ok(fd)
            }
            Err(Errno::MFILE) => Err(Problem::Instances),
            Err(errno) => Err(Problem::Broken(errno.to_string())),
        }
    }

    /// Ends the thread.
    pub fn stop(&self) {
        self.table().stopped = true;
        self.rouse();
    }

    /// Sleeps and tells until [`Places::stop`]. `check` is called when the alarm rings, and says
    /// whether to set it again. Without `/proc` mounts are not noticed.
    pub fn run(&self, check: impl Fn() -> bool) {
        let mountinfo = File::open(MOUNTINFO)
            .inspect_err(|error| tracing::warn!(%error, "mounts are not noticed"))
            .ok();
        let mut unread = false;
        while !self.table().stopped {
            let inotify = self.inotify().clone();
            let mut fds = vec![
                PollFd::new(&self.wake, PollFlags::IN),
                PollFd::new(&*self.alarm, PollFlags::IN),
            ];
            if let Some(inotify) = &inotify {
                fds.push(PollFd::new(inotify, PollFlags::IN));
            }
            // The table of mounts can always be read; that it has changed is told by an exception.
            if let Some(mountinfo) = &mountinfo {
                fds.push(PollFd::new(mountinfo, PollFlags::PRI));
            }
            match poll(&mut fds, unread.then_some(&AGAIN)) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => {
                    // Memory may be short for a moment.
                    tracing::warn!(%errno, "ways to roots are not followed; trying again");
                    std::thread::sleep(RETRY);
                    continue;
                }
            }
            let woken = |at: usize| fds.get(at).is_some_and(|fd| !fd.revents().is_empty());
            let (orders, rings) = (woken(0), woken(1));
            let mounts = woken(2 + usize::from(inotify.is_some()));
            if rings && (!self.alarm.rung() || check()) {
                self.alarm.set();
            }
            if orders {
                // It counts how often it was called; nobody wants to know.
                rustix::io::read(&self.wake, &mut [0; 8]).ok();
            }
            if let Some(inotify) = &inotify {
                self.read(inotify);
            }
            if mounts || unread {
                unread = !self.mounted();
            }
        }
    }

    /// Reads the queue and tells whom it concerns.
    fn read(&self, inotify: &OwnedFd) {
        let mut buffer = [MaybeUninit::uninit(); BUFFER];
        let mut reader = Reader::new(inotify.as_fd(), &mut buffer);
        // Until the queue is empty.
        while let Ok(event) = reader.next() {
            let table = self.table();
            if event.events().contains(ReadFlags::QUEUE_OVERFLOW) {
                table.ways.values().for_each(|way| way.inbox.wander());
                continue;
            }
            let name = event.file_name().map(std::ffi::CStr::to_bytes);
            for (dir, _) in table.dirs.iter().filter(|(_, (wd, _))| *wd == event.wd()) {
                let concerned = |way: &&Followed| match name {
                    Some(name) => way.hinges.contains(&dir.join(name)),
                    None => way.through.contains(dir),
                };
                table.ways.values().filter(concerned).for_each(|way| way.inbox.wander());
            }
        }
    }

    /// The table of mounts has changed: tells whom it concerns. `false` if it cannot be read, which
    /// the kernel will not tell of again.
    fn mounted(&self) -> bool {
        let Ok(now) = Mounts::read() else { return false };
        let mut table = self.table();
        let before = mem::replace(&mut table.mounts, now);
        let points: BTreeSet<Bytes> =
            table.mounts.changed(&before).map(|mount: &Mount| mount.point.clone()).collect();
        // What was unmounted and mounted again meanwhile may look the same in the table.
        let unknown = points.is_empty();
        for way in table.ways.values() {
            if unknown || points.iter().any(|point| way.is_touched(point)) {
                way.inbox.wander();
            }
        }
        true
    }

    fn rouse(&self) {
        // It can only fail when the thread has been called often enough already.
        rustix::io::write(&self.wake, &1u64.to_ne_bytes()).ok();
    }

    // lock: see the field
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // lock: see the field
    fn inotify(&self) -> MutexGuard<'_, Option<Arc<OwnedFd>>> {
        self.inotify.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;
    use std::sync::Arc;

    use super::{Inbox, Places};
    use crate::io::watch::way::walk;

    #[test]
    fn what_nobody_was_told_of_before_is_fresh_although_it_was_watched() {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().canonicalize().unwrap();
        let root = base.join("in");
        let (places, inbox) = (Places::new().unwrap(), Arc::new(Inbox::new(1)));
        let follow = |who: &str, path: &Path| {
            let way = walk(path, |_| false);
            places.follow(&(0, who.into()), &inbox, &way, |_| false).unwrap()
        };
        for _ in 0..2 {
            fs::create_dir(&root).unwrap();
            assert!(follow("t", &root));
            // For its sake names in the directory are told of from now on.
            follow("other", &base.join("missing"));
            assert!(!follow("t", &root));
            fs::remove_dir(&root).unwrap();
            // Had it come again behind the walk, nobody would have been told.
            assert!(follow("t", &root));
            assert!(!follow("t", &root));
        }
    }
}
