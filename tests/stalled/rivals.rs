//! Two daemons want the same state folder; and what a dead one left behind.

use std::fs;

use crate::common::Env;

const CONFIG: &str = r#"
[tasks.t]
command = ["true"]
[triggers.in]
drop = "inbox"
run = "t"
"#;

#[test]
fn a_second_daemon_is_refused_and_the_first_is_unharmed() {
    let mut env = Env::new(CONFIG);
    env.mkdir("inbox");
    env.start();
    let pid = env.pid().to_string();
    fs::write(env.at("inbox/a"), "1").unwrap();
    env.await_ended(1);
    // Another socket, or the same: the state folder decides.
    let other = env.at("other.sock");
    for args in [&["run"][..], &["run", "--socket", other.to_str().unwrap()], &["start"]] {
        let output = env.run(args);
        assert_eq!(output.status.code(), Some(1), "{args:?}: {output:?}");
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(text.contains(&pid), "{args:?}: {text}");
        assert!(text.contains("another dagd") || text.contains("runs already"), "{text}");
    }
    let kept = env.run(&["once", "--select", "t", "--keep"]);
    assert_eq!(kept.status.code(), Some(1), "{kept:?}");
    assert!(String::from_utf8_lossy(&kept.stderr).contains(&pid), "{kept:?}");
    assert!(env.run(&["once", "--select", "t"]).status.success(), "that one keeps nothing");
    assert_eq!(env.json(&["status"])["pid"].to_string(), pid);
    fs::write(env.at("inbox/b"), "1").unwrap();
    env.await_ended(2);
    assert_eq!(env.runs().len(), 2);
    assert!(env.stop());
}

#[test]
fn what_a_dead_daemon_left_does_not_matter() {
    let mut env = Env::new(CONFIG);
    env.mkdir("inbox");
    env.start();
    let pid = env.pid();
    env.kill();
    assert!(env.at("run/dagd.sock").exists() && env.at("state/lock").exists());
    let lock = fs::read_to_string(env.at("state/lock")).unwrap();
    assert_eq!(lock.trim(), pid.to_string());
    assert_eq!(env.run(&["status"]).status.code(), Some(4), "nobody is there");
    assert_eq!(env.run(&["stop"]).status.code(), Some(4));
    // The number may belong to somebody else by now.
    fs::write(env.at("state/lock"), format!("{}\n", std::process::id())).unwrap();
    fs::write(env.at("run/dagd.pid"), format!("{}\n", std::process::id())).unwrap();
    fs::write(env.at("inbox/a"), "1").unwrap();
    env.start();
    env.await_ended(1);
    assert!(env.stop());
    assert!(!env.at("run/dagd.sock").exists());

    // A detached one comes up over the same leftovers, and goes.
    fs::write(env.at("run/dagd.pid"), "999999999\n").unwrap();
    std::os::unix::net::UnixListener::bind(env.at("run/dagd.sock")).unwrap();
    env.ok(&["start"]);
    assert_eq!(env.json(&["status"])["state"], "running");
    env.ok(&["stop"]);
    assert_eq!(env.run(&["status"]).status.code(), Some(4));
}

#[test]
fn a_file_in_the_place_of_the_socket_is_not_removed() {
    let mut env = Env::new(CONFIG);
    env.mkdir("run");
    fs::write(env.at("run/dagd.sock"), "precious").unwrap();
    env.spawn(&mut env.command(&["run"]));
    let status = env.await_end();
    assert_eq!(status.code(), Some(1), "{}", env.log());
    assert!(env.log().contains("dagd.sock"), "{}", env.log());
    assert_eq!(fs::read_to_string(env.at("run/dagd.sock")).unwrap(), "precious");
}
