//! A start that takes long, as the service manager hears it.

use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use crate::common::{Env, have, through};

/// Stops the daemon, which would outlive who traces it.
struct Stopped<'a>(&'a Env, std::process::Child);

impl Drop for Stopped<'_> {
    fn drop(&mut self) {
        self.0.run(&["stop"]);
        self.1.wait().ok();
    }
}

#[test]
fn a_long_first_scan_asks_for_more_time_and_tells_how_far_it_is() {
    if !have("strace") {
        return;
    }
    let config =
        "[tasks.a]\ncommand = [\"true\"]\n[triggers.tree]\nwatch = \"tree\"\nrun = \"a\"\n";
    let env = Env::new(config);
    let mut strace = vec!["strace".to_owned(), "-f".into(), "-qq".into(), "-o".into()];
    strace.push("/dev/null".into());
    // More files than are looked at in one go.
    for (folder, file) in (0..6).flat_map(|folder| (0..600).map(move |file| (folder, file))) {
        if file == 0 {
            let path = env.mkdir(&format!("tree/{folder}"));
            strace.extend(["-P".to_owned(), path.display().to_string()]);
        }
        std::fs::write(env.at(&format!("tree/{folder}/{file}")), "").unwrap();
    }
    let notify = UnixDatagram::bind(env.at("manager")).unwrap();
    notify.set_read_timeout(Some(Duration::from_mins(1))).unwrap();
    // Each folder is read by two calls at least, and each of them takes its time.
    let slow = ["-e", "trace=getdents64", "-e", "inject=getdents64:delay_enter=400ms"];
    let strace: Vec<&str> = strace.iter().map(String::as_str).chain(slow).collect();
    let mut run = through(&strace, &env.command(&["run"]));
    let log = std::fs::File::create(env.at("daemon.log")).unwrap();
    run.env("NOTIFY_SOCKET", env.at("manager")).stdout(log.try_clone().unwrap()).stderr(log);
    let daemon = Stopped(&env, run.spawn().unwrap());
    let mut heard = Vec::new();
    let mut buffer = [0; 4096];
    while !heard.iter().any(|text: &String| text.contains("READY=1")) {
        let n = notify.recv(&mut buffer).unwrap();
        heard.push(String::from_utf8_lossy(&buffer[..n]).into_owned());
    }
    let longer = heard.iter().filter(|text| text.contains("EXTEND_TIMEOUT_USEC=60000000\n"));
    assert!(longer.clone().count() >= 1, "{heard:#?}");
    assert!(longer.clone().all(|text| text.starts_with("STATUS=the first scan: ")), "{heard:#?}");
    drop(daemon);
    // A stop asks for the time that the configuration gives to tasks, and some.
    let n = notify.recv(&mut buffer).unwrap();
    assert_eq!(&buffer[..n], b"STOPPING=1\nEXTEND_TIMEOUT_USEC=60000000\n");
}
