//! What the helper and a cgroup cost: attempts per second at independent no-op tasks, on the plain
//! path and by way of the helper, in turns. `cargo bench --bench helper [ROUNDS]`

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    reason = "a benchmark ends at the first thing that goes wrong, and prints its figures"
)]

mod bench;

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use bench::{Bench, Lot, median, timed};

const TASKS: usize = 2_000;

fn main() {
    let bench = Bench::new();
    let rounds = bench::rounds(5);
    let service = Service::new();
    let mut ways = vec![("plain", "", None), ("helper", "umask = \"022\"\n", None)];
    match &service {
        Some(service) => ways.push(("helper, cgroup", "containment = \"cgroup\"\n", Some(service))),
        None => println!("no cgroup can be made here: that way is left out"),
    }
    let dirs: Vec<PathBuf> =
        ways.iter().map(|(name, key, _)| configured(&bench, name, key)).collect();
    let mut lots = vec![Lot::new(); ways.len()];
    for round in 0..=rounds {
        for ((dir, lot), (_, _, service)) in dirs.iter().zip(&mut lots).zip(&ways) {
            let took = once(&bench, dir, *service);
            if round > 0 {
                lot.push(TASKS as f64 / took.as_secs_f64());
            }
        }
    }
    println!("{:<16} {:>14} {:>9}", "", "attempts per s", "÷plain");
    for ((name, ..), lot) in ways.iter().zip(&lots) {
        let ratio: Lot = lot.iter().zip(&lots[0]).map(|(way, plain)| way / plain).collect();
        println!("{name:<16} {:>14.0} {:>9.2}", median(lot), median(&ratio));
    }
}

fn configured(bench: &Bench, name: &str, key: &str) -> PathBuf {
    let dir = bench.dir(name);
    let mut text = format!(
        "[daemon]\nstate_dir = \"state\"\nruntime_dir = \"run\"\nmax_parallel = 2\n\
         [defaults.task]\n{key}"
    );
    for at in 0..TASKS {
        writeln!(text, "[tasks.t{at:05}]\ncommand = [\"{}\"]", bench.probe.display()).unwrap();
    }
    fs::write(dir.join("dagd.toml"), text).unwrap();
    dir
}

fn once(bench: &Bench, dir: &Path, service: Option<&Service>) -> std::time::Duration {
    for old in ["state", "run"] {
        if dir.join(old).exists() {
            fs::remove_dir_all(dir.join(old)).unwrap();
        }
    }
    let mut once = Command::new("sh");
    let join = service.map_or_else(String::new, |service| {
        format!("echo $$ > {}/cgroup.procs && ", service.0.display())
    });
    once.args(["-c", &format!("{join}exec \"$@\""), "sh"]).arg(&bench.dagd);
    once.args(["once", "--keep", "--select", "*", "--config"]).arg(dir.join("dagd.toml"));
    timed(&mut once)
}

/// A cgroup for a dagd to divide.
struct Service(PathBuf);

impl Service {
    fn new() -> Option<Self> {
        let mounts = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"].map(Path::new);
        let mount = mounts.iter().find(|dir| dir.join("cgroup.controllers").exists())?;
        let dir = mount.join(format!("dagd-bench-{}", std::process::id()));
        fs::create_dir(&dir).ok().map(|()| Self(dir))
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // The daemons have ended and taken their own with them.
        fs::remove_dir(self.0.join("daemon")).ok();
        fs::remove_dir(&self.0).ok();
    }
}
