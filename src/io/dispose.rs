//! Disposition: takes the file of an ended run to where its configuration wants it.
//!
//! Owns the thread `dagd-dispose` and, for the time of one move, two hidden names that end in
//! `.tmp`: a copy in the making beside the target, and beside the source the original on its way
//! out. It never replaces a file, never takes away a version other than the claimed one, and never
//! leaves two copies. Every state that a crash can leave behind is one that [`dispose`], repeated,
//! starts from: all it needs to know is in the [`Move`] and on the disk.
//!
//! ```text
//! one file system   rename without replacing ─ check what arrived
//! cannot do that    link ─ original aside ─ check it ─ remove it
//! across            copy to .tmp, sync ─ rename without replacing ─ original aside ─ check it ─ remove it
//! ```
//!
//! "Check" asks whether it is the claimed version and nobody writes to it. If not, it goes back.

mod copy;
mod error;
mod job;
mod lease;
mod place;
#[cfg(test)]
mod races;

use std::thread;

use crossbeam_channel::Sender;

use self::error::Error;
use self::job::{Job, Step};
use crate::core::effect::Move;
use crate::core::id::RunId;
use crate::core::record::MoveResult;

/// Moves that may wait: more than live runs can have files, unless limits were raised beyond
/// memory. What comes on top is refused with a result, so that the engine never waits.
const QUEUE_MAX: usize = 1 << 20;

/// Fresh starts when folders come and go underneath a move; then somebody means it.
const TRIES_MAX: u32 = 8;

/// Where results go: the run, the file's index in it, the outcome.
pub type Results = Sender<(RunId, u32, MoveResult)>;

/// Runs moves one after the other on a thread of its own, started at the first one.
#[derive(Debug)]
pub struct Disposer {
    out: Results,
    queue: Option<Sender<Move>>,
    queue_max: usize,
}

impl Disposer {
    /// A disposer that reports to `out`. No thread yet.
    pub fn new(out: Results) -> Self {
        Self { out, queue: None, queue_max: QUEUE_MAX }
    }

    /// Queues a move. Never waits; each move gets one result, a refused one as well. Dropping the
    /// disposer lets the thread finish what is queued.
    pub fn start(&mut self, mv: Move) {
        let waiting = self.queue.as_ref().map_or(0, Sender::len);
        if waiting >= self.queue_max {
            return self.refuse(&mv, &format!("{waiting} other files wait to be moved"));
        }
        let back = match &self.queue {
            Some(queue) => match queue.send(mv) {
                Ok(()) => return,
                Err(unsent) => unsent.into_inner(),
            },
            None => mv,
        };
        let (queue, moves) = crossbeam_channel::unbounded::<Move>();
        let out = self.out.clone();
        let work = move || {
            for mv in moves {
                if out.send((mv.run, mv.file, dispose(&mv))).is_err() {
                    return;
                }
            }
        };
        match thread::Builder::new().name("dagd-dispose".to_owned()).spawn(work) {
            Ok(_) => {
                queue.send(back).expect("the thread holds the other end until it has read this");
                self.queue = Some(queue);
            }
            Err(error) => self.refuse(&back, &format!("no thread for it: {error}")),
        }
    }

    fn refuse(&self, mv: &Move, why: &str) {
        let text = Job::new(mv).failure(&Error::Refused(why.to_owned()));
        if let Err(error) = self.out.try_send((mv.run, mv.file, MoveResult::Failed(text))) {
            tracing::error!(run = %mv.run, file = mv.file, %error, "result of a move not taken");
        }
    }
}

/// Moves the file, if it is still the claimed version. May be repeated after a crash at any point,
/// and after its own success.
pub fn dispose(mv: &Move) -> MoveResult {
    let job = Job::new(mv);
    for _ in 0..TRIES_MAX {
        match job.go() {
            Ok(Step::Done(result)) => return result,
            Ok(Step::Again) => {}
            Err(error) => return MoveResult::Failed(job.failure(&error)),
        }
    }
    MoveResult::Failed(job.failure(&Error::Restless))
}

#[cfg(test)]
mod tests {
    use super::{Disposer, Move, MoveResult, RunId};
    use crate::core::candidate::{Kind, Version};
    use crate::core::id::Wall;
    use crate::core::record::FileClaim;

    #[test]
    fn a_full_queue_refuses_with_a_result() {
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
        let (out, results) = crossbeam_channel::unbounded();
        let mut disposer = Disposer { queue_max: 0, ..Disposer::new(out) };
        disposer.start(Move { run: RunId(7), file: 3, claim, target: "/done/a".into() });
        let (run, file, result) = results.try_recv().unwrap();
        assert_eq!((run, file), (RunId(7), 3));
        let MoveResult::Failed(text) = result else { panic!("{result:?}") };
        assert!(text.starts_with("cannot move /in/a to /done/a: 0 other files"), "{text}");
    }
}
