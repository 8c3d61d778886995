//! Runs that cause each other are braked, and nothing else is.

#![expect(clippy::unwrap_used, reason = "a test ends at the first thing that goes wrong")]

#[allow(dead_code, reason = "each test uses its own part of the harness")]
mod common;

use std::fs;
use std::process::Command;

use common::Env;

/// Whether `status` says that a trigger's runs seem to cause each other.
fn is_braked(env: &Env, trigger: &str) -> bool {
    let status = env.json(&["status"]);
    let problems = status["problems"].as_array().unwrap();
    let told = format!("trigger {trigger}: runs seem to write");
    problems.iter().any(|problem| problem.as_str().unwrap().starts_with(&told))
}

fn runs_of(env: &Env, trigger: &str) -> usize {
    env.runs().iter().filter(|run| run["trigger"] == trigger).count()
}

#[test]
fn a_task_that_changes_its_own_input_is_braked_and_others_are_not() {
    let mut env = Env::new(
        "[tasks.t]\nshell = \"echo more >> \\\"$DAGD_PATH\\\"\"\n\
         [tasks.fine]\ncommand = [\"true\"]\n\
         [triggers.in]\ndrop = \"in\"\nrun = \"t\"\nmax_hops = 5\n",
    );
    env.mkdir("in");
    env.start();
    fs::write(env.at("in/a"), "a").unwrap();
    env.wait("the brake", || is_braked(&env, "in"));
    // The first run, and five that it caused one after the other.
    assert_eq!(runs_of(&env, "in"), 6);
    let pending = env.json(&["pending"]);
    assert_eq!(pending[0]["reason"].as_str().unwrap().split(':').next(), Some("loop_suspected"));
    fs::write(env.at("in/b"), "b").unwrap();
    env.wait("the other file's row", || runs_of(&env, "in") == 12);
    assert!(env.ok(&["explain", "in/a"]).contains("max_hops"));
    env.ok(&["resume", "in"]);
    env.wait("both rows once more", || runs_of(&env, "in") == 24);
    assert!(env.stop());
}

#[test]
fn a_ring_of_two_triggers_is_braked() {
    let mut env = Env::new(
        "[tasks.there]\nshell = \"cp $DAGD_PATH {dir}/b/\"\n\
         [tasks.back]\nshell = \"cp $DAGD_PATH {dir}/a/\"\n\
         [triggers.a]\ndrop = \"a\"\nrun = \"there\"\nmax_hops = 4\n\
         [triggers.b]\ndrop = \"b\"\nrun = \"back\"\nmax_hops = 4\n",
    );
    env.mkdir("a");
    env.mkdir("b");
    env.start();
    fs::write(env.at("a/x"), "x").unwrap();
    env.wait("the brake", || is_braked(&env, "a") || is_braked(&env, "b"));
    assert_eq!(env.runs().len(), 10, "it came back to each four times, and once more to the first");
    assert!(env.stop());
}

#[test]
fn what_is_declared_as_output_starts_nothing() {
    let mut env = Env::new(
        "[tasks.t]\nshell = \"mkdir -p {dir}/in/out; echo x > {dir}/in/out/x; echo y > {dir}/in/y.o\"\n\
         outputs = [\"in/out\", \"in/*.o\"]\n\
         [triggers.in]\nwatch = \"in\"\nrun = \"t\"\n",
    );
    env.mkdir("in");
    env.start();
    fs::write(env.at("in/a"), "a").unwrap();
    env.await_ended(1);
    assert!(env.at("in/y.o").exists());
    fs::write(env.at("in/b"), "b").unwrap();
    env.await_ended(2);
    env.await_idle();
    assert_eq!(env.runs().len(), 2);
    assert!(env.ok(&["explain", "in/out/x"]).contains("outputs"));
    assert!(env.stop());
}

#[test]
fn a_folder_of_a_task_under_a_root_is_warned_of() {
    let env = Env::new(
        "[tasks.t]\ncommand = [\"true\"]\ncwd = \"{dir}/in/sub\"\n\
         [triggers.in]\nwatch = \"in\"\nrun = \"t\"\n",
    );
    env.mkdir("in");
    let told = env.ok(&["check"]);
    assert!(told.contains("warning: task `t` works in"), "{told}");
    assert!(told.contains("outputs"), "{told}");
}

/// Names that look alike are no row: parts of an archive, one name in many folders, a name that
/// comes again after its run.
#[test]
fn floods_of_names_that_look_alike_are_not_braked() {
    let mut env = Env::new(
        "[tasks.t]\nshell = \"sleep 0.02; echo $DAGD_REL >> {dir}/seen\"\n\
         [triggers.in]\ndrop = \"in\"\nrecursive = true\nrun = \"t\"\nmax_hops = 2\n",
    );
    env.mkdir("in");
    env.start();
    let made = Command::new("sh")
        .args([
            "-c",
            "for n in $(seq 60); do mkdir d$n; echo x > d$n/result.csv; echo x > part.$n; \
                      echo x > f$n; done",
        ])
        .current_dir(env.at("in"))
        .status()
        .unwrap();
    assert!(made.success());
    env.await_ended(180);
    let seen = fs::read_to_string(env.at("seen")).unwrap();
    let mut names: Vec<&str> = seen.lines().collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!((seen.lines().count(), names.len()), (180, 180));
    assert!(!is_braked(&env, "in"));
    assert!(env.stop());
}
