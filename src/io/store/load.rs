//! From rows back to records: what lives.
//!
//! The caller sees to it that all is read in one snapshot, where others may be writing.

use std::collections::BTreeSet;
use std::time::Duration;

use rusqlite::Connection;

use super::error::Step;
use super::value::{int, parse, uint};
use crate::core::graph::StoredGraph;
use crate::core::id::{ItemId, Name, Rev, RunId};
use crate::core::record::Record;

/// All that lives, as stored.
#[derive(Debug)]
pub struct Loaded {
    /// The records, in the order in which they were committed.
    pub records: Vec<Record>,
    /// The graphs that live runs are pinned to, and accepted events may be.
    pub graphs: Vec<(Rev, StoredGraph)>,
    /// The triggers that the ledger knows.
    pub triggers: Vec<Name>,
    /// The number for the next run.
    pub next_run: RunId,
    /// The number for the next accepted event.
    pub next_item: ItemId,
}

/// Reads all that lives.
pub(super) fn load(conn: &Connection) -> Step<Loaded> {
    let records = records(conn, "SELECT record FROM live ORDER BY seq", [])?;
    let last = |sql: &str| conn.query_row(sql, [], |row| row.get::<_, i64>(0));
    let ended = last("SELECT coalesce(max(id), 0) FROM runs")?;
    let live = last("SELECT coalesce(max(id), 0) FROM live WHERE kind = 'run'")?;
    let next_item = last("SELECT value FROM meta WHERE key = 'next_item'")?;
    let mut names = conn.prepare_cached("SELECT name FROM triggers")?;
    Ok(Loaded {
        triggers: names.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?,
        graphs: graphs(conn, &records)?,
        records,
        next_run: RunId(uint(ended.max(live)) + 1),
        next_item: ItemId(uint(next_item)),
    })
}

/// Reads one live run as if nothing else lived.
pub(super) fn load_run(conn: &Connection, run: RunId) -> Step<Loaded> {
    let records = run_records(conn, run)?;
    let graphs = graphs(conn, &records)?;
    let (next_run, next_item) = (RunId(run.0.saturating_add(1)), ItemId(1));
    Ok(Loaded { records, graphs, triggers: Vec::new(), next_run, next_item })
}

/// The records of one live run, in order.
pub(super) fn run_records(conn: &Connection, run: RunId) -> Step<Vec<Record>> {
    let sql = "SELECT record FROM live WHERE kind = 'run' AND id = ?1 ORDER BY seq";
    records(conn, sql, [int(run.0)])
}

/// All live records with the kind and number that they are stored under.
pub(super) fn live_records(conn: &Connection) -> Step<Vec<(String, i64, Record)>> {
    let mut query = conn.prepare("SELECT kind, seq, record FROM live")?;
    let mut rows = query.query([])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let text: String = row.get(2)?;
        found.push((row.get(0)?, row.get(1)?, parse("record", &text)?));
    }
    Ok(found)
}

fn records<P: rusqlite::Params>(conn: &Connection, sql: &str, params: P) -> Step<Vec<Record>> {
    let mut query = conn.prepare_cached(sql)?;
    let mut rows = query.query(params)?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let text = row.get_ref(0)?.as_str().map_err(rusqlite::Error::from)?;
        found.push(parse("record", text)?);
    }
    Ok(found)
}

fn graphs(conn: &Connection, records: &[Record]) -> Step<Vec<(Rev, StoredGraph)>> {
    let revs: BTreeSet<&Rev> = records
        .iter()
        .filter_map(|record| match record {
            Record::RunCreated(created) => Some(&created.rev),
            Record::TriggerBound { bound, .. } => Some(&bound.rev),
            _ => None,
        })
        .collect();
    let mut query = conn.prepare_cached("SELECT body FROM graphs WHERE rev = ?1")?;
    revs.into_iter()
        .map(|rev| {
            let body: String = query.query_row([&rev.0], |row| row.get(0))?;
            Ok((rev.clone(), parse("graph", &body)?))
        })
        .collect()
}

/// The mean duration of each task's attempts.
pub(super) fn durations(conn: &Connection) -> Step<Vec<(Name, Duration)>> {
    let mut query = conn.prepare_cached("SELECT name, mean_ns FROM task_stats")?;
    let rows = query.query_map([], |row| {
        Ok((row.get::<_, Name>(0)?, Duration::from_nanos(row.get::<_, i64>(1)?.unsigned_abs())))
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}
