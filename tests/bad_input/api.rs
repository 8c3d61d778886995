//! Requests that make no sense: each is answered or dropped, and the daemon lives on.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use crate::common::{Env, PATIENCE};

/// Sends bytes as they are and returns the answer up to the end of the connection, or what came
/// of it.
fn raw(env: &Env, bytes: &[u8], close: bool) -> String {
    let mut stream = UnixStream::connect(env.at("run/dagd.sock")).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // The daemon may have had enough before all is written.
    drop(stream.write_all(bytes));
    if close {
        drop(stream.shutdown(std::net::Shutdown::Write));
    }
    let mut answer = Vec::new();
    drop(stream.read_to_end(&mut answer));
    String::from_utf8_lossy(&answer).into_owned()
}

fn status(answer: &str) -> u16 {
    answer.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0)
}

fn request(env: &Env, method: &str, path: &str, body: &str) -> String {
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    raw(env, head.as_bytes(), false)
}

fn daemon() -> Env {
    let mut env = Env::new(
        "[tasks.t]\ncommand = [\"true\"]\n[triggers.s]\nsignal = \"SIGUSR1\"\nrun = \"t\"\n",
    );
    env.start();
    env
}

#[test]
fn nonsense_is_refused_and_the_daemon_lives_on() {
    let env = daemon();
    let good = request(&env, "GET", "/v1/status", "");
    assert_eq!(status(&good), 200, "{good}");
    let refused = [
        ("DELETE", "/v1/status", "", 405),
        ("POST", "/v1/status", "", 405),
        ("GET", "/v1/fire", "", 405),
        ("GET", "/v1/nothing", "", 404),
        ("GET", "/", "", 404),
        ("GET", "/v1/runs/99999999999999999999999", "", 400),
        ("GET", "/v1/runs/-1", "", 400),
        ("GET", "/v1/runs/7", "", 404),
        ("GET", "/v1/runs/%00", "", 400),
        ("GET", "/v1/runs?limit=x", "", 400),
        ("POST", "/v1/fire", "", 400),
        ("POST", "/v1/fire", "{", 400),
        ("POST", "/v1/fire", "[]", 400),
        ("POST", "/v1/fire", "{}", 400),
        ("POST", "/v1/fire", "{\"trigger\":\"nobody\"}", 404),
        ("POST", "/v1/fire", "{\"select\":\"&&\"}", 400),
        ("POST", "/v1/fire", "{\"trigger\":\"s\",\"paths_b64\":[\"!!\"]}", 400),
    ];
    let mut wrong = Vec::new();
    for (method, path, body, wanted) in refused {
        let answer = request(&env, method, path, body);
        let got = status(&answer);
        // A body that is no such request may also be called unprocessable.
        let equal = got == wanted || (wanted == 400 && got == 422);
        if !equal {
            wrong.push(format!("{method} {path} {body}: {got}, not {wanted}: {answer}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(env.runs().is_empty());
    assert_eq!(env.json(&["status"])["state"], "running");
}

#[test]
fn garbage_and_floods_are_dropped() {
    let env = daemon();
    for garbage in [
        &b""[..],
        b"\0\0\0\0",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"POST /v1/fire HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
        b"POST /v1/fire HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ] {
        let answer = raw(&env, garbage, true);
        assert!(!answer.contains(" 200 "), "{garbage:?}: {answer}");
    }
    let huge = "x".repeat(32 << 20);
    let body = format!("{{\"select\":\"{huge}\"}}");
    let answer = request(&env, "POST", "/v1/fire", &body);
    assert!([0, 413].contains(&status(&answer)), "{answer}");
    let header = format!("GET /v1/status HTTP/1.1\r\nHost: x\r\nX: {huge}\r\n\r\n");
    let answer = raw(&env, header.as_bytes(), true);
    assert!([0, 400, 431].contains(&status(&answer)), "{answer}");
    let path = format!("GET /v1/runs/{} HTTP/1.1\r\nHost: x\r\n\r\n", &huge[..1 << 20]);
    let answer = raw(&env, path.as_bytes(), true);
    assert!([0, 400, 414, 431].contains(&status(&answer)), "{answer}");
    let peak = memory(&env);
    assert!(peak < 64 << 10, "{peak} KiB for what was thrown away");
    assert_eq!(env.json(&["status"])["state"], "running");
}

/// The daemon's peak of resident memory in KiB.
fn memory(env: &Env) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", env.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn who_says_nothing_keeps_nobody_out() {
    let mut env = daemon();
    let silent: Vec<UnixStream> =
        (0..40).map(|_| UnixStream::connect(env.at("run/dagd.sock")).unwrap()).collect();
    for mut stream in &silent {
        stream.set_write_timeout(Some(Duration::from_secs(5))).unwrap();
        stream.write_all(b"GET /v1/sta").unwrap();
    }
    assert_eq!(env.json(&["status"])["state"], "running");
    env.ok(&["fire", "s", "--wait"]);
    assert!(env.stop(), "nor do they keep the daemon alive");
}

/// Whoever asks what became of an event may come when its run is over.
#[test]
fn an_event_is_known_by_its_run_afterwards() {
    let mut env = daemon();
    env.ok(&["pause", "s"]);
    let fired = env.json(&["fire", "s"]);
    let item = fired["item"].as_u64().unwrap();
    env.ok(&["resume", "s"]);
    env.await_ended(1);
    let told = request(&env, "GET", &format!("/v1/items/{item}/wait"), "");
    assert_eq!(status(&told), 200, "{told}");
    assert!(told.contains("\"run\":1"), "{told}");
    let later = request(&env, "GET", &format!("/v1/items/{}/wait", item + 1), "");
    assert_eq!(status(&later), 404, "{later}");
    assert!(env.stop());
}
