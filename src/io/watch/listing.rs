//! From a sidecar to the files that it is for.
//!
//! A done file that is for one file is a hint at that one. One that is for all of a stem, or of a
//! folder, needs the folder's names: each folder is read once for all that was hinted at meanwhile,
//! in bounded steps, and only what a hint was for is looked at.

use std::collections::BTreeSet;
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use indexmap::IndexMap;
use rustix::fs::{Dir, FileType};

use crate::core::candidate::Origin;
use crate::core::fill::split;
use crate::core::id::Name;
use crate::core::path::Bytes;
use crate::core::sidecar::For;
use crate::core::trigger::FileType as Work;
use crate::io::disk;

use super::descend::{STEP_MAX, is_gone};
use super::hints::is_scarcity;
use super::report::Stopped;
use super::worker::Worker;

/// Folders that wait to be read, at most; beyond it their triggers are scanned.
const ASKED_MAX: usize = 1024;

/// Stems of a folder that wait, at most; beyond it all files of the folder are looked at.
const STEMS_MAX: usize = 4096;

/// Pause for each name in a folder before it is read again: some five times what a name costs.
const PAUSE: Duration = Duration::from_micros(2);

/// A trigger and a folder relative to its root.
type Key = (Name, Bytes);

/// Which files of a folder are looked at; `None`: all.
type Stems = Option<BTreeSet<Vec<u8>>>;

/// What waits to be read.
struct Asked {
    stems: Stems,
    not_before: Instant,
}

/// A folder that is being read.
struct Open {
    key: Key,
    stems: Stems,
    dir: Dir,
    names: u32,
}

/// Folders to be read for the sake of their sidecars.
#[derive(Default)]
pub struct Listings {
    asked: IndexMap<Key, Asked>,
    open: Option<Open>,
    /// Folders that were read and pause.
    pauses: IndexMap<Key, Instant>,
}

impl Listings {
    /// Whether something is being read.
    pub fn is_busy(&self, is_held: impl Fn(&Name) -> bool) -> bool {
        self.open.as_ref().is_some_and(|open| !is_held(&open.key.0))
    }

    /// When something may be read next.
    pub fn deadline(&self, is_held: impl Fn(&Name) -> bool) -> Option<Instant> {
        let free = self.asked.iter().filter(|((name, _), _)| !is_held(name));
        free.map(|(_, asked)| asked.not_before).min()
    }

    /// The trigger is gone or has changed: nothing is read for it.
    pub fn forget(&mut self, name: &Name) {
        self.asked.retain(|(trigger, _), _| trigger != name);
        self.open = self.open.take().filter(|open| open.key.0 != *name);
    }

    /// Asks that files in a folder be looked at. Returns whether there was room.
    fn ask(&mut self, key: Key, stem: Option<Vec<u8>>) -> bool {
        if let Some(asked) = self.asked.get_mut(&key) {
            match (&mut asked.stems, stem) {
                (Some(stems), Some(stem)) if stems.len() < STEMS_MAX => drop(stems.insert(stem)),
                (stems, _) => *stems = None,
            }
            return true;
        }
        if self.asked.len() >= ASKED_MAX {
            return false;
        }
        let not_before = self.pauses.get(&key).copied().unwrap_or_else(Instant::now);
        let stems = stem.map(|stem| BTreeSet::from([stem]));
        self.asked.insert(key, Asked { stems, not_before });
        true
    }

    /// A folder that was begun waits after all.
    fn put_back(&mut self, open: Open) {
        let stems = match (open.stems, self.asked.shift_remove(&open.key)) {
            (stems, None) => stems,
            (Some(mut stems), Some(Asked { stems: Some(more), .. })) => {
                stems.extend(more);
                Some(stems)
            }
            _ => None,
        };
        self.asked.insert(open.key, Asked { stems, not_before: Instant::now() });
    }

    /// A folder was read.
    fn pause(&mut self, key: Key, names: u32) {
        let now = Instant::now();
        self.pauses.retain(|_, until| *until > now);
        if self.pauses.len() < ASKED_MAX {
            self.pauses.insert(key, now + PAUSE.saturating_mul(names));
        }
    }
}

impl Worker {
    /// A hint concerned `rel` under a trigger: if that is a sidecar, it is one at the files that it
    /// is for.
    pub(super) fn sidecar(&mut self, at: usize, rel: &Bytes) -> Result<(), Stopped> {
        let told: Vec<For> = self.triggers[at].folder.told_by(rel).collect();
        for of in told {
            let name = self.triggers[at].name.clone();
            let room = match of {
                For::File(rel) => {
                    self.told(at, &rel)?;
                    continue;
                }
                For::Stem(folder, stem) => self.listings.ask((name.clone(), folder), Some(stem)),
                For::Folder(folder) => self.listings.ask((name.clone(), folder), None),
            };
            if !room {
                self.scan(&name);
            }
        }
        Ok(())
    }

    /// A file was told of by its sidecar.
    fn told(&mut self, at: usize, rel: &Bytes) -> Result<(), Stopped> {
        let trigger = &mut self.triggers[at];
        let Some(target) = trigger.target_rel(rel) else { return Ok(()) };
        if trigger.held {
            trigger.keep(target.rel);
        } else if let Some(root) = trigger.open() {
            let rel = target.rel.clone();
            self.reporter.look(Some(root.as_fd()), target, Origin::Event, true)?;
            self.reporter.measures.hurry(&trigger.name, &rel);
        }
        Ok(())
    }

    /// Goes on with the folder in hand, or begins with the next one. What is asked for a held
    /// trigger waits.
    pub(super) fn step_listing(&mut self) -> Result<(), Stopped> {
        let open = match self.listings.open.take() {
            Some(open) => Some(open),
            None => self.begin_listing(),
        };
        let Some(mut open) = open else { return Ok(()) };
        let Some(at) = self.triggers.iter().position(|trigger| trigger.name == open.key.0) else {
            return Ok(());
        };
        if self.triggers[at].held {
            self.listings.put_back(open);
            return Ok(());
        }
        for _ in 0..STEP_MAX {
            self.reporter.pulse.touch(&open.key.0);
            let entry = match open.dir.read() {
                Some(Ok(entry)) => entry,
                end => {
                    if end.is_some() {
                        self.cover_anew(at, &open.key.1);
                    }
                    self.listings.pause(open.key, open.names);
                    return self.report();
                }
            };
            open.names += 1;
            let name = entry.file_name().to_bytes();
            let wanted = |stems: &BTreeSet<Vec<u8>>| stems.contains(split(name).0);
            let other = match self.triggers[at].folder.file_type {
                Work::File => FileType::Directory,
                Work::Dir => FileType::RegularFile,
            };
            let dots = name == b"." || name == b"..";
            if !dots && entry.file_type() != other && open.stems.as_ref().is_none_or(wanted) {
                self.told(at, &open.key.1.join(name))?;
            }
        }
        self.listings.open = Some(open);
        self.report()
    }

    fn begin_listing(&mut self) -> Option<Open> {
        let now = Instant::now();
        let due = self.listings.asked.iter().position(|((name, _), asked)| {
            asked.not_before <= now && !self.triggers.iter().any(|t| t.held && t.name == *name)
        })?;
        let (key, asked) = self.listings.asked.shift_remove_index(due)?;
        let at = self.triggers.iter().position(|trigger| trigger.name == key.0)?;
        let trigger = &mut self.triggers[at];
        let (root, follow) = (trigger.open()?, trigger.folder.follow_symlinks);
        match disk::open_dir(root.as_fd(), &key.1, follow) {
            Ok((dir, _)) => return Some(Open { key, stems: asked.stems, dir, names: 0 }),
            Err(error) if is_gone(&error) => {}
            // A scan finds out.
            Err(error) if is_scarcity(&error) => trigger.doubtful = true,
            Err(_) => self.cover_anew(at, &key.1),
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Instant;

    use super::{Key, Listings, STEMS_MAX};

    fn key(folder: &str) -> Key {
        ("t".into(), folder.into())
    }

    #[test]
    fn many_done_files_of_a_folder_are_one_reading() {
        let mut listings = Listings::default();
        for n in 0..STEMS_MAX {
            assert!(listings.ask(key("a"), Some(n.to_string().into_bytes())));
        }
        assert_eq!(listings.asked.len(), 1);
        assert_eq!(listings.asked[&key("a")].stems.as_ref().map(BTreeSet::len), Some(STEMS_MAX));
        assert!(listings.ask(key("a"), Some(b"more".to_vec())));
        assert!(listings.asked[&key("a")].stems.is_none(), "all files, then");
    }

    #[test]
    fn a_large_folder_pauses_and_too_many_do_not_fit() {
        let mut listings = Listings::default();
        listings.pause(key("large"), 10_000_000);
        for n in 1..super::ASKED_MAX {
            assert!(listings.ask(key(&n.to_string()), None));
        }
        let now = Instant::now();
        assert!(listings.deadline(|_| false).is_some_and(|at| at <= now));
        assert_eq!(listings.deadline(|_| true), None, "what is held waits without a time");
        assert!(listings.ask(key("large"), None));
        assert!(listings.asked[&key("large")].not_before > now);
        assert!(!listings.ask(key("one too many"), None));
        listings.forget(&"t".into());
        assert_eq!(listings.deadline(|_| false), None);
    }
}
