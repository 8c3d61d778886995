//! One answer for everybody who asks: what changed, or why nothing did.

use std::fs;

use serde_json::{Value, json};

use crate::common::Env;
use crate::common::process::sigqueue;

const FIRST: &str = r#"
[daemon]
max_parallel = 2
[pools]
api = 1
[tasks.t]
command = ["sh", "-c", "until [ -e {dir}/go ]; do sleep 0.02; done; echo old >> {dir}/ran"]
[tasks.u]
command = ["true"]
[triggers.s]
signal = "SIGUSR1"
run = "t"
on_overlap = "queue"
[triggers.in]
drop = "in"
run = "t"
max_runs = 1
"#;

const SECOND: &str = r#"
[daemon]
max_parallel = 3
[pools]
api = 2
gpu = 1
[tasks.u]
command = ["false"]
timeout = "1m"
[triggers.in]
drop = "in"
run = "u"
settle = "1ms"
"#;

/// What the last reload has come to, as `status` has it.
fn last(env: &Env) -> Value {
    env.json(&["status"])["reload"].clone()
}

#[test]
fn what_changed_is_told_key_by_key_and_what_remains() {
    let mut env = Env::new(FIRST);
    env.mkdir("in");
    env.start();
    env.signal(10);
    env.await_live(1);
    // One that waits; more would be merged by the kernel.
    env.signal(10);
    let queued = || env.json(&["status"])["triggers"][1]["queued"].as_u64().unwrap();
    env.wait("a signal that waits", || queued() == 1);
    env.configure(SECOND);
    let answer = env.json(&["reload"]);
    assert_eq!(answer["ok"], true);
    assert_eq!(answer["cause"], "request");
    let told = |change: &str, what: &str, name: &str| {
        let all = answer["changes"].as_array().unwrap().iter();
        let of = |entry: &&Value| {
            entry["change"] == change && entry["what"] == what && entry["name"] == name
        };
        all.clone().find(of).unwrap_or_else(|| panic!("{change} {what} {name}: {answer}")).clone()
    };
    let parallel = told("changed", "setting", "max_parallel");
    assert_eq!((&parallel["old"], &parallel["new"]), (&json!("2"), &json!("3")));
    assert_eq!(told("changed", "pool", "api")["new"], "2");
    assert_eq!(told("added", "pool", "gpu")["new"], "1");
    told("removed", "task", "t");
    assert_eq!(told("changed", "task", "u")["keys"], json!(["command", "timeout"]));
    assert_eq!(told("changed", "trigger", "in")["keys"], json!(["run", "max_runs", "settle"]));
    let remains = told("removed", "trigger", "s")["remains"].clone();
    assert_eq!(remains, json!(["1 live runs go on", "1 waiting events still run"]));
    assert_eq!(last(&env), answer, "whoever looks is told the same");
    assert!(env.log().contains("- trigger s: 1 live runs go on, 1 waiting events still run"));
    let pending = env.json(&["pending"])[0]["reason"].clone();
    assert_eq!(pending, "signal: waits for its turn; its trigger is not configured any more");
    // Both run by the task that is gone from the configuration.
    fs::write(env.at("go"), "").unwrap();
    env.await_ended(2);
    assert_eq!(fs::read_to_string(env.at("ran")).unwrap(), "old\nold\n");
    env.await_idle();
    assert!(env.stop());
}

#[test]
fn whoever_asks_is_told_the_same() {
    let mut env = Env::new(FIRST);
    env.mkdir("in");
    env.start();
    let bad = SECOND.replace("timeout = \"1m\"", "timeout = 5").replace("settle", "setle");
    env.configure(&bad);
    let asked = env.run(&["reload", "--json"]);
    assert_eq!(asked.status.code(), Some(78));
    let asked: Value = serde_json::from_slice(&asked.stdout).unwrap();
    let text = asked["text"].as_str().unwrap();
    for part in ["dagd.toml", "setle", "did you mean", "^", "timeout", "1m"] {
        assert!(text.contains(part), "{part} in {text}");
    }
    let said = env.run(&["reload"]);
    assert_eq!(said.status.code(), Some(78));
    assert!(String::from_utf8_lossy(&said.stderr).contains(text), "{said:?}");
    let before = last(&env)["at"].clone();
    env.signal(1);
    env.wait("the reload by a signal", || last(&env)["at"] != before);
    assert_eq!(last(&env)["text"], asked["text"]);
    assert_eq!(last(&env)["cause"], "signal");
    assert_eq!(last(&env)["ok"], false);
    assert!(env.log().contains("setle"), "the reasons are in the log");
    let status = env.json(&["status"]);
    assert_eq!(status["slots"], 2);
    assert_eq!(status["triggers"].as_array().unwrap().len(), 2, "all stays as it was");
    // A good one by a signal.
    env.configure(SECOND);
    env.signal(1);
    env.wait("the reload by a signal", || last(&env)["ok"] == true);
    assert!(last(&env)["text"].as_str().unwrap().contains("- trigger s"));
    let again = env.run(&["reload"]);
    assert_eq!(String::from_utf8_lossy(&again.stdout), "no changes\n");
    let beside = String::from_utf8_lossy(&again.stderr);
    assert!(beside.contains("warning: pool `gpu` is used by no task"), "{beside}");
    assert!(env.stop());
}

#[test]
fn what_only_a_restart_can_change_is_said_by_name() {
    let mut env = Env::new(FIRST);
    env.mkdir("in");
    env.start();
    let path = env.at("dagd.toml");
    let text = fs::read_to_string(&path).unwrap();
    let other = text.replace("\"state\"", "\"state2\"").replace("\"run\"", "\"run2\"");
    fs::write(&path, other.replace("max_parallel = 2", "max_parallel = 9")).unwrap();
    let told = env.run(&["reload"]);
    assert_eq!(told.status.code(), Some(78));
    let error = String::from_utf8_lossy(&told.stderr).into_owned();
    for part in ["state_dir", "state2", "runtime_dir", "run2", "restart dagd"] {
        assert!(error.contains(part), "{part} in {error}");
    }
    assert_eq!(env.json(&["status"])["slots"], 2, "nothing of it is in force");
    assert!(env.stop());
}

#[test]
fn events_of_a_trigger_that_goes_are_dropped_where_that_is_asked_for() {
    let mut env = Env::new(&FIRST.replace("\"queue\"", "\"queue\"\non_removal = \"drop\""));
    env.mkdir("in");
    env.start();
    env.signal(10);
    env.await_live(1);
    env.signal(10);
    let queued = || env.json(&["status"])["triggers"][1]["queued"].as_u64().unwrap();
    env.wait("a signal that waits", || queued() == 1);
    env.configure(SECOND);
    assert!(env.ok(&["reload"]).contains("1 waiting events dropped"));
    assert_eq!(env.counter("events_dropped"), 1);
    fs::write(env.at("go"), "").unwrap();
    env.await_ended(1);
    env.await_idle();
    assert_eq!(fs::read_to_string(env.at("ran")).unwrap(), "old\n");
    assert!(env.stop());
}

#[test]
fn it_makes_no_difference_whether_a_trigger_goes_while_dagd_is_down() {
    let mut env = Env::new(FIRST);
    env.mkdir("in");
    env.start();
    env.signal(10);
    env.await_live(1);
    env.signal(10);
    let queued = || env.json(&["status"])["triggers"][1]["queued"].as_u64().unwrap();
    env.wait("a signal that waits", || queued() == 1);
    env.kill();
    env.configure(SECOND);
    env.start();
    fs::write(env.at("go"), "").unwrap();
    env.await_ended(2);
    env.await_idle();
    assert_eq!(fs::read_to_string(env.at("ran")).unwrap(), "old\nold\n");
    assert!(env.stop());
}

#[test]
fn what_waits_of_a_paused_trigger_that_has_left_can_be_resumed() {
    let mut env = Env::new(FIRST);
    env.mkdir("in");
    fs::write(env.at("go"), "").unwrap();
    env.start();
    env.ok(&["pause", "s"]);
    env.signal(10);
    env.wait("the signal", || {
        let status = env.json(&["status"]);
        let triggers = status["triggers"].as_array().unwrap();
        triggers.iter().any(|trigger| trigger["name"] == "s" && trigger["queued"] == 1)
    });
    let reason = || env.json(&["pending"])[0]["reason"].as_str().unwrap().to_owned();
    assert_eq!(reason(), "signal: paused: by request");
    env.configure(SECOND);
    let told = env.ok(&["reload"]);
    assert!(told.contains("1 waiting events wait for `dagd resume s`"), "{told}");
    assert!(env.runs().is_empty());
    assert_eq!(
        reason(),
        "signal: paused: by request; its trigger is not configured any more, `dagd resume s` runs \
         it all the same"
    );
    env.ok(&["resume", "s"]);
    env.await_ended(1);
    assert_eq!(fs::read_to_string(env.at("ran")).unwrap(), "old\n");
    // Now nobody knows it any more.
    assert_eq!(env.run(&["resume", "nobody"]).status.code(), Some(3));
    assert!(env.stop());
}

#[test]
fn a_trigger_with_another_name_takes_over_what_waits() {
    let config = |of: &str| {
        format!(
            "[tasks.t]\ncommand = [\"true\"]\n{of}drop = \"in\"\nrun = \"t\"\nsettle = \"1h\"\n"
        )
    };
    let mut env = Env::new(&config("[triggers.a]\n"));
    env.mkdir("in");
    env.start();
    fs::write(env.at("in/file"), "x").unwrap();
    env.wait("the file", || env.json(&["status"])["triggers"][0]["pending"] == 1);
    env.configure(&config("[triggers.b]\nrenamed_from = \"a\"\n"));
    let told = env.ok(&["reload"]);
    assert!(told.contains("- trigger a: 1 waiting files are looked at anew"), "{told}");
    env.wait("the file", || env.json(&["status"])["triggers"][0]["pending"] == 1);
    assert!(env.stop());
}

#[test]
fn a_trigger_with_a_ledger_of_its_own_takes_over_nothing() {
    let trigger = |name: &str, folder: &str, former: &str| {
        format!("[triggers.{name}]\ndrop = \"{folder}\"\nrun = \"t\"\nsettle = \"1h\"\n{former}")
    };
    let tasks = "[tasks.t]\ncommand = [\"true\"]\n";
    let both = trigger("a", "in", "") + &trigger("b", "in2", "");
    let mut env = Env::new(&format!("{tasks}{both}"));
    env.mkdir("in");
    env.mkdir("in2");
    env.start();
    env.await_scanned();
    fs::write(env.at("in/file"), "x").unwrap();
    env.wait("the file", || env.json(&["status"])["triggers"][0]["pending"] == 1);
    env.configure(&format!("{tasks}{}", trigger("b", "in2", "renamed_from = \"a\"\n")));
    let answer = env.json(&["reload"]);
    let text = answer["text"].as_str().unwrap();
    assert!(text.contains("- trigger a: 1 waiting files stay where they are"), "{text}");
    let why = "trigger `b`: `renamed_from` has no effect, because `b` has a ledger of its own: that \
               of `a` stays apart";
    assert_eq!(answer["warnings"], json!([why]));
    assert!(env.stop());
}

#[test]
fn a_reload_that_leaves_too_much_behind_is_refused() {
    const SIGNALS: i32 = 3000;
    const GROUPS: usize = 6;
    let trigger = |n: usize| format!("[triggers.s{n}]\nsignal = \"SIGRTMIN+1\"\nrun = \"t\"\n");
    let config = |from: usize| {
        let triggers: String = (from..GROUPS).map(trigger).collect();
        format!("[tasks.t]\ncommand = [\"true\"]\n{triggers}")
    };
    let mut env = Env::new(&config(0));
    env.start();
    for n in 0..GROUPS {
        env.ok(&["pause", &format!("s{n}")]);
    }
    (0..SIGNALS).for_each(|value| sigqueue(env.pid(), 35, value));
    let queued = |env: &Env| {
        let status = env.json(&["status"]);
        let triggers = status["triggers"].as_array().unwrap().iter();
        triggers.map(|trigger| trigger["queued"].as_u64().unwrap()).sum::<u64>()
    };
    let many = GROUPS as u64 * u64::from(SIGNALS.unsigned_abs());
    env.wait_for("all signals", many, || queued(&env));
    env.configure(&config(GROUPS));
    let told = env.run(&["reload"]);
    assert_eq!(told.status.code(), Some(78));
    let why = String::from_utf8_lossy(&told.stderr).into_owned();
    assert!(why.contains("18000 accepted events of triggers that go would still wait"), "{why}");
    assert!(why.contains("on_removal = \"drop\""), "{why}");
    assert_eq!(queued(&env), many, "all stays as it was");
    // One of them stays: the others may go. Then no more may.
    env.configure(&config(GROUPS - 1));
    assert!(env.ok(&["reload"]).contains("3000 waiting events wait for `dagd resume s0`"));
    env.configure(&config(GROUPS));
    assert_eq!(env.run(&["reload"]).status.code(), Some(78));
    // What has left is not more for that.
    env.configure(&format!("{}[pools]\np = 1\n", config(GROUPS - 1)));
    env.ok(&["reload"]);
    env.configure(&config(0));
    env.ok(&["reload"]);
    assert_eq!(queued(&env), many);
    assert!(env.stop());
}
