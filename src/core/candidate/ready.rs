//! Whether work can start: the conditions of completeness, and what ends each wait.
//!
//! Each wait is ended by time, then it says when to look again; or by an event, then it says
//! nothing: the watch side hints at the file when that event comes, and a scan comes by anyway.

use std::time::Duration;

use super::{Candidate, Pending, Probe, Version};
use crate::core::id::Mono;
use crate::core::trigger::{FanOut, FolderSpec, ReadLock};

/// Whether work can start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// It can.
    Ready,
    /// It cannot, for this reason. Look again after this time; `None`: when something happens.
    Wait(Pending, Option<Duration>),
}

/// First and longest pause between looks at a file that a writer keeps open.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(5));

/// The pause before the next look at a file after so many looks in vain.
pub fn backoff(looks: u32) -> Duration {
    BACKOFF.1.min(BACKOFF.0.saturating_mul(1 << looks.min(8)))
}

/// Asks the conditions in the order of what they cost to wait for: first those whose end is told.
pub(super) fn readiness(
    spec: &FolderSpec,
    version: &Version,
    probe: Probe,
    live: Option<&Candidate>,
    hinted: bool,
    now: Mono,
) -> Readiness {
    let looks = live.map_or(0, |candidate| candidate.looks);
    let backoff = || Some(backoff(looks));
    match probe {
        Probe::Unreachable => return Readiness::Wait(Pending::Unreachable, None),
        Probe::NotDone => return Readiness::Wait(Pending::DoneFile, None),
        Probe::WriterOpen => return Readiness::Wait(Pending::WriterOpen, backoff()),
        Probe::Unreadable => return Readiness::Wait(Pending::Unreadable, backoff()),
        Probe::Free | Probe::Unproved | Probe::NotAsked => {}
    }
    let same = live.filter(|candidate| candidate.version == *version);
    let seen = same.map_or(Duration::ZERO, |candidate| candidate.first_seen.until(now));
    if let Some(left) = left(spec.stability_threshold, seen).filter(|_| must_be_stable(spec, probe))
    {
        return Readiness::Wait(Pending::Unstable, Some(left));
    }
    if let Some(left) = left(spec.min_age, seen) {
        return Readiness::Wait(Pending::MinAge, Some(left));
    }
    let quiet = same.filter(|_| !hinted).map_or(Duration::ZERO, |c| c.last_change.until(now));
    let waited = live.map_or(Duration::ZERO, |candidate| candidate.waiting_since.until(now));
    let ceiling = spec.max_wait.and_then(|most| left(most, waited));
    match (left(settle(spec, version), quiet), spec.max_wait.is_some(), ceiling) {
        (None, _, _) | (Some(_), true, None) => Readiness::Ready,
        (Some(quiet_left), _, ceiling) => {
            let wait = ceiling.map_or(quiet_left, |most| quiet_left.min(most));
            Readiness::Wait(Pending::Settle, Some(wait))
        }
    }
}

/// Whether a version has to stay the same for a while, because nothing proves that it is complete.
fn must_be_stable(spec: &FolderSpec, probe: Probe) -> bool {
    match spec.proof() {
        ReadLock::None => false,
        ReadLock::Changed => true,
        ReadLock::Auto | ReadLock::Lease => probe != Probe::Free,
    }
}

fn settle(spec: &FolderSpec, version: &Version) -> Duration {
    match (spec.fan_out, version.size) {
        // The window of the batch is what settles.
        (FanOut::Batch | FanOut::Dir | FanOut::Key, 0) if spec.settle_empty > spec.settle => {
            spec.settle_empty
        }
        (FanOut::Batch | FanOut::Dir | FanOut::Key, _) => Duration::ZERO,
        (FanOut::File, 0) => spec.settle.max(spec.settle_empty),
        (FanOut::File, _) => spec.settle,
    }
}

/// What is left of `whole` after `passed`; `None` if nothing.
fn left(whole: Duration, passed: Duration) -> Option<Duration> {
    whole.checked_sub(passed).filter(|left| !left.is_zero())
}
