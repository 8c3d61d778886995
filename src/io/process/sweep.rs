//! At boot: becoming the parent of orphans, and killing what an earlier dagd left running.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, getpid, pidfd_send_signal, set_child_subreaper};

use super::token::{self, Token, wait_for_death};

/// Rounds over all processes, at most: a round ends what was found; children forked meanwhile are
/// found by the next.
const ROUNDS_MAX: usize = 64;

/// Processes killed and awaited at a time, at most: each is a descriptor of dagd.
const HELD_MAX: usize = 256;

/// How long the killed may take to die, over all.
const DEATH_MAX: Duration = Duration::from_secs(10);

/// Makes orphans of this process's descendants its children, and sees to it that dead children are
/// kept until they are waited for, even if whoever started dagd ignored `SIGCHLD`. To be called
/// before the first attempt.
#[expect(unsafe_code, reason = "a disposition has no safe setter in our dependencies")]
pub fn become_subreaper() -> io::Result<()> {
    set_child_subreaper(Some(getpid()))?;
    // SAFETY: sets the default disposition; no handler is involved.
    let before = unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) };
    if before == libc::SIG_ERR { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Keeps what whoever started dagd has left open from its tasks. Needs Linux 5.11; on an older one
/// tasks have it open as dagd does.
#[expect(unsafe_code, reason = "close_range has no safe wrapper in our dependencies")]
pub fn keep_descriptors() {
    let flags = libc::c_long::from(libc::CLOSE_RANGE_CLOEXEC);
    // SAFETY: closes nothing: with this flag it marks descriptors to be closed by an exec.
    let done = unsafe { libc::syscall(libc::SYS_close_range, 3_u32, u32::MAX, flags) };
    if done != 0 {
        let error = io::Error::last_os_error();
        tracing::warn!(%error, "tasks will have open what was open when dagd was started");
    }
}

/// Kills every process that carries the token of an attempt of `instance`, this process and the
/// attempts `spared` (by their whole tokens) excepted, until none is left. Returns how many. Fails if `/proc` cannot be read, or some do not die within
/// 10 s: their attempts must not start again beside them.
pub fn sweep(instance: &str, spared: &BTreeSet<String>) -> io::Result<u32> {
    let prefix = format!("{instance}/");
    let of_past = |token: &[u8]| {
        token.starts_with(prefix.as_bytes())
            && !spared.iter().any(|spared| spared.as_bytes() == token)
    };
    end_all(&of_past, instance)
}

/// Kills every process that carries the token `label`. Returns how many. Fails as [`sweep`].
pub fn sweep_attempt(label: &str) -> io::Result<u32> {
    end_all(&|token| token == label.as_bytes(), label)
}

fn end_all(picks: &dyn Fn(&[u8]) -> bool, whose: &str) -> io::Result<u32> {
    let deadline = Instant::now() + DEATH_MAX;
    let mut killed = 0;
    let mut clean = 0;
    for _ in 0..ROUNDS_MAX {
        let found = round(picks, deadline)?;
        clean = if found == 0 { clean + 1 } else { 0 };
        // One may have forked and ended while the list was read: its child is in the next.
        if clean == 2 {
            return Ok(killed);
        }
        killed += found;
    }
    Err(io::Error::other(format!(
        "processes of earlier attempts of `{whose}` fork faster than they can be killed"
    )))
}

/// Kills the carriers that there are now. Returns how many, all of them dead.
fn round(picks: &dyn Fn(&[u8]) -> bool, deadline: Instant) -> io::Result<u32> {
    let mut killed = 0;
    let mut held = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let pid = name.to_str().and_then(|name| name.parse().ok()).and_then(Pid::from_raw);
        let pid = pid.filter(|pid| *pid != getpid());
        let carrier = pid.map(|pid| carrier(pid, picks)).transpose()?;
        let Some(carrier) = carrier.flatten() else { continue };
        // It may have died by itself meanwhile; the wait below tells.
        pidfd_send_signal(&carrier.1, Signal::KILL).ok();
        held.push(carrier);
        if held.len() == HELD_MAX {
            killed += bury(&mut held, deadline)?;
        }
    }
    Ok(killed + bury(&mut held, deadline)?)
}

/// Holds `pid` if it carries a token that is picked. The pidfd comes first: if the
/// number is reused after that, the signal goes nowhere. Errors: it cannot be held.
fn carrier(pid: Pid, picks: &dyn Fn(&[u8]) -> bool) -> io::Result<Option<(Pid, OwnedFd)>> {
    let Some(fd) = token::hold(pid)? else { return Ok(None) };
    let picked =
        matches!(token::read(pid, Instant::now() + DEATH_MAX), Token::Of(token) if picks(&token));
    Ok(picked.then_some((pid, fd)))
}

fn bury(held: &mut Vec<(Pid, OwnedFd)>, deadline: Instant) -> io::Result<u32> {
    let mut killed = 0;
    for (pid, fd) in held.drain(..) {
        if !wait_for_death(&fd, deadline) {
            let pid = pid.as_raw_nonzero();
            return Err(io::Error::new(
                io::ErrorKind::TimedOut,
                format!(
                    "process {pid} of an earlier attempt does not die; end it, then start dagd"
                ),
            ));
        }
        killed += 1;
    }
    Ok(killed)
}
