//! Keys of which only one file is delivered, through crashes and restarts.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::Duration;

use crate::common::Env;
use crate::world::{ABC, XYZ, await_reason, exactly, put, settled, threads, told, world};

fn with(key: &str) -> Env {
    world(&format!(
        "[triggers.in]\ndrop = \"inbox\"\nrecursive = true\nrun = \"t\"\nidempotent_key = \"{key}\"\n"
    ))
}

/// Restarts the daemon as after a crash.
fn crash(env: &mut Env) {
    env.kill();
    env.start();
}

#[test]
fn the_same_path_once_whatever_is_in_it() {
    let mut env = with("path");
    env.start();
    put(&env, "a", "abc");
    exactly(&env, &[&format!("in a {ABC}")]);
    put(&env, "a", "xyz");
    put(&env, "b", "xyz");
    let both = [format!("in a {ABC}"), format!("in b {XYZ}")];
    let both = both.each_ref().map(String::as_str);
    exactly(&env, &both);
    // Gone and back.
    fs::remove_file(env.at("inbox/a")).unwrap();
    crash(&mut env);
    put(&env, "a", "something else");
    settled(&env);
    exactly(&env, &both);
    let story = env.ok(&["explain", "inbox/a"]);
    assert!(story.contains("delivered to run 1") && story.contains("replay"), "{story}");
    // A person may.
    env.ok(&["replay", "inbox/a", "--wait"]);
    assert_eq!(told(&env).len(), 3);
}

#[test]
fn the_same_content_once_whatever_its_name() {
    let mut env = with("content");
    put(&env, "before", "abc");
    env.start();
    exactly(&env, &[&format!("in before {ABC}")]);
    put(&env, "copy", "abc");
    put(&env, "sub/copy", "abc");
    put(&env, "other", "xyz");
    let two = [format!("in before {ABC}"), format!("in other {XYZ}")];
    let two = two.each_ref().map(String::as_str);
    exactly(&env, &two);
    assert_eq!(env.counter("files_noted_duplicate"), 2);
    crash(&mut env);
    fs::rename(env.at("inbox/copy"), env.at("inbox/renamed")).unwrap();
    fs::remove_file(env.at("inbox/before")).unwrap();
    put(&env, "before", "xyz");
    settled(&env);
    exactly(&env, &two);
    let story = env.json(&["explain", "inbox/sub/copy"]);
    assert_eq!(story["triggers"][0]["verdict"], "duplicate", "{story}");
    assert_eq!(story["triggers"][0]["run"], 1, "{story}");
    // A new content at an old name is new.
    put(&env, "copy", "new");
    env.wait("the third", || told(&env).len() == 3);
}

#[test]
fn the_same_name_and_size_once_in_whatever_folder() {
    let mut env = with("name+size");
    env.start();
    put(&env, "a", "abc");
    exactly(&env, &[&format!("in a {ABC}")]);
    put(&env, "sub/a", "xyz");
    put(&env, "b", "xyz");
    put(&env, "sub/b", "xy");
    env.wait("three", || told(&env).len() == 3);
    settled(&env);
    let names: BTreeSet<String> =
        told(&env).iter().map(|line| line.split(' ').nth(1).unwrap().to_owned()).collect();
    assert_eq!(names, ["a", "b", "sub/b"].map(str::to_owned).into());
}

#[test]
fn the_same_text_once() {
    let mut env = with("{stem}");
    env.start();
    put(&env, "order-1.csv", "abc");
    exactly(&env, &[&format!("in order-1.csv {ABC}")]);
    put(&env, "order-1.xml", "xyz");
    put(&env, "order-2.xml", "xyz");
    exactly(&env, &[&format!("in order-1.csv {ABC}"), &format!("in order-2.xml {XYZ}")]);
}

#[test]
fn of_two_at_once_one() {
    let mut env = with("content");
    for n in 0..40 {
        put(&env, &format!("before-{n}"), &format!("{}", n % 4));
    }
    env.start();
    for n in 0..40 {
        put(&env, &format!("after-{n}"), &format!("{}", n % 8));
    }
    env.wait("eight", || told(&env).len() >= 8);
    settled(&env);
    let contents: BTreeSet<String> =
        told(&env).iter().map(|line| line.split(' ').nth(2).unwrap().to_owned()).collect();
    assert_eq!((told(&env).len(), contents.len()), (8, 8), "{:?}", told(&env));
    let noted = env.counter("files_noted");
    assert_eq!(noted, 72, "all others are known to be the same");
}

#[test]
fn a_key_outlives_crashes() {
    const ROUNDS: usize = 25;
    const CONTENTS: usize = 50;
    let mut env = with("content");
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = move || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        usize::try_from(seed >> 33).unwrap()
    };
    for round in 0..ROUNDS {
        env.start();
        for n in 0..20 {
            put(&env, &format!("{round}-{n}"), &format!("{}", next() % CONTENTS));
        }
        std::thread::sleep(Duration::from_micros(next() as u64 % 60_000));
        env.kill();
    }
    for n in 0..CONTENTS {
        put(&env, &format!("last-{n}"), &format!("{n}"));
    }
    env.start();
    settled(&env);
    let mut runs: BTreeMap<String, usize> = BTreeMap::new();
    for run in env.runs() {
        // A run whose attempts were killed once too often has failed; it was the only one, too.
        assert_ne!(run["state"], "cancelled", "{run}");
        let rel = run["files"][0]["rel"].as_str().unwrap();
        let content = fs::read_to_string(env.at("inbox").join(rel)).unwrap();
        *runs.entry(content).or_default() += 1;
    }
    assert_eq!(runs.len(), CONTENTS, "each content");
    assert!(runs.values().all(|&many| many == 1), "and each once: {runs:?}");
}

#[test]
fn a_large_file_is_read_in_pieces() {
    const BYTES: u64 = 1 << 31;
    let mut env = world(
        "[triggers.in]\ndrop = \"inbox\"\nrun = \"n\"\nidempotent_key = \"content\"\n\
         [tasks.n]\ncommand = [\"true\"]\n",
    );
    env.start();
    fs::File::create(env.at("inbox/large")).unwrap().set_len(BYTES).unwrap();
    // Two gigabytes take a while; this one does not wait for it.
    await_reason(&env, "inbox/large", "checking");
    put(&env, "small", "abc");
    env.await_ended(1);
    let small = env.json(&["show", "1"]);
    assert_eq!(small["files"][0]["rel"], "small", "{small}");
    env.await_ended(2);
    let status = fs::read_to_string(format!("/proc/{}/status", env.pid())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let peak: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(peak < 128 << 10, "the daemon took {peak} KiB at most");
}

#[test]
fn a_stop_does_not_wait_for_a_large_file() {
    let mut env = with("content");
    env.start();
    fs::File::create(env.at("inbox/large")).unwrap().set_len(1 << 40).unwrap();
    await_reason(&env, "inbox/large", "checking");
    // Neither does a reload.
    env.configure(&crate::world::config(
        "[triggers.in]\ndrop = \"inbox\"\nrun = \"t\"\nidempotent_key = \"path\"\nmax_size = \"1MiB\"\n",
    ));
    env.ok(&["reload"]);
    put(&env, "small", "abc");
    env.wait("the small one", || !told(&env).is_empty());
    env.kill();
    let mut env = with("content");
    fs::File::create(env.at("inbox/large")).unwrap().set_len(1 << 40).unwrap();
    env.start();
    await_reason(&env, "inbox/large", "checking");
    assert!(env.stop());
}

#[test]
fn who_asks_for_nothing_pays_nothing() {
    let mut env = world(
        "[triggers.in]\ndrop = \"inbox\"\nrun = \"t\"\n[triggers.out]\ndrop = \"out\"\nrun = \"t\"\nidempotent_key = \"path\"\n",
    );
    env.mkdir("out");
    env.start();
    put(&env, "a", "abc");
    exactly(&env, &[&format!("in a {ABC}")]);
    assert!(!threads(&env).contains(&"dagd-check".to_owned()), "{:?}", threads(&env));
    fs::write(env.at("out/a"), "abc").unwrap();
    exactly(&env, &[&format!("in a {ABC}"), &format!("out a {ABC}")]);
    assert!(threads(&env).contains(&"dagd-check".to_owned()), "{:?}", threads(&env));
}
