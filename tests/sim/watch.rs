//! The fake watch side: threads that look, scan and count, and speak the real protocol. Each owns
//! the folders of some triggers and sends what it finds in order.

use std::collections::{BTreeSet, VecDeque};

use dagd::core::candidate::{Disk as Found, Observed, Origin, Probe, Row, Seen};
use dagd::core::event::Event;
use dagd::core::fill::split;
use dagd::core::id::{Name, Seq};
use dagd::core::model::Model;
use dagd::core::path::Bytes;
use dagd::core::sidecar::For;
use dagd::core::trigger::{FolderSpec, ReadLock};

use super::disk::{Disk, Place};
use super::rng::Rng;
use super::store::Store;

#[derive(Clone, Debug)]
pub(crate) enum Job {
    Look(Name, Bytes),
    Recheck(Name, Bytes),
    Scan(Name),
    Count(Name, u64),
}

#[derive(Debug)]
struct Scan {
    trigger: Name,
    left: VecDeque<Bytes>,
    /// What was listed; what the ledger has beside it is asked for at the end.
    listed: BTreeSet<Bytes>,
    rows_done: bool,
}

/// A trigger, a folder, and the stem whose files in it are looked at, or all.
type Listing = (Name, Bytes, Option<Vec<u8>>);

/// A batch of looks under way: first the number of the last commit is read, then the disk, then
/// the ledger, and anything may happen in between.
#[derive(Debug)]
struct Active {
    seq: Seq,
    origin: Origin,
    targets: Vec<(Name, Bytes)>,
    found: Option<Vec<Found>>,
}

#[derive(Debug, Default)]
pub(crate) struct Thread {
    pub(crate) jobs: VecDeque<Job>,
    dirty: BTreeSet<(Name, Bytes)>,
    /// The same, of which nothing but attributes changed.
    stamps: BTreeSet<(Name, Bytes)>,
    /// Triggers of which a scan has told all that was there.
    known: BTreeSet<Name>,
    /// Something was told of files whose time was set that may have them delivered again.
    pub(crate) doubt: bool,
    lost: BTreeSet<Name>,
    listings: BTreeSet<Listing>,
    scans: VecDeque<Scan>,
    pub(crate) held: BTreeSet<Name>,
    active: Option<Active>,
    /// What the engine has not read yet.
    pub(crate) out: VecDeque<Event>,
}

/// What a thread can see.
pub(crate) struct Sight<'a> {
    pub(crate) disk: &'a Disk,
    pub(crate) store: &'a Store,
    pub(crate) model: &'a Model,
    pub(crate) seq: Seq,
}

fn folder<'a>(model: &'a Model, trigger: &Name) -> Option<&'a FolderSpec> {
    model.triggers.get(trigger)?.folder()
}

pub(crate) fn root(folder: &FolderSpec) -> Bytes {
    Bytes::from(folder.root.as_path())
}

/// The names on disk that a trigger is for.
pub(crate) fn names(disk: &Disk, folder: &FolderSpec) -> Vec<Bytes> {
    let root = root(folder);
    let mine = disk.files.keys().filter(|(at, rel)| *at == root && matches(folder, rel));
    mine.map(|(_, rel)| rel.clone()).collect()
}

fn matches(folder: &FolderSpec, rel: &Bytes) -> bool {
    folder.work_at(rel).as_ref() == Some(rel)
}

impl Thread {
    /// The kernel hints at a place, or has lost the hint and says so.
    pub(crate) fn hint(
        &mut self,
        model: &Model,
        trigger: &Name,
        place: &Place,
        (lost, stamped): (bool, bool),
    ) {
        let Some(folder) = folder(model, trigger) else { return };
        if root(folder) != place.0 {
            return;
        }
        let told: Vec<For> = folder.told_by(&place.1).collect();
        if !matches(folder, &place.1) && told.is_empty() {
            return;
        }
        if lost {
            self.lost.insert(trigger.clone());
            self.doubt = true;
            return;
        }
        let key = (trigger.clone(), place.1.clone());
        if stamped {
            if matches(folder, &place.1) && !self.dirty.contains(&key) {
                self.stamps.insert(key);
            }
            return;
        }
        if matches(folder, &place.1) {
            self.stamps.remove(&key);
            self.dirty.insert(key);
        }
        for of in told {
            match of {
                For::File(rel) => drop(self.dirty.insert((trigger.clone(), rel))),
                For::Stem(dir, stem) => {
                    self.listings.insert((trigger.clone(), dir, Some(stem)));
                }
                For::Folder(dir) => drop(self.listings.insert((trigger.clone(), dir, None))),
            }
        }
    }

    /// The folder is read for what a done file is for.
    fn list(&mut self, sight: &Sight<'_>) {
        let free = |(trigger, ..): &&Listing| !self.held.contains(trigger);
        let Some(listing) = self.listings.iter().find(free).cloned() else { return };
        self.listings.remove(&listing);
        let (trigger, dir, stem) = listing;
        let Some(folder) = folder(sight.model, &trigger) else { return };
        for rel in names(sight.disk, folder) {
            let told = stem.as_ref().is_none_or(|stem| split(rel.name()).0 == *stem);
            if told && rel.dir() == dir.as_bytes() {
                self.dirty.insert((trigger.clone(), rel));
            }
        }
    }

    /// A trigger's folder is another one now: what was found under the old configuration, and is
    /// not read yet, tells nothing (another probe, another filter). A scan follows.
    pub(crate) fn rearm(&mut self, changed: &BTreeSet<Name>) {
        for event in &mut self.out {
            if let Event::Observed(observed) = event {
                observed.seen.retain(|seen| !changed.contains(&seen.trigger));
            }
        }
        self.out.retain(|event| match event {
            Event::Scanned { trigger } | Event::Counted { trigger, .. } => {
                !changed.contains(trigger)
            }
            _ => true,
        });
        if let Some(active) = &mut self.active {
            let keep = active.targets.iter().map(|(trigger, _)| !changed.contains(trigger));
            let keep: Vec<bool> = keep.collect();
            let mut kept = keep.iter();
            active.targets.retain(|_| kept.next() == Some(&true));
            let mut kept = keep.iter();
            if let Some(found) = &mut active.found {
                found.retain(|_| kept.next() == Some(&true));
            }
        }
        self.scans.retain(|scan| !changed.contains(&scan.trigger));
        self.listings.retain(|(trigger, ..)| !changed.contains(trigger));
        let stays = |job: &Job| match job {
            Job::Look(trigger, _)
            | Job::Recheck(trigger, _)
            | Job::Scan(trigger)
            | Job::Count(trigger, _) => !changed.contains(trigger),
        };
        self.known.retain(|trigger| !changed.contains(trigger));
        self.doubt = true;
        self.jobs.retain(stays);
    }

    fn free_scan(&self) -> Option<usize> {
        self.scans.iter().position(|scan| !self.held.contains(&scan.trigger))
    }

    fn free_dirty(&self) -> Vec<(Name, Bytes)> {
        self.dirty.iter().filter(|(trigger, _)| !self.held.contains(trigger)).cloned().collect()
    }

    fn free_lost(&self) -> Option<Name> {
        self.lost.iter().find(|trigger| !self.held.contains(*trigger)).cloned()
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.active.is_none()
            && self.jobs.is_empty()
            && self.free_dirty().is_empty()
            && self.stamps.is_empty()
            && self.listings.iter().all(|(trigger, ..)| self.held.contains(trigger))
            && self.free_lost().is_none()
            && self.free_scan().is_none()
    }

    /// Does one small thing.
    pub(crate) fn step(&mut self, rng: &mut Rng, sight: &Sight<'_>) {
        if let Some(active) = self.active.take() {
            return self.advance(active, rng, sight);
        }
        match rng.below(6) {
            5 => self.look_at_stamps(rng, sight),
            4 => self.list(sight),
            0 => {
                if let Some(job) = self.jobs.pop_front() {
                    self.job(job, sight);
                }
            }
            1 => {
                // A reload may have made it another one that does not count.
                self.dirty.retain(|(trigger, rel)| {
                    folder(sight.model, trigger).is_some_and(|folder| matches(folder, rel))
                });
                let all = self.free_dirty();
                let some = all.into_iter().filter(|_| rng.chance(60)).collect::<Vec<_>>();
                // A hint that comes twice is not forgotten the first time.
                let twice = rng.chance(10);
                for target in &some {
                    if !twice {
                        self.dirty.remove(target);
                    }
                }
                // What counts is told by the configuration that is in force when it is looked at.
                let counts = |(trigger, rel): &(Name, Bytes)| {
                    folder(sight.model, trigger).is_some_and(|folder| matches(folder, rel))
                };
                let some = some.into_iter().filter(counts).collect();
                self.begin(Origin::Event, some, sight);
            }
            2 => {
                if let Some(at) = self.free_scan() {
                    self.scan_on(at, rng, sight);
                }
            }
            _ => {
                if let Some(trigger) = self.free_lost() {
                    self.lost.remove(&trigger);
                    self.begin_scan(trigger, sight);
                }
            }
        }
    }

    /// Those of a trigger that holds are looked at later, like others.
    fn look_at_stamps(&mut self, rng: &mut Rng, sight: &Sight<'_>) {
        let some = self.stamps.iter().filter(|_| rng.chance(60)).cloned().collect::<Vec<_>>();
        self.stamps.retain(|target| !some.contains(target));
        let (held, some): (Vec<_>, Vec<_>) =
            some.into_iter().partition(|(trigger, _)| self.held.contains(trigger));
        self.doubt |= !held.is_empty();
        self.dirty.extend(held);
        let some = some.into_iter().filter(|(trigger, rel)| {
            folder(sight.model, trigger).is_some_and(|folder| matches(folder, rel))
        });
        self.begin(Origin::Stamp, some.collect(), sight);
    }

    /// Whether hints tell all that happens under a trigger.
    fn hears_all(&self, trigger: &Name) -> bool {
        let scans = self.scans.iter().any(|scan| scan.trigger == *trigger);
        self.known.contains(trigger) && !self.lost.contains(trigger) && !scans
    }

    fn begin(&mut self, origin: Origin, targets: Vec<(Name, Bytes)>, sight: &Sight<'_>) {
        if !targets.is_empty() {
            self.active = Some(Active { seq: sight.seq, origin, targets, found: None });
        }
    }

    fn job(&mut self, job: Job, sight: &Sight<'_>) {
        match job {
            Job::Look(trigger, rel) => self.begin(Origin::Look, vec![(trigger, rel)], sight),
            Job::Recheck(trigger, rel) => {
                let key = (trigger, rel);
                if !self.dirty.contains(&key) {
                    self.stamps.insert(key);
                }
            }
            Job::Scan(trigger) => self.begin_scan(trigger, sight),
            Job::Count(trigger, limit) => {
                let Some(folder) = folder(sight.model, &trigger) else { return };
                let new = |rel: &&Bytes| {
                    let row = sight.store.rows.get(&(trigger.clone(), (*rel).clone()));
                    row.is_none_or(|row| !row.open)
                };
                let names = names(sight.disk, folder);
                let files = (names.iter().filter(new).count() as u64).min(limit + 1);
                self.out.push_back(Event::Counted { trigger, files });
            }
        }
    }

    fn begin_scan(&mut self, trigger: Name, sight: &Sight<'_>) {
        let Some(folder) = folder(sight.model, &trigger) else { return };
        let listed: BTreeSet<Bytes> = names(sight.disk, folder).into_iter().collect();
        let left = listed.iter().cloned().collect();
        self.doubt = true;
        self.scans.push_back(Scan { trigger, left, listed, rows_done: false });
    }

    fn scan_on(&mut self, at: usize, rng: &mut Rng, sight: &Sight<'_>) {
        let scan = &mut self.scans[at];
        if scan.left.is_empty() && !scan.rows_done {
            scan.rows_done = true;
            let rows = sight.store.rows.iter();
            let open = rows.filter(|((of, _), row)| *of == scan.trigger && row.open);
            let open = open.map(|((_, rel), _)| rel.clone());
            scan.left = open.filter(|rel| !scan.listed.contains(rel)).collect();
        }
        if scan.left.is_empty() {
            let trigger = scan.trigger.clone();
            self.scans.remove(at);
            self.known.insert(trigger.clone());
            self.out.push_back(Event::Scanned { trigger });
            return;
        }
        let many = (1 + rng.below(3)).min(scan.left.len());
        let trigger = scan.trigger.clone();
        let some = scan.left.drain(..many).map(|rel| (trigger.clone(), rel)).collect();
        self.begin(Origin::Scan, some, sight);
    }

    fn advance(&mut self, mut active: Active, rng: &mut Rng, sight: &Sight<'_>) {
        let look = |(trigger, rel): &(Name, Bytes)| {
            let Some(folder) = folder(sight.model, trigger) else { return Found::Absent };
            let place = (root(folder), rel.clone());
            let done = folder.done_of(rel).map(|done| (root(folder), done));
            if let Some(done) = done
                && !sight.disk.files.contains_key(&done)
            {
                return match sight.disk.look(&place, false) {
                    Found::File { version, .. } => Found::File { version, probe: Probe::NotDone },
                    other => other,
                };
            }
            match (folder.read_lock, sight.disk.look(&place, false)) {
                (ReadLock::None, Found::File { version, .. }) => {
                    Found::File { version, probe: Probe::NotAsked }
                }
                (ReadLock::Changed, _) => sight.disk.look(&place, true),
                (_, found) => found,
            }
        };
        let Some(found) = active.found.take() else {
            active.found = Some(active.targets.iter().map(look).collect());
            self.active = Some(active);
            return;
        };
        let rows = active.targets.iter().map(|key| sight.store.rows.get(key).cloned());
        let rows: Vec<Option<Row>> = rows.collect();
        let mut seen = Vec::new();
        let (mut unsure, stamps) = (Vec::new(), active.origin == Origin::Stamp);
        for ((key, disk), row) in active.targets.into_iter().zip(found).zip(rows) {
            // What does not count any more is only told to be gone.
            let counts = folder(sight.model, &key.0).is_some_and(|of| matches(of, &key.1));
            let asked = matches!(active.origin, Origin::Scan | Origin::Look);
            if asked && !counts && matches!(disk, Found::File { .. }) {
                continue;
            }
            let only_new = stamps || active.origin == Origin::Scan;
            if only_new && is_known(&disk, row.as_ref()) {
                continue;
            }
            // Others than a hint at its attributes cannot tell that nobody has written to it.
            let set = matches!(&disk, Found::File { version, .. } if version.mtime_ns < 0);
            self.doubt |= set && !stamps && !is_known(&disk, row.as_ref());
            if stamps {
                let writes = matches!(disk, Found::File { probe: Probe::WriterOpen, .. });
                let there = matches!(disk, Found::File { .. });
                // Whatever came meanwhile is looked at once more.
                let hinted = self.dirty.contains(&key) || self.stamps.contains(&key);
                if hinted || writes || !there {
                    continue;
                }
                let free = matches!(disk, Found::File { probe: Probe::Free, .. });
                if !free || !self.hears_all(&key.0) {
                    self.doubt = true;
                    let (trigger, rel) = key;
                    unsure.push(Seen { trigger, rel, disk, row });
                    continue;
                }
            }
            let (trigger, rel) = key;
            if folder(sight.model, &trigger).is_some() {
                seen.push(Seen { trigger, rel, disk, row });
            }
        }
        if !unsure.is_empty() {
            let unsure = Observed { seq: active.seq, origin: Origin::Look, seen: unsure };
            self.out.push_back(Event::Observed(unsure));
        }
        let observed = Observed { seq: active.seq, origin: active.origin, seen };
        if rng.chance(5) {
            self.out.push_back(Event::Observed(observed.clone()));
        }
        self.out.push_back(Event::Observed(observed));
    }
}

/// What a scan does not tell: that nothing has changed.
fn is_known(disk: &Found, row: Option<&Row>) -> bool {
    let open = row.filter(|row| row.open);
    match disk {
        Found::File { version, .. } => open.is_some_and(|row| row.version == *version),
        Found::Absent | Found::Other => open.is_none(),
    }
}
