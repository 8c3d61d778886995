//! A worker seen from outside: what it serves, how it is told, and whether it hangs.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::Sender;

use crate::core::id::Name;
use crate::core::trigger::TriggerSpec;

use super::dirty::{Inbox, Order};
use super::pulse::Pulse;
use super::{Coverage, Published, ToWatch};

/// A set of triggers to take up, and its number.
#[derive(Clone, Debug)]
pub struct Arming {
    /// What is found under it is told with this number.
    pub number: u64,
    /// All triggers of the worker.
    pub specs: Vec<Arc<TriggerSpec>>,
    /// Whether the worker serves one root that may hang.
    pub apart: bool,
}

/// A worker.
pub struct Staff {
    /// Its number.
    pub number: u64,
    /// The root that it serves, if it is apart.
    pub root: Option<PathBuf>,
    /// Where it is told.
    pub inbox: Arc<Inbox>,
    /// Ends its waiting for the engine.
    pub stop: Sender<()>,
    /// What it says of the coverage.
    pub coverage: Published,
    /// Its signs of life.
    pub pulse: Arc<Pulse>,
    /// Its thread.
    pub thread: JoinHandle<()>,
}

/// What was ordered for triggers and has to be ordered again for a worker that takes them over.
#[derive(Debug, Default)]
pub struct Standing {
    /// Triggers that are held.
    pub held: BTreeSet<Name>,
    /// The last count asked for each trigger, with its limit.
    pub counts: BTreeMap<Name, u64>,
}

impl Standing {
    /// Remembers an order.
    pub fn note(&mut self, to: &ToWatch) {
        match to {
            ToWatch::Hold(name) => {
                self.held.insert(name.clone());
            }
            ToWatch::Release(name) => {
                self.held.remove(name);
            }
            ToWatch::Count(name, limit) => {
                self.counts.insert(name.clone(), *limit);
            }
            ToWatch::Scan(_) | ToWatch::Look(..) | ToWatch::Recheck(..) => {}
        }
    }

    /// Forgets what was ordered for triggers that `stays` does not pick.
    pub fn retain(&mut self, stays: impl Fn(&Name) -> bool) {
        self.held.retain(&stays);
        self.counts.retain(|name, _| stays(name));
    }
}

impl Staff {
    /// Tells it to end.
    pub fn end(&self) {
        // Full means that it was told before, disconnected that it has ended.
        self.stop.try_send(()).ok();
        self.inbox.order(Order::Stop);
    }

    /// Whether it serves a trigger, if these roots are apart.
    pub fn serves(&self, spec: &TriggerSpec, apart: &BTreeSet<PathBuf>) -> bool {
        let Some(folder) = spec.folder() else { return false };
        match &self.root {
            Some(root) => folder.root == *root,
            None => !apart.contains(&folder.root),
        }
    }

    /// Tells it what it serves.
    pub fn brief(&self, number: u64, specs: Vec<Arc<TriggerSpec>>) {
        let apart = self.root.is_some();
        self.inbox.order(Order::Arm(Arming { number, specs, apart }));
    }

    /// The same for one that begins: what was ordered before is ordered again, and its first scans
    /// make good what others have missed.
    pub fn instruct(&self, number: u64, specs: Vec<Arc<TriggerSpec>>, standing: &Standing) {
        let names: Vec<Name> = specs.iter().map(|spec| spec.name.clone()).collect();
        self.brief(number, specs);
        for name in names {
            if standing.held.contains(&name) {
                self.inbox.order(Order::To(ToWatch::Hold(name.clone())));
            }
            if let Some(limit) = standing.counts.get(&name) {
                self.inbox.order(Order::To(ToWatch::Count(name.clone(), *limit)));
            }
            self.inbox.order(Order::To(ToWatch::Scan(name)));
        }
    }

    /// What it touches, if it has touched it for at least this long.
    pub fn hangs(&self, least: Duration) -> Option<(Name, Duration)> {
        self.pulse.touched().filter(|(_, since)| *since >= least)
    }

    /// How well it covers these triggers, as last published.
    pub fn coverage(&self, specs: &[Arc<TriggerSpec>], hung: Duration) -> Vec<Coverage> {
        // lock: see `Published`
        let published = self.coverage.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let apart = self.root.is_some();
        let silent = self.hangs(hung).filter(|_| apart).map(|(_, since)| since);
        let of = |spec: &Arc<TriggerSpec>| {
            let known = published.iter().find(|coverage| coverage.trigger == spec.name).cloned();
            let unknown = || apart.then(|| Coverage::unknown(spec.name.clone()));
            known.or_else(unknown).map(|coverage| Coverage { silent, apart, ..coverage })
        };
        specs.iter().filter_map(of).collect()
    }
}
