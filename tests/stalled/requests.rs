//! Requests while nothing can be committed, and what they come to afterwards; reloads without a
//! thread.

use std::fs;
use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::process::{Child, Output, Stdio};

use rusqlite::Connection;

use crate::common::faults::Faults;
use crate::common::{Env, PATIENCE};

const BY_HAND: &str = r#"
[tasks.t]
shell = "echo B >> log"
cwd = "{dir}"
[triggers.s]
signal = "SIGUSR1"
on_overlap = "queue"
run = "t"
"#;

/// A foreign writer: as long as it lives, nothing can be committed.
fn held(env: &Env) -> Connection {
    let db = Connection::open(env.at("state/dagd.db")).unwrap();
    db.busy_timeout(PATIENCE).unwrap();
    db.execute_batch("BEGIN IMMEDIATE").unwrap();
    db
}

fn log(env: &Env) -> String {
    fs::read_to_string(env.at("log")).unwrap_or_default()
}

fn is_stalled(env: &Env) -> bool {
    env.json(&["status"])["state"] == "stalled"
}

fn begin(env: &Env, args: &[&str]) -> Child {
    env.command(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Waits until `n` of the commands have ended, and returns what these printed.
fn ended(env: &Env, commands: &mut Vec<Child>, n: usize) -> Vec<Output> {
    let mut outputs = Vec::new();
    env.wait("an answer", || {
        env.hear();
        let done = commands.extract_if(.., |command| command.try_wait().unwrap().is_some());
        outputs.extend(done.map(|command| command.wait_with_output().unwrap()));
        outputs.len() >= n
    });
    outputs
}

/// What is asked for in one breath is taken in that order: this has been taken afterwards.
fn settle(env: &Env) {
    for _ in 0..3 {
        env.json(&["status"]);
    }
}

#[test]
fn what_nobody_waits_for_any_more_is_not_begun_after_a_stall() {
    let mut env = Env::new(BY_HAND);
    env.start();
    let db = held(&env);
    let first = begin(&env, &["fire", "s"]);
    env.wait("the stall", || is_stalled(&env));
    // Each of them gives up while it waits.
    for _ in 0..3 {
        let mut stream = UnixStream::connect(env.at("run/dagd.sock")).unwrap();
        let body = r#"{"trigger":"s"}"#;
        let length = body.len();
        write!(
            stream,
            "POST /v1/fire HTTP/1.1\r\nHost: d\r\nContent-Length: {length}\r\n\r\n{body}"
        )
        .unwrap();
        settle(&env);
    }
    settle(&env);
    let again = begin(&env, &["fire", "s"]);
    drop(db);
    for fired in [first, again] {
        let output = fired.wait_with_output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }
    env.await_idle();
    assert_eq!(log(&env), "B\nB\n", "one for each who waited");
    assert_eq!(env.runs().len(), 2);
}

#[test]
fn many_requests_during_a_stall_leave_room_for_those_who_look_and_for_a_stop() {
    let mut env = Env::new(BY_HAND);
    env.start();
    let db = held(&env);
    let first = begin(&env, &["fire", "s"]);
    env.wait("the stall", || is_stalled(&env));
    let mut fired: Vec<Child> = (0..80).map(|_| begin(&env, &["fire", "s"])).collect();
    // As many as are kept for later; the rest is told at once.
    for refused in ended(&env, &mut fired, 80 - 32) {
        assert_eq!(refused.status.code(), Some(1), "{refused:?}");
        let text = String::from_utf8_lossy(&refused.stderr);
        assert!(text.contains("stalled") && text.contains("dagd.db"), "{text}");
    }
    assert!(is_stalled(&env), "who looks is answered");
    env.json(&["pending"]);
    assert_eq!(fired.len(), 32);
    drop(db);
    for kept in fired.into_iter().chain([first]) {
        let output = kept.wait_with_output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }
    env.await_idle();
    assert_eq!(log(&env), "B\n".repeat(33));

    // And so is who stops it.
    let db = held(&env);
    let mut fired: Vec<Child> = (0..80).map(|_| begin(&env, &["fire", "s"])).collect();
    ended(&env, &mut fired, 40);
    let stopped = env.run(&["stop"]);
    assert!(stopped.status.success(), "{stopped:?}");
    env.await_end();
    drop(db);
    for one in fired {
        one.wait_with_output().unwrap();
    }
}

#[test]
fn a_reload_during_a_stall_is_done_at_its_end() {
    let mut env = Env::new(BY_HAND);
    env.start();
    let db = held(&env);
    let first = begin(&env, &["fire", "s"]);
    env.wait("the stall", || is_stalled(&env));
    let reload = begin(&env, &["reload"]);
    settle(&env);
    drop(db);
    for command in [first, reload] {
        let output = command.wait_with_output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }
}

#[test]
fn a_stop_of_a_task_during_a_stall_is_sent_once() {
    let mut env = Env::new(
        r#"
[tasks.t]
shell = "trap 'echo TERM >> log' TERM; echo S >> log; until [ -e go ]; do sleep 0.02 || :; done"
cwd = "{dir}"
kill_after = "1h"
"#,
    );
    env.start();
    env.ok(&["fire", "--select", "t"]);
    env.wait("the task", || log(&env) == "S\n");
    let db = held(&env);
    let cancel = begin(&env, &["cancel", "1"]);
    env.wait("the signal", || log(&env) == "S\nTERM\n");
    assert!(is_stalled(&env), "it did not wait for the commit");
    drop(db);
    let output = cancel.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(!is_stalled(&env));
    fs::write(env.at("go"), "").unwrap();
    env.await_ended(1);
    assert_eq!(log(&env), "S\nTERM\n");
}

#[test]
fn reloads_for_which_there_is_no_thread_are_answered() {
    let mut env = Env::new(BY_HAND);
    env.start();
    // The first of the engine's threads reads, the second waits for the watches.
    let what = "clone,clone3:error=EAGAIN:when=3+";
    let Some(faults) = Faults::inject(&env, what, &[]) else { return };
    let mut asked: Vec<Child> = (0..8).map(|_| begin(&env, &["reload"])).collect();
    let mut refused = 0;
    for output in ended(&env, &mut asked, 8) {
        let text = String::from_utf8_lossy(&output.stderr);
        if !output.status.success() {
            assert!(text.contains("thread"), "{output:?}");
            refused += 1;
        }
    }
    assert!(refused > 0, "{}", env.log());
    drop(faults);
    env.hear();
    env.ok(&["reload"]);
}
