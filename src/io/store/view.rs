//! Live runs as the outside sees them, derived from their records.
//!
//! The real view is the core's fold, which callers pass to the reader as a [`LiveView`].
//! [`plain_view`] is the simple one that needs no machine: it tells what the records say, not what
//! follows from them.

use std::collections::BTreeMap;

use super::files::log_name;
use super::history::{AttemptStory, RunStory, moved};
use super::load::Loaded;
use crate::core::graph::{Graph, StoredGraph};
use crate::core::id::{Attempt, NodeIx, Rev, RunId};
use crate::core::record::{Aggregate, Record, RunCreated, RunState};
use crate::core::task::{TaskState, Verdict};
use crate::wire::{self, PathText, time};

/// Turns what lives into runs with their tasks.
pub type LiveView = fn(&Loaded) -> Vec<wire::RunDetail>;

/// The runs that live, by number. A task is running if an attempt is, has the state that its last
/// attempt gave it, and waits otherwise.
pub fn plain_view(loaded: &Loaded) -> Vec<wire::RunDetail> {
    let mut runs: BTreeMap<RunId, Vec<Record>> = BTreeMap::new();
    for record in &loaded.records {
        if let Aggregate::Run(run) = record.aggregate() {
            runs.entry(run).or_default().push(record.clone());
        }
    }
    let graphs: BTreeMap<&Rev, Graph> = loaded
        .graphs
        .iter()
        .filter_map(|(rev, StoredGraph { tasks })| Some((rev, Graph::build(tasks.clone()).ok()?)))
        .collect();
    runs.into_iter()
        .filter_map(|(run, records)| {
            let story = RunStory::fold(run, records).ok()?;
            Some(detail(&story, graphs.get(&story.created.rev)))
        })
        .collect()
}

fn detail(story: &RunStory, graph: Option<&Graph>) -> wire::RunDetail {
    let created = &story.created;
    let tasks = graph.map_or_else(Vec::new, |graph| {
        let plan = graph.plan(&created.select);
        plan.nodes().iter().map(|node| task(story, graph, node.ix)).collect()
    });
    wire::RunDetail {
        run: live_run(created, story.started_at().map(time), |ix| moved(story.moves.get(&ix))),
        select: created.select.text().to_owned(),
        parent: created.parent.map(|run| run.0),
        signal: created.signal.as_ref().map(|info| wire::Signal {
            signal: info.signal.to_string(),
            value: info.value,
            sender_pid: info.pid,
            sender_uid: info.uid,
        }),
        tasks,
    }
}

/// A live run in a listing.
pub(super) fn live_run<'a>(
    created: &RunCreated,
    started_at: Option<String>,
    moved: impl Fn(u32) -> (Option<&'a crate::core::path::Bytes>, Option<String>),
) -> wire::Run {
    let state = if started_at.is_some() { RunState::Running } else { RunState::Queued };
    let files = (0u32..).zip(&created.files).map(|(ix, file)| {
        let (moved_to, move_error) = moved(ix);
        wire::RunFile {
            path: PathText::from(&file.path),
            rel: file.rel.lossy().into_owned(),
            kind: file.kind.word().to_owned(),
            size: file.version.size,
            moved_to: moved_to.map(PathText::from),
            move_error,
        }
    });
    wire::Run {
        id: created.run.0,
        trigger: created.trigger.as_ref().map(ToString::to_string),
        reason: created.reason.word().to_owned(),
        state: state.word().to_owned(),
        files: files.collect(),
        rev: created.rev.to_string(),
        created_at: time(created.at),
        started_at,
        ended_at: None,
    }
}

fn task(story: &RunStory, graph: &Graph, ix: NodeIx) -> wire::Task {
    let name = &graph.task(ix).name;
    let tries = story.attempts.range((ix, Attempt(0))..=(ix, Attempt(u32::MAX)));
    let state = match tries.clone().next_back() {
        None if story.created.keep.iter().any(|(kept, _)| kept == name) => TaskState::Succeeded,
        None => TaskState::Waiting,
        Some((_, AttemptStory { end: None, .. })) => TaskState::Running,
        Some((_, AttemptStory { end: Some((_, _, verdict)), .. })) => match verdict {
            Verdict::Final(state) => *state,
            Verdict::Retry(_) => TaskState::Retrying,
            Verdict::Requeue => TaskState::Ready,
        },
    };
    let cause = match state {
        TaskState::Skipped(cause) => Some(cause.word().to_owned()),
        _ => None,
    };
    let attempts =
        tries.map(|(&(_, number), told)| attempt(story.created.run, name, number, told)).collect();
    wire::Task { name: name.to_string(), state: state.word().to_owned(), cause, attempts }
}

fn attempt(run: RunId, task: &str, number: Attempt, told: &AttemptStory) -> wire::AttemptRow {
    let (exit_code, signal, error) = told.exit();
    let ended = told.end.as_ref().map(|(ended, ..)| ended);
    wire::AttemptRow {
        attempt: number.0,
        exit_code,
        signal,
        error,
        leftovers: ended.map_or(0, |ended| ended.leftovers),
        started_at: Some(time(told.started_at)),
        ended_at: ended.map(|ended| time(ended.ended_at)),
        log: ended.filter(|ended| ended.log_bytes > 0).map(|_| log_name(run, task, number)),
    }
}
