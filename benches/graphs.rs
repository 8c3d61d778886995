//! Graphs of no-op tasks: `dagd once --keep`, with ledger, history and logs on, against the floor
//! of the machine, in pairs. `cargo bench --bench graphs [ROUNDS]`

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    reason = "a benchmark ends at the first thing that goes wrong, and prints its figures"
)]

mod bench;

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

use bench::{Bench, Lot, median, timed};

fn main() {
    let bench = Bench::new();
    let rounds = bench::rounds(5);
    println!(
        "{:<22} {:>10} {:>10} {:>10} {:>9} {:>9}",
        "µs per task, median", "floor 1", "floor 2", "dagd", "÷floor 1", "÷floor 2"
    );
    for (name, graph) in [
        ("10,000 independent", wide(10_000)),
        ("chain of 1,000", chain(1_000)),
        ("layered 10,000", layered(10_000)),
    ] {
        let dir = bench.dir(name);
        let edges = dir.join("graph");
        fs::write(&edges, text(&graph)).unwrap();
        fs::write(dir.join("dagd.toml"), config(&graph, &bench.probe)).unwrap();
        let mut lots = [Lot::new(), Lot::new(), Lot::new()];
        for round in 0..=rounds {
            let floor = |threads: &str| {
                let mut floor = Command::new(&bench.floor);
                floor.args(["dag", threads]).arg(&edges).arg(&bench.probe);
                timed(&mut floor)
            };
            let took = [floor("1"), floor("2"), dagd(&bench, &dir)];
            if round > 0 {
                for (lot, took) in lots.iter_mut().zip(took) {
                    lot.push(took.as_secs_f64() * 1e6 / graph.len() as f64);
                }
            }
        }
        let ratio = |floor: &Lot| {
            median(&lots[2].iter().zip(floor).map(|(a, b)| a / b).collect::<Vec<_>>())
        };
        println!(
            "{name:<22} {:>10.0} {:>10.0} {:>10.0} {:>9.2} {:>9.2}",
            median(&lots[0]),
            median(&lots[1]),
            median(&lots[2]),
            ratio(&lots[0]),
            ratio(&lots[1]),
        );
    }
}

fn dagd(bench: &Bench, dir: &Path) -> std::time::Duration {
    for old in ["state", "run"] {
        if dir.join(old).exists() {
            fs::remove_dir_all(dir.join(old)).unwrap();
        }
    }
    let mut once = Command::new(&bench.dagd);
    once.args(["once", "--keep", "--select", "*", "--config"]).arg(dir.join("dagd.toml"));
    timed(&mut once)
}

type Graph = Vec<Vec<usize>>;

fn wide(n: usize) -> Graph {
    vec![Vec::new(); n]
}

fn chain(n: usize) -> Graph {
    (0..n).map(|at| at.checked_sub(1).into_iter().collect()).collect()
}

/// Layers of 100, each node with up to three needs in the layer before.
fn layered(n: usize) -> Graph {
    let mut state = 7u64;
    let mut random = |below: usize| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    (0..n)
        .map(|at| {
            let layer = at / 100;
            if layer == 0 {
                return Vec::new();
            }
            let mut needs: Vec<_> = (0..3).map(|_| (layer - 1) * 100 + random(100)).collect();
            needs.sort_unstable();
            needs.dedup();
            needs
        })
        .collect()
}

fn text(graph: &Graph) -> String {
    let mut text = format!("{}\n", graph.len());
    for needs in graph {
        write!(text, "{}", needs.len()).unwrap();
        for need in needs {
            write!(text, " {need}").unwrap();
        }
        text.push('\n');
    }
    text
}

fn config(graph: &Graph, probe: &Path) -> String {
    let mut text =
        "[daemon]\nstate_dir = \"state\"\nruntime_dir = \"run\"\nmax_parallel = 2\n".to_owned();
    for (at, needs) in graph.iter().enumerate() {
        let needs: Vec<_> = needs.iter().map(|need| format!("\"t{need:05}\"")).collect();
        writeln!(
            text,
            "[tasks.t{at:05}]\nneeds = [{}]\ncommand = [\"{}\"]",
            needs.join(", "),
            probe.display()
        )
        .unwrap();
    }
    text
}
