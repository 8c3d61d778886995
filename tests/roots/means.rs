//! Folders whose events do not tell everything, and folders that are not to be watched: they are
//! looked at, by the same scans.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use dagd::core::candidate::Disk;
use dagd::core::trigger::{Backend, FolderSpec};

use crate::bench::{Bench, alone, trigger, with};
use crate::common::skip;
use crate::fuse::Hanging;
use crate::places::{may_mount, sh};

const SOON: Duration = Duration::from_millis(50);

fn polled(folder: &mut FolderSpec) {
    (folder.backend, folder.poll_interval) = (Backend::Poll, SOON);
}

/// Whether this process watches a directory.
fn is_watched(dir: &Path) -> bool {
    let inode = format!("ino:{:x} ", fs::metadata(dir).unwrap().ino());
    let infos = fs::read_dir("/proc/self/fdinfo").unwrap().flatten();
    let mut texts = infos.map(|info| fs::read_to_string(info.path()).unwrap_or_default());
    texts.any(|text| text.lines().any(|line| line.starts_with("inotify") && line.contains(&inode)))
}

#[test]
fn a_polled_folder_is_not_watched_and_misses_nothing() {
    if std::env::var_os("ALONE").is_none() {
        return assert!(alone("means::a_polled_folder_is_not_watched_and_misses_nothing", &[]));
    }
    let mut bench = Bench::new();
    fs::create_dir_all(bench.at("p/in/d")).unwrap();
    fs::create_dir(bench.at("e")).unwrap();
    fs::write(bench.at("p/in/d/old"), "x").unwrap();
    bench.arm(vec![with("t", &bench.at("p/in"), polled), trigger("e", &bench.at("e"), true)]);
    bench.delivered("t", ["d/old"]);
    fs::create_dir_all(bench.at("p/in/new/deep")).unwrap();
    fs::write(bench.at("p/in/new/deep/f"), "x").unwrap();
    fs::write(bench.at("p/in/top"), "x").unwrap();
    bench.delivered("t", ["d/old", "new/deep/f", "top"]);
    bench.until(|bench| bench.coverage("t").is_some_and(|c| c.directories == 4));
    assert_eq!(bench.coverage("t").unwrap().noticed_by, "scans");
    assert_eq!(bench.coverage("t").unwrap().problems, [""; 0]);
    assert!(is_watched(&bench.at("e")));
    for rel in ["p/in", "p/in/d", "p/in/new", "p/in/new/deep"] {
        assert!(!is_watched(&bench.at(rel)), "{rel}");
    }
    // Another version, a departure, another root.
    fs::write(bench.at("p/in/top"), "xyz").unwrap();
    fs::remove_dir_all(bench.at("p/in/new")).unwrap();
    bench.delivered("t", ["d/old", "top"]);
    bench.until(|bench| bench.versions[&("t".to_owned(), "top".into())] == 2);
    fs::rename(bench.at("p/in"), bench.at("p/out")).unwrap();
    bench.until(|bench| bench.coverage("t").is_some_and(|c| !c.exists));
    fs::create_dir(bench.at("p/in")).unwrap();
    fs::write(bench.at("p/in/2"), "x").unwrap();
    bench.delivered("t", ["2"]);
    // From now on it is watched, and then not again.
    bench.arm(vec![trigger("t", &bench.at("p/in"), true)]);
    assert!(is_watched(&bench.at("p/in")));
    bench.arm(vec![with("t", &bench.at("p/in"), polled)]);
    assert!(!is_watched(&bench.at("p/in")));
    fs::write(bench.at("p/in/3"), "x").unwrap();
    bench.delivered("t", ["2", "3"]);
}

#[test]
fn a_folder_that_is_armed_again_and_again_is_scanned_all_the_same() {
    let mut bench = Bench::new();
    let seldom = |folder: &mut FolderSpec| {
        (folder.backend, folder.poll_interval) = (Backend::Poll, Duration::from_secs(2));
    };
    let spec = with("t", &bench.at(""), seldom);
    bench.arm(vec![spec.clone()]);
    fs::write(bench.at("f"), "x").unwrap();
    // Each time long before the next scan.
    bench.until(|bench| {
        bench.arm(vec![spec.clone()]);
        bench.ledger.of("t").len() == 1
    });
}

#[test]
fn what_others_write_is_found_where_no_event_tells() {
    if !may_mount("means::what_others_write_is_found_where_no_event_tells") {
        return;
    }
    let mut bench = Bench::new();
    fs::create_dir(bench.at("far")).unwrap();
    let mut far = Hanging::mount(&bench.at("far"), "hanging");
    far.put("old");
    // As it is configured by default.
    bench.arm(vec![trigger("t", &bench.at("far"), true)]);
    bench.delivered("t", ["old"]);
    let noticed_by = |bench: &Bench| bench.coverage("t").unwrap().noticed_by;
    bench.until(|bench| noticed_by(bench) == "events, scans");
    let line = format!(
        "{} is scanned every 60 s: fuse.hanging: changes made behind the mount make no events",
        bench.at("far").display()
    );
    assert_eq!(bench.coverage("t").unwrap().problems, [line]);
    bench.arm(vec![with("t", &bench.at("far"), |folder| folder.reconcile_interval = Some(SOON))]);
    far.put("new");
    bench.delivered("t", ["old", "new"]);
    // Who wants events only is told what that means.
    bench.arm(vec![with("t", &bench.at("far"), |folder| folder.backend = Backend::Inotify)]);
    bench.until(|bench| {
        bench.coverage("t").is_some_and(|coverage| {
            coverage.noticed_by == "events"
                && coverage.problems.len() == 1
                && coverage.problems[0].ends_with("set reconcile_interval, or backend = \"auto\"")
        })
    });
}

#[test]
fn what_is_mounted_over_a_folder_later_is_probed() {
    if !may_mount("means::what_is_mounted_over_a_folder_later_is_probed") {
        return;
    }
    let mut bench = Bench::new();
    fs::create_dir(bench.at("in")).unwrap();
    fs::write(bench.at("in/local"), "x").unwrap();
    bench.arm(vec![trigger("t", &bench.at("in"), true)]);
    bench.handle.send(dagd::io::watch::ToWatch::Scan("t".into()));
    bench.delivered("t", ["local"]);
    let noticed_by = |bench: &Bench| bench.coverage("t").unwrap().noticed_by;
    assert_eq!(noticed_by(&bench), "events");
    for _ in 0..2 {
        let mut far = Hanging::mount(&bench.at("in"), "hanging");
        far.put("far");
        bench.until(|bench| noticed_by(bench) == "events, scans");
        sh("umount in", &bench.at(""));
        drop(far);
        bench.until(|bench| noticed_by(bench) == "events");
        assert_eq!(bench.coverage("t").unwrap().problems, [""; 0]);
    }
    fs::write(bench.at("in/later"), "x").unwrap();
    bench.saw("later", |disk| matches!(disk, Disk::File { .. }));
}

#[test]
fn an_event_that_does_not_come_makes_the_folder_be_scanned() {
    if std::env::var_os("ALONE").is_none() {
        let name = "means::an_event_that_does_not_come_makes_the_folder_be_scanned";
        return assert!(alone(name, &[]));
    }
    if !no_events() {
        return skip("no filter for system calls on this machine");
    }
    let mut bench = Bench::new();
    fs::create_dir(bench.at("d")).unwrap();
    let often = |folder: &mut FolderSpec| folder.reconcile_interval = Some(SOON);
    bench.arm(vec![with("t", &bench.at(""), often)]);
    fs::write(bench.at("d/f"), "x").unwrap();
    bench.delivered("t", ["d/f"]);
    let coverage = bench.coverage("t").unwrap();
    assert_eq!(coverage.noticed_by, "scans");
    assert!(coverage.problems[0].ends_with("did not arrive"), "{:?}", coverage.problems);
}

/// From now on this process's watches are granted and never tell anything, as on a machine that
/// only pretends to be Linux.
#[expect(unsafe_code, reason = "the standard library has no filters for system calls")]
fn no_events() -> bool {
    let step = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    let call = u32::try_from(libc::SYS_inotify_add_watch).unwrap();
    let mut steps = [
        // The number of the call; if it is this one, answer 0 in its place.
        step(0x20, 0, 0, 0),
        step(0x15, 0, 1, call),
        step(0x06, 0, 0, libc::SECCOMP_RET_ERRNO),
        step(0x06, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: 4, filter: steps.as_mut_ptr() };
    // SAFETY: the program outlives the call, and its length is that of the array.
    unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
            && libc::syscall(
                libc::SYS_seccomp,
                libc::SECCOMP_SET_MODE_FILTER,
                libc::SECCOMP_FILTER_FLAG_TSYNC,
                &raw const program,
            ) == 0
    }
}
