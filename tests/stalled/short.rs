//! What a task needs to be started is short: it is waited for, visibly, and the task is not blamed.

use std::fs;

use serde_json::Value;

use crate::common::Env;
use crate::common::faults::Faults;

/// What fails is taken away.
const CONFIG: &str = r#"
[tasks.t]
command = ["true"]
[triggers.in]
drop = "inbox"
run = "t"
move = "done/"
move_failed = "failed/"
"#;

fn world() -> Env {
    let env = Env::new(CONFIG);
    for folder in ["inbox", "done", "failed"] {
        env.mkdir(folder);
    }
    env
}

fn entries(env: &Env, rel: &str) -> usize {
    fs::read_dir(env.at(rel)).unwrap().count()
}

/// Waits until run `run` waits to be started, because of `why`, wherever one may look.
fn await_shortage(env: &Env, run: u64, why: &str) {
    let tells = |told: &Value| told.as_str().is_some_and(|text| text.contains(why));
    env.wait("the shortage", || {
        let problems = env.json(&["status"])["problems"].clone();
        problems.as_array().unwrap().iter().any(&tells)
    });
    env.wait("what is pending", || {
        let pending = env.json(&["pending"]);
        let mut entries = pending.as_array().unwrap().iter();
        entries.any(|e| e["stage"] == "starting" && e["run"] == run && tells(&e["reason"]))
    });
    let task = env.task(run, "t");
    assert!(["retrying", "ready", "running"].contains(&task["state"].as_str().unwrap()), "{task}");
    assert!(tells(&task["attempts"][0]["error"]), "{task}");
}

#[test]
fn a_task_for_which_there_is_no_process_waits_for_one() {
    let mut env = world();
    env.start();
    let what = "clone,clone3,vfork:error=EAGAIN";
    let Some(faults) = Faults::inject(&env, what, &[]) else { return };
    fs::write(env.at("inbox/a"), "1").unwrap();
    await_shortage(&env, 1, "too many processes");
    drop(faults);
    env.wait("the file", || env.at("done/a").exists());
    env.await_idle();
    assert_eq!(entries(&env, "failed"), 0);
    assert_eq!(env.json(&["show", "1"])["state"], "succeeded");
    assert_eq!(env.json(&["status"])["problems"], Value::Array(Vec::new()));
    assert!(env.stop());
}

#[test]
fn event_files_for_which_there_is_no_space_are_waited_for_and_leave_nothing() {
    let mut env = world();
    let Some(disk) = env.disk("run", "size=8m,mode=0700") else { return };
    env.start();
    disk.fill();
    fs::write(env.at("inbox/a"), "1").unwrap();
    await_shortage(&env, 1, "space");
    disk.free();
    env.wait("the file", || env.at("done/a").exists());
    env.await_idle();

    // One that is given up meanwhile leaves nothing behind.
    disk.fill();
    fs::write(env.at("inbox/b"), "1").unwrap();
    await_shortage(&env, 2, "space");
    env.ok(&["cancel", "2"]);
    env.await_ended(2);
    assert_eq!(entries(&env, "run/events"), 0);
    assert_eq!(entries(&env, "failed"), 0);
    assert_eq!(env.json(&["show", "2"])["state"], "cancelled");
    assert!(env.stop());
}
