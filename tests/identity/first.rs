//! First scans: what was there before, and how much of it.

use crate::world::{ABC, XYZ, config, exactly, put, settled, told, world};

fn trigger(more: &str) -> String {
    format!("[triggers.in]\ndrop = \"inbox\"\nrun = \"t\"\n{more}\n")
}

#[test]
fn unprocessed_is_delivered_and_later_only_the_difference() {
    let mut env = world(&trigger(""));
    put(&env, "a", "abc");
    env.start();
    exactly(&env, &[&format!("in a {ABC}")]);
    assert!(env.stop());
    put(&env, "b", "xyz");
    env.start();
    exactly(&env, &[&format!("in a {ABC}"), &format!("in b {XYZ}")]);
}

#[test]
fn a_baseline_is_known_and_later_only_the_difference() {
    let mut env = world(&trigger("initial_scan = \"baseline\""));
    put(&env, "a", "abc");
    env.start();
    put(&env, "b", "xyz");
    exactly(&env, &[&format!("in b {XYZ}")]);
    assert!(env.stop());
    // What comes while dagd is down is no baseline: the ledger tells what is new.
    put(&env, "c", "abc");
    put(&env, "a", "xyz");
    env.start();
    exactly(&env, &[&format!("in b {XYZ}"), &format!("in c {ABC}"), &format!("in a {XYZ}")]);
}

#[test]
fn too_many_at_first_ask_and_later_do_not() {
    let mut env = world(&trigger("initial_max = 2"));
    for rel in ["a", "b", "c"] {
        put(&env, rel, "abc");
    }
    env.start();
    let paused = || env.json(&["status"])["triggers"][0]["state"] == "paused";
    env.wait("the pause", paused);
    let status = env.json(&["status"]);
    let reason = status["triggers"][0]["reason"].as_str().unwrap().to_owned();
    assert!(reason.contains("more than 2 files"), "{reason}");
    assert_eq!(told(&env), [""; 0]);
    env.kill();
    env.start();
    // The answer holds whether or not they were counted anew.
    env.ok(&["resume", "in"]);
    let three = ["a", "b", "c"].map(|rel| format!("in {rel} {ABC}"));
    exactly(&env, &three.each_ref().map(String::as_str));
    assert!(env.stop());
    for rel in ["d", "e", "f"] {
        put(&env, rel, "abc");
    }
    env.start();
    let six = ["a", "b", "c", "d", "e", "f"].map(|rel| format!("in {rel} {ABC}"));
    exactly(&env, &six.each_ref().map(String::as_str));
}

#[test]
fn to_take_back_another_pause_does_not_deliver_them_all() {
    let mut env = world(&trigger("initial_max = 2"));
    for rel in ["a", "b", "c"] {
        put(&env, rel, "abc");
    }
    env.start();
    env.ok(&["pause", "in"]);
    env.ok(&["resume", "in"]);
    // Whether the count came before, between or after: one of both has asked.
    env.wait("the pause or all", || {
        let paused = env.json(&["status"])["triggers"][0]["state"] == "paused";
        paused || told(&env).len() == 3
    });
    settled_or_paused(&env);
}

/// Either the count came before the resume, which answered it, or nothing was delivered.
fn settled_or_paused(env: &crate::common::Env) {
    if env.json(&["status"])["triggers"][0]["state"] == "paused" {
        assert_eq!(told(env), [""; 0]);
        return;
    }
    settled(env);
    assert_eq!(told(env).len(), 3);
}

#[test]
fn more_may_be_allowed_instead() {
    let mut env = world(&trigger("initial_max = 2"));
    for rel in ["a", "b", "c"] {
        put(&env, rel, "abc");
    }
    env.start();
    env.wait("the pause", || env.json(&["status"])["triggers"][0]["state"] == "paused");
    env.configure(&config(&trigger("initial_max = 3")));
    env.ok(&["reload"]);
    let three = ["a", "b", "c"].map(|rel| format!("in {rel} {ABC}"));
    exactly(&env, &three.each_ref().map(String::as_str));
}
