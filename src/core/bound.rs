//! What a trigger leaves behind when it leaves the configuration: how the events that it has accepted
//! are run all the same.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::disposition::Disposition;
use super::id::Rev;
use super::path::Bytes;
use super::selector::Selector;
use super::trigger::RateLimit;

/// What becomes of a trigger's accepted events that wait for a run when the configuration no longer
/// has the trigger.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnRemoval {
    /// They are run, one after the other.
    #[default]
    Drain,
    /// They are dropped, with a record.
    Drop,
}

/// What of its configuration a trigger's accepted events need when it has left that.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bound {
    /// The revision of the trigger.
    pub spec: Arc<str>,
    /// The graph that they were accepted for.
    pub rev: Rev,
    /// What they run.
    pub select: Selector,
    /// Whether they are run at all.
    pub on_removal: OnRemoval,
    /// Whether those that nobody asked for become one run.
    pub merge: bool,
    /// How many runs may start in a time.
    pub rate_limit: Option<RateLimit>,
    /// Whether a run that gave way to a newer one comes back.
    pub drop: bool,
    /// The folder.
    pub root: Option<Bytes>,
    /// What becomes of files.
    pub disposition: Disposition,
}
