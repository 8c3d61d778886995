//! How the daemon comes up: lock, past processes, stored records, watches, signals, socket.
//!
//! No lane is read before recovery has ended: only then is there a machine to read it. No attempt
//! begins before all stands that may fail to: a start that fails leaves nothing running.

use std::collections::BTreeMap;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use tracing::{info, warn};

use super::alarms::Alarms;
use super::clock::Clock;
use super::engine::{Engine, Lanes, Parts, Ports, lane};
use super::history::PatientLedger;
use super::past::Past;
use super::reload::{Reloader, folders, standard_signals};
use super::{DaemonArgs, DaemonError, trying, view};
use crate::config::{Durability, Resolved, Settings};
use crate::core::effect::Out;
use crate::core::graph::Graph;
use crate::core::id::{Name, Seq};
use crate::core::machine::{Machine, Recovering, Start};
use crate::core::model::Model;
use crate::io::check::{Checker, MakeKeys};
use crate::io::config_files;
use crate::io::control::{self, Ask, Server, Socket, Sources};
use crate::io::dispose::Disposer;
use crate::io::failpoint::failpoint;
use crate::io::process::{
    Base, Dirs, Means, Slots, become_subreaper, cgroup, keep_descriptors, left, sweep,
};
use crate::io::signals;
use crate::io::store::{InstanceLock, Loaded, Store, Sync, lock};
use crate::io::watch::{self, WatchHandle};

/// Batches of observations on their way: few, so that a held trigger is held at once.
const WATCH_LANE: usize = 8;
/// Signals on their way; more wait in the kernel.
const SIGNALS_LANE: usize = 256;
/// Ends of attempts on their way: one per slot, for the largest number of slots.
const RESULTS_LANE: usize = 1024;
/// Other small messages on their way.
const SMALL_LANE: usize = 64;

/// A daemon that is up.
pub struct Booted {
    /// The loop.
    pub engine: Engine,
    watch: (WatchHandle, JoinHandle<()>),
    /// Tells who reads the ledger not to wait for it any more.
    closing: Arc<AtomicBool>,
    control: (Server, JoinHandle<()>),
    _lock: InstanceLock,
}

/// Brings the daemon up; `handed` is its control socket, if somebody else has opened it. What
/// recovery found to be done is still to be done, by [`Engine::run`].
pub fn boot(args: DaemonArgs, handed: Option<UnixListener>) -> Result<(Booted, Out), DaemonError> {
    let (print, loaded) = config_files::load_printed(&args.config);
    let Resolved { model, settings, warnings } = loaded?.resolved;
    for warning in &warnings {
        warn!("{warning}");
    }
    let held = lock(&settings.state_dir)?;
    let (urgent_in, urgent) = lane(SMALL_LANE);
    let (signals_in, signals_out) = lane(SIGNALS_LANE);
    let handlers = signals::spawn(&standard_signals(&model), true, signals_in, urgent_in)
        .map_err(trying("install signal handlers"))?;
    let (asks_in, asks) = lane(control::ASKS_MAX);
    let (watch_in, watch_out) = lane(WATCH_LANE);
    let (loaded_in, loaded) = lane(SMALL_LANE);
    let committed = Arc::new(AtomicU64::new(0));
    let mut base = Foundation::lay(&settings, &model, committed.clone())?;
    let closing = base.closing.clone();
    let ledger = PatientLedger::new(settings.state_dir.clone(), closing.clone());
    let (handle, joined) = watch::spawn(Box::new(ledger), committed, watch_in)
        .map_err(trying("start the watch thread"))?;
    // Nobody waits for that before the lane is read: what is found on the way has to go somewhere.
    let (ack, armed) = crossbeam_channel::bounded(1);
    handle.arm(folders(&model), Some(ack));
    base.lanes.urgent = urgent;
    base.lanes.signals = signals_out;
    base.lanes.asks = asks;
    base.lanes.watch = watch_out;
    base.lanes.loaded = loaded;
    (base.ports.alarm, base.lanes.alarm) = Alarms::ready();
    base.ports.watch = Some(handle.clone());
    base.ports.signals = Some(handlers);
    let means = base.ports.means.clone();
    base.ports.reloader = Some(Reloader::new(args.config.clone(), print, means, loaded_in));
    let (mut engine, recovered) = base.recover(args.config, settings);
    engine.reopen = args.reopen;
    if let Some(lack) = engine.watch_config(engine.settings.reload_on_change) {
        warn!("{lack}");
    }
    engine.tell_ready(armed, args.ready).map_err(trying("wait for the watches"))?;
    let socket = args.socket.unwrap_or_else(|| engine.settings.runtime_dir.join("dagd.sock"));
    let control = serve(&socket, handed, &engine, asks_in)?;
    engine.status.socket = Some(control.0.socket().to_owned());
    let watch = (handle, joined);
    Ok((Booted { engine, watch, closing, control, _lock: held }, recovered))
}

/// Serves the socket that was `handed` over, else one at `place`, where clients look.
fn serve(
    place: &Path,
    handed: Option<UnixListener>,
    engine: &Engine,
    asks: crossbeam_channel::Sender<Ask>,
) -> Result<(Server, JoinHandle<()>), DaemonError> {
    let state_dir = engine.settings.state_dir.clone();
    let dir = state_dir.clone();
    let triggers = engine.status.triggers.clone();
    let sources = Sources {
        asks,
        state_dir,
        triggers: Arc::new(move || triggers.get()),
        reader: Arc::new(move || super::history(&dir)),
        write_group: engine.settings.write_group.clone(),
    };
    let what = format!("listen on {}", place.display());
    let socket = handed.map_or_else(|| Socket::At(place.to_owned()), Socket::Handed);
    let (server, thread) = control::spawn(socket, sources).map_err(trying(what))?;
    if server.socket() != place {
        let (handed, place) = (server.socket().display(), place.display());
        warn!("the control socket is {handed}, clients look for it at {place}");
    }
    Ok((server, thread))
}

impl Booted {
    /// Takes the daemon down: nothing is running any more.
    pub fn shut_down(self) {
        let Self { engine, watch: (handle, watching), closing, control: (server, serving), _lock } =
            self;
        server.close();
        closing.store(true, Ordering::Release);
        handle.stop();
        engine.close(|| {
            for (name, thread) in [("watch", watching), ("control", serving)] {
                if thread.join().is_err() {
                    warn!("the {name} thread had panicked");
                }
            }
        });
        info!("stopped");
    }
}

/// What every engine stands on, with or without sources of events.
pub(super) struct Foundation {
    pub(super) store: Store,
    pub(super) ports: Ports,
    pub(super) lanes: Lanes,
    past: Past,
    clock: Clock,
    base: Base,
    dirs: Dirs,
    committed: Arc<AtomicU64>,
    /// Tells who reads the ledger not to wait for it any more.
    closing: Arc<AtomicBool>,
}

impl Foundation {
    /// Opens the store, ends what is left of the past, starts the adapters.
    pub(super) fn lay(
        settings: &Settings,
        model: &Arc<Model>,
        committed: Arc<AtomicU64>,
    ) -> Result<Self, DaemonError> {
        let mut store = Store::open(&settings.state_dir, settings.durability == Durability::Full)?;
        let left = settings.state_dir.join("left");
        let dirs = Dirs {
            logs: settings.state_dir.join("logs"),
            events: settings.runtime_dir.join("events"),
            outputs: settings.runtime_dir.join("outputs"),
            left: model.can_leave.then(|| left.clone()),
        };
        let clock = Clock::start();
        let mut past = Past::read(&mut store, model, (&dirs, &left), clock.now())?;
        let means = Arc::new(end_past(store.instance(), &past, settings, model)?);
        past.settle_logs();
        make_private(&dirs.logs)?;
        let runtime = settings.runtime_dir.display();
        control::make_folder(&settings.runtime_dir).map_err(trying(format!("use {runtime}")))?;
        dirs.reset(&past.kept).map_err(trying(format!("clear {runtime}")))?;
        left::forget_others(&left, &past.kept)
            .map_err(trying(format!("clear {}", left.display())))?;
        let closing = Arc::new(AtomicBool::new(false));
        let (results_in, results) = lane(RESULTS_LANE);
        let (moved_in, moved) = lane(SMALL_LANE);
        let (checked_in, checked) = lane(SMALL_LANE);
        let (synced_in, synced) = lane(SMALL_LANE);
        let mut slots = Slots::new(model.slots, &dirs.logs, means.clone(), results_in)
            .map_err(trying(format!("use {}", dirs.logs.display())))?;
        for adopted in &past.running {
            info!(attempt = adopted.label, "an attempt that went on is taken over");
        }
        slots
            .adopt(std::mem::take(&mut past.running))
            .map_err(trying("take over the attempts that went on"))?;
        let told = move |synced| {
            // The engine is gone only when dagd ends.
            synced_in.send(synced).ok();
        };
        let sync =
            Sync::spawn(&settings.state_dir, told).map_err(trying("start the sync thread"))?;
        let ports = Ports {
            slots,
            means,
            disposer: Disposer::new(moved_in),
            checker: Checker::new(checked_in, committed.clone(), keys(settings, &closing)),
            sync,
            watch: None,
            signals: None,
            reloader: None,
            alarm: Alarms::default(),
        };
        let lanes = Lanes {
            urgent: crossbeam_channel::never(),
            results,
            moved,
            checked,
            synced,
            loaded: crossbeam_channel::never(),
            asks: crossbeam_channel::never(),
            signals: crossbeam_channel::never(),
            watch: crossbeam_channel::never(),
            alarm: crossbeam_channel::never(),
        };
        let base = Base::from_process(store.instance().to_owned());
        Ok(Self { store, ports, lanes, past, clock, base, dirs, committed, closing })
    }

    /// Folds the stored records, then puts the engine together. What is to be recorded and done
    /// because of the past is left to the caller.
    pub(super) fn recover(self, config: std::path::PathBuf, settings: Settings) -> (Engine, Out) {
        let mut out = Out::default();
        let Past { recovering, records, kept, .. } = self.past;
        let machine = recovering.finish(self.clock.now(), Seq(1), &mut out);
        if records > 0 {
            info!(runs = machine.runs().len(), "recovered");
        }
        let mut engine = Engine::new(Parts {
            machine,
            store: self.store,
            ports: self.ports,
            lanes: self.lanes,
            clock: self.clock,
            committed: self.committed,
            settings,
            config,
            base: self.base,
            dirs: self.dirs,
        });
        engine.keep_files(kept);
        failpoint!("boot.recovered");
        (engine, out)
    }
}

/// Ends what is left of the past, but for what goes on by its task's wish. Returns the means that
/// there are to keep attempts together.
fn end_past(
    instance: &str,
    past: &Past,
    settings: &Settings,
    model: &Model,
) -> Result<Means, DaemonError> {
    become_subreaper().map_err(trying("become the reaper of orphans"))?;
    keep_descriptors();
    let what = "end the processes of the past";
    let swept = sweep(instance, &past.spared()).map_err(trying(what))?;
    let swept = swept + cgroup::sweep(instance).map_err(trying(what))?;
    let means = Means::take(settings.containment, &model.graph, instance);
    let means = means.map_err(DaemonError::CannotHold)?;
    let faults = means.faults(&model.graph);
    if !faults.is_empty() {
        let passes = faults.iter().all(|fault| fault.passes);
        let text = faults.into_iter().map(|fault| fault.text).collect::<Vec<_>>().join("\n");
        return Err(if passes {
            DaemonError::Refused(text)
        } else {
            DaemonError::CannotHold(text)
        });
    }
    failpoint!("boot.swept");
    if swept > 0 {
        info!(swept, "ended processes that a past dagd left behind");
    }
    Ok(means)
}

/// The ledger's keys, for each thread that checks files.
fn keys(settings: &Settings, closing: &Arc<AtomicBool>) -> MakeKeys {
    let (dir, closing) = (settings.state_dir.clone(), closing.clone());
    Arc::new(move || Box::new(PatientLedger::new(dir.clone(), closing.clone())))
}

/// Stored records, folded.
pub(super) fn recovering(
    model: Arc<Model>,
    loaded: &Loaded,
    durations: Vec<(Name, std::time::Duration)>,
    now: crate::core::id::Now,
) -> Result<Recovering, String> {
    let mut graphs = Vec::new();
    for (rev, stored) in &loaded.graphs {
        let graph = Graph::restore(rev.clone(), stored.clone())
            .map_err(|_| format!("graph {rev} is no graph"))?;
        graphs.push(Arc::new(graph));
    }
    let nanos = |d: std::time::Duration| u64::try_from(d.as_nanos()).unwrap_or(u64::MAX);
    let durations: BTreeMap<_, _> =
        durations.into_iter().map(|(name, d)| (name, nanos(d))).collect();
    let seed = now.wall.0.unsigned_abs();
    let (next_run, next_item) = (loaded.next_run, loaded.next_item);
    let triggers = loaded.triggers.clone();
    let start = Start { model, graphs, next_run, next_item, triggers, durations, seed };
    let mut recovering = Recovering::new(start);
    for record in &loaded.records {
        recovering.fold(record, now).map_err(|illegal| illegal.to_string())?;
    }
    Ok(recovering)
}

/// Creates a folder that only we can enter, with its parents.
pub(super) fn make_private(dir: &Path) -> Result<(), DaemonError> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(trying(format!("create {}", dir.display())))
}

/// The machine's answers about runs that end, for their history.
impl crate::io::store::Finished for Machine {
    fn tasks(
        &self,
        run: crate::core::id::RunId,
    ) -> Vec<(Name, crate::core::task::TaskState, Option<String>)> {
        self.run(run).map(view::task_ends).unwrap_or_default()
    }

    fn graph(&self, rev: &crate::core::id::Rev) -> Option<Arc<Graph>> {
        self.graph(rev).cloned()
    }
}
