//! A reload until its folders are covered and its first scans have ended: who waits hears how far it
//! is, and what is not as it was asked for.

use std::path::PathBuf;
use std::process::{Child, Stdio};

use serde_json::Value;

use crate::common::Env;
use crate::common::faults::Faults;

const BEFORE: &str = "[tasks.a]\ncommand = [\"true\"]\n";

/// The same with a tree that is looked at first.
fn after() -> String {
    format!("{BEFORE}[triggers.tree]\nwatch = \"tree\"\nrun = \"a\"\n")
}

/// A tree each of whose folders holds more files than are looked at in one go.
fn tree(env: &Env, folders: usize) -> Vec<PathBuf> {
    let folder = |n| {
        let path = env.mkdir(&format!("tree/{n}"));
        for file in 0..600 {
            std::fs::write(path.join(file.to_string()), "").unwrap();
        }
        path
    };
    (0..folders).map(folder).collect()
}

/// Makes the reading of these folders slow.
fn slow(env: &Env, folders: &[PathBuf], delay: &str) -> Option<Faults> {
    let paths: Vec<_> = folders.iter().map(PathBuf::as_path).collect();
    Faults::inject(env, &format!("getdents64:delay_enter={delay}"), &paths)
}

/// Waits until the service manager has heard this; all that it heard until then.
fn await_heard(env: &Env, part: &str) -> Vec<String> {
    let mut heard = Vec::new();
    env.wait(part, || {
        heard.extend(env.hear());
        heard.iter().any(|text| text.contains(part))
    });
    heard
}

#[test]
fn a_long_first_scan_asks_for_more_time() {
    let mut env = Env::new(BEFORE);
    let folders = tree(&env, 6);
    env.start();
    let Some(slow) = slow(&env, &folders, "400ms") else { return };
    env.configure(&after());
    env.hear();
    env.signal(1);
    let heard = await_heard(&env, "READY=1");
    drop(slow);
    let at = |part: &str| heard.iter().position(|text| text.contains(part));
    let longer = at("EXTEND_TIMEOUT_USEC=60000000\n");
    assert!(longer.is_some(), "{heard:#?}");
    assert!(heard[longer.unwrap()].starts_with("STATUS=the first scan: "), "{heard:#?}");
    assert!(at("RELOADING=1") < longer && longer < at("READY=1"), "{heard:#?}");
    assert!(env.stop());
}

/// A `dagd reload` that waits.
fn reload(env: &Env) -> Child {
    let mut command = env.command(&["reload", "--json"]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// A daemon in the long first scan of a reload, what makes it long, and who waits for the reload.
fn in_first_scan() -> Option<(Env, Faults, Child)> {
    let mut env = Env::new(BEFORE);
    let folders = tree(&env, 20);
    env.start();
    let slow = slow(&env, &folders, "1s")?;
    env.configure(&after());
    env.hear();
    let waiting = reload(&env);
    await_heard(&env, "STATUS=the first scan is under way");
    Some((env, slow, waiting))
}

#[test]
fn a_stop_ends_the_wait_and_says_so() {
    let Some((mut env, slow, waiting)) = in_first_scan() else { return };
    env.ok(&["stop"]);
    let answer = answer(waiting);
    assert_eq!(answer["ok"], true, "it is in force");
    assert_eq!(answer["warnings"][0], "dagd is stopping: the first scan goes on at the next start");
    drop(slow);
    assert!(env.await_end().success());
}

fn answer(waiting: Child) -> Value {
    let told = waiting.wait_with_output().unwrap();
    serde_json::from_slice(&told.stdout).unwrap()
}

#[test]
fn a_first_scan_holds_up_no_other_configuration() {
    let Some((mut env, slow, waiting)) = in_first_scan() else { return };
    // One that is refused does not end the wait, and whoever looks is told of the last.
    env.configure("nonsense = 1\n");
    assert_eq!(env.run(&["reload"]).status.code(), Some(78));
    assert_eq!(env.json(&["status"])["reload"]["ok"], false);
    // The tree was a mistake: it is taken back before it was gone through.
    env.configure(BEFORE);
    let mended = env.json(&["reload"]);
    let answer = answer(waiting);
    assert_eq!(answer["ok"], true, "it was in force");
    assert_eq!(answer["changes"][0]["change"], "added", "{answer}");
    let why = "another configuration followed before its first scan had ended";
    assert_eq!(answer["warnings"].as_array().unwrap().last().unwrap(), why);
    assert_eq!(mended["changes"][0]["change"], "removed", "{mended}");
    assert_eq!(mended["warnings"].as_array().unwrap().len(), 0, "{mended}");
    assert_eq!(env.json(&["status"])["reload"], mended);
    drop(slow);
    // The service manager waits for the last of them, once.
    let heard = env.hear();
    let ready = heard.iter().filter(|text| text.contains("READY=1")).count();
    assert_eq!(ready, 1, "{heard:#?}");
    assert!(heard.last().unwrap().starts_with("READY=1"), "{heard:#?}");
    assert!(env.stop());
}

#[test]
fn a_look_at_files_that_are_the_same_is_told_to_nobody() {
    let daemon = "[daemon]\nreload_on_change = true\n";
    let mut env = Env::new(&format!("{daemon}{}", after()));
    env.mkdir("tree/of/folders");
    env.start();
    env.await_scanned();
    env.hear();
    // Longer than a wait of the service manager goes on without a word.
    let main = env.at("dagd.toml");
    let Some(slow) = Faults::inject(&env, "read:delay_enter=3s", &[&main]) else { return };
    let now = std::time::SystemTime::now();
    std::fs::File::options().append(true).open(&main).unwrap().set_modified(now).unwrap();
    // What comes behind it, and is another one.
    env.configure(&format!("{daemon}{}[pools]\np = 1\n", after()));
    let heard = await_heard(&env, "READY=1");
    drop(slow);
    let begun = heard.iter().position(|text| text.contains("RELOADING=1")).unwrap();
    assert_eq!(heard[..begun], [] as [String; 0], "nobody waits yet");
    assert!(heard.last().unwrap().contains("STATUS=running"), "{heard:#?}");
    assert!(env.stop());
}

#[test]
fn a_folder_that_is_not_there_is_told() {
    let mut env = Env::new(BEFORE);
    env.mkdir("in");
    env.start();
    let trigger = |name: &str| format!("[triggers.{name}]\ndrop = \"{name}\"\nrun = \"a\"\n");
    env.configure(&format!("{BEFORE}{}{}", trigger("in"), trigger("inn")));
    let answer = env.json(&["reload"]);
    assert_eq!(answer["ok"], true, "{answer}");
    let missing = env.at("inn");
    let line = format!("trigger `inn`: {} does not exist; it is waited for", missing.display());
    assert_eq!(answer["warnings"].as_array().unwrap(), &[Value::from(line.as_str())]);
    assert!(env.log().contains(&format!("WARN {line}")), "{}", env.log());
    assert_eq!(env.json(&["status"])["reload"], answer);
    // The same trigger once more is no news, and it comes to work when its folder comes.
    assert_eq!(env.json(&["reload"])["warnings"].as_array().unwrap().len(), 0);
    env.mkdir("inn");
    std::fs::write(env.at("inn/file"), "").unwrap();
    env.await_ended(1);
    assert!(env.stop());
}
