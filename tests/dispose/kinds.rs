//! What is done where a place is taken; what goes along; folders; removal.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use dagd::core::disposition::{Goal, MoveResult};
use dagd::core::effect::Move;
use dagd::core::trigger::{FileType, OnConflict};
use dagd::io::dispose::dispose;

use crate::world::{World, done, failure, moved, names, not_yet, plan, sidecar};

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap()
}

#[test]
fn a_file_that_is_replaced_is_replaced_as_a_whole() {
    for world in World::both() {
        let (source, target) = (world.file("a", "mine"), world.to("a"));
        fs::write(&target, "other").unwrap();
        let order = Move { on_conflict: OnConflict::Replace, ..plan(&source, &target) };
        assert_eq!(dispose(&order), moved(&target));
        assert_eq!(dispose(&order), moved(&target));
        assert_eq!(read(&target), "mine");
        assert_eq!(
            (names(world.inbox.path()), names(world.done.path())),
            (vec![], vec!["a".into()])
        );
    }
}

#[test]
fn two_names_of_one_file_become_one() {
    let world = World::on_one_file_system();
    let (source, target) = (world.file("a", "mine"), world.to("a"));
    fs::hard_link(&source, &target).unwrap();
    let order = Move { on_conflict: OnConflict::Replace, ..plan(&source, &target) };
    assert_eq!(dispose(&order), moved(&target));
    assert_eq!((names(world.inbox.path()).len(), read(&target)), (0, "mine".to_owned()));
}

#[test]
fn only_a_regular_file_is_replaced() {
    for world in World::both() {
        let source = world.file("a", "mine");
        fs::create_dir(world.to("folder")).unwrap();
        symlink("elsewhere", world.to("link")).unwrap();
        for name in ["folder", "link"] {
            let order = Move { on_conflict: OnConflict::Replace, ..plan(&source, &world.to(name)) };
            let text = failure(dispose(&order));
            assert!(text.contains("no regular file"), "{text}");
        }
        assert_eq!(names(world.inbox.path()), ["a"]);
        assert_eq!(names(world.done.path()), ["folder", "link"]);
        assert!(world.to("link").is_symlink());
    }
}

#[test]
fn where_its_place_is_taken_it_stays_if_that_is_wanted() {
    for world in World::both() {
        let (source, target) = (world.file("a", "mine"), world.to("a"));
        world.file("a.done", "");
        fs::write(&target, "other").unwrap();
        let order = Move {
            on_conflict: OnConflict::Keep,
            companions: vec![sidecar("{name}.done")],
            ..plan(&source, &target)
        };
        assert_eq!(dispose(&order), done(MoveResult::Kept));
        let order = Move { on_conflict: OnConflict::Fail, ..order };
        let text = failure(dispose(&order));
        assert!(text.contains("its place is taken"), "{text}");
        assert_eq!(names(world.inbox.path()), ["a", "a.done"]);
        assert_eq!((names(world.done.path()), read(&target)), (vec!["a".into()], "other".into()));
        fs::remove_file(&target).unwrap();
        assert_eq!(dispose(&order), moved(&target));
        assert_eq!(names(world.done.path()), ["a", "a.done"]);
    }
}

#[test]
fn a_file_is_deleted_with_what_belongs_to_it() {
    let world = World::on_one_file_system();
    let source = world.file("a", "mine");
    for name in ["a.done", "a.sha256", "b", "b.done"] {
        world.file(name, "");
    }
    let order = Move {
        goal: Goal::Delete,
        companions: vec![sidecar("{name}.done"), sidecar("{name}.sha256")],
        again: false,
        ..plan(&source, &source)
    };
    assert_eq!(dispose(&order), done(MoveResult::Deleted));
    assert_eq!(names(world.inbox.path()), ["b", "b.done"]);
    assert_eq!(dispose(&order), done(MoveResult::Gone), "told from a second try");
    assert_eq!(dispose(&Move { again: true, ..order }), done(MoveResult::Deleted));
    assert_eq!(names(world.inbox.path()), ["b", "b.done"]);
}

#[test]
fn a_file_that_changed_or_is_written_is_not_deleted() {
    let world = World::on_one_file_system();
    let source = world.file("a", "mine");
    let order = Move { goal: Goal::Delete, ..plan(&source, &source) };
    let writer = fs::OpenOptions::new().append(true).open(&source).unwrap();
    not_yet(dispose(&order));
    drop(writer);
    fs::write(&source, "longer").unwrap();
    assert_eq!(dispose(&order), done(MoveResult::Superseded));
    assert_eq!(read(&source), "longer");
}

#[test]
fn what_goes_along_keeps_belonging_to_its_file() {
    for world in World::both() {
        fs::write(world.to("a.csv"), "other").unwrap();
        // Another one's that has lost its file.
        fs::write(world.to("a.7.ok"), "orphan").unwrap();
        let source = world.file("a.csv", "mine");
        world.file("a.csv.sha256", "sum");
        world.file("a.ok", "ok");
        let order = Move {
            companions: vec![sidecar("{stem}.ok"), sidecar("{name}.sha256")],
            ..plan(&source, &world.to("a.csv"))
        };
        assert_eq!(dispose(&order), moved(&world.to("a.7.csv")));
        let all = ["a.7.7.ok", "a.7.csv", "a.7.csv.sha256", "a.7.ok", "a.csv"];
        assert_eq!(names(world.done.path()), all);
        assert_eq!(read(&world.to("a.7.csv.sha256")), "sum");
        assert_eq!(
            (read(&world.to("a.7.7.ok")), read(&world.to("a.7.ok"))),
            ("ok".into(), "orphan".into())
        );
        assert_eq!(names(world.inbox.path()), [""; 0]);
    }
}

/// A folder of results: files, a folder below, a link.
fn results(world: &World, name: &str) -> std::path::PathBuf {
    let folder = world.inbox.path().join(name);
    fs::create_dir_all(folder.join("raw/empty")).unwrap();
    fs::write(folder.join("raw/1.dat"), vec![b'x'; 100_000]).unwrap();
    fs::write(folder.join("summary"), "all is well").unwrap();
    symlink("raw/1.dat", folder.join("newest")).unwrap();
    folder
}

#[test]
fn a_folder_goes_with_all_that_is_in_it() {
    for world in World::both() {
        let source = results(&world, "run1");
        let order = plan(&source, &world.to("2024/run1"));
        assert_eq!(order.file_type, FileType::Dir);
        for _ in 0..2 {
            assert_eq!(dispose(&order), moved(&world.to("2024/run1")));
        }
        let there = world.to("2024/run1");
        assert_eq!(names(&there), ["newest", "raw", "summary"]);
        assert_eq!(names(&there.join("raw")), ["1.dat", "empty"]);
        assert_eq!(fs::read(there.join("newest")).unwrap().len(), 100_000);
        assert_eq!(
            (names(world.inbox.path()), names(&world.to("2024"))),
            (vec![], vec!["run1".into()])
        );
    }
}

#[test]
fn a_folder_that_changed_or_is_written_in_is_left_alone() {
    for world in World::both() {
        for goal in [Goal::To(world.to("x").as_path().into()), Goal::Delete] {
            let source = results(&world, "run1");
            let order = Move { goal, ..plan(&source, &world.to("x")) };
            let file = source.join("raw/1.dat");
            let writer = fs::OpenOptions::new().append(true).open(&file).unwrap();
            not_yet(dispose(&order));
            drop(writer);
            fs::write(source.join("raw/2.dat"), "more").unwrap();
            assert_eq!(dispose(&order), done(MoveResult::Superseded));
            assert_eq!(names(&source.join("raw")), ["1.dat", "2.dat", "empty"]);
            assert_eq!(names(world.done.path()), [""; 0]);
            fs::remove_dir_all(&source).unwrap();
        }
    }
}

#[test]
fn a_folder_finds_its_place_taken() {
    for world in World::both() {
        let source = results(&world, "run1");
        fs::create_dir(world.to("run1")).unwrap();
        let order = plan(&source, &world.to("run1"));
        for (on_conflict, word) in
            [(OnConflict::Replace, "no regular file"), (OnConflict::Fail, "is taken")]
        {
            let text = failure(dispose(&Move { on_conflict, ..order.clone() }));
            assert!(text.contains(word), "{text}");
        }
        let order = Move { on_conflict: OnConflict::Keep, ..order };
        assert_eq!(dispose(&order), done(MoveResult::Kept));
        let order = Move { on_conflict: OnConflict::Rename, ..order };
        assert_eq!(dispose(&order), moved(&world.to("run1.7")));
        assert_eq!(names(&world.to("run1")), [""; 0], "even an empty one is not replaced");
    }
}

#[test]
fn a_folder_is_deleted_and_never_moved_into_itself() {
    let world = World::on_one_file_system();
    let source = results(&world, "run1");
    let text = failure(dispose(&plan(&source, &source.join("done/run1"))));
    assert!(text.contains("outside of it"), "{text}");
    let order = Move { goal: Goal::Delete, ..plan(&source, &source) };
    for _ in 0..2 {
        assert_eq!(dispose(&order), done(MoveResult::Deleted));
    }
    assert_eq!(names(world.inbox.path()), [""; 0]);
}

#[test]
fn what_no_copy_can_hold_is_told() {
    let Some(world) = World::across() else { return };
    let source = results(&world, "run1");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        source.join("raw/fifo"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR,
        0,
    )
    .unwrap();
    let text = failure(dispose(&plan(&source, &world.to("run1"))));
    assert!(text.contains("raw/fifo") && text.contains("take that out"), "{text}");
    assert_eq!(names(world.done.path()), [""; 0]);
    assert!(source.join("summary").exists());
}
