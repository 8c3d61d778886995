//! Counters since the start: what was committed, by kind and by reason.
//!
//! Counts records; keeps nothing durable.

use std::collections::BTreeMap;

use crate::core::disposition::MoveResult;
use crate::core::ledger::Noted;
use crate::core::record::{Record, RunState};

/// Counters by name. The names are a fixed few: see [`Counters::count`].
#[derive(Debug, Default)]
pub struct Counters(BTreeMap<&'static str, u64>);

impl Counters {
    /// All of them that have counted.
    pub fn all(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.0.iter().map(|(name, count)| (*name, *count))
    }

    /// Counts what was committed.
    pub fn count(&mut self, records: &[Record]) {
        for record in records {
            if let Record::RunCreated(created) = record {
                self.add("files_delivered", created.files.len() as u64);
            }
            let [kind, reason] = names(record);
            for name in [kind, reason].into_iter().flatten() {
                self.add(name, 1);
            }
        }
    }

    fn add(&mut self, name: &'static str, many: u64) {
        *self.0.entry(name).or_default() += many;
    }
}

/// The kind of a record and its reason, as far as they are counted.
fn names(record: &Record) -> [Option<&'static str>; 2] {
    let (kind, reason) = match record {
        Record::ItemQueued(_) => ("events_accepted", None),
        Record::ItemDropped { .. } => ("events_dropped", None),
        Record::RunCreated(_) => ("runs_created", None),
        Record::AttemptStarted { .. } => ("attempts_started", None),
        Record::AttemptEnded { .. } => ("attempts_ended", None),
        Record::CancelRequested { .. } => ("cancels_requested", None),
        Record::MovePlanned { .. } => ("moves_planned", None),
        Record::MoveDone { result, .. } => ("moves_done", moved(result)),
        Record::RunEnded { state, .. } => ("runs_ended", ended(*state)),
        Record::FileNoted { why, .. } => ("files_noted", Some(noted(*why))),
        Record::FileStamped { .. } => ("files_stamped", None),
        Record::FileDeparted { .. } => ("files_departed", None),
        Record::TriggerPaused { .. }
        | Record::TriggerResumed { .. }
        | Record::TriggerArmed { .. }
        | Record::TriggerLeft { .. }
        | Record::TriggerBack { .. }
        | Record::TriggerRenamed { .. }
        | Record::TriggerBound { .. }
        | Record::TriggerDrained { .. }
        | Record::TimeMarked { .. }
        | Record::TriggerForgotten { .. }
        | Record::FilesPlaced { .. } => return [None, None],
    };
    [Some(kind), reason]
}

fn moved(result: &MoveResult) -> Option<&'static str> {
    match result {
        MoveResult::Superseded => Some("moves_superseded"),
        MoveResult::Gone => Some("moves_gone"),
        MoveResult::Failed(_) => Some("moves_failed"),
        _ => None,
    }
}

fn ended(state: RunState) -> Option<&'static str> {
    match state {
        RunState::Succeeded => Some("runs_succeeded"),
        RunState::Failed => Some("runs_failed"),
        RunState::Cancelled => Some("runs_cancelled"),
        RunState::Queued | RunState::Running => None,
    }
}

fn noted(why: Noted) -> &'static str {
    match why {
        Noted::Baseline => "files_noted_baseline",
        Noted::Kinds => "files_noted_kinds",
        Noted::Skipped => "files_noted_skipped",
        Noted::Signalled => "files_noted_signalled",
        Noted::Duplicate(_) => "files_noted_duplicate",
    }
}
