//! The watch thread against the real kernel: real inotify, real files, real writers. Each test
//! asserts what arrives, and waits on that with a deadline.

#![expect(clippy::unwrap_used, reason = "a test ends at the first thing that goes wrong")]

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::fd::AsRawFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{OpenOptionsExt as _, symlink};
use std::path::Path;
use std::time::{Duration, Instant};

use dagd::core::candidate::{Disk, Origin, Probe};
use dagd::core::trigger::ReadLock;
use dagd::io::disk::{Prober, version_at};
use dagd::io::watch::{Limits, ToWatch};

#[path = "watch/bench.rs"]
mod bench;
#[expect(dead_code, reason = "a part of the harness is enough here")]
mod common;

#[path = "watch/anew.rs"]
mod anew;
#[path = "watch/fanotify.rs"]
mod fanotify;

use bench::{
    Bench, PATIENCE, alone, is_being_written, is_free, sleeps, tasks, trigger, with_filter,
};

#[test]
fn files_in_new_directories_are_all_seen() {
    let mut bench = Bench::armed();
    let mut wanted = Vec::new();
    for n in 0..2000 {
        let rel = format!("{n}/b/c/f");
        fs::create_dir_all(bench.at(&format!("{n}/b/c"))).unwrap();
        fs::write(bench.at(&rel), b"x").unwrap();
        wanted.push(rel);
        while !bench.from.is_empty() {
            bench.step(Instant::now() + PATIENCE);
        }
    }
    bench.delivered("t", wanted);
    bench.until(|bench| bench.coverage("t").is_some_and(|c| c.directories == 6001));
}

#[test]
fn trees_that_are_moved_in_are_all_seen() {
    let mut bench = Bench::new();
    fs::create_dir(bench.at("in")).unwrap();
    bench.arm(vec![trigger("t", &bench.at("in"), true)]);
    let mut wanted = Vec::new();
    for n in 0..100 {
        fs::create_dir_all(bench.at(&format!("out{n}/x/y"))).unwrap();
        for file in ["top", "x/mid", "x/y/deep"] {
            fs::write(bench.at(&format!("out{n}/{file}")), b"x").unwrap();
            wanted.push(format!("{n}/{file}"));
        }
        fs::rename(bench.at(&format!("out{n}")), bench.at(&format!("in/{n}"))).unwrap();
    }
    bench.delivered("t", wanted);
}

#[test]
fn renamed_directories_are_followed() {
    let mut bench = Bench::armed();
    let mut wanted = Vec::new();
    for n in 0..200 {
        fs::create_dir_all(bench.at(&format!("{n}/sub"))).unwrap();
        fs::write(bench.at(&format!("{n}/sub/old")), b"x").unwrap();
        wanted.push(format!("{n}/sub/old"));
    }
    bench.delivered("t", wanted);
    let mut wanted = Vec::new();
    for n in 0..200 {
        fs::rename(bench.at(&format!("{n}")), bench.at(&format!("m{n}"))).unwrap();
        fs::write(bench.at(&format!("m{n}/sub/new")), b"x").unwrap();
        fs::rename(bench.at(&format!("m{n}")), bench.at(&format!("r{n}"))).unwrap();
        fs::write(bench.at(&format!("r{n}/sub/newer")), b"x").unwrap();
        wanted.extend(["old", "new", "newer"].map(|f| format!("r{n}/sub/{f}")));
    }
    bench.delivered("t", wanted.clone());
    // And what comes later is seen under the new names, too.
    for n in 0..200 {
        fs::write(bench.at(&format!("r{n}/sub/late")), b"x").unwrap();
        wanted.push(format!("r{n}/sub/late"));
    }
    bench.delivered("t", wanted);
}

#[test]
fn a_directory_that_is_replaced_is_covered_anew() {
    let mut bench = Bench::armed();
    fs::create_dir_all(bench.at("a/x")).unwrap();
    fs::create_dir_all(bench.at("b/x")).unwrap();
    for n in 0..100 {
        // Swaps a and b, writing into both.
        fs::rename(bench.at("a"), bench.at("c")).unwrap();
        fs::rename(bench.at("b"), bench.at("a")).unwrap();
        fs::rename(bench.at("c"), bench.at("b")).unwrap();
        fs::write(bench.at(&format!("a/x/{n}")), b"x").unwrap();
        fs::remove_dir_all(bench.at("b")).unwrap();
        fs::create_dir_all(bench.at("b/x")).unwrap();
        fs::write(bench.at(&format!("b/x/{n}")), b"x").unwrap();
    }
    bench.delivered("t", ["a/x/99", "b/x/99"].into_iter().chain(["a/x/98"]));
}

#[test]
fn a_full_dirty_map_loses_nothing() {
    let mut bench = Bench::with(Limits { dirty: 100 }, 1);
    bench.arm(vec![trigger("t", &bench.at(""), true)]);
    // Nobody receives meanwhile: the watch thread blocks, the map overflows.
    let mut wanted = Vec::new();
    for n in 0..50_000 {
        let rel = format!("{}/{n}", n % 50);
        if n < 50 {
            fs::create_dir(bench.at(&format!("{n}"))).unwrap();
        }
        File::create(bench.at(&rel)).unwrap();
        wanted.push(rel);
    }
    let deadline = Instant::now() + PATIENCE;
    while bench.ledger.0.lock().unwrap().len() < wanted.len() {
        bench.step(deadline);
    }
    bench.delivered("t", wanted);
    bench.until(|bench| bench.handle.overflows() > 0);
    // Whatever becomes of the trigger, it has happened.
    let before = bench.handle.overflows();
    bench.arm(Vec::new());
    bench.arm(vec![trigger("t", &bench.at(""), true)]);
    assert!(bench.handle.overflows() >= before);
}

#[test]
fn a_root_within_one_that_was_lost_is_scanned_as_well() {
    let mut bench = Bench::with(Limits { dirty: 100 }, 1);
    fs::create_dir_all(bench.at("within/d")).unwrap();
    let within = trigger("within", &bench.at("within"), true);
    bench.arm(vec![trigger("t", &bench.at(""), true), within]);
    // Its own hints all fit, but its directories are covered anew as well.
    for n in 0..10_000 {
        File::create(bench.at(&format!("{n}"))).unwrap();
    }
    bench.until(|bench| bench.scans.contains("within"));
}

#[test]
fn producers_that_never_close_under_the_final_name() {
    let mut bench = Bench::armed();
    fs::create_dir(bench.at(".out")).unwrap();
    fs::write(bench.at(".out/a"), b"x").unwrap();
    fs::hard_link(bench.at(".out/a"), bench.at("linked")).unwrap();
    // As the sftp server does it.
    fs::hard_link(bench.at(".out/a"), bench.at("uploaded")).unwrap();
    fs::remove_file(bench.at(".out/a")).unwrap();
    let mut unnamed =
        OpenOptions::new().write(true).custom_flags(libc::O_TMPFILE).open(bench.at("")).unwrap();
    unnamed.write_all(b"y").unwrap();
    let by_number = format!("/proc/self/fd/{}", unnamed.as_raw_fd());
    rustix::fs::linkat(
        rustix::fs::CWD,
        by_number,
        rustix::fs::CWD,
        bench.at("unnamed"),
        rustix::fs::AtFlags::SYMLINK_FOLLOW,
    )
    .unwrap();
    bench.saw("unnamed", is_being_written);
    drop(unnamed);
    assert!(is_free(&bench.look("unnamed")));
    bench.delivered("t", ["linked", "uploaded", "unnamed"]);
}

#[test]
fn an_open_writer_is_seen_and_its_close_too() {
    let mut bench = Bench::armed();
    let mut file = File::create(bench.at("f")).unwrap();
    file.write_all(b"half").unwrap();
    bench.saw("f", is_being_written);
    assert!(is_being_written(&bench.look("f")));
    file.write_all(b" and half").unwrap();
    drop(file);
    bench.saw(
        "f",
        |disk| matches!(disk, Disk::File { version, probe: Probe::Free } if version.size == 13),
    );
}

#[test]
fn a_large_file_is_complete_soon_after_its_close() {
    // The kernel tells of the close before it stops to count the writer. ext4 starts to write a
    // file that was truncated before, as by `cp` over it, between the two.
    let mut bench = Bench::armed();
    let block = vec![7; 1 << 20];
    for n in 0..10 {
        let name = format!("{n}");
        fs::write(bench.at(&name), b"old").unwrap();
        bench.saw(&name, is_free);
        let mut file = File::create(bench.at(&name)).unwrap();
        for _ in 0..32 {
            file.write_all(&block).unwrap();
        }
        drop(file);
        let whole = |disk: &Disk| matches!(disk, Disk::File { version, probe: Probe::Free } if version.size == 32 << 20);
        bench.saw(&name, whole);
        fs::remove_file(bench.at(&name)).unwrap();
    }
}

#[test]
fn a_shared_mapping_is_a_writer() {
    let mut bench = Bench::armed();
    let file =
        OpenOptions::new().read(true).write(true).create_new(true).open(bench.at("m")).unwrap();
    file.set_len(4096).unwrap();
    let map = map(&file);
    drop(file);
    bench.saw("m", is_being_written);
    unmap(map);
    bench.saw("m", is_free);
}

#[expect(unsafe_code, reason = "a mapping is what the test is about")]
fn map(file: &File) -> *mut libc::c_void {
    let (read_write, shared) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED);
    // SAFETY: a new mapping at an address of the kernel's choice, of a file of that size.
    let map =
        unsafe { libc::mmap(std::ptr::null_mut(), 4096, read_write, shared, file.as_raw_fd(), 0) };
    assert_ne!(map, libc::MAP_FAILED);
    map
}

#[expect(unsafe_code, reason = "a mapping is what the test is about")]
fn unmap(map: *mut libc::c_void) {
    // SAFETY: the mapping was made with this size and nothing refers to it.
    assert_eq!(unsafe { libc::munmap(map, 4096) }, 0);
}

#[test]
fn a_fifo_is_never_opened() {
    let mut bench = Bench::armed();
    let path = bench.at("fifo");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &path,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
        0,
    )
    .unwrap();
    let mut both = OpenOptions::new().read(true).write(true).open(&path).unwrap();
    bench.saw("fifo", |disk| *disk == Disk::Other);
    assert_eq!(bench.look("fifo"), Disk::Other);
    both.write_all(b"still alive").unwrap();
}

#[test]
fn two_triggers_share_directories() {
    let mut bench = Bench::new();
    fs::create_dir_all(bench.at("sub/skip")).unwrap();
    let (top, sub) = (bench.at(""), bench.at("sub"));
    bench.arm(vec![
        with_filter("t", &top, true, &["sub/skip"]),
        trigger("flat", &sub, false),
        trigger("deep", &sub, true),
    ]);
    for rel in ["a", "sub/b", "sub/skip/c", "sub/d.part"] {
        fs::write(bench.at(rel), b"x").unwrap();
    }
    bench.delivered("t", ["a", "sub/b"]);
    bench.delivered("flat", ["b"]);
    bench.delivered("deep", ["b", "skip/c"]);
    let directories = |bench: &Bench| {
        ["t", "flat", "deep"].map(|n| bench.coverage(n).map_or(0, |c| c.directories))
    };
    bench.until(|bench| directories(bench) == [2, 1, 2]);
    // The others go on without the one that covered most.
    bench.arm(vec![trigger("deep", &sub, true)]);
    fs::write(bench.at("e"), b"x").unwrap();
    fs::write(bench.at("sub/skip/f"), b"x").unwrap();
    bench.delivered("deep", ["b", "skip/c", "skip/f"]);
    bench.delivered("t", ["a", "sub/b"]);
}

#[test]
fn a_root_appears_goes_and_is_replaced() {
    let mut bench = Bench::new();
    let root = bench.at("x/y/in");
    bench.arm(vec![trigger("t", &root, true)]);
    bench.until(|bench| bench.coverage("t").is_some_and(|c| !c.exists));
    fs::create_dir_all(root.join("sub")).unwrap();
    fs::write(root.join("sub/1"), b"x").unwrap();
    bench.delivered("t", ["sub/1"]);
    bench.until(|bench| bench.coverage("t").is_some_and(|c| c.exists));
    fs::rename(&root, bench.at("x/y/old")).unwrap();
    fs::create_dir(&root).unwrap();
    fs::write(root.join("2"), b"x").unwrap();
    bench.delivered("t", ["2"]);
    fs::remove_dir_all(bench.at("x")).unwrap();
    bench.until(|bench| bench.coverage("t").is_some_and(|c| !c.exists));
    fs::create_dir_all(&root).unwrap();
    fs::write(root.join("3"), b"x").unwrap();
    bench.delivered("t", ["3"]);
}

#[test]
fn symbolic_links_are_never_followed() {
    let mut bench = Bench::new();
    let elsewhere = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    fs::write(elsewhere.path().join("secret"), b"x").unwrap();
    bench.arm(vec![trigger("t", &bench.at(""), true)]);
    fs::create_dir(bench.at("d")).unwrap();
    symlink(".", bench.at("loop")).unwrap();
    symlink("..", bench.at("d/up")).unwrap();
    symlink(elsewhere.path(), bench.at("away")).unwrap();
    symlink(elsewhere.path().join("secret"), bench.at("file")).unwrap();
    fs::write(bench.at("d/real"), b"x").unwrap();
    bench.delivered("t", ["d/real"]);
    bench.saw("file", |disk| *disk == Disk::Other);
    assert_eq!(bench.look("away/secret"), Disk::Absent);
    assert_eq!(bench.look("loop/d/real"), Disk::Absent);
    bench.handle.send(ToWatch::Scan("t".into()));
    bench.until(|bench| bench.scanned == 1);
    bench.delivered("t", ["d/real"]);
}

#[test]
fn names_go_through_unchanged() {
    let mut bench = Bench::armed();
    let odd: [&[u8]; 5] = [b"a\nb", b"-rf", b"\xff\xfe", b" ", &[b'x'; 255]];
    for name in odd {
        let name = std::ffi::OsStr::from_bytes(name);
        fs::create_dir(bench.at("").join(name)).unwrap();
        fs::write(bench.at("").join(name).join(name), b"x").unwrap();
    }
    bench.delivered("t", odd.map(|name| [name, b"/", name].concat()));
}

#[test]
fn a_scan_finds_the_difference_only() {
    let mut bench = Bench::new();
    fs::create_dir(bench.at("d")).unwrap();
    for rel in ["kept", "d/gone", "changed"] {
        fs::write(bench.at(rel), b"x").unwrap();
    }
    bench.arm(vec![trigger("t", &bench.at(""), true)]);
    bench.handle.send(ToWatch::Count("t".into(), 2));
    bench.until(|bench| bench.counted == Some(3));
    bench.handle.send(ToWatch::Scan("t".into()));
    bench.until(|bench| bench.scanned == 1);
    bench.delivered("t", ["kept", "d/gone", "changed"]);
    assert!(bench.seen.iter().all(|(origin, _)| *origin == Origin::Scan));
    // While nobody is armed, nobody sees it.
    bench.arm(Vec::new());
    fs::remove_dir_all(bench.at("d")).unwrap();
    fs::write(bench.at("changed"), b"xy").unwrap();
    fs::write(bench.at("new"), b"x").unwrap();
    bench.seen.clear();
    bench.arm(vec![trigger("t", &bench.at(""), true)]);
    bench.handle.send(ToWatch::Scan("t".into()));
    bench.until(|bench| bench.scanned == 2);
    let seen: BTreeSet<_> = bench.seen.iter().map(|(_, s)| s.rel.lossy().into_owned()).collect();
    assert_eq!(seen, ["changed", "d/gone", "new"].map(str::to_owned).into());
    bench.delivered("t", ["kept", "changed", "new"]);
}

#[test]
fn a_held_trigger_misses_nothing() {
    let mut bench = Bench::armed();
    bench.handle.send(ToWatch::Hold("t".into()));
    fs::create_dir(bench.at("d")).unwrap();
    fs::write(bench.at("d/a"), b"x").unwrap();
    fs::write(bench.at("b"), b"x").unwrap();
    bench.handle.send(ToWatch::Scan("t".into()));
    // A look is served all the same, behind the hints that came before.
    assert!(is_free(&bench.look("b")));
    assert!(bench.seen.iter().all(|(origin, _)| *origin == Origin::Look), "{:?}", bench.seen);
    assert_eq!(bench.scanned, 0);
    bench.handle.send(ToWatch::Release("t".into()));
    bench.delivered("t", ["b", "d/a"]);
    bench.until(|bench| bench.scanned == 1);
}

#[test]
fn a_file_whose_name_a_folder_has_taken_is_gone() {
    let mut bench = Bench::with(Limits::default(), 1);
    bench.arm(vec![trigger("t", &bench.at(""), true)]);
    fs::write(bench.at("f"), b"x").unwrap();
    bench.delivered("t", ["f"]);
    // Nobody receives: the watch thread waits with more than fits, and both changes become one hint.
    for _ in 0..10_000 {
        bench.handle.send(ToWatch::Look("t".into(), "other".into()));
    }
    fs::remove_file(bench.at("f")).unwrap();
    fs::create_dir(bench.at("f")).unwrap();
    bench.delivered("t", [""; 0]);
}

#[test]
fn departures_are_seen() {
    let mut bench = Bench::armed();
    fs::create_dir_all(bench.at("d/e")).unwrap();
    for rel in ["a", "b", "d/e/f", "d/g", "d0"] {
        fs::write(bench.at(rel), b"x").unwrap();
    }
    bench.delivered("t", ["a", "b", "d/e/f", "d/g", "d0"]);
    let elsewhere = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    fs::remove_file(bench.at("a")).unwrap();
    fs::rename(bench.at("d"), elsewhere.path().join("d")).unwrap();
    bench.delivered("t", ["b", "d0"]);
    bench.until(|bench| bench.coverage("t").is_some_and(|c| c.directories == 1));
}

#[test]
fn an_idle_watch_thread_sleeps() {
    if std::env::var_os("ALONE").is_none() {
        return assert!(alone("an_idle_watch_thread_sleeps", &[]));
    }
    let mut bench = Bench::armed();
    fs::write(bench.at("f"), b"x").unwrap();
    bench.delivered("t", ["f"]);
    let all = tasks("dagd-watch");
    assert_eq!(all.len(), 1);
    let task = all.first().unwrap();
    // What the file has caused may still be under way; then the thread sleeps for good.
    let deadline = Instant::now() + PATIENCE;
    loop {
        let before = sleeps(task);
        let quiet = bench.from.recv_timeout(Duration::from_secs(2)).is_err();
        if quiet && sleeps(task) == before {
            return;
        }
        assert!(Instant::now() < deadline, "the watch thread wakes up");
    }
}

#[test]
fn directories_beyond_the_limit_are_polled() {
    const NAME: &str = "directories_beyond_the_limit_are_polled";
    let limit = Path::new("/proc/sys/user/max_inotify_watches");
    if std::env::var_os("ALONE").is_none() {
        // The limit of a user namespace of its own concerns nobody else.
        let may = std::process::Command::new("unshare").args(["-Ur", "true"]).status();
        if may.is_ok_and(|status| status.success()) {
            assert!(alone(NAME, &["unshare", "-Ur"]));
        } else {
            common::skip("no user namespaces here");
        }
        return;
    }
    fs::write(limit, "4").unwrap();
    let mut bench = Bench::new();
    let mut wanted = Vec::new();
    for n in 0..10 {
        fs::create_dir(bench.at(&format!("{n}"))).unwrap();
        wanted.push(format!("{n}/f"));
    }
    bench.arm(vec![trigger("t", &bench.at(""), true)]);
    let problems = |bench: &Bench| bench.coverage("t").map_or(Vec::new(), |c| c.problems);
    // The way to the root cannot be followed either.
    bench.until(|bench| problems(bench).len() == 2);
    let lines = problems(&bench);
    assert!(lines[0].contains("11 directories"), "{lines:?}");
    for line in &lines {
        assert!(line.contains("sysctl -w user.max_inotify_watches="), "{line}");
    }
    for rel in &wanted {
        fs::write(bench.at(rel), b"x").unwrap();
    }
    bench.delivered("t", &wanted);
    fs::remove_file(bench.at(&wanted.remove(0))).unwrap();
    fs::remove_file(bench.at(&wanted.remove(8))).unwrap();
    bench.delivered("t", &wanted);
    fs::write(limit, "1000").unwrap();
    bench.until(|bench| problems(bench).is_empty());
    assert_eq!(bench.coverage("t").unwrap().directories, 11);
}

#[test]
fn one_event_arrives_at_once() {
    let mut bench = Bench::armed();
    let mut times = Vec::new();
    for n in 0..200 {
        let file = File::create(bench.at(&format!("{n}"))).unwrap();
        bench.saw(format!("{n}"), is_being_written);
        let closed = Instant::now();
        drop(file);
        bench.saw(format!("{n}"), is_free);
        times.push(closed.elapsed());
    }
    times.sort();
    println!("close to observation: p50 {:?}, p90 {:?}", times[100], times[180]);
    assert!(times[100] < Duration::from_millis(10), "p50 {:?}", times[100]);
}

#[test]
fn versions_tell_files_apart() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let path = dir.path().join("f");
    assert_eq!(version_at(&path).unwrap_err().kind(), std::io::ErrorKind::NotFound);
    fs::write(&path, b"x").unwrap();
    let first = version_at(&path).unwrap().unwrap();
    fs::rename(&path, dir.path().join("g")).unwrap();
    assert_eq!(version_at(&dir.path().join("g")).unwrap(), Some(first.clone()));
    fs::remove_file(dir.path().join("g")).unwrap();
    fs::write(&path, b"x").unwrap();
    // The inode is usually the same again, the file is not.
    assert_ne!(version_at(&path).unwrap().unwrap().file, first.file);
    assert_eq!(version_at(dir.path()).unwrap(), None);
    symlink(&path, dir.path().join("link")).unwrap();
    assert_eq!(version_at(&dir.path().join("link")).unwrap(), None);
    let readiness = |path: &Path, lock| Prober::new().readiness(path, lock);
    assert!(["proved", "inferred"].contains(&readiness(dir.path(), ReadLock::Auto)));
    assert_eq!(readiness(Path::new("/proc"), ReadLock::Lease), "inferred");
    assert_eq!(readiness(dir.path(), ReadLock::Changed), "inferred");
    assert_eq!(readiness(dir.path(), ReadLock::None), "none");
}

/// A trigger on 8810 directories, one of them `kept`.
fn huge() -> Bench {
    let mut bench = Bench::armed();
    for n in 0..8000 {
        fs::create_dir_all(bench.at(&format!("{}/{}/{}", n / 1000, n / 10 % 100, n % 10))).unwrap();
    }
    fs::create_dir(bench.at("kept")).unwrap();
    bench.until(|bench| bench.coverage("t").is_some_and(|c| c.directories == 8810));
    bench
}

#[test]
fn a_huge_tree_that_goes_is_forgotten_at_once() {
    if std::env::var_os("ALONE").is_none() {
        return assert!(alone("a_huge_tree_that_goes_is_forgotten_at_once", &[]));
    }
    let mut bench = huge();
    // Files that are renamed are no directories that go.
    fs::write(bench.at("kept/f0"), b"x").unwrap();
    for n in 0..4000 {
        let from = bench.at(&format!("kept/f{n}"));
        fs::rename(from, bench.at(&format!("kept/f{}", n + 1))).unwrap();
    }
    bench.delivered("t", ["kept/f4000"]);
    assert_eq!(bench.handle.overflows(), 0);
    fs::remove_file(bench.at("kept/f4000")).unwrap();
    for n in 0..8 {
        fs::remove_dir_all(bench.at(&format!("{n}"))).unwrap();
    }
    bench.until(|bench| bench.coverage("t").is_some_and(|c| c.directories == 2));
    fs::write(bench.at("kept/f"), b"x").unwrap();
    bench.delivered("t", ["kept/f"]);
    // Nobody is still busy with it.
    bench.until(|_| tasks("notify-rs inoti").len() == 1);
}
