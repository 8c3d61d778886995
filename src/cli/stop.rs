//! `stop`: a graceful stop. Returns when the daemon's process is gone.

use std::os::fd::{AsFd as _, OwnedFd};
use std::time::Duration;

use clap::Args;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::Context;
use super::exit::{Exit, Failure, Outcome};

/// Options of `stop`.
#[derive(Debug, Args)]
pub struct StopArgs {
    /// Give up waiting after so many seconds; the daemon goes on stopping
    #[arg(long, value_name = "SECONDS")]
    pub timeout: Option<u64>,
    /// Return when stopping has begun
    #[arg(long, conflicts_with = "timeout")]
    pub no_wait: bool,
}

/// Asks the daemon to stop, and waits.
pub fn stop(args: &StopArgs, context: &mut Context) -> Outcome {
    let client = context.finder.client()?;
    let pid = client.status()?.pid;
    let process = Process::of(pid);
    client.stop()?;
    if args.no_wait {
        return Ok(Exit::Done);
    }
    let gone = match process {
        Some(process) => process.gone(args.timeout.map(Duration::from_secs))?,
        // It ended before it could be looked at.
        None => true,
    };
    if gone {
        context.screen.line(&format!("dagd has stopped (pid {pid})"))?;
        return Ok(Exit::Done);
    }
    let waited = args.timeout.unwrap_or(0);
    Err(Failure::failed(format!("dagd (pid {pid}) is still stopping after {waited} s")))
}

/// A process, whoever's child it is.
pub struct Process(OwnedFd);

impl Process {
    /// The process with this number; `None` if there is none.
    pub fn of(pid: u32) -> Option<Self> {
        let pid = Pid::from_raw(i32::try_from(pid).ok()?)?;
        pidfd_open(pid, PidfdFlags::empty()).ok().map(Self)
    }

    /// Waits for its end, at most for `limit`. Whether it has ended.
    pub fn gone(&self, limit: Option<Duration>) -> Result<bool, Failure> {
        let limit = limit.and_then(|limit| Timespec::try_from(limit).ok());
        let fd = self.0.as_fd();
        loop {
            match poll(&mut [PollFd::new(&fd, PollFlags::IN)], limit.as_ref()) {
                Ok(ready) => return Ok(ready > 0),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => {
                    return Err(Failure::failed(format!("cannot wait for the process: {error}")));
                }
            }
        }
    }
}
