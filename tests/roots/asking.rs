//! Who asks a real daemon about files of a file system that does not answer waits alone.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::common::{Env, through};
use crate::fuse::Hanging;
use crate::places::may_mount;

const CONFIG: &str = r#"
[tasks.note]
command = ["true"]
[triggers.in]
drop = "in"
run = "note"
"#;

/// How many of the daemon's threads for requests are at work on something, and not idle.
fn busy(env: &Env) -> u64 {
    let tasks = fs::read_dir(format!("/proc/{}/task", env.pid())).unwrap();
    let busy = tasks.filter(|task| {
        let told = |name| fs::read_to_string(task.as_ref().unwrap().path().join(name));
        let idle = format!("{} ", libc::SYS_futex);
        told("comm").is_ok_and(|name| name == "dagd-reader\n")
            && told("syscall").is_ok_and(|call| !call.starts_with(&idle))
    });
    busy.count() as u64
}

/// Asks for an explanation of a path, and does not read the answer yet.
fn explain(env: &Env, path: &Path) -> UnixStream {
    let path = STANDARD.encode(path.as_os_str().as_encoded_bytes());
    let path = path.replace('+', "%2B").replace('=', "%3D");
    ask(env, &format!("GET /v1/explain?path_b64={path} HTTP/1.1\r\nhost: d\r\n\r\n"))
}

/// Runs a task for a path, and does not read the answer yet.
fn fire(env: &Env, path: &Path) -> UnixStream {
    let path = STANDARD.encode(path.as_os_str().as_encoded_bytes());
    let body = format!("{{\"select\":\"note\",\"paths_b64\":[\"{path}\"]}}");
    let head = format!("host: d\r\ncontent-length: {}", body.len());
    ask(env, &format!("POST /v1/fire HTTP/1.1\r\n{head}\r\n\r\n{body}"))
}

fn ask(env: &Env, request: &str) -> UnixStream {
    let mut stream = UnixStream::connect(env.at("run/dagd.sock")).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    stream
}

/// Reads an answer to its end.
fn answer(mut stream: UnixStream) -> String {
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// Runs `dagd`, which must succeed while the file system hangs.
fn goes_on(env: &Env, args: &[&str]) {
    let output = through(&["timeout", "40"], &env.command(args)).output().unwrap();
    assert!(output.status.success(), "dagd {args:?}: {output:?}\n{}", env.log());
}

#[test]
fn who_waits_for_a_silent_file_system_keeps_nobody_else_waiting() {
    if !may_mount("asking::who_waits_for_a_silent_file_system_keeps_nobody_else_waiting") {
        return;
    }
    let mut env = Env::new(CONFIG);
    for dir in ["in", "far"] {
        env.mkdir(dir);
    }
    fs::write(env.at("in/a"), "x").unwrap();
    env.start();
    env.await_ended(1);
    let mut hanging = Hanging::mount(&env.at("far"), "hanging");
    hanging.hang();
    let far = env.at("far/x");
    let first = explain(&env, &far);
    env.wait_for("a look that hangs", 1, || busy(&env));
    // More than there are threads for that. Most are given up, and their threads hang on.
    let given_up: Vec<UnixStream> = (0..30).map(|_| explain(&env, &far)).collect();
    env.wait_for("looks that hang", 4, || busy(&env));
    drop(given_up);
    let last = explain(&env, &far);
    let act = fire(&env, &far);
    env.wait_for("an act that hangs", 5, || busy(&env));
    for args in [&["status"][..], &["runs"], &["show", "1"], &["logs", "1/note"]] {
        goes_on(&env, args);
    }
    goes_on(&env, &["retry", "1", "--wait"]);
    let near = env.at("in/a");
    goes_on(&env, &["fire", "in", near.to_str().unwrap(), "--wait"]);
    goes_on(&env, &["replay", near.to_str().unwrap()]);
    // Who waits is told in the end.
    let told = answer(first);
    assert!(told.starts_with("HTTP/1.1 503 ") && told.contains("has not answered for"), "{told}");
    let told = answer(last);
    assert!(told.contains("4 others look at files already"), "{told}");
    let told = answer(act);
    assert!(told.contains("far/x\\\" cannot be looked at"), "{told}");
    // As soon as it answers all is well.
    hanging.answer();
    let told = answer(explain(&env, &far));
    assert!(told.starts_with("HTTP/1.1 200 "), "{told}");
    assert!(env.stop());
}
