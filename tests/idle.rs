//! A daemon that has nothing to do does nothing: no thread of it wakes up, but to feed the watchdog.

#![expect(clippy::unwrap_used, reason = "a test ends at the first thing that goes wrong")]

#[expect(dead_code, reason = "a part of the harness is enough here")]
mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Instant;

use common::Env;

/// All that may be at work at once.
const CONFIG: &str = r#"
[daemon]
reload_on_change = true
stop_timeout = "5s"
[control]
write_group = "0"
[tasks.t]
command = ["sh", "-c", "echo done"]
env_file = "secret.env"
[tasks.left]
needs = ["t"]
shell = "setsid sleep 1000 &"
on_daemon_stop = "leave"
[triggers.in]
drop = "in"
run = "t+"
recursive = true
rate_limit = "1000/s"
move = "done/"
[triggers.tree]
watch = "tree"
run = "t"
[triggers.usr]
signal = "SIGUSR1"
run = "t"
[triggers.queued]
signal = "SIGRTMIN+1"
run = "t"
[triggers.yearly]
schedule = "0 0 1 1 *"
run = "t"
[triggers.quiet]
absent = "30d"
of = "in"
run = "t"
"#;

/// What the watchdog is told to wait for; it is fed twice as often.
const WATCHDOG_US: &str = "3000000";

/// Words to the watchdog while nothing else may happen.
const WORDS: u64 = 7;

#[test]
fn an_idle_daemon_wakes_up_for_its_watchdog_alone() {
    let mut env = Env::new(CONFIG);
    let (inbox, tree) = (env.mkdir("in"), env.mkdir("tree"));
    fs::write(env.at("secret.env"), "TOKEN=hunter2hunter2\n").unwrap();
    fs::set_permissions(env.at("secret.env"), fs::Permissions::from_mode(0o600)).unwrap();
    let mut run = env.command(&["run", "--log-format", "json"]);
    env.spawn(run.env("WATCHDOG_USEC", WATCHDOG_US).env_remove("WATCHDOG_PID"));
    env.await_ready();
    // Idle is who has worked.
    for n in 0..50 {
        fs::write(inbox.join(n.to_string()), "x").unwrap();
    }
    fs::write(tree.join("a"), "x").unwrap();
    env.signal(libc::SIGUSR1);
    env.await_ended(52);
    env.configure(
        &CONFIG.replace("run = \"t\"\n[triggers.yearly]", "run = \"left\"\n[triggers.yearly]"),
    );
    env.wait("its own reload", || env.json(&["status"])["reload"]["changes"][0].is_object());
    fs::write(inbox.join("last"), "x").unwrap();
    env.await_ended(53);
    env.await_idle();

    env.hear();
    let deadline = Instant::now() + common::PATIENCE;
    while wake_ups(&env, 1) > 1 {
        assert!(Instant::now() < deadline, "it does not come to rest\n{}", env.log());
    }
    // The sleep after the last word may be counted before or after the word is heard.
    let woken = wake_ups(&env, WORDS);
    assert!((WORDS - 1..=WORDS + 1).contains(&woken), "{woken} wake-ups for {WORDS} words");
    assert!(env.stop());
}

/// How often threads of the daemon wake up while the watchdog hears so many words.
fn wake_ups(env: &Env, words: u64) -> u64 {
    let before = sleeps(env.pid());
    for _ in 0..words {
        env.await_told("WATCHDOG=1");
    }
    sleeps(env.pid()) - before
}

/// How often threads of a process went to sleep.
fn sleeps(pid: i32) -> u64 {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let of = |task: std::io::Result<fs::DirEntry>| -> u64 {
        let status = fs::read_to_string(task.unwrap().path().join("status")).unwrap();
        let line = status.lines().find(|line| line.starts_with("voluntary_ctxt_switches")).unwrap();
        line.split_whitespace().last().unwrap().parse().unwrap()
    };
    tasks.map(of).sum()
}
