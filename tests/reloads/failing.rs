//! A reload that fails half-way: all is as it was before.

use std::fs;

use serde_json::Value;

use crate::common::Env;
use crate::common::faults::Faults;
use crate::common::process::{Held, held};

const FIRST: &str = r#"
[daemon]
durability = "normal"
reload_on_change = true
[tasks.t]
shell = "echo ran >> log"
cwd = "{dir}"
[triggers.one]
signal = "SIGUSR1"
run = "t"
[triggers.in]
drop = "first"
run = "t"
"#;

const SECOND: &str = r#"
[daemon]
durability = "full"
reload_on_change = false
[tasks.t]
shell = "echo ran >> log"
cwd = "{dir}"
[triggers.two]
signal = "SIGUSR2"
run = "t"
[triggers.in]
drop = "second"
run = "t"
"#;

/// Which signals have a handler.
fn caught(env: &Env) -> String {
    let status = fs::read_to_string(format!("/proc/{}/status", env.pid())).unwrap();
    status.lines().find(|line| line.starts_with("SigCgt")).unwrap().to_owned()
}

/// The triggers, without what time changes of them.
fn triggers(env: &Env) -> Vec<(Value, Value)> {
    let status = env.json(&["status"]);
    let all = status["triggers"].as_array().unwrap().iter();
    all.map(|trigger| (trigger["name"].clone(), trigger["source"].clone())).collect()
}

/// What a process holds, whatever the kernel's numbers for it.
fn kept(held: &Held) -> (Vec<String>, Vec<String>, Vec<String>) {
    let inode = |line: &String| line.split(" ino:").nth(1).map(str::to_owned);
    let mut inodes: Vec<String> = held.watches.iter().filter_map(inode).collect();
    inodes.sort();
    (held.threads.clone(), held.descriptors.clone(), inodes)
}

fn last(env: &Env) -> Value {
    env.json(&["status"])["reload"].clone()
}

#[test]
fn without_a_thread_to_wait_with_all_stays_as_it_was() {
    let mut env = Env::new(FIRST);
    env.mkdir("first");
    env.mkdir("second");
    env.start();
    env.await_scanned();
    // Whoever reads the history is there from the first look on.
    env.json(&["runs"]);
    let before = (triggers(&env), caught(&env), held(env.pid()));
    // The engine starts one thread that reads, and then one that waits for the watches.
    let none = Faults::inject(&env, "clone,clone3:error=EAGAIN:when=2", &[]);
    let Some(none) = none else { return };
    env.configure(SECOND);
    env.wait("a reload that fails", || last(&env)["ok"] == false);
    drop(none);
    let text = last(&env)["text"].as_str().unwrap().to_owned();
    assert!(text.starts_with("failed to start a thread: "), "{text}");
    assert_eq!(triggers(&env), before.0);
    assert_eq!(caught(&env), before.1);
    let was = kept(&before.2);
    env.wait("the watches and threads that there were", || kept(&held(env.pid())) == was);

    // Commits do not wait for the disk.
    let log = env.at("state/dagd.db-wal");
    let Some(faults) = Faults::io_error(&env, "EIO", "fdatasync,fsync", &[&log]) else { return };
    env.signal(10);
    env.await_ended(1);
    drop(faults);
    fs::write(env.at("first/file"), "x").unwrap();
    env.await_ended(2);
    // Changes are still noticed.
    env.configure(&FIRST.replace("durability", "max_parallel = 3\ndurability"));
    env.wait("the change", || last(&env)["ok"] == true);
    assert!(last(&env)["text"].as_str().unwrap().contains("max_parallel"), "{}", last(&env));
    // Nothing but the thread was in the way.
    env.configure(SECOND);
    env.wait("the other one", || triggers(&env) != before.0);
    assert_eq!(last(&env)["ok"], true);
    env.signal(12);
    env.await_ended(3);
    assert!(env.stop());
}
