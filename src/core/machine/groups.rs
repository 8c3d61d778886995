//! Ready files, gathered into what becomes a run together: by folder, by key, all of a trigger, or
//! each alone in the line of its order key.
//!
//! Owns which group a ready file is in, when a group's window closes, and whose turn it is. Every
//! change costs a few look-ups, whatever the number of groups. Knows nothing of runs: the lane says
//! which groups are held up by one.

use std::collections::{BTreeMap, BTreeSet};

use super::rank::Rank;
use crate::core::candidate::Version;
use crate::core::id::Mono;
use crate::core::path::Bytes;
use crate::core::trigger::{FanOut, FolderSpec};

/// A ready file that joins its group.
#[derive(Debug)]
pub(super) struct Joining<'a> {
    /// The group.
    pub(super) key: Bytes,
    /// The path below the root.
    pub(super) rel: &'a Bytes,
    /// Its version.
    pub(super) version: &'a Version,
    /// Its number in the order of arrival.
    pub(super) order: u64,
    /// Whether it has just changed: the quiet time of its group begins anew.
    pub(super) fresh: bool,
}

/// How a group stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// A member of its set is missing.
    Incomplete,
    /// More may come until then.
    Gathering(Mono),
    /// It becomes a run when its turn comes.
    Closed,
}

/// Ready files that become a run together, or one after the other.
#[derive(Debug)]
struct Group {
    members: BTreeMap<Rank, Bytes>,
    /// Members that match each pattern of the set.
    have: Vec<u32>,
    /// When the window opened.
    first: Mono,
    /// When a member last changed.
    last: Mono,
    standing: Standing,
    /// Its place in the line, once it has closed.
    turn: Option<u64>,
}

/// Where a ready file is.
#[derive(Debug)]
struct Spot {
    key: Bytes,
    rank: Rank,
}

/// The ready files of a lane. As many as the lane's candidates, at most.
#[derive(Debug, Default)]
pub(super) struct Groups {
    /// By their keys.
    by_key: BTreeMap<Bytes, Group>,
    /// Ready files by arrival.
    spots: BTreeMap<u64, Spot>,
    /// Groups whose window is open, by its end.
    closing: BTreeSet<(Mono, Bytes)>,
    /// Groups that may become runs, whose turn is next first. Those held up by a run are not in it.
    line: BTreeMap<Rank, Bytes>,
    next_turn: u64,
    /// Files in closed groups.
    queued: usize,
    /// Files in incomplete groups.
    incomplete: usize,
}

impl Groups {
    /// Files in groups that may become runs, or could but for a run that is alive.
    pub(super) fn queued(&self) -> usize {
        self.queued
    }

    /// Files that wait for another member of their set.
    pub(super) fn incomplete(&self) -> usize {
        self.incomplete
    }

    /// All ready files.
    pub(super) fn len(&self) -> usize {
        self.spots.len()
    }

    /// Whether the file with this number of arrival is ready.
    pub(super) fn holds(&self, order: u64) -> bool {
        self.spots.contains_key(&order)
    }

    /// How the group of a ready file stands.
    pub(super) fn standing(&self, order: u64) -> Option<Standing> {
        let spot = self.spots.get(&order)?;
        Some(self.by_key.get(&spot.key)?.standing)
    }

    /// The patterns of the set that no ready file of this one's group matches.
    pub(super) fn missing<'a>(&self, folder: &'a FolderSpec, order: u64) -> Vec<&'a str> {
        let group = self.spots.get(&order).and_then(|spot| self.by_key.get(&spot.key));
        let have = group.map_or(&[][..], |group| &group.have);
        let pairs = folder.set.iter().zip(have).filter(|(_, have)| **have == 0);
        pairs.map(|(pattern, _)| pattern.text()).collect()
    }

    /// When the next window closes.
    pub(super) fn closes(&self) -> Option<Mono> {
        self.closing.first().map(|(at, _)| *at)
    }

    /// The group whose turn is next.
    pub(super) fn next(&self) -> Option<&Bytes> {
        self.line.values().next()
    }

    /// The files of the next run of a group, in order. A set is never parted: what is left of it
    /// might never be complete again. `newest`: of files alone, the one that is last in order.
    pub(super) fn next_of(&self, folder: &FolderSpec, key: &Bytes, newest: bool) -> Vec<Bytes> {
        let most = match folder.fan_out {
            FanOut::File => 1,
            FanOut::Batch | FanOut::Dir | FanOut::Key if folder.set.is_empty() => {
                folder.batch_max_files
            }
            FanOut::Batch | FanOut::Dir | FanOut::Key => usize::MAX,
        };
        let Some(group) = self.by_key.get(key) else { return Vec::new() };
        let members = group.members.values();
        if newest && folder.fan_out == FanOut::File {
            return members.rev().take(most).cloned().collect();
        }
        members.take(most).cloned().collect()
    }

    /// A file has become ready, or is ready in another version. `held`: a run holds the group up.
    pub(super) fn join(
        &mut self,
        folder: &FolderSpec,
        joining: Joining<'_>,
        now: Mono,
        held: impl Fn(&Bytes) -> bool,
    ) {
        let Joining { key, rel, version, order, fresh } = joining;
        let rank = Rank::of(folder, rel, version, order);
        self.take_out(&key);
        let group = self.by_key.entry(key.clone()).or_insert_with(|| Group {
            members: BTreeMap::new(),
            have: vec![0; folder.set.len()],
            first: now,
            last: now,
            standing: Standing::Incomplete,
            turn: None,
        });
        if fresh {
            group.last = now;
        }
        let spot = Spot { key: key.clone(), rank: rank.clone() };
        match self.spots.insert(order, spot) {
            Some(old) => drop(group.members.remove(&old.rank)),
            None => group.count(folder, rel, |have| *have += 1),
        }
        group.members.insert(rank, rel.clone());
        self.put_in(folder, &key, now, held(&key));
    }

    /// A file is no longer ready, or a run has claimed it.
    pub(super) fn leave(
        &mut self,
        folder: &FolderSpec,
        order: u64,
        now: Mono,
        held: impl Fn(&Bytes) -> bool,
    ) {
        let Some(Spot { key, rank }) = self.spots.remove(&order) else { return };
        self.take_out(&key);
        let Some(group) = self.by_key.get_mut(&key) else { return };
        if let Some(rel) = group.members.remove(&rank) {
            group.count(folder, &rel, |have| *have -= 1);
        }
        if group.members.is_empty() {
            self.by_key.remove(&key);
        } else {
            self.put_in(folder, &key, now, held(&key));
        }
    }

    /// A run of the group was created or has ended: `held` is whether it may have another.
    pub(super) fn hold(&mut self, key: &Bytes, held: bool) {
        let Some(place) = self.by_key.get(key).and_then(Group::place) else { return };
        if held {
            self.line.remove(&place);
        } else {
            self.line.insert(place, key.clone());
        }
    }

    /// What is left of a group of which a run takes the first files gathers anew.
    pub(super) fn reopen(&mut self, folder: &FolderSpec, key: &Bytes, now: Mono, held: bool) {
        self.take_out(key);
        if let Some(group) = self.by_key.get_mut(key) {
            (group.first, group.last) = (now, now);
            // Others have waited longer than what is left.
            group.turn = None;
            self.put_in(folder, key, now, held);
        }
    }

    /// Closes the windows that are over.
    pub(super) fn close(&mut self, folder: &FolderSpec, now: Mono, held: impl Fn(&Bytes) -> bool) {
        while let Some((_, key)) = self.closing.first().filter(|(at, _)| *at <= now).cloned() {
            self.take_out(&key);
            self.put_in(folder, &key, now, held(&key));
        }
    }

    /// Takes a group out of the indices before it changes.
    fn take_out(&mut self, key: &Bytes) {
        let Some(group) = self.by_key.get(key) else { return };
        match group.standing {
            Standing::Incomplete => self.incomplete -= group.members.len(),
            Standing::Gathering(at) => drop(self.closing.remove(&(at, key.clone()))),
            Standing::Closed => self.queued -= group.members.len(),
        }
        if let Some(place) = group.place() {
            self.line.remove(&place);
        }
    }

    /// Decides anew how a group stands and puts it into the indices.
    fn put_in(&mut self, folder: &FolderSpec, key: &Bytes, now: Mono, held: bool) {
        let Some(group) = self.by_key.get_mut(key) else { return };
        let complete = group.have.iter().all(|have| *have > 0);
        if !folder.set.is_empty() && group.standing == Standing::Incomplete {
            // What was there alone has not kept anybody waiting.
            group.first = now;
        }
        group.standing = match group.window_ends(folder) {
            _ if !complete => Standing::Incomplete,
            Some(at) if at > now => Standing::Gathering(at),
            Some(_) | None => Standing::Closed,
        };
        match group.standing {
            Standing::Incomplete => self.incomplete += group.members.len(),
            Standing::Gathering(at) => drop(self.closing.insert((at, key.clone()))),
            Standing::Closed => self.queued += group.members.len(),
        }
        group.turn = match group.standing {
            Standing::Closed if folder.fan_out != FanOut::File => {
                Some(group.turn.unwrap_or_else(|| {
                    self.next_turn += 1;
                    self.next_turn
                }))
            }
            _ => None,
        };
        if let Some(place) = group.place().filter(|_| !held) {
            self.line.insert(place, key.clone());
        }
    }
}

impl Groups {
    /// Checks that the indices agree with each other. Costs a walk over all ready files.
    ///
    /// # Panics
    /// When they do not.
    pub(super) fn check(&self, held: impl Fn(&Bytes) -> bool) {
        let (mut closing, mut line) = (0, 0);
        let (mut queued, mut incomplete, mut all) = (0, 0, 0);
        for (key, group) in &self.by_key {
            let many = group.members.len();
            assert!(many > 0, "a group has members");
            all += many;
            match group.standing {
                Standing::Incomplete => incomplete += many,
                Standing::Gathering(at) => {
                    closing += 1;
                    assert!(self.closing.contains(&(at, key.clone())), "an open window closes");
                }
                Standing::Closed => queued += many,
            }
            let complete = group.have.iter().all(|have| *have > 0);
            assert_eq!(complete, group.standing != Standing::Incomplete, "a set is complete");
            if let Some(place) = group.place().filter(|_| !held(key)) {
                line += 1;
                assert_eq!(self.line.get(&place), Some(key), "a closed group is in the line");
            }
        }
        for (order, Spot { key, rank }) in &self.spots {
            assert_eq!(rank.order(), *order, "a ready file is found by its arrival");
            assert!(self.by_key[key].members.contains_key(rank), "a ready file is in its group");
        }
        assert_eq!((closing, line), (self.closing.len(), self.line.len()), "no group is gone");
        assert_eq!((queued, incomplete), (self.queued, self.incomplete), "files are counted");
        assert_eq!(all, self.spots.len(), "each ready file is in one group");
    }

    /// Whether the file with this number of arrival is `rel`.
    pub(super) fn is(&self, order: u64, rel: &Bytes) -> bool {
        let member = |spot: &Spot| self.by_key.get(&spot.key)?.members.get(&spot.rank);
        self.spots.get(&order).and_then(member) == Some(rel)
    }
}

impl Group {
    /// Its place in the line: files alone go in their own order, others as they closed.
    fn place(&self) -> Option<Rank> {
        match (self.standing, self.turn) {
            (Standing::Closed, Some(turn)) => Some(Rank::turn(turn)),
            (Standing::Closed, None) => self.members.keys().next().cloned(),
            (Standing::Incomplete | Standing::Gathering(_), _) => None,
        }
    }

    fn count(&mut self, folder: &FolderSpec, rel: &Bytes, change: impl Fn(&mut u32)) {
        let pairs = self.have.iter_mut().zip(&folder.set);
        pairs.filter(|(_, pattern)| pattern.matches(rel)).for_each(|(have, _)| change(have));
    }

    /// When it stops to wait for more: at the first limit that it meets; `None` if it does not wait.
    fn window_ends(&self, folder: &FolderSpec) -> Option<Mono> {
        if folder.fan_out == FanOut::File || self.members.len() >= folder.batch_max_files {
            return None;
        }
        let quiet = (!folder.settle.is_zero()).then(|| self.last.after(folder.settle));
        let gathered = folder.batch_max_wait.map(|wait| self.first.after(wait));
        let end = quiet.into_iter().chain(gathered).min()?;
        // A ceiling only: by itself it makes nobody wait.
        Some(folder.max_wait.map_or(end, |most| end.min(self.first.after(most))))
    }
}
