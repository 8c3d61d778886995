//! The fake disk: files by root and name, with versions that are unique, and who writes to them.

use std::collections::{BTreeMap, BTreeSet};

use dagd::core::candidate::{Disk as Found, Probe, Version};
use dagd::core::path::Bytes;

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
    /// How often a version came to a place.
    pub(crate) arrivals: BTreeMap<(Place, i64), u32>,
    /// Versions that nobody was writing to at some time.
    pub(crate) complete: BTreeSet<i64>,
    versions: i64,
}

const NAMES: [&str; 10] =
    ["a.x", "a.y", "b.x", "b.y", "c.x", "d.y", "f.tmp", "s/a.x", "s/a.y", "t/b.x"];
const ROOTS: [&str; 2] = ["/ta", "/tb"];

impl Disk {
    fn put(&mut self, place: Place, file: File) {
        if !file.writing {
            self.complete.insert(file.version.mtime_ns);
        }
        let key = (place.clone(), file.version.mtime_ns);
        *self.arrivals.entry(key).or_default() += 1;
        self.files.insert(place, file);
    }

    /// Does something. Returns the places at which the kernel would hint.
    pub(crate) fn change(&mut self, rng: &mut Rng) -> Vec<Place> {
        let place = (Bytes::from(rng.pick(&ROOTS)), Bytes::from(rng.pick(&NAMES)));
        match rng.below(12) {
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
        let to = (Bytes::from(rng.pick(&ROOTS)), Bytes::from(rng.pick(&NAMES)));
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
