//! By option, a change of the configuration's own files is a reload.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _, symlink};
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::common::fuse::Fuse;
use crate::common::namespaces::{can, set, start_with};
use crate::common::process::held;
use crate::common::{Env, is_root, skip};

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
    // Whatever the mask: nobody else may ever write it.
    let mut file = fs::File::options();
    let file = file.create(true).truncate(true).write(true).mode(0o600).open(path);
    file.unwrap().write_all(text.as_bytes()).unwrap();
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
fn a_new_part_is_found_in_a_folder_behind_a_link() {
    let mut env = Env::new(&config("one"));
    let parts = env.mkdir("parts");
    fs::set_permissions(&parts, fs::Permissions::from_mode(0o700)).unwrap();
    symlink("parts", env.at("conf.d")).unwrap();
    put(&parts.join("a.toml"), &part("two"));
    env.start();
    put(&parts.join("b.toml"), &part("three"));
    await_text(&env, "+ task three");
    // The link leads elsewhere, where there are other parts.
    let other = env.mkdir("other/parts");
    fs::set_permissions(&other, fs::Permissions::from_mode(0o700)).unwrap();
    symlink("other/parts", env.at("conf.d.new")).unwrap();
    fs::rename(env.at("conf.d.new"), env.at("conf.d")).unwrap();
    await_text(&env, "- task three");
    put(&other.join("c.toml"), &part("four"));
    await_text(&env, "+ task four");
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

const WATCHES: &str = "max_inotify_watches";

/// What `status` tells of the configuration's files.
fn problems(env: &Env) -> Vec<String> {
    let status = env.json(&["status"]);
    let lines = status["problems"].as_array().unwrap().iter();
    lines.map(|line| line.as_str().unwrap().to_owned()).collect()
}

fn is_deaf(env: &Env) -> bool {
    let told = problems(env);
    let is = |line: &String| line.starts_with("cannot watch the configuration's files: ");
    assert!(told.iter().all(is), "{told:?}");
    assert!(told.iter().all(|line| line.contains("; sysctl -w user.max_inotify_")), "{told:?}");
    !told.is_empty()
}

#[test]
fn what_is_watched_stays_watched_without_a_watch_to_be_had() {
    let mut env = Env::new(&config("one"));
    if !start_with(&mut env, WATCHES, 64) {
        return;
    }
    set(&env, WATCHES, 0);
    for task in ["two", "three", "four"] {
        env.configure(&config(task));
        await_text(&env, &format!("+ task {task}"));
        assert!(!is_deaf(&env));
    }
    assert!(env.stop());
}

#[test]
fn what_cannot_be_watched_is_told_and_looked_at_until_it_can() {
    let mut env = Env::new(&config("one"));
    if !start_with(&mut env, WATCHES, 64) {
        return;
    }
    set(&env, WATCHES, 0);
    let parts = env.mkdir("conf.d");
    fs::set_permissions(&parts, fs::Permissions::from_mode(0o700)).unwrap();
    env.wait("a word on it", || is_deaf(&env));
    assert!(env.log().contains("WARN cannot watch the configuration's files: "), "{}", env.log());
    // Nobody tells of it, and it is found all the same.
    put(&parts.join("a.toml"), &part("two"));
    await_text(&env, "+ task two");
    set(&env, WATCHES, 64);
    env.wait("an end of it", || !is_deaf(&env));
    assert!(env.log().contains("the configuration's files are watched again"), "{}", env.log());
    put(&parts.join("b.toml"), &part("three"));
    await_text(&env, "+ task three");
    assert!(env.stop());
}

#[test]
fn what_others_change_behind_a_mount_is_looked_at() {
    if !is_root() {
        return skip("needs root: FUSE");
    }
    let mut env = Env::new(&config("one"));
    let (parts, behind) = (env.mkdir("conf.d"), env.mkdir("behind"));
    fs::set_permissions(&behind, fs::Permissions::from_mode(0o700)).unwrap();
    put(&behind.join("mounted"), "");
    let Some(mount) = Fuse::mount(&behind, &parts) else { return };
    env.start();
    let told = problems(&env);
    let start = format!("cannot watch the configuration's files: {}: fuse", parts.display());
    let end = ": changes made behind the mount make no events; looked at each minute";
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].starts_with(&start) && told[0].ends_with(end), "{told:?}");
    // No event tells of it.
    put(&behind.join("a.toml"), &part("two"));
    await_text(&env, "+ task two");
    // It is no reason to refuse a reload that asks for it.
    for (wanted, told) in [(false, 0), (true, 1)] {
        let config = config("one")
            .replace("reload_on_change = true", &format!("reload_on_change = {wanted}"));
        env.configure(&config);
        let answer = env.json(&["reload"]);
        assert!(answer["ok"] == true && problems(&env).len() == told, "{answer}");
    }
    assert!(env.stop());
    drop(mount);
}

#[test]
fn a_reload_is_not_refused_for_what_was_so_before_and_mends_it() {
    for setting in [WATCHES, "max_inotify_instances"] {
        let mut env = Env::new(&config("one"));
        if !start_with(&mut env, setting, 0) {
            return;
        }
        assert!(is_deaf(&env));
        env.hear();
        env.configure(&config("two"));
        let answer = env.json(&["reload"]);
        assert_eq!(answer["ok"], true, "{answer}");
        let warnings = answer["warnings"].as_array().unwrap().clone();
        let of = |line: &Value| line.as_str().unwrap().starts_with("cannot watch the conf");
        assert!(warnings.iter().any(of), "{answer}");
        set(&env, setting, 64);
        env.hear();
        let warnings = env.json(&["reload"])["warnings"].as_array().unwrap().clone();
        assert!(!warnings.iter().any(of), "{warnings:?}");
        assert!(!is_deaf(&env));
        env.configure(&config("three"));
        await_text(&env, "+ task three");
        assert!(env.stop());
    }
}

#[test]
fn the_option_is_refused_where_it_cannot_be_had() {
    let mut env = Env::new(&config("one").replace("true\n[tasks", "false\n[tasks"));
    if !start_with(&mut env, WATCHES, 0) {
        return;
    }
    env.configure(&config("two"));
    let told = env.run(&["reload"]);
    assert_eq!(told.status.code(), Some(78), "{told:?}");
    assert!(String::from_utf8_lossy(&told.stderr).contains("cannot watch the configuration's"));
    assert!(!is_deaf(&env), "nothing of it is in force");
    assert!(env.stop());
}

#[test]
fn half_of_a_file_is_not_read_where_the_kernel_does_not_tell_who_writes() {
    if !is_root() {
        return skip("only root can have files of which another user cannot tell who writes them");
    }
    let mut env = Env::new(&config("one"));
    let nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
    let program = [&nobody[..], &["test", "-x", env!("CARGO_BIN_EXE_dagd")]].concat();
    if !can("nobody cannot be asked", &program) {
        return;
    }
    let parts = env.mkdir("conf.d");
    fs::set_permissions(&parts, fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(env.path(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(env.at("notify"), fs::Permissions::from_mode(0o666)).unwrap();
    for dir in ["state", "run"] {
        std::os::unix::fs::chown(env.mkdir(dir), Some(65534), Some(65534)).unwrap();
    }
    let readable = |path: &Path| fs::set_permissions(path, fs::Permissions::from_mode(0o644));
    let slow = parts.join("slow.toml");
    put(&slow, &(part("two") + &part("three")));
    readable(&slow).unwrap();
    let mut command = env.run_by(&nobody);
    env.spawn(&mut command);
    env.await_ready();
    // A slow writer: at each moment there is half of a file, which is valid.
    let mut file = fs::File::create(&slow).unwrap();
    file.write_all(part("two").as_bytes()).unwrap();
    put(&parts.join("beside.toml"), &part("four"));
    readable(&parts.join("beside.toml")).unwrap();
    let since = Instant::now();
    while since.elapsed() < Duration::from_secs(1) {
        file.write_all(b"# more\n").unwrap();
        std::thread::sleep(Duration::from_millis(20));
    }
    file.write_all(part("three").as_bytes()).unwrap();
    drop(file);
    await_text(&env, "+ task four");
    assert!(!env.log().contains("- task"), "no half of a file was read: {}", env.log());
    assert!(env.stop());
}
