//! What happens to work while a run is alive: every policy, for files and for signals.

use std::fs;

use crate::common::Env;

/// Waits in `$DAGD_RUN`'s gate; tells when it begins, is told to end, and ends.
const GATED: &str = r#"
[daemon]
max_parallel = 8
[tasks.t]
shell = "trap 'echo TERM $DAGD_RUN $DAGD_REL >> log; exit 3' TERM; trap 'echo HUP $DAGD_RUN >> log' HUP; echo S $DAGD_RUN $DAGD_REL >> log; until [ -e go ] || [ -e go.$DAGD_RUN ]; do sleep 0.02 || :; done; echo E $DAGD_RUN $DAGD_REL >> log"
cwd = "{dir}"
"#;

fn gated(trigger: &str) -> Env {
    let mut env = Env::new(&format!("{GATED}{trigger}"));
    env.mkdir("inbox");
    env.start();
    env
}

fn log(env: &Env) -> Vec<String> {
    let text = fs::read_to_string(env.at("log")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

fn await_line(env: &Env, line: &str) {
    env.wait(line, || log(env).iter().any(|found| found == line));
}

fn put(env: &Env, name: &str) {
    fs::write(env.at("inbox").join(name), name).unwrap();
}

fn open(env: &Env, gate: &str) {
    fs::write(env.at(gate), "").unwrap();
}

/// Waits until the daemon has counted `n` under `name`.
fn await_count(env: &Env, name: &str, n: u64) {
    env.wait(&format!("{name} = {n}"), || env.counter(name) >= n);
}

fn queued(env: &Env) -> u64 {
    env.json(&["status"])["triggers"][0]["queued"].as_u64().unwrap()
}

#[test]
fn files_of_one_key_go_one_after_the_other() {
    let env = gated(
        "[triggers.in]\ndrop = \"inbox\"\nrun = \"t\"\norder_key = \"{stem}\"\nmove_failed = \"failed/\"\n",
    );
    put(&env, "a.1");
    await_line(&env, "S 1 a.1");
    put(&env, "a.2");
    env.wait("the second", || queued(&env) == 1);
    put(&env, "a.3");
    env.wait("the third", || queued(&env) == 2);
    put(&env, "b.1");
    await_line(&env, "S 2 b.1");
    assert_eq!(log(&env).len(), 2, "another key does not wait, the same does");
    // One that fails does not block its key.
    env.ok(&["cancel", "1"]);
    await_line(&env, "S 3 a.2");
    open(&env, "go.3");
    await_line(&env, "S 4 a.3");
    open(&env, "go");
    env.await_ended(4);
    let lines = log(&env);
    let at = |line: &str| lines.iter().position(|found| found == line).unwrap();
    assert!(at("TERM 1 a.1") < at("S 3 a.2") && at("E 3 a.2") < at("S 4 a.3"), "{lines:?}");
    assert_eq!(lines.len(), 8, "{lines:?}");
}

#[test]
fn files_that_are_no_work_are_noted_and_counted() {
    let env = gated(
        "[triggers.in]\ndrop = \"inbox\"\nrun = \"t\"\norder_key = \"{stem}\"\n\
         on_overlap = \"skip\"\nallow_loss = true\nkinds = [\"created\"]\n",
    );
    put(&env, "a.1");
    await_line(&env, "S 1 a.1");
    put(&env, "a.2");
    await_count(&env, "files_noted_skipped", 1);
    open(&env, "go");
    env.await_ended(1);
    // Delivered once, changed since.
    fs::write(env.at("inbox/a.1"), "changed").unwrap();
    await_count(&env, "files_noted_kinds", 1);
    put(&env, "a.3");
    env.await_ended(2);
    env.await_idle();
    assert_eq!((env.counter("files_noted"), env.runs().len()), (2, 2));
}

#[test]
fn files_that_are_passed_on_as_signals_are_noted_and_counted() {
    let env = gated(
        "[triggers.in]\ndrop = \"inbox\"\nrun = \"t\"\norder_key = \"{stem}\"\n\
         on_overlap = \"signal\"\noverlap_signal = \"SIGHUP\"\n",
    );
    put(&env, "a.1");
    await_line(&env, "S 1 a.1");
    put(&env, "a.2");
    await_line(&env, "HUP 1");
    await_count(&env, "files_noted_signalled", 1);
    open(&env, "go");
    env.await_ended(1);
    env.await_idle();
    assert_eq!((env.counter("files_noted"), env.runs().len()), (1, 1));
}

#[test]
fn files_wait_for_room_up_to_max_runs() {
    let env = gated("[triggers.in]\ndrop = \"inbox\"\nrun = \"t\"\nmax_runs = 2\n");
    for name in ["a", "b", "c", "d"] {
        put(&env, name);
    }
    env.wait("two at work and two in line", || log(&env).len() == 2 && queued(&env) == 2);
    open(&env, "go.1");
    env.wait("the next", || log(&env).len() == 4);
    assert_eq!(queued(&env), 1);
    open(&env, "go");
    env.await_ended(4);
    env.await_idle();
    assert_eq!(env.runs().len(), 4);
}

#[test]
fn files_restart_what_runs_of_their_key_and_none_is_lost() {
    let env = gated(
        "[triggers.in]\ndrop = \"inbox\"\nrun = \"t\"\non_overlap = \"restart\"\norder_key = \"{stem}\"\n",
    );
    put(&env, "a.1");
    await_line(&env, "S 1 a.1");
    put(&env, "b.1");
    await_line(&env, "S 2 b.1");
    put(&env, "a.2");
    await_line(&env, "TERM 1 a.1");
    await_line(&env, "S 3 a.2");
    assert_eq!(env.json(&["show", "1"])["state"], "cancelled");
    open(&env, "go");
    env.await_idle();
    let lines = log(&env);
    for name in ["a.1", "a.2", "b.1"] {
        let ends = lines.iter().filter(|line| line.starts_with('E') && line.ends_with(name));
        assert_eq!(ends.count(), 1, "{name}: {lines:?}");
    }
}

#[test]
fn files_are_skipped_only_with_leave() {
    let env = gated(
        "[triggers.in]\ndrop = \"inbox\"\nrun = \"t\"\non_overlap = \"skip\"\nallow_loss = true\n",
    );
    put(&env, "a");
    await_line(&env, "S 1 a");
    put(&env, "b");
    env.wait("the skip", || env.counter("files_noted") + env.counter("events_dropped") >= 1);
    open(&env, "go");
    env.await_ended(1);
    put(&env, "c");
    await_line(&env, "E 2 c");
    env.await_idle();
    assert_eq!(env.runs().len(), 2);
    let skipped = env.ok(&["explain", env.at("inbox/b").to_str().unwrap()]);
    assert!(skipped.contains("without a run") || skipped.contains("skip"), "{skipped}");
}

#[test]
fn files_tell_who_runs_and_wait() {
    let env = gated(
        "[triggers.in]\ndrop = \"inbox\"\nrun = \"t\"\non_overlap = \"signal\"\noverlap_signal = \"SIGHUP\"\nallow_loss = true\n",
    );
    put(&env, "a");
    await_line(&env, "S 1 a");
    put(&env, "b");
    await_line(&env, "HUP 1");
    open(&env, "go");
    env.await_idle();
    assert_eq!(env.json(&["show", "1"])["state"], "succeeded");
}

#[test]
fn files_run_side_by_side() {
    let env = gated("[triggers.in]\ndrop = \"inbox\"\nrun = \"t\"\non_overlap = \"parallel\"\n");
    for name in ["a", "b", "c", "d", "e"] {
        put(&env, name);
    }
    env.wait("all at once", || log(&env).len() == 5);
    open(&env, "go");
    env.await_ended(5);
}

fn signals(policy: &str) -> Env {
    let env = gated(&format!("[triggers.s]\nsignal = \"SIGUSR1\"\nrun = \"t\"\n{policy}\n"));
    env.signal(10);
    await_line(&env, "S 1");
    env
}

/// Sends further signals, each once the one before has been seen.
fn more(env: &Env, n: u64) {
    for seen in 2..2 + n {
        env.signal(10);
        await_count(env, "events_accepted", seen);
    }
}

#[test]
fn signals_queue() {
    let env = signals("on_overlap = \"queue\"");
    more(&env, 3);
    assert_eq!((queued(&env), log(&env).len()), (3, 1));
    open(&env, "go");
    env.await_ended(4);
    env.await_idle();
    let wanted: Vec<String> = (1..=4).flat_map(|n| [format!("S {n}"), format!("E {n}")]).collect();
    assert_eq!(log(&env), wanted);
}

#[test]
fn signals_coalesce() {
    let env = signals("on_overlap = \"coalesce\"");
    more(&env, 3);
    open(&env, "go");
    env.await_idle();
    assert_eq!(log(&env), ["S 1", "E 1", "S 2", "E 2"], "one follow-up for all");
}

#[test]
fn signals_run_side_by_side() {
    let env = signals("on_overlap = \"parallel\"");
    more(&env, 3);
    env.wait("all at once", || log(&env).len() == 4);
    open(&env, "go");
    env.await_ended(4);
}

#[test]
fn signals_restart() {
    let env = signals("on_overlap = \"restart\"");
    more(&env, 1);
    await_line(&env, "S 2");
    open(&env, "go");
    env.await_idle();
    assert_eq!(log(&env), ["S 1", "TERM 1", "S 2", "E 2"]);
    assert_eq!(env.json(&["show", "1"])["state"], "cancelled");
    assert_eq!(env.json(&["show", "2"])["state"], "succeeded");
}

#[test]
fn signals_are_skipped() {
    let env = signals("on_overlap = \"skip\"");
    more(&env, 3);
    assert_eq!(env.counter("events_dropped"), 3);
    open(&env, "go");
    env.await_idle();
    assert_eq!(log(&env), ["S 1", "E 1"]);
    env.signal(10);
    env.await_ended(2);
}

#[test]
fn signals_are_passed_on() {
    let env = signals("on_overlap = \"signal\"\noverlap_signal = \"SIGHUP\"");
    more(&env, 1);
    await_line(&env, "HUP 1");
    open(&env, "go");
    env.await_idle();
    assert_eq!(log(&env), ["S 1", "HUP 1", "E 1"]);
}
