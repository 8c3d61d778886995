//! The fake executors and the fake disposer: processes that end in any order, results that come
//! late or twice, moves that are done once however often they are asked for.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use dagd::core::candidate::Kind;
use dagd::core::disposition::{Disposed, Goal, MoveResult, Phase};
use dagd::core::effect::{Move, Start, Stop};
use dagd::core::event::Event;
use dagd::core::id::{AttemptId, RunId, Wall};
use dagd::core::machine::{By, Left};
use dagd::core::path::Bytes;
use dagd::core::record::{FileClaim, Record};
use dagd::core::task::{Ended, Exit, OnDaemonStop, TaskState, Verdict};
use dagd::core::trigger::OnConflict;

use super::disk::{Disk, File, Place};
use super::rng::Rng;

#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "they have nothing to do with each other")]
struct Process {
    since: Wall,
    /// It does not end by itself.
    hangs: bool,
    /// It does not end when asked to.
    deaf: bool,
    asked: bool,
    killed: bool,
    /// It goes on without a daemon.
    leaves: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Exec {
    live: BTreeMap<AttemptId, Process>,
    /// How those have ended that go on without a daemon.
    left: BTreeMap<AttemptId, (Ended, By)>,
    ever: BTreeSet<AttemptId>,
    pub(crate) out: VecDeque<Event>,
    moves: Vec<Move>,
    pub(crate) moved: VecDeque<Event>,
    tried: BTreeSet<(RunId, u32, Phase)>,
    /// When a move was first found to be of a file whose time was set, in nanoseconds.
    pub(crate) stamped: BTreeMap<(RunId, u32, Phase), u64>,
}

impl Exec {
    pub(crate) fn start(&mut self, start: &Start, now: Wall, rng: &mut Rng) {
        let id = start.id;
        let twin = self.live.keys().find(|a| a.run == id.run && a.node == id.node);
        assert!(twin.is_none(), "two processes of one task: {twin:?} and {id:?}");
        assert!(self.ever.insert(id), "attempt {id:?} is started once");
        if rng.chance(3) {
            let exit = Exit::NotStarted("no such program".to_owned());
            self.tell(id, Ended::without_process(exit, now), rng);
            return;
        }
        if rng.chance(3) {
            let exit = Exit::Shortage("too many processes".to_owned());
            self.tell(id, Ended::without_process(exit, now), rng);
            return;
        }
        let hangs = start.task.timeout.is_some() && rng.chance(30);
        let leaves = start.task.on_daemon_stop == OnDaemonStop::Leave;
        let deaf = rng.chance(30);
        let process = Process { since: now, hangs, deaf, asked: false, killed: false, leaves };
        self.live.insert(id, process);
    }

    pub(crate) fn stop(&mut self, id: AttemptId, how: Stop) {
        let Some(process) = self.live.get_mut(&id) else { return };
        match how {
            Stop::Term => process.asked = true,
            Stop::Kill => process.killed = true,
            Stop::Signal(_) => {}
        }
    }

    pub(crate) fn live(&self) -> impl Iterator<Item = &AttemptId> {
        self.live.keys()
    }

    fn endable(&self) -> Vec<AttemptId> {
        let ends = |p: &Process| p.killed || (p.asked && !p.deaf) || (!p.hangs && !p.asked);
        self.live.iter().filter(|(_, p)| ends(p)).map(|(id, _)| *id).collect()
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.endable().is_empty() && self.moves.is_empty()
    }

    /// Ends a process, if one can end.
    pub(crate) fn end_one(&mut self, now: Wall, rng: &mut Rng) {
        let ids = self.endable();
        if ids.is_empty() {
            return;
        }
        let id = rng.pick(&ids);
        let process = self.live.remove(&id).expect("a live process");
        let exit = match rng.below(20) {
            _ if process.killed => Exit::Signal(9),
            0..8 if process.asked => Exit::Signal(15),
            0..14 => Exit::Code(0),
            14..17 => Exit::Code(1),
            17 => Exit::Code(99),
            18 if rng.chance(50) => Exit::Oom,
            18 => Exit::Signal(11),
            _ => Exit::Code(75),
        };
        let mut ended = Ended::without_process(exit, now);
        ended.started_at = process.since;
        ended.outputs.insert("id".to_owned(), format!("{}.{}", id.run, id.attempt));
        if process.leaves {
            let by = if process.asked { By::Term } else { By::Itself };
            self.left.insert(id, (ended.clone(), by));
        }
        self.tell(id, ended, rng);
    }

    fn tell(&mut self, id: AttemptId, ended: Ended, rng: &mut Rng) {
        let event = Event::Ended { id, ended };
        for _ in 0..=usize::from(rng.chance(10)) {
            let at = rng.below(self.out.len() + 1);
            self.out.insert(at, event.clone());
        }
        if rng.chance(10) {
            // Late: it comes when the next attempt may be in flight.
            self.out.push_back(event);
        }
    }

    /// A new daemon sweeps what is left of an old one, but for what goes on without one.
    pub(crate) fn sweep(&mut self) {
        self.live.retain(|_, process| process.leaves);
    }

    /// The machine is shut down and started again: nothing goes on, and not all have the time to tell.
    pub(crate) fn reboot(&mut self, now: Wall, rng: &mut Rng) {
        for (id, process) in std::mem::take(&mut self.live) {
            if process.leaves && !process.deaf && rng.chance(70) {
                let exit = if rng.chance(50) { Exit::Signal(15) } else { Exit::Code(1) };
                let mut ended = Ended::without_process(exit, now);
                ended.started_at = process.since;
                self.left.insert(id, (ended, By::Shutdown));
            }
        }
        for (_, by) in self.left.values_mut().filter(|(_, by)| *by == By::Term) {
            *by = By::Shutdown;
        }
    }

    /// A shutdown of the machine is nobody's failure.
    pub(crate) fn check_shutdown(&self, records: &[Record]) {
        for record in records {
            let Record::AttemptEnded { run, node, attempt, verdict, .. } = record else { continue };
            let id = AttemptId { run: *run, node: *node, attempt: *attempt };
            if self.left.get(&id).is_some_and(|(_, by)| *by == By::Shutdown) {
                assert_ne!(*verdict, Verdict::Final(TaskState::Failed), "{id:?}");
            }
        }
    }

    /// What an attempt that was in flight has come to.
    pub(crate) fn found(&self, id: AttemptId, now: Wall) -> Left {
        match self.left.get(&id) {
            Some((ended, by)) => Left::Ended(Box::new(ended.clone()), *by),
            None => match self.live.get(&id).filter(|process| process.leaves) {
                Some(process) => Left::Running(Some(process.since.until(now))),
                None => Left::Gone(0),
            },
        }
    }

    /// Those that end when the daemon does.
    pub(crate) fn bound(&self) -> impl Iterator<Item = &AttemptId> {
        self.live.iter().filter(|(_, process)| !process.leaves).map(|(id, _)| id)
    }

    /// What was under way in the daemon dies with it.
    pub(crate) fn forget(&mut self, keep_results: bool) {
        if !keep_results {
            self.out.clear();
        }
        self.moves.clear();
        self.moved.clear();
    }

    pub(crate) fn dispose_later(&mut self, order: Move) {
        self.moves.push(order);
    }

    /// Disposes of a file, if one waits for it. Returns the place that it has left. `faulty`: what
    /// may pass can stand in its way.
    pub(crate) fn dispose_one(
        &mut self,
        disk: &mut Disk,
        rng: &mut Rng,
        now: u64,
        faulty: bool,
    ) -> Option<Place> {
        if self.moves.is_empty() {
            return None;
        }
        let at = rng.below(self.moves.len());
        let order = self.moves.swap_remove(at);
        let Move { run, file: file_ix, phase, .. } = order;
        assert_ne!(order.claim.kind, Kind::Deleted, "what is gone is not disposed of");
        let first = self.tried.insert((run, file_ix, phase));
        assert!(first || order.again, "a second try is told from a first one");
        let replaces = phase == Phase::Before && order.on_conflict == OnConflict::Replace;
        assert!(!replaces, "what another run may be at work on is not replaced");
        let (outcome, left) = match rng.below(100) {
            0..15 if faulty => (Disposed::NotYet("no space".to_owned()), None),
            97..100 => (Disposed::Done(MoveResult::Failed("too long".to_owned())), None),
            _ => {
                let (result, left) = dispose(&order, disk, rng);
                let at_place = disk.files.get(&place_of(&order.claim));
                let set = at_place.filter(|file| {
                    !file.writing && file.version.is_set_back_from(&order.claim.version)
                });
                match set.filter(|_| result == MoveResult::Superseded) {
                    Some(file) => {
                        self.stamped.entry((run, file_ix, phase)).or_insert(now);
                        (Disposed::Stamped(file.version.clone()), None)
                    }
                    None => (Disposed::Done(result), left),
                }
            }
        };
        // One that asks a question is asked once: the disposer answers each order but once.
        let asks = matches!(outcome, Disposed::Stamped(_));
        let event = Event::Moved { run, file: file_ix, phase, outcome };
        if rng.chance(10) && !asks {
            self.moved.push_back(event.clone());
        }
        self.moved.push_back(event);
        left
    }
}

/// The place of a file whose path ends in its relative part: some root, and that part.
pub(crate) fn place_of(claim: &FileClaim) -> Place {
    let (path, rel) = (claim.path.as_bytes(), claim.rel.as_bytes());
    let root = path.strip_suffix(rel).and_then(|root| root.strip_suffix(b"/"));
    (Bytes::from(root.unwrap_or_default()), claim.rel.clone())
}

/// What the real disposer does, in one go.
fn dispose(order: &Move, disk: &mut Disk, rng: &mut Rng) -> (MoveResult, Option<Place>) {
    let Move { claim, goal, again, .. } = order;
    let place = place_of(claim);
    let at_place = disk.files.contains_key(&place);
    let file = disk.files.get(&place).filter(|_| at_place);
    let file = file.or_else(|| disk.elsewhere.get(&claim.path)).cloned();
    let claimed = |file: &File| file.version == claim.version && !file.writing;
    match file {
        Some(file) if claimed(&file) => {
            let result = go(order, disk, &file, rng);
            let went = matches!(result, MoveResult::Moved { .. } | MoveResult::Deleted);
            let left = went && disk.files.get(&place).is_some_and(|_| at_place);
            if left {
                disk.files.remove(&place);
            }
            (result, left.then_some(place))
        }
        found => {
            let same = |file: &File| file.version.mtime_ns == claim.version.mtime_ns;
            let arrived = disk.elsewhere.iter().find(|(path, file)| {
                same(file)
                    && matches!(goal, Goal::To(to) if path.as_bytes().starts_with(to.as_bytes()))
            });
            let result = match (arrived, found.is_some(), goal) {
                (Some((to, file)), found, _) if !found || *again => {
                    MoveResult::Moved { to: to.clone(), version: file.version.clone() }
                }
                (_, true, _) => MoveResult::Superseded,
                (_, false, Goal::Delete) if *again => MoveResult::Deleted,
                (_, false, _) => MoveResult::Gone,
            };
            (result, None)
        }
    }
}

fn go(order: &Move, disk: &mut Disk, file: &File, rng: &mut Rng) -> MoveResult {
    let Goal::To(target) = &order.goal else {
        disk.elsewhere.remove(&order.claim.path);
        return MoveResult::Deleted;
    };
    let mut to = target.clone();
    if to == order.claim.path {
        return MoveResult::Moved { to, version: file.version.clone() };
    }
    let mut nth = 0;
    while disk.elsewhere.contains_key(&to) {
        match order.on_conflict {
            OnConflict::Fail => return MoveResult::Failed("its place is taken".to_owned()),
            OnConflict::Keep => return MoveResult::Kept,
            OnConflict::Replace => break,
            OnConflict::Rename => nth += 1,
        }
        to = Bytes::from([target.as_bytes(), format!("-{}.{nth}", order.run).as_bytes()].concat());
    }
    disk.elsewhere.remove(&order.claim.path);
    let mut moved = file.clone();
    if rng.chance(30) {
        // On another file system a copy is another file.
        moved.version.file = Bytes::from(format!("c{}", file.version.mtime_ns).as_str());
    }
    disk.elsewhere.insert(to.clone(), moved.clone());
    MoveResult::Moved { to, version: moved.version }
}
