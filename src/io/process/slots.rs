//! The slots: one thread per running attempt, started when first needed.
//!
//! A slot receives an attempt, starts its process, sleeps until the leader is dead, kills and reaps
//! what is left, puts the log and the outputs in order, and reports the end. Nothing of an attempt
//! outlives its report. Which attempt runs, and when, is not decided here.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, unbounded};
use tracing::span::EnteredSpan;

use crate::core::confine::Usage;
use crate::core::effect::Stop;
use crate::core::id::AttemptId;
use crate::core::task::{Ended, Exit};
use crate::io::failpoint::failpoint;

use super::adopted::{Adopted, Adoptions, see_out};
use super::beginnings::{Beginning, Beginnings};
use super::cgroup::Cgroup;
use super::death::{exit_of, now, reap, wait};
use super::keeper::Keeper;
use super::launch::{Launched, Launcher, not_become, unstarted};
use super::left;
use super::means::Means;
use super::orphans::Orphans;
use super::output::{Log, Spare, spares};
use super::outputs;
use super::prepare::Exec;
use super::table::Table;

/// Bytes of stack of a thread of this module; none recurses or keeps large values on it.
pub(super) const STACK: usize = 256 << 10;

/// How long a dagd that ends waits for attempts that are to go on without it to begin. Only one whose
/// program cannot be read, such as from a server that is gone, takes longer.
const BEGIN_MAX: Duration = Duration::from_secs(5);

/// The slots, owned by the engine.
#[derive(Debug)]
pub struct Slots {
    shared: Arc<Shared>,
    /// Never longer than the attempts in flight, which the core bounds.
    work: Sender<Job>,
    jobs: Receiver<Job>,
    threads: usize,
    /// Threads made so far; names only.
    made: usize,
    max: usize,
    /// What an earlier dagd has started, and is in no slot.
    adopted: Arc<Adoptions>,
    beginnings: Arc<Beginnings>,
}

#[derive(Debug)]
struct Shared {
    table: Arc<Table>,
    keeper: Keeper,
    spares: PathBuf,
    means: Arc<Means>,
    out: Sender<(AttemptId, Ended)>,
}

#[derive(Debug)]
enum Job {
    /// With what is dropped when it has begun, if it may go on without dagd.
    Run(Box<Exec>, Option<Beginning>),
    Retire,
}

impl Slots {
    /// Up to `max` slots (at least one), whose ends are sent to `out` by the slots' threads; they
    /// wait while `out` is full. Makes the folder `logs`, starts the first slot. Fails where the
    /// folder cannot be written, a thread cannot be started, or `/proc` is missing.
    pub fn new(
        max: usize,
        logs: &Path,
        means: Arc<Means>,
        out: Sender<(AttemptId, Ended)>,
    ) -> std::io::Result<Self> {
        let table = Arc::new(Table::default());
        let keeper = Keeper::start(Arc::clone(&table))?;
        let shared = Arc::new(Shared { table, keeper, spares: spares(logs)?, means, out });
        let (work, jobs) = unbounded();
        let (max, adopted, beginnings) = (max.max(1), Arc::default(), Arc::default());
        let mut slots = Self { shared, work, jobs, threads: 0, made: 0, max, adopted, beginnings };
        slots.add()?;
        Ok(slots)
    }

    /// Starts an attempt. Never blocks. If no slot is free, the attempt waits for the next one.
    pub fn start(&mut self, exec: Exec) {
        self.shared.table.insert(exec.id);
        if self.shared.table.len() > self.threads
            && self.threads < self.max
            && let Err(error) = self.add()
        {
            tracing::warn!(slots = self.threads, %error, "cannot start another slot");
        }
        let beginning = exec.left.is_some().then(|| self.beginnings.one());
        // The receiver lives as long as the sender: both are in `self`.
        self.work.send(Job::Run(Box::new(exec), beginning)).ok();
    }

    /// Waits until all that is to go on without dagd has begun; blocks for [`BEGIN_MAX`] at most.
    pub fn await_begun(&self) {
        if !self.beginnings.wait(BEGIN_MAX) {
            tracing::warn!(
                "tasks that were to go on without dagd have not begun; they will be lost"
            );
        }
    }

    /// Takes over attempts that go on, once. Fails where there is no thread to be had: they go on.
    pub fn adopt(&mut self, all: Vec<Adopted>) -> std::io::Result<()> {
        self.adopted = see_out(all, &self.shared.keeper, self.shared.out.clone())?;
        Ok(())
    }

    /// Signals an attempt's processes; nothing happens, and `false` is returned, if it has ended.
    /// After `Kill`, and after its leader has ended in whatever way, all else that carries its token
    /// is killed, too.
    pub fn stop(&self, id: AttemptId, how: Stop) -> bool {
        self.shared.table.stop(id, how) || self.adopted.stop(id, how)
    }

    /// Whether an attempt was started, or taken over, and has not ended.
    pub fn has(&self, id: AttemptId) -> bool {
        self.shared.table.has(id) || self.adopted.has(id)
    }

    /// Where the attempt whose log will be `target` writes its output now, if it is in flight.
    pub fn live_log(&self, target: &Path) -> Option<PathBuf> {
        self.shared.keeper.find(target)
    }

    /// Attempts that have been started and have not ended.
    pub fn running(&self) -> usize {
        self.shared.table.len() + self.adopted.len()
    }

    /// Changes the number of slots (at least one). Those that are too many end when they are idle.
    pub fn resize(&mut self, max: usize) {
        self.max = max.max(1);
        while self.threads > self.max {
            self.work.send(Job::Retire).ok();
            self.threads -= 1;
        }
    }

    fn add(&mut self) -> std::io::Result<()> {
        let number = self.made;
        let mut slot = Slot {
            number,
            spares_made: 0,
            launcher: Launcher::new(self.shared.means.helper.clone())?,
            orphans: Orphans::open()?,
            log: self.shared.keeper.add(),
            spare: None,
            shared: Arc::clone(&self.shared),
        };
        let jobs = self.jobs.clone();
        thread::Builder::new()
            .name(format!("dagd-slot-{number}"))
            .stack_size(STACK)
            .spawn(move || slot.work(&jobs))?;
        self.made += 1;
        self.threads += 1;
        Ok(())
    }
}

struct Slot {
    number: usize,
    spares_made: u64,
    launcher: Launcher,
    orphans: Orphans,
    log: Arc<Log>,
    spare: Option<Spare>,
    shared: Arc<Shared>,
}

impl Slot {
    fn work(&mut self, jobs: &Receiver<Job>) {
        while let Ok(Job::Run(exec, beginning)) = jobs.recv() {
            let (id, ended) = {
                let _about = about(exec.id, &exec.task);
                (exec.id, self.attempt(&exec, beginning))
            };
            failpoint!("run.ended");
            self.shared.table.remove(id);
            if self.shared.out.send((id, ended)).is_err() {
                break;
            }
            // Now, while nobody waits for it; if it fails, the next attempt tries again and tells.
            if self.spare.is_none() {
                self.spare = self.new_spare().ok();
            }
        }
        if let Some(spare) = self.spare.take() {
            self.log.begin(spare, PathBuf::new(), 0);
            self.log.end(false);
        }
    }

    fn attempt(&mut self, exec: &Exec, beginning: Option<Beginning>) -> Ended {
        let started_at = now();
        let pending = self.shared.table.pending(exec.id);
        let unneeded = match pending {
            Some(Stop::Term) => Some(libc::SIGTERM),
            Some(Stop::Kill) => Some(libc::SIGKILL),
            Some(Stop::Signal(_)) | None => None,
        };
        if let Some(signal) = unneeded {
            return Ended::without_process(Exit::Signal(signal), started_at);
        }
        let cgroup = match self.cgroup(exec) {
            Ok(cgroup) => cgroup,
            Err(exit) => return Ended::without_process(exit, started_at),
        };
        let Launched { leader, helper } = match self.launch(exec, cgroup.as_deref()) {
            Ok(launched) => launched,
            Err(exit) => {
                remove(cgroup.as_deref());
                return Ended::without_process(exit, started_at);
            }
        };
        failpoint!("run.spawned");
        self.shared.table.launched(exec.id, leader, cgroup.clone());
        self.shared.keeper.wake();
        let failed = helper.and_then(|(report, program)| Some((report.wait()?, program)));
        drop(beginning);
        let status = wait(leader);
        let ended_at = now();
        let killed = self.shared.table.ending(exec.id, leader);
        let contained = cgroup.as_deref().map(|cgroup| contained(cgroup, &exec.label));
        // What was in the cgroup is counted.
        let counted = killed || contained.is_some();
        let cleared = self.orphans.clear(&exec.label, (leader, counted), &self.shared.table);
        // The number of the group was reserved by the dead leader up to here.
        let mut usage = reap(leader);
        let mut exit = status
            .map_or(Exit::Unknown, |end| exit_of(end.exit_status(), end.terminating_signal()));
        let mut leftovers = cleared.killed;
        if let Some(contained) = contained {
            usage.memory_peak = contained.usage.memory_peak.or(usage.memory_peak);
            usage.cpu_us = contained.usage.cpu_us.or(usage.cpu_us);
            leftovers += if killed { 0 } else { contained.left };
            if contained.oom && exit == Exit::Signal(libc::SIGKILL) {
                exit = Exit::Oom;
            }
        }
        if let Some((failed, program)) = failed {
            exit = not_become(exec, &program, failed);
        } else if let Some(end) = exec.left.as_deref().and_then(left::written) {
            exit = end.exit;
            leftovers += end.leftovers;
        }
        // What may have to be read by another dagd stays until the run has ended.
        let keep = exec.left.is_some();
        let outputs = if keep { outputs::look(&exec.output) } else { outputs::take(&exec.output) };
        self.leave_user(exec);
        // What another user has had in hand is nobody else's log.
        let (log_bytes, spare) = self.log.end(cleared.clean && exec.private.is_none());
        self.spare = spare;
        if log_bytes > 0 {
            exec.secrets.blot_or_tell(&exec.log);
        }
        Ended { exit, started_at, ended_at, leftovers, log_bytes, outputs, usage }
    }

    /// The attempt's own cgroup, where it is to have one. The error is how the attempt ends instead.
    fn cgroup(&self, exec: &Exec) -> Result<Option<Arc<Cgroup>>, Exit> {
        let confine = exec.confine.as_deref();
        let tree = self.shared.means.tree_for(confine).filter(|_| exec.left.is_none());
        let Some(tree) = tree else { return Ok(None) };
        let name = exec.label.rsplit('/').next().unwrap_or_default();
        let made = tree.make(name, confine).map_err(|error| {
            let place = tree.path().display();
            unstarted(&error, format!("cannot make a cgroup `{name}` in {place}: {error}"))
        });
        made.map(|cgroup| Some(Arc::new(cgroup)))
    }

    /// Takes back what the helper gave to the attempt's user, if it had one: the log is read by dagd,
    /// and may serve another attempt.
    fn leave_user(&self, exec: &Exec) {
        let Some(private) = &exec.private else { return };
        self.log.own();
        if exec.left.is_some() {
            // Its outputs are read again should dagd die before the end is stored.
            return;
        }
        if let Err(error) = std::fs::remove_dir_all(&private.dir)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(path = %private.dir.display(), %error, "cannot remove a task's folder");
        }
    }

    fn launch(&mut self, exec: &Exec, cgroup: Option<&Cgroup>) -> Result<Launched, Exit> {
        let spare = match self.spare.take() {
            Some(spare) => spare,
            None => self.new_spare().map_err(|error| {
                let why = format!(
                    "cannot make a log file in {}: {error}; make room, or make state_dir writable",
                    self.shared.spares.display()
                );
                unstarted(&error, why)
            })?,
        };
        let file = spare.file();
        self.log.begin(spare, exec.log.clone(), exec.log_max);
        if let Some(place) = &exec.left {
            self.log.name();
            left::make_room(place).map_err(|error| {
                self.spare = self.log.end(true).1;
                unstarted(&error, format!("cannot make {}: {error}", place.display()))
            })?;
        }
        let launched = self.launcher.launch(exec, cgroup, &file);
        if launched.is_err() {
            self.spare = self.log.end(true).1;
        }
        launched
    }

    fn new_spare(&mut self) -> std::io::Result<Spare> {
        self.spares_made += 1;
        let name = format!("{}-{}", self.number, self.spares_made);
        Spare::create(self.shared.spares.join(name))
    }
}

/// What is said from now on is about this attempt.
pub(super) fn about(id: AttemptId, task: &str) -> EnteredSpan {
    tracing::error_span!("attempt", run = id.run.0, task, attempt = id.attempt.0).entered()
}

/// What became of an attempt's cgroup.
struct Contained {
    /// Processes that were left in it, and were killed.
    left: u32,
    usage: Usage,
    /// Whether the kernel killed one for want of memory.
    oom: bool,
}

/// Kills what is left in a cgroup, asks what was used, and removes it.
fn contained(cgroup: &Cgroup, label: &str) -> Contained {
    let left = cgroup.end().unwrap_or_else(|error| {
        tracing::warn!(attempt = label, %error, "what a task left behind is still there");
        0
    });
    let (usage, ooms) = cgroup.usage();
    remove(Some(cgroup));
    Contained { left, usage, oom: ooms > 0 }
}

/// A cgroup that stays is ended at the next start.
fn remove(cgroup: Option<&Cgroup>) {
    if let Some(Err(error)) = cgroup.map(Cgroup::remove) {
        tracing::warn!(%error, "cannot remove a cgroup");
    }
}
