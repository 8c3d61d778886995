//! Dispositions: planned with a record, commanded once that is on disk, tried again for as long as
//! what stands in their way may pass.
//!
//! That a disposition is tried again is not recorded: it is planned, and so it is commanded again
//! after a crash as well.

use std::time::Duration;

use super::{Machine, Timer};
use crate::core::candidate::{Kind, Stage};
use crate::core::disposition::{Disposed, Goal, MoveResult, Phase, RunFile};
use crate::core::effect::{Command, Move, Out, Reply};
use crate::core::fill::{Facts, fill};
use crate::core::id::{Mono, Now, RunId, Wall};
use crate::core::path::Bytes;
use crate::core::record::{FileClaim, Record, RunCreated, RunState};
use crate::core::run::Run;
use crate::core::template::Template;
use crate::core::trigger::OnConflict;

/// First and longest pause between tries: what fills a disk or unplugs it lasts for seconds to
/// hours.
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(1));

/// A disposition that could not be done yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stuck {
    /// Why, as of the last try.
    pub why: String,
    /// Since when.
    pub since: Wall,
    /// When it is tried next; `None`: just now.
    pub due: Option<Mono>,
    tries: u32,
}

impl Machine {
    /// Plans what becomes of a run's files in this phase. `false` if that is nothing.
    pub(super) fn plan_moves(&mut self, now: Now, id: RunId, phase: Phase, out: &mut Out) -> bool {
        let run = &self.runs[&id];
        let goal = |file: &RunFile| goal_of(run, phase, &file.claim);
        let goals = run.claims().filter_map(|(at, file)| Some((at, goal(file)?)));
        let goals: Vec<(u32, Goal)> = goals.collect();
        for (file, goal) in &goals {
            let (file, goal) = (*file, goal.clone());
            self.emit(now, Record::MovePlanned { run: id, file, phase, goal, at: now.wall }, out);
            out.commands.extend(order(&self.runs[&id], file, false));
        }
        !goals.is_empty()
    }

    /// A file was disposed of, or could not be.
    pub(super) fn moved(
        &mut self,
        now: Now,
        (id, file, phase): (RunId, u32, Phase),
        outcome: Disposed,
        out: &mut Out,
    ) {
        let Some(run) = self.runs.get(&id) else { return };
        let planned = run.files().get(file as usize).and_then(RunFile::planned);
        if planned.map(|(planned, _)| planned) != Some(phase) {
            return;
        }
        let unwanted = phase == Phase::Before && run.cancelled().is_some();
        match outcome {
            Disposed::Done(result) => self.end_move(now, (id, file, phase), result, out),
            Disposed::NotYet(why) if unwanted => {
                self.end_move(now, (id, file, phase), MoveResult::Failed(why), out);
            }
            Disposed::NotYet(why) => self.stick(now, id, file, why),
            Disposed::Stamped(found) => self.move_stamped(now, (id, file, phase), &found, out),
        }
    }

    pub(super) fn end_move(
        &mut self,
        now: Now,
        (run, file, phase): (RunId, u32, Phase),
        result: MoveResult,
        out: &mut Out,
    ) {
        let looks = self.looks_after_claim(run, file, phase, &result);
        self.emit(now, Record::MoveDone { run, file, phase, result, at: now.wall }, out);
        out.commands.extend(looks.into_iter().flatten().flatten());
    }

    /// A path is looked at once its file has left the run for another one, or may have: the hint at
    /// that came while the run had the path. With a key that nothing was delivered with after all,
    /// others of that key count again.
    fn looks_after_claim(
        &self,
        id: RunId,
        file: u32,
        phase: Phase,
        result: &MoveResult,
    ) -> Option<[Option<Command>; 2]> {
        let run = &self.runs[&id];
        let trigger = run.info().trigger.clone()?;
        let claim = &run.files()[file as usize].claim;
        let rel = claim.rel.clone();
        let candidate = self.lanes.get(&trigger)?.candidates.get(&rel);
        let changed = candidate
            .is_some_and(|c| matches!(c.stage, Stage::Claimed { run, changed: true } if run == id));
        let lost = result.is_lost();
        let stays = matches!(result, MoveResult::Failed(_));
        let again = lost && claim.key.is_some();
        let scan = again.then(|| Command::Scan { trigger: trigger.clone() });
        let look = (!stays && (changed || lost)).then_some(Command::Look { trigger, rel });
        (phase == Phase::Before).then_some([look, scan])
    }

    /// Notes a try in vain, unless it is noted already.
    pub(super) fn stick(&mut self, now: Now, run: RunId, file: u32, why: String) {
        let old = self.stuck.get(&(run, file));
        if old.is_some_and(|stuck| stuck.due.is_some()) {
            return;
        }
        let tries = old.map_or(0, |stuck| stuck.tries);
        let since = old.map_or(now.wall, |stuck| stuck.since);
        let pause = PAUSE.1.min(PAUSE.0.saturating_mul(1 << tries.min(8)));
        let due = now.mono.after(pause);
        let stuck = Stuck { why, since, due: Some(due), tries: tries.saturating_add(1) };
        self.stuck.insert((run, file), stuck);
        self.timers.insert((due, Timer::Move(run, file)));
        let trigger = self.runs.get(&run).and_then(|run| run.info().trigger.as_ref());
        if let Some(lane) = trigger.and_then(|name| self.lanes.get_mut(name)) {
            lane.stuck.insert(run);
        }
    }

    /// A file is disposed of.
    pub(super) fn unstick(&mut self, run: RunId, file: u32) {
        if self.stuck.remove(&(run, file)).is_none() || self.stuck_of(run).next().is_some() {
            return;
        }
        let trigger = self.runs.get(&run).and_then(|run| run.info().trigger.clone());
        if let Some((name, lane)) =
            trigger.and_then(|name| self.lanes.get_mut(&name).map(|lane| (name, lane)))
        {
            lane.stuck.remove(&run);
            self.hot.insert(name);
        }
    }

    /// Something has happened to a file that could not be moved: it is tried again at once.
    pub(super) fn hurry_move(&mut self, run: RunId, rel: &Bytes, out: &mut Out) {
        if self.stuck_of(run).next().is_none() {
            return;
        }
        let Some(file) = self.runs.get(&run).and_then(|run| run.find(rel)) else { return };
        let stuck = self.stuck.get_mut(&(run, file));
        if stuck.and_then(|stuck| stuck.due.take()).is_some() {
            out.commands.extend(self.runs.get(&run).and_then(|run| order(run, file, true)));
        }
    }

    /// The pause after a try in vain has passed.
    pub(super) fn move_due(&mut self, now: Now, run: RunId, file: u32, out: &mut Out) {
        let Some(stuck) = self.stuck.get_mut(&(run, file)) else { return };
        if stuck.due.is_some_and(|due| due <= now.mono) {
            stuck.due = None;
            out.commands.extend(self.runs.get(&run).and_then(|run| order(run, file, true)));
        }
    }

    /// Gives up what could not be done so far: it is recorded as failed. What is being tried at
    /// this moment cannot be.
    pub(super) fn give_up_moves(&mut self, now: Now, id: RunId, out: &mut Out) -> Reply {
        let planned = self.runs[&id].files().iter().filter(|file| file.planned().is_some());
        let waits = self.stuck_of(id).filter(|(_, stuck)| stuck.due.is_some());
        if planned.count() != waits.count() {
            return Reply::Refused(format!("run {id} has ended and its files are being moved"));
        }
        self.fail_stuck(now, id, out);
        Reply::Done
    }

    /// What waits for its next try is given up.
    pub(super) fn fail_stuck(&mut self, now: Now, id: RunId, out: &mut Out) {
        let waits = self.stuck_of(id).filter(|(_, stuck)| stuck.due.is_some());
        let waits: Vec<_> = waits.map(|(file, stuck)| (file, stuck.why.clone())).collect();
        for (file, why) in waits {
            let planned = self.runs[&id].files()[file as usize].planned();
            if let Some(phase) = planned.map(|(phase, _)| phase) {
                self.end_move(now, (id, file, phase), MoveResult::Failed(why), out);
            }
        }
    }

    /// The dispositions that were planned and are not done: to be issued again after a restart.
    pub(super) fn outstanding_moves(&self) -> Vec<Command> {
        let of_run = |run| Run::claims(run).filter_map(move |(file, _)| order(run, file, true));
        self.runs.values().flat_map(of_run).collect()
    }

    /// Dispositions that could not be done yet, by run and by index in its files.
    pub fn stuck(&self) -> impl Iterator<Item = (RunId, u32, &Stuck)> {
        self.stuck.iter().map(|((run, file), stuck)| (*run, *file, stuck))
    }

    /// Those of one run.
    pub fn stuck_of(&self, run: RunId) -> impl Iterator<Item = (u32, &Stuck)> {
        let own = self.stuck.range((run, 0)..=(run, u32::MAX));
        own.map(|((_, file), stuck)| (*file, stuck))
    }
}

/// The command for what is planned for a file.
pub(super) fn order(run: &Run, file: u32, again: bool) -> Option<Command> {
    let info = run.info();
    let own = run.files().get(file as usize)?;
    let (phase, goal) = own.planned()?;
    let disposition = &info.disposition;
    let on_conflict = match (phase, disposition.on_conflict) {
        // What lies there already may be what another run is at work on.
        (Phase::Before, OnConflict::Replace) => OnConflict::Rename,
        (_, as_configured) => as_configured,
    };
    Some(Command::Move(Move {
        run: info.run,
        file,
        phase,
        trigger: info.trigger.clone(),
        claim: own.claim.clone(),
        goal: goal.clone(),
        on_conflict,
        file_type: disposition.file_type,
        companions: disposition.companions.clone(),
        again,
    }))
}

/// What becomes of a file of the run in this phase.
fn goal_of(run: &Run, phase: Phase, claim: &FileClaim) -> Option<Goal> {
    let (info, disposition) = (run.info(), &run.info().disposition);
    if claim.kind == Kind::Deleted {
        return None;
    }
    let target = match (phase, run.verdict()) {
        (Phase::Before, _) => disposition.pre_move.as_ref().filter(|_| disposition.takes(claim)),
        (Phase::After, Some(RunState::Succeeded)) if disposition.delete => {
            return Some(Goal::Delete);
        }
        (Phase::After, Some(RunState::Succeeded)) => disposition.move_to.as_ref(),
        (Phase::After, Some(RunState::Failed)) => disposition.move_failed.as_ref(),
        (Phase::After, _) => None,
    };
    target.map(|template| Goal::To(expand(template, info, claim)))
}

fn expand(template: &Template, info: &RunCreated, claim: &FileClaim) -> Bytes {
    let facts = Facts {
        trigger: info.trigger_told().map(|name| &**name),
        run: Some(info.run),
        root: info.root.as_ref(),
        file: Some((&claim.rel, &claim.path)),
        signal: info.signal.as_ref(),
        at: Some((info.at, info.utc_offset_s)),
    };
    let filled = template.expand(|slot| Some(fill(slot, &facts).unwrap_or_default()));
    Bytes::from(filled.unwrap_or_default())
}
