//! `explain` tells the truth about every way in which a file can fare.

use std::fs;
use std::io::Write as _;

use serde_json::Value;

use crate::common::Env;

/// What `explain` says of a path under its first trigger.
fn story(env: &Env, rel: &str) -> Value {
    let output = env.command(&["explain", "--json"]).arg(env.at(rel)).output().unwrap();
    assert!(output.status.success(), "{rel}: {output:?}");
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    told["triggers"][0].clone()
}

/// The same for people.
fn plain(env: &Env, rel: &str) -> String {
    let output = env.command(&["explain"]).arg(env.at(rel)).output().unwrap();
    assert!(output.status.success(), "{rel}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn says(story: &Value, verdict: &str, words: &[&str]) {
    assert_eq!(story["verdict"], verdict, "{story}");
    let text = story["text"].as_str().unwrap();
    for word in words {
        assert!(text.contains(word), "`{word}` is not in: {text}");
    }
}

#[test]
fn every_fate_of_a_file_is_told() {
    let mut env = Env::new(
        r#"
[tasks.t]
shell = "! grep -q bad \"$DAGD_PATH\""
[triggers.in]
drop = "inbox"
include = ["*.csv"]
exclude = ["not*"]
run = "t"
move = "done/"
[triggers.stays]
drop = "stays"
run = "t"
initial_scan = "baseline"
"#,
    );
    env.mkdir("inbox");
    env.mkdir("stays");
    fs::write(env.at("stays/old"), "old").unwrap();
    env.start();
    env.wait("the first scan", || env.json(&["status"])["triggers"][1]["reason"].is_null());
    says(&story(&env, "stays/old"), "baseline", &["remembered without a run"]);
    says(&story(&env, "inbox/none.csv"), "unseen", &["nothing at this path"]);

    fs::write(env.at("inbox/a.txt"), "x").unwrap();
    fs::write(env.at("inbox/not.csv"), "x").unwrap();
    fs::write(env.at("inbox/.h.csv"), "x").unwrap();
    fs::write(env.at("inbox/a.csv.part"), "x").unwrap();
    says(&story(&env, "inbox/a.txt"), "ignored", &["include"]);
    says(&story(&env, "inbox/not.csv"), "ignored", &["exclude", "not*"]);
    says(&story(&env, "inbox/.h.csv"), "ignored", &["hidden"]);
    says(&story(&env, "inbox/a.csv.part"), "ignored", &["default_ignores", "*.part"]);

    let mut open = fs::File::create(env.at("inbox/open.csv")).unwrap();
    open.write_all(b"half").unwrap();
    env.wait("the open file to be seen", || story(&env, "inbox/open.csv")["verdict"] == "pending");
    says(&story(&env, "inbox/open.csv"), "pending", &["writer_open"]);
    let pending = env.json(&["pending"]);
    assert!(pending[0]["reason"].as_str().unwrap().contains("writer_open"), "{pending}");
    assert!(env.runs().is_empty());
    drop(open);
    env.await_ended(1);
    let told = story(&env, "inbox/open.csv");
    says(&told, "delivered", &["run 1", "succeeded", "moved to", "done/open.csv"]);
    assert_eq!(told["run"], 1);
    says(&story(&env, "done/open.csv"), "delivered", &["run 1", "moved it here"]);
    let text = plain(&env, "inbox/open.csv");
    assert!(text.contains("nothing there now") && text.contains("in delivered: "), "{text}");
    let text = plain(&env, "inbox/not.csv");
    assert!(text.contains("a regular file") && text.contains("in ignored: "), "{text}");

    // One that fails and has nowhere to go stays where it is.
    fs::write(env.at("inbox/bad.csv"), "bad").unwrap();
    env.await_ended(2);
    says(&story(&env, "inbox/bad.csv"), "quarantined", &["run 2", "failed", "quarantined by"]);
    assert_eq!(story(&env, "inbox/bad.csv")["run_state"], "failed");
    fs::remove_file(env.at("inbox/bad.csv")).unwrap();
    env.wait("its departure", || {
        story(&env, "inbox/bad.csv")["text"].as_str().unwrap().contains("no longer there")
    });
    says(&story(&env, "inbox/bad.csv"), "delivered", &["run 2", "failed"]);

    fs::write(env.at("stays/new"), "new").unwrap();
    env.await_ended(3);
    says(&story(&env, "stays/new"), "delivered", &["run 3", "still there"]);
    assert!(env.stop());

    // Without a daemon the same story, and what came since is told to be unknown.
    says(&story(&env, "inbox/open.csv"), "delivered", &["done/open.csv"]);
    fs::write(env.at("inbox/open.csv"), "again").unwrap();
    says(&story(&env, "inbox/open.csv"), "unseen", &["has not been delivered yet"]);
    fs::write(env.at("inbox/later.csv"), "later").unwrap();
    says(&story(&env, "inbox/later.csv"), "unseen", &["not seen"]);
    let other = env.command(&["explain", "/etc/passwd"]).output().unwrap();
    assert_eq!(other.status.code(), Some(3), "nobody's: {other:?}");
}

#[test]
fn a_paused_trigger_and_a_running_task_are_told() {
    let mut env = Env::new(
        r#"
[daemon]
max_live_runs = 1
[tasks.t]
shell = "until [ -e go ]; do sleep 0.02; done"
cwd = "{dir}"
[triggers.in]
drop = "inbox"
run = "t"
"#,
    );
    env.mkdir("inbox");
    env.start();
    fs::write(env.at("inbox/first"), "1").unwrap();
    env.wait("a run", || story(&env, "inbox/first")["verdict"] == "running");
    says(&story(&env, "inbox/first"), "running", &["run 1"]);
    fs::write(env.at("inbox/second"), "2").unwrap();
    env.wait("the next", || story(&env, "inbox/second")["verdict"] == "queued");
    says(&story(&env, "inbox/second"), "queued", &["ready", "waits"]);
    env.ok(&["pause", "in"]);
    says(&story(&env, "inbox/second"), "queued", &["by request"]);
    fs::write(env.at("go"), "").unwrap();
    env.await_ended(1);
    says(&story(&env, "inbox/first"), "delivered", &["run 1", "succeeded"]);
    says(&story(&env, "inbox/second"), "queued", &["by request"]);
    env.ok(&["resume", "in"]);
    env.await_ended(2);
    says(&story(&env, "inbox/second"), "delivered", &["run 2"]);
    assert_eq!(env.runs().len(), 2);
}
