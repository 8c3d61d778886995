//! The system grants no more descriptors or threads for a while: what could not be done then is done
//! later, and nobody is told before that it was done.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::FileExt as _;
use std::process::{Command, Stdio};

use dagd::core::candidate::Origin;
use dagd::core::path::Bytes;
use dagd::core::trigger::{FolderSpec, ReadLock};
use dagd::io::watch::ToWatch;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::bench::{Bench, alone, tasks, trigger, with};
use crate::fuse::Hanging;
use crate::places::{may_mount, sh};

/// A limit of this process, until it is dropped.
struct Limit {
    of: Resource,
    before: Rlimit,
    /// What takes up the descriptors below the limit.
    _taken: Vec<File>,
}

impl Limit {
    fn set(of: Resource, to: u64, taken: Vec<File>) -> Self {
        let before = getrlimit(of);
        setrlimit(of, Rlimit { current: Some(to), ..before }).unwrap();
        Self { of, before, _taken: taken }
    }

    /// So many descriptors can be had.
    fn descriptors(left: u64) -> Self {
        let numbers = fs::read_dir("/proc/self/fd").unwrap();
        let numbers = numbers.map(|fd| fd.unwrap().file_name().into_string().unwrap());
        let last: i32 = numbers.map(|number| number.parse().unwrap()).max().unwrap();
        let mut taken = Vec::new();
        while taken.last().is_none_or(|file: &File| file.as_raw_fd() < last) {
            taken.push(File::open("/dev/null").unwrap());
        }
        let used = taken.last().unwrap().as_raw_fd() + 1;
        Self::set(Resource::Nofile, u64::try_from(used).unwrap() + left, taken)
    }

    /// There is room for whatever is needed, but not for the stack of another thread.
    fn threads() -> Self {
        const ROOM: u64 = 1 << 20;
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let used = number(&status, "VmSize:") << 10;
        Self::set(Resource::As, used + ROOM, Vec::new())
    }
}

/// How often a thread of this process has gone to sleep; needs no descriptor to tell.
struct Sleeps(File);

impl Sleeps {
    fn of(name: &str) -> Self {
        Self(File::open(tasks(name).first().unwrap().join("status")).unwrap())
    }

    fn count(&self) -> u64 {
        let mut text = [0; 4096];
        let len = self.0.read_at(&mut text, 0).unwrap();
        number(str::from_utf8(&text[..len]).unwrap(), "voluntary_ctxt_switches:")
    }
}

/// A number in a text of lines as in `/proc/self/status`.
fn number(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

impl Drop for Limit {
    fn drop(&mut self) {
        setrlimit(self.of, self.before).unwrap();
    }
}

#[test]
fn a_scan_for_which_too_much_is_open_ends_later() {
    if std::env::var_os("ALONE").is_none() {
        return assert!(alone("scarce::a_scan_for_which_too_much_is_open_ends_later", &[]));
    }
    let mut bench = Bench::new();
    fs::write(bench.at(".gitignore"), "*.no").unwrap();
    let set = |folder: &mut FolderSpec| {
        (folder.gitignore, folder.read_lock) = (true, ReadLock::None);
    };
    let mut wanted = BTreeSet::new();
    let mut kept = 0;
    for left in 0..6 {
        // Written while nobody watches.
        bench.arm(Vec::new());
        fs::create_dir_all(bench.at(&format!("{left}/d"))).unwrap();
        for rel in ["f", "d/g"] {
            fs::write(bench.at(&format!("{left}/{rel}")), "x").unwrap();
            fs::write(bench.at(&format!("{left}/{rel}.no")), "x").unwrap();
            wanted.insert(Bytes::from(format!("{left}/{rel}").as_str()));
        }
        bench.arm(vec![with("t", &bench.at(""), set)]);
        let scans = bench.scanned;
        let limit = Limit::descriptors(left);
        bench.handle.send(ToWatch::Scan("t".into()));
        let waits = |bench: &Bench| bench.coverage("t").is_some_and(|c| !c.problems.is_empty());
        bench.until(|bench| bench.scanned > scans || waits(bench));
        kept += usize::from(bench.scanned == scans);
        drop(limit);
        bench.until(|bench| bench.scanned > scans);
        let found: BTreeSet<Bytes> = bench.ledger.of("t").into_iter().map(|(rel, _)| rel).collect();
        assert_eq!(found, wanted, "with {left} descriptors");
    }
    assert!(kept > 1, "{kept}");
    assert!(bench.seen.iter().all(|(origin, _)| *origin == Origin::Scan), "{:?}", bench.seen);
}

#[test]
fn a_root_that_cannot_be_opened_for_now_is_not_taken_for_absent() {
    const NAME: &str = "scarce::a_root_that_cannot_be_opened_for_now_is_not_taken_for_absent";
    if std::env::var_os("ALONE").is_none() {
        return assert!(alone(NAME, &[]));
    }
    let mut bench = Bench::new();
    fs::create_dir(bench.at("in")).unwrap();
    fs::write(bench.at("in/f"), "x").unwrap();
    // From then on the thread has its name.
    bench.arm(Vec::new());
    let watch = Sleeps::of("dagd-watch");
    let scans = bench.scanned;
    let limit = Limit::descriptors(0);
    let unproved = |folder: &mut FolderSpec| folder.read_lock = ReadLock::None;
    bench.arm(vec![with("t", &bench.at("in"), unproved)]);
    bench.handle.send(ToWatch::Scan("t".into()));
    bench.until(|bench| is_told(bench, "t"));
    let slept = watch.count();
    bench.until(|bench| watch.count() > slept || bench.scanned > scans);
    assert_eq!(bench.scanned, scans, "a scan has ended that could not look");
    drop(limit);
    bench.until(|bench| bench.scanned > scans);
    bench.delivered("t", ["f"]);
}

#[test]
fn a_mount_while_too_much_is_open_is_noticed_later() {
    if !may_mount("scarce::a_mount_while_too_much_is_open_is_noticed_later") {
        return;
    }
    let mut bench = Bench::new();
    sh("mkdir in m; mount -t tmpfs m m; echo > m/1", &bench.at(""));
    bench.arm(vec![trigger("t", &bench.at("in"), true)]);
    let mut mount = Command::new("sh");
    mount.args(["-ec", "read -r go; mount --move m in; echo done"]).current_dir(bench.at(""));
    let mut mount = mount.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut said = BufReader::new(mount.stdout.take().unwrap());
    let places = Sleeps::of("dagd-places");
    let limit = Limit::descriptors(0);
    let before = places.count();
    writeln!(mount.stdin.as_ref().unwrap(), "go").unwrap();
    let mut line = String::new();
    said.read_line(&mut line).unwrap();
    assert_eq!(line, "done\n");
    // It has been told, and could not read what.
    bench.until(|_| places.count() > before);
    drop(limit);
    bench.delivered("t", ["1"]);
    mount.wait().unwrap();
}

fn is_told(bench: &Bench, name: &str) -> bool {
    bench.coverage(name).is_some_and(|coverage| !coverage.problems.is_empty())
}

#[test]
fn a_root_for_which_there_is_no_thread_is_taken_up_later() {
    if !may_mount("scarce::a_root_for_which_there_is_no_thread_is_taken_up_later") {
        return;
    }
    let mut bench = Bench::new();
    fs::create_dir(bench.at("there")).unwrap();
    let mut hanging = Hanging::mount(&bench.at("there"), "hanging");
    hanging.put("old");
    let limit = Limit::threads();
    bench.arm(vec![trigger("n", &bench.at("there"), true)]);
    bench.handle.send(ToWatch::Scan("n".into()));
    bench.until(|bench| is_told(bench, "n"));
    drop(limit);
    bench.delivered("n", ["old"]);
}

#[test]
fn what_hangs_is_left_as_soon_as_there_is_a_thread() {
    if !may_mount("scarce::what_hangs_is_left_as_soon_as_there_is_a_thread") {
        return;
    }
    let mut bench = Bench::new();
    sh("mkdir here there under empty", &bench.at(""));
    let mut hanging = Hanging::mount(&bench.at("under"), "hanging");
    hanging.put("old");
    sh("mount -t overlay over -o lowerdir=under:empty there; umount -l under", &bench.at(""));
    let (here, there) = (bench.at("here"), bench.at("there"));
    bench.arm(vec![trigger("t", &here, true), trigger("n", &there, true)]);
    bench.handle.send(ToWatch::Scan("n".into()));
    bench.delivered("n", ["old"]);
    let places = Sleeps::of("dagd-places");
    hanging.hang();
    let limit = Limit::threads();
    let before = places.count();
    bench.handle.send(ToWatch::Scan("n".into()));
    // The alarm rings as long as somebody hangs. The first time may be too early.
    bench.until(|_| places.count() >= before + 2);
    drop(limit);
    fs::write(here.join("1"), "x").unwrap();
    bench.delivered("t", ["1"]);
    hanging.answer();
    bench.delivered("n", ["old"]);
}
