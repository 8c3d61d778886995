//! One batch of records on its way into rows.
//!
//! Runs inside the store's transaction and works on copies of its counters, so that a failed batch
//! leaves nothing behind, neither on disk nor in memory. Touches rows by primary key only.

use std::collections::BTreeSet;
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension as _, params};

use super::error::{Fault, Step};
use super::value::{int, json, parse};
use super::{Claims, Finished, Marks, history, keys, ledger, triggers};
use crate::core::graph::{Graph, StoredGraph};
use crate::core::id::{ItemId, Name, Rev, RunId, Wall};
use crate::core::record::{Record, RunCreated};
use crate::wire::time;

/// Dropped events that are remembered: enough to explain yesterday, bounded for a flood.
pub const DROPPED_MAX: i64 = 10_000;

/// Runs kept parsed while their files are disposed of; the oldest gives way.
const CLAIMS_MAX: usize = 16;

/// A batch under way.
pub(super) struct Batch<'a> {
    conn: &'a Connection,
    world: &'a dyn Finished,
    known: &'a BTreeSet<Rev>,
    added: Vec<Rev>,
    before: Marks,
    marks: Marks,
    claims: &'a mut Claims,
}

impl<'a> Batch<'a> {
    pub(super) fn new(
        conn: &'a Connection,
        world: &'a dyn Finished,
        known: &'a BTreeSet<Rev>,
        marks: Marks,
        claims: &'a mut Claims,
    ) -> Self {
        Self { conn, world, known, added: Vec::new(), before: marks, marks, claims }
    }

    /// The counters after the batch, and the graphs that it stored.
    pub(super) fn done(self) -> (Marks, Vec<Rev>) {
        (self.marks, self.added)
    }

    /// Writes all of it.
    pub(super) fn write(&mut self, records: &[Record]) -> Step<()> {
        for record in records {
            self.apply(record)?;
        }
        if self.marks.next_item != self.before.next_item {
            self.conn
                .prepare_cached("UPDATE meta SET value = ?1 WHERE key = 'next_item'")?
                .execute([int(self.marks.next_item)])?;
        }
        Ok(())
    }

    fn apply(&mut self, record: &Record) -> Step<()> {
        match record {
            Record::ItemQueued(queued) => {
                self.marks.next_item = self.marks.next_item.max(queued.item.0.saturating_add(1));
                self.insert("item", queued.item.0, record)
            }
            Record::ItemDropped { item, trigger, reason, at } => {
                self.dropped(*item, trigger.as_ref(), reason, *at)
            }
            Record::RunCreated(created) => self.run_created(created, record),
            Record::AttemptStarted { run, .. }
            | Record::AttemptEnded { run, .. }
            | Record::CancelRequested { run, .. }
            | Record::MovePlanned { run, .. } => self.insert("run", run.0, record),
            Record::MoveDone { run, file, phase, result, at } => {
                self.insert("run", run.0, record)?;
                let created = self.created(*run)?;
                ledger::moved(self.conn, &created, (*file, *phase), result, *at)
            }
            Record::RunEnded { run, state, at } => {
                self.claims.remove(run);
                let ended = history::read(self.conn, *run)?;
                let graph = self.graph(&ended.created.rev)?;
                let (end, tasks) = ((*state, *at), self.world.tasks(*run));
                self.marks.log_bytes += history::write(self.conn, &ended, end, &graph, tasks)?;
                ledger::ended(self.conn, &ended.created, *state, *at)?;
                self.remove("run", run.0)?;
                self.marks.ended += 1;
                Ok(())
            }
            Record::TriggerPaused { trigger, .. } | Record::TriggerResumed { trigger, .. } => {
                self.latest("pause", trigger, record)
            }
            Record::TriggerArmed { trigger, .. } => self.latest("armed", trigger, record),
            Record::TriggerLeft { trigger, .. } => self.latest("left", trigger, record),
            Record::TriggerBack { trigger, .. } => self.clear("left", trigger),
            Record::TriggerRenamed { from, to, .. } => {
                self.claims.clear();
                triggers::rename(self.conn, from, to)
            }
            Record::TriggerBound { trigger, bound, .. } => {
                self.keep_graph(&bound.rev)?;
                self.latest("bound", trigger, record)
            }
            Record::TriggerDrained { trigger, .. } => self.clear("bound", trigger),
            Record::TriggerForgotten { trigger, .. } => triggers::forget(self.conn, trigger),
            Record::TimeMarked { trigger, .. } => self.latest("time", trigger, record),
            Record::FilesPlaced { trigger, places, .. } => {
                ledger::placed(self.conn, trigger, places)
            }
            Record::FileNoted { trigger, rel, version, why, at } => {
                ledger::noted(self.conn, (trigger, rel), version, *why, *at)
            }
            Record::FileStamped { trigger, rel, version, run, at } => {
                if let Some(run) = run {
                    self.insert("run", run.0, record)?;
                }
                ledger::stamped(self.conn, (trigger, rel), version, *at)
            }
            Record::FileDeparted { trigger, rel, at } => {
                ledger::departed(self.conn, trigger, rel, *at)
            }
        }
    }

    fn insert(&mut self, kind: &str, id: u64, record: &Record) -> Step<()> {
        self.marks.live += 1;
        self.conn
            .prepare_cached("INSERT INTO live(kind, id, seq, record) VALUES(?1, ?2, ?3, ?4)")?
            .execute(params![kind, int(id), self.marks.live, json(record)?])?;
        Ok(())
    }

    /// Only the newest record of its kind counts for a trigger.
    fn latest(&mut self, kind: &str, trigger: &Name, record: &Record) -> Step<()> {
        self.clear(kind, trigger)?;
        self.marks.live += 1;
        self.conn
            .prepare_cached("INSERT INTO live(kind, id, seq, record) VALUES(?1, ?2, ?3, ?4)")?
            .execute(params![kind, trigger, self.marks.live, json(record)?])?;
        Ok(())
    }

    fn clear(&self, kind: &str, trigger: &Name) -> Step<()> {
        self.conn
            .prepare_cached("DELETE FROM live WHERE kind = ?1 AND id = ?2")?
            .execute(params![kind, trigger])?;
        Ok(())
    }

    fn remove(&self, kind: &str, id: u64) -> Step<()> {
        self.conn
            .prepare_cached("DELETE FROM live WHERE kind = ?1 AND id = ?2")?
            .execute(params![kind, int(id)])?;
        Ok(())
    }

    fn dropped(
        &mut self,
        item: ItemId,
        trigger: Option<&Name>,
        reason: &str,
        at: Wall,
    ) -> Step<()> {
        let payload: Option<String> = self
            .conn
            .prepare_cached("SELECT record FROM live WHERE kind = 'item' AND id = ?1")?
            .query_row([int(item.0)], |row| row.get(0))
            .optional()?;
        if payload.is_some() {
            self.remove("item", item.0)?;
        }
        self.marks.dropped += 1;
        self.conn
            .prepare_cached(
                "INSERT INTO dropped(seq, item, trigger, reason, at, payload) \
                 VALUES(?1, ?2, ?3, ?4, ?5, ?6)",
            )?
            .execute(params![
                self.marks.dropped,
                int(item.0),
                trigger,
                reason,
                time(at),
                payload
            ])?;
        self.conn
            .prepare_cached("DELETE FROM dropped WHERE seq <= ?1")?
            .execute([self.marks.dropped - DROPPED_MAX])?;
        Ok(())
    }

    fn run_created(&mut self, created: &RunCreated, record: &Record) -> Step<()> {
        for item in &created.items {
            self.remove("item", item.0)?;
        }
        self.keep_graph(&created.rev)?;
        self.insert("run", created.run.0, record)?;
        for file in &created.files {
            ledger::claimed(self.conn, created, file)?;
        }
        keys::claimed(self.conn, created)
    }

    /// Stores the graph when the first run is pinned to it, or may be.
    fn keep_graph(&mut self, rev: &Rev) -> Step<()> {
        if self.known.contains(rev) || self.added.contains(rev) {
            return Ok(());
        }
        let graph = self.world.graph(rev).ok_or_else(|| {
            Fault::Contradiction(format!("a run is pinned to graph {rev}, which nobody has"))
        })?;
        self.conn
            .prepare_cached("INSERT INTO graphs(rev, body) VALUES(?1, ?2)")?
            .execute(params![rev.0, json(&graph.to_stored())?])?;
        self.added.push(rev.clone());
        Ok(())
    }

    /// The graph that a run is pinned to: from the caller, else from the database.
    fn graph(&self, rev: &Rev) -> Step<Arc<Graph>> {
        if let Some(graph) = self.world.graph(rev) {
            return Ok(graph);
        }
        let body: String = self
            .conn
            .prepare_cached("SELECT body FROM graphs WHERE rev = ?1")?
            .query_row([&rev.0], |row| row.get(0))?;
        let stored: StoredGraph = parse("graph", &body)?;
        Graph::restore(rev.clone(), stored)
            .map(Arc::new)
            .map_err(|_| Fault::Contradiction(format!("graph {rev} is none")))
    }

    /// The run as created, parsed once while its files are disposed of.
    fn created(&mut self, run: RunId) -> Step<Arc<RunCreated>> {
        if let Some(created) = self.claims.get(&run) {
            return Ok(created.clone());
        }
        let first: Option<String> = self
            .conn
            .prepare_cached(
                "SELECT record FROM live WHERE kind = 'run' AND id = ?1 ORDER BY seq LIMIT 1",
            )?
            .query_row([int(run.0)], |row| row.get(0))
            .optional()?;
        let created = match first.as_deref().map(|text| parse("record", text)).transpose()? {
            Some(Record::RunCreated(created)) => Arc::new(*created),
            _ => return Err(history::not_alive(run)),
        };
        while self.claims.len() >= CLAIMS_MAX {
            self.claims.pop_first();
        }
        self.claims.insert(run, created.clone());
        Ok(created)
    }
}
