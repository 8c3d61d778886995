//! The classic background daemon: what may go wrong around its start, its pid file and its log.

#![expect(clippy::unwrap_used, reason = "a test ends at the first thing that goes wrong")]

#[expect(dead_code, reason = "a part of the harness is enough here")]
mod common;

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::process::{Command, Output, Stdio};

use common::{Env, kill};

const CONFIG: &str = "[tasks.a]\ncommand = [\"true\"]\n[triggers.in]\ndrop = \"in\"\nrun = \"a\"\n";

fn env() -> Env {
    let env = Env::new(CONFIG);
    env.mkdir("in");
    env
}

fn pid(env: &Env) -> Option<i32> {
    fs::read_to_string(env.at("run/dagd.pid")).ok()?.trim().parse().ok()
}

/// Whether a process is there and not just waiting to be reaped.
fn alive(pid: i32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat[stat.rfind(')').unwrap()..].starts_with(") Z"))
}

fn error(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Kills the daemon that a test leaves behind.
struct Background<'a>(&'a Env);

impl Drop for Background<'_> {
    fn drop(&mut self) {
        if let Some(pid) = pid(self.0) {
            kill(pid, 9);
        }
    }
}

/// Starts the daemon, which must fail with this exit code; nothing is left of it. Returns what was
/// said.
fn refused(env: &Env, code: i32) -> String {
    let output = env.run(&["start"]);
    assert_eq!(output.status.code(), Some(code), "{output:?}");
    assert!(output.stdout.is_empty(), "{output:?}");
    assert!(!env.at("run/dagd.pid").exists(), "no pid file is left: {output:?}");
    error(&output)
}

#[test]
fn of_many_starts_at_once_one_comes_true() {
    let env = env();
    let _kill = Background(&env);
    for _ in 0..3 {
        let starts: Vec<_> = (0..6)
            .map(|_| {
                let mut start = env.command(&["start"]);
                start.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
            })
            .collect();
        let ends: Vec<Output> =
            starts.into_iter().map(|start| start.wait_with_output().unwrap()).collect();
        let (good, bad): (Vec<_>, Vec<_>) = ends.iter().partition(|end| end.status.success());
        assert_eq!(good.len(), 1, "{ends:?}");
        let running = pid(&env).unwrap();
        for end in bad {
            let error = error(end);
            assert_eq!(end.status.code(), Some(1), "{error}");
            let runs = format!("a daemon runs already (pid {running},");
            let known = [runs.as_str(), "another daemon is just starting ("];
            assert!(known.iter().any(|known| error.contains(known)), "{error}");
        }
        assert_eq!(env.json(&["status"])["pid"], running);
        env.ok(&["stop"]);
        assert!(!env.at("run/dagd.pid").exists());
    }
}

#[test]
fn what_keeps_it_from_starting_is_told_where_it_was_started() {
    let env = env();
    // A configuration that is not valid: nothing is made at all.
    env.configure(&format!("{CONFIG}[tasks.b]\nneeds = [\"c\"]\n"));
    let told = refused(&env, 78);
    assert!(told.contains("dagd.toml:") && told.contains('^'), "{told}");
    assert!(!env.at("state").exists() && !env.at("run").exists());
    // Folders that cannot be made.
    for folder in ["state", "run"] {
        env.configure(CONFIG);
        fs::write(env.at(folder), "a file").unwrap();
        let told = refused(&env, 1);
        assert!(told.contains(&env.at(folder).display().to_string()), "{told}");
        fs::remove_file(env.at(folder)).unwrap();
    }
    // A log that is none.
    fs::remove_dir_all(env.at("state")).ok();
    env.mkdir("state/dagd.log");
    let told = refused(&env, 1);
    assert!(told.contains("state/dagd.log: "), "{told}");
    fs::remove_dir(env.at("state/dagd.log")).unwrap();
    // A pid file that leads elsewhere.
    std::os::unix::fs::symlink(env.at("elsewhere"), env.at("run/dagd.pid")).unwrap();
    let output = env.run(&["start"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(error(&output).contains("run/dagd.pid: "), "{output:?}");
    assert!(!env.at("elsewhere").exists());
    fs::remove_file(env.at("run/dagd.pid")).unwrap();
    // What goes wrong in the daemon itself, when it is detached already.
    env.mkdir("state/dagd.db");
    let told = refused(&env, 1);
    assert!(told.contains("dagd.db"), "{told}");
}

#[test]
fn a_daemon_in_the_foreground_keeps_one_in_the_background_out() {
    let mut env = env();
    env.start();
    let told = refused(&env, 1);
    assert!(told.contains(&format!("in use by another dagd (process {})", env.pid())), "{told}");
    assert!(env.stop());
}

#[test]
fn a_pid_file_that_was_left_behind_is_no_obstacle() {
    let env = env();
    let _kill = Background(&env);
    env.mkdir("run");
    // The number belongs to somebody else by now: to this test, or to the first process.
    for stale in [&std::process::id().to_string(), "1", "4194303", "", "no number\n"] {
        fs::write(env.at("run/dagd.pid"), stale).unwrap();
        env.ok(&["start"]);
        assert_eq!(env.json(&["status"])["pid"], pid(&env).unwrap());
        env.ok(&["stop"]);
    }
    // Killed: the file stays, and the next one takes it.
    env.ok(&["start"]);
    let killed = pid(&env).unwrap();
    kill(killed, 9);
    env.wait("its end", || !alive(killed));
    assert_eq!(pid(&env), Some(killed));
    env.ok(&["start"]);
    assert_ne!(pid(&env), Some(killed));
    env.ok(&["stop"]);
}

#[test]
fn a_daemon_that_dies_at_its_start_is_told() {
    let env = env();
    let output = env.command(&["start"]).env("DAGD_FAILPOINT", "boot.recovered:1").output();
    let output = output.unwrap();
    assert_eq!(output.status.code(), Some(1));
    let told = error(&output);
    assert!(told.contains("the daemon died at its start; see ") && told.contains("dagd.log"));
    let _kill = Background(&env);
    env.ok(&["start"]);
    env.ok(&["stop"]);
}

#[test]
fn whoever_started_it_may_go() {
    let env = env();
    let _kill = Background(&env);
    // The start is held until somebody opens the pipe.
    let pipe = env.at("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let mut start = env.command(&["start"]);
    start.env("DAGD_FAILPOINT", format!("<boot.recovered:{}", pipe.display()));
    let mut start = start.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    env.wait("a process of its own", || pid(&env).is_some());
    assert!(start.try_wait().unwrap().is_none(), "it is under way");
    start.kill().unwrap();
    start.wait().unwrap();
    drop(fs::File::options().write(true).open(&pipe).unwrap());
    env.wait("an answer", || env.run(&["status"]).status.success());
    fs::write(env.at("in/file"), "x").unwrap();
    env.await_ended(1);
    env.ok(&["stop"]);
}

#[test]
fn a_log_that_was_renamed_is_opened_anew() {
    let env = env();
    let _kill = Background(&env);
    env.ok(&["start"]);
    let (log, old) = (env.at("state/dagd.log"), env.at("state/dagd.log.1"));
    let text = |path| fs::read_to_string(path).unwrap_or_default();
    for (round, reload) in ["verb", "signal"].into_iter().enumerate() {
        fs::write(env.at(&format!("in/{round}")), "x").unwrap();
        env.await_ended(round as u64 + 1);
        let ended = format!("run={}", round + 1);
        assert!(text(&log).contains(&ended), "{}", text(&log));
        fs::rename(&log, &old).unwrap();
        match reload {
            "verb" => assert_eq!(env.ok(&["reload"]), "no changes\n"),
            _ => assert_eq!(kill(pid(&env).unwrap(), 1), 0),
        }
        env.wait("the new log", || text(&log).contains("reloaded: no changes"));
        assert!(text(&log).contains(" reloading "), "{}", text(&log));
        assert!(!text(&log).contains("run=") && text(&old).contains(&ended));
    }
    // A configuration that is not valid does not keep the log from being opened.
    fs::rename(&log, &old).unwrap();
    env.configure("[tasks.a]\n");
    assert_eq!(env.run(&["reload"]).status.code(), Some(78));
    assert!(text(&log).contains("reload failed"), "{}", text(&log));
    // A log that cannot be opened is told in the old one, which goes on.
    env.configure(CONFIG);
    fs::rename(&log, &old).unwrap();
    fs::create_dir(&log).unwrap();
    env.ok(&["reload"]);
    assert!(text(&old).contains("the log was not opened anew"), "{}", text(&old));
    assert!(text(&old).contains("reloaded: "), "{}", text(&old));
    fs::remove_dir(&log).unwrap();
    env.ok(&["reload"]);
    // Nothing but the one log is open, however often it was opened.
    let pid = pid(&env).unwrap();
    let inode = fs::metadata(&log).unwrap().ino();
    let open = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
    let logs = open.filter(|fd| fs::metadata(fd.path()).is_ok_and(|meta| meta.ino() == inode));
    assert_eq!(logs.count(), 2, "standard output and standard error");
    env.ok(&["stop"]);
}

#[test]
fn a_socket_is_where_the_one_who_starts_it_says() {
    let env = env();
    let _kill = Background(&env);
    let there = |args: &[&str]| {
        let args = [&["--socket", "own.sock"], args].concat();
        let mut command = env.command(&args);
        command.env_remove("DAGD_SOCKET").current_dir(env.path()).output().unwrap()
    };
    let started = there(&["start"]);
    assert!(started.status.success(), "{started:?}");
    assert!(env.at("own.sock").exists());
    assert!(there(&["status"]).status.success());
    assert!(there(&["stop"]).status.success());
}
