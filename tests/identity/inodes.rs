//! What tells two files apart that have the same path, size, time and even inode.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

use crate::common::{Env, skip};
use crate::world::{ABC, XYZ, config, exactly, told, world};

const TRIGGER: &str = "[triggers.in]\ndrop = \"inbox\"\nrun = \"t\"\n";

/// A time long ago that both files get.
fn long_ago() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000)
}

fn create(path: &Path, text: &str) -> u64 {
    fs::write(path, text).unwrap();
    let file = File::options().write(true).open(path).unwrap();
    file.set_modified(long_ago()).unwrap();
    file.metadata().unwrap().ino()
}

#[test]
fn an_inode_that_is_used_again_is_another_file() {
    let mut env = world(TRIGGER);
    let path = env.at("inbox/a");
    let first = create(&path, "abc");
    env.start();
    exactly(&env, &[&format!("in a {ABC}")]);
    assert!(env.stop());
    // The same path, size, time and inode: nothing that stat tells is different but the birth.
    let mut again = 0;
    for _ in 0..200 {
        fs::remove_file(&path).unwrap();
        again = create(&path, "xyz");
        if again == first {
            break;
        }
    }
    if again != first {
        return skip("this file system does not use inodes again at once");
    }
    env.start();
    exactly(&env, &[&format!("in a {ABC}"), &format!("in a {XYZ}")]);
}

/// Starts the daemon in a mount namespace of its own with an overlay over the inbox. Returns `false`
/// where there is no right to.
fn start_on_overlay(env: &mut Env) -> bool {
    for dir in ["lower", "upper", "work"] {
        env.mkdir(dir);
    }
    let mount = "mount -t tmpfs none layers && mkdir layers/upper layers/work && \
                 mount -t overlay overlay -o lowerdir=lower,upperdir=layers/upper,workdir=layers/work inbox";
    env.mkdir("layers");
    let probe =
        Command::new("unshare").args(["-m", "sh", "-ec", mount]).current_dir(env.path()).output();
    if !probe.as_ref().is_ok_and(|probe| probe.status.success()) {
        skip(&format!("no overlay can be mounted here: {probe:?}"));
        return false;
    }
    let script = format!("{mount}; exec \"$@\"");
    let mut command = env.run_by(&["unshare", "-m", "sh", "-ec", &script, "sh"]);
    env.spawn(&mut command);
    env.await_ready();
    true
}

/// Runs a script where the daemon sees the inbox.
fn there(env: &Env, script: &str) {
    let done = Command::new("nsenter")
        .args(["-t", &env.pid().to_string(), "-m", "sh", "-ec", script])
        .current_dir(env.path())
        .output()
        .unwrap();
    assert!(done.status.success(), "{script}: {done:?}");
}

#[test]
fn a_file_system_without_handles_has_births() {
    let mut env =
        world("[triggers.in]\ndrop = \"inbox\"\nrun = \"t\"\nstability_threshold = \"50ms\"\n");
    if !start_on_overlay(&mut env) {
        return;
    }
    let inbox = env.at("inbox");
    let inbox = inbox.display();
    there(&env, &format!("cd {inbox}; printf abc > a; touch -d @1000000000 a"));
    exactly(&env, &[&format!("in a {ABC}")]);
    // Whether leases hold on an overlay is not relied upon: a store through a mapping that outlives
    // its descriptor is not seen there. So files have to stay the same for a time.
    let status = env.json(&["status"]);
    assert_eq!(status["triggers"][0]["readiness"], "inferred", "{status}");
    // A chmod is no new version, and neither is a link.
    there(&env, &format!("cd {inbox}; chmod 600 a; ln a b; rm b"));
    // The same size and time in a new file; the old one is gone, so that its number is free.
    there(&env, &format!("cd {inbox}; rm a; printf xyz > a; touch -d @1000000000 a"));
    env.wait("the second", || told(&env).len() >= 2);
    there(&env, &format!("cd {inbox}; mv a c"));
    env.wait("the third", || told(&env).len() >= 3);
    let mut told: Vec<String> = told(&env);
    // The short-lived link may have been delivered before it was gone; nothing else twice.
    told.retain(|line| !line.starts_with("in b "));
    assert_eq!(
        told,
        [format!("in a {ABC}"), format!("in a {XYZ}"), format!("in c {XYZ}")],
        "{}",
        env.log()
    );
    env.configure(&config(&format!("{TRIGGER}stability_threshold = \"60ms\"\n")));
    env.ok(&["reload"]);
    env.await_idle();
    assert_eq!(crate::world::told(&env).last(), Some(&format!("in c {XYZ}")), "nothing again");
}
