//! What the ledger knows of files beside which run had them: why a version is no work, and on which
//! file systems a trigger's files lie. The ledger itself is the store's.

use serde::{Deserialize, Serialize};

use super::id::RunId;
use super::path::Bytes;

/// Why a version is remembered without a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Noted {
    /// It was there before the trigger.
    Baseline,
    /// The trigger's `kinds` leave it out.
    Kinds,
    /// The trigger was busy, and `on_overlap` is `skip`.
    Skipped,
    /// The trigger was busy, and `on_overlap` is `signal`: the running tasks were told.
    Signalled,
    /// A file with the same key was delivered to this run.
    Duplicate(RunId),
}

impl Noted {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Baseline => "baseline",
            Self::Kinds => "kinds",
            Self::Skipped => "skipped",
            Self::Signalled => "signalled",
            Self::Duplicate(_) => "duplicate",
        }
    }
}

/// A file system on which files of a trigger lie.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placed {
    /// The directory from which on it holds files, relative to the root; empty for the root.
    pub dir: Bytes,
    /// Which file system: the same words when it is mounted again, others for another one.
    pub what: String,
}
