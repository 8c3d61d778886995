//! Tasks that a pool was too short for: who is next at each pool, and who has waited longest.
//!
//! Every question costs a few look-ups, however many tasks wait.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound::{Excluded, Unbounded};
use std::sync::Arc;

use super::schedule::Key;
use crate::core::id::{Mono, Name};
use crate::core::task::TaskSpec;

/// A task that waits for a pool.
#[derive(Debug)]
pub(super) struct Waiting {
    /// Since when it waits for any pool.
    pub(super) since: Mono,
    pub(super) task: Arc<TaskSpec>,
    /// The first pool that was too short.
    pool: Name,
    /// What it draws from that one.
    pub(super) demand: u32,
}

/// All that wait, each at one pool.
#[derive(Debug, Default)]
pub(super) struct Parked {
    tasks: BTreeMap<Key, Waiting>,
    /// By pool, then by what they draw from it: of equal demands only the first can matter.
    pools: BTreeMap<Name, BTreeMap<u32, BTreeSet<Key>>>,
    ages: BTreeSet<(Mono, Key)>,
}

impl Parked {
    /// Who waits, in the order of starting.
    pub(super) fn keys(&self) -> impl Iterator<Item = &Key> {
        self.tasks.keys()
    }

    /// The pools at which anybody waits.
    pub(super) fn pools(&self) -> Vec<Name> {
        self.pools.keys().cloned().collect()
    }

    /// The task waits at this pool. If it has waited at another, its time counts on.
    pub(super) fn park(
        &mut self,
        key: Key,
        pool: Name,
        demand: u32,
        task: Arc<TaskSpec>,
        now: Mono,
    ) {
        let since = self.remove(key).map_or(now, |was| was.since);
        self.pools.entry(pool.clone()).or_default().entry(demand).or_default().insert(key);
        self.ages.insert((since, key));
        self.tasks.insert(key, Waiting { since, task, pool, demand });
    }

    /// The task waits no longer.
    pub(super) fn remove(&mut self, key: Key) -> Option<Waiting> {
        let waiting = self.tasks.remove(&key)?;
        self.ages.remove(&(waiting.since, key));
        if let Some(pool) = self.pools.get_mut(&waiting.pool) {
            if let Some(equal) = pool.get_mut(&waiting.demand) {
                equal.remove(&key);
                if equal.is_empty() {
                    pool.remove(&waiting.demand);
                }
            }
            if pool.is_empty() {
                self.pools.remove(&waiting.pool);
            }
        }
        Some(waiting)
    }

    /// The task that has waited longest.
    pub(super) fn oldest(&self) -> Option<(Key, &Waiting)> {
        let (_, key) = self.ages.first()?;
        Some((*key, &self.tasks[key]))
    }

    /// What the task draws from this pool, if that is the one at which it waits.
    pub(super) fn at(&self, pool: &Name, key: Key) -> Option<u32> {
        let waiting = self.tasks.get(&key).filter(|waiting| waiting.pool == *pool)?;
        Some(waiting.demand)
    }

    /// The first task after `last` that waits at the pool and draws at most `most` from it; all
    /// draw at most `size`.
    pub(super) fn first_fit(
        &self,
        pool: &Name,
        last: Option<Key>,
        most: u32,
        size: u32,
    ) -> Option<(Key, u32)> {
        let fitting =
            self.pools.get(pool)?.iter().filter(|(demand, _)| **demand.min(&&size) <= most);
        let firsts = fitting.filter_map(|(demand, equal)| {
            let after = last.map_or(Unbounded, Excluded);
            Some((*equal.range((after, Unbounded)).next()?, *demand))
        });
        firsts.min()
    }
}
