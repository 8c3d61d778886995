//! The sync thread: answers, checkpoints, bounds.

use std::time::{Duration, Instant};

use crossbeam_channel::unbounded;
use dagd::core::id::Seq;
use dagd::io::store::Sync;

use crate::common::{World, claim, store, whole_run};

const DEADLINE: Duration = Duration::from_secs(20);

#[test]
fn what_is_requested_becomes_durable_in_order() {
    let (dir, world) = (tempfile::tempdir().unwrap(), World::new());
    let mut store = store(dir.path());
    let (say, told) = unbounded();
    let sync = Sync::spawn(dir.path(), move |synced| say.send(synced.unwrap()).unwrap()).unwrap();
    let mut last = Seq(0);
    for id in 1..=50 {
        last = store.commit(&whole_run(&world, id, Vec::new()), &world).unwrap();
        sync.request(last);
    }
    let mut before = Seq(0);
    while before < last {
        let seq = told.recv_timeout(DEADLINE).unwrap();
        assert!(seq > before, "{seq:?} after {before:?}");
        before = seq;
    }
    sync.request(Seq(1));
    let seq = store.commit(&whole_run(&world, 51, Vec::new()), &world).unwrap();
    sync.request(seq);
    sync.stop();
    assert_eq!(told.iter().collect::<Vec<_>>(), [seq], "stop answers first, nothing twice");
}

/// What an earlier dagd committed may have to be on disk before this one has committed anything.
#[test]
fn what_was_there_before_becomes_durable() {
    let dir = tempfile::tempdir().unwrap();
    let _store = store(dir.path());
    let (say, told) = unbounded();
    let sync = Sync::spawn(dir.path(), move |synced| say.send(synced.unwrap()).unwrap()).unwrap();
    sync.request(Seq(0));
    assert_eq!(told.recv_timeout(DEADLINE).unwrap(), Seq(0));
    sync.request(Seq(1));
    assert_eq!(told.recv_timeout(DEADLINE).unwrap(), Seq(1), "and then the first of its own");
    sync.stop();
}

#[test]
fn a_long_log_is_copied_and_starts_over() {
    let (dir, world) = (tempfile::tempdir().unwrap(), World::new());
    let mut store = store(dir.path());
    let sync = Sync::spawn(dir.path(), |_| {}).unwrap();
    let database = dir.path().join("dagd.db");
    let small = database.metadata().unwrap().len();
    let begun = Instant::now();
    let mut id = 0;
    // Enough commits for many looks; each writes about 60 frames.
    while database.metadata().unwrap().len() == small {
        id += 1;
        let files = (0..40).map(|n| claim(format!("{id}/{n}").as_bytes(), id)).collect();
        store.commit(&whole_run(&world, id, files), &world).unwrap();
        sync.checkpoint();
        assert!(begun.elapsed() < DEADLINE, "nothing is copied after {id} commits");
    }
    sync.stop();
}

#[test]
fn the_writer_bounds_the_log_when_nobody_else_does() {
    let (dir, world) = (tempfile::tempdir().unwrap(), World::new());
    let mut store = store(dir.path());
    let log = dir.path().join("dagd.db-wal");
    let (mut id, mut most) = (0, 0);
    // Written: well over twice the bound.
    while id < 640 {
        id += 1;
        let files = (0..300).map(|n| claim(format!("{id}/{n}").as_bytes(), id)).collect();
        store.commit(&whole_run(&world, id, files), &world).unwrap();
        most = log.metadata().unwrap().len().max(most);
    }
    println!("longest log: {} MiB", most >> 20);
    assert!(most > 60 << 20, "the test writes too little to show anything");
    assert!(most < 100 << 20, "{most}");
}

#[test]
fn what_an_earlier_process_has_committed_can_be_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let _store = store(dir.path());
    let (say, told) = unbounded();
    let sync = Sync::spawn(dir.path(), move |synced| say.send(synced.unwrap()).unwrap()).unwrap();
    sync.request(Seq(0));
    assert_eq!(told.recv_timeout(DEADLINE).unwrap(), Seq(0));
    sync.stop();
    assert_eq!(told.iter().count(), 0, "once");
}
