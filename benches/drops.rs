//! From the close of a dropped file to the first instruction of its command: a daemon with ledger,
//! history and logs against the floor of the machine, in turn; drop after drop, and out of quiet.
//! State and folder lie in `DAGD_BENCH_DIR` (else `target`), the runtime folder in memory, as
//! `/run` does. `cargo bench --bench drops [DROPS]`

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    reason = "a benchmark ends at the first thing that goes wrong, and prints its figures"
)]

mod bench;

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bench::{Bench, Lot, median, quantile};

/// How many drops warm up.
const WARM: usize = 20;

fn main() {
    let bench = Bench::new();
    let drops = bench::rounds(500);
    let floor = Watcher::floor(&bench);
    let dagd = Watcher::dagd(&bench);
    println!(
        "{:<22} {:>8} {:>8} {:>8} {:>8}  ms from close to first instruction",
        "", "p50", "p90", "p99", "max"
    );
    let lots = [
        ("in a row", Duration::from_millis(5), drops + WARM),
        // Longer than all that a daemon puts off until it is quiet.
        ("after 1.5 s", Duration::from_millis(1500), drops / 25),
    ];
    let mut dropped = 0;
    for (what, pause, drops) in lots {
        let mut marks: [HashMap<String, u64>; 2] = Default::default();
        for _ in 0..drops {
            dropped += 1;
            for (watcher, marks) in [&floor, &dagd].into_iter().zip(&mut marks) {
                let name = format!("f{dropped}");
                fs::write(watcher.dir.join(&name), "content").unwrap();
                let closed = monotonic();
                if dropped > WARM {
                    marks.insert(name, closed);
                }
                std::thread::sleep(pause);
            }
        }
        let mut p50 = Vec::new();
        for ((name, watcher), marks) in ["floor", "dagd"].iter().zip([&floor, &dagd]).zip(&marks) {
            let lot = latencies(&watcher.log, marks);
            p50.push(median(&lot));
            let at = |share| quantile(&lot, share);
            println!(
                "{:<22} {:>8.3} {:>8.3} {:>8.3} {:>8.3}",
                format!("{name} {what}"),
                at(0.5),
                at(0.9),
                at(0.99),
                at(1.0)
            );
        }
        println!("dagd ÷ floor at p50: {:.2}", p50[1] / p50[0]);
    }
}

struct Watcher {
    child: Child,
    dir: PathBuf,
    log: PathBuf,
    _runtime: Option<tempfile::TempDir>,
}

impl Watcher {
    fn floor(bench: &Bench) -> Self {
        let dir = bench.dir("floor-inbox");
        let log = bench.dir("floor-log").join("log");
        let mut child = Command::new(&bench.floor)
            .arg("drop")
            .arg(&dir)
            .arg(&bench.probe)
            .arg(&log)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        Self { child, dir, log, _runtime: None }
    }

    fn dagd(bench: &Bench) -> Self {
        let home = bench.dir("dagd");
        let dir = bench.dir("dagd/inbox");
        let log = home.join("log");
        let memory = tempfile::Builder::new().prefix("dagd-bench-").tempdir_in("/dev/shm").unwrap();
        let runtime = memory.path().join("run");
        let config = format!(
            "[daemon]\nstate_dir = \"state\"\nruntime_dir = \"{}\"\nmax_parallel = 2\n\
             [tasks.t]\ncommand = [\"{}\", \"{}\", \"{{path}}\"]\n\
             [triggers.in]\ndrop = \"inbox\"\nrun = \"t\"\n",
            runtime.display(),
            bench.probe.display(),
            log.display(),
        );
        fs::write(home.join("dagd.toml"), config).unwrap();
        let child = Command::new(&bench.dagd)
            .args(["run", "--config"])
            .arg(home.join("dagd.toml"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        wait_for(&runtime.join("dagd.sock"));
        Self { child, dir, log, _runtime: Some(memory) }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

fn wait_for(path: &Path) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while std::os::unix::net::UnixStream::connect(path).is_err() {
        assert!(Instant::now() < deadline, "{} did not appear", path.display());
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn latencies(log: &Path, marks: &HashMap<String, u64>) -> Lot {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let text = fs::read_to_string(log).unwrap_or_default();
        let lines = text.lines().filter_map(|line| line.split_once(' '));
        let seen: HashMap<&str, u64> =
            lines.map(|(at, name)| (name, at.parse().unwrap())).collect();
        if marks.keys().all(|name| seen.contains_key(name.as_str())) {
            return marks
                .iter()
                .map(|(name, closed)| (seen[name.as_str()].saturating_sub(*closed)) as f64 / 1e6)
                .collect();
        }
        assert!(Instant::now() < deadline, "only {} of {} arrived", seen.len(), marks.len());
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The clock that the probe reads.
fn monotonic() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    u64::try_from(now.tv_sec).unwrap() * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap()
}
