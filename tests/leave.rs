//! Tasks that go on without dagd: real daemons that stop, die and come back, and real processes that
//! do not.

#![expect(clippy::unwrap_used, reason = "a test ends at the first thing that goes wrong")]

#[expect(dead_code, reason = "a part of the harness is enough here")]
mod common;

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use common::{Env, is_root, kill, skip};
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::Value;

/// A task that goes on until it is told how to end, and one that needs it.
const CONFIG: &str = r#"
[daemon]
stop_timeout = "10s"
[tasks.long]
shell = '''
echo begun $DAGD_ATTEMPT; echo $$ >> pids
while [ ! -e go ]; do sleep 0.01; done
echo X=1 >> "$DAGD_OUTPUT"; echo over; . ./go
'''
cwd = "{dir}"
on_daemon_stop = "leave"
kill_after = "100ms"
[tasks.after]
needs = ["long"]
shell = "echo $X $(cat $DAGD_EVENT_JSON | wc -l) > after"
env = { X = "{out.long.X}" }
cwd = "{dir}"
[triggers.s]
signal = "SIGUSR1"
run = "long+"
"#;

fn begun(config: &str) -> Env {
    begin(Env::new(config))
}

fn begin(mut env: Env) -> Env {
    env.start();
    env.signal(10);
    env.wait("the task", || !pids(&env).is_empty());
    env
}

fn go(env: &Env, how: &str) {
    fs::write(env.at("go.new"), how).unwrap();
    fs::rename(env.at("go.new"), env.at("go")).unwrap();
}

fn pids(env: &Env) -> Vec<i32> {
    let text = fs::read_to_string(env.at("pids")).unwrap_or_default();
    text.lines().map(|line| line.parse().unwrap()).collect()
}

fn lives(pid: i32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit(')').next().unwrap().trim_start().starts_with('Z'))
}

/// What watches over the first attempt at `long` of run 1.
fn watcher(env: &Env) -> i32 {
    let text = fs::read_to_string(env.at("state/left/1/1.long.1.watch")).unwrap();
    text.split_whitespace().next().unwrap().parse().unwrap()
}

/// The attempts at `long` of run 1.
fn attempts(env: &Env) -> Vec<Value> {
    let task = env.task(1, "long");
    task["attempts"].as_array().unwrap().clone()
}

fn logged(env: &Env) -> String {
    env.ok(&["logs", "1/long"])
}

#[test]
fn it_goes_on_through_a_stop_and_is_taken_over() {
    let mut env = begun(CONFIG);
    assert!(env.stop(), "a stop does not wait for it");
    let [pid] = pids(&env)[..] else { unreachable!("one") };
    assert!(lives(pid));
    env.start();
    let status = env.json(&["status"]);
    assert_eq!(status["running"], 1, "{status}");
    assert!(logged(&env).contains("begun 1"));
    go(&env, "exit 0");
    env.await_ended(1);
    assert_eq!(env.runs()[0]["state"], "succeeded");
    assert_eq!(attempts(&env).len(), 1);
    assert_eq!(fs::read_to_string(env.at("after")).unwrap(), "1 1\n", "outputs and event files");
    assert_eq!(logged(&env), "begun 1\nover\n");
    assert_eq!(pids(&env), [pid], "it ran once");
    env.wait("nothing to be left behind", || {
        fs::read_dir(env.at("state/left")).unwrap().next().is_none()
    });
    assert!(env.stop());
}

#[test]
fn how_it_ends_while_there_is_no_dagd_is_known() {
    for (how, key, value) in [("exit 3", "exit_code", 3), ("kill -11 $$", "signal", 11)] {
        for killed in [false, true] {
            let mut env = begun(CONFIG);
            if killed {
                env.kill();
            } else {
                assert!(env.stop());
            }
            let pid = pids(&env)[0];
            go(&env, how);
            env.wait("its end", || !lives(pid));
            let place = env.at("state/left/1/1.long.1.end");
            env.wait("its word", || place.exists());
            env.start();
            env.await_ended(1);
            let attempts = attempts(&env);
            assert_eq!(attempts.len(), 1, "{how}: {attempts:?}");
            assert_eq!(attempts[0][key], value, "{how}: {attempts:?}");
            assert_eq!(env.runs()[0]["state"], "failed");
            assert_eq!(logged(&env), "begun 1\nover\n");
            assert!(env.stop());
        }
    }
}

#[test]
fn after_a_kill_no_attempt_runs_twice() {
    let mut env = begun(CONFIG);
    for _ in 0..5 {
        env.kill();
        env.start();
        assert_eq!(env.json(&["status"])["running"], 1);
    }
    go(&env, "exit 0");
    env.await_ended(1);
    assert_eq!((pids(&env).len(), attempts(&env).len()), (1, 1));
    assert_eq!(env.runs()[0]["state"], "succeeded");
    assert!(env.stop());
}

#[test]
fn a_cancel_and_a_time_limit_reach_it_after_it_was_taken_over() {
    let mut env = begun(CONFIG);
    let pid = pids(&env)[0];
    assert!(env.stop());
    env.start();
    env.ok(&["cancel", "1"]);
    env.await_ended(1);
    assert!(!lives(pid));
    assert_eq!(env.runs()[0]["state"], "cancelled");
    assert!(env.stop());
    let limited = CONFIG.replace("kill_after", "timeout = \"1s\"\nkill_after");
    let mut env = begun(&limited);
    let pid = pids(&env)[0];
    env.kill();
    env.start();
    env.await_ended(1);
    assert!(!lives(pid));
    assert_eq!(env.task(1, "long")["state"], "timed_out");
    assert!(env.stop());
}

/// Programs that leave the group that they are started in.
const LEAVERS: [&str; 3] = ["timeout 1h", "setsid", "env -i setsid"];

/// Cancels a task that goes on as a program which has left its group, with what that does at a TERM.
/// Returns whether the program told that it heard one.
fn cancelled(leaver: &str, on_term: &str, taken_over: bool) -> bool {
    let config = CONFIG.replace(". ./go", &format!("exec {leaver} sh ./program"));
    // Whoever hears it ends by itself, or not at all.
    let patience = if on_term.is_empty() { "100ms" } else { "1h" };
    let mut env = begun(&config.replace("100ms", patience));
    let program = format!("trap '{on_term}' TERM; echo $$ >> pids; while :; do sleep 0.01; done");
    fs::write(env.at("program"), program).unwrap();
    go(&env, "");
    env.wait("the program", || pids(&env).len() == 2);
    if taken_over {
        env.kill();
        env.start();
    }
    env.ok(&["cancel", "1"]);
    env.await_ended(1);
    let program = pids(&env)[1];
    env.wait(&format!("the end of {leaver}"), || !lives(program));
    assert_eq!(env.runs()[0]["state"], "cancelled");
    assert!(env.stop());
    env.at("heard").exists()
}

#[test]
fn signals_reach_a_program_that_has_left_its_group() {
    for name in LEAVERS {
        for taken_over in [false, true] {
            assert!(cancelled(name, "echo > heard; exit 7", taken_over), "{name}");
        }
    }
}

#[test]
fn a_deaf_program_that_has_left_its_group_is_killed() {
    for name in LEAVERS {
        for taken_over in [false, true] {
            assert!(!cancelled(name, "", taken_over), "{name}");
        }
    }
}

/// What a task may leave behind: in its group or not, with its token or not.
const LEFTOVERS: [&str; 4] =
    ["sleep 1000", "setsid sleep 1000", "env -i sleep 1000", "env -i setsid sleep 1000"];

#[test]
fn what_it_leaves_behind_is_ended_with_it() {
    for leftover in LEFTOVERS {
        let left = format!("{leftover} & echo $! >> left; . ./go");
        let config = CONFIG.replace(". ./go", &left);
        for absent in [false, true] {
            let mut env = begun(&config);
            env.kill();
            if !absent {
                env.start();
            }
            go(&env, "exit 0");
            if absent {
                env.wait("its end", || env.at("state/left/1/1.long.1.end").exists());
                let gone = || !lives(watcher(&env));
                env.wait("what watches it", gone);
                let left = fs::read_to_string(env.at("left")).unwrap();
                assert!(!lives(left.trim().parse().unwrap()), "{leftover}: it was not waited for");
                env.start();
            }
            env.await_ended(1);
            let left = fs::read_to_string(env.at("left")).unwrap();
            assert!(!lives(left.trim().parse().unwrap()), "{leftover}");
            assert_eq!(attempts(&env)[0]["leftovers"], 1, "{leftover}");
            assert!(env.stop());
        }
    }
}

#[test]
fn those_that_go_on_take_no_slot_and_none_is_overlooked() {
    let task = |name: &str| {
        format!(
            "[tasks.{name}]\nshell = 'echo $$ >> pids; \
             while [ ! -e {name}.go ]; do sleep 0.01; done; exit 3'\n\
             cwd = \"{{dir}}\"\non_daemon_stop = \"leave\"\n"
        )
    };
    let tasks = ["a", "b", "c"].map(task).concat();
    let daemon = |slots: u32| format!("[daemon]\nmax_parallel = {slots}\n");
    let rest = format!("{tasks}[triggers.s]\nsignal = \"SIGUSR1\"\nrun = \"a,b,c\"\n");
    let mut env = Env::new(&(daemon(3) + &rest));
    env.start();
    env.signal(10);
    env.wait("the tasks", || pids(&env).len() == 3);
    env.kill();
    env.configure(&(daemon(1) + &rest));
    env.start();
    for name in ["c", "b", "a"] {
        fs::write(env.at(&format!("{name}.go")), "").unwrap();
        env.wait("an end", || env.task(1, name)["state"] == "failed");
        assert_eq!(env.task(1, name)["attempts"][0]["exit_code"], 3);
    }
    env.await_ended(1);
    assert!(env.stop());
}

#[test]
fn what_is_about_to_begin_when_dagd_stops_goes_on() {
    const MANY: usize = 30;
    // Each time some are caught at another step.
    for _ in 0..5 {
        let mut env = Env::new(&format!(
            "[daemon]\nmax_parallel = {MANY}\n\
             [tasks.t]\ncommand = [\"true\"]\non_daemon_stop = \"leave\"\non_crash = \"fail\"\n\
             [triggers.in]\ndrop = \"in\"\nrun = \"t\"\n"
        ));
        let top = env.mkdir("in");
        env.start();
        for name in 0..MANY {
            fs::write(top.join(name.to_string()), "x").unwrap();
        }
        env.wait("the first", || env.at("state/left").exists());
        assert!(env.stop());
        env.start();
        env.await_idle();
        assert_eq!(env.runs().len(), MANY);
        for run in env.runs() {
            assert_eq!(run["state"], "succeeded", "{run}");
        }
        assert!(env.stop());
    }
}

/// Sends a TERM to a task and what watches over it, and waits until its end is written down.
fn term(env: &Env) -> std::path::PathBuf {
    let end = env.at("state/left/1/1.long.1.end");
    let group = Pid::from_raw(watcher(env)).unwrap();
    kill_process_group(group, Signal::TERM).unwrap();
    env.wait("its end", || end.exists());
    let watcher = watcher(env);
    env.wait("what watches it", || !lives(watcher));
    end
}

#[test]
fn what_a_shutdown_of_the_machine_has_ended_is_made_anew() {
    for how in ["", "trap 'exit 7' TERM\n"] {
        let mut env = begun(&CONFIG.replace("echo begun", &format!("{how}echo begun")));
        assert!(env.stop());
        let end = term(&env);
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
        let told = fs::read_to_string(&end).unwrap();
        assert!(told.contains(boot.trim_end()), "{told}");
        // As it is found after the machine has started again.
        fs::write(&end, told.replace(boot.trim_end(), "another")).unwrap();
        env.start();
        env.wait("another one", || pids(&env).len() == 2);
        go(&env, "exit 0");
        env.await_ended(1);
        assert_eq!(env.runs()[0]["state"], "succeeded");
        assert_eq!(attempts(&env).len(), 2);
        assert!(env.stop());
    }
}

#[test]
fn a_time_limit_that_a_killed_daemon_has_kept_is_told_by_the_next() {
    for (limit, state) in [("1s", "timed_out"), ("1h", "failed")] {
        let limited = CONFIG.replace("kill_after", &format!("timeout = \"{limit}\"\nkill_after"));
        let mut env = begun(&limited);
        env.kill();
        let begun =
            fs::metadata(env.at("state/left/1/1.long.1.watch")).unwrap().modified().unwrap();
        env.wait("its time", || begun.elapsed().unwrap().as_millis() > 1100);
        term(&env);
        env.start();
        env.await_ended(1);
        assert_eq!(env.task(1, "long")["state"], state);
        assert!(env.stop());
    }
}

#[test]
fn without_its_watcher_it_is_lost_and_run_again_alone() {
    let mut env = begun(CONFIG);
    let watcher = watcher(&env);
    let pid = pids(&env)[0];
    env.kill();
    assert_eq!(kill(watcher, 9), 0);
    env.wait("its end", || !lives(watcher));
    // What it was to see to, nobody else does.
    env.wait("the program's end", || !lives(pid));
    env.start();
    assert!(!lives(pid), "before anything starts");
    env.wait("another one", || pids(&env).len() == 2);
    go(&env, "exit 0");
    env.await_ended(1);
    assert_eq!(env.runs()[0]["state"], "succeeded");
    assert_eq!(attempts(&env).len(), 2);
    assert!(env.stop());
}

#[test]
fn once_does_not_leave_anything() {
    let env = Env::new(CONFIG);
    let child = env.command(&["once", "--select", "long"]).spawn().unwrap();
    env.wait("the task", || !pids(&env).is_empty());
    let pid = pids(&env)[0];
    kill(i32::try_from(child.id()).unwrap(), 15);
    let output = child.wait_with_output().unwrap();
    assert!(!output.status.success());
    assert!(!lives(pid));
}

#[test]
fn a_daemon_that_gives_up_lets_it_go_on() {
    let mut env = begun(CONFIG);
    let database = |env: &Env, sql: &str| {
        let db = rusqlite::Connection::open(env.at("state/dagd.db")).unwrap();
        db.busy_timeout(common::PATIENCE).unwrap();
        db.execute_batch(sql).unwrap();
    };
    database(&env, "ALTER TABLE live RENAME TO hidden");
    // The next commit finds that out.
    let pid = pids(&env)[0];
    assert!(!env.run(&["fire", "--select", "long"]).status.success());
    assert_eq!(env.await_end().code(), Some(1), "{}", env.log());
    assert!(lives(pid));
    database(&env, "ALTER TABLE hidden RENAME TO live");
    env.start();
    go(&env, "exit 0");
    env.await_ended(1);
    assert_eq!((pids(&env).len(), attempts(&env).len()), (1, 1));
    assert!(env.stop());
}

#[test]
fn what_its_user_had_in_hand_goes_with_its_run() {
    if !is_root() {
        skip("only root can run tasks as other users");
        return;
    }
    for absent in [false, true] {
        let config = CONFIG.replace("kill_after", "user = \"nobody\"\nkill_after");
        let env = Env::new(&config);
        fs::set_permissions(env.path(), fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(env.at("pids"), "").unwrap();
        fs::set_permissions(env.at("pids"), fs::Permissions::from_mode(0o666)).unwrap();
        let mut env = begin(env);
        env.kill();
        if !absent {
            env.start();
        }
        let pid = pids(&env)[0];
        go(&env, "exit 0");
        if absent {
            env.wait("its end", || !lives(pid) && env.at("state/left/1/1.long.1.end").exists());
            env.start();
        }
        env.await_ended(1);
        assert_eq!(fs::read_to_string(env.at("after")).unwrap(), "1 1\n");
        env.wait("nothing to be left behind", || {
            fs::read_dir(env.at("run/outputs")).unwrap().next().is_none()
        });
        let log = fs::metadata(env.at("state/logs/1.long.1.log")).unwrap();
        assert_eq!(log.uid(), 0, "the log is dagd's again");
        assert!(env.stop());
    }
}
