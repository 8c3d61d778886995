//! Folders that are watched by marks on their file systems: nothing is lost, and there is no watch
//! for each directory.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use dagd::core::path::Bytes;
use dagd::core::trigger::{Backend, TriggerSpec};
use dagd::io::watch::backend::Outcome;
use dagd::io::watch::dirty::{DIRTY_MAX, Inbox};
use dagd::io::watch::fanotify::Fanotify;

use crate::bench::{Bench, PATIENCE, alone, tasks, trigger, with};
use crate::common::disk::Disk;
use crate::common::skip;

fn marked(bench: &Bench, rel: &str) -> TriggerSpec {
    with("t", &bench.at(rel), |folder| folder.backend = Backend::Fanotify)
}

/// A trigger on a folder `in`; `None` where no file system can be marked.
fn armed() -> Option<Bench> {
    let mut bench = Bench::new();
    fs::create_dir(bench.at("in")).unwrap();
    bench.arm(vec![marked(&bench, "in")]);
    let problems = bench.coverage("t").unwrap().problems;
    if problems.iter().any(|line| line.contains("fanotify")) {
        skip(&problems.join(", "));
        return None;
    }
    assert_eq!(problems, [""; 0]);
    Some(bench)
}

/// Watches of inotify in this process.
fn inotify_watches() -> usize {
    let files = fs::read_dir("/proc/self/fdinfo").unwrap();
    let texts = files.filter_map(|file| fs::read_to_string(file.unwrap().path()).ok());
    texts.map(|text| text.lines().filter(|line| line.starts_with("inotify wd:")).count()).sum()
}

/// There come to be so many threads for marks, and watches as wanted. A thread that has ended goes, and
/// takes its watches back one by one, when it finds the time.
fn is_served_by(threads: usize, watches: impl Fn(usize) -> bool) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let now = (tasks("dagd-fanotify").len(), inotify_watches());
        if now.0 == threads && watches(now.1) {
            return;
        }
        assert!(Instant::now() < deadline, "{} threads, {} watches", now.0, now.1);
        thread::yield_now();
    }
}

#[test]
fn marks_see_all_files_in_new_directories() {
    let Some(mut bench) = armed() else { return };
    let mut wanted = Vec::new();
    for n in 0..500 {
        fs::create_dir_all(bench.at(&format!("in/{n}/b/c"))).unwrap();
        for file in ["f", "b/f", "b/c/f"] {
            fs::write(bench.at(&format!("in/{n}/{file}")), b"x").unwrap();
            wanted.push(format!("{n}/{file}"));
        }
    }
    bench.delivered("t", &wanted);
    bench.until(|bench| bench.coverage("t").is_some_and(|c| c.directories == 1501));
    for n in 0..500 {
        fs::hard_link(bench.at("in/0/f"), bench.at(&format!("in/{n}/b/link"))).unwrap();
        wanted.push(format!("{n}/b/link"));
    }
    bench.delivered("t", wanted);
    assert_eq!(bench.handle.overflows(), 0);
}

#[test]
fn marks_see_trees_that_are_moved_in() {
    let Some(mut bench) = armed() else { return };
    let mut wanted = Vec::new();
    for n in 0..100 {
        fs::create_dir_all(bench.at(&format!("out{n}/x/y"))).unwrap();
        for file in ["top", "x/mid", "x/y/deep"] {
            fs::write(bench.at(&format!("out{n}/{file}")), b"x").unwrap();
            wanted.push(format!("{n}/{file}"));
        }
        fs::rename(bench.at(&format!("out{n}")), bench.at(&format!("in/{n}"))).unwrap();
    }
    bench.delivered("t", &wanted);
    // They are heard where they are now, and out again nowhere.
    for n in 0..100 {
        fs::write(bench.at(&format!("in/{n}/x/y/late")), b"x").unwrap();
        wanted.push(format!("{n}/x/y/late"));
    }
    bench.delivered("t", &wanted);
    for n in 0..100 {
        fs::rename(bench.at(&format!("in/{n}/x")), bench.at(&format!("out{n}"))).unwrap();
        fs::write(bench.at(&format!("out{n}/y/outside")), b"x").unwrap();
    }
    bench.delivered("t", (0..100).map(|n| format!("{n}/top")));
    bench.until(|bench| bench.coverage("t").is_some_and(|c| c.directories == 101));
}

#[test]
fn marks_follow_directories_that_are_renamed() {
    let Some(mut bench) = armed() else { return };
    let at = |bench: &Bench, rel: String| bench.at(&format!("in/{rel}"));
    for n in 0..200 {
        fs::create_dir_all(at(&bench, format!("{n}/sub"))).unwrap();
        fs::write(at(&bench, format!("{n}/sub/old")), b"x").unwrap();
    }
    bench.delivered("t", (0..200).map(|n| format!("{n}/sub/old")));
    let mut wanted = Vec::new();
    for n in 0..200 {
        fs::rename(at(&bench, format!("{n}")), at(&bench, format!("m{n}"))).unwrap();
        fs::write(at(&bench, format!("m{n}/sub/new")), b"x").unwrap();
        fs::rename(at(&bench, format!("m{n}")), at(&bench, format!("r{n}"))).unwrap();
        fs::write(at(&bench, format!("r{n}/sub/newer")), b"x").unwrap();
        wanted.extend(["old", "new", "newer"].map(|f| format!("r{n}/sub/{f}")));
    }
    bench.delivered("t", &wanted);
    for n in 0..200 {
        fs::write(at(&bench, format!("r{n}/sub/late")), b"x").unwrap();
        wanted.push(format!("r{n}/sub/late"));
    }
    bench.delivered("t", &wanted);
    // Others take their places.
    for n in 0..200 {
        fs::rename(at(&bench, format!("r{n}")), at(&bench, format!("{n}"))).unwrap();
        fs::create_dir_all(at(&bench, format!("r{n}/sub"))).unwrap();
        fs::write(at(&bench, format!("r{n}/sub/other")), b"x").unwrap();
    }
    wanted = (0..200).map(|n| format!("r{n}/sub/other")).collect();
    for n in 0..200 {
        wanted.extend(["old", "new", "newer", "late"].map(|f| format!("{n}/sub/{f}")));
    }
    bench.delivered("t", wanted);
}

#[test]
fn marks_see_what_is_deleted() {
    let Some(mut bench) = armed() else { return };
    for n in 0..100 {
        fs::create_dir_all(bench.at(&format!("in/{n}/a"))).unwrap();
        fs::write(bench.at(&format!("in/{n}/a/f")), b"x").unwrap();
        fs::write(bench.at(&format!("in/{n}/g")), b"x").unwrap();
    }
    bench.delivered("t", (0..100).flat_map(|n| [format!("{n}/a/f"), format!("{n}/g")]));
    for n in 0..100 {
        if n < 50 {
            fs::remove_dir_all(bench.at(&format!("in/{n}"))).unwrap();
        } else {
            fs::remove_file(bench.at(&format!("in/{n}/g"))).unwrap();
        }
    }
    bench.delivered("t", (50..100).map(|n| format!("{n}/a/f")));
    bench.until(|bench| bench.coverage("t").is_some_and(|c| c.directories == 101));
    // The same names again, and the root itself.
    fs::create_dir_all(bench.at("in/0/a")).unwrap();
    fs::write(bench.at("in/0/a/f"), b"y").unwrap();
    bench.delivered("t", (50..100).chain([0]).map(|n| format!("{n}/a/f")));
    fs::rename(bench.at("in"), bench.at("was")).unwrap();
    fs::create_dir_all(bench.at("in/0")).unwrap();
    bench.until(|bench| bench.coverage("t").is_some_and(|c| c.directories == 2));
    fs::write(bench.at("in/0/new"), b"x").unwrap();
    bench.saw("0/new", |_| true);
}

#[test]
fn a_mark_takes_no_watch_for_each_directory_and_goes_with_the_last() {
    if std::env::var_os("ALONE").is_none() {
        let name = "fanotify::a_mark_takes_no_watch_for_each_directory_and_goes_with_the_last";
        return assert!(alone(name, &[]));
    }
    let Some(mut bench) = armed() else { return };
    for n in 0..1000 {
        fs::create_dir_all(bench.at(&format!("in/{n}"))).unwrap();
    }
    let all = |bench: &mut Bench| bench.coverage("t").is_some_and(|c| c.directories == 1001);
    bench.until(all);
    assert_eq!(tasks("dagd-fanotify").len(), 1);
    let way = bench.at("in").components().count() + 1;
    assert!(inotify_watches() <= way, "{} watches", inotify_watches());

    // By other words of the configuration it is another backend, and nothing is lost meanwhile.
    let mut wanted = BTreeSet::new();
    for (round, backend) in
        [Backend::Inotify, Backend::Fanotify, Backend::Auto, Backend::Fanotify].iter().enumerate()
    {
        for n in 0..1000 {
            fs::write(bench.at(&format!("in/{n}/before{round}")), b"x").unwrap();
            wanted.insert(format!("{n}/before{round}"));
        }
        bench.arm(vec![with("t", &bench.at("in"), |folder| folder.backend = *backend)]);
        let is_marked = *backend == Backend::Fanotify;
        // The old ones end once the new ones cover all, of which the acknowledgement tells.
        is_served_by(usize::from(is_marked), |watches| (watches <= way) == is_marked);
        for n in 0..1000 {
            fs::write(bench.at(&format!("in/{n}/after{round}")), b"x").unwrap();
            wanted.insert(format!("{n}/after{round}"));
        }
        bench.delivered("t", &wanted);
    }
    assert_eq!(bench.handle.overflows(), 0);
    bench.arm(vec![trigger("other", &bench.at("other"), true)]);
    is_served_by(0, |_| true);
}

#[test]
fn marks_hear_a_directory_at_each_place_where_it_is_mounted() {
    let Some(mut bench) = armed() else { return };
    let Some(disk) = Disk::mount(&bench.at("in"), "size=1m") else { return };
    let bound = bench.at("bound");
    fs::create_dir(&bound).unwrap();
    let bind = Command::new("mount").arg("--bind").arg(disk.path()).arg(&bound).status();
    assert!(bind.unwrap().success());
    let mut there = marked(&bench, "bound");
    there.name = "bound".into();
    bench.arm(vec![marked(&bench, "in"), there]);
    fs::create_dir(bound.join("sub")).unwrap();
    for n in 0..100 {
        fs::write(bench.at(&format!("in/sub/{n}")), b"x").unwrap();
    }
    bench.delivered("t", (0..100).map(|n| format!("sub/{n}")));
    bench.delivered("bound", (0..100).map(|n| format!("sub/{n}")));
    let unbind = Command::new("umount").arg("-l").arg(&bound).status();
    assert!(unbind.unwrap().success());
    bench.until(|bench| bench.coverage("bound").is_some_and(|c| c.directories == 1));
    bench.stop();
}

#[test]
fn a_file_system_that_is_mounted_anew_is_marked_anew() {
    let Some(mut bench) = armed() else { return };
    for round in 0..3 {
        let Some(disk) = Disk::mount(&bench.at("in"), "size=1m") else { return };
        for n in 0..10 {
            fs::create_dir(bench.at(&format!("in/{round}-{n}"))).unwrap();
            fs::write(bench.at(&format!("in/{round}-{n}/f")), b"x").unwrap();
            bench.saw(format!("{round}-{n}/f"), |_| true);
        }
        bench.until(|bench| bench.coverage("t").is_some_and(|c| c.directories == 11));
        fs::write(bench.at(&format!("in/{round}-0/late")), b"x").unwrap();
        bench.saw(format!("{round}-0/late"), |_| true);
        drop(disk);
        bench.until(|bench| bench.coverage("t").is_some_and(|c| c.directories == 1));
    }
    fs::write(bench.at("in/beneath"), b"x").unwrap();
    bench.saw("beneath", |_| true);
}

#[test]
fn a_drain_of_marks_waits_for_all_that_is_queued() {
    let Some(bench) = armed() else { return };
    let inbox = Arc::new(Inbox::new(DIRTY_MAX));
    let mut fanotify = Fanotify::new(inbox.clone());
    let dir = Bytes::from(bench.at("in").as_path());
    assert_eq!(fanotify.watch(std::slice::from_ref(&dir)), [Outcome::Watched]);
    for round in 0..200 {
        let write = |n| {
            let path = bench.at(&format!("in/{round}-{n}"));
            fs::write(&path, b"x").unwrap();
            Bytes::from(path.as_path())
        };
        let paths: Vec<Bytes> = (0..50).map(write).collect();
        assert!(fanotify.drain());
        assert_eq!(inbox.wants(paths.iter()), Some(vec![true; 50]));
    }
    let other = Bytes::from(bench.at("other").as_path());
    assert_eq!(fanotify.unwatch(vec![dir, other.clone()]), [other]);
}

#[test]
fn a_file_system_that_cannot_be_marked_is_polled_and_that_is_told() {
    let Some(mut bench) = armed() else { return };
    let Some(disk) = Disk::mount(&bench.at("in"), "size=1m") else { return };
    for dir in ["lower", "upper", "work", "all"] {
        fs::create_dir(disk.path().join(dir)).unwrap();
    }
    let over = disk.path().join("all");
    let options = "lowerdir=lower,upperdir=upper,workdir=work,nfs_export=off";
    let mut mount = Command::new("mount");
    mount.args(["-t", "overlay", "-o", options, "none"]).arg(&over).current_dir(disk.path());
    let mounted = mount.output().unwrap();
    if !mounted.status.success() {
        return skip(&format!("no overlay can be mounted here: {mounted:?}"));
    }
    bench.arm(vec![marked(&bench, "in/all")]);
    let told = "fanotify cannot watch this file system; set backend = \"inotify\"";
    let is_told = |line: &String| line.starts_with(over.to_str().unwrap()) && line.ends_with(told);
    bench.until(|bench| bench.coverage("t").unwrap().problems.iter().any(is_told));
    fs::write(over.join("f"), b"x").unwrap();
    bench.delivered("t", ["f"]);
    let unmount = Command::new("umount").arg("-l").arg(&over).status();
    assert!(unmount.unwrap().success());
    bench.stop();
}
