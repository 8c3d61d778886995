//! Looking, with or without a daemon: the same answers from the socket or from the state folder.

use std::io;
use std::path::Path;

use super::Context;
use super::exit::Failure;
use crate::core::id::RunId;
use crate::core::path::Bytes;
use crate::io::client::{Client, Listing};
use crate::io::control::{History, RUNS_MAX, RunFilter, View, explain};
use crate::io::log_file::Stretch;
use crate::io::{config_files, disk};
use crate::wire;

/// Where answers come from.
pub enum Look {
    /// From the daemon.
    Live(Client),
    /// From what it has left behind.
    Stored(Box<dyn History + Send>),
}

impl Look {
    /// Asks the daemon if one answers, else reads the state folder.
    pub fn new(context: &Context) -> Result<Self, Failure> {
        let unreachable = match context.finder.answering() {
            Ok(client) => return Ok(Self::Live(client)),
            Err(failure) => failure,
        };
        if context.finder.socket.is_some() {
            return Err(unreachable);
        }
        let state_dir = context.finder.state_dir();
        (context.history)(&state_dir).map(Self::Stored).map_err(|error| Failure {
            exit: unreachable.exit,
            text: format!("{unreachable}, and there is no history to read: {error}"),
        })
    }

    /// Runs, newest first.
    pub fn runs(&mut self, listing: &Listing) -> Result<Vec<wire::Run>, Failure> {
        match self {
            Self::Live(client) => Ok(client.runs(listing)?),
            Self::Stored(history) => {
                let filter = RunFilter {
                    limit: listing.limit.unwrap_or(RUNS_MAX).min(RUNS_MAX),
                    trigger: listing.trigger.clone(),
                    state: listing.state.clone(),
                };
                history.runs(&filter).map_err(Failure::failed)
            }
        }
    }

    /// One run.
    pub fn run(&mut self, id: u64) -> Result<wire::RunDetail, Failure> {
        match self {
            Self::Live(client) => Ok(client.run(id)?),
            Self::Stored(history) => {
                let found = history.run(RunId(id)).map_err(Failure::failed)?;
                found.ok_or_else(|| Failure::missing(format!("there is no run {id}")))
            }
        }
    }

    /// Why a path did or did not run. Without a daemon it needs a valid configuration.
    pub fn explain(&mut self, path: &Bytes, context: &Context) -> Result<wire::Explain, Failure> {
        match self {
            Self::Live(client) => Ok(client.explain(path)?),
            Self::Stored(history) => {
                let loaded = config_files::load(&context.finder.config()?)?;
                let triggers: Vec<_> = loaded.resolved.model.triggers.values().cloned().collect();
                let view = View { triggers: &triggers, pending: &[], look: &disk::work_at };
                explain(path, &view, &mut **history).map_err(Failure::failed)
            }
        }
    }

    /// An attempt's output. Without a daemon nothing grows, so that there is nothing to follow.
    pub fn log(
        &mut self,
        (run, task): (u64, &str),
        row: &wire::AttemptRow,
        follow: bool,
        sink: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<(), Failure> {
        match (self, &row.log) {
            (Self::Live(client), _) => {
                Ok(client.log((run, task), Some(row.attempt), follow, sink)?)
            }
            (Self::Stored(_), None) => Ok(()),
            (Self::Stored(_), Some(log)) => copy(Path::new(log), sink),
        }
    }
}

fn copy(log: &Path, sink: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> Result<(), Failure> {
    let told = |error: io::Error| Failure::missing(format!("{}: {error}", log.display()));
    let file = std::fs::File::open(log).map_err(told)?;
    let mut position = 0;
    loop {
        let stretch = Stretch::read(&file, position).map_err(told)?;
        if stretch.bytes.is_empty() {
            return Ok(());
        }
        if let Some(note) = stretch.note(position) {
            sink(note.as_bytes())?;
        }
        sink(&stretch.bytes)?;
        position = stretch.end();
    }
}
