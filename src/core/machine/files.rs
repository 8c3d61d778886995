//! Observations become candidates, candidates become ready.

use std::time::Duration;

use super::lane::Gate;
use super::members::arrival;
use super::{Machine, Timer};
use crate::core::candidate::{
    Candidate, Decision, Disk, Kind, Lineage, Observed, Origin, Pending, Probe, Readiness, Seen,
    Stage, Version, decide,
};
use crate::core::effect::{Command, Out};
use crate::core::id::{Mono, Name, Now, Seq};
use crate::core::ledger::Noted;
use crate::core::path::Bytes;
use crate::core::record::Record;
use crate::core::trigger::Overlap;

impl Machine {
    /// The watch side looked at paths.
    pub(super) fn observe(&mut self, now: Now, observed: Observed, out: &mut Out) {
        for seen in observed.seen {
            self.see(now, observed.seq, observed.origin, &seen, out);
            self.recent.prune(observed.seq, &seen.trigger);
        }
    }

    fn see(&mut self, now: Now, seq: Seq, origin: Origin, seen: &Seen, out: &mut Out) {
        if origin == Origin::Stamp && self.stamped(now, seq, seen, out) {
            return;
        }
        let Some(lane) = self.lanes.get_mut(&seen.trigger) else { return };
        lane.unseen.remove(&seen.rel);
        if let Some(claimed) = lane.candidates.get_mut(&seen.rel)
            && let Stage::Claimed { run, changed } = &mut claimed.stage
        {
            let same = match &seen.disk {
                Disk::File { version, .. } => {
                    claimed.kind != Kind::Deleted && *version == claimed.version
                }
                Disk::Absent | Disk::Other => claimed.kind == Kind::Deleted,
            };
            *changed |= !same;
            let writes = matches!(seen.disk, Disk::File { probe: Probe::WriterOpen, .. });
            let run = *run;
            if !writes {
                self.hurry_move(run, &seen.rel, out);
            }
            return;
        }
        if self.recent.is_stale(seq, &seen.trigger, &seen.rel) {
            let (trigger, rel) = (seen.trigger.clone(), seen.rel.clone());
            out.commands.push(Command::Look { trigger, rel });
            return;
        }
        let Some(folder) = lane.spec.folder() else { return };
        let live = lane.candidates.get(&seen.rel);
        if let Some(Stage::Pending(_, Some(due))) = live.map(|candidate| &candidate.stage) {
            // Taken back, or files that became ready long ago would wake dagd up.
            self.timers.remove(&(*due, Timer::Look(seen.trigger.clone(), seen.rel.clone())));
        }
        let decision = decide(folder, seen, live, origin == Origin::Event, now.mono);
        self.hot.insert(seen.trigger.clone());
        match decision {
            Decision::Nothing | Decision::Ignored => lane.forget(&seen.rel, now.mono),
            Decision::Departed => self.departed(now, seen, out),
            Decision::Noted(version) => self.note(now, seen, version, Noted::Kinds, out),
            // What waits for its done file was not there before: it becomes complete later.
            Decision::Work(_, version, readiness)
                if lane.gate == Gate::Baseline
                    && !matches!(readiness, Readiness::Wait(Pending::DoneFile, _)) =>
            {
                self.note(now, seen, version, Noted::Baseline, out);
            }
            Decision::Work(kind, version, readiness) => {
                let found = lane.candidates.remove(&seen.rel);
                let fresh = found.as_ref().is_none_or(|found| found.version != version);
                let mut candidate =
                    next_candidate(found, kind, version, origin, now, &mut lane.next_order);
                if fresh {
                    candidate.lineage = self.lineage(&seen.trigger, &seen.rel, now.mono);
                }
                let readiness = self.brake(&seen.trigger, &mut candidate, fresh, readiness, now);
                let hinted = origin == Origin::Event;
                self.doubt(&seen.trigger, &mut candidate, !fresh, hinted, readiness);
                self.place(now, seen, candidate, readiness, out);
            }
        }
    }

    /// Puts a candidate where its readiness says.
    fn place(
        &mut self,
        now: Now,
        seen: &Seen,
        candidate: Candidate,
        readiness: Readiness,
        out: &mut Out,
    ) {
        let (trigger, rel) = (&seen.trigger, &seen.rel);
        let lane = self.lanes.get_mut(trigger).expect("the lane was just looked up");
        lane.candidates.insert(rel.clone(), candidate);
        match readiness {
            Readiness::Wait(reason, wait) => self.wait(now, (trigger, rel), reason, wait, out),
            Readiness::Ready => self.settled(now, trigger, rel, out),
        }
    }

    /// A candidate waits: until it is time to look again, and at most until it has waited for so
    /// long that this is told.
    pub(super) fn wait(
        &mut self,
        now: Now,
        (trigger, rel): (&Name, &Bytes),
        reason: Pending,
        wait: Option<Duration>,
        out: &mut Out,
    ) {
        let lane = self.lanes.get_mut(trigger).expect("the lane was just looked up");
        let lasts = wait.is_none() || matches!(reason, Pending::WriterOpen | Pending::Unreadable);
        if lasts && lane.leave_out(rel, reason.is_told(), now.mono) {
            return;
        }
        let overdue = lane.late(trigger, rel, now, out);
        let due = wait.map(|wait| now.mono.after(wait)).into_iter().chain(overdue).min();
        lane.set_stage(rel, Stage::Pending(reason, due), now.mono);
        self.timers.extend(due.map(|due| (due, Timer::Look(trigger.clone(), rel.clone()))));
    }

    /// A candidate that is ready itself misses a member of its set. As these are many, and most
    /// soon complete, one timer serves all of a lane.
    pub(super) fn wait_for_set(&mut self, now: Now, trigger: &Name, rel: &Bytes, out: &mut Out) {
        let lane = self.lanes.get_mut(trigger).expect("the lane was just looked up");
        if let Some(overdue) = lane.late(trigger, rel, now, out)
            && lane.late_at.is_none_or(|at| overdue < at)
        {
            lane.late_at = Some(overdue);
            self.timers.insert((overdue, Timer::Late(trigger.clone())));
        }
    }

    /// Some that miss a member of their set may have waited for too long: they are looked at, and
    /// what is there still is told. The next time comes after a part of `ready_alarm` at least.
    pub(super) fn late_due(&mut self, now: Now, trigger: &Name, out: &mut Out) {
        let Some(lane) = self.lanes.get_mut(trigger) else { return };
        if lane.late_at.take_if(|at| *at <= now.mono).is_none() {
            return;
        }
        let Some(alarm) = lane.spec.folder().and_then(|folder| folder.ready_alarm) else { return };
        let mut next: Option<Mono> = None;
        let misses = |c: &Candidate| !c.alarmed && lane.is_incomplete(c);
        for (rel, candidate) in lane.candidates.iter().filter(|(_, c)| misses(c)) {
            let overdue = candidate.waiting_since.after(alarm);
            if overdue <= now.mono {
                let (trigger, rel) = (trigger.clone(), rel.clone());
                out.commands.push(Command::Look { trigger, rel });
            } else {
                next = Some(next.map_or(overdue, |next| next.min(overdue)));
            }
        }
        let soonest = now.mono.after(alarm / 16);
        lane.late_at = next.map(|next| next.max(soonest));
        self.timers.extend(lane.late_at.map(|at| (at, Timer::Late(trigger.clone()))));
    }

    /// A file has become ready: policies that act when the key is busy do so now.
    pub(super) fn arrived(&mut self, now: Now, seen: &Seen, version: Version, out: &mut Out) {
        let lane = &self.lanes[&seen.trigger];
        let key = lane.key(Some(&seen.rel), None);
        if !lane.is_busy(&key) {
            return;
        }
        match lane.spec.overlap {
            Overlap::Queue | Overlap::Coalesce | Overlap::Parallel => {}
            Overlap::Restart => self.restart(now, &seen.trigger, &key, out),
            Overlap::Skip => self.note(now, seen, version, Noted::Skipped, out),
            Overlap::Signal(signo) => {
                self.tell(&seen.trigger, &key, signo, out);
                self.note(now, seen, version, Noted::Signalled, out);
            }
        }
    }

    /// A change is remembered without a run. Of a deletion that is only that the file has left.
    fn note(&mut self, now: Now, seen: &Seen, version: Version, why: Noted, out: &mut Out) {
        if !matches!(seen.disk, Disk::File { .. }) {
            return self.departed(now, seen, out);
        }
        let (trigger, rel) = (seen.trigger.clone(), seen.rel.clone());
        self.emit(now, Record::FileNoted { trigger, rel, version, why, at: now.wall }, out);
    }

    fn departed(&mut self, now: Now, seen: &Seen, out: &mut Out) {
        let (trigger, rel) = (seen.trigger.clone(), seen.rel.clone());
        self.emit(now, Record::FileDeparted { trigger, rel, at: now.wall }, out);
    }

    /// A pending candidate's look is due.
    pub(super) fn look_due(&mut self, now: Now, trigger: &Name, rel: &Bytes, out: &mut Out) {
        let Some(lane) = self.lanes.get_mut(trigger) else { return };
        let Some(candidate) = lane.candidates.get_mut(rel) else { return };
        let Stage::Pending(reason, due) = candidate.stage else { return };
        if due.is_some_and(|due| due <= now.mono) {
            if matches!(reason, Pending::WriterOpen | Pending::Unreadable) {
                candidate.looks = candidate.looks.saturating_add(1);
            }
            out.commands.push(Command::Look { trigger: trigger.clone(), rel: rel.clone() });
        }
    }

    /// The watch side has gone through the folder.
    pub(super) fn scanned(&mut self, now: Now, trigger: &Name, out: &mut Out) {
        let Some(lane) = self.lanes.get_mut(trigger) else { return };
        let baseline = lane.gate == Gate::Baseline;
        let first = !std::mem::replace(&mut lane.caught_up, true);
        // What it has not come by may be gone, and the hint at that may be lost.
        for (rel, candidate) in &mut lane.candidates {
            if std::mem::take(&mut candidate.scanned) {
                continue;
            }
            match &mut candidate.stage {
                Stage::Claimed { changed, .. } => *changed = true,
                Stage::Ready | Stage::Checking { .. } | Stage::Pending(..) => {
                    let (trigger, rel) = (trigger.clone(), rel.clone());
                    out.commands.push(Command::Look { trigger, rel });
                }
            }
        }
        if baseline {
            self.open_gate(now, trigger, out);
        }
        if first {
            self.caught_up(now, trigger);
        }
    }

    /// The watch side has counted what a first scan would deliver.
    pub(super) fn counted(&mut self, now: Now, trigger: &Name, files: u64, out: &mut Out) {
        let Some(lane) = self.lanes.get(trigger).filter(|lane| lane.gate == Gate::Counting) else {
            return;
        };
        let most = lane.spec.folder().map_or(u64::MAX, |folder| folder.initial_max);
        if files > most {
            let reason = format!(
                "the first scan found more than {most} files and nothing moves them away; \
                 `dagd resume {trigger}` delivers them all"
            );
            let trigger = trigger.clone();
            let flood = Record::TriggerPaused { trigger, reason, flooded: true, at: now.wall };
            return self.emit(now, flood, out);
        }
        self.open_gate(now, trigger, out);
        out.commands.push(Command::Scan { trigger: trigger.clone() });
    }

    /// The first scan is decided.
    pub(super) fn open_gate(&mut self, now: Now, trigger: &Name, out: &mut Out) {
        let Some(lane) = self.lanes.get_mut(trigger) else { return };
        lane.gate = Gate::Open;
        let (flooded, armed) = (lane.stored.flooded, lane.stored.armed);
        if flooded {
            // There are fewer by now, more are allowed, or nobody counts any more.
            let trigger = trigger.clone();
            self.emit(now, Record::TriggerResumed { trigger, at: now.wall }, out);
        }
        if !armed {
            let trigger = trigger.clone();
            self.emit(now, Record::TriggerArmed { trigger, at: now.wall }, out);
        }
        self.hot.insert(trigger.clone());
    }
}

/// The candidate after an observation: a new one, or the old one with its history.
fn next_candidate(
    found: Option<Candidate>,
    kind: Kind,
    version: Version,
    origin: Origin,
    now: Now,
    next_order: &mut u64,
) -> Candidate {
    if let Some(mut candidate) = found {
        let same = candidate.version == version;
        if !same {
            candidate.first_seen = now.mono;
            candidate.first_seen_at = now.wall;
        }
        if !same || origin == Origin::Event {
            candidate.last_change = now.mono;
        }
        candidate.scanned |= origin == Origin::Scan;
        return Candidate { kind, version, ..candidate };
    }
    Candidate {
        stage: Stage::Ready,
        kind,
        version,
        origin,
        first_seen: now.mono,
        first_seen_at: now.wall,
        last_change: now.mono,
        waiting_since: now.mono,
        looks: 0,
        order: arrival(next_order),
        scanned: origin == Origin::Scan,
        passed: None,
        lineage: Lineage::default(),
        held_until: None,
        alarmed: false,
    }
}
