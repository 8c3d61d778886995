//! Files and folders that behave badly: their names, their kinds, their coming and going.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;

use crate::common::Env;

const NAMES: [&[u8]; 9] = [
    b"-rf",
    b"--help",
    b"a\nb",
    b"\xff\xfe",
    b"$(touch x)'\"`",
    b"{name} {{x}}",
    b"\x1b[2J\x1b]0;title\x07",
    b" lead and trail ",
    b"a\\n\tb",
];

#[test]
fn names_of_any_kind_go_through_and_come_out_safe() {
    let mut env = Env::new(
        r#"
[tasks.t]
shell = "printf '%s' \"$DAGD_REL\" | cat - > rels/$DAGD_RUN; cat \"$DAGD_PATH\" > texts/$DAGD_RUN"
cwd = "{dir}"
[triggers.in]
drop = "inbox"
run = "t"
move = "done/"
"#,
    );
    for dir in ["inbox", "rels", "texts"] {
        env.mkdir(dir);
    }
    env.start();
    for (n, name) in NAMES.iter().enumerate() {
        fs::write(env.at("inbox").join(OsStr::from_bytes(name)), format!("{n}")).unwrap();
    }
    env.await_ended(NAMES.len() as u64);
    env.await_idle();
    let runs = env.runs();
    assert_eq!(runs.len(), NAMES.len());
    let mut seen = Vec::new();
    for run in &runs {
        assert_eq!(run["state"], "succeeded", "{run}");
        let id = run["id"].to_string();
        let rel = fs::read(env.at("rels").join(&id)).unwrap();
        let n: usize = fs::read_to_string(env.at("texts").join(&id)).unwrap().parse().unwrap();
        assert_eq!(rel, NAMES[n], "the task had another name");
        let whole = [env.at("inbox/").as_os_str().as_bytes(), NAMES[n]].concat();
        let exact = dagd::core::path::Bytes::from(whole);
        assert_eq!(run["files"][0]["path_b64"], exact.b64());
        assert_eq!(run["files"][0]["path"], exact.lossy().into_owned());
        let moved = env.at("done").join(OsStr::from_bytes(NAMES[n]));
        assert_eq!(fs::read_to_string(&moved).unwrap(), n.to_string());
        safe(&env.ok(&["show", &id]));
        let detail = env.json(&["show", &id]);
        assert_eq!(detail["files"][0]["path_b64"], exact.b64());
        for path in [moved, env.at("inbox").join(OsStr::from_bytes(NAMES[n]))] {
            let story = env.command(&["explain"]).arg(&path).output().unwrap();
            assert!(story.status.success(), "{story:?}");
            let story = String::from_utf8(story.stdout).unwrap();
            safe(&story);
            assert!(story.contains(&format!("run {id}")), "{story}");
            let json = env.command(&["explain", "--json"]).arg(&path).output().unwrap();
            let json: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
            assert_eq!(json["triggers"][0]["verdict"], "delivered", "{json}");
            assert_eq!(json["triggers"][0]["run"].to_string(), id);
        }
        seen.push(n);
    }
    seen.sort_unstable();
    assert_eq!(seen, (0..NAMES.len()).collect::<Vec<_>>());
    let listing = env.ok(&["runs"]);
    safe(&listing);
    let heading = 1;
    assert_eq!(listing.lines().count(), runs.len() + heading, "one line per run:\n{listing}");
}

/// Nothing in it moves a terminal's cursor, and it is text.
fn safe(text: &str) {
    let bad = |c: char| c.is_control() && c != '\n';
    assert!(!text.contains(bad), "{text:?}");
}

#[test]
fn a_folder_that_vanishes_is_watched_again_when_it_comes_back() {
    let mut env = Env::new(
        r#"
[tasks.t]
command = ["cat", "{path}"]
[triggers.in]
drop = "inbox"
recursive = true
run = "t"
[triggers.s]
signal = "SIGUSR1"
run = "t2"
[tasks.t2]
command = ["true"]
"#,
    );
    env.mkdir("inbox/sub");
    env.start();
    fs::write(env.at("inbox/sub/a"), "1").unwrap();
    env.await_ended(1);
    let trigger = |env: &Env| env.json(&["status"])["triggers"][0].clone();
    for round in 0..3 {
        fs::rename(env.at("inbox"), env.at("away")).unwrap();
        env.wait("the folder to be missed", || trigger(&env)["state"] == "waiting");
        let told = trigger(&env)["reason"].as_str().unwrap().to_owned();
        assert!(told.contains("does not exist"), "{told}");
        assert!(env.ok(&["status"]).contains("does not exist"));
        fs::write(env.at("away/sub").join(format!("behind{round}")), "2").unwrap();
        if round == 1 {
            fs::remove_dir_all(env.at("away")).unwrap();
            env.mkdir("inbox/sub");
            fs::write(env.at(&format!("inbox/sub/behind{round}")), "2").unwrap();
        } else {
            fs::rename(env.at("away"), env.at("inbox")).unwrap();
        }
        env.await_ended(2 * round + 2);
        assert_eq!(trigger(&env)["state"], "active");
        fs::write(env.at(&format!("inbox/sub/after{round}")), "3").unwrap();
        env.await_ended(2 * round + 3);
    }
    env.await_idle();
    let mut rels: Vec<String> =
        env.runs().iter().map(|run| run["files"][0]["rel"].as_str().unwrap().to_owned()).collect();
    rels.sort();
    let wanted = ["a", "after0", "after1", "after2", "behind0", "behind1", "behind2"];
    assert_eq!(rels, wanted.map(|name| format!("sub/{name}")));
}

#[test]
fn a_folder_that_was_never_there_may_come_later() {
    let mut env = Env::new(
        "[tasks.t]\ncommand = [\"true\"]\n[triggers.in]\ndrop = \"not/yet/here\"\nrun = \"t\"\n",
    );
    env.start();
    assert_eq!(env.json(&["status"])["triggers"][0]["state"], "waiting");
    env.mkdir("not/yet/here");
    fs::write(env.at("not/yet/here/a"), "1").unwrap();
    env.await_ended(1);
}

#[test]
fn what_is_no_file_is_left_alone() {
    let mut env =
        Env::new("[tasks.t]\ncommand = [\"true\"]\n[triggers.in]\ndrop = \"inbox\"\nrun = \"t\"\n");
    let inbox = env.mkdir("inbox");
    env.start();
    env.mkdir("inbox/folder");
    fs::write(env.at("elsewhere"), "1").unwrap();
    std::os::unix::fs::symlink(env.at("elsewhere"), inbox.join("link")).unwrap();
    std::os::unix::fs::symlink("loop", inbox.join("loop")).unwrap();
    std::os::unix::fs::symlink("/nowhere", inbox.join("dangling")).unwrap();
    assert!(
        std::process::Command::new("mkfifo").arg(inbox.join("pipe")).status().unwrap().success()
    );
    let _socket = std::os::unix::net::UnixListener::bind(inbox.join("socket")).unwrap();
    fs::write(inbox.join("last"), "1").unwrap();
    env.await_ended(1);
    env.await_idle();
    let runs = env.runs();
    assert_eq!(runs.len(), 1, "{runs:?}");
    assert_eq!(runs[0]["files"][0]["rel"], "last");
    for name in ["folder", "link", "loop", "dangling", "pipe", "socket"] {
        let told = env.json(&["explain", inbox.join(name).to_str().unwrap()]);
        assert_eq!(told["now"], "other", "{told}");
        assert_ne!(told["triggers"][0]["verdict"], "delivered", "{told}");
    }
}
