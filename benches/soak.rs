//! A daemon at work for as long as is wanted, and what it holds meanwhile: a line for each minute.
//! `cargo bench --bench soak [MINUTES]`
//!
//! Files of all kinds come, some runs fail, signals and schedules are due, the configuration changes.
//! Memory, descriptors, threads and the database level off; the last line tells how far they did.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    reason = "a benchmark ends at the first thing that goes wrong, and prints its figures"
)]

mod bench;

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bench::Bench;

/// Pause between two bursts of files: some twenty runs a second, as a busy machine has them.
const PAUSE: Duration = Duration::from_millis(250);

/// Runs that are kept, few enough that an hour reaches the bound many times over.
const RUNS: usize = 5_000;

fn config(round: usize) -> String {
    format!(
        "[daemon]\nstate_dir = \"state\"\nruntime_dir = \"run\"\nmax_parallel = 2\n\
         reload_on_change = true\nretention = {{ runs = {RUNS}, age = \"10m\", logs = \"8MiB\" }}\n\
         [tasks.t]\nshell = \"echo $DAGD_RUN\"\npriority = {}\n\
         [tasks.odd]\ncommand = [\"sh\", \"-c\", \"exit $((DAGD_RUN % 7 == 0))\"]\nneeds = [\"t\"]\n\
         [tasks.leaving]\nshell = \"setsid sleep 100 &\"\non_daemon_stop = \"leave\"\n\
         [triggers.in]\ndrop = \"inbox\"\nrun = \"t+\"\nrecursive = true\ndelete = true\n\
         [triggers.tree]\nwatch = \"tree\"\nrun = \"leaving\"\n\
         [triggers.usr]\nsignal = \"SIGUSR1\"\nrun = \"t\"\n\
         [triggers.often]\nschedule = \"* * * * *\"\nrun = \"t\"\n{}",
        round % 3,
        if round.is_multiple_of(2) {
            ""
        } else {
            "[triggers.more]\nwatch = \"more\"\nrun = \"t\"\n"
        }
    )
}

fn configure(home: &Path, round: usize) {
    let new = home.join("new");
    fs::write(&new, config(round)).unwrap();
    fs::rename(new, home.join("dagd.toml")).unwrap();
}

fn main() {
    let bench = Bench::new();
    let minutes = bench::rounds(60);
    let home = bench.dir("soak");
    for dir in ["inbox", "tree", "more"] {
        bench.dir(&format!("soak/{dir}"));
    }
    configure(&home, 0);
    let mut child = Command::new(&bench.dagd)
        .args(["run", "--config"])
        .arg(home.join("dagd.toml"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    println!("minute  files  resident kB  descriptors  threads  watches  database kB  logs");
    let begun = Instant::now();
    let (mut files, mut rows) = (0, Vec::new());
    for minute in 1..=minutes {
        while begun.elapsed() < Duration::from_mins(minute as u64) {
            files += burst(&home, files);
            std::thread::sleep(PAUSE);
            assert_eq!(child.try_wait().unwrap(), None, "the daemon goes on");
        }
        signal(&child, "USR1");
        configure(&home, minute);
        let row = sample(&child, &home);
        println!(
            "{minute:>6} {files:>6} {:>12} {:>12} {:>8} {:>8} {:>12} {:>5}",
            row[0], row[1], row[2], row[3], row[4], row[5]
        );
        rows.push(row);
    }
    let (first, second) = rows.split_at(rows.len() / 2);
    let most = |rows: &[[u64; 6]], at: usize| rows.iter().map(|row| row[at]).max().unwrap_or(0);
    for (at, name) in ["resident kB", "descriptors", "threads", "watches", "database kB", "logs"]
        .into_iter()
        .enumerate()
    {
        let (before, after) = (most(first, at), most(second, at));
        let ratio = after as f64 / before.max(1) as f64;
        println!("{name}: {before} at most in the first half, {after} in the second ({ratio:.2})");
    }
    signal(&child, "TERM");
    assert!(child.wait().unwrap().success(), "it stops well");
}

/// Files in folders that come and go, and a change of the tree. Returns how many.
fn burst(home: &Path, from: usize) -> usize {
    let dir = home.join(format!("inbox/{}", from / 50 % 20));
    fs::create_dir_all(&dir).unwrap();
    for n in from..from + 5 {
        fs::write(dir.join(format!("f{n}")), vec![b'x'; n % 5000]).unwrap();
    }
    if from.is_multiple_of(50) {
        fs::write(home.join(format!("tree/{}", from / 50 % 100)), from.to_string()).unwrap();
    }
    5
}

fn signal(child: &Child, name: &str) {
    let status = Command::new("kill").args(["-s", name, &child.id().to_string()]).status();
    assert!(status.unwrap().success());
}

/// Resident kB, descriptors, threads, inotify watches, kB of the database, log files.
fn sample(child: &Child, home: &Path) -> [u64; 6] {
    let proc = format!("/proc/{}", child.id());
    let status = fs::read_to_string(format!("{proc}/status")).unwrap();
    let field = |name: &str| -> u64 {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    let count = |dir: String| fs::read_dir(dir).unwrap().count() as u64;
    let infos = fs::read_dir(format!("{proc}/fdinfo")).unwrap().flatten();
    let texts = infos.filter_map(|info| fs::read_to_string(info.path()).ok());
    let watches = texts.map(|text| text.matches("inotify wd:").count() as u64).sum();
    let files = ["dagd.db", "dagd.db-wal"].map(|name| home.join("state").join(name));
    let bytes: u64 = files.iter().filter_map(|file| Some(fs::metadata(file).ok()?.len())).sum();
    let logs = count(home.join("state/logs").display().to_string());
    [field("VmRSS"), count(format!("{proc}/fd")), field("Threads"), watches, bytes >> 10, logs]
}
