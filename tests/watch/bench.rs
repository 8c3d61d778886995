//! A watch thread and an engine that delivers whatever is complete, in the process of the test.
//!
//! All waits are for what arrives, with a deadline that only a defect reaches.

#![expect(clippy::unwrap_used, reason = "a test says no by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, bounded};
use dagd::core::candidate::{Disk, Origin, Probe, Row, Seen};
use dagd::core::filter::Filter;
use dagd::core::ledger::Placed;
use dagd::core::path::Bytes;
use dagd::core::selector::Selector;
use dagd::core::trigger::{Folder, FolderSpec, Overlap, Source, TriggerSpec};
use dagd::io::watch::{
    Coverage, FromWatch, Ledger, Limits, ToWatch, Told, WatchHandle, spawn_with,
};

pub(crate) type Rows = BTreeMap<(String, Bytes), Row>;

/// A ledger in memory.
#[derive(Clone, Default)]
// lock: shared between the test and the watch thread
pub(crate) struct Memory(pub(crate) Arc<Mutex<Rows>>, Arc<Mutex<Places>>);

/// Where the files of a trigger lie, and on which file system each that was delivered lay.
#[derive(Default)]
struct Places {
    now: BTreeMap<String, Vec<Placed>>,
    of: BTreeMap<(String, Bytes), String>,
}

impl Memory {
    pub(crate) fn of(&self, trigger: &str) -> Vec<(Bytes, Row)> {
        let rows = self.0.lock().unwrap();
        let of = rows.iter().filter(|((name, _), row)| name == trigger && row.open);
        of.map(|((_, rel), row)| (rel.clone(), row.clone())).collect()
    }
}

impl Ledger for Memory {
    fn another(&self) -> Box<dyn Ledger> {
        Box::new(self.clone())
    }

    fn row(&mut self, trigger: &str, rel: &Bytes) -> Option<Row> {
        self.0.lock().unwrap().get(&(trigger.to_owned(), rel.clone())).cloned()
    }

    fn open_rows(
        &mut self,
        trigger: &str,
        dir: &[u8],
        place: &str,
        after: &[u8],
        max: usize,
    ) -> Vec<(Bytes, Row)> {
        let all = self.of(trigger);
        let places = self.1.lock().unwrap();
        let is_of = |rel: &Bytes| places.of[&(trigger.to_owned(), rel.clone())] == place;
        let mut rows: Vec<_> = (all.into_iter())
            .filter(|(rel, _)| rel.dir() == dir && rel.name() > after && is_of(rel))
            .map(|(rel, row)| (Bytes::from(rel.name()), row))
            .collect();
        rows.sort_by(|a, b| a.0.cmp(&b.0));
        rows.truncate(max);
        rows
    }

    fn is_of(&mut self, trigger: &str, rel: &Bytes, place: &str) -> bool {
        self.row(trigger, rel).is_some_and(|row| row.open)
            && self.1.lock().unwrap().of[&(trigger.to_owned(), rel.clone())] == place
    }

    fn dirs(&mut self, trigger: &str, after: &[u8], max: usize) -> Vec<Bytes> {
        let dirs: BTreeSet<Bytes> =
            self.of(trigger).iter().map(|(rel, _)| Bytes::from(rel.dir())).collect();
        dirs.into_iter().filter(|dir| dir.as_bytes() > after).take(max).collect()
    }
}

pub(crate) fn trigger(name: &str, root: &Path, recursive: bool) -> TriggerSpec {
    with_filter(name, root, recursive, &[])
}

/// A recursive trigger on a folder that is as `set` says.
pub(crate) fn with(name: &str, root: &Path, set: impl FnOnce(&mut FolderSpec)) -> TriggerSpec {
    let mut spec = trigger(name, root, true);
    if let Source::Folder(folder) = &mut spec.source {
        set(folder);
        spec.rev = format!("{folder:?}").into();
    }
    spec
}

pub(crate) fn with_filter(
    name: &str,
    root: &Path,
    recursive: bool,
    exclude: &[&str],
) -> TriggerSpec {
    let include = if recursive { "**/*" } else { "*" };
    let exclude = exclude.iter().map(|&pattern| pattern.to_owned()).collect();
    let folder = FolderSpec {
        recursive,
        settle_empty: Duration::ZERO,
        ..FolderSpec::new(
            Folder::Drop,
            root.to_owned(),
            Filter::new(vec![include.to_owned()], exclude, true, false).unwrap(),
        )
    };
    TriggerSpec {
        name: name.into(),
        source: Source::Folder(Box::new(folder)),
        select: Selector::parse("*").unwrap(),
        overlap: Overlap::Queue,
        max_runs: None,
        order_key: None,
        rate_limit: None,
        on_removal: dagd::core::bound::OnRemoval::default(),
        rev: format!("{name}{recursive}{}", root.display()).into(),
    }
}

/// A watch thread, and an engine that delivers whatever is complete.
pub(crate) struct Bench {
    root: tempfile::TempDir,
    pub(crate) handle: WatchHandle,
    thread: Option<JoinHandle<()>>,
    pub(crate) from: Receiver<Told>,
    pub(crate) ledger: Memory,
    committed: Arc<AtomicU64>,
    pub(crate) seen: Vec<(Origin, Seen)>,
    /// Versions of each file that were delivered, by trigger and path.
    pub(crate) versions: BTreeMap<(String, Bytes), u32>,
    pub(crate) scanned: usize,
    /// Triggers of which a scan has ended.
    pub(crate) scans: BTreeSet<String>,
    pub(crate) counted: Option<u64>,
}

/// Long enough for a machine under load; a test that passes never waits for it.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

impl Bench {
    pub(crate) fn new() -> Self {
        Self::with(Limits::default(), 64)
    }

    pub(crate) fn with(limits: Limits, capacity: usize) -> Self {
        let (out, from) = bounded(capacity);
        let ledger = Memory::default();
        let committed = Arc::new(AtomicU64::new(1));
        let (handle, thread) =
            spawn_with(Box::new(ledger.clone()), committed.clone(), out, limits).unwrap();
        let root = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        Self {
            root,
            handle,
            thread: Some(thread),
            from,
            ledger,
            committed,
            seen: Vec::new(),
            versions: BTreeMap::new(),
            scanned: 0,
            scans: BTreeSet::new(),
            counted: None,
        }
    }

    /// A recursive trigger `t` on the whole root.
    pub(crate) fn armed() -> Self {
        let mut bench = Self::new();
        bench.arm(vec![trigger("t", &bench.at(""), true)]);
        bench
    }

    pub(crate) fn at(&self, rel: &str) -> PathBuf {
        if rel.is_empty() { self.root.path().to_owned() } else { self.root.path().join(rel) }
    }

    pub(crate) fn arm(&mut self, specs: Vec<TriggerSpec>) {
        let (ack, armed) = bounded(1);
        let specs = specs.into_iter().map(Arc::new).collect();
        self.handle.arm(specs, Some(ack));
        let deadline = Instant::now() + PATIENCE;
        while armed.try_recv().is_err() {
            self.step(deadline);
        }
    }

    pub(crate) fn step(&mut self, deadline: Instant) {
        let covered = || self.handle.coverage();
        let last = self.seen.last();
        assert!(Instant::now() < deadline, "not in time; last seen: {last:?}; {:#?}", covered());
        let Ok(message) = self.from.recv_timeout(Duration::from_millis(20)) else { return };
        match message.what {
            FromWatch::Apart { .. } => {}
            FromWatch::Placed { trigger, places } => {
                self.ledger.1.lock().unwrap().now.insert(trigger.to_string(), places);
            }
            FromWatch::Scanned { trigger } => {
                self.scanned += 1;
                self.scans.insert(trigger.to_string());
            }
            FromWatch::Counted { files, .. } => self.counted = Some(files),
            FromWatch::Observed(observed) => {
                assert!(observed.seen.len() <= 256);
                assert!(observed.seq.0 <= self.committed.load(Ordering::SeqCst));
                for seen in observed.seen {
                    self.deliver(&seen);
                    self.seen.push((observed.origin, seen));
                }
            }
        }
    }

    fn deliver(&mut self, seen: &Seen) {
        let mut rows = self.ledger.0.lock().unwrap();
        let key = (seen.trigger.to_string(), seen.rel.clone());
        match &seen.disk {
            Disk::File { version, probe: Probe::Free | Probe::Unproved | Probe::NotAsked } => {
                let known = rows.get(&key).is_some_and(|row| row.open && row.version == *version);
                if known {
                    return;
                }
                *self.versions.entry(key.clone()).or_default() += 1;
                let mut places = self.ledger.1.lock().unwrap();
                let over = |placed: &&Placed| {
                    placed.dir == "".into()
                        || key.1.as_bytes().starts_with(placed.dir.join(b"").as_bytes())
                };
                let nearest = places.now[&key.0].iter().filter(over);
                let what = nearest.max_by_key(|p| p.dir.as_bytes().len()).unwrap().what.clone();
                places.of.insert(key.clone(), what);
                rows.insert(key, Row { version: version.clone(), open: true, run: None });
            }
            Disk::File { .. } => return,
            Disk::Absent | Disk::Other => {
                if let Some(row) = rows.get_mut(&key) {
                    row.open = false;
                }
            }
        }
        self.committed.fetch_add(1, Ordering::SeqCst);
    }

    pub(crate) fn until(&mut self, mut done: impl FnMut(&mut Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !done(self) {
            self.step(deadline);
        }
    }

    /// Waits until exactly these are delivered and open.
    pub(crate) fn delivered(
        &mut self,
        trigger: &str,
        wanted: impl IntoIterator<Item = impl AsRef<[u8]>>,
    ) {
        let wanted: BTreeSet<Bytes> =
            wanted.into_iter().map(|rel| Bytes::from(rel.as_ref())).collect();
        let deadline = Instant::now() + PATIENCE;
        loop {
            let open: BTreeSet<Bytes> =
                self.ledger.of(trigger).into_iter().map(|(rel, _)| rel).collect();
            if open == wanted {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "missing {:?}, too many {:?}",
                wanted.difference(&open).take(5).collect::<Vec<_>>(),
                open.difference(&wanted).take(5).collect::<Vec<_>>()
            );
            self.step(deadline);
        }
    }

    /// Waits until a path was seen in this state.
    pub(crate) fn saw(&mut self, rel: impl AsRef<[u8]>, is: impl Fn(&Disk) -> bool) {
        let rel = Bytes::from(rel.as_ref());
        self.until(|bench| bench.seen.iter().any(|(_, seen)| seen.rel == rel && is(&seen.disk)));
    }

    pub(crate) fn coverage(&self, name: &str) -> Option<Coverage> {
        self.handle.coverage().into_iter().find(|coverage| &*coverage.trigger == name)
    }

    pub(crate) fn look(&mut self, rel: &str) -> Disk {
        self.seen.clear();
        self.handle.send(ToWatch::Look("t".into(), rel.into()));
        self.until(|bench| bench.seen.iter().any(|(origin, _)| *origin == Origin::Look));
        self.seen.iter().find(|(origin, _)| *origin == Origin::Look).unwrap().1.disk.clone()
    }
}

impl Bench {
    /// Ends all threads.
    pub(crate) fn stop(&mut self) {
        let Some(thread) = self.thread.take() else { return };
        self.handle.stop();
        let ended = thread.join();
        assert!(ended.is_ok() || std::thread::panicking());
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.stop();
    }
}

pub(crate) fn is_free(disk: &Disk) -> bool {
    matches!(disk, Disk::File { probe: Probe::Free, .. })
}

pub(crate) fn is_being_written(disk: &Disk) -> bool {
    matches!(disk, Disk::File { probe: Probe::WriterOpen, .. })
}

/// The voluntary context switches of the watch thread, by its directory in `/proc`.
pub(crate) fn sleeps(task: &Path) -> u64 {
    let status = fs::read_to_string(task.join("status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("voluntary_ctxt_switches")).unwrap();
    line.split_whitespace().last().unwrap().parse().unwrap()
}

/// The process's threads of that name.
pub(crate) fn tasks(name: &str) -> BTreeSet<PathBuf> {
    let tasks = fs::read_dir("/proc/self/task").unwrap().map(|task| task.unwrap().path());
    let is = |task: &PathBuf| {
        fs::read_to_string(task.join("comm")).is_ok_and(|comm| comm.trim_end() == name)
    };
    tasks.filter(is).collect()
}

/// Runs a test of this file again, alone in its own process, in which `ALONE` is set.
pub(crate) fn alone(name: &str, program: &[&str]) -> bool {
    let this = std::env::current_exe().unwrap();
    let mut command = program.iter().copied().map(std::ffi::OsString::from).collect::<Vec<_>>();
    command.extend([this.into(), name.into(), "--exact".into()]);
    let output =
        std::process::Command::new(&command[0]).args(&command[1..]).env("ALONE", "1").output();
    let output = output.unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let said = String::from_utf8_lossy(&output.stderr);
    // Not by a macro: what those print is shown for tests that fail only.
    let mut stderr = std::io::stderr();
    for line in said.lines().filter(|line| line.starts_with("SKIPPED")) {
        std::io::Write::write_all(&mut stderr, format!("{line}\n").as_bytes()).unwrap();
    }
    let passed = output.status.success() && text.contains("1 passed");
    if !passed {
        std::io::Write::write_all(&mut stderr, text.as_bytes()).unwrap();
    }
    passed
}
