//! A machine of a test: a container whose first process is a real systemd.
//!
//! Owns all that runs in it: when a [`Machine`] is dropped, or its test dies, nothing of it is left.
//! Says what a test does in it by shell scripts, as an operator would.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::common::{have, is_root, skip};

/// How long anything may take on a machine that others use, too.
const PATIENCE: Duration = Duration::from_mins(1);

/// Where the sources are, in the machine.
pub(crate) const SOURCES: &str = "/usr/src/dagd";

/// A booted machine.
pub(crate) struct Machine {
    dir: tempfile::TempDir,
    name: String,
    boot: Child,
    /// Its first process, as numbered here.
    leader: i32,
}

impl Machine {
    /// Boots one. Where that cannot be, says so aloud.
    pub(crate) fn boot() -> Option<Self> {
        if !is_root() {
            skip("a systemd can be booted by root only");
            return None;
        }
        if !["systemd-nspawn", "unshare", "nsenter"].into_iter().all(have) {
            return None;
        }
        let top = Path::new(env!("CARGO_MANIFEST_DIR"));
        let Some(rootfs) = rootfs() else {
            skip("there is no root file system to boot; tests/run makes one");
            return None;
        };
        let dir = tempfile::Builder::new().prefix("dagd-machine-").tempdir().unwrap();
        let notify = UnixDatagram::bind(dir.path().join("notify")).unwrap();
        fs::create_dir(dir.path().join("scratch")).unwrap();
        let name = dir.path().file_name().unwrap().to_str().unwrap().replace('_', "-");
        let log = fs::File::create(dir.path().join("log")).unwrap();
        let boot = Command::new(top.join("tests/systemd/boot"))
            .args([&rootfs, &dir.path().join("scratch")])
            .arg(&name)
            .arg(format!("--bind-ro={}:{SOURCES}/systemd", top.join("systemd").display()))
            .arg(format!("--bind-ro={}:{SOURCES}/target/release/dagd", env!("CARGO_BIN_EXE_dagd")))
            // Like a disk, and unlike the overlay, it tells who has a file open.
            .arg("--tmpfs=/srv:mode=755")
            // Without these there is no fanotify in a container.
            .arg("--system-call-filter=fanotify_init fanotify_mark open_by_handle_at")
            .env("NOTIFY_SOCKET", dir.path().join("notify"))
            .stdin(Stdio::piped())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut machine = Self { dir, name, boot, leader: 0 };
        machine.await_ready(&notify);
        let procs = machine.cgroup().join("payload/init.scope/cgroup.procs");
        let procs = fs::read_to_string(procs).unwrap();
        machine.leader = procs.lines().next().unwrap().parse().unwrap();
        assert_eq!(machine.ok("systemctl is-system-running --wait"), "running\n");
        Some(machine)
    }

    /// Installs dagd as the README says, with this configuration, without starting it.
    pub(crate) fn install(&self, config: &str) {
        self.ok("useradd --create-home ann");
        self.write(&format!("{SOURCES}/dagd.toml"), config);
        let readme = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
        let (_, section) = readme.split_once("\n## As a service\n").unwrap();
        let (_, block) = section.split_once("```sh\n").unwrap();
        let (commands, _) = block.split_once("```").unwrap();
        // What starts it is the test's.
        let commands = commands.replace("systemctl enable --now dagd", "true");
        self.ok(&format!("cd {SOURCES}\n{commands}"));
    }

    fn await_ready(&mut self, notify: &UnixDatagram) {
        notify.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        let deadline = Instant::now() + PATIENCE;
        let mut buffer = [0; 4096];
        while Instant::now() < deadline {
            match notify.recv(&mut buffer) {
                Ok(n) if String::from_utf8_lossy(&buffer[..n]).contains("READY=1") => return,
                Ok(_) => {}
                Err(_) => assert!(self.boot.try_wait().unwrap().is_none(), "{}", self.log()),
            }
        }
        panic!("the machine did not boot in time\n{}", self.log());
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// The machine's cgroup, as seen from here.
    fn cgroup(&self) -> PathBuf {
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        let fields = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
        let version_2 = fields.into_iter().find(|fields| fields[2] == "cgroup2").unwrap();
        Path::new(version_2[1]).join(&self.name)
    }

    /// A path in the machine, as seen from here.
    pub(crate) fn at(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{path}", self.leader))
    }

    /// Writes a file in the machine.
    pub(crate) fn write(&self, path: &str, text: &str) {
        fs::create_dir_all(self.at(path).parent().unwrap()).unwrap();
        fs::write(self.at(path), text).unwrap();
    }

    /// Runs a script in the machine, as root.
    pub(crate) fn sh(&self, script: &str) -> Output {
        let leader = self.leader.to_string();
        let path = "PATH=/usr/sbin:/usr/bin:/sbin:/bin";
        Command::new("nsenter")
            .args(["-t", &leader, "-m", "-u", "-i", "-n", "-p", "-C"])
            .args([
                "env",
                "-i",
                "-C",
                "/",
                path,
                "NO_COLOR=1",
                "SYSTEMD_PAGER=cat",
                "sh",
                "-euc",
                script,
            ])
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    /// Runs a script that must succeed, and returns what it printed.
    pub(crate) fn ok(&self, script: &str) -> String {
        let output = self.sh(script);
        assert!(output.status.success(), "{script}\n{output:#?}\n{}", self.journal());
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs a script that must fail, and returns all that it printed.
    pub(crate) fn fails(&self, script: &str) -> String {
        let Output { status, stdout, stderr } = self.sh(script);
        let text = String::from_utf8([stdout, stderr].concat()).unwrap();
        assert!(!status.success(), "{script}\n{text}");
        text
    }

    /// Waits until a script succeeds, and returns what it printed.
    pub(crate) fn until(&self, script: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let output = self.sh(script);
            if output.status.success() {
                return String::from_utf8(output.stdout).unwrap();
            }
            let late = Instant::now() > deadline;
            assert!(!late, "timed out waiting for {script}\n{output:#?}\n{}", self.journal());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// A property of a unit.
    pub(crate) fn property(&self, unit: &str, name: &str) -> String {
        self.ok(&format!("systemctl show --value --property={name} {unit}")).trim().to_owned()
    }

    /// What was logged in the machine.
    pub(crate) fn journal(&self) -> String {
        let output = self.sh("journalctl --no-pager --boot --lines=100");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        drop(self.boot.stdin.take());
        let ended = self.boot.wait();
        if !std::thread::panicking() {
            assert!(ended.unwrap().success(), "{}", self.log());
            assert!(!self.cgroup().exists(), "a cgroup stays behind");
        }
    }
}

/// The pristine root file system.
fn rootfs() -> Option<PathBuf> {
    let made = std::env::var_os("DAGD_ROOTFS").map(PathBuf::from);
    let here = Path::new(env!("CARGO_TARGET_TMPDIR")).parent()?.join("test-data/trixie");
    made.into_iter().chain([here]).find(|dir| dir.join("usr/lib/systemd/systemd").exists())
}
