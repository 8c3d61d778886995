//! What a trigger leaves behind when it leaves the configuration: how the events that it has accepted
//! are run all the same.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::disposition::Disposition;
use super::fill::expand;
use super::filter::KeyPattern;
use super::id::Rev;
use super::path::Bytes;
use super::record::ItemQueued;
use super::selector::Selector;
use super::template::Template;
use super::trigger::{FanOut, FolderSpec, Group, RateLimit};

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
    /// Under which key a run is busy, where its files do not tell.
    #[serde(default)]
    pub order_key: Option<Template>,
    /// What the files of a run have in common.
    #[serde(default)]
    pub grouping: Option<Grouping>,
}

/// What the files of a run have in common, where that is what runs are for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Grouping {
    /// The folder that they lie in.
    Dir,
    /// The key that this expression finds.
    Key(String),
}

impl Grouping {
    /// That of a folder trigger.
    pub fn of(folder: &FolderSpec) -> Option<Self> {
        match folder.fan_out {
            FanOut::File | FanOut::Batch => None,
            FanOut::Dir => Some(Self::Dir),
            FanOut::Key => Some(Self::Key(folder.set_key.as_ref()?.text().to_owned())),
        }
    }

    fn group(&self, rel: &Bytes) -> Option<Group> {
        match self {
            Self::Dir => Some(Group::Dir(rel.dir().into())),
            Self::Key(text) => KeyPattern::new(text).ok()?.key(rel).map(Group::Key),
        }
    }
}

impl Bound {
    /// Whether its runs may have different keys.
    pub fn has_keys(&self) -> bool {
        self.order_key.is_some() || self.grouping.is_some()
    }

    /// What the files of an event's run have in common.
    pub fn group_of(&self, item: &ItemQueued) -> Option<Group> {
        self.grouping.as_ref()?.group(&item.files.first()?.rel)
    }

    /// The key under which an event's run is busy.
    pub fn key_of(&self, item: &ItemQueued) -> Bytes {
        let by_group = self.group_of(item).map(|group| group.key().clone());
        let (file, signal) = (item.files.first().map(|file| &file.rel), item.signal.as_ref());
        let name = item.trigger.as_deref().unwrap_or_default();
        let ordered = || expand(self.order_key.as_ref()?, name, self.root.as_ref(), file, signal);
        by_group.or_else(ordered).unwrap_or_else(|| Bytes::from(name))
    }
}
