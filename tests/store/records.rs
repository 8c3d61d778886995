//! Records: what is committed is what is loaded.

use std::collections::BTreeMap;
use std::time::Duration;

use dagd::core::disposition::{Goal, MoveResult, Phase};
use dagd::core::id::{Attempt, ItemId, NodeIx, RunId};
use dagd::core::path::Bytes;
use dagd::core::record::{ItemQueued, Reason, Record, RunState, SignalInfo};
use dagd::core::selector::Selector;
use dagd::core::task::{Ended, Exit, SkipCause, StopCause, TaskState, Verdict};
use dagd::io::store::{DROPPED_MAX, StoreError};

use crate::common::{
    World, at, claim, created, ended, exit, moved, over, reader, run, started, store, version,
};

fn item(item: u64) -> Record {
    Record::ItemQueued(ItemQueued {
        item: ItemId(item),
        trigger: Some("rotate".into()),
        select: Some(Selector::parse("a+ & tag:x").unwrap()),
        reason: Reason::Signal,
        signal: Some(SignalInfo {
            signal: "SIGRTMIN+1".into(),
            value: Some(-7),
            pid: Some(1),
            uid: Some(u32::MAX),
        }),
        scheduled: Some(at(7)),
        files: vec![claim(b"\xff\n-x", 3)],
        parent: Some(RunId(9)),
        keep: vec![("a".into(), BTreeMap::from([("k".to_owned(), "v\n".to_owned())]))],
        at: at(0),
    })
}

fn dropped(item: u64) -> Record {
    let (item, trigger) = (ItemId(item), Some("rotate".into()));
    Record::ItemDropped { item, trigger, reason: "overlap: skip".to_owned(), at: at(3) }
}

/// What stays alive, in every variant and shape.
fn living(world: &World) -> Vec<Record> {
    let run_id = RunId(4);
    let exits = [
        (Exit::Code(-1), None, Verdict::Retry(Duration::from_nanos(1_500_000_001))),
        (Exit::Signal(9), Some(StopCause::Timeout), Verdict::Final(TaskState::TimedOut)),
        (Exit::NotStarted("no such file".to_owned()), None, Verdict::Final(TaskState::Failed)),
        (Exit::Shortage("no memory".to_owned()), None, Verdict::Retry(Duration::from_secs(1))),
        (
            Exit::MissingOutput("a.rows".to_owned()),
            Some(StopCause::Cancel),
            Verdict::Final(TaskState::Skipped(SkipCause::ExitCode)),
        ),
        (Exit::Unknown, Some(StopCause::Shutdown), Verdict::Requeue),
    ];
    let mut records = vec![item(1), created(run(world, 4, vec![claim(b"a.csv", 1); 8]))];
    for (attempt, (exit, stop, verdict)) in (1u32..).zip(exits) {
        let (node, attempt) = (NodeIx(2), Attempt(attempt));
        records.push(Record::AttemptStarted { run: run_id, node, attempt, at: at(2) });
        let ended = Box::new(Ended::without_process(exit, at(3)));
        records.push(Record::AttemptEnded { run: run_id, node, attempt, ended, stop, verdict });
    }
    for node in [None, Some(NodeIx(1))] {
        let reason = "asked by uid 0".to_owned();
        records.push(Record::CancelRequested { run: run_id, node, reason, at: at(4) });
    }
    let target = Bytes::from(&b"/srv/done/\xfe.csv"[..]);
    for (file, goal) in (0..).zip([Goal::To(target.clone()), Goal::Delete]) {
        let phase = Phase::After;
        records.push(Record::MovePlanned { run: run_id, file, phase, goal, at: at(4) });
    }
    let results = [
        MoveResult::Moved { to: target, version: version(1) },
        MoveResult::Deleted,
        MoveResult::Kept,
        MoveResult::Superseded,
        MoveResult::Gone,
        MoveResult::Failed("EACCES".to_owned()),
    ];
    records.extend((0u32..).zip(results).map(|(file, result)| moved(4, file, result)));
    let trigger = "site";
    records.push(Record::TriggerArmed { trigger: trigger.into(), at: at(1) });
    let reason = "too many files".to_owned();
    records.push(Record::TriggerPaused {
        trigger: trigger.into(),
        reason,
        flooded: false,
        at: at(2),
    });
    records.push(Record::TriggerResumed { trigger: "other".into(), at: at(2) });
    records
}

/// What changes the ledger or ends something.
fn passing() -> Vec<Record> {
    let (trigger, rel) = ("site", Bytes::from("x/y"));
    vec![
        dropped(7),
        over(4, RunState::Cancelled),
        Record::FileNoted {
            why: dagd::core::ledger::Noted::Baseline,
            trigger: trigger.into(),
            rel: rel.clone(),
            version: version(1),
            at: at(1),
        },
        Record::FilesPlaced {
            trigger: trigger.into(),
            places: vec![dagd::core::ledger::Placed { dir: "x".into(), what: "tmpfs".to_owned() }],
            at: at(1),
        },
        Record::FileStamped {
            trigger: trigger.into(),
            rel: rel.clone(),
            version: version(1),
            run: None,
            at: at(1),
        },
        Record::FileDeparted { trigger: trigger.into(), rel, at: at(1) },
    ]
}

#[test]
fn every_record_survives() {
    let (dir, world) = (tempfile::tempdir().unwrap(), World::new());
    for record in living(&world).into_iter().chain(passing()) {
        let json = serde_json::to_string(&record).unwrap();
        assert_eq!(serde_json::from_str::<Record>(&json).unwrap(), record);
    }
    let records = living(&world);
    let mut first = store(dir.path());
    let (head, tail) = records.split_at(5);
    assert_eq!(first.commit(head, &world).unwrap().0, 1);
    assert_eq!(first.commit(&[], &world).unwrap().0, 1, "nothing is no commit");
    assert_eq!(first.commit(tail, &world).unwrap().0, 2);
    assert_eq!(first.load().unwrap().records, records);
    let instance = first.instance().to_owned();
    drop(first);

    let mut again = store(dir.path());
    let loaded = again.load().unwrap();
    assert_eq!(loaded.records, records);
    assert_eq!((loaded.next_run, loaded.next_item), (RunId(5), ItemId(2)));
    assert_eq!(loaded.graphs.len(), 1);
    assert_eq!(loaded.graphs[0].0, *world.graph.rev());
    assert_eq!(loaded.graphs[0].1.tasks, world.graph.to_stored().tasks);
    assert_eq!(reader(dir.path()).load().unwrap().records, records);
    assert_eq!(again.instance(), instance);
    assert!(instance.len() == 8 && instance.bytes().all(|b| b.is_ascii_hexdigit()), "{instance}");
    assert_eq!(again.commit(&[started(4, 0, 1)], &world).unwrap().0, 1, "counted since open");
    assert_eq!(again.load().unwrap().records.last(), Some(&started(4, 0, 1)));
}

#[test]
fn what_ended_is_gone_and_numbers_go_on() {
    let (dir, world) = (tempfile::tempdir().unwrap(), World::new());
    let mut store = store(dir.path());
    let mut consumes = run(&world, 8, Vec::new());
    consumes.items = vec![ItemId(1), ItemId(2)];
    let batch = [item(1), item(2), item(3), created(consumes.clone())];
    store.commit(&batch, &world).unwrap();
    assert_eq!(store.load().unwrap().records, [item(3), created(consumes)]);
    store.commit(&[dropped(3), over(8, RunState::Cancelled)], &world).unwrap();
    let loaded = store.load().unwrap();
    assert!(loaded.records.is_empty() && loaded.graphs.is_empty(), "{loaded:?}");
    assert_eq!((loaded.next_run, loaded.next_item), (RunId(9), ItemId(4)));
}

#[test]
fn only_the_newest_word_on_a_trigger_stays() {
    let (dir, world) = (tempfile::tempdir().unwrap(), World::new());
    let mut store = store(dir.path());
    let trigger = "site";
    let pause = |reason: &str| Record::TriggerPaused {
        trigger: trigger.into(),
        reason: reason.to_owned(),
        flooded: false,
        at: at(1),
    };
    let resume = Record::TriggerResumed { trigger: trigger.into(), at: at(2) };
    let armed = Record::TriggerArmed { trigger: trigger.into(), at: at(2) };
    store.commit(&[pause("x"), armed.clone(), resume.clone()], &world).unwrap();
    assert_eq!(store.load().unwrap().records, [armed.clone(), resume]);
    store.commit(&[pause("y")], &world).unwrap();
    assert_eq!(store.load().unwrap().records, [armed, pause("y")]);
}

#[test]
fn dropped_events_are_told_but_bounded() {
    let (dir, world) = (tempfile::tempdir().unwrap(), World::new());
    let mut store = store(dir.path());
    store.commit(&[item(1), dropped(1)], &world).unwrap();
    let conn = rusqlite::Connection::open(store.path()).unwrap();
    let told: (i64, String, String) = conn
        .query_row("SELECT item, reason, payload FROM dropped", [], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })
        .unwrap();
    assert_eq!((told.0, told.1.as_str()), (1, "overlap: skip"));
    assert_eq!(serde_json::from_str::<Record>(&told.2).unwrap(), item(1));
    let flood: Vec<_> = (2..2 + DROPPED_MAX.cast_unsigned() + 5).map(dropped).collect();
    store.commit(&flood, &world).unwrap();
    let (count, oldest): (i64, i64) = conn
        .query_row("SELECT count(*), min(item) FROM dropped", [], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .unwrap();
    assert_eq!((count, oldest), (DROPPED_MAX, 7));
}

#[test]
fn a_record_for_a_run_that_does_not_live_is_refused_whole() {
    let (dir, world) = (tempfile::tempdir().unwrap(), World::new());
    let mut store = store(dir.path());
    store.commit(&[item(1)], &world).unwrap();
    let wrong = [
        vec![item(2), over(77, RunState::Failed)],
        vec![item(2), moved(77, 0, MoveResult::Gone)],
        vec![
            item(2),
            created(run(&world, 5, Vec::new())),
            ended(5, 99, 1, exit(0), Verdict::Requeue),
            over(5, RunState::Failed),
        ],
        vec![item(2), item(2), created(run(&World::with(&[("z", &[])]), 5, Vec::new()))],
    ];
    for batch in wrong {
        let error = store.commit(&batch, &world).unwrap_err();
        assert!(matches!(error, StoreError::Corrupt(_)), "{error:?}");
        assert!(error.to_string().contains("dagd.db"), "{error}");
        assert_eq!(store.load().unwrap().records, [item(1)], "nothing of it stays");
    }
    assert_eq!(store.commit(&[item(2)], &world).unwrap().0, 2, "the store goes on");
    assert_eq!(store.load().unwrap().records, [item(1), item(2)]);
}
