//! What the daemon's own log tells of runs, tasks and triggers: of what is committed, and nothing
//! else.
//!
//! Each line names the run, the task, the attempt and the trigger that it is about, as far as there
//! is one: who looks for one of them finds all lines about it.

use tracing::{debug, info, warn};

use super::view;
use crate::core::id::{AttemptId, Name, RunId};
use crate::core::machine::Machine;
use crate::core::record::{Record, RunState};
use crate::core::run::Run;
use crate::core::task::{Ended, StopCause, TaskState, Verdict};

/// Logs what was committed. Called before ended runs are forgotten.
pub(super) fn committed(machine: &Machine, records: &[Record]) {
    for record in records {
        match record {
            Record::RunCreated(created) => {
                let trigger = created.trigger_told().map(Name::as_ref);
                let files = created.files.len();
                debug!(run = created.run.0, trigger, files, "run created");
            }
            &Record::AttemptStarted { run, node, attempt, .. } => {
                let id = AttemptId { run, node, attempt };
                let (trigger, task) = names(machine, id);
                debug!(run = run.0, task, attempt = attempt.0, trigger, "task started");
            }
            Record::AttemptEnded { run, node, attempt, ended, stop, verdict } => {
                let id = AttemptId { run: *run, node: *node, attempt: *attempt };
                attempt_ended(machine, id, ended, (*stop, *verdict));
            }
            Record::CancelRequested { run, node, reason, .. } => {
                let graph = machine.run(*run).map(Run::graph);
                let task = node.zip(graph).map(|(node, graph)| &*graph.task(node).name);
                let trigger = trigger(machine, *run);
                info!(run = run.0, task, trigger, reason, "cancelled");
            }
            Record::RunEnded { run, state, .. } => {
                let (run, trigger) = (run.0, trigger(machine, *run));
                if *state == RunState::Failed {
                    warn!(run, trigger, "run failed");
                } else {
                    info!(run, trigger, state = state.word(), "run ended");
                }
            }
            Record::ItemDropped { trigger, reason, .. } => {
                let trigger = trigger.as_deref();
                info!(trigger, reason, "an event was dropped");
            }
            Record::TriggerPaused { trigger, reason, .. } => {
                info!(trigger = &**trigger, reason, "trigger paused");
            }
            Record::TriggerResumed { trigger, .. } => {
                info!(trigger = &**trigger, "trigger resumed");
            }
            _ => {}
        }
    }
}

/// What was to be expected is of interest to few.
fn attempt_ended(
    machine: &Machine,
    id: AttemptId,
    ended: &Ended,
    (stop, verdict): (Option<StopCause>, Verdict),
) {
    let (trigger, task) = names(machine, id);
    let (run, attempt) = (id.run.0, id.attempt.0);
    let (state, detail) = view::attempt_end(ended, verdict);
    let why = stop.map(|stop| stop.text().to_owned()).or(detail);
    match verdict {
        Verdict::Final(state) if state.is_failure() => {
            let state = state.word();
            warn!(run, task, attempt, trigger, state, why, "task failed");
        }
        Verdict::Final(TaskState::Cancelled) | Verdict::Retry(_) | Verdict::Requeue => {
            info!(run, task, attempt, trigger, state, why, "task did not succeed");
        }
        Verdict::Final(_) => debug!(run, task, attempt, trigger, state, why, "task ended"),
    }
}

/// The trigger and the task of an attempt, for people.
fn names(machine: &Machine, id: AttemptId) -> (Option<&str>, Option<&str>) {
    let task = machine.run(id.run).map(|run| &*run.graph().task(id.node).name);
    (trigger(machine, id.run), task)
}

fn trigger(machine: &Machine, run: RunId) -> Option<&str> {
    machine.run(run)?.info().trigger_told().map(Name::as_ref)
}
