//! Ended runs: their files are disposed of, then they become history.

use super::Machine;
use crate::core::candidate::Stage;
use crate::core::disposition::{Fate, Phase, RunFile};
use crate::core::effect::{Command, Out};
use crate::core::id::{ItemId, Now, RunId};
use crate::core::path::Bytes;
use crate::core::record::{FileClaim, ItemQueued, Record, RunState};
use crate::core::run::Run;

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
            let planned = run.files().iter().any(|file| file.after.is_some());
            if planned || !self.plan_moves(now, id, Phase::After, out) {
                self.end_run(now, id, verdict, out);
            }
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
            self.queue(now, ItemQueued { at: now.wall, ..again }, out);
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
        let look = |file: &&RunFile| {
            let lost = matches!(&file.after, Some(Fate::Done(result)) if result.is_lost());
            let changed = lane.candidates.get(&file.claim.rel).is_some_and(
                |c| matches!(c.stage, Stage::Claimed { run, changed: true } if run == info.run),
            );
            changed || (file.claim.in_place && lost)
        };
        run.files().iter().filter(look).map(|file| file.claim.rel.clone()).collect()
    }

    /// A drop run that gave way to a newer file of its key comes back behind it: its files are
    /// work, too.
    fn requeue_of(&self, run: &Run, state: RunState) -> Option<ItemQueued> {
        let info = run.info();
        let drop = self.is_drop(info.trigger.as_ref()?);
        let gave_way = state == RunState::Cancelled && run.cancelled() == Some(RESTART);
        let files: Vec<FileClaim> = run.claims().map(|(_, file)| file.claim.clone()).collect();
        // All that it was for may have been replaced or have gone by itself.
        let some = !files.is_empty() || run.files().is_empty();
        (drop && gave_way && some).then(|| ItemQueued {
            item: self.next_item,
            trigger: info.trigger.clone(),
            select: Some(info.select.clone()),
            reason: info.reason,
            signal: None,
            scheduled: None,
            files,
            parent: Some(info.run),
            keep: Vec::new(),
            at: info.at,
        })
    }

    pub(super) fn fresh_item(&self) -> ItemId {
        self.next_item
    }
}
