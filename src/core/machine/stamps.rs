//! Times that are set after a file was closed, by its path: what was delivered goes on under its
//! new time, and is not delivered again.
//!
//! Believes only what the watch side can tell for sure: that nobody has written to the file since
//! it was last told of. A time that is set forward makes a new version: to touch a file is a way to
//! have it delivered again.

use std::collections::BTreeSet;

use super::Machine;
use super::lane::CANDIDATES_MAX;
use super::moves::order;
use crate::core::candidate::{Disk, Kind, Probe, Seen, Stage, Version};
use crate::core::disposition::{MoveResult, Phase};
use crate::core::effect::{Command, Out};
use crate::core::id::{Name, Now, RunId, Seq};
use crate::core::path::Bytes;
use crate::core::record::Record;
use crate::core::trigger::FolderSpec;

/// Paths remembered at most: as many as there may be candidates, for which looks can be asked.
const UNSEEN_MAX: usize = CANDIDATES_MAX;

/// Paths at which something has happened that the lane does not know any more: it has asked for a
/// look, or waits for a hint. Until then a time that is set tells nothing about what else was done.
#[derive(Debug, Default)]
pub(super) struct Unseen {
    rels: BTreeSet<Bytes>,
    /// There were more: of any path that may be so, until the trigger is another one.
    more: bool,
}

impl Unseen {
    pub(super) fn insert(&mut self, rel: &Bytes) {
        self.more |= self.rels.len() >= UNSEEN_MAX;
        if !self.more {
            self.rels.insert(rel.clone());
        }
    }

    pub(super) fn remove(&mut self, rel: &Bytes) {
        self.rels.remove(rel);
    }

    fn may_hold(&self, rel: &Bytes) -> bool {
        self.more || self.rels.contains(rel)
    }
}

impl Machine {
    /// What a look was asked for may be anything until it comes.
    pub(super) fn note_looks(&mut self, commands: &[Command]) {
        for command in commands {
            if let Command::Look { trigger, rel } = command
                && let Some(lane) = self.lanes.get_mut(trigger)
            {
                lane.unseen.insert(rel);
            }
        }
    }

    /// Nothing but attributes of a file has changed. Returns whether that is all there is to it;
    /// otherwise it is an observation like any other.
    pub(super) fn stamped(&mut self, now: Now, seq: Seq, seen: &Seen, out: &mut Out) -> bool {
        let Disk::File { version, probe: Probe::Free } = &seen.disk else { return false };
        let Some(lane) = self.lanes.get(&seen.trigger) else { return false };
        let rejects = |folder: &FolderSpec| folder.rejects_size(version.size).is_some();
        if lane.unseen.may_hold(&seen.rel) || lane.spec.folder().is_none_or(rejects) {
            return false;
        }
        let (was, run) = match lane.candidates.get(&seen.rel) {
            Some(candidate) => match candidate.stage {
                // Observations come in order: this one is newer than that of what was claimed,
                // whatever was committed when it was made.
                Stage::Claimed { run, changed: false } if candidate.kind != Kind::Deleted => {
                    (&candidate.version, Some(run))
                }
                // It is to be looked at anyway, or not delivered yet.
                _ => return false,
            },
            None if self.recent.is_stale(seq, &seen.trigger, &seen.rel) => {
                let (trigger, rel) = (seen.trigger.clone(), seen.rel.clone());
                out.commands.push(Command::Recheck { trigger, rel });
                return true;
            }
            None => match seen.row.as_ref().filter(|row| row.open) {
                Some(row) => (&row.version, None),
                None => return false,
            },
        };
        let at = run.map(|run| self.runs.get(&run).and_then(|run| run.find(&seen.rel)));
        if !version.is_set_back_from(was) || at == Some(None) {
            return false;
        }
        let at = run.zip(at.flatten());
        let waits = at.is_some_and(|at| self.stuck.get(&at).is_some_and(|s| s.due.is_some()));
        if at.is_some_and(|(run, file)| self.is_moving(run, file)) && !waits {
            // Whoever moves it will see that it is another version, and ask.
            return true;
        }
        let (trigger, rel, version) = (seen.trigger.clone(), seen.rel.clone(), version.clone());
        self.emit(now, Record::FileStamped { trigger, rel, version, run, at: now.wall }, out);
        if let Some((run, _)) = at {
            // What the move waits for may have been this.
            self.hurry_move(run, &seen.rel, out);
        }
        true
    }

    fn is_moving(&self, run: RunId, file: u32) -> bool {
        self.runs[&run].files()[file as usize].planned().is_some()
    }

    /// See [`Record::FileStamped`].
    pub(super) fn file_stamped(
        &mut self,
        trigger: &Name,
        rel: &Bytes,
        version: &Version,
        run: Option<RunId>,
    ) -> Result<(), &'static str> {
        let Some(id) = run else {
            self.recent.mark(self.seq, trigger, rel);
            return Ok(());
        };
        let run = self.runs.get_mut(&id).ok_or("no such run")?;
        let at = run.find(rel).ok_or("it has no such file")?;
        if !run.stamp(at, version.clone()) {
            return Err("it is no such version");
        }
        // The trigger may have another name by now.
        let Some(name) = &run.info().trigger else { return Ok(()) };
        self.recent.mark(self.seq, name, rel);
        let lane = self.lanes.get_mut(name);
        if let Some(candidate) = lane.and_then(|lane| lane.candidates.get_mut(rel)) {
            candidate.version = version.clone();
        }
        Ok(())
    }

    /// A file that was to be disposed of has another time by now. If the watch side has told of it
    /// meanwhile, that goes on at once; if not, it is asked, once, and may take its time for the
    /// answer.
    pub(super) fn move_stamped(
        &mut self,
        now: Now,
        (id, file, phase): (RunId, u32, Phase),
        found: &Version,
        out: &mut Out,
    ) {
        let run = &self.runs[&id];
        let claim = &run.files()[file as usize].claim;
        if claim.version == *found {
            return out.commands.extend(order(run, file, true));
        }
        let rel = claim.rel.clone();
        let ours = Stage::Claimed { run: id, changed: false };
        let trigger = run.info().trigger.clone().filter(|name| {
            let lane = self.lanes.get(name);
            claim.in_place
                && run.cancelled().is_none()
                && lane
                    .and_then(|lane| lane.candidates.get(&rel))
                    .is_some_and(|candidate| candidate.stage == ours)
        });
        match (self.stuck.get(&(id, file)).map(|stuck| stuck.due), trigger) {
            (Some(Some(_)), _) => {}
            (None, Some(trigger)) => {
                let why = "its time was set, and perhaps its content as well".to_owned();
                self.stick(now, id, file, why);
                out.commands.push(Command::Recheck { trigger, rel });
            }
            (Some(None), _) | (None, None) => {
                self.end_move(now, (id, file, phase), MoveResult::Superseded, out);
            }
        }
    }
}
