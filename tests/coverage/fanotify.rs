//! Folders that are watched by marks on their file systems, by a whole daemon: with the right to it,
//! and without.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::common::{have, skip};
use crate::world::{can, exactly, problems, world};

const TRIGGER: &str = r#"
[triggers.in]
drop = "in"
recursive = true
run = "each"
backend = "fanotify"
"#;

fn sh(script: &str, dir: &Path) {
    let done = Command::new("sh").args(["-ec", script]).current_dir(dir).output().unwrap();
    assert!(done.status.success(), "{script}: {done:?}");
}

/// Where a time is set behind the close, the file is delivered once, as with inotify.
#[test]
fn times_that_are_set_back_make_no_delivery_under_a_mark() {
    if !have("zip") || !have("unzip") {
        return;
    }
    let mut env = world(TRIGGER);
    env.mkdir("in");
    env.mkdir("out");
    let names: Vec<String> = (100..400).map(|n| n.to_string()).collect();
    for name in &names {
        let dir = env.mkdir(&format!("out/{}", &name[..2]));
        fs::write(dir.join(name), name).unwrap();
    }
    sh("find . -type f -exec touch -d 2003-02-03 {} +; zip -qr ../all.zip .", &env.at("out"));
    env.start();
    // While the first scan is under way a time that is set may be anything.
    env.await_scanned();
    let told = problems(&env);
    if told.iter().any(|line| line.contains("fanotify")) {
        return skip(&told.join(", "));
    }
    // The folders first: how they come is another matter.
    for ten in 10..40 {
        env.mkdir(&format!("in/{ten}"));
    }
    env.wait("all folders", || env.json(&["status"])["triggers"][0]["directories"] == 31);
    sh("unzip -q ../all.zip", &env.at("in"));
    exactly(&env, names.iter().map(|name| format!("in/{}/{name}", &name[..2])));
    assert_eq!(env.json(&["status"])["triggers"][0]["noticed_by"], "events");
}

#[test]
fn without_the_right_to_a_mark_folders_are_polled_and_that_is_told() {
    let without = ["setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin"];
    if !can("no capability can be given up here", &[&without[..], &["true"]].concat()) {
        return;
    }
    let mut env = world(TRIGGER);
    fs::create_dir_all(env.at("in/a/b")).unwrap();
    fs::write(env.at("in/a/b/old"), "x").unwrap();
    let mut command = env.run_by(&without);
    env.spawn(&mut command);
    env.await_ready();
    env.wait("what is missing", || {
        problems(&env).iter().any(|line| {
            line.starts_with("3 directories (such as ")
                && line
                    .contains("are polled every 5 s: fanotify needs the capability CAP_SYS_ADMIN")
                && line.ends_with("give it to dagd, or set backend = \"inotify\"")
                && env.log().contains(line)
        })
    });
    fs::write(env.at("in/a/new"), "x").unwrap();
    fs::create_dir(env.at("in/c")).unwrap();
    fs::write(env.at("in/c/new"), "x").unwrap();
    exactly(&env, ["in/a/b/old", "in/a/new", "in/c/new"]);

    // As told.
    env.configure(&TRIGGER.replace("fanotify", "inotify").replacen('\n', crate::world::TASKS, 1));
    env.ok(&["reload"]);
    env.wait("a clean coverage", || problems(&env).is_empty());
    fs::write(env.at("in/c/later"), "x").unwrap();
    exactly(&env, ["in/a/b/old", "in/a/new", "in/c/new", "in/c/later"]);
}
