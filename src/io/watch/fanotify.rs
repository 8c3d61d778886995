//! The fanotify backend: one mark for each file system, and a table of the directories meant.
//!
//! A mark hears all of its file system, however many directories there are, and names a directory
//! by its file handle. The table has the paths of those that are watched; of all others nothing is
//! looked up. Its thread writes hints into the inbox and does nothing else. Which directories are
//! watched is decided in [`super::cover`]. What goes stays in the table until it is unwatched.

pub mod event;
pub mod mark;

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::fs::{CWD, Mode, OFlags, fstatvfs, openat};
use rustix::io::{Errno, ioctl_fionread, retry_on_intr};

use crate::core::path::Bytes;
use crate::io::disk::handle;

use super::backend::{OLD_MAX, Outcome, Problem};
use super::dirty::Inbox;
use event::{Event, Events, METADATA_LEN};
use mark::{because, init, mark, outcome_of};

/// Bytes read at once: about a thousand events.
const READ_MAX: usize = 1 << 16;

/// The backend.
pub struct Fanotify {
    inbox: Arc<Inbox>,
    /// Begun when something is to be watched, and ended when nothing is: a mark has its cost.
    current: Option<Result<Group, Problem>>,
    /// Kept until their successor covers everything.
    old: Vec<Group>,
}

impl Fanotify {
    /// A backend that watches nothing yet.
    pub fn new(inbox: Arc<Inbox>) -> Self {
        Self { inbox, current: None, old: Vec::new() }
    }

    /// Watches directories; the outcomes have the order of the paths.
    pub fn watch(&mut self, paths: &[Bytes]) -> Vec<Outcome> {
        if paths.is_empty() {
            return Vec::new();
        }
        let inbox = &self.inbox;
        match self.current.get_or_insert_with(|| Group::start(inbox)) {
            Ok(group) => group.watch(paths),
            Err(problem) => vec![Outcome::Failed(problem.clone()); paths.len()],
        }
    }

    /// Stops watching directories, and returns those that it did not watch.
    pub fn unwatch(&mut self, paths: Vec<Bytes>) -> Vec<Bytes> {
        let Some(Ok(group)) = &self.current else { return paths };
        let mut state = group.shared.lock();
        let left = paths.into_iter().filter(|path| !state.table.remove(path)).collect();
        let is_empty = state.table.paths.is_empty();
        drop(state);
        if is_empty {
            self.current = None;
        }
        left
    }

    /// Whether it watches a directory.
    pub fn has(&self, path: &Bytes) -> bool {
        let Some(Ok(group)) = &self.current else { return false };
        group.shared.lock().table.paths.contains_key(path)
    }

    /// Waits until the inbox has all that the kernel has queued by now. `false` if that cannot be
    /// known.
    pub fn drain(&self) -> bool {
        !matches!(&self.current, Some(Ok(group)) if !group.shared.drain())
    }

    /// Begins anew and watches nothing. With `overlap`, what was watched goes on until
    /// [`Fanotify::settle`].
    pub fn renew(&mut self, overlap: bool) {
        self.old.extend(self.current.take().and_then(Result::ok));
        if !overlap {
            self.old.clear();
        } else if self.old.len() > OLD_MAX {
            self.old.clear();
            self.inbox.lose();
        }
    }

    /// The new one covers everything. What the old ones have heard before is not lost.
    pub fn settle(&mut self) {
        for old in self.old.drain(..) {
            if !old.shared.drain() {
                self.inbox.lose();
            }
        }
    }

    /// Tries again to begin, if that failed.
    pub fn retry(&mut self) {
        self.current.take_if(|current| current.is_err());
    }
}

/// A group of marks, and the thread that reads what they hear.
struct Group {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    fd: OwnedFd,
    /// Wakes the thread to its end.
    end: OwnedFd,
    inbox: Arc<Inbox>,
    // lock: read by the thread and by whoever drains, who must know that all which was read before
    // is in the inbox; held for one read, or for what was queued when a drain began
    state: Mutex<State>,
}

struct State {
    table: Table,
    buffer: Vec<u8>,
}

impl Group {
    /// Begins without a mark. Errors: the system grants no group or no thread.
    fn start(inbox: &Arc<Inbox>) -> Result<Self, Problem> {
        let begun = init().and_then(|fd| {
            let state = State { table: Table::default(), buffer: vec![0; READ_MAX] };
            let end = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
            // lock: see the field
            let shared = Shared { fd, end, inbox: inbox.clone(), state: Mutex::new(state) };
            let shared = Arc::new(shared);
            let mine = shared.clone();
            let run = move || mine.run();
            let thread = Builder::new().name("dagd-fanotify".to_owned()).spawn(run)?;
            Ok(Self { shared, thread: Some(thread) })
        });
        begun.map_err(|error| {
            tracing::warn!(%error, "no fanotify, folders are polled");
            because(&error)
        })
    }

    fn watch(&self, paths: &[Bytes]) -> Vec<Outcome> {
        // Marked with each batch: a file system that was unmounted has lost its mark.
        let mut marks = BTreeMap::new();
        let mut watch = |path: &Bytes| match self.key(path, &mut marks) {
            Ok(key) => {
                self.shared.lock().table.insert(path, key);
                Outcome::Watched
            }
            Err(outcome) => {
                self.shared.lock().table.remove(path);
                outcome
            }
        };
        paths.iter().map(&mut watch).collect()
    }

    /// Marks the file system of a directory, unless that was tried for another one, and returns
    /// what events in the directory are known by.
    fn key(
        &self,
        path: &Bytes,
        marks: &mut BTreeMap<u64, Result<(), Problem>>,
    ) -> Result<Vec<u8>, Outcome> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let dir = openat(CWD, path.as_path(), flags, Mode::empty()).map_err(outcome_of)?;
        let fsid = fstatvfs(&dir).map_err(outcome_of)?.f_fsid;
        let marked = match marks.get(&fsid) {
            Some(marked) => marked.clone(),
            None => match mark(self.shared.fd.as_fd(), dir.as_fd()) {
                // In the way is the directory, not its file system.
                Err(error @ (Errno::ACCESS | Errno::NOENT)) => return Err(outcome_of(error)),
                marked => marked.map_err(|error| because(&error.into())),
            },
        };
        marks.insert(fsid, marked.clone());
        marked.map_err(Outcome::Failed)?;
        let none = || Outcome::Failed(because(&Errno::OPNOTSUPP.into()));
        let handle = handle::of(dir.as_fd()).ok_or_else(none)?;
        Ok([&fsid.to_le_bytes(), handle.as_bytes()].concat())
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // It can only fail when the thread has been called already.
        rustix::io::write(&self.shared.end, &1u64.to_ne_bytes()).ok();
        if let Some(thread) = self.thread.take() {
            // It has no cause to panic; and whoever watches has told what there was to tell.
            drop(thread.join());
        }
    }
}

impl Shared {
    /// Reads until the end.
    fn run(&self) {
        loop {
            let mut ready =
                [PollFd::new(&self.fd, PollFlags::IN), PollFd::new(&self.end, PollFlags::IN)];
            let polled = retry_on_intr(|| poll(&mut ready, None));
            if !ready[1].revents().is_empty() {
                return;
            }
            if let Err(error) = polled.map_err(io::Error::from).and_then(|_| self.lock().read(self))
            {
                tracing::warn!(%error, "fanotify failed, scanning");
                // That begins with a new group.
                return self.inbox.lose();
            }
        }
    }

    /// Reads all that is queued by now.
    fn drain(&self) -> bool {
        let mut state = self.lock();
        // Whatever their length, events count as much as their metadata.
        let Ok(queued) = ioctl_fionread(&self.fd) else { return false };
        let mut left = usize::try_from(queued).unwrap_or(usize::MAX) / METADATA_LEN;
        while left > 0 {
            match state.read(self) {
                Ok(0) => break,
                Ok(events) => left = left.saturating_sub(events),
                Err(_) => return false,
            }
        }
        true
    }

    // lock: see the field
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Turns what one read gives into hints; returns how many events that were, 0 if none is
    /// queued.
    fn read(&mut self, shared: &Shared) -> io::Result<usize> {
        let read = match retry_on_intr(|| rustix::io::read(&shared.fd, &mut *self.buffer)) {
            Ok(read) => self.buffer.get(..read).unwrap_or_default(),
            Err(Errno::AGAIN) => return Ok(0),
            Err(error) => return Err(error.into()),
        };
        let (mut events, mut key) = (0, Vec::new());
        for event in Events::new(read) {
            events += 1;
            match event {
                Event::Name(at, how) => {
                    key.clear();
                    key.extend_from_slice(&at.fsid.to_le_bytes());
                    handle::put(&mut key, at.kind, at.handle);
                    for dir in self.table.dirs.get(&key).into_iter().flatten() {
                        shared.inbox.mark(dir.join(at.name), how);
                    }
                }
                Event::Nothing => {}
                Event::Lost => shared.inbox.lose(),
            }
        }
        Ok(events)
    }
}

/// The directories that are watched. Bounded by those that triggers want.
#[derive(Default)]
struct Table {
    /// The paths of each: it may be mounted at several, and a path may be out of date.
    dirs: HashMap<Vec<u8>, Vec<Bytes>>,
    /// What each path was when it was watched.
    paths: HashMap<Bytes, Vec<u8>>,
}

impl Table {
    fn insert(&mut self, path: &Bytes, key: Vec<u8>) {
        self.remove(path);
        self.dirs.entry(key.clone()).or_default().push(path.clone());
        self.paths.insert(path.clone(), key);
    }

    /// Returns whether it was there.
    fn remove(&mut self, path: &Bytes) -> bool {
        let Some(key) = self.paths.remove(path) else { return false };
        if let Some(paths) = self.dirs.get_mut(&key) {
            paths.retain(|other| other != path);
            if paths.is_empty() {
                self.dirs.remove(&key);
            }
        }
        true
    }
}
