//! Links that lead to directories, for triggers that follow them: each real directory once.
//!
//! A directory elsewhere is taken as a graft under the link's path. One that belongs to the trigger
//! already, under its own path or through another link, is not taken again, so that no loop of
//! links is endless. Links wait until the real tree is covered, and are then taken in the order of
//! their paths, so that the same links win each time.

use std::collections::BTreeSet;

use crate::core::candidate::Origin;
use crate::core::path::Bytes;
use crate::core::trigger::FollowSymlinks;

use super::cover::News;
use super::dirty::beneath;
use super::roots::{Armed, Root};
use super::seek::{foreign, may_hang, open};
use super::way::{self, End};
use super::worker::Worker;

/// Links to directories that are known for one trigger, at most; that there are more is told.
const KNOWN_MAX: usize = 1024;

/// Links that wait to be looked at, at most; the next scan comes by those that do not fit.
const LINKS_MAX: usize = 65_536;

impl Worker {
    /// There is a link at a path without links, or there was one.
    pub(super) fn found_link(&mut self, path: &Bytes, news: News) {
        for at in 0..self.triggers.len() {
            let trigger = &self.triggers[at];
            if trigger.folder.follow_symlinks != FollowSymlinks::All {
                continue;
            }
            if let Some(rel) = trigger.rel(path) {
                self.ask_link(at, rel, news);
            }
        }
    }

    /// Asks that a link be looked at; `rel` is relative to the root.
    pub(super) fn ask_link(&mut self, at: usize, rel: Bytes, news: News) {
        if self.links.len() < LINKS_MAX {
            let key = (self.triggers[at].name.clone(), rel);
            let asked = self.links.entry(key).or_insert(news);
            *asked = news.max(*asked);
        }
    }

    /// Asks that all known links of a trigger be looked at again.
    pub(super) fn ask_links(&mut self, at: usize) {
        let rels: Vec<Bytes> = self.triggers[at].scene.links.iter().cloned().collect();
        for rel in rels {
            self.ask_link(at, rel, News::Arrived);
        }
    }

    /// Something went from a path: what links led to there, or beneath it, is another directory by
    /// now, if any.
    pub(super) fn touch_grafts(&mut self, path: &Bytes) {
        let gone = |graft: &Root| beneath(path.as_bytes(), graft.base.as_bytes()).is_some();
        for at in 0..self.triggers.len() {
            let grafts = self.triggers[at].scene.grafts.iter().filter(|(_, graft)| gone(graft));
            let rels: Vec<Bytes> = grafts.map(|(rel, _)| rel.clone()).collect();
            for rel in rels {
                self.ungraft(at, &rel);
            }
        }
    }

    /// Looks at the links that wait, once all else is covered.
    pub(super) fn step_links(&mut self) {
        if self.links.is_empty() || self.cover.is_waiting() || !self.reading.is_empty() {
            return;
        }
        let known = |triggers: &[Armed], at: usize| triggers[at].scene.links.len();
        let mut fresh = BTreeSet::new();
        for ((name, rel), news) in std::mem::take(&mut self.links) {
            let Some(at) = self.triggers.iter().position(|t| t.name == name) else { continue };
            let before = known(&self.triggers, at);
            self.look_at_link(at, &rel, news);
            if known(&self.triggers, at) > before {
                fresh.insert(at);
            }
        }
        // Where they lead is followed from now on; it may have changed since they were looked at.
        for at in fresh {
            self.walk_to(at);
            self.ask_links(at);
        }
    }

    fn look_at_link(&mut self, at: usize, rel: &Bytes, news: News) {
        let trigger = &mut self.triggers[at];
        let over = trigger.reach().path(&Bytes::from(rel.dir()));
        let link = over.map(|over| over.join(rel.name()));
        self.reporter.pulse.touch(&trigger.name);
        let is_link = |path: &&Bytes| {
            path.as_path().symlink_metadata().is_ok_and(|meta| meta.file_type().is_symlink())
        };
        let wanted = trigger.reach().enters(rel);
        let Some(link) = link.as_ref().filter(|_| wanted).filter(is_link) else {
            trigger.scene.links.remove(rel);
            self.ungraft(at, rel);
            return;
        };
        let shuns = |path: &Bytes| !self.apart && may_hang(&self.mounts, path);
        let end = way::walk(link.as_path(), shuns).end;
        if matches!(end, End::Here(_) | End::Away) && !self.know_link(at, rel) {
            return;
        }
        let base = match end {
            End::Here(base) => base,
            End::Shunned(_) => return self.set_apart(at),
            End::Away | End::Stuck(_) => {
                self.ungraft(at, rel);
                return;
            }
        };
        let graft = open(&base).ok();
        if graft.is_some() && self.triggers[at].scene.grafts.get(rel) == graft.as_ref() {
            return self.walk_also(at, rel);
        }
        // A scan that has gone into the folder before does not go into the other one.
        let other = self.ungraft(at, rel);
        let news = if other || news == News::Again { News::Arrived } else { news };
        let trigger = &self.triggers[at];
        let is_own =
            |base: &Bytes| trigger.rel(base).is_some_and(|own| trigger.reach().enters(&own));
        if let Some(graft) = graft.filter(|graft| !is_own(&graft.base)) {
            let graft = self.settle_root(graft);
            self.graft(at, rel, graft, news);
        }
    }

    /// Remembers a link. Returns whether it fits.
    fn know_link(&mut self, at: usize, rel: &Bytes) -> bool {
        let trigger = &mut self.triggers[at];
        if trigger.scene.links.contains(rel) {
            return true;
        }
        if trigger.scene.links.len() >= KNOWN_MAX {
            trigger.scene.more_links = true;
            self.changed = true;
            return false;
        }
        trigger.scene.links.insert(rel.clone())
    }

    fn graft(&mut self, at: usize, rel: &Bytes, graft: Root, news: News) {
        let trigger = &mut self.triggers[at];
        tracing::debug!(link = %rel.lossy(), base = %graft.base.lossy(), "follows a link");
        trigger.scene.foreign.extend(foreign(&self.mounts, &graft.base));
        let base = graft.base.clone();
        trigger.scene.grafts.insert(rel.clone(), graft);
        if trigger.means.watches {
            self.cover.ask(base, news);
        }
        self.walk_also(at, rel);
        self.locate(at);
        if news != News::Known {
            // What was delivered from its file system before may be there no more.
            let name = self.triggers[at].name.clone();
            self.sweep(&name, rel.clone(), true, Origin::Event);
        }
        self.roots_changed();
    }

    /// A link does not lead to a directory of the trigger any more. Returns whether it did.
    fn ungraft(&mut self, at: usize, rel: &Bytes) -> bool {
        let trigger = &mut self.triggers[at];
        let Some(graft) = trigger.scene.grafts.remove(rel) else { return false };
        trigger.scene.more_links = false;
        let name = trigger.name.clone();
        self.forget(&graft.base, false);
        // Others may have the same directory.
        if self.triggers.iter().any(|trigger| trigger.wants(&graft.base, None)) {
            self.cover.ask(graft.base, News::Arrived);
        }
        // First, because what was seen lately in a file system that has gone may be there again.
        self.locate(at);
        self.sweep(&name, rel.clone(), true, Origin::Event);
        // Another link may lead to it, and then has it.
        self.ask_links(at);
        self.roots_changed();
        true
    }
}
