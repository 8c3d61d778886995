//! Folders that dagd's user may not read, and links that lead elsewhere.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::path::Path;
use std::process::Command;

use crate::common::{Env, is_root};
use crate::world::{can, exactly, problems, world};

const TRIGGER: &str = r#"
[triggers.in]
drop = "in"
recursive = true
run = "each"
"#;

/// Somebody who may nothing.
const NOBODY: u32 = 65_534;

/// `dagd run` as [`NOBODY`], to whom all in the folder is given; `None` if we are not root or if
/// nobody can run the program. Does nothing where we are somebody like that ourselves.
fn as_nobody(env: &Env) -> Option<Command> {
    if !is_root() {
        return Some(env.command(&["run"]));
    }
    let nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
    let program = env!("CARGO_BIN_EXE_dagd");
    if !can("nobody cannot be asked", &[&nobody[..], &["test", "-x", program]].concat()) {
        return None;
    }
    give(env.path());
    Some(env.run_by(&nobody))
}

/// Gives a tree to nobody.
fn give(top: &Path) {
    chown(top, Some(NOBODY), Some(NOBODY)).unwrap();
    if top.is_dir() && !top.is_symlink() {
        for entry in fs::read_dir(top).unwrap() {
            give(&entry.unwrap().path());
        }
    }
}

fn write(path: &Path) {
    fs::write(path, "x").unwrap();
    if is_root() {
        chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
    }
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// What `status` and the log tell of folders that may not be read: one line, with what to do.
fn told(env: &Env) -> String {
    env.wait("a word on it", || !problems(env).is_empty());
    let mut lines = problems(env);
    assert_eq!(lines.len(), 1, "{lines:?}");
    let line = lines.remove(0);
    assert!(line.ends_with("permission denied; let dagd's user read and search it"), "{line}");
    assert!(env.log().contains(&line), "{line}\n{}", env.log());
    line
}

#[test]
fn a_folder_that_may_not_be_read_holds_up_no_other() {
    let mut env = world(TRIGGER);
    let inbox = env.mkdir("in");
    for dir in ["shut", "open"] {
        fs::create_dir_all(inbox.join(dir).join("below")).unwrap();
        write(&inbox.join(dir).join("1"));
        write(&inbox.join(dir).join("below/2"));
    }
    let Some(mut command) = as_nobody(&env) else { return };
    mode(&inbox.join("shut"), 0o000);
    env.spawn(&mut command);
    env.await_ready();
    let line = told(&env);
    assert!(line.starts_with(inbox.join("shut").to_str().unwrap()), "{line}");
    exactly_open(&env, &["1", "below/2"]);
    // What comes while it is shut is for later.
    write(&inbox.join("open/3"));
    write(&inbox.join("shut/3"));
    exactly_open(&env, &["1", "below/2", "3"]);

    mode(&inbox.join("shut"), 0o755);
    let all = ["open/1", "open/below/2", "open/3", "shut/1", "shut/below/2", "shut/3"];
    exactly(&env, all.iter().map(|file| format!("in/{file}")));
    env.wait("a clean coverage", || problems(&env).is_empty());

    // Shut while it is watched, and opened again.
    mode(&inbox.join("shut"), 0o000);
    write(&inbox.join("shut/4"));
    write(&inbox.join("open/4"));
    let more = [&all[..], &["open/4"]].concat();
    env.wait("the other", || crate::world::got(&env).contains_key(&b"in/open/4"[..]));
    mode(&inbox.join("shut"), 0o755);
    exactly(&env, more.iter().chain(&["shut/4"]).map(|file| format!("in/{file}")));
}

/// These below `open` were delivered, and nothing else.
fn exactly_open(env: &Env, files: &[&str]) {
    exactly(env, files.iter().map(|file| format!("in/open/{file}")));
}

#[test]
fn files_behind_a_folder_that_may_only_be_listed_are_pending() {
    let mut env = world(TRIGGER);
    let inbox = env.mkdir("in");
    fs::create_dir_all(inbox.join("list/below")).unwrap();
    write(&inbox.join("list/1"));
    write(&inbox.join("list/below/2"));
    let Some(mut command) = as_nobody(&env) else { return };
    mode(&inbox.join("list"), 0o444);
    env.spawn(&mut command);
    env.await_ready();
    let line = told(&env);
    assert!(line.contains(inbox.join("list/below").to_str().unwrap()), "{line}");
    let pending = || env.json(&["pending"]).as_array().unwrap().clone();
    env.wait("a pending file", || !pending().is_empty());
    assert_eq!(pending().len(), 1);
    assert_eq!(pending()[0]["file"]["path"], inbox.join("list/1").to_str().unwrap());
    assert!(pending()[0]["reason"].as_str().unwrap().starts_with("unreadable"));
    write(&inbox.join("3"));
    env.await_ended(1);
    mode(&inbox.join("list"), 0o755);
    exactly(&env, ["in/list/1", "in/list/below/2", "in/3"]);
    env.wait("a clean coverage", || problems(&env).is_empty());
}

#[test]
fn a_root_that_may_not_be_read_is_told_and_picked_up() {
    let mut env = world(&format!("{TRIGGER}{}", TRIGGER.replace("in", "other")));
    let (inbox, other) = (env.mkdir("in"), env.mkdir("other"));
    write(&inbox.join("1"));
    write(&other.join("1"));
    let Some(mut command) = as_nobody(&env) else { return };
    mode(&inbox, 0o000);
    env.spawn(&mut command);
    env.await_ready();
    exactly(&env, ["other/1"]);
    let line = told(&env);
    assert!(line.starts_with(inbox.to_str().unwrap()), "{line}");
    mode(&inbox, 0o755);
    exactly(&env, ["other/1", "in/1"]);
    env.wait("a clean coverage", || problems(&env).is_empty());
}

#[test]
fn a_root_that_a_reload_can_reach_again_is_picked_up() {
    let mut env = world(&TRIGGER.replace("\"in\"", "\"over/in\""));
    fs::create_dir_all(env.at("over/in")).unwrap();
    write(&env.at("over/in/1"));
    let Some(mut command) = as_nobody(&env) else { return };
    mode(&env.at("over"), 0o000);
    env.spawn(&mut command);
    env.await_ready();
    env.wait("what is in the way", || !problems(&env).is_empty());
    // Before it is looked for the next time.
    mode(&env.at("over"), 0o755);
    env.ok(&["reload"]);
    exactly(&env, ["over/in/1"]);
    env.wait("a clean coverage", || problems(&env).is_empty());
}

#[test]
fn links_are_never_followed() {
    let mut env = world(TRIGGER);
    let inbox = env.mkdir("in");
    let outside = env.mkdir("outside");
    fs::write(outside.join("secret"), "x").unwrap();
    fs::create_dir_all(inbox.join("real/deep")).unwrap();
    let links = |suffix: &str| {
        let link = |target: &Path, name: &str| {
            symlink(target, inbox.join(format!("{name}{suffix}"))).unwrap();
        };
        link(Path::new("real"), "inside");
        link(Path::new("."), "loop");
        link(Path::new("../.."), "real/deep/up");
        link(Path::new("/etc"), "etc");
        link(&outside, "outside");
        link(Path::new("real/deep/file"), "file");
        link(&outside.join("secret"), "secret");
        link(Path::new("nowhere"), "dangling");
    };
    links("-old");
    fs::write(inbox.join("real/deep/file"), "x").unwrap();
    env.start();
    exactly(&env, ["in/real/deep/file"]);
    links("-new");
    fs::write(inbox.join("real/file"), "x").unwrap();
    exactly(&env, ["in/real/deep/file", "in/real/file"]);
    // A file that is replaced by a link, and a folder too: neither is followed.
    fs::remove_file(inbox.join("real/file")).unwrap();
    symlink(outside.join("secret"), inbox.join("real/file")).unwrap();
    fs::rename(inbox.join("real/deep"), outside.join("deep")).unwrap();
    symlink(outside.join("deep"), inbox.join("real/deep")).unwrap();
    fs::write(outside.join("deep/later"), "x").unwrap();
    fs::write(inbox.join("real/last"), "x").unwrap();
    exactly(&env, ["in/real/deep/file", "in/real/file", "in/real/last"]);
    assert_eq!(problems(&env), Vec::<String>::new());
    env.wait("the coverage", || env.json(&["status"])["triggers"][0]["directories"] == 2);
}
