//! Very many files, there before the start: each is delivered once, memory stays flat, a large
//! folder is read as seldom as can be, and a second start finds nothing.
//!
//! `DAGD_SCALE` says how many files. A million take minutes without optimisation, and a gigabyte
//! where the temporary folder is; they need `TMPDIR` on a file system with room for them.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test ends at the first thing that goes wrong, and tells what it measured"
)]

#[expect(dead_code, reason = "a part of the harness is enough here")]
mod common;

use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use dagd::core::machine::lane::READY_HIGH;
use dagd::io::watch::report::{BATCH_MAX, RECENT_MAX};

use common::{Env, PATIENCE, have, through};

const CONFIG: &str = r#"
[tasks.t]
shell = "cp \"$DAGD_FILES_NUL\" got/$DAGD_RUN"
cwd = "{dir}"
[triggers.in]
drop = "in"
recursive = true
initial_max = 100000000
fan_out = "batch"
run = "t"
"#;

/// Files in a batch, at most.
const IN_A_BATCH: u64 = 1000;

/// Files in a directory of the deep layout.
const IN_A_DIRECTORY: usize = 100;

fn scale() -> usize {
    scale_or(100_000)
}

fn scale_or(files: usize) -> usize {
    std::env::var("DAGD_SCALE").map_or(files, |number| number.parse().unwrap())
}

/// Makes files of one byte that take no room on the disk, the one with the number `n` at `place(n)`.
fn make(files: usize, place: impl Fn(usize) -> std::path::PathBuf) {
    for n in 0..files {
        File::create(place(n)).unwrap().set_len(1).unwrap();
    }
}

/// How often each file was delivered; the name of a file is its number.
fn delivered(env: &Env, files: usize) -> Vec<u8> {
    let mut times = vec![0; files];
    for entry in fs::read_dir(env.at("got")).unwrap() {
        let list = fs::read(entry.unwrap().path()).unwrap();
        for path in list.split(|&byte| byte == 0).filter(|path| !path.is_empty()) {
            let name = Path::new(std::ffi::OsStr::from_bytes(path)).file_name().unwrap();
            if let Ok(number) = name.to_str().unwrap().parse::<usize>() {
                times[number] += 1;
            }
        }
    }
    times
}

/// Waits until a counter of the daemon has come to `wanted`, as long as it moves.
fn await_counter(env: &Env, name: &str, wanted: u64) {
    let (mut last, mut moved) = (0, Instant::now());
    loop {
        let count = env.counter(name);
        if count >= wanted {
            return;
        }
        if count != last {
            (last, moved) = (count, Instant::now());
        }
        assert!(moved.elapsed() < 3 * PATIENCE, "{name} stays at {count}\n{}", env.log());
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
}

/// The most memory that the daemon has had so far, in KiB.
fn peak(pid: i32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// The most memory that it may need, in KiB: one for each file that live runs have claimed, a quarter
/// for each that is ready, on its way to the engine or was reported not long ago, and the daemon
/// itself. How many files there are does not matter.
fn peak_max(env: &Env) -> u64 {
    let live = env.json(&["status"])["max_live_runs"].as_u64().unwrap() * IN_A_BATCH;
    let known = [READY_HIGH, 64 * BATCH_MAX, 2 * RECENT_MAX].map(|files| files as u64);
    20 * 1024 + live + known.iter().sum::<u64>() / 4
}

/// Delivers all that is there, and again all that is new after a second start: nothing. `last` is
/// the file that a scan comes to last when it looks for what has gone.
fn once_and_never_again(env: &mut Env, files: usize, last: &Path) {
    let begun = Instant::now();
    env.start();
    let ready = begun.elapsed();
    await_counter(env, "files_delivered", files as u64 + 1);
    env.await_idle();
    let took = begun.elapsed();
    let (first, most) = (peak(env.pid()), peak_max(env));
    assert!(first <= most, "{first} KiB, {most} at most");
    assert!(delivered(env, files).iter().all(|&times| times == 1), "each file once");
    assert!(env.stop());

    fs::remove_file(last).unwrap();
    let again = Instant::now();
    env.start();
    await_counter(env, "files_departed", 1);
    let second = again.elapsed();
    env.await_idle();
    assert_eq!(env.counter("files_delivered"), 0, "a second start delivers nothing");
    println!(
        "{files} files: ready after {ready:.1?}, delivered after {took:.1?}, peak {} MiB; \
         a second start has looked at all after {second:.1?}, peak {} MiB",
        first / 1024,
        peak(env.pid()) / 1024,
    );
}

#[test]
fn many_files_in_many_directories() {
    let files = scale();
    let mut env = Env::new(CONFIG);
    env.mkdir("got");
    let top = env.mkdir("in");
    for n in 0..files.div_ceil(IN_A_DIRECTORY) {
        fs::create_dir(top.join(n.to_string())).unwrap();
    }
    make(files, |n| top.join(format!("{}/{n}", n / IN_A_DIRECTORY)));
    let last = env.mkdir("in/zzz").join("zzz");
    fs::write(&last, "x").unwrap();
    once_and_never_again(&mut env, files, &last);
}

/// Bytes of names that were read from a folder, as the traces in `traces` tell: a folder read once
/// gives always the same.
fn bytes_read(traces: &Path, folder: &Path) -> u64 {
    let of = format!("<{}>", folder.display());
    let mut bytes = 0;
    for thread in fs::read_dir(traces).unwrap() {
        let text = fs::read_to_string(thread.unwrap().path()).unwrap();
        let lines = text.lines().filter(|line| line.contains(&of));
        bytes +=
            lines.filter_map(|line| line.rsplit_once("= ")?.1.parse::<u64>().ok()).sum::<u64>();
    }
    bytes
}

/// A command, each thread of it traced into a file in `traces`; it is the direct child, the tracer
/// is not.
fn traced(inner: &Command, traces: &Path) -> Command {
    fs::create_dir(traces).unwrap();
    let files = traces.join("thread");
    let words = "strace -D -ff -qq -y --seccomp-bpf -e trace=getdents64 -o".split(' ');
    through(&words.chain(files.to_str()).collect::<Vec<_>>(), inner)
}

#[test]
fn a_flat_folder_is_read_twice_at_most() {
    if !have("strace") {
        return;
    }
    let files = scale_or(50_000);
    let mut env = Env::new(&CONFIG.replace("recursive = true", "recursive = false"));
    env.mkdir("got");
    let top = env.mkdir("in");
    make(files, |n| top.join(n.to_string()));
    let last = top.join("zzz");
    fs::write(&last, "x").unwrap();
    let mut lister = Command::new("ls");
    lister.arg("-f").arg(&top).stdout(std::process::Stdio::null());
    assert!(traced(&lister, &env.at("traces-ls")).output().unwrap().status.success());
    let once = bytes_read(&env.at("traces-ls"), &top);
    assert!(once > files as u64, "nothing was traced");

    for (start, counter, wanted) in
        [("first", "files_delivered", files as u64 + 1), ("second", "files_departed", 1)]
    {
        let traces = env.at(&format!("traces-{start}"));
        let mut command = traced(&env.command(&["run"]), &traces);
        env.spawn(&mut command);
        env.await_ready();
        await_counter(&env, counter, wanted);
        env.await_idle();
        assert!(env.stop());
        let read = bytes_read(&traces, &top);
        println!("{start} start: {read} bytes of names, once is {once}");
        assert!(read <= 2 * once, "{start} start: {read} bytes of names, once is {once}");
        fs::remove_file(&last).ok();
    }
}

#[test]
fn many_files_in_one_flat_folder() {
    let files = scale();
    let mut env = Env::new(CONFIG);
    env.mkdir("got");
    let top = env.mkdir("in");
    make(files, |n| top.join(n.to_string()));
    let last = top.join("zzz");
    fs::write(&last, "x").unwrap();
    once_and_never_again(&mut env, files, &last);
}
