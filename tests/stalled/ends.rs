//! How the daemon ends and goes on: stops, hastened stops, and tasks that kill it.

use std::fs;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::common::Env;

/// The first attempt waits for ever, and ends as it is told to; the second ends at once.
const RESUMED: &str = r#"
[daemon]
stop_timeout = "200ms"
[tasks.t]
shell = "trap 'echo TERM $DAGD_ATTEMPT >> log; exit 1' TERM; echo S $DAGD_ATTEMPT >> log; if [ $DAGD_ATTEMPT = 1 ]; then while :; do sleep 0.02; done; fi; echo E $DAGD_ATTEMPT >> log"
cwd = "{dir}"
kill_after = "5s"
[tasks.after]
needs = ["t"]
shell = "echo after >> log"
cwd = "{dir}"
[triggers.in]
drop = "inbox"
run = "t+"
move = "done/"
"#;

fn log(env: &Env) -> String {
    fs::read_to_string(env.at("log")).unwrap_or_default()
}

#[test]
fn a_run_that_a_stop_interrupts_goes_on_at_the_next_start() {
    let mut env = Env::new(RESUMED);
    env.mkdir("inbox");
    env.start();
    fs::write(env.at("inbox/a"), "1").unwrap();
    env.wait("the task", || log(&env).contains("S 1"));
    assert!(env.stop());
    assert_eq!(log(&env), "S 1\nTERM 1\n");
    assert_eq!(env.survivors(), Vec::<String>::new());
    let stored = env.json(&["show", "1"]);
    assert_eq!(stored["state"], "running", "alive, though nobody is at work: {stored}");
    fs::write(env.at("inbox/b"), "2").unwrap();
    env.start();
    env.await_ended(1);
    let task = env.task(1, "t");
    assert_eq!(task["state"], "succeeded", "{task}");
    let attempts = task["attempts"].as_array().unwrap();
    assert_eq!(attempts.len(), 2, "{task}");
    assert!(attempts[0]["error"].as_str().unwrap().contains("stopping"), "{task}");
    assert_eq!((&attempts[1]["attempt"], &attempts[1]["exit_code"]), (&2.into(), &0.into()));
    for line in ["S 2\n", "E 2\n", "after\n"] {
        assert!(log(&env).contains(line), "{line:?}: {}", log(&env));
    }
    assert!(env.at("done/a").exists());
    env.wait("the second file", || log(&env).matches("S 1").count() == 2);
    assert!(env.stop());
}

#[test]
fn who_ends_in_time_is_done() {
    let mut env = Env::new(
        r#"
[daemon]
stop_timeout = "30s"
[tasks.t]
shell = "echo S >> log; until [ -e go ]; do sleep 0.02; done; echo E >> log"
cwd = "{dir}"
[tasks.u]
needs = ["t"]
shell = "echo U >> log"
cwd = "{dir}"
"#,
    );
    env.start();
    env.ok(&["fire", "--select", "t+"]);
    env.wait("the task", || log(&env) == "S\n");
    env.signal(15);
    env.wait("the stop", || env.json(&["status"])["state"] == "stopping");
    let refused = env.run(&["fire", "--select", "t"]);
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("stopping"), "{refused:?}");
    fs::write(env.at("go"), "").unwrap();
    assert!(env.await_end().success());
    assert_eq!(log(&env), "S\nE\n", "no new work");
    env.start();
    env.await_ended(1);
    assert_eq!(log(&env), "S\nE\nU\n", "what was done is not repeated");
    assert_eq!(env.task(1, "t")["attempts"].as_array().unwrap().len(), 1);
}

#[test]
fn a_second_and_a_third_term_hasten() {
    let stubborn = r#"
[daemon]
stop_timeout = "1h"
[tasks.t]
shell = "trap 'echo TERM >> log' TERM; echo S >> log; while :; do sleep 0.02; done"
cwd = "{dir}"
kill_after = "1h"
"#;
    let mut env = Env::new(stubborn);
    env.start();
    env.ok(&["fire", "--select", "t"]);
    env.wait("the task", || log(&env) == "S\n");
    let began = Instant::now();
    env.signal(15);
    env.wait("the stop", || env.json(&["status"])["state"] == "stopping");
    assert_eq!(log(&env), "S\n", "it may end by itself");
    env.signal(15);
    env.wait("TERM", || log(&env).contains("TERM"));
    env.signal(2);
    assert!(env.await_end().success(), "{}", env.log());
    assert!(began.elapsed() < Duration::from_secs(30));
    assert_eq!(env.survivors(), Vec::<String>::new());
    env.start();
    env.wait("the next attempt", || log(&env).matches('S').count() == 2);
    assert_eq!(env.task(1, "t")["attempts"].as_array().unwrap().len(), 2);
}

#[test]
fn what_was_accepted_survives_a_stop_and_a_crash() {
    let mut env = Env::new(
        r#"
[daemon]
max_live_runs = 1
stop_timeout = "10ms"
[tasks.t]
shell = "until [ -e go ]; do sleep 0.02; done; echo $DAGD_REASON $DAGD_VALUE $DAGD_REL >> log"
cwd = "{dir}"
[triggers.rt]
signal = "SIGUSR1"
on_overlap = "queue"
run = "t"
[triggers.in]
drop = "inbox"
run = "t"
"#,
    );
    env.mkdir("inbox");
    env.start();
    env.ok(&["fire", "--select", "t"]);
    env.wait("the task", || env.json(&["status"])["running"] == 1);
    let queued = |env: &Env, trigger: usize| {
        env.json(&["status"])["triggers"][trigger]["queued"].as_u64().unwrap()
    };
    for n in 1..=3 {
        env.signal(10);
        env.wait("the signal", || queued(&env, 1) == n);
    }
    env.ok(&["fire", "--select", "t"]);
    env.ok(&["fire", "rt"]);
    fs::write(env.at("inbox/a"), "1").unwrap();
    env.wait("the file", || queued(&env, 0) == 1);
    let items = |env: &Env| -> Vec<Value> {
        env.json(&["pending"]).as_array().unwrap().iter().map(|e| e["reason"].clone()).collect()
    };
    let waiting = items(&env).len();
    for crash in [false, true] {
        if crash {
            env.kill();
        } else {
            assert!(env.stop());
        }
        env.start();
        env.wait("what waits", || items(&env).len() == waiting);
    }
    fs::write(env.at("go"), "").unwrap();
    env.await_ended(7);
    env.await_idle();
    let log = log(&env);
    let mut reasons: Vec<&str> = log.lines().map(|line| line.split(' ').next().unwrap()).collect();
    reasons.sort_unstable();
    assert_eq!(
        reasons,
        ["manual", "manual", "manual", "scan", "signal", "signal", "signal"],
        "{log}"
    );
    assert_eq!(env.runs().len(), 7);
}

/// The daemon dies of its own task.
fn dies(env: &mut Env) {
    env.spawn(&mut env.command(&["run"]));
    let status = env.await_end();
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9), "{}", env.log());
}

#[test]
fn a_task_that_kills_the_daemon_is_given_up_in_the_end() {
    let mut env = Env::new(
        r#"
[tasks.killer]
shell = "echo S $DAGD_ATTEMPT >> log; kill -9 $PPID; sleep 1000"
cwd = "{dir}"
[tasks.alert]
needs = ["killer"]
rule = "one_failed"
command = ["echo", "{failed} was lost"]
[triggers.in]
drop = "inbox"
run = "killer+"
move_failed = "failed/"
"#,
    );
    env.mkdir("inbox");
    fs::write(env.at("inbox/a"), "1").unwrap();
    for attempt in 1..=4 {
        dies(&mut env);
        let wanted: Vec<String> = (1..=attempt).map(|n| format!("S {n}")).collect();
        assert_eq!(log(&env).lines().collect::<Vec<_>>(), wanted);
    }
    env.start();
    env.wait("the end", || env.at("failed/a").exists());
    env.await_idle();
    assert_eq!(log(&env).lines().count(), 4, "it is not tried once more");
    let task = env.task(1, "killer");
    assert_eq!(task["state"], "lost", "{task}");
    let attempts = task["attempts"].as_array().unwrap();
    assert_eq!(attempts.len(), 4);
    for attempt in attempts {
        assert_eq!(attempt["error"], "dagd ended while it ran");
        assert!(attempt["exit_code"].is_null() && attempt["signal"].is_null());
    }
    assert_eq!(env.task(1, "alert")["state"], "succeeded");
    assert_eq!(env.runs()[0]["state"], "failed");
    assert!(env.ok(&["show", "1"]).contains("lost"));
    assert!(env.ok(&["logs", "1/alert"]).contains("killer was lost"));
    assert_eq!(env.survivors(), Vec::<String>::new());
}

#[test]
fn who_must_not_be_repeated_is_lost_at_once() {
    let mut env = Env::new(
        r#"
[tasks.t]
shell = "echo S >> log; kill -9 $PPID; sleep 1000"
cwd = "{dir}"
on_crash = "fail"
retry = { max = 5, delay = "1ms" }
[triggers.in]
drop = "inbox"
run = "t"
"#,
    );
    env.mkdir("inbox");
    fs::write(env.at("inbox/a"), "1").unwrap();
    dies(&mut env);
    env.start();
    env.wait("the end", || env.runs()[0]["state"] == "failed");
    let task = env.task(1, "t");
    assert_eq!((&task["state"], task["attempts"].as_array().unwrap().len()), (&"lost".into(), 1));
    assert_eq!(log(&env), "S\n");
}

/// What is at work does not end by itself.
const AT_WORK: &str = r#"
[tasks.t]
shell = "echo S $DAGD_ATTEMPT >> log; until [ -e go ]; do sleep 0.02; done; echo E $DAGD_ATTEMPT >> log"
cwd = "{dir}"
"#;

#[test]
fn a_start_that_cannot_listen_begins_nothing() {
    let mut env = Env::new(AT_WORK);
    env.start();
    env.ok(&["fire", "--select", "t"]);
    env.wait("the task", || log(&env) == "S 1\n");
    env.kill();
    let socket = env.at("run/dagd.sock");
    fs::remove_file(&socket).unwrap();
    fs::write(&socket, "no socket").unwrap();
    // More often than an attempt may be lost.
    for _ in 1..=5 {
        let output = env.run(&["run"]);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(text.contains("dagd.sock") && text.contains("no socket"), "{text}");
        assert_eq!(env.survivors(), Vec::<String>::new(), "nothing is left running");
    }
    assert_eq!(log(&env), "S 1\n", "nothing was begun");
    fs::remove_file(&socket).unwrap();
    fs::write(env.at("go"), "").unwrap();
    env.start();
    env.await_ended(1);
    assert_eq!(env.task(1, "t")["state"], "succeeded");
    assert!(log(&env).ends_with("S 2\nE 2\n"), "{}", log(&env));
}

#[test]
fn a_state_that_is_broken_while_at_work_leaves_nothing_running() {
    let mut env = Env::new(AT_WORK);
    env.start();
    env.ok(&["fire", "--select", "t"]);
    env.wait("the task", || log(&env) == "S 1\n");
    let db = rusqlite::Connection::open(env.at("state/dagd.db")).unwrap();
    db.busy_timeout(crate::common::PATIENCE).unwrap();
    db.execute_batch("DROP TABLE live").unwrap();
    // The next commit finds that out.
    let refused = env.run(&["fire", "--select", "t"]);
    assert!(!refused.status.success(), "{refused:?}");
    assert_eq!(env.await_end().code(), Some(1), "{}", env.log());
    assert!(env.log().contains("no such table"), "{}", env.log());
    assert_eq!(env.survivors(), Vec::<String>::new(), "nothing is left running");
}

#[test]
fn what_an_attempt_wrote_before_a_crash_is_its_log() {
    let mut env = Env::new(
        r#"
[tasks.t]
shell = "echo said $DAGD_ATTEMPT; until [ -e go ]; do sleep 0.02; done"
cwd = "{dir}"
"#,
    );
    env.start();
    env.ok(&["fire", "--select", "t"]);
    let log = env.at("state/logs/1.t.1.log");
    env.wait("the log", || fs::read_to_string(&log).is_ok_and(|text| text == "said 1\n"));
    env.kill();
    fs::write(env.at("go"), "").unwrap();
    env.start();
    env.await_ended(1);
    assert_eq!(env.ok(&["logs", "1/t", "--attempt", "1"]), "said 1\n");
    assert_eq!(env.ok(&["logs", "1/t"]), "said 2\n");
    let db = rusqlite::Connection::open(env.at("state/dagd.db")).unwrap();
    let row = db.query_row("SELECT log, log_kept FROM attempts WHERE attempt = 1", [], |row| {
        Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?))
    });
    assert_eq!(row.unwrap(), ("1.t.1.log".to_owned(), 7), "it counts, and is pruned with its run");
}
