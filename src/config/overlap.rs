//! What happens to work that meets a busy key: `on_overlap` and the keys around it.
//!
//! Applies the defaults of each kind of trigger and notes what cannot go together.

use super::diagnostics::{Problem, Span};
use super::reader::Reader;
use super::trigger::{OverlapWord, RawTrigger};
use crate::core::template::Template;
use crate::core::trigger::{FanOut, Overlap};

/// What a trigger is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A folder whose every file is work.
    Drop,
    /// A tree whose changes are work.
    Watch,
    /// A signal.
    Signal,
    /// A schedule.
    Schedule,
    /// Another trigger's silence.
    Absent,
}

impl Role {
    /// The key that makes a trigger one.
    pub fn word(self) -> &'static str {
        match self {
            Self::Drop => "drop",
            Self::Watch => "watch",
            Self::Signal => "signal",
            Self::Schedule => "schedule",
            Self::Absent => "absent",
        }
    }
}

/// What the defaults depend on.
#[derive(Clone, Copy, Debug)]
pub struct Kinship {
    /// What the trigger is for.
    pub role: Role,
    /// For a folder: how files become runs.
    pub fan_out: Option<FanOut>,
    /// For a signal: whether it queues.
    pub real_time: bool,
}

/// The policy and `max_runs`.
pub fn decide(
    reader: &mut Reader<'_>,
    kind: Kinship,
    name: Span,
    raw: &RawTrigger<'_>,
    defaults: &RawTrigger<'_>,
) -> (Option<Overlap>, Option<usize>) {
    let Kinship { role, fan_out, real_time } = kind;
    let default = match (role, fan_out) {
        (Role::Drop, _) | (Role::Watch, Some(FanOut::File)) => OverlapWord::Queue,
        (Role::Signal, _) if real_time => OverlapWord::Queue,
        (Role::Watch | Role::Signal | Role::Schedule | Role::Absent, _) => OverlapWord::Coalesce,
    };
    let written = raw.on_overlap.as_ref().or(defaults.on_overlap.as_ref());
    let word = written.map_or(default, |written| written.value);
    if let Some(at) = written
        && let Some((what, help)) = fault(at.value, kind, raw, defaults)
    {
        let mut problem = Problem::at(at.span, what).help(help);
        if raw.on_overlap.is_none() {
            problem = problem.also(name, "it is the default of this trigger");
        }
        reader.note(problem);
    }
    let told = raw.overlap_signal.as_ref().or(defaults.overlap_signal.as_ref());
    if let Some(told) = raw.overlap_signal.as_ref().filter(|_| word != OverlapWord::Signal) {
        let what = "`overlap_signal` does nothing without on_overlap = \"signal\"";
        reader.note(Problem::at(told.span, what).help("remove it, or set `on_overlap`"));
    }
    if let Some(limit) = raw.max_runs.as_ref().filter(|_| word == OverlapWord::Parallel) {
        let what = "`max_runs` does nothing with on_overlap = \"parallel\"";
        let help = "on_overlap = \"queue\" runs up to `max_runs` side by side";
        reader.note(Problem::at(limit.span, what).help(help));
    }
    let max_runs = match (role, word) {
        (_, OverlapWord::Parallel) => None,
        (Role::Drop, _) => raw.max_runs.as_ref().or(defaults.max_runs.as_ref()).map(|at| at.value),
        (Role::Watch | Role::Signal | Role::Schedule | Role::Absent, _) => {
            let limit = raw.max_runs.as_ref().or(defaults.max_runs.as_ref());
            Some(limit.map_or(1, |at| at.value))
        }
    };
    let overlap = match word {
        OverlapWord::Queue => Some(Overlap::Queue),
        OverlapWord::Coalesce => Some(Overlap::Coalesce),
        OverlapWord::Parallel => Some(Overlap::Parallel),
        OverlapWord::Restart => Some(Overlap::Restart),
        OverlapWord::Skip => Some(Overlap::Skip),
        OverlapWord::Signal => told.map(|told| Overlap::Signal(told.value)),
    };
    (overlap, max_runs)
}

/// What `on_overlap` cannot be for this trigger.
fn fault(
    word: OverlapWord,
    kind: Kinship,
    raw: &RawTrigger<'_>,
    defaults: &RawTrigger<'_>,
) -> Option<(&'static str, &'static str)> {
    let Kinship { role, fan_out, .. } = kind;
    let ordered = raw.key("order_key").or(defaults.key("order_key"));
    Some(match word {
        OverlapWord::Coalesce if fan_out == Some(FanOut::File) => (
            "`coalesce` cannot be with one run per file: there is nothing to merge",
            "write fan_out = \"batch\", or on_overlap = \"queue\"",
        ),
        OverlapWord::Restart if role == Role::Drop && fan_out != Some(FanOut::File) => (
            "`restart` on a drop folder cannot be with runs of several files: those of the cancelled \
             run are work, too",
            "write on_overlap = \"coalesce\" or \"queue\", or one run per file with an `order_key`",
        ),
        OverlapWord::Restart if role == Role::Drop && ordered.is_none() => (
            "`restart` on a drop folder needs an `order_key`: it tells which file replaces which",
            "add for example order_key = \"{rel}\"",
        ),
        OverlapWord::Skip
            if role == Role::Drop && raw.allow_loss.or(defaults.allow_loss) != Some(true) =>
        {
            (
                "`skip` on a drop folder loses files",
                "write allow_loss = true beside it if that is what you want, or on_overlap = \"queue\"",
            )
        }
        OverlapWord::Signal
            if raw.key("overlap_signal").or(defaults.key("overlap_signal")).is_none() =>
        {
            (
                "on_overlap = \"signal\" needs an `overlap_signal`",
                "say which one running tasks are sent, as in overlap_signal = \"SIGUSR1\"",
            )
        }
        _ => return None,
    })
}

/// The key that deliveries are kept in order by, where it means something.
pub fn order_key(
    reader: &mut Reader<'_>,
    kind: Kinship,
    raw: &RawTrigger<'_>,
    defaults: &RawTrigger<'_>,
) -> Option<Template> {
    if kind.role != Role::Drop {
        return None;
    }
    let key = raw.order_key.as_ref().or(defaults.order_key.as_ref())?;
    let why = match raw.on_overlap.as_ref().or(defaults.on_overlap.as_ref()).map(|at| at.value) {
        _ if kind.fan_out == Some(FanOut::Dir) => "runs of a folder wait for each other anyway",
        _ if kind.fan_out == Some(FanOut::Key) => "runs of a `set_key` wait for each other anyway",
        _ if kind.fan_out != Some(FanOut::File) => "a run of several files holds many keys",
        Some(OverlapWord::Parallel) => "with on_overlap = \"parallel\" nothing waits",
        _ => return Some(key.value.clone()),
    };
    if raw.order_key.is_some() {
        let what = format!("`order_key` does nothing here: {why}");
        let help = "use it with one run per file, and on_overlap = \"queue\"";
        reader.note(Problem::at(key.span, what).help(help));
    }
    None
}
