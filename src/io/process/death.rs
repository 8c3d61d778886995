//! The death of a process: waiting for it, how it ended, what it used.
//!
//! A dead process keeps its number until it is reaped: that is the last thing, and never done by the
//! wait.

use rustix::io::{Errno, retry_on_intr};
use rustix::process::{Pid, WaitId, WaitIdOptions, WaitIdStatus, waitid};
use rustix::time::{ClockId, clock_gettime};

use crate::core::confine::Usage;
use crate::core::id::Wall;
use crate::core::task::Exit;

/// Reaps the dead leader, and tells what it used, with those whom it waited for.
#[expect(unsafe_code, reason = "wait4 has no safe wrapper in our dependencies")]
pub fn reap(leader: Pid) -> Usage {
    let mut used = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    let mut own = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: both calls fill in a structure of integers, for which zeroes are valid as well; neither
    // keeps the pointer. The leader is dead: the first does not wait.
    let (reaped, used, own) = unsafe {
        let pid = leader.as_raw_nonzero().get();
        let reaped = libc::wait4(pid, std::ptr::null_mut(), 0, used.as_mut_ptr());
        libc::getrusage(libc::RUSAGE_SELF, own.as_mut_ptr());
        (reaped, used.assume_init(), own.assume_init())
    };
    if reaped < 0 {
        return Usage::default();
    }
    let us = |time: libc::timeval| {
        let sum = time.tv_sec.saturating_mul(1_000_000).saturating_add(time.tv_usec);
        u64::try_from(sum).unwrap_or(0)
    };
    // The kernel counts what dagd had when the process was not yet its program: only what is above
    // that is the program's own.
    let peak = u64::try_from(used.ru_maxrss).ok().filter(|_| used.ru_maxrss > own.ru_maxrss);
    Usage {
        memory_peak: peak.map(|kib| kib.saturating_mul(1024)),
        cpu_us: Some(us(used.ru_utime).saturating_add(us(used.ru_stime))),
    }
}

/// Waits until the leader is dead, and leaves it to be reaped. The error means that something else
/// has reaped it.
pub fn wait(leader: Pid) -> Result<WaitIdStatus, Errno> {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
    let dead = || waitid(WaitId::Pid(leader), options);
    match retry_on_intr(dead) {
        Ok(Some(status)) => Ok(status),
        Ok(None) => Err(Errno::CHILD),
        Err(error) => {
            tracing::warn!(pid = leader.as_raw_nonzero().get(), %error, "lost sight of a process");
            Err(error)
        }
    }
}

/// How a process has ended, by its exit code or the signal that ended it.
pub fn exit_of(code: Option<i32>, signal: Option<i32>) -> Exit {
    code.map(Exit::Code).or(signal.map(Exit::Signal)).unwrap_or(Exit::Unknown)
}

/// The calendar clock.
pub fn now() -> Wall {
    let time = clock_gettime(ClockId::Realtime);
    Wall(time.tv_sec.saturating_mul(1_000_000_000).saturating_add(time.tv_nsec))
}
