//! The history: an ended run is told as it went; old ones go.

use std::collections::BTreeMap;
use std::time::Duration;

use dagd::core::disposition::MoveResult;
use dagd::core::id::{Attempt, ItemId, NodeIx, RunId, Wall};
use dagd::core::path::Bytes;
use dagd::core::record::{Record, RunState, SignalInfo};
use dagd::core::task::{Ended, Exit, SkipCause, StopCause, TaskState, Verdict};
use dagd::io::store::{Keep, RunFilter, Store, log_name};
use dagd::wire::{self, time};

use crate::common::{
    World, at, claim, created, ended, exit, moved, over, planned, reader, run, started, store,
    version, whole_run,
};

fn all() -> RunFilter {
    RunFilter { limit: 100, trigger: None, state: None }
}

/// A run that fails: a succeeds, b times out and then fails, c never runs.
fn failing(world: &World) -> Vec<Record> {
    let mut fresh = run(world, 3, vec![claim(b"ok\xff.csv", 1), claim(b"stuck.csv", 2)]);
    fresh.items = vec![ItemId(2)];
    fresh.parent = Some(RunId(1));
    fresh.keep = vec![("a0".into(), BTreeMap::from([("k".to_owned(), "v".to_owned())]))];
    let (signal, value) = ("SIGUSR1".into(), Some(4));
    fresh.signal = Some(SignalInfo { signal, value, pid: Some(5), uid: Some(6) });
    let late = Ended { exit: Exit::Signal(15), log_bytes: 0, ..exit(0) };
    vec![
        created(fresh),
        started(3, 0, 1),
        ended(3, 0, 1, exit(0), Verdict::Final(TaskState::Succeeded)),
        started(3, 1, 1),
        Record::AttemptEnded {
            run: RunId(3),
            node: NodeIx(1),
            attempt: Attempt(1),
            ended: Box::new(late),
            stop: Some(StopCause::Timeout),
            verdict: Verdict::Retry(Duration::from_secs(1)),
        },
        started(3, 1, 2),
        ended(3, 1, 2, exit(3), Verdict::Final(TaskState::Failed)),
        planned(3, 0, b"/srv/failed/ok\xff.csv"),
        planned(3, 1, b"/srv/failed/b.csv"),
        moved(
            3,
            0,
            MoveResult::Moved {
                to: Bytes::from(&b"/srv/failed/ok\xff.csv"[..]),
                version: version(1),
            },
        ),
        moved(3, 1, MoveResult::Failed("permission denied".into())),
    ]
}

fn attempt(number: u32, log: Option<&str>) -> wire::AttemptRow {
    wire::AttemptRow {
        attempt: number,
        exit_code: Some(0),
        signal: None,
        error: None,
        leftovers: 1,
        started_at: Some(time(at(2))),
        ended_at: Some(time(at(4))),
        log: log.map(str::to_owned),
        memory_peak: Some(4096),
        cpu_us: Some(1500),
    }
}

#[test]
fn what_went_in_comes_out() {
    let (dir, mut world) = (tempfile::tempdir().unwrap(), World::new());
    world.tasks[1].1 = TaskState::Failed;
    world.tasks[2].1 = TaskState::Skipped(SkipCause::UpstreamFailed);
    world.tasks.push(("d".into(), TaskState::Cancelled, Some("by root".to_owned())));
    let mut store = store(dir.path());
    let mut reader = reader(dir.path());
    store.commit(&failing(&world), &world).unwrap();

    let live = reader.run(RunId(3)).unwrap().unwrap();
    let states = |detail: &wire::RunDetail| {
        detail.tasks.iter().map(|task| task.state.clone()).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(
        (live.run.state.as_str(), states(&live)),
        ("running", "succeeded failed skipped".into())
    );
    assert_eq!(reader.retry_source(RunId(3)).unwrap().unwrap().state, RunState::Running);

    store.commit(&[over(3, RunState::Failed)], &world).unwrap();
    let told = reader.run(RunId(3)).unwrap().unwrap();
    assert_eq!(states(&told), "succeeded failed skipped cancelled");
    assert_eq!(told.run.state, "failed");
    assert_eq!(told.run.ended_at, Some(time(at(5))));
    let mut same = told.run.clone();
    (same.state, same.ended_at) = (live.run.state.clone(), None);
    assert_eq!(same, live.run, "live and ended differ in nothing else");
    assert_eq!(
        (&told.select, &told.parent, &told.signal),
        (&live.select, &live.parent, &live.signal)
    );
    assert_eq!((told.select.as_str(), told.parent), ("a+", Some(1)));
    assert_eq!(told.signal.as_ref().unwrap().value, Some(4));
    assert_eq!(
        told.tasks[..2].iter().map(|t| &t.attempts).collect::<Vec<_>>(),
        live.tasks[..2].iter().map(|t| &t.attempts).collect::<Vec<_>>()
    );
    let log = dir.path().join("logs/3.a.1.log");
    assert_eq!(told.tasks[0].attempts, [attempt(1, log.to_str())]);
    let log = dir.path().join("logs/3.b.2.log");
    let timed_out = wire::AttemptRow {
        exit_code: None,
        signal: Some(15),
        error: Some("time limit reached".to_owned()),
        ..attempt(1, None)
    };
    let failed = wire::AttemptRow { exit_code: Some(3), ..attempt(2, log.to_str()) };
    assert_eq!(told.tasks[1].attempts, [timed_out, failed]);
    assert_eq!(told.tasks[2].cause.as_deref(), Some("upstream_failed"));
    assert_eq!(told.tasks[3].cause.as_deref(), Some("by root"));
    let exact = &told.run.files[0].moved_to.as_ref().unwrap().path_b64;
    assert_eq!(*exact, Bytes::from(&b"/srv/failed/ok\xff.csv"[..]).b64());
    assert_eq!(told.run.files[1].move_error.as_deref(), Some("permission denied"));
}

#[test]
fn a_run_can_be_repeated_from_its_history() {
    let (dir, mut world) = (tempfile::tempdir().unwrap(), World::new());
    world.tasks[1].1 = TaskState::Failed;
    world.tasks[2].1 = TaskState::Skipped(SkipCause::UpstreamFailed);
    world.tasks.push(("a0".into(), TaskState::Succeeded, None));
    let mut store = store(dir.path());
    let records = failing(&world);
    store.commit(&records, &world).unwrap();
    store.commit(&[over(3, RunState::Failed)], &world).unwrap();
    let source = reader(dir.path()).retry_source(RunId(3)).unwrap().unwrap();
    let Record::RunCreated(was) = &records[0] else { unreachable!() };
    assert_eq!((source.state, source.at, &source.rev), (RunState::Failed, was.at, &was.rev));
    assert_eq!((&source.trigger, &source.select), (&was.trigger, &was.select));
    assert_eq!((&source.signal, source.parent), (&was.signal, was.parent));
    let claims: Vec<_> = source.files.iter().map(|file| file.claim.clone()).collect();
    assert_eq!(claims, was.files);
    assert_eq!(source.files[0].location, Bytes::from(&b"/srv/failed/ok\xff.csv"[..]));
    assert_eq!(source.files[1].location, Bytes::from("/srv/in/stuck.csv"));
    let tasks: Vec<_> = source.tasks.iter().map(|t| (&*t.name, t.state, t.outputs.len())).collect();
    assert_eq!(
        tasks,
        [
            ("a", TaskState::Succeeded, 1),
            ("a0", TaskState::Succeeded, 1),
            ("b", TaskState::Failed, 1),
            ("c", TaskState::Skipped(SkipCause::UpstreamFailed), 0)
        ]
    );
    assert_eq!(source.tasks[1].outputs["k"], "v", "kept outputs are kept on");
}

#[test]
fn runs_are_listed_newest_first_with_the_live_ones() {
    let (dir, world) = (tempfile::tempdir().unwrap(), World::new());
    let mut store = store(dir.path());
    let mut reader = reader(dir.path());
    let mut other = run(&world, 2, Vec::new());
    other.trigger = None;
    store.commit(&whole_run(&world, 1, vec![claim(b"a", 1)]), &world).unwrap();
    store.commit(&[created(other)], &world).unwrap();
    store.commit(&whole_run(&world, 3, Vec::new()), &world).unwrap();
    store.commit(&[created(run(&world, 4, Vec::new())), started(4, 0, 1)], &world).unwrap();
    let mut list = |filter: &RunFilter| {
        let runs = reader.runs(filter).unwrap().into_iter();
        runs.map(|run| format!("{}{}", run.id, &run.state[..1])).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(list(&all()), "4r 3s 2q 1s");
    assert_eq!(list(&RunFilter { limit: 2, ..all() }), "4r 3s");
    assert_eq!(list(&RunFilter { state: Some("succeeded".into()), ..all() }), "3s 1s");
    assert_eq!(list(&RunFilter { state: Some("queued".into()), ..all() }), "2q");
    assert_eq!(list(&RunFilter { trigger: Some("orders".into()), ..all() }), "4r 3s 1s");
    for unknown in [9, u64::MAX] {
        assert!(reader.run(RunId(unknown)).unwrap().is_none());
    }
    assert!(reader.retry_source(RunId(9)).unwrap().is_none());
}

fn keep(runs: u64, since: Wall) -> Keep {
    Keep { runs, since, log_bytes: u64::MAX }
}

#[test]
fn logs_that_take_too_much_go_with_their_runs() {
    let (dir, world) = (tempfile::tempdir().unwrap(), World::new());
    let mut store = store(dir.path());
    for id in 1..=10 {
        store.commit(&whole_run(&world, id, Vec::new()), &world).unwrap();
    }
    let all = Keep { log_bytes: u64::MAX, ..keep(100, Wall(0)) };
    assert_eq!(store.prune(all, |_| ()).unwrap().runs, []);
    let conn = rusqlite::Connection::open(store.path()).unwrap();
    let sum = || {
        let sql = "SELECT sum(log_kept) FROM attempts";
        u64::try_from(conn.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap()).unwrap()
    };
    let whole = sum();
    assert!(whole > 0);
    let pruned = store.prune(Keep { log_bytes: whole / 2, ..all }, |_| ()).unwrap();
    assert_eq!(pruned.runs.first(), Some(&RunId(1)), "the oldest go");
    assert!(sum() <= whole / 2 && sum() + pruned.log_bytes == whole);
    drop(store);
    let mut store = Store::open(dir.path(), false).unwrap();
    assert_eq!(store.prune(Keep { log_bytes: whole / 2, ..all }, |_| ()).unwrap().runs, []);
}

#[test]
fn old_runs_go_and_take_along_what_only_told_of_them() {
    let (dir, world) = (tempfile::tempdir().unwrap(), World::new());
    let old = World::with(&[("a", &[])]);
    let mut store = store(dir.path());
    let mut reader = reader(dir.path());
    store.commit(&whole_run(&old, 1, vec![claim(b"open", 1), claim(b"gone", 1)]), &old).unwrap();
    let gone = Record::FileDeparted { trigger: "orders".into(), rel: "gone".into(), at: at(6) };
    store.commit(&[gone], &world).unwrap();
    for id in 2..=600 {
        store.commit(&whole_run(&world, id, Vec::new()), &world).unwrap();
    }
    let mut removed = Vec::new();
    let looks = rusqlite::Connection::open(store.path()).unwrap();
    let is_stored = |log: &str| {
        looks.query_row("SELECT 1 FROM attempts WHERE log = ?1", [log], |_| Ok(())).is_ok()
    };
    loop {
        let mut logs = Vec::new();
        let remove = |log: &str| {
            assert!(is_stored(log), "a crash here leaves a row without a log, not the reverse");
            logs.push(log.to_owned());
        };
        let slice = store.prune(keep(10, Wall(0)), remove).unwrap();
        assert!(slice.runs.len() <= 256, "{}", slice.runs.len());
        assert_eq!(logs.len(), slice.runs.len());
        assert_eq!(logs[0], log_name(slice.runs[0], "a", Attempt(1)));
        assert!(!is_stored(&logs[0]));
        removed.extend(slice.runs);
        if !slice.more {
            break;
        }
    }
    assert_eq!(removed, (1..=590).map(RunId).collect::<Vec<_>>());
    assert_eq!(reader.runs(&all()).unwrap().len(), 10);
    assert!(reader.ledger_row("orders", &"open".into()).unwrap().unwrap().open, "still delivered");
    assert_eq!(reader.ledger_row("orders", &"gone".into()).unwrap(), None);
    let conn = rusqlite::Connection::open(store.path()).unwrap();
    let count = |sql: &str| conn.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!(count("SELECT count(*) FROM graphs"), 1, "the old graph went with its last run");
    assert_eq!(count("SELECT count(*) FROM attempts"), 10);
    // The same graph comes back with a new run.
    store.commit(&[created(run(&old, 601, Vec::new()))], &old).unwrap();
    assert_eq!(store.load().unwrap().graphs.len(), 1);

    assert_eq!(
        store.prune(keep(10, at(100)), |_| ()).unwrap().runs.len(),
        9,
        "by age, but for the newest"
    );
    assert_eq!(store.prune(keep(0, at(100)), |_| ()).unwrap().runs, [], "numbers never start over");
    assert_eq!(store.load().unwrap().next_run, RunId(602));
    store.commit(&[over(601, RunState::Cancelled)], &old).unwrap();
    assert_eq!(store.prune(keep(0, Wall(0)), |_| ()).unwrap().runs, [RunId(600)]);
}

#[test]
fn durations_follow_the_last_attempts() {
    let (dir, world) = (tempfile::tempdir().unwrap(), World::new());
    let mut store = store(dir.path());
    for id in 1..=40u64 {
        let seconds = if id <= 20 { 2 } else { 10 };
        let took = Ended { ended_at: at(2 + seconds), ..exit(0) };
        let lost = Ended::without_process(Exit::Unknown, at(999));
        let records = [
            created(run(&world, id, Vec::new())),
            started(id, 0, 1),
            ended(id, 0, 1, lost, Verdict::Requeue),
            started(id, 0, 2),
            ended(id, 0, 2, took, Verdict::Final(TaskState::Succeeded)),
            over(id, RunState::Succeeded),
        ];
        store.commit(&records, &world).unwrap();
        let durations = store.durations().unwrap();
        assert_eq!(&*durations[0].0, "a");
        if id == 20 {
            assert_eq!(durations[0].1, Duration::from_secs(2));
        }
    }
    let mean = store.durations().unwrap()[0].1;
    assert!((9.0..10.0).contains(&mean.as_secs_f64()), "{mean:?}");
}
