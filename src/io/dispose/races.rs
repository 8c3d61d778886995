//! What happens when somebody is faster: the steps are called one by one, with the world changed
//! in between.

use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};

use super::error::Error;
use super::job::{Job, Step};
use crate::core::candidate::Kind;
use crate::core::effect::Move;
use crate::core::id::{RunId, Wall};
use crate::core::path::Bytes;
use crate::core::record::{FileClaim, MoveResult};
use crate::io::disk::version_at;

struct World {
    folder: tempfile::TempDir,
    mv: Move,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let source = folder.path().join("in");
        fs::write(&source, "claimed").unwrap();
        let claim = FileClaim {
            rel: "in".into(),
            path: Bytes::from(source.as_path()),
            kind: Kind::Created,
            version: version_at(&source).unwrap().unwrap(),
            first_seen_at: Wall(0),
            in_place: true,
            key: None,
        };
        let target = Bytes::from(folder.path().join("out").as_path());
        Self { mv: Move { run: RunId(1), file: 0, claim, target }, folder }
    }

    fn job(&self) -> Job<'_> {
        Job::new(&self.mv)
    }

    fn source(&self) -> &Path {
        self.mv.claim.path.as_path()
    }

    fn target(&self) -> &Path {
        self.mv.target.as_path()
    }

    /// A newer version, by rename as careful producers do it.
    fn supersede(&self) {
        let new = self.folder.path().join("new");
        fs::write(&new, "newer").unwrap();
        fs::rename(new, self.source()).unwrap();
    }

    fn files(&self) -> Vec<(String, String)> {
        let mut files: Vec<_> = fs::read_dir(self.folder.path())
            .unwrap()
            .map(|entry| entry.unwrap())
            .map(|entry| {
                let name = entry.file_name().into_string().unwrap();
                (name, fs::read_to_string(entry.path()).unwrap())
            })
            .collect();
        files.sort();
        files
    }
}

fn is(files: &[(String, String)], expected: &[(&str, &str)]) {
    let files: Vec<_> = files.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
    assert_eq!(files, expected);
}

fn done(step: Result<Step, Error>) -> MoveResult {
    match step.unwrap() {
        Step::Done(result) => result,
        Step::Again => panic!("not done"),
    }
}

#[test]
fn a_newer_version_that_was_renamed_goes_back() {
    let world = World::new();
    world.supersede();
    assert_eq!(done(world.job().rename()), MoveResult::Superseded);
    is(&world.files(), &[("in", "newer")]);
}

#[test]
fn a_newer_version_that_was_linked_loses_its_second_name() {
    let world = World::new();
    world.supersede();
    assert_eq!(done(world.job().link()), MoveResult::Superseded);
    is(&world.files(), &[("in", "newer")]);
}

#[test]
fn a_newer_version_survives_the_copy_of_the_old_one() {
    let world = World::new();
    fs::copy(world.source(), world.target()).unwrap();
    world.supersede();
    assert_eq!(done(world.job().retire(world.target())), MoveResult::Superseded);
    is(&world.files(), &[("in", "newer")]);
    assert_eq!(done(world.job().copy_anew()), MoveResult::Superseded);
}

#[test]
fn a_writer_who_came_late_gets_the_file_back() {
    type Way = fn(&Job<'_>) -> Result<Step, Error>;
    let ways: [Way; 3] = [|job| job.rename(), |job| job.link(), |job| job.copy_anew()];
    for by in ways {
        let world = World::new();
        let writer = OpenOptions::new().append(true).open(world.source()).unwrap();
        assert_eq!(done(by(&world.job())), MoveResult::Superseded);
        is(&world.files(), &[("in", "claimed")]);
        drop(writer);
    }
}

#[test]
fn when_both_names_are_taken_both_files_are_kept() {
    let world = World::new();
    let aside: PathBuf = world.job().aside.clone();
    fs::write(&aside, "between").unwrap();
    world.supersede();
    let text = match world.job().recover() {
        Err(error) => error.to_string(),
        Ok(_) => panic!("not refused"),
    };
    assert!(text.contains("is kept as") && text.contains(".old.tmp"), "{text}");
    assert_eq!(fs::read_to_string(&aside).unwrap(), "between");
    assert_eq!(fs::read_to_string(world.source()).unwrap(), "newer");
}

#[test]
fn a_crash_while_it_was_put_back_leaves_one_name() {
    let world = World::new();
    fs::hard_link(world.source(), &world.job().aside).unwrap();
    assert_eq!(done(world.job().go()), MoveResult::Moved(world.mv.target.clone()));
    is(&world.files(), &[("out", "claimed")]);
}

#[test]
fn a_newer_version_after_the_crash_does_not_hide_the_move() {
    let world = World::new();
    let job = world.job();
    fs::copy(world.source(), world.target()).unwrap();
    let time = fs::metadata(world.source()).unwrap().modified().unwrap();
    OpenOptions::new().append(true).open(world.target()).unwrap().set_modified(time).unwrap();
    fs::rename(world.source(), &job.aside).unwrap();
    world.supersede();
    assert_eq!(done(job.go()), MoveResult::Moved(world.mv.target.clone()));
    is(&world.files(), &[("in", "newer"), ("out", "claimed")]);
}

#[test]
fn whoever_waits_for_the_copy_may_have_it_at_once() {
    let world = World::new();
    assert_eq!(
        done(world.job().retire(world.target())),
        MoveResult::Moved(world.mv.target.clone())
    );
    is(&world.files(), &[]);
}
