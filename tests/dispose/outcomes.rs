//! Every outcome of a move, as it is told.

use std::fs;
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use dagd::core::disposition::{Disposed, MoveResult};
use dagd::core::effect::Move;
use dagd::io::dispose::{Disposer, dispose};

use crate::common::skip;
use crate::world::{World, done, failure, moved, names, not_yet, plan};

#[test]
fn moves_and_says_where_also_when_asked_again() {
    for world in World::both() {
        let source = world.file("a.csv", "1,2\n");
        let target = world.to("2024/01/a.csv");
        let mv = plan(&source, &target);
        for _ in 0..3 {
            assert_eq!(dispose(&mv), moved(&target));
        }
        assert_eq!(fs::read_to_string(&target).unwrap(), "1,2\n");
        assert_eq!(names(world.inbox.path()), [""; 0]);
        assert_eq!(names(target.parent().unwrap()), ["a.csv"]);
    }
}

#[test]
fn another_version_is_left_alone() {
    for world in World::both() {
        let source = world.file("a", "old");
        let mv = plan(&source, &world.to("a"));
        fs::remove_file(&source).unwrap();
        world.file("a", "new");
        assert_eq!(dispose(&mv), done(MoveResult::Superseded));
        assert_eq!(fs::read_to_string(&source).unwrap(), "new");
        assert_eq!(names(world.done.path()), [""; 0]);
    }
}

#[test]
fn a_file_that_is_being_written_is_left_alone() {
    for world in World::both() {
        let source = world.file("a", "old");
        let mv = plan(&source, &world.to("a"));
        let writer = fs::OpenOptions::new().append(true).open(&source).unwrap();
        let text = not_yet(dispose(&mv));
        assert!(text.contains("open for writing"), "{text}");
        assert_eq!(names(world.inbox.path()), ["a"]);
        drop(writer);
        assert_eq!(dispose(&mv), moved(&world.to("a")));

        let source = world.file("b", "old");
        let mv = plan(&source, &world.to("b"));
        let mut writer = fs::OpenOptions::new().append(true).open(&source).unwrap();
        writer.write_all(b" and new").unwrap();
        assert_eq!(dispose(&mv), done(MoveResult::Superseded), "it is another version");
        assert_eq!(names(world.inbox.path()), ["b"]);
    }
}

#[test]
fn what_is_not_there_is_gone() {
    for world in World::both() {
        let source = world.file("a", "x");
        let mv = plan(&source, &world.to("below/a"));
        fs::remove_file(&source).unwrap();
        assert_eq!(dispose(&mv), done(MoveResult::Gone));
        std::os::unix::fs::symlink("/etc/passwd", &source).unwrap();
        assert_eq!(dispose(&mv), done(MoveResult::Gone));
        assert!(source.is_symlink());
        assert_eq!(names(world.done.path()), [""; 0], "no folder for nothing");
    }
}

#[test]
fn nothing_is_replaced() {
    for world in World::both() {
        fs::write(world.to("a.csv"), "first").unwrap();
        fs::create_dir(world.to("a.7.csv")).unwrap();
        std::os::unix::fs::symlink("nowhere", world.to("a.7-2.csv")).unwrap();
        let source = world.file("a.csv", "mine");
        let mv = plan(&source, &world.to("a.csv"));
        assert_eq!(dispose(&mv), moved(&world.to("a.7-3.csv")));
        assert_eq!(dispose(&mv), moved(&world.to("a.7-3.csv")));
        assert_eq!(fs::read_to_string(world.to("a.csv")).unwrap(), "first");
        assert_eq!(fs::read_to_string(world.to("a.7-3.csv")).unwrap(), "mine");
        assert_eq!(names(world.done.path()).len(), 4);
    }
}

#[test]
fn a_namesake_of_the_same_size_is_no_copy() {
    let Some(world) = World::across() else { return };
    let source = world.file("a", "mine");
    fs::write(world.to("a"), "ours").unwrap();
    let time = fs::metadata(&source).unwrap().modified().unwrap();
    fs::File::options().append(true).open(world.to("a")).unwrap().set_modified(time).unwrap();
    assert_eq!(dispose(&plan(&source, &world.to("a"))), moved(&world.to("a.7")));
    assert_eq!(fs::read_to_string(world.to("a")).unwrap(), "ours");
    assert_eq!(fs::read_to_string(world.to("a.7")).unwrap(), "mine");
}

#[test]
fn odd_names_go_through() {
    for world in World::both() {
        let odd: [&[u8]; 4] = [b"-rf", b"a\nb.csv", b"\xFF\xFE.\x01", b" "];
        for name in odd {
            let name = std::ffi::OsStr::from_bytes(name);
            let (source, target) = (world.inbox.path().join(name), world.done.path().join(name));
            fs::write(&source, "x").unwrap();
            assert_eq!(dispose(&plan(&source, &target)), moved(&target));
            assert!(target.exists() && !source.exists());
        }
    }
}

#[test]
fn its_own_place_is_no_move() {
    let world = World::on_one_file_system();
    let source = world.file("a", "x");
    assert_eq!(dispose(&plan(&source, &source)), moved(&source));
    let round = world.to("round");
    std::os::unix::fs::symlink(world.inbox.path(), &round).unwrap();
    fs::hard_link(&source, world.to("elsewhere")).unwrap();
    assert_eq!(dispose(&plan(&source, &round.join("a"))), moved(&round.join("a")));
    assert_eq!(fs::read_to_string(&source).unwrap(), "x");
}

#[test]
fn what_the_file_wears_goes_along() {
    let Some(world) = World::across() else { return };
    let source = world.file("a", "x");
    fs::set_permissions(&source, fs::Permissions::from_mode(0o640)).unwrap();
    let long_ago = std::time::UNIX_EPOCH + std::time::Duration::new(1_000_000_000, 123_456_789);
    fs::File::options().append(true).open(&source).unwrap().set_modified(long_ago).unwrap();
    let attribute = "user.dagd.test";
    let file = fs::File::open(&source).unwrap();
    let flags = rustix::fs::XattrFlags::empty();
    let dressed = rustix::fs::fsetxattr(&file, attribute, b"\x00v", flags).is_ok();
    let before = fs::metadata(&source).unwrap();
    assert_eq!(dispose(&plan(&source, &world.to("a"))), moved(&world.to("a")));
    let after = fs::metadata(world.to("a")).unwrap();
    let wears =
        |stat: &fs::Metadata| (stat.mode(), stat.uid(), stat.gid(), stat.modified().unwrap());
    assert_eq!(wears(&after), wears(&before));
    if !dressed {
        return skip("files have no attributes here");
    }
    let mut value = [0; 16];
    let copy = fs::File::open(world.to("a")).unwrap();
    match rustix::fs::fgetxattr(&copy, attribute, &mut value) {
        Ok(n) => assert_eq!(&value[..n], b"\x00v"),
        Err(error) => skip(&format!("the target keeps no attributes: {error}")),
    }
}

#[test]
fn failures_name_both_paths_and_a_remedy() {
    for world in World::both() {
        let source = world.file("a", "x");
        fs::write(world.to("file"), "").unwrap();
        let long = world.to(&"n".repeat(300));
        for (target, remedy) in [
            (world.to("file/a"), "part of the target's path is a file"),
            (world.to("file/b/a"), "part of the target's path is a file"),
            (long, "too long"),
            (PathBuf::from("done/a"), "change `pre_move`"),
            (PathBuf::from(format!("{}/", world.to("x").display())), "change `pre_move`"),
        ] {
            let text = failure(dispose(&plan(&source, &target)));
            assert!(text.contains(&source.display().to_string()), "{text}");
            assert!(text.contains(&target.display().to_string()), "{text}");
            assert!(text.contains(remedy), "{text}");
        }
        not_yet(dispose(&plan(&source, Path::new("/proc/dagd/a"))));
        assert_eq!(names(world.inbox.path()), ["a"]);
        assert_eq!(names(world.done.path()), ["file"], "nothing is left lying about");
    }
}

#[test]
fn the_thread_answers_for_each() {
    let world = World::on_one_file_system();
    let (out, results) = crossbeam_channel::unbounded();
    let mut disposer = Disposer::new(out);
    for file in 0..20 {
        let source = world.file(&format!("f{file}"), "x");
        // All to one name, as from many folders.
        assert_eq!(disposer.start(Move { file, ..plan(&source, &world.to("same.txt")) }), None);
    }
    drop(disposer);
    let answers: Vec<_> = results.iter().collect();
    assert!(answers.iter().map(|answer| answer.file).eq(0..20), "{answers:?}");
    let arrived = |outcome: &Disposed| matches!(outcome, Disposed::Done(MoveResult::Moved { .. }));
    assert!(answers.iter().all(|answer| arrived(&answer.outcome)), "{answers:?}");
    assert_eq!(answers[2].outcome, moved(&world.to("same.7-2.txt")));
    assert_eq!(names(world.done.path()).len(), 20);
}
