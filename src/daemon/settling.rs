//! A start or a reload until all is as it is to be: folders are covered, first scans have ended.
//!
//! Owns who is told then, and what of it. As long as it goes on, the service manager is asked for
//! the time that it needs; what says that it goes on is that files and folders are found. One that
//! finds nothing more and has not settled either gets no more time: it hangs. A stop is told of here
//! as well.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;
use tracing::info;

use super::Ready;
use super::engine::Engine;
use super::reload::{Reloader, answer};
use super::reloader::Load;
use crate::core::id::Name;
use crate::io::systemd;
use crate::io::watch::{Coverage, FromWatch, Told, WatchHandle};
use crate::wire;

/// How much longer a stop takes than its tasks may: they are killed, their ends are committed, the
/// database is closed.
const STOP_LONGER: Duration = Duration::from_secs(30);

/// What waits for folders to be covered, and then for first scans to end.
pub(super) enum Settling {
    /// The daemon's start.
    Start(Option<Ready>),
    /// The configuration in force, if that is another one than at the start.
    Reload(InForce),
}

/// A reload that has put its configuration in force.
pub(super) struct InForce {
    /// Who is to be told.
    pub(super) load: Option<Load>,
    /// What is told if nothing goes wrong.
    pub(super) outcome: wire::Reload,
    /// The triggers that are new or have changed.
    pub(super) armed: BTreeSet<Name>,
    /// Whether no later one was refused: whoever looks is told of the last.
    pub(super) is_last: bool,
}

/// What the service manager waits for.
#[derive(Debug)]
pub struct Awaited {
    /// How often it is looked at.
    every: Duration,
    next: Instant,
    /// Files found so far; a file that several triggers have is counted for each.
    files: u64,
    /// Files and folders when it was told of last.
    told: (u64, u64),
}

impl Awaited {
    /// It begins now. `None` if there is nobody to be told of it.
    fn new() -> Option<Self> {
        let every = systemd::start_interval()?;
        Some(Self { every, next: Instant::now() + every, files: 0, told: (0, 0) })
    }

    /// How long until it is to be looked at again.
    pub fn left(&self) -> Duration {
        self.next.saturating_duration_since(Instant::now())
    }

    /// Counts what was found.
    pub fn note(&mut self, told: &Told) {
        if let FromWatch::Observed(observed) = &told.what {
            self.files += u64::try_from(observed.seen.len()).unwrap_or(u64::MAX);
        }
    }
}

impl Engine {
    /// Tells that events are being watched, once they are and every first scan knows what was there
    /// before. Errors: there is no thread to be had that waits for it.
    pub fn tell_ready(&mut self, armed: Receiver<()>, ready: Option<Ready>) -> std::io::Result<()> {
        systemd::status("the folders are being covered");
        if let Some(reloader) = &self.ports.reloader {
            reloader.await_armed(armed)?;
            self.uncovered += 1;
            self.settling.push(Settling::Start(ready));
        }
        Ok(())
    }

    /// The folders of a start or a reload are covered, or others are to be since.
    pub(super) fn armed(&mut self) {
        self.uncovered = self.uncovered.saturating_sub(1);
        if self.uncovered == 0 && self.machine.is_baselining(&self.apart) {
            systemd::status("the first scan is under way");
        }
    }

    /// Tells what waits for the first scans, once they have ended. A reload does not wait for them
    /// while dagd stops.
    pub(super) fn settle(&mut self) {
        let settled = self.uncovered == 0 && !self.machine.is_baselining(&self.apart);
        let stops = self.machine.is_stopping();
        if self.settling.is_empty() || !(settled || stops) {
            return;
        }
        for settling in std::mem::take(&mut self.settling) {
            match settling {
                // It ends before it was ready.
                Settling::Start(_) if stops => self.settling.push(settling),
                Settling::Start(ready) => self.tell_started(ready),
                Settling::Reload(reload) => {
                    let why = "dagd is stopping: the first scan goes on at the next start";
                    self.tell_settled(reload, (!settled).then_some(why));
                    self.tell_reloaded("running");
                }
            }
        }
    }

    /// Another configuration is in force: nobody waits any more for the first scans of the one
    /// before.
    pub(super) fn overtake(&mut self) {
        for settling in std::mem::take(&mut self.settling) {
            match settling {
                Settling::Start(_) => self.settling.push(settling),
                Settling::Reload(reload) => {
                    let why = "another configuration followed before its first scan had ended";
                    self.tell_settled(reload, Some(why));
                }
            }
        }
    }

    /// Answers who waits for a reload that is in force; `why`: all is not yet as it is to be.
    fn tell_settled(&mut self, reload: InForce, why: Option<&str>) {
        let InForce { load, mut outcome, armed, is_last } = reload;
        outcome.warnings.extend(self.unwatched_of(&armed));
        let reloader = self.ports.reloader.as_ref();
        outcome.warnings.extend(reloader.and_then(Reloader::lack).map(|lack| lack.to_string()));
        outcome.warnings.extend(why.map(str::to_owned));
        let outcome = answer(load, outcome);
        if is_last {
            self.status.reload = Some(outcome);
        }
    }

    /// Whether a reload is in force that was not told of yet.
    fn is_settling_reload(&self) -> bool {
        self.settling.iter().any(|settling| matches!(settling, Settling::Reload(_)))
    }

    /// Tells the service manager that a reload has ended, if none other goes on. One that ends while
    /// dagd starts does not make it ready.
    pub(super) fn tell_reloaded(&self, text: &str) {
        let goes_on = self.is_settling_reload()
            || self.ports.reloader.as_ref().is_some_and(Reloader::is_asked);
        if self.started && !goes_on { systemd::ready(text) } else { systemd::status(text) }
    }

    fn tell_started(&mut self, ready: Option<Ready>) {
        self.started = true;
        systemd::ready("running");
        info!(triggers = self.machine.lanes().len(), "watching");
        if let Some(ready) = ready {
            ready();
        }
    }

    /// What cannot be watched as it should be of these triggers' folders.
    fn unwatched_of(&self, triggers: &BTreeSet<Name>) -> Vec<String> {
        let coverage = self.coverage();
        let of = coverage.iter().filter(|coverage| triggers.contains(&coverage.trigger));
        let problems = of.flat_map(|coverage| {
            let name = &coverage.trigger;
            let lane = self.machine.lanes().get(name).filter(|_| coverage.is_missing());
            let folder = lane.and_then(|lane| lane.spec.folder());
            let missing = folder.map(|folder| {
                format!("{} does not exist; it is waited for", folder.root.display())
            });
            let all = missing.into_iter().chain(coverage.problems.iter().cloned());
            all.map(move |problem| format!("trigger `{name}`: {problem}"))
        });
        problems.collect()
    }

    /// How well each trigger is covered.
    pub(super) fn coverage(&self) -> Vec<Coverage> {
        self.ports.watch.as_ref().map(WatchHandle::coverage).unwrap_or_default()
    }

    /// Whether the service manager waits: for the start, or for a reload.
    fn is_awaited(&self) -> bool {
        let asked =
            |reloader: &Reloader| !self.started || self.is_settling_reload() || reloader.is_asked();
        self.ports.reloader.as_ref().is_some_and(asked)
    }

    /// Whether it is time to tell the service manager how what it waits for goes on.
    fn is_telling(&mut self) -> bool {
        if !self.is_awaited() {
            self.awaited = None;
            return false;
        }
        if self.awaited.is_none() {
            self.awaited = Awaited::new();
        }
        let due = self.awaited.as_mut().filter(|awaited| awaited.left().is_zero());
        due.map(|awaited| awaited.next = Instant::now() + awaited.every).is_some()
    }

    /// Asks for more time if what the service manager waits for has come further.
    pub(super) fn tell_awaited(&mut self) {
        if !self.is_telling() || self.settling.is_empty() {
            return;
        }
        let folders = self.coverage().iter().map(|of| of.directories).sum();
        let Some(awaited) = &mut self.awaited else { return };
        let files = awaited.files;
        if std::mem::replace(&mut awaited.told, (files, folders)) != (files, folders) {
            systemd::starting(&format!("the first scan: {folders} folders, {files} files so far"));
        }
    }

    /// The same while nothing can be committed: a disk that may come back is waited for.
    pub(super) fn tell_stalled(&mut self) {
        if self.is_telling() {
            let why = self.status.stalled.as_deref().unwrap_or_default();
            systemd::starting(&format!("stalled: {why}"));
        }
    }

    /// The stop has begun.
    pub(super) fn tell_stopping(&self) {
        systemd::stopping(self.machine.model().stop_timeout.saturating_add(STOP_LONGER));
    }
}
