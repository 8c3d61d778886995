//! What a real daemon logs, in each form that it can: for people, as JSON, as entries of a journal
//! that a socket of the test stands for.

#![expect(clippy::unwrap_used, reason = "a test ends at the first thing that goes wrong")]

#[expect(dead_code, reason = "a part of the harness is enough here")]
mod common;

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};

use common::{Env, PATIENCE, is_root, skip, through};
use serde_json::Value;

/// Files of which those that are called `bad` fail.
const CONFIG: &str = r#"
[tasks.check]
shell = "test \"${DAGD_PATH%bad}\" = \"$DAGD_PATH\""
[triggers.in]
drop = "inbox"
run = "check"
"#;

type Entry = BTreeMap<String, String>;

/// Reads an entry as the journal does: `NAME=value`, or the name, a length and the value.
fn decoded(mut bytes: &[u8]) -> Entry {
    let mut entry = Entry::new();
    while !bytes.is_empty() {
        let line = bytes.iter().position(|&b| b == b'\n').unwrap();
        let (name, value);
        if let Some(equals) = bytes[..line].iter().position(|&b| b == b'=') {
            (name, value) = (&bytes[..equals], &bytes[equals + 1..line]);
            bytes = &bytes[line + 1..];
        } else {
            let (length, rest) = bytes[line + 1..].split_first_chunk().unwrap();
            let length = usize::try_from(u64::from_le_bytes(*length)).unwrap();
            (name, value) = (&bytes[..line], &rest[..length]);
            assert_eq!(rest[length], b'\n');
            bytes = &rest[length + 1..];
        }
        let name = String::from_utf8(name.to_vec()).unwrap();
        let fine = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_';
        assert!(name.bytes().all(fine) && !name.starts_with('_'), "{name}");
        assert_eq!(entry.insert(name, String::from_utf8(value.to_vec()).unwrap()), None);
    }
    entry
}

/// A socket at which a daemon believes the journal to be.
struct Journal(UnixDatagram);

impl Journal {
    fn bind(env: &Env) -> Option<Self> {
        if !is_root() {
            skip("to stand for the journal's socket needs root");
            return None;
        }
        let socket = UnixDatagram::bind(env.at("journal")).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Some(Self(socket))
    }

    /// `dagd run` with this journal in the place of the machine's.
    fn dagd(env: &Env, args: &[&str]) -> Command {
        let script = r#"
            mount -t tmpfs none /run
            mkdir -p /run/systemd/journal
            touch /run/systemd/journal/socket
            mount --bind "$0" /run/systemd/journal/socket
            exec "$@"
        "#;
        let socket = env.at("journal").display().to_string();
        let around = ["unshare", "-m", "sh", "-ec", script, &socket];
        through(&around, &env.command(&[&["run"], args].concat()))
    }

    fn next(&self) -> Entry {
        let mut buffer = vec![0; 1 << 20];
        let length = self.0.recv(&mut buffer).unwrap();
        decoded(&buffer[..length])
    }

    /// The next entry whose message begins like this.
    fn wait(&self, message: &str) -> Entry {
        loop {
            let entry = self.next();
            if entry["MESSAGE"].starts_with(message) {
                return entry;
            }
        }
    }
}

/// What the service manager tells of a standard error that leads to the journal.
fn stream(env: &Env) -> String {
    let log = fs::File::create(env.at("daemon.log")).unwrap().metadata().unwrap();
    format!("{}:{}", log.dev(), log.ino())
}

#[test]
fn the_journal_is_told_of_which_run_task_and_trigger_a_line_is() {
    let mut env = Env::new(CONFIG);
    env.mkdir("inbox");
    let Some(journal) = Journal::bind(&env) else { return };
    env.spawn(Journal::dagd(&env, &[]).env("JOURNAL_STREAM", stream(&env)));
    env.await_ready();
    fs::write(env.at("inbox/bad"), "x").unwrap();
    let failed = journal.wait("task failed");
    let has = |entry: &Entry, fields: &[(&str, &str)]| {
        for (name, value) in fields {
            assert_eq!(entry.get(*name).map(String::as_str), Some(*value), "{entry:?}");
        }
    };
    let about = [("DAGD_RUN", "1"), ("DAGD_TRIGGER", "in"), ("SYSLOG_IDENTIFIER", "dagd")];
    has(&failed, &about);
    has(&failed, &[("DAGD_TASK", "check"), ("DAGD_ATTEMPT", "1"), ("DAGD_WHY", "exit code 1")]);
    has(&failed, &[("PRIORITY", "4"), ("CODE_FILE", "src/daemon/tell.rs")]);
    assert!(failed["CODE_LINE"].parse::<u32>().is_ok());
    assert!(failed["MESSAGE"].contains("run=1 task=check"), "{failed:?}");
    let ended = journal.wait("run failed");
    has(&ended, &about);
    // What has several lines arrives whole.
    fs::write(env.at("dagd.toml"), "[tasks.a]\ncommand = []\nneeds = [\"b\"]\n").unwrap();
    env.signal(1);
    let refused = journal.wait("reload failed");
    assert!(refused["MESSAGE"].lines().count() > 5, "{refused:?}");
    assert_eq!(env.log().lines().count(), 1, "nothing is said twice: {}", env.log());
    assert!(env.stop());
}

#[test]
fn a_journal_that_is_stopped_stops_nothing() {
    const FILES: usize = 400;
    let mut env = Env::new(CONFIG);
    env.mkdir("inbox");
    let Some(journal) = Journal::bind(&env) else { return };
    let mut dagd = Journal::dagd(&env, &["--log", "debug", "--log-format", "journal"]);
    env.spawn(&mut dagd);
    env.await_ready();
    for number in 0..FILES {
        fs::write(env.at(&format!("inbox/{number}")), "x").unwrap();
    }
    env.await_ended(FILES as u64);
    // Nobody has read so far; now somebody does.
    journal.0.set_nonblocking(true).unwrap();
    let mut buffer = vec![0; 1 << 20];
    let taken = std::iter::from_fn(|| journal.0.recv(&mut buffer).ok()).count();
    assert!(taken < 4 * FILES, "the test wants a queue that is full: {taken} entries");
    journal.0.set_nonblocking(false).unwrap();
    env.ok(&["reload"]);
    let notice = journal.wait("the journal did not take ");
    let lost: usize = notice["MESSAGE"].split(' ').nth(5).unwrap().parse().unwrap();
    assert!(lost + taken >= 4 * FILES, "{lost} + {taken}");
    journal.wait("reloading ");
    assert!(env.stop());
}

#[test]
fn another_stream_is_not_the_journal() {
    let mut env = Env::new(CONFIG);
    env.mkdir("inbox");
    let Some(_journal) = Journal::bind(&env) else { return };
    env.spawn(Journal::dagd(&env, &[]).env("JOURNAL_STREAM", "1:2"));
    env.await_ready();
    env.wait("a line for people", || env.log().contains("INFO watching triggers=1\n"));
    assert!(env.stop());
    // Where it is asked for and is not there, nothing starts.
    let output = env.run(&["run", "--log-format", "journal"]);
    if !std::path::Path::new("/run/systemd/journal/socket").exists() {
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(error.contains("no journal to log to: /run/systemd/journal/socket: "), "{error}");
        assert_eq!(output.status.code(), Some(1));
    }
}

#[test]
fn json_is_an_object_a_line() {
    let mut env = Env::new(CONFIG);
    env.mkdir("inbox");
    env.spawn(&mut env.command(&["run", "--log-format", "json"]));
    env.await_ready();
    fs::write(env.at("inbox/bad"), "x").unwrap();
    env.await_ended(1);
    assert!(env.stop());
    let log = env.log();
    // What `run` prints for who started it is no part of the log.
    let lines = log.lines().filter(|line| !line.starts_with("dagd is watching"));
    let lines: Vec<Value> = lines.map(|line| serde_json::from_str(line).unwrap()).collect();
    let failed = lines.iter().find(|line| line["message"] == "task failed").unwrap();
    assert_eq!(failed["level"], "warn");
    assert!(failed["time"].as_str().unwrap().ends_with('Z'));
    let about = [&failed["run"], &failed["task"], &failed["attempt"], &failed["trigger"]];
    assert_eq!(about, [&Value::from(1), &"check".into(), &1.into(), &"in".into()]);
    let line = log.lines().find(|line| line.contains("run failed")).unwrap();
    assert!(line.starts_with("{\"time\":\""), "{line}");
}

/// A pipe that is full: what reads it, and what is to be written to.
fn full_pipe() -> (fs::File, fs::File) {
    let (read, write) = rustix::pipe::pipe().unwrap();
    rustix::io::ioctl_fionbio(&write, true).unwrap();
    while rustix::io::write(&write, &[b'.'; 4096]).is_ok() {}
    while rustix::io::write(&write, b".").is_ok() {}
    rustix::io::ioctl_fionbio(&write, false).unwrap();
    (read.into(), write.into())
}

#[test]
fn a_reader_that_takes_nothing_stops_nothing_and_hears_what_it_missed() {
    // Several lines each: more than may wait.
    const FILES: usize = 1200;
    let mut env = Env::new(&CONFIG.replace("shell = ", "command = [\"true\"] # "));
    env.mkdir("inbox");
    let (read, write) = full_pipe();
    // As `2>&1 | less` does it.
    let mut dagd = env.command(&["run", "--log", "debug", "--log-format", "text"]);
    env.spawn_to(&mut dagd, write);
    env.await_ready();
    for number in 0..FILES {
        fs::write(env.at(&format!("inbox/{number}")), "x").unwrap();
    }
    env.await_ended(FILES as u64);
    env.ok(&["reload"]);
    // Now somebody reads, and nothing more is logged.
    let mut lines = BufReader::new(read).lines().map(Result::unwrap);
    let told = lines.find(|line| line.contains("WARN standard error did not take ")).unwrap();
    let lost = told.split(' ').rev().nth(4).unwrap();
    assert!(lost.parse::<u64>().unwrap() > 0, "{told}");
    env.signal(15);
    // The last lines come before the end.
    let rest: Vec<_> = lines.collect();
    assert!(rest.iter().any(|line| line.contains("INFO stopped")), "{rest:?}");
    assert!(env.await_end().success());
}

#[test]
fn a_daemon_ends_although_nobody_takes_its_last_lines() {
    let mut env = Env::new(CONFIG);
    env.mkdir("inbox");
    let (read, write) = full_pipe();
    let mut dagd = env.command(&["run", "--log-format", "json"]);
    env.spawn_to(&mut dagd, write);
    env.await_ready();
    fs::write(env.at("inbox/bad"), "x").unwrap();
    env.await_ended(1);
    assert!(env.stop());
    drop(read);
}

#[test]
fn the_last_lines_of_a_short_life_are_read() {
    let env = Env::new(CONFIG);
    env.mkdir("inbox");
    fs::write(env.at("inbox/bad"), "x").unwrap();
    for form in ["text", "json"] {
        // Standard error is a pipe.
        let mut dagd = env.command(&["run", "--log-format", form]);
        dagd.stdout(Stdio::piped()).stderr(Stdio::piped());
        let dagd = dagd.spawn().unwrap();
        env.wait("an answer", || env.run(&["status"]).status.success());
        env.ok(&["stop"]);
        let output = dagd.wait_with_output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let log = String::from_utf8(output.stderr).unwrap();
        assert!(log.lines().last().unwrap().contains("stopped"), "{log}");
    }
}

#[test]
fn a_service_manager_that_hears_nothing_stops_nothing() {
    let mut env = Env::new(CONFIG);
    env.mkdir("inbox");
    env.start();
    // More than may wait, each with two words.
    let queue = fs::read_to_string("/proc/sys/net/unix/max_dgram_qlen").unwrap();
    let reloads = queue.trim().parse::<u64>().unwrap().min(300) + 5;
    for _ in 0..reloads {
        env.ok(&["reload"]);
    }
    fs::write(env.at("inbox/bad"), "x").unwrap();
    env.await_ended(1);
    // Each reload is told from its beginning to its end as soon as there is room.
    let heard: Vec<String> = (0..2 * reloads).map(|_| env.next_word()).collect();
    for pair in heard.chunks(2) {
        assert!(pair[0].starts_with("RELOADING=1\n"), "{heard:?}");
        assert!(pair[1].starts_with("READY=1\n"), "{heard:?}");
    }
    env.signal(15);
    assert!(env.next_word().starts_with("STOPPING=1\n"));
    assert!(env.await_end().success());
}
