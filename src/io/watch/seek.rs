//! Finds roots, takes them, checks that they are what they were, and gives them up.
//!
//! A root is sought along the way that its path leads, and the way is followed, so that whatever
//! changes on it leads to another check.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::AsFd as _;
use std::time::Instant;

use crate::core::candidate::Origin;
use crate::core::ledger::Placed;
use crate::core::path::Bytes;
use crate::io::disk;

use super::FromWatch;
use super::cover::News;
use super::dirty::beneath;
use super::hints::is_scarcity;
use super::means::Means;
use super::mounts::{Mount, Mounts};
use super::report::Stopped;
use super::roots::Root;
use super::way::{self, End};
use super::worker::Worker;

/// Times that a way is walked again because it was not followed before: each time it got longer,
/// or somebody is changing it all the while, which will be told.
const SEEKS_MAX: usize = 64;

/// File systems that are told for one trigger, at most; those that do not fit are taken for the one
/// over them.
const PLACES_MAX: usize = 256;

impl Worker {
    /// Roots that a hint concerns are checked.
    pub(super) fn touch_roots(&mut self, path: &Bytes, gone: bool) {
        if gone {
            self.touch_grafts(path);
        }
        for at in 0..self.triggers.len() {
            let Some(root) = &self.triggers[at].root else { continue };
            if gone && beneath(path.as_bytes(), root.base.as_bytes()).is_some() {
                self.lose_root(at);
                self.check_root(at, true);
            } else if root.base == *path {
                self.check_root(at, true);
            }
        }
    }

    /// Reads the table of mounts. While too much is open for that, what was known of it holds, and it
    /// is read with the next poll.
    pub(super) fn read_mounts(&mut self) {
        let mounts = Mounts::read();
        self.unread_mounts = mounts.as_ref().is_err_and(is_scarcity);
        self.mounts = mounts.unwrap_or_else(|_| std::mem::take(&mut self.mounts));
    }

    /// The way to some root may have changed, or what is mounted beneath it.
    pub(super) fn wander(&mut self) {
        self.read_mounts();
        for at in 0..self.triggers.len() {
            self.check_root(at, true);
            let trigger = &self.triggers[at];
            if trigger.root.is_none() {
                continue;
            }
            let now: BTreeSet<(u64, Bytes)> =
                trigger.bases().flat_map(|base| foreign(&self.mounts, base)).collect();
            let before = std::mem::replace(&mut self.triggers[at].scene.foreign, now.clone());
            for (_, point) in now.symmetric_difference(&before) {
                self.remounted(point);
            }
            self.ask_links(at);
            self.assess(at);
            self.locate(at);
        }
    }

    /// Another file system begins or ended at a directory beneath a root.
    fn remounted(&mut self, point: &Bytes) {
        self.forget(point, false);
        if self.triggers.iter().any(|trigger| trigger.wants(point, None)) {
            self.cover.ask(point.clone(), News::Arrived);
        }
        self.roots_changed();
    }

    /// Looks whether a trigger's root is where its path leads and what it was, and takes another
    /// one if it is not. With `news`, the files of another one are to be reported. What is delivered
    /// stays delivered while there is no root: it may only be unmounted.
    pub(super) fn check_root(&mut self, at: usize, news: bool) {
        self.triggers[at].close();
        if self.triggers[at].apart {
            return;
        }
        let end = self.walk_to(at);
        let doubtful = std::mem::take(&mut self.triggers[at].doubtful);
        let mut scarce = false;
        let found = match end {
            End::Here(base) => open(&base).map(Some).map_err(|error| {
                scarce = is_scarcity(&error);
                format!("cannot open {}: {error}", base.lossy())
            }),
            End::Away => Ok(None),
            End::Shunned(_) => return self.set_apart(at),
            End::Stuck(why) => Err(why),
        };
        let trigger = &mut self.triggers[at];
        let was = trigger.trouble.take();
        trigger.trouble = found.as_ref().err().cloned();
        trigger.scarce = scarce;
        self.changed |= was != trigger.trouble;
        if scarce {
            return;
        }
        let found = found.ok().flatten();
        if let Some(root) = trigger.root.as_ref().filter(|root| found.as_ref() == Some(*root)) {
            // It could not be opened for a while. What was to be looked at then was not.
            if doubtful || was.is_some() {
                let (name, base) = (trigger.name.clone(), root.base.clone());
                if trigger.means.watches {
                    self.cover.ask(base, News::Known);
                }
                self.scan(&name);
            }
            return;
        }
        self.lose_root(at);
        match found.map(|root| self.settle_root(root)) {
            Some(root) => self.take_root(at, root, news),
            None => self.roots_changed(),
        }
    }

    /// Reads the table of mounts as it is while the root, or the end of a link, is this one: what is
    /// seen under it is told to be of the file system that the table has for it.
    pub(super) fn settle_root(&mut self, mut root: Root) -> Root {
        for _ in 0..SEEKS_MAX {
            self.read_mounts();
            match open(&root.base) {
                Ok(now) if now != root => root = now,
                // If it cannot be opened any more, that is found at the next look.
                Ok(_) | Err(_) => break,
            }
        }
        root
    }

    /// Walks to a root and follows the way: first followed, then walked again, since it may have
    /// changed in between.
    pub(super) fn walk_to(&mut self, at: usize) -> End {
        let mut end = End::Away;
        for _ in 0..SEEKS_MAX {
            let trigger = &mut self.triggers[at];
            self.reporter.pulse.touch(&trigger.name);
            let may_hang = |path: &Bytes| may_hang(&self.mounts, path);
            let shuns = |path: &Bytes| !self.apart && may_hang(path);
            let mut way = way::walk(&trigger.folder.root, shuns);
            for link in &trigger.scene.links {
                way.join(way::walk(&trigger.folder.root.join(link.as_path()), shuns));
            }
            let who = (self.number, trigger.name.clone());
            // Nobody tells there what others do, so that there is nothing to follow.
            let fresh = self.places.follow(&who, &self.inbox, &way, may_hang);
            end = way.end;
            let was = std::mem::replace(&mut trigger.unfollowed, fresh.clone().err());
            self.changed |= was != trigger.unfollowed;
            if fresh != Ok(true) {
                break;
            }
        }
        end
    }

    /// The root may hang: it is served by a worker of its own from now on. As long as there is no
    /// thread for one, that is tried with each poll.
    pub(super) fn set_apart(&mut self, at: usize) {
        let name = self.triggers[at].name.clone();
        self.lose_root(at);
        self.places.leave(&(self.number, name.clone()));
        // The other worker is told to begin them anew.
        self.drop_walks(&name);
        let done = self.desk.set_apart(&name);
        let trigger = &mut self.triggers[at];
        trigger.apart = done.is_ok();
        let root = trigger.folder.root.display();
        trigger.trouble = done.err().map(|error| format!("no thread for {root}: {error}"));
        trigger.scarce = trigger.trouble.is_some();
        self.changed = true;
    }

    /// Finds out where a trigger's files lie.
    pub(super) fn locate(&mut self, at: usize) {
        let trigger = &self.triggers[at];
        let Some(root) = &trigger.root else { return };
        let identity = |path| self.mounts.over(path).map(Mount::identity).unwrap_or_default();
        let place = |dir: Bytes, path| Placed { dir, what: identity(path) };
        let below = trigger.scene.foreign.iter().filter(|_| trigger.folder.cross_filesystem);
        let below = below.filter_map(|(_, point)| Some(place(trigger.rel(point)?, point)));
        let grafts =
            trigger.scene.grafts.iter().map(|(rel, graft)| place(rel.clone(), &graft.base));
        let all = [place(Bytes::default(), &root.base)].into_iter().chain(below).chain(grafts);
        let places: Vec<Placed> = all.take(PLACES_MAX).collect();
        let trigger = &mut self.triggers[at];
        if trigger.places != places {
            trigger.places = places;
            self.reporter.forget(&trigger.name);
        }
    }

    /// Tells where files lie, before anything is told that was seen there.
    pub(super) fn tell_places(&mut self) -> Result<(), Stopped> {
        for trigger in self.triggers.iter_mut().filter(|trigger| trigger.told != trigger.places) {
            trigger.told.clone_from(&trigger.places);
            let (trigger, places) = (trigger.name.clone(), trigger.places.clone());
            self.reporter.send(FromWatch::Placed { trigger, places })?;
        }
        Ok(())
    }

    /// Finds out how changes beneath a root are noticed.
    pub(super) fn assess(&mut self, at: usize) {
        let trigger = &mut self.triggers[at];
        let Some(root) = &trigger.root else { return };
        self.reporter.pulse.touch(&trigger.name);
        let means = Means::of(&trigger.folder, &root.base, &self.mounts);
        let was = std::mem::replace(&mut trigger.means, means);
        if was == trigger.means {
            return;
        }
        self.changed = true;
        let due = trigger.means.every.map(|every| Instant::now() + every);
        trigger.next_scan = due.map(|due| trigger.next_scan.map_or(due, |next| next.min(due)));
        if trigger.means.watches && !was.watches {
            self.cover.ask(root.base.clone(), News::Arrived);
        } else if was.watches && !trigger.means.watches {
            self.release_unwanted();
        }
    }

    fn lose_root(&mut self, at: usize) {
        let trigger = &mut self.triggers[at];
        trigger.close();
        if let Some(root) = trigger.root.take() {
            tracing::info!(trigger = &*trigger.name, root = %root.base.lossy(), "root has gone");
            let scene = std::mem::take(&mut trigger.scene);
            // Nobody told the backend: it hears of what goes from the directory above.
            self.forget(&root.base, false);
            for graft in scene.grafts.into_values() {
                self.forget(&graft.base, false);
                if self.triggers.iter().any(|other| other.wants(&graft.base, None)) {
                    self.cover.ask(graft.base, News::Arrived);
                }
            }
            // Others that share the tree still want it.
            for other in self.triggers.iter().filter_map(|trigger| trigger.root.as_ref()) {
                if beneath(other.base.as_bytes(), root.base.as_bytes()).is_some() {
                    self.cover.ask(root.base.clone(), News::Arrived);
                } else if beneath(root.base.as_bytes(), other.base.as_bytes()).is_some() {
                    self.cover.ask(other.base.clone(), News::Arrived);
                }
            }
        }
    }

    fn take_root(&mut self, at: usize, root: Root, news: bool) {
        let base = root.base.clone();
        let enters = self.triggers[at].folder.cross_filesystem;
        let below = || self.mounts.beneath(&base).any(|mount| self.mounts.nature(mount).may_hang);
        if enters && !self.apart && below() {
            return self.set_apart(at);
        }
        let trigger = &mut self.triggers[at];
        trigger.scene.foreign = foreign(&self.mounts, &root.base).collect();
        // News are read as soon as they are covered; otherwise somebody scans.
        trigger.known = news;
        trigger.root = Some(root);
        self.assess(at);
        self.locate(at);
        let trigger = &mut self.triggers[at];
        if trigger.means.watches {
            self.cover.ask(base.clone(), if news { News::Arrived } else { News::Known });
        } else if news {
            trigger.next_scan = Some(Instant::now());
        }
        if news {
            let name = trigger.name.clone();
            self.sweep(&name, Bytes::default(), true, Origin::Event);
        }
        tracing::debug!(root = %base.lossy(), "root is there");
        self.roots_changed();
    }
}

/// Whether a call on a path may have to wait for somebody else.
pub fn may_hang(mounts: &Mounts, path: &Bytes) -> bool {
    mounts.over(path).is_some_and(|mount| mounts.nature(mount).may_hang)
}

/// The mounts that begin beneath a directory, by number and path.
pub(super) fn foreign(mounts: &Mounts, base: &Bytes) -> impl Iterator<Item = (u64, Bytes)> {
    let all: Vec<_> = mounts.beneath(base).map(|m| (m.id, m.point.clone())).collect();
    all.into_iter()
}

/// Opens the directory at a path without links, to know which one it is. Errors: why it cannot be.
pub fn open(base: &Bytes) -> io::Result<Root> {
    let id = disk::open_root(base.as_path()).and_then(|fd| disk::dir_id(fd.as_fd()))?;
    Ok(Root { base: base.clone(), id })
}
