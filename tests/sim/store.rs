//! The fake store: live records, ledger, history. Applies records in one go per commit, the way
//! [`dagd::core::record`] says, and checks that each is one that a store could take.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use dagd::core::bound::Bound;
use dagd::core::candidate::{Kind, Row, Version};
use dagd::core::disposition::{MoveResult, Phase};
use dagd::core::graph::Graph;
use dagd::core::id::{AttemptId, ItemId, Name, NodeIx, Now, Rev, RunId};
use dagd::core::ledger::Noted;
use dagd::core::machine::{Recovering, Start};
use dagd::core::model::Model;
use dagd::core::path::Bytes;
use dagd::core::record::{Aggregate, FileClaim, Record, RunCreated, RunState};
use dagd::core::task::{TaskState, Verdict};

/// What is on disk, and survives a crash.
#[derive(Debug, Default)]
pub(crate) struct Store {
    live: BTreeMap<Aggregate, Vec<(u64, Record)>>,
    order: u64,
    pub(crate) rows: BTreeMap<(Name, Bytes), Row>,
    /// The triggers of the ledger.
    triggers: BTreeSet<Name>,
    /// Files that were left out because a run had one with their key.
    duplicates: BTreeMap<(Name, Bytes), RunId>,
    /// Which run had a file with which key.
    pub(crate) keys: BTreeMap<(Name, Bytes), RunId>,
    pub(crate) graphs: BTreeMap<Rev, Arc<Graph>>,
    pub(crate) ended: BTreeMap<RunId, Ended>,
    next_run: u64,
    next_item: u64,
    started: BTreeSet<AttemptId>,
    planned: BTreeSet<(RunId, u32, Phase)>,
    pub(crate) facts: BTreeMap<RunId, Facts>,
}

/// What was recorded of a run, for the oracle.
#[derive(Clone, Debug, Default)]
pub(crate) struct Facts {
    pub(crate) results: BTreeMap<NodeIx, TaskState>,
    pub(crate) attempted: BTreeSet<NodeIx>,
    pub(crate) cancelled: bool,
    pub(crate) cancelled_tasks: BTreeSet<NodeIx>,
    /// How many of its files were to be taken away first.
    pub(crate) taken: usize,
    /// What came of that.
    pub(crate) before: Vec<MoveResult>,
    /// Whether it was cancelled before that was known of all.
    pub(crate) cancelled_early: bool,
}

impl Facts {
    pub(crate) fn is_claiming(&self) -> bool {
        self.before.len() < self.taken
    }
}

/// A run in the history.
#[derive(Clone, Debug)]
pub(crate) struct Ended {
    pub(crate) created: RunCreated,
    pub(crate) state: RunState,
    pub(crate) succeeded: Vec<Name>,
    /// Its files, where they were left.
    pub(crate) files: Vec<FileClaim>,
}

impl Store {
    #[expect(clippy::too_many_lines, reason = "a line or two for each record")]
    pub(crate) fn apply(&mut self, record: &Record, graph: impl Fn(&Rev) -> Option<Arc<Graph>>) {
        let of = record.aggregate();
        match record {
            Record::ItemQueued(queued) => {
                assert!(queued.item.0 >= self.next_item, "item numbers only grow");
                self.next_item = queued.item.0 + 1;
            }
            Record::ItemDropped { item, .. } => self.consume(*item),
            Record::RunCreated(created) => {
                self.create(created, graph(&created.rev).expect("a live run's graph is known"));
            }
            Record::RunEnded { run, state, .. } => return self.end(*run, *state),
            Record::MovePlanned { run, file, phase, .. } => {
                assert!(self.planned.insert((*run, *file, *phase)), "a move is planned once");
                let facts = self.facts.entry(*run).or_default();
                facts.taken += usize::from(*phase == Phase::Before);
            }
            Record::MoveDone { run, file, phase, result, .. } => {
                self.disposed((*run, *file, *phase), result);
            }
            Record::TriggerBound { bound, .. } => {
                let graph = graph(&bound.rev).expect("the graph of a bound trigger is known");
                self.graphs.insert(bound.rev.clone(), graph);
            }
            Record::TriggerRenamed { from, to, .. } => return self.rename(from, to),
            Record::TriggerForgotten { trigger, .. } => return self.forget(trigger),
            Record::FileNoted { trigger, rel, version, why, .. } => {
                self.triggers.insert(trigger.clone());
                let key = (trigger.clone(), rel.clone());
                self.duplicates.remove(&key);
                if let Noted::Duplicate(run) = why {
                    self.duplicates.insert(key, *run);
                }
                let row = Row { version: version.clone(), open: true, run: None };
                self.rows.insert((trigger.clone(), rel.clone()), row);
            }
            Record::FileStamped { trigger, rel, version, .. } => {
                let row = self.rows.get_mut(&(trigger.clone(), rel.clone()));
                let row = row.expect("only what was delivered is set back");
                let legal = row.open && version.is_set_back_from(&row.version);
                assert!(legal, "{trigger}: {rel:?} was {row:?}");
                row.version = version.clone();
            }
            Record::FileDeparted { trigger, rel, .. } => {
                let row = self.rows.get_mut(&(trigger.clone(), rel.clone()));
                row.expect("only what was there departs").open = false;
            }
            Record::AttemptStarted { run, node, attempt, .. } => {
                let id = AttemptId { run: *run, node: *node, attempt: *attempt };
                assert!(self.started.insert(id), "an attempt starts once: {id:?}");
                self.facts.entry(*run).or_default().attempted.insert(*node);
            }
            Record::AttemptEnded { run, node, verdict: Verdict::Final(state), .. } => {
                let old = self.facts.entry(*run).or_default().results.insert(*node, *state);
                assert_eq!(old, None, "a task ends once");
            }
            Record::CancelRequested { run, node, .. } => {
                let facts = self.facts.entry(*run).or_default();
                facts.cancelled_early |= node.is_none() && facts.is_claiming();
                facts.cancelled |= node.is_none();
                facts.cancelled_tasks.extend(node);
            }
            Record::AttemptEnded { .. }
            | Record::TriggerPaused { .. }
            | Record::TriggerResumed { .. }
            | Record::TriggerLeft { .. }
            | Record::TriggerBack { .. }
            | Record::TriggerDrained { .. }
            | Record::TimeMarked { .. }
            | Record::TriggerArmed { .. }
            | Record::FilesPlaced { .. } => {}
        }
        if matches!(of, Aggregate::Ledger(_)) || matches!(record, Record::ItemDropped { .. }) {
            return;
        }
        if let Aggregate::Run(run) = &of {
            let known = matches!(record, Record::RunCreated(_)) || self.live.contains_key(&of);
            assert!(known, "run {run} is live");
        }
        self.order += 1;
        self.live.entry(of).or_default().push((self.order, record.clone()));
    }

    fn consume(&mut self, item: ItemId) {
        let was = self.live.remove(&Aggregate::Item(item));
        assert!(was.is_some(), "item {item:?} is consumed or dropped exactly once");
    }

    fn create(&mut self, created: &RunCreated, graph: Arc<Graph>) {
        assert_eq!(created.run.0, self.next_run.max(1), "runs are numbered in order");
        self.next_run = created.run.0 + 1;
        for item in &created.items {
            self.consume(*item);
        }
        self.graphs.insert(created.rev.clone(), graph);
        self.facts.insert(created.run, Facts::default());
        let Some(trigger) = &created.trigger else { return };
        if !created.files.is_empty() {
            self.triggers.insert(trigger.clone());
        }
        for key in created.files.iter().filter_map(|file| file.key.clone()) {
            self.keys.insert((trigger.clone(), key), created.run);
            // What was the same as the file of the run that this one repeats is so still.
            for of in self.duplicates.values_mut().filter(|of| Some(**of) == created.parent) {
                *of = created.run;
            }
        }
        for file in created.files.iter().filter(|file| file.in_place) {
            self.duplicates.remove(&(trigger.clone(), file.rel.clone()));
            let row = Row {
                version: file.version.clone(),
                open: file.kind != Kind::Deleted,
                run: Some(created.run),
            };
            self.rows.insert((trigger.clone(), file.rel.clone()), row);
        }
    }

    fn rename(&mut self, from: &Name, to: &Name) {
        if self.triggers.remove(from) {
            let own = |(of, _): &(Name, Bytes), row: &Row| of == to && row.run.is_none();
            self.rows.retain(|key, row| !own(key, row));
            for ((_, rel), row) in of(&mut self.rows, from) {
                self.rows.entry((to.clone(), rel)).or_insert(row);
            }
            for ((_, rel), run) in of(&mut self.duplicates, from) {
                self.duplicates.insert((to.clone(), rel), run);
            }
            for ((_, key), run) in of(&mut self.keys, from) {
                self.keys.insert((to.clone(), key), run);
            }
            self.triggers.insert(to.clone());
        }
        let mut stored = self.live.remove(&Aggregate::Trigger(from.clone())).unwrap_or_default();
        stored.retain(|(_, record)| !matches!(record, Record::TriggerLeft { .. }));
        self.live.insert(Aggregate::Trigger(to.clone()), stored);
        for (_, record) in self.live.values_mut().flatten() {
            relabel(record, from, to);
        }
        for ended in self.ended.values_mut() {
            if ended.created.trigger.as_ref() == Some(from) {
                ended.created.trigger = Some(to.clone());
            }
        }
    }

    fn forget(&mut self, trigger: &Name) {
        self.triggers.remove(trigger);
        of(&mut self.rows, trigger);
        of(&mut self.keys, trigger);
        of(&mut self.duplicates, trigger);
        self.live.remove(&Aggregate::Trigger(trigger.clone()));
    }

    fn disposed(&mut self, (run, file, phase): (RunId, u32, Phase), result: &MoveResult) {
        assert!(self.planned.remove(&(run, file, phase)), "what is disposed of was planned");
        let created = self.created(run).expect("a live run").clone();
        if phase == Phase::Before {
            self.facts.entry(run).or_default().before.push(result.clone());
        }
        let claim = created.files[file as usize].clone();
        let Some(trigger) = created.trigger else { return };
        let lost = matches!(result, MoveResult::Superseded | MoveResult::Gone);
        if let Some(key) = claim.key.filter(|_| lost && phase == Phase::Before) {
            self.free(run, &trigger, key);
        }
        let row = self.rows.get_mut(&(trigger, claim.rel));
        let Some(row) = row.filter(|row| claim.in_place && row.run == Some(run)) else { return };
        match result {
            MoveResult::Gone if phase == Phase::After && created.disposition.pre_move.is_none() => {
            }
            MoveResult::Moved { .. } | MoveResult::Deleted | MoveResult::Gone => row.open = false,
            MoveResult::Superseded if phase == Phase::Before => {
                row.version = Version { file: Bytes::default(), size: 0, mtime_ns: 0 };
                row.open = claim.kind == Kind::Modified;
            }
            MoveResult::Superseded if created.disposition.pre_move.is_none() => row.open = true,
            MoveResult::Superseded | MoveResult::Kept | MoveResult::Failed(_) => {}
        }
    }

    /// Nothing was delivered with the key after all.
    fn free(&mut self, run: RunId, trigger: &Name, key: Bytes) {
        let key = (trigger.clone(), key);
        if self.keys.get(&key) == Some(&run) {
            self.keys.remove(&key);
        }
        let (rows, duplicates) = (&mut self.rows, &mut self.duplicates);
        duplicates.retain(|place, of| {
            let known = place.0 != *trigger || *of != run;
            if !known {
                rows.remove(place);
            }
            known
        });
    }

    /// The files of a live run, where they are by now.
    fn files(&self, run: RunId, created: &RunCreated) -> Vec<FileClaim> {
        let mut files = created.files.clone();
        for (_, record) in self.live.get(&Aggregate::Run(run)).into_iter().flatten() {
            match record {
                Record::MoveDone { file, result: MoveResult::Moved { to, version }, .. } => {
                    let claim = &mut files[*file as usize];
                    (claim.path, claim.version) = (to.clone(), version.clone());
                    claim.in_place = false;
                }
                Record::FileStamped { rel, version, .. } => {
                    let claim = files.iter_mut().find(|file| file.rel == *rel);
                    claim.expect("a file of the run").version = version.clone();
                }
                _ => {}
            }
        }
        files
    }

    fn end(&mut self, run: RunId, state: RunState) {
        let created = self.created(run).expect("a live run ends once").clone();
        let files = self.files(run, &created);
        self.live.remove(&Aggregate::Run(run));
        let graph = self.graphs[&created.rev].clone();
        let results = &self.facts[&run].results;
        let ok = results.iter().filter(|(_, state)| **state == TaskState::Succeeded);
        let succeeded = ok.map(|(node, _)| graph.task(*node).name.clone()).collect();
        self.ended.insert(run, Ended { created, state, succeeded, files });
    }

    pub(crate) fn created(&self, run: RunId) -> Option<&RunCreated> {
        match self.live.get(&Aggregate::Run(run))?.first()? {
            (_, Record::RunCreated(created)) => Some(created),
            _ => None,
        }
    }

    /// The live runs.
    pub(crate) fn runs(&self) -> impl Iterator<Item = &RunCreated> {
        self.live.keys().filter_map(|of| match of {
            Aggregate::Run(run) => self.created(*run),
            _ => None,
        })
    }

    pub(crate) fn has_started(&self, id: AttemptId) -> bool {
        self.started.contains(&id) && self.live.contains_key(&Aggregate::Run(id.run))
    }

    pub(crate) fn is_planned(&self, run: RunId, file: u32, phase: Phase) -> bool {
        self.planned.contains(&(run, file, phase))
    }

    /// What the events of a trigger need should it leave the configuration.
    pub(crate) fn bound(&self, trigger: &Name) -> Option<&Bound> {
        let stored = self.live.get(&Aggregate::Trigger(trigger.clone()))?;
        stored.iter().rev().find_map(|(_, record)| match record {
            Record::TriggerBound { bound, .. } => Some(Some(&**bound)),
            Record::TriggerDrained { .. } => Some(None),
            _ => None,
        })?
    }

    /// What lives beside the idle triggers.
    pub(crate) fn leftovers(&self) -> Vec<&Aggregate> {
        self.live.keys().filter(|of| !matches!(of, Aggregate::Trigger(_))).collect()
    }

    pub(crate) fn fold(&self, model: &Arc<Model>, seed: u64, now: Now) -> Recovering {
        let start = Start {
            model: model.clone(),
            graphs: self.graphs.values().cloned().collect(),
            next_run: RunId(self.next_run.max(1)),
            next_item: ItemId(self.next_item),
            triggers: self.triggers.iter().cloned().collect(),
            durations: BTreeMap::new(),
            seed,
        };
        let mut recovering = Recovering::new(start);
        let mut records: Vec<&(u64, Record)> = self.live.values().flatten().collect();
        records.sort_unstable_by_key(|(order, _)| *order);
        for (_, record) in records {
            let folded = recovering.fold(record, now);
            assert!(folded.is_ok(), "a stored record folds: {folded:?}");
        }
        recovering
    }
}

/// Takes what is of a trigger.
fn of<T: Clone>(all: &mut BTreeMap<(Name, Bytes), T>, trigger: &Name) -> Vec<((Name, Bytes), T)> {
    let mine = all.iter().filter(|((of, _), _)| of == trigger);
    let mine: Vec<_> = mine.map(|(key, value)| (key.clone(), value.clone())).collect();
    all.retain(|(of, _), _| of != trigger);
    mine
}

fn relabel(record: &mut Record, from: &Name, to: &Name) {
    match record {
        Record::RunCreated(created) if created.trigger.as_ref() == Some(from) => created.rename(to),
        Record::ItemQueued(queued) if queued.trigger.as_ref() == Some(from) => {
            queued.trigger = Some(to.clone());
        }
        Record::TriggerPaused { trigger, .. }
        | Record::TriggerResumed { trigger, .. }
        | Record::TriggerArmed { trigger, .. }
        | Record::TimeMarked { trigger, .. }
        | Record::TriggerLeft { trigger, .. }
        | Record::TriggerBack { trigger, .. }
        | Record::TriggerBound { trigger, .. }
        | Record::TriggerDrained { trigger, .. }
            if trigger == from =>
        {
            *trigger = to.clone();
        }
        _ => {}
    }
}
