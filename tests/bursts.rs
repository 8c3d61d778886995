//! Floods: nothing is lost, nothing runs twice, and work flows through depth-first.

#![expect(clippy::unwrap_used, reason = "a test ends at the first thing that goes wrong")]

#[expect(dead_code, reason = "a part of the harness is enough here")]
mod common;

use std::collections::BTreeSet;
use std::fs;

use common::Env;

fn delivered(env: &Env) -> Vec<String> {
    let db = rusqlite::Connection::open(env.at("state/dagd.db")).unwrap();
    let mut rows = db.prepare("select cast(rel as text) from run_files").unwrap();
    rows.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
}

#[test]
fn ten_thousand_files_run_once_each_and_the_first_run_ends_at_once() {
    let mut env = Env::new(
        r#"
[tasks.a]
command = ["true"]
[tasks.b]
needs = ["a"]
command = ["true"]
[tasks.c]
needs = ["b"]
command = ["true"]
[triggers.in]
drop = "inbox"
run = "a+"
"#,
    );
    let inbox = env.mkdir("inbox");
    env.start();
    for n in 0..10_000 {
        fs::write(inbox.join(format!("f{n}")), "x").unwrap();
    }
    env.await_ended(10_000);
    env.await_idle();
    let delivered = delivered(&env);
    assert_eq!(delivered.len(), 10_000, "exactly once");
    assert_eq!(delivered.into_iter().collect::<BTreeSet<_>>().len(), 10_000);
    let db = rusqlite::Connection::open(env.at("state/dagd.db")).unwrap();
    let earlier: i64 = db
        .query_row(
            "select count(*) from attempts where started_at < (select min(ended_at) from runs)",
            [],
            |row| row.get(0),
        )
        .unwrap();
    assert!(earlier <= 16, "the first run ended after {earlier} attempts had started");
}

#[test]
fn files_in_directories_made_a_moment_before_are_delivered() {
    let mut env = Env::new(
        "[tasks.t]\ncommand = [\"true\"]\n[triggers.in]\ndrop = \"inbox\"\nrecursive = true\nrun = \"t\"\n",
    );
    let inbox = env.mkdir("inbox");
    env.start();
    for n in 0..2_000 {
        let dir = inbox.join(format!("{n}/b/c"));
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("f"), "x").unwrap();
    }
    env.await_ended(2_000);
    env.await_idle();
    let wanted: BTreeSet<String> = (0..2_000).map(|n| format!("{n}/b/c/f")).collect();
    let delivered = delivered(&env);
    assert_eq!(delivered.len(), 2_000, "exactly once");
    assert_eq!(delivered.into_iter().collect::<BTreeSet<_>>(), wanted);
}

#[test]
fn a_first_scan_that_finds_too_much_pauses() {
    let mut env = Env::new(
        "[tasks.t]\ncommand = [\"true\"]\n[triggers.in]\ndrop = \"inbox\"\ninitial_max = 10\nrun = \"t\"\n",
    );
    let inbox = env.mkdir("inbox");
    for n in 0..50 {
        fs::write(inbox.join(n.to_string()), "x").unwrap();
    }
    env.start();
    env.wait("the pause", || env.json(&["status"])["triggers"][0]["state"] == "paused");
    assert!(env.runs().is_empty());
    env.ok(&["resume", "in"]);
    env.await_ended(50);
    env.await_idle();
    assert_eq!(delivered(&env).len(), 50);
}
