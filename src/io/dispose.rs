//! Disposition: takes a file of a run to where its configuration wants it, or away.
//!
//! Owns a thread `dagd-dispose` for each trigger that moves files and, for the time of one move,
//! hidden names that begin with `.dagd-` and end in `.tmp`: a copy in the making beside the target,
//! and beside the source the original, and what goes along with it, on their way out. It never
//! takes away a version other than the claimed one, replaces a file only where that is configured,
//! and never leaves two copies. Every state that a crash can leave behind is one that [`dispose`],
//! repeated, starts from: all it needs to know is in the [`Move`] and on the disk.
//!
//! ```text
//! one file system   rename without replacing ─ check what arrived
//! cannot do that    link ─ original aside ─ check it ─ remove it
//! across            copy to .tmp, sync ─ rename without replacing ─ original aside ─ check it ─ remove it
//! to replace        original aside ─ check it ─ rename over the target
//! ... across        copy to .tmp, sync ─ original aside ─ check it ─ rename over the target ─ remove it
//! to delete         original aside ─ check it ─ remove it
//! ```
//!
//! "Check" asks whether it is the claimed version and nobody writes to it. If not, it goes back.
//! What goes along is set aside before the file goes, and follows it, or goes back as well.

mod companions;
mod copy;
mod error;
mod item;
mod job;
mod lease;
mod pin;
mod place;
#[cfg(test)]
mod races;
mod remove;
mod tree;
mod ways;

use std::collections::BTreeMap;
use std::thread;

use crossbeam_channel::Sender;

use self::error::Error;
use self::job::{Job, Step};
use self::pin::Pin;
use crate::core::disposition::{Disposed, MoveResult, Phase};
use crate::core::effect::Move;
use crate::core::id::{Name, RunId};

/// Moves that may wait per thread: more than live runs can have files, unless limits were raised
/// beyond memory. What comes on top is told to try again later, so that the engine never waits.
const QUEUE_MAX: usize = 1 << 20;

/// Threads at most; the triggers beyond share the one that has least to do.
const THREADS_MAX: usize = 64;

/// Fresh starts when folders come and go underneath a move; then somebody means it.
const TRIES_MAX: u32 = 8;

/// What a move came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moved {
    /// The run.
    pub run: RunId,
    /// The file's index in it.
    pub file: u32,
    /// Which of its dispositions it was.
    pub phase: Phase,
    /// The outcome.
    pub outcome: Disposed,
}

impl Moved {
    fn of(mv: &Move, outcome: Disposed) -> Self {
        Self { run: mv.run, file: mv.file, phase: mv.phase, outcome }
    }
}

/// Where results go.
pub type Results = Sender<Moved>;

/// Runs the moves of each trigger one after the other, on a thread that its first one starts: a
/// large copy, or a target that hangs, is in nobody else's way.
#[derive(Debug)]
pub struct Disposer {
    out: Results,
    queues: BTreeMap<Option<Name>, Sender<Move>>,
    queue_max: usize,
}

impl Disposer {
    /// A disposer that reports to `out`. No thread yet.
    pub fn new(out: Results) -> Self {
        Self { out, queues: BTreeMap::new(), queue_max: QUEUE_MAX }
    }

    /// Queues a move. Never waits. Returns the result of one that finds no place; each other gets one
    /// through the channel. Dropping the disposer lets the threads finish what is queued.
    #[must_use = "nobody else tells of it"]
    pub fn start(&mut self, mv: Move) -> Option<Moved> {
        let own = self.queues.get(&mv.trigger);
        let full = self.queues.len() >= THREADS_MAX;
        let shared = || self.queues.values().min_by_key(|queue| queue.len()).filter(|_| full);
        let queue = own.or_else(shared);
        let waiting = queue.map_or(0, Sender::len);
        if waiting >= self.queue_max {
            return Some(put_off(&mv, format!("{waiting} other files wait to be moved")));
        }
        let back = match queue {
            Some(queue) => match queue.send(mv) {
                Ok(()) => return None,
                // Its thread has died of a defect: the next one has another try.
                Err(unsent) => unsent.into_inner(),
            },
            None => mv,
        };
        self.begin(back)
    }

    /// Ends the threads of triggers that are not wanted any more, each when it has done what waits. A
    /// run that still ends begins another.
    pub fn keep(&mut self, wanted: impl Fn(&Name) -> bool) {
        self.queues.retain(|trigger, _| trigger.as_ref().is_none_or(&wanted));
    }

    fn begin(&mut self, mv: Move) -> Option<Moved> {
        let (queue, moves) = crossbeam_channel::unbounded::<Move>();
        let out = self.out.clone();
        let work = move || {
            for mv in moves {
                let outcome = dispose(&mv);
                if out.send(Moved::of(&mv, outcome)).is_err() {
                    return;
                }
            }
        };
        match thread::Builder::new().name("dagd-dispose".to_owned()).spawn(work) {
            Ok(_) => {
                let trigger = mv.trigger.clone();
                queue.send(mv).expect("the thread holds the other end until it has read this");
                self.queues.insert(trigger, queue);
                None
            }
            Err(error) => Some(put_off(&mv, format!("no thread for it: {error}"))),
        }
    }
}

fn put_off(mv: &Move, why: String) -> Moved {
    Moved::of(mv, Disposed::NotYet(Job::new(mv, None).failure(&Error::Refused(why))))
}

/// Disposes of the file, if it is still the claimed version. May be repeated after a crash at any
/// point, and after its own success.
pub fn dispose(mv: &Move) -> Disposed {
    let trigger = mv.trigger.as_deref();
    let _about = tracing::error_span!("move", run = mv.run.0, trigger).entered();
    for _ in 0..TRIES_MAX {
        let pin = Pin::of(mv.claim.path.as_path());
        let job = Job::new(mv, pin.as_ref());
        match job.go() {
            Ok(Step::Done(MoveResult::Superseded)) => {
                return job.superseded().unwrap_or_else(|error| outcome(&job, &error));
            }
            Ok(Step::Done(result)) => return Disposed::Done(result),
            Ok(Step::Again) => {}
            Err(error) => return outcome(&job, &error),
        }
    }
    outcome(&Job::new(mv, None), &Error::Restless)
}

fn outcome(job: &Job<'_>, error: &Error) -> Disposed {
    let text = job.failure(error);
    if error.may_pass() {
        // Tries that follow are told by the status.
        if !job.mv.again {
            tracing::warn!("{text}; tried again until it can be done");
        }
        Disposed::NotYet(text)
    } else {
        Disposed::Done(MoveResult::Failed(text))
    }
}

#[cfg(test)]
mod tests {
    use super::{Disposed, Disposer, Move, Phase, RunId};
    use crate::core::candidate::{Kind, Version};
    use crate::core::disposition::Goal;
    use crate::core::id::Wall;
    use crate::core::record::FileClaim;
    use crate::core::trigger::{FileType, OnConflict};

    #[test]
    fn what_finds_no_place_in_the_queue_is_put_off() {
        let version = Version { file: "f".into(), size: 0, mtime_ns: 0 };
        let claim = FileClaim {
            rel: "a".into(),
            path: "/in/a".into(),
            kind: Kind::Created,
            version,
            first_seen_at: Wall(0),
            in_place: true,
            key: None,
        };
        let (out, _results) = crossbeam_channel::bounded(0);
        let mut disposer = Disposer { queue_max: 0, ..Disposer::new(out) };
        let put_off = disposer.start(Move {
            run: RunId(7),
            file: 3,
            phase: Phase::After,
            trigger: None,
            claim,
            goal: Goal::To("/done/a".into()),
            on_conflict: OnConflict::Rename,
            file_type: FileType::File,
            companions: Vec::new(),
            again: false,
        });
        let moved = put_off.unwrap();
        assert_eq!((moved.run, moved.file, moved.phase), (RunId(7), 3, Phase::After));
        let Disposed::NotYet(text) = moved.outcome else { panic!("{moved:?}") };
        assert!(text.starts_with("cannot move /in/a to /done/a: 0 other files"), "{text}");
    }
}
