//! Properties of the pure core against naive models: runs against an oracle, selectors as an
//! algebra, texts and bytes from anywhere, records there and back.

#[path = "model/flood.rs"]
mod flood;
#[path = "sim/oracle.rs"]
#[expect(dead_code, reason = "the simulator uses more of it")]
mod oracle;
#[path = "sim/store.rs"]
#[expect(dead_code, reason = "the simulator uses more of it")]
mod store;
#[path = "model/strategies.rs"]
mod strategies;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use dagd::core::candidate::{
    Decision, Disk, Kind, Pending, Probe, Readiness, Row, Seen, Version, decide,
};
use dagd::core::effect::{Command, Out};
use dagd::core::event::{Event, Fire, FireWhat, Request};
use dagd::core::filter::Filter;
use dagd::core::graph::Graph;
use dagd::core::id::{ItemId, Mono, NodeIx, Now, RunId, Seq, Wall};
use dagd::core::machine::{Machine, Recovering, Start};
use dagd::core::model::Model;
use dagd::core::path::Bytes;
use dagd::core::record::Record;
use dagd::core::selector::Selector;
use dagd::core::sidecar::Sidecar;
use dagd::core::task::{Ended, Exit, SkipCause, Tally, TaskState};
use dagd::core::template::{Slot, Template};
use dagd::core::trigger::{FanOut, FileType, FolderSpec, ReadLock};
use proptest::collection::vec;
use proptest::prelude::*;

use strategies::{any_candidate, any_record, any_seen, any_selector, folder, graphs};

fn machine(model: &Arc<Model>) -> Machine {
    let start = Start {
        model: model.clone(),
        graphs: Vec::new(),
        next_run: RunId(1),
        next_item: ItemId(0),
        triggers: Vec::new(),
        durations: BTreeMap::new(),
        seed: 1,
    };
    Recovering::new(start).finish(Now::default(), Seq(1), &mut Out::default())
}

fn bare(graph: Graph, slots: usize) -> Arc<Model> {
    Arc::new(Model {
        graph: Arc::new(graph),
        triggers: BTreeMap::new(),
        pools: BTreeMap::new(),
        slots,
        max_live_runs: 8,
        stop_timeout: Duration::ZERO,
        can_leave: false,
    })
}

fn fire(machine: &mut Machine, select: Selector, out: &mut Out) {
    let fire = Fire { what: FireWhat::Select(select), files: Vec::new() };
    let event = Event::Requested { token: 1, request: Request::Fire(fire) };
    machine.step(Now::default(), Seq(1), event, out);
}

proptest! {
    #[test]
    fn final_states_are_those_of_the_oracle_in_any_order(
        graph in graphs(12),
        select in any_selector(),
        codes in vec(prop_oneof![4 => Just(0), 2 => Just(1), 1 => Just(99)], 12),
        order in vec(any::<u8>(), 12),
        slots in 1usize..4,
    ) {
        let model = bare(graph, slots);
        let select = Selector::parse(&select).unwrap();
        let plan = model.graph.plan(&select);
        let mut machine = machine(&model);
        let mut out = Out::default();
        fire(&mut machine, select, &mut out);
        let (mut running, mut given, mut ended) = (Vec::new(), BTreeMap::new(), None);
        for turn in 0.. {
            machine.check_invariants();
            for record in &out.records {
                if let Record::RunEnded { run, state, .. } = record {
                    let states: Vec<_> =
                        machine.run(*run).unwrap().nodes().iter().map(|node| node.state).collect();
                    ended = Some((states, *state));
                }
            }
            for command in std::mem::take(&mut out).commands {
                if let Command::Start(start) = command {
                    running.push(start.id);
                }
            }
            machine.forget();
            if running.is_empty() {
                break;
            }
            let at = usize::from(order[turn % order.len()]) % running.len();
            let id = running.swap_remove(at);
            let code = codes[id.node.at() % codes.len()];
            let state = match code {
                0 => TaskState::Succeeded,
                99 => TaskState::Skipped(SkipCause::ExitCode),
                _ => TaskState::Failed,
            };
            given.insert(id.node, state);
            let ended = Ended::without_process(Exit::Code(code), Wall(0));
            machine.step(Now::default(), Seq(1), Event::Ended { id, ended }, &mut out);
        }
        if plan.nodes().is_empty() {
            prop_assert_eq!(ended, None);
        } else {
            let expected = oracle::expect(&model.graph, &plan, &given);
            // What the oracle would have run ran, and nothing else.
            for (node, state) in plan.nodes().iter().zip(&expected.0) {
                prop_assert!(*state != TaskState::Waiting, "{:?} ran", node.ix);
            }
            prop_assert_eq!(ended, Some(expected));
        }
    }

    #[test]
    fn selectors_are_an_algebra(graph in graphs(12), a in any_selector(), b in any_selector()) {
        let eval = |text: &str| Selector::parse(text).unwrap().eval(&graph);
        let (one, two) = (eval(&a), eval(&b));
        prop_assert_eq!(eval(&format!("{a},{b}")), &one | &two);
        prop_assert_eq!(eval(&format!("({a})&({b})")), &one & &two);
        prop_assert_eq!(eval(&format!("{a},-({b})")), &one - &two);
        prop_assert_eq!(eval(&format!("({a})")), one.clone());
        prop_assert_eq!(eval(&format!("({a}),({a})")), one.clone());
        let down = eval(&format!("({a})+"));
        prop_assert!(down.is_superset(&one));
        prop_assert_eq!(graph.reach(&down, false, u32::MAX), down.clone());
        prop_assert_eq!(&eval(&format!("+({a})")) | &down, eval(&format!("+({a})+")));
        prop_assert_eq!(eval(&format!("@({a})")), graph.reach(&down, true, u32::MAX));
        let steps = (0..13).map(|n| eval(&format!("({a})+{n}"))).collect::<Vec<_>>();
        prop_assert!(steps.windows(2).all(|two| two[0].is_subset(&two[1])));
        prop_assert_eq!(steps.last(), Some(&down));
    }

    #[test]
    fn a_plan_is_what_lies_between(graph in graphs(12), select in any_selector()) {
        let select = Selector::parse(&select).unwrap();
        let chosen = select.eval(&graph);
        let plan = graph.plan(&select);
        let all: BTreeSet<NodeIx> = plan.nodes().iter().map(|node| node.ix).collect();
        prop_assert!(all.is_superset(&chosen));
        for node in plan.nodes() {
            prop_assert_eq!(node.pass, !chosen.contains(&node.ix));
            if node.pass {
                let alone = BTreeSet::from([node.ix]);
                prop_assert!(!graph.reach(&alone, true, u32::MAX).is_disjoint(&chosen));
                prop_assert!(!graph.reach(&alone, false, u32::MAX).is_disjoint(&chosen));
            }
        }
        let mut seen = BTreeSet::new();
        for &at in plan.topological() {
            prop_assert!(plan.nodes()[at as usize].needs.iter().all(|need| seen.contains(need)));
            seen.insert(at);
        }
        prop_assert_eq!(seen.len(), plan.nodes().len());
    }

    #[test]
    fn a_selector_is_any_text_or_an_error(text in "\\PC{0,40}", dense in "[-+@(),&:a*?0-9 t]{0,24}") {
        for text in [text, dense] {
            match Selector::parse(&text) {
                Ok(selector) => prop_assert_eq!(selector.text(), text),
                Err(error) => prop_assert!(text.is_char_boundary(error.at)),
            }
        }
    }

    #[test]
    fn a_template_that_is_filled_with_its_slots_is_its_text(
        text in "[{}a-z.: _%YmdQ]{0,40}",
        wild in "\\PC{0,40}",
    ) {
        for text in [text, wild] {
            let Ok(template) = Template::parse(&text) else { continue };
            let literal = template.expand(|slot| Some(slot.to_string().into_bytes())).unwrap();
            let literal = String::from_utf8(literal).unwrap();
            if !text.contains("{{") && !text.contains("{date}") {
                prop_assert_eq!(&literal, &text);
            }
            let json = serde_json::to_string(&template).unwrap();
            prop_assert_eq!(serde_json::from_str::<Template>(&json).unwrap(), template);
        }
    }

    #[test]
    fn a_template_passes_bytes_on(before in "[a-z]{0,5}", bytes in vec(any::<u8>(), 0..40)) {
        let template = Template::parse(&format!("{before}{{path}}{{rel}}")).unwrap();
        let filled = template.expand(|slot| (*slot == Slot::Path).then(|| bytes.clone()));
        prop_assert_eq!(filled, Err(Slot::Rel));
        let filled = template.expand(|_| Some(bytes.clone())).unwrap();
        prop_assert_eq!(filled, [before.as_bytes(), &bytes, &bytes].concat());
    }

    #[test]
    fn names_are_any_bytes(bytes in vec(any::<u8>(), 0..60), name in vec(any::<u8>(), 0..20)) {
        let path = Bytes::from(bytes.clone());
        let json = serde_json::to_string(&path).unwrap();
        prop_assert_eq!(serde_json::from_str::<Bytes>(&json).unwrap(), path.clone());
        let name: Vec<u8> = name.into_iter().filter(|&b| b != b'/').collect();
        if !name.is_empty() {
            let joined = path.join(&name);
            prop_assert_eq!(joined.name(), name.as_slice());
            prop_assert!(bytes.is_empty() || joined.as_bytes().starts_with(joined.dir()));
        }
        for (default_ignores, hidden) in [(true, false), (false, true), (true, true)] {
            let include = vec!["*".to_owned(), "**/*.x".to_owned()];
            let filter = Filter::new(include, vec!["b*".to_owned()], default_ignores, hidden);
            let filter = filter.unwrap();
            let out = filter.rejects(&path).is_some() || filter.prunes(&path);
            let dotted = bytes.split(|&b| b == b'/').any(|part| part.starts_with(b"."));
            prop_assert!(out || hidden || !dotted);
        }
    }

    #[test]
    fn a_decision_follows_from_disk_and_ledger(
        seen in any_seen(),
        live in proptest::option::of(any_candidate()),
        batch in any::<bool>(),
        settle in 0u64..3000,
        max_wait in proptest::option::of(0u64..3000),
        kinds in 1usize..8,
        hinted in any::<bool>(),
        now in any::<u64>(),
        (dir, done, lock) in (any::<bool>(), any::<bool>(), 0usize..4),
        (min_age, stable) in (0u64..3000, 0u64..3000),
        (min_size, max_size) in (0u64..2, 0u64..2),
    ) {
        let mut spec = folder();
        spec.file_type = if dir { FileType::Dir } else { FileType::File };
        spec.done_file = done.then(|| Sidecar::parse("_OK").unwrap());
        spec.read_lock =
            [ReadLock::Auto, ReadLock::Lease, ReadLock::Changed, ReadLock::None][lock];
        spec.min_age = Duration::from_millis(min_age);
        spec.stability_threshold = Duration::from_millis(stable);
        (spec.min_size, spec.max_size) = (min_size, max_size);
        spec.settle = Duration::from_millis(settle);
        spec.max_wait = max_wait.map(Duration::from_millis);
        spec.fan_out = if batch { FanOut::Batch } else { FanOut::File };
        let all = [Kind::Created, Kind::Modified, Kind::Deleted];
        spec.kinds = (0..3).filter(|at| kinds >> at & 1 == 1).map(|at| all[at]).collect();
        let open = seen.row.as_ref().filter(|row| row.open).map(|row| &row.version);
        let decision = decide(&spec, &seen, live.as_ref(), hinted, Mono(now));
        match (&seen.disk, decision) {
            (Disk::File { version, .. }, Decision::Nothing) => {
                prop_assert_eq!(open, Some(version));
            }
            (Disk::Absent | Disk::Other, Decision::Nothing) => prop_assert_eq!(open, None),
            (Disk::Absent | Disk::Other, Decision::Departed) => prop_assert!(open.is_some()),
            (Disk::File { version, .. }, Decision::Noted(noted)) => {
                prop_assert_eq!(&noted, version);
                prop_assert!(open != Some(version));
                let kind = if open.is_some() { Kind::Modified } else { Kind::Created };
                prop_assert!(!spec.kinds.contains(&kind));
            }
            (Disk::File { version, .. }, Decision::Ignored) => {
                prop_assert!(!(min_size..=max_size).contains(&version.size));
                prop_assert!(open != Some(version));
            }
            (Disk::File { version, probe }, Decision::Work(kind, work, readiness)) => {
                prop_assert_eq!(&work, version);
                prop_assert!((min_size..=max_size).contains(&version.size));
                let same = live.as_ref().filter(|live| live.version == *version);
                let seen = same.map_or(Duration::ZERO, |live| live.first_seen.until(Mono(now)));
                check_ready(&spec, *probe, seen, readiness)?;
                prop_assert!(spec.kinds.contains(&kind) || readiness != Readiness::Ready);
                prop_assert_eq!(kind == Kind::Modified, open.is_some());
            }
            (_, Decision::Work(kind, work, readiness)) => {
                prop_assert_eq!((kind, Some(&work)), (Kind::Deleted, open));
                prop_assert_eq!(readiness, Readiness::Ready);
            }
            (disk, decision) => prop_assert!(false, "{:?} gives {:?}", disk, decision),
        }
    }

    #[test]
    fn records_go_through_json(record in any_record()) {
        let json = serde_json::to_string(&record).unwrap();
        prop_assert_eq!(serde_json::from_str::<Record>(&json).unwrap(), record);
    }
}

/// What must hold of a file that was seen as this version for so long.
fn check_ready(
    spec: &FolderSpec,
    probe: Probe,
    seen: Duration,
    readiness: Readiness,
) -> Result<(), TestCaseError> {
    let wait = |reason, told: bool| matches!(readiness, Readiness::Wait(is, time) if is == reason && time.is_none() == told);
    if let Readiness::Wait(reason, time) = readiness {
        prop_assert_eq!(time.is_none(), reason.is_told(), "what nothing tells of is looked at");
        prop_assert!(time != Some(Duration::ZERO));
    }
    match probe {
        Probe::NotDone => prop_assert!(wait(Pending::DoneFile, true)),
        Probe::Unreachable => prop_assert!(wait(Pending::Unreachable, true)),
        Probe::WriterOpen => prop_assert!(wait(Pending::WriterOpen, false)),
        Probe::Unreadable => prop_assert!(wait(Pending::Unreadable, false)),
        Probe::Free | Probe::Unproved | Probe::NotAsked if readiness == Readiness::Ready => {
            prop_assert!(seen >= spec.min_age);
            let whole = spec.file_type == FileType::File || spec.done_file.is_some();
            let proved = probe == Probe::Free && whole && spec.read_lock != ReadLock::Changed;
            let asked = spec.read_lock != ReadLock::None;
            prop_assert!(proved || !asked || seen >= spec.stability_threshold);
        }
        Probe::Free | Probe::Unproved | Probe::NotAsked => {}
    }
    Ok(())
}

#[test]
fn every_final_state_counts_somehow() {
    for state in [TaskState::Failed, TaskState::TimedOut, TaskState::Lost] {
        assert!(state.is_failure());
        assert_eq!(state.tally(), Some(Tally::Failed));
    }
    for state in [TaskState::Waiting, TaskState::Ready, TaskState::Running, TaskState::Retrying] {
        assert!(!state.is_final());
        assert_eq!(state.tally(), None);
    }
}

/// A file that turned out to be another one when it was to be taken away leaves a row without a
/// version. Should it be unreadable just then, it is waited for all the same.
#[test]
fn what_cannot_be_looked_at_is_never_what_was_delivered() {
    let version = Version::unknown();
    let row = Some(Row { version: version.clone(), open: true, run: None });
    let disk = Disk::File { version, probe: Probe::Unreadable };
    let seen = Seen { trigger: "in".into(), rel: "a".into(), disk, row };
    let decision = decide(&folder(), &seen, None, true, Mono(0));
    let waits = |found: &Decision| {
        matches!(found, Decision::Work(_, _, Readiness::Wait(Pending::Unreadable, Some(_))))
    };
    assert!(waits(&decision), "{decision:?}");
}
