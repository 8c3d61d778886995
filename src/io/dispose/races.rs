//! What happens when somebody is faster: the steps are called one by one, with the world changed
//! in between.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use super::dispose;
use super::error::Error;
use super::job::{Job, Left, Step};
use super::pin::Pin;
use crate::core::candidate::Kind;
use crate::core::disposition::{Disposed, Goal, MoveResult, Phase};
use crate::core::effect::Move;
use crate::core::id::{RunId, Wall};
use crate::core::path::Bytes;
use crate::core::record::FileClaim;
use crate::core::sidecar::Sidecar;
use crate::core::trigger::{FileType, OnConflict};
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
        let mv = Move {
            run: RunId(1),
            file: 0,
            phase: Phase::After,
            trigger: None,
            claim,
            goal: Goal::To(Bytes::from(folder.path().join("out").as_path())),
            on_conflict: OnConflict::Rename,
            file_type: FileType::File,
            companions: Vec::new(),
            again: true,
        };
        Self { folder, mv }
    }

    fn job(&self) -> Job<'_> {
        Job::new(&self.mv, None)
    }

    fn source(&self) -> &Path {
        self.mv.claim.path.as_path()
    }

    fn target(&self) -> &Path {
        match &self.mv.goal {
            Goal::To(target) => target.as_path(),
            Goal::Delete => self.source(),
        }
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

/// Whether it is there now.
fn arrived(result: &MoveResult, there: &Path) -> bool {
    matches!(result, MoveResult::Moved { to, .. } if to.as_path() == there)
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
    assert_eq!(done(world.job().rename(world.source())), MoveResult::Superseded);
    is(&world.files(), &[("in", "newer")]);
}

#[test]
fn a_newer_version_that_was_linked_loses_its_second_name() {
    let world = World::new();
    world.supersede();
    assert_eq!(done(world.job().link(world.source())), MoveResult::Superseded);
    is(&world.files(), &[("in", "newer")]);
}

#[test]
fn a_newer_version_survives_the_copy_of_the_old_one() {
    let world = World::new();
    fs::copy(world.source(), world.target()).unwrap();
    world.supersede();
    assert_eq!(done(world.job().retire(world.source(), world.target())), MoveResult::Superseded);
    is(&world.files(), &[("in", "newer")]);
    assert_eq!(done(world.job().copy_anew(world.source())), MoveResult::Superseded);
}

#[test]
fn a_writer_who_came_late_gets_the_file_back() {
    type Way = fn(&Job<'_>) -> Result<Step, Error>;
    let ways: [Way; 4] = [
        |job| job.rename(job.source),
        |job| job.link(job.source),
        |job| job.copy_anew(job.source),
        |job| job.delete(job.source),
    ];
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
        Ok(Left::Nothing | Left::Aside | Left::Done(_)) => panic!("not refused"),
    };
    assert!(text.contains("is kept as") && text.contains(".old.tmp"), "{text}");
    assert_eq!(fs::read_to_string(&aside).unwrap(), "between");
    assert_eq!(fs::read_to_string(world.source()).unwrap(), "newer");
}

#[test]
fn a_crash_while_it_was_put_back_leaves_one_name() {
    let world = World::new();
    fs::hard_link(world.source(), &world.job().aside).unwrap();
    assert!(arrived(&done(world.job().go()), world.target()));
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
    assert!(arrived(&done(job.go()), world.target()));
    is(&world.files(), &[("in", "newer"), ("out", "claimed")]);
}

#[test]
fn whoever_waits_for_the_copy_may_have_it_at_once() {
    let world = World::new();
    let result = done(world.job().retire(world.source(), world.target()));
    assert!(arrived(&result, world.target()));
    is(&world.files(), &[]);
}

#[test]
fn a_newer_version_is_not_replaced_by_itself_nor_deleted() {
    for goal in ["replace", "delete"] {
        let mut world = World::new();
        fs::write(world.target(), "before").unwrap();
        let over = world.target().to_path_buf();
        world.mv.on_conflict = OnConflict::Replace;
        world.supersede();
        let step = if goal == "replace" {
            world.job().rename(world.source())
        } else {
            world.job().delete(world.source())
        };
        assert_eq!(done(step), MoveResult::Superseded);
        is(&world.files(), &[("in", "newer"), ("out", "before")]);
        assert!(over.exists());
    }
}

/// For the process that is run again: the folder of a world in which it is to die.
#[cfg(debug_assertions)]
const CHILD: &str = "DAGD_TEST_PUT_BACK";

#[test]
#[cfg(debug_assertions)]
fn a_death_after_it_went_back_is_healed() {
    if let Some(claim) = std::env::var_os(CHILD) {
        let mut world = World::new();
        world.mv.claim = serde_json::from_str(claim.to_str().unwrap()).unwrap();
        world.mv.goal = Goal::To(Bytes::from(world.source().with_file_name("out").as_path()));
        done(world.job().rename(world.source()));
        return;
    }
    let world = World::new();
    world.supersede();
    let mut child = std::process::Command::new(std::env::current_exe().unwrap());
    let name = "io::dispose::races::a_death_after_it_went_back_is_healed";
    child.args(["--exact", name]).env("DAGD_FAILPOINT", "dispose.put_back:1");
    child.env(CHILD, serde_json::to_string(&world.mv.claim).unwrap());
    let ended = child.output().unwrap().status;
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&ended), Some(9));
    assert_eq!(done(world.job().go()), MoveResult::Superseded);
    is(&world.files(), &[("in", "newer")]);
}

#[test]
fn what_was_aside_when_another_came_goes_on_from_there() {
    for (goal, rest) in [
        (None, &[("in", "newer")][..]),
        (Some(OnConflict::Rename), &[("in", "newer"), ("out", "before"), ("out.1", "claimed")]),
        (Some(OnConflict::Replace), &[("in", "newer"), ("out", "claimed")]),
    ] {
        let mut world = World::new();
        fs::write(world.target(), "before").unwrap();
        if goal.is_none() {
            fs::remove_file(world.target()).unwrap();
            world.mv.goal = Goal::Delete;
        }
        world.mv.on_conflict = goal.unwrap_or(OnConflict::Rename);
        fs::rename(world.source(), &world.job().aside).unwrap();
        world.supersede();
        let result = done(world.job().go());
        let away = matches!(result, MoveResult::Deleted);
        assert!(if goal.is_none() { away } else { result.word() == "moved" }, "{result:?}");
        is(&world.files(), rest);
    }
}

#[test]
fn what_goes_along_belongs_to_the_version_that_goes() {
    let done_file = Sidecar::parse("{name}.done").unwrap();
    // Superseded before anything happened, and with what goes along already aside.
    for crashed in [false, true] {
        let mut world = World::new();
        world.mv.companions = vec![done_file.clone()];
        let beside = world.source().with_file_name("in.done");
        fs::write(&beside, "old").unwrap();
        if crashed {
            world.job().set_companions_aside().unwrap();
            assert!(!beside.exists());
        }
        world.supersede();
        assert_eq!(done(world.job().go()), MoveResult::Superseded);
        is(&world.files(), &[("in", "newer"), ("in.done", "old")]);
    }
    // Aside when the crash came, with the file gone on: a newer pair is left alone.
    let mut world = World::new();
    world.mv.companions = vec![done_file.clone()];
    let beside = world.source().with_file_name("in.done");
    fs::write(&beside, "old").unwrap();
    world.job().set_companions_aside().unwrap();
    fs::rename(world.source(), world.target()).unwrap();
    world.supersede();
    fs::write(&beside, "new").unwrap();
    assert!(arrived(&done(world.job().go()), world.target()));
    let rest = [("in", "newer"), ("in.done", "new"), ("out", "claimed"), ("out.done", "old")];
    is(&world.files(), &rest);
    assert!(arrived(&done(world.job().go()), world.target()), "again");
    is(&world.files(), &rest);
}

#[test]
fn a_folder_that_is_exchanged_leads_nowhere_else() {
    let mut world = World::new();
    let [sub, away, other] = ["sub", "away", "other"].map(|name| world.folder.path().join(name));
    fs::create_dir(&sub).unwrap();
    fs::create_dir(&other).unwrap();
    fs::rename(world.source(), sub.join("in")).unwrap();
    fs::write(other.join("in"), "precious").unwrap();
    world.mv.claim.path = Bytes::from(sub.join("in").as_path());
    world.mv.goal = Goal::Delete;
    let pin = Pin::of(world.source()).unwrap();
    // It is another folder by the time of the first step.
    fs::rename(&sub, &away).unwrap();
    symlink(&other, &sub).unwrap();
    let job = Job::new(&world.mv, Some(&pin));
    assert!(matches!(job.go(), Ok(Step::Done(MoveResult::Deleted))));
    assert_eq!(fs::read_to_string(other.join("in")).unwrap(), "precious");
    assert!(fs::read_dir(&away).unwrap().next().is_none());
    let told = job.failure(&Error::Restless);
    assert!(told.starts_with(&format!("cannot delete {}: ", world.source().display())), "{told}");
    // With what was there before it is as with any other file at the path.
    assert_eq!(dispose(&world.mv), Disposed::Done(MoveResult::Superseded));
    assert_eq!(fs::read_dir(&other).unwrap().count(), 1);
}
