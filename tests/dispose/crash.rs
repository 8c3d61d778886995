//! This binary, run again as a process that may be killed before any call or confined.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use dagd::core::disposition::{Disposed, Goal, MoveResult};
use dagd::core::effect::Move;
use dagd::core::record::FileClaim;
use dagd::core::trigger::{FileType, OnConflict};
use dagd::io::dispose::dispose;

use crate::skip;
use crate::world::{World, claim, done, moved, names, of_claim, sidecar};

/// `inbox:done:scene` for the process that is run; its test does nothing without it.
const CHILD: &str = "DAGD_TEST_CHILD";

/// The claim for that process, if it is older than what is there.
const CLAIM: &str = "DAGD_TEST_CLAIM";

#[test]
fn child() {
    let Some(world) = std::env::var_os(CHILD) else { return };
    let world = world.into_string().unwrap();
    let parts: Vec<&str> = world.split(':').collect();
    let (source, target) = (Path::new(parts[0]), Path::new(parts[1]));
    let scene = SCENES.into_iter().find(|scene| format!("{scene:?}") == parts[2]).unwrap();
    let order = match std::env::var(CLAIM) {
        Ok(claim) => scene.order_of(serde_json::from_str(&claim).unwrap(), target),
        Err(_) => scene.order(source, target),
    };
    let result = dispose(&order);
    fs::write(source.with_extension("result"), format!("{result:?}")).unwrap();
}

fn child_command(program: &[&str], source: &Path, target: &Path, scene: Scene) -> Command {
    let this = std::env::current_exe().unwrap();
    let mut whole: Vec<&std::ffi::OsStr> = program.iter().map(std::ffi::OsStr::new).collect();
    whole.push(this.as_os_str());
    let mut command = Command::new(whole[0]);
    command.args(&whole[1..]).args(["--exact", "crash::child", "--test-threads=1"]);
    command.env(CHILD, format!("{}:{}:{scene:?}", source.display(), target.display()));
    command
}

fn works(command: &mut Command) -> bool {
    command.output().is_ok_and(|output| output.status.success())
}

/// All by which names and their durability change. `?`: not on every machine.
const CALLS: [&str; 13] = [
    "renameat2",
    "?renameat",
    "?rename",
    "linkat",
    "unlinkat",
    "?unlink",
    "?mkdir",
    "mkdirat",
    "?rmdir",
    "?symlink",
    "fsync",
    "?sendfile",
    "utimensat",
];

/// What is disposed of, and how. There is always another file in the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scene {
    Rename,
    Replace,
    Delete,
    Pair,
    PairReplace,
    PairDelete,
    Folder,
    FolderDelete,
}

const SCENES: [Scene; 8] = [
    Scene::Rename,
    Scene::Replace,
    Scene::Delete,
    Scene::Pair,
    Scene::PairReplace,
    Scene::PairDelete,
    Scene::Folder,
    Scene::FolderDelete,
];

impl Scene {
    fn is_pair(self) -> bool {
        matches!(self, Self::Pair | Self::PairReplace | Self::PairDelete)
    }

    fn is_folder(self) -> bool {
        matches!(self, Self::Folder | Self::FolderDelete)
    }

    fn deletes(self) -> bool {
        matches!(self, Self::Delete | Self::PairDelete | Self::FolderDelete)
    }

    fn replaces(self) -> bool {
        matches!(self, Self::Replace | Self::PairReplace)
    }

    /// Puts everything in place: the file, and what is in its way.
    fn prepare(self, world: &World) -> (PathBuf, PathBuf) {
        let target = world.to("day/a.csv");
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        fs::write(&target, "other").unwrap();
        let source = world.inbox.path().join("a.csv");
        if self.is_folder() {
            fs::create_dir_all(source.join("deep/er")).unwrap();
            fs::write(source.join("deep/er/x"), "mine").unwrap();
            fs::write(source.join("y"), "mine, too").unwrap();
            std::os::unix::fs::symlink("deep/er/x", source.join("link")).unwrap();
        } else {
            fs::write(&source, "mine").unwrap();
        }
        if self.is_pair() {
            fs::write(world.inbox.path().join("a.csv.done"), "mine").unwrap();
            fs::write(world.to("day/a.csv.done"), "other").unwrap();
        }
        (source, target)
    }

    fn order(self, source: &Path, target: &Path) -> Move {
        self.order_of(claim(source), target)
    }

    fn order_of(self, claim: FileClaim, target: &Path) -> Move {
        let file_type = if self.is_folder() { FileType::Dir } else { FileType::File };
        let mut order = Move { file_type, ..of_claim(claim, target) };
        if self.deletes() {
            order.goal = Goal::Delete;
        }
        if self.replaces() {
            order.on_conflict = OnConflict::Replace;
        }
        if self.is_pair() {
            order.companions = vec![sidecar("{name}.done"), sidecar("{stem}.sha256")];
        }
        order
    }

    /// What must be there when all is done, however often.
    fn check(self, world: &World, outcome: &str, context: &str) {
        let told = |disposed: Disposed| format!("{disposed:?}");
        let day = world.to("day");
        assert_eq!(names(world.inbox.path()), [""; 0], "{context}");
        let mut expected = vec!["a.csv"];
        let own = if self.replaces() { "a.csv" } else { "a.7.csv" };
        if self.deletes() {
            assert_eq!(outcome, told(done(MoveResult::Deleted)), "{context}");
        } else {
            assert_eq!(outcome, told(moved(&day.join(own))), "{context}");
            expected.push(own);
        }
        let read = |name: &str| fs::read_to_string(day.join(name)).unwrap();
        if self.is_pair() {
            expected.push("a.csv.done");
            if !self.deletes() && !self.replaces() {
                expected.push("a.7.csv.done");
                assert_eq!(read("a.7.csv.done"), "mine", "{context}");
            }
            let there = if self.replaces() { "mine" } else { "other" };
            assert_eq!(read("a.csv.done"), there, "{context}");
        }
        expected.sort_unstable();
        expected.dedup();
        assert_eq!(names(&day), expected, "{context}");
        let there = if self.replaces() { "mine" } else { "other" };
        assert_eq!(read("a.csv"), there, "{context}");
        if self.is_folder() && !self.deletes() {
            assert_eq!(names(&day.join(own)), ["deep", "link", "y"], "{context}");
            assert_eq!(read(&format!("{own}/link")), "mine", "{context}");
            assert_eq!(read(&format!("{own}/y")), "mine, too", "{context}");
        } else if !self.deletes() {
            assert_eq!(read(own), "mine", "{context}");
        }
    }
}

#[test]
fn a_crash_before_any_step_is_healed() {
    crash_everywhere(Some(World::on_one_file_system()), "");
}

#[test]
fn a_crash_is_healed_where_nothing_is_renamed_without_replacing() {
    crash_everywhere(Some(World::on_one_file_system()), REFUSED);
}

#[test]
fn a_crash_on_the_way_to_another_file_system_is_healed() {
    crash_everywhere(World::across(), "");
}

#[test]
fn a_crash_on_the_way_to_a_poorer_file_system_is_healed() {
    crash_everywhere(World::across(), REFUSED);
}

/// Nothing can be renamed without replacing.
const REFUSED: &str = "renameat2:error=EINVAL";

fn crash_everywhere(world: Option<World>, refusal: &str) {
    let Some(world) = world else { return };
    if !works(Command::new("strace").args(["-f", "-o", "/dev/null", "true"])) {
        return skip("no strace, or no right to trace");
    }
    for scene in SCENES {
        let calls = CALLS.iter().filter(|call| !refusal.starts_with(**call));
        let crashes: u32 = calls.map(|call| crash_at_each(&world, scene, call, refusal)).sum();
        assert!(crashes >= 3, "{crashes} crashes with {refusal:?}, {scene:?}");
    }
}

/// Those places that a daemon in `tests/failpoints.rs` does not come by.
#[test]
#[cfg(debug_assertions)]
fn a_death_at_each_place_is_healed() {
    for (point, scene, refusal) in [
        ("dispose.linked", Scene::Pair, REFUSED),
        ("dispose.doomed", Scene::Folder, ""),
        ("dispose.doomed", Scene::FolderDelete, ""),
    ] {
        if !refusal.is_empty() && !works(Command::new("strace").args(["-o", "/dev/null", "true"])) {
            skip("no strace, or no right to trace");
            continue;
        }
        let Some(world) = World::across() else { return };
        let world = if point == "dispose.linked" { World::on_one_file_system() } else { world };
        let (source, target) = scene.prepare(&world);
        let order = scene.order(&source, &target);
        let refuse = format!("inject={refusal}");
        let trace = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", &refuse];
        let program = if refusal.is_empty() { &["env"][..] } else { &trace };
        let mut child = child_command(program, &source, &target, scene);
        child.env("DAGD_FAILPOINT", format!("{point}:1")).output().unwrap();
        let died = !source.with_extension("result").exists();
        assert!(died, "{scene:?} comes by {point}");
        scene.check(&world, &format!("{:?}", dispose(&order)), point);
    }
}

/// What a process under `program` says of the order.
fn told(program: &[&str], order: &Move, scene: Scene) -> String {
    let source = order.claim.path.as_path();
    let target = match &order.goal {
        Goal::To(target) => target.as_path(),
        Goal::Delete => source,
    };
    let claim = serde_json::to_string(&order.claim).unwrap();
    let mut command = child_command(program, source, target, scene);
    command.env(CLAIM, claim).output().unwrap();
    let result = source.with_extension("result");
    let text = fs::read_to_string(&result).unwrap();
    fs::remove_file(result).unwrap();
    text
}

/// Kills the process at the first, second, … use of `call` until it survives; returns how often.
fn crash_at_each(world: &World, scene: Scene, call: &str, refusal: &str) -> u32 {
    /// More often than any call is made.
    const CALLS_MAX: u32 = 40;
    for nth in 1..CALLS_MAX {
        let (source, target) = scene.prepare(world);
        let kill = format!("inject={call}:signal=KILL:when={nth}");
        let mut trace = vec!["strace", "-f", "-qq", "-o", "/dev/null", "-e", &kill];
        let refuse = format!("inject={refusal}");
        if !refusal.is_empty() {
            trace.extend(["-e", &refuse]);
        }
        let order = scene.order(&source, &target);
        child_command(&trace, &source, &target, scene).output().unwrap();
        let survived = fs::remove_file(source.with_extension("result")).is_ok();

        let context = format!("{scene:?} {call} #{nth} {refusal}");
        for _ in 0..2 {
            let outcome = if refusal.is_empty() {
                format!("{:?}", dispose(&order))
            } else {
                // What the file system cannot do it cannot do after a crash, either.
                told(&["strace", "-f", "-qq", "-o", "/dev/null", "-e", &refuse], &order, scene)
            };
            scene.check(world, &outcome, &context);
        }
        fs::remove_dir_all(target.parent().unwrap()).unwrap();
        if survived {
            return nth - 1;
        }
    }
    panic!("{call} is made without end")
}

#[test]
fn a_full_target_leaves_the_file_and_no_remains() {
    let world = World::on_one_file_system();
    let small = world.to("small");
    fs::create_dir(&small).unwrap();
    let source = world.inbox.path().join("big");
    let beside = world.inbox.path().join("big.done");
    fs::write(&source, vec![b'x'; 1 << 20]).unwrap();
    fs::write(&beside, "").unwrap();
    let mount =
        format!("mount -t tmpfs -o size=64k none '{0}' && \"$@\" && ls -A '{0}'", small.display());
    let confined = ["unshare", "-m", "sh", "-c", &mount, "sh"];
    if !works(Command::new("unshare").args(["-m", "mount", "-t", "tmpfs", "none"]).arg(&small)) {
        return skip("no right to mount");
    }
    let mut command = child_command(&confined, &source, &small.join("big"), Scene::Pair);
    let output = command.output().unwrap();
    let text = fs::read_to_string(source.with_extension("result")).unwrap();
    assert!(text.starts_with("NotYet") && text.contains("No space left"), "{text}");
    assert!(text.contains("make room there"), "{text}");
    assert_eq!(fs::metadata(&source).unwrap().len(), 1 << 20);
    assert!(beside.exists(), "what goes along waits with it");
    let listing = String::from_utf8(output.stdout).unwrap();
    assert!(listing.contains("test result: ok") && !listing.contains(".tmp"), "{listing}");
}

#[test]
fn without_the_right_to_write_it_stays() {
    let world = World::on_one_file_system();
    let source = world.file("a", "x");
    for folder in [world.inbox.path(), world.done.path()] {
        fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
    if !works(Command::new(nobody[0]).args(&nobody[1..]).arg("true")) {
        return skip("no right to become another user");
    }
    let own = std::env::current_exe().unwrap();
    if !works(Command::new(nobody[0]).args(&nobody[1..]).arg("test").arg("-x").arg(&own)) {
        return skip(&format!("another user cannot run {}", own.display()));
    }
    let results = world.file("a.result", "");
    fs::set_permissions(&results, fs::Permissions::from_mode(0o666)).unwrap();
    for scene in [Scene::Rename, Scene::Delete] {
        child_command(&nobody, &source, &world.to("a"), scene).output().unwrap();
        let text = fs::read_to_string(&results).unwrap();
        assert!(text.starts_with("NotYet") && text.contains("Permission denied"), "{text}");
        assert!(text.contains("right to write"), "{text}");
        assert!(source.exists());
    }
}
