//! The main job, end to end: drop a file, and its subgraph runs.

#![expect(
    clippy::unwrap_used,
    clippy::format_collect,
    reason = "a test ends at the first thing that goes wrong"
)]

#[expect(dead_code, reason = "a part of the harness is enough here")]
mod common;

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use common::{Env, have};
use serde_json::Value;

fn sh(env: &Env, script: &str) {
    let status = Command::new("sh").args(["-ec", script]).current_dir(env.path()).status().unwrap();
    assert!(status.success(), "{script}");
}

const THREE: &str = r#"
[tasks.check]
command = ["sha256sum", "{path}"]
[tasks.load]
needs = ["check"]
shell = "wc -c < \"$DAGD_PATH\" >> loaded; echo rows=$(wc -l < \"$DAGD_PATH\") >> \"$DAGD_OUTPUT\""
cwd = "{dir}"
[tasks.report]
needs = ["load"]
command = ["sh", "-c", "echo \"$1 has $2 rows\"", "sh", "{name}", "{out.load.rows}"]
[triggers.in]
drop = "inbox"
include = ["*.csv"]
run = "check+"
move = "done/"
move_failed = "failed/"
"#;

#[test]
fn every_way_to_drop_a_file_delivers_it_once() {
    let mut env = Env::new(THREE);
    env.mkdir("inbox");
    env.mkdir("elsewhere");
    env.start();
    sh(
        &env,
        "echo 1 > elsewhere/source
         cp elsewhere/source inbox/cp.csv
         cp elsewhere/source elsewhere/mv.csv; mv elsewhere/mv.csv inbox/
         cp elsewhere/source inbox/temp.part; mv inbox/temp.part inbox/temp.csv
         cp elsewhere/source elsewhere/ln; ln elsewhere/ln inbox/ln.csv; rm elsewhere/ln
         cp -p elsewhere/source inbox/old.csv
         echo > inbox/ignored.txt",
    );
    env.await_ended(5);
    env.await_idle();
    let runs = env.runs();
    let mut delivered: BTreeMap<String, u32> = BTreeMap::new();
    for run in &runs {
        assert_eq!(run["state"], "succeeded", "{run}");
        assert_eq!(run["trigger"], "in");
        let files = run["files"].as_array().unwrap();
        assert_eq!(files.len(), 1);
        *delivered.entry(files[0]["rel"].as_str().unwrap().to_owned()).or_default() += 1;
        assert!(run["ended_at"].as_str().unwrap().ends_with('Z'));
    }
    let once =
        ["cp.csv", "ln.csv", "mv.csv", "old.csv", "temp.csv"].map(|name| (name.to_owned(), 1));
    assert_eq!(delivered, once.into());
    for name in ["cp.csv", "ln.csv", "mv.csv", "old.csv", "temp.csv"] {
        assert!(env.at("done").join(name).exists(), "{name}");
        assert!(!env.at("inbox").join(name).exists(), "{name}");
    }
    let detail = env.json(&["show", "1"]);
    let tasks: Vec<_> = detail["tasks"].as_array().unwrap().iter().map(|t| &t["name"]).collect();
    assert_eq!(tasks, ["check", "load", "report"]);
    let log = env.ok(&["logs", "1/report"]);
    assert!(log.contains("has 1 rows"), "{log}");
}

#[test]
fn a_failed_run_moves_its_file_and_its_retry_finishes() {
    let mut env = Env::new(
        r#"
[tasks.check]
command = ["sha256sum", "{path}"]
[tasks.load]
needs = ["check"]
shell = "test -e ok"
cwd = "{dir}"
[tasks.alert]
needs = ["check", "load"]
rule = "one_failed"
command = ["echo", "{path} failed in {failed}"]
[triggers.in]
drop = "inbox"
run = "check+"
move = "done/"
move_failed = "failed/"
"#,
    );
    env.mkdir("inbox");
    env.start();
    fs::write(env.at("inbox/a.csv"), "x").unwrap();
    env.await_ended(1);
    let run = env.json(&["show", "1"]);
    assert_eq!(run["state"], "failed", "its alert succeeded, but a task failed");
    let state = |run: &Value, name: &str| {
        let tasks = run["tasks"].as_array().unwrap().clone();
        tasks.into_iter().find(|task| task["name"] == name).unwrap()["state"].clone()
    };
    assert_eq!((state(&run, "check"), state(&run, "load")), ("succeeded".into(), "failed".into()));
    assert_eq!(state(&run, "alert"), "succeeded");
    assert!(env.at("failed/a.csv").exists());
    assert!(env.ok(&["logs", "1/alert"]).contains("failed in load"));
    let story = env.ok(&["explain", "inbox/a.csv"]);
    assert!(story.contains("run 1") && story.contains("failed/a.csv"), "{story}");

    fs::write(env.at("ok"), "").unwrap();
    env.ok(&["retry", "1", "--failed"]);
    env.await_ended(2);
    let again = env.json(&["show", "2"]);
    assert_eq!(again["state"], "succeeded", "{again}");
    assert_eq!(again["parent"], 1);
    assert_eq!(state(&again, "check"), "succeeded");
    let attempts = |name: &str| {
        let tasks = again["tasks"].as_array().unwrap().clone();
        let task = tasks.into_iter().find(|task| task["name"] == name).unwrap();
        task["attempts"].as_array().unwrap().len()
    };
    assert_eq!(attempts("check"), 0, "what succeeded is not run again");
    assert_eq!(state(&again, "alert"), "skipped");
    assert!(env.at("done/a.csv").exists());
    assert!(!env.at("failed/a.csv").exists());
}

#[test]
fn files_dropped_while_down_run_once_and_old_ones_do_not_run_again() {
    let mut env = Env::new(
        "[tasks.t]\ncommand = [\"cat\", \"{path}\"]\n[triggers.in]\ndrop = \"inbox\"\nrun = \"t\"\n",
    );
    env.mkdir("inbox");
    for n in 0..20 {
        fs::write(env.at(&format!("inbox/old{n}")), "x").unwrap();
    }
    env.start();
    env.await_ended(20);
    assert!(env.stop());
    for n in 0..100 {
        fs::write(env.at(&format!("inbox/new{n}")), "x").unwrap();
    }
    env.start();
    env.await_ended(100);
    env.await_idle();
    assert_eq!(env.runs().len(), 120);
    fs::write(env.at("inbox/old3"), "other").unwrap();
    env.await_ended(101);
    let newest = &env.runs()[0];
    assert_eq!(newest["files"][0]["kind"], "modified");
    assert_eq!(newest["files"][0]["rel"], "old3");
}

#[test]
fn a_changed_tree_runs_once_for_all_changes() {
    let mut env = Env::new(
        r#"
[tasks.build]
shell = "tr '\\0' '\\n' < \"$DAGD_FILES_NUL\" | sort > public/list"
cwd = "{dir}/site"
[triggers.site]
watch = "site"
exclude = ["public/**"]
run = "build+"
"#,
    );
    env.mkdir("site/public");
    env.mkdir("site/src");
    fs::write(env.at("site/src/before"), "x").unwrap();
    env.start();
    for n in 0..10 {
        fs::write(env.at(&format!("site/src/{n}")), "x").unwrap();
    }
    let files = |runs: &[Value]| -> usize {
        runs.iter().map(|run| run["files"].as_array().unwrap().len()).sum()
    };
    env.wait("all changes", || files(&env.runs()) >= 10);
    env.await_idle();
    let runs = env.runs();
    assert_eq!(files(&runs), 10, "what was there before is the baseline");
    assert!(runs.len() <= 2, "changes within the window are one run: {}", runs.len());
    fs::remove_file(env.at("site/src/before")).unwrap();
    env.await_ended(runs.len() as u64 + 1);
    assert_eq!(env.runs()[0]["files"][0]["kind"], "deleted");
}

#[test]
fn names_reach_the_task_exactly() {
    use std::os::unix::ffi::OsStrExt as _;
    let mut env = Env::new(
        "[tasks.t]\ncommand = [\"sh\", \"-c\", \"printf '%s' \\\"$1\\\" | od -An -tx1 | tr -d ' \\\\n'\", \"sh\", \"{name}\"]\n[triggers.in]\ndrop = \"inbox\"\nrun = \"t\"\nhidden = true\ndefault_ignores = false\n",
    );
    env.mkdir("inbox");
    env.start();
    let names: [&[u8]; 5] = [b"-rf", b"a\nb", b"\xff\xfe", b"$(touch x)'\"", b"{name}"];
    for name in names {
        fs::write(env.at("inbox").join(std::ffi::OsStr::from_bytes(name)), "x").unwrap();
    }
    env.await_ended(5);
    let mut seen: Vec<String> = (1..=5).map(|run| env.ok(&["logs", &format!("{run}/t")])).collect();
    seen.sort();
    let mut wanted: Vec<String> =
        names.iter().map(|name| name.iter().map(|b| format!("{b:02x}")).collect()).collect();
    wanted.sort();
    assert_eq!(seen, wanted);
}

#[test]
fn tables_go_through_the_database() {
    if !have("sqlite3") {
        return;
    }
    let mut env = Env::new(
        r#"
[tasks.checksum]
command = ["sha256sum", "{path}"]
[tasks.load]
needs = ["checksum"]
command = ["sqlite3", "-bail", "{dir}/orders.db", ".mode csv", ".import '{path}' {stem}"]
uses = { db = 1 }
[tasks.count]
needs = ["load"]
command = ["sqlite3", "{dir}/orders.db", "select count(*) from {stem}"]
uses = { db = 1 }
[pools]
db = 1
[triggers.in]
drop = "inbox"
include = ["*.csv"]
run = "checksum+"
move = "done/{date:%Y}/"
"#,
    );
    env.mkdir("inbox");
    env.start();
    for n in 1..=20 {
        let rows: String = (0..n).map(|row| format!("{row},value {row}\n")).collect();
        fs::write(env.at(&format!("inbox/t{n}.csv")), format!("id,text\n{rows}")).unwrap();
    }
    env.await_ended(20);
    for run in env.runs() {
        assert_eq!(run["state"], "succeeded", "{run}");
        let id = run["id"].to_string();
        let name = run["files"][0]["rel"].as_str().unwrap();
        let n: u32 = name.trim_start_matches('t').trim_end_matches(".csv").parse().unwrap();
        assert_eq!(env.ok(&["logs", &format!("{id}/count")]).trim(), n.to_string());
    }
}
