//! The way to a root changes: mounts, renamed ancestors, links that lead elsewhere. Nothing is
//! polled here, and no scan is asked for.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::bench::{Bench, alone, sleeps, tasks, trigger};
use crate::common::{is_root, skip};

/// Runs the rest of the test in a mount namespace of its own; `true` for the process that has it.
pub(crate) fn may_mount(name: &str) -> bool {
    if std::env::var_os("ALONE").is_some() {
        return true;
    }
    if is_root() {
        assert!(alone(name, &["unshare", "-m"]), "see above");
    } else {
        skip("mounts need root");
    }
    false
}

/// Runs a program that must succeed.
pub(crate) fn sh(script: &str, dir: &Path) {
    let status = Command::new("sh").args(["-ec", script]).current_dir(dir).status();
    assert!(status.unwrap().success(), "{script}");
}

fn on(rel: &str) -> Bench {
    let mut bench = Bench::new();
    bench.arm(vec![trigger("t", &bench.at(rel), true)]);
    bench
}

fn once(bench: &Bench) {
    assert!(bench.versions.values().all(|&times| times == 1), "{:?}", bench.versions);
}

#[test]
fn a_file_system_comes_and_goes_over_a_root() {
    if !may_mount("places::a_file_system_comes_and_goes_over_a_root") {
        return;
    }
    let mut bench = Bench::new();
    sh("mkdir -p in/sub; echo > in/sub/bare", &bench.at(""));
    bench.arm(vec![trigger("t", &bench.at("in"), true)]);
    bench.handle.send(dagd::io::watch::ToWatch::Scan("t".into()));
    bench.delivered("t", ["sub/bare"]);
    for n in 1..=3 {
        // The files are there before it is mounted at the root.
        sh(
            &format!(
                "mkdir -p m; mount -t tmpfs m m; mkdir m/sub; echo > m/sub/{n}; mount --move m in"
            ),
            &bench.at(""),
        );
        bench.saw(format!("sub/{n}"), |disk| {
            matches!(disk, dagd::core::candidate::Disk::File { .. })
        });
        sh(&format!("echo > in/{n}"), &bench.at(""));
        bench.saw(format!("{n}"), |disk| matches!(disk, dagd::core::candidate::Disk::File { .. }));
        sh("umount in", &bench.at(""));
        sh(&format!("echo > in/sub/under{n}"), &bench.at(""));
        bench.saw(format!("sub/under{n}"), |disk| {
            matches!(disk, dagd::core::candidate::Disk::File { .. })
        });
    }
    // What was delivered is neither gone nor new, but for what was in a memory that was given back.
    let names = ["sub/bare", "sub/under1", "sub/under2", "sub/under3", "3", "sub/3"];
    bench.delivered("t", names);
    once(&bench);
}

#[test]
fn a_file_system_comes_and_goes_over_an_ancestor() {
    if !may_mount("places::a_file_system_comes_and_goes_over_an_ancestor") {
        return;
    }
    let mut bench = Bench::new();
    sh("mkdir -p a/b/in; echo > a/b/in/below", &bench.at(""));
    bench.arm(vec![trigger("t", &bench.at("a/b/in"), true)]);
    bench.handle.send(dagd::io::watch::ToWatch::Scan("t".into()));
    bench.delivered("t", ["below"]);
    sh("mount -t tmpfs m a; mkdir -p a/b/in; echo > a/b/in/above", &bench.at(""));
    bench.delivered("t", ["below", "above"]);
    sh("umount a; echo > a/b/in/more", &bench.at(""));
    bench.delivered("t", ["below", "above", "more"]);
    once(&bench);
}

#[test]
fn an_ancestor_is_renamed() {
    let mut bench = Bench::new();
    fs::create_dir_all(bench.at("a/b/in")).unwrap();
    fs::create_dir_all(bench.at("other/b/in/sub")).unwrap();
    fs::write(bench.at("other/b/in/sub/2"), "x").unwrap();
    bench.arm(vec![trigger("t", &bench.at("a/b/in"), true)]);
    fs::write(bench.at("a/b/in/1"), "x").unwrap();
    bench.delivered("t", ["1"]);
    fs::rename(bench.at("a"), bench.at("away")).unwrap();
    bench.until(|bench| bench.coverage("t").is_some_and(|c| !c.exists));
    // What is written to the old one concerns nobody.
    fs::write(bench.at("away/b/in/no"), "x").unwrap();
    fs::rename(bench.at("other"), bench.at("a")).unwrap();
    bench.delivered("t", ["sub/2"]);
    fs::write(bench.at("a/b/in/sub/3"), "x").unwrap();
    bench.delivered("t", ["sub/2", "sub/3"]);
    fs::rename(bench.at("a/b"), bench.at("a/c")).unwrap();
    fs::rename(bench.at("away/b"), bench.at("a/b")).unwrap();
    bench.delivered("t", ["1", "no"]);
    assert_eq!(bench.seen.iter().filter(|(_, seen)| seen.rel == "no".into()).count(), 1);
}

#[test]
fn a_link_on_the_way_leads_elsewhere() {
    let mut bench = Bench::new();
    for n in 1..=2 {
        fs::create_dir_all(bench.at(&format!("v{n}/in"))).unwrap();
    }
    fs::write(bench.at("v2/in/2"), "x").unwrap();
    symlink("v1", bench.at("current")).unwrap();
    bench.arm(vec![trigger("t", &bench.at("current/in"), true)]);
    fs::write(bench.at("v1/in/1"), "x").unwrap();
    bench.delivered("t", ["1"]);
    // As a deployment does it: at once.
    symlink("v2", bench.at("next")).unwrap();
    fs::rename(bench.at("next"), bench.at("current")).unwrap();
    bench.delivered("t", ["2"]);
    fs::write(bench.at("v1/in/late"), "x").unwrap();
    fs::write(bench.at("v2/in/3"), "x").unwrap();
    bench.delivered("t", ["2", "3"]);
    fs::remove_file(bench.at("current")).unwrap();
    bench.until(|bench| bench.coverage("t").is_some_and(|c| !c.exists));
    // It leads to nowhere until that appears.
    symlink("v3", bench.at("current")).unwrap();
    fs::create_dir_all(bench.at("v3/in")).unwrap();
    fs::write(bench.at("v3/in/4"), "x").unwrap();
    bench.delivered("t", ["4"]);
    assert!(bench.seen.iter().all(|(_, seen)| seen.rel != "late".into()));
}

#[test]
fn a_file_in_the_way_makes_room() {
    let mut bench = Bench::new();
    fs::write(bench.at("in"), "x").unwrap();
    bench.arm(vec![trigger("t", &bench.at("in"), true)]);
    let told = |bench: &Bench| bench.coverage("t").unwrap().problems.len();
    bench.until(|bench| told(bench) == 1);
    fs::remove_file(bench.at("in")).unwrap();
    fs::create_dir(bench.at("in")).unwrap();
    fs::write(bench.at("in/f"), "x").unwrap();
    bench.delivered("t", ["f"]);
    bench.until(|bench| told(bench) == 0);
}

#[test]
fn a_file_system_comes_and_goes_below_a_root() {
    if !may_mount("places::a_file_system_comes_and_goes_below_a_root") {
        return;
    }
    let mut bench = on("");
    sh("mkdir -p d/e; echo > d/e/1", &bench.at(""));
    bench.delivered("t", ["d/e/1"]);
    sh("mount -t tmpfs m d; mkdir d/e; echo > d/e/foreign; echo > mark1", &bench.at(""));
    bench.delivered("t", ["d/e/1", "mark1"]);
    bench.until(|bench| bench.coverage("t").is_some_and(|c| c.directories == 1));
    sh("umount d; echo > d/e/2", &bench.at(""));
    bench.delivered("t", ["d/e/1", "mark1", "d/e/2"]);
    bench.until(|bench| bench.coverage("t").is_some_and(|c| c.directories == 3));
    once(&bench);
}

#[test]
fn noise_on_the_way_wakes_nobody() {
    if std::env::var_os("ALONE").is_none() {
        return assert!(alone("places::noise_on_the_way_wakes_nobody", &[]));
    }
    let mut bench = Bench::new();
    fs::create_dir_all(bench.at("a/in")).unwrap();
    symlink("a", bench.at("link")).unwrap();
    bench.arm(vec![trigger("t", &bench.at("a/in"), true)]);
    fs::write(bench.at("a/in/f"), "x").unwrap();
    bench.delivered("t", ["f"]);
    let threads: Vec<_> =
        ["dagd-watch", "dagd-places"].iter().flat_map(|name| tasks(name)).collect();
    assert_eq!(threads.len(), 2);
    let slept = || threads.iter().map(|task| sleeps(task)).collect::<Vec<_>>();
    let mut before = slept();
    bench.until(|_| {
        std::thread::sleep(Duration::from_secs(1));
        std::mem::replace(&mut before, slept()) == before
    });
    for n in 0..100 {
        fs::write(bench.at(&format!("a/{n}")), "x").unwrap();
        fs::write(bench.at(&format!("{n}")), "x").unwrap();
    }
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(before, slept());
}

/// Whoever asks for a file whose file system has gone does not hear that the file has.
#[test]
fn a_look_does_not_take_what_is_unmounted_for_gone() {
    if !may_mount("places::a_look_does_not_take_what_is_unmounted_for_gone") {
        return;
    }
    let mut bench = Bench::new();
    sh("mkdir -p in s; mount -t tmpfs s s; mkdir s/sub; echo > s/sub/1", &bench.at(""));
    for root in ["in/sub", "in"] {
        sh("mount --bind s in", &bench.at(""));
        let rel = if root == "in" { "sub/1" } else { "1" };
        bench.arm(vec![trigger("t", &bench.at(root), true)]);
        bench.handle.send(dagd::io::watch::ToWatch::Scan("t".into()));
        bench.delivered("t", [rel]);
        sh("umount -l in", &bench.at(""));
        for _ in 0..3 {
            assert!(!matches!(bench.look(rel), dagd::core::candidate::Disk::Absent), "{root}");
        }
        bench.delivered("t", [rel]);
        bench.arm(Vec::new());
        bench.ledger.0.lock().unwrap().clear();
    }
}

/// A file system that makes no handles for its files, as in containers.
#[test]
fn an_ancestor_is_replaced_on_an_overlay() {
    if !may_mount("places::an_ancestor_is_replaced_on_an_overlay") {
        return;
    }
    let mut bench = Bench::new();
    sh("mkdir m o; mount -t tmpfs m m; mkdir m/lower m/upper m/work", &bench.at(""));
    let overlay = "mount -t overlay o -o lowerdir=m/lower,upperdir=m/upper,workdir=m/work o";
    sh(&format!("{overlay}; mkdir -p o/data/in"), &bench.at(""));
    bench.arm(vec![trigger("t", &bench.at("o/data/in"), true)]);
    sh("echo > o/data/in/first", &bench.at(""));
    bench.delivered("t", ["first"]);
    sh("mkdir -p o/new/in", &bench.at(""));
    // At no time is there none.
    let (from, to) = (bench.at("o/new"), bench.at("o/data"));
    let flags = rustix::fs::RenameFlags::EXCHANGE;
    rustix::fs::renameat_with(rustix::fs::CWD, &from, rustix::fs::CWD, &to, flags).unwrap();
    sh("echo > o/data/in/second", &bench.at(""));
    bench.delivered("t", ["second"]);
}

/// What happens to a file right before its file system goes is looked at when that has gone.
#[test]
fn a_hint_that_is_served_after_the_unmount_tells_of_nothing_gone() {
    if !may_mount("places::a_hint_that_is_served_after_the_unmount_tells_of_nothing_gone") {
        return;
    }
    let mut bench = Bench::new();
    sh("mkdir -p in s; mount -t tmpfs s s; echo > s/1; mount --bind s in", &bench.at(""));
    bench.arm(vec![trigger("t", &bench.at("in"), true)]);
    bench.handle.send(dagd::io::watch::ToWatch::Scan("t".into()));
    let mut wanted = vec!["1".to_owned()];
    for n in 0..20 {
        bench.delivered("t", &wanted);
        fs::write(bench.at("in/1"), format!("again {n}")).unwrap();
        rustix::mount::unmount(bench.at("in"), rustix::mount::UnmountFlags::DETACH).unwrap();
        bench.until(|bench| bench.coverage("t").is_some_and(|c| c.exists));
        sh(&format!("echo > in/under{n}"), &bench.at(""));
        wanted.push(format!("under{n}"));
        bench.delivered("t", &wanted);
        sh("mount --bind s in", &bench.at(""));
        bench.saw("1", |disk| matches!(disk, dagd::core::candidate::Disk::File { .. }));
    }
    bench.delivered("t", &wanted);
}
