//! What a task leaves behind: finding it, killing it, counting it.
//!
//! dagd is a subreaper: a process whose parent dies becomes a child of dagd's main thread, while
//! attempts' leaders are children of slot threads. So the main thread's list of children is exactly
//! the list of orphans; when it is empty, as after nearly every task, no attempt has left anything,
//! and the look costs one read of a file in `/proc`.
//!
//! The kernel leaves out entries of the list if others go while it is read (proc(5)). An orphan goes
//! when it is reaped, which happens here alone: so none is reaped while anybody reads.
//!
//! A number from the list may be reused before it is acted on. So a pidfd is opened for each, and
//! the list is read once more: what is in both lists is held by the pidfd, and everything after goes
//! through it.

use std::collections::BTreeSet;
use std::fs::File;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::FileExt as _;
use std::sync::{PoisonError, RwLock};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, getpgid, getpid, pidfd_send_signal, waitid,
};

use super::table::{Table, to_group};
use super::token::{self, Token};

// lock: the list of orphans is the whole process's. Held shared while it is read, alone while an orphan
// is reaped.
static LIST: RwLock<()> = RwLock::new(());

/// Orphans held by a pidfd at the same time, at most: they are descriptors of dagd.
const HELD_MAX: usize = 256;

/// How long to wait where there is no descriptor to be had.
const AGAIN: Duration = Duration::from_millis(10);

/// How long the killed may take to die, with what they leave behind in turn. Only one that hangs in the
/// kernel, or forks without end, takes longer.
const DEATH_MAX: Duration = Duration::from_secs(5);

/// How long one that is on its way out may take, whosever it is: no longer, as it may hang in the kernel
/// for ever, such as on a file of a server that is gone.
const DYING_MAX: Duration = Duration::from_secs(1);

/// The orphans of this process.
#[derive(Debug)]
pub struct Orphans {
    list: File,
}

/// What became of an attempt's leftovers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cleared {
    /// Processes that were still there at the end of the leader, and were killed.
    pub killed: u32,
    /// Whether nothing that may belong to the attempt is alive: its log can be used by another.
    pub clean: bool,
}

/// What one round found.
#[derive(Debug, Default)]
struct Round {
    /// Whether anything may have come to be meanwhile that was not seen: something was ended, or had
    /// ended by itself, and its children are orphans now.
    again: bool,
    /// How many were ended that count as left behind.
    killed: u32,
    stuck: bool,
    strangers: bool,
}

impl Orphans {
    /// Opens the list of the main thread's children. Fails where the kernel has none.
    pub fn open() -> std::io::Result<Self> {
        let main = getpid().as_raw_nonzero();
        let path = format!("/proc/self/task/{main}/children");
        let named = |error: std::io::Error| {
            std::io::Error::new(error.kind(), format!("{path}: {error}; dagd needs this list"))
        };
        Ok(Self { list: File::open(&path).map_err(named)? })
    }

    /// Kills and reaps all that is left of the attempt with the token `label`, whose dead leader
    /// `group` has not been reaped yet (so that the number of its group is not reused) and is
    /// marked as ending in `table`. If the group was killed, what is dying of that in it was not left
    /// behind by the task, and is not counted. Blocks for [`DEATH_MAX`] at most.
    pub fn clear(&self, label: &str, (group, killed): (Pid, bool), table: &Table) -> Cleared {
        let mut cleared = Cleared { killed: 0, clean: true };
        let deadline = Instant::now() + DEATH_MAX;
        let mut first = true;
        loop {
            let pids = self.pids();
            if first && pids.is_empty() {
                // Nothing to count; there may be a group all the same where dagd is no subreaper.
                to_group(group, libc::SIGKILL);
                return cleared;
            }
            let who = Who { label, group, killed, first, table };
            let found = self.round(&pids, &who, deadline);
            cleared.killed += found.killed;
            cleared.clean = !found.stuck && !found.strangers && !found.again;
            if !found.again || found.stuck {
                return cleared;
            }
            if Instant::now() > deadline {
                tracing::warn!(attempt = label, "what a task left behind may still be there");
                return cleared;
            }
            first = false;
        }
    }

    /// Reaps what died as an orphan, so that a long task that leaves many dead does not fill the
    /// process table. Those of an attempt that is being cleared are left for it to count.
    pub fn reap(&self, table: &Table) {
        for pids in self.pids().chunks(HELD_MAX) {
            for orphan in self.hold(pids).unwrap_or_default() {
                orphan.reap_if_dead(table, None);
            }
        }
    }

    /// One round over `pids`: all are looked at, then the group and what else is found are killed,
    /// then waited for.
    fn round(&self, pids: &[Pid], who: &Who<'_>, deadline: Instant) -> Round {
        let mut found = Round::default();
        for (index, chunk) in pids.chunks(HELD_MAX).enumerate() {
            let (mut mine, mut dying) = (Vec::new(), Vec::new());
            let held = self.hold(chunk).unwrap_or_else(|_| {
                std::thread::sleep(AGAIN);
                Vec::new()
            });
            found.again |= held.len() < chunk.len();
            for orphan in held {
                match orphan.whose(who, deadline) {
                    Whose::Mine { counted } => {
                        found.killed += u32::from(counted);
                        mine.push(orphan);
                    }
                    Whose::Stranger => found.strangers = true,
                    Whose::Dying => dying.push(orphan),
                    Whose::Other | Whose::Left => {}
                    Whose::Dead { counted } => {
                        found.again = true;
                        found.killed += u32::from(counted);
                    }
                }
            }
            if who.first && index == 0 {
                to_group(who.group, libc::SIGKILL);
            }
            for orphan in &mine {
                orphan.kill();
                found.again = true;
            }
            for orphan in &dying {
                // Its children are orphans when it is dead.
                let soon = deadline.min(Instant::now() + DYING_MAX);
                let dead = token::wait_for_death(&orphan.fd, soon);
                if dead {
                    orphan.reap_if_dead(who.table, Some(who.group));
                }
                found.again |= dead;
                found.strangers |= !dead;
            }
            for orphan in &mine {
                if !orphan.wait(deadline) {
                    found.stuck = true;
                    tracing::warn!(
                        attempt = who.label,
                        pid = orphan.pid.as_raw_nonzero().get(),
                        "a process that the task left behind does not die"
                    );
                }
            }
        }
        found
    }

    /// Those of `pids` that are orphans now, each held so that its number means nobody else. Errors:
    /// there are no descriptors to be had.
    fn hold(&self, pids: &[Pid]) -> Result<Vec<Orphan>, Errno> {
        let orphan = |&pid: &Pid| Some(token::hold(pid).transpose()?.map(|fd| Orphan { pid, fd }));
        let mut held = pids.iter().filter_map(orphan).collect::<Result<Vec<_>, _>>()?;
        if !held.is_empty() {
            let still: BTreeSet<i32> = self.pids().into_iter().map(raw).collect();
            held.retain(|orphan| still.contains(&raw(orphan.pid)));
        }
        Ok(held)
    }

    /// The orphans' numbers. An unreadable list counts as empty: it was readable at the start.
    fn pids(&self) -> Vec<Pid> {
        let _nobody_reaps = LIST.read().unwrap_or_else(PoisonError::into_inner);
        let mut text = [0; 4096];
        let mut all = Vec::new();
        let mut part = 0;
        let mut at = 0;
        while let Ok(read @ 1..) = self.list.read_at(&mut text, at) {
            for &byte in &text[..read] {
                if byte.is_ascii_digit() {
                    part = part * 10 + i32::from(byte - b'0');
                } else {
                    all.extend(Pid::from_raw(std::mem::take(&mut part)));
                }
            }
            at += read as u64;
        }
        all
    }
}

/// On whose behalf the orphans are looked at.
struct Who<'a> {
    label: &'a str,
    group: Pid,
    /// Whether its group was killed before its leader ended.
    killed: bool,
    /// Whether this is the first look: the dead had died before the leader did.
    first: bool,
    table: &'a Table,
}

/// To whom an orphan belongs.
enum Whose {
    /// Alive, of this attempt.
    Mine {
        /// Whether the task left it behind.
        counted: bool,
    },
    /// Alive, of another attempt of this dagd.
    Other,
    /// Alive, and nothing tells of which attempt.
    Stranger,
    /// On its way out, and nothing tells any more of which attempt; it may just have forked.
    Dying,
    /// Dead, of another attempt that will count it.
    Left,
    /// Dead and reaped.
    Dead {
        /// Whether it belonged to the attempt and was alive when its leader ended.
        counted: bool,
    },
}

/// How an orphan was found.
enum Life {
    Alive,
    /// Dead, and somebody else's to reap.
    Dead,
    Reaped,
}

/// An orphan whose number cannot come to mean another process.
struct Orphan {
    pid: Pid,
    fd: OwnedFd,
}

impl Orphan {
    fn whose(&self, who: &Who<'_>, deadline: Instant) -> Whose {
        let in_group = getpgid(Some(self.pid)) == Ok(who.group);
        let dead = || match self.reap_if_dead(who.table, Some(who.group)) {
            Life::Alive => None,
            Life::Dead => Some(Whose::Left),
            Life::Reaped => Some(Whose::Dead { counted: in_group && !who.first && !who.killed }),
        };
        if let Some(dead) = dead() {
            return dead;
        }
        if in_group {
            return Whose::Mine { counted: !who.killed };
        }
        let instance = who.label.rsplit_once('/').map_or(who.label, |(instance, _)| instance);
        match token::read(self.pid, deadline) {
            Token::Of(label) if label == who.label.as_bytes() => Whose::Mine { counted: true },
            Token::Of(label)
                if label.strip_prefix(instance.as_bytes()).is_some_and(|l| l.starts_with(b"/")) =>
            {
                Whose::Other
            }
            Token::Of(_) => Whose::Stranger,
            // The dead tell nothing either.
            Token::Unknown => dead().unwrap_or(Whose::Stranger),
            Token::Gone => dead().unwrap_or(Whose::Dying),
        }
    }

    /// Whether it is dead. It is reaped unless it is in the group of another attempt that is being
    /// cleared. Asked in this order: if that attempt is not ending after this one was seen dead, it
    /// is none of its leftovers.
    fn reap_if_dead(&self, table: &Table, mine: Option<Pid>) -> Life {
        let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        match waitid(WaitId::PidFd(self.fd.as_fd()), look) {
            Ok(None) => return Life::Alive,
            Ok(Some(_)) => {}
            Err(_) => return Life::Reaped,
        }
        let group = getpgid(Some(self.pid)).ok();
        if group.is_some_and(|group| Some(group) != mine && table.is_ending(group)) {
            return Life::Dead;
        }
        self.reap();
        Life::Reaped
    }

    fn reap(&self) {
        let _nobody_reads = LIST.write().unwrap_or_else(PoisonError::into_inner);
        // Another slot may have reaped it meanwhile.
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        waitid(WaitId::PidFd(self.fd.as_fd()), options).ok();
    }

    fn kill(&self) {
        // It may have died by itself meanwhile.
        pidfd_send_signal(&self.fd, Signal::KILL).ok();
    }

    /// Waits for its death until `deadline` and reaps it; `false` if it is still alive.
    fn wait(&self, deadline: Instant) -> bool {
        let dead = token::wait_for_death(&self.fd, deadline);
        self.reap();
        dead
    }
}

fn raw(pid: Pid) -> i32 {
    pid.as_raw_nonzero().get()
}
