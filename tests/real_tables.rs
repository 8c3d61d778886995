//! Real tables through the whole of the main job: dropped in every way, summed, loaded, one branch
//! failing with its alert, moved, retried, explained.
//!
//! The tables are those of a package of public data sets, which `tests/run` fetches into the target
//! folder; without a network there are none, and this is skipped aloud.

#![expect(clippy::unwrap_used, reason = "a test ends at the first thing that goes wrong")]

#[expect(dead_code, reason = "a part of the harness is enough here")]
mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{Env, have, say_skipped};
use serde_json::Value;

const CONFIG: &str = r#"
[pools]
database = 1
[tasks.checksum]
command = ["sha256sum", "{path}"]
[tasks.load]
needs = ["checksum"]
command = ["sqlite3", "-bail", "{dir}/tables.db", "drop table if exists \"{stem}\"", ".mode csv", ".import '{path}' '{stem}'"]
uses = { database = 1 }
[tasks.count]
needs = ["load"]
command = ["sqlite3", "{dir}/tables.db", "select count(*) from \"{stem}\""]
uses = { database = 1 }
[tasks.publish]
needs = ["checksum"]
shell = "if [ -e \"held/$DAGD_REL\" ]; then echo held >&2; exit 1; fi; echo \"$DAGD_REL\" >> published"
cwd = "{dir}"
[tasks.alert]
needs = ["count", "publish"]
rule = "one_failed"
command = ["echo", "{name} failed in {failed}"]
[triggers.tables]
drop = "inbox"
include = ["*.csv"]
run = "checksum+"
move = "done/"
move_failed = "failed/"
"#;

/// The tables, by name.
fn tables() -> Vec<PathBuf> {
    let usual = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/test-data/vega_datasets/_data");
    let folder = std::env::var_os("DAGD_TABLES").map_or(usual, PathBuf::from);
    let entries = fs::read_dir(folder).into_iter().flatten();
    let mut found: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    found.retain(|path| path.extension().is_some_and(|ext| ext == "csv"));
    found.sort();
    found
}

/// Records behind the first line, as RFC 4180 counts them.
fn rows(table: &Path) -> usize {
    let bytes = fs::read(table).unwrap();
    let mut quoted = false;
    let mut rows = 0;
    for &byte in &bytes {
        quoted ^= byte == b'"';
        rows += usize::from(byte == b'\n' && !quoted);
    }
    rows + usize::from(!bytes.ends_with(b"\n")) - 1
}

fn prints(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output().unwrap();
    assert!(output.status.success(), "{program} {args:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn name(path: &Path) -> String {
    path.file_name().unwrap().to_str().unwrap().to_owned()
}

fn states(run: &Value) -> BTreeMap<&str, &str> {
    let tasks = run["tasks"].as_array().unwrap().iter();
    tasks.map(|task| (task["name"].as_str().unwrap(), task["state"].as_str().unwrap())).collect()
}

/// `cp`, `mv`, a temporary name that is renamed, and a hard link, in turn.
fn drop_into(inbox: &Path, staging: &Path, table: &Path, way: usize) {
    let target = inbox.join(name(table)).display().to_string();
    let source = table.to_str().unwrap();
    let staged = staging.join(name(table)).display().to_string();
    prints("cp", &[source, &staged]);
    match way % 4 {
        0 => prints("cp", &[source, &target]),
        1 => prints("mv", &[&staged, &target]),
        2 => {
            let temporary = format!("{target}.part");
            prints("cp", &[source, &temporary]);
            prints("mv", &[&temporary, &target])
        }
        _ => prints("ln", &[&staged, &target]),
    };
}

/// Verdict, history, moves, logs, rows and story of the one run of a table.
fn all_is_right(env: &Env, runs: &[Value], table: &Path, held: &[String]) {
    let database = env.at("tables.db").display().to_string();
    let name = name(table);
    let run = runs.iter().find(|run| run["files"][0]["rel"] == *name).unwrap();
    let id = run["id"].to_string();
    let detail = env.json(&["show", &id]);
    let bad = held.contains(&name);
    let (state, folder) = if bad { ("failed", "failed") } else { ("succeeded", "done") };
    assert_eq!(run["state"], state, "{name}, although its alert succeeds: {detail:#}");
    let (publish, alert) = if bad { ("failed", "succeeded") } else { ("succeeded", "skipped") };
    let wanted = [
        ("alert", alert),
        ("checksum", "succeeded"),
        ("count", "succeeded"),
        ("load", "succeeded"),
        ("publish", publish),
    ];
    assert_eq!(states(&detail), wanted.into(), "{name}");
    // It is where its verdict took it, unchanged.
    let moved = env.at(folder).join(&name);
    assert_eq!(run["files"][0]["moved_to"]["path"], moved.display().to_string());
    assert!(!env.at("inbox").join(&name).exists(), "{name}");
    assert_eq!(fs::read(&moved).unwrap(), fs::read(table).unwrap(), "{name}");
    // Its logs are what its commands found.
    let sum = prints("sha256sum", &[table.to_str().unwrap()]);
    let logged = env.ok(&["logs", &format!("{id}/checksum")]);
    assert_eq!(logged.split(' ').next(), sum.split(' ').next(), "{name}");
    let rows = rows(table);
    assert!(rows > 10, "{name}: {rows}");
    assert_eq!(env.ok(&["logs", &format!("{id}/count")]), format!("{rows}\n"), "{name}");
    let stem = name.trim_end_matches(".csv");
    let counted = prints("sqlite3", &[&database, &format!("select count(*) from \"{stem}\"")]);
    assert_eq!(counted, format!("{rows}\n"), "{name}");
    let story = env.ok(&["explain", &format!("inbox/{name}")]);
    let told = format!("delivered to run {id}, which {state}; it was moved to {}", moved.display());
    assert!(story.contains(&told), "{story}");
    let story = env.ok(&["explain", &format!("{folder}/{name}")]);
    assert!(story.contains(&format!("run {id}, which {state}, moved it here")), "{story}");
    if bad {
        let alert = env.ok(&["logs", &format!("{id}/alert")]);
        assert_eq!(alert, format!("{name} failed in publish\n"));
        assert_eq!(env.ok(&["logs", &format!("{id}/publish")]), "held\n");
        let story = env.ok(&["explain", &format!("{id}/publish")]);
        assert!(story.contains("failed after 1 attempt, the last with exit 1"), "{story}");
    }
}

/// A retry of the failed run of a table finds it where it went.
fn a_retry_finishes(env: &Env, runs: &[Value], name: &str) {
    let run = runs.iter().find(|run| run["files"][0]["rel"] == *name).unwrap();
    let id = run["id"].to_string();
    let told = env.ok(&["retry", &id, "--failed", "--wait"]);
    let again = told.split(' ').nth(1).unwrap();
    assert_eq!(told, format!("run {again} succeeded\n"));
    let detail = env.json(&["show", again]);
    assert_eq!((&detail["reason"], &detail["parent"]), (&"retry".into(), &run["id"]));
    let tried: BTreeMap<&str, usize> = detail["tasks"]
        .as_array()
        .unwrap()
        .iter()
        .map(|t| (t["name"].as_str().unwrap(), t["attempts"].as_array().unwrap().len()))
        .collect();
    let wanted = [("alert", 0), ("checksum", 0), ("count", 0), ("load", 0), ("publish", 1)];
    assert_eq!(tried, wanted.into(), "only what failed, and what depends on it");
    assert!(env.at("done").join(name).is_file() && !env.at("failed").join(name).exists());
    let story = env.ok(&["explain", &format!("inbox/{name}")]);
    let done = env.at("done").join(name).display().to_string();
    assert!(story.contains(&format!("run {again}, which succeeded")), "{story}");
    assert!(story.contains(&done), "{story}");
}

#[test]
fn real_tables_dropped_loaded_failed_and_retried() {
    let tables = tables();
    if tables.len() < 8 {
        say_skipped("there are no real tables; tests/run fetches them from PyPI");
        return;
    }
    if !have("sqlite3") {
        return;
    }
    let mut env = Env::new(CONFIG);
    let (inbox, staging) = (env.mkdir("inbox"), env.mkdir("staging"));
    let held: Vec<String> = tables.iter().step_by(3).map(|table| name(table)).collect();
    env.mkdir("held");
    for name in &held {
        fs::write(env.at("held").join(name), "").unwrap();
    }
    env.start();
    for (way, table) in tables.iter().enumerate() {
        drop_into(&inbox, &staging, table, way);
    }
    let number = u64::try_from(tables.len()).unwrap();
    env.await_ended(number);
    env.await_idle();

    let runs = env.runs();
    assert_eq!(runs.len(), tables.len(), "each file exactly once: {runs:#?}");
    for table in &tables {
        all_is_right(&env, &runs, table, &held);
    }

    // The obstacle is gone: a retry finds each file where it went, and finishes.
    fs::remove_dir_all(env.at("held")).unwrap();
    for name in &held {
        a_retry_finishes(&env, &runs, name);
    }
    let published = fs::read_to_string(env.at("published")).unwrap();
    let mut published: Vec<&str> = published.lines().collect();
    published.sort_unstable();
    assert_eq!(published, tables.iter().map(|table| name(table)).collect::<Vec<_>>());
    assert_eq!(env.runs().len(), tables.len() + held.len());
}
