//! Runs that cause each other: how many in a row, and when to brake.
//!
//! A file that first shows while a run is alive, or right after it, at the path of one of that
//! run's files or at a name that continues it, may have been written by the run. One such file says
//! nothing; a long row of them is a loop. Nobody can prove it, so nothing is dropped: from
//! `max_hops` on, each further file of the row waits, longer each time, and is shown. The counts
//! are derived, and begin anew with the process.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::Machine;
use super::lane::Lane;
use crate::core::candidate::{Candidate, Pending, Readiness, Stage};
use crate::core::id::{Mono, Name, Now};
use crate::core::path::Bytes;

/// How long after a run's end its files are remembered: hints come within milliseconds.
const GRACE: Duration = Duration::from_secs(1);

/// Files of ended runs that are remembered, at most. Beyond it the oldest are forgotten: a loop
/// does not end so many runs in a second.
const FADING_MAX: usize = 65_536;

/// First and longest wait of a file at the end of a row.
const BRAKE: (Duration, Duration) = (Duration::from_mins(1), Duration::from_hours(1));

/// Files of runs that have ended lately, with the place of each in its row.
#[derive(Debug, Default)]
pub(super) struct Lineage {
    fading: BTreeMap<Bytes, (u32, Mono)>,
    order: VecDeque<(Mono, Bytes)>,
}

impl Lineage {
    /// A run has ended that had these files, each with its place in its row.
    pub(super) fn fade(&mut self, files: Vec<(Bytes, u32)>, now: Mono) {
        let until = now.after(GRACE);
        for (rel, hops) in files {
            self.order.push_back((until, rel.clone()));
            self.fading.insert(rel, (hops, until));
        }
        while self.order.len() > FADING_MAX || self.order.front().is_some_and(|(at, _)| *at <= now)
        {
            let Some((at, rel)) = self.order.pop_front() else { break };
            if self.fading.get(&rel).is_some_and(|(_, until)| *until == at) {
                self.fading.remove(&rel);
            }
        }
    }

    fn hops(&self, rel: &Bytes, now: Mono) -> Option<u32> {
        self.fading.get(rel).filter(|(_, until)| *until > now).map(|(hops, _)| *hops)
    }
}

impl Machine {
    /// The place in a row of a file that has just shown: 0 unless a run may have written it.
    pub(super) fn hops(&self, rel: &Bytes, now: Mono) -> u32 {
        let alive = |lane: &&Lane| lane.live_runs > 0;
        let of = |rel: &Bytes| {
            let lanes = self.lanes.values().filter(alive);
            let claimed = lanes.filter_map(|lane| lane.candidates.get(rel));
            let claimed = claimed.filter(|c| matches!(c.stage, Stage::Claimed { .. }));
            let away = self.lanes.values().filter_map(|lane| lane.hops_away(rel));
            claimed.map(|c| c.hops).chain(away).chain(self.lineage.hops(rel, now)).max()
        };
        causes(rel).filter_map(|cause| of(&cause)).max().map_or(0, |hops| hops.saturating_add(1))
    }

    /// Lets a file at the end of a long row wait, whatever else it waits for.
    pub(super) fn brake(
        &self,
        trigger: &Name,
        candidate: &mut Candidate,
        fresh: bool,
        readiness: Readiness,
        now: Now,
    ) -> Readiness {
        let folder = self.lanes.get(trigger).and_then(|lane| lane.spec.folder());
        let most = folder.map_or(u32::MAX, |folder| folder.max_hops);
        if fresh {
            let beyond = candidate.hops.checked_sub(most).filter(|beyond| *beyond > 0);
            candidate.held_until = beyond.map(|beyond| {
                let wait = BRAKE.0.saturating_mul(1 << (beyond - 1).min(8));
                now.mono.after(wait.min(BRAKE.1))
            });
        }
        match candidate.held_until.filter(|until| *until > now.mono) {
            Some(until) => Readiness::Wait(Pending::Loop, Some(now.mono.until(until))),
            None => readiness,
        }
    }

    /// A person has seen to it: files at the end of a row go on.
    pub(super) fn release_brakes(&mut self, trigger: &Name) -> Vec<Bytes> {
        let Some(lane) = self.lanes.get_mut(trigger) else { return Vec::new() };
        let held = lane.candidates.iter_mut().filter(|(_, c)| c.held_until.is_some());
        let freed = held.map(|(rel, candidate)| {
            candidate.held_until = None;
            candidate.hops = 0;
            rel.clone()
        });
        freed.collect()
    }
}

impl Lane {
    /// Files that wait because runs may cause each other, with the length of the row.
    pub fn braked(&self) -> impl Iterator<Item = (&Bytes, u32)> {
        let held = |c: &Candidate| matches!(c.stage, Stage::Pending(Pending::Loop, _));
        self.candidates.iter().filter(move |(_, c)| held(c)).map(|(rel, c)| (rel, c.hops))
    }
}

/// Paths whose run may have written `rel`: itself, and what its name continues behind a character
/// that is no letter and no digit.
fn causes(rel: &Bytes) -> impl Iterator<Item = Bytes> {
    let bytes = rel.as_bytes();
    let name = bytes.len() - rel.name().len();
    let ends = (name + 1..bytes.len()).filter(|at| !bytes[*at].is_ascii_alphanumeric());
    ends.chain([bytes.len()]).map(|end| Bytes::from(bytes[..end].to_vec()))
}

#[cfg(test)]
mod tests {
    use super::{Bytes, Lineage, causes};
    use crate::core::id::Mono;

    #[test]
    fn what_may_have_written_a_file() {
        let of = |rel: &str| causes(&rel.into()).collect::<Vec<Bytes>>();
        assert_eq!(of("d/a.csv.out"), ["d/a".into(), "d/a.csv".into(), "d/a.csv.out".into()]);
        assert_eq!(of("f10"), ["f10".into()], "f1 does not write f10");
        assert_eq!(of(".x"), [".x".into()]);
    }

    #[test]
    fn memory_fades() {
        let mut lineage = Lineage::default();
        lineage.fade(vec![("a".into(), 3)], Mono(0));
        assert_eq!(lineage.hops(&"a".into(), Mono(999_999_999)), Some(3));
        assert_eq!(lineage.hops(&"a".into(), Mono(1_000_000_000)), None);
        lineage.fade(vec![("b".into(), 1)], Mono(2_000_000_000));
        assert!(!lineage.fading.contains_key(&"a".into()));
    }
}
