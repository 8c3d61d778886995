//! A reload asks anew whether a file is complete: what the old configuration was content with
//! delivers nothing under the new one.

use std::fs::{self, File};
use std::io::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::common::Env;

/// The task tells whether it got the whole file. It waits for `go`.
const TASK: &str = r#"
[tasks.t]
shell = """
until [ -e go ]; do sleep 0.02; done
if grep -q whole "$DAGD_PATH"; then echo "whole $DAGD_REL"; else echo "half $DAGD_REL"; fi >> told
"""
cwd = "{dir}"
"#;

fn config(rest: &str) -> String {
    format!("{TASK}[triggers.in]\ndrop = \"in\"\nrun = \"t\"\n{rest}")
}

fn told(env: &Env) -> Vec<String> {
    let text = fs::read_to_string(env.at("told")).unwrap_or_default();
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

fn reload(env: &Env, rest: &str) {
    env.configure(&config(rest));
    env.hear();
    env.ok(&["reload"]);
}

/// A file that is half written, and still open.
fn begin(env: &Env, name: &str) -> File {
    let mut file = File::create(env.at("in").join(name)).unwrap();
    file.write_all(b"half\n").unwrap();
    file
}

fn end(mut file: File) {
    file.write_all(b"whole\n").unwrap();
}

fn whole(names: impl IntoIterator<Item = String>) -> Vec<String> {
    let mut lines: Vec<String> = names.into_iter().map(|name| format!("whole {name}")).collect();
    lines.sort();
    lines
}

/// How many wait because of their writer.
fn being_written(env: &Env) -> usize {
    let pending = env.json(&["pending"]);
    let entries = pending.as_array().unwrap().iter();
    entries.filter(|entry| entry["reason"].as_str().unwrap().starts_with("writer_open")).count()
}

#[test]
fn what_was_ready_without_a_lock_waits_for_its_writer_under_one() {
    let mut env = Env::new(&config("read_lock = \"none\"\nmax_runs = 1\n"));
    env.mkdir("in");
    env.start();
    end(begin(&env, "first"));
    env.wait("the first run", || env.json(&["status"])["live_runs"] == 1);
    // Ready under this configuration, and queued behind the first.
    let second = begin(&env, "second");
    env.wait("the second file", || env.json(&["status"])["triggers"][0]["queued"] == 1);
    reload(&env, "read_lock = \"auto\"\nmax_runs = 1\n");
    fs::write(env.at("go"), "").unwrap();
    env.await_ended(1);
    env.wait("the writer", || being_written(&env) == 1);
    assert_eq!(told(&env), ["whole first"]);
    end(second);
    env.await_ended(2);
    env.await_idle();
    assert_eq!(told(&env), ["whole first", "whole second"]);
}

#[test]
fn what_was_seen_before_a_reload_is_asked_again_after_it() {
    const FILES: usize = 100;
    // Nothing is ready before the reload; after it next to nothing but the lock keeps a file back.
    let patient = "read_lock = \"none\"\nsettle = \"1h\"\n";
    let strict = "read_lock = \"lease\"\nstability_threshold = \"1ms\"\n";
    let mut env = Env::new(&config(patient));
    env.mkdir("in");
    fs::write(env.at("go"), "").unwrap();
    env.start();
    let mut names = Vec::new();
    for round in 0..10 {
        if round > 0 {
            reload(&env, patient);
        }
        let name = |n| format!("{round}-{n}");
        let open: Vec<_> = (0..FILES).map(|n| (name(n), begin(&env, &name(n)))).collect();
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            // What is seen of them, again and again, is under way while the configuration changes.
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    for (name, _) in &open {
                        let path = env.at("in").join(name);
                        drop(File::options().append(true).open(path).unwrap());
                    }
                }
            });
            reload(&env, strict);
            over.store(true, Ordering::Relaxed);
        });
        env.wait("the writers", || {
            assert_eq!(told(&env), whole(names.clone()), "half files in round {round}");
            being_written(&env) == FILES
        });
        for (name, file) in open {
            end(file);
            names.push(name);
        }
        env.await_ended(names.len() as u64);
        env.await_idle();
        assert_eq!(told(&env), whole(names.clone()));
    }
}
