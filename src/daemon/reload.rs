//! A new configuration: read and checked beside the engine, swapped in by it in one step.
//!
//! Whatever goes wrong, the old configuration stays as it is, whole: what may fail is done first,
//! and taken back if another part of it does. What is left for then cannot fail: folders that cannot
//! be watched are polled, or waited for, and that is a warning.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tokio::sync::oneshot;
use tracing::{info, warn};

use super::clock::wall;
use super::engine::Engine;
use super::reloader::Load;
pub use super::reloader::{Cause, Loading, Reloader};
use super::settling::{InForce, Settling};
use crate::config::diff::{How, fixed};
use crate::config::{Change, Durability, Resolved, Settings, diff};
use crate::core::bound::OnRemoval;
use crate::core::candidate::Stage;
use crate::core::effect::Out;
use crate::core::event::Event;
use crate::core::id::{Name, Now};
use crate::core::machine::LEAVING_MAX;
use crate::core::model::Model;
use crate::core::trigger::{Source, TriggerSpec};
use crate::io::config_watch::Lack;
use crate::io::systemd;
use crate::wire;

impl Engine {
    /// Begins a reload.
    pub(super) fn reload(&mut self, cause: Cause, asker: Option<oneshot::Sender<wire::Reload>>) {
        if cause != Cause::Change
            && let Some(reopen) = &self.reopen
            && let Err(error) = reopen()
        {
            warn!(%error, "the log was not opened anew");
        }
        let Some(reloader) = &mut self.ports.reloader else { return };
        match reloader.begin(cause, asker) {
            Ok(true) => self.tell_reloading(cause),
            Ok(false) => {}
            Err(error) => self.refuse(no_thread(&error)),
        }
    }

    /// Tells that a reload has begun. One by a change has begun when a change was found.
    fn tell_reloading(&self, cause: Cause) {
        let config = self.config.display();
        match cause {
            Cause::Request | Cause::Signal => info!("reloading {config}"),
            Cause::Change => return,
        }
        systemd::reloading();
    }

    /// Goes on with a reload.
    pub(super) fn loaded(&mut self, now: Now, loading: Loading, out: &mut Out) {
        match loading {
            Loading::Changed => self.reload(Cause::Change, None),
            Loading::Same => {
                let Some(reloader) = &mut self.ports.reloader else { return };
                reloader.end();
                self.go_on();
            }
            Loading::Armed => self.armed(),
            Loading::Read(print, read) => {
                let reloader = self.ports.reloader.as_mut();
                if reloader.and_then(|reloader| reloader.read(print)) == Some(Cause::Change) {
                    info!("the files of {} have changed: reloading", self.config.display());
                    systemd::reloading();
                }
                match read.and_then(|resolved| self.swap(now, *resolved, out)) {
                    Ok(()) => self.go_on(),
                    Err(why) => self.refuse(why),
                }
            }
        }
    }

    /// Puts the new configuration in force. Errors: why it cannot be; nothing has changed then.
    fn swap(&mut self, now: Now, resolved: Resolved, out: &mut Out) -> Result<(), String> {
        let old = Resolved {
            model: self.machine.model().clone(),
            settings: self.settings.clone(),
            warnings: Vec::new(),
        };
        let fixed = fixed(&old.settings, &resolved.settings);
        if !fixed.is_empty() {
            let lines = fixed.iter().map(|change| format!("{change}: restart dagd to change it"));
            return Err(lines.collect::<Vec<_>>().join("\n"));
        }
        let (now_left, left) = self.machine.would_leave(&resolved.model);
        if left > LEAVING_MAX.max(now_left) {
            return Err(format!(
                "{left} accepted events of triggers that go would still wait to be run, more than \
                 {LEAVING_MAX}: take fewer triggers away at once, let the events run first, or have \
                 them dropped by `on_removal = \"drop\"`"
            ));
        }
        let changes = diff(&old, &resolved);
        let outcome = self.outcome_of(&changes, &resolved);
        let Resolved { model, settings, warnings: _ } = resolved;
        let ack = crossbeam_channel::bounded(1);
        let fresh = changed(&old.model, &model);
        self.prepare((&old.model, &old.settings), (&model, &settings))?;
        if let Some(reloader) = &self.ports.reloader
            && let Err(error) = reloader.await_armed(ack.1)
        {
            self.take_back((&old.model, &old.settings));
            return Err(no_thread(&error));
        }
        // From here on nothing fails.
        self.overtake();
        let load = self.ports.reloader.as_mut().and_then(Reloader::end);
        let reload = InForce { load, outcome, armed: fresh.clone(), is_last: true };
        self.settling.push(Settling::Reload(reload));
        self.uncovered += 1;
        self.status.triggers.set(&model);
        self.ports.slots.resize(model.slots);
        let wanted = |name: &Name| model.triggers.contains_key(name);
        self.ports.checker.keep(wanted);
        self.ports.disposer.keep(wanted);
        self.armed.retain(|name, _| wanted(name));
        if let Some(watch) = &self.ports.watch {
            let arming = watch.arm(folders(&model), Some(ack.0));
            for name in fresh {
                self.apart.remove(&name);
                if wanted(&name) {
                    self.armed.insert(name, arming);
                }
            }
        }
        self.settings = settings;
        let seq = self.next_seq();
        self.machine.step(now, seq, Event::Reloaded(model), out);
        Ok(())
    }

    /// Does what may fail of a swap. What was done before something failed is taken back.
    fn prepare(
        &mut self,
        old: (&Model, &Settings),
        new: (&Model, &Settings),
    ) -> Result<(), String> {
        let full = |(_, settings): (&Model, &Settings)| settings.durability == Durability::Full;
        self.set_signals(new.0)?;
        let changed = full(old) != full(new);
        let durability = if changed { self.store.set_full(full(new)) } else { Ok(()) };
        let watched = durability
            .map_err(|error| format!("the durability cannot be changed: {error}"))
            .and_then(|()| match self.watch_config(new.1.reload_on_change) {
                // What was so before is no reason to refuse what may mend it.
                Some(lack @ Lack::Unwatched(_)) if !old.1.reload_on_change => Err(lack.to_string()),
                _ => Ok(()),
            });
        if watched.is_err() {
            self.take_back(old);
        }
        watched
    }

    /// Makes good what [`Engine::prepare`] did, as far as that goes.
    fn take_back(&mut self, (model, settings): (&Model, &Settings)) {
        if let Err(error) = self.store.set_full(settings.durability == Durability::Full) {
            warn!("{error}");
        }
        if let Err(error) = self.set_signals(model) {
            warn!("{error}");
        }
        self.watch_config(settings.reload_on_change);
    }

    /// Catches the signals that triggers of a configuration want. Errors: why not all can be.
    fn set_signals(&self, model: &Model) -> Result<(), String> {
        let set = self.ports.signals.as_ref().map(|of| of.set(&standard_signals(model)));
        let set = set.transpose().map(drop);
        set.map_err(|error| format!("failed to install signal handlers: {error}"))
    }

    /// Watches the configuration's files, or does so no longer. Returns why not all of them are
    /// watched, if they are not.
    pub(super) fn watch_config(&mut self, wanted: bool) -> Option<Lack> {
        let reloader = self.ports.reloader.as_mut()?;
        reloader.watch_files(wanted);
        reloader.lack()
    }

    /// What the answer is if nothing goes wrong from now on.
    fn outcome_of(&self, changes: &[Change], new: &Resolved) -> wire::Reload {
        let heirs = self.machine.heirs(&new.model);
        let remains = |change| (change, self.remains(change, &heirs));
        let changes: Vec<_> = changes.iter().map(remains).collect();
        let line = |(change, remains): &(&Change, Vec<String>)| {
            let rest = if remains.is_empty() { "" } else { ": " };
            format!("{change}{rest}{}", remains.join(", "))
        };
        let lines: Vec<String> = changes.iter().map(line).collect();
        let text = if lines.is_empty() { "no changes".to_owned() } else { lines.join("\n") };
        let changes = changes.into_iter().map(|(change, remains)| {
            let of = wire::ReloadChange::from(change);
            wire::ReloadChange { remains, ..of }
        });
        let changes = changes.collect();
        let in_vain = self.machine.heirs_in_vain(&new.model).map(|(from, to)| {
            format!(
                "trigger `{to}`: `renamed_from` has no effect, because `{to}` has a ledger of its \
                 own: that of `{from}` stays apart"
            )
        });
        let warnings = new.warnings.iter().cloned().chain(in_vain).collect();
        wire::Reload { changes, warnings, ..outcome(true, text) }
    }

    /// What is left of a trigger that goes, and what becomes of it.
    fn remains(&self, change: &Change, heirs: &BTreeMap<&Name, &Name>) -> Vec<String> {
        let removed = change.how == How::Removed && change.what == "trigger";
        let lane = self.machine.lanes().get(&*change.name).filter(|_| removed);
        let Some(lane) = lane else { return Vec::new() };
        let is_free = |stage: &Stage| !matches!(stage, Stage::Claimed { .. });
        let files = lane.candidates.values().filter(|of| is_free(&of.stage)).count();
        let name = &lane.spec.name;
        let heir = heirs.get(name);
        let become_of = match (heir, lane.spec.on_removal, &lane.stored.paused) {
            (Some(to), ..) => format!("are those of `{to}`"),
            (None, OnRemoval::Drop, _) => "dropped".to_owned(),
            (None, OnRemoval::Drain, None) => "still run".to_owned(),
            (None, OnRemoval::Drain, Some(_)) => format!("wait for `dagd resume {name}`"),
        };
        let files_of = if heir.is_some() { "are looked at anew" } else { "stay where they are" };
        let parts = [
            (lane.live_runs, "live runs go on".to_owned()),
            (lane.items.len(), format!("waiting events {become_of}")),
            (files, format!("waiting files {files_of}")),
        ];
        let some = parts.into_iter().filter(|(many, _)| *many > 0);
        some.map(|(many, what)| format!("{many} {what}")).collect()
    }

    /// A configuration cannot be put in force, and this is why: nothing has changed.
    fn refuse(&mut self, why: String) {
        let load = self.ports.reloader.as_mut().and_then(Reloader::end);
        let outcome = answer(load, outcome(false, why));
        let first = outcome.text.lines().next().unwrap_or("");
        self.tell_reloaded(&format!("reload failed: {first}"));
        self.status.reload = Some(outcome);
        for settling in &mut self.settling {
            if let Settling::Reload(reload) = settling {
                reload.is_last = false;
            }
        }
        self.go_on();
    }

    /// Begins the reload that was asked for while another one was being read.
    fn go_on(&mut self) {
        let Some(reloader) = &mut self.ports.reloader else { return };
        match reloader.go_on() {
            Ok(None) => {}
            Ok(Some(cause)) => self.tell_reloading(cause),
            Err(error) => self.refuse(no_thread(&error)),
        }
    }
}

/// Tells everybody what has become of a reload: the log, and who has asked for it. Returns it as it
/// was told.
pub(super) fn answer(load: Option<Load>, outcome: wire::Reload) -> wire::Reload {
    let cause = load.as_ref().map_or(Cause::Request, |load| load.cause);
    let outcome = wire::Reload { cause: cause.word().to_owned(), ..outcome };
    for warning in &outcome.warnings {
        warn!("{warning}");
    }
    if outcome.ok {
        info!("reloaded: {}", outcome.text.replace('\n', "; "));
    } else {
        warn!("reload failed, the old configuration stays:\n{}", outcome.text);
    }
    for asker in load.into_iter().flat_map(|load| load.askers) {
        // Nobody is there to be told if the asker has gone.
        asker.send(outcome.clone()).ok();
    }
    outcome
}

/// A configuration was not loaded because there is no thread for that.
fn no_thread(error: &std::io::Error) -> String {
    format!("failed to start a thread: {error}")
}

fn outcome(ok: bool, text: String) -> wire::Reload {
    let (cause, changes, warnings) = (String::new(), Vec::new(), Vec::new());
    wire::Reload { ok, text, cause, changes, warnings, at: wire::time(wall()) }
}

/// The triggers that are not the same in both.
fn changed(old: &Model, new: &Model) -> BTreeSet<Name> {
    let rev = |model: &Model, name: &Name| model.triggers.get(name).map(|spec| spec.rev.clone());
    let names = old.triggers.keys().chain(new.triggers.keys());
    names.filter(|name| rev(old, name) != rev(new, name)).cloned().collect()
}

/// The folder triggers of a configuration.
pub(super) fn folders(model: &Model) -> Vec<Arc<TriggerSpec>> {
    model.triggers.values().filter(|spec| spec.folder().is_some()).cloned().collect()
}

/// The standard signals that triggers of a configuration want.
pub(super) fn standard_signals(model: &Model) -> Vec<i32> {
    let wanted = model.triggers.values().filter_map(|spec| match spec.source {
        Source::Signal { signo, .. } if signo < REALTIME_MIN => Some(signo),
        Source::Signal { .. } | Source::Folder(_) | Source::Schedule(_) | Source::Absent { .. } => {
            None
        }
    });
    wanted.collect()
}

/// Signals from here on queue. The numbering of glibc.
pub(super) const REALTIME_MIN: i32 = 34;
