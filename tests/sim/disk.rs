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
    /// How often a version came to a place.
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
}

const NAMES: [&str; 10] =
    ["a.x", "a.y", "b.x", "b.y", "c.x", "d.y", "f.tmp", "s/a.x", "s/a.y", "t/b.x"];
/// Names that may be those of done files.
const DONE: [&str; 7] = ["a.x.done", "b.y.done", "a.done", "d.done", "s/a.done", "_OK", "s/_OK"];
const ROOTS: [&str; 2] = ["/ta", "/tb"];

impl Disk {
    pub(crate) fn new(narrow: bool) -> Self {
        Self { narrow, ..Self::default() }
    }

    fn put(&mut self, place: Place, file: File) {
        if !file.writing {
            self.complete.insert(file.version.mtime_ns);
        }
        let key = (place.clone(), file.version.mtime_ns);
        *self.arrivals.entry(key).or_default() += 1;
        self.files.insert(place.clone(), file);
        self.verify(place);
    }

    fn any_place(&self, rng: &mut Rng) -> Place {
        let root = if self.narrow { ROOTS[0] } else { rng.pick(&ROOTS) };
        (Bytes::from(root), Bytes::from(rng.pick(&NAMES)))
    }

    /// Does something. Returns the places at which the kernel would hint.
    pub(crate) fn change(&mut self, rng: &mut Rng, now: u64) -> Vec<Place> {
        let places = self.change_one(rng);
        self.remember(now);
        places
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
        let old = self.files.get(place).map(|file| file.version.file.clone());
        let file = old.unwrap_or_else(|| Bytes::from(format!("i{}", self.versions).as_str()));
        let size = rng.below(4) as u64;
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
