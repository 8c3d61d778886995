//! Secrets from a task's `env_file`: nowhere but in its own environment.

#![expect(clippy::unwrap_used, reason = "a test ends at the first thing that goes wrong")]

#[expect(dead_code, reason = "a part of the harness is enough here")]
mod common;

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use common::{Env, is_root, skip};

const SECRET: &str = "correct-horse/battery=staple";

const CONFIG: &str = r#"
[tasks.load]
shell = '''
test "$TOKEN" = correct-horse"/"battery=staple
echo "the token is $TOKEN." "$TOKEN" >&2
echo begun > "${DAGD_REL:-none}.begun"
while [ ! -e go ]; do sleep 0.01; done
exit 3
'''
env_file = "secret.env"
cwd = "."
[tasks.alert]
needs = ["load"]
rule = "one_failed"
command = ["echo", "{failed} failed for {path}"]
[triggers.in]
drop = "in"
run = "load+"
move_failed = "failed/"
"#;

fn env() -> Env {
    let env = Env::new(CONFIG);
    env.mkdir("in");
    secret(&env.at("secret.env"), &format!("# for load\nTOKEN={SECRET}\nSHORT=ok\n"), 0o600);
    env
}

fn secret(path: &Path, text: &str, mode: u32) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn tells(bytes: &[u8]) -> bool {
    bytes.windows(SECRET.len()).any(|window| window == SECRET.as_bytes())
}

/// All files below a folder that hold the secret.
fn holding(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            found.extend(holding(&entry.path()));
        } else if kind.is_file() && fs::read(entry.path()).is_ok_and(|bytes| tells(&bytes)) {
            found.push(entry.path());
        }
    }
    found
}

/// Processes that show the secret to everybody.
fn showing() -> Vec<String> {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let lines = processes.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
    lines.filter(|line| tells(line)).map(|line| String::from_utf8_lossy(&line).into()).collect()
}

/// What the socket answers.
fn asked(env: &Env, path: &str) -> Vec<u8> {
    let mut stream = UnixStream::connect(env.at("run/dagd.sock")).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: dagd\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    answer
}

#[test]
fn a_secret_is_in_no_record_no_answer_and_no_list_of_processes() {
    let mut env = env();
    env.spawn(&mut env.command(&["run", "--log", "trace"]));
    env.await_ready();
    fs::write(env.at("in/a"), "x").unwrap();
    env.wait("the task at work", || env.at("a.begun").exists());
    let quiet = |when: &str| {
        assert_eq!(showing(), Vec::<String>::new(), "{when}");
        let file = env.at("failed/a").display().to_string();
        for args in [
            &["status", "--json"][..],
            &["pending", "--json"],
            &["runs", "--json"],
            &["show", "1"],
            &["show", "1", "--json"],
            &["explain", "1/load"],
            &["explain", &file, "--json"],
            &["graph", "--format", "json"],
            &["plan", "--trigger", "in", "--path", "x"],
            &["check"],
        ] {
            let output = env.run(args);
            assert!(!tells(&output.stdout) && !tells(&output.stderr), "{when}: {args:?}");
        }
        for path in ["status", "pending", "runs", "runs/1", "explain?path_b64=L3g="] {
            let answer = asked(&env, &format!("/v1/{path}"));
            assert!(answer.starts_with(b"HTTP/1.1 ") && !tells(&answer), "{when}: {path}");
        }
        assert!(!tells(env.log().as_bytes()), "{when}: {}", env.log());
    };
    quiet("while it runs");
    // Until it has ended its log is as it writes it; so the look for it does find it.
    assert_ne!(holding(&env.at("state")), Vec::<PathBuf>::new());
    fs::write(env.at("go"), "").unwrap();
    env.await_ended(1);
    quiet("afterwards");
    let hidden = "*".repeat(SECRET.len());
    let told = format!("the token is {hidden}. {hidden}\n");
    assert_eq!(env.ok(&["logs", "1/load"]), told);
    assert!(!tells(&asked(&env, "/v1/runs/1/logs/load")));
    assert_eq!(holding(env.path()), [env.at("secret.env")]);
    env.ok(&["reload"]);
    assert!(env.stop());
    assert_eq!(holding(env.path()), [env.at("secret.env")], "nor in what is closed");
    // The same in a process of its own, which shows the end of a failed task's output.
    let output = env.run(&["once", "--keep", "--select", "load"]);
    assert!(!tells(&output.stdout) && !tells(&output.stderr), "{output:?}");
    assert_eq!(holding(env.path()), [env.at("secret.env")]);
}

#[test]
fn a_file_that_others_can_read_is_refused_and_not_quoted() {
    let env = env();
    fs::write(env.at("go"), "").unwrap();
    let file = env.at("secret.env");
    let good = format!("TOKEN={SECRET}\n");
    let why = || {
        let output = env.run(&["once", "--select", "load"]);
        let told = [output.stdout, output.stderr].concat();
        assert!(!tells(&told));
        String::from_utf8(told).unwrap()
    };
    for (mode, refused) in [(0o644, true), (0o620, true), (0o604, true), (0o640, false)] {
        secret(&file, &good, mode);
        let told = why();
        assert_eq!(
            told.contains("lets others read or change it; run chmod 600"),
            refused,
            "{told}"
        );
    }
    // It is the file that counts, by whatever name.
    secret(&env.at("real"), &good, 0o600);
    fs::remove_file(&file).unwrap();
    symlink(env.at("real"), &file).unwrap();
    assert!(why().contains("exit code 3"), "{}", why());
    secret(&env.at("real"), &good, 0o644);
    assert!(why().contains("run chmod 600"), "{}", why());
    // A line that makes no sense may be a secret.
    secret(&env.at("real"), &format!("TOKEN={SECRET}\n{SECRET}\n"), 0o600);
    assert!(why().contains("line 2: not of the form KEY=value"), "{}", why());
    if !is_root() {
        return skip("to give a file away needs root");
    }
    secret(&env.at("real"), &good, 0o600);
    chown(env.at("real"), Some(65_534), None).unwrap();
    assert!(why().contains("it belongs to user 65534, not to root or user 0"), "{}", why());
}

#[test]
fn the_log_of_an_attempt_that_dagd_did_not_see_the_end_of_is_blotted() {
    for leave in [false, true] {
        let config = if leave {
            CONFIG.replace("cwd = \".\"", "cwd = \".\"\non_daemon_stop = \"leave\"")
        } else {
            CONFIG.to_owned()
        };
        let mut env = Env::new(&config);
        env.mkdir("in");
        secret(&env.at("secret.env"), &format!("TOKEN={SECRET}\n"), 0o600);
        env.start();
        fs::write(env.at("in/a"), "x").unwrap();
        env.wait("the task", || env.at("a.begun").exists());
        let held = || holding(&env.at("state/logs"));
        env.wait("a log with its name", || !held().is_empty());
        env.kill();
        env.start();
        fs::write(env.at("go"), "").unwrap();
        env.await_ended(1);
        env.await_idle();
        assert_eq!(holding(&env.at("state")), Vec::<PathBuf>::new(), "leave: {leave}");
        assert!(env.stop());
    }
}
