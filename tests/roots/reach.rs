//! How far a folder reaches: depth, links, other file systems, ignore files. What is watched and
//! what is scanned answer alike.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

use dagd::core::trigger::{Backend, FolderSpec, FollowSymlinks};
use dagd::io::watch::ToWatch;

use crate::bench::{Bench, with};
use crate::places::{may_mount, sh};

fn write(path: &Path) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, "x").unwrap();
}

fn polled(folder: &mut FolderSpec) {
    (folder.backend, folder.poll_interval) = (Backend::Poll, Duration::from_millis(20));
}

/// Arms `t` as it is watched and `p` as it is polled, on the same folder.
fn arm(bench: &mut Bench, rel: &str, set: fn(&mut FolderSpec)) {
    let root = bench.at(rel);
    let both = |folder: &mut FolderSpec| {
        set(folder);
        polled(folder);
    };
    bench.arm(vec![with("t", &root, set), with("p", &root, both)]);
    bench.handle.send(ToWatch::Scan("t".into()));
}

/// Both deliver exactly these, and a scan finds nothing else.
fn deliver(bench: &mut Bench, wanted: &[&str]) {
    bench.delivered("t", wanted);
    bench.delivered("p", wanted);
    let scans = bench.scanned;
    bench.handle.send(ToWatch::Scan("t".into()));
    bench.until(|bench| bench.scanned >= scans + 4);
    bench.delivered("t", wanted);
    bench.delivered("p", wanted);
}

#[test]
fn files_count_between_two_depths() {
    let mut bench = Bench::new();
    arm(&mut bench, "", |folder| (folder.min_depth, folder.max_depth) = (2, 3));
    for rel in ["1", "a/2", "a/b/3", "a/b/c/4", "a/b/c/d/5"] {
        write(&bench.at(rel));
    }
    deliver(&mut bench, &["a/2", "a/b/3"]);
    // What is too deep is not even looked into.
    for name in ["t", "p"] {
        bench.until(|bench| bench.coverage(name).is_some_and(|c| c.directories == 3));
    }
    fs::rename(bench.at("a/b/c"), bench.at("c")).unwrap();
    deliver(&mut bench, &["a/2", "a/b/3", "c/4", "c/d/5"]);
}

#[test]
fn links_to_files_count_as_those_files() {
    let mut bench = Bench::new();
    write(&bench.at("out/file"));
    write(&bench.at("out/dir/no"));
    fs::create_dir(bench.at("in")).unwrap();
    symlink("../out/file", bench.at("in/before")).unwrap();
    arm(&mut bench, "in", |folder| folder.follow_symlinks = FollowSymlinks::Files);
    for (to, name) in [("../out/file", "link"), ("../out/dir", "dir"), ("nowhere", "dangling")] {
        symlink(to, bench.at("in").join(name)).unwrap();
    }
    symlink("link", bench.at("in/again")).unwrap();
    symlink("loop", bench.at("in/loop")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        bench.at("out/fifo"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR,
        0,
    )
    .unwrap();
    symlink("../out/fifo", bench.at("in/fifo")).unwrap();
    deliver(&mut bench, &["before", "link", "again"]);
    // Another target is another version, and so is another content, which a scan finds.
    fs::write(bench.at("out/file"), "xyz").unwrap();
    bench.handle.send(ToWatch::Scan("t".into()));
    for name in ["t", "p"] {
        bench.until(|bench| bench.versions[&(name.to_owned(), "link".into())] == 2);
    }
    write(&bench.at("out/other"));
    symlink("../out/other", bench.at("in/next")).unwrap();
    fs::rename(bench.at("in/next"), bench.at("in/link")).unwrap();
    bench.until(|bench| bench.versions[&("t".to_owned(), "link".into())] == 3);
    // A link whose target is gone is gone.
    fs::remove_file(bench.at("out/other")).unwrap();
    bench.handle.send(ToWatch::Scan("t".into()));
    deliver(&mut bench, &["before"]);
}

#[test]
fn links_to_folders_are_followed_once() {
    let mut bench = Bench::new();
    for rel in ["out/a/deep/1", "out/b/2", "in/real/3", "in/.hidden/4"] {
        write(&bench.at(rel));
    }
    symlink("../out/a", bench.at("in/a")).unwrap();
    symlink("../out/a", bench.at("in/z")).unwrap();
    symlink("real", bench.at("in/alias")).unwrap();
    symlink(".", bench.at("in/self")).unwrap();
    symlink("..", bench.at("in/real/up")).unwrap();
    symlink("../../../in/real", bench.at("out/a/deep/back")).unwrap();
    symlink("../../b/2", bench.at("out/a/deep/file")).unwrap();
    symlink(".hidden", bench.at("in/shown")).unwrap();
    arm(&mut bench, "in", |folder| folder.follow_symlinks = FollowSymlinks::All);
    // The first in order has the folder; what is there under its own name is not there again.
    deliver(&mut bench, &["a/deep/1", "a/deep/file", "real/3", "shown/4"]);
    // What happens there is noticed.
    write(&bench.at("out/a/deep/5"));
    write(&bench.at("out/a/new/6"));
    fs::remove_file(bench.at("out/a/deep/1")).unwrap();
    deliver(&mut bench, &["a/deep/file", "a/deep/5", "a/new/6", "real/3", "shown/4"]);
    // The link leads elsewhere, another one has the folder now, and then the folder goes.
    symlink("../out/b", bench.at("next")).unwrap();
    fs::rename(bench.at("next"), bench.at("in/a")).unwrap();
    bench.handle.send(ToWatch::Scan("t".into()));
    deliver(&mut bench, &["a/2", "z/deep/file", "z/deep/5", "z/new/6", "real/3", "shown/4"]);
    fs::rename(bench.at("out/a"), bench.at("out/gone")).unwrap();
    fs::remove_file(bench.at("in/shown")).unwrap();
    deliver(&mut bench, &["a/2", "real/3"]);
    fs::rename(bench.at("out/gone"), bench.at("out/a")).unwrap();
    deliver(&mut bench, &["a/2", "z/deep/file", "z/deep/5", "z/new/6", "real/3"]);
}

#[test]
fn a_link_to_a_folder_over_others_does_not_have_them_twice() {
    let mut bench = Bench::new();
    for rel in ["top/in/1", "top/2", "x/y/3", "x/4"] {
        write(&bench.at(rel));
    }
    symlink("..", bench.at("top/in/up")).unwrap();
    symlink("../../x/y", bench.at("top/in/a")).unwrap();
    symlink("../../x", bench.at("top/in/b")).unwrap();
    arm(&mut bench, "top/in", |folder| folder.follow_symlinks = FollowSymlinks::All);
    deliver(&mut bench, &["1", "up/2", "a/3", "b/4"]);
    write(&bench.at("x/y/5"));
    write(&bench.at("top/in/6"));
    deliver(&mut bench, &["1", "up/2", "a/3", "b/4", "a/5", "6"]);
    assert!(bench.versions.keys().all(|(_, rel)| !rel.as_bytes().starts_with(b"up/in")));
    assert!(bench.versions.keys().all(|(_, rel)| !rel.as_bytes().starts_with(b"b/y")));
}

#[test]
fn a_folder_behind_a_link_is_exchanged() {
    let mut bench = Bench::new();
    for rel in ["out/a/1", "out/b/2", "in/real/3"] {
        write(&bench.at(rel));
    }
    symlink("../out/a", bench.at("in/link")).unwrap();
    bench.arm(vec![with("t", &bench.at("in"), |folder| {
        folder.follow_symlinks = FollowSymlinks::All;
    })]);
    bench.handle.send(ToWatch::Scan("t".into()));
    bench.delivered("t", ["link/1", "real/3"]);
    let (a, b) = (bench.at("out/a"), bench.at("out/b"));
    let flags = rustix::fs::RenameFlags::EXCHANGE;
    rustix::fs::renameat_with(rustix::fs::CWD, &a, rustix::fs::CWD, &b, flags).unwrap();
    bench.delivered("t", ["link/2", "real/3"]);
    write(&bench.at("out/a/4"));
    write(&bench.at("out/a/deep/5"));
    bench.delivered("t", ["link/2", "link/4", "link/deep/5", "real/3"]);
}

#[test]
fn a_file_system_behind_a_link_comes_and_goes() {
    if !may_mount("reach::a_file_system_behind_a_link_comes_and_goes") {
        return;
    }
    let mut bench = Bench::new();
    let fresh = |n| format!("mount -t tmpfs m m; mkdir m/d; echo > m/{n}; echo > m/d/{n}");
    sh(&format!("mkdir -p in m; ln -s ../m in/link; {}", fresh(1)), &bench.at(""));
    bench.arm(vec![with("t", &bench.at("in"), |folder| {
        folder.follow_symlinks = FollowSymlinks::All;
    })]);
    bench.handle.send(ToWatch::Scan("t".into()));
    bench.delivered("t", ["link/1", "link/d/1"]);
    for n in 2..5 {
        sh(&format!("umount m; {}; echo > m/d/later{n}", fresh(n)), &bench.at(""));
        bench.delivered(
            "t",
            [format!("link/{n}"), format!("link/d/{n}"), format!("link/d/later{n}")],
        );
    }
}

/// What has gone with its file system is neither gone nor new when that is back.
#[test]
fn what_lies_behind_a_link_is_not_gone_with_its_file_system() {
    if !may_mount("reach::what_lies_behind_a_link_is_not_gone_with_its_file_system") {
        return;
    }
    let mut bench = Bench::new();
    sh("mkdir -p in m s; mount -t tmpfs s s; mkdir s/d; echo > s/d/1", &bench.at(""));
    sh("mount --bind s m; ln -s ../m/d in/link", &bench.at(""));
    // Where nothing is watched nothing keeps a scan from going on into a link at once.
    bench.arm(vec![with("p", &bench.at("in"), |folder| {
        folder.follow_symlinks = FollowSymlinks::All;
        polled(folder);
    })]);
    bench.delivered("p", ["link/1"]);
    arm(&mut bench, "in", |folder| folder.follow_symlinks = FollowSymlinks::All);
    let mut wanted = vec!["link/1".to_owned()];
    for n in 2..5 {
        deliver(&mut bench, &wanted.iter().map(String::as_str).collect::<Vec<_>>());
        sh(&format!("umount -l m; echo > in/between{n}"), &bench.at(""));
        wanted.push(format!("between{n}"));
        deliver(&mut bench, &wanted.iter().map(String::as_str).collect::<Vec<_>>());
        sh(&format!("mount --bind s m; echo > m/d/{n}"), &bench.at(""));
        wanted.push(format!("link/{n}"));
    }
    deliver(&mut bench, &wanted.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(bench.versions.values().all(|&times| times == 1), "{:?}", bench.versions);
}

#[test]
fn other_file_systems_are_entered_if_asked() {
    if !may_mount("reach::other_file_systems_are_entered_if_asked") {
        return;
    }
    let mut bench = Bench::new();
    sh("mkdir -p in/m; mount -t tmpfs m in/m; mkdir in/m/d; echo > in/m/d/1", &bench.at(""));
    arm(&mut bench, "in", |_| {});
    deliver(&mut bench, &[]);
    arm(&mut bench, "in", |folder| folder.cross_filesystem = true);
    deliver(&mut bench, &["m/d/1"]);
    sh("echo > in/m/d/2; mkdir in/n; mount -t tmpfs n in/n; echo > in/n/3", &bench.at(""));
    deliver(&mut bench, &["m/d/1", "m/d/2", "n/3"]);
    sh("echo > in/n/4", &bench.at(""));
    deliver(&mut bench, &["m/d/1", "m/d/2", "n/3", "n/4"]);
    assert!(bench.versions.values().all(|&times| times == 1), "{:?}", bench.versions);
}

#[test]
fn ignore_files_take_names_out() {
    let mut bench = Bench::new();
    for rel in ["src/a.rs", "src/a.o", "target/x", "target/keep/y", "doc/b.txt", ".git/config"] {
        write(&bench.at(rel));
    }
    fs::write(bench.at(".gitignore"), "*.o\n/target\n!target/keep\n").unwrap();
    fs::write(bench.at("doc/.ignore"), "*.txt\n").unwrap();
    arm(&mut bench, "", |folder| {
        folder.gitignore = true;
        folder.filter = dagd::core::filter::Filter::new(
            vec!["**/*".to_owned()],
            vec!["**/.*ignore".to_owned()],
            true,
            true,
        )
        .unwrap();
    });
    deliver(&mut bench, &["src/a.rs"]);
    write(&bench.at("src/b.rs"));
    write(&bench.at("src/b.o"));
    write(&bench.at("target/z"));
    deliver(&mut bench, &["src/a.rs", "src/b.rs"]);
    bench.until(|bench| bench.coverage("t").is_some_and(|c| c.directories == 3));
    // A changed ignore file changes what counts.
    fs::remove_file(bench.at("doc/.ignore")).unwrap();
    fs::write(bench.at(".gitignore"), "/src/b.*\n").unwrap();
    deliver(
        &mut bench,
        &["src/a.rs", "src/a.o", "src/b.rs", "target/x", "target/z", "target/keep/y", "doc/b.txt"],
    );
    write(&bench.at("src/b.new"));
    fs::write(bench.at(".gitignore"), "/target\n").unwrap();
    deliver(
        &mut bench,
        &[
            "src/a.rs",
            "src/a.o",
            "src/b.rs",
            "src/b.o",
            "src/b.new",
            "target/x",
            "target/z",
            "target/keep/y",
            "doc/b.txt",
        ],
    );
    for name in ["t", "p"] {
        bench.until(|bench| bench.coverage(name).is_some_and(|c| c.directories == 3));
    }
}

/// What tells that a file system was unmounted may come after what tells that its folders went.
#[test]
fn what_is_unmounted_beneath_a_root_is_not_gone() {
    if !may_mount("reach::what_is_unmounted_beneath_a_root_is_not_gone") {
        return;
    }
    let mut bench = Bench::new();
    sh("mkdir -p in/m s; mount -t tmpfs s s; mkdir s/d; echo > s/d/1; echo > s/2", &bench.at(""));
    arm(&mut bench, "in", |folder| folder.cross_filesystem = true);
    for _ in 0..20 {
        sh("mount --bind s in/m", &bench.at(""));
        bench.delivered("t", ["m/d/1", "m/2"]);
        bench.handle.send(ToWatch::Scan("t".into()));
        bench.seen.clear();
        // At once, as a folder's hint may.
        rustix::mount::unmount(bench.at("in/m"), rustix::mount::UnmountFlags::DETACH).unwrap();
        for rel in ["m/d/1", "m/2"] {
            assert!(!matches!(bench.look(rel), dagd::core::candidate::Disk::Absent), "{rel}");
        }
        bench.delivered("t", ["m/d/1", "m/2"]);
    }
}
