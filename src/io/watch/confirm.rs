//! Sends what was seen, but for files of which a hint is on its way that tells of the same.
//!
//! A file may be found closed before the hint that it was closed is served. If that hint comes
//! later, together with that of a time that was set, nobody can tell that it tells of nothing new,
//! and the file would be delivered once more. So what the kernel has queued by then is waited for,
//! and a file with such a hint is left to it.

use std::collections::BTreeSet;

use super::report::Stopped;
use super::worker::Worker;

impl Worker {
    /// Sends what was seen.
    pub(super) fn report(&mut self) -> Result<(), Stopped> {
        let doubted = self.reporter.doubted();
        if !doubted.is_empty() && self.cover.drain() {
            let hinted = doubted.into_iter().filter(|(name, rel)| {
                let mut of = self.triggers.iter().filter(|trigger| trigger.name == *name);
                // A hint at what is held is kept: who waits for this look might wait for ever.
                let path = of.next().filter(|trigger| !trigger.held);
                let path = path.and_then(|trigger| trigger.reach().path(rel));
                path.is_some_and(|p| self.hints.wants_look(&p) || self.inbox.wants_look(&p))
            });
            let hinted: BTreeSet<_> = hinted.collect();
            if !hinted.is_empty() {
                self.reporter.leave_out(&hinted);
            }
        }
        self.reporter.flush()
    }
}
