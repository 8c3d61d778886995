//! Names: whatever bytes they are made of, and however long, they reach the task and the API exactly.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};
use std::process::Output;

use base64::Engine as _;
use rustix::fs::{CWD, Mode, OFlags, mkdirat, openat};
use serde_json::Value;

use crate::common::Env;
use crate::world::while_it_goes_on;

/// The task leaves what the kernel keeps of its arguments and its environment: no shell has touched
/// that.
const CONFIG: &str = r#"
[tasks.raw]
command = ["sh", "-ec", "cat /proc/$$/cmdline > got/$DAGD_RUN.arguments; cat /proc/$$/environ > got/$DAGD_RUN.environment; :", "sh", "{path}", "{rel}", "{name}"]
cwd = "{dir}"
[triggers.in]
drop = "in"
recursive = true
hidden = true
default_ignores = false
run = "raw"
"#;

/// Every byte that a name can have.
fn bytes() -> impl Iterator<Item = u8> {
    (1..=255).filter(|&byte| byte != b'/')
}

/// Each byte as a name, as the beginning of one, and in the name of a directory.
fn names() -> Vec<Vec<u8>> {
    let alone = bytes().filter(|&byte| byte != b'.').map(|byte| vec![byte]);
    let first = bytes().map(|byte| vec![byte, b'x']);
    let within = bytes().map(|byte| vec![b'd', byte, b'd', b'/', b'f', byte, b'f']);
    alone.chain(first).chain(within).collect()
}

fn below(top: &Path, rel: &[u8]) -> PathBuf {
    top.join(OsStr::from_bytes(rel))
}

/// What the tasks left: for each run the three arguments, which are what the environment says, too.
fn received(env: &Env) -> Vec<[Vec<u8>; 3]> {
    let mut all = Vec::new();
    for entry in fs::read_dir(env.at("got")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension() != Some(OsStr::new("arguments")) {
            continue;
        }
        let arguments = fs::read(&path).unwrap();
        let arguments = arguments.strip_suffix(b"\0").unwrap().split(|&byte| byte == 0);
        let given: Vec<Vec<u8>> = arguments.skip(4).map(<[u8]>::to_vec).collect();
        let environment = fs::read(path.with_extension("environment")).unwrap();
        let vars: BTreeMap<&[u8], &[u8]> = environment
            .split(|&byte| byte == 0)
            .filter_map(|var| {
                var.iter().position(|&b| b == b'=').map(|at| (&var[..at], &var[at + 1..]))
            })
            .collect();
        assert_eq!(vars[&b"DAGD_PATH"[..]], given[0]);
        assert_eq!(vars[&b"DAGD_REL"[..]], given[1]);
        all.push(given.try_into().unwrap());
    }
    all
}

/// Waits for the runs, and checks what each of them was told. `wanted` are paths below `in`.
fn each_is_received(env: &Env, wanted: &[Vec<u8>]) {
    while_it_goes_on(env, "runs", || {
        let ended = env.counter("runs_ended");
        (ended >= wanted.len() as u64, ended)
    });
    env.await_idle();
    let top = env.at("in");
    let mut left: BTreeSet<&[u8]> = wanted.iter().map(Vec::as_slice).collect();
    for [path, rel, name] in received(env) {
        assert!(
            left.remove(&rel[..]),
            "not wanted, or twice: {}",
            rel[..rel.len().min(99)].escape_ascii()
        );
        assert_eq!(path, below(&top, &rel).into_os_string().into_vec());
        assert_eq!(name, rel.rsplit(|&byte| byte == b'/').next().unwrap());
    }
    assert!(left.is_empty(), "{} missing: {left:?}", left.len());
}

/// The exact paths in a list of files.
fn exact<'a>(files: impl IntoIterator<Item = &'a Value>) -> Vec<Vec<u8>> {
    let exact = |file: &Value| {
        let text = file["path_b64"].as_str().unwrap();
        let bytes = base64::engine::general_purpose::STANDARD.decode(text).unwrap();
        assert_eq!(file["path"].as_str().unwrap(), String::from_utf8_lossy(&bytes));
        bytes
    };
    let mut paths: Vec<_> = files.into_iter().map(exact).collect();
    paths.sort();
    paths
}

fn sorted(top: &Path, rels: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut paths: Vec<_> =
        rels.iter().map(|rel| below(top, rel).into_os_string().into_vec()).collect();
    paths.sort();
    paths
}

/// What is printed for people holds no byte that a terminal acts upon.
fn is_harmless(output: &Output) {
    let text = std::str::from_utf8(&output.stdout).unwrap();
    let acts = |c: char| c != '\n' && c.is_control();
    assert!(!text.contains(acts), "{:?}", text.lines().find(|line| line.contains(acts)));
}

#[test]
fn every_byte_reaches_the_task_and_the_api() {
    let mut env = Env::new(CONFIG);
    env.mkdir("got");
    let top = env.mkdir("in");
    let (early, late): (Vec<_>, Vec<_>) =
        names().into_iter().enumerate().partition(|(at, _)| at % 2 == 0);
    let write = |names: &[(usize, Vec<u8>)]| {
        for (_, rel) in names {
            let path = below(&top, rel);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "x").unwrap();
        }
    };
    // Half are found by the first scan, half by what the kernel tells.
    write(&early);
    env.start();
    write(&late);
    let wanted = names();
    each_is_received(&env, &wanted);

    let runs = env.runs();
    let files = runs.iter().flat_map(|run| run["files"].as_array().unwrap());
    assert_eq!(exact(files), sorted(&top, &wanted));
    is_harmless(&env.run(&["runs", "--limit", "10000"]));
    // One by one for each byte: a start of the program costs more than the question.
    for run in runs.iter().filter(|run| run["files"][0]["rel"].as_str().unwrap().starts_with('d')) {
        let detail = env.json(&["show", &run["id"].to_string()]);
        let shown = exact(detail["files"].as_array().unwrap());
        assert_eq!(shown, exact(run["files"].as_array().unwrap()));
        let path = OsStr::from_bytes(&shown[0]);
        let told = env.command(&["explain", "--json", "--"]).arg(path).output().unwrap();
        let told: Value = serde_json::from_slice(&told.stdout).unwrap();
        assert_eq!(exact([&told]), shown);
        assert_eq!(told["triggers"][0]["run"], run["id"], "{told}");
        assert_eq!(told["triggers"][0]["verdict"], "delivered", "{told}");
        is_harmless(&env.command(&["explain", "--"]).arg(path).output().unwrap());
    }

    // A second start remembers each of them.
    assert!(env.stop());
    env.start();
    fs::write(top.join("marker"), "x").unwrap();
    env.await_ended(1);
    env.await_idle();
    assert_eq!(env.runs().len(), wanted.len() + 1);
}

#[test]
fn every_byte_is_pending_under_its_name() {
    let mut env = Env::new(CONFIG);
    env.mkdir("got");
    let top = env.mkdir("in");
    env.start();
    let wanted: Vec<Vec<u8>> = bytes().map(|byte| vec![byte, b'-']).collect();
    let open: Vec<File> =
        wanted.iter().map(|rel| File::create(below(&top, rel)).unwrap()).collect();
    // The kernel makes a name before it counts the writer: a file that is found between the two is
    // empty and nobody writes it. It settles then, and its writer is known at the next look.
    let mut pending = Value::Null;
    env.wait("each to wait for its writer", || {
        pending = env.json(&["pending"]);
        let entries = pending.as_array().unwrap();
        let wait = |entry: &Value| entry["reason"].as_str().unwrap().starts_with("writer_open");
        entries.len() == wanted.len() && entries.iter().all(wait)
    });
    let entries = pending.as_array().unwrap();
    assert_eq!(exact(entries.iter().map(|entry| &entry["file"])), sorted(&top, &wanted));
    is_harmless(&env.run(&["pending"]));
    for (file, rel) in open.iter().zip(&wanted) {
        std::io::Write::write_all(&mut &*file, rel).unwrap();
    }
    drop(open);
    each_is_received(&env, &wanted);
}

/// Names of 255 bytes: plain, of one byte each, of characters, of a byte that no text has.
fn longest() -> Vec<Vec<u8>> {
    let mut names: Vec<Vec<u8>> = [b'x', b'\n', b' ', b'-', b'*', b'{', 0xff, 0x80]
        .into_iter()
        .map(|byte| vec![byte; 255])
        .collect();
    names.push("€".repeat(85).into_bytes());
    names.push([b"-rf", &[b'y'; 252][..]].concat());
    names
}

#[test]
fn names_of_255_bytes() {
    let mut env = Env::new(CONFIG);
    env.mkdir("got");
    let top = env.mkdir("in");
    env.start();
    let mut wanted = Vec::new();
    for name in longest() {
        fs::write(below(&top, &name), "x").unwrap();
        wanted.push(name.clone());
        let within = [&name[..254], b"d/", &name[..]].concat();
        fs::create_dir(below(&top, &within[..255])).unwrap();
        fs::write(below(&top, &within), "x").unwrap();
        wanted.push(within);
    }
    each_is_received(&env, &wanted);
    let runs = env.runs();
    let files = runs.iter().flat_map(|run| run["files"].as_array().unwrap());
    assert_eq!(exact(files), sorted(&top, &wanted));
}

/// The bytes of a path that a program can open, at most: with the byte that ends it 4096.
const PATH_BYTES: usize = 4095;

/// Makes directories of 250 bytes each down from `top`, as many as are needed to hold a file whose
/// whole path has `length` bytes, and writes the file. Returns its path.
fn write_deep(top: &Path, length: usize) -> PathBuf {
    let mut path = top.to_owned();
    let open = |at: &OwnedFd, name: &OsStr| {
        openat(at, name, OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap()
    };
    let mut dir = openat(CWD, top, OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap();
    let level = OsString::from_vec(vec![b'p'; 250]);
    while length - path.as_os_str().len() > 255 {
        match mkdirat(&dir, &level, Mode::RWXU) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(errno) => panic!("{errno}"),
        }
        dir = open(&dir, &level);
        path.push(&level);
    }
    let name = OsString::from_vec(vec![b'q'; length - path.as_os_str().len() - 1]);
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
    let file = openat(&dir, &name, flags, Mode::RUSR | Mode::WUSR).unwrap();
    rustix::io::write(&file, b"x").unwrap();
    path.join(name)
}

#[test]
fn the_longest_path_that_can_be_opened() {
    let mut env = Env::new(CONFIG);
    env.mkdir("got");
    let top = env.mkdir("in");
    let rel = |path: &Path| path.strip_prefix(&top).unwrap().as_os_str().as_bytes().to_vec();
    let mut wanted = vec![rel(&write_deep(&top, PATH_BYTES))];
    env.start();
    each_is_received(&env, &wanted);
    for length in [PATH_BYTES - 1, PATH_BYTES - 100, PATH_BYTES - 1000] {
        wanted.push(rel(&write_deep(&top, length)));
    }
    each_is_received(&env, &wanted);
}
