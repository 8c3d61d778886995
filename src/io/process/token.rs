//! The token that every process of an attempt carries in its environment: how it is read, and how
//! the death of one that carries it is awaited.
//!
//! It survives forks, new sessions and new parents. It does not survive a process that clears its
//! environment or writes over it: only a cgroup holds those.

use std::fs::File;
use std::io::Read as _;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::Pid;

use super::vars::TOKEN;

/// The longest environment that is read, in bytes; the kernel allows 6 MiB.
const ENVIRON_MAX: u64 = 8 << 20;

/// How long a process may take to change its program: one that loads it from a slow disk.
const EXEC_MAX: Duration = Duration::from_secs(1);

/// What can be known of a process's token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Token {
    /// It carries this one.
    Of(Vec<u8>),
    /// It carries none, or its environment cannot be read.
    Unknown,
    /// It has no memory any more: it is about to die, and may just have forked.
    Gone,
}

/// The token of `pid` as it is now. The caller sees to it that the number is not reused meanwhile,
/// or checks afterwards through a pidfd. Blocks for [`EXEC_MAX`] at most.
pub fn read(pid: Pid) -> Token {
    let deadline = Instant::now() + EXEC_MAX;
    loop {
        let environ = environ(pid);
        if let Some(token) = environ.as_deref().ok().and_then(find) {
            return Token::Of(token.to_vec());
        }
        // An exec gives up the memory that is just being read, which then ends where it was.
        let read = environ.map_or(0, |environ| environ.len() as u64);
        match layout(pid) {
            Layout::Gone => return Token::Gone,
            Layout::Whole(size) if read >= size.min(ENVIRON_MAX) => return Token::Unknown,
            _ if Instant::now() > deadline => return Token::Unknown,
            // The kernel has no event for the end of an exec, and it takes microseconds.
            Layout::InExec => std::thread::sleep(Duration::from_millis(1)),
            Layout::Whole(_) => {}
        }
    }
}

fn environ(pid: Pid) -> std::io::Result<Vec<u8>> {
    let mut environ = Vec::new();
    let file = File::open(format!("/proc/{}/environ", pid.as_raw_nonzero()))?;
    file.take(ENVIRON_MAX).read_to_end(&mut environ)?;
    Ok(environ)
}

/// What a process's memory holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layout {
    /// There is none any more.
    Gone,
    /// It is between two programs.
    InExec,
    /// A program, and an environment of so many bytes; 0 if nobody may know.
    Whole(u64),
}

fn layout(pid: Pid) -> Layout {
    let stat = std::fs::read(format!("/proc/{}/stat", pid.as_raw_nonzero())).unwrap_or_default();
    // The name may hold anything; it ends at the last parenthesis, before field 3.
    let fields = stat.rsplit(|&b| b == b')').next().unwrap_or_default().trim_ascii();
    let field = |number: usize| -> u64 {
        let field = fields.split(|&b| b == b' ').nth(number - 3).unwrap_or_default();
        str::from_utf8(field).ok().and_then(|field| field.parse().ok()).unwrap_or(0)
    };
    let (memory, start_code, env_start, env_end) = (field(23), field(26), field(50), field(51));
    if fields.starts_with(b"Z") {
        // Dead, or its first thread is: the others tell nothing here.
        Layout::Whole(0)
    } else if memory == 0 {
        Layout::Gone
    } else if start_code == 0 {
        // The kernel notes where the program is when the environment is whole.
        Layout::InExec
    } else {
        Layout::Whole(env_end.saturating_sub(env_start))
    }
}

/// Waits until the process behind `pidfd` is dead, reaped or not, or until `deadline`; `false` if it
/// is alive then.
pub fn wait_for_death(pidfd: impl AsFd, deadline: Instant) -> bool {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).unwrap_or_default();
        let mut fds = [PollFd::new(&pidfd, PollFlags::IN)];
        match poll(&mut fds, Some(&left)) {
            Err(Errno::INTR) => {}
            Ok(0) | Err(_) => return false,
            Ok(_) => return true,
        }
    }
}

fn find(environ: &[u8]) -> Option<&[u8]> {
    environ
        .split(|&b| b == 0)
        .find_map(|entry| entry.strip_prefix(TOKEN.as_bytes())?.strip_prefix(b"="))
}

#[cfg(test)]
mod tests {
    use super::{Token, find, read};

    #[test]
    fn only_the_whole_name_counts() {
        assert_eq!(find(b"A=1\0DAGD_ATTEMPT_ID=x/1.a.1\0B=2\0"), Some(&b"x/1.a.1"[..]));
        assert_eq!(find(b"XDAGD_ATTEMPT_ID=x\0A=DAGD_ATTEMPT_ID=x\0DAGD_ATTEMPT_IDS=x\0"), None);
        assert_eq!(find(b""), None);
    }

    #[test]
    fn a_process_without_one() {
        let own = rustix::process::getpid();
        assert_eq!(read(own), Token::Unknown);
        let own = super::environ(own).unwrap().len() as u64;
        assert_eq!(super::layout(rustix::process::getpid()), super::Layout::Whole(own));
    }
}
