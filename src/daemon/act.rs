//! Commands become calls of adapters. Results come back as events; nothing here waits.

use std::collections::BTreeSet;

use tracing::{debug, warn};

use super::engine::{Engine, Input};
use super::waiting;
use crate::config::Retention;
use crate::core::effect::{Command, Reply, Start};
use crate::core::id::{Name, RunId, Wall};
use crate::core::path::Bytes;
use crate::core::record::RunState;
use crate::core::run::RunInfo;
use crate::core::task::Ended;
use crate::io::process::{
    has_event_files, left, prepare, remove_event_files, unstarted, write_event_files,
};
use crate::io::store::Keep;
use crate::io::watch::ToWatch;
use crate::wire;

/// Commits between two slices of pruning: as many, and fewer while there is more to be had.
const PRUNE_EVERY: [u64; 2] = [256, 16];

impl Engine {
    /// Acts on a command whose records are committed.
    pub(super) fn act(&mut self, command: Command) {
        match command {
            Command::Start(start) => self.start(&start),
            Command::Stop { id, how } => {
                // One that has ended needs no stop.
                self.ports.slots.stop(id, how);
            }
            Command::Move(_) | Command::Reply { reply: Reply::Run(_) | Reply::Queued(_), .. }
                if self.durable < Some(self.seq) =>
            {
                self.undurable.push_back((self.seq, command));
                self.ports.sync.request(self.seq);
            }
            Command::Move(_) | Command::Reply { .. } => self.act_durably(command),
            Command::Look { trigger, rel } => self.watch(ToWatch::Look(trigger, rel)),
            Command::Recheck { trigger, rel } => self.watch(ToWatch::Recheck(trigger, rel)),
            Command::Scan { trigger } => self.watch(ToWatch::Scan(trigger)),
            Command::Count { trigger, limit } => self.watch(ToWatch::Count(trigger, limit)),
            Command::Check(check) => {
                self.refused.extend(self.ports.checker.ask(*check).map(Input::Checked));
            }
            Command::Uncheck { trigger } => self.ports.checker.forget(&trigger),
            Command::Hold { trigger } => self.watch(ToWatch::Hold(trigger)),
            Command::Release { trigger } => self.watch(ToWatch::Release(trigger)),
            Command::Alarm { trigger, rel, since, last } => {
                self.alarm(&trigger, &rel, since);
                if last {
                    warn!(%trigger, "more files are late; `dagd status` counts them");
                }
            }
            Command::Finished { run, state } => self.finished(run, state),
            Command::Exit => self.exiting = true,
        }
    }

    /// Acts on a command whose commit is on disk, as far as it has to be.
    pub(super) fn act_durably(&mut self, command: Command) {
        match command {
            Command::Move(mv) => {
                self.refused.extend(self.ports.disposer.start(mv).map(Input::Moved));
            }
            Command::Reply { token, reply } => self.reply(token, reply),
            other => self.act(other),
        }
    }

    fn start(&mut self, start: &Start) {
        let prepared = match self.event_files(&start.run) {
            Ok(()) => prepare(start, &self.base, &self.dirs),
            Err(error) => {
                let dir = self.dirs.events.display();
                let why = format!("failed to write the event files in {dir}: {error}");
                Err(unstarted(&error, why))
            }
        };
        match prepared {
            Ok(exec) => {
                self.ports.slots.start(exec);
            }
            Err(exit) => {
                let ended = Ended::without_process(exit, self.clock.now().wall);
                self.refused.push_back(Input::Ended(start.id, ended));
            }
        }
    }

    /// Writes a run's event files, once. What was written in part is written again, or removed at
    /// the run's end.
    fn event_files(&mut self, run: &RunInfo) -> std::io::Result<()> {
        if self.with_files.get(&run.run) != Some(&true) {
            self.with_files.insert(run.run, false);
            let root = run.root.as_ref().map(Bytes::as_path);
            write_event_files(run, root, &self.dirs)?;
            self.with_files.insert(run.run, true);
        }
        Ok(())
    }

    /// These runs began under an earlier dagd, which may have left their event files.
    pub(super) fn keep_files(&mut self, runs: BTreeSet<RunId>) {
        let has = |run: RunId| (run, has_event_files(run, &self.dirs));
        self.with_files = runs.into_iter().map(has).collect();
    }

    /// A file has not become ready for long. Nothing but this comes of it.
    fn alarm(&self, name: &Name, rel: &Bytes, since: Wall) {
        let Some(lane) = self.machine.lanes().get(name) else { return };
        let Some(candidate) = lane.candidates.get(rel) else { return };
        let folder = lane.spec.folder();
        let path = folder.map(|folder| folder.root.join(rel.as_path()).display().to_string());
        let reason = waiting::candidate_entry(lane, rel, candidate, self.clock.now()).reason;
        let since = wire::time(since);
        warn!(trigger = %name, path, reason, since, "a file has not become ready");
    }

    fn watch(&self, to: ToWatch) {
        if let Some(watch) = &self.ports.watch {
            watch.send(to);
        }
    }

    /// Answers a request. Nobody is there to be told if the asker has gone.
    fn reply(&mut self, token: u64, reply: Reply) {
        if let Some(waiting) = self.replies.remove(&token) {
            waiting.send(reply).ok();
        }
    }

    fn finished(&mut self, run: RunId, state: RunState) {
        if self.with_files.remove(&run).is_some() {
            remove_event_files(run, &self.dirs);
        }
        if let Some(left) = &self.dirs.left {
            left::forget(left, run, &self.dirs.outputs);
        }
        for waiting in self.waiters.remove(&run).unwrap_or_default() {
            waiting.send(state).ok();
        }
    }

    /// What ended or left the configuration before this is not kept.
    pub(super) fn retained_since(&self) -> Wall {
        let age = i64::try_from(self.settings.retention.age.as_nanos()).unwrap_or(i64::MAX);
        Wall(self.clock.now().wall.0.saturating_sub(age))
    }

    /// Removes a slice of history that has outlived its retention.
    pub(super) fn prune(&mut self) {
        if !self.seq.0.is_multiple_of(PRUNE_EVERY[usize::from(self.prunes_on)]) {
            return;
        }
        let Retention { runs, logs, .. } = self.settings.retention;
        let since = self.retained_since();
        let dir = &self.dirs.logs;
        let remove_log = |log: &str| {
            if let Err(error) = std::fs::remove_file(dir.join(log)) {
                debug!(log, %error, "a log to be pruned was not removed");
            }
        };
        match self.store.prune(Keep { runs, since, log_bytes: logs }, remove_log) {
            Ok(pruned) => self.prunes_on = pruned.more,
            Err(error) => warn!("history was not pruned: {error}"),
        }
    }
}
