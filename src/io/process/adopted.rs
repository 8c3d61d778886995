//! Attempts that an earlier dagd has left and that go on: one thread waits for all of them, from the
//! start of this dagd to the end of the last.
//!
//! They take no slot: who starts what is bounded has counted them, and an end is seen when it comes,
//! however many slots there are. Never starts anything.
//!
//! Nobody holds their numbers for dagd, whose children they are not. So each is held by a pidfd, and
//! nothing is sent to the number of one that has ended.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use crossbeam_channel::Sender;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use crate::core::confine::Usage;
use crate::core::effect::Stop;
use crate::core::id::{AttemptId, Name};
use crate::core::task::{Ended, Exit};
use crate::io::failpoint::failpoint;

use super::blot::Secrets;
use super::death::now;
use super::keeper::Keeper;
use super::left::{self, Left};
use super::output::{Log, Spare};
use super::outputs;
use super::slots::{STACK, about};
use super::sweep::sweep_attempt;
use super::table::signal;

/// How long to wait before asking again, where the kernel has no room for the question.
const AGAIN: Duration = Duration::from_secs(1);

/// An attempt that an earlier dagd has left, and that goes on.
#[derive(Debug)]
pub struct Adopted {
    /// Which attempt.
    pub id: AttemptId,
    /// Its task.
    pub task: Name,
    /// Its token.
    pub label: String,
    /// Its watcher.
    pub left: Arc<Left>,
    /// Where its end will be written down.
    pub place: PathBuf,
    /// Its log.
    pub log: PathBuf,
    /// Bytes of output that are kept.
    pub log_max: u64,
    /// Where it may write for its dependents.
    pub output: PathBuf,
    /// What is to be blotted out of its log.
    pub secrets: Secrets,
}

/// Who is to be signalled for each attempt that was adopted and has not ended.
#[derive(Debug, Default)]
pub struct Adoptions {
    // lock: a stop comes from the engine while the thread waits for, and then tells, an end.
    live: Mutex<BTreeMap<AttemptId, Live>>,
}

#[derive(Debug)]
struct Live {
    left: Arc<Left>,
    killed: bool,
}

impl Adoptions {
    /// Signals an attempt; nothing happens, and `false` is returned, if it has ended.
    pub fn stop(&self, id: AttemptId, how: Stop) -> bool {
        let mut all = self.lock();
        let Some(live) = all.get_mut(&id).filter(|live| !live.left.has_ended()) else {
            return false;
        };
        signal(live.left.pid, how);
        live.killed |= how == Stop::Kill;
        true
    }

    /// Whether an attempt is one of these.
    pub fn has(&self, id: AttemptId) -> bool {
        self.lock().contains_key(&id)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<AttemptId, Live>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes over what goes on: from now on each can be stopped, and its end will be sent to `out`, by a
/// thread that waits while that is full. Fails where there is no thread to be had: they go on, and
/// the next dagd finds them.
pub fn see_out(
    all: Vec<Adopted>,
    keeper: &Keeper,
    out: Sender<(AttemptId, Ended)>,
) -> std::io::Result<Arc<Adoptions>> {
    let adoptions = Arc::new(Adoptions::default());
    if all.is_empty() {
        return Ok(adoptions);
    }
    let live = |adopted: &Adopted| Live { left: Arc::clone(&adopted.left), killed: false };
    adoptions.lock().extend(all.iter().map(|adopted| (adopted.id, live(adopted))));
    let waiting: Vec<_> =
        all.into_iter().map(|adopted| (tended(&adopted, keeper), adopted)).collect();
    keeper.wake();
    let shared = Arc::clone(&adoptions);
    thread::Builder::new()
        .name("dagd-adopted".into())
        .stack_size(STACK)
        .spawn(move || wait(waiting, &shared, &out))?;
    Ok(adoptions)
}

/// Its log, which is bounded and can be followed as that of any other.
fn tended(adopted: &Adopted, keeper: &Keeper) -> Arc<Log> {
    let log = keeper.add();
    match Spare::used(adopted.log.clone()) {
        Ok(spare) => log.begin(spare, adopted.log.clone(), adopted.log_max),
        Err(error) => tracing::warn!(path = %adopted.log.display(), %error, "cannot tend a log"),
    }
    log
}

/// Tells each end, until there is nothing left to wait for.
fn wait(
    mut waiting: Vec<(Arc<Log>, Adopted)>,
    adoptions: &Adoptions,
    out: &Sender<(AttemptId, Ended)>,
) {
    while !waiting.is_empty() {
        for (log, adopted) in dead(&mut waiting) {
            let _about = about(adopted.id, &adopted.task);
            let killed = adoptions.lock().get(&adopted.id).is_some_and(|live| live.killed);
            let ended = ended(&adopted, &log, killed);
            failpoint!("run.ended");
            adoptions.lock().remove(&adopted.id);
            if out.send((adopted.id, ended)).is_err() {
                return;
            }
        }
    }
}

/// Waits until one or more have ended, and takes them out. Now and then there are none.
fn dead(waiting: &mut Vec<(Arc<Log>, Adopted)>) -> Vec<(Arc<Log>, Adopted)> {
    let mut fds: Vec<_> =
        waiting.iter().map(|(_, one)| PollFd::new(&one.left.fd, PollFlags::IN)).collect();
    match poll(&mut fds, None) {
        Ok(_) => {}
        Err(Errno::INTR) => return Vec::new(),
        Err(error) => {
            tracing::warn!(%error, "cannot wait for tasks that were taken over; trying again");
            thread::sleep(AGAIN);
            return Vec::new();
        }
    }
    let mut ended = fds.iter().map(|fd| !fd.revents().is_empty()).collect::<Vec<_>>().into_iter();
    waiting.extract_if(.., |_| ended.next().unwrap_or(false)).collect()
}

/// How an attempt has ended whose watcher is gone.
fn ended(adopted: &Adopted, log: &Log, killed: bool) -> Ended {
    let Adopted { label, left, place, output, secrets, .. } = adopted;
    let seen_at = now();
    let swept = sweep_attempt(label).unwrap_or_else(|error| {
        tracing::warn!(attempt = label, %error, "what a task left behind is still there");
        0
    });
    // What was dying of a kill was not left behind.
    let swept = if killed { 0 } else { swept };
    let (exit, ended_at, before) = match left::written(place) {
        Some(end) => (end.exit, end.at, end.leftovers),
        None if killed => (Exit::Signal(libc::SIGKILL), seen_at, 0),
        None => (Exit::Unknown, seen_at, 0),
    };
    let outputs = outputs::look(output);
    log.own();
    let (log_bytes, _) = log.end(false);
    secrets.blot_or_tell(&adopted.log);
    let (started_at, leftovers, usage) = (left.began, before + swept, Usage::default());
    Ended { exit, started_at, ended_at, leftovers, log_bytes, outputs, usage }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::CommandExt as _;
    use std::process::{Child, Command};
    use std::sync::Arc;

    use rustix::process::{Pid, PidfdFlags, pidfd_open};

    use super::{Adoptions, Live};
    use crate::core::effect::Stop;
    use crate::core::id::{Attempt, AttemptId, NodeIx, RunId, Wall};
    use crate::io::process::left::Left;

    fn sleeper() -> (Child, Pid) {
        let child = Command::new("sleep").arg("1000").process_group(0).spawn().unwrap();
        let pid = Pid::from_child(&child);
        (child, pid)
    }

    #[test]
    fn nothing_is_sent_to_the_number_of_one_that_has_ended() {
        let (mut gone, ended) = sleeper();
        let fd = pidfd_open(ended, PidfdFlags::empty()).unwrap();
        gone.kill().unwrap();
        gone.wait().unwrap();
        // The number means another one by now, which leads a group as well.
        let (mut other, pid) = sleeper();
        let id = AttemptId { run: RunId(1), node: NodeIx(0), attempt: Attempt(1) };
        let adoptions = Adoptions::default();
        let adopt = |fd| {
            let left = Arc::new(Left { pid, fd, began: Wall(0) });
            adoptions.lock().insert(id, Live { left, killed: false });
        };
        adopt(fd);
        for how in [Stop::Signal(libc::SIGKILL), Stop::Term, Stop::Kill] {
            assert!(!adoptions.stop(id, how));
        }
        assert!(!adoptions.lock()[&id].killed);
        assert!(other.try_wait().unwrap().is_none(), "another one is left alone");
        adopt(pidfd_open(pid, PidfdFlags::empty()).unwrap());
        assert!(adoptions.stop(id, Stop::Kill) && adoptions.lock()[&id].killed);
        other.wait().unwrap();
        assert!(adoptions.has(id) && adoptions.len() == 1);
    }
}
