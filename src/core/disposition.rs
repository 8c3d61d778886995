//! What becomes of the files of a run: before its tasks start, and when they have ended.
//!
//! Owns what is fixed about it when the run is created, and how far each file has come. Knows no
//! task and no verdict, and moves nothing.

use serde::{Deserialize, Serialize};

use super::candidate::{Kind, Version};
use super::path::Bytes;
use super::record::FileClaim;
use super::sidecar::Sidecar;
use super::template::Template;
use super::trigger::{FileType, FolderSpec, OnConflict};

/// What a run does with its files, as configured when it was created.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disposition {
    /// Where they go before its first task.
    pub pre_move: Option<Template>,
    /// Where they go after a success.
    pub move_to: Option<Template>,
    /// Where they go after a failure.
    pub move_failed: Option<Template>,
    /// Whether they are removed after a success.
    pub delete: bool,
    /// What to do where a place is taken.
    pub on_conflict: OnConflict,
    /// What they are.
    pub file_type: FileType,
    /// Files beside each of them that go along.
    pub companions: Vec<Sidecar>,
}

impl Default for Disposition {
    /// Everything stays where it is.
    fn default() -> Self {
        Self {
            pre_move: None,
            move_to: None,
            move_failed: None,
            delete: false,
            on_conflict: OnConflict::Rename,
            file_type: FileType::File,
            companions: Vec::new(),
        }
    }
}

impl Disposition {
    /// As the folder's trigger is configured.
    pub fn of(folder: &FolderSpec) -> Self {
        let checksum = folder.checksum_file.as_ref().map(|(sidecar, _)| sidecar);
        let beside = folder.done_file.iter().chain(checksum);
        // One that is for all files of a folder stays with those that are still to come. That of a
        // folder lies within it.
        let own = |sidecar: &&Sidecar| {
            folder.file_type == FileType::File && !matches!(sidecar, Sidecar::Folder(_))
        };
        Self {
            pre_move: folder.pre_move.clone(),
            move_to: folder.move_to.clone(),
            move_failed: folder.move_failed.clone(),
            delete: folder.delete,
            on_conflict: folder.on_conflict,
            file_type: folder.file_type,
            companions: beside.filter(own).cloned().collect(),
        }
    }

    /// Whether the file is taken away before the first task. One that lies elsewhere was so
    /// already, or has been moved since.
    pub fn takes(&self, file: &FileClaim) -> bool {
        self.pre_move.is_some() && file.in_place && file.kind != Kind::Deleted
    }
}

/// When a file is disposed of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Before the run's first task.
    Before,
    /// After its last one.
    After,
}

/// What is to become of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Goal {
    /// It goes to this absolute path.
    To(Bytes),
    /// It is removed.
    Delete,
}

/// What came of disposing of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MoveResult {
    /// It is elsewhere now.
    Moved {
        /// Where.
        to: Bytes,
        /// As which version: a copy on another file system is another file.
        version: Version,
    },
    /// It was removed.
    Deleted,
    /// Its place was taken, so it stays.
    Kept,
    /// Another version is at the path by now; it was left alone.
    Superseded,
    /// Nothing is at the path any more.
    Gone,
    /// It could not be disposed of and stays; the text says why.
    Failed(String),
}

impl MoveResult {
    /// Whether the version that was claimed was not there any more.
    pub fn is_lost(&self) -> bool {
        matches!(self, Self::Superseded | Self::Gone)
    }

    /// The word for it.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Moved { .. } => "moved",
            Self::Deleted => "deleted",
            Self::Kept => "kept",
            Self::Superseded => "superseded",
            Self::Gone => "gone",
            Self::Failed(_) => "failed",
        }
    }

    /// Why the file is not where it was to be, in words; `None` if it is.
    pub fn text(&self) -> Option<String> {
        match self {
            Self::Moved { .. } | Self::Deleted => None,
            Self::Kept => Some("kept: its place is taken".to_owned()),
            Self::Superseded => {
                Some("superseded: another version is at the path by now".to_owned())
            }
            Self::Gone => Some("gone: nothing is at the path any more".to_owned()),
            Self::Failed(why) => Some(why.clone()),
        }
    }
}

/// What a try to dispose of a file came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Disposed {
    /// This, for good.
    Done(MoveResult),
    /// Nothing yet, for a reason that may pass.
    NotYet(String),
    /// Nothing yet: its time was set back, so that it is this version now. Whether somebody has
    /// written to it as well is for the watch side to tell.
    Stamped(Version),
}

/// How far a disposition has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// This is to become of the file.
    Planned(Goal),
    /// This came of it.
    Done(MoveResult),
}

/// A file of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunFile {
    /// Its absolute path when it was claimed.
    pub came_in: Bytes,
    /// The file, where it is and which version it is by now.
    pub claim: FileClaim,
    /// What becomes of it before the run's first task.
    pub before: Option<Fate>,
    /// What becomes of it after the last one.
    pub after: Option<Fate>,
}

impl RunFile {
    /// As it was claimed.
    pub fn new(claim: FileClaim) -> Self {
        Self { came_in: claim.path.clone(), claim, before: None, after: None }
    }

    /// Whether it went out of the run before its first task: it was another version by then, or
    /// gone.
    pub fn is_lost(&self) -> bool {
        matches!(&self.before, Some(Fate::Done(result)) if result.is_lost())
    }

    /// What came of it last, if anything did.
    pub fn outcome(&self) -> Option<&MoveResult> {
        let done = |fate: &'_ Option<Fate>| matches!(fate, Some(Fate::Done(_)));
        match [&self.after, &self.before].into_iter().find(|fate| done(fate)) {
            Some(Some(Fate::Done(result))) => Some(result),
            _ => None,
        }
    }

    /// What is planned and not done.
    pub fn planned(&self) -> Option<(Phase, &Goal)> {
        match (&self.before, &self.after) {
            (Some(Fate::Planned(goal)), _) => Some((Phase::Before, goal)),
            (_, Some(Fate::Planned(goal))) => Some((Phase::After, goal)),
            _ => None,
        }
    }

    /// This is planned. `false` if something was planned before.
    pub fn plan(&mut self, phase: Phase, goal: Goal) -> bool {
        let fate = self.fate(phase);
        let fresh = fate.is_none();
        if fresh {
            *fate = Some(Fate::Planned(goal));
        }
        fresh
    }

    /// Its time was set back while it was in its place. `false` if it is not there.
    pub fn stamp(&mut self, version: Version) -> bool {
        let same = version.is_set_back_from(&self.claim.version);
        let legal = same && self.claim.in_place && !self.is_lost();
        if legal {
            self.claim.version = version;
        }
        legal
    }

    /// That came of what was planned. `false` if nothing was.
    pub fn finish(&mut self, phase: Phase, result: MoveResult) -> bool {
        if !matches!(self.fate(phase), Some(Fate::Planned(_))) {
            return false;
        }
        if let MoveResult::Moved { to, version } = &result {
            self.claim.path = to.clone();
            self.claim.version = version.clone();
            self.claim.in_place = false;
        }
        *self.fate(phase) = Some(Fate::Done(result));
        true
    }

    fn fate(&mut self, phase: Phase) -> &mut Option<Fate> {
        match phase {
            Phase::Before => &mut self.before,
            Phase::After => &mut self.after,
        }
    }
}
