//! What the benchmarks share: a scratch folder, the floor built from C, timing in pairs.

#![allow(dead_code, reason = "each benchmark uses its own part, and one of them all of it")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Figures of several runs.
pub(crate) type Lot = Vec<f64>;

/// Programs and a scratch folder.
pub(crate) struct Bench {
    pub(crate) dagd: PathBuf,
    pub(crate) floor: PathBuf,
    pub(crate) probe: PathBuf,
    scratch: tempfile::TempDir,
}

impl Bench {
    /// Builds the floor. The scratch folder lies where `DAGD_BENCH_DIR` says, else in `target`.
    pub(crate) fn new() -> Self {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let place =
            std::env::var_os("DAGD_BENCH_DIR").map_or_else(|| here.join("target"), PathBuf::from);
        let scratch = tempfile::Builder::new().prefix("bench-").tempdir_in(place).unwrap();
        let floor = build(&scratch, "floor/floor", &["-pthread"]);
        let probe = build(&scratch, "floor/probe", &["-static"]);
        Self { dagd: env!("CARGO_BIN_EXE_dagd").into(), floor, probe, scratch }
    }

    /// Builds a C program of a benchmark.
    pub(crate) fn build(&self, source: &str, flags: &[&str]) -> PathBuf {
        build(&self.scratch, source, flags)
    }

    /// A folder in the scratch folder.
    pub(crate) fn dir(&self, name: &str) -> PathBuf {
        let dir = self.scratch.path().join(name.replace([' ', ','], "-"));
        fs::create_dir_all(&dir).unwrap();
        dir
    }
}

fn build(scratch: &tempfile::TempDir, source: &str, flags: &[&str]) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("benches/{source}.c"));
    let program = scratch.path().join(source.file_stem().unwrap());
    let mut compile = Command::new("cc");
    let built = compile.args(["-O2", "-o"]).arg(&program).arg(&source).args(flags).status();
    assert!(built.unwrap().success(), "cc failed on {}", source.display());
    program
}

/// How many rounds: the first argument that is a number.
pub(crate) fn rounds(default: usize) -> usize {
    std::env::args().skip(1).find_map(|arg| arg.parse().ok()).unwrap_or(default)
}

/// Runs a command to its success and says how long it took.
pub(crate) fn timed(command: &mut Command) -> Duration {
    let start = Instant::now();
    let output = command.stdin(Stdio::null()).output().unwrap();
    let took = start.elapsed();
    assert!(output.status.success(), "{command:?}: {output:?}");
    took
}

/// The figure in the middle.
pub(crate) fn median(lot: &[f64]) -> f64 {
    quantile(lot, 0.5)
}

/// The figure below which the given share lies.
pub(crate) fn quantile(lot: &[f64], share: f64) -> f64 {
    let mut sorted = lot.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = (sorted.len() - 1) as f64 * share;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index")]
    let at = at.round() as usize;
    sorted[at]
}
