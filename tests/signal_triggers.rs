//! Signals as events, and as orders to the daemon.

#[expect(dead_code, reason = "a part of the harness is enough here")]
mod common;

use std::fs;

use common::Env;
use common::process::sigqueue;

#[test]
fn a_standard_signal_starts_at_least_one_run() {
    let mut env = Env::new(
        "[tasks.t]\ncommand = [\"echo\", \"{signal}\"]\n[triggers.rotate]\nsignal = \"SIGUSR1\"\nrun = \"t\"\n",
    );
    env.start();
    for _ in 0..5 {
        env.signal(10);
    }
    env.await_ended(1);
    env.await_idle();
    let runs = env.runs();
    assert!((1..=5).contains(&runs.len()), "{}", runs.len());
    assert_eq!(runs[0]["reason"], "signal");
    let detail = env.json(&["show", "1"]);
    assert_eq!(detail["signal"]["signal"], "SIGUSR1");
    assert_eq!(env.ok(&["logs", "1/t"]).trim(), "SIGUSR1");
    // Signals that no trigger wants do not end the daemon.
    env.signal(12);
    env.signal(28);
    env.ok(&["status"]);
}

#[test]
fn a_thousand_queued_signals_are_a_thousand_runs_in_order() {
    let mut env = Env::new(
        "[tasks.t]\nshell = \"echo $DAGD_VALUE >> values\"\ncwd = \"{dir}\"\n[triggers.rt]\nsignal = \"SIGRTMIN+1\"\nrun = \"t\"\n",
    );
    env.start();
    for value in 1..=1000 {
        sigqueue(env.pid(), 35, value);
    }
    env.await_ended(1000);
    env.await_idle();
    assert_eq!(env.runs().len(), 1000);
    let values = fs::read_to_string(env.at("values")).unwrap();
    let values: Vec<i32> = values.lines().map(|line| line.parse().unwrap()).collect();
    assert_eq!(values, (1..=1000).collect::<Vec<_>>());
}

#[test]
fn a_task_starts_with_a_clean_slate_of_signals() {
    let mut env = Env::new(
        "[tasks.t]\ncommand = [\"grep\", \"-E\", \"^Sig(Blk|Ign)\", \"/proc/self/status\"]\n[triggers.rt]\nsignal = \"SIGRTMIN+0\"\nrun = \"t\"\n",
    );
    env.start();
    sigqueue(env.pid(), 34, 1);
    env.await_ended(1);
    let log = env.ok(&["logs", "1/t"]);
    for name in ["SigBlk", "SigIgn"] {
        assert!(log.contains(&format!("{name}:\t0000000000000000")), "{log}");
    }
}

#[test]
fn a_reload_is_all_or_nothing() {
    let good = "[tasks.t]\ncommand = [\"echo\", \"one\"]\n[triggers.s]\nsignal = \"SIGUSR1\"\nrun = \"t\"\n";
    let mut env = Env::new(good);
    env.start();
    env.configure(&good.replace("one", "two"));
    env.signal(1);
    env.wait("the reload", || env.json(&["status"])["reload"]["ok"] == true);
    env.signal(10);
    env.await_ended(1);
    assert_eq!(env.ok(&["logs", "1/t"]).trim(), "two");

    env.configure(&good.replace("command", "comand"));
    let failed = env.run(&["reload"]);
    assert_eq!(failed.status.code(), Some(78));
    let text = String::from_utf8_lossy(&failed.stderr).into_owned();
    assert!(
        text.contains("dagd.toml") && text.contains("comand") && text.contains("command"),
        "{text}"
    );
    env.signal(10);
    env.await_ended(2);
    assert_eq!(env.ok(&["logs", "2/t"]).trim(), "two", "the old configuration stays");
    let status = env.json(&["status"]);
    assert_eq!(status["reload"]["ok"], false);
    assert!(status["reload"]["text"].as_str().unwrap().contains("comand"), "{status}");
    assert!(env.stop());
}
