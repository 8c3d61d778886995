//! The kernel grants too few watches, or none: what is not watched is told and polled, until the
//! limit rises.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use crate::common::Env;
use crate::common::namespaces::{set, start_with};
use crate::world::{TASKS, exactly, problems, while_it_goes_on, world};

const TRIGGER: &str = r#"
[triggers.in]
drop = "in"
recursive = true
run = "each"
"#;

/// How often the watch thread has gone to sleep.
fn sleeps(env: &Env) -> u64 {
    let tasks = fs::read_dir(format!("/proc/{}/task", env.pid())).unwrap();
    let paths: Vec<PathBuf> = tasks.map(|task| task.unwrap().path()).collect();
    let is = |path: &&PathBuf| {
        fs::read_to_string(path.join("comm")).is_ok_and(|name| name.trim_end() == "dagd-watch")
    };
    let status = fs::read_to_string(paths.iter().find(is).unwrap().join("status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("voluntary_ctxt_switches")).unwrap();
    line.split_whitespace().last().unwrap().parse().unwrap()
}

/// Nothing is polled: the watch thread sleeps through what would be the next poll.
fn nothing_is_polled(env: &Env) {
    while_it_goes_on(env, "an end of polling", || {
        let before = sleeps(env);
        std::thread::sleep(dagd::io::watch::worker::POLL + std::time::Duration::from_secs(1));
        (sleeps(env) == before, before)
    });
}

/// Files in ten directories, ten in each, and in the root.
fn write(env: &Env, name: &str, wanted: &mut BTreeSet<String>) {
    for n in 0..100 {
        let file = format!("in/{}/{n}{name}", n % 10);
        fs::create_dir_all(env.at(&format!("in/{}", n % 10))).unwrap();
        fs::write(env.at(&file), "x").unwrap();
        wanted.insert(file);
    }
    fs::write(env.at("in").join(name), "x").unwrap();
    wanted.insert(format!("in/{name}"));
}

/// Waits until `status` tells how many of the `directories` are not watched, and which one is the
/// first; `low` watches are granted, and those on the way to the folder come first.
fn await_uncovered(env: &Env, directories: usize, low: u32) {
    let watched = (low as usize).saturating_sub(env.path().components().count());
    let example = if watched == 0 { env.at("in") } else { env.at("in/0") };
    let count = directories - watched;
    let line =
        format!("{count} directories (such as {}) are polled every 5 s: ", example.display());
    env.wait(&line, || problems(env).iter().any(|told| told.starts_with(&line)));
}

/// What `status` tells to type, and the log as well: the lines name the folder, and all tell the same
/// setting, of which the largest value is returned.
fn remedy(env: &Env, setting: &str) -> u32 {
    let (told, folder) = (problems(env), env.at("in"));
    let values = told.iter().map(|line| {
        assert!(line.contains(folder.to_str().unwrap()), "{line}");
        assert!(env.log().contains(line), "not in the log: {line}\n{}", env.log());
        let (_, value) = line.rsplit_once(&format!("; sysctl -w user.{setting}=")).unwrap();
        value.parse().unwrap()
    });
    values.max().unwrap()
}

/// The setting is lowered before the start, and raised later as told.
fn degrades_and_recovers(setting: &str, low: u32) {
    let mut env = world(TRIGGER);
    let mut wanted = BTreeSet::new();
    write(&env, "old", &mut wanted);
    if !start_with(&mut env, setting, low) {
        return;
    }
    await_uncovered(&env, 11, low);
    remedy(&env, setting);
    exactly(&env, &wanted);

    // What comes is found by polling, in new directories as well.
    write(&env, "new", &mut wanted);
    fs::create_dir_all(env.at("in/3/born/deep")).unwrap();
    fs::write(env.at("in/3/born/deep/file"), "x").unwrap();
    wanted.insert("in/3/born/deep/file".to_owned());
    exactly(&env, &wanted);

    await_uncovered(&env, 13, low);
    set(&env, setting, remedy(&env, setting));
    env.wait("a clean coverage", || problems(&env).is_empty());
    write(&env, "later", &mut wanted);
    exactly(&env, &wanted);
    nothing_is_polled(&env);
    assert_eq!(env.json(&["status"])["triggers"][0]["directories"], 13);
}

#[test]
fn a_reload_tells_what_it_cannot_watch() {
    let mut env = world("");
    let mut wanted = BTreeSet::new();
    write(&env, "old", &mut wanted);
    if !start_with(&mut env, "max_inotify_watches", 2) {
        return;
    }
    env.configure(&format!("{TASKS}{TRIGGER}"));
    let told = env.run(&["reload"]);
    assert!(told.status.success(), "it is in force all the same: {told:?}");
    let line = "11 directories (such as ";
    let stderr = String::from_utf8_lossy(&told.stderr).into_owned();
    let warning = stderr.lines().find(|text| text.starts_with("warning: trigger `in`: "));
    let warning = warning.unwrap_or_else(|| panic!("{stderr}"));
    for part in [line, "limit of watches reached", "sysctl -w user.max_inotify_watches="] {
        assert!(stderr.contains(part), "{part} in {stderr}");
    }
    let warning = warning.trim_start_matches("warning: ");
    assert!(env.log().contains(&format!("WARN {warning}")), "{}", env.log());
    exactly(&env, &wanted);
    // What stays as it is was told of.
    let again = env.json(&["reload"]);
    assert_eq!(again["warnings"].as_array().unwrap().len(), 0, "{again}");
}

#[test]
fn too_few_watches_degrade_to_polling() {
    degrades_and_recovers("max_inotify_watches", 4);
}

#[test]
fn no_instance_degrades_to_polling() {
    degrades_and_recovers("max_inotify_instances", 0);
}

#[test]
fn no_watch_degrades_to_polling() {
    degrades_and_recovers("max_inotify_watches", 0);
}
