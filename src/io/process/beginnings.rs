//! Attempts that may go on without dagd and have not begun yet: a dagd that ended before they do would
//! take them for lost when it comes back.
//!
//! Counts, and waits until there is none; knows nothing of what they are.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How many there are.
#[derive(Debug, Default)]
pub struct Beginnings {
    // lock: the engine waits, when it ends, for what slots count down.
    many: Mutex<usize>,
    none: Condvar,
}

impl Beginnings {
    /// One more, until it is dropped.
    pub fn one(self: &Arc<Self>) -> Beginning {
        *self.lock() += 1;
        Beginning(Arc::clone(self))
    }

    /// Waits until there is none, for so long at most; `false` if there are some then.
    pub fn wait(&self, most: Duration) -> bool {
        let waited = self.none.wait_timeout_while(self.lock(), most, |many| *many > 0);
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }

    fn lock(&self) -> MutexGuard<'_, usize> {
        self.many.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An attempt that has not begun.
#[derive(Debug)]
pub struct Beginning(Arc<Beginnings>);

impl Drop for Beginning {
    fn drop(&mut self) {
        *self.0.lock() -= 1;
        self.0.none.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::thread;
    use std::time::Duration;

    use super::Beginnings;

    #[test]
    fn all_are_waited_for() {
        let all = Arc::new(Beginnings::default());
        assert!(all.wait(Duration::ZERO));
        let (one, other) = (all.one(), all.one());
        drop(one);
        assert!(!all.wait(Duration::ZERO));
        let ending = thread::spawn(move || drop(other));
        assert!(all.wait(Duration::MAX));
        ending.join().unwrap();
    }
}
