//! Floor 3: assembly. Builds the adapters, boots, runs the engine, shuts down.
//!
//! Owns the order in which things come up and go down; decides nothing about events.

pub mod act;
pub mod alarms;
pub mod asks;
pub mod boot;
pub mod clock;
pub mod counters;
pub mod engine;
pub mod history;
pub mod lanes;
pub mod once;
mod past;
pub mod reload;
pub mod reloader;
pub mod settling;
pub mod stall;
pub mod tell;
pub mod view;
pub mod waiting;

use std::os::unix::net::UnixListener;
use std::path::PathBuf;

use crate::config::Diagnostics;
use crate::io::store::StoreError;
use crate::io::{control, handover, signals};

pub use self::history::history;
pub use self::once::{OnceArgs, OnceWhat, Progress, once};

/// Called once, when events are being watched.
pub type Ready = Box<dyn FnOnce() + Send>;

/// Opens the daemon's own log anew, where that is a file that may have been renamed.
pub type Reopen = Box<dyn Fn() -> std::io::Result<()> + Send>;

/// How to run the daemon.
#[derive(Default)]
pub struct DaemonArgs {
    /// The configuration file.
    pub config: PathBuf,
    /// The control socket; `None`: `dagd.sock` in `runtime_dir`.
    pub socket: Option<PathBuf>,
    /// Called once events are being watched.
    pub ready: Option<Ready>,
    /// Called at the beginning of each reload.
    pub reopen: Option<Reopen>,
}

/// Why the daemon could not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// The configuration is not valid.
    #[error("{0}")]
    Config(Diagnostics),
    /// The configuration is valid, but asks for what this machine does not let dagd do.
    #[error("{0}")]
    CannotHold(String),
    /// The store cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The stored state is not one that this program could have written.
    #[error("the state in {dir} cannot be recovered: {why}")]
    Recovery {
        /// The state folder.
        dir: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// A part of the system failed.
    #[error("failed to {what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// Why it failed.
        source: std::io::Error,
    },
    /// A selection or trigger that does not exist.
    #[error("{0}")]
    NotFound(String),
    /// Something that cannot be done.
    #[error("{0}")]
    Refused(String),
    /// The store failed for good while the daemon ran.
    #[error("stopped while the store was stalled: {0}")]
    Stalled(String),
}

impl DaemonError {
    /// Whether the configuration is to blame.
    pub fn is_configuration(&self) -> bool {
        matches!(self, Self::Config(_) | Self::CannotHold(_))
    }

    /// Whether something that was named is not there.
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::NotFound(_))
    }
}

impl From<Diagnostics> for DaemonError {
    fn from(diagnostics: Diagnostics) -> Self {
        Self::Config(diagnostics)
    }
}

/// Names what was tried, for an error of the system.
fn trying(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> DaemonError {
    let what = what.into();
    move |source| DaemonError::Io { what, source }
}

/// Tells those who wait at a socket that was handed over that nobody will come. For other reasons than
/// the configuration dagd is started again soon, and they may wait.
fn refuse(waiting: Option<&UnixListener>, error: &DaemonError) {
    if let Some(listener) = waiting
        && error.is_configuration()
        && let Err(error) = control::refuse(
            listener,
            "dagd does not start because its configuration is not valid; `dagd check` tells why",
        )
    {
        tracing::warn!(%error, "who waits at the control socket could not be told");
    }
}

/// Runs the daemon in the foreground until it is asked to stop.
pub fn run(args: DaemonArgs) -> Result<(), DaemonError> {
    // Before any thread: all inherit it.
    signals::block_realtime().map_err(trying("block the real-time signals"))?;
    handover::keep_capabilities().map_err(trying("keep capabilities from tasks"))?;
    let handed = handover::control_socket().map_err(trying("take the control socket"))?;
    let waiting = handed.as_ref().map(UnixListener::try_clone).transpose();
    let waiting = waiting.map_err(trying("take the control socket"))?;
    let booted = boot::boot(args, handed).inspect_err(|error| refuse(waiting.as_ref(), error));
    drop(waiting);
    let (mut booted, recovered) = booted?;
    let ended = booted.engine.run(recovered);
    booted.shut_down();
    ended
}
