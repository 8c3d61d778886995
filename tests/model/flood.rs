//! A flood becomes back-pressure.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use dagd::core::candidate::{Disk, Observed, Origin, Probe, Seen, Version};
use dagd::core::effect::{Command, Out};
use dagd::core::event::Event;
use dagd::core::graph::Graph;
use dagd::core::id::{Now, RunId, Seq, Wall};
use dagd::core::machine::Machine;
use dagd::core::machine::lane::{ITEMS_MAX, READY_HIGH};
use dagd::core::model::Model;
use dagd::core::path::Bytes;
use dagd::core::record::{MoveResult, SignalInfo};
use dagd::core::selector::Selector;
use dagd::core::task::{Ended, Exit, TaskSpec};
use dagd::core::trigger::{Overlap, Source, TriggerSpec};

use super::machine;
use super::strategies::folder;

/// Files of the flood, and how many come at once.
const FILES: u64 = 5000;
const AT_ONCE: u64 = 100;

/// A machine with a drop folder, and what it has asked for.
struct Flood {
    machine: Machine,
    seq: u64,
    held: bool,
    holds: u32,
    ended: u64,
    running: Vec<RunId>,
    moves: Vec<(RunId, u32)>,
}

impl Flood {
    fn new() -> Self {
        let spec = TriggerSpec {
            name: "in".into(),
            source: Source::Folder(Box::new(folder())),
            select: Selector::task("a"),
            overlap: Overlap::Queue,
            max_runs: None,
            order_key: None,
            rate_limit: None,
            rev: "1".into(),
        };
        let model = Model {
            graph: Arc::new(Graph::build(vec![TaskSpec::new("a", Vec::new())]).expect("a graph")),
            triggers: [(spec.name.clone(), Arc::new(spec))].into(),
            pools: BTreeMap::new(),
            slots: 1,
            max_live_runs: 4,
            stop_timeout: Duration::ZERO,
        };
        Self {
            machine: machine(&Arc::new(model)),
            seq: 1,
            held: false,
            holds: 0,
            ended: 0,
            running: Vec::new(),
            moves: Vec::new(),
        }
    }

    fn step(&mut self, event: Event) {
        let mut out = Out::default();
        self.seq += 1;
        self.machine.step(Now::default(), Seq(self.seq), event, &mut out);
        for command in out.commands {
            match command {
                Command::Hold { .. } => (self.held, self.holds) = (true, self.holds + 1),
                Command::Release { .. } => self.held = false,
                Command::Start(start) => self.running.push(start.id.run),
                Command::Move(order) => self.moves.push((order.run, order.file)),
                Command::Finished { .. } => self.ended += 1,
                _ => {}
            }
        }
        self.machine.forget();
        self.machine.check_limits();
    }

    fn arrive(&mut self, from: u64) {
        let version = Version { file: "i".into(), size: 1, mtime_ns: 1 };
        let seen = (from..from + AT_ONCE).map(|n| Seen {
            trigger: "in".into(),
            rel: Bytes::from(format!("{n:05}").as_str()),
            disk: Disk::File { version: version.clone(), probe: Probe::Free },
            row: None,
        });
        let (seq, origin) = (Seq(self.seq), Origin::Event);
        self.step(Event::Observed(Observed { seq, origin, seen: seen.collect() }));
    }

    /// The oldest run ends, and its file is moved.
    fn work(&mut self) {
        let run = self.running.remove(0);
        let id = self.machine.in_flight().keys().find(|id| id.run == run).copied();
        let id = id.expect("what was started is in flight");
        let ended = Ended::without_process(Exit::Code(0), Wall(0));
        self.step(Event::Ended { id, ended });
        while let Some((run, file)) = self.moves.pop() {
            let result = MoveResult::Moved("/done/x".into());
            self.step(Event::Moved { run, file, result });
        }
    }
}

/// The folder is the queue: above the mark a lane asks for no more, below it asks again.
#[test]
fn a_flood_becomes_back_pressure() {
    let mut flood = Flood::new();
    let (mut sent, mut most) = (0, 0);
    while flood.ended < FILES {
        if !flood.held && sent < FILES {
            flood.arrive(sent);
            sent += AT_ONCE;
        } else {
            flood.work();
        }
        most = most.max(flood.machine.lanes()["in"].candidates.len());
    }
    assert!(flood.holds > 1, "it held and released");
    assert!(most < READY_HIGH + 200, "at most a batch above the mark: {most}");
    assert!(flood.machine.lanes()["in"].candidates.is_empty());
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
        rev: "1".into(),
    };
    let model = Model {
        graph: Arc::new(Graph::build(vec![TaskSpec::new("a", Vec::new())]).expect("a graph")),
        triggers: [(spec.name.clone(), Arc::new(spec))].into(),
        pools: BTreeMap::new(),
        slots: 1,
        max_live_runs: 4,
        stop_timeout: Duration::ZERO,
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
