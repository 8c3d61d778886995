//! Sends what was seen, but for files of which a hint is on its way that tells of the same.
//!
//! A file may be found closed before the hint that it was closed is served. If that hint comes
//! later, together with that of a time that was set, nobody can tell that it tells of nothing new,
//! and the file would be delivered once more. So what the kernel has queued by then is waited for,
//! and a file with such a hint is left to it.

use crate::core::id::Name;
use crate::core::path::Bytes;

use super::report::Stopped;
use super::worker::Worker;

/// A file: its trigger, and its path below the root.
type File = (Name, Bytes);

impl Worker {
    /// Sends what was seen.
    pub(super) fn report(&mut self) -> Result<(), Stopped> {
        let doubted = self.reporter.doubted();
        // Mostly it has come by now, so that nobody has to be waited for.
        let (mut hinted, rest) = self.part(doubted);
        if !rest.is_empty() && self.cover.drain() {
            hinted.extend(self.part(rest).0);
        }
        if !hinted.is_empty() {
            self.reporter.leave_out(&hinted.into_iter().collect());
        }
        self.reporter.flush()
    }

    /// Those that will be looked at for a hint, and the others.
    fn part(&self, files: Vec<File>) -> (Vec<File>, Vec<File>) {
        files.into_iter().partition(|(name, rel)| {
            let mut of = self.triggers.iter().filter(|trigger| trigger.name == *name);
            // A hint at what is held is kept: who waits for this look might wait for ever.
            let path = of.next().filter(|trigger| !trigger.held);
            let path = path.and_then(|trigger| trigger.reach().path(rel));
            path.is_some_and(|path| self.hints.wants_look(&path) || self.inbox.wants_look(&path))
        })
    }
}
