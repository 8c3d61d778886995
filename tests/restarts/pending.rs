//! A start with much to do, and ready all the same.

use std::fs;
use std::time::Instant;

use crate::common::Env;

/// Runs that wait, so many that the daemon holds all of them.
const RUNS: u64 = 1000;

const CONFIG: &str = r#"
[daemon]
max_parallel = 2
max_live_runs = 1000
stop_timeout = "1ms"
[tasks.a]
command = ["sh", "-c", "until [ -e {dir}/go ]; do sleep 0.1; done"]
kill_after = "1ms"
[tasks.b]
needs = ["a"]
command = ["true"]
[triggers.in]
drop = "in"
run = "*"
"#;

#[test]
fn a_thousand_runs_that_wait_do_not_hold_up_a_start() {
    let mut env = Env::new(CONFIG);
    let inbox = env.mkdir("in");
    for n in 0..RUNS {
        fs::write(inbox.join(n.to_string()), "x").unwrap();
    }
    env.start();
    let live = |env: &Env| env.json(&["status"])["live_runs"].as_u64().unwrap();
    env.wait_for("all runs", RUNS, || live(&env));
    for way in ["a stop", "kill -9"] {
        if way == "a stop" {
            assert!(env.stop());
        } else {
            env.kill();
        }
        let begun = Instant::now();
        env.start();
        println!("ready {:?} after {way} with {RUNS} runs", begun.elapsed());
        assert_eq!(live(&env), RUNS, "every run is there again");
    }
    fs::write(env.at("go"), "").unwrap();
    env.await_ended(RUNS);
    env.await_idle();
    let runs = env.runs();
    assert!(runs.iter().all(|run| run["state"] == "succeeded"));
    assert_eq!(runs.len() as u64, RUNS);
    assert!(env.stop());
}
