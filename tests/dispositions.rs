//! What becomes of files, as people see it: taken away before the run, deleted, kept, in quarantine,
//! and not to be moved yet.

#![expect(clippy::unwrap_used, reason = "a test ends at the first thing that goes wrong")]

#[expect(dead_code, reason = "a part of the harness is enough here")]
mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::Env;
use common::faults::Faults;
use serde_json::Value;

/// Notes what the task is told; fails for what says so; waits for leave to go on.
const TASK: &str = r#"
[tasks.t]
shell = '''
echo "$DAGD_PATH $DAGD_REL $(cat "$DAGD_PATH") $(tr '\0' '|' < "$DAGD_FILES_NUL")" >> log
until [ ! -e wait ]; do sleep 0.02; done
if grep -q bad "$DAGD_PATH"; then exit 1; fi
'''
cwd = "{dir}"
[tasks.names]
command = ["sh", "-c", 'echo "$@" >> names', "sh", "{path}", "{rel}", "{name}", "{root}", "{dir}"]
cwd = "{dir}"
[triggers.in]
drop = "inbox"
include = ["*.csv"]
run = "*"
"#;

fn world(trigger: &str) -> Env {
    // In the task, `{dir}` is the file's folder; the harness takes it for its own.
    let task = TASK.replace(r#""{root}", "{dir}"]"#, r#""{root}"]"#);
    let env = Env::new(&format!("{task}{trigger}\n"));
    env.mkdir("inbox");
    env
}

fn drop_file(env: &Env, name: &str, content: &str) -> PathBuf {
    let (temporary, path) = (env.at("producing"), env.at("inbox").join(name));
    fs::write(&temporary, content).unwrap();
    fs::rename(&temporary, &path).unwrap();
    path
}

fn lines(env: &Env, file: &str) -> Vec<String> {
    let text = fs::read_to_string(env.at(file)).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn explained(env: &Env, path: &Path) -> (String, String) {
    let told = env.json(&["explain", path.to_str().unwrap()]);
    let one = &told["triggers"][0];
    let text = |key: &str| one[key].as_str().unwrap().to_owned();
    (text("verdict"), text("text"))
}

fn refused(env: &Env, args: &[&str]) -> String {
    let output = env.run(args);
    assert!(!output.status.success(), "{output:?}");
    String::from_utf8(output.stderr).unwrap()
}

fn trigger(env: &Env) -> Value {
    env.json(&["status"])["triggers"][0].clone()
}

#[test]
fn a_file_is_taken_away_before_its_first_task() {
    let mut env = world("pre_move = \"work/{run}-{name}\"\nmove = \"done/\"");
    env.start();
    fs::write(env.at("wait"), "").unwrap();
    drop_file(&env, "a.csv", "one");
    env.wait("the first", || lines(&env, "log").len() == 1);
    // Its path is free: another one is another run, side by side.
    drop_file(&env, "a.csv", "two");
    env.wait("the second", || lines(&env, "log").len() == 2);
    let dir = env.path().display();
    let expected = |run: u32, content: &str| {
        let path = format!("{dir}/work/{run}-a.csv");
        format!("{path} a.csv {content} {path}|")
    };
    assert_eq!(lines(&env, "log"), [expected(1, "one"), expected(2, "two")]);
    let inbox = format!("{dir}/inbox");
    let expected = |run: u32| format!("{dir}/work/{run}-a.csv a.csv a.csv {inbox}");
    assert_eq!(lines(&env, "names"), [expected(1), expected(2)]);
    assert_eq!((names(&env.at("inbox")), names(&env.at("work")).len()), (vec![], 2));
    let show = env.json(&["show", "1"]);
    assert!(show["files"][0]["moved_to"]["path"].as_str().unwrap().ends_with("work/1-a.csv"));
    assert_eq!(show["files"][0]["outcome"], "moved");
    fs::remove_file(env.at("wait")).unwrap();
    env.await_ended(2);
    assert_eq!((names(&env.at("work")).len(), names(&env.at("done")).len()), (0, 2));
    assert!(env.stop());
}

#[test]
fn what_was_taken_away_and_failed_is_found_again() {
    let mut env = world("pre_move = \"work/\"\nmove = \"done/\"");
    env.start();
    let path = drop_file(&env, "a.csv", "bad");
    env.await_ended(1);
    assert_eq!((names(&env.at("work")), names(&env.at("done"))), (vec!["a.csv".into()], vec![]));
    assert_eq!(trigger(&env)["quarantined"], 0, "it is not where it came in");
    let (verdict, text) = explained(&env, &path);
    assert!(verdict == "delivered" && text.contains("work/a.csv"), "{text}");
    // Mended where it lies, which keeps its time and size as far as a retry looks.
    env.ok(&["retry", "1"]);
    env.await_ended(2);
    assert_eq!(env.runs()[0]["state"], "failed");
    assert_eq!(lines(&env, "log").len(), 2);
    assert!(lines(&env, "log")[1].contains("work/a.csv a.csv bad"));
    assert_eq!(names(&env.at("work")), ["a.csv"], "not taken away once more");
    assert!(env.stop());
}

#[test]
#[cfg(debug_assertions)]
fn what_is_another_version_by_then_is_not_run_for() {
    for (what, states) in [("replaced", &["succeeded", "cancelled"][..]), ("gone", &["cancelled"])]
    {
        let mut env = world("pre_move = \"work/\"\nmove = \"done/\"");
        env.start();
        env.kill();
        let path = drop_file(&env, "a.csv", "one");
        // It dies with the claim and the plan recorded, before the first thing is done about them.
        let mut command = env.command(&["run"]);
        env.spawn(command.env("DAGD_FAILPOINT", "dispose.begun:1"));
        env.await_end();
        if what == "replaced" {
            drop_file(&env, "a.csv", "another");
        } else {
            fs::remove_file(&path).unwrap();
        }
        env.start();
        env.wait("both runs", || {
            let runs = env.runs();
            runs.len() == states.len() && runs.iter().zip(states).all(|(run, s)| run["state"] == *s)
        });
        let show = env.json(&["show", "1"]);
        let word = if what == "replaced" { "superseded" } else { "gone" };
        assert_eq!(show["files"][0]["outcome"], word, "{show}");
        assert!(show["tasks"].as_array().unwrap().iter().all(|task| task["cause"] == word));
        assert!(
            show["tasks"].as_array().unwrap().iter().all(|t| t["attempts"] == Value::Array(vec![]))
        );
        let delivered = lines(&env, "log");
        assert_eq!(delivered.len(), states.len() - 1, "{delivered:?}");
        assert!(delivered.iter().all(|line| line.contains("another")));
        assert!(env.stop());
    }
}

/// A daemon that is killed between the end of the task and the first thing that is done about its
/// file.
#[cfg(debug_assertions)]
fn killed_before_the_move(keys: &str) -> (Env, PathBuf) {
    let mut env = world(keys);
    env.start();
    env.kill();
    let path = drop_file(&env, "a.csv", "one");
    let mut command = env.command(&["run"]);
    env.spawn(command.env("DAGD_FAILPOINT", "dispose.begun:1"));
    env.await_end();
    assert_eq!((lines(&env, "log").len(), names(&env.at("inbox")).len()), (1, 1));
    (env, path)
}

#[test]
#[cfg(debug_assertions)]
fn what_is_replaced_between_its_task_and_its_move_is_delivered_and_not_moved_away() {
    for keys in ["move = \"done/\"", "delete = true"] {
        for how in ["renamed over", "written over"] {
            let (mut env, path) = killed_before_the_move(keys);
            match how {
                "renamed over" => drop(drop_file(&env, "a.csv", "two")),
                _ => fs::write(&path, "two").unwrap(),
            }
            env.start();
            // The end of the first, and of the new one.
            env.await_ended(2);
            env.await_idle();
            let context = format!("{keys}, {how}: {}", env.json(&["runs"]));
            let files = |run: &str| env.json(&["show", run])["files"][0]["outcome"].clone();
            let done = if keys.starts_with("move") { "moved" } else { "deleted" };
            assert_eq!((files("1"), files("2")), ("superseded".into(), done.into()), "{context}");
            assert!(env.runs().iter().all(|run| run["state"] == "succeeded"), "{context}");
            assert_eq!((env.runs().len(), env.counter("moves_superseded")), (2, 1), "{context}");
            let log = lines(&env, "log");
            assert!(log.len() == 2 && log[1].contains(" a.csv two "), "{context}: {log:?}");
            assert_eq!(names(&env.at("inbox")), [""; 0], "{context}");
            if done == "moved" {
                assert_eq!(names(&env.at("done")), ["a.csv"], "{context}");
                assert_eq!(fs::read_to_string(env.at("done/a.csv")).unwrap(), "two");
            }
            assert!(env.stop());
        }
    }
}

#[test]
#[cfg(debug_assertions)]
fn what_is_gone_between_its_task_and_its_move_is_told() {
    let (mut env, path) = killed_before_the_move("move = \"done/\"");
    fs::remove_file(&path).unwrap();
    env.start();
    env.await_ended(1);
    env.await_idle();
    assert_eq!((env.runs().len(), env.counter("moves_gone")), (1, 1));
    assert_eq!(env.runs()[0]["state"], "succeeded");
    assert_eq!(env.json(&["show", "1"])["files"][0]["outcome"], "gone");
    assert_eq!((lines(&env, "log").len(), names(&env.at("done")).len()), (1, 0));
    assert!(env.stop());
}

#[test]
fn a_file_is_deleted_after_a_success_and_that_is_told() {
    let mut env = world("delete = true");
    env.start();
    let good = drop_file(&env, "a.csv", "good");
    env.await_ended(1);
    drop_file(&env, "b.csv", "bad");
    env.await_ended(2);
    assert_eq!(names(&env.at("inbox")), ["b.csv"]);
    assert_eq!(env.json(&["show", "1"])["files"][0]["outcome"], "deleted");
    assert!(env.ok(&["show", "1"]).contains("deleted"));
    let (verdict, text) = explained(&env, &good);
    assert!(verdict == "delivered" && text.contains("dagd then deleted it"), "{text}");
    for args in [&["retry", "1"][..], &["replay", good.to_str().unwrap()]] {
        let text = refused(&env, args);
        assert!(text.contains("run 1 succeeded and deleted it"), "{text}");
    }
    assert!(env.stop());
}

#[test]
fn what_failed_and_stays_is_in_quarantine_until_it_changes() {
    let mut env = world("move = \"done/\"");
    env.start();
    let path = drop_file(&env, "a.csv", "bad");
    env.await_ended(1);
    assert_eq!((env.counter("runs_failed"), env.counter("runs_succeeded")), (1, 0));
    assert_eq!(trigger(&env)["quarantined"], 1);
    let (verdict, text) = explained(&env, &path);
    assert!(verdict == "quarantined" && text.contains("quarantined by run 1"), "{text}");
    // Neither a restart nor a reload has it run again.
    assert!(env.stop());
    env.start();
    env.ok(&["reload"]);
    env.await_idle();
    assert_eq!(env.runs().len(), 1);
    env.ok(&["retry", "1"]);
    env.await_ended(1);
    assert_eq!((env.runs().len(), trigger(&env)["quarantined"].clone()), (2, 1.into()));
    drop_file(&env, "a.csv", "good now");
    env.await_ended(2);
    assert_eq!(trigger(&env)["quarantined"], 0);
    assert_eq!(names(&env.at("done")), ["a.csv"]);
    assert!(env.stop());
}

#[test]
fn what_has_failed_as_often_as_it_may_is_in_quarantine_and_another_version_may_as_often() {
    let env = world("move = \"done/\"");
    let config = fs::read_to_string(env.at("dagd.toml")).unwrap();
    let retry = "[tasks.t]\nretry = { max = 1, delay = \"10ms\" }\n";
    fs::write(env.at("dagd.toml"), config.replacen("[tasks.t]\n", retry, 1)).unwrap();
    let mut env = env;
    env.start();
    for round in 1..=2 {
        let path = drop_file(&env, "a.csv", &format!("bad {round}"));
        env.await_ended(round);
        env.await_idle();
        assert_eq!(env.task(round, "t")["attempts"].as_array().unwrap().len(), 2);
        assert_eq!(lines(&env, "log").len() as u64, 2 * round);
        assert_eq!(
            (env.counter("runs_failed"), trigger(&env)["quarantined"].clone()),
            (round, 1.into())
        );
        assert_eq!(explained(&env, &path).0, "quarantined");
    }
    drop_file(&env, "a.csv", "good");
    env.await_ended(3);
    assert_eq!(env.task(3, "t")["attempts"].as_array().unwrap().len(), 1);
    assert_eq!(
        (trigger(&env)["quarantined"].clone(), names(&env.at("done"))),
        (0.into(), vec!["a.csv".into()])
    );
    assert!(env.stop());
}

#[test]
fn a_place_that_is_taken_is_told() {
    for (on_conflict, outcome, failed) in [("keep", "kept", 0), ("fail", "failed", 1)] {
        let mut env = world(&format!("move = \"done/\"\non_conflict = \"{on_conflict}\""));
        env.mkdir("done");
        fs::write(env.at("done/a.csv"), "other").unwrap();
        env.start();
        let path = drop_file(&env, "a.csv", "mine");
        env.await_ended(1);
        assert_eq!(env.runs()[0]["state"], "succeeded");
        assert_eq!(env.runs()[0]["files"][0]["outcome"], outcome);
        assert_eq!(env.counter("moves_failed"), failed);
        let (verdict, text) = explained(&env, &path);
        assert!(verdict == "delivered" && text.contains("its place"), "{text}");
        assert_eq!(fs::read_to_string(env.at("done/a.csv")).unwrap(), "other");
        assert_eq!(names(&env.at("inbox")), ["a.csv"]);
        // It was delivered, and stays: that is no reason to deliver it again.
        assert!(env.stop());
        env.start();
        env.await_idle();
        assert_eq!(env.runs().len(), 1);
        assert!(env.stop());
    }
}

/// Waits until the daemon says that it cannot move the file for this reason, wherever it is asked.
fn await_stuck(env: &Env, run: &str, path: &Path, why: &str) {
    env.wait("the trouble", || trigger(env)["stuck"] == 1);
    let told = trigger(env);
    let reason = told["reason"].as_str().unwrap();
    assert!(reason.starts_with("moving: ") && reason.contains(why), "{reason}");
    let problems = env.json(&["status"])["problems"].to_string();
    assert!(problems.contains("waits to be moved") && problems.contains(why), "{problems}");
    let pending = env.json(&["pending"]);
    assert_eq!(pending.as_array().unwrap().len(), 1, "{pending}");
    assert_eq!(
        (&pending[0]["stage"], &pending[0]["run"]),
        (&"moving".into(), &run.parse::<u64>().unwrap().into())
    );
    let show = env.json(&["show", run]);
    assert_eq!(show["files"][0]["outcome"], "moving", "{show}");
    assert!(show["files"][0]["move_error"].as_str().unwrap().contains(why), "{show}");
    assert!(env.ok(&["show", run]).contains(why));
    let (verdict, text) = explained(env, path);
    assert!(verdict == "moving" && text.contains(why), "{verdict}: {text}");
}

#[test]
fn a_full_target_holds_the_move_and_heals() {
    let mut env = world("move = \"far/\"");
    let Some(disk) = env.disk("far", "size=1m") else { return };
    disk.fill();
    env.start();
    let content = "x".repeat(20_000);
    let path = drop_file(&env, "a.csv", &content);
    await_stuck(&env, "1", &path, "No space left");
    assert_eq!(names(&env.at("inbox")), ["a.csv"], "it stays, and nothing else is there");
    // A stop takes its time only for tasks; the plan is as good after it, and after a crash.
    assert!(env.stop());
    env.start();
    await_stuck(&env, "1", &path, "No space left");
    env.kill();
    env.start();
    await_stuck(&env, "1", &path, "No space left");
    disk.free();
    env.await_ended(1);
    assert_eq!(names(&env.at("far")), ["a.csv"]);
    assert_eq!(names(&env.at("inbox")), [""; 0]);
    assert_eq!((env.runs()[0]["state"].clone(), lines(&env, "log").len()), ("succeeded".into(), 1));
    assert!(env.json(&["status"])["problems"].as_array().unwrap().is_empty());
    assert!(env.stop());
}

#[test]
fn a_target_that_cannot_be_written_holds_the_run_and_heals() {
    let mut env = world("pre_move = \"far/\"\nmove = \"done/\"");
    let Some(disk) = env.disk("far", "size=1m") else { return };
    disk.remount("ro");
    env.start();
    let path = drop_file(&env, "a.csv", "x");
    await_stuck(&env, "1", &path, "Read-only file system");
    assert_eq!(lines(&env, "log"), [""; 0], "nothing runs before");
    disk.remount("rw");
    env.await_ended(1);
    assert_eq!((names(&env.at("done")), names(&env.at("inbox"))), (vec!["a.csv".into()], vec![]));
    assert!(env.stop());
}

#[test]
fn a_target_that_fails_holds_the_move_and_heals() {
    let mut env = world("move = \"far/\"");
    let far = env.mkdir("far");
    env.start();
    for (run, calls) in ["renameat2,renameat,rename,linkat,link", "fsync"].into_iter().enumerate() {
        let name = format!("{run}.csv");
        let Some(faults) = Faults::io_error(&env, "EIO", calls, &[&far, &far.join(&name)]) else {
            return;
        };
        let path = drop_file(&env, &name, "x");
        await_stuck(&env, &(run + 1).to_string(), &path, "Input/output error");
        drop(faults);
        env.await_ended(run as u64 + 1);
        assert_eq!(names(&env.at("inbox")), [""; 0]);
    }
    assert_eq!(names(&far), ["0.csv", "1.csv"]);
    assert_eq!(lines(&env, "log").len(), 2);
    assert!(env.json(&["status"])["problems"].as_array().unwrap().is_empty());
    assert!(env.stop());
}

#[test]
fn what_cannot_be_moved_can_be_given_up() {
    let mut env = world("move = \"far/\"");
    let Some(disk) = env.disk("far", "size=1m") else { return };
    disk.remount("ro");
    env.start();
    let path = drop_file(&env, "a.csv", "x");
    await_stuck(&env, "1", &path, "Read-only file system");
    env.wait("a pause between tries", || env.run(&["cancel", "1"]).status.success());
    env.await_ended(1);
    let run = &env.runs()[0];
    assert_eq!(
        (&run["state"], &run["files"][0]["outcome"]),
        (&"succeeded".into(), &"failed".into())
    );
    assert!(run["files"][0]["move_error"].as_str().unwrap().contains("Read-only"), "{run}");
    assert_eq!(names(&env.at("inbox")), ["a.csv"]);
    disk.remount("rw");
    assert!(env.stop());
}

#[test]
fn what_will_never_be_moved_is_told_at_once() {
    let mut env = world("pre_move = \"file/below/\"");
    fs::write(env.at("file"), "").unwrap();
    env.start();
    let path = drop_file(&env, "a.csv", "x");
    env.await_ended(1);
    let run = &env.runs()[0];
    assert_eq!((&run["state"], &run["files"][0]["outcome"]), (&"failed".into(), &"failed".into()));
    let error = run["files"][0]["move_error"].as_str().unwrap();
    assert!(error.contains("part of the target's path is a file"), "{error}");
    assert_eq!(lines(&env, "log"), [""; 0], "nothing runs before");
    assert_eq!(trigger(&env)["quarantined"], 1);
    let (verdict, text) = explained(&env, &path);
    assert!(verdict == "quarantined" && text.contains("part of the target's path"), "{text}");
    fs::remove_file(env.at("file")).unwrap();
    env.ok(&["retry", "1"]);
    env.await_ended(2);
    assert_eq!(names(&env.at("file/below")), ["a.csv"]);
    assert!(env.stop());
}
