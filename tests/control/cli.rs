//! The program itself, against the server: exit codes, JSON, what goes to which stream.

use std::path::Path;
use std::process::{Command, Output};

use dagd::core::effect::Reply;
use dagd::core::record::RunState;
use dagd::wire;

use crate::world::{World, detail};

fn dagd(socket: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_dagd"))
        .args(arguments)
        .env("DAGD_SOCKET", socket)
        .env_remove("DAGD_CONFIG")
        .env_remove("NO_COLOR")
        .output()
        .unwrap()
}

fn told(output: &Output) -> (i32, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn looking_through_the_daemon() {
    let world = World::new();
    let log = world.dir.path().join("1.load.1.log");
    std::fs::write(&log, b"out\xff\n").unwrap();
    for (id, state) in [(1, "succeeded"), (2, "failed")] {
        world.past.lock().unwrap().details.insert(id, detail(id, state, Some(&log)));
    }
    let socket = world.socket();
    let (code, out, _) = told(&dagd(&socket, &["runs", "--json"]));
    let runs: Vec<wire::Run> = serde_json::from_str(&out).unwrap();
    assert_eq!((code, runs.iter().map(|run| run.id).collect::<Vec<_>>()), (0, vec![2, 1]));
    let (_, out, _) = told(&dagd(&socket, &["show", "2", "--json"]));
    let shown: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(shown["tasks"][0]["attempts"][0]["exit_code"], 0);
    assert_eq!(shown["ended_at"], "1970-01-01T00:00:03.000000000Z");
    assert_eq!(shown["parent"], serde_json::Value::Null);
    assert_eq!(dagd(&socket, &["logs", "1/load"]).stdout, b"out\xff\n");
    assert_eq!(dagd(&socket, &["logs", "1"]).stdout, b"==> load\nout\xff\n");
    let (code, out, error) = told(&dagd(&socket, &["show", "9"]));
    assert_eq!((code, out.as_str()), (3, ""));
    assert_eq!(error, "dagd: there is no run 9; `dagd runs` lists them\n");
    let (code, out, _) = told(&dagd(&socket, &["runs", "--color", "always"]));
    assert!(code == 0 && out.contains("\x1b[31mfailed\x1b[0m"), "{out}");
    assert!(!told(&dagd(&socket, &["runs"])).1.contains('\x1b'));
    let (code, out, _) = told(&dagd(&socket, &["explain", "2/load"]));
    assert_eq!((code, out.lines().count()), (0, 2), "{out}");
    assert_eq!(told(&dagd(&socket, &["explain", "/elsewhere"])).0, 3);
    assert_eq!(told(&dagd(&socket, &["explain", "SIGUSR2"])).0, 3);
    assert_eq!(told(&dagd(&socket, &["explain", "SIGHUP"])).0, 0);
}

#[test]
fn acting_through_the_daemon() {
    let world = World::new();
    let socket = world.socket();
    let file = world.write("in/a.csv", "x");
    let (code, out, _) = told(&dagd(&socket, &["fire", "orders", &file.lossy()]));
    assert_eq!((code, out.as_str()), (0, "run 7\n"));
    let (code, out, _) = told(&dagd(&socket, &["fire", "--select", "-a", "--json"]));
    assert_eq!(code, 0);
    let accepted: wire::Accepted = serde_json::from_str(&out).unwrap();
    assert_eq!(accepted.run, Some(7));
    world.present.lock().unwrap().reply = Some(Reply::Run(dagd::core::id::RunId(50)));
    world.end_run.send(RunState::Failed).unwrap();
    let ends = world.end_run.clone();
    let (stop, stopped) = crossbeam_channel::bounded::<()>(0);
    let ender = std::thread::spawn(move || {
        // Ends run 50 again and again, so that whoever waits for it hears of it.
        while stopped.try_recv() == Err(crossbeam_channel::TryRecvError::Empty) {
            ends.send_timeout(RunState::Failed, std::time::Duration::from_millis(20)).ok();
        }
    });
    let (code, out, _) = told(&dagd(&socket, &["fire", "orders", "--wait"]));
    drop(stop);
    ender.join().unwrap();
    assert_eq!((code, out.as_str()), (1, "run 50 failed\n"));
    let (code, _, error) = told(&dagd(&socket, &["fire", "nobody"]));
    assert_eq!((code, error.contains("no trigger `nobody`")), (3, true));
    world.present.lock().unwrap().reply = Some(Reply::Done);
    for verb in [&["pause", "orders"][..], &["resume", "orders"], &["cancel", "3/load"]] {
        assert_eq!(told(&dagd(&socket, verb)).0, 0, "{verb:?}");
    }
    let (code, out, _) = told(&dagd(&socket, &["reload"]));
    assert_eq!((code, out.as_str()), (0, "1 task added\n"));
}

#[test]
fn without_a_daemon() {
    let dir = tempfile::tempdir().unwrap();
    let nowhere = dir.path().join("dagd.sock");
    for verb in [&["status"][..], &["stop"], &["fire", "x"], &["pause", "x"], &["runs"]] {
        let (code, out, error) = told(&dagd(&nowhere, verb));
        assert_eq!((code, out.as_str()), (4, ""), "{verb:?}: {error}");
        assert!(error.starts_with("dagd: no daemon answers at "), "{error}");
    }
    for bad in [&["nonsense"][..], &["fire"], &["show", "x"], &["once"], &["cancel", "1/"], &[]] {
        assert_eq!(told(&dagd(&nowhere, bad)).0, 2, "{bad:?}");
    }
    assert_eq!(told(&dagd(&nowhere, &["--help"])).0, 0);
    let config = dir.path().join("absent.toml").display().to_string();
    for verb in ["check", "start", "graph"] {
        assert_eq!(told(&dagd(&nowhere, &["--config", &config, verb])).0, 78, "{verb}");
    }
}

#[test]
fn a_first_configuration_is_written_once() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("new");
    let arguments = ["init", &target.display().to_string()];
    let (code, out, _) = told(&dagd(dir.path(), &arguments));
    assert_eq!(code, 0, "{out}");
    let text = std::fs::read_to_string(target.join("dagd.toml")).unwrap();
    assert!(text.parse::<toml::Table>().unwrap()["triggers"]["inbox"].is_table());
    assert!(target.join("inbox").is_dir());
    std::fs::write(target.join("dagd.toml"), "mine").unwrap();
    let (code, _, error) = told(&dagd(dir.path(), &arguments));
    assert_eq!((code, error.contains("stays as it is")), (1, true), "{error}");
    assert_eq!(std::fs::read_to_string(target.join("dagd.toml")).unwrap(), "mine");
}

#[test]
fn a_reader_that_leaves_is_no_failure() {
    let world = World::new();
    for id in 1..2000 {
        world.past.lock().unwrap().details.insert(id, detail(id, "succeeded", None));
    }
    let mut child = Command::new(env!("CARGO_BIN_EXE_dagd"))
        .args(["runs", "--json"])
        .env("DAGD_SOCKET", world.socket())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let (code, _, error) = told(&child.wait_with_output().unwrap());
    assert_eq!((code, error.as_str()), (0, ""));
}
