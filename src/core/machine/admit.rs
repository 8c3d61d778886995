//! What waits becomes runs: one at a time per lane, in turn, while there is room.

use super::lane::{STUCK_MAX, Unit};
use super::{Machine, Timer, mix};
use crate::core::candidate::{Origin, Stage};
use crate::core::disposition::{Disposition, Phase};
use crate::core::effect::{Command, Out};
use crate::core::id::{ItemId, Name, Now, RunId};
use crate::core::path::Bytes;
use crate::core::record::{FileClaim, ItemQueued, Reason, Record, RunCreated};

impl Machine {
    /// Admits what may be admitted.
    pub(super) fn admit(&mut self, now: Now, out: &mut Out) {
        let stuck: usize = self.lanes.values().map(|lane| lane.stuck.len().min(STUCK_MAX)).sum();
        let most = self.model.max_live_runs.saturating_add(stuck + self.stuck_leaving());
        while self.stopping.is_none() && self.runs.len() < most {
            if let Some(item) = self.loose.first().copied() {
                self.create(now, None, Unit::Items(vec![item]), out);
                continue;
            }
            if let Some((_, items)) = self.next_leaving(now) {
                self.create(now, None, Unit::Items(items), out);
                continue;
            }
            let Some((lane, unit)) = self.next_unit(now) else { break };
            self.create(now, Some(&lane), unit, out);
            self.turn = Some(lane);
        }
    }

    /// The next unit of the next lane in turn that has one. Lanes without one leave the circle.
    fn next_unit(&mut self, now: Now) -> Option<(Name, Unit)> {
        loop {
            let after = self.turn.clone();
            let next = match &after {
                Some(turn) => {
                    let mut later = self.hot.range::<Name, _>((
                        std::ops::Bound::Excluded(turn),
                        std::ops::Bound::Unbounded,
                    ));
                    later.next().or_else(|| self.hot.first())
                }
                None => self.hot.first(),
            };
            let name = next?.clone();
            let lane = self.lanes.get_mut(&name);
            if let Some(unit) = lane.and_then(|lane| lane.next_unit(now.mono)) {
                return Some((name, unit));
            }
            self.wake_for(&name);
            self.hot.remove(&name);
            self.touched.insert(name);
        }
    }

    /// A window of the lane may be over, or its rate let another run start.
    pub(super) fn lane_due(&mut self, now: Now, name: Name) {
        let Some(lane) = self.lanes.get_mut(&name) else { return };
        lane.look_at_clock(now.mono);
        self.wake_for(&name);
        self.hot.insert(name);
    }

    /// Sets the timer for what a lane waits for. There is one for the earliest, not one for each.
    pub(super) fn wake_for(&mut self, name: &Name) {
        let Some(lane) = self.lanes.get_mut(name) else { return };
        let Some(at) = lane.wakes() else { return };
        if lane.alarm.is_none_or(|alarm| at < alarm) {
            lane.alarm = Some(at);
            self.timers.insert((at, Timer::Lane(name.clone())));
        }
    }

    fn create(&mut self, now: Now, lane: Option<&Name>, unit: Unit, out: &mut Out) {
        let created = match unit {
            Unit::Items(items) => self.run_for_items(now, lane, items),
            Unit::Files { key, rels } => {
                let lane = lane.expect("files wait in lanes");
                self.run_for_files(now, lane, key, &rels)
            }
        };
        let run = created.run;
        self.emit(now, Record::RunCreated(Box::new(created)), out);
        if let Some(name) = lane {
            if let Some(bucket) = self.lanes.get_mut(name).and_then(|lane| lane.bucket.as_mut()) {
                bucket.take(now.mono);
            }
            self.heard(now, name, out);
            self.wake_for(name);
        }
        self.plan_moves(now, run, Phase::Before, out);
    }

    /// A run with nothing in it but what its trigger says.
    fn blank_run(&self, now: Now, lane: Option<&Name>) -> RunCreated {
        let lane = lane.map(|name| &self.lanes[name]);
        let folder = lane.and_then(|lane| lane.spec.folder());
        RunCreated {
            run: self.next_run,
            trigger: lane.map(|lane| lane.spec.name.clone()),
            formerly: None,
            rev: self.model.graph.rev().clone(),
            select: lane.map_or_else(
                || crate::core::selector::Selector::task("*"),
                |lane| lane.spec.select.clone(),
            ),
            reason: Reason::Manual,
            items: Vec::new(),
            files: Vec::new(),
            signal: None,
            scheduled: None,
            root: folder.map(|folder| Bytes::from(folder.root.as_path())),
            disposition: folder.map(Disposition::of).unwrap_or_default(),
            key: lane.map_or_else(Bytes::default, |lane| lane.key(None, None)),
            group: None,
            parent: None,
            keep: Vec::new(),
            seed: mix(self.seed ^ mix(self.next_run.0)),
            at: now.wall,
            utc_offset_s: now.utc_offset_s,
        }
    }

    fn run_for_items(&self, now: Now, lane: Option<&Name>, ids: Vec<ItemId>) -> RunCreated {
        let last = &self.items[ids.last().expect("a unit is never empty")];
        let blank = self.blank_run(now, lane);
        let blank = if lane.is_none() { self.run_leaving(last, blank) } else { blank };
        let ItemQueued { select, reason, signal, scheduled, mut files, parent, keep, .. } =
            last.clone();
        // It gets what lies there, not what lay there when it was asked for.
        for file in files.iter_mut().filter(|file| file.in_place) {
            let candidates = lane.map(|lane| &self.lanes[lane].candidates);
            let candidate = candidates.and_then(|candidates| candidates.get(&file.rel));
            if let Some(ready) = candidate.filter(|candidate| candidate.stage == Stage::Ready) {
                file.version = ready.version.clone();
                file.key = ready.passed.as_ref().and_then(|passed| passed.key.clone());
            }
        }
        let rel = files.first().map(|file| &file.rel);
        let key = lane.map(|lane| self.lanes[lane].key(rel, signal.as_ref()));
        let group = lane.zip(rel).and_then(|(lane, rel)| self.lanes[lane].spec.group(rel));
        let select = select.unwrap_or_else(|| blank.select.clone());
        let schedule = lane.and_then(|lane| self.lanes[lane].spec.schedule());
        let offset = schedule.zip(scheduled).map(|(spec, at)| spec.schedule.offset(at));
        RunCreated {
            select,
            reason,
            items: ids,
            files,
            signal,
            scheduled,
            parent,
            keep,
            key: key.unwrap_or_else(|| blank.key.clone()),
            group: group.or_else(|| blank.group.clone()),
            utc_offset_s: offset.unwrap_or(blank.utc_offset_s),
            ..blank
        }
    }

    fn run_for_files(&mut self, now: Now, name: &Name, key: Bytes, rels: &[Bytes]) -> RunCreated {
        let mut created = self.blank_run(now, Some(name));
        let lane = self.lanes.get_mut(name).expect("the lane was just looked up");
        let folder = lane.spec.folder().expect("files come from folders");
        let root = Bytes::from(folder.root.as_path());
        let mut reason = Reason::Scan;
        // A version that gave way and has been replaced since is not delivered once more.
        created.items = lane.items.replaced_by(rels);
        for rel in rels {
            let candidate = &lane.candidates[rel];
            if candidate.origin != Origin::Scan {
                reason = candidate.origin.into();
            }
            created.files.push(FileClaim {
                rel: rel.clone(),
                path: root.join(rel.as_bytes()),
                kind: candidate.kind,
                version: candidate.version.clone(),
                first_seen_at: candidate.first_seen_at,
                in_place: true,
                key: candidate.passed.as_ref().and_then(|passed| passed.key.clone()),
            });
        }
        lane.reopen(&key, now.mono);
        let group = rels.first().and_then(|rel| lane.spec.group(rel));
        RunCreated { reason, key, group, ..created }
    }

    /// Tells the watch side which lanes are full and which have room again, also for what was left
    /// out.
    pub(super) fn mark_lanes(&mut self, out: &mut Out) {
        let touched = std::mem::take(&mut self.touched);
        for name in touched.into_iter().chain(self.hot.iter().cloned()) {
            let Some(lane) = self.lanes.get_mut(&name) else { continue };
            if lane.wants_rest() {
                out.commands.push(Command::Scan { trigger: name.clone() });
            }
            if !lane.held && lane.is_full() {
                lane.held = true;
                out.commands.push(Command::Hold { trigger: name });
            } else if lane.held && lane.has_room() {
                lane.held = false;
                out.commands.push(Command::Release { trigger: name });
            }
        }
    }

    /// Cancels the live runs of a key, so that what arrived can run anew.
    pub(super) fn restart(&mut self, now: Now, trigger: &Name, key: &Bytes, out: &mut Out) {
        self.bind(now, trigger, out);
        for run in self.runs_of(trigger, key) {
            // A run whose tasks have all ended only moves its files: its verdict stands.
            if self.runs[&run].cancelled().is_none() && self.runs[&run].verdict().is_none() {
                self.cancel_run(now, run, super::finish::RESTART, out);
            }
        }
    }

    /// Sends a signal to the attempts of a key's live runs.
    pub(super) fn tell(&mut self, trigger: &Name, key: &Bytes, signo: i32, out: &mut Out) {
        let runs = self.runs_of(trigger, key);
        for id in self.in_flight().keys().filter(|id| runs.contains(&id.run)) {
            let how = crate::core::effect::Stop::Signal(signo);
            out.commands.push(Command::Stop { id: *id, how });
        }
    }

    fn runs_of(&self, trigger: &Name, key: &Bytes) -> Vec<RunId> {
        let of_key = self
            .runs
            .values()
            .map(crate::core::run::Run::info)
            .filter(|info| info.trigger.as_ref() == Some(trigger) && info.key == *key);
        of_key.map(|info| info.run).collect()
    }
}
