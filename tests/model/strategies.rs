//! Where the values of the properties come from.

use std::collections::BTreeMap;
use std::time::Duration;

use dagd::core::calendar::TimeMark;
use dagd::core::candidate::{
    Candidate, Disk, Kind, Lineage, Origin, Probe, Row, Seen, Stage, Version,
};
use dagd::core::confine::Usage;
use dagd::core::disposition::{Disposition, Goal, MoveResult, Phase};
use dagd::core::filter::Filter;
use dagd::core::graph::Graph;
use dagd::core::id::{Attempt, ItemId, Mono, Name, NodeIx, Rev, RunId, Wall};
use dagd::core::ledger::{Noted, Placed};
use dagd::core::path::Bytes;
use dagd::core::record::{FileClaim, ItemQueued, Reason, Record, RunCreated, RunState, SignalInfo};
use dagd::core::selector::Selector;
use dagd::core::sidecar::Sidecar;
use dagd::core::task::{Ended, Exit, Rule, SkipCause, StopCause, TaskSpec, TaskState, Verdict};
use dagd::core::template::Template;
use dagd::core::trigger::{Folder, FolderSpec, Group};
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
pub(crate) fn graphs(most: usize) -> impl Strategy<Value = Graph> {
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

pub(crate) fn any_selector() -> impl Strategy<Value = String> {
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

pub(crate) fn folder() -> FolderSpec {
    FolderSpec {
        move_to: Some(Template::parse("/done/{name}").expect("a template")),
        ..FolderSpec::new(Folder::Drop, "/in".into(), every_name())
    }
}

fn every_name() -> Filter {
    Filter::new(vec!["**/*".into()], Vec::new(), true, false).expect("a filter")
}

pub(crate) fn any_bytes() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..12).prop_map(Bytes::from)
}

pub(crate) fn any_version() -> impl Strategy<Value = Version> {
    (any_bytes(), 0..3u64, 0..3i64).prop_map(|(file, size, mtime_ns)| Version {
        file,
        size,
        mtime_ns,
    })
}

/// Few versions, so that they are often the same.
pub(crate) fn few_versions() -> impl Strategy<Value = Version> {
    (0..3i64).prop_map(|n| Version { file: "i".into(), size: n.unsigned_abs() % 2, mtime_ns: n })
}

pub(crate) fn any_seen() -> impl Strategy<Value = Seen> {
    use Probe::{Free, NotAsked, NotDone, Unproved, Unreachable, Unreadable, WriterOpen};
    let probes = vec![Free, NotAsked, Unproved, Unreadable, WriterOpen, NotDone, Unreachable];
    let probe = proptest::sample::select(probes);
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

pub(crate) fn any_candidate() -> impl Strategy<Value = Candidate> {
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
            passed: None,
            lineage: Lineage::default(),
            held_until: None,
            alarmed: false,
        },
    )
}

pub(crate) fn any_name() -> impl Strategy<Value = Name> {
    "\\PC{0,8}".prop_map(|name| name.as_str().into())
}

pub(crate) fn any_claim() -> impl Strategy<Value = FileClaim> {
    let kinds = proptest::sample::select(vec![Kind::Created, Kind::Modified, Kind::Deleted]);
    (any_bytes(), any_bytes(), kinds, any_version(), any::<i64>(), any::<bool>()).prop_map(
        |(rel, path, kind, version, at, in_place)| FileClaim {
            rel,
            path,
            kind,
            version,
            first_seen_at: Wall(at),
            in_place,
            key: None,
        },
    )
}

pub(crate) fn any_signal() -> impl Strategy<Value = SignalInfo> {
    (any_name(), any::<Option<i32>>(), any::<Option<i32>>(), any::<Option<u32>>())
        .prop_map(|(signal, value, pid, uid)| SignalInfo { signal, value, pid, uid })
}

pub(crate) fn any_outputs() -> impl Strategy<Value = BTreeMap<String, String>> {
    proptest::collection::btree_map("\\PC{0,6}", "\\PC{0,6}", 0..3)
}

pub(crate) fn any_reason() -> impl Strategy<Value = Reason> {
    use Reason::{Absence, Event, Manual, Replay, Retry, Scan, Schedule, Signal};
    proptest::sample::select(vec![Event, Scan, Signal, Schedule, Absence, Manual, Retry, Replay])
}

pub(crate) fn any_item() -> impl Strategy<Value = ItemQueued> {
    let select =
        proptest::option::of(any_selector().prop_map(|s| Selector::parse(&s).expect("a selector")));
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
            scheduled: parent.map(|_| Wall(at)),
            files,
            parent: parent.map(RunId),
            keep,
            at: Wall(at),
        },
    )
}

pub(crate) fn any_run() -> impl Strategy<Value = RunCreated> {
    let template = proptest::option::of(
        proptest::sample::select(vec!["/done/{date:%Y}/{name}", "x", "{{path}", ""])
            .prop_map(|text| Template::parse(text).expect("a template")),
    );
    (any_item(), template, any_bytes(), any::<(u64, u64, i32)>()).prop_map(
        |(item, move_to, key, (run, seed, utc_offset_s))| RunCreated {
            run: RunId(run),
            trigger: item.trigger,
            formerly: None,
            rev: Rev("0123456789abcdef".into()),
            select: item.select.unwrap_or_else(|| Selector::task("*")),
            reason: item.reason,
            items: vec![item.item],
            files: item.files,
            signal: item.signal,
            scheduled: item.scheduled,
            root: Some(key.clone()),
            disposition: Disposition {
                move_failed: move_to.clone(),
                pre_move: move_to.clone(),
                move_to,
                delete: seed % 2 == 0,
                companions: vec![Sidecar::parse("{stem}.ok").expect("a sidecar")],
                ..Disposition::default()
            },
            group: item.parent.map(|_| Group::Key(key.clone())),
            key,
            parent: item.parent,
            keep: item.keep,
            seed,
            at: item.at,
            utc_offset_s,
        },
    )
}

pub(crate) fn any_state() -> impl Strategy<Value = TaskState> {
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

pub(crate) fn any_end() -> impl Strategy<Value = Record> {
    let exit = prop_oneof![
        any::<i32>().prop_map(Exit::Code),
        any::<i32>().prop_map(Exit::Signal),
        Just(Exit::Oom),
        "\\PC{0,9}".prop_map(Exit::NotStarted),
        "\\PC{0,9}".prop_map(Exit::Shortage),
        "\\PC{0,9}".prop_map(Exit::MissingOutput),
        Just(Exit::Unknown),
    ];
    let verdict = prop_oneof![
        any_state().prop_map(Verdict::Final),
        (any::<u64>(), 0..1_000_000_000u32)
            .prop_map(|(s, ns)| Verdict::Retry(Duration::new(s, ns))),
        Just(Verdict::Requeue),
    ];
    let stops = vec![StopCause::Cancel, StopCause::Shutdown, StopCause::Timeout];
    let stop = proptest::option::of(proptest::sample::select(stops));
    let ids = any::<(u64, u32, u32, u32, u64)>();
    let told = any::<((i64, i64), (Option<u64>, Option<u64>))>();
    (exit, verdict, stop, any_outputs(), ids, told).prop_map(
        |(exit, verdict, stop, outputs, ids, ((from, to), used))| {
            let (run, node, attempt, leftovers, log_bytes) = ids;
            let ended = Ended {
                exit,
                started_at: Wall(from),
                ended_at: Wall(to),
                leftovers,
                log_bytes,
                outputs,
                usage: Usage { memory_peak: used.0, cpu_us: used.1 },
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

pub(crate) fn any_record() -> impl Strategy<Value = Record> {
    let result = prop_oneof![
        (any_bytes(), any_version()).prop_map(|(to, version)| MoveResult::Moved { to, version }),
        Just(MoveResult::Deleted),
        Just(MoveResult::Kept),
        Just(MoveResult::Superseded),
        Just(MoveResult::Gone),
        "\\PC{0,9}".prop_map(MoveResult::Failed),
    ];
    let goal = prop_oneof![any_bytes().prop_map(Goal::To), Just(Goal::Delete)];
    let phase = || proptest::sample::select(vec![Phase::Before, Phase::After]);
    let at = || any::<i64>().prop_map(Wall);
    let run = || any::<u64>().prop_map(RunId);
    let ends = vec![RunState::Cancelled, RunState::Failed, RunState::Succeeded];
    let ends = proptest::sample::select(ends);
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
        (run(), any::<u32>(), phase(), goal, at()).prop_map(|(run, file, phase, goal, at)| {
            Record::MovePlanned { run, file, phase, goal, at }
        }),
        (run(), any::<u32>(), phase(), result, at()).prop_map(|(run, file, phase, result, at)| {
            Record::MoveDone { run, file, phase, result, at }
        }),
        (run(), ends, at()).prop_map(|(run, state, at)| Record::RunEnded { run, state, at }),
        any_trigger_record(),
    ]
}

/// What becomes of triggers and of files that no run has.
fn any_trigger_record() -> impl Strategy<Value = Record> {
    let at = || any::<i64>().prop_map(Wall);
    let whys = vec![
        Noted::Baseline,
        Noted::Kinds,
        Noted::Signalled,
        Noted::Skipped,
        Noted::Duplicate(RunId(7)),
    ];
    let why = proptest::sample::select(whys);
    prop_oneof![
        (any_name(), "\\PC{0,9}", any::<bool>(), at()).prop_map(
            |(trigger, reason, flooded, at)| {
                Record::TriggerPaused { trigger, reason, flooded, at }
            }
        ),
        (any_name(), at()).prop_map(|(trigger, at)| Record::TriggerResumed { trigger, at }),
        (any_name(), at()).prop_map(|(trigger, at)| Record::TriggerArmed { trigger, at }),
        (any_name(), at()).prop_map(|(trigger, at)| Record::TriggerLeft { trigger, at }),
        (any_name(), at()).prop_map(|(trigger, at)| Record::TriggerBack { trigger, at }),
        (any_name(), at()).prop_map(|(trigger, at)| Record::TriggerForgotten { trigger, at }),
        (any_name(), any_name(), at()).prop_map(|(from, to, at)| Record::TriggerRenamed {
            from,
            to,
            at
        }),
        (any_name(), any_name(), at(), any::<bool>()).prop_map(|(trigger, of, at, told)| {
            Record::TimeMarked { trigger, mark: TimeMark { of, at, told } }
        }),
        (any_name(), any_bytes(), any_version(), why, at()).prop_map(
            |(trigger, rel, version, why, at)| Record::FileNoted { trigger, rel, version, why, at }
        ),
        (any_name(), any_bytes(), "\\PC{0,9}", at()).prop_map(|(trigger, dir, what, at)| {
            Record::FilesPlaced { trigger, places: vec![Placed { dir, what }], at }
        }),
        (
            any_name(),
            any_bytes(),
            any_version(),
            proptest::option::of(any::<u64>().prop_map(RunId)),
            at()
        )
            .prop_map(|(trigger, rel, version, run, at)| {
                Record::FileStamped { trigger, rel, version, run, at }
            }),
        (any_name(), any_bytes(), at()).prop_map(|(trigger, rel, at)| Record::FileDeparted {
            trigger,
            rel,
            at
        }),
    ]
}
