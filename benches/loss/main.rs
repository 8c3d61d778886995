//! Who loses what: the same producers against dagd and against the programs that are used for this
//! today, each as its manual recommends, in turn and in the same place.
//! `cargo bench --bench loss [TOOL | SCENE]...`; peers that are not installed are named.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    reason = "a benchmark ends at the first thing that goes wrong, and prints its figures"
)]

#[path = "../bench/mod.rs"]
mod bench;
mod scenes;
mod tools;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bench::Bench;
use scenes::{Expected, SCENES, Scene};
use tools::{Place, TOOLS, Tool};

/// A contestant that has said nothing for so long has nothing more to say.
const QUIET: Duration = Duration::from_secs(5);

/// How long it may go on at most.
const PATIENCE: Duration = Duration::from_secs(90);

/// What a contestant made of a scene.
#[derive(Default)]
struct Score {
    /// Files that it never ran the command for while they were complete.
    lost: usize,
    /// Runs that saw only a part of the file.
    half: usize,
    /// Further runs for a file that had been seen complete.
    again: usize,
    /// From the start of the scene to the last run.
    took: Duration,
}

fn main() {
    let bench = Bench::new();
    let record = bench.build("loss/record", &["-static"]);
    let wanted: Vec<String> =
        std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    // Names of the one kind say nothing about the other.
    let pick = |names: &[&'static str]| -> Vec<bool> {
        let named = |name: &&'static str| wanted.iter().any(|word| word == name);
        let all = !names.iter().any(&named);
        names.iter().map(|name| all || named(name)).collect()
    };
    let tools = pick(&TOOLS.map(|tool| tool.name));
    let scenes = pick(&SCENES.map(|scene| scene.name));
    println!(
        "{:<18} {:<22} {:>7} {:>7} {:>7} {:>7} {:>8}",
        "tool", "scene", "files", "lost", "half", "again", "seconds"
    );
    for (tool, _) in TOOLS.iter().zip(tools).filter(|(_, picked)| *picked) {
        if let Some(why) = tool.missing() {
            println!("{:<18} {why}", tool.name);
            continue;
        }
        for (scene, _) in SCENES.iter().zip(&scenes).filter(|(_, picked)| **picked) {
            let (files, score) = play(&bench, &record, tool, scene);
            let Score { lost, half, again, took } = score;
            println!(
                "{:<18} {:<22} {files:>7} {lost:>7} {half:>7} {again:>7} {:>8.1}",
                tool.name,
                scene.name,
                took.as_secs_f64()
            );
        }
    }
    println!(
        "lost: never run for when complete; half: runs that saw a part only; again: further runs for a complete file"
    );
}

fn play(bench: &Bench, record: &Path, tool: &Tool, scene: &Scene) -> (usize, Score) {
    let home = bench.dir(&format!("loss/{}/{}", tool.name, scene.name));
    let inbox = home.join("inbox");
    fs::create_dir_all(&inbox).unwrap();
    let place = Place {
        inbox,
        log: home.join("log"),
        home: home.clone(),
        record: record.to_owned(),
        dagd: bench.dagd.clone(),
    };
    let start = Instant::now();
    let (expected, running) = (scene.play)(tool, &place);
    let last = settle(&place.log);
    drop(running);
    let mut score = score(&place.log, &expected);
    score.took = last.saturating_duration_since(start);
    fs::remove_dir_all(&home).unwrap();
    (expected.len(), score)
}

/// Waits until the log grows no more, and says when it last did.
fn settle(log: &Path) -> Instant {
    let (mut size, mut last) = (0, Instant::now());
    let deadline = last + PATIENCE;
    while last.elapsed() < QUIET && Instant::now() < deadline {
        let now = fs::metadata(log).map_or(0, |meta| meta.len());
        if now != size {
            (size, last) = (now, Instant::now());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    last
}

fn score(log: &Path, expected: &Expected) -> Score {
    let text = fs::read_to_string(log).unwrap_or_default();
    let mut complete: BTreeMap<PathBuf, usize> = BTreeMap::new();
    let mut score = Score::default();
    for line in text.lines() {
        let Some((size, path)) = line.split_once(' ') else { continue };
        let path = PathBuf::from(path);
        let Some(whole) = expected.get(&path) else { continue };
        if size.parse::<u64>().is_ok_and(|size| size == *whole) {
            *complete.entry(path).or_default() += 1;
        } else {
            score.half += 1;
        }
    }
    score.lost = expected.keys().filter(|path| !complete.contains_key(*path)).count();
    score.again = complete.values().map(|times| times - 1).sum();
    score
}
