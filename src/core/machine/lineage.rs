//! Runs that cause each other: how many in a row, and when to brake.
//!
//! A file that first shows while a run is alive, or right after it, at the path of one of that
//! run's files or at a name that continues it, may have been written by the run. One such file says
//! nothing; a long row of them that comes back to a trigger again and again is a loop. Nobody can
//! prove it, so nothing is dropped: when it has come back `max_hops` times, each further file of it
//! waits, longer each time, and is shown. The counts
//! are derived, and begin anew with the process.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::Machine;
use super::lane::Lane;
use crate::core::candidate::{Candidate, Lineage, Pending, Readiness, Stage};
use crate::core::id::{Mono, Name, Now};
use crate::core::path::Bytes;

/// How long after a run's end its files are remembered: hints come within milliseconds.
const GRACE: Duration = Duration::from_secs(1);

/// Files of ended runs that are remembered, at most. Beyond it the oldest are forgotten: a loop
/// does not end so many runs in a second.
const FADING_MAX: usize = 16_384;

/// First and longest wait of a file at the end of a row.
const BRAKE: (Duration, Duration) = (Duration::from_mins(1), Duration::from_hours(1));

/// Files of runs that have ended lately, each with its own row, mostly an empty one. By trigger,
/// too: of two runs that had the same name the last to end need not be the last of the row.
#[derive(Debug, Default)]
pub(super) struct Fading {
    files: BTreeMap<(Bytes, Name), (Lineage, Mono)>,
    order: VecDeque<(Mono, (Bytes, Name))>,
}

impl Fading {
    /// A run of the trigger has ended that had these files, each at the end of its own row.
    pub(super) fn fade(&mut self, trigger: &Name, files: Vec<(Bytes, Lineage)>, now: Mono) {
        let until = now.after(GRACE);
        for (rel, lineage) in files {
            let file = (rel, trigger.clone());
            self.order.push_back((until, file.clone()));
            self.files.insert(file, (lineage, until));
        }
        self.trim(now);
    }

    /// How many files are remembered.
    pub(super) fn len(&self) -> usize {
        self.order.len()
    }

    /// Forgets what has faded.
    pub(super) fn trim(&mut self, now: Mono) {
        while self.order.len() > FADING_MAX || self.order.front().is_some_and(|(at, _)| *at <= now)
        {
            let Some((at, file)) = self.order.pop_front() else { break };
            if self.files.get(&file).is_some_and(|(_, until)| *until == at) {
                self.files.remove(&file);
            }
        }
    }

    fn after(&self, rel: &Bytes, now: Mono) -> impl Iterator<Item = Lineage> {
        let from = self.files.range((rel.clone(), Name::from(""))..);
        let of = from.take_while(move |((file, _), _)| file == rel);
        let fresh = of.filter(move |(_, (_, until))| *until > now);
        fresh.map(|((_, trigger), (lineage, _))| lineage.clone().then(trigger))
    }
}

impl Machine {
    /// The row of a file of the trigger that has just shown: empty unless a run may have written
    /// it. Of several the one that has come back to the trigger most often.
    pub(super) fn lineage(&self, trigger: &Name, rel: &Bytes, now: Mono) -> Lineage {
        let alive: Vec<&Lane> = self.lanes.values().filter(|lane| lane.live_runs > 0).collect();
        let of = |cause: Bytes| {
            let live = alive.iter().flat_map(|lane| lane.causes(&cause));
            live.chain(self.fading.after(&cause, now)).collect::<Vec<_>>()
        };
        let rows = causes(rel).flat_map(of);
        rows.max_by_key(|row| (row.of(trigger), row.runs())).unwrap_or_default()
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
            let hops = candidate.lineage.of(trigger);
            let beyond = hops.checked_sub(most).filter(|beyond| *beyond > 0);
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
            candidate.lineage = Lineage::default();
            rel.clone()
        });
        freed.collect()
    }
}

impl Lane {
    /// What a file comes after that a live run with this file wrote.
    fn causes(&self, rel: &Bytes) -> impl Iterator<Item = Lineage> {
        let claimed = |c: &&Candidate| matches!(c.stage, Stage::Claimed { .. });
        let claimed = self.candidates.get(rel).filter(claimed).map(|c| &c.lineage);
        let rows = claimed.into_iter().chain(self.lineages_away(rel));
        rows.map(|row| row.clone().then(&self.spec.name))
    }

    /// Files that wait because runs may cause each other, and how often the row came back.
    pub fn braked(&self) -> impl Iterator<Item = (&Bytes, u32)> {
        let held = |c: &Candidate| matches!(c.stage, Stage::Pending(Pending::Loop, _));
        self.candidates
            .iter()
            .filter(move |(_, c)| held(c))
            .map(|(rel, c)| (rel, c.lineage.of(&self.spec.name)))
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
    use super::{Bytes, Fading, Lineage, causes};
    use crate::core::id::{Mono, Name};

    #[test]
    fn what_may_have_written_a_file() {
        let of = |rel: &str| causes(&rel.into()).collect::<Vec<Bytes>>();
        assert_eq!(of("d/a.csv.out"), ["d/a".into(), "d/a.csv".into(), "d/a.csv.out".into()]);
        assert_eq!(of("f10"), ["f10".into()], "f1 does not write f10");
        assert_eq!(of(".x"), [".x".into()]);
    }

    #[test]
    fn memory_fades() {
        let (mut fading, name) = (Fading::default(), Name::from("in"));
        let row = Lineage::default().then(&name).then(&name);
        fading.fade(&name, vec![("a".into(), row)], Mono(0));
        let hops = |at| fading.after(&"a".into(), Mono(at)).next().map(|row| row.of("in"));
        assert_eq!((hops(999_999_999), hops(1_000_000_000)), (Some(3), None));
        fading.trim(Mono(2_000_000_000));
        assert!(!fading.files.contains_key(&("a".into(), name)));
    }
}
