//! A real daemon in a folder of its own, and the means to look at it from outside.
//!
//! Readiness is told by the daemon itself (`NOTIFY_SOCKET`). All waits are for a condition, with a
//! deadline that only a defect reaches.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test ends at the first thing that goes wrong, and says so"
)]

pub(crate) mod disk;
pub(crate) mod faults;
pub(crate) mod fuse;
pub(crate) mod namespaces;
pub(crate) mod process;

use std::fs;
use std::io::Write as _;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use disk::Disk;
use serde_json::Value;

/// How long a test waits for something that should come at once.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// A folder with a configuration, and perhaps a daemon that runs on it.
pub(crate) struct Env {
    /// What is mounted in the folder: unmounted when the daemon has ended, before the folder goes.
    disks: Vec<Disk>,
    dir: tempfile::TempDir,
    daemon: Option<Child>,
    notify: UnixDatagram,
    /// The control socket, within the folder.
    socket: &'static str,
    /// Held while the daemon starts: see [`Env::start_alone`].
    starting: Option<fs::File>,
}

impl Env {
    /// A folder whose `dagd.toml` is `config` behind a `[daemon]` table that keeps all state in
    /// the folder. `{dir}` in the text is the folder.
    pub(crate) fn new(config: &str) -> Self {
        let env = Self::empty("run/dagd.sock");
        env.configure(config);
        env
    }

    /// A copy of a folder that has a `dagd.toml` of its own, which puts the control socket at
    /// `socket` within it.
    pub(crate) fn copy_of(folder: &Path, socket: &'static str) -> Self {
        let env = Self::empty(socket);
        let copied =
            Command::new("cp").arg("-R").arg(folder.join(".")).arg(env.path()).status().unwrap();
        assert!(copied.success(), "cannot copy {}", folder.display());
        env
    }

    fn empty(socket: &'static str) -> Self {
        let dir = tempfile::Builder::new().prefix("dagd-test-").tempdir().unwrap();
        let notify = UnixDatagram::bind(dir.path().join("notify")).unwrap();
        notify.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { disks: Vec::new(), dir, daemon: None, notify, socket, starting: None }
    }

    /// Writes another configuration.
    pub(crate) fn configure(&self, config: &str) {
        let daemon = if config.contains("[daemon]") {
            String::new()
        } else {
            "[daemon]\nmax_parallel = 2\n".to_owned()
        };
        let dirs = "state_dir = \"state\"\nruntime_dir = \"run\"\n";
        let whole =
            format!("{daemon}{config}").replacen("[daemon]\n", &format!("[daemon]\n{dirs}"), 1);
        let text = whole.replace("{dir}", self.path().to_str().unwrap());
        let temporary = self.path().join("dagd.toml.new");
        fs::write(&temporary, text).unwrap();
        fs::rename(&temporary, self.path().join("dagd.toml")).unwrap();
    }

    /// The folder.
    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// A path in the folder.
    pub(crate) fn at(&self, rel: &str) -> PathBuf {
        self.path().join(rel)
    }

    /// Creates a folder in the folder.
    pub(crate) fn mkdir(&self, rel: &str) -> PathBuf {
        let dir = self.at(rel);
        fs::create_dir_all(&dir).unwrap();
        dir
    }

    /// A folder in the folder that is a file system of its own with these options; `None` where that
    /// is not allowed.
    pub(crate) fn disk(&mut self, rel: &str, options: &str) -> Option<Disk> {
        let disk = Disk::mount(&self.mkdir(rel), options)?;
        self.disks.push(disk.clone());
        Some(disk)
    }

    /// A `dagd` command that finds this folder's configuration and socket.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dagd"));
        command
            .args(args)
            .current_dir(self.path())
            .env("DAGD_CONFIG", self.at("dagd.toml"))
            .env("DAGD_SOCKET", self.at(self.socket))
            .env("NO_COLOR", "1")
            .env_remove("NOTIFY_SOCKET")
            .stdin(Stdio::null());
        command
    }

    /// `dagd run`, started by way of another program: see [`through`].
    pub(crate) fn run_by(&self, around: &[&str]) -> Command {
        through(around, &self.command(&["run"]))
    }

    /// Runs `dagd` to its end.
    pub(crate) fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// Runs `dagd`, which must succeed, and returns what it printed.
    pub(crate) fn ok(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert!(output.status.success(), "dagd {args:?}: {output:?}\n{}", self.log());
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs `dagd`, which must succeed and print JSON.
    pub(crate) fn json(&self, args: &[&str]) -> Value {
        let text = self.ok(&[args, &["--json"]].concat());
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    /// Starts the daemon and waits until it says that it watches.
    pub(crate) fn start(&mut self) {
        self.spawn(&mut self.command(&["run"]));
        self.await_ready();
    }

    /// Starts the daemon as the given command, without waiting.
    pub(crate) fn spawn(&mut self, command: &mut Command) {
        let log =
            fs::File::options().create(true).append(true).open(self.at("daemon.log")).unwrap();
        self.spawn_to(command, log);
    }

    /// The same with another place for what it says.
    pub(crate) fn spawn_to(&mut self, command: &mut Command, log: fs::File) {
        assert!(self.daemon.is_none(), "one daemon at a time");
        if self.starting.is_none() {
            let lock = start_lock();
            lock.lock_shared().unwrap();
            self.starting = Some(lock);
        }
        let child = command
            .env("NOTIFY_SOCKET", self.at("notify"))
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        // Of a pipe the daemon alone is to have the ends.
        command.stdout(Stdio::null()).stderr(Stdio::null());
        self.daemon = Some(child);
    }

    /// Starts the daemon while nobody else starts one, with a change to the whole machine that only
    /// this start sees.
    pub(crate) fn start_alone<T>(&mut self, change: impl FnOnce() -> T) {
        let lock = start_lock();
        lock.lock().unwrap();
        self.starting = Some(lock.try_clone().unwrap());
        let changed = change();
        self.start();
        drop(changed);
        drop(lock);
    }

    /// Waits until the daemon says that it watches.
    pub(crate) fn await_ready(&mut self) {
        let mut buffer = [0; 4096];
        let deadline = Instant::now() + PATIENCE;
        self.notify.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        while Instant::now() < deadline {
            match self.notify.recv(&mut buffer) {
                Ok(n) if String::from_utf8_lossy(&buffer[..n]).contains("READY=1") => {
                    self.starting = None;
                    return;
                }
                Ok(_) => {}
                Err(_) => {
                    let ended = self.daemon.as_mut().and_then(|child| child.try_wait().unwrap());
                    assert!(ended.is_none(), "the daemon ended: {ended:?}\n{}", self.log());
                }
            }
        }
        panic!("the daemon was not ready in time\n{}", self.log());
    }

    /// The daemon's process.
    pub(crate) fn pid(&self) -> i32 {
        i32::try_from(self.daemon.as_ref().unwrap().id()).unwrap()
    }

    /// Sends a signal to the daemon.
    pub(crate) fn signal(&self, signo: i32) {
        assert_eq!(kill(self.pid(), signo), 0);
    }

    /// Whether there is no daemon any more.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.daemon.as_mut().is_none_or(|child| child.try_wait().unwrap().is_some())
    }

    /// Kills the daemon as a crash would.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.daemon.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
        self.starting = None;
        // What it said before it died must not be taken for what its successor says.
        self.hear();
    }

    /// Stops the daemon by TERM and returns whether it ended well.
    pub(crate) fn stop(&mut self) -> bool {
        self.signal(15);
        self.await_end().success()
    }

    /// Waits until the daemon has ended by itself, or by what was sent to it.
    pub(crate) fn await_end(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if let Some(status) = self.daemon.as_mut().unwrap().try_wait().unwrap() {
                self.daemon = None;
                self.starting = None;
                self.hear();
                return status;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("the daemon did not end in time\n{}", self.log());
    }

    /// The next that the daemon tells its service manager.
    pub(crate) fn next_word(&self) -> String {
        self.notify.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut buffer = [0; 4096];
        let n = self.notify.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..n].to_vec()).unwrap()
    }

    /// Takes in what the daemon has told its service manager: while a few messages wait, what is not
    /// important is left out.
    pub(crate) fn hear(&self) -> Vec<String> {
        self.notify.set_nonblocking(true).unwrap();
        let (mut heard, mut buffer) = (Vec::new(), [0; 4096]);
        while let Ok(n) = self.notify.recv(&mut buffer) {
            heard.push(String::from_utf8_lossy(&buffer[..n]).into_owned());
        }
        self.notify.set_nonblocking(false).unwrap();
        heard
    }

    /// Waits until the daemon tells its service manager this word.
    pub(crate) fn await_told(&self, word: &str) {
        while !self.next_word().lines().any(|line| line == word) {}
    }

    /// What the daemon logged.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.at("daemon.log")).unwrap_or_default()
    }

    /// All runs, newest first.
    pub(crate) fn runs(&self) -> Vec<Value> {
        self.json(&["runs", "--limit", "1000000"]).as_array().unwrap().clone()
    }

    /// A task of a run, as `show` has it.
    pub(crate) fn task(&self, run: u64, name: &str) -> Value {
        let detail = self.json(&["show", &run.to_string()]);
        let tasks = detail["tasks"].as_array().unwrap();
        let found = tasks.iter().find(|task| task["name"] == name);
        found.unwrap_or_else(|| panic!("no task {name}: {detail}")).clone()
    }

    /// Processes whose environment carries a token of this folder's daemon.
    pub(crate) fn survivors(&self) -> Vec<String> {
        let db = rusqlite::Connection::open(self.at("state/dagd.db")).unwrap();
        let instance: String = db
            .query_row("select value from meta where key = 'instance'", [], |row| row.get(0))
            .unwrap();
        let token = format!("DAGD_ATTEMPT_ID={instance}/");
        let mut found = Vec::new();
        for process in fs::read_dir("/proc").unwrap().flatten() {
            let environ = fs::read(process.path().join("environ")).unwrap_or_default();
            if environ.windows(token.len()).any(|window| window == token.as_bytes()) {
                found.push(process.file_name().to_string_lossy().into_owned());
            }
        }
        found
    }

    /// A counter of the daemon; 0 if it has not counted yet.
    pub(crate) fn counter(&self, name: &str) -> u64 {
        self.json(&["status"])["counters"][name].as_u64().unwrap_or(0)
    }

    /// Waits until `n` runs have ended since the daemon's start and nothing else waits.
    pub(crate) fn await_ended(&self, n: u64) {
        self.wait_for(&format!("{n} ended runs"), n, || self.counter("runs_ended"));
    }

    /// Waits until `n` runs are alive.
    pub(crate) fn await_live(&self, n: u64) {
        self.wait(&format!("{n} live runs"), || self.json(&["status"])["live_runs"] == n);
    }

    /// Waits until every folder was gone through that answers, all runs have ended and nothing is
    /// queued or pending.
    pub(crate) fn await_idle(&self) {
        self.wait("an idle daemon", || {
            let status = self.json(&["status"]);
            let waiting =
                |t: &Value| t["queued"].as_u64().unwrap() + t["pending"].as_u64().unwrap();
            let triggers = status["triggers"].as_array().unwrap();
            status["live_runs"] == 0 && triggers.iter().all(|t| waiting(t) == 0 && is_scanned(t))
        });
    }

    /// Waits until every folder that answers was gone through since the start: what was there before
    /// is known.
    pub(crate) fn await_scanned(&self) {
        self.wait("the first scans", || {
            let status = self.json(&["status"]);
            status["triggers"].as_array().unwrap().iter().all(is_scanned)
        });
    }

    /// Waits until `done`.
    pub(crate) fn wait(&self, what: &str, mut done: impl FnMut() -> bool) {
        self.wait_for(what, 1, || u64::from(done()));
    }

    /// Waits until `count` has come to `wanted`, for as long as it moves: how long all of it takes
    /// says nothing on a machine that others use.
    pub(crate) fn wait_for(&self, what: &str, wanted: u64, mut count: impl FnMut() -> u64) {
        let (mut last, mut deadline) = (0, Instant::now() + PATIENCE);
        loop {
            let now = count();
            if now >= wanted {
                return;
            }
            if now != last {
                (last, deadline) = (now, Instant::now() + PATIENCE);
            }
            if Instant::now() > deadline {
                let waits = self.run(&["pending"]).stdout;
                let waits = String::from_utf8_lossy(&waits);
                panic!("timed out waiting for {what}\n{}\n{waits}", self.log());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Env {
    fn drop(&mut self) {
        if let Some(mut child) = self.daemon.take() {
            child.kill().ok();
            child.wait().ok();
        }
        for pid in leftovers(&self.at("state")) {
            kill(pid, 9);
        }
        if std::thread::panicking() {
            eprintln!("--- {}\n{}", self.path().display(), self.log());
        }
    }
}

/// A command, started by way of another one: `around` ends with what it is to start.
pub(crate) fn through(around: &[&str], inner: &Command) -> Command {
    let mut whole = Command::new(around[0]);
    whole.args(&around[1..]).arg(inner.get_program()).args(inner.get_args());
    for (name, value) in inner.get_envs() {
        match value {
            Some(value) => whole.env(name, value),
            None => whole.env_remove(name),
        };
    }
    whole.current_dir(inner.get_current_dir().unwrap_or(Path::new("/"))).stdin(Stdio::null());
    whole
}

/// Whether the first scan of a trigger's folder has ended, as far as `status` tells.
pub(crate) fn is_scanned(trigger: &Value) -> bool {
    !trigger["scanning"].as_bool().unwrap() || trigger["state"] == "waiting"
}

/// The lock that says who may start a daemon.
fn start_lock() -> fs::File {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("starts");
    fs::File::options().create(true).append(true).open(path).unwrap()
}

/// Processes that carry a token of the instance with this state folder.
pub(crate) fn leftovers(state: &Path) -> Vec<i32> {
    let instance = rusqlite::Connection::open(state.join("dagd.db")).and_then(|db| {
        let sql = "select value from meta where key = 'instance'";
        db.query_row(sql, [], |row| row.get::<_, String>(0))
    });
    let Ok(instance) = instance else { return Vec::new() };
    let token = format!("DAGD_ATTEMPT_ID={instance}/");
    let carries = |entry: &fs::DirEntry| {
        let environ = fs::read(entry.path().join("environ")).unwrap_or_default();
        environ.windows(token.len()).any(|window| window == token.as_bytes())
    };
    let processes = fs::read_dir("/proc").unwrap().flatten().filter(carries);
    processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// Sends a signal.
pub(crate) fn kill(pid: i32, signo: i32) -> i32 {
    let status =
        Command::new("kill").args([format!("-{signo}"), pid.to_string()]).status().unwrap();
    status.code().unwrap()
}

/// Whether we may do what only root may.
pub(crate) fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|meta| std::os::unix::fs::MetadataExt::uid(&meta) == 0)
}

/// Whether a program is installed. If it is not, says aloud that the test is skipped; on a machine
/// where everything has to run that is a failure.
pub(crate) fn have(program: &str) -> bool {
    let found = std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(program).is_file()));
    if !found {
        skip(&format!("`{program}` is not installed"));
    }
    found
}

/// Says aloud that a test is skipped.
pub(crate) fn skip(why: &str) {
    assert!(std::env::var_os("DAGD_CI").is_none(), "must not be skipped here: {why}");
    say_skipped(why);
}

/// The same for what no machine can be asked to have: a network.
pub(crate) fn say_skipped(why: &str) {
    // Not by a macro: what those print is shown for tests that fail only.
    std::io::stderr().write_all(format!("SKIPPED: {why}\n").as_bytes()).unwrap();
}
