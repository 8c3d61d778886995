//! Keeping the history within its bounds, slice by slice.
//!
//! Removes rows; the files that they name are the caller's, who removes each before its row: a row
//! without a file is removed again, a file without a row never would be.

use std::collections::BTreeSet;

use rusqlite::{Connection, OptionalExtension as _, params};

use super::error::Step;
use super::value::{StoredPath, int, uint};
use super::{ledger, triggers};
use crate::core::id::{Name, Rev, RunId, Wall};

/// Runs removed per slice, so that the engine does not stand still.
const SLICE_RUNS_MAX: u64 = 256;

/// Rows of tasks, attempts and files per slice, but for the last run of it; and rows of the ledger
/// and of keys that are nobody's.
const SLICE_ROWS_MAX: usize = 4096;

/// What a slice removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// The runs.
    pub runs: Vec<RunId>,
    /// Bytes that their logs took.
    pub log_bytes: u64,
    /// Whether there is more to remove.
    pub more: bool,
}

/// What of the history is kept: what exceeds any of the three goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep {
    /// Runs.
    pub runs: u64,
    /// Runs that ended at or after this time.
    pub since: Wall,
    /// Bytes of all logs together.
    pub log_bytes: u64,
}

/// What the history has too much of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Excess {
    pub(super) runs: u64,
    pub(super) before: Wall,
    pub(super) log_bytes: u64,
}

/// Removes the runs that ended first, as long as there is too much of anything, each log by
/// `remove_log`. Also returns the graphs that went with them.
pub(super) fn slice(
    conn: &Connection,
    excess: Excess,
    remove_log: &mut dyn FnMut(&str),
) -> Step<(Pruned, Vec<Rev>)> {
    let mut pruned = Pruned::default();
    let mut revs = BTreeSet::new();
    let mut rows = 0;
    for (ahead, Candidate { run, trigger, rev, ended }) in (0u64..).zip(candidates(conn)?) {
        if ahead >= excess.runs && ended >= excess.before && pruned.log_bytes >= excess.log_bytes {
            break;
        }
        if rows >= SLICE_ROWS_MAX || ahead >= SLICE_RUNS_MAX {
            pruned.more = true;
            break;
        }
        let logs = remove_logs(conn, run, remove_log)?;
        pruned.log_bytes += logs;
        rows += remove(conn, run, trigger.as_deref())?;
        pruned.runs.push(run);
        revs.insert(rev);
    }
    pruned.more |= triggers::purge(conn, SLICE_ROWS_MAX)?;
    if !pruned.more {
        conn.prepare_cached("DELETE FROM task_stats WHERE at_ns < ?1")?
            .execute([excess.before.0])?;
    }
    if !pruned.more {
        // Also of those that no run has gone with: a trigger's last word may have kept one alone.
        let mut all = conn.prepare_cached("SELECT rev FROM graphs")?;
        let all = all.query_map([], |row| Ok(Rev(row.get(0)?)))?;
        revs.extend(all.collect::<Result<Vec<_>, _>>()?);
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
struct Candidate {
    run: RunId,
    trigger: Option<Name>,
    rev: Rev,
    ended: Wall,
}

/// The runs that ended first; one more than a slice takes.
fn candidates(conn: &Connection) -> Step<Vec<Candidate>> {
    let mut query = conn.prepare_cached(
        "SELECT id, trigger, rev, ended_ns FROM runs \
         WHERE id <> (SELECT max(id) FROM runs) ORDER BY ended_ns LIMIT ?1",
    )?;
    let rows = query.query_map([int(SLICE_RUNS_MAX + 1)], |row| {
        Ok(Candidate {
            run: RunId(uint(row.get(0)?)),
            trigger: row.get(1)?,
            rev: Rev(row.get(2)?),
            ended: Wall(row.get(3)?),
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Removes the logs of one run; returns how many bytes they took.
fn remove_logs(conn: &Connection, run: RunId, remove_log: &mut dyn FnMut(&str)) -> Step<u64> {
    let mut query = conn
        .prepare_cached("SELECT log, log_kept FROM attempts WHERE run = ?1 AND log IS NOT NULL")?;
    let mut bytes = 0;
    for row in query.query_map([int(run.0)], |row| Ok((row.get(0)?, row.get(1)?)))? {
        let (log, kept): (String, i64) = row?;
        remove_log(&log);
        bytes += uint(kept);
    }
    Ok(bytes)
}

/// Removes one run; returns how many rows that took.
fn remove(conn: &Connection, run: RunId, trigger: Option<&str>) -> Step<usize> {
    let id = int(run.0);
    let mut rows = 1;
    if let Some(trigger) = trigger {
        let mut query = conn.prepare_cached("SELECT rel FROM run_files WHERE run = ?1")?;
        let rels = query.query_map([id], |row| Ok(row.get::<_, StoredPath>(0)?.0))?;
        for rel in rels {
            ledger::forget(conn, trigger, &rel?, run)?;
        }
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

/// Whether a run, ended or live, is pinned to the graph, or an event of a trigger may yet be.
fn used(conn: &Connection, rev: &Rev) -> Step<bool> {
    for sql in [
        "SELECT 1 FROM runs WHERE rev = ?1 LIMIT 1",
        "SELECT 1 FROM live WHERE kind = 'run' \
         AND json_extract(record, '$.run_created.rev') = ?1 LIMIT 1",
        "SELECT 1 FROM live WHERE kind = 'bound' \
         AND json_extract(record, '$.trigger_bound.bound.rev') = ?1 LIMIT 1",
    ] {
        let found = conn.prepare_cached(sql)?.query_row(params![rev.0], |_| Ok(())).optional()?;
        if found.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}
