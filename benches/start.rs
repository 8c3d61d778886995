//! From the start of a daemon until it says that it is ready: with nothing to do, with a thousand runs
//! that wait after a stop and after a kill, and with a graph of a hundred thousand tasks.
//! `cargo bench --bench start [ROUNDS]`

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    reason = "a benchmark ends at the first thing that goes wrong, and prints its figures"
)]

mod bench;

use std::fmt::Write as _;
use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bench::{Bench, Lot, median, quantile};

/// Runs that wait.
const RUNS: usize = 1_000;

/// Tasks of the large graph.
const TASKS: usize = 100_000;

/// Longest wait for anything.
const LONGEST: Duration = Duration::from_mins(2);

fn main() {
    let bench = Bench::new();
    let rounds = bench::rounds(10);
    let nothing = Home::new(&bench, "nothing", &config("[tasks.t]\ncommand = [\"true\"]\n"));
    let waiting = "[tasks.t]\ncommand = [\"sleep\", \"1000\"]\nkill_after = \"1ms\"\n";
    let waiting = Home::new(&bench, "waiting", &config(waiting));
    let large = Home::new(&bench, "large", &config(&large()));
    waiting.fill();

    let names = ["nothing to do", "1,000 runs, stopped", "1,000 runs, killed", "100,000 tasks"];
    let mut lots: [Lot; 4] = Default::default();
    for _ in 0..rounds {
        for (lot, (home, killed)) in lots.iter_mut().zip([
            (&nothing, false),
            (&waiting, true),
            (&waiting, false),
            (&large, false),
        ]) {
            let (daemon, took) = home.start();
            lot.push(took.as_secs_f64() * 1e3);
            end(daemon, killed);
        }
    }
    let (daemon, _) = waiting.start();
    // But for those that are given up: their tasks were killed with dagd once too often.
    let live = waiting.live();
    assert!(live + rounds >= RUNS, "{live} of {RUNS}: they wait all the time");
    end(daemon, true);
    println!("{:<20} {:>9} {:>9}  ms until ready, {rounds} starts", "", "p50", "max");
    for (name, lot) in names.iter().zip(&lots) {
        println!("{name:<20} {:>9.1} {:>9.1}", median(lot), quantile(lot, 1.0));
    }
    println!("1,000 runs ÷ nothing at p50: {:.1}", median(&lots[1]) / median(&lots[0]));
}

fn config(tasks: &str) -> String {
    format!(
        "[daemon]\nstate_dir = \"state\"\nruntime_dir = \"run\"\nmax_parallel = 2\n\
         max_live_runs = {RUNS}\nstop_timeout = \"1ms\"\n{tasks}\
         [triggers.in]\ndrop = \"inbox\"\nrun = \"t\"\n"
    )
}

/// Layers of a thousand tasks, each of which needs one of the layer before.
fn large() -> String {
    let mut text = "[tasks.t]\ncommand = [\"true\"]\n".to_owned();
    for at in 1..TASKS {
        writeln!(text, "[tasks.t{at:06}]\ncommand = [\"true\"]").unwrap();
        if at > 1_000 {
            writeln!(text, "needs = [\"t{:06}\"]", at - 1_000).unwrap();
        }
    }
    text
}

struct Home {
    dagd: PathBuf,
    dir: PathBuf,
}

impl Home {
    fn new(bench: &Bench, name: &str, config: &str) -> Self {
        let dir = bench.dir(name);
        bench.dir(&format!("{name}/inbox"));
        fs::write(dir.join("dagd.toml"), config).unwrap();
        Self { dagd: bench.dagd.clone(), dir }
    }

    /// Starts a daemon; how long it took until it was ready.
    fn start(&self) -> (Child, Duration) {
        let place = self.dir.join("notify");
        fs::remove_file(&place).ok();
        let notified = UnixDatagram::bind(&place).unwrap();
        notified.set_read_timeout(Some(LONGEST)).unwrap();
        let mut command = Command::new(&self.dagd);
        command.args(["run", "--config"]).arg(self.dir.join("dagd.toml"));
        command.env("NOTIFY_SOCKET", &place).stdout(Stdio::null()).stderr(Stdio::null());
        let begun = Instant::now();
        let daemon = command.spawn().unwrap();
        let mut text = [0; 4096];
        let mut is_ready = || {
            let length = notified.recv(&mut text).unwrap();
            text[..length].split(|&byte| byte == b'\n').any(|line| line == b"READY=1")
        };
        while !is_ready() {}
        (daemon, begun.elapsed())
    }

    /// Makes the runs that wait, and ends their daemon.
    fn fill(&self) {
        let (daemon, _) = self.start();
        for n in 0..RUNS {
            fs::write(self.dir.join(format!("inbox/{n}")), "x").unwrap();
        }
        let deadline = Instant::now() + LONGEST;
        while self.live() < RUNS {
            assert!(Instant::now() < deadline, "only {} runs", self.live());
            std::thread::sleep(Duration::from_millis(50));
        }
        end(daemon, false);
    }

    fn live(&self) -> usize {
        let output = Command::new(&self.dagd)
            .args(["status", "--json", "--config"])
            .arg(self.dir.join("dagd.toml"))
            .output()
            .unwrap();
        let status: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        status["live_runs"].as_u64().unwrap().try_into().unwrap()
    }
}

fn end(mut daemon: Child, killed: bool) {
    if killed {
        daemon.kill().unwrap();
    } else {
        stop(&daemon);
    }
    daemon.wait().unwrap();
}

fn stop(daemon: &Child) {
    let pid = i32::try_from(daemon.id()).unwrap();
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
}
