//! The kernel's queue overflows: what was lost is found, once.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use dagd::io::watch::pulse::HUNG;

use crate::common::{is_root, skip};
use crate::world::{exactly, world};

const QUEUE: &str = "/proc/sys/fs/inotify/max_queued_events";

/// The kernel's queues are short for whoever asks for one now. A shell holds the setting, so that
/// it is put back however this process ends: then the shell's input ends.
struct ShortQueue(Option<Child>);

impl ShortQueue {
    fn set(events: u32) -> Self {
        let script = r#"
            old=$(cat "$1")
            trap '' INT TERM HUP
            echo "$2" > "$1"
            echo set
            read -r over
            echo "$old" > "$1""#;
        let mut command = Command::new("sh");
        command.args(["-c", script, "sh", QUEUE, &events.to_string()]);
        let mut shell = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(shell.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "set\n");
        Self(Some(shell))
    }
}

impl Drop for ShortQueue {
    fn drop(&mut self) {
        if let Some(mut shell) = self.0.take() {
            drop(shell.stdin.take());
            shell.wait().ok();
        }
    }
}

const TRIGGERS: &str = r#"
[triggers.many]
drop = "many"
recursive = true
fan_out = "batch"
settle = "200ms"
run = "batch"
[triggers.single]
drop = "single"
recursive = true
run = "each"
"#;

/// Writes the files with the numbers `from..to` of a tree, 250 in a directory, which is made when
/// its first file is.
fn write(top: &Path, from: usize, to: usize, wanted: &mut Vec<String>) {
    for n in from..to {
        let dir = format!("d{}/{}", n / 1000, n / 250);
        if n % 250 == 0 || n == from {
            fs::create_dir_all(top.join(&dir)).unwrap();
        }
        fs::write(top.join(&dir).join(format!("f{n}")), "x").unwrap();
        wanted.push(format!("{}/{dir}/f{n}", top.file_name().unwrap().to_str().unwrap()));
    }
}

#[test]
fn fifty_thousand_files_over_a_queue_of_sixteen() {
    if !is_root() {
        return skip("the kernel's queue can be made short by root only");
    }
    let mut env = world(TRIGGERS);
    let (many, single) = (env.mkdir("many"), env.mkdir("single"));
    env.start_alone(|| ShortQueue::set(16));
    let mut wanted = Vec::new();
    write(&many, 0, 10_000, &mut wanted);
    write(&single, 0, 500, &mut wanted);
    env.wait("an overflow", || env.counter("overflows") > 0);
    env.signal(libc::SIGSTOP);
    write(&many, 10_000, 35_000, &mut wanted);
    write(&single, 500, 1_500, &mut wanted);
    env.signal(libc::SIGCONT);
    write(&single, 1_500, 2_000, &mut wanted);
    write(&many, 35_000, 48_000, &mut wanted);
    exactly(&env, &wanted);

    // Whatever directory was born in between is covered all the same.
    let dirs: std::collections::BTreeSet<String> =
        wanted.iter().map(|file| file.rsplit_once('/').unwrap().0.to_owned()).collect();
    for dir in &dirs {
        fs::write(env.at(dir).join("late"), "x").unwrap();
    }
    wanted.extend(dirs.iter().map(|dir| format!("{dir}/late")));
    exactly(&env, &wanted);

    // A second start finds nothing.
    assert!(env.stop());
    env.start();
    fs::write(many.join("marker"), "x").unwrap();
    wanted.push("many/marker".to_owned());
    exactly(&env, &wanted);
}

#[test]
fn a_daemon_that_was_stopped_blames_no_folder() {
    let mut env = world(TRIGGERS);
    let many = env.mkdir("many");
    env.mkdir("single");
    let mut wanted = Vec::new();
    write(&many, 0, 9_000, &mut wanted);
    env.start();
    // It has begun to look at them. Not it, but a folder that took that long would be a fault.
    env.signal(libc::SIGSTOP);
    std::thread::sleep(HUNG + std::time::Duration::from_secs(2));
    env.signal(libc::SIGCONT);
    exactly(&env, &wanted);
    assert!(!env.log().contains("does not answer"), "{}", env.log());
}
