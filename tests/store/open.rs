//! Opening: layouts, locks, modes, readers beside a writer.

use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use dagd::core::id::{ItemId, RunId};
use dagd::core::record::{ItemQueued, Reason, Record};
use dagd::daemon::view::live;
use dagd::io::store::{FILE, Reader, Store, StoreError, lock};

use crate::common::{World, at, claim, created, reader, run, store, whole_run};
use crate::harness::disk::Disk;

fn schema_error(error: StoreError) -> (u32, u32) {
    assert!(error.to_string().contains(FILE), "{error}");
    match error {
        StoreError::Schema { found, known, .. } => (found, known),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_newer_layout_is_refused_with_both_numbers_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    drop(store(dir.path()));
    let path = dir.path().join(FILE);
    let set = |version: u32| {
        rusqlite::Connection::open(&path)
            .unwrap()
            .pragma_update(None, "user_version", version)
            .unwrap();
    };
    set(9);
    let before = std::fs::read(&path).unwrap();
    let error = Store::open(dir.path(), false).unwrap_err();
    assert!(error.to_string().contains("layout 9") && error.to_string().contains("up to 1"));
    assert_eq!(schema_error(error), (9, 1));
    assert_eq!(schema_error(Reader::open(dir.path(), live).unwrap_err()), (9, 1));
    assert_eq!(std::fs::read(&path).unwrap(), before);
    set(0);
    assert_eq!(schema_error(Reader::open(dir.path(), live).unwrap_err()), (0, 1));
    set(1);
    drop(store(dir.path()));
}

#[test]
fn other_files_are_not_touched() {
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(
        Reader::open(dir.path(), live),
        Err(StoreError::Missing { path }) if path.ends_with(FILE)
    ));
    let content = b"not a database, but long enough to be taken for one by its size".repeat(100);
    std::fs::write(dir.path().join(FILE), &content).unwrap();
    let error = Store::open(dir.path(), false).unwrap_err();
    assert!(matches!(error, StoreError::Corrupt(_)), "{error:?}");
    assert_eq!(std::fs::read(dir.path().join(FILE)).unwrap(), content);
}

#[test]
fn the_state_is_the_users_alone() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("a/file:b%?#");
    let mut store = store(&state);
    let world = World::new();
    store.commit(&whole_run(&world, 1, Vec::new()), &world).unwrap();
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&state), 0o700);
    for name in [FILE, "dagd.db-wal", "dagd.db-shm"] {
        assert_eq!(mode(&state.join(name)), 0o600, "{name}");
    }
    assert!(reader(&state).run(RunId(1)).unwrap().is_some());
}

/// Names the state directory to the process that holds its lock.
const HELD: &str = "DAGD_TEST_STORE_HELD";

/// Not a test by itself: the process that holds the lock until its input ends.
#[test]
fn holder() {
    let Some(state) = std::env::var_os(HELD) else { return };
    let held = lock(Path::new(&state)).unwrap();
    println!("held");
    std::io::stdin().read_line(&mut String::new()).unwrap();
    drop(held);
}

#[test]
fn one_daemon_per_state_directory() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "open::holder", "--nocapture"]).env(HELD, &state);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    assert!(lines.any(|line| line.ends_with("held")));
    match lock(&state).unwrap_err() {
        StoreError::Locked { path, pid } => assert_eq!((path, pid), (state.clone(), child.id())),
        other => panic!("{other:?}"),
    }
    child.kill().unwrap();
    child.wait().unwrap();
    drop(lock(&state).unwrap());
}

#[test]
fn the_lock_outlives_a_child_that_a_killed_dagd_was_starting() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    drop(lock(&state).unwrap());
    // From its fork to its exec a child shares the open file of the one that was killed.
    let shared = std::fs::File::open(state.join("lock")).unwrap();
    rustix::fs::flock(&shared, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let (taken, lane) = std::sync::mpsc::channel();
    let taking = std::thread::spawn(move || taken.send(lock(&state).is_ok()).unwrap());
    let early = lane.recv_timeout(Duration::from_millis(200));
    assert!(early.is_err(), "it is not taken before the exec");
    drop(shared);
    assert_eq!(lane.recv_timeout(Duration::from_secs(10)), Ok(true), "it is taken after it");
    taking.join().unwrap();
}

#[test]
fn reading_works_where_nothing_can_be_written() {
    let dir = tempfile::tempdir().unwrap();
    let Some(disk) = Disk::mount(dir.path(), "size=8m,mode=0755") else { return };
    let world = World::new();
    let clean = disk.path().join("clean ?#%");
    let killed = disk.path().join("killed");
    let mut writer = store(&clean);
    writer.commit(&whole_run(&world, 1, vec![claim(b"a", 1)]), &world).unwrap();
    // A copy taken in the midst of things is what a crash leaves behind.
    let copied = Command::new("cp").arg("-a").arg(&clean).arg(&killed).status().unwrap();
    assert!(copied.success());
    drop(writer);
    assert!(!clean.join("dagd.db-wal").exists() && killed.join("dagd.db-wal").exists());
    disk.remount("ro");
    for state in [&clean, &killed] {
        let mut reader = reader(state);
        let found = reader.run(RunId(1)).unwrap();
        assert_eq!(found.unwrap().run.files.len(), 1, "{}", state.display());
        let error = Store::open(state, false).unwrap_err();
        assert!(matches!(error, StoreError::Passing(_)), "{error:?}");
    }
    disk.remount("rw");
    drop(store(&clean));
}

#[test]
fn a_reader_sees_whole_commits_while_the_writer_goes_on() {
    let (dir, world) = (tempfile::tempdir().unwrap(), World::new());
    let mut store = store(dir.path());
    let item = |id: u64| {
        Record::ItemQueued(ItemQueued {
            item: ItemId(id),
            trigger: None,
            select: None,
            reason: Reason::Manual,
            signal: None,
            scheduled: None,
            files: Vec::new(),
            parent: None,
            keep: Vec::new(),
            at: at(0),
        })
    };
    // From here on there is always exactly one item, or the one run that took its place.
    store.commit(&[item(1)], &world).unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let (mut reader, stopped) = (reader(dir.path()), stop.clone());
    let looking = std::thread::spawn(move || {
        let (mut looks, mut kinds) = (0, [false; 2]);
        while !stopped.load(Ordering::Relaxed) || looks < 100 {
            let loaded = reader.load().unwrap();
            match loaded.records.as_slice() {
                [Record::ItemQueued(_)] => kinds[0] = true,
                [Record::RunCreated(_)] => kinds[1] = true,
                other => panic!("{other:?}"),
            }
            let runs = loaded.records.len() - usize::from(loaded.graphs.is_empty());
            assert_eq!(runs, loaded.graphs.len(), "graphs belong to the same moment");
            looks += 1;
        }
        (looks, kinds)
    });
    for id in 1..=1500 {
        let mut takes = run(&world, id, Vec::new());
        takes.items = vec![ItemId(id)];
        let mut rest = whole_run(&world, id, Vec::new()).split_off(3);
        store.commit(&[created(takes)], &world).unwrap();
        rest.push(item(id + 1));
        store.commit(&rest, &world).unwrap();
    }
    stop.store(true, Ordering::Relaxed);
    let (looks, kinds) = looking.join().unwrap();
    println!("{looks} looks");
    assert!(kinds[0], "the last state is an item");
}

#[test]
fn an_idle_reader_does_not_hold_back_the_log() {
    let (dir, world) = (tempfile::tempdir().unwrap(), World::new());
    let mut store = store(dir.path());
    let mut reader = reader(dir.path());
    store.commit(&whole_run(&world, 1, vec![claim(b"a", 1)]), &world).unwrap();
    reader.run(RunId(1)).unwrap().unwrap();
    reader.ledger_row("orders", &"a".into()).unwrap().unwrap();
    reader.open_rows("orders", b"", "", b"", 1).unwrap();
    reader.dirs("orders", b"", 1).unwrap();
    reader.load().unwrap();
    let busy: i64 = rusqlite::Connection::open(store.path())
        .unwrap()
        .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))
        .unwrap();
    assert_eq!(busy, 0, "somebody still reads");
}
