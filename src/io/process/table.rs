//! Which attempts are in flight here, and which process group may be signalled for each.
//!
//! The one rule: a signal never reaches a number that has been reused. A group is signalled only
//! under the lock and only while its leader has not been reaped; the slot takes the lock and leaves
//! `Running` before it reaps.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::process::Pid;

use crate::core::effect::Stop;
use crate::core::id::AttemptId;

use super::cgroup::Cgroup;

/// The attempts in flight. At most one entry per start that has not ended.
#[derive(Debug, Default)]
pub struct Table {
    // lock: a stop comes from the engine while the slot waits for, and then reaps, that process;
    // the number must stay reserved from the look-up to the signal.
    live: Mutex<BTreeMap<AttemptId, Phase>>,
}

#[derive(Clone, Debug)]
enum Phase {
    /// No process yet; what to send it first.
    Starting(Option<Stop>),
    /// Its leader runs or is dead but not reaped.
    Running(Live),
    /// The same, but all of it was killed.
    Killed(Live),
    /// Its leader is dead; what is left of it is being killed.
    Ending(Pid),
}

/// The processes of an attempt.
#[derive(Clone, Debug)]
struct Live {
    leader: Pid,
    cgroup: Option<Arc<Cgroup>>,
}

impl Table {
    /// An attempt is on its way to a slot.
    pub fn insert(&self, id: AttemptId) {
        self.lock().insert(id, Phase::Starting(None));
    }

    /// What was asked for before there was a process: `Term` or `Kill` mean that none is needed.
    pub fn pending(&self, id: AttemptId) -> Option<Stop> {
        match self.lock().get(&id) {
            Some(Phase::Starting(pending)) => *pending,
            _ => None,
        }
    }

    /// The attempt has its process, which gets what was asked for meanwhile.
    pub fn launched(&self, id: AttemptId, leader: Pid, cgroup: Option<Arc<Cgroup>>) {
        let new = Live { leader, cgroup };
        let mut live = self.lock();
        let before = live.insert(id, Phase::Running(new.clone()));
        let Some(Phase::Starting(pending)) = before else { return };
        if let Some(stop) = pending {
            new.send(stop);
        }
        if pending == Some(Stop::Kill) {
            live.insert(id, Phase::Killed(new));
        }
    }

    /// The leader is dead, and still to be reaped: no more signals from others. Returns whether its
    /// group was killed.
    pub fn ending(&self, id: AttemptId, pid: Pid) -> bool {
        matches!(self.lock().insert(id, Phase::Ending(pid)), Some(Phase::Killed(_)))
    }

    /// The attempt has ended.
    pub fn remove(&self, id: AttemptId) {
        self.lock().remove(&id);
    }

    /// Signals an attempt; nothing happens, and `false` is returned, if it has ended. `Kill` wins over
    /// what was asked for before a process was there.
    pub fn stop(&self, id: AttemptId, how: Stop) -> bool {
        let mut live = self.lock();
        match live.get_mut(&id) {
            Some(Phase::Running(running) | Phase::Killed(running)) => {
                running.send(how);
                if how == Stop::Kill {
                    let killed = running.clone();
                    live.insert(id, Phase::Killed(killed));
                }
            }
            Some(Phase::Starting(pending)) => {
                if !matches!(
                    (*pending, how),
                    (Some(Stop::Kill), _) | (Some(Stop::Term), Stop::Signal(_))
                ) {
                    *pending = Some(how);
                }
            }
            Some(Phase::Ending(_)) | None => return false,
        }
        true
    }

    /// Whether an attempt that leads `group` is being cleared away by its slot.
    pub fn is_ending(&self, group: Pid) -> bool {
        self.lock().values().any(|phase| matches!(phase, Phase::Ending(pid) if *pid == group))
    }

    /// Whether an attempt is in flight.
    pub fn has(&self, id: AttemptId) -> bool {
        self.lock().contains_key(&id)
    }

    /// Attempts in flight.
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// Whether none is in flight.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<AttemptId, Phase>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Live {
    /// Of what is killed nothing in the cgroup is left.
    fn send(&self, how: Stop) {
        signal(self.leader, how);
        if let (Stop::Kill, Some(cgroup)) = (how, &self.cgroup) {
            cgroup.kill();
        }
    }
}

/// Signals a group, and its leader even if it has joined another group. The caller knows that the
/// number is not reused.
pub(super) fn signal(leader: Pid, how: Stop) {
    match how {
        Stop::Term => {
            if !to_group(leader, libc::SIGTERM) {
                to_process(leader, libc::SIGTERM);
            }
        }
        Stop::Kill => {
            to_group(leader, libc::SIGKILL);
            to_process(leader, libc::SIGKILL);
        }
        Stop::Signal(signal) => {
            to_group(leader, signal);
        }
    }
}

/// Sends a signal to a group; `false` if there is no such group or signal. The caller knows that
/// the group's number is not reused.
#[expect(unsafe_code, reason = "the safe wrapper does not take real-time signals")]
pub(super) fn to_group(group: Pid, signal: i32) -> bool {
    // SAFETY: takes two numbers and touches no memory of this process.
    unsafe { libc::kill(-group.as_raw_nonzero().get(), signal) == 0 }
}

/// Sends a signal to a process; `false` if there is no such process or signal. The caller knows that
/// the number is not reused.
#[expect(unsafe_code, reason = "the safe wrapper does not take real-time signals")]
pub(super) fn to_process(pid: Pid, signal: i32) -> bool {
    // SAFETY: takes two numbers and touches no memory of this process.
    unsafe { libc::kill(pid.as_raw_nonzero().get(), signal) == 0 }
}
