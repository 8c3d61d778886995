//! Makes lost hints good: covers anew, then scans, with a growing pause if it repeats.
//!
//! What was lost is told by [`super::dirty`]; the scans themselves are in [`super::scan`].

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::core::path::Bytes;

use super::cover::News;
use super::descend::Reading;
use super::dirty::{Lost, beneath};
use super::worker::Worker;

/// First and longest pause between recoveries from lost hints; a minute without starts over.
const RECOVERY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(1));

/// What was lost and when it is made good.
#[derive(Debug, Default)]
pub struct Recovery {
    lost: Lost,
    /// When it is made good.
    pub due: Option<Instant>,
    last: Option<Instant>,
    pause: Duration,
}

impl Worker {
    /// Adds what was lost to what is to be made good.
    pub(super) fn lose(&mut self, lost: Lost) {
        if lost.is_empty() {
            return;
        }
        self.overflows.fetch_add(1, Ordering::Relaxed);
        tracing::warn!(all = lost.all, roots = lost.roots.len(), "hints were lost, scanning");
        let recovery = &mut self.recovery;
        recovery.lost.all |= lost.all;
        recovery.lost.roots.extend(lost.roots);
        if recovery.due.is_none() {
            let now = Instant::now();
            let recent = recovery.last.filter(|last| now.duration_since(*last) < RECOVERY.1);
            recovery.pause = match recent {
                Some(_) => (recovery.pause * 2).clamp(RECOVERY.0, RECOVERY.1),
                None => Duration::ZERO,
            };
            recovery.due = Some(recent.map_or(now, |last| now.max(last + recovery.pause)));
        }
    }

    /// A directory of a trigger could not be read although it was covered: it is covered as if it
    /// had just come, with all below it. Until it can be read, that is told and tried again.
    pub(super) fn cover_anew(&mut self, at: usize, rel: &Bytes) {
        let trigger = &self.triggers[at];
        if let Some(path) = trigger.reach().path(rel).filter(|_| trigger.means.watches) {
            self.forget(&path, false);
            self.cover.ask(path, News::Arrived);
        }
    }

    /// Covers anew what was lost, then scans it.
    pub(super) fn recover(&mut self) {
        let lost = std::mem::take(&mut self.recovery.lost);
        (self.recovery.due, self.recovery.last) = (None, Some(Instant::now()));
        let mut scans = Vec::new();
        if lost.all {
            self.cover.clear();
            self.reading = Reading::default();
        }
        for base in lost.roots.iter().filter(|_| !lost.all) {
            self.forget(base, true);
        }
        for at in 0..self.triggers.len() {
            let over = |base: &&Bytes| {
                let is_over = |root: &Bytes| beneath(root.as_bytes(), base.as_bytes()).is_some();
                lost.all || lost.roots.iter().any(is_over)
            };
            let bases: Vec<Bytes> = self.triggers[at].bases().filter(over).cloned().collect();
            if bases.is_empty() {
                continue;
            }
            for base in &bases {
                self.cover.ask(base.clone(), News::Known);
            }
            self.check_root(at, false);
            scans.push(self.triggers[at].name.clone());
        }
        self.roots_changed();
        for name in scans {
            self.scan(&name);
        }
    }
}
