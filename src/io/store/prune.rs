//! Keeping the history within its bounds, slice by slice.
//!
//! Removes rows; the files that they name are the caller's.

use std::collections::BTreeSet;

use rusqlite::{Connection, OptionalExtension as _, params};

use super::error::Step;
use super::ledger;
use super::value::{StoredPath, int, uint};
use crate::core::id::{Name, Rev, RunId, Wall};

/// Runs removed per slice, so that the engine does not stand still.
const SLICE_RUNS_MAX: u64 = 256;

/// Rows of tasks, attempts and files per slice, but for the last run of it.
const SLICE_ROWS_MAX: usize = 4096;

/// What a slice removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// The runs.
    pub runs: Vec<RunId>,
    /// Names of their logs, under [`super::LOGS`], for the caller to remove.
    pub logs: Vec<String>,
    /// Whether there is more to remove.
    pub more: bool,
}

/// Removes the oldest of the `excess` runs, and of those that ended before `older_than`. Also
/// returns the graphs that went with them.
pub(super) fn slice(conn: &Connection, excess: u64, older_than: Wall) -> Step<(Pruned, Vec<Rev>)> {
    let mut pruned = Pruned::default();
    let mut revs = BTreeSet::new();
    let mut rows = 0;
    for (ahead, (run, trigger, rev)) in (0u64..).zip(candidates(conn, excess, older_than)?) {
        if rows >= SLICE_ROWS_MAX || ahead >= SLICE_RUNS_MAX {
            pruned.more = true;
            break;
        }
        rows += remove(conn, run, trigger.as_deref(), &mut pruned.logs)?;
        pruned.runs.push(run);
        revs.insert(rev);
    }
    if !pruned.more {
        conn.prepare_cached("DELETE FROM task_stats WHERE at_ns < ?1")?.execute([older_than.0])?;
    }
    let mut gone = Vec::new();
    for rev in revs {
        if !used(conn, &rev)? {
            conn.prepare_cached("DELETE FROM graphs WHERE rev = ?1")?.execute([&rev.0])?;
            gone.push(rev);
        }
    }
    Ok((pruned, gone))
}

/// A run that may go.
type Candidate = (RunId, Option<Name>, Rev);

/// The runs to remove, those that ended first in front; one more than a slice takes.
fn candidates(conn: &Connection, excess: u64, older_than: Wall) -> Step<Vec<Candidate>> {
    let mut query = conn.prepare_cached(
        "SELECT id, trigger, rev, ended_ns FROM runs \
         WHERE id <> (SELECT max(id) FROM runs) ORDER BY ended_ns LIMIT ?1",
    )?;
    let mut rows = query.query([int(SLICE_RUNS_MAX + 1)])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        if found.len() as u64 >= excess && row.get::<_, i64>(3)? >= older_than.0 {
            break;
        }
        found.push((RunId(uint(row.get(0)?)), row.get(1)?, Rev(row.get(2)?)));
    }
    Ok(found)
}

/// Removes one run; returns how many rows that took.
fn remove(
    conn: &Connection,
    run: RunId,
    trigger: Option<&str>,
    logs: &mut Vec<String>,
) -> Step<usize> {
    let id = int(run.0);
    let mut rows = 1;
    if let Some(trigger) = trigger {
        let mut query = conn.prepare_cached("SELECT rel FROM run_files WHERE run = ?1")?;
        let rels = query.query_map([id], |row| Ok(row.get::<_, StoredPath>(0)?.0))?;
        for rel in rels {
            ledger::forget(conn, trigger, &rel?, run)?;
        }
    }
    let mut query =
        conn.prepare_cached("SELECT log FROM attempts WHERE run = ?1 AND log IS NOT NULL")?;
    for log in query.query_map([id], |row| row.get(0))? {
        logs.push(log?);
    }
    for sql in [
        "DELETE FROM run_files WHERE run = ?1",
        "DELETE FROM tasks WHERE run = ?1",
        "DELETE FROM attempts WHERE run = ?1",
        "DELETE FROM runs WHERE id = ?1",
    ] {
        rows += conn.prepare_cached(sql)?.execute([id])?;
    }
    Ok(rows)
}

/// Whether a run, ended or live, is pinned to the graph.
fn used(conn: &Connection, rev: &Rev) -> Step<bool> {
    for sql in [
        "SELECT 1 FROM runs WHERE rev = ?1 LIMIT 1",
        "SELECT 1 FROM live WHERE kind = 'run' \
         AND json_extract(record, '$.run_created.rev') = ?1 LIMIT 1",
    ] {
        let found = conn.prepare_cached(sql)?.query_row(params![rev.0], |_| Ok(())).optional()?;
        if found.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}
