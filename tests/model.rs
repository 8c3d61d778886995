//! Properties of the pure core against naive models: runs against an oracle, selectors as an
//! algebra, texts and bytes from anywhere, records there and back.

#[path = "sim/oracle.rs"]
#[expect(dead_code, reason = "the simulator uses more of it")]
mod oracle;
#[path = "sim/store.rs"]
#[expect(dead_code, reason = "the simulator uses more of it")]
mod store;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use dagd::core::candidate::{
    Candidate, Decision, Disk, Kind, Observed, Origin, Pending, Probe, Readiness, Row, Seen, Stage,
    Version, decide,
};
use dagd::core::effect::{Command, Out};
use dagd::core::event::{Event, Fire, FireWhat, Request};
use dagd::core::graph::Graph;
use dagd::core::id::{Attempt, ItemId, Mono, Name, NodeIx, Now, Rev, RunId, Seq, Wall};
use dagd::core::machine::{Machine, Recovering, Start};
use dagd::core::model::Model;
use dagd::core::path::Bytes;
use dagd::core::record::{
    FileClaim, ItemQueued, MoveResult, Noted, Reason, Record, RunCreated, RunState, SignalInfo,
};
use dagd::core::selector::Selector;
use dagd::core::task::{
    Ended, Exit, Rule, SkipCause, StopCause, Tally, TaskSpec, TaskState, Verdict,
};
use dagd::core::template::{Slot, Template};
use dagd::core::trigger::{
    FanOut, Filter, Folder, FolderSpec, InitialScan, Overlap, ReadLock, Source, TriggerSpec,
};
use proptest::collection::vec;
use proptest::prelude::*;

const RULES: [Rule; 8] = [
    Rule::AllSuccess,
    Rule::AllDone,
    Rule::OneSuccess,
    Rule::OneFailed,
    Rule::AllFailed,
    Rule::NoneFailed,
    Rule::NoneFailedMinOneSuccess,
    Rule::Always,
];

/// A graph with random needs, rules and names: task `n` needs only tasks before it, and the order
/// of names is not the order of needs.
fn graphs(most: usize) -> impl Strategy<Value = Graph> {
    let task = (any::<u16>(), 0usize..16, any::<bool>());
    (vec(task, 1..most), any::<u64>()).prop_map(|(tasks, shuffle)| {
        let count = tasks.len();
        let name = |n: usize| format!("t{}_{n}", (shuffle >> (n % 60)) % 4);
        let specs = tasks.iter().enumerate().map(|(n, (needs, rule, allow))| {
            let mut spec = TaskSpec::new(&name(n), Vec::new());
            let chosen = (0..n).filter(|at| needs >> (at % 16) & 1 == 1 && (n - at) < 6);
            spec.needs = chosen.map(|at| name(at).as_str().into()).collect();
            spec.rule = RULES.get(*rule).copied().unwrap_or_default();
            spec.allow_failure = *allow;
            spec.skip = [99].into();
            spec.tags = [if n * 2 < count { "early" } else { "late" }.into()].into();
            spec
        });
        Graph::build(specs.collect()).expect("needs point back")
    })
}

fn machine(model: &Arc<Model>) -> Machine {
    let start = Start {
        model: model.clone(),
        graphs: Vec::new(),
        next_run: RunId(1),
        next_item: ItemId(0),
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
    })
}

fn fire(machine: &mut Machine, select: Selector, out: &mut Out) {
    let fire = Fire { what: FireWhat::Select(select), files: Vec::new() };
    let event = Event::Requested { token: 1, request: Request::Fire(fire) };
    machine.step(Now::default(), Seq(1), event, out);
}

fn any_selector() -> impl Strategy<Value = String> {
    let base = prop_oneof![
        "t[0-3]_[0-9]",
        "t[0-3]\\*",
        Just("*".to_owned()),
        Just("tag:early".to_owned()),
        Just("tag:l*".to_owned()),
    ];
    let atom = (base, 0..7).prop_map(|(base, shape)| match shape {
        0 => format!("{base}+"),
        1 => format!("+{base}"),
        2 => format!("+{base}+"),
        3 => format!("1+{base}"),
        4 => format!("{base}+2"),
        5 => format!("@{base}"),
        _ => base,
    });
    atom.prop_recursive(3, 12, 3, |inner| {
        (vec(inner, 1..4), 0..3).prop_map(|(parts, shape)| match shape {
            0 => format!("({})", parts.join(",")),
            1 => format!("({})", parts.join(" & ")),
            _ => format!("({})", parts.join(", -")),
        })
    })
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
    ) {
        let mut spec = folder();
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
            }
            (Disk::File { version, probe }, Decision::Work(kind, work, readiness)) => {
                prop_assert_eq!(&work, version);
                prop_assert!(spec.kinds.contains(&kind));
                prop_assert_eq!(kind == Kind::Modified, open.is_some());
                if *probe == Probe::WriterOpen {
                    prop_assert!(matches!(readiness, Readiness::Wait(Pending::WriterOpen, _)));
                }
                if let Readiness::Wait(_, time) = readiness {
                    prop_assert!(!time.is_zero());
                }
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

fn folder() -> FolderSpec {
    FolderSpec {
        folder: Folder::Drop,
        root: "/in".into(),
        recursive: false,
        filter: Filter::new(vec!["*".into()], Vec::new(), true, false).expect("a filter"),
        kinds: vec![Kind::Created, Kind::Modified],
        read_lock: ReadLock::Auto,
        stability_threshold: Duration::from_secs(2),
        settle: Duration::ZERO,
        settle_empty: Duration::from_secs(2),
        max_wait: None,
        fan_out: FanOut::File,
        batch_max_files: 1000,
        initial_scan: InitialScan::Unprocessed,
        initial_max: 10_000,
        move_to: Some(Template::parse("/done/{name}").expect("a template")),
        move_failed: None,
        reconcile_interval: None,
    }
}

fn any_bytes() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..12).prop_map(Bytes::from)
}

fn any_version() -> impl Strategy<Value = Version> {
    (any_bytes(), 0..3u64, 0..3i64).prop_map(|(file, size, mtime_ns)| Version {
        file,
        size,
        mtime_ns,
    })
}

/// Few versions, so that they are often the same.
fn few_versions() -> impl Strategy<Value = Version> {
    (0..3i64).prop_map(|n| Version { file: "i".into(), size: (n % 2) as u64, mtime_ns: n })
}

fn any_seen() -> impl Strategy<Value = Seen> {
    use Probe::{Free, NotAsked, Unproved, Unreadable, WriterOpen};
    let probe = proptest::sample::select(vec![Free, NotAsked, Unproved, Unreadable, WriterOpen]);
    let file = (few_versions(), probe).prop_map(|(version, probe)| Disk::File { version, probe });
    let disk = prop_oneof![1 => Just(Disk::Absent), 1 => Just(Disk::Other), 4 => file];
    let row = (few_versions(), any::<bool>()).prop_map(|(version, open)| Row {
        version,
        open,
        run: None,
    });
    (disk, proptest::option::of(row)).prop_map(|(disk, row)| Seen {
        trigger: "in".into(),
        rel: "a".into(),
        disk,
        row,
    })
}

fn any_candidate() -> impl Strategy<Value = Candidate> {
    (few_versions(), any::<u64>(), any::<u64>(), any::<u64>(), any::<u32>()).prop_map(
        |(version, first, last, waiting, looks)| Candidate {
            stage: Stage::Ready,
            kind: Kind::Created,
            version,
            origin: Origin::Scan,
            first_seen: Mono(first),
            first_seen_at: Wall(0),
            last_change: Mono(last),
            waiting_since: Mono(waiting),
            looks,
            order: 0,
            scanned: false,
        },
    )
}

fn any_name() -> impl Strategy<Value = Name> {
    "\\PC{0,8}".prop_map(|name| name.as_str().into())
}

fn any_claim() -> impl Strategy<Value = FileClaim> {
    let kinds = proptest::sample::select(vec![Kind::Created, Kind::Modified, Kind::Deleted]);
    (any_bytes(), any_bytes(), kinds, any_version(), any::<i64>(), any::<bool>()).prop_map(
        |(rel, path, kind, version, at, in_place)| FileClaim {
            rel,
            path,
            kind,
            version,
            first_seen_at: Wall(at),
            in_place,
        },
    )
}

fn any_signal() -> impl Strategy<Value = SignalInfo> {
    (any_name(), any::<Option<i32>>(), any::<Option<i32>>(), any::<Option<u32>>())
        .prop_map(|(signal, value, pid, uid)| SignalInfo { signal, value, pid, uid })
}

fn any_outputs() -> impl Strategy<Value = BTreeMap<String, String>> {
    proptest::collection::btree_map("\\PC{0,6}", "\\PC{0,6}", 0..3)
}

fn any_reason() -> impl Strategy<Value = Reason> {
    use Reason::{Event, Manual, Replay, Retry, Scan, Signal};
    proptest::sample::select(vec![Event, Scan, Signal, Manual, Retry, Replay])
}

fn any_item() -> impl Strategy<Value = ItemQueued> {
    let select = proptest::option::of(any_selector().prop_map(|s| Selector::parse(&s).unwrap()));
    let keep = vec((any_name(), any_outputs()), 0..3);
    let files = vec(any_claim(), 0..3);
    let ids = (any::<u64>(), any::<Option<u64>>(), any::<i64>());
    let trigger = proptest::option::of(any_name());
    (ids, trigger, select, any_reason(), proptest::option::of(any_signal()), files, keep).prop_map(
        |((item, parent, at), trigger, select, reason, signal, files, keep)| ItemQueued {
            item: ItemId(item),
            trigger,
            select,
            reason,
            signal,
            files,
            parent: parent.map(RunId),
            keep,
            at: Wall(at),
        },
    )
}

fn any_run() -> impl Strategy<Value = RunCreated> {
    let template = proptest::option::of(
        proptest::sample::select(vec!["/done/{date:%Y}/{name}", "x", "{{path}", ""])
            .prop_map(|text| Template::parse(text).unwrap()),
    );
    (any_item(), template, any_bytes(), any::<(u64, u64, i32)>()).prop_map(
        |(item, move_to, key, (run, seed, utc_offset_s))| RunCreated {
            run: RunId(run),
            trigger: item.trigger,
            rev: Rev("0123456789abcdef".into()),
            select: item.select.unwrap_or_else(|| Selector::task("*")),
            reason: item.reason,
            items: vec![item.item],
            files: item.files,
            signal: item.signal,
            root: Some(key.clone()),
            move_failed: move_to.clone(),
            move_to,
            key,
            parent: item.parent,
            keep: item.keep,
            seed,
            at: item.at,
            utc_offset_s,
        },
    )
}

fn any_state() -> impl Strategy<Value = TaskState> {
    use TaskState::{Cancelled, Failed, Lost, Skipped, Succeeded, TimedOut};
    let causes = [
        SkipCause::ExitCode,
        SkipCause::Rule,
        SkipCause::UpstreamFailed,
        SkipCause::UpstreamSkipped,
    ];
    let mut all = vec![Cancelled, Failed, Lost, Succeeded, TimedOut];
    all.extend(causes.map(Skipped));
    proptest::sample::select(all)
}

fn any_end() -> impl Strategy<Value = Record> {
    let exit = prop_oneof![
        any::<i32>().prop_map(Exit::Code),
        any::<i32>().prop_map(Exit::Signal),
        "\\PC{0,9}".prop_map(Exit::NotStarted),
        "\\PC{0,9}".prop_map(Exit::MissingOutput),
        Just(Exit::Unknown),
    ];
    let verdict = prop_oneof![
        any_state().prop_map(Verdict::Final),
        (any::<u64>(), 0..1_000_000_000u32)
            .prop_map(|(s, ns)| Verdict::Retry(Duration::new(s, ns))),
        Just(Verdict::Requeue),
    ];
    use StopCause::{Cancel, Shutdown, Timeout};
    let stop = proptest::option::of(proptest::sample::select(vec![Cancel, Shutdown, Timeout]));
    let ids = any::<(u64, u32, u32, u32, u64)>();
    (exit, verdict, stop, any_outputs(), ids, any::<(i64, i64)>()).prop_map(
        |(exit, verdict, stop, outputs, (run, node, attempt, leftovers, log_bytes), (from, to))| {
            let ended = Ended {
                exit,
                started_at: Wall(from),
                ended_at: Wall(to),
                leftovers,
                log_bytes,
                outputs,
            };
            Record::AttemptEnded {
                run: RunId(run),
                node: NodeIx(node),
                attempt: Attempt(attempt),
                ended: Box::new(ended),
                stop,
                verdict,
            }
        },
    )
}

fn any_record() -> impl Strategy<Value = Record> {
    let result = prop_oneof![
        any_bytes().prop_map(MoveResult::Moved),
        Just(MoveResult::Superseded),
        Just(MoveResult::Gone),
        "\\PC{0,9}".prop_map(MoveResult::Failed),
    ];
    let at = || any::<i64>().prop_map(Wall);
    let run = || any::<u64>().prop_map(RunId);
    use Noted::{Baseline, Kinds, Signalled, Skipped};
    let why = proptest::sample::select(vec![Baseline, Kinds, Signalled, Skipped]);
    use RunState::{Cancelled, Failed, Succeeded};
    let ends = proptest::sample::select(vec![Cancelled, Failed, Succeeded]);
    prop_oneof![
        any_item().prop_map(Record::ItemQueued),
        (any::<u64>(), proptest::option::of(any_name()), "\\PC{0,9}", at()).prop_map(
            |(item, trigger, reason, at)| Record::ItemDropped {
                item: ItemId(item),
                trigger,
                reason,
                at
            }
        ),
        any_run().prop_map(|run| Record::RunCreated(Box::new(run))),
        (run(), any::<(u32, u32)>(), at()).prop_map(|(run, (node, attempt), at)| {
            Record::AttemptStarted { run, node: NodeIx(node), attempt: Attempt(attempt), at }
        }),
        any_end(),
        (run(), any::<Option<u32>>(), "\\PC{0,9}", at()).prop_map(|(run, node, reason, at)| {
            Record::CancelRequested { run, node: node.map(NodeIx), reason, at }
        }),
        (run(), any::<u32>(), any_bytes(), at())
            .prop_map(|(run, file, target, at)| Record::MovePlanned { run, file, target, at }),
        (run(), any::<u32>(), result, at()).prop_map(|(run, file, result, at)| Record::MoveDone {
            run,
            file,
            result,
            at
        }),
        (run(), ends, at()).prop_map(|(run, state, at)| Record::RunEnded { run, state, at }),
        (any_name(), "\\PC{0,9}", at()).prop_map(|(trigger, reason, at)| Record::TriggerPaused {
            trigger,
            reason,
            at
        }),
        (any_name(), at()).prop_map(|(trigger, at)| Record::TriggerResumed { trigger, at }),
        (any_name(), at()).prop_map(|(trigger, at)| Record::TriggerArmed { trigger, at }),
        (any_name(), any_bytes(), any_version(), why, at()).prop_map(
            |(trigger, rel, version, why, at)| Record::FileNoted { trigger, rel, version, why, at }
        ),
        (any_name(), any_bytes(), at()).prop_map(|(trigger, rel, at)| Record::FileDeparted {
            trigger,
            rel,
            at
        }),
    ]
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

/// The folder is the queue: above the mark a lane asks for no more, below it asks again.
#[test]
fn a_flood_becomes_back_pressure() {
    let mut task = TaskSpec::new("a", Vec::new());
    task.needs = Vec::new();
    let spec = TriggerSpec {
        name: "in".into(),
        source: Source::Folder(Box::new(folder())),
        select: Selector::task("a"),
        overlap: Overlap::Queue,
        max_runs: None,
        order_key: None,
        rev: "1".into(),
    };
    let graph = Arc::new(Graph::build(vec![task]).unwrap());
    let model = Model {
        graph,
        triggers: [(spec.name.clone(), Arc::new(spec))].into(),
        pools: BTreeMap::new(),
        slots: 1,
        max_live_runs: 4,
        stop_timeout: Duration::ZERO,
    };
    let mut machine = machine(&Arc::new(model));
    let (mut held, mut sent, mut ended) = (false, 0u64, 0u64);
    let (mut holds, mut most, mut running) = (0, 0, Vec::new());
    let mut seq = 2;
    while ended < 5000 {
        let mut out = Out::default();
        if !held && sent < 5000 {
            let seen = (0..100).map(|n| Seen {
                trigger: "in".into(),
                rel: Bytes::from(format!("{:05}", sent + n).as_str()),
                disk: Disk::File {
                    version: Version { file: "i".into(), size: 1, mtime_ns: 1 },
                    probe: Probe::Free,
                },
                row: None,
            });
            let observed = Observed { seq: Seq(seq), origin: Origin::Event, seen: seen.collect() };
            sent += 100;
            machine.step(Now::default(), Seq(seq + 1), Event::Observed(observed), &mut out);
        } else {
            let run: RunId = running.remove(0);
            let id = machine.in_flight().keys().find(|id| id.run == run).copied().unwrap();
            let ended = Ended::without_process(Exit::Code(0), Wall(0));
            machine.step(Now::default(), Seq(seq + 1), Event::Ended { id, ended }, &mut out);
        }
        seq += 1;
        let mut moves = Vec::new();
        for command in out.commands {
            match command {
                Command::Hold { .. } => (held, holds) = (true, holds + 1),
                Command::Release { .. } => held = false,
                Command::Start(start) => running.push(start.id.run),
                Command::Move(order) => moves.push((order.run, order.file)),
                _ => {}
            }
        }
        machine.forget();
        for (run, file) in moves {
            let mut out = Out::default();
            let result = MoveResult::Moved("/done/x".into());
            machine.step(Now::default(), Seq(seq), Event::Moved { run, file, result }, &mut out);
            for command in out.commands {
                match command {
                    Command::Start(start) => running.push(start.id.run),
                    Command::Release { .. } => held = false,
                    Command::Finished { .. } => ended += 1,
                    _ => {}
                }
            }
            machine.forget();
        }
        most = most.max(machine.lanes()["in"].candidates.len());
        machine.check_limits();
    }
    assert!(holds > 1, "it held and released");
    assert!(most < 2400, "at most a batch above the mark: {most}");
    assert!(machine.lanes()["in"].candidates.is_empty());
}
