//! Commits, and what happens while the store cannot be written: nothing, visibly.
//!
//! A full disk or one that may come back stalls the engine: it keeps the batch, acts on nothing but
//! stops, says so, and tries again. Whatever is not of that kind ends dagd.

use std::sync::atomic::Ordering;
use std::time::Duration;

use crossbeam_channel::Select;
use tracing::{error, info, warn};

use super::DaemonError;
use super::engine::Engine;
use super::reload::Cause;
use crate::core::effect::{Command, Out, Reply, Stop};
use crate::io::control::Ask;
use crate::io::failpoint::failpoint;
use crate::io::signals::Seen;
use crate::io::store::StoreError;
use crate::io::systemd;

/// First and longest pause between tries to commit while the store is stalled.
const STALL_PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// How long attempts that are killed because nothing can be committed may take to be gone. Only one
/// that hangs in the kernel takes longer.
const DEATH_MAX: Duration = Duration::from_secs(6);
/// Requests that are kept for later while the store is stalled; more are refused. Each holds a
/// connection: others stay free for who looks, or stops dagd.
const DEFERRED_MAX: usize = 32;

impl Engine {
    /// Commits, for as long as it takes. While the store is stalled nothing is acted on but stops,
    /// which are then taken out of the batch.
    pub(super) fn commit(&mut self, out: &mut Out) -> Result<(), DaemonError> {
        let mut pause = STALL_PAUSE.0;
        let mut since = None;
        loop {
            failpoint!("commit.begun");
            match self.store.commit(&out.records, &self.machine) {
                Ok(seq) => {
                    failpoint!("commit.done");
                    if self.status.stalled.take().is_some() {
                        self.shows_recovery();
                    }
                    self.seq = seq;
                    self.committed.store(seq.0, Ordering::Release);
                    self.status.counters.count(&out.records);
                    self.ports.sync.checkpoint();
                    self.prune();
                    return Ok(());
                }
                Err(StoreError::Passing(why)) => {
                    self.stalled(&why, out);
                    let since = *since.get_or_insert_with(std::time::Instant::now);
                    // A stop must end, whether or not the disk heals.
                    let patience = self.machine.model().stop_timeout;
                    if self.machine.is_stopping() && since.elapsed() >= patience {
                        return Err(self.given_up());
                    }
                    self.idle_while_stalled(pause)?;
                    pause = STALL_PAUSE.1.min(pause * 2);
                }
                Err(other) => {
                    error!("{other}");
                    return Err(other.into());
                }
            }
        }
    }

    /// Tells that a stall is over.
    pub(super) fn shows_recovery(&self) {
        info!("the store can be written again");
        if self.status.stall().is_none() {
            systemd::status("running");
        }
    }

    /// Notes the stall; stops in the batch are acted on at once, as they need no record. Those of
    /// attempts that the same batch starts have to wait for it.
    fn stalled(&mut self, why: &str, out: &mut Out) {
        if self.status.stalled.is_none() {
            show(why);
            out.commands.retain(|command| match command {
                Command::Stop { id, how } => !self.ports.slots.stop(*id, *how),
                _ => true,
            });
        }
        self.status.stalled = Some(why.to_owned());
        // Those that came with the batch must not wait for it.
        for look in std::mem::take(&mut self.looks) {
            self.look_or_defer(look);
        }
    }

    /// Answers what needs no commit, and keeps the rest for later, as long as somebody waits for it.
    fn look_or_defer(&mut self, ask: Ask) {
        self.deferred.retain(|ask| !ask.is_given_up());
        match ask {
            Ask::Status(_) | Ask::Pending(_) | Ask::Stuck(..) | Ask::LiveLog(..) => {
                self.answer_look(ask);
            }
            Ask::Reload(reply) => self.reload(Cause::Request, Some(reply)),
            Ask::Request(_, reply) if self.deferred.len() >= DEFERRED_MAX => {
                let why = self.status.stalled.as_deref().unwrap_or_default();
                // Nobody is there to be told if the asker has gone.
                reply.send(Reply::Refused(format!("stalled: {why}; try again later"))).ok();
            }
            // The server bounds those that wait for a run.
            other => self.deferred.push_back(other),
        }
    }

    /// Waits, answers what needs no commit, and obeys a stop.
    fn idle_while_stalled(&mut self, pause: Duration) -> Result<(), DaemonError> {
        systemd::watchdog();
        self.tell_stalled();
        // However long the pause, the service manager hears in time.
        let pause = systemd::watchdog_interval().map_or(pause, |every| pause.min(every));
        let until = std::time::Instant::now() + pause;
        loop {
            let mut select = Select::new();
            let urgent = select.recv(&self.lanes.urgent);
            select.recv(&self.lanes.asks);
            let Ok(ready) = select.select_deadline(until) else { return Ok(()) };
            if ready.index() == urgent {
                match ready.recv(&self.lanes.urgent) {
                    Ok(Seen::Terminate) => return Err(self.given_up()),
                    Ok(Seen::Reload) => self.reload(Cause::Signal, None),
                    Ok(Seen::Trigger { .. }) | Err(_) => {}
                }
                continue;
            }
            match ready.recv(&self.lanes.asks) {
                Ok(Ask::Stop(reply)) => {
                    reply.send(()).ok();
                    return Err(self.given_up());
                }
                Ok(other) => self.look_or_defer(other),
                Err(_) => return Ok(()),
            }
        }
    }

    /// Why dagd ends while nothing can be committed.
    fn given_up(&self) -> DaemonError {
        DaemonError::Stalled(self.status.stalled.clone().unwrap_or_default())
    }

    /// Ends what is in flight without a commit, but for what goes on without dagd: it is repeated at
    /// the next start. Waits until it is gone, with all that it has left behind.
    pub(super) fn abandon(&self) {
        let slots = &self.ports.slots;
        let mut ends = self.machine.in_flight_that_end();
        for id in &ends {
            slots.stop(*id, Stop::Kill);
        }
        let until = std::time::Instant::now() + DEATH_MAX;
        loop {
            ends.retain(|id| slots.has(*id));
            if ends.is_empty() {
                break;
            }
            if self.lanes.results.recv_deadline(until).is_err() {
                warn!(running = ends.len(), "killed tasks are still there");
                break;
            }
        }
    }
}

/// Tells of a stall, or of another reason for it.
pub(super) fn show(why: &str) {
    warn!("stalled: {why}");
    systemd::status(&format!("stalled: {why}"));
}
