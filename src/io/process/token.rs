//! The token that every process of an attempt carries in its environment: how it is read, and how
//! the death of one that carries it is awaited.
//!
//! It survives forks, new sessions and new parents. It does not survive a process that clears its
//! environment, writes over it, or forbids that it is read: only a cgroup holds those.

use std::fs::{DirEntry, File};
use std::io::Read as _;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::vars::TOKEN;

/// The longest environment that is read, in bytes; the kernel allows 6 MiB.
const ENVIRON_MAX: u64 = 8 << 20;

/// How long a process may take to change its program: one that loads it from a slow disk.
const EXEC_MAX: Duration = Duration::from_secs(1);

/// Looks at an environment that stays where it is, and of which there is less to be read than there is:
/// after so many it is not just being replaced, but nobody may read it.
const LOOKS: u32 = 3;

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

/// Holds a process, so that its number cannot come to mean another one unnoticed; `None`: there is no
/// such process, though a group or a session may still have the number. Errors: there is no
/// descriptor to be had for it.
pub fn hold(pid: Pid) -> Result<Option<OwnedFd>, Errno> {
    match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(fd) => Ok(Some(fd)),
        Err(error @ (Errno::MFILE | Errno::NFILE | Errno::NOMEM)) => Err(error),
        Err(_) => Ok(None),
    }
}

/// The token of `pid` as it is now. The caller sees to it that the number is not reused meanwhile,
/// or checks afterwards through a pidfd. Blocks for [`EXEC_MAX`] at most, and not beyond `deadline`.
pub fn read(pid: Pid, deadline: Instant) -> Token {
    let proc = format!("/proc/{}", pid.as_raw_nonzero());
    let deadline = deadline.min(Instant::now() + EXEC_MAX);
    let (mut before, mut looks) = (Layout::Gone, 0);
    loop {
        let environ = environ(&proc);
        if let Some(token) = environ.as_deref().ok().and_then(find) {
            return Token::Of(token.to_vec());
        }
        // An exec gives up the memory that is just being read, which then ends where it was.
        let read = environ.map_or(0, |environ| environ.len() as u64);
        let layout = layout(&proc);
        looks = if layout == before { looks + 1 } else { 1 };
        before = layout;
        match layout {
            Layout::Gone => return Token::Gone,
            Layout::Headless => return of_threads(&proc),
            Layout::Whole { size, .. } if read >= size.min(ENVIRON_MAX) || looks == LOOKS => {
                return Token::Unknown;
            }
            _ if Instant::now() > deadline => return Token::Unknown,
            // The kernel has no event for the end of an exec, and it takes microseconds.
            Layout::InExec | Layout::Whole { .. } => std::thread::sleep(Duration::from_millis(1)),
        }
    }
}

/// The token of a process whose first thread has ended: the others know it. The dead have none.
fn of_threads(proc: &str) -> Token {
    let mut threads = std::fs::read_dir(format!("{proc}/task")).into_iter().flatten().flatten();
    let token = |thread: DirEntry| {
        let environ = environ(thread.path().to_str()?).ok()?;
        Some(Token::Of(find(&environ)?.to_vec()))
    };
    threads.find_map(token).unwrap_or(Token::Unknown)
}

/// The environment of the process, or thread, that `proc` tells of.
fn environ(proc: &str) -> std::io::Result<Vec<u8>> {
    let mut environ = Vec::new();
    let file = File::open(format!("{proc}/environ"))?;
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
    /// A program, and an environment of so many bytes at this address; 0 if nobody may know.
    Whole { size: u64, at: u64 },
    /// Nothing that the first thread could tell: it has ended.
    Headless,
}

fn layout(proc: &str) -> Layout {
    let stat = std::fs::read(format!("{proc}/stat")).unwrap_or_default();
    // The name may hold anything; it ends at the last parenthesis, before field 3.
    let fields = stat.rsplit(|&b| b == b')').next().unwrap_or_default().trim_ascii();
    let field = |number: usize| -> u64 {
        let field = fields.split(|&b| b == b' ').nth(number - 3).unwrap_or_default();
        str::from_utf8(field).ok().and_then(|field| field.parse().ok()).unwrap_or(0)
    };
    let (memory, start_code, env_start, env_end) = (field(23), field(26), field(50), field(51));
    if fields.starts_with(b"Z") {
        Layout::Headless
    } else if memory == 0 {
        Layout::Gone
    } else if start_code == 0 {
        // The kernel notes where the program is when the environment is whole.
        Layout::InExec
    } else {
        Layout::Whole { size: env_end.saturating_sub(env_start), at: env_start }
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
    use std::time::{Duration, Instant};

    use super::{Layout, Token, find, read};

    #[test]
    fn only_the_whole_name_counts() {
        assert_eq!(find(b"A=1\0DAGD_ATTEMPT_ID=x/1.a.1\0B=2\0"), Some(&b"x/1.a.1"[..]));
        assert_eq!(find(b"XDAGD_ATTEMPT_ID=x\0A=DAGD_ATTEMPT_ID=x\0DAGD_ATTEMPT_IDS=x\0"), None);
        assert_eq!(find(b""), None);
    }

    #[test]
    fn a_process_without_one() {
        let soon = Instant::now() + Duration::from_mins(1);
        assert_eq!(read(rustix::process::getpid(), soon), Token::Unknown);
        let own = super::environ("/proc/self").unwrap().len() as u64;
        let Layout::Whole { size, .. } = super::layout("/proc/self") else { unreachable!() };
        assert_eq!(size, own);
    }
}
