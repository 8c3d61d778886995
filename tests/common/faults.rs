//! System calls of a running daemon that fail: they return an error of our choice, by `strace`.

use std::fs;
use std::path::Path;
use std::process::{Child, Command};

use super::{Env, have, kill, skip};

/// As long as it lives, calls fail.
pub(crate) struct Faults(Child);

impl Faults {
    /// Lets `calls` of the daemon on one of `paths` fail with `errno`, such as `EIO`; `None` where
    /// that is not possible.
    pub(crate) fn io_error(env: &Env, errno: &str, calls: &str, paths: &[&Path]) -> Option<Self> {
        Self::inject(env, &format!("{calls}:error={errno}"), paths)
    }

    /// Lets calls fail as strace's expression `what` says, those on one of `paths` only if there are
    /// any; `None` where that is not possible.
    pub(crate) fn inject(env: &Env, what: &str, paths: &[&Path]) -> Option<Self> {
        if !have("strace") {
            return None;
        }
        let mut command = Command::new("strace");
        command.args(["-f", "-qq", "-o", "/dev/null", "-e"]);
        command.arg(format!("inject={what}")).args(["-p", &env.pid().to_string()]);
        for path in paths {
            command.arg("-P").arg(path);
        }
        let mut faults = Self(command.spawn().expect("strace starts"));
        let tasks = format!("/proc/{}/task", env.pid());
        let traced = |task: fs::DirEntry| {
            let status = fs::read_to_string(task.path().join("status")).unwrap_or_default();
            !status.contains("TracerPid:\t0\n")
        };
        let mut ended = false;
        env.wait("strace to hold every thread", || {
            ended = faults.0.try_wait().expect("a child of ours").is_some();
            ended || fs::read_dir(&tasks).expect("the daemon lives").flatten().all(traced)
        });
        if ended {
            skip("the daemon may not be traced (needs root)");
            return None;
        }
        Some(faults)
    }
}

impl Drop for Faults {
    fn drop(&mut self) {
        // At a kill it would leave breakpoints of its own behind.
        let pid = i32::try_from(self.0.id()).expect("a process id");
        kill(pid, 15);
        self.0.wait().ok();
    }
}
