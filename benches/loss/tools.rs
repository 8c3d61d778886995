//! How each contestant is set up: as its manual recommends for "a command for each file". A
//! systemd.path unit cannot take part: it does not say which file.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

/// A way to have a command run for files that land in a folder.
#[derive(Clone, Copy)]
pub(crate) struct Tool {
    pub(crate) name: &'static str,
    /// What has to be there, and how it is had.
    pub(crate) program: &'static str,
    pub(crate) package: &'static str,
    command: fn(&Place) -> Command,
    /// What has to be said to it once it runs.
    afterwards: fn(&Place),
}

/// Where a contestant runs.
pub(crate) struct Place {
    pub(crate) inbox: PathBuf,
    pub(crate) home: PathBuf,
    pub(crate) log: PathBuf,
    pub(crate) record: PathBuf,
    pub(crate) dagd: PathBuf,
}

pub(crate) const TOOLS: [Tool; 7] = [
    Tool { name: "dagd", program: "", package: "", command: dagd, afterwards: nothing },
    Tool {
        name: "inotifywait loop",
        program: "inotifywait",
        package: "inotify-tools",
        command: inotifywait,
        afterwards: nothing,
    },
    Tool {
        name: "incron",
        program: "incrond",
        package: "incron",
        command: incron,
        afterwards: nothing,
    },
    Tool {
        name: "direvent",
        program: "direvent",
        package: "direvent",
        command: direvent,
        afterwards: nothing,
    },
    Tool {
        name: "watchexec",
        program: "watchexec",
        package: "cargo install watchexec-cli",
        command: watchexec,
        afterwards: nothing,
    },
    Tool {
        name: "watchman",
        program: "watchman",
        package: "watchman",
        command: watchman,
        afterwards: watchman_trigger,
    },
    Tool {
        name: "entr loop",
        program: "entr",
        package: "entr",
        command: entr,
        afterwards: nothing,
    },
];

impl Tool {
    /// Whether it can take part; else why not.
    pub(crate) fn missing(&self) -> Option<String> {
        let found = self.program.is_empty() || which(self.program).is_some();
        (!found).then(|| format!("is not installed ({})", self.package))
    }

    /// Starts it and waits until it sees a file.
    pub(crate) fn start(&self, place: &Place) -> Running {
        let child = (self.command)(place)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .current_dir(&place.home)
            .process_group(0)
            .spawn()
            .unwrap();
        let running = Running { child };
        (self.afterwards)(place);
        let deadline = Instant::now() + Duration::from_secs(15);
        for n in 0.. {
            let name = format!("ready.{}.{n}", running.child.id());
            fs::write(place.inbox.join(&name), "ready").unwrap();
            std::thread::sleep(Duration::from_millis(100));
            let seen = fs::read_to_string(&place.log).unwrap_or_default();
            if seen.contains(&format!("ready.{}.", running.child.id())) {
                break;
            }
            assert!(Instant::now() < deadline, "{} saw nothing within 15 s", self.name);
        }
        running
    }
}

/// A contestant at work, with all that it started.
pub(crate) struct Running {
    child: Child,
}

impl Running {
    /// Sends a signal to all of it.
    pub(crate) fn signal(&self, signal: Signal) {
        let group = Pid::from_child(&self.child);
        kill_process_group(group, signal).unwrap();
    }

    /// Ends it as an operator would.
    pub(crate) fn stop(mut self) {
        self.signal(Signal::TERM);
        let deadline = Instant::now() + Duration::from_secs(5);
        while self.child.try_wait().unwrap().is_none() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        kill_process_group(Pid::from_child(&self.child), Signal::KILL).ok();
        self.child.wait().ok();
    }
}

fn which(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .chain([PathBuf::from("/usr/sbin")])
        .map(|dir| dir.join(program))
        .find(|file| file.is_file())
}

fn nothing(_: &Place) {}

fn shown(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn shell(script: &str, place: &Place) -> Command {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", script, "sh"]).args([&place.inbox, &place.record, &place.log]);
    command
}

fn dagd(place: &Place) -> Command {
    let config = format!(
        "[daemon]\nstate_dir = \"state\"\nruntime_dir = \"run\"\nmax_parallel = 2\n\
         [tasks.record]\ncommand = [\"{}\", \"{}\", \"{{path}}\"]\n\
         [triggers.in]\ndrop = \"{}\"\nrecursive = true\ninitial_max = 1000000\nrun = \"record\"\n",
        shown(&place.record),
        shown(&place.log),
        shown(&place.inbox),
    );
    fs::write(place.home.join("dagd.toml"), config).unwrap();
    let mut command = Command::new(&place.dagd);
    command.args(["run", "--config"]).arg(place.home.join("dagd.toml"));
    command
}

fn inotifywait(place: &Place) -> Command {
    let script = "inotifywait -m -r -q -e close_write -e moved_to --format '%w%f' \"$1\" |
        while IFS= read -r file; do \"$2\" \"$3\" \"$file\"; done";
    shell(script, place)
}

fn incron(place: &Place) -> Command {
    let tables = place.home.join("tables");
    fs::create_dir_all(&tables).unwrap();
    let [inbox, record, log] = [&place.inbox, &place.record, &place.log].map(|p| shown(p));
    // Without IN_CREATE it does not follow new folders.
    let mask = "IN_CLOSE_WRITE,IN_MOVED_TO,IN_CREATE";
    fs::write(tables.join("in"), format!("{inbox} {mask} {record} {log} $@/$#\n")).unwrap();
    let home = shown(&place.home);
    let config = format!(
        "system_table_dir = {home}/tables\nuser_table_dir = {home}/none\nlockfile_dir = {home}\n\
         lockfile_name = incrond\n"
    );
    fs::write(place.home.join("incron.conf"), config).unwrap();
    fs::create_dir_all(place.home.join("none")).unwrap();
    let mut command = Command::new(which("incrond").unwrap());
    command.args(["-n", "-f"]).arg(place.home.join("incron.conf"));
    command
}

fn direvent(place: &Place) -> Command {
    let [inbox, record, log] = [&place.inbox, &place.record, &place.log].map(|p| shown(p));
    // Without `create` it does not follow new folders.
    let config = format!(
        "watcher {{\n  path \"{inbox}\" recursive;\n  event (create, CLOSE_WRITE, MOVED_TO);\n  \
         command \"{record} {log} ${{file}}\";\n}}\n"
    );
    fs::write(place.home.join("direvent.conf"), config).unwrap();
    let mut command = Command::new("direvent");
    command.arg("-f").arg(place.home.join("direvent.conf"));
    command
}

fn watchexec(place: &Place) -> Command {
    let mut command = Command::new("watchexec");
    command
        .args(["--no-vcs-ignore", "--no-global-ignore", "--postpone", "--on-busy-update=queue"])
        .args(["--emit-events-to=stdio", "--watch"])
        .arg(&place.inbox)
        .arg("--")
        .args([&place.record, &place.log]);
    command
}

fn watchman(place: &Place) -> Command {
    let mut command = Command::new("watchman");
    command.args(watchman_options(place)).arg("--foreground");
    command.arg("--statefile").arg(place.home.join("watchman.state"));
    command.arg("--logfile").arg(place.home.join("watchman.log"));
    command
}

fn watchman_options(place: &Place) -> [std::ffi::OsString; 2] {
    ["--sockname".into(), place.home.join("watchman.sock").into_os_string()]
}

fn watchman_trigger(place: &Place) {
    let socket = place.home.join("watchman.sock");
    let deadline = Instant::now() + Duration::from_secs(10);
    while std::os::unix::net::UnixStream::connect(&socket).is_err() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(10));
    }
    let inbox = shown(&place.inbox);
    let trigger = format!(
        "[\"trigger\", \"{inbox}\", {{\"name\": \"record\", \"expression\": [\"type\", \"f\"], \
         \"stdin\": \"NAME_PER_LINE\", \"command\": [\"{}\", \"{}\"]}}]",
        shown(&place.record),
        shown(&place.log),
    );
    for order in [format!("[\"watch\", \"{inbox}\"]"), trigger] {
        let script = format!("printf '%s' '{order}' | watchman -U \"$1\" --no-spawn -j");
        let mut told = Command::new("/bin/sh");
        told.args(["-c", &script, "sh"]).arg(&socket);
        told.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
    }
}

fn entr(place: &Place) -> Command {
    // `-d` ends at a new file, so that the list is made anew; `/_` is the first file that changed.
    let script = "while :; do find \"$1\" -type f | entr -n -p -d \"$2\" \"$3\" /_; done";
    shell(script, place)
}
