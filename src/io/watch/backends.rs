//! Which backend watches a directory: fanotify those for which a trigger asks for it, inotify all
//! others.
//!
//! Knows nothing of triggers and decides nothing else: both write into the same inbox.

use std::sync::Arc;

use crate::core::path::Bytes;

use super::backend::Outcome;
use super::dirty::Inbox;
use super::fanotify::Fanotify;
use super::inotify::Inotify;

/// The backends.
pub struct Backends {
    inotify: Inotify,
    fanotify: Fanotify,
}

impl Backends {
    /// Nothing is watched yet.
    pub fn new(inbox: &Arc<Inbox>) -> Self {
        Self { inotify: Inotify::new(inbox.clone()), fanotify: Fanotify::new(inbox.clone()) }
    }

    /// Watches directories, besides as many `others`, those that `marks` picks by fanotify. Returns
    /// what became of each, in any order.
    pub fn watch(
        &mut self,
        paths: Vec<Bytes>,
        others: usize,
        marks: impl Fn(&Bytes) -> bool,
    ) -> impl Iterator<Item = (Bytes, Outcome)> {
        let (marked, single): (Vec<_>, Vec<_>) = paths.into_iter().partition(marks);
        let mut outcomes = self.fanotify.watch(&marked);
        if !single.is_empty() {
            outcomes.extend(self.inotify.watch(&single, others));
        }
        marked.into_iter().chain(single).zip(outcomes)
    }

    /// Takes those that fanotify watches away from it, which costs nothing, and returns the others.
    pub fn unmark(&mut self, paths: Vec<Bytes>) -> Vec<Bytes> {
        self.fanotify.unwatch(paths)
    }

    /// Takes directories away from inotify: see [`Inotify::unwatch`].
    pub fn unwatch(&mut self, paths: &[Bytes]) {
        self.inotify.unwatch(paths);
    }

    /// Whether a backend that sees a directory go forgets it, with all below, by itself.
    pub fn forgets(&self, path: &Bytes) -> bool {
        !self.fanotify.has(path)
    }

    /// Waits until the inbox has all that the kernel has queued by now. `false` if that cannot be
    /// known.
    pub fn drain(&mut self) -> bool {
        // Both, so that what one of them has heard is there in any case.
        self.inotify.drain() & self.fanotify.drain()
    }

    /// Begins anew and watches nothing. With `overlap`, what was watched goes on until
    /// [`Backends::settle`].
    pub fn renew(&mut self, overlap: bool) {
        self.inotify.renew(overlap);
        self.fanotify.renew(overlap);
    }

    /// All is watched again. What was heard before is not lost.
    pub fn settle(&mut self) {
        self.inotify.settle();
        self.fanotify.settle();
    }

    /// Tries again to begin what could not begin.
    pub fn retry(&mut self) {
        self.inotify.retry();
        self.fanotify.retry();
    }
}
