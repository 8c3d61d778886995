//! Which worker serves which trigger: orders go there, and what hangs is left behind.
//!
//! One worker serves all roots on file systems that answer. A root whose file system needs somebody
//! else to answer gets a worker of its own, and so does one that once did not answer. Nobody here
//! waits for a worker.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::{self, Builder, JoinHandle};
use std::time::{Duration, Instant};
use std::{io, mem};

use crossbeam_channel::Sender;

use crate::core::id::Name;
use crate::core::trigger::TriggerSpec;

use super::dirty::{Inbox, Order};
use super::places::Places;
use super::pulse::HUNG;
use super::report::Reporter;
use super::staff::{Staff, Standing};
use super::worker::Worker;
use super::{Coverage, Ledger, Limits, Published, ToWatch, Told};

/// How long the end of workers is waited for that touch a file system when dagd stops.
const END_MAX: Duration = Duration::from_secs(1);

/// What all workers are made of.
pub struct Parts {
    /// Each worker has its own.
    pub ledger: Box<dyn Ledger>,
    /// The newest committed state.
    pub committed: Arc<AtomicU64>,
    /// Where to tell.
    pub out: Sender<Told>,
    /// Where ways are followed.
    pub places: Arc<Places>,
    /// Bounds.
    pub limits: Limits,
}

struct State {
    parts: Parts,
    /// The newest arming.
    armed: u64,
    specs: Vec<Arc<TriggerSpec>>,
    /// Who waits for an arming to be covered: for the last that anybody waits for.
    ack: Option<(u64, Sender<()>)>,
    /// Roots with a worker of their own, as configured: at most one for each trigger.
    apart: BTreeSet<PathBuf>,
    standing: Standing,
    /// The worker of all other roots; `None` before the start and after its thread could not be
    /// started.
    main: Option<Staff>,
    others: Vec<Staff>,
    /// Workers that hang and nobody counts on: each has left a root behind that is apart since.
    left: Vec<JoinHandle<()>>,
    /// Whether one of those that have ended since panicked.
    ended: thread::Result<()>,
    workers: u64,
    stopped: bool,
}

/// The desk.
pub struct Desk {
    me: Weak<Self>,
    /// Times that hints were lost: whoever serves a trigger, and how often it is handed over.
    pub(super) overflows: Arc<AtomicU64>,
    // lock: orders come from the engine, armings from a reload, what hangs from the alarm; held to
    // put something into an inbox or to start a thread, never while a file system is touched
    state: Mutex<State>,
}

impl Desk {
    /// A desk with one worker that serves nothing yet. Errors: its thread cannot be started.
    pub fn open(parts: Parts) -> io::Result<Arc<Self>> {
        let state = State {
            parts,
            armed: 0,
            specs: Vec::new(),
            ack: None,
            apart: BTreeSet::new(),
            standing: Standing::default(),
            main: None,
            others: Vec::new(),
            left: Vec::new(),
            ended: Ok(()),
            workers: 0,
            stopped: false,
        };
        // lock: see the field
        let (state, overflows) = (Mutex::new(state), Arc::default());
        let desk = Arc::new_cyclic(|me| Self { me: me.clone(), overflows, state });
        let main = desk.hire(&mut desk.lock(), None)?;
        desk.lock().main = Some(main);
        Ok(desk)
    }

    /// Starts a worker.
    fn hire(&self, state: &mut State, root: Option<&Path>) -> io::Result<Staff> {
        let number = state.workers;
        let parts = &state.parts;
        let inbox = Arc::new(Inbox::new(parts.limits.dirty));
        let (stop, stopped) = crossbeam_channel::bounded(1);
        // lock: see `Published`
        let coverage: Published = Arc::new(Mutex::new(Vec::new()));
        let pulse = Arc::new(parts.places.pulse());
        let (ledger, committed) = (parts.ledger.another(), parts.committed.clone());
        let reporter = Reporter::new(ledger, committed, parts.out.clone(), stopped, pulse.clone());
        let (me, places) = (self.me.clone(), parts.places.clone());
        let (orders, published) = (inbox.clone(), coverage.clone());
        let name = if root.is_none() { "dagd-watch" } else { "dagd-watch-root" };
        let thread = Builder::new().name(name.to_owned()).spawn(move || {
            let Some(desk) = me.upgrade() else { return };
            Worker::new(number, orders.clone(), reporter, places.clone(), desk, published).run();
            orders.close();
            places.leave_all(number);
        })?;
        state.workers += 1;
        let root = root.map(Path::to_owned);
        Ok(Staff { number, root, inbox, stop, coverage, pulse, thread })
    }

    /// Hands an order to the worker that serves its trigger; never waits.
    pub fn send(&self, to: ToWatch) {
        let mut state = self.lock();
        state.standing.note(&to);
        if let Some(staff) = state.server(to.trigger()) {
            staff.inbox.order(Order::To(to));
        }
    }

    /// Hands over an order that came to a worker which does not serve its trigger any more.
    pub fn forward(&self, from: u64, to: ToWatch) {
        let state = self.lock();
        if let Some(staff) = state.server(to.trigger()).filter(|staff| staff.number != from) {
            staff.inbox.order(Order::To(to));
        }
    }

    /// Arms triggers; returns the number with which all that is found under them will be told.
    /// `ack` hears when all directories under roots that answer are covered; it is dropped when
    /// another one comes before that.
    pub fn arm(&self, specs: Vec<Arc<TriggerSpec>>, ack: Option<Sender<()>>) -> u64 {
        let mut state = self.lock();
        let root = |name: &Name, of: &[Arc<TriggerSpec>]| {
            let spec = of.iter().find(|spec| spec.name == *name)?;
            spec.folder().map(|folder| folder.root.clone())
        };
        let before = mem::replace(&mut state.specs, specs);
        let State { specs, standing, apart, others, left, ended, .. } = &mut *state;
        // Until it is joined, a thread keeps its stack.
        for thread in left.extract_if(.., |thread| thread.is_finished()) {
            *ended = mem::replace(ended, Ok(())).and(thread.join());
        }
        // What was asked for a folder that the trigger no longer has is void.
        let stays =
            |name: &Name| root(name, specs).is_some_and(|now| root(name, &before) == Some(now));
        standing.retain(stays);
        let roots: BTreeSet<&Path> =
            specs.iter().filter_map(|spec| Some(spec.folder()?.root.as_path())).collect();
        apart.retain(|root| roots.contains(root.as_path()));
        let stays = |staff: &Staff| staff.root.as_ref().is_some_and(|root| apart.contains(root));
        for staff in others.extract_if(.., |staff| !stays(staff)) {
            staff.end();
            left.push(staff.thread);
        }
        state.armed += 1;
        let number = state.armed;
        state.ack = ack.map(|ack| (number, ack)).or(state.ack.take());
        for staff in state.staffs() {
            staff.brief(number, state.specs_of(staff));
        }
        number
    }

    /// All that the main worker was armed with, up to this number, is covered.
    pub fn covered(&self, number: u64) {
        if let Some((_, ack)) = self.lock().ack.take_if(|(asked, _)| *asked <= number) {
            // Whoever asked may have given up.
            ack.send(()).ok();
        }
    }

    /// Ends all threads; the calls that some are in may go on for ever.
    pub fn stop(&self) {
        self.lock().stop();
    }

    /// The root of a trigger may hang: from now on a worker of its own serves it, unless nobody has
    /// to any more. Errors: there is no thread for it.
    pub fn set_apart(&self, trigger: &Name) -> io::Result<()> {
        let mut state = self.lock();
        let root = state.root_of(trigger);
        root.map_or(Ok(()), |root| self.part(&mut state, &root))
    }

    fn part(&self, state: &mut State, root: &Path) -> io::Result<()> {
        if state.stopped || state.apart.contains(root) {
            return Ok(());
        }
        let staff = self.hire(state, Some(root))?;
        state.apart.insert(root.to_path_buf());
        state.armed += 1;
        staff.instruct(state.armed, state.specs_of(&staff), &state.standing);
        state.others.push(staff);
        Ok(())
    }

    /// The alarm has rung: whoever hangs is left behind. Returns whether anybody is at work, so
    /// that it has to be set again.
    pub fn check(&self) -> bool {
        let mut state = self.lock();
        let hangs = state.main.as_ref().and_then(|main| main.hangs(HUNG));
        if let Some((trigger, _)) = hangs
            && let Err(error) = self.leave_main(&mut state, &trigger)
        {
            tracing::warn!(%error, "no thread to go on beside a folder that hangs, trying again");
            return true;
        }
        state.staffs().any(|staff| staff.pulse.touched().is_some_and(|(_, since)| since < HUNG))
    }

    /// The main worker hangs: another one goes on with all roots but the one that does not answer,
    /// if that is still wanted. Errors: there is no thread for one of them.
    fn leave_main(&self, state: &mut State, trigger: &Name) -> io::Result<()> {
        // First, or the new one would hang as well.
        if let Some(root) = state.root_of(trigger) {
            self.part(state, &root)?;
        }
        let new = self.hire(state, None)?;
        tracing::warn!(trigger = &**trigger, "a folder does not answer");
        if let Some(old) = state.main.take() {
            old.pulse.abandon();
            old.end();
            state.parts.places.leave_all(old.number);
            state.left.push(old.thread);
        }
        state.armed += 1;
        new.instruct(state.armed, state.specs_of(&new), &state.standing);
        state.main = Some(new);
        Ok(())
    }

    /// How well each trigger is covered, as last published, and what does not answer.
    pub fn coverage(&self) -> Vec<Coverage> {
        let state = self.lock();
        state.staffs().flat_map(|staff| staff.coverage(&state.specs_of(staff), HUNG)).collect()
    }

    /// Waits for the workers to end, apart from those that hang. A worker that panicked is told.
    pub fn close(&self) -> thread::Result<()> {
        let mut state = self.lock();
        let (main, others) = (state.main.take(), mem::take(&mut state.others));
        let left = mem::take(&mut state.left);
        let ended = mem::replace(&mut state.ended, Ok(()));
        drop(state);
        let staffs: Vec<Staff> = main.into_iter().chain(others).collect();
        let deadline = Instant::now() + END_MAX * 10;
        while staffs
            .iter()
            .any(|staff| !staff.thread.is_finished() && staff.hangs(END_MAX).is_none())
            && Instant::now() < deadline
        {
            // A worker ends at its next step; one that hangs tells nobody when it would.
            thread::sleep(Duration::from_millis(1));
        }
        let threads = staffs.into_iter().map(|staff| staff.thread).chain(left);
        threads.filter(JoinHandle::is_finished).map(JoinHandle::join).fold(ended, Result::and)
    }

    // lock: see the field
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn staffs(&self) -> impl Iterator<Item = &Staff> {
        self.main.iter().chain(&self.others)
    }

    fn stop(&mut self) {
        self.stopped = true;
        self.staffs().for_each(Staff::end);
        self.parts.places.stop();
    }

    /// The folder of a trigger, if it is still configured.
    fn root_of(&self, trigger: &Name) -> Option<PathBuf> {
        let spec = self.specs.iter().find(|spec| spec.name == *trigger)?;
        spec.folder().map(|folder| folder.root.clone())
    }

    /// The worker that serves a trigger.
    fn server(&self, trigger: &Name) -> Option<&Staff> {
        let spec = self.specs.iter().find(|spec| spec.name == *trigger)?;
        self.staffs().find(|staff| staff.serves(spec, &self.apart))
    }

    /// The triggers that a worker serves.
    fn specs_of(&self, staff: &Staff) -> Vec<Arc<TriggerSpec>> {
        self.specs.iter().filter(|spec| staff.serves(spec, &self.apart)).cloned().collect()
    }
}
