//! Checks of real files: checksums as the real programs write them, versions that change, large
//! files among small ones.

#![expect(clippy::unwrap_used, reason = "a test ends at the first thing that goes wrong")]

#[expect(dead_code, reason = "only the means to skip aloud are used here")]
mod common;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crossbeam_channel::Receiver;
use dagd::core::check::{Check, Checked, Finding, KeyOf, content_key};
use dagd::core::id::{RunId, Seq};
use dagd::core::path::Bytes;
use dagd::core::sidecar::{Checksum, Sidecar};
use dagd::core::trigger::FollowSymlinks;
use dagd::io::check::{Checker, Keys};
use dagd::io::disk::version_at;
use tempfile::TempDir;

/// How long a test waits for an answer that should come.
const PATIENCE: Duration = Duration::from_mins(1);

/// Keys of runs, in memory.
struct Memory(BTreeMap<Bytes, RunId>);

impl Keys for Memory {
    fn holder(&mut self, _: &str, key: &Bytes) -> Option<RunId> {
        self.0.get(key).copied()
    }
}

struct Bench {
    dir: TempDir,
    checker: Checker,
    answers: Receiver<Checked>,
    committed: Arc<AtomicU64>,
    last: u64,
}

impl Bench {
    fn new() -> Self {
        Self::with(BTreeMap::new())
    }

    fn with(keys: BTreeMap<Bytes, RunId>) -> Self {
        let (out, answers) = crossbeam_channel::bounded(8);
        let committed = Arc::new(AtomicU64::new(5));
        let make = Arc::new(move || Box::new(Memory(keys.clone())) as Box<dyn Keys>);
        let checker = Checker::new(out, committed.clone(), make);
        Self { dir: tempfile::tempdir().unwrap(), checker, answers, committed, last: 0 }
    }

    fn write(&self, rel: &str, text: &str) {
        fs::write(self.dir.path().join(rel), text).unwrap();
    }

    /// A file of so many zeros that takes no room.
    fn zeros(&self, rel: &str, bytes: u64) {
        File::create(self.dir.path().join(rel)).unwrap().set_len(bytes).unwrap();
    }

    fn check(&mut self, rel: &str, checksum: Option<&str>, key: Option<KeyOf>) -> u64 {
        let path = self.dir.path().join(rel);
        self.last += 1;
        let check = Check {
            number: self.last,
            trigger: "in".into(),
            root: Bytes::from(self.dir.path()),
            rel: rel.into(),
            version: version_at(&path).unwrap().unwrap(),
            follow: FollowSymlinks::Never,
            checksum: checksum
                .map(|name| (Sidecar::parse(name).unwrap(), Checksum::told_by(name).unwrap())),
            key,
        };
        self.ask(check);
        self.last
    }

    fn ask(&mut self, check: Check) {
        assert_eq!(self.checker.ask(check), None, "there is somebody to ask");
    }

    fn answer(&self) -> Checked {
        self.answers.recv_timeout(PATIENCE).unwrap()
    }

    /// What a check against a checksum file finds.
    fn sum(&mut self, rel: &str, sidecar: &str) -> Finding {
        self.check(rel, Some(sidecar), None);
        self.answer().finding
    }
}

const GOOD: Finding = Finding::Good { key: None, delivered: None };

#[test]
fn what_the_real_programs_write_is_understood() {
    let mut bench = Bench::new();
    let names = ["plain", "with space", " lead", "new\nline", "back\\slash", "star*", "a) = b"];
    for name in names {
        bench.write(name, &format!("content of {name}"));
    }
    for (program, args, sidecar) in [
        ("sha256sum", &[][..], "SHA256SUMS"),
        ("sha256sum", &["--tag"], "TAGGED.sha256"),
        ("sha256sum", &["--binary"], "BINARY.sha256"),
        ("md5sum", &[], "MD5SUMS"),
        ("md5sum", &["--tag"], "TAGGED.md5"),
        ("b3sum", &[], "B3SUMS"),
    ] {
        if program == "b3sum" && !common::have(program) {
            continue;
        }
        let output = Command::new(program)
            .args(args)
            .arg("--")
            .args(names)
            .current_dir(bench.dir.path())
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        fs::write(bench.dir.path().join(sidecar), &output.stdout).unwrap();
        for name in names {
            assert_eq!(bench.sum(name, sidecar), GOOD, "{program} {args:?} {name:?}");
        }
        bench.write("plain", "another");
        assert_eq!(bench.sum("plain", sidecar), Finding::Differs, "{program} {args:?}");
        bench.write("plain", "content of plain");
    }
}

#[test]
fn a_checksum_file_may_come_late_and_change() {
    let mut bench = Bench::new();
    bench.write("x", "abc");
    assert_eq!(bench.sum("x", "{name}.md5"), Finding::Untold);
    bench.write("x.md5", "900150983cd24fb0d6963f7d28e17f7");
    assert_eq!(bench.sum("x", "{name}.md5"), Finding::Untold, "half a value is none");
    bench.write("x.md5", "900150983cd24fb0d6963f7d28e17f73");
    assert_eq!(bench.sum("x", "{name}.md5"), Finding::Differs);
    bench.write("x.md5", "900150983cd24fb0d6963f7d28e17f72  x");
    assert_eq!(bench.sum("x", "{name}.md5"), GOOD);
    // The same size and time, another content: the status tells.
    let path = bench.dir.path().join("x");
    let version = version_at(&path).unwrap();
    let time = fs::metadata(&path).unwrap().modified().unwrap();
    let file = File::options().write(true).open(&path).unwrap();
    (&file).write_all(b"abd").unwrap();
    file.set_modified(time).unwrap();
    assert_eq!(version_at(&path).unwrap(), version);
    assert_eq!(bench.sum("x", "{name}.md5"), Finding::Differs);
    // Larger than what anybody writes.
    bench.write("x.md5", &"#\n".repeat(600_000));
    assert_eq!(bench.sum("x", "{name}.md5"), Finding::Untold);
}

#[test]
fn neither_is_read_through_a_link_or_a_fifo() {
    let mut bench = Bench::new();
    bench.write("x", "abc");
    bench.write("sum", "900150983cd24fb0d6963f7d28e17f72");
    std::os::unix::fs::symlink("sum", bench.dir.path().join("x.md5")).unwrap();
    assert_eq!(bench.sum("x", "{name}.md5"), Finding::Untold);
    fs::remove_file(bench.dir.path().join("x.md5")).unwrap();
    let made = Command::new("mkfifo").arg(bench.dir.path().join("x.md5")).status().unwrap();
    assert!(made.success());
    assert_eq!(bench.sum("x", "{name}.md5"), Finding::Untold, "a fifo is not waited for");
    // What was a file when it was found is a link now.
    let check_of = |bench: &mut Bench| {
        bench.check("x", None, Some(KeyOf::Content));
        bench.answer().finding
    };
    assert!(matches!(check_of(&mut bench), Finding::Good { .. }));
    let version = version_at(&bench.dir.path().join("x")).unwrap().unwrap();
    fs::remove_file(bench.dir.path().join("x")).unwrap();
    std::os::unix::fs::symlink("sum", bench.dir.path().join("x")).unwrap();
    let check = Check {
        number: 99,
        trigger: "in".into(),
        root: Bytes::from(bench.dir.path()),
        rel: "x".into(),
        version,
        follow: FollowSymlinks::Never,
        checksum: None,
        key: Some(KeyOf::Content),
    };
    bench.ask(check);
    assert_eq!(bench.answer().finding, Finding::Changed);
}

#[test]
fn keys_are_looked_up_in_the_ledger() {
    let content = content_key(blake3::hash(b"abc").as_bytes());
    let keys = [("path:x".into(), RunId(3)), (content.clone(), RunId(4))];
    let mut bench = Bench::with(keys.into());
    bench.write("x", "abc");
    bench.write("y", "abcd");
    bench.committed.store(9, Ordering::Release);
    let number = bench.check("x", None, Some(KeyOf::Known("path:x".into())));
    let finding = Finding::Good { key: Some("path:x".into()), delivered: Some(RunId(3)) };
    let answer = Checked { number, trigger: "in".into(), seq: Seq(9), finding };
    assert_eq!(bench.answer(), answer);
    bench.check("x", None, Some(KeyOf::Content));
    let known = Finding::Good { key: Some(content), delivered: Some(RunId(4)) };
    assert_eq!(bench.answer().finding, known);
    bench.check("y", None, Some(KeyOf::Content));
    let key = content_key(blake3::hash(b"abcd").as_bytes());
    assert_eq!(bench.answer().finding, Finding::Good { key: Some(key), delivered: None });
}

#[test]
fn what_cannot_be_read_is_told() {
    if !common::is_root() {
        let mut bench = Bench::new();
        bench.write("x", "abc");
        let path = bench.dir.path().join("x");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).unwrap();
        bench.check("x", None, Some(KeyOf::Content));
        assert_eq!(bench.answer().finding, Finding::Unreadable);
        return;
    }
    // Root reads everything but what the disk does not give: a file of the kernel's own that fails.
    let mut bench = Bench::new();
    let check = Check {
        number: 1,
        trigger: "in".into(),
        root: Bytes::from(Path::new("/proc/self")),
        rel: "mem".into(),
        version: version_at(Path::new("/proc/self/mem")).unwrap().unwrap(),
        follow: FollowSymlinks::Never,
        checksum: None,
        key: Some(KeyOf::Content),
    };
    bench.ask(check);
    assert_eq!(bench.answer().finding, Finding::Unreadable);
}

#[test]
fn a_small_file_does_not_wait_for_a_large_one() {
    let mut bench = Bench::new();
    bench.zeros("large", 1 << 40);
    bench.write("small", "abc");
    let large = bench.check("large", None, Some(KeyOf::Content));
    let small = bench.check("small", None, Some(KeyOf::Content));
    assert_eq!(bench.answer().number, small);
    // A terabyte is not read to its end by whoever is not asked for it any more.
    bench.checker.forget("in");
    let again = bench.check("small", None, Some(KeyOf::Content));
    assert_eq!(bench.answer().number, again);
    assert!(bench.answers.try_recv().is_err(), "nobody waits for {large}");
    bench.checker.close();
    assert!(bench.answers.recv().is_err(), "the thread has ended");
}

#[test]
fn what_changes_while_it_is_read_goes_back() {
    let mut bench = Bench::new();
    for (rel, change) in [
        (
            "written",
            (|path: &Path| drop(File::options().append(true).open(path).unwrap().write_all(b"x")))
                as fn(&Path),
        ),
        ("removed", |path| fs::remove_file(path).unwrap()),
        ("replaced", |path| {
            fs::write(path.with_extension("new"), "x").unwrap();
            fs::rename(path.with_extension("new"), path).unwrap();
        }),
        ("touched", |path| {
            File::open(path).unwrap().set_modified(std::time::SystemTime::now()).unwrap();
        }),
        ("relabelled", |path| {
            fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
        }),
    ] {
        bench.zeros(rel, 1 << 40);
        let number = bench.check(rel, None, Some(KeyOf::Content));
        // It is being read when a later one has been answered.
        bench.write("small", "abc");
        bench.check("small", None, Some(KeyOf::Content));
        assert_ne!(bench.answer().number, number);
        change(&bench.dir.path().join(rel));
        let answer = bench.answer();
        assert_eq!((answer.number, answer.finding), (number, Finding::Changed), "{rel}");
    }
    bench.checker.close();
}

#[test]
fn a_trigger_that_is_gone_is_not_read_for() {
    let mut bench = Bench::new();
    bench.zeros("large", 1 << 40);
    bench.check("large", None, Some(KeyOf::Content));
    bench.checker.keep(|name| &**name != "in");
    bench.write("small", "abc");
    let small = bench.check("small", None, Some(KeyOf::Content));
    assert_eq!(bench.answer().number, small, "by a new thread");
    bench.checker.close();
}
