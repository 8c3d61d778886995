//! The fake executors and the fake disposer: processes that end in any order, results that come
//! late or twice, moves that are done once however often they are asked for.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use dagd::core::candidate::Kind;
use dagd::core::effect::{Move, Start, Stop};
use dagd::core::event::Event;
use dagd::core::id::{AttemptId, Wall};
use dagd::core::path::Bytes;
use dagd::core::record::MoveResult;
use dagd::core::task::{Ended, Exit};

use super::disk::{Disk, Place};
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
}

#[derive(Debug, Default)]
pub(crate) struct Exec {
    live: BTreeMap<AttemptId, Process>,
    ever: BTreeSet<AttemptId>,
    pub(crate) out: VecDeque<Event>,
    moves: Vec<Move>,
    pub(crate) moved: VecDeque<Event>,
    disposed: BTreeMap<Bytes, i64>,
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
        let hangs = start.task.timeout.is_some() && rng.chance(30);
        let process =
            Process { since: now, hangs, deaf: rng.chance(30), asked: false, killed: false };
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
            18 => Exit::Signal(11),
            _ => Exit::Code(75),
        };
        let mut ended = Ended::without_process(exit, now);
        ended.started_at = process.since;
        ended.outputs.insert("id".to_owned(), format!("{}.{}", id.run, id.attempt));
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

    /// A new daemon sweeps what is left of an old one.
    pub(crate) fn sweep(&mut self) {
        self.live.clear();
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

    /// Disposes of a file, if one waits for it. Returns the place that it has left.
    pub(crate) fn dispose_one(&mut self, disk: &mut Disk, rng: &mut Rng) -> Option<Place> {
        if self.moves.is_empty() {
            return None;
        }
        let at = rng.below(self.moves.len());
        let Move { run, file, claim, target } = self.moves.swap_remove(at);
        assert_ne!(claim.kind, Kind::Deleted, "what is gone is not disposed of");
        let root = claim.path.as_bytes().len() - claim.rel.as_bytes().len() - 1;
        let root = &claim.path.as_bytes()[..root];
        let place = (Bytes::from(root), claim.rel.clone());
        let version = claim.version.mtime_ns;
        let there = disk.files.get(&place).map(|file| file.version == claim.version);
        let result = if rng.chance(3) {
            MoveResult::Failed("no space".to_owned())
        } else if there == Some(true) {
            disk.files.remove(&place);
            let twice = self.disposed.insert(target.clone(), version);
            assert_eq!(twice, None, "one place for one file");
            MoveResult::Moved(target)
        } else if self.disposed.get(&target) == Some(&version) {
            MoveResult::Moved(target)
        } else if there == Some(false) {
            MoveResult::Superseded
        } else {
            MoveResult::Gone
        };
        let event = Event::Moved { run, file, result };
        if rng.chance(10) {
            self.moved.push_back(event.clone());
        }
        self.moved.push_back(event);
        (there == Some(true)).then_some(place)
    }
}
