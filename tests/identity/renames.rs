//! Triggers that are given another name: nothing old runs again, and what is new does.

use std::fs;

use crate::common::Env;
use crate::world::{ABC, XYZ, config, exactly, put, settled, told, world};

const BEFORE: &str = r#"
[triggers.old]
drop = "inbox"
run = "t"
move = "done/"
idempotent_key = "content"
"#;

const STAYS: &str = "[triggers.old]\ndrop = \"inbox\"\nrun = \"t\"\n";

/// The same trigger with another name.
fn renamed(trigger: &str) -> String {
    let named = trigger.replace("[triggers.old]", "[triggers.new]");
    config(&format!("{named}renamed_from = \"old\"\n"))
}

fn lines(told: &[(&str, &str, &str)]) -> Vec<String> {
    told.iter().map(|(trigger, rel, sum)| format!("{trigger} {rel} {sum}")).collect()
}

fn expect(env: &Env, all: &[(&str, &str, &str)]) {
    let all = lines(all);
    exactly(env, &all.iter().map(String::as_str).collect::<Vec<_>>());
}

#[test]
fn at_a_restart() {
    let mut env = world(STAYS);
    env.start();
    put(&env, "a", "abc");
    expect(&env, &[("old", "a", ABC)]);
    assert!(env.stop());
    put(&env, "b", "xyz");
    env.configure(&renamed(STAYS));
    env.start();
    expect(&env, &[("old", "a", ABC), ("new", "b", XYZ)]);
    // It is the former name for one start only; later ones find it done.
    assert!(env.stop());
    env.start();
    put(&env, "c", "abc");
    expect(&env, &[("old", "a", ABC), ("new", "b", XYZ), ("new", "c", ABC)]);
    let runs = env.json(&["runs", "--trigger", "new"]);
    assert_eq!(runs.as_array().unwrap().len(), 3, "its history came along: {runs}");
    let story = env.ok(&["explain", "inbox/a"]);
    assert!(story.contains("run 1"), "{story}");
}

#[test]
fn at_a_reload_with_a_run_that_lives() {
    let mut env = world(BEFORE);
    env.start();
    put(&env, "a", "abc");
    expect(&env, &[("old", "a", ABC)]);
    fs::write(env.at("wait"), "").unwrap();
    put(&env, "b", "xyz");
    env.wait("its run", || env.json(&["status"])["live_runs"] == 1);
    env.configure(&renamed(BEFORE));
    env.ok(&["reload"]);
    put(&env, "copy of b", "xyz");
    put(&env, "copy of a", "abc");
    fs::remove_file(env.at("wait")).unwrap();
    env.wait("its end", || env.at("done/b").exists());
    // The run keeps the name that it was started with, and its key counts under the new one.
    expect(&env, &[("old", "a", ABC), ("old", "b", XYZ)]);
    let story = env.json(&["explain", "inbox/b"]);
    assert_eq!(story["triggers"][0]["trigger"], "new", "{story}");
    assert_eq!(story["triggers"][0]["run_state"], "succeeded", "{story}");
    assert!(story["triggers"][0]["moved_to"]["path"].as_str().unwrap().ends_with("done/b"));
    env.kill();
    env.start();
    put(&env, "c", "abcd");
    env.wait("the new one", || told(&env).len() == 3);
    assert!(told(&env)[2].starts_with("new c "), "{:?}", told(&env));
}

#[test]
fn a_paused_trigger_stays_paused_and_keeps_what_waits() {
    let mut env = world(STAYS);
    env.start();
    put(&env, "a", "abc");
    expect(&env, &[("old", "a", ABC)]);
    env.ok(&["pause", "old"]);
    put(&env, "hand", "xyz");
    env.ok(&["fire", "old", "inbox/hand"]);
    put(&env, "b", "xyz");
    env.kill();
    env.configure(&renamed(STAYS));
    env.start();
    let status = env.json(&["status"]);
    assert_eq!(status["triggers"][0]["state"], "paused", "{status}");
    env.ok(&["resume", "new"]);
    expect(&env, &[("old", "a", ABC), ("new", "hand", XYZ), ("new", "b", XYZ)]);
}

#[test]
fn killed_while_it_is_renamed() {
    let mut env = world(STAYS);
    env.start();
    for n in 0..50 {
        put(&env, &format!("{n}"), "abc");
    }
    env.wait("all", || told(&env).len() == 50);
    settled(&env);
    env.kill();
    for round in 0..10 {
        let (from, to) = if round % 2 == 0 { ("old", "new") } else { ("new", "old") };
        env.configure(&config(&format!(
            "[triggers.{to}]\ndrop = \"inbox\"\nrun = \"t\"\nrenamed_from = \"{from}\"\n"
        )));
        let mut command = env.command(&["run"]);
        env.spawn(&mut command);
        std::thread::sleep(std::time::Duration::from_millis(round * 7));
        env.kill();
    }
    env.start();
    put(&env, "one more", "xyz");
    env.wait("the new one", || told(&env).len() > 50);
    settled(&env);
    assert_eq!(told(&env).len(), 51, "{:?}", &told(&env)[50..]);
}

#[test]
fn what_leaves_for_long_is_forgotten() {
    let away = "[daemon]\nretention = { age = \"1s\" }\n[tasks.t]\ncommand = [\"true\"]\n";
    let mut env = world(STAYS);
    env.start();
    put(&env, "a", "abc");
    expect(&env, &[("old", "a", ABC)]);
    assert!(env.stop());
    env.configure(away);
    env.start();
    let db = || rusqlite::Connection::open(env.at("state/dagd.db")).unwrap();
    let known = || {
        let sql = "SELECT count(*) FROM triggers";
        db().query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap()
    };
    assert_eq!(known(), 1, "not at once");
    // Something has to happen: dagd does not wake up for this alone.
    env.wait("it is forgotten", || {
        env.ok(&["fire", "--select", "t"]);
        known() == 0
    });
    assert!(env.stop());
    env.configure(&config(STAYS));
    env.start();
    expect(&env, &[("old", "a", ABC), ("old", "a", ABC)]);
}
