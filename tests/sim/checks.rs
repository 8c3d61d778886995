//! What must hold: of each record, after each turn, at the end of a world.

use std::cmp::Ordering;

use dagd::core::candidate::Kind;
use dagd::core::machine::Machine;
use dagd::core::machine::lane::Wait;
use dagd::core::record::{FileClaim, Noted, Reason, Record, RunCreated};
use dagd::core::run::Run;
use dagd::core::task::TaskState;
use dagd::core::trigger::{
    FanOut, FolderSpec, InitialScan, Overlap, RateLimit, ReadLock, Sort, SortBy, TriggerSpec,
};

use super::oracle;
use super::watch::{names, root};
use super::world::{World, is_delivery};

/// A record, just before it is stored.
pub(crate) fn record(world: &mut World, machine: &Machine, record: &Record) {
    match record {
        Record::ItemQueued(queued) => {
            world.accepted.insert(queued.item);
        }
        Record::AttemptStarted { run, node, .. } => {
            let facts = world.store.facts.get(run);
            let task = facts.is_some_and(|facts| facts.cancelled_tasks.contains(node));
            assert!(!task, "a task of run {run} that was cancelled is not started");
        }
        Record::RunCreated(created) => run_created(world, created),
        Record::RunEnded { run, state, .. } => {
            let ended = machine.run(*run).expect("a run is there until its end is committed");
            oracle::check(ended, &world.store.facts[run], *state);
        }
        Record::FileNoted { trigger, why, .. } => {
            let spec = &world.model.triggers[trigger];
            let by_rule = match why {
                Noted::Baseline => {
                    spec.folder().is_some_and(|f| f.initial_scan == InitialScan::Baseline)
                }
                Noted::Kinds => spec.folder().is_some_and(|f| f.kinds.len() < 2),
                Noted::Skipped => spec.overlap == Overlap::Skip,
                Noted::Signalled => matches!(spec.overlap, Overlap::Signal(_)),
            };
            assert!(by_rule, "{why:?} is a rule of {trigger}");
        }
        _ => {}
    }
}

fn run_created(world: &mut World, created: &RunCreated) {
    let Some(trigger) = created.trigger.clone() else { return };
    let Some(spec) = world.model.triggers.get(&trigger).cloned() else { return };
    rate(world, &spec);
    let in_order = spec.folder().is_none() && spec.overlap == Overlap::Queue;
    if in_order && created.reason == Reason::Signal {
        for item in &created.items {
            let last = world.last_item.insert(trigger.clone(), *item);
            assert!(last < Some(*item), "signals of {trigger} run in order");
        }
    }
    let Some(folder) = spec.folder() else { return };
    if is_delivery(created.reason, created.parent.is_some()) {
        group(&spec, folder, created);
    }
    for file in created.files.iter().filter(|file| file.in_place) {
        let place = (root(folder), file.rel.clone());
        let version = file.version.mtime_ns;
        if file.kind == Kind::Deleted || !is_delivery(created.reason, created.parent.is_some()) {
            continue;
        }
        let came = world.disk.arrivals.get(&(place.clone(), version)).copied().unwrap_or(0);
        let key = (trigger.clone(), place.clone(), version);
        let delivered = world.deliveries.entry(key).or_default();
        *delivered += 1;
        let times = *delivered;
        assert!(times <= came, "{trigger}: v{version} at {place:?} came {came}, ran {times} times");
        if matches!(folder.read_lock, ReadLock::Auto | ReadLock::Lease) {
            let whole = world.disk.complete.contains(&version);
            assert!(whole, "{trigger}: v{version} at {place:?} is not half-written");
        }
    }
}

/// Of a bucket that was full once, any stretch of time gets the burst and what flows in, no more.
fn rate(world: &mut World, spec: &TriggerSpec) {
    let Some(RateLimit { runs, per }) = spec.rate_limit else { return };
    let now = world.now;
    let starts = world.starts.entry(spec.name.clone()).or_default();
    starts.push(now);
    for (at, since) in starts.iter().enumerate() {
        let many = (starts.len() - at) as u128;
        let most = u128::from(runs) + u128::from(now - since) * u128::from(runs) / per.as_nanos();
        assert!(many <= most, "{}: {many} runs in {} ns", spec.name, now - since);
    }
}

/// The files of a run belong together, are all that it takes, and are in order.
fn group(spec: &TriggerSpec, folder: &FolderSpec, created: &RunCreated) {
    let name = &spec.name;
    let groups = created.files.iter().map(|file| spec.group(&file.rel));
    for group in groups {
        assert_eq!(created.group, group, "{name}: files of a run are of one group");
    }
    for pattern in &folder.set {
        let member = |file: &&FileClaim| pattern.matches(&file.rel);
        let found = created.files.iter().find(member);
        assert!(found.is_some(), "{name}: {} is in the set: {created:?}", pattern.text());
    }
    if folder.set.is_empty() && folder.fan_out != FanOut::File {
        assert!(created.files.len() <= folder.batch_max_files, "{name}: a batch is not too large");
    }
    for pair in created.files.windows(2) {
        let by = |sort: &Sort| {
            let order = match sort.by {
                SortBy::Arrival => Ordering::Equal,
                SortBy::Name => pair[0].rel.cmp(&pair[1].rel),
                SortBy::Mtime => pair[0].version.mtime_ns.cmp(&pair[1].version.mtime_ns),
                SortBy::Size => pair[0].version.size.cmp(&pair[1].version.size),
            };
            if sort.reverse { order.reverse() } else { order }
        };
        let order = folder.sort_by.iter().map(by).find(|order| order.is_ne());
        assert_ne!(order, Some(Ordering::Greater), "{name}: files are in order: {pair:?}");
    }
}

/// After a turn: what runs is what the machine says, and it works if it can.
pub(crate) fn turn(world: &World) {
    let machine = world.machine();
    for id in world.exec.live() {
        assert!(machine.in_flight().contains_key(id), "{id:?} runs, and the machine knows it");
    }
    let ready = machine
        .runs()
        .values()
        .flat_map(Run::nodes)
        .filter(|node| node.state == TaskState::Ready)
        .count();
    assert_eq!(ready, machine.ready_tasks(), "what is ready waits for a slot or a pool");
    let idle = machine.in_flight().is_empty() && !machine.is_stopping();
    assert!(!(idle && ready > 0), "{ready} tasks are ready, nothing runs");
}

/// The stored records give the machine that there is.
pub(crate) fn fold(world: &World) {
    let folded = world.store.fold(&world.model, world.seed, world.now());
    let (live, folded) = (world.machine(), folded.view());
    folded.check_invariants();
    let ids = |m: &Machine| m.runs().keys().copied().collect::<Vec<_>>();
    assert_eq!(ids(folded), ids(live), "the runs are stored");
    for (run, twin) in live.runs().values().zip(folded.runs().values()) {
        let id = run.info().run;
        assert_eq!(run.info(), twin.info(), "run {id} is stored");
        assert_eq!(run.cancelled(), twin.cancelled(), "the cancel of run {id} is stored");
        assert_eq!(run.fates(), twin.fates(), "the fates of run {id} are stored");
        assert_eq!(run.verdict(), twin.verdict(), "the verdict of run {id} is stored");
        for (node, other) in run.nodes().iter().zip(twin.nodes()) {
            // That a delay has passed is not stored.
            let durable = |state| match state {
                TaskState::Retrying => TaskState::Ready,
                other => other,
            };
            assert_eq!(durable(node.state), durable(other.state), "states of run {id} are stored");
            assert_eq!(node.attempt, other.attempt, "attempts of run {id} are stored");
            assert_eq!(node.tries, other.tries, "tries of run {id} are stored");
            assert_eq!(node.outputs, other.outputs, "outputs of run {id} are stored");
        }
    }
    assert_eq!(live.items(), folded.items(), "items are stored");
    for (lane, other) in live.lanes().values().zip(folded.lanes().values()) {
        let name = &lane.spec.name;
        assert_eq!(lane.paused, other.paused, "the pause of {name} is stored");
        assert_eq!(lane.armed, other.armed, "the arming of {name} is stored");
        assert_eq!(lane.live, other.live, "the busy keys of {name} are stored");
        assert_eq!(lane.items, other.items, "the items of {name} are stored");
    }
}

/// Everything has been answered, and time has run: nothing may be left.
pub(crate) fn quiet(world: &World) {
    let machine = world.machine();
    assert!(machine.runs().is_empty(), "every run ends: {:?}", machine.runs());
    assert!(machine.items().is_empty(), "every item is consumed: {:?}", machine.items());
    assert!(machine.in_flight().is_empty(), "nothing is in flight");
    let leftovers = world.store.leftovers();
    assert!(leftovers.is_empty(), "nothing lives but idle triggers: {leftovers:?}");
    for (name, lane) in machine.lanes() {
        for (rel, candidate) in &lane.candidates {
            let misses = matches!(lane.wait(candidate), Wait::Set(missing) if !missing.is_empty());
            assert!(misses, "{name} has delivered all but {rel:?}: {candidate:?}");
        }
        let Some(folder) = lane.spec.folder() else { continue };
        assert!(lane.armed, "{name} is armed");
        let at = root(folder);
        for rel in names(&world.disk, folder) {
            let version = &world.disk.files[&(at.clone(), rel.clone())].version;
            let row = world.store.rows.get(&(name.clone(), rel.clone()));
            let known = row.is_some_and(|row| row.open && row.version == *version);
            let misses = lane.candidates.get(&rel).is_some_and(|found| found.version == *version);
            assert!(
                known || misses,
                "{name}: {rel:?} v{} was delivered or noted: {row:?}",
                version.mtime_ns
            );
        }
        for ((of, rel), row) in &world.store.rows {
            let gone = !world.disk.files.contains_key(&(at.clone(), rel.clone()));
            assert!(
                !(of == name && row.open && gone),
                "{name}: {rel:?} is gone, and so it is told"
            );
        }
    }
}
