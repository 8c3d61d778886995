//! Random configurations: small enough to understand a failure, rich enough to cause one.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use dagd::core::bound::OnRemoval;
use dagd::core::calendar::Schedule;
use dagd::core::candidate::Kind;
use dagd::core::filter::{Filter, KeyPattern, Pattern};
use dagd::core::graph::Graph;
use dagd::core::id::Name;
use dagd::core::model::Model;
use dagd::core::selector::Selector;
use dagd::core::sidecar::{Checksum, Sidecar};
use dagd::core::task::{FailureKind, OnCrash, OnDaemonStop, Retry, Rule, TaskSpec};
use dagd::core::template::Template;
use dagd::core::trigger::{
    CatchUp, FanOut, FileType, Folder, FolderSpec, IdempotentKey, InitialScan, OnConflict, Overlap,
    RateLimit, ReadLock, ScheduleSpec, Sort, SortBy, Source, TriggerSpec,
};
use jiff::tz::TimeZone;

use super::rng::Rng;

/// Triggers, and the names that they may be given later.
pub(crate) const TRIGGERS: [&str; 6] = ["ta", "tb", "tc", "ta2", "tb2", "tc2"];

static FILTER: LazyLock<Filter> = LazyLock::new(|| {
    Filter::new(vec!["**/*".to_owned()], Vec::new(), true, false).expect("a plain pattern compiles")
});

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

pub(crate) fn template(text: &str) -> Template {
    Template::parse(text).expect("a constant template parses")
}

pub(crate) fn random(rng: &mut Rng) -> Model {
    let graph = graph(rng);
    let count = 1 + rng.below(3);
    let triggers = TRIGGERS[..count.min(3)].iter().map(|name| {
        let spec = trigger(rng, name, graph.len());
        (spec.name.clone(), Arc::new(spec))
    });
    Model {
        triggers: triggers.collect(),
        graph: Arc::new(graph),
        pools: pools(rng),
        slots: 1 + rng.below(3),
        max_live_runs: rng.pick(&[1, 2, 4, 8]),
        stop_timeout: ms(500),
        can_leave: true,
    }
}

/// A configuration whose files all have to be checked, with little else.
pub(crate) fn checks(rng: &mut Rng) -> Model {
    let mut model = random(rng);
    let mut spec = signal(rng, TRIGGERS[0], 1);
    let mut into = folder(rng, &spec.name, Folder::Drop);
    checked(rng, &mut into);
    into.initial_max = 10_000;
    match rng.below(3) {
        0 => {
            into.fan_out = FanOut::Batch;
            spec.max_runs = Some(1);
        }
        1 => {
            into.move_to = Some(template("/done/{run}/{rel}"));
            into.pre_move = rng.chance(60).then(|| template("/work/{run}/{rel}"));
        }
        _ => {}
    }
    spec.source = Source::Folder(Box::new(into));
    model.triggers = [(spec.name.clone(), Arc::new(spec))].into();
    model.max_live_runs = 8;
    model
}

/// Another configuration, as a reload would bring it.
/// `former`: triggers that were there once, and may come back as they were. `renames`: most of it
/// only has other names.
pub(crate) fn changed(
    rng: &mut Rng,
    old: &Model,
    former: &BTreeMap<Name, Arc<TriggerSpec>>,
    renames: bool,
) -> Model {
    let graph = if rng.chance(50) { Arc::new(graph(rng)) } else { old.graph.clone() };
    let fresh = !Arc::ptr_eq(&graph, &old.graph);
    let mut triggers = BTreeMap::new();
    for names in [["ta", "ta2"], ["tb", "tb2"], ["tc", "tc2"]] {
        let [mut name, other] = names;
        if old.triggers.contains_key(other) {
            name = other;
        }
        let next = names[usize::from(name == names[0])];
        let known = old.triggers.get(name).filter(|_| !fresh);
        let folder = old.triggers.get(name).is_some_and(|spec| spec.folder().is_some());
        let gone = former.get(name).filter(|_| !old.triggers.contains_key(name));
        let back = gone.filter(|spec| !spec.select.eval(&graph).is_empty());
        let spec = match known {
            _ if rng.chance(8) => continue,
            None if back.is_some() && rng.chance(60) => back.cloned().expect("it was just there"),
            _ if folder && rng.chance(if renames { 60 } else { 15 }) => {
                Arc::new(renamed(rng, name, next, graph.len()))
            }
            Some(spec) if rng.chance(60) => spec.clone(),
            _ if rng.chance(70) => Arc::new(trigger(rng, name, graph.len())),
            _ => continue,
        };
        triggers.insert(spec.name.clone(), spec);
    }
    Model {
        graph,
        triggers,
        pools: pools(rng),
        slots: old.slots,
        max_live_runs: old.max_live_runs,
        stop_timeout: old.stop_timeout,
        can_leave: true,
    }
}

/// A trigger that was called `from` before.
fn renamed(rng: &mut Rng, from: &str, to: &str, tasks: usize) -> TriggerSpec {
    let mut spec = trigger(rng, to, tasks);
    if let Source::Folder(folder) = &mut spec.source {
        folder.renamed_from = Some(from.into());
    }
    spec
}

fn pools(rng: &mut Rng) -> BTreeMap<Arc<str>, u32> {
    let size = |rng: &mut Rng| 1 + u32::from(rng.chance(50));
    BTreeMap::from([("p".into(), size(rng)), ("q".into(), size(rng))])
}

fn graph(rng: &mut Rng) -> Graph {
    let count = 1 + rng.below(7);
    let mut tasks: Vec<TaskSpec> = Vec::new();
    for n in 0..count {
        // Names in random order, so that the order of names is not the order of needs.
        let mut task = TaskSpec::new(&format!("t{}", (n * 3 + count) % 7), Vec::new());
        for need in &tasks {
            if rng.chance(40) {
                task.needs.push(need.name.clone());
            }
        }
        random_policies(rng, &mut task);
        tasks.push(task);
    }
    Graph::build(tasks).expect("tasks need earlier ones only")
}

fn random_policies(rng: &mut Rng, task: &mut TaskSpec) {
    use Rule::{
        AllDone, AllFailed, Always, NoneFailed, NoneFailedMinOneSuccess, OneFailed, OneSuccess,
    };
    if rng.chance(45) {
        task.rule = rng.pick(&[
            AllDone,
            OneSuccess,
            OneFailed,
            AllFailed,
            NoneFailed,
            NoneFailedMinOneSuccess,
            Always,
        ]);
    }
    if rng.chance(35) {
        task.retry = Retry {
            max: 1 + u32::from(rng.chance(50)),
            delay: rng.pick(&[ms(0), ms(100), ms(5000)]),
            jitter: rng.chance(50),
            never_on: match rng.below(10) {
                0 | 1 => [FailureKind::Signal].into(),
                2 => [FailureKind::Oom].into(),
                _ => [].into(),
            },
            ..Retry::default()
        };
    }
    if rng.chance(20) {
        task.on_daemon_stop = OnDaemonStop::Leave;
    }
    if rng.chance(25) {
        task.timeout = Some(rng.pick(&[ms(50), ms(1000)]));
        task.kill_after = rng.pick(&[ms(0), ms(100)]);
    }
    for pool in ["p", "q"] {
        if rng.chance(20) {
            task.uses.insert(pool.into(), 1 + u32::from(rng.chance(30)));
        }
    }
    task.skip = [99].into();
    task.priority = i32::from(rng.chance(20));
    task.allow_failure = rng.chance(15);
    task.on_crash = if rng.chance(15) { OnCrash::Fail } else { OnCrash::Retry };
}

pub(crate) fn select(rng: &mut Rng, tasks: usize) -> Selector {
    // Which names exist is known only roughly; what selects nothing becomes everything.
    let one = rng.below(7);
    let text = rng.pick(&[
        "*".to_owned(),
        format!("t{one}+,*"),
        format!("*,-t{one}"),
        format!("*,-(t{one},t{})", (one + 3) % 7),
    ]);
    let text = if tasks < 3 { "*".to_owned() } else { text };
    Selector::parse(&text).expect("a constant shape parses")
}

fn signal(rng: &mut Rng, name: &str, tasks: usize) -> TriggerSpec {
    TriggerSpec {
        name: name.into(),
        source: Source::Signal { signo: 10, name: "SIGUSR1".into(), sender_uid: Vec::new() },
        select: select(rng, tasks),
        overlap: Overlap::Queue,
        max_runs: None,
        order_key: None,
        rate_limit: None,
        on_removal: if rng.chance(70) { OnRemoval::Drain } else { OnRemoval::Drop },
        rev: format!("{:x}", rng.next()).as_str().into(),
    }
}

fn trigger(rng: &mut Rng, name: &str, tasks: usize) -> TriggerSpec {
    let mut spec = signal(rng, name, tasks);
    match rng.below(14) {
        0..5 => drop_files(rng, &mut spec),
        5 => batch(rng, &mut spec),
        6 | 7 => watch(rng, &mut spec),
        8..11 => groups(rng, &mut spec),
        11 => time(rng, &mut spec),
        _ => {
            let runs = Some(1 + rng.below(2));
            (spec.overlap, spec.max_runs) = rng.pick(&[
                (Overlap::Queue, Some(1)),
                (Overlap::Coalesce, Some(1)),
                (Overlap::Queue, runs),
                (Overlap::Skip, Some(1)),
                (Overlap::Restart, Some(1)),
                (Overlap::Signal(12), Some(1)),
                (Overlap::Parallel, None),
            ]);
            if spec.overlap == Overlap::Queue && rng.chance(40) {
                spec.order_key = Some(template("{value}"));
                spec.max_runs = None;
            }
        }
    }
    if rng.chance(25) {
        let (runs, per) = rng.pick(&[(1, ms(50)), (1, ms(3000)), (2, ms(700)), (3, ms(1000))]);
        spec.rate_limit = Some(RateLimit { runs, per });
    }
    spec
}

fn time(rng: &mut Rng, spec: &mut TriggerSpec) {
    // Two that listen to each other would never come to rest.
    if &*spec.name == TRIGGERS[0] || rng.chance(50) {
        let text = rng.pick(&["* * * * *", "*/2 * * * *", "1-59/7 * * * *", "0 * * * *"]);
        let schedule = Schedule::new(text, TimeZone::UTC, "UTC").expect("a constant schedule");
        let catch_up = rng.pick(&[CatchUp::All, CatchUp::All, CatchUp::Last, CatchUp::None]);
        spec.source = Source::Schedule(Box::new(ScheduleSpec { schedule, catch_up }));
    } else {
        let after = rng.pick(&[ms(100), ms(3000), ms(20_000)]);
        spec.source = Source::Absent { after, of: TRIGGERS[0].into() };
    }
    (spec.overlap, spec.max_runs) = rng.pick(&[
        (Overlap::Coalesce, Some(1)),
        (Overlap::Queue, Some(1)),
        (Overlap::Skip, Some(1)),
        (Overlap::Restart, Some(1)),
        (Overlap::Parallel, None),
    ]);
}

fn folder(rng: &mut Rng, name: &str, folder: Folder) -> FolderSpec {
    FolderSpec {
        stability_threshold: ms(200),
        settle: rng.pick(&[ms(0), ms(0), ms(100)]),
        settle_empty: ms(300),
        max_wait: rng.pick(&[None, Some(ms(1000))]),
        batch_max_files: 1 + rng.below(3),
        initial_max: rng.pick(&[2, 10_000]),
        min_age: rng.pick(&[ms(0), ms(0), ms(0), ms(400)]),
        min_size: u64::from(rng.chance(15)),
        max_size: rng.pick(&[u64::MAX, u64::MAX, u64::MAX, 2]),
        done_file: rng
            .pick(&[None, None, None, Some("{name}.done"), Some("{stem}.done"), Some("_OK")])
            .map(|text| Sidecar::parse(text).expect("a constant sidecar parses")),
        file_type: if rng.chance(10) { FileType::Dir } else { FileType::File },
        ready_alarm: rng.pick(&[None, Some(ms(500)), Some(ms(20_000))]),
        kinds: vec![Kind::Created, Kind::Modified],
        read_lock: ReadLock::Auto,
        fan_out: FanOut::File,
        initial_scan: InitialScan::Unprocessed,
        recursive: true,
        // Two triggers may share a root.
        ..FolderSpec::new(
            folder,
            if name.starts_with("tc") { "/ta".into() } else { format!("/{}", &name[..2]).into() },
            FILTER.clone(),
        )
    }
}

/// What has to be checked of the files of a folder.
fn checked(rng: &mut Rng, into: &mut FolderSpec) {
    if rng.chance(50) {
        let sidecar = Sidecar::parse("{name}.md5").expect("a constant sidecar parses");
        into.checksum_file = Some((sidecar, Checksum::Md5));
    }
    into.idempotent_key = rng.pick(&[
        IdempotentKey::Version,
        IdempotentKey::Content,
        IdempotentKey::Content,
        IdempotentKey::Path,
        IdempotentKey::NameSize,
        IdempotentKey::Template(template("{ext}")),
    ]);
}

fn drop_files(rng: &mut Rng, spec: &mut TriggerSpec) {
    let mut into = folder(rng, &spec.name, Folder::Drop);
    if rng.chance(20) {
        checked(rng, &mut into);
    }
    let key = |text| Some(template(text));
    (spec.overlap, spec.order_key) = rng.pick(&[
        (Overlap::Queue, None),
        (Overlap::Queue, None),
        (Overlap::Queue, key("{ext}")),
        (Overlap::Queue, key("{name}")),
        (Overlap::Parallel, None),
        (Overlap::Restart, key("{ext}")),
        (Overlap::Restart, key("{name}")),
        (Overlap::Skip, key("{ext}")),
        (Overlap::Signal(12), key("{ext}")),
    ]);
    spec.max_runs = rng.pick(&[None, Some(1), Some(2)]);
    into.sort_by = sort_by(rng);
    // Two triggers that both dispose under one root are an error of configuration.
    if !spec.name.starts_with("tc") {
        dispositions(rng, &mut into);
    }
    if rng.chance(15) {
        into.kinds = rng.pick(&[vec![Kind::Created], vec![Kind::Modified]]);
    }
    if rng.chance(15) {
        into.initial_scan = InitialScan::Baseline;
    }
    if rng.chance(15) {
        into.read_lock = ReadLock::Changed;
    }
    spec.source = Source::Folder(Box::new(into));
}

/// Places are taken now and then: names repeat, numbers of runs do not.
fn dispositions(rng: &mut Rng, into: &mut FolderSpec) {
    let place = |rng: &mut Rng, percent, folder: &str| {
        let within = rng.pick(&["{name}", "{run}/{rel}"]);
        rng.chance(percent).then(|| template(&format!("{folder}/{within}")))
    };
    into.pre_move = place(rng, 30, "/work");
    into.move_to = place(rng, 50, "/done");
    into.move_failed = place(rng, 30, "/failed");
    into.delete = into.move_to.is_none() && rng.chance(40);
    let all = [OnConflict::Rename, OnConflict::Replace, OnConflict::Fail, OnConflict::Keep];
    // Nothing could be run for that is not taken away.
    let most = if into.pre_move.is_some() { 3 } else { 4 };
    into.on_conflict = rng.pick(&all[..most]);
}

fn batch(rng: &mut Rng, spec: &mut TriggerSpec) {
    let mut into = folder(rng, &spec.name, Folder::Drop);
    if rng.chance(20) {
        checked(rng, &mut into);
    }
    into.fan_out = FanOut::Batch;
    spec.overlap = rng.pick(&[Overlap::Queue, Overlap::Coalesce, Overlap::Skip]);
    spec.max_runs = Some(1);
    if &*spec.name != "tc" {
        dispositions(rng, &mut into);
    }
    spec.source = Source::Folder(Box::new(into));
}

fn sort_by(rng: &mut Rng) -> Vec<Sort> {
    let one = |by, reverse| Sort { by, reverse };
    rng.pick(&[
        vec![],
        vec![],
        vec![one(SortBy::Name, true)],
        vec![one(SortBy::Size, false), one(SortBy::Mtime, true)],
        vec![one(SortBy::Arrival, true)],
    ])
}

fn groups(rng: &mut Rng, spec: &mut TriggerSpec) {
    let drop = rng.chance(60);
    if drop {
        batch(rng, spec);
    } else {
        watch(rng, spec);
    }
    let Source::Folder(into) = &mut spec.source else { return };
    into.sort_by = sort_by(rng);
    into.fan_out = rng.pick(&[FanOut::Batch, FanOut::Dir, FanOut::Key, FanOut::Key]);
    if into.fan_out == FanOut::Key {
        let key = rng.pick(&["^(.*)[.][^.]*$", "[^/.]+", "^(?:.*/)?([ab])"]);
        into.set_key = Some(KeyPattern::new(key).expect("a constant expression compiles"));
        into.filter = into.filter.clone().with_key(into.set_key.clone());
        if rng.chance(60) {
            let of = |text| Pattern::new(text).expect("a constant pattern compiles");
            into.set = vec![of("**/*.x"), of("**/*.y")];
            into.kinds.retain(|kind| *kind != Kind::Deleted);
        }
    }
    if !into.set.is_empty() {
        into.idempotent_key = IdempotentKey::Version;
    }
    into.batch_max_wait = rng.pick(&[None, Some(ms(200)), Some(ms(1500))]);
    if drop {
        let policies = [Overlap::Queue, Overlap::Coalesce, Overlap::Skip, Overlap::Parallel];
        spec.overlap = rng.pick(&policies);
    } else {
        spec.overlap = rng.pick(&[Overlap::Coalesce, Overlap::Restart, Overlap::Signal(12)]);
    }
    spec.max_runs = rng.pick(&[None, Some(1), Some(2)]);
    if drop && !spec.name.starts_with("tc") && rng.chance(50) {
        into.move_to = Some(template("/done/{run}/{rel}"));
    }
}

fn watch(rng: &mut Rng, spec: &mut TriggerSpec) {
    let mut into = folder(rng, &spec.name, Folder::Watch);
    into.fan_out = FanOut::Batch;
    into.kinds.push(Kind::Deleted);
    into.read_lock = ReadLock::None;
    into.settle = ms(100);
    into.settle_empty = ms(100);
    into.max_wait = Some(ms(5000));
    into.batch_max_files = 1000;
    into.initial_scan = rng.pick(&[InitialScan::Baseline, InitialScan::Unprocessed]);
    spec.overlap = Overlap::Coalesce;
    spec.max_runs = Some(1);
    spec.source = Source::Folder(Box::new(into));
}
