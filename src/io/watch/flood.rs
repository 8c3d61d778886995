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

/// Watches that notify may still have to walk over: some seconds of work.
const WALK_MAX: usize = 20_000_000;

/// Watches that it walks over in a microsecond, about.
const WALK_PACE: u128 = 5;

/// Whether, with this event, a directory goes that is watched. A file that is renamed costs
/// nothing; it is told with a tracker, and a directory itself without.
pub fn goes(event: &notify::Result<Event>) -> bool {
    event.as_ref().is_ok_and(|event| match event.kind {
        EventKind::Remove(RemoveKind::Folder) => true,
        EventKind::Modify(ModifyKind::Name(RenameMode::From)) => event.tracker().is_none(),
        _ => false,
    })
}

/// Watches to be walked over, as far as notify has had no time for it yet.
#[derive(Default)]
pub struct Flood {
    walk: usize,
    last: Option<Instant>,
}

impl Flood {
    /// A directory goes, at this time. Returns whether there is too much to be forgotten among so
    /// many watches.
    pub fn grows(&mut self, watches: usize, now: Instant) -> bool {
        let passed = self
            .last
            .replace(now)
            .map_or(Duration::ZERO, |last| now.saturating_duration_since(last));
        let walked = passed.as_micros().saturating_mul(WALK_PACE);
        let walked = usize::try_from(walked).unwrap_or(usize::MAX);
        self.walk = self.walk.saturating_sub(walked).saturating_add(watches);
        self.walk > WALK_MAX
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

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use notify::event::{CreateKind, EventKind, ModifyKind, RemoveKind, RenameMode};
    use notify::{Error, Event};

    use super::{Flood, WALK_MAX, goes};

    #[test]
    fn only_directories_go() {
        let from = || Event::new(EventKind::Modify(ModifyKind::Name(RenameMode::From)));
        assert!(goes(&Ok(from())));
        assert!(goes(&Ok(Event::new(EventKind::Remove(RemoveKind::Folder)))));
        assert!(!goes(&Ok(from().set_tracker(1))));
        assert!(!goes(&Ok(Event::new(EventKind::Remove(RemoveKind::File)))));
        assert!(!goes(&Ok(Event::new(EventKind::Create(CreateKind::Folder)))));
        assert!(!goes(&Err(Error::watch_not_found())));
    }

    #[test]
    fn many_at_once_are_too_many_and_one_by_one_they_are_not() {
        let (watches, start) = (20_000, Instant::now());
        let mut flood = Flood::default();
        let first = (1..100_000).find(|_| flood.grows(watches, start)).unwrap();
        assert_eq!(first, WALK_MAX / watches + 1);
        // Each leaves notify the time to forget it.
        let mut churn = Flood::default();
        assert!((0..100_000).all(|n| !churn.grows(watches, start + Duration::from_millis(5) * n)));
    }
}
