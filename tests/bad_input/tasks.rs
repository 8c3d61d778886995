//! Tasks that cannot start, do not end, flood, leave something behind or die.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use serde_json::Value;

use crate::common::Env;

/// Runs task `t`, declared by `body`, by hand and returns how it ended.
fn tried(env: &mut Env, body: &str) -> Value {
    env.configure(&format!("[tasks.t]\n{body}\n[triggers.s]\nsignal = \"SIGUSR1\"\nrun = \"t\"\n"));
    env.start();
    let fired = env.run(&["fire", "--select", "t", "--wait"]);
    let task = env.task(1, "t");
    let good = task["state"] == "succeeded" || task["state"] == "skipped";
    assert_eq!(fired.status.code(), Some(i32::from(!good)), "{fired:?} {task}");
    let status = env.json(&["status"]);
    assert_eq!((&status["state"], &status["running"]), (&"running".into(), &0.into()));
    task
}

fn one(task: &Value) -> &Value {
    let attempts = task["attempts"].as_array().unwrap();
    assert_eq!(attempts.len(), 1, "{task}");
    &attempts[0]
}

/// The state, and the text that tells why.
fn failure(body: &str) -> (Value, String) {
    let mut env = Env::new("");
    fs::write(env.at("plain"), "#!/bin/sh\n").unwrap();
    fs::write(env.at("headless"), "#!/no/such/interpreter\n").unwrap();
    fs::set_permissions(env.at("headless"), fs::Permissions::from_mode(0o755)).unwrap();
    let body = body.replace("{dir}", env.path().to_str().unwrap());
    let task = tried(&mut env, &body);
    let error = one(&task)["error"].as_str().unwrap_or_default().to_owned();
    let shown = env.ok(&["show", "1"]);
    assert!(shown.contains("failed"), "{shown}");
    // People are not told the numbers of system errors.
    let words = error.split(" (os error").next().unwrap();
    assert!(shown.contains(words), "{shown} does not say {error}");
    (task["state"].clone(), error)
}

#[test]
fn what_cannot_start_says_why_and_what_to_do() {
    let cases = [
        ("command = [\"no-such-program\"]", ["no-such-program", "install"]),
        ("command = [\"/no/such/program\"]", ["/no/such/program", "correct the path"]),
        ("command = [\"{dir}/plain\"]", ["plain", "chmod +x"]),
        ("command = [\"{dir}/headless\"]", ["interpreter", "install"]),
        ("command = [\"true\"]\ncwd = \"/no/such/folder\"", ["/no/such/folder", "cwd"]),
        ("command = [\"true\"]\ncwd = \"{dir}/plain\"", ["plain", "cwd"]),
        ("command = [\"true\"]\nenv_file = \"/no/such/file\"", ["/no/such/file", "env_file"]),
    ];
    for (body, words) in cases {
        let (state, error) = failure(body);
        assert_eq!(state, "failed", "{body}: {error}");
        assert!(words.iter().all(|word| error.contains(word)), "{body}: {error}");
    }
}

#[test]
fn who_ignores_term_is_killed_and_takes_everybody_along() {
    let mut env = Env::new("");
    let task = tried(
        &mut env,
        r#"shell = "trap '' TERM; (trap '' TERM; setsid sleep 1000) & while :; do sleep 1000; done"
timeout = "200ms"
kill_after = "200ms""#,
    );
    assert_eq!(task["state"], "timed_out", "{task}");
    assert_eq!(one(&task)["signal"], 9);
    assert!(one(&task)["error"].as_str().unwrap().contains("time limit"), "{task}");
    assert_eq!(env.survivors(), Vec::<String>::new());
    let shown = env.ok(&["show", "1"]);
    assert!(shown.contains("timed_out"), "{shown}");
}

#[test]
fn a_flood_keeps_its_head_and_its_tail() {
    let mut env = Env::new("");
    let task = tried(
        &mut env,
        r#"shell = "echo the head; yes flood | head -c 20000004; echo the tail >&2"
log_max = "64KiB""#,
    );
    assert_eq!(task["state"], "succeeded", "{task}");
    let path = env.at("state/logs").join(one(&task)["log"].as_str().unwrap());
    let used = fs::metadata(&path).unwrap().blocks() * 512;
    assert!(used <= 80 << 10, "{used} bytes are used");
    let told = env.ok(&["logs", "1/t"]);
    assert!(told.starts_with("the head\nflood\n"), "{:?}", &told[..80]);
    assert!(told.ends_with("flood\nthe tail\n"), "{:?}", &told[told.len() - 80..]);
    assert!(!told.contains('\0'), "the hole is not written out");
    assert!(told.len() < 80 << 10, "{}", told.len());
    let gap = told.lines().find(|line| line.starts_with('[')).unwrap();
    assert!(gap.ends_with("bytes of output were not kept]"), "{gap}");
    assert!(env.stop());
    assert_eq!(env.ok(&["logs", "1/t"]), told, "without a daemon the same");
}

#[test]
fn who_is_left_behind_is_killed_and_counted() {
    let mut env = Env::new("");
    let task = tried(
        &mut env,
        r#"shell = "sleep 1000 & setsid sleep 1000 & (setsid sh -c 'sleep 1000 & exec sleep 1000' &) ; sleep 0.2""#,
    );
    assert_eq!(task["state"], "succeeded", "{task}");
    assert_eq!(one(&task)["leftovers"], 4, "{task}");
    assert_eq!(env.survivors(), Vec::<String>::new());
    assert!(env.ok(&["show", "1"]).contains("4 "), "{}", env.ok(&["show", "1"]));
}

#[test]
fn who_kills_itself_is_shown_with_the_signal() {
    for (signal, name) in [(9, "KILL"), (11, "SEGV"), (15, "TERM")] {
        let mut env = Env::new("");
        let task = tried(&mut env, &format!("shell = \"kill -{signal} $$\""));
        assert_eq!(task["state"], "failed", "{task}");
        assert_eq!(
            (&one(&task)["signal"], &one(&task)["exit_code"]),
            (&signal.into(), &Value::Null)
        );
        let shown = env.ok(&["show", "1"]);
        assert!(shown.contains(name) || shown.contains(&format!("signal {signal}")), "{shown}");
    }
}

#[test]
fn who_kills_its_group_kills_nobody_else() {
    let mut env = Env::new("");
    let task = tried(&mut env, r#"shell = "kill -9 0""#);
    assert_eq!((&task["state"], &one(&task)["signal"]), (&"failed".into(), &9.into()));
}

#[test]
fn nothing_to_do_is_a_skip() {
    let mut env = Env::new("");
    let task = tried(&mut env, "shell = \"exit 99\"\nskip = [99]");
    assert_eq!((&task["state"], &task["cause"]), (&"skipped".into(), &"exit_code".into()));
    assert_eq!(one(&task)["exit_code"], 99);
    assert_eq!(env.runs()[0]["state"], "succeeded");
}

#[test]
fn every_retry_is_listed_and_waits_its_time() {
    let mut env = Env::new("");
    let task = tried(
        &mut env,
        r#"shell = "echo try $DAGD_ATTEMPT; [ $DAGD_ATTEMPT = 3 ]"
retry = { max = 5, delay = "50ms", factor = 2.0 }"#,
    );
    assert_eq!(task["state"], "succeeded", "{task}");
    let attempts = task["attempts"].as_array().unwrap();
    let codes: Vec<_> = attempts.iter().map(|a| (&a["attempt"], &a["exit_code"])).collect();
    let wanted = [1, 2, 3].map(Value::from);
    let ends = [1, 1, 0].map(Value::from);
    assert_eq!(codes, wanted.iter().zip(&ends).collect::<Vec<_>>());
    for (pair, delay) in attempts.windows(2).zip([50, 100]) {
        let time = |value: &Value| value.as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
        let pause = time(&pair[0]["ended_at"]).duration_until(time(&pair[1]["started_at"]));
        assert!(pause.as_millis() >= delay, "{pause:?} before attempt {}", pair[1]["attempt"]);
    }
    for n in ["1", "2", "3"] {
        assert_eq!(env.ok(&["logs", "1/t", "--attempt", n]), format!("try {n}\n"));
    }
}

#[test]
fn retries_end() {
    let mut env = Env::new("");
    let body = "shell = \"exit 75\"\nretry = { max = 2, delay = \"1ms\", on = [75] }";
    let task = tried(&mut env, body);
    assert_eq!(task["state"], "failed");
    assert_eq!(task["attempts"].as_array().unwrap().len(), 3, "{task}");
    let mut env = Env::new("");
    let body = "shell = \"exit 76\"\nretry = { max = 2, delay = \"1ms\", on = [75] }";
    assert_eq!(one(&tried(&mut env, body))["exit_code"], 76);
}

#[test]
fn an_output_that_is_missing_fails_who_needs_it() {
    let mut env = Env::new(
        r#"
[tasks.a]
shell = "echo other=1 >> $DAGD_OUTPUT; printf 'no newline, no equals' >> $DAGD_OUTPUT"
[tasks.b]
needs = ["a"]
command = ["echo", "{out.a.rows}"]
"#,
    );
    env.start();
    assert_eq!(env.run(&["fire", "--select", "a+", "--wait"]).status.code(), Some(1));
    assert_eq!(env.task(1, "a")["state"], "succeeded");
    let task = env.task(1, "b");
    assert_eq!(task["state"], "failed");
    assert!(task["cause"].as_str().unwrap().starts_with("missing_output"), "{task}");
    assert!(one(&task)["error"].as_str().unwrap().contains("rows"), "{task}");
    assert!(env.ok(&["show", "1"]).contains("missing_output"));
}

#[test]
fn what_is_written_as_outputs_may_be_anything() {
    let mut env = Env::new("");
    let task = tried(&mut env, r#"shell = "head -c 3000000 /dev/urandom > $DAGD_OUTPUT""#);
    assert_eq!(task["state"], "succeeded", "{task}");
    for script in ["ln -s /dev/zero $DAGD_OUTPUT", "mkfifo $DAGD_OUTPUT", "mkdir $DAGD_OUTPUT"] {
        let mut env = Env::new("");
        let task = tried(&mut env, &format!("shell = \"{script}\""));
        assert_eq!(task["state"], "succeeded", "{script}: {task}");
        assert!(env.stop(), "{script}");
    }
}
