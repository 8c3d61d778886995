//! Files that enter and leave a lane's groups, and events that wait: they come, are claimed by a run,
//! are forgotten.
//!
//! Keeps candidates, groups, events and busy keys of a lane in step. Decides nothing.

use super::groups::Joining;
use super::lane::{Lane, holds_up, is_claimed};
use crate::core::candidate::{Candidate, Lineage, Origin, Stage};
use crate::core::id::{Mono, Now, RunId, Seq};
use crate::core::path::Bytes;
use crate::core::record::{FileClaim, ItemQueued, RunCreated};
use crate::core::run::Run;

impl Lane {
    /// Whether the candidate is ready.
    pub(super) fn is_ready(&self, candidate: &Candidate) -> bool {
        self.groups.holds(candidate.order)
    }

    /// Puts a candidate into the stage, and into its group or out of it.
    pub(super) fn set_stage(&mut self, rel: &Bytes, stage: Stage, now: Mono) {
        let Some(candidate) = self.candidates.get(rel) else { return };
        let (order, fresh) = (candidate.order, candidate.last_change == now);
        if stage == Stage::Ready {
            let key = self.key(Some(rel), None);
            let (spec, live) = (self.spec.clone(), &self.live);
            let Some(folder) = spec.folder() else { return };
            let version = &self.candidates[rel].version;
            let joining = Joining { key, rel, version, order, fresh };
            self.groups.join(folder, joining, now, |key| holds_up(&spec, live, key));
        } else {
            self.leave(order, now);
        }
        if let Some(candidate) = self.candidates.get_mut(rel) {
            candidate.stage = stage;
        }
    }

    /// Takes the candidate with this number of arrival out of its group.
    fn leave(&mut self, order: u64, now: Mono) {
        let (spec, live) = (self.spec.clone(), &self.live);
        if let Some(folder) = spec.folder() {
            self.groups.leave(folder, order, now, |key| holds_up(&spec, live, key));
        }
    }

    /// Closes the windows that are over, and forgets what it has waited for.
    pub(super) fn look_at_clock(&mut self, now: Mono) {
        self.alarm = self.alarm.filter(|at| *at > now);
        self.rated = self.rated.filter(|at| *at > now);
        let (spec, live) = (self.spec.clone(), &self.live);
        if let Some(folder) = spec.folder() {
            self.groups.close(folder, now, |key| holds_up(&spec, live, key));
        }
    }

    /// A run is about to take the first files of a group: what is left of it gathers anew.
    pub(super) fn reopen(&mut self, key: &Bytes, now: Mono) {
        let (spec, held) = (self.spec.clone(), !self.may_start(key));
        if let Some(folder) = spec.folder() {
            self.groups.reopen(folder, key, now, held);
        }
    }

    /// An event waits for a run.
    pub(super) fn enqueue(&mut self, item: &ItemQueued) {
        let key = self.key(item.files.first().map(|file| &file.rel), item.signal.as_ref());
        let held = !self.may_start(&key);
        self.items.insert(item, key, held, |rel| is_claimed(&self.candidates, rel));
    }

    /// The run is alive; its key is busy.
    pub(super) fn add(&mut self, created: &RunCreated) {
        self.live_runs += 1;
        *self.live.entry(created.key.clone()).or_default() += 1;
        self.hold(&created.key);
    }

    /// A run with this key was created or has ended.
    fn hold(&mut self, key: &Bytes) {
        let held = !self.may_start(key);
        self.groups.hold(key, held);
        self.items.hold(key, held);
    }

    /// A file of the run is claimed, if it lies in its place.
    pub(super) fn claim(&mut self, created: &RunCreated, file: &FileClaim, now: Now, seq: Seq) {
        if !file.in_place {
            return;
        }
        self.claim_keys(file, (seq, created.run));
        if !is_claimed(&self.candidates, &file.rel) {
            self.items.claim(&file.rel);
        }
        let next_order = &mut self.next_order;
        let candidate = self.candidates.entry(file.rel.clone()).or_insert_with(|| Candidate {
            stage: Stage::Ready,
            kind: file.kind,
            version: file.version.clone(),
            origin: Origin::Scan,
            first_seen: now.mono,
            first_seen_at: file.first_seen_at,
            last_change: now.mono,
            waiting_since: now.mono,
            looks: 0,
            order: arrival(next_order),
            scanned: false,
            lineage: Lineage::default(),
            held_until: None,
            passed: None,
            alarmed: false,
        });
        // An item may have waited while the path went on: look when its run has ended.
        let changed = candidate.version != file.version
            || !created.items.is_empty()
            || matches!(candidate.stage, Stage::Claimed { changed: true, .. });
        candidate.version = file.version.clone();
        candidate.kind = file.kind;
        candidate.stage = Stage::Claimed { run: created.run, changed };
        let order = candidate.order;
        self.leave(order, now.mono);
    }

    /// The run's files and its key are free. Returns the files with their rows.
    pub(super) fn release(&mut self, run: &Run) -> Vec<(Bytes, Lineage)> {
        let info = run.info();
        self.live_runs = self.live_runs.saturating_sub(1);
        if let Some(count) = self.live.get_mut(&info.key) {
            *count -= 1;
            if *count == 0 {
                self.live.remove(&info.key);
            }
        }
        self.hold(&info.key);
        let mut files = Vec::new();
        for file in run.files() {
            let rel = &file.claim.rel;
            let taken = self.away.remove(&(rel.clone(), info.run));
            let lineage = self.unclaim(info.run, rel).or(taken);
            files.extend(lineage.map(|lineage| (rel.clone(), lineage)));
        }
        files
    }

    /// A file of the run was taken away: its path is free, and is remembered for as long as the run
    /// lives, which may write there.
    pub(super) fn take_away(&mut self, run: RunId, file: &FileClaim) {
        if let Some(lineage) = self.unclaim(run, &file.rel) {
            self.away.insert((file.rel.clone(), run), lineage);
        }
    }

    /// A file of the run turned out to be another one, or gone, before anything was done for it.
    pub(super) fn lose(&mut self, run: RunId, file: &FileClaim, seq: Seq) {
        self.unclaim(run, &file.rel);
        if let Some(key) = &file.key {
            self.free_key(key, seq);
        }
    }

    /// The path is free, if the run had claimed it; the file's row.
    fn unclaim(&mut self, of: RunId, rel: &Bytes) -> Option<Lineage> {
        let ours = |c: &Candidate| matches!(c.stage, Stage::Claimed { run, .. } if run == of);
        self.candidates.get(rel).filter(|candidate| ours(candidate))?;
        let gone = self.candidates.remove(rel);
        self.items.free(rel, |key| holds_up(&self.spec, &self.live, key));
        gone.map(|candidate| candidate.lineage)
    }

    /// The rows of the path's files that live runs have taken away.
    pub(super) fn lineages_away(&self, rel: &Bytes) -> impl Iterator<Item = &Lineage> {
        let some = (!self.away.is_empty())
            .then(|| self.away.range((rel.clone(), RunId(0))..=(rel.clone(), RunId(u64::MAX))));
        some.into_iter().flatten().map(|(_, lineage)| lineage)
    }

    /// Drops the candidate of a path unless a run has claimed it.
    pub(super) fn forget(&mut self, rel: &Bytes, now: Mono) {
        let claimed = |c: &Candidate| matches!(c.stage, Stage::Claimed { .. });
        if self.candidates.get(rel).is_some_and(|candidate| !claimed(candidate))
            && let Some(candidate) = self.candidates.remove(rel)
        {
            self.leave(candidate.order, now);
            self.checks.drop(&candidate);
        }
    }
}

/// The next number of arrival: no two candidates of a lane have the same.
pub(super) fn arrival(next: &mut u64) -> u64 {
    let order = *next;
    *next += 1;
    order
}
