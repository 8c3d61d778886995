//! First scans: what was there before, and how much of it.

use crate::world::{ABC, XYZ, config, exactly, put, told, world};

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
    assert_eq!((env.counter("files_noted_baseline"), env.counter("files_noted")), (1, 1));
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
    // Nothing is under way: it waits for an answer.
    assert_eq!(status["triggers"][0]["scanning"], false);
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
