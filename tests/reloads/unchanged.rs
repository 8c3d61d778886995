//! A trigger that stays the same keeps its watches, what it waits for, and when it is due.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::common::Env;
use crate::common::faults::Faults;
use crate::common::process::held;

fn config(rest: &str) -> String {
    format!(
        r#"
[tasks.t]
command = ["sh", "-c", "until [ -e {{dir}}/go ]; do sleep 0.02; done"]
[triggers.a]
watch = "a"
run = "t"
[triggers.b]
drop = "b"
run = "t"
recursive = true
settle = "1h"
[triggers.s]
signal = "SIGUSR1"
run = "t"
on_overlap = "queue"
[triggers.daily]
schedule = "0 3 * * *"
run = "t"
{rest}"#
    )
}

/// What a trigger is, without what others change.
fn trigger(env: &Env, name: &str) -> Value {
    let status = env.json(&["status"]);
    let all = status["triggers"].as_array().unwrap();
    all.iter().find(|trigger| trigger["name"] == name).unwrap().clone()
}

#[test]
fn watches_timers_and_what_waits_stay() {
    let mut env = Env::new(&config(""));
    for at in 0..50 {
        env.mkdir(&format!("a/{at}/x"));
        env.mkdir(&format!("b/{at}"));
    }
    env.mkdir("c/1/2");
    env.start();
    fs::write(env.at("b/3/settles"), "x").unwrap();
    env.wait("a file that settles", || trigger(&env, "b")["pending"] == 1);
    env.signal(10);
    env.await_live(1);
    env.signal(10);
    env.wait("a signal that waits", || trigger(&env, "s")["queued"] == 1);
    env.await_scanned();
    let waiting = |env: &Env| {
        let all = env.json(&["pending"]);
        let entries = all.as_array().unwrap().iter();
        // Its reason tells how long it still takes.
        let of = |entry: &Value| (entry["trigger"].clone(), entry["since"].clone());
        entries.map(of).map(|of| format!("{of:?}")).collect::<Vec<_>>()
    };
    let (before, waits) = (held(env.pid()), waiting(&env));
    let next = trigger(&env, "daily")["next_at"].clone();
    assert!(before.watches.len() > 150, "{}", before.watches.len());

    // Whoever reads one of their folders would tell that it cannot.
    let mut folders = vec![env.at("a"), env.at("b")];
    for at in 0..50 {
        let names = [format!("a/{at}"), format!("a/{at}/x"), format!("b/{at}")];
        folders.extend(names.map(|name| env.at(&name)));
    }
    let folders: Vec<&Path> = folders.iter().map(PathBuf::as_path).collect();
    let Some(unread) = Faults::inject(&env, "getdents64:error=EACCES", &folders) else { return };

    let more = "[triggers.c]\nwatch = \"c\"\nrun = \"t\"\n";
    env.configure(&config(more));
    assert!(env.ok(&["reload"]).contains("+ trigger c"));
    let with = held(env.pid());
    // Their numbers tell: none of them was made anew.
    assert!(with.watches.is_superset(&before.watches), "watches stay");
    assert_eq!(with.watches.len(), before.watches.len() + 3, "c, c/1 and c/1/2");
    assert_eq!(waiting(&env), waits, "what waits goes on waiting since when it did");
    env.await_scanned();
    assert_eq!(env.json(&["status"])["problems"], json!([]), "nothing is scanned anew");

    env.configure(&config(""));
    assert!(env.ok(&["reload"]).contains("- trigger c"));
    env.wait("the end of what is new", || held(env.pid()).watches == before.watches);
    env.wait("the end of its threads", || held(env.pid()) == before);
    assert_eq!(waiting(&env), waits);
    assert_eq!(trigger(&env, "daily")["next_at"], next);
    // What does change is, and then it is told.
    assert_eq!(env.json(&["status"])["problems"], json!([]));
    env.configure(&config("").replace("1h", "2h"));
    env.ok(&["reload"]);
    env.wait("a look at the folders", || {
        let told = env.json(&["status"])["problems"].to_string();
        told.contains("permission denied") && !told.contains(env.at("a").to_str().unwrap())
    });
    drop(unread);
    fs::write(env.at("go"), "").unwrap();
    env.await_ended(2);
    assert!(env.stop());
}
