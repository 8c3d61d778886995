//! What an earlier dagd has left: the stored records, folded, and what its attempts in flight have
//! come to.
//!
//! Read before anything of the past is ended, so that what goes on by its task's wish is spared.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::boot::recovering;
use super::{DaemonError, trying};
use crate::core::id::{AttemptId, Now, RunId};
use crate::core::machine::{Left, Recovering};
use crate::core::model::Model;
use crate::core::task::{Ended, OnDaemonStop};
use crate::io::process::age::age;
use crate::io::process::blot::Secrets;
use crate::io::process::left::{self, Found};
use crate::io::process::prepare::secrets_of;
use crate::io::process::{Adopted, Dirs, output, outputs};
use crate::io::store::{Store, log_name};

/// The past of a daemon.
pub(super) struct Past {
    /// The stored records, folded.
    pub(super) recovering: Recovering,
    /// How many records there were.
    pub(super) records: usize,
    /// Attempts that go on.
    pub(super) running: Vec<Adopted>,
    /// Runs whose attempts go on or have ended meanwhile: their files are kept.
    pub(super) kept: BTreeSet<RunId>,
    /// Logs of attempts that do not go on, and what of them is secret.
    logs: Vec<(Secrets, PathBuf)>,
}

impl Past {
    /// Reads it. Errors: the store, or what an attempt has left, cannot be read; attempts go on of
    /// which the configuration takes over none.
    pub(super) fn read(
        store: &mut Store,
        model: &Arc<Model>,
        (dirs, left): (&Dirs, &Path),
        now: Now,
    ) -> Result<Self, DaemonError> {
        let loaded = store.load()?;
        let durations = store.durations()?;
        let dir = store.path().parent().unwrap_or(Path::new("/")).to_owned();
        let recovering = recovering(model.clone(), &loaded, durations, now)
            .map_err(|why| DaemonError::Recovery { dir, why })?;
        let (records, running, kept) = (loaded.records.len(), Vec::new(), BTreeSet::new());
        let mut past = Self { recovering, records, running, kept, logs: Vec::new() };
        for id in past.recovering.view().in_flight().keys().copied().collect::<Vec<_>>() {
            past.look(id, store.instance(), (dirs, left))?;
        }
        if !model.can_leave && !past.running.is_empty() {
            let what =
                "tasks of the last dagd go on; start dagd to take them over, or wait for them";
            return Err(DaemonError::Refused(what.to_owned()));
        }
        Ok(past)
    }

    /// The tokens of the attempts that go on.
    pub(super) fn spared(&self) -> BTreeSet<String> {
        self.running.iter().map(|adopted| adopted.label.clone()).collect()
    }

    /// Puts the logs of attempts that do not go on in order: they are dagd's own, and hold no secrets.
    /// To be called when nothing writes there any more.
    pub(super) fn settle_logs(&mut self) {
        for (secrets, log) in self.logs.drain(..) {
            output::own(&log);
            secrets.blot_or_tell(&log);
        }
    }

    /// Finds out what an attempt that was in flight has come to.
    fn look(
        &mut self,
        id: AttemptId,
        instance: &str,
        (dirs, left): (&Dirs, &Path),
    ) -> Result<(), DaemonError> {
        let Some(run) = self.recovering.view().run(id.run) else { return Ok(()) };
        let task = run.graph().task(id.node).clone();
        let name = log_name(id.run, &task.name, id.attempt);
        let stem = name.strip_suffix(".log").unwrap_or(&name);
        let (log, secrets) = (dirs.logs.join(&name), secrets_of(&task));
        let log_bytes = std::fs::symlink_metadata(&log).map_or(0, |meta| meta.len());
        let place = left::place(left, id.run, stem);
        let found = match task.on_daemon_stop {
            OnDaemonStop::Stop => Found::Gone,
            OnDaemonStop::Leave => {
                left::find(&place).map_err(trying(format!("find out what became of {stem}")))?
            }
        };
        let has_user = task.confine.as_ref().is_some_and(|confine| confine.user.is_some());
        let output =
            if has_user { dirs.outputs.join(stem).join("output") } else { left::output(&place) };
        let left = match found {
            Found::Gone => {
                self.logs.push((secrets, log));
                Left::Gone(log_bytes)
            }
            Found::Ended(end) => {
                self.kept.insert(id.run);
                self.logs.push((secrets, log));
                let by = end.by();
                let mut ended = Ended::without_process(end.exit, end.at);
                (ended.started_at, ended.leftovers) = (end.began, end.leftovers);
                (ended.log_bytes, ended.outputs) = (log_bytes, outputs::look(&output));
                Left::Ended(Box::new(ended), by)
            }
            Found::Running(left) => {
                self.kept.insert(id.run);
                let passed = age(left.pid);
                let (label, left) = (format!("{instance}/{stem}"), Arc::new(left));
                let (log_max, task) = (task.log_max, task.name.clone());
                let adopted =
                    Adopted { id, task, label, left, place, log, log_max, output, secrets };
                self.running.push(adopted);
                Left::Running(passed)
            }
        };
        self.recovering.found(id, left);
        Ok(())
    }
}
