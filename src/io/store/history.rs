//! How a run that ends becomes history.
//!
//! Derives from the run's own records what its attempts and files came to; how tasks ended that
//! never ran, only the core knows. Pure but for [`read`] and [`write()`].

use std::collections::BTreeMap;
use std::time::Duration;

use rusqlite::{Connection, params};

use super::error::{Fault, Step};
use super::files::log_name;
use super::load::run_records;
use super::value::{PathCell, int, json};
use crate::core::disposition::{MoveResult, Phase};
use crate::core::graph::Graph;
use crate::core::id::{Attempt, Name, NodeIx, RunId, Wall};
use crate::core::path::Bytes;
use crate::core::record::{Record, RunCreated, RunState};
use crate::core::task::{Ended, Exit, StopCause, TaskState, Verdict};
use crate::wire::time;

/// Weight of the past in a task's mean duration: the last eight or so attempts count.
const STATS_WEIGHT: i64 = 8;

/// What the records of a run say.
#[derive(Debug)]
pub(super) struct RunStory {
    /// The run.
    pub(super) created: RunCreated,
    /// Its attempts, by task and number.
    pub(super) attempts: BTreeMap<(NodeIx, Attempt), AttemptStory>,
    /// What came of disposing of its files: before its tasks, and after them.
    pub(super) moves: BTreeMap<(u32, Phase), MoveResult>,
}

/// What the records of an attempt say.
#[derive(Debug)]
pub(super) struct AttemptStory {
    /// When it started.
    pub(super) started_at: Wall,
    /// How it ended, why dagd ended it, and what that meant.
    pub(super) end: Option<(Ended, Option<StopCause>, Verdict)>,
}

impl RunStory {
    /// Folds the records of one run.
    pub(super) fn fold(run: RunId, records: impl IntoIterator<Item = Record>) -> Step<Self> {
        let mut story = None;
        for record in records {
            match (record, &mut story) {
                (Record::RunCreated(created), None) => {
                    let (attempts, moves) = (BTreeMap::new(), BTreeMap::new());
                    story = Some(Self { created: *created, attempts, moves });
                }
                (Record::AttemptStarted { node, attempt, at, .. }, Some(story)) => {
                    let fresh = AttemptStory { started_at: at, end: None };
                    story.attempts.insert((node, attempt), fresh);
                }
                (Record::AttemptEnded { node, attempt, ended, stop, verdict, .. }, Some(story)) => {
                    let fresh = AttemptStory { started_at: ended.started_at, end: None };
                    let told = story.attempts.entry((node, attempt)).or_insert(fresh);
                    told.end = Some((*ended, stop, verdict));
                }
                (Record::MoveDone { file, phase, result, .. }, Some(story)) => {
                    story.moves.insert((file, phase), result);
                }
                (Record::FileStamped { rel, version, .. }, Some(story)) => {
                    let mut files = story.created.files.iter_mut();
                    if let Some(file) = files.find(|file| file.in_place && file.rel == rel) {
                        file.version = version;
                    }
                }
                (_, Some(_)) => {}
                (_, None) => return Err(not_alive(run)),
            }
        }
        story.ok_or_else(|| not_alive(run))
    }

    /// When its first attempt started.
    pub(super) fn started_at(&self) -> Option<Wall> {
        self.attempts.values().map(|attempt| attempt.started_at).min()
    }
}

impl AttemptStory {
    /// Exit code, signal, and an error in words.
    pub(super) fn exit(&self) -> (Option<i32>, Option<i32>, Option<String>) {
        let Some((ended, stop, _)) = &self.end else { return (None, None, None) };
        let error = ended.exit.error().or_else(|| stop.map(|stop| stop.text().to_owned()));
        (ended.exit.code(), ended.exit.signal(), error)
    }

    /// How long it took, if it ended by itself.
    fn duration(&self) -> Option<Duration> {
        match &self.end {
            Some((ended, None, _)) if matches!(ended.exit, Exit::Code(_)) => {
                Some(ended.started_at.until(ended.ended_at))
            }
            _ => None,
        }
    }
}

/// A record came for a run that does not live.
pub(super) fn not_alive(run: RunId) -> Fault {
    Fault::Contradiction(format!("a record belongs to run {run}, which is not alive"))
}

/// The story of a live run.
pub(super) fn read(conn: &Connection, run: RunId) -> Step<RunStory> {
    RunStory::fold(run, run_records(conn, run)?)
}

/// Writes the history rows of a run that ended. Returns the bytes of output that are kept.
pub(super) fn write(
    conn: &Connection,
    story: &RunStory,
    end: (RunState, Wall),
    graph: &Graph,
    tasks: Vec<(Name, TaskState, Option<String>)>,
) -> Step<u64> {
    write_run(conn, story, end)?;
    write_files(conn, story)?;
    write_tasks(conn, story.created.run, tasks)?;
    write_attempts(conn, story, graph, end.1)
}

fn write_run(conn: &Connection, story: &RunStory, (state, at): (RunState, Wall)) -> Step<()> {
    let created = &story.created;
    let kept = (!created.keep.is_empty()).then(|| json(&created.keep)).transpose()?;
    conn.prepare_cached(
        "INSERT INTO runs(id, trigger, reason, state, selector, rev, parent, signal, kept, \
         created_at, started_at, ended_at, created_ns, ended_ns, scheduled_ns) \
         VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)",
    )?
    .execute(params![
        int(created.run.0),
        created.trigger,
        created.reason.word(),
        state.word(),
        created.select.text(),
        created.rev.0,
        created.parent.map(|run| int(run.0)),
        created.signal.as_ref().map(json).transpose()?,
        kept,
        time(created.at),
        story.started_at().map(time),
        time(at),
        created.at.0,
        at.0,
        created.scheduled.map(|at| at.0)
    ])?;
    Ok(())
}

fn write_files(conn: &Connection, story: &RunStory) -> Step<()> {
    let mut insert = conn.prepare_cached(
        "INSERT INTO run_files(run, ix, path, rel, kind, size, mtime_ns, file, first_seen_ns, \
         in_place, outcome, moved_to, move_error) \
         VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
    )?;
    for (ix, file) in (0u32..).zip(&story.created.files) {
        let [before, after] =
            [Phase::Before, Phase::After].map(|phase| story.moves.get(&(ix, phase)));
        let last = after.or(before);
        let moved_to = moved_to(after).or(moved_to(before)).filter(|_| !is_away(last));
        let move_error = last.and_then(MoveResult::text);
        insert.execute(params![
            int(story.created.run.0),
            ix,
            PathCell(file.path.as_bytes()),
            PathCell(file.rel.as_bytes()),
            file.kind.word(),
            int(file.version.size),
            file.version.mtime_ns,
            file.version.file.as_bytes(),
            file.first_seen_at.0,
            file.in_place,
            last.map(MoveResult::word),
            moved_to.map(|path| PathCell(path.as_bytes())),
            move_error
        ])?;
    }
    Ok(())
}

/// Where it was taken.
fn moved_to(result: Option<&MoveResult>) -> Option<&Bytes> {
    match result {
        Some(MoveResult::Moved { to, .. }) => Some(to),
        _ => None,
    }
}

/// Whether it is nowhere any more.
fn is_away(result: Option<&MoveResult>) -> bool {
    matches!(result, Some(MoveResult::Deleted | MoveResult::Gone))
}

fn write_tasks(
    conn: &Connection,
    run: RunId,
    tasks: Vec<(Name, TaskState, Option<String>)>,
) -> Step<()> {
    let mut insert =
        conn.prepare_cached("INSERT INTO tasks(run, name, state, cause) VALUES(?1, ?2, ?3, ?4)")?;
    for (name, state, cause) in tasks {
        let cause = cause.or_else(|| match state {
            TaskState::Skipped(cause) => Some(cause.word().to_owned()),
            _ => None,
        });
        insert.execute(params![int(run.0), name, state.word(), cause])?;
    }
    Ok(())
}

/// Returns the bytes of output that are kept.
fn write_attempts(conn: &Connection, story: &RunStory, graph: &Graph, at: Wall) -> Step<u64> {
    let run = story.created.run;
    let mut kept = 0;
    let mut insert = conn.prepare_cached(
        "INSERT INTO attempts(run, task, attempt, exit_code, signal, error, leftovers, \
         started_at, ended_at, log, log_bytes, log_kept, outputs, memory_peak, cpu_us) \
         VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)",
    )?;
    for (&(node, attempt), told) in &story.attempts {
        if node.at() >= graph.len() {
            return Err(Fault::Contradiction(format!(
                "run {run}: graph {} has no task number {}",
                graph.rev(),
                node.0
            )));
        }
        let spec = graph.task(node);
        let task = &spec.name;
        let ended = told.end.as_ref().map(|(ended, ..)| ended);
        let (exit_code, signal, error) = told.exit();
        let log_bytes = ended.map_or(0, |ended| ended.log_bytes);
        kept += log_bytes.min(spec.log_max);
        let outputs = ended.filter(|ended| !ended.outputs.is_empty());
        let usage = ended.map_or_else(Default::default, |ended| ended.usage);
        insert.execute(params![
            int(run.0),
            task,
            attempt.0,
            exit_code,
            signal,
            error,
            ended.map_or(0, |ended| ended.leftovers),
            time(told.started_at),
            ended.map(|ended| time(ended.ended_at)),
            (log_bytes > 0).then(|| log_name(run, task, attempt)),
            int(log_bytes),
            int(log_bytes.min(spec.log_max)),
            outputs.map(|ended| json(&ended.outputs)).transpose()?,
            usage.memory_peak.map(int),
            usage.cpu_us.map(int)
        ])?;
        if let Some(took) = told.duration() {
            count(conn, task, took, at)?;
        }
    }
    Ok(kept)
}

fn count(conn: &Connection, task: &Name, took: Duration, at: Wall) -> Step<()> {
    let took = i64::try_from(took.as_nanos()).unwrap_or(i64::MAX);
    conn.prepare_cached(
        "INSERT INTO task_stats(name, n, mean_ns, at_ns) VALUES(?1, 1, ?2, ?3) \
         ON CONFLICT(name) DO UPDATE SET n = n + 1, at_ns = excluded.at_ns, \
         mean_ns = mean_ns + (excluded.mean_ns - mean_ns) / min(n + 1, ?4)",
    )?
    .execute(params![task, took, at.0, STATS_WEIGHT])?;
    Ok(())
}
