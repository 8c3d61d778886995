//! Disposition against real file systems: every outcome, every conflict, and a crash before each
//! call that changes a name.

#![cfg(test)]

use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use dagd::core::candidate::Kind;
use dagd::core::effect::Move;
use dagd::core::id::{RunId, Wall};
use dagd::core::path::Bytes;
use dagd::core::record::{FileClaim, MoveResult};
use dagd::io::disk::version_at;
use dagd::io::dispose::{Disposer, dispose};
use tempfile::TempDir;

/// A drop folder and a place to move to, perhaps on another file system.
struct World {
    inbox: TempDir,
    done: TempDir,
}

impl World {
    fn on_one_file_system() -> Self {
        Self { inbox: tempfile::tempdir().unwrap(), done: tempfile::tempdir().unwrap() }
    }

    fn across() -> Option<Self> {
        let inbox = tempfile::tempdir().unwrap();
        let done = TempDir::new_in("/dev/shm").ok();
        let done = done.filter(|done| dev(done.path()) != dev(inbox.path()));
        if done.is_none() {
            eprintln!("SKIPPED: /dev/shm is no second file system here");
        }
        Some(Self { inbox, done: done? })
    }

    fn both() -> impl Iterator<Item = Self> {
        std::iter::once(Self::on_one_file_system()).chain(Self::across())
    }

    fn file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.inbox.path().join(name);
        fs::write(&path, content).unwrap();
        path
    }

    fn to(&self, name: &str) -> PathBuf {
        self.done.path().join(name)
    }
}

fn dev(path: &Path) -> u64 {
    fs::metadata(path).unwrap().dev()
}

fn claim(path: &Path) -> FileClaim {
    FileClaim {
        rel: Bytes::from(path.file_name().unwrap().as_bytes()),
        path: Bytes::from(path),
        kind: Kind::Created,
        version: version_at(path).unwrap().expect("the test has just made it"),
        first_seen_at: Wall(0),
        in_place: true,
        key: None,
    }
}

fn plan(path: &Path, target: &Path) -> Move {
    Move { run: RunId(7), file: 0, claim: claim(path), target: Bytes::from(target) }
}

fn moved(path: &Path) -> MoveResult {
    MoveResult::Moved(Bytes::from(path))
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

fn failure(result: MoveResult) -> String {
    let MoveResult::Failed(text) = result else { panic!("not failed: {result:?}") };
    text
}

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
        assert_eq!(dispose(&mv), MoveResult::Superseded);
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
        assert_eq!(dispose(&mv), MoveResult::Superseded);
        assert_eq!(names(world.inbox.path()), ["a"]);
        drop(writer);
        assert_eq!(dispose(&mv), moved(&world.to("a")));
    }
}

#[test]
fn what_is_not_there_is_gone() {
    for world in World::both() {
        let source = world.file("a", "x");
        let mv = plan(&source, &world.to("below/a"));
        fs::remove_file(&source).unwrap();
        assert_eq!(dispose(&mv), MoveResult::Gone);
        std::os::unix::fs::symlink("/etc/passwd", &source).unwrap();
        assert_eq!(dispose(&mv), MoveResult::Gone);
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
    if dressed {
        let mut value = [0; 16];
        let copy = fs::File::open(world.to("a")).unwrap();
        match rustix::fs::fgetxattr(&copy, attribute, &mut value) {
            Ok(n) => assert_eq!(&value[..n], b"\x00v"),
            Err(error) => eprintln!("SKIPPED: the target keeps no attributes: {error}"),
        }
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
            (PathBuf::from("done/a"), "change `move`"),
            (PathBuf::from(format!("{}/", world.to("x").display())), "change `move`"),
            (PathBuf::from("/proc/dagd/a"), "cannot move"),
        ] {
            let text = failure(dispose(&plan(&source, &target)));
            assert!(text.contains(&source.display().to_string()), "{text}");
            assert!(text.contains(&target.display().to_string()), "{text}");
            assert!(text.contains(remedy), "{text}");
        }
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
        disposer.start(Move { file, ..plan(&source, &world.to("same.txt")) });
    }
    drop(disposer);
    let answers: Vec<_> = results.iter().collect();
    assert!(answers.iter().map(|answer| answer.1).eq(0..20), "{answers:?}");
    assert!(answers.iter().all(|answer| matches!(answer.2, MoveResult::Moved(_))), "{answers:?}");
    assert_eq!(answers[2].2, moved(&world.to("same.7-2.txt")));
    assert_eq!(names(world.done.path()).len(), 20);
}

// What follows runs this binary again, to have a process that may be killed or confined.

/// `inbox:done` for the process that is run; its test does nothing without it.
const CHILD: &str = "DAGD_TEST_CHILD";

#[test]
fn child() {
    let Some(world) = std::env::var_os(CHILD) else { return };
    let world = world.into_string().unwrap();
    let (source, target) = world.split_once(':').unwrap();
    let (source, target) = (Path::new(source), Path::new(target));
    let result = dispose(&plan(source, target));
    fs::write(source.with_extension("result"), format!("{result:?}")).unwrap();
}

fn child_command(program: &[&str], source: &Path, target: &Path) -> Command {
    let this = std::env::current_exe().unwrap();
    let mut whole: Vec<&std::ffi::OsStr> = program.iter().map(std::ffi::OsStr::new).collect();
    whole.push(this.as_os_str());
    let mut command = Command::new(whole[0]);
    command.args(&whole[1..]).args(["--exact", "child", "--test-threads=1"]);
    command.env(CHILD, format!("{}:{}", source.display(), target.display()));
    command
}

fn works(command: &mut Command) -> bool {
    command.output().is_ok_and(|output| output.status.success())
}

/// All by which names and their durability change.
const CALLS: [&str; 7] =
    ["renameat2", "renameat", "linkat", "unlinkat", "fsync", "sendfile", "utimensat"];

#[test]
fn a_crash_before_any_step_is_healed() {
    if !works(Command::new("strace").args(["-f", "-o", "/dev/null", "true"])) {
        eprintln!("SKIPPED: no strace, or no right to trace");
        return;
    }
    for world in World::both() {
        // Also where nothing can be renamed without replacing.
        for refusal in ["", "renameat2:error=EINVAL"] {
            let mut crashes = 0;
            for call in CALLS {
                if refusal.starts_with(call) {
                    continue;
                }
                crashes += crash_at_each(&world, call, refusal);
            }
            assert!(crashes >= 4, "{crashes} crashes with {refusal:?}");
        }
    }
}

/// Kills the process at the first, second, … use of `call` until it survives; returns how often.
fn crash_at_each(world: &World, call: &str, refusal: &str) -> u32 {
    /// More often than any call is made.
    const CALLS_MAX: u32 = 40;
    for nth in 1..CALLS_MAX {
        let source = world.file("a.csv", "mine");
        let target = world.to("day/a.csv");
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        fs::write(&target, "other").unwrap();
        let mv = plan(&source, &target);
        let kill = format!("inject={call}:signal=KILL:when={nth}");
        let mut trace = vec!["strace", "-f", "-qq", "-o", "/dev/null", "-e", &kill];
        let refuse = format!("inject={refusal}");
        if !refusal.is_empty() {
            trace.extend(["-e", &refuse]);
        }
        child_command(&trace, &source, &target).output().unwrap();
        let result = source.with_extension("result");
        let survived = fs::remove_file(result).is_ok();

        let free = world.to("day/a.7.csv");
        let context = format!("{call} #{nth} {refusal}");
        assert_eq!(dispose(&mv), moved(&free), "{context}");
        assert_eq!(dispose(&mv), moved(&free), "{context}");
        assert_eq!(names(world.inbox.path()), [""; 0], "{context}");
        assert_eq!(names(target.parent().unwrap()), ["a.7.csv", "a.csv"], "{context}");
        assert_eq!(fs::read_to_string(&target).unwrap(), "other", "{context}");
        assert_eq!(fs::read_to_string(&free).unwrap(), "mine", "{context}");
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
    fs::write(&source, vec![b'x'; 1 << 20]).unwrap();
    let mount = format!(
        "mount -t tmpfs -o size=64k none '{}' && exec \"$@\" && ls -A '{0}'",
        small.display()
    );
    let mount = mount.replace("exec \"$@\"", "\"$@\"");
    let confined = ["unshare", "-m", "sh", "-c", &mount, "sh"];
    if !works(Command::new("unshare").args(["-m", "mount", "-t", "tmpfs", "none"]).arg(&small)) {
        eprintln!("SKIPPED: no right to mount");
        return;
    }
    let output = child_command(&confined, &source, &small.join("big")).output().unwrap();
    let text = fs::read_to_string(source.with_extension("result")).unwrap();
    assert!(text.contains("No space left") && text.contains("make room there"), "{text}");
    assert_eq!(fs::metadata(&source).unwrap().len(), 1 << 20);
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
        eprintln!("SKIPPED: no right to become another user");
        return;
    }
    let own = std::env::current_exe().unwrap();
    if !works(Command::new(nobody[0]).args(&nobody[1..]).arg("test").arg("-x").arg(&own)) {
        eprintln!("SKIPPED: another user cannot run {}", own.display());
        return;
    }
    let results = world.file("a.result", "");
    fs::set_permissions(&results, fs::Permissions::from_mode(0o666)).unwrap();
    child_command(&nobody, &source, &world.to("a")).output().unwrap();
    let text = fs::read_to_string(&results).unwrap();
    assert!(text.contains("Permission denied") && text.contains("right to write"), "{text}");
    assert!(source.exists());
}
