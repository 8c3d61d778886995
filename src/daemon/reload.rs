//! A new configuration: read and checked beside the engine, swapped in by it in one step.
//!
//! Whatever goes wrong, the old configuration stays as it is, whole.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender};
use tokio::sync::oneshot;
use tracing::{info, warn};

use super::clock::wall;
use super::engine::{Engine, Settling};
use crate::config::{Durability, Group, Resolved, Settings, diff};
use crate::core::effect::Out;
use crate::core::event::Event;
use crate::core::id::{Name, Now};
use crate::core::model::Model;
use crate::core::trigger::{Source, TriggerSpec};
use crate::io::config_files;
use crate::io::process::Means;
use crate::io::systemd;
use crate::wire;

/// Loads configurations on a thread of its own, one at a time.
#[derive(Debug)]
pub struct Reloader {
    config: PathBuf,
    /// What a new configuration can ask for here.
    means: Arc<Means>,
    out: Sender<Loading>,
    /// Askers of the load that is under way, and whether another was asked for meanwhile.
    current: Option<Vec<oneshot::Sender<wire::Reload>>>,
    next: Option<Vec<oneshot::Sender<wire::Reload>>>,
}

/// A load's outcome, on its way to the engine, or the end of an arming, on its way back.
pub enum Loading {
    /// The text was read: it is valid, or here is why not.
    Read(Result<Box<Resolved>, String>),
    /// All directories are watched for which this was waiting.
    Armed(Settling),
}

impl Reloader {
    /// Nothing is loaded yet.
    pub fn new(config: PathBuf, means: Arc<Means>, out: Sender<Loading>) -> Self {
        Self { config, means, out, current: None, next: None }
    }

    fn begin(&mut self, asker: Option<oneshot::Sender<wire::Reload>>) -> std::io::Result<()> {
        if self.current.is_some() {
            let next = self.next.get_or_insert_default();
            next.retain(|asker| !asker.is_closed());
            next.extend(asker);
            return Ok(());
        }
        self.load_for(asker.into_iter().collect())
    }

    /// Begins a load. Errors: there is no thread to be had; the askers are still to be told.
    fn load_for(&mut self, askers: Vec<oneshot::Sender<wire::Reload>>) -> std::io::Result<()> {
        self.current = Some(askers);
        let (config, means, out) = (self.config.clone(), self.means.clone(), self.out.clone());
        let work = move || {
            let read = config_files::load(&config)
                .map(|loaded| Box::new(loaded.resolved))
                .map_err(|diagnostics| diagnostics.to_string())
                .and_then(|resolved| match means.faults(&resolved.model.graph).as_slice() {
                    [] => Ok(resolved),
                    faults => Err(faults.join("\n")),
                });
            // The engine is gone only when dagd ends.
            out.send(Loading::Read(read)).ok();
        };
        std::thread::Builder::new().name("dagd-reload".to_owned()).spawn(work).map(drop)
    }

    /// Waits beside the engine until the watches are armed. Errors: there is no thread to be had.
    pub(super) fn await_armed(&self, armed: Receiver<()>, then: Settling) -> std::io::Result<()> {
        let out = self.out.clone();
        let work = move || {
            // An error means that the watch thread has ended: so has everything else.
            armed.recv().ok();
            out.send(Loading::Armed(then)).ok();
        };
        std::thread::Builder::new().name("dagd-armed".to_owned()).spawn(work).map(drop)
    }
}

impl Engine {
    /// Begins a reload.
    pub(super) fn reload(&mut self, asker: Option<oneshot::Sender<wire::Reload>>) {
        if let Some(reopen) = &self.reopen
            && let Err(error) = reopen()
        {
            warn!(%error, "the log was not opened anew");
        }
        info!("reloading {}", self.config.display());
        systemd::reloading();
        let Some(reloader) = &mut self.ports.reloader else { return };
        if let Err(error) = reloader.begin(asker) {
            self.reloaded(no_thread(&error));
        }
    }

    /// Goes on with a reload.
    pub(super) fn loaded(&mut self, now: Now, loading: Loading, out: &mut Out) {
        match loading {
            Loading::Armed(settling) => {
                if self.machine.is_baselining(&self.apart) {
                    systemd::status("the first scan is under way");
                }
                self.settling.push(settling);
            }
            Loading::Read(Err(why)) => self.reloaded(outcome(false, why)),
            Loading::Read(Ok(resolved)) => match fixed(&self.settings, &resolved.settings) {
                Some(why) => self.reloaded(outcome(false, why)),
                None => self.swap(now, *resolved, out),
            },
        }
    }

    /// Puts the new configuration in force.
    fn swap(&mut self, now: Now, resolved: Resolved, out: &mut Out) {
        let Resolved { model, settings, warnings } = resolved;
        for warning in &warnings {
            warn!("{warning}");
        }
        let new =
            Resolved { model: model.clone(), settings: settings.clone(), warnings: Vec::new() };
        let old = Resolved {
            model: self.machine.model().clone(),
            settings: self.settings.clone(),
            warnings: Vec::new(),
        };
        let lines = diff(&old, &new);
        let text = if lines.is_empty() { "no changes".to_owned() } else { lines.join("\n") };
        self.status.triggers.set(&model);
        self.ports.slots.resize(model.slots);
        let wanted = |name: &Name| model.triggers.contains_key(name);
        self.ports.checker.keep(wanted);
        self.ports.disposer.keep(wanted);
        self.armed.retain(|name, _| wanted(name));
        if let Err(error) = self.store.set_full(settings.durability == Durability::Full) {
            warn!("durability stays as it was: {error}");
        }
        if let Some(signals) = &self.ports.signals
            && let Err(error) = signals.set(&standard_signals(&model))
        {
            warn!("failed to install signal handlers: {error}");
        }
        let (ack, armed) = crossbeam_channel::bounded(1);
        if let Some(watch) = &self.ports.watch {
            let arming = watch.arm(folders(&model), Some(ack));
            for name in changed(self.machine.model(), &model) {
                self.apart.remove(&name);
                if wanted(&name) {
                    self.armed.insert(name, arming);
                }
            }
        }
        self.settings = settings;
        let seq = self.next_seq();
        self.machine.step(now, seq, Event::Reloaded(model), out);
        if let Some(reloader) = &self.ports.reloader
            && let Err(error) =
                reloader.await_armed(armed, Settling::Reload(outcome(true, text.clone())))
        {
            // It is in force; only when all is covered is not known.
            warn!("failed to wait for the new watches: {error}");
            self.settling.push(Settling::Reload(outcome(true, text)));
        }
    }

    /// A reload has ended, one way or the other.
    pub(super) fn reloaded(&mut self, outcome: wire::Reload) {
        if outcome.ok {
            info!("reloaded: {}", outcome.text.replace('\n', "; "));
            self.tell_reloaded("running");
        } else {
            warn!("reload failed, the old configuration stays:\n{}", outcome.text);
            let first = outcome.text.lines().next().unwrap_or("");
            self.tell_reloaded(&format!("reload failed: {first}"));
        }
        let Some(reloader) = &mut self.ports.reloader else { return };
        for asker in reloader.current.take().unwrap_or_default() {
            // Nobody is there to be told if the asker has gone.
            asker.send(outcome.clone()).ok();
        }
        self.status.reload = Some(outcome);
        if let Some(next) = reloader.next.take()
            && let Err(error) = reloader.load_for(next)
        {
            self.reloaded(no_thread(&error));
        }
    }

    /// Tells the service manager that a reload has ended. One that ends while dagd starts does not
    /// make it ready.
    fn tell_reloaded(&self, text: &str) {
        if self.started { systemd::ready(text) } else { systemd::status(text) }
    }
}

/// A configuration was not loaded because there is no thread for that.
fn no_thread(error: &std::io::Error) -> wire::Reload {
    outcome(false, format!("failed to start a thread: {error}"))
}

/// Settings that only a restart can change.
fn fixed(old: &Settings, new: &Settings) -> Option<String> {
    if old.containment != new.containment {
        let what = "containment changed: restart dagd to change it";
        return Some(what.to_owned());
    }
    let folder = |path: &Path| path.display().to_string();
    let group = |group: &Option<Group>| group.as_ref().map_or("none", |g| &g.name).to_owned();
    let all = |settings: &Settings| {
        [
            ("state_dir", folder(&settings.state_dir)),
            ("runtime_dir", folder(&settings.runtime_dir)),
            ("write_group", group(&settings.write_group)),
        ]
    };
    let mut pairs = all(old).into_iter().zip(all(new));
    let ((name, old), (_, new)) = pairs.find(|(old, new)| old != new)?;
    Some(format!("{name} changed from {old} to {new}: restart dagd to change it"))
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

fn outcome(ok: bool, text: String) -> wire::Reload {
    wire::Reload { ok, text, at: wire::time(wall()) }
}
