//! Ended runs: their files are disposed of, then they become history.

use super::Machine;
use crate::core::candidate::{Kind, Stage};
use crate::core::effect::{Command, Move, Out};
use crate::core::fill::{Facts, fill};
use crate::core::id::{ItemId, Now, RunId};
use crate::core::path::Bytes;
use crate::core::record::{FileClaim, ItemQueued, MoveResult, Record, RunCreated, RunState};
use crate::core::run::{Fate, Run};
use crate::core::template::Template;
use crate::core::trigger::{Folder, Overlap};

/// The reason of a cancel by `on_overlap = "restart"`.
pub(super) const RESTART: &str = "restart";

impl Machine {
    /// Goes on with every run whose tasks are all final.
    pub(super) fn finish_runs(&mut self, now: Now, out: &mut Out) {
        while let Some(id) = self.finished.pop_first() {
            let Some(run) = self.runs.get(&id) else { continue };
            let Some(verdict) = run.verdict() else { continue };
            if run.is_moving() {
                continue;
            }
            let planned = run.fates().iter().any(Option::is_some);
            match target_of(run, verdict).filter(|_| !planned) {
                Some(template) => self.plan_moves(now, id, &template, verdict, out),
                None => self.end_run(now, id, verdict, out),
            }
        }
    }

    fn plan_moves(
        &mut self,
        now: Now,
        id: RunId,
        template: &Template,
        verdict: RunState,
        out: &mut Out,
    ) {
        let info = self.runs[&id].info().clone();
        let mut moved = false;
        for (file, claim) in (0u32..).zip(&info.files) {
            if claim.kind == Kind::Deleted {
                continue;
            }
            let target = expand(template, &info, claim);
            let record =
                Record::MovePlanned { run: id, file, target: target.clone(), at: now.wall };
            self.emit(now, record, out);
            let claim = claim.clone();
            out.commands.push(Command::Move(Move { run: id, file, claim, target }));
            moved = true;
        }
        if !moved {
            self.end_run(now, id, verdict, out);
        }
    }

    fn end_run(&mut self, now: Now, id: RunId, state: RunState, out: &mut Out) {
        let run = &self.runs[&id];
        let info = run.info().clone();
        let looks = self.looks_after(run);
        let again = self.requeue_of(run, state);
        self.emit(now, Record::RunEnded { run: id, state, at: now.wall }, out);
        out.commands.push(Command::Finished { run: id, state });
        if let Some(again) = again {
            self.emit(now, Record::ItemQueued(ItemQueued { at: now.wall, ..again }), out);
        }
        for (rel, trigger) in looks.into_iter().zip(std::iter::repeat(info.trigger.clone())) {
            out.commands.extend(trigger.map(|trigger| Command::Look { trigger, rel }));
        }
    }

    /// Paths at which something happened while the run had them, or that it could not dispose of.
    fn looks_after(&self, run: &Run) -> Vec<Bytes> {
        let info = run.info();
        let lane = info.trigger.as_ref().and_then(|name| self.lanes.get(name));
        let Some(lane) = lane else { return Vec::new() };
        let look = |(file, fate): &(&FileClaim, &Option<Fate>)| {
            let changed = lane.candidates.get(&file.rel).is_some_and(
                |c| matches!(c.stage, Stage::Claimed { run, changed: true } if run == info.run),
            );
            changed || matches!(fate, Some(Fate::Done(MoveResult::Superseded)))
        };
        let pairs = info.files.iter().zip(run.fates());
        pairs.filter(look).map(|(file, _)| file.rel.clone()).collect()
    }

    /// A drop run that gave way to a newer file of its key comes back behind it: its files are
    /// work, too.
    fn requeue_of(&self, run: &Run, state: RunState) -> Option<ItemQueued> {
        let info = run.info();
        let lane = self.lanes.get(info.trigger.as_ref()?)?;
        let drop = lane.spec.folder().is_some_and(|folder| folder.folder == Folder::Drop);
        let gave_way = state == RunState::Cancelled && run.cancelled() == Some(RESTART);
        (drop && gave_way && lane.spec.overlap == Overlap::Restart).then(|| ItemQueued {
            item: self.next_item,
            trigger: info.trigger.clone(),
            select: Some(info.select.clone()),
            reason: info.reason,
            signal: None,
            files: info.files.clone(),
            parent: Some(info.run),
            keep: Vec::new(),
            at: info.at,
        })
    }

    /// A file was disposed of, or could not be.
    pub(super) fn moved(
        &mut self,
        now: Now,
        run: RunId,
        file: u32,
        result: MoveResult,
        out: &mut Out,
    ) {
        let planned =
            |run: &Run| matches!(run.fates().get(file as usize), Some(Some(Fate::Planned(_))));
        if self.runs.get(&run).is_some_and(planned) {
            self.emit(now, Record::MoveDone { run, file, result, at: now.wall }, out);
        }
    }

    /// The moves that were planned and are not done: to be issued again after a restart.
    pub(super) fn outstanding_moves(&self) -> Vec<Command> {
        let of_run = |run: &Run| {
            let info = run.info().clone();
            let planned = run.fates().to_vec();
            (0u32..).zip(planned).filter_map(move |(file, fate)| match fate {
                Some(Fate::Planned(target)) => {
                    let claim = info.files[file as usize].clone();
                    Some(Command::Move(Move { run: info.run, file, claim, target }))
                }
                Some(Fate::Done(_)) | None => None,
            })
        };
        self.runs.values().flat_map(of_run).collect()
    }

    pub(super) fn fresh_item(&self) -> ItemId {
        self.next_item
    }
}

/// Where a run's files go after this verdict.
fn target_of(run: &Run, verdict: RunState) -> Option<Template> {
    match verdict {
        RunState::Succeeded => run.info().move_to.clone(),
        RunState::Failed => run.info().move_failed.clone(),
        RunState::Cancelled | RunState::Queued | RunState::Running => None,
    }
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
