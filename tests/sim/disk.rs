//! The fake disk: files by root and name, with versions that are unique, and who writes to them.

use std::collections::{BTreeMap, BTreeSet};

use dagd::core::candidate::{Disk as Found, Probe, Version};
use dagd::core::path::Bytes;

use super::check::content;
use super::rng::Rng;

/// A place: a folder and the name in it.
pub(crate) type Place = (Bytes, Bytes);

#[derive(Clone, Debug)]
pub(crate) struct File {
    pub(crate) version: Version,
    pub(crate) writing: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Disk {
    pub(crate) files: BTreeMap<Place, File>,
    /// Files that were taken away and may come back.
    pub(crate) away: Vec<(Place, File)>,
    /// The content that the checksum file of a place tells.
    pub(crate) sums: BTreeMap<Place, u64>,
    /// Versions whose checksum file told their content at some time.
    pub(crate) verified: BTreeSet<(Place, i64)>,
    /// Files that dagd took to other places, by their absolute path.
    pub(crate) elsewhere: BTreeMap<Bytes, File>,
    /// Versions that are nothing but others with another time: those whose content they are.
    stamps: BTreeMap<i64, i64>,
    /// How often a content came to a place, by the version that was written.
    pub(crate) arrivals: BTreeMap<(Place, i64), u32>,
    /// Versions that nobody was writing to at some time.
    pub(crate) complete: BTreeSet<i64>,
    /// Versions, each with a name that was beside it at some time.
    pub(crate) beside: BTreeSet<(i64, Bytes)>,
    /// When a version first was where it is, in nanoseconds.
    pub(crate) since: BTreeMap<(Place, i64), u64>,
    versions: i64,
    /// All that happens is in one folder.
    pub(crate) narrow: bool,
    /// Times are set often.
    pub(crate) calm: bool,
}

const NAMES: [&str; 10] =
    ["a.x", "a.y", "b.x", "b.y", "c.x", "d.y", "f.tmp", "s/a.x", "s/a.y", "t/b.x"];
/// Names that may be those of done files.
const DONE: [&str; 7] = ["a.x.done", "b.y.done", "a.done", "d.done", "s/a.done", "_OK", "s/_OK"];
const ROOTS: [&str; 2] = ["/ta", "/tb"];

impl Disk {
    pub(crate) fn new(narrow: bool, calm: bool) -> Self {
        Self { narrow, calm, ..Self::default() }
    }

    fn put(&mut self, place: Place, file: File) {
        if !file.writing {
            self.complete.insert(file.version.mtime_ns);
        }
        let key = (place.clone(), self.written(file.version.mtime_ns));
        *self.arrivals.entry(key).or_default() += 1;
        self.files.insert(place.clone(), file);
        self.verify(place);
    }

    fn any_place(&self, rng: &mut Rng) -> Place {
        let root = if self.narrow || self.calm { ROOTS[0] } else { rng.pick(&ROOTS) };
        let names = if self.calm { &NAMES[..4] } else { &NAMES };
        (Bytes::from(root), Bytes::from(rng.pick(names)))
    }

    /// Does something. Returns the places at which the kernel would hint, each with whether it would
    /// tell that nothing but attributes changed.
    pub(crate) fn change(&mut self, rng: &mut Rng, now: u64) -> Vec<(Place, bool)> {
        let (set, both) = if self.calm { (40, 30) } else { (15, 5) };
        let mut told = Vec::new();
        if !rng.chance(set) {
            told.extend(self.change_one(rng).into_iter().map(|place| (place, false)));
        } else if rng.chance(both) {
            // A program that writes, closes and then sets the time.
            let place = self.any_place(rng);
            self.write(rng, &place);
            self.close(&place);
            told.push((place.clone(), false));
            told.extend(self.stamp(&place).map(|place| (place, true)));
        } else {
            let closed: Vec<_> = self.files.iter().filter(|(_, file)| !file.writing).collect();
            let last = closed.iter().max_by_key(|(_, file)| file.version.mtime_ns);
            let any = (!closed.is_empty()).then(|| rng.pick(&closed));
            let place = if rng.chance(50) { last.copied() } else { any };
            let place = place.map(|(place, _)| place.clone());
            told.extend(place.and_then(|place| self.stamp(&place)).map(|place| (place, true)));
        }
        self.remember(now);
        told
    }

    /// The version that was written, of one whose time may have been set since.
    pub(crate) fn written(&self, version: i64) -> i64 {
        self.stamps.get(&version).copied().unwrap_or(version)
    }

    /// Sets the time of a file back. No two have the same time.
    fn stamp(&mut self, place: &Place) -> Option<Place> {
        let was = self.files.get(place)?.version.mtime_ns;
        let time = -1 - i64::try_from(self.stamps.len()).expect("few");
        self.stamps.insert(time, self.written(was));
        self.files.get_mut(place)?.version.mtime_ns = time;
        self.complete.insert(time);
        self.verify(place.clone());
        Some(place.clone())
    }

    /// Hints may be missing, or not be believed: what has another time may be delivered once more.
    pub(crate) fn doubt(&mut self) {
        let set: BTreeSet<i64> = self.stamps.values().copied().collect();
        for ((_, written), came) in &mut self.arrivals {
            *came += u32::from(set.contains(written));
        }
    }

    /// The same for the files of a name.
    pub(crate) fn doubt_at(&mut self, rel: &Bytes) {
        let set: BTreeSet<i64> = self.stamps.values().copied().collect();
        for ((place, written), came) in &mut self.arrivals {
            *came += u32::from(place.1 == *rel && set.contains(written));
        }
    }

    fn remember(&mut self, now: u64) {
        for (place, file) in &self.files {
            self.since.entry((place.clone(), file.version.mtime_ns)).or_insert(now);
            for (root, name) in self.files.keys() {
                if *root == place.0 {
                    self.beside.insert((file.version.mtime_ns, name.clone()));
                }
            }
        }
    }

    /// Done files come, as if by the last who had something to do. Returns the places.
    pub(crate) fn finish(&mut self, rng: &mut Rng, now: u64) -> Vec<Place> {
        let all = ROOTS.iter().flat_map(|root| DONE.map(|name| (Bytes::from(*root), name.into())));
        let places: Vec<Place> = all.filter(|_| rng.chance(30)).collect();
        for place in &places {
            self.write(rng, place);
            self.close(place);
        }
        self.remember(now);
        places
    }

    fn change_one(&mut self, rng: &mut Rng) -> Vec<Place> {
        let mut place = self.any_place(rng);
        if rng.chance(25) {
            place.1 = Bytes::from(rng.pick(&DONE));
        }
        match rng.below(if self.narrow { 22 } else { 15 }) {
            12.. => {
                self.sum(rng, &place);
                vec![place]
            }
            0..5 => {
                self.write(rng, &place);
                vec![place]
            }
            5 | 6 => self.close(&place),
            7 => {
                let was = self.files.remove(&place);
                was.map(|_| place).into_iter().collect()
            }
            8 | 9 => self.rename(rng, place),
            10 => match self.files.remove(&place) {
                Some(file) => {
                    self.away.push((place.clone(), file));
                    vec![place]
                }
                None => Vec::new(),
            },
            _ => {
                let Some((place, file)) = self.away.pop() else { return Vec::new() };
                self.put(place.clone(), file);
                vec![place]
            }
        }
    }

    /// A checksum file comes, changes or goes.
    fn sum(&mut self, rng: &mut Rng, place: &Place) {
        let right = self.files.get(place).map(|file| content(&file.version));
        match right.filter(|_| rng.chance(70)) {
            Some(right) => drop(self.sums.insert(place.clone(), right)),
            None if rng.chance(50) => drop(self.sums.insert(place.clone(), rng.below(4) as u64)),
            None => drop(self.sums.remove(place)),
        }
        self.verify(place.clone());
    }

    fn verify(&mut self, place: Place) {
        let Some(file) = self.files.get(&place) else { return };
        if self.sums.get(&place) == Some(&content(&file.version)) {
            self.verified.insert((place, file.version.mtime_ns));
        }
    }

    fn write(&mut self, rng: &mut Rng, place: &Place) {
        self.versions += 1;
        // The same inode, if it was there.
        let old = self.files.get(place).map(|file| (file.version.file.clone(), file.version.size));
        let size = match &old {
            Some((_, size)) if self.calm && rng.chance(70) => *size,
            _ => rng.below(4) as u64,
        };
        let file = old.map(|(file, _)| file);
        let file = file.unwrap_or_else(|| Bytes::from(format!("i{}", self.versions).as_str()));
        let version = Version { file, size, mtime_ns: self.versions };
        self.put(place.clone(), File { version, writing: rng.chance(30) });
    }

    fn close(&mut self, place: &Place) -> Vec<Place> {
        let Some(file) = self.files.get_mut(place).filter(|file| file.writing) else {
            return Vec::new();
        };
        file.writing = false;
        self.complete.insert(file.version.mtime_ns);
        vec![place.clone()]
    }

    fn rename(&mut self, rng: &mut Rng, from: Place) -> Vec<Place> {
        let to = self.any_place(rng);
        match self.files.remove(&from) {
            Some(file) if to != from => {
                self.put(to.clone(), file);
                vec![from, to]
            }
            Some(file) => {
                self.files.insert(from, file);
                Vec::new()
            }
            None => Vec::new(),
        }
    }

    /// All writers close.
    pub(crate) fn close_all(&mut self) -> Vec<Place> {
        let open = self.files.iter().filter(|(_, file)| file.writing);
        let open: Vec<Place> = open.map(|(place, _)| place.clone()).collect();
        open.iter().flat_map(|place| self.close(place)).collect()
    }

    pub(crate) fn look(&self, place: &Place, unproved: bool) -> Found {
        match self.files.get(place) {
            None => Found::Absent,
            Some(file) => {
                let probe = match (file.writing, unproved) {
                    (true, false) => Probe::WriterOpen,
                    (_, true) => Probe::Unproved,
                    (false, false) => Probe::Free,
                };
                Found::File { version: file.version.clone(), probe }
            }
        }
    }
}
