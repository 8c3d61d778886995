//! Schedules and silences of a real daemon, on the real clock.

#[expect(dead_code, reason = "a part of the harness is enough here")]
mod common;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use common::{Env, PATIENCE};
use dagd::core::id::Wall;

const TASK: &str = "[tasks.t]\nshell = \"echo $DAGD_REASON $DAGD_SCHEDULED_AT\"\n\
                    [tasks.d]\ncommand = [\"echo\", \"{date:%Y-%m-%dT%H:%M:%S}\"]\n";

fn now() -> Wall {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    Wall(i64::try_from(since.as_nanos()).expect("in range"))
}

/// Puts back what is settled of the only time trigger, as if dagd had been down since.
fn set_back(env: &Env, by: Duration) {
    let conn = rusqlite::Connection::open(database(&env.path().join("state"))).expect("a database");
    let text: String = conn
        .query_row("SELECT record FROM live WHERE kind = 'time'", [], |row| row.get(0))
        .expect("a mark");
    let mut record: serde_json::Value = serde_json::from_str(&text).expect("a record");
    let at = &mut record["time_marked"]["mark"]["at"];
    let by = i64::try_from(by.as_nanos()).expect("in range");
    *at = (at.as_i64().expect("a time") - by).into();
    let changed = conn
        .execute("UPDATE live SET record = ?1 WHERE kind = 'time'", [record.to_string()])
        .expect("a write");
    assert_eq!(changed, 1);
}

fn database(state: &Path) -> std::path::PathBuf {
    let files = fs::read_dir(state).expect("a state folder").flatten().map(|entry| entry.path());
    let mut found =
        files.filter(|path| path.extension().is_some_and(|e| e == "db" || e == "sqlite"));
    found.next().expect("a database")
}

fn reasons(env: &Env) -> Vec<String> {
    env.runs().iter().map(|run| run["reason"].as_str().unwrap_or_default().to_owned()).collect()
}

#[test]
fn what_was_missed_while_down_runs_at_the_start_and_once() {
    let mut env = Env::new(&format!(
        "{TASK}[triggers.nightly]\nschedule = \"0 0 1 1 *\"\ntimezone = \"Europe/Berlin\"\nrun = \"t,d\"\n"
    ));
    env.start();
    let status = env.json(&["status"]);
    let trigger = &status["triggers"][0];
    assert_eq!(trigger["kind"], "schedule");
    assert_eq!(trigger["source"], "0 0 1 1 * Europe/Berlin");
    // New Year in Berlin is 23:00 of the day before in UTC.
    let next = trigger["next_at"].as_str().expect("it is due").to_owned();
    assert!(next.ends_with("-12-31T23:00:00.000000000Z"), "{next}");
    assert_eq!(env.runs().len(), 0);
    env.stop();

    set_back(&env, Duration::from_hours(24 * 366));
    env.start();
    env.await_ended(1);
    env.await_idle();
    assert_eq!(reasons(&env), ["schedule"]);
    let year = &next[..4];
    assert_eq!(env.ok(&["logs", "1/t"]).trim(), format!("schedule {year}-01-01T00:00:00+01:00"));
    assert_eq!(env.ok(&["logs", "1/d"]).trim(), format!("{year}-01-01T00:00:00"));
    let detail = env.json(&["show", "1"]);
    let last: i32 = year.parse().expect("a year");
    assert_eq!(detail["scheduled_at"], format!("{}-12-31T23:00:00.000000000Z", last - 1));
    // Once more, and it has the same date.
    env.ok(&["retry", "1"]);
    env.await_ended(2);
    assert_eq!(env.ok(&["logs", "2/d"]).trim(), format!("{year}-01-01T00:00:00"));
    env.stop();

    env.start();
    env.await_idle();
    assert_eq!(env.runs().len(), 2, "nothing is caught up on twice");
}

#[test]
fn a_kill_neither_loses_nor_doubles_what_was_missed() {
    let mut env = Env::new(&format!(
        "{TASK}[triggers.s]\nschedule = \"0 * * * *\"\ntimezone = \"UTC\"\ncatch_up = \"all\"\n\
         on_overlap = \"queue\"\nrun = \"d\"\n"
    ));
    env.start();
    env.stop();
    set_back(&env, Duration::from_hours(30));
    env.start();
    env.kill();
    env.start();
    env.await_idle();
    let runs = env.runs();
    assert!((30..=31).contains(&runs.len()), "{} runs", runs.len());
    let of = |run: &serde_json::Value| {
        let detail = env.json(&["show", &run["id"].to_string()]);
        detail["scheduled_at"].as_str().expect("an occurrence").to_owned()
    };
    let mut occurrences: Vec<String> = runs.iter().map(of).collect();
    occurrences.sort();
    occurrences.dedup();
    assert_eq!(occurrences.len(), runs.len(), "each occurrence once: {occurrences:?}");
}

#[test]
fn a_silence_is_told_once_and_begins_anew_with_a_run() {
    let mut env = Env::new(&format!(
        "{TASK}[triggers.orders]\nsignal = \"SIGUSR1\"\nrun = \"d\"\n\
         [triggers.quiet]\nabsent = \"300ms\"\nof = \"orders\"\nrun = \"t\"\n"
    ));
    env.start();
    env.await_ended(1);
    assert_eq!(reasons(&env), ["absence"]);
    assert_eq!(env.ok(&["logs", "1/t"]).trim(), "absence");
    env.stop();
    env.start();
    env.await_idle();
    assert_eq!(env.runs().len(), 1, "it was told before");
    env.signal(10);
    // Of this start.
    env.await_ended(2);
    let mut reasons = reasons(&env);
    reasons.sort();
    assert_eq!(reasons, ["absence", "absence", "signal"]);
    let status = env.json(&["status"]);
    let quiet = &status["triggers"][1];
    assert_eq!((&quiet["kind"], &quiet["source"]), (&"absent".into(), &"300ms of orders".into()));
    assert_eq!(quiet["next_at"], serde_json::Value::Null, "nothing is due until orders runs again");
}

#[test]
fn the_alarm_is_there_while_something_is_scheduled() {
    let plain = format!("{TASK}[triggers.u]\nsignal = \"SIGUSR1\"\nrun = \"t\"\n");
    let mut env = Env::new(&plain);
    env.start();
    let alarms = |env: &Env| {
        let tasks = fs::read_dir(format!("/proc/{}/task", env.pid())).expect("a live process");
        let name = |entry: fs::DirEntry| fs::read_to_string(entry.path().join("comm"));
        let names = tasks.flatten().filter_map(|entry| name(entry).ok());
        names.filter(|name| name.trim() == "dagd-alarm").count()
    };
    assert_eq!(alarms(&env), 0);
    env.configure(&format!(
        "{plain}[triggers.s]\nschedule = \"* * * * *\"\ntimezone = \"UTC\"\nrun = \"t\"\n"
    ));
    env.ok(&["reload"]);
    // The reload is answered in a turn after the one in which it came into force.
    assert_eq!(alarms(&env), 1);
    // The next minute comes, on the real clock.
    let begun = now();
    let late = Instant::now() + 2 * PATIENCE;
    while env.counter("runs_ended") == 0 {
        assert!(Instant::now() < late, "a minute has passed\n{}", env.log());
        std::thread::sleep(Duration::from_millis(200));
    }
    let detail = env.json(&["show", "1"]);
    assert_eq!(detail["reason"], "schedule");
    let at: jiff::Timestamp =
        detail["scheduled_at"].as_str().expect("an occurrence").parse().expect("a time");
    assert_eq!(at.as_second() % 60, 0);
    assert!(i128::from(begun.0) < at.as_nanosecond(), "it was due after the reload");
    let created: jiff::Timestamp =
        detail["created_at"].as_str().expect("a time").parse().expect("a time");
    assert!(created >= at, "not before its time");
}
