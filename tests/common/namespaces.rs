//! Daemons in namespaces of their own: what is changed there concerns nobody else.

use std::path::Path;
use std::process::{Command, Output};

use super::{Env, skip};

/// Starts the daemon in a user namespace of its own, where `setting` has this value: what is
/// limited there concerns nobody else. Returns `false` where there are no such namespaces.
pub(crate) fn start_with(env: &mut Env, setting: &str, value: u32) -> bool {
    if !can("no user namespaces here", &["unshare", "-Ur", "true"]) {
        return false;
    }
    let script = format!("echo {value} > /proc/sys/user/{setting}; exec \"$@\"");
    let mut command = env.run_by(&["unshare", "-Ur", "sh", "-ec", &script, "sh"]);
    env.spawn(&mut command);
    env.await_ready();
    true
}

/// Changes a setting there.
pub(crate) fn set(env: &Env, setting: &str, value: u32) {
    inside(env, "-U", &format!("echo {value} > /proc/sys/user/{setting}"), &[]);
}

/// Runs a script in namespaces of the daemon, such as `-m` or `-U`; it must succeed. `$1` and so on
/// are `args`.
pub(crate) fn inside(env: &Env, namespaces: &str, script: &str, args: &[&Path]) -> Output {
    let pid = env.pid().to_string();
    let mut command = Command::new("nsenter");
    command.args(["-t", &pid, namespaces, "sh", "-ec", script, "sh"]).args(args);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{script}: {output:?}\n{}", env.log());
    output
}

/// Whether a command works here. If not, says aloud that the test is skipped.
pub(crate) fn can(what: &str, command: &[&str]) -> bool {
    let done = Command::new(command[0]).args(&command[1..]).output();
    let works = done.as_ref().is_ok_and(|done| done.status.success());
    if !works {
        skip(&format!("{what}: {done:?}"));
    }
    works
}
