//! A writer that is killed at any moment leaves a sound database with all that it acknowledged.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use dagd::core::record::Record;
use dagd::io::store::{RunFilter, Sync};
use tempfile::TempDir;

use crate::common::{World, claim, reader, store, whole_run};

/// Names the state directory to the child.
const DIR: &str = "DAGD_TEST_STORE_CRASH_DIR";
const ROUNDS: u64 = 50;

/// Not a test by itself: the process that is killed. Writes runs, each in two commits, and prints
/// its number after the second.
#[test]
fn writer() {
    let Some(dir) = std::env::var_os(DIR) else { return };
    let (dir, world) = (Path::new(&dir), World::new());
    let mut store = store(dir);
    let sync = Sync::spawn(dir, |_| {}).unwrap();
    let mut next = store.load().unwrap().next_run.0;
    let mut out = std::io::stdout();
    loop {
        let files = (0..next % 40).map(|n| claim(format!("f{n}").as_bytes(), next)).collect();
        let records = whole_run(&world, next, files);
        store.commit(&records[..2], &world).unwrap();
        let seq = store.commit(&records[2..], &world).unwrap();
        sync.request(seq);
        sync.checkpoint();
        writeln!(out, "acknowledged {next}").unwrap();
        next += 1;
    }
}

/// A killed child whatever becomes of the test.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        let status = self.0.wait().unwrap();
        assert!(std::thread::panicking() || status.signal() == Some(9), "{status:?}");
    }
}

/// Runs the child until it has acknowledged `count` runs, kills it, and returns the last of all
/// that it acknowledged.
fn round(dir: &Path, count: u64) -> u64 {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "crash::writer", "--nocapture"]).env(DIR, dir);
    let mut child = Killed(command.stdout(Stdio::piped()).spawn().unwrap());
    let mut lines = BufReader::new(child.0.stdout.take().unwrap()).lines();
    let mut acknowledged = (&mut lines).map_while(Result::ok).filter_map(|line| {
        let (_, number) = line.split_once("acknowledged ")?;
        number.parse::<u64>().ok()
    });
    let seen = acknowledged.by_ref().take(usize::try_from(count).unwrap()).last();
    child.0.kill().unwrap();
    acknowledged.last().or(seen).unwrap()
}

/// Everything that a person could find wrong with the database.
fn check(dir: &Path, acknowledged: u64) {
    let mut reader = reader(dir);
    let runs = reader.runs(&RunFilter { limit: usize::MAX, trigger: None, state: None }).unwrap();
    let numbers: Vec<u64> = runs.iter().rev().map(|run| run.id).collect();
    assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>(), "no gaps");
    let ended = runs.iter().filter(|run| run.state == "succeeded").map(|run| run.id).max();
    assert!(ended.unwrap() >= acknowledged, "{ended:?} < {acknowledged}");
    for run in &runs {
        assert_eq!(run.files.len() as u64, run.id % 40);
    }
    let loaded = reader.load().unwrap();
    let live = runs.iter().filter(|run| run.state != "succeeded").count();
    assert_eq!(loaded.records.len(), 2 * live, "whole commits only");
    if let Some(newest) = runs.iter().find(|run| !run.files.is_empty()) {
        let row = reader.ledger_row("orders", &"f0".into()).unwrap().unwrap();
        assert_eq!(row.run.unwrap().0, newest.id, "ledger and history agree");
    }
}

#[test]
fn nothing_acknowledged_is_lost_to_kill_9() {
    let (dir, world) = (TempDir::new().unwrap(), World::new());
    let mut draw = u64::from(std::process::id());
    println!("drawn from {draw}");
    for _ in 0..ROUNDS {
        draw = draw.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let acknowledged = round(dir.path(), 1 + (draw >> 33) % 60);
        check(dir.path(), acknowledged);
        // What was cut off is finished, so that the next round counts on.
        let mut store = store(dir.path());
        let sound: String = rusqlite::Connection::open(store.path())
            .unwrap()
            .query_row("PRAGMA integrity_check", [], |row| row.get(0))
            .unwrap();
        assert_eq!(sound, "ok");
        let loaded = store.load().unwrap();
        for record in &loaded.records {
            if let Record::RunCreated(created) = record {
                let records = whole_run(&world, created.run.0, Vec::new());
                store.commit(&records[2..], &world).unwrap();
            }
        }
    }
}
