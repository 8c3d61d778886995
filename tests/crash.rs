//! `kill -9` again and again: nothing is lost, and only attempts in flight repeat.
//!
//! `DAGD_CRASH_ROUNDS=500` kills that often.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test ends at the first thing that goes wrong, and says what it did"
)]

#[expect(dead_code, reason = "a part of the harness is enough here")]
mod common;
#[path = "crash/dispositions.rs"]
mod dispositions;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::Duration;

use common::{Env, leftovers};

const FILES: usize = 5_000;

/// Rounds, as many as `DAGD_CRASH_ROUNDS` says.
fn rounds(usual: usize) -> usize {
    std::env::var("DAGD_CRASH_ROUNDS").map_or(usual, |rounds| rounds.parse().unwrap())
}

/// A generator that needs no crate: the moments of the kills are random enough, and repeatable.
fn next(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

/// The task says when it begins and ends, leaves a child behind, and tells if it is not alone.
const CONFIG: &str = r#"
[tasks.t]
command = ["sh", "task.sh"]
cwd = "{dir}"
[triggers.in]
drop = "inbox"
run = "t"
move = "done/"
"#;

const TASK: &str = r#"
for other in live/"$DAGD_REL".*; do
    [ -e "$other" ] || continue
    pid=${other##*.}
    state=$(sed -n 's/^State:.//p' "/proc/$pid/status" 2>/dev/null) || continue
    case $state in
        # Dead, though whoever inherited it has not looked yet.
        "" | Z* | X*) ;;
        *) echo "TWO $DAGD_REL $pid $$ $state $(tr '\0' ' ' < "/proc/$pid/cmdline")" >> log ;;
    esac
done
: > live/"$DAGD_REL".$$
echo "S $DAGD_REL $DAGD_ATTEMPT" >> log
sleep 1000 &
echo "E $DAGD_REL $DAGD_ATTEMPT" >> log
rm live/"$DAGD_REL".$$
"#;

#[test]
fn nothing_is_lost_and_only_attempts_in_flight_repeat() {
    let mut env = Env::new(CONFIG);
    let inbox = env.mkdir("inbox");
    env.mkdir("live");
    fs::write(env.at("task.sh"), TASK).unwrap();
    let mut seed = 0x9e37_79b9_7f4a_7c15;
    let rounds = rounds(300);
    let mut dropped = 0;
    for round in 0..rounds {
        env.start();
        while dropped < FILES * (round + 1) / rounds {
            fs::write(inbox.join(format!("f{dropped}")), format!("{dropped}")).unwrap();
            dropped += 1;
        }
        std::thread::sleep(Duration::from_micros(next(&mut seed) % 120_000));
        env.kill();
    }
    env.start();
    env.wait_for("all files", FILES as u64, || {
        fs::read_dir(env.at("done")).map_or(0, |dir| dir.count() as u64)
    });
    env.await_idle();

    let log = fs::read_to_string(env.at("log")).unwrap();
    let two: Vec<&str> = log.lines().filter(|line| line.starts_with("TWO")).collect();
    assert_eq!(two, [""; 0], "two attempts of one task were alive");
    let mut ends: BTreeMap<&str, usize> = BTreeMap::new();
    let mut starts: BTreeMap<&str, usize> = BTreeMap::new();
    for line in log.lines() {
        let mut words = line.split(' ');
        let (what, rel) = (words.next().unwrap(), words.next().unwrap());
        *if what == "S" { &mut starts } else { &mut ends }.entry(rel).or_default() += 1;
    }
    assert_eq!(ends.len(), FILES, "every file at least once");
    let repeats: usize = starts.values().map(|n| n - 1).sum();
    assert!(repeats <= 2 * rounds, "{repeats} repeats for {rounds} kills of two slots");

    let db = rusqlite::Connection::open(env.at("state/dagd.db")).unwrap();
    let one = |sql: &str| db.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
    let sound: String = db.query_row("pragma integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(sound, "ok");
    let files = i64::try_from(FILES).unwrap();
    assert_eq!(one("select count(*) from run_files"), files, "one run per file");
    assert_eq!(one("select count(*) from runs where state = 'succeeded'"), files);
    assert_eq!(one("select count(*) from live where kind in ('run', 'item')"), 0);
    let in_inbox: BTreeSet<_> =
        fs::read_dir(&inbox).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(in_inbox.is_empty(), "no file is in two places: {in_inbox:?}");
    for entry in fs::read_dir(env.at("done")).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        assert_eq!(format!("f{}", fs::read_to_string(entry.path()).unwrap()), name);
    }
    assert!(env.stop());
    assert_eq!(leftovers(&env.at("state")), [0; 0], "no process survives");
}
