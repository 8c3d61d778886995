//! A trigger's live side: its candidates, what waits for a run, what is busy.
//!
//! Candidates are never recorded: what is not claimed by a run is found again by the next scan.
//! Memory is bounded by the marks: above the high one the folder is the queue.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use crate::core::candidate::{Candidate, Stage};
use crate::core::fill::{Facts, fill};
use crate::core::id::{ItemId, Mono, Name, Seq};
use crate::core::path::Bytes;
use crate::core::record::{ItemQueued, SignalInfo};
use crate::core::trigger::{FanOut, Folder, InitialScan, Overlap, TriggerSpec};

/// Ready candidates above which a lane asks for no more, enough to keep any number of slots busy.
pub const READY_HIGH: usize = 2048;
/// Ready candidates below which it asks again.
pub const READY_LOW: usize = 1024;
/// Candidates of any kind above which it asks for no more: files that never become ready must not
/// fill the memory.
pub const CANDIDATES_MAX: usize = 65_536;

/// Accepted events that wait for a run, per trigger: signals beyond that wait in the kernel, or are
/// merged where the policy merges; starts by hand are refused.
pub const ITEMS_MAX: usize = 4096;

/// A trigger's live side.
#[derive(Debug)]
pub struct Lane {
    /// The trigger.
    pub spec: Arc<TriggerSpec>,
    /// Why it takes no work, if it does not.
    pub paused: Option<String>,
    /// Whether the ledger tells what is new.
    pub armed: bool,
    /// Whether its first scan is still under way.
    pub gate: Gate,
    /// Live candidates by path below the root.
    pub candidates: BTreeMap<Bytes, Candidate>,
    /// Ready candidates in the order of their arrival.
    pub ready: BTreeMap<u64, Bytes>,
    /// Accepted events that wait for a run.
    pub items: BTreeSet<ItemId>,
    /// Live runs.
    pub live_runs: usize,
    /// Live runs by key.
    pub live: BTreeMap<Bytes, u32>,
    pub(super) next_order: u64,
    /// The batch that is filling.
    pub(super) window: Option<Window>,
    /// Whether the watch side was asked to hold.
    pub(super) held: bool,
}

/// What is stored of a trigger.
#[derive(Debug, Default)]
pub(super) struct Dormant {
    pub(super) paused: Option<String>,
    pub(super) armed: bool,
}

/// What a lane's first scan waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// The count of what a first scan would deliver.
    Counting,
    /// The end of the scan that remembers what is there.
    Baseline,
    /// Nothing: there is no first scan, or it is decided.
    Open,
}

/// A filling batch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    pub(super) first: Mono,
    pub(super) last: Mono,
}

/// What becomes a run.
#[derive(Debug)]
pub(super) enum Unit {
    Items(Vec<ItemId>),
    Files(Vec<Bytes>),
}

impl Lane {
    pub(super) fn new(spec: Arc<TriggerSpec>) -> Self {
        Self {
            spec,
            paused: None,
            armed: false,
            gate: Gate::Open,
            candidates: BTreeMap::new(),
            ready: BTreeMap::new(),
            items: BTreeSet::new(),
            live_runs: 0,
            live: BTreeMap::new(),
            next_order: 0,
            window: None,
            held: false,
        }
    }

    /// What the first scan has to wait for.
    pub(super) fn first_gate(&self) -> Gate {
        let Some(folder) = self.spec.folder().filter(|_| !self.armed) else { return Gate::Open };
        let stays = folder.folder == Folder::Drop && folder.move_to.is_none();
        match folder.initial_scan {
            InitialScan::Baseline => Gate::Baseline,
            InitialScan::Unprocessed if stays => Gate::Counting,
            InitialScan::Unprocessed => Gate::Open,
        }
    }

    /// The key under which a run for this file or signal is busy.
    pub(super) fn key(&self, file: Option<&Bytes>, signal: Option<&SignalInfo>) -> Bytes {
        let whole = || Bytes::from(&*self.spec.name);
        let Some(template) = &self.spec.order_key else { return whole() };
        let root = self.spec.folder().map(|folder| Bytes::from(folder.root.as_path()));
        let path = root.as_ref().zip(file).map(|(root, rel)| root.join(rel.as_bytes()));
        let facts = Facts {
            trigger: Some(&self.spec.name),
            root: root.as_ref(),
            file: file.zip(path.as_ref()),
            signal,
            ..Facts::default()
        };
        template.expand(|slot| fill(slot, &facts)).map_or_else(|_| whole(), Bytes::from)
    }

    /// Whether a run with this key is alive.
    pub(super) fn is_busy(&self, key: &Bytes) -> bool {
        self.live.contains_key(key)
    }

    /// Whether a run with this key may start beside those that are alive.
    fn may_start(&self, key: &Bytes) -> bool {
        match self.spec.overlap {
            Overlap::Parallel => true,
            Overlap::Queue => self.spec.order_key.is_none() || !self.is_busy(key),
            Overlap::Coalesce | Overlap::Restart | Overlap::Skip | Overlap::Signal(_) => {
                !self.is_busy(key)
            }
        }
    }

    /// What becomes a run next, if anything may.
    pub(super) fn next_unit(
        &self,
        items: &BTreeMap<ItemId, ItemQueued>,
        now: Mono,
    ) -> Option<Unit> {
        let full = self.spec.max_runs.is_some_and(|max| self.live_runs >= max);
        if self.paused.is_some() || (full && self.spec.overlap != Overlap::Parallel) {
            return None;
        }
        let by_items = |back| self.next_items(items, back).map(Unit::Items);
        let by_files = || self.next_files(now).map(Unit::Files);
        by_items(false).or_else(by_files).or_else(|| by_items(true))
    }

    /// `back`: those that gave way, otherwise the others.
    fn next_items(&self, items: &BTreeMap<ItemId, ItemQueued>, back: bool) -> Option<Vec<ItemId>> {
        let key = |id: &ItemId| {
            let item = &items[id];
            let rel = item.files.first().map(|file| &file.rel);
            self.key(rel, item.signal.as_ref())
        };
        let mut wanted = self.items.iter().filter(|id| items[*id].gave_way() == back);
        let first = wanted.find(|id| self.may_start(&key(id)))?;
        let merges = |id: &&ItemId| items[*id].signal.is_some() && items[*id].parent.is_none();
        if self.spec.overlap == Overlap::Coalesce && merges(&first) {
            let wanted = key(first);
            return Some(
                self.items.iter().filter(merges).filter(|id| key(id) == wanted).copied().collect(),
            );
        }
        Some(vec![*first])
    }

    fn next_files(&self, now: Mono) -> Option<Vec<Bytes>> {
        let folder = self.spec.folder()?;
        if self.gate != Gate::Open || self.ready.is_empty() {
            return None;
        }
        match folder.fan_out {
            FanOut::File if self.spec.order_key.is_none() => {
                let rel = self.ready.values().next()?;
                self.may_start(&self.key(Some(rel), None)).then(|| vec![rel.clone()])
            }
            FanOut::File => {
                let free = |rel: &&Bytes| self.may_start(&self.key(Some(rel), None));
                self.ready.values().find(free).map(|rel| vec![rel.clone()])
            }
            FanOut::Batch | FanOut::Dir | FanOut::Key => {
                let closed = self.window_closes().is_none_or(|at| at <= now);
                let free = self.may_start(&self.key(None, None));
                (closed && free)
                    .then(|| self.ready.values().take(folder.batch_max_files).cloned().collect())
            }
        }
    }

    /// When the filling batch is complete; `None` if it is.
    pub fn window_closes(&self) -> Option<Mono> {
        let (folder, window) = (self.spec.folder()?, self.window?);
        if self.ready.len() >= folder.batch_max_files {
            return None;
        }
        let ceiling = window.first.after(folder.max_wait.unwrap_or(folder.batch_max_wait));
        let quiet = (!folder.settle.is_zero()).then(|| window.last.after(folder.settle));
        Some(quiet.map_or(ceiling, |quiet| quiet.min(ceiling)))
    }

    /// Whether the watch side should send no more.
    pub(super) fn is_full(&self) -> bool {
        self.ready.len() >= READY_HIGH || self.candidates.len() >= CANDIDATES_MAX
    }

    /// Whether it may send again.
    pub(super) fn has_room(&self) -> bool {
        self.ready.len() < READY_LOW && self.candidates.len() < CANDIDATES_MAX
    }

    /// Puts a candidate into the stage, keeping the order of arrival.
    pub(super) fn set_stage(&mut self, rel: &Bytes, stage: Stage) {
        if let Some(candidate) = self.candidates.get_mut(rel) {
            if stage == Stage::Ready {
                self.ready.insert(candidate.order, rel.clone());
            } else {
                self.ready.remove(&candidate.order);
            }
            candidate.stage = stage;
        }
    }
}

/// Ledger keys that changed lately, with the commit that changed them. An observation made before
/// that commit says nothing about them any more.
#[derive(Debug, Default)]
pub(super) struct Recent {
    keys: BTreeMap<Name, Marks>,
}

#[derive(Debug, Default)]
struct Marks {
    changed: BTreeMap<Bytes, Seq>,
    order: VecDeque<(Seq, Bytes)>,
}

impl Recent {
    /// The ledger row of the path changes with the commit `seq`.
    pub(super) fn mark(&mut self, seq: Seq, trigger: &Name, rel: &Bytes) {
        let marks = self.keys.entry(trigger.clone()).or_default();
        marks.changed.insert(rel.clone(), seq);
        marks.order.push_back((seq, rel.clone()));
    }

    /// Whether an observation that was begun at `seen` is older than the path's last change.
    pub(super) fn is_stale(&self, seen: Seq, trigger: &Name, rel: &Bytes) -> bool {
        let changed = self.keys.get(trigger).and_then(|marks| marks.changed.get(rel));
        changed.is_some_and(|changed| *changed > seen)
    }

    /// Observations of a trigger come in order: none will be older than `seen`. Those of another
    /// may come from a slower thread.
    pub(super) fn prune(&mut self, seen: Seq, trigger: &Name) {
        let Some(marks) = self.keys.get_mut(trigger) else { return };
        while let Some((seq, rel)) = marks.order.front().filter(|(seq, _)| *seq <= seen) {
            if marks.changed.get(rel) == Some(seq) {
                marks.changed.remove(rel);
            }
            marks.order.pop_front();
        }
    }
}
