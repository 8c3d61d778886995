//! What it takes to repeat a run: its files where they are now, its tasks with what they wrote.
//!
//! Reads only; whether the run may be repeated is the core's decision.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension as _, params};

use super::error::{Fault, Step, StoreError};
use super::load::run_records;
use super::reader::{Reader, ledger_story};
use super::runs::{RUN, scheduled, signal};
use super::value::{StoredPath, int, parse, uint};
use crate::core::candidate::{Kind, Version};
use crate::core::id::{Name, Rev, RunId, Wall};
use crate::core::path::Bytes;
use crate::core::record::{FileClaim, Record, RunState, SignalInfo};
use crate::core::selector::Selector;
use crate::core::task::{SkipCause, TaskState};

/// What it takes to repeat a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetrySource {
    /// The run.
    pub run: RunId,
    /// Its state. Of a run that has not ended, `tasks` is empty: it cannot be repeated yet.
    pub state: RunState,
    /// Its trigger; it may be gone from the configuration.
    pub trigger: Option<Name>,
    /// Its selection.
    pub select: Selector,
    /// The graph that it was pinned to.
    pub rev: Rev,
    /// The signal that it was for.
    pub signal: Option<SignalInfo>,
    /// The occurrence that it was for.
    pub scheduled: Option<Wall>,
    /// The run that it repeated itself.
    pub parent: Option<RunId>,
    /// When it was created.
    pub at: Wall,
    /// Its files.
    pub files: Vec<RetryFile>,
    /// Its tasks, by name.
    pub tasks: Vec<RetryTask>,
}

/// A file of a run to repeat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetryFile {
    /// As the run claimed it.
    pub claim: FileClaim,
    /// Where it is now, absolute, as far as dagd moved it.
    pub location: Bytes,
    /// Whether the end of the run removed it.
    pub deleted: bool,
}

/// A task of a run to repeat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetryTask {
    /// Its name.
    pub name: Name,
    /// How it ended.
    pub state: TaskState,
    /// What its last attempt wrote to `DAGD_OUTPUT`, or what was kept of an earlier run's.
    pub outputs: BTreeMap<String, String>,
}

impl Reader {
    /// What it takes to repeat a run.
    ///
    /// # Errors
    /// As all reading.
    pub fn retry_source(&mut self, id: RunId) -> Result<Option<RetrySource>, StoreError> {
        self.read(|conn| match ended_source(conn, id)? {
            Some(source) => Ok(Some(source)),
            None => live_source(conn, id),
        })
    }
}

fn live_source(conn: &Connection, id: RunId) -> Step<Option<RetrySource>> {
    let records = run_records(conn, id)?;
    let started = records.iter().any(|record| matches!(record, Record::AttemptStarted { .. }));
    let Some(Record::RunCreated(created)) = records.into_iter().next() else { return Ok(None) };
    let files = created.files.into_iter().map(|claim| {
        let location = claim.path.clone();
        RetryFile { claim, location, deleted: false }
    });
    Ok(Some(RetrySource {
        run: id,
        state: if started { RunState::Running } else { RunState::Queued },
        trigger: created.trigger,
        select: created.select,
        rev: created.rev,
        signal: created.signal,
        scheduled: created.scheduled,
        parent: created.parent,
        at: created.at,
        files: files.collect(),
        tasks: Vec::new(),
    }))
}

fn ended_source(conn: &Connection, id: RunId) -> Step<Option<RetrySource>> {
    let mut query = conn.prepare_cached(&format!("SELECT {RUN} FROM runs WHERE id = ?1"))?;
    let mut rows = query.query([int(id.0)])?;
    let Some(row) = rows.next()? else { return Ok(None) };
    let trigger: Option<Name> = row.get(1)?;
    let selector: String = row.get(4)?;
    let kept: Option<String> = row.get(8)?;
    let kept = kept.map(|text| parse("kept outputs", &text)).transpose()?.unwrap_or_default();
    Ok(Some(RetrySource {
        run: id,
        state: run_state(&row.get::<_, String>(3)?)?,
        select: Selector::parse(&selector)
            .map_err(|error| Fault::Contradiction(format!("run {id}: selection: {error}")))?,
        rev: Rev(row.get(5)?),
        signal: signal(row)?,
        scheduled: scheduled(row)?,
        parent: row.get::<_, Option<i64>>(6)?.map(|run| RunId(uint(run))),
        at: Wall(row.get(12)?),
        files: retry_files(conn, id, trigger.as_deref())?,
        tasks: retry_tasks(conn, id, kept)?,
        trigger,
    }))
}

fn retry_files(conn: &Connection, id: RunId, trigger: Option<&str>) -> Step<Vec<RetryFile>> {
    let mut query = conn.prepare_cached(
        "SELECT path, rel, kind, size, mtime_ns, file, first_seen_ns, in_place, moved_to, \
         outcome FROM run_files WHERE run = ?1 ORDER BY ix",
    )?;
    let mut rows = query.query([int(id.0)])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let path = |column| row.get::<_, StoredPath>(column).map(|path| path.0);
        let claim = FileClaim {
            rel: path(1)?,
            path: path(0)?,
            kind: kind(&row.get::<_, String>(2)?)?,
            version: Version { file: path(5)?, size: uint(row.get(3)?), mtime_ns: row.get(4)? },
            first_seen_at: Wall(row.get(6)?),
            in_place: row.get(7)?,
            // Who repeats a run has decided that it is to be repeated.
            key: None,
        };
        let moved_to = row.get::<_, Option<StoredPath>>(8)?.map(|path| path.0);
        // A later run of the same version may have taken it on from there.
        let story = trigger.map(|trigger| ledger_story(conn, trigger, &claim.rel)).transpose()?;
        let later = story
            .flatten()
            .filter(|story| story.row.run == Some(id) || story.row.version == claim.version)
            .and_then(|story| story.location);
        let outcome: Option<String> = row.get(9)?;
        let deleted = outcome.as_deref() == Some("deleted") && later.is_none();
        let location = later.or(moved_to).unwrap_or_else(|| claim.path.clone());
        found.push(RetryFile { claim, location, deleted });
    }
    Ok(found)
}

fn retry_tasks(
    conn: &Connection,
    id: RunId,
    kept: Vec<(Name, BTreeMap<String, String>)>,
) -> Step<Vec<RetryTask>> {
    let mut kept: BTreeMap<Name, BTreeMap<String, String>> = kept.into_iter().collect();
    let mut last = conn.prepare_cached(
        "SELECT outputs FROM attempts WHERE run = ?1 AND task = ?2 ORDER BY attempt DESC LIMIT 1",
    )?;
    let mut query =
        conn.prepare_cached("SELECT name, state, cause FROM tasks WHERE run = ?1 ORDER BY name")?;
    let mut rows = query.query([int(id.0)])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let name: Name = row.get(0)?;
        let state =
            task_state(&row.get::<_, String>(1)?, row.get::<_, Option<String>>(2)?.as_deref())?;
        let outputs: Option<Option<String>> =
            last.query_row(params![int(id.0), name], |row| row.get(0)).optional()?;
        let outputs = match outputs {
            Some(Some(text)) => parse("outputs", &text)?,
            Some(None) => BTreeMap::new(),
            None => kept.remove(&name).unwrap_or_default(),
        };
        found.push(RetryTask { name, state, outputs });
    }
    Ok(found)
}

fn unknown(what: &str, word: &str) -> Fault {
    Fault::Contradiction(format!("unknown {what} `{word}`"))
}

fn kind(word: &str) -> Step<Kind> {
    [Kind::Created, Kind::Modified, Kind::Deleted]
        .into_iter()
        .find(|kind| kind.word() == word)
        .ok_or_else(|| unknown("kind of change", word))
}

fn run_state(word: &str) -> Step<RunState> {
    [RunState::Succeeded, RunState::Failed, RunState::Cancelled]
        .into_iter()
        .find(|state| state.word() == word)
        .ok_or_else(|| unknown("state of a run", word))
}

/// A skip whose cause is told in other words counts as one by rule.
fn task_state(word: &str, cause: Option<&str>) -> Step<TaskState> {
    use SkipCause::{ExitCode, Rule, UpstreamFailed, UpstreamSkipped};
    if word == "skipped" {
        let causes = [ExitCode, Rule, UpstreamFailed, UpstreamSkipped];
        let found = causes.into_iter().find(|known| Some(known.word()) == cause);
        return Ok(TaskState::Skipped(found.unwrap_or(Rule)));
    }
    [
        TaskState::Waiting,
        TaskState::Ready,
        TaskState::Running,
        TaskState::Retrying,
        TaskState::Succeeded,
        TaskState::Failed,
        TaskState::TimedOut,
        TaskState::Cancelled,
        TaskState::Lost,
    ]
    .into_iter()
    .find(|state| state.word() == word)
    .ok_or_else(|| unknown("state of a task", word))
}
