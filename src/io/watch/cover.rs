//! The directories that are covered, those that are still to be, and those that resist.
//!
//! Pure bookkeeping over the backends: which paths are watched and which directory each was when it
//! was watched. What is read in them is decided in [`super::worker`].

use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::ops::Bound;
use std::sync::Arc;

use indexmap::IndexMap;

use crate::core::path::Bytes;
use crate::io::disk::DirId;

use super::backend::{Outcome, Problem};
use super::backends::Backends;
use super::dirty::{Inbox, beneath};

/// Directories watched in one batch: the backend's round trip then costs nothing per directory.
pub const COVER_MAX: usize = 1024;

/// Watches that are removed one by one at most, since each removal costs as much as there are
/// watches; for more, a new watcher takes over.
const UNWATCH_MAX: usize = 256;

/// Problems told for one trigger, at most.
const PROBLEMS_MAX: usize = 16;

/// What the files in a directory that is covered are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum News {
    /// They were covered before, by another watcher. Nobody scans: directories that nobody has come
    /// by yet have arrived.
    Again,
    /// Somebody scans them.
    Known,
    /// A poll came by.
    Polled,
    /// They came with the directory.
    Arrived,
}

/// A covered directory.
#[derive(Clone, Debug)]
pub struct Covered {
    /// Which directory it was when it was read.
    pub id: DirId,
    /// Whether it is watched, or polled.
    pub watched: bool,
}

/// What is covered.
pub struct Cover {
    backends: Backends,
    /// By absolute path. Bounded by the directories on disk that triggers want.
    dirs: BTreeMap<Bytes, Covered>,
    /// Watched, but not entered yet. Its backend keeps them in its table, whatever is there by now.
    /// Bounded like `dirs`.
    begun: BTreeSet<Bytes>,
    /// To be watched and read; the value tells whether their files are news. Each is in
    /// it once, so it is bounded like `dirs`; the newest goes first, which keeps it short.
    queue: IndexMap<Bytes, News>,
    problems: BTreeMap<Bytes, Problem>,
}

impl Cover {
    /// Nothing is covered.
    pub fn new(inbox: &Arc<Inbox>) -> Self {
        Self {
            backends: Backends::new(inbox),
            dirs: BTreeMap::new(),
            begun: BTreeSet::new(),
            queue: IndexMap::new(),
            problems: BTreeMap::new(),
        }
    }

    /// What is known of a directory.
    pub fn get(&self, path: &Bytes) -> Option<&Covered> {
        self.dirs.get(path)
    }

    /// Whether a directory is covered, or is to be.
    pub fn has(&self, path: &Bytes) -> bool {
        self.dirs.contains_key(path) || self.is_begun(path) || self.queue.contains_key(path)
    }

    /// Whether a directory is watched, but was not entered yet.
    pub fn is_begun(&self, path: &Bytes) -> bool {
        self.begun.contains(path)
    }

    /// All covered directories.
    pub fn dirs(&self) -> impl Iterator<Item = (&Bytes, &Covered)> {
        self.dirs.iter()
    }

    /// Asks that a directory be covered with all below it.
    pub fn ask(&mut self, path: Bytes, news: News) {
        let asked = self.queue.entry(path).or_insert(news);
        *asked = news.max(*asked);
    }

    /// Whether directories wait to be covered.
    pub fn is_waiting(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Takes the next directories and watches those that are not watched yet, apart from those
    /// that nobody `wants` any more; by fanotify if it `marks` them. What is left has to be read now.
    pub fn next(
        &mut self,
        wants: impl Fn(&Bytes) -> bool,
        marks: impl Fn(&Bytes) -> bool,
    ) -> Vec<(Bytes, News)> {
        let from = self.queue.len().saturating_sub(COVER_MAX);
        let mut batch: Vec<_> = self.queue.drain(from..).rev().filter(|(p, _)| wants(p)).collect();
        let watched = |path: &Bytes| self.dirs.get(path).is_some_and(|dir| dir.watched);
        let unwatched: Vec<Bytes> =
            batch.iter().map(|(path, _)| path).filter(|path| !watched(path)).cloned().collect();
        if unwatched.is_empty() {
            return batch;
        }
        let mut gone = BTreeSet::new();
        for (path, outcome) in self.backends.watch(unwatched, self.dirs.len(), marks) {
            match outcome {
                Outcome::Watched => {
                    self.problems.remove(&path);
                    self.begun.insert(path);
                }
                Outcome::Gone => {
                    gone.insert(path);
                }
                Outcome::Failed(problem) => {
                    self.problems.insert(path, problem);
                }
            }
        }
        batch.retain(|(path, _)| !gone.contains(path));
        batch
    }

    /// A directory was opened after it was watched. Returns whether it was not covered before.
    pub fn enter(&mut self, path: &Bytes, id: DirId) -> bool {
        let watched = self.begun.remove(path) || self.is_watched(path);
        let watched = watched && !self.problems.contains_key(path);
        self.dirs.insert(path.clone(), Covered { id, watched }).is_none()
    }

    /// A directory cannot be read.
    pub fn refuse(&mut self, path: Bytes, why: String) {
        self.problems.insert(path, Problem::Refused(why));
    }

    /// Forgets a directory and all below it, and returns them. `told` says that the kernel told; if
    /// the directory above is watched, their backend may then have forgotten them as well.
    pub fn forget(&mut self, top: &Bytes, told: bool) -> Vec<(Bytes, Covered)> {
        let forgets = |path: &Bytes| self.is_watched(path) && self.backends.forgets(path);
        let knows = told && forgets(top) && forgets(&Bytes::from(top.dir()));
        let below = |path: &Bytes| beneath(top.as_bytes(), path.as_bytes()).is_some();
        let paths: Vec<Bytes> = tree(&self.dirs, top).cloned().collect();
        let removed: Vec<_> = paths.iter().filter_map(|p| self.dirs.remove_entry(p)).collect();
        let troubled: Vec<Bytes> = tree(&self.problems, top).cloned().collect();
        for path in &troubled {
            self.problems.remove(path);
        }
        let (begun, kept) = mem::take(&mut self.begun).into_iter().partition(below);
        self.begun = kept;
        self.queue.retain(|path, _| !below(path));
        let all: BTreeSet<Bytes> = paths.into_iter().chain(troubled).chain(begun).collect();
        let others = self.backends.unmark(Vec::from_iter(all));
        if !knows {
            self.unwatch(&others);
        }
        removed
    }

    /// Forgets directories that nobody wants any more.
    pub fn release(&mut self, paths: &[Bytes]) {
        for path in paths {
            self.dirs.remove(path);
            self.begun.remove(path);
            self.problems.remove(path);
        }
        let others = self.backends.unmark(paths.to_vec());
        self.unwatch(&others);
    }

    fn unwatch(&mut self, paths: &[Bytes]) {
        if paths.len() <= UNWATCH_MAX {
            return self.backends.unwatch(paths);
        }
        self.watch_anew();
    }

    /// Watches all anew. Nothing is lost: the old watchers go on until the new ones cover all.
    pub fn watch_anew(&mut self) {
        self.backends.renew(true);
        for path in mem::take(&mut self.begun) {
            self.ask(path, News::Again);
        }
        for (path, dir) in &mut self.dirs {
            dir.watched = false;
            self.queue.entry(path.clone()).or_insert(News::Again);
        }
    }

    fn is_watched(&self, path: &Bytes) -> bool {
        self.is_begun(path) || self.dirs.get(path).is_some_and(|dir| dir.watched)
    }

    /// Hints were lost: nothing is covered, and the backends begin anew.
    pub fn clear(&mut self) {
        self.backends.renew(false);
        self.dirs.clear();
        self.begun.clear();
        self.queue.clear();
        self.problems.clear();
    }

    /// See [`Backends::drain`].
    pub fn drain(&mut self) -> bool {
        self.backends.drain()
    }

    /// Everything that was asked is covered.
    pub fn settled(&mut self) {
        self.backends.settle();
    }

    /// Whether something has to be polled.
    pub fn must_poll(&self) -> bool {
        !self.problems.is_empty()
    }

    /// Puts what has to be polled back into the queue, and returns it.
    pub fn poll(&mut self) -> Vec<Bytes> {
        self.backends.retry();
        let paths: Vec<Bytes> = self.problems.keys().cloned().collect();
        for path in &paths {
            self.ask(path.clone(), News::Polled);
        }
        paths
    }

    /// What is wrong with directories that `concerns` picks, a line for each kind of problem.
    pub fn problems(&self, concerns: impl Fn(&Bytes) -> bool) -> Vec<String> {
        let mut kinds: BTreeMap<&Problem, (usize, &Bytes)> = BTreeMap::new();
        for (path, problem) in self.problems.iter().filter(|(path, _)| concerns(path)) {
            kinds.entry(problem).or_insert((0, path)).0 += 1;
        }
        let lines = kinds.into_iter().take(PROBLEMS_MAX);
        lines.map(|(problem, (count, path))| problem.line(count, &path.lossy())).collect()
    }
}

/// The keys that are `top` or beneath it. Those beneath follow each other, but a name that
/// continues `top` with a byte before the slash may lie between it and them.
fn tree<'a, V>(map: &'a BTreeMap<Bytes, V>, top: &'a Bytes) -> impl Iterator<Item = &'a Bytes> {
    let first = top.join(b"");
    let below = map
        .range((Bound::Included(first.clone()), Bound::Unbounded))
        .map(|(path, _)| path)
        .take_while(move |path| path.as_bytes().starts_with(first.as_bytes()));
    map.get_key_value(top).map(|(path, _)| path).into_iter().chain(below.filter(move |p| *p != top))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::tree;
    use crate::core::path::Bytes;

    #[test]
    fn a_tree_is_the_top_and_all_below() {
        let paths = ["/a", "/a b", "/a/x", "/a/x/y", "/a0", "/b"];
        let map: BTreeMap<Bytes, usize> =
            paths.iter().enumerate().map(|(at, &p)| (p.into(), at)).collect();
        let picked = |top: &str| tree(&map, &top.into()).cloned().collect::<Vec<_>>();
        assert_eq!(picked("/a"), ["/a".into(), "/a/x".into(), "/a/x/y".into()] as [Bytes; 3]);
        assert_eq!(picked("/b"), ["/b".into()] as [Bytes; 1]);
        assert_eq!(picked("/").len(), 6);
        assert!(picked("/c").is_empty());
    }
}
