//! What a reload changes beneath the graph: how commits are made, and what is kept of names that
//! are gone.

use std::fs;

use crate::common::Env;
use crate::common::faults::Faults;

#[test]
fn a_reload_that_asks_for_durability_has_it() {
    let config = |durability: &str| {
        format!(
            r#"
[daemon]
durability = "{durability}"
[tasks.t]
shell = "echo B >> log"
cwd = "{{dir}}"
[triggers.s]
signal = "SIGUSR1"
run = "t"
"#
        )
    };
    let ran = |env: &Env| fs::read_to_string(env.at("log")).unwrap_or_default();
    let mut env = Env::new(&config("normal"));
    env.start();
    env.configure(&config("full"));
    assert!(env.ok(&["reload"]).contains("durability"));
    let log = env.at("state/dagd.db-wal");
    let Some(faults) = Faults::io_error(&env, "EIO", "fdatasync,fsync", &[&log]) else { return };
    env.signal(10);
    env.wait("the stall", || env.json(&["status"])["state"] == "stalled");
    assert_eq!(ran(&env), "", "what is not on disk is not acted on");
    drop(faults);
    env.await_ended(1);
    assert_eq!(ran(&env), "B\n");

    // And the other way round: nothing waits for the disk.
    env.configure(&config("normal"));
    env.ok(&["reload"]);
    let Some(faults) = Faults::io_error(&env, "EIO", "fdatasync,fsync", &[&log]) else { return };
    env.signal(10);
    env.await_ended(2);
    assert_eq!(ran(&env), "B\nB\n");
    drop(faults);
    assert!(env.stop());
}

/// How many threads of this name the daemon has.
fn threads(env: &Env, name: &str) -> usize {
    let tasks = fs::read_dir(format!("/proc/{}/task", env.pid())).unwrap().flatten();
    let named = |task: &fs::DirEntry| {
        fs::read_to_string(task.path().join("comm")).is_ok_and(|comm| comm.trim() == name)
    };
    tasks.filter(named).count()
}

#[test]
fn the_thread_that_moves_files_goes_with_its_trigger() {
    let config = |name: &str| {
        format!(
            r#"
[tasks.t]
command = ["true"]
[triggers.{name}]
drop = "{name}"
run = "t"
move = "done/"
"#
        )
    };
    let mut env = Env::new(&config("a"));
    for name in ["a", "b", "done"] {
        env.mkdir(name);
    }
    env.start();
    fs::write(env.at("a/1"), "1").unwrap();
    env.wait("the move", || env.at("done/1").exists());
    env.await_idle();
    assert_eq!(threads(&env, "dagd-dispose"), 1);
    env.configure(&config("b"));
    env.ok(&["reload"]);
    env.wait("its end", || threads(&env, "dagd-dispose") == 0);
    fs::write(env.at("b/2"), "2").unwrap();
    env.wait("another move", || env.at("done/2").exists());
    assert_eq!(threads(&env, "dagd-dispose"), 1);
    // One that stays keeps it.
    env.configure(&format!("{}[pools]\np = 1\n", config("b")));
    env.ok(&["reload"]);
    assert_eq!(threads(&env, "dagd-dispose"), 1);
    assert!(env.stop());
}
