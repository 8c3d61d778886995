//! The inbox of the watch thread: the dirty map, filled by the backend's thread, and the orders.
//!
//! The dirty map remembers which names want a look, each once, in the order of their first hint. It
//! is bounded: a full one collapses to "this root was lost", which a scan makes good. Nothing is
//! looked at here.

use std::collections::{BTreeSet, VecDeque};
use std::mem;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use indexmap::IndexMap;

use crate::core::id::Name;
use crate::core::path::Bytes;

use super::ToWatch;
use super::staff::Arming;

/// Hints that wait at most: some 10 MB. More of them say less than a scan costs.
pub const DIRTY_MAX: usize = 65_536;

/// Orders that wait at most. Beyond it looks become scans of their triggers, one for each.
pub const ORDERS_MAX: usize = 65_536;

/// What a worker is told.
#[derive(Debug)]
pub enum Order {
    /// Serve these triggers.
    Arm(Arming),
    /// Something for one of them.
    To(ToWatch),
    /// End.
    Stop,
}

/// What is worth knowing of a hint; hints for one name are merged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct How {
    /// Something went from the name.
    pub gone: bool,
    /// A writer closed it.
    pub closed: bool,
    /// Nothing but its attributes changed.
    pub stamped: bool,
}

/// Hints by absolute path, in order of arrival.
pub type Hints = IndexMap<Bytes, How>;

/// Hints that were taken, as they are served one by one.
#[derive(Debug, Default)]
pub struct Serving {
    hints: Hints,
    next: usize,
}

impl Serving {
    /// Begins with what was taken.
    pub fn new(hints: Hints) -> Self {
        Self { hints, next: 0 }
    }

    /// Whether all are served.
    pub fn is_done(&self) -> bool {
        self.next >= self.hints.len()
    }

    /// Whether the path is still to be looked at for one of them.
    pub fn wants_look(&self, path: &Bytes) -> bool {
        let waits = |(at, _, how): (usize, _, &How)| at >= self.next && !how.stamped;
        self.hints.get_full(path).is_some_and(waits)
    }
}

impl Iterator for Serving {
    type Item = (Bytes, How);

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.hints.get_index(self.next).map(|(path, how)| (path.clone(), *how));
        self.next += 1;
        if self.is_done() {
            *self = Self::default();
        }
        next
    }
}

/// What was lost since the last time it was asked.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Lost {
    /// The kernel's queue, or the backend as a whole: hints for anything may be missing.
    pub all: bool,
    /// Roots whose hints did not fit into the map.
    pub roots: BTreeSet<Bytes>,
}

impl Lost {
    /// Whether nothing was lost.
    pub fn is_empty(&self) -> bool {
        !self.all && self.roots.is_empty()
    }
}

/// `path` relative to `root`, if it is the root or beneath it.
pub fn beneath<'a>(root: &[u8], path: &'a [u8]) -> Option<&'a [u8]> {
    if root == b"/" {
        return path.strip_prefix(b"/");
    }
    match path.strip_prefix(root)? {
        [] => Some(&[]),
        [b'/', rel @ ..] => Some(rel),
        _ => None,
    }
}

/// The dirty map.
#[derive(Debug)]
pub struct Dirty {
    hints: Hints,
    lost: Lost,
    roots: Arc<[Bytes]>,
    max: usize,
}

impl Dirty {
    /// An empty map for `max` hints.
    pub fn new(max: usize) -> Self {
        Self { hints: Hints::new(), lost: Lost::default(), roots: Arc::new([]), max: max.max(1) }
    }

    /// Notes that `path` wants a look.
    pub fn mark(&mut self, path: Bytes, how: How) {
        if let Some(seen) = self.hints.get_mut(&path) {
            seen.gone |= how.gone;
            seen.closed |= how.closed;
            seen.stamped &= how.stamped;
            return;
        }
        if self.hints.len() >= self.max {
            self.collapse();
        }
        if self.is_lost(&path) {
            return;
        }
        self.hints.insert(path, how);
    }

    /// Whether every root over `path` is lost, so that its scan will see to it.
    fn is_lost(&self, path: &Bytes) -> bool {
        if self.lost.roots.is_empty() {
            return false;
        }
        let mut over =
            self.roots.iter().filter(|r| beneath(r.as_bytes(), path.as_bytes()).is_some());
        over.clone().next().is_some() && over.all(|root| self.lost.roots.contains(root))
    }

    fn collapse(&mut self) {
        for root in self.roots.iter() {
            if self.hints.keys().any(|p| beneath(root.as_bytes(), p.as_bytes()).is_some()) {
                self.lost.roots.insert(root.clone());
            }
        }
        // What lies outside all roots concerns nobody.
        self.hints.clear();
    }
}

/// What waits in the inbox.
#[derive(Debug, Default)]
pub struct Taken {
    /// Orders, oldest first.
    pub orders: VecDeque<Order>,
    /// Hints, if they were wanted.
    pub hints: Hints,
    /// What was lost.
    pub lost: Lost,
    /// Whether the way to a root may have changed.
    pub wandered: bool,
}

struct State {
    dirty: Dirty,
    orders: VecDeque<Order>,
    /// Triggers whose looks did not fit.
    rescans: BTreeSet<Name>,
    wandered: bool,
    sleeping: bool,
    closed: bool,
}

/// Where hints and orders wait for the watch thread.
pub struct Inbox {
    // lock: filled by the backend's thread and by callers, emptied by the watch thread; held for
    // one insertion or one swap, never across a call to the system
    state: Mutex<State>,
    // lock: the watch thread sleeps on it; a channel could neither merge nor collapse hints
    wake: Condvar,
}

impl Inbox {
    /// An inbox for `max` hints.
    pub fn new(max: usize) -> Self {
        let state = State {
            dirty: Dirty::new(max),
            orders: VecDeque::new(),
            rescans: BTreeSet::new(),
            wandered: false,
            sleeping: false,
            closed: false,
        };
        // lock: see the fields
        Self { state: Mutex::new(state), wake: Condvar::new() }
    }

    /// A name wants a look.
    pub fn mark(&self, path: Bytes, how: How) {
        let mut state = self.lock();
        state.dirty.mark(path, how);
        self.rouse(&mut state);
    }

    /// Which of these want a look, by hints that have come; `None` if hints were lost.
    pub fn wants<'a>(&self, paths: impl Iterator<Item = &'a Bytes>) -> Option<Vec<bool>> {
        let state = self.lock();
        let dirty = &state.dirty;
        dirty.lost.is_empty().then(|| paths.map(|path| dirty.hints.contains_key(path)).collect())
    }

    /// Whether a path will be looked at for hints that have come.
    pub fn wants_look(&self, path: &Bytes) -> bool {
        let state = self.lock();
        state.dirty.hints.get(path).is_some_and(|how| !how.stamped) || state.dirty.is_lost(path)
    }

    /// The backend has lost hints, nobody knows which.
    pub fn lose(&self) {
        let mut state = self.lock();
        state.dirty.lost.all = true;
        self.rouse(&mut state);
    }

    /// The way to a root may have changed.
    pub fn wander(&self) {
        let mut state = self.lock();
        state.wandered = true;
        self.rouse(&mut state);
    }

    /// The roots by which lost hints are grouped.
    pub fn set_roots(&self, roots: Vec<Bytes>) {
        self.lock().dirty.roots = roots.into();
    }

    /// Somebody wants something.
    pub fn order(&self, order: Order) {
        let mut state = self.lock();
        if state.closed {
            return;
        }
        match order {
            Order::To(ToWatch::Look(trigger, _) | ToWatch::Recheck(trigger, _))
                if state.orders.len() >= ORDERS_MAX =>
            {
                state.rescans.insert(trigger);
            }
            order => state.orders.push_back(order),
        }
        self.rouse(&mut state);
    }

    /// Nobody listens any more.
    pub fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.orders.clear();
    }

    /// Takes what waits: hints only if wanted. With `sleep`, waits until there is something or
    /// until the instant.
    pub fn take(&self, hints: bool, sleep: bool, until: Option<Instant>) -> Taken {
        let mut state = self.lock();
        while sleep && !state.has_news(hints) {
            state.sleeping = true;
            state = match until.map(|at| at.saturating_duration_since(Instant::now())) {
                None => self.wake.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(left) if left.is_zero() => break,
                Some(left) => {
                    self.wake.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
        state.sleeping = false;
        let mut orders = mem::take(&mut state.orders);
        let rescans = mem::take(&mut state.rescans).into_iter();
        orders.extend(rescans.map(|name| Order::To(ToWatch::Scan(name))));
        Taken {
            orders,
            hints: if hints { mem::take(&mut state.dirty.hints) } else { Hints::new() },
            lost: mem::take(&mut state.dirty.lost),
            wandered: mem::take(&mut state.wandered),
        }
    }

    // lock: see the field
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn rouse(&self, state: &mut State) {
        if mem::take(&mut state.sleeping) {
            self.wake.notify_one();
        }
    }
}

impl State {
    fn has_news(&self, hints: bool) -> bool {
        !self.orders.is_empty()
            || !self.rescans.is_empty()
            || !self.dirty.lost.is_empty()
            || self.wandered
            || (hints && !self.dirty.hints.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{Dirty, How, beneath};
    use crate::core::path::Bytes;

    #[test]
    fn a_million_hints_for_one_name_are_one() {
        let mut dirty = Dirty::new(4);
        for n in 0..1_000_000 {
            dirty.mark("/in/a".into(), How { gone: n == 7, ..How::default() });
        }
        assert_eq!(dirty.hints.len(), 1);
        assert!(dirty.hints[&Bytes::from("/in/a")].gone, "that it went is not forgotten");
    }

    #[test]
    fn a_full_map_collapses_to_its_roots() {
        let mut dirty = Dirty::new(4);
        dirty.roots = Arc::new(["/in".into(), "/in/deep".into(), "/other".into()]);
        for n in 0..20 {
            dirty.mark(format!("/in/{n}").as_str().into(), How::default());
        }
        dirty.mark("/other/x".into(), How::default());
        dirty.mark("/in/deep/x".into(), How::default());
        assert!(dirty.lost.roots.iter().eq([&Bytes::from("/in")]), "{:?}", dirty.lost);
        let kept: Vec<_> = dirty.hints.keys().cloned().collect();
        assert_eq!(kept, ["/other/x".into(), "/in/deep/x".into()] as [Bytes; 2]);
    }

    #[test]
    fn a_flood_outside_of_all_roots_is_forgotten() {
        let mut dirty = Dirty::new(4);
        dirty.roots = Arc::new(["/in".into()]);
        for n in 0..5 {
            dirty.mark(format!("/tmp/{n}").as_str().into(), How::default());
        }
        assert!(dirty.lost.is_empty());
        assert_eq!(dirty.hints.len(), 1);
    }

    #[test]
    fn what_is_beneath() {
        assert_eq!(beneath(b"/a", b"/a"), Some(&b""[..]));
        assert_eq!(beneath(b"/a", b"/a/b/c"), Some(&b"b/c"[..]));
        assert_eq!(beneath(b"/a", b"/ab"), None);
        assert_eq!(beneath(b"/", b"/ab"), Some(&b"ab"[..]));
    }
}
