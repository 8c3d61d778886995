//! The fake check threads: they read a file and its checksum, then the ledger, and answer late.

use std::collections::VecDeque;

use dagd::core::candidate::Version;
use dagd::core::check::{Check, Checked, Finding, KeyOf, content_key};
use dagd::core::event::Event;
use dagd::core::id::{Name, Seq};
use dagd::core::path::Bytes;

use super::disk::Disk;
use super::rng::Rng;
use super::store::Store;

/// Checks that were asked for, and answers that were not read yet.
#[derive(Debug, Default)]
pub(crate) struct Checker {
    asked: Vec<Check>,
    /// Read, but for the ledger.
    found: Vec<(Check, Result<Option<Bytes>, Finding>, Seq)>,
    pub(crate) out: VecDeque<Event>,
}

/// What the content of a version is, for this world.
pub(crate) fn content(version: &Version) -> u64 {
    version.size / 2
}

/// The key of a version whose content was read.
pub(crate) fn key(of: &KeyOf, version: &Version) -> Bytes {
    match of {
        KeyOf::Known(key) => key.clone(),
        KeyOf::Content => content_key(&[u8::try_from(content(version)).expect("small"); 32]),
    }
}

impl Checker {
    pub(crate) fn ask(&mut self, check: Check) {
        let again = self.asked.iter().any(|asked| asked.number == check.number);
        assert!(!again, "a check is asked for once");
        self.asked.push(check);
    }

    /// Most of what was asked for a trigger is not answered any more.
    pub(crate) fn forget(&mut self, trigger: &Name, rng: &mut Rng) {
        self.asked.retain(|check| check.trigger != *trigger || rng.chance(20));
        self.found.retain(|(check, ..)| check.trigger != *trigger || rng.chance(20));
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.asked.is_empty() && self.found.is_empty()
    }

    /// Does one small thing.
    pub(crate) fn step(&mut self, rng: &mut Rng, disk: &Disk, store: &Store, seq: Seq) {
        // Many are read before one is answered: what the ledger told grows old.
        if !self.found.is_empty() && (self.asked.is_empty() || rng.chance(30)) {
            let at = rng.below(self.found.len());
            let (check, found, seq) = self.found.swap_remove(at);
            let finding = match found {
                Err(finding) => finding,
                Ok(key) => {
                    let known = key.as_ref().and_then(|key| {
                        store.keys.get(&(check.trigger.clone(), key.clone())).copied()
                    });
                    Finding::Good { key, delivered: known }
                }
            };
            let (number, trigger) = (check.number, check.trigger);
            let event = Event::Checked(Checked { number, trigger, seq, finding });
            if rng.chance(5) {
                self.out.push_back(event.clone());
            }
            self.out.push_back(event);
        } else if !self.asked.is_empty() {
            let at = rng.below(self.asked.len());
            let check = self.asked.swap_remove(at);
            let found = read(&check, rng, disk);
            self.found.push((check, found, seq));
        }
    }
}

fn read(check: &Check, rng: &mut Rng, disk: &Disk) -> Result<Option<Bytes>, Finding> {
    let place = (check.root.clone(), check.rel.clone());
    if rng.chance(3) {
        return Err(Finding::Unreadable);
    }
    let reads = check.checksum.is_some() || check.key == Some(KeyOf::Content);
    let same = disk.files.get(&place).is_some_and(|file| file.version == check.version);
    if reads && !same {
        return Err(Finding::Changed);
    }
    if check.checksum.is_some() {
        match disk.sums.get(&place) {
            None => return Err(Finding::Untold),
            Some(told) if *told != content(&check.version) => return Err(Finding::Differs),
            Some(_) => {}
        }
    }
    Ok(check.key.as_ref().map(|of| key(of, &check.version)))
}
