//! A disk that is full, or cannot be written: the daemon stalls, says so, and heals.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::common::Env;
use crate::common::disk::Disk;
use crate::common::faults::Faults;

/// The state folder is a small file system of its own; `None` where mounting is not allowed.
fn small(env: &mut Env) -> Option<Disk> {
    env.disk("state", "size=32m,mode=0700")
}

/// Notes each start and end outside the disk, and writes no output.
const QUIET: &str = r#"
[tasks.t]
shell = "echo S $DAGD_REL >> log; echo E $DAGD_REL >> log"
cwd = "{dir}"
[triggers.in]
drop = "inbox"
run = "t"
move = "done/"
[triggers.s]
signal = "SIGUSR1"
run = "byhand"
[tasks.byhand]
shell = "echo B by-hand >> log"
cwd = "{dir}"
"#;

fn drop_files(env: &Env, from: usize, to: usize) {
    for n in from..to {
        fs::write(env.at("inbox").join(format!("f{n}")), format!("{n}")).unwrap();
    }
}

/// Drops files from number `from` on until the daemon has no place for them; returns the next
/// number.
fn drop_until_stalled(env: &Env, from: usize) -> usize {
    let mut next = from;
    while !is_stalled(env) {
        assert!(next < from + 20_000, "the disk is never full\n{}", env.log());
        drop_files(env, next, next + 20);
        next += 20;
    }
    next
}

fn lines(env: &Env, word: &str) -> usize {
    let log = fs::read_to_string(env.at("log")).unwrap_or_default();
    log.lines().filter(|line| line.starts_with(word)).count()
}

fn entries(dir: &Path) -> usize {
    fs::read_dir(dir).map_or(0, Iterator::count)
}

fn is_stalled(env: &Env) -> bool {
    env.json(&["status"])["state"] == "stalled"
}

/// Each file was run `times`, and lies where it belongs.
fn each_delivered(env: &Env, files: usize, once: bool) {
    let log = fs::read_to_string(env.at("log")).unwrap();
    let mut ends: BTreeMap<&str, usize> = BTreeMap::new();
    for line in log.lines().filter(|line| line.starts_with('E')) {
        *ends.entry(line).or_default() += 1;
    }
    assert_eq!(ends.len(), files, "every file");
    assert!(!once || ends.values().all(|&n| n == 1), "exactly once: {ends:?}");
    assert_eq!((entries(&env.at("inbox")), entries(&env.at("done"))), (0, files));
}

#[test]
fn a_full_disk_stalls_is_shown_and_heals() {
    let mut env = Env::new(QUIET);
    let Some(disk) = small(&mut env) else { return };
    env.mkdir("inbox");
    env.start();
    let pid = env.pid();
    drop_files(&env, 0, 20);
    env.await_ended(20);
    let mut files = 20;
    for _ in 1..=2 {
        disk.fill();
        files = drop_until_stalled(&env, files);
        let status = env.json(&["status"]);
        let reason = status["stalled"].as_str().unwrap();
        assert!(reason.contains("dagd.db") && reason.contains("space"), "{reason}");
        assert!(status["problems"][0].as_str().unwrap().contains("stalled"), "{status}");
        let text = env.ok(&["status"]);
        assert!(text.contains("stalled") && text.contains("space"), "{text}");

        // Who looks is answered, who asks for something waits.
        env.json(&["pending"]);
        assert!(!env.runs().is_empty());
        assert_eq!(env.json(&["show", "1"])["state"], "succeeded");
        let first = env.at("inbox/f0");
        assert!(env.ok(&["explain", first.to_str().unwrap()]).contains("done/f0"));
        let mut fired =
            env.command(&["fire", "s", "--wait"]).stdout(Stdio::null()).spawn().unwrap();
        env.signal(1);

        // What is not committed is not acted on.
        let until = Instant::now() + Duration::from_millis(300);
        let before = lines(&env, "B");
        while Instant::now() < until {
            let counters = &env.json(&["status"])["counters"];
            let started = counters["attempts_started"].as_u64().unwrap();
            let noted = lines(&env, "S") + lines(&env, "B");
            assert!(noted as u64 <= started, "{noted} ran, {started} were recorded");
        }
        assert!(is_stalled(&env) && lines(&env, "B") == before);
        assert!(fired.try_wait().unwrap().is_none(), "an answer without a commit");

        disk.free();
        env.wait("all files", || entries(&env.at("done")) == files);
        assert!(fired.wait().unwrap().success());
        assert_eq!(lines(&env, "B"), before + 1);
        env.await_idle();
        let status = env.json(&["status"]);
        assert_eq!(status["state"], "running");
        assert!(status["stalled"].is_null());
        env.wait("the reload that came meanwhile", || {
            env.json(&["status"])["reload"]["ok"] == true
        });
        each_delivered(&env, files, true);
    }
    assert_eq!(env.pid(), pid);
    assert_eq!(env.runs().len(), files + 2);
    assert!(env.runs().iter().all(|run| run["state"] == "succeeded"));
    assert!(env.stop());
}

/// Two tasks are at work when the disk is full, one with a child that left its group.
const LONG: &str = r#"
[daemon]
stop_timeout = "300ms"
max_parallel = 2
max_live_runs = 100000
[tasks.t]
shell = "echo S >> log; if [ -e go ]; then echo E $DAGD_REL >> log; else (setsid sleep 1000 &); until [ -e end ]; do sleep 0.02; done; (echo -n big=; head -c 900000 /dev/zero | tr '\\0' x) > $DAGD_OUTPUT; fi"
cwd = "{dir}"
[triggers.in]
drop = "inbox"
run = "t"
move = "done/"
"#;

/// A daemon with a task at work and no place left for its end.
fn stuck(env: &mut Env) -> Option<Disk> {
    let disk = small(env)?;
    env.mkdir("inbox");
    env.start();
    drop_files(env, 0, 1);
    env.wait("the task", || lines(env, "S") == 1);
    disk.fill();
    Some(disk)
}

/// The next daemon finishes what was begun, once there is room.
fn resumes(env: &mut Env, disk: &Disk, files: usize) {
    assert_eq!(env.survivors(), Vec::<String>::new(), "nothing outlives the daemon");
    fs::write(env.at("go"), "").unwrap();
    disk.free();
    env.start();
    env.wait("all files", || entries(&env.at("done")) == files);
    env.await_idle();
    each_delivered(env, files, true);
    assert!(env.stop());
}

#[test]
fn a_stop_during_a_stall_takes_bounded_time() {
    let mut env = Env::new(LONG);
    let Some(disk) = stuck(&mut env) else { return };
    let files = drop_until_stalled(&env, 1);
    let began = Instant::now();
    env.signal(15);
    let status = env.await_end();
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    assert_eq!(status.code(), Some(1), "{}", env.log());
    assert!(env.log().contains("stalled"), "{}", env.log());
    resumes(&mut env, &disk, files);
}

#[test]
fn a_stop_by_request_during_a_stall_takes_bounded_time() {
    let mut env = Env::new(LONG);
    let Some(disk) = stuck(&mut env) else { return };
    let files = drop_until_stalled(&env, 1);
    let began = Instant::now();
    let stopped = env.run(&["stop"]);
    assert!(stopped.status.success(), "{stopped:?}");
    env.await_end();
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    resumes(&mut env, &disk, files);
}

#[test]
fn a_stall_during_a_stop_takes_bounded_time() {
    let mut env = Env::new(&LONG.replace("300ms", "2s"));
    let Some(disk) = stuck(&mut env) else { return };
    // The lanes take no more work from here on: only the end of the task is to be recorded.
    env.signal(15);
    env.wait("the stop", || env.json(&["status"])["state"] == "stopping");
    disk.fill();
    // Its output is more than what may be left of the space that the store has already.
    let began = Instant::now();
    fs::write(env.at("end"), "").unwrap();
    env.await_end();
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
    assert_eq!(env.survivors(), Vec::<String>::new());
}

#[test]
fn a_crash_during_a_stall_loses_nothing() {
    let mut env = Env::new(QUIET);
    let Some(disk) = small(&mut env) else { return };
    env.mkdir("inbox");
    env.start();
    disk.fill();
    let files = drop_until_stalled(&env, 0);
    env.kill();
    // On a disk that is still full it either waits or says what is wrong; it never gives up data.
    env.spawn(&mut env.command(&["run"]));
    env.wait("a word about it", || env.log().matches("space").count() >= 2);
    env.kill();
    disk.free();
    env.start();
    env.wait("all files", || entries(&env.at("done")) == files);
    env.await_idle();
    each_delivered(&env, files, false);
    assert!(env.stop());
}

#[test]
fn a_disk_that_cannot_be_written_is_told_and_can_be_looked_at() {
    let mut env = Env::new(QUIET);
    let Some(disk) = small(&mut env) else { return };
    env.mkdir("inbox");
    env.start();
    drop_files(&env, 0, 3);
    env.await_ended(3);
    env.await_idle();
    let files = 3;
    for how in ["a stop", "a crash"] {
        if how == "a stop" {
            assert!(env.stop());
        } else {
            env.kill();
        }
        disk.remount("ro");
        let output = env.run(&["run"]);
        assert_eq!(output.status.code(), Some(1), "{how}: {output:?}");
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(
            text.contains("state") && text.to_lowercase().contains("read-only"),
            "{how}: {text}"
        );
        assert_eq!(env.runs().len(), files, "after {how}");
        assert_eq!(env.json(&["show", "1"])["state"], "succeeded");
        disk.remount("rw");
        env.start();
    }
    drop_files(&env, files, files + 1);
    env.wait("one more", || entries(&env.at("done")) == files + 1);
    assert!(env.stop());
}

#[test]
fn what_nobody_waits_for_is_synced_once_it_is_quiet() {
    let mut env =
        Env::new("[tasks.t]\nshell = \"true\"\n[triggers.in]\ndrop = \"inbox\"\nrun = \"t\"\n");
    env.mkdir("inbox");
    env.start();
    let log = env.at("state/dagd.db-wal");
    let Some(faults) = Faults::io_error(&env, "EIO", "fdatasync,fsync", &[&log]) else { return };
    drop_files(&env, 0, 1);
    env.wait("word of the failure", || env.log().contains("the log cannot be synced"));
    assert!(!is_stalled(&env), "nobody waits for it");
    drop(faults);
    // A sync that failed once is not to be trusted: what is asked for next is copied as a whole.
    env.ok(&["fire", "--select", "t"]);
    env.await_ended(2);
    env.wait("the store to be trusted", || !is_stalled(&env));
    assert!(env.stop());
}

#[test]
fn a_disk_that_fails_stalls_and_heals() {
    let mut env = Env::new(QUIET);
    env.mkdir("inbox");
    env.start();
    drop_files(&env, 0, 3);
    env.await_ended(3);
    env.await_idle();
    let log = env.at("state/dagd.db-wal");
    // A file system that has found an error in itself lets nobody write from then on.
    let errors = ["EIO", "EROFS"].into_iter();
    let faults = errors.flat_map(|errno| [(errno, "pwrite64"), (errno, "fdatasync,fsync")]);
    for (round, (errno, calls)) in faults.enumerate() {
        let files = 3 * (round + 1);
        let paths = [&*log, &env.at("state/dagd.db")];
        let Some(faults) = Faults::io_error(&env, errno, calls, &paths) else { return };
        drop_files(&env, files, files + 3);
        env.wait("the stall", || is_stalled(&env));
        let status = env.json(&["status"]);
        let reason = status["stalled"].as_str().unwrap();
        assert!(reason.contains("dagd.db"), "{reason}");
        let why = ["disk I/O error", "Input/output", "Read-only"];
        assert!(why.iter().any(|why| reason.contains(why)), "{errno} of {calls}: {reason}");
        drop(faults);
        env.wait("all files", || entries(&env.at("done")) == files + 3);
        assert!(!is_stalled(&env), "it healed by itself");
    }
    env.await_idle();
    each_delivered(&env, 15, true);
    // A stop does not wait for the disk, and what could not be done is done after the next start.
    let Some(faults) = Faults::io_error(&env, "EIO", "fdatasync,fsync", &[&log]) else { return };
    drop_files(&env, 15, 16);
    env.wait("the stall", || is_stalled(&env));
    env.stop();
    drop(faults);
    env.start();
    env.wait("all files", || entries(&env.at("done")) == 16);
    env.await_idle();
    each_delivered(&env, 16, true);
    assert!(env.stop());
}
