//! Triggers that are renamed and forgotten, and keys.

use dagd::core::bound::{Bound, OnRemoval};
use dagd::core::disposition::Disposition;
use dagd::core::id::{ItemId, Name, RunId};
use dagd::core::ledger::{Noted, Placed};
use dagd::core::path::Bytes;
use dagd::core::record::{FileClaim, Reason, Record, RunState};
use dagd::core::selector::Selector;
use dagd::io::store::{Keep, RunFilter, Store};

use crate::common::{World, at, claim, created, over, reader, run, store, version, whole_run};

fn keep() -> Keep {
    Keep { runs: 100, since: at(0), log_bytes: u64::MAX }
}

fn armed(trigger: &str) -> Record {
    Record::TriggerArmed { trigger: trigger.into(), at: at(0) }
}

fn renamed(from: &str, to: &str) -> Record {
    Record::TriggerRenamed { from: from.into(), to: to.into(), at: at(1) }
}

fn keyed(rel: &[u8], n: u64, key: &str) -> FileClaim {
    FileClaim { key: Some(key.into()), ..claim(rel, n) }
}

#[test]
fn a_key_is_taken_until_its_trigger_is_forgotten() {
    let (dir, world) = (tempfile::tempdir().unwrap(), World::new());
    let mut store = store(dir.path());
    let mut reader = reader(dir.path());
    let key = Bytes::from(&b"path:\xff"[..]);
    let mut one = run(&world, 1, vec![keyed(b"a", 1, "k"), claim(b"b", 2)]);
    one.files[1].key = Some(key.clone());
    store.commit(&[created(one), armed("orders")], &world).unwrap();
    assert_eq!(reader.key_holder("orders", &"k".into()).unwrap(), Some(RunId(1)));
    assert_eq!(reader.key_holder("orders", &key).unwrap(), Some(RunId(1)));
    assert_eq!(reader.key_holder("orders", &"j".into()).unwrap(), None);
    assert_eq!(reader.key_holder("other", &"k".into()).unwrap(), None);
    // What came back by a policy takes it over.
    store.commit(&[over(1, RunState::Cancelled)], &world).unwrap();
    store.commit(&[created(run(&world, 2, vec![keyed(b"a", 1, "k")]))], &world).unwrap();
    assert_eq!(reader.key_holder("orders", &"k".into()).unwrap(), Some(RunId(2)));
    let forgotten = Record::TriggerForgotten { trigger: "orders".into(), at: at(3) };
    store.commit(&[over(2, RunState::Failed), forgotten], &world).unwrap();
    assert_eq!(reader.key_holder("orders", &"k".into()).unwrap(), None);
    assert_eq!(reader.ledger_row("orders", &"a".into()).unwrap(), None);
    assert_eq!(store.load().unwrap().records, []);
    // Comes back with nothing, and what was before does not come back with it.
    store.commit(&[created(run(&world, 3, vec![claim(b"c", 3)]))], &world).unwrap();
    assert_eq!(reader.ledger_row("orders", &"a".into()).unwrap(), None);
    while store.prune(keep(), |_| ()).unwrap().more {}
    assert_eq!(reader.ledger_row("orders", &"c".into()).unwrap().unwrap().run, Some(RunId(3)));
    let conn = rusqlite::Connection::open(store.path()).unwrap();
    let count = |sql: &str| conn.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!(count("SELECT count(*) FROM ledger"), 1);
    assert_eq!(count("SELECT count(*) FROM keys") + count("SELECT count(*) FROM orphans"), 0);
}

#[test]
fn a_duplicate_tells_of_the_run_that_had_its_key() {
    let (dir, world) = (tempfile::tempdir().unwrap(), World::new());
    let mut store = store(dir.path());
    let mut reader = reader(dir.path());
    store.commit(&whole_run(&world, 1, vec![keyed(b"a", 1, "k")]), &world).unwrap();
    let (trigger, rel): (Name, Bytes) = ("orders".into(), "b".into());
    let why = Noted::Duplicate(RunId(1));
    let (t, r) = (trigger.clone(), rel.clone());
    let noted = Record::FileNoted { trigger: t, rel: r, version: version(2), why, at: at(1) };
    store.commit(&[noted], &world).unwrap();
    let told = reader.ledger_story("orders", &rel).unwrap().unwrap();
    assert_eq!((&*told.state, told.row.run, told.row.open), ("duplicate", Some(RunId(1)), true));
    // Nothing but that was known of it.
    store.commit(&[Record::FileDeparted { trigger, rel: rel.clone(), at: at(2) }], &world).unwrap();
    assert_eq!(reader.ledger_story("orders", &rel).unwrap(), None);
}

/// A trigger with a ledger, a key, an event that waits and a run that lives.
fn busy(store: &mut Store, world: &World) {
    store.commit(&whole_run(world, 1, vec![keyed(b"a", 1, "k")]), world).unwrap();
    let queued = dagd::core::record::ItemQueued {
        item: ItemId(1),
        trigger: Some("orders".into()),
        select: None,
        reason: Reason::Manual,
        signal: None,
        scheduled: None,
        files: vec![claim(b"w", 9)],
        parent: None,
        keep: Vec::new(),
        at: at(0),
    };
    let pause = Record::TriggerPaused {
        trigger: "orders".into(),
        reason: "by request".into(),
        flooded: false,
        at: at(0),
    };
    let mut live = run(world, 2, vec![claim(b"b", 2)]);
    live.key = "orders".into();
    let records = [created(live), Record::ItemQueued(queued), armed("orders"), pause];
    store.commit(&records, world).unwrap();
}

#[test]
fn a_rename_takes_all_along() {
    let (dir, world) = (tempfile::tempdir().unwrap(), World::new());
    let mut store = store(dir.path());
    let mut reader = reader(dir.path());
    busy(&mut store, &world);
    // The new name has something of its own: a start by hand, and what it took for known.
    let mut own = run(&world, 3, vec![claim(b"hand", 3), claim(b"a", 5)]);
    own.trigger = Some("new".into());
    let noted = Record::FileNoted {
        trigger: "new".into(),
        rel: "b".into(),
        version: version(8),
        why: Noted::Baseline,
        at: at(1),
    };
    store.commit(&[created(own), noted], &world).unwrap();
    store.commit(&[renamed("orders", "new"), armed("other")], &world).unwrap();

    let mut row = |rel: &str| reader.ledger_row("new", &rel.into()).unwrap().unwrap();
    assert_eq!(row("hand").run, Some(RunId(3)));
    assert_eq!(row("a").run, Some(RunId(3)), "the newer delivery");
    assert_eq!(row("b").version, version(2), "delivered, not only seen");
    assert_eq!(reader.ledger_row("orders", &"a".into()).unwrap(), None);
    assert_eq!(reader.key_holder("new", &"k".into()).unwrap(), Some(RunId(1)));
    assert_eq!(reader.key_holder("orders", &"k".into()).unwrap(), None);

    let loaded = store.load().unwrap();
    let mut told = Vec::new();
    for record in &loaded.records {
        match record {
            Record::RunCreated(created) => {
                told.push((created.trigger.clone(), created.formerly.clone()));
                assert_ne!(created.key, "orders".into());
            }
            Record::ItemQueued(queued) => told.push((queued.trigger.clone(), None)),
            Record::TriggerPaused { trigger, .. } | Record::TriggerArmed { trigger, .. } => {
                told.push((Some(trigger.clone()), None));
            }
            _ => {}
        }
    }
    let new = Some(Name::from("new"));
    let expected = [
        (new.clone(), Some("orders".into())),
        (new.clone(), None),
        (new.clone(), None),
        (new.clone(), None),
        (new.clone(), None),
        (Some("other".into()), None),
    ];
    assert_eq!(told, expected);
    let filter = RunFilter { limit: 9, trigger: Some("new".to_owned()), state: None };
    assert_eq!(reader.runs(&filter).unwrap().len(), 3, "the history, too");

    // The run ends under the new name.
    store.commit(&[over(2, RunState::Succeeded)], &world).unwrap();
    assert_eq!(reader.ledger_story("new", &"b".into()).unwrap().unwrap().state, "succeeded");
    while store.prune(keep(), |_| ()).unwrap().more {}
    assert!(reader.ledger_row("new", &"b".into()).unwrap().is_some());
}

/// The watch side has told where the files of the new one lie, and does not tell again.
#[test]
fn a_rename_leaves_where_files_lie() {
    let (dir, world) = (tempfile::tempdir().unwrap(), World::new());
    let mut store = store(dir.path());
    let mut reader = reader(dir.path());
    let placed = |trigger: &str, what: &str| Record::FilesPlaced {
        trigger: trigger.into(),
        places: vec![Placed { dir: Bytes::default(), what: what.to_owned() }],
        at: at(1),
    };
    store.commit(&[placed("orders", "old"), placed("new", "new")], &world).unwrap();
    store.commit(&[created(run(&world, 1, vec![claim(b"a", 1)]))], &world).unwrap();
    store.commit(&[renamed("orders", "new")], &world).unwrap();
    let (trigger, rel, why) = ("new".into(), Bytes::from("b"), Noted::Baseline);
    let noted = Record::FileNoted { trigger, rel, version: version(2), why, at: at(2) };
    store.commit(&[noted], &world).unwrap();
    assert!(reader.is_of("new", &"a".into(), "old").unwrap(), "it was delivered from there");
    assert!(reader.is_of("new", &"b".into(), "new").unwrap());
    assert!(!reader.is_of("new", &"b".into(), "old").unwrap());
}

#[test]
fn a_rename_happens_once_or_not_at_all() {
    let (dir, world) = (tempfile::tempdir().unwrap(), World::new());
    let mut store = store(dir.path());
    busy(&mut store, &world);
    let before = store.load().unwrap().records;
    // The batch contradicts what is stored, after the rename.
    let error = store.commit(&[renamed("orders", "new"), over(77, RunState::Failed)], &world);
    assert!(error.is_err());
    assert_eq!(store.load().unwrap().records, before);
    let mut reader = reader(dir.path());
    assert!(reader.ledger_row("orders", &"a".into()).unwrap().is_some());
    assert_eq!(store.load().unwrap().triggers, [Name::from("orders")]);
    store.commit(&[renamed("orders", "new")], &world).unwrap();
    assert_eq!(store.load().unwrap().triggers, [Name::from("new")]);
    // Nothing is known of the former name: nothing changes.
    store.commit(&[renamed("nobody", "new")], &world).unwrap();
    assert!(reader.ledger_row("new", &"a".into()).unwrap().is_some());
}

#[test]
fn a_large_ledger_goes_in_steps() {
    const ROWS: i64 = 1_000_000;
    /// Rows in a step, at most, and steps between two looks.
    const SLICE: i64 = 4096;
    const EVERY: i64 = 32;
    let (dir, world) = (tempfile::tempdir().unwrap(), World::new());
    let mut store = store(dir.path());
    busy(&mut store, &world);
    let conn = rusqlite::Connection::open(store.path()).unwrap();
    conn.execute(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?1) \
         INSERT INTO ledger SELECT 1, printf('%03d', i % 1000), printf('file-%d', i), \
         x'00112233445566778899aabbccddeeff', i, i, 1, NULL, 'baseline', NULL, '2026', NULL FROM n",
        [ROWS],
    )
    .unwrap();
    let count =
        || conn.query_row("SELECT count(*) FROM ledger", [], |row| row.get::<_, i64>(0)).unwrap();
    let before = count();
    assert!(before >= ROWS);
    let begun = std::time::Instant::now();
    store.commit(&[renamed("orders", "new")], &world).unwrap();
    println!("a rename with {before} rows: {:?}", begun.elapsed());
    let forgotten = Record::TriggerForgotten { trigger: "new".into(), at: at(3) };
    store.commit(&[over(2, RunState::Failed), forgotten], &world).unwrap();
    assert_eq!(count(), before, "nothing has been removed yet");
    let (mut left, mut longest, mut steps) = (before, std::time::Duration::ZERO, 0);
    loop {
        let begun = std::time::Instant::now();
        let more = store.prune(keep(), |_| ()).unwrap().more;
        longest = longest.max(begun.elapsed());
        steps += 1;
        if steps % EVERY == 0 {
            let now = count();
            assert!(left - now <= EVERY * SLICE, "{left} rows, then {now}");
            left = now;
        }
        if !more {
            break;
        }
    }
    assert!(steps > before / SLICE, "{steps} steps");
    println!("the longest of the steps: {longest:?}");
    assert_eq!(count(), 0);
}

#[test]
fn a_graph_that_only_a_triggers_last_word_kept_goes_with_that_word() {
    let dir = tempfile::tempdir().unwrap();
    let worlds = [World::new(), World::with(&[("other", &[])])];
    let mut store = store(dir.path());
    for world in &worlds {
        let bound = Bound {
            spec: "x".into(),
            rev: world.graph.rev().clone(),
            select: Selector::task("a"),
            on_removal: OnRemoval::Drain,
            merge: false,
            rate_limit: None,
            drop: false,
            root: None,
            disposition: Disposition::default(),
            order_key: None,
            grouping: None,
        };
        let (trigger, bound) = ("s".into(), Box::new(bound));
        let record = Record::TriggerBound { trigger, bound, at: at(1) };
        store.commit(&[record], world).unwrap();
    }
    while store.prune(keep(), |_| ()).unwrap().more {}
    let mut left = reader(dir.path());
    assert!(left.graph(worlds[0].graph.rev()).unwrap().is_none());
    assert!(left.graph(worlds[1].graph.rev()).unwrap().is_some());
}
