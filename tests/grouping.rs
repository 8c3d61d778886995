//! Files that become runs together, under a real daemon: by folder, by key, as sets, in their order,
//! and as many as the rate allows.

#![expect(clippy::unwrap_used, reason = "a test ends at the first thing that goes wrong")]

#[expect(dead_code, reason = "a part of the harness is enough here")]
mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use common::Env;

fn started(tasks: &str, trigger: &str) -> Env {
    let mut env = Env::new(&format!("[tasks.t]\n{tasks}\n[triggers.in]\nrun = \"t\"\n{trigger}\n"));
    env.mkdir("inbox");
    env.start();
    env
}

/// A task that notes its files, and then waits until its gate is open.
const GATED: &str = r#"
shell = "echo $DAGD_RUN $(tr '\\0' '\\n' < $DAGD_FILES_NUL | sed 's,.*/,,') >> log; until [ -e go ]; do sleep 0.02; done"
cwd = "{dir}""#;

fn put(env: &Env, rel: &str, content: &str) {
    let path = env.at("inbox").join(rel);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    // Complete at once, as if moved in.
    let beside = env.at("beside");
    fs::write(&beside, content).unwrap();
    fs::rename(beside, path).unwrap();
}

fn log(env: &Env) -> Vec<String> {
    let text = fs::read_to_string(env.at("log")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

fn of_trigger(env: &Env, key: &str) -> u64 {
    env.json(&["status"])["triggers"][0][key].as_u64().unwrap()
}

/// What each run was for, as the history has it.
fn files_of_runs(env: &Env) -> BTreeMap<u64, Vec<String>> {
    let mut runs = BTreeMap::new();
    for run in env.runs() {
        let files = run["files"].as_array().unwrap().iter();
        let rels = files.map(|file| file["rel"].as_str().unwrap().to_owned());
        runs.insert(run["id"].as_u64().unwrap(), rels.collect());
    }
    runs
}

fn explained(env: &Env, rel: &str) -> (String, String) {
    let path = env.at("inbox").join(rel);
    let told = env.json(&["explain", path.to_str().unwrap()]);
    let text = |key: &str| told["triggers"][0][key].as_str().unwrap().to_owned();
    (text("verdict"), text("text"))
}

#[test]
fn each_folder_has_a_run_with_its_files_in_their_order() {
    let mut env = Env::new(
        r#"
[tasks.t]
shell = "printf '%s %s %s\n' \"$DAGD_KEY\" \"$DAGD_DIR\" \"$(tr '\\0' ' ' < $DAGD_FILES_NUL)\" >> log"
cwd = "{dir}"
[tasks.args]
command = ["sh", "-c", "echo \"$@\" >> args", "args", "{paths}"]
cwd = "{dir}"
[triggers.in]
drop = "inbox"
recursive = true
fan_out = "dir"
batch_max_files = 5
batch_max_wait = "1h"
sort_by = "-name"
max_runs = 1
run = "t, args"
"#,
    );
    env.mkdir("inbox");
    // Some are there before dagd is, some come later; the files of a folder come far apart.
    for name in 0..5 {
        for dir in 0..10 {
            put(&env, &format!("d{dir}/f{name}"), "x");
        }
    }
    env.start();
    for name in 0..5 {
        for dir in 10..20 {
            put(&env, &format!("d{dir}/f{name}"), "x");
        }
        put(&env, &format!("f{name}"), "x");
    }
    env.await_ended(21);
    env.await_idle();
    let inbox = env.at("inbox").display().to_string();
    let line = |dir: &str, below: &str| {
        let files = (0..5).rev().map(|name| format!("{inbox}{below}/f{name} "));
        (format!("{dir} {inbox}{below}"), files.collect::<String>())
    };
    let mut expected: BTreeSet<_> =
        (0..20).map(|dir| line(&format!("d{dir}"), &format!("/d{dir}"))).collect();
    expected.insert(line("", ""));
    let told: BTreeSet<String> = log(&env).into_iter().collect();
    let whole: BTreeSet<String> =
        expected.iter().map(|(dir, files)| format!("{dir} {files}")).collect();
    assert_eq!(told, whole);
    let args = fs::read_to_string(env.at("args")).unwrap();
    let args: BTreeSet<String> = args.lines().map(|line| format!("{line} ")).collect();
    assert_eq!(args, expected.into_iter().map(|(_, files)| files).collect());
}

#[test]
fn a_set_is_delivered_when_it_is_whole_and_told_of_until_then() {
    let set = r#"drop = "inbox"
set = ["*.csv", "*.xml"]
set_key = "^([0-9]+)[.]""#;
    let mut env = started("command = [\"true\"]", set);
    put(&env, "1.csv", "x");
    put(&env, "2.csv", "x");
    put(&env, "a.csv", "x");
    env.wait("two halves", || of_trigger(&env, "pending") == 2);
    let (verdict, text) = explained(&env, "1.csv");
    assert_eq!(verdict, "pending");
    assert!(
        text.contains("waiting_set: no file of its key that is ready matches `*.xml`"),
        "{text}"
    );
    let (verdict, text) = explained(&env, "a.csv");
    assert_eq!(verdict, "ignored");
    assert!(text.contains("set_key: `^([0-9]+)[.]` does not match"), "{text}");
    put(&env, "1.txt", "x");
    env.wait("a file that completes nothing", || of_trigger(&env, "pending") == 3);
    put(&env, "1.xml", "x");
    env.await_ended(1);
    assert_eq!(of_trigger(&env, "pending"), 1, "the other half goes on waiting");
    // A half survives a crash: the folder is its memory.
    env.kill();
    env.start();
    env.wait("the half once more", || of_trigger(&env, "pending") == 1);
    // One that goes is no member any more.
    fs::remove_file(env.at("inbox/2.csv")).unwrap();
    env.wait("nothing", || of_trigger(&env, "pending") == 0);
    put(&env, "2.xml", "x");
    env.wait("the other member", || of_trigger(&env, "pending") == 1);
    let (_, text) = explained(&env, "2.xml");
    assert!(text.contains("matches `*.csv`"), "{text}");
    put(&env, "2.csv", "y");
    env.await_ended(1);
    env.await_idle();
    let runs = files_of_runs(&env);
    let sorted = |run: u64| runs[&run].iter().map(String::as_str).collect::<BTreeSet<_>>();
    assert_eq!(runs.len(), 2, "{runs:?}");
    assert_eq!(sorted(1), ["1.csv", "1.txt", "1.xml"].into());
    assert_eq!(sorted(2), ["2.csv", "2.xml"].into());
}

#[test]
fn a_rate_delays_and_begins_anew_with_the_daemon() {
    let rate = "drop = \"inbox\"\nrate_limit = \"2/d\"";
    let mut env = started("command = [\"true\"]", rate);
    for name in ["a", "b", "c", "d", "e"] {
        put(&env, name, "x");
    }
    env.await_ended(2);
    env.wait("the rest", || of_trigger(&env, "queued") == 3);
    let (verdict, text) = explained(&env, "e");
    assert_eq!(verdict, "queued");
    assert!(text.contains("rate_limited: the next run may start at "), "{text}");
    let fired = env.json(&["fire", "in"]);
    assert_eq!((&fired["run"].is_null(), &fired["item"].is_u64()), (&true, &true), "{fired}");
    let pending = env.json(&["pending"]);
    let by_hand = pending.as_array().unwrap().iter().find(|entry| entry["file"].is_null());
    let reason = by_hand.unwrap()["reason"].as_str().unwrap();
    assert!(reason.starts_with("manual: rate_limited: "), "{reason}");
    assert_eq!(env.runs().len(), 2, "nobody was let through");
    assert!(env.stop());
    env.start();
    env.await_ended(2);
    env.wait("the rest", || of_trigger(&env, "queued") == 2);
    assert_eq!(env.runs().len(), 4);
    assert!(env.stop());
    env.start();
    env.await_ended(2);
    env.await_idle();
    let runs = files_of_runs(&env);
    let delivered: BTreeSet<&str> = runs.values().flatten().map(String::as_str).collect();
    assert_eq!(delivered, ["a", "b", "c", "d", "e"].into(), "nothing was dropped");
    assert_eq!(runs.len(), 6, "each once, and the one by hand");
}

#[test]
fn what_waits_is_admitted_in_its_order() {
    let sorted = "drop = \"inbox\"\nmax_runs = 1\nsort_by = [\"-size\", \"name\"]";
    let env = started(GATED, sorted);
    put(&env, "first", "x");
    env.wait("the first run", || log(&env).len() == 1);
    for (name, content) in [("small", "x"), ("b", "xx"), ("a", "xx"), ("large", "xxx")] {
        put(&env, name, content);
    }
    env.wait("four files", || of_trigger(&env, "queued") == 4);
    fs::write(env.at("go"), "").unwrap();
    env.await_ended(5);
    assert_eq!(log(&env), ["1 first", "2 large", "3 a", "4 b", "5 small"]);
}

#[test]
fn a_busy_key_gets_one_follow_up_and_others_do_not_wait() {
    let keyed = r#"drop = "inbox"
fan_out = "key"
set_key = "^[a-z]+"
settle = "50ms"
on_overlap = "coalesce"
sort_by = "name""#;
    let env = started(GATED, keyed);
    put(&env, "a1", "x");
    env.wait("the first run", || log(&env) == ["1 a1"]);
    put(&env, "a2", "x");
    put(&env, "a1", "another version");
    put(&env, "a3", "x");
    put(&env, "b1", "x");
    env.wait("a run of the other key", || log(&env) == ["1 a1", "2 b1"]);
    env.wait("what waits for its key", || of_trigger(&env, "queued") == 2);
    fs::write(env.at("go"), "").unwrap();
    env.await_ended(3);
    env.await_idle();
    let runs = files_of_runs(&env);
    // The version that came meanwhile is looked at when its run has ended.
    let later: Vec<&String> = runs.iter().filter(|(id, _)| **id > 2).flat_map(|(_, f)| f).collect();
    assert_eq!(later.iter().filter(|rel| **rel == "a1").count(), 1, "{runs:?}");
    assert!(later.iter().any(|rel| *rel == "a2") && later.len() == 3, "{runs:?}");
}

/// Killed whenever it pleases, dagd delivers every file of every folder, whole folders at a time.
#[test]
fn folders_survive_crashes() {
    let dir = r#"drop = "inbox"
recursive = true
fan_out = "dir"
batch_max_files = 4
batch_max_wait = "1h"
move = "{dir}/done/""#;
    let mut env = started("command = [\"true\"]", dir);
    for round in 0..4 {
        for dir in 0..10 {
            for name in 0..4 {
                put(&env, &format!("{round}.{dir}/f{name}"), "x");
            }
        }
        env.wait("some runs", || env.counter("runs_created") >= 3);
        env.kill();
        env.start();
    }
    env.await_idle();
    let left = fs::read_dir(env.at("inbox")).unwrap().flatten();
    let left = left.flat_map(|dir| fs::read_dir(dir.path()).unwrap().flatten()).count();
    assert_eq!(left, 0, "all were moved");
    let done = fs::read_dir(env.at("done")).unwrap().flatten();
    for dir in done {
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 4, "{:?}", dir.path());
    }
    for (run, files) in files_of_runs(&env) {
        let dirs: BTreeSet<&str> = files.iter().map(|rel| rel.split_once('/').unwrap().0).collect();
        assert_eq!(dirs.len(), 1, "run {run} is for one folder: {files:?}");
    }
}
