//! Files of which nothing but attributes changed: were they written to as well?
//!
//! A program may close a file, which is delivered then, and set its time afterwards, by its path.
//! That is told from a new version by what the kernel does not tell: if nobody has the file open
//! for writing, and all that was queued before that was asked holds no other hint at it, then
//! nobody has written to it since it was last told of. Where hints may be missing, it is not sure.

use std::os::fd::AsFd as _;

use crate::core::candidate::{Disk, Origin, Probe, Seen};
use crate::core::path::Bytes;
use crate::core::trigger::{FileType, FollowSymlinks};

use super::report::{BATCH_MAX, Stopped};
use super::way::parent;
use super::worker::Worker;

impl Worker {
    /// A hint told that attributes at a path have changed. Folders do not count: their times are
    /// those of what is in them.
    pub(super) fn stamp(&mut self, path: &Bytes) {
        for trigger in &self.triggers {
            let target = trigger.target(path).filter(|target| target.work == FileType::File);
            self.stamps.extend(target.map(|target| (trigger.name.clone(), target.rel)));
        }
    }

    /// Looks at some of the files, once all hints that were taken are served, so that those which
    /// are not are in the inbox.
    pub(super) fn step_stamps(&mut self) -> Result<(), Stopped> {
        if self.stamps.is_empty() || !self.hints.is_done() {
            return Ok(());
        }
        self.report()?;
        let seq = self.reporter.committed();
        let some = self.stamps.len().min(BATCH_MAX);
        let some: Vec<_> = self.stamps.drain(..some).collect();
        let (mut paths, mut found) = (Vec::new(), Vec::new());
        for (name, rel) in some {
            let Some(at) = self.triggers.iter().position(|trigger| trigger.name == name) else {
                continue;
            };
            if let Some((path, seen, sure)) = self.look_at_stamp(at, &rel) {
                paths.push(path);
                found.push((seen, sure));
            }
        }
        let drained = found.iter().any(|(_, sure)| *sure) && self.cover.drain();
        let hinted = self.inbox.wants(paths.iter());
        let told = hinted.is_some() && drained;
        let hinted = hinted.unwrap_or_else(|| vec![false; paths.len()]);
        let (mut stamped, mut others) = (Vec::new(), Vec::new());
        for ((seen, sure), hinted) in found.into_iter().zip(hinted) {
            match (hinted, sure && told) {
                // It is looked at again.
                (true, _) => {}
                (false, true) => stamped.push(seen),
                (false, false) => others.push(seen),
            }
        }
        self.reporter.tell(seq, Origin::Stamp, stamped)?;
        self.reporter.tell(seq, Origin::Look, others)
    }

    /// Looks at a file; tells its path, what was seen, and whether that can be sure: all that
    /// happened to it before has been told or was hinted at.
    fn look_at_stamp(&mut self, at: usize, rel: &Bytes) -> Option<(Bytes, Seen, bool)> {
        let hears_all = self.hears_all(at);
        let Self { triggers, reporter, cover, .. } = self;
        let trigger = &mut triggers[at];
        let path = trigger.reach().path(rel)?;
        let target = trigger.target_rel(rel)?;
        if target.work != FileType::File || trigger.kept.rels.contains(rel) {
            return None;
        }
        let root = trigger.open()?;
        let (seen, alone) = reporter.look_at_stamp(root.as_fd(), target)?;
        let Disk::File { version, probe } = &seen.disk else { return None };
        let sure = alone
            && hears_all
            && *probe == Probe::Free
            && trigger.known
            && !trigger.kept.lost
            && trigger.folder.follow_symlinks == FollowSymlinks::Never
            && cover.get(&parent(&path)).is_some_and(|dir| dir.watched);
        let row = seen.row.as_ref().filter(|row| row.open);
        let set_back = row.is_some_and(|row| version.is_set_back_from(&row.version));
        if trigger.held && !(sure && set_back) {
            trigger.keep(rel.clone());
            return None;
        }
        Some((path, seen, sure))
    }

    /// Whether no hints are known to be missing, and no scan is still to make them good.
    fn hears_all(&self, at: usize) -> bool {
        let name = &self.triggers[at].name;
        let scans = || self.walks.iter().any(|walk| walk.is_scan() && walk.trigger == *name);
        self.recovery.due.is_none() && !self.is_covering() && !scans()
    }
}
