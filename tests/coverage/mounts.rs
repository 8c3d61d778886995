//! File systems that are mounted over the folder and unmounted again, while dagd runs.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::common::Env;
use crate::world::{can, exactly, inside, world};

const TRIGGER: &str = r#"
[triggers.in]
drop = "in"
recursive = true
run = "each"
"#;

/// Starts the daemon in a mount namespace of its own, after `script`, which gets the folder as `$1`.
/// Returns `false` where there is no right to mount.
fn start_with(env: &mut Env, script: &str) -> bool {
    let probe = ["unshare", "-m", "mount", "-t", "tmpfs", "none", "/mnt"];
    if !can("no right to mount here", &probe) {
        return false;
    }
    let folder = env.at("in").to_str().unwrap().to_owned();
    let script = format!("{script}; shift; exec \"$@\"");
    let mut command = env.run_by(&["unshare", "-m", "sh", "-ec", &script, "sh", &folder]);
    env.spawn(&mut command);
    env.await_ready();
    true
}

/// Runs a script where the daemon sees it; `$1` is the folder.
fn there(env: &Env, script: &str) {
    let folder = env.at("in");
    inside(env, "-m", script, &[Path::new(&folder)]);
}

const MOUNT: &str = "mount -t tmpfs -o size=8m none \"$1\"";

#[test]
fn a_file_system_is_unmounted() {
    let mut env = world(TRIGGER);
    let under = env.mkdir("in");
    if !start_with(&mut env, &format!("{MOUNT}; mkdir \"$1/d\"; echo > \"$1/d/old\"")) {
        return;
    }
    there(&env, "echo x > \"$1/d/mounted\"");
    exactly(&env, ["in/d/old", "in/d/mounted"]);
    there(&env, "umount \"$1\"");
    fs::create_dir(under.join("e")).unwrap();
    fs::write(under.join("e/bare"), "x").unwrap();
    exactly(&env, ["in/d/old", "in/d/mounted", "in/e/bare"]);
    fs::write(under.join("e/barer"), "x").unwrap();
    exactly(&env, ["in/d/old", "in/d/mounted", "in/e/bare", "in/e/barer"]);
}

#[test]
fn a_file_system_is_mounted_on_a_folder_below() {
    let mut env = world(TRIGGER);
    let sub = env.mkdir("in/sub");
    fs::write(sub.join("bare"), "x").unwrap();
    if !start_with(&mut env, "true") {
        return;
    }
    // Other file systems are not entered; what is beneath the mount is not gone.
    exactly(&env, ["in/sub/bare"]);
    there(&env, "mount -t tmpfs none \"$1/sub\"; echo x > \"$1/sub/foreign\"");
    there(&env, "echo x > \"$1/here\"");
    exactly(&env, ["in/sub/bare", "in/here"]);
    there(&env, "umount \"$1/sub\"");
    fs::write(sub.join("more"), "x").unwrap();
    exactly(&env, ["in/sub/bare", "in/here", "in/sub/more"]);
}

#[test]
fn a_file_system_is_mounted_over_the_folder() {
    let mut env = world(TRIGGER);
    let under = env.mkdir("in");
    fs::write(under.join("bare"), "x").unwrap();
    if !start_with(&mut env, "true") {
        return;
    }
    let mut wanted = BTreeSet::from(["in/bare".to_owned()]);
    exactly(&env, &wanted);
    there(&env, &format!("{MOUNT}; echo x > \"$1/mounted\""));
    wanted.insert("in/mounted".to_owned());
    exactly(&env, &wanted);
    // Nobody who looks at the folder sees it: it is covered by the mount.
    fs::write(under.join("hidden"), "x").unwrap();
    there(&env, "mkdir \"$1/d\"; echo x > \"$1/d/more\"");
    wanted.insert("in/d/more".to_owned());
    exactly(&env, &wanted);
    // What lay beneath all the time was delivered before, what came to it meanwhile was not.
    there(&env, "umount \"$1\"");
    wanted.insert("in/hidden".to_owned());
    exactly(&env, &wanted);
    there(&env, &format!("{MOUNT}; mkdir \"$1/d\"; echo x > \"$1/d/again\""));
    wanted.insert("in/d/again".to_owned());
    exactly(&env, &wanted);
    there(&env, "umount \"$1\"");
    fs::write(under.join("last"), "x").unwrap();
    wanted.insert("in/last".to_owned());
    exactly(&env, &wanted);
}

/// A run ends while its file's file system is away: the file is not taken for gone.
#[test]
fn a_file_system_goes_away_during_a_run() {
    let slow = "[tasks.slow]\nshell = \"echo >> runs; while [ ! -e go ]; do sleep 0.05; done\"\ncwd = \"{dir}\"\n";
    let trigger = format!("{TRIGGER}move = \"done/\"\n").replace("\"each\"", "\"slow\"");
    let mut env = world(&format!("{slow}{trigger}"));
    env.mkdir("in");
    let other = env.mkdir("other");
    let script = format!(
        "mount -t tmpfs none {0}; echo x > {0}/file; mount --bind {0} \"$1\"",
        other.display()
    );
    if !start_with(&mut env, &script) {
        return;
    }
    env.wait("a run", || env.at("runs").exists());
    there(&env, "umount -l \"$1\"");
    fs::write(env.at("go"), "").unwrap();
    env.await_ended(1);
    there(&env, &format!("mount --bind {} \"$1\"; echo y > \"$1/next\"", other.display()));
    env.wait("the next file", || env.at("done/next").exists());
    env.await_idle();
    assert_eq!(fs::read_to_string(env.at("runs")).unwrap().lines().count(), 2);
}
