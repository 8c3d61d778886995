//! Ends a watcher that would be busy for long with forgetting: a huge tree is being removed.
//!
//! notify walks over all of its watches for each directory that goes, after it has read all that
//! was queued. So for tens of thousands of them its thread would work for a minute, for nothing,
//! and hear nothing meanwhile. A new watcher and a scan take a second or two.

use std::panic::resume_unwind;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use notify::event::{ModifyKind, RemoveKind, RenameMode};
use notify::{Event, EventKind};

/// Watches that may have to be walked over in one go: some seconds of work.
const WALK_MAX: usize = 20_000_000;

/// Directories that go are counted together if no more than this lies between two.
const PAUSE: Duration = Duration::from_millis(100);

/// Directories that go, as far as notify has not forgotten them yet.
#[derive(Default)]
pub struct Flood {
    gone: usize,
    last: Option<Instant>,
}

impl Flood {
    /// Whether, with this event, there is too much to be forgotten among so many watches.
    pub fn grows(&mut self, event: &notify::Result<Event>, watches: usize) -> bool {
        let goes = matches!(
            event.as_ref().map(|event| event.kind),
            Ok(EventKind::Remove(RemoveKind::Folder)
                | EventKind::Modify(ModifyKind::Name(RenameMode::From)))
        );
        if !goes {
            return false;
        }
        let now = Instant::now();
        if self.last.is_none_or(|last| now.duration_since(last) > PAUSE) {
            self.gone = 0;
        }
        self.last = Some(now);
        self.gone += 1;
        self.gone.saturating_mul(watches) > WALK_MAX
    }
}

/// What a watcher's thread and its owner know of each other.
#[derive(Default)]
pub struct Gate {
    /// Nobody wants to hear of its events any more.
    pub retired: AtomicBool,
    /// Watches, at most.
    pub watches: AtomicUsize,
    // lock: the owner must not begin a call that the thread would never answer, and the thread must
    // not end before the owner has let go; held for a look at a flag, or to wait for that
    state: Mutex<State>,
    // lock: see `state`
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// The owner waits for an answer.
    calling: bool,
    /// The thread answers no more.
    doomed: bool,
    /// The owner has let go of the watcher.
    gone: bool,
}

/// A call of the owner, for as long as it lasts.
pub struct Call<'a>(&'a Gate);

impl Drop for Call<'_> {
    fn drop(&mut self) {
        self.0.lock().calling = false;
    }
}

impl Gate {
    /// Begins a call; `None` if nobody would answer.
    pub fn call(&self) -> Option<Call<'_>> {
        let mut state = self.lock();
        if state.doomed {
            return None;
        }
        state.calling = true;
        Some(Call(self))
    }

    /// From now on no call is answered. Returns whether that can be: nobody waits for an answer.
    pub fn doom(&self) -> bool {
        let mut state = self.lock();
        state.doomed |= !state.calling;
        state.doomed
    }

    /// The owner has let go of the watcher.
    pub fn let_go(&self) {
        self.lock().gone = true;
        self.changed.notify_all();
    }

    /// Ends the thread of a doomed watcher, once the owner has let go: before, the watcher would
    /// find nobody to say so. There is no other way to end it in the middle of its work.
    pub fn end(&self) -> ! {
        let mut state = self.lock();
        while !state.gone {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        drop(state);
        resume_unwind(Box::new("this watcher is replaced"))
    }

    // lock: see the field
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
