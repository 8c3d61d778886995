//! A real daemon whose folders' file systems come, go and do not answer.

use std::fs;

use crate::common::Env;
use crate::fuse::Hanging;
use crate::places::{may_mount, sh};

const CONFIG: &str = r#"
[tasks.note]
command = ["sh", "-c", "echo \"$1\" >> {dir}/got", "sh", "{rel}"]
[triggers.in]
drop = "in"
run = "note"
"#;

fn got(env: &Env) -> Vec<String> {
    let text = fs::read_to_string(env.at("got")).unwrap_or_default();
    let mut got: Vec<String> = text.lines().map(str::to_owned).collect();
    got.sort();
    got
}

#[test]
fn what_is_unmounted_while_dagd_is_down_is_not_delivered_again() {
    if !may_mount("daemon::what_is_unmounted_while_dagd_is_down_is_not_delivered_again") {
        return;
    }
    let mut env = Env::new(CONFIG);
    for dir in ["in", "disk"] {
        env.mkdir(dir);
    }
    fs::write(env.at("disk/1"), "x").unwrap();
    fs::write(env.at("disk/2"), "x").unwrap();
    sh("mount --bind disk in", env.path());
    env.start();
    env.wait("both files", || got(&env).len() == 2);
    env.await_idle();
    assert!(env.stop());
    // Somebody forgets to mount it, and drops a file meanwhile; one goes from the disk.
    sh("umount in; echo x > in/bare; rm disk/2", env.path());
    env.start();
    env.wait("the file in the bare folder", || got(&env).len() == 3);
    env.await_idle();
    assert!(env.stop());
    sh("mount --bind disk in; echo x > in/3; echo y > in/2", env.path());
    env.start();
    env.wait("the new files", || got(&env).len() == 5);
    // While it runs, too.
    sh("umount in; echo x > in/4; mount --bind disk in; echo x > in/5", env.path());
    env.wait("a newer file", || got(&env).contains(&"5".to_owned()));
    env.await_idle();
    assert!(env.stop());
    env.start();
    fs::write(env.at("in/6"), "x").unwrap();
    env.wait("the newest file", || got(&env).contains(&"6".to_owned()));
    env.await_idle();
    let got: Vec<String> = got(&env).into_iter().filter(|name| name != "4").collect();
    assert_eq!(got, ["1", "2", "2", "3", "5", "6", "bare"]);
    env.stop();
}

#[test]
fn a_folder_that_does_not_answer_stops_only_itself() {
    if !may_mount("daemon::a_folder_that_does_not_answer_stops_only_itself") {
        return;
    }
    let far = "[triggers.far]\ndrop = \"far\"\nrun = \"note\"\n\
               [triggers.old]\nwatch = \"far\"\nfan_out = \"file\"\nrun = \"note\"\n";
    let mut env = Env::new(&format!("{CONFIG}{far}"));
    for dir in ["in", "far"] {
        env.mkdir(dir);
    }
    let mut hanging = Hanging::mount(&env.at("far"), "hanging");
    hanging.put("1");
    hanging.hang();
    // Neither the start nor the first scan of a watched tree waits.
    env.start();
    fs::write(env.at("in/a"), "x").unwrap();
    env.wait("a file elsewhere", || got(&env) == ["a"]);
    let far = |env: &Env| {
        let status = env.json(&["status"]);
        let triggers = status["triggers"].as_array().unwrap().clone();
        triggers.into_iter().find(|trigger| trigger["name"] == "far").unwrap()
    };
    env.wait("a word on it", || {
        far(&env)["reason"]
            .as_str()
            .is_some_and(|why| why.starts_with("the folder has not answered"))
    });
    assert!(env.ok(&["status"]).contains("has not answered"), "{}", env.ok(&["status"]));
    assert_eq!(far(&env)["scanning"], true);
    // Nor does who asks what is wrong.
    let told = env.ok(&["doctor"]);
    assert!(told.contains("far: ") && told.contains("has not answered"), "{told}");
    // A reload does not wait either.
    env.configure(&format!(
        "{CONFIG}settle = \"1ms\"\n[triggers.far]\ndrop = \"far\"\nrun = \"note\"\n"
    ));
    assert!(env.ok(&["reload"]).contains("settle"));
    fs::write(env.at("in/b"), "x").unwrap();
    env.wait("another file elsewhere", || got(&env) == ["a", "b"]);
    hanging.answer();
    env.wait("its file", || got(&env) == ["1", "a", "b"]);
    env.wait("a clean status", || far(&env)["state"] == "active");
    env.wait("the end of the scan", || far(&env)["scanning"] == false);
    // It hangs again, in a scan, and dagd stops all the same.
    hanging.hang();
    env.configure(&format!(
        "{CONFIG}settle = \"1ms\"\n[triggers.far]\ndrop = \"far\"\nrun = \"note\"\nsettle = \"1ms\"\n"
    ));
    env.ok(&["reload"]);
    env.wait("another word on it", || far(&env)["state"] == "waiting");
    assert_eq!(far(&env)["scanning"], true);
    env.signal(15);
    // The kernel lets nobody end who waits for an answer; everybody else in the process has.
    let status = format!("/proc/{}/status", env.pid());
    env.wait("the end of what does not hang", || {
        fs::read_to_string(&status).is_ok_and(|status| status.contains("State:\tZ"))
    });
    hanging.answer();
    assert!(env.await_end().success());
}

#[test]
fn a_folder_is_polled_as_often_as_is_configured() {
    let polled = |name: &str, every: &str| {
        format!(
            "[triggers.{name}]\ndrop = \"{name}\"\nrun = \"note\"\nbackend = \"poll\"\n\
             poll_interval = \"{every}\"\n"
        )
    };
    let task = CONFIG.split("[triggers").next().unwrap();
    let mut env = Env::new(&format!("{task}{}{}", polled("fast", "100ms"), polled("slow", "20s")));
    for dir in ["fast", "slow"] {
        env.mkdir(dir);
    }
    env.start();
    env.await_scanned();
    fs::write(env.at("slow/slow"), "x").unwrap();
    // Each is found by another look, while the other folder is looked at once or not at all.
    for n in 0..8 {
        fs::write(env.at(&format!("fast/{n}")), "x").unwrap();
        env.wait("the next file", || got(&env).contains(&n.to_string()));
    }
    assert!(!got(&env).contains(&"slow".to_owned()), "{:?}", got(&env));
    assert!(env.stop());
}

#[test]
fn each_rule_about_the_reach_is_explained() {
    let mut env = Env::new(
        r#"
[tasks.note]
command = ["sh", "-c", "echo \"$1\" >> {dir}/got", "sh", "{rel}"]
[triggers.in]
drop = "in"
run = "note"
backend = "poll"
poll_interval = "100ms"
recursive = true
gitignore = true
min_depth = 2
max_depth = 3
follow_symlinks = "all"
"#,
    );
    for dir in ["in/a/b/c", "out/x"] {
        env.mkdir(dir);
    }
    fs::write(env.at("in/.gitignore"), "*.o\n").unwrap();
    for rel in ["in/1", "in/a/2", "in/a/b/3", "in/a/b/c/4", "in/a/5.o", "out/x/6"] {
        fs::write(env.at(rel), "x").unwrap();
    }
    std::os::unix::fs::symlink("../out/x", env.at("in/link")).unwrap();
    std::os::unix::fs::symlink("a", env.at("in/again")).unwrap();
    std::os::unix::fs::symlink("../../out/x/6", env.at("in/a/file")).unwrap();
    env.start();
    env.wait("the files that count", || got(&env) == ["a/2", "a/b/3", "a/file", "link/6"]);
    assert_eq!(env.json(&["status"])["triggers"][0]["noticed_by"], "scans");
    let told = |rel: &str| {
        let explained = env.json(&["explain", env.at(rel).to_str().unwrap()]);
        let trigger = explained["triggers"][0].clone();
        format!("{}: {}", trigger["verdict"].as_str().unwrap(), trigger["text"].as_str().unwrap())
    };
    for (rel, rule) in [
        ("in/1", "ignored: it does not count under `in`: min_depth: "),
        ("in/a/b/c/4", "ignored: it does not count under `in`: max_depth: "),
        ("in/a/5.o", "ignored: it does not count under `in`: gitignore: `*.o`"),
        ("in/again/2", "ignored: it does not count under `in`: follow_symlinks: `again` leads to"),
        ("in/link/6", "delivered: it was delivered to run"),
        ("in/a/file", "delivered: it was delivered to run"),
    ] {
        assert!(told(rel).starts_with(rule), "{rel}: {}", told(rel));
    }
    env.stop();
}
