//! `dagd doctor` on machines that allow too little: each lack is told, with what to do about it.

#![expect(clippy::unwrap_used, reason = "a test ends at the first thing that goes wrong")]

#[expect(dead_code, reason = "a part of the harness is enough here")]
mod common;

use std::fs;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::process::{Command, Output};

use common::{Env, have, is_root, skip, through};
use serde_json::Value;

const CONFIG: &str = r#"
[tasks.t]
command = ["true"]
[triggers.in]
drop = "in"
run = "t"
move = "out/{date:%Y}/"
"#;

/// A folder with a configuration and what it names.
fn env() -> Env {
    let env = Env::new(CONFIG);
    env.mkdir("in");
    env.mkdir("out");
    env
}

/// Runs `doctor --json`, by way of `around` if that names anything, and returns what it found.
fn found(env: &Env, around: &[&str]) -> (Output, Vec<Value>) {
    let inner = env.command(&["doctor", "--json"]);
    let output = match around {
        [] => env.run(&["doctor", "--json"]),
        around => through(around, &inner).output().unwrap(),
    };
    let all = serde_json::from_slice(&output.stdout);
    assert!(all.is_ok(), "{output:?}");
    (output, all.unwrap())
}

/// The findings of one check, as `level: found → remedy`.
fn of(all: &[Value], check: &str) -> Vec<String> {
    let text = |finding: &Value| {
        let word = |key: &str| finding[key].as_str().unwrap_or("-").to_owned();
        format!("{}: {} → {}", word("level"), word("found"), word("remedy"))
    };
    all.iter().filter(|finding| finding["check"] == check).map(text).collect()
}

fn can(command: &[&str]) -> bool {
    let done = Command::new(command[0]).args(&command[1..]).output();
    let works = done.as_ref().is_ok_and(|done| done.status.success());
    if !works {
        skip(&format!("{command:?}: {done:?}"));
    }
    works
}

#[test]
fn everything_is_looked_at_with_and_without_a_daemon() {
    let mut env = env();
    let (output, before) = found(&env, &[]);
    assert!(output.status.success(), "{output:?}");
    assert!(of(&before, "daemon")[0].starts_with("note: none answers"));
    assert!(of(&before, "state")[0].contains("made at the first start"), "{before:?}");
    assert!(of(&before, "watches")[0].contains("1 directory to be watched"), "{before:?}");
    env.start();
    let (output, after) = found(&env, &[]);
    assert!(output.status.success(), "{output:?}");
    for check in [
        "daemon",
        "configuration",
        "folder",
        "readiness",
        "move",
        "watches",
        "instances",
        "queue",
        "capabilities",
        "containment",
        "clock",
        "state",
        "database",
    ] {
        assert!(!of(&after, check).is_empty(), "{check}: {after:?}");
    }
    for check in ["configuration", "folder", "readiness", "move", "database"] {
        let told = of(&after, check);
        assert!(told.iter().all(|told| told.starts_with("ok: ")), "{check}: {told:?}");
    }
    assert!(of(&after, "move")[0].contains("a rename"));
    let text = env.ok(&["doctor"]);
    assert!(text.contains("ok       folder         in: "), "{text}");
    assert!(text.contains(&format!("pid {}", env.pid())), "{text}");
    assert!(env.stop());
}

#[test]
fn a_bad_configuration_is_a_problem_and_the_rest_is_told_all_the_same() {
    let env = env();
    fs::write(env.at("dagd.toml"), "[tasks.t]\ncomand = 5\n").unwrap();
    let (output, all) = found(&env, &[]);
    assert_eq!(output.status.code(), Some(1));
    let told = &of(&all, "configuration")[0];
    assert!(told.starts_with("problem: ") && told.contains("dagd check"), "{told}");
    assert!(!of(&all, "watches").is_empty());
}

#[test]
fn too_few_watches_are_told_with_the_exact_line() {
    let mut env = Env::new(&CONFIG.replace("run = ", "recursive = true\nrun = "));
    for dir in ["in/a/b", "in/c/d", "out"] {
        env.mkdir(dir);
    }
    if !can(&["unshare", "-Ur", "true"]) {
        return;
    }
    let around = |script: &'static str| ["unshare", "-Ur", "sh", "-ec", script, "sh"];
    let few = around("echo 4 > /proc/sys/user/max_inotify_watches; exec \"$@\"");
    let (output, all) = found(&env, &few);
    assert!(output.status.success(), "a warning is no problem: {output:?}");
    let told = &of(&all, "watches")[0];
    assert!(told.contains("5 directories to be watched: what does not fit is polled"), "{told}");
    assert!(told.contains("→ sysctl -w user.max_inotify_watches=18; to keep it: "), "{told}");
    let none = around("echo 0 > /proc/sys/user/max_inotify_instances; exec \"$@\"");
    let told = &of(&found(&env, &none).1, "instances")[0];
    assert!(told.contains("→ sysctl -w user.max_inotify_instances=4"), "{told}");
    // The same of a daemon that is short of them.
    env.spawn(&mut env.run_by(&few));
    env.await_ready();
    let pid = env.pid().to_string();
    let (_, all) = found(&env, &["nsenter", "-t", &pid, "-U", "--preserve-credentials"]);
    assert!(of(&all, "watches")[0].contains("sysctl -w user.max_inotify_watches="), "{all:?}");
    let told = of(&all, "daemon");
    let uncovered = |told: &&String| told.contains("limit of watches reached; sysctl -w");
    assert!(told.iter().any(|told| uncovered(&told)), "{told:?}");
    assert!(env.stop());
}

#[test]
fn a_target_behind_another_mount_of_the_same_file_system_is_told() {
    let env = env();
    if !is_root() {
        return skip("mounts need root");
    }
    let script = "mount --bind in in; exec \"$@\"";
    let (output, all) = found(&env, &["unshare", "-m", "sh", "-ec", script, "sh"]);
    assert!(output.status.success(), "{output:?}");
    let told = &of(&all, "move")[0];
    assert!(told.starts_with("warning: ") && told.contains("behind another mount"), "{told}");
    assert!(told.contains("ReadWritePaths="), "{told}");
    let script = "mount -t tmpfs none out; exec \"$@\"";
    let (_, all) = found(&env, &["unshare", "-m", "sh", "-ec", script, "sh"]);
    let told = &of(&all, "move")[0];
    assert!(told.starts_with("note: ") && told.contains("another file system (tmpfs)"), "{told}");
}

#[test]
fn who_may_not_prove_that_files_are_complete_hears_how_he_could() {
    let env = env();
    if !have("setpriv") || !is_root() {
        return skip("another user's rights need root and setpriv");
    }
    // Others write here, and dagd may take no lease on their files.
    fs::set_permissions(env.at("in"), fs::Permissions::from_mode(0o777)).unwrap();
    let around = ["setpriv", "--bounding-set=-lease", "--inh-caps=-lease"];
    let (output, all) = found(&env, &around);
    assert!(output.status.success(), "{output:?}");
    let told = &of(&all, "readiness")[0];
    assert!(told.starts_with("warning: inferred") && told.contains("CAP_LEASE"), "{told}");
    assert!(!of(&all, "capabilities")[0].contains("CAP_LEASE"), "{all:?}");
}

#[test]
fn a_broken_database_and_a_clock_that_was_set_back_are_told() {
    let mut env = env();
    env.start();
    fs::write(env.at("in/a"), "x").unwrap();
    env.await_ended(1);
    env.await_idle();
    assert!(env.stop());
    let later = "UPDATE runs SET ended_ns = ended_ns + 3600000000000";
    let database = env.at("state/dagd.db");
    rusqlite::Connection::open(&database).unwrap().execute(later, []).unwrap();
    let (output, all) = found(&env, &[]);
    assert!(output.status.success(), "{output:?}");
    assert!(of(&all, "clock").iter().any(|told| told.contains("behind the end of the newest run")));
    assert!(of(&all, "database")[0].starts_with("ok: "), "{all:?}");
    // A page of the database is overwritten.
    let file = fs::File::options().write(true).open(&database).unwrap();
    file.write_all_at(&[0xA5; 4096], 4096).unwrap();
    let (output, all) = found(&env, &[]);
    assert_eq!(output.status.code(), Some(1), "{all:?}");
    let told = &of(&all, "database")[0];
    assert!(told.starts_with("problem: ") && told.contains("backup"), "{told}");
}

#[test]
fn a_state_folder_without_room_or_read_only_is_a_problem() {
    let mut env = env();
    let Some(disk) = env.disk("state", "size=8m") else { return };
    let (output, all) = found(&env, &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(of(&all, "state")[0].contains("make room"), "{all:?}");
    disk.remount("ro");
    let (_, all) = found(&env, &[]);
    let told = &of(&all, "state")[0];
    assert!(told.starts_with("problem: ") && told.contains("remount,rw"), "{told}");
}

#[test]
fn who_may_only_look_hears_of_no_problem_that_there_is_not() {
    if !have("setpriv") || !is_root() {
        return skip("to be other users needs root and setpriv");
    }
    let mut env = env();
    // Another user may come to the socket, and to nothing else.
    fs::set_permissions(env.path(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::copy(env!("CARGO_BIN_EXE_dagd"), env.at("dagd")).unwrap();
    for dir in ["in", "out"] {
        fs::set_permissions(env.at(dir), fs::Permissions::from_mode(0o700)).unwrap();
    }
    let config = env.at("dagd.toml");
    for (mode, owner) in [(0o644, 0), (0o600, 0), (0o644, 4_241_002)] {
        std::os::unix::fs::chown(&config, Some(owner), Some(owner)).unwrap();
        fs::set_permissions(&config, fs::Permissions::from_mode(mode)).unwrap();
        if owner != 0 {
            let chown = ["-R", "4241002:4241002"];
            assert!(Command::new("chown").args(chown).arg(env.path()).status().unwrap().success());
        }
        let (own, group) = (format!("--reuid={owner}"), format!("--regid={owner}"));
        let inner = Command::new(env.at("dagd"));
        let dagd = env.command(&["run"]);
        let mut daemon = through(&["setpriv", &own, &group, "--clear-groups"], &inner);
        daemon.arg("run").current_dir(env.path());
        daemon.envs(dagd.get_envs().filter_map(|(name, value)| Some((name, value?))));
        env.spawn(&mut daemon);
        env.await_ready();
        env.await_scanned();
        let mut asked = through(&["setpriv", "--reuid=4241001", &group, "--clear-groups"], &inner);
        asked.args(["doctor", "--json"]).env("DAGD_SOCKET", env.at("run/dagd.sock"));
        let output = asked.output().unwrap();
        let all: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
        assert!(output.status.success(), "{all:#?}");
        let fine = |finding: &Value| finding["level"] == "ok" || finding["level"] == "note";
        // What the machine allows is the machine's.
        let own = |finding: &&Value| finding["check"] != "queue" && finding["check"] != "state";
        assert!(all.iter().filter(own).all(fine), "{all:#?}");
        assert!(of(&all, "daemon")[0].contains(&format!("pid {}", env.pid())));
        assert!(of(&all, "watches")[0].contains("at least 0 in use by"), "{all:#?}");
        if of(&all, "configuration")[0].starts_with("ok") {
            assert!(of(&all, "folder")[0].contains("changes are noticed by"), "{all:#?}");
            assert!(of(&all, "readiness")[0].starts_with("ok: proved"), "{all:#?}");
            assert!(of(&all, "move")[0].starts_with("note: "), "{all:#?}");
        } else {
            assert!(of(&all, "configuration")[0].contains("not yours"), "{all:#?}");
        }
        assert!(env.stop());
    }
}
