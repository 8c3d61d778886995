//! The slots: one thread per running attempt, started when first needed.
//!
//! A slot receives an attempt, starts its process, sleeps until the leader is dead, kills and reaps
//! what is left, puts the log and the outputs in order, and reports the end. Nothing of an attempt
//! outlives its report. Which attempt runs, and when, is not decided here.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use crossbeam_channel::{Receiver, Sender, unbounded};
use rustix::io::{Errno, retry_on_intr};
use rustix::process::{Pid, WaitId, WaitIdOptions, WaitIdStatus, waitid};
use rustix::time::{ClockId, clock_gettime};

use crate::core::effect::Stop;
use crate::core::id::{AttemptId, Wall};
use crate::core::task::{Ended, Exit};
use crate::io::failpoint::failpoint;

use super::keeper::Keeper;
use super::launch::{Launcher, unstarted};
use super::orphans::Orphans;
use super::output::{Log, Spare, spares};
use super::outputs;
use super::prepare::Exec;
use super::table::Table;

/// Bytes of stack of a thread of this module; none recurses or keeps large values on it.
pub(super) const STACK: usize = 256 << 10;

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
}

#[derive(Debug)]
struct Shared {
    table: Arc<Table>,
    keeper: Keeper,
    spares: PathBuf,
    out: Sender<(AttemptId, Ended)>,
}

#[derive(Debug)]
enum Job {
    Run(Box<Exec>),
    Retire,
}

impl Slots {
    /// Up to `max` slots (at least one), whose ends are sent to `out` by the slots' threads; they
    /// wait while `out` is full. Makes the folder `logs`, starts the first slot. Fails where the
    /// folder cannot be written, a thread cannot be started, or `/proc` is missing.
    pub fn new(max: usize, logs: &Path, out: Sender<(AttemptId, Ended)>) -> std::io::Result<Self> {
        let table = Arc::new(Table::default());
        let keeper = Keeper::start(Arc::clone(&table))?;
        let shared = Arc::new(Shared { table, keeper, spares: spares(logs)?, out });
        let (work, jobs) = unbounded();
        let mut slots = Self { shared, work, jobs, threads: 0, made: 0, max: max.max(1) };
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
        // The receiver lives as long as the sender: both are in `self`.
        self.work.send(Job::Run(Box::new(exec))).ok();
    }

    /// Signals an attempt's processes; nothing happens, and `false` is returned, if it has ended.
    /// After `Kill`, and after its leader has ended in whatever way, all else that carries its token
    /// is killed, too.
    pub fn stop(&self, id: AttemptId, how: Stop) -> bool {
        self.shared.table.stop(id, how)
    }

    /// Where the attempt whose log will be `target` writes its output now, if it is in flight.
    pub fn live_log(&self, target: &Path) -> Option<PathBuf> {
        self.shared.keeper.find(target)
    }

    /// Attempts that have been started and have not ended.
    pub fn running(&self) -> usize {
        self.shared.table.len()
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
            launcher: Launcher::new()?,
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
        while let Ok(Job::Run(exec)) = jobs.recv() {
            let ended = self.attempt(&exec);
            failpoint!("run.ended");
            self.shared.table.remove(exec.id);
            if self.shared.out.send((exec.id, ended)).is_err() {
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

    fn attempt(&mut self, exec: &Exec) -> Ended {
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
        let leader = match self.launch(exec) {
            Ok(leader) => leader,
            Err(exit) => return Ended::without_process(exit, started_at),
        };
        failpoint!("run.spawned");
        self.shared.table.launched(exec.id, leader);
        self.shared.keeper.wake();
        let status = wait(leader, WaitIdOptions::NOWAIT);
        let ended_at = now();
        let killed = self.shared.table.ending(exec.id, leader);
        let cleared = self.orphans.clear(&exec.label, (leader, killed), &self.shared.table);
        // The number of the group was reserved by the dead leader up to here.
        wait(leader, WaitIdOptions::empty()).ok();
        let (log_bytes, spare) = self.log.end(cleared.clean);
        self.spare = spare;
        Ended {
            exit: status.map_or(Exit::Unknown, |status| exit(&status)),
            started_at,
            ended_at,
            leftovers: cleared.killed,
            log_bytes,
            outputs: outputs::take(&exec.output),
        }
    }

    fn launch(&mut self, exec: &Exec) -> Result<Pid, Exit> {
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
        let launched = self.launcher.launch(exec, &file);
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

/// Waits until the leader is dead. The error means that something else has reaped it.
fn wait(leader: Pid, more: WaitIdOptions) -> Result<WaitIdStatus, Errno> {
    let dead = || waitid(WaitId::Pid(leader), WaitIdOptions::EXITED | more);
    match retry_on_intr(dead) {
        Ok(Some(status)) => Ok(status),
        Ok(None) => Err(Errno::CHILD),
        Err(error) => {
            tracing::warn!(pid = leader.as_raw_nonzero().get(), %error, "lost sight of a process");
            Err(error)
        }
    }
}

fn exit(status: &WaitIdStatus) -> Exit {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => Exit::Code(code),
        (None, Some(signal)) => Exit::Signal(signal),
        (None, None) => Exit::Unknown,
    }
}

fn now() -> Wall {
    let time = clock_gettime(ClockId::Realtime);
    Wall(time.tv_sec.saturating_mul(1_000_000_000).saturating_add(time.tv_nsec))
}
