//! Sizes, ages, alarms, and paths that nobody can open.

use std::fs;
use std::os::fd::OwnedFd;
use std::process::Command;

use rustix::fs::{CWD, Mode, OFlags, mkdirat, openat};

use super::{Writer, env};

#[test]
fn files_of_other_sizes_do_not_count() {
    let mut env = env("min_size = \"3B\"\nmax_size = \"5B\"\nsettle = \"0s\"");
    env.start();
    env.put("small", "12");
    env.put("large", "123456");
    env.put("fits", "123");
    env.await_ended(1);
    env.await_idle();
    assert_eq!(env.delivered(), ["fits"]);
    let (verdict, text) = env.explained("small");
    assert_eq!(verdict, "ignored");
    assert!(text.contains("min_size: it has less than 3 bytes; there are 2 now"), "{text}");
    let (verdict, text) = env.explained("large");
    assert_eq!(verdict, "ignored");
    assert!(text.contains("max_size: it has more than 5 bytes; there are 6 now"), "{text}");
    // What was delivered stays delivered while another version does not count.
    env.put("fits", "123456");
    let mut writer = Writer::new(&env);
    // Its size is not its last while somebody writes: the close tells.
    writer.tell("exec 3> slow; printf 1 >&3");
    env.put("marker", "1234");
    env.await_ended(2);
    writer.tell("printf 2345 >&3; exec 3>&-");
    env.await_ended(3);
    fs::write(env.at("inbox/fits"), "1234").unwrap();
    env.await_ended(4);
    env.await_idle();
    assert_eq!(env.delivered(), ["fits", "marker", "slow", "fits"]);
    assert_eq!(env.runs()[0]["files"][0]["kind"], "modified");
}

#[test]
fn sizes_count_with_stability_as_well() {
    let mut env =
        env("min_size = \"3B\"\nread_lock = \"changed\"\nstability_threshold = \"100ms\"");
    env.start();
    let mut writer = Writer::new(&env);
    writer.tell("exec 3> slow; printf 1 >&3");
    env.put("marker", "1234");
    env.await_ended(1);
    writer.tell("printf 23 >&3; exec 3>&-");
    env.await_ended(2);
    env.await_idle();
    assert_eq!(env.delivered(), ["marker", "slow"]);
    assert_eq!(env.kept(&env.runs()[0]), "123");
}

#[test]
fn min_age_counts_from_the_first_look_whatever_the_file_says() {
    let config = |age: &str| {
        format!(
            "[tasks.t]\ncommand = [\"true\"]\n\
             [triggers.in]\ndrop = \"inbox\"\nrun = \"t\"\nmin_age = \"{age}\"\n"
        )
    };
    let mut env = env("");
    env.configure(&config("1h"));
    env.start();
    env.put("old", "x");
    let old = env.at("inbox/old");
    let touched = Command::new("touch").args(["-d", "2001-01-01"]).arg(old).status().unwrap();
    assert!(touched.success());
    env.await_pending("old", "min_age: ");
    env.configure(&config("300ms"));
    env.ok(&["reload"]);
    env.await_ended(1);
    env.await_idle();
    assert_eq!(env.delivered(), ["old"]);
}

#[test]
fn what_is_not_ready_for_long_is_told_once() {
    let mut env = env("done_file = \"{name}.done\"\nready_alarm = \"200ms\"");
    env.start();
    env.put("late\none", "x");
    let status = || env.json(&["status"])["triggers"][0].clone();
    env.wait("the alarm", || env.log().contains("a file has not become ready"));
    env.wait("the count", || status()["late"] == 1);
    let path = env.at("inbox/late\none");
    assert_eq!(status()["late_oldest"]["path"], path.to_str().unwrap());
    let text = env.ok(&["status"]);
    assert!(text.contains("in: 1 file not ready for longer than ready_alarm"), "{text}");
    let log = env.log();
    let line = log.lines().find(|line| line.contains("a file has not become ready")).unwrap();
    for part in ["WARN", "inbox/late\\none", "waiting_done_file", "late\\none.done", "since="] {
        assert!(line.contains(part), "{part}: {line}");
    }
    // Another version is the same wait.
    env.put("late\none", "xx");
    env.put("second", "x");
    env.wait("the second alarm", || env.log().matches("a file has not become ready").count() == 2);
    assert!(env.runs().is_empty(), "nothing makes it ready");
    env.put("late\none.done", "");
    env.put("second.done", "");
    env.await_ended(2);
    env.await_idle();
    assert_eq!(status()["late"], 0);
    assert_eq!(env.log().matches("a file has not become ready").count(), 2);
}

/// Makes folders below `inbox` so deep that the path of what lies in the last one is too long for
/// any program, though there are names for it from `inbox` on.
fn deep(env: &super::Env) -> (String, OwnedFd) {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let name = "d".repeat(200);
    let mut rel = String::new();
    let mut folder = openat(CWD, env.at("inbox"), flags, Mode::empty()).unwrap();
    let root = env.at("inbox").as_os_str().len();
    while 4096 - root - rel.len() - 2 > 250 {
        mkdirat(&folder, name.as_str(), Mode::RWXU).unwrap();
        folder = openat(&folder, name.as_str(), flags, Mode::empty()).unwrap();
        rel = if rel.is_empty() { name.clone() } else { format!("{rel}/{name}") };
    }
    let last = "e".repeat(4096 - root - rel.len() - 2);
    mkdirat(&folder, last.as_str(), Mode::RWXU).unwrap();
    folder = openat(&folder, last.as_str(), flags, Mode::empty()).unwrap();
    (format!("{rel}/{last}"), folder)
}

#[test]
fn a_path_that_nobody_can_open_is_told() {
    let mut env = env("recursive = true");
    let (rel, folder) = deep(&env);
    env.start();
    let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC;
    let file = openat(&folder, "far", flags, Mode::RUSR).unwrap();
    rustix::io::write(&file, b"x").unwrap();
    drop(file);
    env.put("near", "x");
    env.await_ended(1);
    let why = env.await_pending(&format!("{rel}/far"), "unreachable: ");
    assert_eq!(why, "unreachable: its path is longer than any that a program can open");
    assert_eq!(env.json(&["status"])["triggers"][0]["pending"], 1);
    assert_eq!(env.delivered(), ["near"]);
}
