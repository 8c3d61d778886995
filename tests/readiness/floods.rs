//! Many done files at once: a look or two for each, through full maps and held lanes. The watch
//! thread alone, with an engine that delivers whatever is complete.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use dagd::core::candidate::{Disk, Probe};
use dagd::core::filter::Filter;
use dagd::core::path::Bytes;
use dagd::core::sidecar::Sidecar;
use dagd::core::trigger::{FileType, FolderSpec};
use dagd::io::watch::{Limits, ToWatch};

use super::bench::{self, PATIENCE, with};

/// The watch thread over a folder, for the trigger `t`.
struct Bench {
    inner: bench::Bench,
    root: tempfile::TempDir,
    /// How often each path was reported, and as what it was reported last.
    seen: BTreeMap<Bytes, (usize, Disk)>,
}

impl Bench {
    fn new(limits: Limits, change: impl FnOnce(&mut FolderSpec)) -> Self {
        // In memory where that is to be had: the tests make many files, and measure no disk.
        let root = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        let mut bench = bench::Bench::with(limits, 64);
        bench.arm(vec![with("t", root.path(), |folder| {
            folder.recursive = false;
            change(folder);
        })]);
        Self { inner: bench, root, seen: BTreeMap::new() }
    }

    fn with_done(limits: Limits, done: &str) -> Self {
        Self::new(limits, |folder| folder.done_file = Some(Sidecar::parse(done).unwrap()))
    }

    fn at(&self, rel: &str) -> PathBuf {
        self.root.path().join(rel)
    }

    fn put(&mut self, rel: &str) {
        fs::write(self.at(rel), "x").unwrap();
        self.drain();
    }

    /// Takes what has been reported.
    fn drain(&mut self) {
        while !self.inner.from.is_empty() {
            self.inner.step(Instant::now() + PATIENCE);
        }
        for (_, seen) in self.inner.seen.drain(..) {
            let entry = self.seen.entry(seen.rel).or_insert((0, Disk::Absent));
            *entry = (entry.0 + 1, seen.disk);
        }
    }

    fn until(&mut self, mut done: impl FnMut(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            self.drain();
            if done(self) {
                return;
            }
            self.inner.step(deadline);
        }
    }

    fn waits(&self) -> usize {
        let is = |disk: &Disk| matches!(disk, Disk::File { probe: Probe::NotDone, .. });
        self.seen.values().filter(|(_, disk)| is(disk)).count()
    }

    fn delivered(&self) -> usize {
        self.inner.versions.len()
    }

    fn reports(&self) -> usize {
        self.seen.values().map(|(times, _)| times).sum()
    }

    fn overflows(&self) -> u64 {
        self.inner.handle.overflows()
    }
}

const MANY: usize = 10_000;

#[test]
fn ten_thousand_done_files_are_a_look_each() {
    for done in ["{name}.done", "{stem}.done"] {
        let mut bench = Bench::with_done(Limits::default(), done);
        for n in 0..MANY {
            bench.put(&n.to_string());
        }
        bench.until(|bench| bench.waits() == MANY);
        for n in 0..MANY {
            bench.put(&format!("{n}.done"));
        }
        bench.until(|bench| bench.delivered() == MANY);
        assert_eq!(bench.seen.len(), MANY, "{done}: no done file was reported");
        // Created, closed, told of: a few reports each, however many there are.
        let reports = bench.reports();
        assert!(reports <= 6 * MANY, "{done}: {reports} reports");
    }
}

#[test]
fn a_done_file_for_all_makes_all_complete_and_is_no_work_afterwards() {
    let mut bench = Bench::with_done(Limits::default(), "_SUCCESS");
    for n in 0..MANY {
        bench.put(&n.to_string());
    }
    bench.until(|bench| bench.waits() == MANY);
    bench.put("_SUCCESS");
    bench.until(|bench| bench.delivered() == MANY);
    let before = bench.reports();
    for _ in 0..100 {
        bench.put("_SUCCESS");
    }
    bench.put("last");
    bench.until(|bench| bench.delivered() == MANY + 1);
    assert!(bench.reports() <= before + 100, "what is delivered is not reported again");
}

#[test]
fn done_files_whose_hints_do_not_fit_are_found_by_the_scan() {
    for done in ["{name}.done", "{stem}.done"] {
        let mut bench = Bench::with_done(Limits { dirty: 16 }, done);
        for n in 0..500 {
            bench.put(&n.to_string());
        }
        bench.until(|bench| bench.waits() == 500);
        let before = bench.overflows();
        // Nobody reads what is reported meanwhile, so that the watch thread cannot keep up.
        for n in 0..3000 {
            fs::write(bench.at(&format!("noise{n}")), "x").unwrap();
            fs::write(bench.at(&format!("{}.done", n % 500)), "").unwrap();
        }
        bench.until(|bench| bench.overflows() > before);
        bench.until(|bench| bench.delivered() == 500);
    }
}

#[test]
fn done_files_that_come_while_the_lane_is_held_are_not_lost() {
    for (done, names) in [("{name}.done", 300), ("{stem}.done", 300), ("_SUCCESS", 1)] {
        let mut bench = Bench::with_done(Limits::default(), done);
        for n in 0..300 {
            bench.put(&n.to_string());
        }
        bench.until(|bench| bench.waits() == 300);
        bench.inner.handle.send(ToWatch::Hold("t".into()));
        for n in 0..names {
            let name = if names == 1 { "_SUCCESS".to_owned() } else { format!("{n}.done") };
            fs::write(bench.at(&name), "").unwrap();
        }
        // A look is answered all the same, behind the order to hold.
        bench.inner.handle.send(ToWatch::Look("t".into(), "7".into()));
        bench.until(|bench| bench.delivered() >= 1);
        bench.inner.handle.send(ToWatch::Release("t".into()));
        bench.until(|bench| bench.delivered() == 300);
    }
}

#[test]
fn a_folder_that_many_write_in_is_measured_as_it_is_in_the_end() {
    let mut bench = Bench::new(Limits::default(), |folder| folder.file_type = FileType::Dir);
    for n in 0..50 {
        fs::create_dir_all(bench.at(&format!("run/{n}/x"))).unwrap();
    }
    for n in 0..5000 {
        bench.put(&format!("run/{}/x/{n}", n % 50));
    }
    let size = |bench: &Bench| match bench.seen.get(&Bytes::from("run")) {
        Some((_, Disk::File { version, probe: Probe::Free })) => version.size,
        _ => 0,
    };
    bench.until(|bench| size(bench) == 5000);
    fs::remove_dir_all(bench.at("run/7")).unwrap();
    bench.until(|bench| size(bench) == 4900);
    fs::remove_dir_all(bench.at("run")).unwrap();
    bench.until(|bench| bench.seen[&Bytes::from("run")].1 == Disk::Absent);
    assert_eq!(bench.seen.len(), 1, "nothing in it is work");
}

#[test]
fn what_was_kept_for_a_held_lane_counts_under_the_configuration_that_is_in_force_by_then() {
    let root = tempfile::tempdir().unwrap();
    let mut bench = bench::Bench::new();
    let of = |name: &str, exclude: &str| {
        with(name, root.path(), |folder| {
            let patterns = |text: &str| vec![text.to_owned()];
            folder.filter = Filter::new(patterns("*"), patterns(exclude), true, false).unwrap();
        })
    };
    bench.arm(vec![of("t", "none"), of("u", "none")]);
    bench.handle.send(ToWatch::Hold("t".into()));
    fs::write(root.path().join("a"), "x").unwrap();
    // Both hear of it at once, and this one is not held.
    bench.delivered("u", ["a"]);
    bench.arm(vec![of("t", "a"), of("u", "none")]);
    bench.handle.send(ToWatch::Release("t".into()));
    fs::write(root.path().join("b"), "x").unwrap();
    bench.delivered("t", ["b"]);
    bench.look("b");
    bench.delivered("t", ["b"]);
}
