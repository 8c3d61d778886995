//! One world: a machine, the engine around it, and everything that can go wrong.
//!
//! The engine keeps its law: take a batch of events, step, commit the records, then act on the
//! commands. A crash may fall on every boundary.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use dagd::core::calendar::TimeMark;
use dagd::core::candidate::Stage;
use dagd::core::effect::{Command, Out, Reply};
use dagd::core::event::Event;
use dagd::core::id::{ItemId, Mono, Name, Now, RunId, Seq, Wall};
use dagd::core::machine::Machine;
use dagd::core::machine::lane::Lane;
use dagd::core::model::Model;
use dagd::core::path::Bytes;
use dagd::core::record::{ItemQueued, Reason, Record};
use dagd::core::trigger::{RateLimit, TriggerSpec};

use super::check::Checker;
use super::checks;
use super::disk::{Disk, Place};
use super::exec::Exec;
use super::models;
use super::rng::Rng;
use super::store::Store;
use super::trace::{short, shown};
use super::watch::{Job, Sight, Thread};

/// A shell that does not keep the law. Each must be found out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mutation {
    /// Commands are acted on before their records are committed.
    ActFirst,
    /// Processes of a killed daemon are not swept, and their results come through.
    Orphans,
    /// A result of an old attempt is taken for one of the current attempt.
    NoFencing,
    /// Events are taken before what ran in the past is gone.
    EarlyEvents,
}

#[expect(clippy::struct_excessive_bools, reason = "they have nothing to do with each other")]
pub(crate) struct World {
    pub(crate) rng: Rng,
    pub(crate) seed: u64,
    mutation: Option<Mutation>,
    pub(crate) now: u64,
    pub(crate) model: Arc<Model>,
    machine: Option<Machine>,
    pub(crate) store: Store,
    pub(crate) disk: Disk,
    pub(crate) threads: Vec<Thread>,
    pub(crate) exec: Exec,
    pub(crate) checker: Checker,
    pub(crate) asks: Vec<Event>,
    seq: u64,
    /// Whether faults are still injected.
    pub(crate) faulty: bool,
    pub(crate) stopping: bool,
    /// Its configuration changes all the time.
    pub(crate) restless: bool,
    /// A reload has changed limits: what was there before may exceed them.
    pub(crate) lax: bool,
    late_sweep: bool,
    pub(crate) deliveries: BTreeMap<(Name, Place, i64), u32>,
    /// Keys that a trigger has delivered.
    pub(crate) keyed: BTreeSet<(Name, Bytes)>,
    pub(crate) last_item: BTreeMap<Name, ItemId>,
    /// When runs started since their bucket was full, in nanoseconds, and under which limit.
    pub(crate) starts: BTreeMap<Name, (RateLimit, Vec<u64>)>,
    /// Every trigger that was ever configured, by revision.
    pub(crate) specs: BTreeMap<Arc<str>, Arc<TriggerSpec>>,
    /// Each of them, as it was before it was another one or went.
    pub(crate) former: BTreeMap<Name, Arc<TriggerSpec>>,
    pub(crate) accepted: BTreeSet<ItemId>,
    /// Occurrences that were accepted, by trigger and schedule, with how often.
    pub(crate) occurred: BTreeMap<(Name, Name), BTreeSet<i64>>,
    /// Up to where time is settled.
    pub(crate) marks: BTreeMap<Name, TimeMark>,
    /// Triggers whose silence was told, and no run of the other since.
    pub(crate) told: BTreeSet<Name>,
    pub(crate) crashes: u32,
    /// Files that were left out as duplicates.
    pub(crate) duplicates: u32,
    /// Runs of triggers that had left the configuration.
    pub(crate) drained: u32,
    /// Times that were set and made no version.
    pub(crate) stamps: u32,
    /// Names that looks are asked for.
    looks: BTreeSet<Bytes>,
    pub(crate) trace: Option<Vec<String>>,
    /// Hash of all record bytes, if it is asked for.
    pub(crate) hash: Option<u64>,
}

/// Something on the way failed as planned: the daemon is dead.
struct Crash;

impl World {
    pub(crate) fn new(seed: u64, mutation: Option<Mutation>) -> Self {
        let mut rng = Rng::new(seed);
        // One world in four has little but checks, and in one few things happen but many times
        // are set: a scan would tell what is to be told without it.
        let (checks, calm) = (seed % 4 == 3, seed % 4 == 2);
        let model =
            Arc::new(if checks { models::checks(&mut rng) } else { models::random(&mut rng) });
        let specs = model.triggers.values().map(|spec| (spec.rev.clone(), spec.clone())).collect();
        let threads = (0..=rng.below(2)).map(|_| Thread::default()).collect();
        Self {
            rng,
            seed,
            mutation,
            now: 1_000_000_000,
            model,
            machine: None,
            store: Store::default(),
            disk: Disk::new(checks, calm),
            threads,
            exec: Exec::default(),
            checker: Checker::default(),
            asks: Vec::new(),
            seq: 0,
            faulty: true,
            stopping: false,
            restless: seed % 4 == 1,
            lax: false,
            late_sweep: false,
            deliveries: BTreeMap::new(),
            keyed: BTreeSet::new(),
            last_item: BTreeMap::new(),
            starts: BTreeMap::new(),
            specs,
            former: BTreeMap::new(),
            accepted: BTreeSet::new(),
            occurred: BTreeMap::new(),
            marks: BTreeMap::new(),
            told: BTreeSet::new(),
            crashes: 0,
            duplicates: 0,
            drained: 0,
            stamps: 0,
            looks: BTreeSet::new(),
            trace: None,
            hash: None,
        }
    }

    pub(crate) fn machine(&self) -> &Machine {
        self.machine.as_ref().expect("the daemon runs")
    }

    pub(crate) fn now(&self) -> Now {
        let wall = Wall(1_700_000_000_000_000_000 + i64::try_from(self.now).expect("in this age"));
        Now { mono: Mono(self.now), wall, utc_offset_s: 3600 }
    }

    pub(crate) fn say(&mut self, what: impl FnOnce() -> String) {
        let at = self.now / 1_000_000;
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{at:>8} {}", what()));
        }
    }

    pub(crate) fn thread_of(&self, trigger: &Name) -> usize {
        trigger.bytes().map(usize::from).sum::<usize>() % self.threads.len()
    }

    /// The kernel hints at a place to everyone who watches it.
    pub(crate) fn hint(&mut self, place: &Place) {
        self.hint_at(place, false);
    }

    /// The same; `stamped`: it tells that nothing but attributes changed.
    pub(crate) fn hint_at(&mut self, place: &Place, stamped: bool) {
        if stamped && self.is_unsure(&place.1) {
            self.disk.doubt();
        }
        for trigger in self.model.triggers.keys() {
            let lost = self.faulty && self.rng.chance(if self.disk.calm { 1 } else { 10 });
            let at = trigger.bytes().map(usize::from).sum::<usize>() % self.threads.len();
            self.threads[at].hint(&self.model, trigger, place, (lost, stamped));
        }
        self.spread_doubt();
    }

    /// Whether a file is looked at again anyway, whatever is done to it, or a run for it is asked for by hand.
    fn is_unsure(&self, rel: &Bytes) -> bool {
        let changed = |lane: &Lane| {
            let candidate = lane.candidates.get(rel);
            candidate.is_some_and(|c| matches!(c.stage, Stage::Claimed { changed: true, .. }))
        };
        let asked = |item: &ItemQueued| item.files.iter().any(|file| file.rel == *rel);
        let Some(machine) = &self.machine else { return true };
        self.looks.contains(rel)
            || machine.lanes().values().any(changed)
            || machine.items().values().any(asked)
    }

    fn spread_doubt(&mut self) {
        for thread in &mut self.threads {
            if std::mem::take(&mut thread.doubt) {
                self.disk.doubt();
            }
        }
    }

    /// Starts the daemon: sweep, fold, finish, commit, act. It may be killed while it does.
    pub(crate) fn boot(&mut self) {
        loop {
            self.seq = 0;
            self.disk.doubt();
            self.stopping = false;
            self.starts.clear();
            for thread in &mut self.threads {
                *thread = Thread::default();
            }
            self.checker = Checker::default();
            if self.rng.chance(10) {
                self.exec.reboot(self.now().wall, &mut self.rng);
            }
            let orphans = self.mutation == Some(Mutation::Orphans);
            self.late_sweep = self.mutation == Some(Mutation::EarlyEvents);
            if !orphans && !self.late_sweep {
                self.exec.sweep();
            }
            self.exec.forget(orphans);
            if self.faulty && self.rng.chance(10) {
                self.crashes += 1;
                continue;
            }
            let mut out = Out::default();
            let mut recovering = self.store.fold(&self.model, self.seed, self.now());
            recovering.view().check_invariants();
            let flying: Vec<_> = recovering.view().in_flight().keys().copied().collect();
            for id in flying {
                recovering.found(id, self.exec.found(id, self.now().wall));
            }
            // The folders are watched before the first commit.
            self.look_early();
            let machine = recovering.finish(self.now(), Seq(1), &mut out);
            machine.check_invariants();
            self.exec.check_shutdown(&out.records);
            self.machine = Some(machine);
            self.say(|| "boot".to_owned());
            if self.commit_and_act(out).is_ok() {
                return;
            }
        }
    }

    fn crash(&mut self) -> Result<(), Crash> {
        let rest = if self.disk.calm { 5 } else { 25 };
        let seldom = !(self.disk.narrow || self.disk.calm) || self.rng.chance(rest);
        if self.faulty && seldom && self.rng.chance(2) {
            self.crashes += 1;
            self.machine = None;
            self.say(|| "crash".to_owned());
            return Err(Crash);
        }
        Ok(())
    }

    pub(crate) fn kill(&mut self) {
        self.crashes += 1;
        self.say(|| "kill -9".to_owned());
        self.machine = None;
        self.boot();
    }

    fn commit_and_act(&mut self, out: Out) -> Result<(), Crash> {
        let Out { records, commands } = out;
        if self.mutation == Some(Mutation::ActFirst) {
            self.act(commands)?;
            self.crash()?;
            self.commit(&records);
            return Ok(());
        }
        self.crash()?;
        self.commit(&records);
        self.crash()?;
        self.act(commands)
    }

    fn commit(&mut self, records: &[Record]) {
        if records.is_empty() {
            self.machine.as_mut().expect("the daemon runs").forget();
            return;
        }
        let machine = self.machine.take().expect("the daemon runs");
        for record in records {
            self.say(|| format!("  {}", short(record)));
            if let Some(hash) = &mut self.hash {
                let bytes = serde_json::to_vec(record).expect("a record is plain data");
                for byte in bytes {
                    *hash = (*hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
                }
            }
            checks::record(self, &machine, record);
            self.store.apply(record, |rev| machine.graph(rev).cloned());
        }
        self.machine = Some(machine);
        self.seq += 1;
        self.machine.as_mut().expect("the daemon runs").forget();
        if self.rng.chance(20) || self.trace.is_some() {
            checks::fold(self);
        }
    }

    fn act(&mut self, commands: Vec<Command>) -> Result<(), Crash> {
        for command in commands {
            self.crash()?;
            match command {
                Command::Start(start) => {
                    let id = start.id;
                    assert!(self.store.has_started(id), "the start of {id:?} is committed");
                    let spec = self.store.graphs[&start.run.rev].task(id.node);
                    assert_eq!(start.task, *spec, "an attempt is of the run's own graph");
                    let now = self.now().wall;
                    self.exec.start(&start, now, &mut self.rng);
                }
                Command::Stop { id, how } => {
                    self.say(|| format!("  ! {how:?} {}.{}.{}", id.run, id.node.0, id.attempt));
                    self.exec.stop(id, how);
                }
                Command::Move(order) => {
                    let planned = self.store.is_planned(order.run, order.file, order.phase);
                    assert!(planned, "a move is committed first");
                    self.exec.dispose_later(order);
                }
                Command::Look { trigger, rel } => {
                    self.say(|| format!("  ! look {trigger} {rel:?}"));
                    self.disk.doubt_at(&rel);
                    self.looks.insert(rel.clone());
                    self.job(&trigger.clone(), Job::Look(trigger, rel));
                }
                Command::Recheck { trigger, rel } => {
                    self.say(|| format!("  ! recheck {trigger} {rel:?}"));
                    self.job(&trigger.clone(), Job::Recheck(trigger, rel));
                }
                Command::Scan { trigger } => self.job(&trigger.clone(), Job::Scan(trigger)),
                Command::Count { trigger, limit } => {
                    self.job(&trigger.clone(), Job::Count(trigger, limit));
                }
                Command::Check(check) => self.checker.ask(*check),
                Command::Uncheck { trigger } => self.checker.forget(&trigger, &mut self.rng),
                Command::Alarm { trigger, rel, .. } => checks::alarm(self, &trigger, &rel),
                Command::Hold { trigger } => {
                    let at = self.thread_of(&trigger);
                    self.threads[at].held.insert(trigger);
                }
                Command::Release { trigger } => {
                    let at = self.thread_of(&trigger);
                    self.threads[at].held.remove(&trigger);
                }
                Command::Finished { run, state } => {
                    let ended = self.store.ended.get(&run).map(|ended| ended.state);
                    assert_eq!(ended, Some(state), "an end is committed before it is told");
                }
                Command::Reply { token, reply } => self.replied(token, &reply),
                Command::Exit => {
                    assert!(self.machine().is_stopping(), "it was asked to stop");
                    assert_eq!(self.exec.bound().count(), 0, "nothing runs at the exit");
                    self.say(|| "exit".to_owned());
                    self.machine = None;
                    return Err(Crash);
                }
            }
        }
        Ok(())
    }

    fn job(&mut self, trigger: &Name, job: Job) {
        let at = self.thread_of(trigger);
        self.threads[at].jobs.push_back(job);
    }

    fn replied(&mut self, token: u64, reply: &Reply) {
        self.say(|| format!("  ! reply {token}: {reply:?}"));
        match reply {
            Reply::Run(run) => assert!(self.store.facts.contains_key(run), "the run is committed"),
            Reply::Queued(item) => assert!(self.accepted.contains(item), "the item is committed"),
            Reply::Done | Reply::NotFound(_) | Reply::Refused(_) => {}
        }
    }

    /// The next event, from any of the queues.
    fn take(&mut self) -> Option<Event> {
        let due = self.is_due();
        let threads = self.threads.len();
        let start = self.rng.below(threads + 5);
        for turn in 0..threads + 5 {
            let from = (start + turn) % (threads + 5);
            let event = match from.checked_sub(threads) {
                None => self.threads[from].out.pop_front(),
                Some(0) => self.exec.out.pop_front(),
                Some(1) => self.exec.moved.pop_front(),
                Some(2) => self.checker.out.pop_front(),
                Some(3) => due.then_some(Event::Tick),
                Some(_) => (!self.asks.is_empty()).then(|| self.asks.remove(0)),
            };
            if event.is_some() {
                return event;
            }
        }
        None
    }

    /// Whether a deadline or an occurrence is due.
    fn is_due(&self) -> bool {
        let occurrence = self.machine().next_occurrence();
        self.machine().next_deadline().is_some_and(|at| at.0 <= self.now)
            || occurrence.is_some_and(|at| at <= self.now().wall)
    }

    pub(crate) fn has_events(&self) -> bool {
        self.is_due()
            || !self.asks.is_empty()
            || !self.checker.out.is_empty()
            || !self.exec.out.is_empty()
            || !self.exec.moved.is_empty()
            || self.threads.iter().any(|thread| !thread.out.is_empty())
    }

    /// One turn of the engine. Boots anew if it is killed or exits.
    pub(crate) fn turn(&mut self) {
        if self.turn_or_crash().is_err() {
            self.boot();
        }
    }

    fn turn_or_crash(&mut self) -> Result<(), Crash> {
        if self.late_sweep && self.rng.chance(30) {
            self.exec.sweep();
            self.late_sweep = false;
        }
        let most = 1 + self.rng.below(3);
        let mut out = Out::default();
        for at in 0..most {
            let Some(event) = self.take() else { break };
            if at > 0 && matches!(event, Event::Reloaded(_)) {
                // A configuration has a turn of its own, so that records can be checked by it.
                self.asks.insert(0, event);
                break;
            }
            let last = matches!(event, Event::Reloaded(_));
            let event = self.relabelled(event);
            self.say(|| format!("> {}", shown(&event)));
            if let Event::Reloaded(model) = &event {
                let rev = |of: &Model, name: &Name| of.triggers.get(name).map(|t| t.rev.clone());
                let names = self.model.triggers.keys().chain(model.triggers.keys());
                let changed = names.filter(|name| rev(&self.model, name) != rev(model, name));
                let changed: BTreeSet<Name> = changed.cloned().collect();
                for thread in &mut self.threads {
                    thread.rearm(&changed);
                }
                // One that is gone keeps its limit until it is back with another one.
                self.starts.retain(|name, (limit, _)| {
                    model.triggers.get(name).is_none_or(|spec| spec.rate_limit == Some(*limit))
                });
                let specs = model.triggers.values();
                self.specs.extend(specs.map(|spec| (spec.rev.clone(), spec.clone())));
                self.former.extend(self.model.triggers.clone());
                self.model = model.clone();
                self.lax = true;
                self.look_early();
            }
            if let Event::Observed(observed) = &event {
                self.looks.retain(|rel| observed.seen.iter().all(|seen| seen.rel != *rel));
            }
            if matches!(event, Event::Scanned { .. } | Event::Reloaded(_)) {
                self.disk.doubt();
            }
            self.stopping |= matches!(event, Event::StopRequested);
            let (now, seq) = (self.now(), Seq(self.seq + 1));
            let machine = self.machine.as_mut().expect("the daemon runs");
            machine.step(now, seq, event, &mut out);
            machine.check_invariants();
            machine.check_draining();
            if !self.lax {
                machine.check_limits();
            }
            if last {
                break;
            }
        }
        self.commit_and_act(out)?;
        checks::turn(self);
        Ok(())
    }

    fn relabelled(&self, event: Event) -> Event {
        match event {
            Event::Ended { id, ended } if self.mutation == Some(Mutation::NoFencing) => {
                let same = |a: &&_| {
                    let a: &dagd::core::id::AttemptId = a;
                    a.run == id.run && a.node == id.node
                };
                let current = self.machine().in_flight().keys().find(same).copied();
                Event::Ended { id: current.unwrap_or(id), ended }
            }
            other => other,
        }
    }

    pub(crate) fn watch_step(&mut self, at: usize) {
        let sight =
            Sight { disk: &self.disk, store: &self.store, model: &self.model, seq: Seq(self.seq) };
        self.threads[at].step(&mut self.rng, &sight);
        self.spread_doubt();
    }

    /// The watch side is told of a configuration before the records of its start are committed.
    fn look_early(&mut self) {
        let place = self.disk.files.keys().next().cloned();
        for _ in 0..self.rng.below(4) {
            if let Some(place) = &place {
                self.hint(place);
            }
            let at = self.rng.below(self.threads.len());
            self.watch_step(at);
        }
    }

    pub(crate) fn check_step(&mut self) {
        self.checker.step(&mut self.rng, &self.disk, &self.store, Seq(self.seq));
    }

    pub(crate) fn live_runs(&self) -> Vec<RunId> {
        self.machine().runs().keys().copied().collect()
    }
}

/// Whether a run was made by the disk, and for the first time.
pub(crate) fn is_delivery(reason: Reason, again: bool) -> bool {
    matches!(reason, Reason::Event | Reason::Scan) && !again
}
