//! The system grants no more descriptors or threads for a while: what could not be done then is done
//! later, and nobody is told before that it was done.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::fd::AsRawFd as _;

use dagd::core::candidate::Origin;
use dagd::core::path::Bytes;
use dagd::core::trigger::{FolderSpec, ReadLock};
use dagd::io::watch::ToWatch;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::bench::{Bench, alone, with};

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
    let mut waited = 0;
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
        waited += usize::from(bench.scanned == scans);
        drop(limit);
        bench.until(|bench| bench.scanned > scans);
        let found: BTreeSet<Bytes> = bench.ledger.of("t").into_iter().map(|(rel, _)| rel).collect();
        assert_eq!(found, wanted, "with {left} descriptors");
    }
    assert!(waited > 1, "{waited}");
    assert!(bench.seen.iter().all(|(origin, _)| *origin == Origin::Scan), "{:?}", bench.seen);
}
