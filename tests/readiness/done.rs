//! Done files: in any order, of each kind, while dagd is down, with a writer that stays.

use std::fs;
use std::os::unix::fs::symlink;

use super::{Writer, env};

#[test]
fn a_file_waits_for_its_done_file() {
    let mut env = env(r#"done_file = "{name}.done""#);
    env.start();
    env.put("a.csv", "one");
    let why = env.await_pending("a.csv", "waiting_done_file: ");
    let done = env.at("inbox/a.csv.done");
    assert_eq!(why, format!("waiting_done_file: {} is not there", done.display()));
    let (verdict, text) = env.explained("a.csv");
    assert_eq!(verdict, "pending");
    assert!(text.contains(&why), "{text}");
    env.put("a.csv.done", "");
    env.await_ended(1);
    env.await_idle();
    assert_eq!(env.delivered(), ["a.csv"]);
    assert_eq!(env.kept(&env.runs()[0]), "one");
    let (verdict, text) = env.explained("a.csv.done");
    assert_eq!(verdict, "ignored");
    assert!(text.contains("done_file: it tells that others are complete"), "{text}");
    // The done file is there: a new version needs no other.
    env.put("a.csv", "two");
    env.await_ended(2);
    env.await_idle();
    assert_eq!(env.kept(&env.runs()[0]), "two");
    // Without it, it does.
    fs::remove_file(done).unwrap();
    env.put("a.csv", "three");
    env.await_pending_again("a.csv");
    assert_eq!(env.runs().len(), 2);
}

impl super::Env {
    fn await_pending_again(&self, rel: &str) {
        self.wait("it to wait again", || {
            let pending = self.json(&["pending"]);
            pending.as_array().unwrap().iter().any(|entry| {
                let path = entry["file"]["path"].as_str().unwrap();
                path.ends_with(rel) && entry["reason"].as_str().unwrap().starts_with("waiting_done")
            })
        });
    }
}

#[test]
fn the_done_file_may_come_first_and_may_be_anything_but_a_folder() {
    let mut env = env(r#"done_file = "{name}.done""#);
    env.start();
    for n in 0..20 {
        env.put(&format!("{n}.done"), "");
    }
    symlink("nowhere", env.at("inbox/link.done")).unwrap();
    fs::create_dir(env.at("inbox/folder.done")).unwrap();
    for n in 0..20 {
        env.put(&n.to_string(), "x");
    }
    env.put("link", "x");
    env.put("folder", "x");
    env.await_ended(21);
    env.await_pending("folder", "waiting_done_file: ");
    fs::remove_dir(env.at("inbox/folder.done")).unwrap();
    env.put("folder.done", "");
    env.await_ended(22);
    env.await_idle();
    assert_eq!(env.runs().len(), 22);
}

#[test]
fn one_done_file_may_be_for_a_stem() {
    let mut env = env("done_file = \"ready-{stem}\"");
    env.start();
    for rel in ["a.csv", "a.xml", "b.csv"] {
        env.put(rel, rel);
        env.await_pending(rel, "waiting_done_file: ");
    }
    env.put("ready-a", "");
    env.await_ended(2);
    env.await_pending("b.csv", "waiting_done_file: ");
    let mut delivered = env.delivered();
    delivered.sort();
    assert_eq!(delivered, ["a.csv", "a.xml"]);
    env.put("ready-b", "");
    env.await_ended(3);
    env.await_idle();
    assert_eq!(env.runs().len(), 3);
}

#[test]
fn one_done_file_may_be_for_a_folder() {
    let mut env = env("recursive = true\ndone_file = \"_SUCCESS\"");
    env.start();
    for rel in ["x/1", "x/2", "x/y/3", "z/4"] {
        env.put(rel, rel);
        env.await_pending(rel, "waiting_done_file: ");
    }
    env.put("x/_SUCCESS", "");
    env.await_ended(2);
    env.await_pending("x/y/3", "waiting_done_file: ");
    env.put("x/y/_SUCCESS", "");
    env.await_ended(3);
    // What comes later finds it there.
    env.put("x/5", "x/5");
    env.await_ended(4);
    env.await_pending("z/4", "waiting_done_file: ");
    let mut delivered = env.delivered();
    delivered.sort();
    assert_eq!(delivered, ["x/1", "x/2", "x/5", "x/y/3"]);
}

#[test]
fn a_done_file_that_comes_while_dagd_is_down_counts() {
    for stop in [true, false] {
        let mut env = env(r#"done_file = "{name}.done""#);
        env.put("before", "x");
        env.start();
        env.put("a", "x");
        env.await_pending("before", "waiting_done_file: ");
        env.await_pending("a", "waiting_done_file: ");
        if stop {
            assert!(env.stop());
        } else {
            env.kill();
        }
        for rel in ["before.done", "a.done", "b", "b.done", "c"] {
            env.put(rel, "");
        }
        fs::write(env.at("inbox/b"), "x").unwrap();
        env.start();
        env.await_ended(3);
        env.await_pending("c", "waiting_done_file: ");
        let mut delivered = env.delivered();
        delivered.sort();
        assert_eq!(delivered, ["a", "b", "before"]);
    }
}

#[test]
fn with_a_writer_still_there_the_done_file_is_not_enough() {
    let mut env = env(r#"done_file = "{name}.done""#);
    env.start();
    let mut writer = Writer::new(&env);
    writer.tell("exec 3> a; printf half >&3; : > a.done");
    env.await_pending("a", "writer_open: ");
    writer.tell("printf whole >&3");
    env.await_pending("a", "writer_open: ");
    writer.tell("exec 3>&-");
    env.await_ended(1);
    env.await_idle();
    assert_eq!(env.kept(&env.runs()[0]), "halfwhole");
    assert_eq!(env.delivered(), ["a"]);
}

#[test]
fn a_ready_file_that_loses_its_done_file_waits_again() {
    let mut env = env(r#"done_file = "{name}.done""#);
    env.start();
    env.ok(&["pause", "in"]);
    env.put("a", "x");
    env.put("a.done", "");
    env.wait("the file", || env.json(&["status"])["triggers"][0]["queued"] == 1);
    fs::remove_file(env.at("inbox/a.done")).unwrap();
    env.await_pending("a", "waiting_done_file: ");
    env.ok(&["resume", "in"]);
    env.put("b", "x");
    env.put("b.done", "");
    env.await_ended(1);
    env.put("a.done", "");
    env.await_ended(2);
    env.await_idle();
    assert_eq!(env.delivered(), ["b", "a"]);
}

#[test]
fn without_a_daemon_explain_tells_what_is_missing() {
    let env = env("done_file = \"{name}.done\"\nmin_size = \"2B\"");
    env.put("a", "xx");
    env.put("b", "x");
    // Nothing was recorded before the first start.
    let mut started = env;
    started.start();
    started.await_pending("a", "waiting_done_file: ");
    assert!(started.stop());
    let (verdict, text) = started.explained("a");
    assert_eq!(verdict, "pending", "{text}");
    assert!(text.contains("waiting_done_file: ") && text.contains("inbox/a.done"), "{text}");
    let (verdict, text) = started.explained("b");
    assert_eq!(verdict, "ignored", "{text}");
    assert!(text.contains("min_size: it has less than 2 bytes; there are 1 now"), "{text}");
}
