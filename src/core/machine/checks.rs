//! Checks of ready files, and keys of which only one file is delivered.
//!
//! A file that is ready but for its content waits here for whoever reads it. A key is decided in
//! three places, so that nothing gets between them: the ledger is asked by the check; what was
//! claimed since is known here by its commit; and of several files that passed with one key, the
//! first is ready, and the others wait for what becomes of it.

use std::collections::{BTreeMap, VecDeque};

use super::Machine;
use super::lane::Lane;
use crate::core::candidate::{
    Candidate, Disk, Kind, Passed, Pending, Probe, Readiness, Seen, Stage, backoff,
};
use crate::core::check::{Check, Checked, Finding, key_of};
use crate::core::effect::{Command, Out};
use crate::core::id::{Name, Now, RunId, Seq};
use crate::core::ledger::Noted;
use crate::core::path::Bytes;
use crate::core::record::{FileClaim, Record};
use crate::core::trigger::FolderSpec;

/// Checks that are asked for at once, per trigger: enough that the one who reads never waits for
/// the next question, few enough that each can have its file open.
pub(super) const CHECKS_MAX: usize = 16;

/// Keys that changed hands while checks were out, per trigger. Of older ones a check that began
/// before them is asked for again, which is a look at the ledger.
const CLAIMED_MAX: usize = 4096;

/// The checks of a lane, and the keys of its candidates.
#[derive(Debug, Default)]
pub(super) struct Checks {
    /// Asked for, with a commit that the answer has seen for sure.
    out: BTreeMap<u64, (Bytes, Seq)>,
    /// To be asked for.
    waiting: BTreeMap<u64, Bytes>,
    /// Candidates that passed, are ready or behind others with the same key, by their turn.
    keys: BTreeMap<Bytes, BTreeMap<u64, Bytes>>,
    /// Keys whose first candidate has gone: to the run, if it was delivered.
    freed: BTreeMap<Bytes, Option<RunId>>,
    /// Keys that were claimed, or given back, while checks were out.
    claimed: BTreeMap<Bytes, (Seq, Option<RunId>)>,
    order: VecDeque<(Seq, Bytes)>,
    /// Candidates that have passed so far.
    turns: u64,
    /// The newest commit of a claim that is no longer remembered.
    forgotten: Seq,
}

impl Checks {
    /// A candidate is no longer what it was: it waits for no check, and holds no key.
    pub(super) fn drop(&mut self, candidate: &Candidate) {
        if let Stage::Checking { number, .. } = candidate.stage {
            self.waiting.remove(&number);
        }
        if let Some(Passed { key: Some(key), turn }) = &candidate.passed {
            self.leave(key, *turn);
        }
    }

    fn leave(&mut self, key: &Bytes, turn: u64) {
        let Some(holders) = self.keys.get_mut(key) else { return };
        let first = holders.first_key_value().is_some_and(|(first, _)| *first == turn);
        holders.remove(&turn);
        if holders.is_empty() {
            self.keys.remove(key);
            self.freed.remove(key);
        } else if first {
            self.freed.entry(key.clone()).or_default();
        }
    }

    /// A run has the key: no other is delivered with it.
    fn claim(&mut self, key: &Bytes, by: (Seq, RunId)) {
        if self.keys.contains_key(key) {
            self.freed.insert(key.clone(), Some(by.1));
        }
        self.note(key, by.0, Some(by.1));
    }

    /// The ledger tells something else of a key from this commit on.
    fn note(&mut self, key: &Bytes, seq: Seq, run: Option<RunId>) {
        if self.out.is_empty() {
            // Whoever asks from now on finds it in the ledger.
            self.claimed.clear();
            self.order.clear();
            return;
        }
        self.claimed.insert(key.clone(), (seq, run));
        self.order.push_back((seq, key.clone()));
        if self.order.len() > CLAIMED_MAX
            && let Some((seq, key)) = self.order.pop_front()
        {
            self.forgotten = seq;
            self.forget(seq, &key);
        }
    }

    fn forget(&mut self, seq: Seq, key: &Bytes) {
        if self.claimed.get(key).is_some_and(|(of, _)| *of == seq) {
            self.claimed.remove(key);
        }
    }

    /// An answer has come: what every check that is still out will find in the ledger is forgotten.
    fn answered(&mut self, number: u64) -> bool {
        let asked = self.out.remove(&number).is_some();
        let oldest = self.out.first_key_value().map_or(Seq(u64::MAX), |(_, (_, seq))| *seq);
        while let Some((seq, key)) = self.order.pop_front_if(|(seq, _)| *seq <= oldest) {
            self.forget(seq, &key);
        }
        asked
    }

    /// Who has a key of which the ledger told `told` at `seen`. `Err`: it has to be asked again.
    fn holder(&self, key: &Bytes, told: Option<RunId>, seen: Seq) -> Result<Option<RunId>, ()> {
        if self.forgotten > seen {
            return Err(());
        }
        match self.claimed.get(key).filter(|(seq, _)| *seq > seen) {
            None => Ok(told),
            Some((_, Some(run))) => Ok(Some(*run)),
            Some((_, None)) => Err(()),
        }
    }
}

impl Lane {
    /// Whether a candidate has to be checked before it is ready.
    pub(super) fn must_check(&self, candidate: &Candidate) -> bool {
        let folder = self.spec.folder().filter(|_| candidate.kind != Kind::Deleted);
        candidate.passed.is_none() && folder.is_some_and(FolderSpec::checks)
    }

    /// A candidate was looked at, and is ready or not: what a check found of it may not hold any
    /// more. `same`: its version is what it was.
    fn doubt(&mut self, candidate: &mut Candidate, same: bool, hinted: bool, ready: bool) {
        let content = self.spec.folder().is_some_and(FolderSpec::checks_content);
        let checking = matches!(candidate.stage, Stage::Checking { .. });
        // A hint may tell of another content of the same size and time; a check that is out will
        // be asked for again, if it finds against the file.
        if same && ready && (checking || !(content && hinted)) {
            return;
        }
        self.checks.drop(candidate);
        candidate.passed = None;
        if checking {
            candidate.stage = Stage::Ready;
        }
    }

    /// Whether another candidate with the same key goes first.
    fn is_behind(&self, candidate: &Candidate) -> bool {
        let Some(Passed { key: Some(key), turn }) = &candidate.passed else { return false };
        let first = self.checks.keys.get(key).and_then(BTreeMap::first_key_value);
        first.is_some_and(|(first, _)| first != turn)
    }

    /// The checks that are asked for and not answered, and those that are to be asked for.
    pub fn checks(&self) -> (usize, usize) {
        (self.checks.out.len(), self.checks.waiting.len())
    }

    /// Nobody waits for its checks any more. Returns whether there were any.
    pub(super) fn uncheck(&mut self) -> bool {
        !std::mem::take(&mut self.checks.out).is_empty()
    }

    /// What must hold of checks and keys.
    ///
    /// # Panics
    /// When it does not: the program is wrong.
    pub(super) fn check_checks(&self, stopping: bool) {
        let Checks { out, waiting, keys, freed, .. } = &self.checks;
        assert!(freed.is_empty(), "no key is left to nobody");
        assert!(out.len() <= CHECKS_MAX, "checks are asked for within bounds");
        let full = out.len() == CHECKS_MAX || stopping;
        assert!(waiting.is_empty() || full, "a check waits only for others");
        for (number, rel) in waiting {
            let stage = self.candidates.get(rel).map(|candidate| &candidate.stage);
            let own = matches!(stage, Some(Stage::Checking { number: own, .. }) if own == number);
            assert!(own, "a check that waits is of its candidate");
        }
        for (rel, candidate) in &self.candidates {
            if let Stage::Checking { number, .. } = &candidate.stage {
                let asked = out.get(number).map(|(of, _)| of).or(waiting.get(number));
                assert_eq!(asked, Some(rel), "who is checked was asked for");
            }
            let ready = candidate.stage == Stage::Ready;
            assert!(!(ready && self.must_check(candidate)), "what is ready was checked");
            assert!(!(ready && self.is_behind(candidate)), "one of a key is ready");
        }
        for (key, holders) in keys {
            let (first, _) = holders.first_key_value().expect("a key has somebody");
            for (turn, rel) in holders {
                let candidate = self.candidates.get(rel).expect("who holds a key is there");
                let passed = Passed { key: Some(key.clone()), turn: *turn };
                assert_eq!(candidate.passed, Some(passed), "a key is its holder's");
                let behind = Stage::Pending(Pending::SameKey, None);
                let stage = if turn == first { Stage::Ready } else { behind };
                assert_eq!(candidate.stage, stage, "the first of a key is ready, the others wait");
            }
        }
    }
}

impl Machine {
    /// A candidate was looked at: see [`Lane::doubt`].
    pub(super) fn doubt(
        &mut self,
        trigger: &Name,
        candidate: &mut Candidate,
        same: bool,
        hinted: bool,
        readiness: Readiness,
    ) {
        if let Some(lane) = self.lanes.get_mut(trigger) {
            lane.doubt(candidate, same, hinted, readiness == Readiness::Ready);
        }
    }

    /// A candidate is ready, but for a check and for others with its key.
    pub(super) fn settled(&mut self, now: Now, trigger: &Name, rel: &Bytes, out: &mut Out) {
        let Some(lane) = self.lanes.get_mut(trigger) else { return };
        let Some(candidate) = lane.candidates.get_mut(rel) else { return };
        if let Stage::Checking { again, .. } = &mut candidate.stage {
            *again = true;
            return;
        }
        let candidate = &lane.candidates[rel];
        if lane.must_check(candidate) {
            self.check(now, trigger, rel, out);
        } else if lane.is_behind(candidate) {
            lane.set_stage(rel, Stage::Pending(Pending::SameKey, None), now.mono);
        } else {
            self.ready(now, trigger, rel, out);
        }
    }

    /// A candidate may be delivered.
    fn ready(&mut self, now: Now, trigger: &Name, rel: &Bytes, out: &mut Out) {
        let lane = self.lanes.get_mut(trigger).expect("the lane was just looked up");
        let candidate = &lane.candidates[rel];
        let (kind, version) = (candidate.kind, candidate.version.clone());
        let was_ready = lane.is_ready(candidate);
        lane.set_stage(rel, Stage::Ready, now.mono);
        if lane.is_incomplete(&lane.candidates[rel]) {
            if lane.leave_out(rel, false, now.mono) {
                return;
            }
            self.wait_for_set(now, trigger, rel, out);
        }
        self.wake_for(trigger);
        if !was_ready {
            let disk = match kind {
                Kind::Deleted => Disk::Absent,
                Kind::Created | Kind::Modified => {
                    Disk::File { version: version.clone(), probe: Probe::NotAsked }
                }
            };
            let seen = Seen { trigger: trigger.clone(), rel: rel.clone(), disk, row: None };
            self.arrived(now, &seen, version, out);
        }
    }

    /// Nothing starts any more: nobody waits for checks.
    pub(super) fn uncheck_all(&mut self, out: &mut Out) {
        for (name, lane) in &self.lanes {
            if !lane.checks.out.is_empty() {
                out.commands.push(Command::Uncheck { trigger: name.clone() });
            }
        }
    }

    /// Has a candidate checked.
    fn check(&mut self, now: Now, trigger: &Name, rel: &Bytes, out: &mut Out) {
        self.last_check += 1;
        let number = self.last_check;
        let Some(lane) = self.lanes.get_mut(trigger) else { return };
        lane.set_stage(rel, Stage::Checking { number, again: false }, now.mono);
        lane.checks.waiting.insert(number, rel.clone());
        self.ask_checks(trigger, out);
    }

    fn ask_checks(&mut self, trigger: &Name, out: &mut Out) {
        let lane = self.lanes.get_mut(trigger).filter(|_| self.stopping.is_none());
        let Some(lane) = lane else { return };
        let Some(folder) = lane.spec.folder() else { return };
        while lane.checks.out.len() < CHECKS_MAX
            && let Some((number, rel)) = lane.checks.waiting.pop_first()
        {
            let version = lane.candidates[&rel].version.clone();
            let check = Check {
                number,
                trigger: trigger.clone(),
                root: Bytes::from(folder.root.as_path()),
                key: key_of(&lane.spec, &rel, &version),
                follow: folder.follow_symlinks,
                checksum: folder.checksum_file.clone(),
                rel: rel.clone(),
                version,
            };
            // Whether this step is committed under its number depends on its having records.
            lane.checks.out.insert(number, (rel, Seq(self.seq.0.saturating_sub(1))));
            out.commands.push(Command::Check(Box::new(check)));
        }
    }

    /// A file was checked.
    pub(super) fn checked(&mut self, now: Now, checked: Checked, out: &mut Out) {
        let Checked { number, trigger, seq, finding } = checked;
        let Some(lane) = self.lanes.get_mut(&trigger) else { return };
        let rel = lane.checks.out.get(&number).map(|(rel, _)| rel.clone());
        let Some(rel) = rel else { return };
        self.hot.insert(trigger.clone());
        let current = lane.candidates.get_mut(&rel).filter(
            |c| matches!(c.stage, Stage::Checking { number: current, .. } if current == number),
        );
        if let Some(candidate) = current {
            let again = matches!(candidate.stage, Stage::Checking { again: true, .. });
            match finding {
                Finding::Good { key, delivered } => {
                    self.good(now, &trigger, &rel, (key, delivered, seq), out);
                }
                Finding::Untold | Finding::Differs if again => self.check(now, &trigger, &rel, out),
                Finding::Untold => {
                    self.wait(now, (&trigger, &rel), Pending::ChecksumFile, None, out);
                }
                Finding::Differs => {
                    self.wait(now, (&trigger, &rel), Pending::ChecksumDiffers, None, out);
                }
                Finding::Changed => self.put_off(now, (&trigger, &rel), Pending::Unstable, out),
                Finding::Unreadable => {
                    self.put_off(now, (&trigger, &rel), Pending::Unreadable, out);
                }
            }
        }
        if let Some(lane) = self.lanes.get_mut(&trigger) {
            lane.checks.answered(number);
        }
        self.ask_checks(&trigger, out);
    }

    /// A file passed its check. `told`: its key, who had it in the ledger, and when that was read.
    fn good(
        &mut self,
        now: Now,
        trigger: &Name,
        rel: &Bytes,
        told: (Option<Bytes>, Option<RunId>, Seq),
        out: &mut Out,
    ) {
        let (key, delivered, seen) = told;
        let lane = self.lanes.get_mut(trigger).expect("the lane was just looked up");
        if let Some(key) = &key {
            match lane.checks.holder(key, delivered, seen) {
                Err(()) => return self.check(now, trigger, rel, out),
                Ok(Some(run)) => return self.note_duplicate(now, trigger, rel, run, out),
                Ok(None) => {}
            }
        }
        let Some(candidate) = lane.candidates.get_mut(rel) else { return };
        candidate.stage = Stage::Pending(Pending::SameKey, None);
        lane.checks.turns += 1;
        let turn = lane.checks.turns;
        candidate.passed = Some(Passed { key: key.clone(), turn });
        if let Some(key) = key {
            lane.checks.keys.entry(key).or_default().insert(turn, rel.clone());
        }
        self.settled(now, trigger, rel, out);
    }

    /// Looks again later.
    fn put_off(&mut self, now: Now, at: (&Name, &Bytes), why: Pending, out: &mut Out) {
        let lane = self.lanes.get_mut(at.0);
        let Some(candidate) = lane.and_then(|lane| lane.candidates.get_mut(at.1)) else { return };
        let pause = backoff(candidate.looks);
        candidate.looks = candidate.looks.saturating_add(1);
        self.wait(now, at, why, Some(pause), out);
    }

    fn note_duplicate(&mut self, now: Now, trigger: &Name, rel: &Bytes, run: RunId, out: &mut Out) {
        let version = self.lanes[trigger].candidates[rel].version.clone();
        let (trigger, rel, why) = (trigger.clone(), rel.clone(), Noted::Duplicate(run));
        self.emit(now, Record::FileNoted { trigger, rel, version, why, at: now.wall }, out);
    }

    /// Decides about candidates whose key was another one's before: it was delivered, or has gone.
    /// Returns whether there were any.
    pub(super) fn settle_keys(&mut self, now: Now, out: &mut Out) -> bool {
        let freed =
            |name: &&Name| self.lanes.get(*name).is_some_and(|lane| !lane.checks.freed.is_empty());
        let lanes: Vec<Name> =
            self.touched.iter().chain(&self.hot).filter(freed).cloned().collect();
        for trigger in &lanes {
            while let Some(lane) = self.lanes.get_mut(trigger)
                && let Some((key, run)) = lane.checks.freed.pop_first()
            {
                let mut behind = lane.checks.keys.get(&key).into_iter().flat_map(BTreeMap::values);
                if let Some(run) = run {
                    for rel in behind.cloned().collect::<Vec<_>>() {
                        self.note_duplicate(now, trigger, &rel, run, out);
                    }
                } else if let Some(rel) = behind.next().cloned() {
                    self.settled(now, trigger, &rel, out);
                }
            }
        }
        !lanes.is_empty()
    }
}

impl Lane {
    /// A file was not delivered after all: its key is free from this commit on.
    pub(super) fn free_key(&mut self, key: &Bytes, seq: Seq) {
        self.checks.note(key, seq, None);
    }

    /// The files of a run hold their keys from now on.
    pub(super) fn claim_keys(&mut self, file: &FileClaim, by: (Seq, RunId)) {
        if let Some(candidate) = self.candidates.get_mut(&file.rel) {
            self.checks.drop(candidate);
            candidate.passed = None;
        }
        if let Some(key) = &file.key {
            self.checks.claim(key, by);
        }
    }
}
