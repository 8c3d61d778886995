//! Attempts as real processes: what they are told, how they end, and that nothing of them is left.

#![expect(clippy::unwrap_used, reason = "a test ends where something is wrong")]

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{CString, OsString};
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, unbounded};
use dagd::core::candidate::{Kind, Version};
use dagd::core::confine::{Confine, Resource, Rlimit};
use dagd::core::disposition::Disposition;
use dagd::core::effect::{Start, Stop};
use dagd::core::id::{Attempt, AttemptId, NodeIx, Rev, RunId, Wall};
use dagd::core::path::Bytes;
use dagd::core::record::{FileClaim, Reason, RunCreated, SignalInfo};
use dagd::core::selector::Selector;
use dagd::core::task::{Body, Ended, Exit, TaskSpec};
use dagd::core::template::Template;
use dagd::core::trigger::Group;
use dagd::io::process::Means;
use dagd::io::process::prepare::{
    Base, Dirs, Exec, prepare, remove_event_files, write_event_files,
};
use dagd::io::process::slots::Slots;
use dagd::io::process::sweep::{become_subreaper, keep_descriptors, sweep};

const PATIENCE: Duration = Duration::from_secs(30);

// lock: orphans, descriptors and dispositions belong to the whole process, so tests take turns.
static TURN: Mutex<()> = Mutex::new(());

/// A place to run attempts in.
struct Bench {
    dirs: Dirs,
    base: Base,
    slots: Slots,
    ends: Receiver<(AttemptId, Ended)>,
    runs: u64,
    root: tempfile::TempDir,
    _turn: MutexGuard<'static, ()>,
}

impl Bench {
    fn new(max: usize) -> Self {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        become_subreaper().unwrap();
        keep_descriptors();
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        let (logs, events, outputs) = (at("logs"), at("events"), at("outputs"));
        let dirs = Dirs { logs, events, outputs, left: None };
        dirs.reset(&BTreeSet::new()).unwrap();
        let (out, ends) = unbounded();
        let helper = CString::new(env!("CARGO_BIN_EXE_dagd")).unwrap();
        let means = Arc::new(Means::plain(helper));
        let slots = Slots::new(max, &dirs.logs, means, out).unwrap();
        let base = Base::from_process("bench".into());
        Self { dirs, base, slots, ends, runs: 0, root, _turn: turn }
    }

    fn id(&mut self) -> AttemptId {
        self.runs += 1;
        AttemptId { run: RunId(self.runs), node: NodeIx(0), attempt: Attempt(1) }
    }

    fn try_prepare(&mut self, task: TaskSpec, run: RunCreated) -> Result<Exec, Exit> {
        let id = self.id();
        let run = Arc::new(RunCreated { run: id.run, ..run });
        let failed = vec!["x".into(), "y".into()];
        let outputs = vec![("up".into(), BTreeMap::from([("rows".to_owned(), "7".to_owned())]))];
        prepare(&Start { id, task: Arc::new(task), run, failed, outputs }, &self.base, &self.dirs)
    }

    fn prepare(&mut self, task: TaskSpec, run: RunCreated) -> Exec {
        self.try_prepare(task, run).unwrap()
    }

    fn start(&mut self, task: TaskSpec) -> AttemptId {
        let exec = self.prepare(task, run(vec![]));
        let id = exec.id;
        self.slots.start(exec);
        id
    }

    fn end(&self) -> (AttemptId, Ended) {
        self.ends.recv_timeout(PATIENCE).expect("an attempt ends")
    }

    fn run(&mut self, task: TaskSpec, run: RunCreated) -> Ended {
        let exec = self.prepare(task, run);
        self.slots.start(exec);
        self.end().1
    }

    fn sh(&mut self, script: &str) -> Ended {
        self.run(shell(script), run(vec![]))
    }

    fn log(&self) -> PathBuf {
        self.dirs.logs.join(format!("{}.t.1.log", self.runs))
    }

    fn text(&self) -> String {
        String::from_utf8(std::fs::read(self.log()).unwrap()).unwrap()
    }
}

fn run(files: Vec<FileClaim>) -> RunCreated {
    RunCreated {
        run: RunId(0),
        trigger: Some("orders".into()),
        formerly: None,
        rev: Rev("0".into()),
        select: Selector::parse("t").unwrap(),
        reason: Reason::Event,
        items: vec![],
        files,
        signal: None,
        scheduled: None,
        root: Some("/in".into()),
        disposition: Disposition::default(),
        key: Bytes::from("k"),
        group: None,
        parent: None,
        keep: vec![],
        seed: 0,
        at: Wall(0),
        utc_offset_s: 3600,
    }
}

fn file(rel: &[u8]) -> FileClaim {
    FileClaim {
        rel: Bytes::from(rel),
        path: Bytes::from([b"/in/", rel].concat()),
        kind: Kind::Created,
        version: Version { file: Bytes::from("v"), size: 3, mtime_ns: 5 },
        first_seen_at: Wall(0),
        in_place: true,
        key: None,
    }
}

fn command(words: &[&str]) -> TaskSpec {
    TaskSpec::new("t", words.iter().map(|word| Template::parse(word).unwrap()).collect())
}

fn shell(script: &str) -> TaskSpec {
    let program = ["/bin/sh", "-ec"].map(String::from).to_vec();
    TaskSpec { body: Body::Shell { program, script: script.into() }, ..command(&[]) }
}

/// A task with something to ask for that every process may have.
fn by_helper(task: TaskSpec) -> TaskSpec {
    let confine = Confine { umask: Some(0o027), ..Confine::default() };
    TaskSpec { confine: Some(Box::new(confine)), ..task }
}

fn wait_for(what: &str, done: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < deadline, "{what} within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn alive(pid_file: &Path) -> bool {
    let pid = std::fs::read_to_string(pid_file).unwrap();
    Path::new("/proc").join(pid.trim()).exists()
}

/// The children of the main thread, as the kernel lists them.
fn orphans() -> String {
    let main = std::process::id();
    std::fs::read_to_string(format!("/proc/self/task/{main}/children")).unwrap()
}

#[test]
#[expect(unsafe_code, reason = "the parent of dagd may have ignored a signal")]
fn mask_and_dispositions_are_clean() {
    let turn = std::thread::spawn(|| {
        dagd::io::signals::block_realtime().unwrap();
        let mut bench = Bench::new(1);
        // SAFETY: sets dispositions; tests take turns.
        let before = unsafe {
            libc::signal(libc::SIGINT, libc::SIG_IGN);
            libc::signal(libc::SIGPIPE, libc::SIG_IGN)
        };
        let plain = command(&["cat", "/proc/self/status"]);
        let ended = bench.run(plain.clone(), run(vec![]));
        let helped = bench.run(by_helper(plain), run(vec![]));
        // SAFETY: as above.
        unsafe {
            libc::signal(libc::SIGINT, libc::SIG_DFL);
            libc::signal(libc::SIGPIPE, before);
        }
        assert_eq!((ended.exit, helped.exit), (Exit::Code(0), Exit::Code(0)));
        for run in 1..=2 {
            bench.runs = run;
            let text = bench.text();
            for key in ["SigBlk", "SigIgn", "SigCgt"] {
                let line = text.lines().find(|line| line.starts_with(key)).unwrap();
                assert_eq!(line, format!("{key}:\t0000000000000000"));
            }
        }
    });
    turn.join().unwrap();
}

#[test]
fn the_environment_is_exact() {
    let mut bench = Bench::new(1);
    bench.base.env = vec![("PATH".into(), "/usr/bin:/bin".into()), ("LANG".into(), "C".into())];
    bench.base.own =
        vec![("PASSED".into(), OsString::from_vec(vec![b'\xff'])), ("NOT".into(), "x".into())];
    let env_file = bench.root.path().join("env");
    std::fs::write(&env_file, "LANG=of file\nBOTH=file\n").unwrap();
    std::fs::set_permissions(&env_file, PermissionsExt::from_mode(0o600)).unwrap();
    let env = [("BOTH", "{name}-{date:%H}"), ("DAGD_RUN", "forged")];
    let task = TaskSpec {
        env: env.map(|(key, value)| (key.to_owned(), Template::parse(value).unwrap())).into(),
        env_pass: vec!["PASSED".into(), "ABSENT".into()],
        env_file: Some(env_file),
        ..command(&["env", "-0"])
    };
    let signal =
        SignalInfo { signal: "SIGRTMIN+1".into(), value: Some(-3), pid: None, uid: Some(4) };
    let created = RunCreated { signal: Some(signal), ..run(vec![file(b"a.csv")]) };
    assert_eq!(bench.run(task, created).exit, Exit::Code(0));
    let bytes = std::fs::read(bench.log()).unwrap();
    let all: BTreeSet<_> = bytes.split(|&b| b == 0).filter(|v| !v.is_empty()).collect();
    let text = |path: PathBuf| path.into_os_string().into_string().unwrap();
    let mut expected = vec![
        b"PASSED=\xff".to_vec(),
        format!("DAGD_EVENT_JSON={}", text(bench.dirs.events.join("1.json"))).into(),
        format!("DAGD_FILES_NUL={}", text(bench.dirs.events.join("1.files"))).into(),
        format!("DAGD_OUTPUT={}", text(bench.dirs.outputs.join("1.t.1"))).into(),
    ];
    let plain = "PATH=/usr/bin:/bin LANG=of_file BOTH=a.csv-01 DAGD_RUN=1 DAGD_TASK=t \
                 DAGD_ATTEMPT=1 DAGD_TRIGGER=orders DAGD_REASON=event DAGD_ATTEMPT_ID=bench/1.t.1 \
                 DAGD_PATH=/in/a.csv DAGD_REL=a.csv DAGD_KIND=created DAGD_SIGNAL=SIGRTMIN+1 \
                 DAGD_VALUE=-3 DAGD_SENDER_UID=4";
    expected.extend(plain.split_whitespace().map(|v| v.replace("of_", "of ").into_bytes()));
    let (ids, rest): (BTreeSet<_>, BTreeSet<_>) =
        all.into_iter().partition(|v| v.starts_with(b"DAGD_EVENT_ID="));
    assert_eq!(rest, expected.iter().map(Vec::as_slice).collect());
    let lengths: Vec<_> = ids.iter().map(|id| id.len()).collect();
    assert_eq!(lengths, ["DAGD_EVENT_ID=".len() + 32]);
}

#[test]
fn a_run_for_a_folder_knows_it() {
    let mut bench = Bench::new(1);
    let mut told = |group| {
        let created = RunCreated { group, ..run(vec![file(b"d\xff/2"), file(b"d\xff/1")]) };
        let task = command(&["sh", "-c", "printf '%s|%s' \"$DAGD_KEY\" \"$DAGD_DIR\""]);
        assert_eq!(bench.run(task, created).exit, Exit::Code(0));
        std::fs::read(bench.log()).unwrap_or_default()
    };
    let key = Bytes::from(&b"d\xff"[..]);
    assert_eq!(told(Some(Group::Dir(key.clone()))), b"d\xff|/in/d\xff");
    assert_eq!(told(Some(Group::Key(key))), b"d\xff|");
    assert_eq!(told(None), b"|");
}

#[test]
fn the_event_id_follows_the_delivery() {
    let mut bench = Bench::new(1);
    let mut id = |created| {
        let exec = bench.prepare(command(&["true"]), created);
        exec.envp.into_iter().find(|v| v.to_bytes().starts_with(b"DAGD_EVENT_ID=")).unwrap()
    };
    let first = id(run(vec![file(b"a")]));
    assert_eq!(first, id(run(vec![file(b"a")])));
    assert_ne!(first, id(run(vec![file(b"b")])));
    assert_ne!(first, id(run(vec![file(b"a"), file(b"a")])));
    assert_ne!(id(run(vec![])), id(run(vec![])));
}

#[test]
fn names_reach_the_task_exactly() {
    let mut bench = Bench::new(1);
    for rel in [&b"new\nline"[..], b"\xff\xfe.csv", b"-rf", b"a b'\"$(x){path}", b"sub/x.y"] {
        let task = command(&["printf", r"%s\0", "{path}", "{rel}", "{dir}", "x{name}", "{root}"]);
        assert_eq!(bench.run(task, run(vec![file(rel)])).exit, Exit::Code(0));
        let path = [b"/in/", rel].concat();
        let name = rel.rsplit(|&b| b == b'/').next().unwrap();
        let dir = if rel.contains(&b'/') { &b"/in/sub"[..] } else { b"/in" };
        let expected = [&path[..], rel, dir, &[b"x", name].concat(), b"/in", b""].join(&0);
        assert_eq!(std::fs::read(bench.log()).unwrap(), expected);
    }
    let task = command(&["printf", "%s|", "{paths}", "{failed}", "{out.up.rows}", "{{path}"]);
    assert_eq!(bench.run(task, run(vec![file(b"-1"), file(b"2 3")])).exit, Exit::Code(0));
    assert_eq!(bench.text(), "/in/-1|/in/2 3|x y|7|{path}|");
}

#[test]
fn what_cannot_be_filled_is_said() {
    let mut bench = Bench::new(1);
    let mut refused = |word: &str| bench.try_prepare(command(&["echo", word]), run(vec![]));
    assert_eq!(refused("{out.up.x}").unwrap_err(), Exit::MissingOutput("up.x".into()));
    for (word, part) in [("{path}", "has 0"), ("{signal}", "a signal"), ("a{paths}", "its own")] {
        let Err(Exit::NotStarted(text)) = refused(word) else { panic!("{word} was filled") };
        assert!(text.contains(part), "{text}");
    }
    let nul = FileClaim { path: Bytes::from("/a\0b"), ..file(b"a") };
    let Err(Exit::NotStarted(text)) =
        bench.try_prepare(command(&["echo", "{path}"]), run(vec![nul]))
    else {
        panic!("an argument with a NUL was made")
    };
    assert!(text.contains("NUL"), "{text}");
}

#[test]
fn what_cannot_start_says_why() {
    let mut bench = Bench::new(1);
    let dir = bench.root.path().to_owned();
    let make = |name: &str, text: &str, mode| {
        let path = dir.join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
        path.into_os_string().into_string().unwrap()
    };
    let plain = make("plain", "x", 0o644);
    let lost = make("lost", "#!/no/such/interpreter\n", 0o755);
    let cases = [
        (command(&["no-such-program"]), "there is no program `no-such-program` in /"),
        (command(&["/no/such"]), "there is no program `/no/such`; correct"),
        (command(&[&plain]), "chmod +x"),
        (command(&[&lost]), "interpreter"),
        (command(&["/"]), "there is no program"),
        (
            TaskSpec { cwd: Some(Template::parse("/no/dir").unwrap()), ..command(&["true"]) },
            "create it",
        ),
        (
            TaskSpec { cwd: Some(Template::parse(&plain).unwrap()), ..command(&["true"]) },
            "cannot enter",
        ),
        (command(&["true", &"x".repeat(1 << 20)]), "too long"),
    ];
    let helped = cases.clone().map(|(task, part)| (by_helper(task), part));
    for (task, part) in cases.into_iter().chain(helped) {
        let ended = bench.run(task, run(vec![]));
        let Exit::NotStarted(text) = &ended.exit else { panic!("{part}: {:?}", ended.exit) };
        assert!(text.contains(part), "{text}");
        assert!(!bench.log().exists());
    }
    assert_eq!(bench.slots.running(), 0);
}

#[test]
fn programs_are_found_in_the_tasks_path_and_folder() {
    let mut bench = Bench::new(1);
    let dir = bench.root.path().join("bin");
    std::fs::create_dir(&dir).unwrap();
    std::fs::write(dir.join("hello"), "#!/bin/sh\npwd\n").unwrap();
    std::fs::set_permissions(dir.join("hello"), PermissionsExt::from_mode(0o755)).unwrap();
    let dir = dir.into_os_string().into_string().unwrap();
    let path = format!("/no/dir:{dir}:/usr/bin:/bin");
    let env = BTreeMap::from([("PATH".to_owned(), Template::parse(&path).unwrap())]);
    let by_path = TaskSpec { env, ..command(&["hello"]) };
    assert_eq!(bench.run(by_path, run(vec![])).exit, Exit::Code(0));
    assert_eq!(bench.text(), "/\n");
    let cwd = Some(Template::parse(&dir).unwrap());
    let by_folder = TaskSpec { cwd, ..command(&["./hello"]) };
    assert_eq!(bench.run(by_folder, run(vec![])).exit, Exit::Code(0));
    assert_eq!(bench.text(), format!("{dir}\n"));
}

#[test]
fn ends_are_told_apart() {
    let mut bench = Bench::new(1);
    assert_eq!(bench.sh("exit 7").exit, Exit::Code(7));
    assert_eq!(bench.sh("kill -SEGV $$").exit, Exit::Signal(libc::SIGSEGV));
    assert_eq!(bench.sh("kill -KILL 0").exit, Exit::Signal(libc::SIGKILL));
    let ended = bench.sh("echo out; echo err >&2; read x || echo eof");
    assert_eq!(ended.exit, Exit::Code(0));
    assert_eq!(bench.text(), "out\nerr\neof\n");
    assert_eq!(ended.log_bytes, 12);
    assert!(ended.started_at.0 > 0 && ended.started_at <= ended.ended_at);
}

#[test]
fn outputs_are_read_and_removed() {
    let mut bench = Bench::new(1);
    let ended = bench.sh("test ! -e $DAGD_OUTPUT; echo a=1 >> $DAGD_OUTPUT; exit 3");
    assert_eq!(ended.exit, Exit::Code(3));
    assert_eq!(ended.outputs, BTreeMap::from([("a".to_owned(), "1".to_owned())]));
    assert_eq!(std::fs::read_dir(&bench.dirs.outputs).unwrap().count(), 0);
}

#[test]
fn event_files_tell_the_event() {
    let bench = Bench::new(1);
    let created = RunCreated { run: RunId(9), ..run(vec![file(b"a\n1"), file(b"\xff")]) };
    write_event_files(&created, Some(Path::new("/in")), &bench.dirs).unwrap();
    let json = std::fs::read(bench.dirs.events.join("9.json")).unwrap();
    let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
    assert_eq!(json["run"], 9);
    assert_eq!(json["trigger"], "orders");
    assert_eq!(json["files"][0]["rel"], "a\n1");
    assert_eq!(json["files"][1]["path_b64"], Bytes::from(&b"/in/\xff"[..]).b64());
    let bare = std::fs::read(bench.dirs.events.join("9.files")).unwrap();
    assert_eq!(bare, b"/in/a\n1\0/in/\xff\0");
    remove_event_files(RunId(9), &bench.dirs);
    remove_event_files(RunId(9), &bench.dirs);
    assert_eq!(std::fs::read_dir(&bench.dirs.events).unwrap().count(), 0);
}

#[test]
fn what_a_task_leaves_behind_is_killed_and_counted() {
    let mut bench = Bench::new(1);
    let pids = |n: usize| (1..=n).map(|i| format!("pid{i}")).collect::<Vec<_>>();
    let cases = [
        ("sleep 1000 & echo $! > pid1", 1),
        ("sleep 1000 & echo $! > pid1; sleep 1000 & echo $! > pid2", 2),
        // A session of its own, and deaf.
        (
            "mkfifo up; setsid sh -c 'trap \"\" TERM HUP INT; echo $$ > pid1; echo > up; \
             while :; do sleep 1000; done' & read x < up",
            2,
        ),
        // Forked twice: its parent is gone before the task is.
        ("(setsid sh -c 'echo $$ > pid1; exec sleep 1000' &); until test -s pid1; do :; done", 1),
        // A group of its own in the same session, as an interactive shell makes them.
        ("set -m; sleep 1000 & echo $! > pid1", 1),
        // In the group, without the token.
        ("env -i sleep 1000 & echo $! > pid1; until grep -q sleep /proc/$!/comm; do :; done", 1),
    ];
    for (script, leftovers) in cases {
        let dir = tempfile::tempdir_in(bench.root.path()).unwrap();
        let cwd = Template::parse(dir.path().to_str().unwrap()).unwrap();
        let ended = bench.run(TaskSpec { cwd: Some(cwd), ..shell(script) }, run(vec![]));
        assert_eq!(ended.exit, Exit::Code(0), "{script}");
        let seen = pids(2).iter().filter(|pid| dir.path().join(pid).exists()).count();
        assert!(seen > 0, "{script}");
        for pid in pids(seen) {
            assert!(!alive(&dir.path().join(pid)), "{script}");
        }
        let found = usize::try_from(ended.leftovers).unwrap();
        // The deaf one may or may not have started its sleep yet.
        assert!(found >= seen && found <= leftovers, "{script}: {found} leftovers");
    }
    // The log was not handed on while somebody held it.
    assert_eq!(bench.sh("echo clean").log_bytes, 6);
}

#[test]
fn a_short_task_kills_nothing_of_another() {
    let mut bench = Bench::new(2);
    let dir = bench.root.path().to_str().unwrap().to_owned();
    let cwd = || Some(Template::parse(&dir).unwrap());
    let script = "mkfifo go; (setsid sleep 1000 & echo $! > bg); read x < go; kill -0 $(cat bg)";
    let long = bench.start(TaskSpec { cwd: cwd(), ..shell(script) });
    let marker = bench.root.path().join("bg");
    wait_for("the orphan runs", || std::fs::read(&marker).is_ok_and(|pid| pid.ends_with(b"\n")));
    for _ in 0..20 {
        let (id, ended) = {
            bench.start(command(&["true"]));
            bench.end()
        };
        assert_ne!(id, long);
        assert_eq!((ended.exit, ended.leftovers), (Exit::Code(0), 0));
    }
    std::fs::write(bench.root.path().join("go"), "\n").unwrap();
    let (id, ended) = bench.end();
    assert_eq!((id, ended.exit, ended.leftovers), (long, Exit::Code(0), 1));
    assert!(!alive(&marker));
}

#[test]
fn the_dead_of_a_long_task_are_reaped_while_it_runs() {
    let mut bench = Bench::new(1);
    let dir = bench.root.path().to_str().unwrap().to_owned();
    let script = "for i in 1 2 3 4 5; do (true & exec true); done; echo > up; sleep 1000";
    let cwd = Some(Template::parse(&dir).unwrap());
    let id = bench.start(TaskSpec { cwd, ..shell(script) });
    let up = bench.root.path().join("up");
    wait_for("the task is up", || up.exists());
    wait_for("its dead are reaped", || orphans().is_empty());
    assert_eq!(bench.slots.running(), 1);
    bench.slots.stop(id, Stop::Kill);
    let (_, ended) = bench.end();
    assert_eq!((ended.exit, ended.leftovers), (Exit::Signal(libc::SIGKILL), 0));
}

/// A program whose first thread ends while another goes on.
const HEADLESS: &str = "#define _GNU_SOURCE
#include <pthread.h>
#include <sys/syscall.h>
#include <unistd.h>
static void *stay(void *none) { for (;;) pause(); return none; }
int main(void) {
    pthread_t other;
    pthread_create(&other, 0, stay, 0);
    return syscall(SYS_exit, 0);
}
";

#[test]
fn a_process_whose_first_thread_has_ended_is_not_overlooked() {
    let mut bench = Bench::new(1);
    let dir = tempfile::tempdir_in(bench.root.path()).unwrap();
    std::fs::write(dir.path().join("headless.c"), HEADLESS).unwrap();
    // The linker that Rust needs.
    let mut compiler = Command::new("cc");
    compiler.args(["-pthread", "-o", "headless", "headless.c"]).current_dir(dir.path());
    assert!(compiler.status().unwrap().success());
    let cwd = Some(Template::parse(dir.path().to_str().unwrap()).unwrap());
    let script = "setsid ./headless & echo $! > pid; until grep -q ') Z' /proc/$!/stat; do :; done";
    let ended = bench.run(TaskSpec { cwd, ..shell(script) }, run(vec![]));
    let pid = std::fs::read_to_string(dir.path().join("pid")).unwrap();
    assert_eq!((ended.exit, ended.leftovers), (Exit::Code(0), 1));
    assert!(!Path::new("/proc").join(pid.trim()).exists(), "it is dead and reaped");

    let mut left = Command::new(dir.path().join("headless"));
    let mut left = left.env("DAGD_ATTEMPT_ID", "headless/1.a.1").process_group(0).spawn().unwrap();
    let stat = format!("/proc/{}/stat", left.id());
    wait_for("its first thread", || std::fs::read_to_string(&stat).unwrap().contains(") Z"));
    assert_eq!(sweep("headless", &BTreeSet::new()).unwrap(), 1);
    left.wait().unwrap();
}

/// Everything that six slots leave behind at once goes: while one looks for its own, others end theirs,
/// and what is found dead may just have forked.
#[test]
fn leftovers_of_many_attempts_at_once_are_all_found() {
    const ATTEMPTS: usize = 1_000;
    let mut bench = Bench::new(6);
    // Another process may run the same test.
    let instance = format!("many-{}", std::process::id());
    bench.base = Base::from_process(instance.clone());
    let script = "setsid sh -c 'trap \"\" TERM; sleep 1000' & setsid setsid sleep 1000 &";
    for _ in 0..ATTEMPTS {
        bench.start(shell(script));
    }
    for _ in 0..ATTEMPTS {
        assert_eq!(bench.end().1.exit, Exit::Code(0));
    }
    assert_eq!(carriers(&format!("{instance}/")), [0; 0], "processes of attempts that have ended");
    assert!(orphans().is_empty());
}

/// Processes that carry a token that begins so.
fn carriers(prefix: &str) -> Vec<i32> {
    let token = format!("DAGD_ATTEMPT_ID={prefix}");
    let pids = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let carries = |pid: &i32| {
        let environ = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environ.split(|&byte| byte == 0).any(|entry| entry.starts_with(token.as_bytes()))
    };
    pids.filter(carries).collect()
}

#[test]
fn a_flood_keeps_head_and_tail() {
    let mut bench = Bench::new(1);
    let flood = TaskSpec {
        log_max: 1 << 20,
        ..shell("echo first; yes 0123456789abcde | head -c 100000000; echo last")
    };
    let ended = bench.run(flood, run(vec![]));
    assert_eq!((ended.exit.clone(), ended.log_bytes), (Exit::Code(0), 100_000_011));
    let meta = std::fs::metadata(bench.log()).unwrap();
    assert_eq!(meta.len(), 100_000_011);
    assert!(meta.blocks() * 512 <= (1 << 20) + 16384, "{} blocks", meta.blocks());
    let kept = std::fs::read(bench.log()).unwrap();
    assert!(kept.starts_with(b"first\n0123456789abcde\n") && kept.ends_with(b"cde\nlast\n"));
}

#[test]
fn a_long_flood_is_bounded_while_it_runs_and_can_be_followed() {
    let mut bench = Bench::new(1);
    let flood = TaskSpec { log_max: 1 << 16, ..shell("head -c 50000000 /dev/zero; sleep 1000") };
    let id = bench.start(flood);
    let log = bench.log();
    wait_for("the log is named and bounded", || {
        std::fs::metadata(&log)
            .is_ok_and(|meta| meta.len() == 50_000_000 && meta.blocks() * 512 < 1 << 17)
    });
    bench.slots.stop(id, Stop::Kill);
    let (_, ended) = bench.end();
    assert_eq!((ended.exit, ended.log_bytes), (Exit::Signal(libc::SIGKILL), 50_000_000));
}

#[test]
fn stops() {
    let mut bench = Bench::new(1);
    let dir = bench.root.path().to_str().unwrap().to_owned();
    for (how, exit) in [
        (Stop::Term, Exit::Code(15)),
        (Stop::Signal(libc::SIGUSR1), Exit::Code(10)),
        (Stop::Signal(libc::SIGRTMIN()), Exit::Signal(libc::SIGRTMIN())),
        (Stop::Kill, Exit::Signal(libc::SIGKILL)),
    ] {
        let script =
            "trap 'exit 15' TERM; trap 'exit 10' USR1; echo > up; while :; do sleep 0.01; done";
        let cwd = Some(Template::parse(&dir).unwrap());
        let id = bench.start(TaskSpec { cwd, ..shell(script) });
        let up = bench.root.path().join("up");
        wait_for("the task is up", || up.exists());
        std::fs::remove_file(&up).unwrap();
        bench.slots.stop(id, how);
        assert_eq!(bench.end().1.exit, exit, "{how:?}");
        bench.slots.stop(id, Stop::Kill);
    }
}

#[test]
fn a_kill_while_starting_is_not_lost() {
    let mut bench = Bench::new(2);
    for _ in 0..100 {
        let id = bench.start(command(&["sleep", "1000"]));
        bench.slots.stop(id, Stop::Kill);
        let (ended_id, ended) = bench.end();
        assert_eq!((ended_id, ended.exit), (id, Exit::Signal(libc::SIGKILL)));
    }
}

#[test]
fn more_than_the_slots_wait_their_turn() {
    let mut bench = Bench::new(1);
    let first = bench.start(command(&["sleep", "1000"]));
    let second = bench.start(command(&["sleep", "1000"]));
    let third = bench.start(command(&["true"]));
    assert_eq!(bench.slots.running(), 3);
    bench.slots.stop(second, Stop::Term);
    bench.slots.stop(first, Stop::Term);
    let order = [bench.end(), bench.end(), bench.end()].map(|(id, ended)| (id, ended.exit));
    let term = Exit::Signal(libc::SIGTERM);
    assert_eq!(order, [(first, term.clone()), (second, term), (third, Exit::Code(0))]);
    bench.slots.resize(3);
    let ids: BTreeSet<_> = (0..3).map(|_| bench.start(command(&["sleep", "1000"]))).collect();
    bench.slots.resize(1);
    for &id in &ids {
        bench.slots.stop(id, Stop::Kill);
    }
    assert_eq!(BTreeSet::from([bench.end().0, bench.end().0, bench.end().0]), ids);
    bench.start(command(&["true"]));
    assert_eq!(bench.end().1.exit, Exit::Code(0));
}

#[test]
fn thousands_of_tasks_leave_nothing() {
    let mut bench = Bench::new(2);
    let count = |dir: &str| std::fs::read_dir(dir).unwrap().count();
    let mut fds = 0;
    for n in 0..2000 {
        bench.start(command(&["true"]));
        bench.start(command(&["true"]));
        assert_eq!(bench.end().1.exit, Exit::Code(0));
        let ended = bench.end().1;
        assert_eq!((ended.exit, ended.log_bytes, ended.leftovers), (Exit::Code(0), 0, 0));
        if n == 10 {
            fds = count("/proc/self/fd");
        }
    }
    // Slots of the tests before may still have been ending when it was counted.
    assert!(count("/proc/self/fd") <= fds);
    assert_eq!(orphans(), "");
    // The folder of the spares, with one for each slot.
    assert_eq!(std::fs::read_dir(&bench.dirs.logs).unwrap().count(), 1);
    assert_eq!(std::fs::read_dir(bench.dirs.logs.join("spare")).unwrap().count(), 2);
}

#[test]
fn the_sweep_kills_all_that_carry_a_token() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let spawn = |token: &str| {
        let mut command = Command::new("sleep");
        command.arg("1000").env("DAGD_ATTEMPT_ID", token).process_group(0);
        command.spawn().unwrap()
    };
    let mut mine = [spawn("swept/1.a.1"), spawn("swept/77.b.2")];
    let mut spared = spawn("swept/77.b.3");
    let mut other = spawn("swept2/1.a.1");
    let (none, one) = (BTreeSet::new(), BTreeSet::from(["swept/77.b.3".to_owned()]));
    assert_eq!(sweep("swept", &one).unwrap(), 2);
    for child in &mut mine {
        assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGKILL));
    }
    assert_eq!(other.try_wait().unwrap(), None);
    assert_eq!(spared.try_wait().unwrap(), None);
    assert_eq!(sweep("swept", &none).unwrap(), 1);
    spared.wait().unwrap();
    assert_eq!(sweep("swept2", &none).unwrap(), 1);
    other.wait().unwrap();
}

#[test]
fn time_per_task() {
    const TASKS: u32 = 2000;
    let mut bench = Bench::new(2);
    let execs: Vec<_> =
        (0..TASKS).map(|_| bench.prepare(command(&["/bin/true"]), run(vec![]))).collect();
    let begin = Instant::now();
    let (mut live, mut execs) = (0, execs.into_iter());
    for _ in 0..TASKS {
        while live < 2
            && let Some(exec) = execs.next()
        {
            bench.slots.start(exec);
            live += 1;
        }
        assert_eq!(bench.end().1.exit, Exit::Code(0));
        live -= 1;
    }
    println!("{} µs per task with 2 slots", begin.elapsed().as_micros() / u128::from(TASKS));
}

#[test]
fn the_helper_makes_of_itself_what_is_asked_for() {
    let mut bench = Bench::new(1);
    let both = |limit| Rlimit { soft: Some(limit), hard: Some(limit) };
    let rlimits = [
        (Resource::Nofile, Rlimit { soft: Some(77), hard: Some(99) }),
        (Resource::Core, both(0)),
        (Resource::Cpu, both(1000)),
    ];
    let nice = Some(7);
    let confine =
        Confine { umask: Some(0o137), nice, rlimits: rlimits.into(), ..Confine::default() };
    let script = "umask; nice; ulimit -Sn; ulimit -Hn; ulimit -c; ulimit -t; pwd; \
                  echo \"$0 $DAGD_ATTEMPT_ID $HOME\"";
    let cwd = Some(Template::parse("/tmp").unwrap());
    let task = TaskSpec { confine: Some(Box::new(confine)), cwd, ..shell(script) };
    let ended = bench.run(task, run(vec![]));
    assert_eq!((ended.exit, ended.leftovers), (Exit::Code(0), 0), "{}", bench.text());
    let home = bench.base.env.iter().find(|(key, _)| key == "HOME").unwrap().1.to_str().unwrap();
    let told = format!("0137\n7\n77\n99\n0\n1000\n/tmp\n/bin/sh bench/1.t.1 {home}\n");
    assert_eq!(bench.text(), told);
    let open = command(&["ls", "/proc/self/fd"]);
    bench.run(open.clone(), run(vec![]));
    let plain = bench.text();
    bench.run(by_helper(open), run(vec![]));
    assert_eq!(bench.text(), plain, "nothing more is open");
    // Its own, and the one by which it looks: none that this process was started with.
    assert_eq!(plain, "0\n1\n2\n3\n");
    // The helper has more rights than the task: what its loader loads is not the task's to say.
    let preload = Template::parse("/nonexistent/evil.so").unwrap();
    let loads = TaskSpec { env: [("LD_PRELOAD".to_owned(), preload)].into(), ..shell("true") };
    bench.run(loads.clone(), run(vec![]));
    let plain = bench.text();
    assert!(plain.contains("evil.so"), "{plain}");
    bench.run(by_helper(loads), run(vec![]));
    assert_eq!(bench.text(), plain, "the program alone has tried");
    // The same way on, in the same process table: a stop, an end by signal, a code.
    let id = bench.start(by_helper(command(&["sleep", "60"])));
    assert!(bench.slots.stop(id, Stop::Term));
    assert_eq!(bench.end().1.exit, Exit::Signal(libc::SIGTERM));
    assert_eq!(bench.run(by_helper(shell("exit 9")), run(vec![])).exit, Exit::Code(9));
    assert_eq!(orphans(), "");
}

#[test]
fn what_was_used_is_told() {
    let mut bench = Bench::new(1);
    // More than this process had ever.
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let most = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let most: u64 = most.trim().strip_suffix(" kB").unwrap().parse().unwrap();
    let bytes = (most << 10) + (64 << 20);
    let script = format!("head -c {bytes} /dev/zero | tail -c {bytes} | wc -c");
    for task in [shell(&script), by_helper(shell(&script))] {
        let usage = bench.run(task, run(vec![])).usage;
        assert!(usage.cpu_us.unwrap() > 0, "{usage:?}");
        let peak = usage.memory_peak.unwrap();
        assert!((bytes..2 * bytes).contains(&peak), "{usage:?}");
    }
    // What is less than this process has is not known: the kernel tells of this one, then.
    assert_eq!(bench.sh("true").usage.memory_peak, None);
    let unstarted = bench.run(command(&["/no/such"]), run(vec![])).usage;
    assert!(unstarted.is_empty(), "{unstarted:?}");
}
