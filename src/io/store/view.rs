//! Live runs as a listing shows them, and the hook for telling how their tasks stand: that follows
//! from the records by the core's fold, which callers pass to the reader as a [`LiveView`].

use super::load::Loaded;
use crate::core::record::{RunCreated, RunState};
use crate::wire::{self, PathText, time};

/// Turns what lives into runs with their tasks.
pub type LiveView = fn(&Loaded) -> Vec<wire::RunDetail>;

/// A live run in a listing.
pub(super) fn live_run(created: &RunCreated, started_at: Option<String>) -> wire::Run {
    let state = if started_at.is_some() { RunState::Running } else { RunState::Queued };
    let files = created.files.iter().map(|file| wire::RunFile {
        path: PathText::from(&file.path),
        rel: file.rel.lossy().into_owned(),
        kind: file.kind.word().to_owned(),
        size: file.version.size,
        moved_to: None,
        move_error: None,
        outcome: None,
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
