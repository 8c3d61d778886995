//! Few slots, few live runs, small pools; cancels and pauses.

use std::fs;

use crate::common::Env;

fn log(env: &Env) -> Vec<String> {
    let text = fs::read_to_string(env.at("log")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

#[test]
fn many_files_go_through_few_live_runs() {
    let mut env = Env::new(
        r#"
[daemon]
max_live_runs = 1
max_parallel = 2
[tasks.a]
command = ["true"]
[tasks.b]
command = ["true"]
needs = ["a"]
[triggers.one]
drop = "one"
run = "a+"
move = "done/"
[triggers.two]
drop = "two"
run = "a+"
move = "gone/"
"#,
    );
    env.mkdir("one");
    env.mkdir("two");
    env.start();
    for n in 0..75 {
        fs::write(env.at(&format!("one/{n}")), "1").unwrap();
        fs::write(env.at(&format!("two/{n}")), "2").unwrap();
        if n % 25 == 0 {
            assert!(env.json(&["status"])["live_runs"].as_u64().unwrap() <= 1);
        }
    }
    env.await_ended(150);
    env.await_idle();
    let runs = env.runs();
    assert_eq!(runs.len(), 150);
    assert!(runs.iter().all(|run| run["state"] == "succeeded"));
    assert_eq!(fs::read_dir(env.at("done")).unwrap().count(), 75);
    assert_eq!(fs::read_dir(env.at("gone")).unwrap().count(), 75);
}

/// Counts who is at work at the same time.
const COUNTED: &str = r#"
shell = "echo S $DAGD_TASK >> log; sleep 0.03; echo E $DAGD_TASK >> log"
cwd = "{dir}"
"#;

/// The most that were at work at once, of the tasks whose name begins with `prefix`.
fn peak(env: &Env, prefix: &str) -> usize {
    let (mut now, mut most) = (0_usize, 0);
    for line in log(env) {
        if line.starts_with(&format!("S {prefix}")) {
            now += 1;
        } else if line.starts_with(&format!("E {prefix}")) {
            now -= 1;
        }
        most = most.max(now);
    }
    assert_eq!(now, 0);
    most
}

#[test]
fn pools_and_slots_are_never_exceeded_and_always_given_back() {
    let task = |name: &str, uses: &str| format!("[tasks.{name}]\nuses = {{ {uses} }}\n{COUNTED}");
    let mut config = "[daemon]\nmax_parallel = 4\n[pools]\ndb = 2\ngpu = 1\n".to_owned();
    for n in 0..4 {
        config += &task(&format!("db{n}"), "db = 1");
        config += &task(&format!("gpu{n}"), "gpu = 1, db = 1");
        config += &task(&format!("all{n}"), "db = 2");
    }
    config += "[tasks.bad]\nuses = { db = 2, gpu = 1 }\ncommand = [\"/no/such/program\"]\n";
    config +=
        "[tasks.slow]\nuses = { db = 2 }\ncommand = [\"sleep\", \"1000\"]\ntimeout = \"50ms\"\n";
    let mut env = Env::new(&config);
    env.start();
    let fired = env.run(&["fire", "--select", "*", "--wait"]);
    assert_eq!(fired.status.code(), Some(1), "bad and slow fail: {fired:?}");
    assert_eq!(log(&env).len(), 24);
    assert!(peak(&env, "db") <= 2 && peak(&env, "gpu") == 1 && peak(&env, "all") == 1);
    assert!(peak(&env, "") <= 4);
    assert_eq!(env.task(1, "slow")["state"], "timed_out");
    // All is given back: the largest demand is met again.
    env.ok(&["fire", "--select", "all0", "--wait"]);
}

const LONG: &str = r#"
[daemon]
max_parallel = 2
[tasks.t]
shell = "echo S $DAGD_RUN >> log; (setsid sleep 1000 &); until [ -e go ]; do sleep 0.02; done"
cwd = "{dir}"
[tasks.u]
needs = ["t"]
command = ["true"]
[tasks.cleanup]
needs = ["u"]
rule = "always"
shell = "echo C $DAGD_RUN >> log"
cwd = "{dir}"
[triggers.in]
drop = "inbox"
run = "t+"
move = "done/"
move_failed = "failed/"
"#;

#[test]
fn a_cancelled_run_ends_its_tasks_and_leaves_its_file() {
    let mut env = Env::new(LONG);
    env.mkdir("inbox");
    env.start();
    fs::write(env.at("inbox/a"), "1").unwrap();
    env.wait("the task", || log(&env) == ["S 1"]);
    env.ok(&["cancel", "1"]);
    env.await_ended(1);
    let detail = env.json(&["show", "1"]);
    assert_eq!(detail["state"], "cancelled", "{detail}");
    let task = env.task(1, "t");
    assert_eq!((&task["state"], &task["attempts"][0]["signal"]), (&"cancelled".into(), &15.into()));
    assert_eq!(env.task(1, "u")["state"], "cancelled");
    assert_eq!(env.task(1, "cleanup")["state"], "succeeded", "it runs after a cancel, too");
    assert_eq!(log(&env), ["S 1", "C 1"]);
    assert!(env.at("inbox/a").exists(), "a cancelled run moves nothing");
    assert_eq!(env.survivors(), Vec::<String>::new());
    assert_eq!(env.run(&["cancel", "1"]).status.code(), Some(1), "it has ended");
    assert_eq!(env.run(&["cancel", "99"]).status.code(), Some(3));
    let story = env.ok(&["explain", env.at("inbox/a").to_str().unwrap()]);
    assert!(story.contains("cancelled") && story.contains("replay"), "{story}");
    // It does not come back by itself, but by request.
    assert!(env.stop());
    fs::write(env.at("go"), "").unwrap();
    env.start();
    env.await_idle();
    assert_eq!(env.runs().len(), 1);
    env.ok(&["retry", "1"]);
    env.await_ended(1);
    assert!(env.at("done/a").exists());
}

#[test]
fn a_cancelled_task_ends_alone() {
    let mut env = Env::new(LONG);
    env.mkdir("inbox");
    env.start();
    fs::write(env.at("inbox/a"), "1").unwrap();
    env.wait("the task", || log(&env) == ["S 1"]);
    for missing in ["1/nobody", "2/t"] {
        assert_eq!(env.run(&["cancel", missing]).status.code(), Some(3), "{missing}");
    }
    env.ok(&["cancel", "1/t"]);
    env.await_ended(1);
    let states = ["t", "u", "cleanup"].map(|name| env.task(1, name)["state"].clone());
    assert_eq!(states[0], "cancelled");
    assert_eq!(states[1], "skipped");
    assert_eq!(states[2], "succeeded");
    assert_eq!(env.json(&["show", "1"])["state"], "cancelled");
}

#[test]
fn a_pause_outlives_a_restart_and_loses_nothing() {
    let mut env = Env::new(
        r#"
[tasks.t]
command = ["true"]
[triggers.in]
drop = "inbox"
run = "t"
move = "done/"
[triggers.s]
signal = "SIGUSR1"
on_overlap = "queue"
run = "t"
"#,
    );
    env.mkdir("inbox");
    env.start();
    assert_eq!(env.run(&["pause", "nobody"]).status.code(), Some(3));
    for name in ["in", "s"] {
        env.ok(&["pause", name]);
        env.ok(&["pause", name]);
    }
    let queued = |env: &Env| {
        let status = env.json(&["status"]);
        [0, 1].map(|n| status["triggers"][n]["queued"].as_u64().unwrap())
    };
    for n in 0..5 {
        fs::write(env.at(&format!("inbox/{n}")), "1").unwrap();
    }
    env.signal(10);
    env.wait("what waits", || queued(&env) == [5, 1]);
    for crash in [false, true] {
        if crash {
            env.kill();
        } else {
            assert!(env.stop());
        }
        env.start();
        env.wait("what waits", || queued(&env) == [5, 1]);
        let status = env.json(&["status"]);
        assert_eq!(status["triggers"][0]["state"], "paused", "{status}");
    }
    assert!(env.runs().is_empty());
    env.ok(&["resume", "in"]);
    env.await_ended(5);
    assert_eq!(queued(&env), [0, 1]);
    env.ok(&["resume", "s"]);
    env.await_ended(6);
    assert_eq!(env.runs().len(), 6);
}
