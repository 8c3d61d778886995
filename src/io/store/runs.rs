//! Runs as they are listed and shown: the reader's look at live records and history.
//!
//! Reads only.

use std::collections::BTreeMap;

use rusqlite::{Connection, Row as SqlRow, params};

use super::error::{Step, StoreError};
use super::load::load_run;
use super::reader::Reader;
use super::value::{StoredPath, int, parse, uint};
use super::view::live_run;
use crate::core::id::{RunId, Wall};
use crate::core::record::{Record, RunCreated, SignalInfo};
use crate::wire::{self, PathText, time};

/// Which runs to list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunFilter {
    /// How many, at most.
    pub limit: usize,
    /// Only this trigger's.
    pub trigger: Option<String>,
    /// Only those in this state: `queued`, `running`, `succeeded`, `failed` or `cancelled`.
    pub state: Option<String>,
}

/// The columns that [`ended_run`] reads, and the retry's look.
pub(super) const RUN: &str = "id, trigger, reason, state, selector, rev, parent, signal, kept, created_at, \
                   started_at, ended_at, created_ns, scheduled_ns";

impl Reader {
    /// The runs that the filter names, the newest first, live ones included.
    ///
    /// # Errors
    /// As all reading.
    pub fn runs(&mut self, filter: &RunFilter) -> Result<Vec<wire::Run>, StoreError> {
        self.read(|conn| {
            let mut found = live_runs(conn, filter)?;
            let mut query = conn.prepare_cached(&format!(
                "SELECT {RUN} FROM runs WHERE (?1 IS NULL OR trigger = ?1) \
                 AND (?2 IS NULL OR state = ?2) ORDER BY id DESC LIMIT ?3"
            ))?;
            let limit = i64::try_from(filter.limit).unwrap_or(i64::MAX);
            let mut rows = query.query(params![filter.trigger, filter.state, limit])?;
            while let Some(row) = rows.next()? {
                found.push(ended_run(conn, row)?);
            }
            found.sort_by_key(|run| std::cmp::Reverse(run.id));
            found.truncate(filter.limit);
            Ok(found)
        })
    }

    /// A run with its tasks and their attempts.
    ///
    /// # Errors
    /// As all reading.
    pub fn run(&mut self, id: RunId) -> Result<Option<wire::RunDetail>, StoreError> {
        let view = self.view;
        let mut found = self.read(|conn| {
            if let Some(ended) = ended_detail(conn, id)? {
                return Ok(Some(ended));
            }
            let loaded = load_run(conn, id)?;
            Ok(view(&loaded).into_iter().find(|detail| detail.run.id == id.0))
        })?;
        let logs = self.logs();
        let attempts =
            found.iter_mut().flat_map(|run| &mut run.tasks).flat_map(|t| &mut t.attempts);
        for log in attempts.filter_map(|attempt| attempt.log.as_mut()) {
            *log = logs.join(&log).display().to_string();
        }
        Ok(found)
    }
}

fn live_runs(conn: &Connection, filter: &RunFilter) -> Step<Vec<wire::Run>> {
    let ids: Vec<i64> = conn
        .prepare_cached("SELECT DISTINCT id FROM live WHERE kind = 'run'")?
        .query_map([], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    let mut found = Vec::new();
    for id in ids {
        let Some((created, started_at)) = beginning(conn, id)? else { continue };
        let run = live_run(&created, started_at);
        let wanted = filter.trigger.as_ref().is_none_or(|name| Some(name) == run.trigger.as_ref())
            && filter.state.as_ref().is_none_or(|state| *state == run.state);
        if wanted {
            found.push(run);
        }
    }
    Ok(found)
}

/// How a live run began: reads its records up to the first attempt only.
fn beginning(conn: &Connection, id: i64) -> Step<Option<(Box<RunCreated>, Option<String>)>> {
    let mut query =
        conn.prepare_cached("SELECT record FROM live WHERE kind = 'run' AND id = ?1 ORDER BY seq")?;
    let mut rows = query.query([id])?;
    let mut created = None;
    while let Some(row) = rows.next()? {
        match parse("record", row.get_ref(0)?.as_str().map_err(rusqlite::Error::from)?)? {
            Record::RunCreated(found) => created = Some(found),
            Record::AttemptStarted { at, .. } => {
                return Ok(created.map(|created| (created, Some(time(at)))));
            }
            _ => {}
        }
    }
    Ok(created.map(|created| (created, None)))
}

fn ended_run(conn: &Connection, row: &SqlRow<'_>) -> Step<wire::Run> {
    let id: i64 = row.get(0)?;
    let mut query = conn.prepare_cached(
        "SELECT path, rel, kind, size, moved_to, move_error, outcome FROM run_files \
         WHERE run = ?1 ORDER BY ix",
    )?;
    let files = query.query_map([id], |row| {
        Ok(wire::RunFile {
            path: PathText::from(&row.get::<_, StoredPath>(0)?.0),
            rel: row.get::<_, StoredPath>(1)?.0.lossy().into_owned(),
            kind: row.get(2)?,
            size: uint(row.get(3)?),
            moved_to: row.get::<_, Option<StoredPath>>(4)?.map(|path| PathText::from(&path.0)),
            move_error: row.get(5)?,
            outcome: row.get(6)?,
        })
    })?;
    Ok(wire::Run {
        id: uint(id),
        trigger: row.get(1)?,
        reason: row.get(2)?,
        state: row.get(3)?,
        files: files.collect::<Result<_, _>>()?,
        rev: row.get(5)?,
        created_at: row.get(9)?,
        started_at: row.get(10)?,
        ended_at: row.get(11)?,
    })
}

fn ended_detail(conn: &Connection, id: RunId) -> Step<Option<wire::RunDetail>> {
    let mut query = conn.prepare_cached(&format!("SELECT {RUN} FROM runs WHERE id = ?1"))?;
    let mut rows = query.query([int(id.0)])?;
    let Some(row) = rows.next()? else { return Ok(None) };
    Ok(Some(wire::RunDetail {
        run: ended_run(conn, row)?,
        select: row.get(4)?,
        parent: row.get::<_, Option<i64>>(6)?.map(uint),
        signal: signal(row)?.map(|info| wire::Signal {
            signal: info.signal.to_string(),
            value: info.value,
            sender_pid: info.pid,
            sender_uid: info.uid,
        }),
        scheduled_at: scheduled(row)?.map(time),
        tasks: tasks(conn, id)?,
    }))
}

/// The signal in a row of [`RUN`].
pub(super) fn signal(row: &SqlRow<'_>) -> Step<Option<SignalInfo>> {
    let text: Option<String> = row.get(7)?;
    text.map(|text| parse("signal", &text)).transpose()
}

/// The occurrence in a row of [`RUN`].
pub(super) fn scheduled(row: &SqlRow<'_>) -> Step<Option<Wall>> {
    Ok(row.get::<_, Option<i64>>(13)?.map(Wall))
}

fn tasks(conn: &Connection, id: RunId) -> Step<Vec<wire::Task>> {
    let mut attempts: BTreeMap<String, Vec<wire::AttemptRow>> = BTreeMap::new();
    let mut query = conn.prepare_cached(
        "SELECT task, attempt, exit_code, signal, error, leftovers, started_at, ended_at, log, \
         memory_peak, cpu_us FROM attempts WHERE run = ?1 ORDER BY task, attempt",
    )?;
    let rows = query.query_map([int(id.0)], |row| {
        let attempt = wire::AttemptRow {
            attempt: row.get(1)?,
            exit_code: row.get(2)?,
            signal: row.get(3)?,
            error: row.get(4)?,
            leftovers: row.get(5)?,
            started_at: row.get(6)?,
            ended_at: row.get(7)?,
            log: row.get(8)?,
            memory_peak: row.get::<_, Option<i64>>(9)?.map(uint),
            cpu_us: row.get::<_, Option<i64>>(10)?.map(uint),
        };
        Ok((row.get(0)?, attempt))
    })?;
    for row in rows {
        let (task, attempt): (String, _) = row?;
        attempts.entry(task).or_default().push(attempt);
    }
    let mut query =
        conn.prepare_cached("SELECT name, state, cause FROM tasks WHERE run = ?1 ORDER BY name")?;
    let rows = query.query_map([int(id.0)], |row| {
        let name: String = row.get(0)?;
        let attempts = attempts.remove(&name).unwrap_or_default();
        Ok(wire::Task { name, state: row.get(1)?, cause: row.get(2)?, attempts })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}
