//! What must hold: of each record, after each turn, at the end of a world.

use std::cmp::Ordering;

use dagd::core::bound::OnRemoval;
use dagd::core::calendar::TimeMark;
use dagd::core::candidate::{Candidate, Kind, Pending, Stage};
use dagd::core::check::key_of;
use dagd::core::disposition::{MoveResult, Phase};
use dagd::core::fill::{Facts as Known, fill};
use dagd::core::id::{Name, RunId};
use dagd::core::ledger::Noted;
use dagd::core::machine::Machine;
use dagd::core::machine::lane::Wait;
use dagd::core::path::Bytes;
use dagd::core::record::{FileClaim, ItemQueued, Reason, Record, RunCreated};
use dagd::core::run::Run;
use dagd::core::task::TaskState;
use dagd::core::trigger::{
    CatchUp, FanOut, FolderSpec, IdempotentKey, InitialScan, Overlap, RateLimit, ReadLock, Sort,
    SortBy, Source, TriggerSpec,
};

use super::check::{content, key};
use super::disk::Place;
use super::exec::place_of;
use super::oracle;
use super::store::Facts;
use super::watch::{names, root};
use super::world::{World, is_delivery};

/// A record, just before it is stored.
pub(crate) fn record(world: &mut World, machine: &Machine, record: &Record) {
    match record {
        Record::ItemQueued(queued) => {
            world.accepted.insert(queued.item);
            time_came(world, queued);
        }
        Record::ItemDropped { item, trigger, reason, .. } if reason.contains("configured") => {
            let of = trigger.as_ref().and_then(|name| world.store.bound(name));
            let policy = of.map(|bound| bound.on_removal);
            assert_eq!(policy, Some(OnRemoval::Drop), "#{} of {trigger:?} drains", item.0);
        }
        Record::AttemptStarted { run, node, .. } => {
            let facts = world.store.facts.get(run);
            let task = facts.is_some_and(|facts| facts.cancelled_tasks.contains(node));
            assert!(!task, "a task of run {run} that was cancelled is not started");
            let claiming = facts.is_some_and(Facts::is_claiming);
            assert!(!claiming, "no task of run {run} before its files are taken away");
        }
        Record::RunCreated(created) => run_created(world, created),
        Record::MoveDone { run, file, phase, result, .. } => {
            waited(world, (*run, *file, *phase), result);
            if *phase == Phase::Before {
                undelivered(world, *run, *file, result);
            }
        }
        Record::FileStamped { .. } => world.stamps += 1,
        Record::TimeMarked { trigger, mark } => time_marked(world, trigger, mark),
        Record::RunEnded { run, state, .. } => {
            let ended = machine.run(*run).expect("a run is there until its end is committed");
            oracle::check(ended, &world.store.facts[run], *state);
        }
        Record::FileNoted { trigger, rel, version, why, .. } => {
            let spec = &world.model.triggers[trigger];
            if let Noted::Duplicate(run) = why {
                world.duplicates += 1;
                let of = key_of(spec, rel, version).expect("a trigger with keys");
                let had = world.store.keys.get(&(trigger.clone(), key(&of, version)));
                assert_eq!(had, Some(run), "{trigger}: {rel:?} is the same as that of run {run}");
            }
            let by_rule = match why {
                Noted::Baseline => {
                    spec.folder().is_some_and(|f| f.initial_scan == InitialScan::Baseline)
                }
                Noted::Kinds => spec.folder().is_some_and(|f| f.kinds.len() < 2),
                Noted::Skipped => spec.overlap == Overlap::Skip,
                Noted::Signalled => matches!(spec.overlap, Overlap::Signal(_)),
                Noted::Duplicate(_) => {
                    spec.folder().is_some_and(|f| f.idempotent_key != IdempotentKey::Version)
                }
            };
            assert!(by_rule, "{why:?} is a rule of {trigger}");
        }
        Record::TriggerRenamed { from, to, .. } => renamed(world, from, to),
        Record::TriggerForgotten { trigger, .. } => {
            assert!(!world.model.triggers.contains_key(trigger), "{trigger} is gone");
            world.deliveries.retain(|(of, ..), _| of != trigger);
            world.keyed.retain(|(of, _)| of != trigger);
            world.occurred.retain(|(of, _), _| of != trigger);
            world.marks.remove(trigger);
            world.told.remove(trigger);
        }
        _ => {}
    }
}

/// What `from` has delivered, `to` has.
fn renamed(world: &mut World, from: &Name, to: &Name) {
    let spec = world.model.triggers.get(to);
    let told = spec.and_then(|spec| spec.folder()?.renamed_from.as_ref());
    assert_eq!(told, Some(from), "{to} was called {from}");
    let other = |name: &Name| if name == from { to.clone() } else { name.clone() };
    let own = |name: &Name| name == to;
    world.deliveries.retain(|(of, ..), _| !own(of));
    world.keyed.retain(|(of, _)| !own(of));
    let deliveries = std::mem::take(&mut world.deliveries).into_iter();
    world.deliveries = deliveries.map(|((of, place, v), n)| ((other(&of), place, v), n)).collect();
    let keyed = std::mem::take(&mut world.keyed).into_iter();
    world.keyed = keyed.map(|(of, key)| (other(&of), key)).collect();
    // Whose bucket it has depends on how full both were.
    world.starts.remove(from);
    world.starts.remove(to);
    world.marks.remove(to);
    world.told.remove(to);
    let (mark, told) = (world.marks.remove(from), world.told.take(from));
    world.marks.extend(mark.map(|mark| (to.clone(), mark)));
    world.told.extend(told.map(|_| to.clone()));
    world.occurred.retain(|(of, _), _| !own(of));
    let occurred = std::mem::take(&mut world.occurred).into_iter();
    world.occurred = occurred.map(|((of, id), at)| ((other(&of), id), at)).collect();
}

/// An occurrence is accepted once, whatever happens, and a silence is told once.
fn time_came(world: &mut World, queued: &ItemQueued) {
    let Some(trigger) = queued.trigger.clone() else { return };
    let Some(spec) = world.model.triggers.get(&trigger).cloned() else { return };
    match (&spec.source, queued.reason) {
        (Source::Schedule(spec), Reason::Schedule) => {
            let at = queued.scheduled.expect("a schedule has occurrences");
            assert!(at <= world.now().wall, "{trigger}: no occurrence comes before its time");
            let of = (trigger.clone(), spec.schedule.id().into());
            let fresh = world.occurred.entry(of).or_default().insert(at.0);
            assert!(fresh, "{trigger}: {at:?} occurs once");
        }
        (Source::Absent { .. }, Reason::Absence) => {
            assert!(world.told.insert(trigger.clone()), "{trigger}: a silence is told once");
        }
        (_, reason) => {
            let time = matches!(reason, Reason::Schedule | Reason::Absence);
            assert!(!time || queued.parent.is_some(), "{trigger}: only time brings {reason:?}");
        }
    }
}

/// What is settled only grows, and with `catch_up = "all"` nothing before it is left out.
fn time_marked(world: &mut World, trigger: &Name, mark: &TimeMark) {
    let Some(spec) = world.model.triggers.get(trigger).cloned() else { return };
    let old = world.marks.insert(trigger.clone(), mark.clone()).filter(|old| old.of == mark.of);
    if !mark.told {
        world.told.remove(trigger);
    }
    let Some(old) = old else { return };
    assert!(old.at <= mark.at, "{trigger}: what is settled stays so");
    let Source::Schedule(spec) = &spec.source else { return };
    if spec.catch_up == CatchUp::All {
        let seen = world.occurred.get(&(trigger.clone(), mark.of.clone()));
        for at in spec.schedule.last(100, old.at, mark.at) {
            let came = seen.is_some_and(|seen| seen.contains(&at.0));
            assert!(came, "{trigger}: {at:?} is not lost");
        }
    }
}

fn run_created(world: &mut World, created: &RunCreated) {
    let Some(trigger) = created.trigger.clone() else { return };
    let Some(spec) = world.model.triggers.get(&trigger).cloned() else {
        return leaving(world, &trigger, created);
    };
    rate(world, &trigger, spec.rate_limit);
    alone(world, &spec, created);
    let in_order = spec.folder().is_none() && spec.overlap == Overlap::Queue;
    let in_order = in_order && spec.order_key.is_none();
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
        let version = world.disk.written(file.version.mtime_ns);
        if file.kind == Kind::Deleted || !is_delivery(created.reason, created.parent.is_some()) {
            continue;
        }
        let came = world.disk.arrivals.get(&(place.clone(), version)).copied().unwrap_or(0);
        let key = (trigger.clone(), place.clone(), version);
        let delivered = world.deliveries.entry(key).or_default();
        *delivered += 1;
        let times = *delivered;
        assert!(times <= came, "{trigger}: v{version} at {place:?} came {came}, ran {times} times");
        checked(world, &spec, file, &place);
        was_ready(world, &trigger, folder, file);
    }
}

/// A trigger that is not configured runs what it had accepted, by the tasks that it was for.
fn leaving(world: &mut World, trigger: &Name, created: &RunCreated) {
    // It may have been configured when the turn began.
    if created.items.is_empty() {
        return;
    }
    let bound = world.store.bound(trigger).expect("a trigger that accepts events is bound");
    assert_eq!(created.rev, bound.rev, "what waited for {trigger} is run by its own graph");
    assert_eq!(bound.on_removal, OnRemoval::Drain, "{trigger} has nothing to run");
    let limit = bound.rate_limit;
    let spec = &world.specs[&bound.spec];
    assert_eq!(created.key, busy_key(spec, created), "a run of {trigger} keeps its key");
    rate(world, trigger, limit);
    world.drained += 1;
}

/// The key under which a run is to be busy.
fn busy_key(spec: &TriggerSpec, created: &RunCreated) -> Bytes {
    let rel = created.files.first().map(|file| &file.rel);
    if let Some(group) = rel.and_then(|rel| spec.group(rel)) {
        return group.key().clone();
    }
    let trigger = created.trigger.as_deref().expect("a run of a trigger");
    let root = created.root.as_ref();
    let path = root.zip(rel).map(|(root, rel)| root.join(rel.as_bytes()));
    let (file, signal) = (rel.zip(path.as_ref()), created.signal.as_ref());
    let facts = Known { trigger: Some(trigger), root, file, signal, ..Known::default() };
    let template = spec.order_key.as_ref();
    let key = template.and_then(|template| template.expand(|slot| fill(slot, &facts)).ok());
    key.map_or_else(|| Bytes::from(trigger), Bytes::from)
}

/// A run does not start beside another one of its key, whether its trigger has been away or not.
fn alone(world: &World, spec: &TriggerSpec, created: &RunCreated) {
    let keyed = match spec.overlap {
        Overlap::Parallel => false,
        Overlap::Queue => spec.has_keys(),
        Overlap::Coalesce | Overlap::Restart | Overlap::Skip | Overlap::Signal(_) => true,
    };
    let other = |run: &&RunCreated| run.trigger == created.trigger && run.key == created.key;
    let beside = world.store.runs().find(other).filter(|_| keyed);
    assert!(beside.is_none(), "run {} of {} starts beside {beside:?}", created.run, spec.name);
}

/// What is delivered was checked, and is the only one of its key.
fn checked(world: &mut World, spec: &TriggerSpec, file: &FileClaim, place: &Place) {
    let (name, version) = (&spec.name, &file.version);
    let of = key_of(spec, &file.rel, version).map(|of| key(&of, version));
    assert_eq!(file.key, of, "{name}: {place:?} is delivered with its key");
    if let Some(key) = of {
        let first = world.keyed.insert((name.clone(), key.clone()));
        assert!(first, "{name}: {place:?} is the only one with the key {key:?}");
    }
    if spec.folder().is_some_and(|folder| folder.checksum_file.is_some()) {
        let verified = world.disk.verified.contains(&(place.clone(), version.mtime_ns));
        assert!(verified, "{name}: {place:?} is what its checksum file told");
    }
}

/// Whether a file waits for a checksum file that does not tell its content.
fn is_told_against(world: &World, place: &Place, candidate: &Candidate) -> bool {
    let told = world.disk.sums.get(place);
    match candidate.stage {
        Stage::Pending(Pending::ChecksumFile, _) => told.is_none(),
        Stage::Pending(Pending::ChecksumDiffers, _) => {
            told.is_some_and(|told| *told != content(&candidate.version))
        }
        _ => false,
    }
}

/// Of a bucket that was full once, any stretch of time gets the burst and what flows in, no more.
fn rate(world: &mut World, name: &Name, limit: Option<RateLimit>) {
    let Some(RateLimit { runs, per }) = limit else { return };
    let (now, none) = (world.now, (RateLimit { runs, per }, Vec::new()));
    let (_, starts) = world.starts.entry(name.clone()).or_insert(none);
    starts.push(now);
    for (at, since) in starts.iter().enumerate() {
        let many = (starts.len() - at) as u128;
        let most = u128::from(runs) + u128::from(now - since) * u128::from(runs) / per.as_nanos();
        assert!(many <= most, "{name}: {many} runs in {} ns", now - since);
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

/// A move of a file whose time was set waits for a while to be told of it.
fn waited(world: &mut World, of: (RunId, u32, Phase), result: &MoveResult) {
    let since = world.exec.stamped.get(&of).filter(|_| *result == MoveResult::Superseded);
    if since.is_some_and(|since| world.now - since >= 1_000_000_000) {
        world.disk.doubt();
    }
}

/// A version that was claimed and then found to be another one, or gone, was not delivered.
fn undelivered(world: &mut World, run: RunId, file: u32, result: &MoveResult) {
    if !matches!(result, MoveResult::Superseded | MoveResult::Gone) {
        return;
    }
    let created = world.store.created(run).expect("a live run");
    let claim = &created.files[file as usize];
    if !is_delivery(created.reason, created.parent.is_some()) {
        return;
    }
    let place = place_of(claim);
    let trigger = created.trigger.clone().expect("only triggers take files away");
    if let Some(key) = &claim.key {
        world.keyed.remove(&(trigger.clone(), key.clone()));
    }
    let key = (trigger, place, world.disk.written(claim.version.mtime_ns));
    if let Some(times) = world.deliveries.get_mut(&key) {
        *times -= 1;
    }
}

/// What had to hold of a version before it was delivered.
fn was_ready(world: &World, trigger: &Name, folder: &FolderSpec, file: &FileClaim) {
    let place = (root(folder), file.rel.clone());
    let version = file.version.mtime_ns;
    assert_eq!(folder.work_at(&file.rel), Some(file.rel.clone()), "{trigger}: {place:?} counts");
    if matches!(folder.read_lock, ReadLock::Auto | ReadLock::Lease) {
        let whole = world.disk.complete.contains(&version);
        assert!(whole, "{trigger}: v{version} at {place:?} is not half-written");
    }
    assert!(
        folder.rejects_size(file.version.size).is_none(),
        "{trigger}: v{version} at {place:?} has a size that counts"
    );
    if let Some(done) = folder.done_of(&file.rel) {
        let there = world.disk.beside.contains(&(version, done));
        assert!(there, "{trigger}: v{version} at {place:?} had its done file");
    }
    let since = world.disk.since.get(&(place.clone(), version)).copied().unwrap_or(world.now);
    let age = u128::from(world.now - since);
    assert!(age >= folder.min_age.as_nanos(), "{trigger}: v{version} at {place:?} is old enough");
    if folder.proof() == ReadLock::Changed {
        let stable = age >= folder.stability_threshold.as_nanos();
        assert!(stable, "{trigger}: v{version} at {place:?} has stayed the same");
    }
}

/// A file is told to be late: it waits, and nothing else comes of it.
pub(crate) fn alarm(world: &World, trigger: &Name, rel: &Bytes) {
    let lane = &world.machine().lanes()[trigger];
    // Another event of the same turn may have found it gone.
    let Some(candidate) = lane.candidates.get(rel) else { return };
    let alarm = lane.spec.folder().and_then(|folder| folder.ready_alarm);
    let waited = candidate.waiting_since.until(world.now().mono);
    assert!(candidate.alarmed && alarm.is_some_and(|alarm| waited >= alarm), "{rel:?} is late");
}

/// After a turn: what runs is what the machine says, and it works if it can.
pub(crate) fn turn(world: &World) {
    let machine = world.machine();
    for id in world.exec.live() {
        assert!(machine.in_flight().contains_key(id), "{id:?} runs, and the machine knows it");
    }
    let gone = machine.items().values().filter_map(|item| item.trigger.as_ref());
    for trigger in gone.filter(|name| !machine.lanes().contains_key(*name)) {
        let policy = world.store.bound(trigger).map(|bound| bound.on_removal);
        assert_eq!(policy, Some(OnRemoval::Drain), "what waits for {trigger} is to be run");
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
        assert_eq!(run.files(), twin.files(), "the files of run {id} are stored");
        assert_eq!(run.has_begun(), twin.has_begun(), "the beginning of run {id} is stored");
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
        assert_eq!(lane.stored, other.stored, "what is known of {name} is stored");
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
    assert_eq!(machine.stuck().count(), 0, "every move ends");
    let leftovers = world.store.leftovers();
    assert!(leftovers.is_empty(), "nothing lives but idle triggers: {leftovers:?}");
    for (name, lane) in machine.lanes() {
        let Some(folder) = lane.spec.folder() else { continue };
        assert!(lane.stored.armed, "{name} is armed");
        let at = root(folder);
        let undone = |rel: &Bytes| {
            let done = folder.done_of(rel).map(|done| (at.clone(), done));
            done.is_some_and(|done| !world.disk.files.contains_key(&done))
        };
        for (rel, candidate) in &lane.candidates {
            let waits = candidate.stage == Stage::Pending(Pending::DoneFile, None);
            let told = is_told_against(world, &(at.clone(), rel.clone()), candidate);
            let misses = matches!(lane.wait(candidate), Wait::Set(missing) if !missing.is_empty());
            let may = misses || told || (waits && undone(rel));
            assert!(may, "{name} has delivered all but {rel:?}: {candidate:?}");
        }
        for rel in names(&world.disk, folder) {
            let version = &world.disk.files[&(at.clone(), rel.clone())].version;
            if folder.rejects_size(version.size).is_some() {
                assert!(!lane.candidates.contains_key(&rel), "{name}: {rel:?} is ignored");
                continue;
            }
            if undone(&rel) {
                continue;
            }
            let row = world.store.rows.get(&(name.clone(), rel.clone()));
            let known = row.is_some_and(|row| row.open && row.version == *version);
            let known = known || lane.candidates.get(&rel).is_some_and(|c| c.version == *version);
            assert!(known, "{name}: {rel:?} v{} was delivered or noted: {row:?}", version.mtime_ns);
            let told = row.filter(|row| row.open && row.version == *version);
            let run = told.and_then(|row| row.run).map(|run| &world.store.ended[&run].created);
            // Perhaps under the trigger's former name.
            let place = (at.clone(), rel.clone());
            let delivered = world.deliveries.iter().any(|((_, of, number), times)| {
                *of == place && *number == world.disk.written(version.mtime_ns) && *times > 0
            });
            let by_disk = run.is_some_and(|run| is_delivery(run.reason, run.parent.is_some()));
            assert!(!by_disk || delivered, "{name}: {rel:?} v{} was delivered", version.mtime_ns);
        }
        for ((of, rel), row) in &world.store.rows {
            let gone = !world.disk.files.contains_key(&(at.clone(), rel.clone()));
            // Nobody tells of a name that does not count; it was run for by hand.
            let heard = folder.work_at(rel).as_ref() == Some(rel);
            assert!(
                !(of == name && row.open && gone && heard),
                "{name}: {rel:?} is gone, and so it is told"
            );
        }
    }
}
