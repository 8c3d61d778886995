//! By option, a change of the configuration's own files is a reload.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use serde_json::Value;

use crate::common::Env;
use crate::common::process::held;

const DAEMON: &str = "[daemon]\nreload_on_change = true\n";

fn config(task: &str) -> String {
    format!("{DAEMON}[tasks.{task}]\ncommand = [\"true\"]\n")
}

/// The last reload.
fn last(env: &Env) -> Value {
    env.json(&["status"])["reload"].clone()
}

fn await_text(env: &Env, part: &str) {
    env.wait(part, || {
        env.hear();
        last(env)["text"].as_str().is_some_and(|text| text.contains(part))
    });
}

/// Writes a part of the configuration in place.
fn put(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

fn part(task: &str) -> String {
    format!("[tasks.{task}]\ncommand = [\"true\"]\n")
}

#[test]
fn files_that_change_come_and_go() {
    let mut env = Env::new(&config("one"));
    env.start();
    assert_eq!(last(&env), Value::Null);
    // Another file takes its place, as editors do it.
    env.configure(&config("two"));
    await_text(&env, "+ task two");
    assert_eq!(last(&env)["cause"], "change");
    // It is written in place: nothing is read before its writer is done.
    let text = fs::read_to_string(env.at("dagd.toml")).unwrap();
    let mut file = fs::File::create(env.at("dagd.toml")).unwrap();
    file.write_all(&text.as_bytes()[..text.len() / 2]).unwrap();
    // The folder of parts comes, and a part in it, while that goes on.
    env.mkdir("conf.d");
    fs::set_permissions(env.at("conf.d"), fs::Permissions::from_mode(0o700)).unwrap();
    put(&env.at("conf.d/a.toml"), &part("three"));
    file.write_all(&text.as_bytes()[text.len() / 2..]).unwrap();
    drop(file);
    await_text(&env, "+ task three");
    assert!(!env.log().contains("reload failed"), "no half of a file was read: {}", env.log());
    put(&env.at("conf.d/b.toml"), &part("four"));
    await_text(&env, "+ task four");
    fs::rename(env.at("conf.d/b.toml"), env.at("conf.d/b.off")).unwrap();
    await_text(&env, "- task four");
    fs::remove_file(env.at("conf.d/a.toml")).unwrap();
    await_text(&env, "- task three");
    fs::remove_dir_all(env.at("conf.d")).unwrap();
    env.mkdir("conf.d");
    fs::set_permissions(env.at("conf.d"), fs::Permissions::from_mode(0o700)).unwrap();
    put(&env.at("conf.d/c.toml"), &part("five"));
    await_text(&env, "+ task five");
    assert!(env.stop());
}

#[test]
fn one_that_is_not_valid_is_told_once_and_changes_nothing() {
    let mut env = Env::new(&config("one"));
    env.start();
    let failures = || env.log().matches("reload failed").count();
    env.configure(&config("two").replace("command", "comand"));
    await_text(&env, "comand");
    assert_eq!(last(&env)["ok"], false);
    let at = last(&env)["at"].clone();
    // The same once more is no news, whatever is done to the file.
    let text = fs::read(env.at("dagd.toml")).unwrap();
    for _ in 0..5 {
        fs::write(env.at("dagd.toml"), &text).unwrap();
    }
    // What somebody asks for is answered all the same.
    assert_eq!(env.run(&["reload"]).status.code(), Some(78));
    assert_ne!(last(&env)["at"], at);
    assert_eq!(failures(), 2, "{}", env.log());
    env.configure(&config("two"));
    await_text(&env, "+ task two");
    assert_eq!(failures(), 2);
    // What was asked for and read is not read once more because of its change.
    env.configure(&config("three"));
    env.run(&["reload"]);
    env.wait("the third task", || env.log().contains("+ task three"));
    env.configure(&config("four"));
    await_text(&env, "+ task four");
    let log = env.log();
    assert_eq!(log.matches("+ task three").count(), 1, "{log}");
    assert!(env.stop());
}

#[test]
fn links_are_followed_and_files_beside_do_not_count() {
    let mut env = Env::new("");
    let text = fs::read_to_string(env.at("dagd.toml")).unwrap();
    let text = text.replace("[daemon]\n", DAEMON);
    // As configurations are mounted into containers: all of them change at once.
    for (version, task) in [("v1", "one"), ("v2", "two")] {
        env.mkdir(version);
        put(&env.at(&format!("{version}/dagd.toml")), &(text.clone() + &part(task)));
    }
    fs::remove_file(env.at("dagd.toml")).unwrap();
    symlink("v1", env.at("..data")).unwrap();
    symlink("..data/dagd.toml", env.at("dagd.toml")).unwrap();
    env.start();
    symlink("v2", env.at("..next")).unwrap();
    fs::rename(env.at("..next"), env.at("..data")).unwrap();
    await_text(&env, "+ task two");
    fs::write(env.at("other.toml"), "nonsense").unwrap();
    // The file itself, where the links lead.
    let last_text = fs::read_to_string(env.at("v2/dagd.toml")).unwrap();
    put(&env.at("v2/dagd.toml"), &last_text.replace("tasks.two", "tasks.three"));
    await_text(&env, "+ task three");
    assert!(!env.log().contains("reload failed"), "{}", env.log());
    assert!(env.stop());
}

#[test]
fn the_option_comes_and_goes_with_a_reload() {
    let mut env = Env::new("[tasks.one]\ncommand = [\"true\"]\n");
    env.start();
    // Whoever reads the history is there from the first look on.
    env.json(&["status"]);
    env.json(&["runs"]);
    let before = held(env.pid());
    env.configure(&config("one"));
    assert!(env.ok(&["reload"]).contains("reload_on_change false → true"));
    env.configure(&config("two"));
    await_text(&env, "+ task two");
    env.configure(&config("two").replace("true\n", "false\n"));
    await_text(&env, "reload_on_change true → false");
    env.wait("the end of the watch", || held(env.pid()) == before);
    assert!(env.stop());
}
