//! Accepted events of a lane that wait for a run: signals, occurrences, starts by hand, and runs
//! that gave way.
//!
//! Owns whose turn it is among them. Every change costs a few look-ups, whatever their number.
//! Knows nothing of runs: the lane says which keys are held up by one, and which paths are claimed.

use std::collections::{BTreeMap, BTreeSet};

use crate::core::id::ItemId;
use crate::core::path::Bytes;
use crate::core::record::ItemQueued;

/// Those that go one after the other.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Line {
    /// Whether they gave way: they come behind all others.
    back: bool,
    key: Bytes,
}

/// An event that waits.
#[derive(Debug, PartialEq, Eq)]
struct Place {
    line: Line,
    merges: bool,
    /// Its files that lie in their places.
    files: BTreeSet<Bytes>,
    /// Whether it has others.
    elsewhere: bool,
    /// How many of them a run has claimed: it stays out of its line until none is.
    claimed: usize,
}

/// Accepted events of a lane that wait for a run.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Waiting {
    all: BTreeMap<ItemId, Place>,
    lines: BTreeMap<Line, BTreeSet<ItemId>>,
    /// The first of each line that nothing holds up.
    turns: BTreeMap<(bool, ItemId), Bytes>,
    by_file: BTreeMap<Bytes, BTreeSet<ItemId>>,
}

impl Waiting {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// All of them, by arrival.
    pub(super) fn ids(&self) -> impl Iterator<Item = ItemId> + '_ {
        self.all.keys().copied()
    }

    /// The oldest of those that can be merged.
    pub(super) fn oldest_to_merge(&self) -> Option<ItemId> {
        self.all.iter().find(|(_, place)| place.merges).map(|(id, _)| *id)
    }

    /// Whether one waits that has the file.
    pub(super) fn has_file(&self, rel: &Bytes) -> bool {
        self.by_file.contains_key(rel)
    }

    /// What is next: `back`, of those that gave way, otherwise of the others.
    pub(super) fn next(&self, back: bool) -> Option<ItemId> {
        let all = self.turns.range((back, ItemId(0))..=(back, ItemId(u64::MAX)));
        all.map(|((_, id), _)| *id).next()
    }

    /// This one, with all of its key that can be merged with it.
    pub(super) fn merged(&self, id: ItemId) -> Vec<ItemId> {
        let place = self.all.get(&id).filter(|place| place.merges);
        let Some(line) = place.and_then(|place| self.lines.get(&place.line)) else {
            return vec![id];
        };
        line.iter().filter(|id| self.all[*id].merges).copied().collect()
    }

    /// Those that gave way and are about nothing but these files.
    pub(super) fn replaced_by(&self, rels: &[Bytes]) -> Vec<ItemId> {
        if self.by_file.is_empty() {
            return Vec::new();
        }
        let of_them = rels.iter().filter_map(|rel| self.by_file.get(rel)).flatten();
        let ids: BTreeSet<ItemId> = of_them.copied().collect();
        let rels: BTreeSet<&Bytes> = rels.iter().collect();
        let only = |id: &ItemId| {
            let place = &self.all[id];
            place.line.back && !place.elsewhere && place.files.iter().all(|rel| rels.contains(rel))
        };
        ids.into_iter().filter(only).collect()
    }

    /// One more waits. `held`: whether a run holds up its key; `claimed`: whether one has claimed
    /// the path.
    pub(super) fn insert(
        &mut self,
        item: &ItemQueued,
        key: Bytes,
        held: bool,
        claimed: impl Fn(&Bytes) -> bool,
    ) {
        let in_place = item.files.iter().filter(|file| file.in_place);
        let files: BTreeSet<Bytes> = in_place.map(|file| file.rel.clone()).collect();
        for rel in &files {
            self.by_file.entry(rel.clone()).or_default().insert(item.item);
        }
        let claimed = files.iter().filter(|rel| claimed(rel)).count();
        let line = Line { back: item.gave_way(), key };
        let elsewhere = item.files.iter().any(|file| !file.in_place);
        let place = Place { line, merges: item.merges(), files, elsewhere, claimed };
        let free = claimed == 0;
        self.all.insert(item.item, place);
        if free {
            self.enter(item.item, held);
        }
    }

    /// It waits no longer.
    pub(super) fn remove(&mut self, id: ItemId) {
        self.step_out(id);
        let Some(place) = self.all.remove(&id) else { return };
        for rel in &place.files {
            if let Some(ids) = self.by_file.get_mut(rel) {
                ids.remove(&id);
                if ids.is_empty() {
                    self.by_file.remove(rel);
                }
            }
        }
    }

    /// Runs hold up a key, or do so no longer.
    pub(super) fn hold(&mut self, key: &Bytes, held: bool) {
        for back in [false, true] {
            let line = Line { back, key: key.clone() };
            let Some(first) = self.lines.get(&line).and_then(BTreeSet::first).copied() else {
                continue;
            };
            if held {
                self.turns.remove(&(back, first));
            } else {
                self.turns.insert((back, first), line.key);
            }
        }
    }

    /// A run has claimed the path: nobody else works on it meanwhile.
    pub(super) fn claim(&mut self, rel: &Bytes) {
        for id in self.with(rel) {
            self.step_out(id);
            if let Some(place) = self.all.get_mut(&id) {
                place.claimed += 1;
            }
        }
    }

    /// The path is free. `held`: whether runs hold up a key.
    pub(super) fn free(&mut self, rel: &Bytes, held: impl Fn(&Bytes) -> bool) {
        for id in self.with(rel) {
            let Some(place) = self.all.get_mut(&id) else { continue };
            place.claimed = place.claimed.saturating_sub(1);
            if place.claimed == 0 {
                let held = held(&place.line.key);
                self.enter(id, held);
            }
        }
    }

    fn with(&self, rel: &Bytes) -> Vec<ItemId> {
        self.by_file.get(rel).into_iter().flatten().copied().collect()
    }

    /// Puts it into its line.
    fn enter(&mut self, id: ItemId, held: bool) {
        let line = self.all[&id].line.clone();
        let ids = self.lines.entry(line.clone()).or_default();
        let first = ids.first().copied();
        ids.insert(id);
        if first.is_none_or(|first| id < first) && !held {
            if let Some(first) = first {
                self.turns.remove(&(line.back, first));
            }
            self.turns.insert((line.back, id), line.key);
        }
    }

    /// Takes it out of its line, if it is in it.
    fn step_out(&mut self, id: ItemId) {
        let Some(Place { line, .. }) = self.all.get(&id) else { return };
        let Some(ids) = self.lines.get_mut(line) else { return };
        ids.remove(&id);
        let next = ids.first().copied();
        if self.turns.remove(&(line.back, id)).is_some()
            && let Some(next) = next
        {
            self.turns.insert((line.back, next), line.key.clone());
        }
        if next.is_none() {
            self.lines.remove(line);
        }
    }

    /// Checks that the indices agree with each other.
    ///
    /// # Panics
    /// When they do not.
    pub(super) fn check(
        &self,
        held: impl Fn(&Bytes) -> bool,
        claimed: impl Fn(&Bytes) -> bool,
        items: &BTreeMap<ItemId, ItemQueued>,
    ) {
        let mut files = 0;
        for (id, place) in &self.all {
            assert!(items.contains_key(id), "what waits was accepted");
            files += place.files.len();
            for rel in &place.files {
                assert!(self.by_file[rel].contains(id), "what waits is found by its file");
            }
            let taken = place.files.iter().filter(|rel| claimed(rel)).count();
            assert_eq!(taken, place.claimed, "its claimed files are counted");
            let inside = self.lines.get(&place.line).is_some_and(|line| line.contains(id));
            assert_eq!(inside, taken == 0, "it is in its line while no run has its files");
        }
        let found: usize = self.by_file.values().map(BTreeSet::len).sum();
        assert_eq!(files, found, "no file is left");
        let mut turns = 0;
        for (line, ids) in self.lines.iter().filter(|(line, _)| !held(&line.key)) {
            let first = *ids.first().expect("a line has somebody");
            assert_eq!(self.turns.get(&(line.back, first)), Some(&line.key), "the first is next");
            turns += 1;
        }
        assert_eq!(turns, self.turns.len(), "nothing is next but the first of a line");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::candidate::{Kind, Version};
    use crate::core::id::{RunId, Wall};
    use crate::core::record::{FileClaim, Reason};

    fn item(id: u64, files: &[&str], gave_way: bool) -> ItemQueued {
        let claim = |rel: &&str| FileClaim {
            rel: (*rel).into(),
            path: (*rel).into(),
            kind: Kind::Created,
            version: Version { file: "f".into(), size: 0, mtime_ns: 0 },
            first_seen_at: Wall(0),
            in_place: true,
            key: None,
        };
        ItemQueued {
            item: ItemId(id),
            trigger: None,
            select: None,
            reason: if gave_way { Reason::Event } else { Reason::Manual },
            signal: None,
            scheduled: None,
            files: files.iter().map(claim).collect(),
            parent: gave_way.then_some(RunId(1)),
            keep: Vec::new(),
            at: Wall(0),
        }
    }

    /// What was put into it.
    #[derive(Default)]
    struct Bench {
        waiting: Waiting,
        items: BTreeMap<ItemId, ItemQueued>,
        held: BTreeSet<Bytes>,
        claimed: BTreeSet<Bytes>,
    }

    impl Bench {
        fn put(&mut self, item: ItemQueued, key: &str) {
            let (key, claimed) = (Bytes::from(key), &self.claimed);
            let held = self.held.contains(&key);
            self.waiting.insert(&item, key, held, |rel| claimed.contains(rel));
            self.items.insert(item.item, item);
        }

        fn hold(&mut self, key: &str, held: bool) {
            let key = Bytes::from(key);
            self.waiting.hold(&key, held);
            if held {
                self.held.insert(key)
            } else {
                self.held.remove(&key)
            };
        }

        fn claim(&mut self, rel: &str) {
            self.waiting.claim(&rel.into());
            self.claimed.insert(rel.into());
        }

        fn free(&mut self, rel: &str) {
            self.claimed.remove(&rel.into());
            let held = &self.held;
            self.waiting.free(&rel.into(), |key| held.contains(key));
        }

        /// The next of both kinds, once all indices were found to agree.
        fn next(&self) -> [Option<u64>; 2] {
            let Self { waiting, items, held, claimed } = self;
            waiting.check(|key| held.contains(key), |rel| claimed.contains(rel), items);
            [false, true].map(|back| waiting.next(back).map(|id| id.0))
        }
    }

    #[test]
    fn the_first_whose_key_and_files_are_free_is_next() {
        let mut bench = Bench::default();
        bench.put(item(1, &["x", "y"], false), "k");
        bench.put(item(2, &["z"], false), "k");
        bench.put(item(3, &["w"], false), "l");
        bench.put(item(4, &["v"], true), "k");
        assert_eq!(bench.next(), [Some(1), Some(4)]);
        bench.claim("y");
        assert_eq!(bench.next(), [Some(2), Some(4)], "a run works on a file of the first");
        bench.hold("k", true);
        assert_eq!(bench.next(), [Some(3), None]);
        bench.free("y");
        assert_eq!(bench.next(), [Some(3), None]);
        bench.hold("k", false);
        assert_eq!(bench.next(), [Some(1), Some(4)]);
        bench.waiting.remove(ItemId(1));
        bench.claim("w");
        bench.put(item(5, &["w"], false), "m");
        assert_eq!(bench.next(), [Some(2), Some(4)]);
        bench.waiting.remove(ItemId(2));
        assert_eq!(bench.next(), [None, Some(4)]);
        bench.free("w");
        assert_eq!(bench.next(), [Some(3), Some(4)]);
    }

    #[test]
    fn only_those_that_gave_way_and_have_no_other_file_are_replaced() {
        let mut bench = Bench::default();
        bench.put(item(1, &["x"], true), "k");
        bench.put(item(2, &["x", "y"], true), "k");
        bench.put(item(3, &["x"], false), "k");
        bench.put(item(4, &[], true), "k");
        let replaced = |rels: &[&str]| {
            let rels: Vec<Bytes> = rels.iter().map(|rel| (*rel).into()).collect();
            bench.waiting.replaced_by(&rels).iter().map(|id| id.0).collect::<Vec<_>>()
        };
        assert_eq!(replaced(&["x"]), [1]);
        assert_eq!(replaced(&["y", "x"]), [1, 2]);
        assert_eq!(replaced(&["z"]), [0; 0]);
    }
}
