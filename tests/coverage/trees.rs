//! Trees that move: into the folder, within it, away from it, and roots that come and go.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use crate::common::Env;
use crate::world::{exactly, exactly_or, got, world};

const TRIGGER: &str = r#"
[triggers.in]
drop = "in"
recursive = true
run = "each"
"#;

/// Writes a tree of three levels with files on each, and returns their paths below it.
fn tree(top: &Path) -> Vec<String> {
    fs::create_dir_all(top.join("a/b")).unwrap();
    fs::create_dir_all(top.join("c/d")).unwrap();
    let files = ["1", "a/2", "a/b/3", "a/b/4", "c/d/5"];
    for file in files {
        fs::write(top.join(file), "x").unwrap();
    }
    files.map(str::to_owned).to_vec()
}

#[test]
fn a_hundred_trees_moved_in() {
    let mut env = world(TRIGGER);
    let (inbox, out) = (env.mkdir("in"), env.mkdir("out"));
    let mut wanted = BTreeSet::new();
    for n in 0..100 {
        let files = tree(&out.join(format!("t{n}")));
        wanted.extend(files.into_iter().map(|file| format!("in/t{n}/{file}")));
    }
    env.start();
    for n in 0..100 {
        fs::rename(out.join(format!("t{n}")), inbox.join(format!("t{n}"))).unwrap();
    }
    exactly(&env, &wanted);
    // They are covered as if they had been born there.
    for n in 0..100 {
        fs::write(inbox.join(format!("t{n}/a/b/late")), "x").unwrap();
        wanted.insert(format!("in/t{n}/a/b/late"));
    }
    exactly(&env, &wanted);
}

#[test]
fn two_hundred_directories_renamed_and_written_at_once() {
    let mut env = world(TRIGGER);
    let inbox = env.mkdir("in");
    env.start();
    let mut wanted = BTreeSet::new();
    for n in 0..200 {
        fs::create_dir_all(inbox.join(format!("a{n}/sub"))).unwrap();
        for file in ["old", "sub/old"] {
            fs::write(inbox.join(format!("a{n}/{file}")), "x").unwrap();
            wanted.insert(format!("in/a{n}/{file}"));
        }
    }
    exactly(&env, &wanted);

    // Every other one goes on to a third name, before or after somebody has seen it at the second.
    let mut between = BTreeSet::new();
    for n in 0..200 {
        let (a, b, c) = (format!("a{n}"), format!("b{n}"), format!("c{n}"));
        fs::rename(inbox.join(&a), inbox.join(&b)).unwrap();
        fs::write(inbox.join(&b).join("sub/new"), "x").unwrap();
        let last = if n % 2 == 0 {
            b
        } else {
            fs::rename(inbox.join(&b), inbox.join(&c)).unwrap();
            for file in ["old", "sub/old", "sub/new"] {
                between.insert(format!("in/{b}/{file}"));
            }
            c
        };
        fs::write(inbox.join(&last).join("newer"), "x").unwrap();
        for file in ["old", "sub/old", "sub/new", "newer"] {
            wanted.insert(format!("in/{last}/{file}"));
        }
    }
    exactly_or(&env, &wanted, &between);
    for n in 0..200 {
        let last = if n % 2 == 0 { "b" } else { "c" };
        let late = format!("in/{last}{n}/sub/late");
        fs::write(env.at(&late), "x").unwrap();
        wanted.insert(late);
    }
    exactly_or(&env, &wanted, &between);
}

/// More triggers, each with something to tell before it is covered, than messages fit between the
/// watch side and the engine.
#[test]
fn many_folders_are_covered_at_the_start() {
    let names = (0..100).map(|n| format!("in{n}")).collect::<Vec<_>>();
    let own = |name: &String| {
        TRIGGER.replace(".in]", &format!(".{name}]")).replace("\"in\"", &format!("\"{name}\""))
    };
    let all: String = names.iter().map(own).collect();
    let mut env = world(&all);
    for name in &names {
        fs::write(env.mkdir(name).join("before"), "x").unwrap();
    }
    env.start();
    for name in &names {
        fs::write(env.at(name).join("after"), "x").unwrap();
    }
    let both = names.iter().flat_map(|n| [format!("{n}/before"), format!("{n}/after")]);
    exactly(&env, both);
}

#[test]
fn names_of_directories_are_exchanged() {
    let mut env = world(TRIGGER);
    let inbox = env.mkdir("in");
    env.start();
    let mut wanted = BTreeSet::new();
    for n in 0..50 {
        for side in ["left", "right"] {
            let file = format!("in/{n}/{side}/{side}");
            fs::create_dir_all(env.at(&file).parent().unwrap()).unwrap();
            fs::write(env.at(&file), "x").unwrap();
            wanted.insert(file);
        }
    }
    exactly(&env, &wanted);
    for n in 0..50 {
        let (left, right) = (inbox.join(format!("{n}/left")), inbox.join(format!("{n}/right")));
        let flags = rustix::fs::RenameFlags::EXCHANGE;
        rustix::fs::renameat_with(rustix::fs::CWD, &left, rustix::fs::CWD, &right, flags).unwrap();
        fs::write(left.join("new"), "x").unwrap();
        fs::write(right.join("new"), "x").unwrap();
        for file in ["left/right", "right/left", "left/new", "right/new"] {
            wanted.insert(format!("in/{n}/{file}"));
        }
    }
    exactly(&env, &wanted);
}

#[test]
fn a_root_renamed_away_and_made_anew() {
    let mut env = world(TRIGGER);
    let inbox = env.mkdir("in");
    env.start();
    let mut wanted = BTreeSet::new();
    for round in 0..5 {
        for file in tree(&inbox.join(format!("t{round}"))) {
            wanted.insert(format!("in/t{round}/{file}"));
        }
        exactly(&env, &wanted);
        let away = env.at(&format!("away{round}"));
        fs::rename(&inbox, &away).unwrap();
        fs::create_dir(&inbox).unwrap();
        fs::write(inbox.join(format!("new{round}")), "x").unwrap();
        // What lies in the old one is nobody's business any more.
        fs::write(away.join("strange"), "x").unwrap();
        wanted.insert(format!("in/new{round}"));
        exactly(&env, &wanted);
        fs::write(away.join("stranger"), "x").unwrap();
    }
}

/// The same, with a root below folders that may not be there.
fn deep() -> String {
    TRIGGER.replace("\"in\"\nrec", "\"x/y/z/in\"\nrec")
}

fn state(env: &Env) -> String {
    env.json(&["status"])["triggers"][0]["state"].as_str().unwrap().to_owned()
}

#[test]
fn a_root_that_comes_later_level_by_level() {
    let mut env = world(&deep());
    env.start();
    assert_eq!(state(&env), "waiting");
    let top = env.at("x/y/z/in");
    let mut wanted = BTreeSet::new();
    for round in 0..20 {
        fs::create_dir_all(&top).unwrap();
        let file = format!("x/y/z/in/{round}");
        fs::write(env.at(&file), "x").unwrap();
        wanted.insert(file);
        exactly(&env, &wanted);
        // How much of the way goes differs from round to round.
        fs::remove_dir_all(env.at(["x/y/z/in", "x/y/z", "x/y", "x"][round % 4])).unwrap();
        if round % 2 == 0 {
            env.wait("no root", || state(&env) == "waiting");
        }
    }
}

#[test]
fn a_root_is_moved_there_with_the_folders_over_it() {
    let mut env = world(&deep());
    env.start();
    let mut wanted = BTreeSet::new();
    for file in tree(&env.at("elsewhere/y/z/in")) {
        wanted.insert(format!("x/y/z/in/{file}"));
    }
    fs::rename(env.at("elsewhere"), env.at("x")).unwrap();
    exactly(&env, &wanted);
}

#[test]
fn a_folder_far_over_the_root_is_renamed_away_and_made_anew() {
    let mut env = world(&deep());
    let top = env.mkdir("x/y/z/in");
    env.start();
    fs::write(top.join("first"), "x").unwrap();
    exactly(&env, ["x/y/z/in/first"]);
    // Nothing happens in the root itself, or right over it.
    fs::rename(env.at("x"), env.at("old")).unwrap();
    fs::create_dir_all(&top).unwrap();
    fs::write(top.join("second"), "x").unwrap();
    exactly(&env, ["x/y/z/in/first", "x/y/z/in/second"]);
    fs::write(env.at("old/y/z/in/strange"), "x").unwrap();
    fs::write(top.join("third"), "x").unwrap();
    exactly(&env, ["x/y/z/in/first", "x/y/z/in/second", "x/y/z/in/third"]);
}

#[test]
fn a_folder_over_the_root_goes_away_and_comes_back() {
    let mut env = world(&deep());
    let top = env.mkdir("x/y/z/in");
    env.start();
    fs::write(top.join("first"), "x").unwrap();
    exactly(&env, ["x/y/z/in/first"]);
    fs::rename(env.at("x/y"), env.at("away")).unwrap();
    env.wait("no root", || state(&env) == "waiting");
    fs::write(env.at("away/z/in/second"), "x").unwrap();
    fs::rename(env.at("away"), env.at("x/y")).unwrap();
    // It is the same root, and what was delivered stays delivered.
    exactly(&env, ["x/y/z/in/first", "x/y/z/in/second"]);
}

/// A folder that moved away with folders below it whose names are no text is missed with all of
/// them, so that it is new when it is back; by what the ledger knows alone.
#[test]
fn folders_of_any_name_go_and_come_back() {
    let mut env = world(TRIGGER);
    let inbox = env.mkdir("in");
    let odd = Path::new(OsStr::from_bytes(b"a/\xff/f"));
    for file in [odd, Path::new("a/b/f"), Path::new("z/f")] {
        let file = inbox.join(file);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, "x").unwrap();
    }
    env.start();
    let moved = [&b"in/a/\xff/f"[..], b"in/a/b/f"];
    let times = |env: &Env, n: usize| {
        let all = [(moved[0], n), (moved[1], n), (&b"in/z/f"[..], 1)];
        env.wait("all deliveries", || all.iter().all(|(path, n)| got(env).get(*path) == Some(n)));
    };
    times(&env, 1);
    assert!(env.stop());
    env.start();
    fs::rename(inbox.join("a"), env.at("away")).unwrap();
    env.wait("both to be missed", || {
        moved.iter().all(|path| {
            let path = env.at("").join(OsStr::from_bytes(path));
            let told = env.command(&["explain"]).arg(path).output().unwrap();
            String::from_utf8(told.stdout).unwrap().contains("it is no longer there")
        })
    });
    fs::rename(env.at("away"), inbox.join("a")).unwrap();
    times(&env, 2);
}
