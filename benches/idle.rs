//! What an idle daemon costs: wake-ups of all its threads, processor time and memory over a minute,
//! with a watchdog that is fed every ten seconds.
//! `cargo bench --bench idle [SECONDS]`

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    reason = "a benchmark ends at the first thing that goes wrong, and prints its figures"
)]

mod bench;

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};
use std::time::Duration;

use bench::Bench;

fn main() {
    let bench = Bench::new();
    let seconds = bench::rounds(60);
    let home = bench.dir("idle");
    bench.dir("idle/inbox");
    let config = "[daemon]\nstate_dir = \"state\"\nruntime_dir = \"run\"\nreload_on_change = true\n\
                  [control]\nwrite_group = \"0\"\n\
                  [tasks.t]\ncommand = [\"true\"]\n\
                  [tasks.left]\nneeds = [\"t\"]\ncommand = [\"true\"]\non_daemon_stop = \"leave\"\n\
                  [triggers.in]\ndrop = \"inbox\"\nrun = \"t+\"\nrecursive = true\nmove = \"done/\"\n\
                  [triggers.s]\nsignal = \"SIGUSR1\"\nrun = \"t\"\n\
                  [triggers.r]\nsignal = \"SIGRTMIN+1\"\nrun = \"t\"\n\
                  [triggers.yearly]\nschedule = \"0 0 1 1 *\"\nrun = \"t\"\n\
                  [triggers.quiet]\nabsent = \"30d\"\nof = \"s\"\nrun = \"t\"\n";
    fs::write(home.join("dagd.toml"), config).unwrap();
    let manager = UnixDatagram::bind(home.join("notify")).unwrap();
    manager.set_nonblocking(true).unwrap();
    let mut child = Command::new(&bench.dagd)
        .args(["run", "--config"])
        .arg(home.join("dagd.toml"))
        .env("NOTIFY_SOCKET", home.join("notify"))
        .env("WATCHDOG_USEC", "20000000")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    std::thread::sleep(Duration::from_secs(2));
    // Some work first: an idle daemon is one that has done something.
    for n in 0..100 {
        fs::write(home.join(format!("inbox/{n}")), "x").unwrap();
    }
    // What was to be done after that, and what was to ring had a look at a folder hung, is over by then.
    std::thread::sleep(Duration::from_secs(15));
    let words = || std::iter::from_fn(|| manager.recv(&mut [0; 4096]).ok()).count();
    words();
    let before = sample(child.id());
    std::thread::sleep(Duration::from_secs(seconds as u64));
    let after = sample(child.id());
    println!(
        "idle for {seconds} s: {} wake-ups for {} words to the watchdog, {} ticks of processor time, {} kB resident ({} kB without its program), {} threads",
        after.0 - before.0,
        words(),
        after.1 - before.1,
        after.2[0],
        after.2[1],
        after.3
    );
    child.kill().unwrap();
    child.wait().unwrap();
}

/// How often its threads went to sleep, clock ticks, resident kB with and without what is mapped from files, threads.
fn sample(pid: u32) -> (u64, u64, [u64; 2], usize) {
    let tasks: Vec<_> =
        fs::read_dir(format!("/proc/{pid}/task")).unwrap().map(|t| t.unwrap().path()).collect();
    let field = |text: &str, name: &str| -> u64 {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    let mut sleeps = 0;
    for task in &tasks {
        let status = fs::read_to_string(task.join("status")).unwrap();
        // Who is put off the processor by others does not wake up.
        sleeps += field(&status, "voluntary_ctxt_switches");
    }
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let ticks: u64 = stat
        .rsplit(')')
        .next()
        .unwrap()
        .split_whitespace()
        .skip(11)
        .take(2)
        .map(|n| n.parse::<u64>().unwrap())
        .sum();
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    (sleeps, ticks, ["VmRSS", "RssAnon"].map(|name| field(&status, name)), tasks.len())
}
