//! A flood becomes back-pressure.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use dagd::core::candidate::{Disk, Observed, Origin, Probe, Seen, Version};
use dagd::core::disposition::{Disposed, MoveResult, Phase};
use dagd::core::effect::{Command, Out};
use dagd::core::event::{Event, Fire, FireWhat, Request};
use dagd::core::filter::{KeyPattern, Pattern};
use dagd::core::graph::Graph;
use dagd::core::id::{Now, RunId, Seq, Wall};
use dagd::core::machine::Machine;
use dagd::core::machine::lane::{CANDIDATES_MAX, ITEMS_MAX, READY_HIGH, READY_LOW, STUCK_MAX};
use dagd::core::model::Model;
use dagd::core::path::Bytes;
use dagd::core::record::{Record, SignalInfo};
use dagd::core::selector::Selector;
use dagd::core::task::{Ended, Exit, TaskSpec};
use dagd::core::trigger::{FanOut, FolderSpec, Overlap, Source, TriggerSpec};

use super::machine;
use super::strategies::folder;

/// How many files come at once.
const AT_ONCE: u64 = 100;

/// A machine with a drop folder, and what it has asked for.
struct Flood {
    machine: Machine,
    now: Now,
    seq: u64,
    held: bool,
    holds: u32,
    delivered: u64,
    ended: u64,
    running: Vec<RunId>,
    moves: Vec<(RunId, u32)>,
    /// What was delivered.
    gone: BTreeSet<Bytes>,
    /// Whether it wants to see all of that once more.
    scan: bool,
}

impl Flood {
    fn new(folder: FolderSpec) -> Self {
        Self::with(folder, Overlap::Queue)
    }

    fn with(folder: FolderSpec, overlap: Overlap) -> Self {
        let spec = TriggerSpec {
            name: "in".into(),
            source: Source::Folder(Box::new(folder)),
            select: Selector::task("a"),
            overlap,
            max_runs: None,
            order_key: None,
            rate_limit: None,
            on_removal: dagd::core::bound::OnRemoval::default(),
            rev: "1".into(),
        };
        let model = Model {
            graph: Arc::new(Graph::build(vec![TaskSpec::new("a", Vec::new())]).expect("a graph")),
            triggers: [(spec.name.clone(), Arc::new(spec))].into(),
            pools: BTreeMap::new(),
            slots: 1,
            max_live_runs: 4,
            stop_timeout: Duration::ZERO,
            can_leave: false,
        };
        Self {
            machine: machine(&Arc::new(model)),
            now: Now::default(),
            seq: 1,
            held: false,
            holds: 0,
            delivered: 0,
            ended: 0,
            running: Vec::new(),
            moves: Vec::new(),
            gone: BTreeSet::new(),
            scan: false,
        }
    }

    fn step(&mut self, event: Event) {
        let mut out = Out::default();
        self.seq += 1;
        self.machine.step(self.now, Seq(self.seq), event, &mut out);
        for record in out.records {
            if let Record::RunCreated(created) = record {
                self.delivered += created.files.len() as u64;
                self.gone.extend(created.files.into_iter().map(|file| file.rel));
            }
        }
        for command in out.commands {
            match command {
                Command::Hold { .. } => (self.held, self.holds) = (true, self.holds + 1),
                Command::Release { .. } => self.held = false,
                Command::Scan { .. } => self.scan = true,
                Command::Start(start) => self.running.push(start.id.run),
                Command::Move(order) => self.moves.push((order.run, order.file)),
                Command::Finished { .. } => self.ended += 1,
                _ => {}
            }
        }
        self.machine.forget();
        self.machine.check_limits();
    }

    fn arrive(&mut self, from: u64, name: fn(u64) -> String) {
        self.arrive_some(from, AT_ONCE, name);
    }

    fn arrive_some(&mut self, from: u64, many: u64, name: fn(u64) -> String) {
        let version = Version { file: "i".into(), size: 1, mtime_ns: 1 };
        let rels = (from..from + many).map(|n| Bytes::from(name(n).as_str()));
        let seen = rels.filter(|rel| !self.gone.contains(rel)).map(|rel| Seen {
            trigger: "in".into(),
            rel,
            disk: Disk::File { version: version.clone(), probe: Probe::Free },
            row: None,
        });
        let (seq, origin, seen) = (Seq(self.seq), Origin::Event, seen.collect());
        self.step(Event::Observed(Observed { seq, origin, seen }));
    }

    /// The oldest run ends, and its files are moved. Without one, time passes.
    fn work(&mut self) {
        if self.running.is_empty() {
            let due = self.machine.next_deadline().expect("something is due, or all is done");
            self.now.mono = self.now.mono.max(due);
            return self.step(Event::Tick);
        }
        let run = self.running.remove(0);
        let id = self.machine.in_flight().keys().find(|id| id.run == run).copied();
        let id = id.expect("what was started is in flight");
        let ended = Ended::without_process(Exit::Code(0), Wall(0));
        self.step(Event::Ended { id, ended });
        while let Some((run, file)) = self.moves.pop() {
            let outcome = Disposed::Done(MoveResult::Deleted);
            self.step(Event::Moved { run, file, phase: Phase::After, outcome });
        }
    }

    /// Lets `files` come as fast as it takes them. Returns the most candidates at a time.
    fn run(&mut self, files: u64, name: fn(u64) -> String) -> usize {
        let (mut sent, mut most) = (0, 0);
        while self.delivered < files || !self.running.is_empty() {
            if !self.held && sent < files {
                self.arrive(sent, name);
                sent += AT_ONCE;
            } else {
                self.work();
            }
            most = most.max(self.machine.lanes()["in"].candidates.len());
        }
        assert!(self.machine.lanes()["in"].candidates.is_empty(), "all was delivered");
        assert_eq!(self.delivered, files, "nothing was delivered twice");
        self.machine.check_invariants();
        most
    }
}

fn grouped(fan_out: FanOut) -> FolderSpec {
    FolderSpec { fan_out, batch_max_files: 100, ..folder() }
}

/// The folder is the queue: above the mark a lane asks for no more, below it asks again.
#[test]
fn a_flood_becomes_back_pressure() {
    let mut flood = Flood::new(folder());
    let most = flood.run(5000, |n| format!("{n:05}"));
    assert!(flood.holds > 1, "it held and released");
    assert!(most < READY_HIGH + 200, "at most what came at once above the mark: {most}");
}

#[test]
fn a_full_lane_asks_again_when_half_of_it_has_gone() {
    let mut flood = Flood::new(folder());
    let queued = |flood: &Flood| flood.machine.lanes()["in"].queued();
    let mut from = 0;
    while !flood.held {
        assert!(queued(&flood) < READY_HIGH);
        flood.arrive(from, |n| format!("{n:05}"));
        from += AT_ONCE;
    }
    assert!(queued(&flood) >= READY_HIGH);
    while flood.held {
        assert!(queued(&flood) >= READY_LOW, "{}", queued(&flood));
        flood.work();
    }
    assert_eq!((queued(&flood), flood.holds), (READY_LOW - 1, 1));
}

#[test]
fn a_flood_of_batches_becomes_back_pressure() {
    let mut flood = Flood::new(grouped(FanOut::Batch));
    let most = flood.run(10_000, |n| format!("{n:05}"));
    assert!(flood.holds > 1, "it held and released");
    assert!(
        most < READY_HIGH + 4 * 100 + 200,
        "what is gathered or claimed above the mark: {most}"
    );
    assert_eq!(flood.ended, 100, "the batches are full");
}

/// Folders whose files are not all there yet do not keep the others from coming, and are bounded by
/// themselves.
#[test]
fn a_flood_of_folders_becomes_back_pressure() {
    let mut flood = Flood::new(grouped(FanOut::Dir));
    let most = flood.run(80_000, |n| format!("{:04}/{n:05}", n / 20));
    assert!(flood.holds > 0, "it held");
    assert!(most <= CANDIDATES_MAX + 100, "at most what came at once above the bound: {most}");
    assert_eq!(flood.ended, 4000, "a run for each folder");
}

#[test]
fn ten_thousand_keys_each_have_their_run() {
    let set_key = Some(KeyPattern::new("^[0-9]+").expect("an expression"));
    let mut flood = Flood::new(FolderSpec { set_key, ..grouped(FanOut::Key) });
    // The files of a key come far from each other.
    flood.run(20_000, |n| format!("{:05}.{}", n % 10_000, n / 10_000));
    assert_eq!(flood.ended, 10_000);
}

/// A full lane could never get what completes its sets.
#[test]
fn incomplete_sets_do_not_hold_up_what_completes_them() {
    let mut spec = grouped(FanOut::Key);
    spec.set_key = Some(KeyPattern::new("^[0-9]+").expect("an expression"));
    spec.set = ["*.x", "*.y"].map(|text| Pattern::new(text).expect("a pattern")).into();
    spec.batch_max_wait = None;
    let mut flood = Flood::new(spec);
    let half = 2 * READY_HIGH as u64;
    for from in (0..half).step_by(100) {
        flood.arrive(from, |n| format!("{n:05}.x"));
    }
    let lane = &flood.machine.lanes()["in"];
    assert!(lane.incomplete() >= 2 * READY_HIGH && lane.queued() == 0);
    assert_eq!((flood.holds, flood.delivered), (0, 0), "it waits, and takes more");
    for from in (0..half).step_by(100) {
        flood.arrive(from, |n| format!("{n:05}.y"));
    }
    assert!(flood.holds == 1, "what is complete counts");
    while !flood.machine.lanes()["in"].candidates.is_empty() {
        flood.work();
    }
    assert_eq!(flood.delivered, 2 * half.next_multiple_of(100));
}

/// More than a lane has room for wait for what completes them: it is delivered when that comes.
#[test]
fn sets_that_fill_a_lane_are_delivered_in_time() {
    let mut spec = grouped(FanOut::Key);
    spec.set_key = Some(KeyPattern::new("^[0-9]+").expect("an expression"));
    spec.set = ["*.x", "*.y"].map(|text| Pattern::new(text).expect("a pattern")).into();
    spec.batch_max_wait = None;
    let mut flood = Flood::new(spec);
    let keys = (CANDIDATES_MAX as u64 + 5000).next_multiple_of(AT_ONCE);
    // One folder, in which all of the one kind are found before all of the other.
    let name = |n: u64| format!("{:05}.{}", n % 70_600, if n < 70_600 { "x" } else { "y" });
    assert_eq!(keys, 70_600);
    let mut passes = 0;
    while flood.delivered < 2 * keys {
        assert!(
            flood.scan || passes == 0,
            "{} are left, and nobody looks",
            2 * keys - flood.delivered
        );
        (flood.scan, passes) = (false, passes + 1);
        for from in (0..2 * keys).step_by(100) {
            while flood.held {
                flood.work();
            }
            flood.arrive(from, name);
        }
        while !flood.running.is_empty() {
            flood.work();
        }
    }
    assert!(passes <= 4, "{passes}");
    flood.machine.check_invariants();
}

/// A file that makes another one give way takes a place among the events that wait: when there is
/// none, no more files are asked for. Starts by hand fill them here, as that is faster.
#[test]
fn a_flood_of_files_that_give_way_becomes_back_pressure() {
    let mut flood = Flood::with(folder(), Overlap::Restart);
    let name = |n: u64| format!("{n:05}");
    flood.arrive_some(0, 1, name);
    for token in 1..=ITEMS_MAX as u64 {
        assert!(!flood.held);
        let fire = Fire { what: FireWhat::Trigger("in".into()), files: Vec::new() };
        flood.step(Event::Requested { token, request: Request::Fire(fire) });
    }
    assert!(flood.held && flood.machine.items().len() == ITEMS_MAX, "one more would be too many");
    while flood.held {
        flood.work();
    }
    assert!(flood.machine.items().len() < ITEMS_MAX, "there is room for as many as may come");
}

/// A machine with one slot and a signal trigger, to which twice as many signals have come as may
/// wait, none of which has ended its run; and when it first had no room.
fn signalled(overlap: Overlap) -> (Machine, Option<usize>) {
    let spec = TriggerSpec {
        name: "s".into(),
        source: Source::Signal { signo: 35, name: "SIGRTMIN+1".into(), sender_uid: Vec::new() },
        select: Selector::task("a"),
        overlap,
        max_runs: Some(1),
        order_key: None,
        rate_limit: None,
        on_removal: dagd::core::bound::OnRemoval::default(),
        rev: "1".into(),
    };
    let model = Model {
        graph: Arc::new(Graph::build(vec![TaskSpec::new("a", Vec::new())]).expect("a graph")),
        triggers: [(spec.name.clone(), Arc::new(spec))].into(),
        pools: BTreeMap::new(),
        slots: 1,
        max_live_runs: 4,
        stop_timeout: Duration::ZERO,
        can_leave: false,
    };
    let mut machine = machine(&Arc::new(model));
    let mut full = None;
    for came in 0..2 * ITEMS_MAX {
        if !machine.has_room_for_signals() {
            full = Some(came);
            break;
        }
        let info = SignalInfo::bare("SIGRTMIN+1");
        let event = Event::Signalled { trigger: "s".into(), info };
        machine.step(Now::default(), Seq(1), event, &mut Out::default());
        machine.forget();
    }
    (machine, full)
}

#[test]
fn signals_that_queue_stay_in_the_kernel_when_enough_wait() {
    let (machine, full) = signalled(Overlap::Queue);
    // One more has its run.
    assert_eq!(full, Some(ITEMS_MAX + 1));
    assert_eq!(machine.items().len(), ITEMS_MAX);
}

#[test]
fn signals_that_merge_never_fill_the_memory() {
    let (machine, full) = signalled(Overlap::Coalesce);
    assert_eq!(full, None, "there is always room");
    assert_eq!(machine.items().len(), ITEMS_MAX);
}

/// What was selected once by hand is not remembered for ever.
#[test]
fn plans_of_many_selections_are_forgotten() {
    let mut flood = Flood::new(folder());
    for n in 0..3000 {
        let select = Selector::parse(&format!("{n}+a")).unwrap();
        let request = Request::Fire(Fire { what: FireWhat::Select(select), files: Vec::new() });
        flood.step(Event::Requested { token: n, request });
        flood.work();
    }
    assert_eq!(flood.ended, 3000);
    flood.machine.check_invariants();
}

/// What cannot be moved stays in its folder: the trigger gets no more, and nobody else waits.
#[test]
fn a_target_that_is_away_stops_its_own_trigger_only() {
    let mut flood = Flood::new(folder());
    flood.arrive(0, |n| format!("{n:03}"));
    while let Some(run) = flood.running.pop() {
        let id = flood.machine.in_flight().keys().find(|id| id.run == run).copied().unwrap();
        flood.step(Event::Ended { id, ended: Ended::without_process(Exit::Code(0), Wall(0)) });
        while let Some((run, file)) = flood.moves.pop() {
            let outcome = Disposed::NotYet("the target is away".to_owned());
            flood.step(Event::Moved { run, file, phase: Phase::After, outcome });
        }
    }
    let live = flood.machine.runs().len();
    // Those that had begun by then come on top: all but one, as the last one makes it so many.
    assert_eq!(live, STUCK_MAX + 3, "it stops when so many cannot be moved");
    flood.step(Event::Requested {
        token: 1,
        request: Request::Fire(Fire {
            what: FireWhat::Select(Selector::task("a")),
            files: Vec::new(),
        }),
    });
    assert_eq!(flood.running.len(), 1, "others run");
    flood.work();
    flood.machine.check_invariants();
    while flood.machine.stuck().next().is_some() || !flood.running.is_empty() {
        flood.work();
        while let Some((run, file)) = flood.moves.pop() {
            let outcome = Disposed::Done(MoveResult::Deleted);
            flood.step(Event::Moved { run, file, phase: Phase::After, outcome });
        }
    }
    assert_eq!((flood.delivered, flood.ended), (AT_ONCE, AT_ONCE + 1), "all once it is back");
    flood.machine.check_invariants();
}
