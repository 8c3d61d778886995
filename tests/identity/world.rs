//! A daemon whose task tells what it was started for, and with which content.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::common::{Env, is_scanned};

/// The task `t`, which tells; it waits while there is a file `wait`.
const TASK: &str = r#"
[tasks.t]
shell = 'while [ -e wait ]; do sleep 0.02; done; echo "$DAGD_TRIGGER $DAGD_REL $(md5sum < "$DAGD_PATH" | cut -c 1-32)" >> told'
cwd = "{dir}"
"#;

/// MD5 of `abc` and of `xyz`.
pub(crate) const ABC: &str = "900150983cd24fb0d6963f7d28e17f72";
pub(crate) const XYZ: &str = "d16fb36f0911f878998c136191af705e";

/// A configuration with the task.
pub(crate) fn config(triggers: &str) -> String {
    format!("{TASK}{triggers}")
}

/// A folder with an `inbox` and these triggers; the daemon does not run yet.
pub(crate) fn world(triggers: &str) -> Env {
    let env = Env::new(&config(triggers));
    env.mkdir("inbox");
    env
}

/// Writes a file into the inbox.
pub(crate) fn put(env: &Env, rel: &str, text: &str) {
    let path = env.at("inbox").join(rel);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// What the task told: trigger, file, content.
pub(crate) fn told(env: &Env) -> Vec<String> {
    let text = fs::read_to_string(env.at("told")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// Waits until the task has told exactly this, in whatever order, and nothing else is under way.
pub(crate) fn exactly(env: &Env, expected: &[&str]) {
    let mut expected: Vec<String> = expected.iter().map(|&line| line.to_owned()).collect();
    expected.sort();
    let sorted = || {
        let mut told = told(env);
        told.sort();
        told
    };
    env.wait(&format!("{expected:?}, told are {:?}", told(env)), || {
        sorted().len() >= expected.len()
    });
    settled(env);
    assert_eq!(sorted(), expected, "{}", env.log());
}

/// Waits until all is looked at, nothing runs and all that waits only waits for something to happen
/// to a file.
pub(crate) fn settled(env: &Env) {
    env.wait("a settled daemon", || {
        let status = env.json(&["status"]);
        let triggers = status["triggers"].as_array().unwrap();
        let looked = triggers.iter().all(|t| is_scanned(t) && t["queued"] == 0);
        let told = |entry: &Value| {
            let reason = entry["reason"].as_str().unwrap();
            reason.starts_with("checksum_")
        };
        let pending = env.json(&["pending"]);
        status["live_runs"] == 0 && looked && pending.as_array().unwrap().iter().all(told)
    });
}

/// Waits until a file waits for this reason.
pub(crate) fn await_reason(env: &Env, rel: &str, reason: &str) {
    env.wait(&format!("{rel} to be {reason}"), || {
        let pending = env.json(&["pending"]);
        pending.as_array().unwrap().iter().any(|entry| {
            let path = entry["file"]["path"].as_str().unwrap();
            let says = entry["reason"].as_str().unwrap().split(':').next();
            Path::new(path).ends_with(rel) && says == Some(reason)
        })
    });
}

/// The names of the daemon's threads.
pub(crate) fn threads(env: &Env) -> Vec<String> {
    let tasks = fs::read_dir(format!("/proc/{}/task", env.pid())).unwrap();
    let names =
        tasks.flatten().filter_map(|task| fs::read_to_string(task.path().join("comm")).ok());
    names.map(|name| name.trim().to_owned()).collect()
}
