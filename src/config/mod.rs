//! Floor 1: from configuration texts to a validated model.
//!
//! Pure: text and facts about the machine in, model or diagnostics out. Reading files is the
//! business of [`crate::io::config_files`]. Reading order: [`syntax`] → [`resolve`](mod@resolve) →
//! [`reader`] → [`task`], [`trigger`] (as written) → [`tasks`], [`triggers`] (as meant) →
//! [`edges`], [`reach`], [`moves`] (to each other) → [`diff`](mod@diff).

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::core::confine::Containment;
use crate::core::model::Model;

pub mod confine;
pub mod diagnostics;
pub mod diff;
pub mod edges;
pub mod feedback;
pub mod folder;
pub mod keys;
pub mod moves;
pub mod overlap;
pub mod reach;
pub mod reader;
pub mod renames;
pub mod resolve;
pub mod revision;
pub mod settings;
pub mod signals;
pub mod syntax;
pub mod task;
pub mod tasks;
pub mod templates;
pub mod times;
pub mod trigger;
pub mod triggers;
pub mod units;
pub mod values;
pub mod words;

pub use diagnostics::{Diagnostics, Problem};
pub use diff::{Change, diff};

/// A configuration file.
#[derive(Clone, Debug)]
pub struct SourceText {
    /// Its absolute path: relative paths in it begin in its folder.
    pub path: PathBuf,
    /// What it holds.
    pub text: String,
}

/// What the defaults depend on: facts about the machine and the user.
#[derive(Clone, Debug)]
pub struct Surroundings {
    /// Whether dagd runs as root.
    pub is_root: bool,
    /// Processors that it may use.
    pub cpus: usize,
    /// The state folder that the service manager has made (`$STATE_DIRECTORY`).
    pub state_directory: Option<PathBuf>,
    /// The same for the runtime folder (`$RUNTIME_DIRECTORY`).
    pub runtime_directory: Option<PathBuf>,
    /// `$XDG_STATE_HOME`.
    pub xdg_state_home: Option<PathBuf>,
    /// `$XDG_RUNTIME_DIR`.
    pub xdg_runtime_dir: Option<PathBuf>,
    /// `$HOME`.
    pub home: Option<PathBuf>,
    /// The effective user.
    pub uid: u32,
    /// Tells the number of a group, by its name or number.
    pub group: fn(&str) -> Option<u32>,
}

/// A configuration that holds.
#[derive(Debug)]
pub struct Resolved {
    /// What the core works with.
    pub model: Arc<Model>,
    /// What only the adapters need.
    pub settings: Settings,
    /// What is allowed but hardly meant, one sentence each.
    pub warnings: Vec<String>,
}

/// Settings of the daemon that the core does not know.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Where the store and the logs live.
    pub state_dir: PathBuf,
    /// Where the control socket and files of live runs live.
    pub runtime_dir: PathBuf,
    /// How much history is kept.
    pub retention: Retention,
    /// When a commit is on disk.
    pub durability: Durability,
    /// How processes of tasks are kept together, where a task does not say.
    pub containment: Containment,
    /// Whose members may control the daemon, beside root and its own user.
    pub write_group: Option<Group>,
    /// Whether a change of the configuration's files is a reload.
    pub reload_on_change: bool,
}

/// A group of users.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// As it was written.
    pub name: String,
    /// Its number.
    pub id: u32,
}

/// How much history is kept: what exceeds any of the three goes.
#[derive(Clone, Debug, PartialEq)]
pub struct Retention {
    /// Ended runs.
    pub runs: u64,
    /// Time since the end of a run.
    pub age: Duration,
    /// Bytes of all logs together.
    pub logs: u64,
}

/// When a commit is on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Soon; before whatever could not be taken back.
    Normal,
    /// Before anything else happens.
    Full,
}

/// Reads and checks a configuration: the main file first, then those of `conf.d` in their order.
/// An `Err` holds everything that is wrong with it.
pub fn resolve(sources: &[SourceText], around: &Surroundings) -> Result<Resolved, Diagnostics> {
    resolve::resolve(sources, around, Vec::new())
}

/// [`resolve()`] when some files could not be read: their problems come first, and nothing is
/// resolved.
pub fn resolve_with(
    sources: &[SourceText],
    around: &Surroundings,
    unreadable: Vec<Problem>,
) -> Result<Resolved, Diagnostics> {
    resolve::resolve(sources, around, unreadable)
}
