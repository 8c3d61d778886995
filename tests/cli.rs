//! Every verb of the real program, at real daemons: exit codes, what is printed where, shapes.

#![expect(clippy::unwrap_used, reason = "a test ends at the first thing that goes wrong")]

#[expect(dead_code, reason = "a part of the harness is enough here")]
mod common;

use std::collections::BTreeSet;
use std::fs;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Output, Stdio};

use common::{Env, kill};
use serde_json::Value;

/// Good, bad and slow work, by file and by signal.
const CONFIG: &str = r#"
[tasks.check]
command = ["sha256sum", "{path}"]
[tasks.report]
needs = ["check"]
shell = "wc -c < \"$DAGD_PATH\""
[tasks.bad]
shell = "echo no good; exit 3"
retry = { max = 1, delay = "1ms" }
[tasks.after]
needs = ["bad"]
command = ["true"]
[tasks.alert]
needs = ["bad"]
rule = "one_failed"
command = ["echo", "{failed} failed"]
[tasks.slow]
shell = "echo begun; while [ ! -e go ]; do sleep 0.01; done; echo done"
cwd = "{dir}"
[triggers.in]
drop = "inbox"
run = "check+"
move = "done/"
move_failed = "failed/"
[triggers.broken]
drop = "broken"
run = "bad+"
[triggers.slow]
signal = "SIGUSR1"
run = "slow"
"#;

fn started() -> Env {
    let mut env = Env::new(CONFIG);
    env.mkdir("inbox");
    env.mkdir("broken");
    env.start();
    env
}

fn told(output: &Output) -> (i32, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

/// Runs `dagd`, which must end with `code`; returns both streams.
fn ends(env: &Env, args: &[&str], code: i32) -> (String, String) {
    let (ended, out, error) = told(&env.run(args));
    assert_eq!(ended, code, "dagd {args:?}\n{out}\n{error}\n{}", env.log());
    (out, error)
}

/// Runs `dagd`, which must fail with `code` and say `why`, and nothing on standard output.
fn fails(env: &Env, args: &[&str], code: i32, why: &str) {
    let (out, error) = ends(env, args, code);
    assert!(error.contains(why), "dagd {args:?}: {error}");
    assert!(!error.contains("os error"), "dagd {args:?}: {error}");
    assert_eq!(out, "", "dagd {args:?}");
}

fn keys(value: &Value) -> BTreeSet<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

/// Whether this is a time in UTC with nanoseconds: `2026-01-02T03:04:05.123456789Z`.
fn is_time(value: &Value) -> bool {
    let pattern = "0000-00-00T00:00:00.000000000Z";
    value.as_str().is_some_and(|text| {
        let fits = |(p, c): (char, char)| if p == '0' { c.is_ascii_digit() } else { p == c };
        text.len() == pattern.len() && pattern.chars().zip(text.chars()).all(fits)
    })
}

/// Whether there is a process with this number that is not just waiting to be reaped.
fn alive(pid: u64) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat[stat.rfind(')').unwrap()..].starts_with(") Z"))
}

/// Kills a daemon in the background, if one is left, at the end of a test.
struct Background<'a>(&'a Env);

impl Drop for Background<'_> {
    fn drop(&mut self) {
        let pid = fs::read_to_string(self.0.at("run/dagd.pid")).unwrap_or_default();
        if let Ok(pid) = pid.trim().parse() {
            kill(pid, 9);
        }
    }
}

#[test]
fn what_makes_no_sense_is_usage() {
    let env = Env::new(CONFIG);
    let bad: [&[&str]; 17] = [
        &[],
        &["nonsense"],
        &["status", "--jsn"],
        &["show"],
        &["show", "x"],
        &["logs", "1/"],
        &["logs", "1/a", "--attempt", "0"],
        &["runs", "--state", "great"],
        &["runs", "--limit", "-1"],
        &["fire"],
        &["fire", "in", "--select", "check"],
        &["once"],
        &["once", "--select", "check", "--trigger", "in"],
        &["plan"],
        &["graph", "check+++"],
        &["graph", "--format", "jpeg"],
        &["stop", "--timeout", "1", "--no-wait"],
    ];
    for args in bad {
        let (out, error) = ends(&env, args, 2);
        assert!(out.is_empty() && !error.is_empty(), "{args:?}: {out} {error}");
    }
    fails(&env, &["shw"], 2, "similar subcommand exists: 'show'");
    fails(&env, &["show", "x"], 2, "give a run's number");
    fails(&env, &["fire"], 2, "<TRIGGER|--select <SELECTOR>>");
    let verbs = env.ok(&["--help"]);
    for verb in [
        "run", "start", "stop", "reload", "once", "check", "graph", "plan", "explain", "fire",
        "status", "pending", "runs", "show", "logs", "cancel", "retry", "replay", "pause",
        "resume", "init", "demo",
    ] {
        assert!(verbs.contains(&format!("\n  {verb} ")), "{verbs}");
        let help = env.ok(&[verb, "--help"]);
        assert!(help.contains("Usage: dagd ") && help.contains("Options of every verb:"), "{help}");
    }
    assert_eq!(env.ok(&["--version"]), format!("dagd {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn without_a_daemon_looking_works_and_the_rest_says_how_to_get_one() {
    let mut env = started();
    for args in [&["runs"][..], &["runs", "--json"]] {
        env.ok(args);
    }
    fs::write(env.at("inbox/a"), "x").unwrap();
    env.await_ended(1);
    ends(&env, &["fire", "broken", "--wait"], 1);
    env.await_idle();
    let asked: [&[&str]; 4] = [&["runs"], &["show", "1"], &["show", "2"], &["explain", "2/bad"]];
    let live: Vec<Value> = asked.iter().map(|args| env.json(args)).collect();
    let logs = env.ok(&["logs", "2"]);
    assert!(env.stop());
    let stored: Vec<Value> = asked.iter().map(|args| env.json(args)).collect();
    assert_eq!(live, stored);
    assert_eq!(logs, env.ok(&["logs", "2"]));
    assert!(env.ok(&["runs"]).contains("failed"));
    assert!(env.ok(&["show", "2"]).starts_with("run 2 failed\n"));
    assert!(env.ok(&["explain", "inbox/a"]).contains("it was moved to"));
    assert!(env.ok(&["explain", "SIGUSR1"]).contains("no daemon runs"));
    let acts: [&[&str]; 11] = [
        &["status"],
        &["status", "--json"],
        &["pending"],
        &["stop"],
        &["reload"],
        &["fire", "in"],
        &["cancel", "1"],
        &["retry", "1"],
        &["replay", "done/a"],
        &["pause", "in"],
        &["resume", "in"],
    ];
    for args in acts {
        fails(&env, args, 4, "`dagd run` or `dagd start` starts one");
    }
    let fresh = Env::new(CONFIG);
    fails(&fresh, &["runs"], 4, "there is no history to read");
}

#[test]
fn a_configuration_is_checked_drawn_and_planned() {
    let env = Env::new(CONFIG);
    env.mkdir("inbox");
    let valid = env.ok(&["check"]);
    assert!(valid.contains("dagd.toml: valid; 6 tasks, 3 triggers, graph "), "{valid}");
    let line = |name: &str| valid.lines().find(|line| line.starts_with(name)).unwrap();
    assert!(line("in ").contains("proved") || line("in ").contains("inferred"), "{valid}");
    assert!(line("broken").ends_with("the folder does not exist yet; it is waited for"), "{valid}");
    assert!(line("slow").contains("signal SIGUSR1"), "{valid}");

    assert!(!valid.contains("others may write"), "{valid}");
    fs::set_permissions(env.at("inbox"), fs::Permissions::from_mode(0o1777)).unwrap();
    let shared = env.ok(&["check"]);
    assert!(shared.contains("warning: trigger `in`: others may write "), "{shared}");

    assert_eq!(env.ok(&["graph", "check+"]), "check\n└─ report\n");
    assert_eq!(env.ok(&["graph", "--trigger", "in"]), "check\n└─ report\n");
    assert!(env.ok(&["graph", "--format", "dot", "bad+"]).contains("\"bad\" -> \"alert\";"));
    assert!(env.ok(&["graph", "--format", "mermaid", "bad+"]).starts_with("flowchart LR\n"));
    let graph = env.ok(&["graph", "--format", "json", "check+"]);
    let graph: Value = serde_json::from_str(&graph).unwrap();
    assert_eq!(graph["tasks"][1]["needs"][0], "check");
    fails(&env, &["graph", "nobody+"], 3, "no task matches nobody");
    fails(&env, &["graph", "--trigger", "nobody"], 3, "there are: broken, in, slow");

    let plan = env.ok(&["plan", "--trigger", "in", "--path", "inbox/new"]);
    let wanted = format!("sha256sum {}", env.at("inbox/new").display());
    assert!(plan.contains(&wanted) && plan.contains("2 tasks, 2 levels"), "{plan}");
    let (out, _) = ends(&env, &["plan", "--trigger", "in", "--path", "elsewhere"], 1);
    assert!(out.contains("it does not lie below"), "{out}");
    fails(&env, &["plan", "--trigger", "nobody"], 3, "there is no trigger `nobody`");

    env.configure("[tasks.a]\ncomand = [\"true\"]\n[triggers.t]\ndrop = \"in\"\nrun = \"b\"\n");
    for verb in ["check", "run", "start", "graph"] {
        let (_, error) = ends(&env, &[verb], 78);
        let both = error.contains("did you mean `command`") && error.contains("`b`");
        assert!(both && error.contains("dagd.toml:6:1"), "{verb}: {error}");
    }
    fails(&env, &["--config", "absent.toml", "check"], 78, "absent.toml");
}

#[test]
fn in_the_background_from_start_to_stop() {
    let env = Env::new(&format!(
        "[daemon]\nstop_timeout = \"500ms\"\n{CONFIG}\
         [triggers.tree]\ndrop = \"tree\"\nrun = \"check\"\nrecursive = true\n"
    ));
    env.mkdir("inbox");
    env.mkdir("broken");
    for n in 0..500 {
        env.mkdir(&format!("tree/{n}/below"));
    }
    let _kill = Background(&env);
    let out = env.ok(&["start"]);
    let status = env.json(&["status"]);
    // It reports only when it watches: all of the tree is covered by then.
    let triggers = status["triggers"].as_array().unwrap();
    assert!(triggers.iter().all(|trigger| trigger["state"] == "active"), "{status}");
    let tree = triggers.iter().find(|trigger| trigger["name"] == "tree").unwrap();
    assert_eq!(tree["directories"], 1001);
    let pid = status["pid"].as_u64().unwrap();
    assert_eq!(out, format!("dagd is watching (pid {pid})\n"));
    assert_eq!(fs::read_to_string(env.at("run/dagd.pid")).unwrap().trim(), pid.to_string());
    // Detached: no child of ours, a session of its own, nothing of the terminal's.
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat[stat.rfind(')').unwrap() + 2..].split(' ').collect();
    assert_ne!(fields[1], std::process::id().to_string());
    assert_ne!(fields[3], "0");
    let session = fs::read_to_string("/proc/self/stat").unwrap();
    let session: Vec<&str> = session[session.rfind(')').unwrap() + 2..].split(' ').collect();
    assert_ne!(fields[3], session[3], "a session of its own");
    assert_eq!(fs::read_link(format!("/proc/{pid}/cwd")).unwrap(), Path::new("/"));
    assert_eq!(fs::read_link(format!("/proc/{pid}/fd/0")).unwrap(), Path::new("/dev/null"));

    fails(&env, &["start"], 1, &format!("a daemon runs already (pid {pid}"));
    fails(&env, &["run"], 1, &format!("in use by another dagd (process {pid})"));
    assert!(alive(pid));

    fs::write(env.at("tree/7/below/file"), "x").unwrap();
    env.await_ended(1);
    // A task is at work; it ends before the daemon does.
    assert_eq!(kill(i32::try_from(pid).unwrap(), 10), 0);
    env.wait("a task at work", || env.json(&["status"])["running"] == 1);
    fails(&env, &["stop", "--timeout", "0"], 1, "is still stopping");
    env.wait("the daemon's end", || !alive(pid));
    assert!(!env.at("run/dagd.pid").exists(), "the pid file goes with the daemon");
    fails(&env, &["stop"], 4, "no daemon answers");
    // What was interrupted is finished by the next one.
    fs::write(env.at("go"), "").unwrap();
    env.ok(&["start"]);
    env.await_ended(1);
    assert_eq!(env.json(&["show", "2"])["state"], "succeeded");
    let pid = env.json(&["status"])["pid"].as_u64().unwrap();
    assert_eq!(env.ok(&["stop"]), format!("dagd has stopped (pid {pid})\n"));
    assert!(!alive(pid), "stop returns when it is gone");
}

#[test]
fn a_reload_is_all_or_nothing() {
    let env = started();
    assert_eq!(env.ok(&["reload"]), "no changes\n");
    let before = env.json(&["status"])["rev"].clone();
    env.configure(&CONFIG.replace("wc -c", "wc -l"));
    assert!(env.ok(&["reload"]).contains("report"));
    let status = env.json(&["status"]);
    assert_ne!(status["rev"], before);
    assert_eq!(status["reload"]["ok"], true);
    env.configure(&format!("{CONFIG}[tasks.slow]\ncommand = [\"true\"]\n"));
    let (out, error) = ends(&env, &["reload"], 78);
    assert!(out.is_empty() && error.contains("dagd.toml:"), "{out} {error}");
    let after = env.json(&["status"]);
    assert_eq!((&after["rev"], &after["reload"]["ok"]), (&status["rev"], &Value::Bool(false)));
    assert!(env.ok(&["status"]).contains("refused"), "status tells of it");
    fs::write(env.at("inbox/a"), "a\nb\n").unwrap();
    env.await_ended(1);
    assert_eq!(env.ok(&["logs", "1/report"]).trim(), "2", "the last good one is in force");
}

#[test]
fn the_demo_comes_true() {
    let env = Env::new(CONFIG);
    let output = env.command(&["demo"]).env("TMPDIR", env.path()).output().unwrap();
    let (code, out, error) = told(&output);
    assert_eq!((code, error.as_str()), (0, ""), "{out}");
    assert!(out.contains("All of it came true"), "{out}");
    let folder = fs::read_dir(env.path()).unwrap().map(|entry| entry.unwrap().path());
    let folder =
        folder.filter(|path| path.to_string_lossy().contains("dagd-demo-")).collect::<Vec<_>>();
    let [folder] = folder.as_slice() else { unreachable!("one folder: {folder:?}") };
    // What it says about looking further is so.
    let config = folder.join("dagd.toml").display().to_string();
    let look = |args: &[&str]| {
        let mut command = env.command(&[&["--config", &config], args].concat());
        told(&command.env_remove("DAGD_SOCKET").output().unwrap())
    };
    assert_eq!(look(&["runs", "--json"]).0, 0);
    assert!(look(&["show", "3"]).1.contains("broken.csv"));
    fails(&env, &["demo", folder.to_str().unwrap()], 1, "is there already");
}

#[test]
fn a_first_configuration_works_as_it_is() {
    let env = Env::new("");
    fs::remove_file(env.at("dagd.toml")).unwrap();
    let out = env.ok(&["init"]);
    assert!(out.contains("try it"), "{out}");
    assert!(env.ok(&["check"]).contains("valid; 2 tasks, 1 trigger"));
    fails(&env, &["init"], 1, "stays as it is");
    let mut daemon = env.command(&["run"]);
    let mut daemon = daemon.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut line = [0; 16];
    daemon.stdout.as_mut().unwrap().read_exact(&mut line).unwrap();
    assert_eq!(&line, b"dagd is watching");
    fs::write(env.at("inbox/hello.txt"), "hello\n").unwrap();
    let socket = env.at("state/run/dagd.sock").display().to_string();
    env.wait("a moved file", || env.at("done/hello.txt").exists());
    assert_eq!(fs::read_to_string(env.at("report.txt")).unwrap(), "hello.txt  6 bytes\n");
    let state = || env.json(&["--socket", &socket, "runs"])[0]["state"].clone();
    env.wait("the run's end", || state() == "succeeded");
    ends(&env, &["--socket", &socket, "stop"], 0);
    assert!(daemon.wait().unwrap().success());
}

#[test]
fn once_exits_as_its_run_does_and_keeps_what_is_asked_for() {
    let mut env = Env::new(&CONFIG.replace("move = \"done/\"\n", ""));
    env.mkdir("inbox");
    fs::write(env.at("inbox/a"), "x").unwrap();
    let (out, error) = ends(&env, &["once", "--trigger", "in", "inbox/a"], 0);
    assert!(out.contains("succeeded  report") && error.is_empty(), "{out} {error}");
    let scratch = env.mkdir("scratch");
    let failing = env.command(&["once", "--select", "bad+"]).env("TMPDIR", &scratch).output();
    let (code, out, error) = told(&failing.unwrap());
    assert!(out.contains("| no good") && out.contains("skipped    after"), "{out}");
    assert_eq!((code, error.as_str()), (1, ""));
    // Its logs stay, and it says where.
    let logs = out.lines().find_map(|line| line.strip_prefix("logs in ")).unwrap();
    assert!(Path::new(logs).starts_with(&scratch) && Path::new(logs).is_dir(), "{logs}");
    fs::remove_dir_all(&scratch).unwrap();
    assert!(!env.at("state").exists(), "nothing is kept");
    let scratch = env.mkdir("scratch");
    let silent = &["once", "--select", "bad+,-bad"][..];
    for (args, code) in [(&["once", "--select", "nobody"][..], 3), (silent, 0)] {
        let output = env.command(args).env("TMPDIR", &scratch).output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{output:?}");
        assert_eq!(fs::read_dir(&scratch).unwrap().count(), 0, "nothing is left behind: {args:?}");
    }
    fails(&env, &["once", "--select", "nobody"], 3, "`nobody` selects no task");
    fails(&env, &["once", "--trigger", "nobody"], 3, "configured are: broken, in, slow");
    fails(&env, &["once", "--trigger", "in", "inbox/none"], 3, "no regular file at");
    let (out, _) = ends(&env, &["once", "--trigger", "in", "--keep", "inbox/a"], 0);
    assert!(out.contains(&format!("logs in {}", env.at("state/logs").display())), "{out}");
    assert_eq!(env.runs()[0]["state"], "succeeded");
    assert_eq!(env.ok(&["logs", "1/report"]), "1\n");
    assert!(env.ok(&["explain", "inbox/a"]).contains("delivered to run 1"));
    // The daemon takes it for what it is: done.
    fs::write(env.at("inbox/b"), "x").unwrap();
    env.start();
    env.await_ended(1);
    env.await_idle();
    let runs = env.runs();
    assert_eq!((runs.len(), &runs[0]["files"][0]["rel"]), (2, &Value::from("b")));
    fails(&env, &["once", "--keep", "--select", "check"], 1, "in use by another dagd");
}

#[test]
fn the_shapes_of_json_hold() {
    let env = started();
    fs::write(env.at("inbox/a"), "x").unwrap();
    env.await_ended(1);
    ends(&env, &["fire", "broken", "--wait"], 1);
    env.signal(10);
    env.wait("a task at work", || env.json(&["status"])["running"] == 1);
    let runs = env.json(&["runs"]);
    let runs = runs.as_array().unwrap();
    let ids: Vec<u64> = runs.iter().map(|run| run["id"].as_u64().unwrap()).collect();
    assert_eq!(ids, [3, 2, 1], "newest first");
    let shape = [
        "id",
        "trigger",
        "reason",
        "state",
        "files",
        "rev",
        "created_at",
        "started_at",
        "ended_at",
    ];
    for run in runs {
        assert_eq!(keys(run), shape.into(), "{run}");
        assert!(is_time(&run["created_at"]) && is_time(&run["started_at"]), "{run}");
    }
    let states: Vec<&Value> = runs.iter().map(|run| &run["state"]).collect();
    assert_eq!(states, ["running", "failed", "succeeded"]);
    let reasons: Vec<&Value> = runs.iter().map(|run| &run["reason"]).collect();
    assert_eq!(reasons[..2], ["signal", "manual"]);
    // Whatever was quicker: the event, or the end of the first look around.
    assert!(["event", "scan"].contains(&reasons[2].as_str().unwrap()), "{}", reasons[2]);
    assert_eq!(runs[0]["ended_at"], Value::Null);
    assert!(is_time(&runs[1]["ended_at"]));
    assert_eq!(runs[2]["files"][0]["path"], env.at("inbox/a").display().to_string());
    assert_eq!(runs[2]["files"][0]["moved_to"]["path"], env.at("done/a").display().to_string());
    let by_selection = env.json(&["fire", "--select", "check"]);
    env.wait("a fourth run", || env.runs().len() == 4);
    assert_eq!(by_selection["run"], 4);
    assert_eq!(env.runs()[0]["trigger"], Value::Null);

    let run = env.json(&["show", "2"]);
    assert!(shape.iter().all(|key| run.get(key).is_some()), "{run}");
    let tasks = run["tasks"].as_array().unwrap();
    let told: Vec<(&str, &str, Option<&str>)> = tasks
        .iter()
        .map(|task| {
            assert_eq!(keys(task), ["name", "state", "cause", "attempts"].into());
            let word = |key: &str| task[key].as_str();
            (word("name").unwrap(), word("state").unwrap(), word("cause"))
        })
        .collect();
    let wanted = [
        ("after", "skipped", Some("upstream_failed")),
        ("alert", "succeeded", None),
        ("bad", "failed", None),
    ];
    assert_eq!(told, wanted);
    let attempts = tasks[2]["attempts"].as_array().unwrap();
    assert_eq!(attempts.len(), 2);
    for (row, number) in attempts.iter().zip(1..) {
        assert_eq!((&row["attempt"], &row["exit_code"]), (&Value::from(number), &Value::from(3)));
        assert_eq!(row["signal"], Value::Null);
        assert!(is_time(&row["started_at"]) && is_time(&row["ended_at"]), "{row}");
        let log = fs::read_to_string(row["log"].as_str().unwrap()).unwrap();
        assert_eq!(log, "no good\n");
    }
    let at_work = &env.json(&["show", "3"])["tasks"][0]["attempts"][0];
    assert_eq!((&at_work["exit_code"], &at_work["ended_at"]), (&Value::Null, &Value::Null));
    let filtered = env.json(&["runs", "--state", "failed", "--trigger", "broken", "--limit", "1"]);
    assert_eq!(filtered[0]["id"], 2);
    let (out, error) = ends(&env, &["runs", "--trigger", "nobody"], 0);
    assert_eq!((out.as_str(), error.as_str()), ("", "no such runs\n"));
}

#[test]
fn starting_and_following_by_hand() {
    let env = started();
    fs::write(env.at("inbox/a"), "x").unwrap();
    env.await_ended(1);
    let (out, _) = ends(&env, &["fire", "broken", "--wait"], 1);
    assert_eq!(out, "run 2 failed\n");
    let (out, _) = ends(&env, &["fire", "broken", "--wait", "--json"], 1);
    let waited: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(waited, serde_json::json!({ "run": 3, "state": "failed" }));
    assert_eq!(env.ok(&["fire", "slow"]), "run 4\n");
    // Followed from before its end to after it.
    let mut follower = env.command(&["logs", "-f", "4"]);
    let mut follower = follower.stdout(Stdio::piped()).spawn().unwrap();
    let mut begun = [0; 15];
    follower.stdout.as_mut().unwrap().read_exact(&mut begun).unwrap();
    assert_eq!(&begun, b"==> slow\nbegun\n");
    let retrying = env.command(&["retry", "1", "--wait"]).stdout(Stdio::piped()).spawn().unwrap();
    fs::write(env.at("go"), "").unwrap();
    let mut rest = String::new();
    follower.stdout.as_mut().unwrap().read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "done\n");
    assert!(follower.wait().unwrap().success());
    assert_eq!(
        told(&retrying.wait_with_output().unwrap()),
        (0, "run 5 succeeded\n".to_owned(), String::new())
    );
    assert_eq!(env.ok(&["replay", "done/a", "--wait"]), "run 6 succeeded\n");
    assert_eq!(env.ok(&["logs", "2/bad", "--attempt", "1"]), "no good\n");
    let all = env.ok(&["logs", "2"]);
    assert!(all.contains("==> bad, attempt 2\nno good\n"), "{all}");

    fails(&env, &["fire", "nobody"], 3, "configured are: broken, in, slow");
    fails(&env, &["fire", "--select", "nobody"], 3, "`nobody` selects no task");
    fails(&env, &["fire", "in", "inbox/none"], 1, "there is no regular file");
    fails(&env, &["fire", "in", "/etc/passwd"], 1, "does not lie below");
    fails(&env, &["show", "99"], 3, "`dagd runs` lists them");
    fails(&env, &["logs", "99"], 3, "there is no run 99");
    fails(&env, &["logs", "2/nobody"], 3, "run 2 has no task `nobody`");
    fails(&env, &["logs", "2", "--attempt", "7"], 3, "no task of run 2 has an attempt 7");
    fails(&env, &["logs", "2/bad", "--attempt", "7"], 3, "has no attempt 7");
    fails(&env, &["retry", "99"], 3, "there is no run 99");
    fails(&env, &["retry", "1", "--failed"], 1, "leave out --failed");
    fails(&env, &["replay", "/etc/passwd"], 3, "lies in no trigger's folder");
    fails(&env, &["cancel", "99"], 3, "there is no run 99");
    fails(&env, &["cancel", "2"], 1, "run 2 has ended already: it failed");
    fails(&env, &["pause", "nobody"], 3, "configured are");
    fails(&env, &["explain", "99/x"], 3, "there is no run 99");
}

#[test]
fn what_waits_is_told_paused_and_cancelled() {
    let env = started();
    let (out, error) = ends(&env, &["pending"], 0);
    assert_eq!((out.as_str(), error.as_str()), ("", "nothing waits\n"));
    assert_eq!(env.json(&["pending"]), serde_json::json!([]));
    env.ok(&["pause", "in"]);
    fs::write(env.at("inbox/a"), "x").unwrap();
    env.wait("a file that waits", || env.json(&["pending"])[0]["stage"] == "queued");
    let entry = &env.json(&["pending"])[0];
    assert_eq!(keys(entry), ["trigger", "file", "stage", "reason", "since", "run"].into());
    assert_eq!(entry["reason"], "paused: by request");
    assert!(is_time(&entry["since"]) && entry["run"].is_null(), "{entry}");
    assert!(env.ok(&["pending"]).contains("paused: by request"));
    let story = env.ok(&["explain", "inbox/a"]);
    assert!(story.contains("it is ready and waits for a run: paused: by request"), "{story}");
    assert_eq!(env.json(&["explain", "inbox/a"])["triggers"][0]["verdict"], "queued");
    assert!(env.ok(&["status"]).contains("paused"));
    env.ok(&["resume", "in"]);
    env.await_ended(1);

    let story = env.ok(&["explain", "inbox/a"]);
    assert!(story.contains("delivered to run 1, which succeeded; it was moved to"), "{story}");
    assert!(env.ok(&["explain", "done/a"]).contains("run 1, which succeeded, moved it here"));
    fs::write(env.at("inbox/b.part"), "x").unwrap();
    assert!(env.ok(&["explain", "inbox/b.part"]).contains("it does not count under `in`"));
    let (out, _) = ends(&env, &["explain", "/etc/passwd"], 3);
    assert!(out.contains("no trigger's folder holds this path"), "{out}");
    let (out, _) = ends(&env, &["explain", "SIGUSR2"], 3);
    assert!(out.contains("no trigger waits for SIGUSR2"), "{out}");
    assert!(env.ok(&["explain", "SIGHUP"]).contains("read its configuration again"));

    env.signal(10);
    env.wait("a task at work", || env.json(&["status"])["running"] == 1);
    assert!(env.ok(&["explain", "SIGUSR1"]).contains("last in run 2"));
    assert!(env.ok(&["explain", "2/slow"]).contains("is running"));
    fails(&env, &["cancel", "2/nobody"], 3, "run 2 has no task `nobody`");
    env.ok(&["cancel", "2"]);
    env.await_ended(2);
    let run = env.json(&["show", "2"]);
    assert_eq!(
        (&run["state"], &run["tasks"][0]["state"]),
        (&"cancelled".into(), &"cancelled".into())
    );
    fails(&env, &["cancel", "2"], 1, "it was cancelled");
}
