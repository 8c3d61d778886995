//! When a file or a folder is ready: done files, sizes, ages, results of instruments, alarms. A real
//! daemon, real files, real writers; and the watch thread alone, where limits have to be small.

#![expect(clippy::unwrap_used, reason = "a test ends at the first thing that goes wrong")]

#[path = "watch/bench.rs"]
#[expect(dead_code, reason = "a part of the bench is enough here")]
mod bench;
#[expect(dead_code, reason = "a part of the harness is enough here")]
mod common;
#[path = "readiness/done.rs"]
mod done;
#[path = "readiness/floods.rs"]
mod floods;
#[path = "readiness/folders.rs"]
mod folders;
#[path = "readiness/waits.rs"]
mod waits;

use std::fs;
use std::io::Write as _;
use std::process::{Child, ChildStdin, Command, Stdio};

use common::Env;
use serde_json::Value;

/// A daemon over `inbox`, whose task keeps what it was given in `out/RUN`: the file, or a list of
/// the folder's files with their checksums.
fn env(keys: &str) -> Env {
    let config = format!(
        r#"
[tasks.keep]
shell = '''
if [ -d "$DAGD_PATH" ]
then cd "$DAGD_PATH"; find . -type f -exec cksum {{}} + | sort -k 3 > "$OUT/$DAGD_RUN.tmp"
else cp "$DAGD_PATH" "$OUT/$DAGD_RUN.tmp"
fi
mv "$OUT/$DAGD_RUN.tmp" "$OUT/$DAGD_RUN"
'''
env = {{ OUT = "{{dir}}/out" }}
[triggers.in]
drop = "inbox"
run = "keep"
{keys}
"#
    );
    let env = Env::new(&config);
    env.mkdir("inbox");
    env.mkdir("out");
    env
}

impl Env {
    fn put(&self, rel: &str, content: &str) {
        let path = self.at("inbox").join(rel);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// What the task of a run was given.
    fn kept(&self, run: &Value) -> String {
        fs::read_to_string(self.at("out").join(run["id"].to_string())).unwrap()
    }

    /// The paths that were delivered, in the order of their runs.
    fn delivered(&self) -> Vec<String> {
        let mut runs = self.runs();
        runs.reverse();
        let files = runs.iter().flat_map(|run| run["files"].as_array().unwrap().clone());
        files.map(|file| file["rel"].as_str().unwrap().to_owned()).collect()
    }

    /// Waits until a path waits for this reason, and nothing has run for it.
    fn await_pending(&self, rel: &str, reason: &str) -> String {
        let path = self.at("inbox").join(rel).to_str().unwrap().to_owned();
        let why = || {
            let pending = self.json(&["pending"]);
            let entry = pending.as_array().unwrap().iter().find(|e| e["file"]["path"] == path);
            entry.map(|entry| entry["reason"].as_str().unwrap().to_owned())
        };
        self.wait(&format!("{rel} to wait: {reason}"), || {
            why().is_some_and(|why| why.starts_with(reason))
        });
        assert!(!self.delivered().contains(&rel.to_owned()), "{rel} waits");
        why().unwrap_or_default()
    }

    fn explained(&self, rel: &str) -> (String, String) {
        let path = self.at("inbox").join(rel);
        let output = self.json(&["explain", path.to_str().unwrap()]);
        let told = &output["triggers"][0];
        (told["verdict"].as_str().unwrap().to_owned(), told["text"].as_str().unwrap().to_owned())
    }
}

/// A writer: a shell that does what it is told, a line at a time.
struct Writer {
    child: Child,
    lines: Option<ChildStdin>,
    said: std::io::BufReader<std::process::ChildStdout>,
}

impl Writer {
    fn new(env: &Env) -> Self {
        let mut child = Command::new("sh")
            .arg("-e")
            .current_dir(env.at("inbox"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (lines, said) = (child.stdin.take(), child.stdout.take().unwrap());
        Self { child, lines, said: std::io::BufReader::new(said) }
    }

    /// Has it done, when this returns.
    fn tell(&mut self, line: &str) {
        let lines = self.lines.as_mut().unwrap();
        writeln!(lines, "{line}\necho did").unwrap();
        let mut did = String::new();
        std::io::BufRead::read_line(&mut self.said, &mut did).unwrap();
        assert_eq!(did, "did\n", "{line}");
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        drop(self.lines.take());
        self.child.wait().unwrap();
    }
}
