//! The engine: the only loop, the only owner of the machine and of the writing connection.
//!
//! A turn: collect what is waiting, at most [`BATCH_MAX`] events · step each · commit their records
//! · act on their commands. It waits for nobody while it acts: adapters may wait for the engine,
//! never the other way round.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use crossbeam_channel::{Receiver, Select, Sender};
use tokio::sync::oneshot;
use tracing::{info, warn};

use super::alarms::Alarms;
use super::clock::Clock;
pub use super::lanes::{Input, Lanes};
use super::reload::{Cause, Reloader};
use super::settling::{Awaited, Settling};
use super::stall;
use super::tell;
use super::view;
use super::{DaemonError, Reopen};
use crate::config::Settings;
use crate::core::effect::{Command, Out, Reply};
use crate::core::event::Event;
use crate::core::id::{ItemId, Name, Now, RunId, Seq};
use crate::core::machine::Machine;
use crate::core::record::{RunState, SignalInfo};
use crate::core::trigger::Source;
use crate::io::alarm::Rang;
use crate::io::check::Checker;
use crate::io::control::Ask;
use crate::io::dispose::{Disposer, Moved};
use crate::io::failpoint::failpoint;
use crate::io::process::{Base, Dirs, Means, Slots};
use crate::io::signals::{Seen, Signals};
use crate::io::store::{Store, Sync, Synced};
use crate::io::systemd;
use crate::io::watch::{FromWatch, Told, WatchHandle};

/// Events in one commit, at most: what is waiting is the batch, and an answer should not wait for
/// more than this.
pub const BATCH_MAX: usize = 64;

/// The adapters that the engine commands.
pub struct Ports {
    /// Runs attempts.
    pub slots: Slots,
    /// How their processes are kept together.
    pub means: Arc<Means>,
    /// Disposes of files.
    pub disposer: Disposer,
    /// Checks files.
    pub checker: Checker,
    /// Makes commits durable.
    pub sync: Sync,
    /// Watches folders; `None`: nothing is watched.
    pub watch: Option<WatchHandle>,
    /// Handlers of signals; `None`: the process keeps its own.
    pub signals: Option<Signals>,
    /// Loads configurations.
    pub reloader: Option<Reloader>,
    /// Rings when an occurrence is due.
    pub alarm: Alarms,
}

/// Told what happens, for whoever runs a graph in the foreground.
pub type Observer = Box<dyn FnMut(&Machine, &Out)>;

/// The engine.
pub struct Engine {
    pub(super) machine: Machine,
    pub(super) store: Store,
    pub(super) ports: Ports,
    pub(super) lanes: Lanes,
    pub(super) clock: Clock,
    /// The number of the newest commit, read by the watch thread before it looks.
    pub(super) committed: Arc<AtomicU64>,
    pub(super) seq: Seq,
    pub(super) settings: Settings,
    pub(super) config: PathBuf,
    pub(super) base: Base,
    pub(super) dirs: Dirs,
    /// Results of what no adapter could begin: taken in the next turn.
    pub(super) refused: VecDeque<Input>,
    /// Runs that have event files, and whether these are whole.
    pub(super) with_files: BTreeMap<RunId, bool>,
    /// The arming from which on the watch side tells of a trigger as it is.
    pub(super) armed: BTreeMap<Name, u64>,
    /// Triggers whose folders may not answer: nobody waits for their first scans.
    pub(super) apart: BTreeSet<Name>,
    /// What is to be told once every first scan knows what was there before.
    pub(super) settling: Vec<Settling>,
    /// Armings of which it is not known yet that they are covered, or that another one followed.
    pub(super) uncovered: usize,
    /// The newest commit that is known to be on disk.
    pub(super) durable: Option<Seq>,
    /// What may only happen once a commit is on disk.
    pub(super) undurable: VecDeque<(Seq, Command)>,
    pub(super) replies: BTreeMap<u64, oneshot::Sender<Reply>>,
    pub(super) waiters: BTreeMap<RunId, Vec<oneshot::Sender<RunState>>>,
    /// Who waits for an accepted event to become a run.
    pub(super) queued: BTreeMap<ItemId, Vec<oneshot::Sender<RunId>>>,
    /// Which run events have become lately: who asks for one may come later than the run.
    pub(super) became: VecDeque<(ItemId, RunId)>,
    pub(super) next_token: u64,
    pub(super) status: view::Facts,
    pub(super) observer: Option<Observer>,
    /// Opens the daemon's own log anew.
    pub(super) reopen: Option<Reopen>,
    pub(super) exiting: bool,
    /// Whether it was told that events are being watched.
    pub(super) started: bool,
    /// What the service manager waits for.
    pub(super) awaited: Option<Awaited>,
    /// Whether the last slice of pruning has left something.
    pub(super) prunes_on: bool,
    /// Requests of this turn that only look: answered after its commit, or during a stall.
    pub(super) looks: Vec<Ask>,
    /// Requests that came while the store was stalled.
    pub(super) deferred: VecDeque<Ask>,
}

/// What an engine is made of.
pub struct Parts {
    /// Recovered.
    pub machine: Machine,
    /// Open.
    pub store: Store,
    /// Running.
    pub ports: Ports,
    /// Connected.
    pub lanes: Lanes,
    /// Ticking.
    pub clock: Clock,
    /// Shared with the watch thread.
    pub committed: Arc<AtomicU64>,
    /// In force.
    pub settings: Settings,
    /// Where they came from.
    pub config: PathBuf,
    /// For attempts.
    pub base: Base,
    /// For attempts.
    pub dirs: Dirs,
}

impl Engine {
    /// Puts the engine together.
    pub fn new(parts: Parts) -> Self {
        let Parts { machine, store, ports, lanes, clock, committed, settings, config, base, dirs } =
            parts;
        let mut status = view::Facts::new(&clock, config.clone(), settings.state_dir.clone());
        status.containment = ports.means.told();
        status.triggers.set(machine.model());
        Self {
            machine,
            store,
            ports,
            lanes,
            clock,
            committed,
            seq: Seq(0),
            settings,
            config,
            base,
            dirs,
            refused: VecDeque::new(),
            with_files: BTreeMap::new(),
            armed: BTreeMap::new(),
            apart: BTreeSet::new(),
            settling: Vec::new(),
            uncovered: 0,
            durable: None,
            undurable: VecDeque::new(),
            replies: BTreeMap::new(),
            waiters: BTreeMap::new(),
            queued: BTreeMap::new(),
            became: VecDeque::new(),
            next_token: 0,
            status,
            observer: None,
            reopen: None,
            exiting: false,
            started: false,
            awaited: None,
            prunes_on: false,
            looks: Vec::new(),
            deferred: VecDeque::new(),
        }
    }

    /// Ends the engine: its lanes are closed, which ends who waits for room in them, then `others`
    /// are waited for. The writing connection is the last to close, so that the database is left
    /// whole in one file.
    pub fn close(self, others: impl FnOnce()) {
        let Self { lanes, ports, store, .. } = self;
        drop(lanes);
        let Ports { slots, means, disposer, checker, sync, watch, signals, reloader, alarm } =
            ports;
        drop((slots, disposer, watch, signals, reloader, alarm));
        checker.close();
        others();
        means.leave();
        sync.stop();
        drop(store);
    }

    /// The number that the next commit will have.
    pub fn next_seq(&self) -> Seq {
        Seq(self.seq.0 + 1)
    }

    /// Does what recovery has found to be done, then turns until dagd may exit. After an error
    /// nothing is left running.
    pub fn run(&mut self, recovered: Out) -> Result<(), DaemonError> {
        let mut ended = self.perform(recovered);
        while ended.is_ok() && !self.exiting {
            ended = self.turn();
        }
        if ended.is_err() {
            self.abandon();
        }
        self.ports.slots.await_begun();
        ended
    }

    /// One turn: collect, step, commit, act.
    pub fn turn(&mut self) -> Result<(), DaemonError> {
        let rang = self.ports.alarm.set(self.machine.next_occurrence());
        let mut inputs: Vec<Input> = rang.map(Input::Rang).into_iter().collect();
        inputs.extend(self.collect(inputs.is_empty()));
        let now = self.clock.now();
        let mut out = Out::default();
        for input in inputs {
            self.take(now, input, &mut out);
        }
        let before = self.retained_since();
        if self.machine.has_left_before(before) {
            let seq = self.next_seq();
            self.machine.step(now, seq, Event::Expired { before }, &mut out);
        }
        let deadline = self.machine.next_deadline().is_some_and(|due| due <= now.mono);
        if deadline || self.machine.next_occurrence().is_some_and(|due| due <= now.wall) {
            let seq = self.next_seq();
            self.machine.step(now, seq, Event::Tick, &mut out);
        }
        self.perform(out)?;
        for ask in std::mem::take(&mut self.looks) {
            self.answer_look(ask);
        }
        self.settle();
        self.tell_awaited();
        systemd::watchdog();
        Ok(())
    }

    /// Commits the records, then acts on the commands.
    pub fn perform(&mut self, mut out: Out) -> Result<(), DaemonError> {
        if !out.records.is_empty() {
            self.commit(&mut out)?;
        }
        if let Some(observer) = &mut self.observer {
            observer(&self.machine, &out);
        }
        self.tell_items(&out.records);
        tell::committed(&self.machine, &out.records);
        self.machine.forget();
        for command in out.commands {
            failpoint!("act.begun");
            self.act(command);
            failpoint!("act.done");
        }
        Ok(())
    }

    /// What is waiting, at most [`BATCH_MAX`]; `patient`: waits for the first until a
    /// deadline is due.
    fn collect(&mut self, patient: bool) -> Vec<Input> {
        let mut inputs: Vec<Input> = self.refused.drain(..).collect();
        inputs.extend(self.deferred.pop_front().map(Input::Ask));
        self.drain(&mut inputs);
        if inputs.is_empty() && patient {
            self.wait();
            self.drain(&mut inputs);
        }
        inputs
    }

    /// Sleeps until a lane has something or the next deadline is due.
    fn wait(&self) {
        let mut select = Select::new();
        select.recv(&self.lanes.urgent);
        select.recv(&self.lanes.results);
        select.recv(&self.lanes.moved);
        select.recv(&self.lanes.checked);
        select.recv(&self.lanes.synced);
        select.recv(&self.lanes.loaded);
        select.recv(&self.lanes.asks);
        if self.machine.has_room_for_signals() {
            select.recv(&self.lanes.signals);
        }
        select.recv(&self.lanes.watch);
        select.recv(&self.lanes.alarm);
        let machine = self.machine.next_deadline().map(|due| self.clock.now().mono.until(due));
        let manager = systemd::watchdog_interval().into_iter();
        let manager = manager.chain(self.awaited.as_ref().map(Awaited::left));
        match machine.into_iter().chain(manager).min() {
            Some(left) => drop(select.ready_timeout(left)),
            None => drop(select.ready()),
        }
    }

    fn drain(&self, inputs: &mut Vec<Input>) {
        fn take<T>(lane: &Receiver<T>, inputs: &mut Vec<Input>, wrap: impl Fn(T) -> Input) {
            while inputs.len() < BATCH_MAX
                && let Ok(item) = lane.try_recv()
            {
                inputs.push(wrap(item));
            }
        }
        take(&self.lanes.urgent, inputs, Input::Signal);
        take(&self.lanes.results, inputs, |(id, ended)| Input::Ended(id, ended));
        take(&self.lanes.moved, inputs, Input::Moved);
        take(&self.lanes.checked, inputs, Input::Checked);
        take(&self.lanes.synced, inputs, Input::Synced);
        take(&self.lanes.loaded, inputs, Input::Loaded);
        take(&self.lanes.asks, inputs, Input::Ask);
        if self.machine.has_room_for_signals() {
            take(&self.lanes.signals, inputs, Input::Signal);
        }
        take(&self.lanes.watch, inputs, Input::Watch);
        take(&self.lanes.alarm, inputs, Input::Rang);
    }

    fn take(&mut self, now: Now, input: Input, out: &mut Out) {
        let seq = self.next_seq();
        let event = match input {
            Input::Ended(id, ended) => Event::Ended { id, ended },
            Input::Moved(Moved { run, file, phase, outcome }) => {
                Event::Moved { run, file, phase, outcome }
            }
            Input::Checked(checked) => Event::Checked(checked),
            Input::Watch(found) => {
                if let Some(awaited) = &mut self.awaited {
                    awaited.note(&found);
                }
                match self.current(found) {
                    Some(event) => event,
                    None => return,
                }
            }
            Input::Signal(Seen::Terminate) => {
                info!("asked to stop: {} tasks are running", self.machine.in_flight().len());
                self.tell_stopping();
                Event::StopRequested
            }
            Input::Signal(Seen::Reload) => return self.reload(Cause::Signal, None),
            Input::Signal(Seen::Trigger { signo, value, pid, uid }) => {
                for event in self.signal_events(signo, value, pid, uid) {
                    self.machine.step(now, seq, event, out);
                }
                return;
            }
            Input::Rang(rang) => {
                self.ports.alarm.rang();
                match rang {
                    // Whatever is due is looked for in every turn.
                    Rang::Due => return,
                    Rang::ClockSet => Event::ClockSet,
                }
            }
            Input::Synced(synced) => return self.synced(synced),
            Input::Loaded(loading) => return self.loaded(now, loading, out),
            Input::Ask(ask) => match self.ask(ask) {
                Some(event) => event,
                None => return,
            },
        };
        self.machine.step(now, seq, event, out);
    }

    /// What the watch side found, as far as it was looked for under the triggers in force: what it
    /// found under a trigger's old configuration tells nothing under the new one.
    fn current(&mut self, told: Told) -> Option<Event> {
        let Told { arming, what } = told;
        match what {
            FromWatch::Observed(mut observed) => {
                observed.seen.retain(|seen| self.is_current(&seen.trigger, arming));
                Some(Event::Observed(observed))
            }
            FromWatch::Apart { trigger } => {
                if self.is_current(&trigger, arming) {
                    self.apart.insert(trigger);
                }
                None
            }
            FromWatch::Placed { trigger, places } => {
                self.is_current(&trigger, arming).then_some(Event::Placed { trigger, places })
            }
            FromWatch::Scanned { trigger } => {
                self.is_current(&trigger, arming).then_some(Event::Scanned { trigger })
            }
            FromWatch::Counted { trigger, files } => {
                self.is_current(&trigger, arming).then_some(Event::Counted { trigger, files })
            }
        }
    }

    /// Whether what is told of a trigger is up to date; then nothing older is from now on.
    fn is_current(&mut self, trigger: &Name, arming: u64) -> bool {
        match self.armed.get_mut(trigger) {
            Some(least) if arming < *least => return false,
            Some(least) => *least = arming,
            None => drop(self.armed.insert(trigger.clone(), arming)),
        }
        true
    }

    /// One event for each trigger that the signal belongs to.
    fn signal_events(
        &self,
        signo: i32,
        value: Option<i32>,
        pid: Option<i32>,
        uid: Option<u32>,
    ) -> Vec<Event> {
        let mut events = Vec::new();
        for spec in self.machine.model().triggers.values() {
            let Source::Signal { signo: wanted, name, sender_uid } = &spec.source else { continue };
            let allowed = sender_uid.is_empty() || uid.is_some_and(|uid| sender_uid.contains(&uid));
            if *wanted == signo && allowed {
                let info = SignalInfo { signal: name.clone(), value, pid, uid };
                events.push(Event::Signalled { trigger: spec.name.clone(), info });
            } else if *wanted == signo {
                warn!(trigger = %spec.name, ?pid, ?uid, "a signal of a user not in sender_uid was ignored");
            }
        }
        events
    }

    /// A commit is on disk: what waited for it may happen. Or it cannot be brought there: what
    /// waits for that goes on waiting, visibly.
    fn synced(&mut self, synced: Synced) {
        let seq = match synced {
            Ok(seq) => seq,
            Err(why) => {
                stall::show(&why);
                self.status.unsynced = Some(why);
                return;
            }
        };
        if self.status.unsynced.take().is_some() {
            self.shows_recovery();
        }
        self.durable = self.durable.max(Some(seq));
        while self.undurable.front().is_some_and(|(waits, _)| *waits <= seq) {
            failpoint!("sync.done");
            if let Some((_, command)) = self.undurable.pop_front() {
                self.act_durably(command);
            }
        }
    }
}

/// A lane between adapters and the engine.
pub fn lane<T>(bound: usize) -> (Sender<T>, Receiver<T>) {
    crossbeam_channel::bounded(bound)
}
