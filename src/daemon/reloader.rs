//! Loads configurations on a thread of its own, one at a time, for whoever asks.
//!
//! Owns who asked for what, and what was read last; decides nothing about what was read. Also owns
//! the watch on the configuration's files, while one is wanted.

use std::path::PathBuf;
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender};
use tokio::sync::oneshot;

use crate::config::Resolved;
use crate::io::config_files::{self, Print};
use crate::io::config_watch::{ConfigWatch, Lack, Writing, writing};
use crate::io::process::Means;
use crate::wire;

/// Who asked for a reload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// A person, by the API.
    Request,
    /// SIGHUP.
    Signal,
    /// The configuration's files, which have changed.
    Change,
}

impl Cause {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Signal => "signal",
            Self::Change => "change",
        }
    }
}

/// A load that was asked for.
#[derive(Debug)]
pub(super) struct Load {
    pub(super) cause: Cause,
    pub(super) askers: Vec<oneshot::Sender<wire::Reload>>,
}

/// Loads configurations on a thread of its own, one at a time.
#[derive(Debug)]
pub struct Reloader {
    config: PathBuf,
    /// What a new configuration can ask for here.
    means: Arc<Means>,
    out: Sender<Loading>,
    /// The load that is under way, and one that was asked for meanwhile.
    current: Option<Load>,
    next: Option<Load>,
    /// What was read last, whether it was valid or not.
    print: Print,
    watch: Option<ConfigWatch>,
    /// Why there is none although there should be.
    unstarted: Option<Lack>,
}

/// A load's outcome, on its way to the engine, or the end of an arming, on its way back.
pub enum Loading {
    /// The configuration's files may have changed, and nobody is writing them.
    Changed,
    /// They are what they were when they were read last, or are being written again.
    Same,
    /// The text was read: it is valid, or here is why not.
    Read(Print, Result<Box<Resolved>, String>),
    /// All directories are watched for which this was waiting, or others are to be since.
    Armed,
}

impl Reloader {
    /// Nothing is loaded yet but what dagd has begun with.
    pub fn new(config: PathBuf, print: Print, means: Arc<Means>, out: Sender<Loading>) -> Self {
        Self { config, means, out, current: None, next: None, print, watch: None, unstarted: None }
    }

    /// Begins a load, or has it follow the one that is being read. Returns whether it has begun.
    /// Errors: there is no thread to be had; the askers are still to be told.
    pub(super) fn begin(
        &mut self,
        cause: Cause,
        asker: Option<oneshot::Sender<wire::Reload>>,
    ) -> std::io::Result<bool> {
        let load = Load { cause, askers: asker.into_iter().collect() };
        if self.current.is_none() {
            return self.load_for(load).map(|()| true);
        }
        match &mut self.next {
            None => self.next = Some(load),
            Some(next) => {
                if next.cause == Cause::Change {
                    next.cause = cause;
                }
                next.askers.retain(|asker| !asker.is_closed());
                next.askers.extend(load.askers);
            }
        }
        Ok(false)
    }

    /// Begins the load that was asked for meanwhile. Errors: as [`Reloader::begin`].
    pub(super) fn go_on(&mut self) -> std::io::Result<Option<Cause>> {
        let Some(next) = self.next.take() else { return Ok(None) };
        let cause = next.cause;
        self.load_for(next).map(|()| Some(cause))
    }

    fn load_for(&mut self, load: Load) -> std::io::Result<()> {
        // What somebody asks for is answered, whether or not anything has changed.
        let known = (load.cause == Cause::Change).then(|| self.print.clone());
        self.current = Some(load);
        let (config, means, out) = (self.config.clone(), self.means.clone(), self.out.clone());
        let work = move || {
            // A file that is being written once more tells when that is done.
            let loaded = match known {
                None => Some(config_files::load_printed(&config)),
                Some(known) => {
                    let is_being_written = || writing(&config) != Writing::Over;
                    config_files::load_settled(&config, is_being_written)
                        .filter(|(print, _)| *print != known)
                }
            };
            let loading = loaded.map_or(Loading::Same, |(print, read)| {
                let read = read.map(|loaded| Box::new(loaded.resolved));
                let read = read.map_err(|diagnostics| diagnostics.to_string());
                let possible = |resolved: Box<Resolved>| {
                    let faults = means.faults(&resolved.model.graph);
                    let texts: Vec<String> = faults.into_iter().map(|fault| fault.text).collect();
                    if texts.is_empty() { Ok(resolved) } else { Err(texts.join("\n")) }
                };
                Loading::Read(print, read.and_then(possible))
            });
            // The engine is gone only when dagd ends.
            out.send(loading).ok();
        };
        std::thread::Builder::new().name("dagd-reload".to_owned()).spawn(work).map(drop)
    }

    /// This was read. Returns who has asked for it.
    pub(super) fn read(&mut self, print: Print) -> Option<Cause> {
        self.print = print;
        self.current.as_ref().map(|load| load.cause)
    }

    /// Whether somebody has asked for the load that is under way. By a change of the files nobody
    /// has: that may turn out to be none.
    pub(super) fn is_asked(&self) -> bool {
        self.current.as_ref().is_some_and(|load| load.cause != Cause::Change)
    }

    /// The load that was under way has ended: it is in force, or will never be.
    pub(super) fn end(&mut self) -> Option<Load> {
        self.current.take()
    }

    /// Waits beside the engine until the watches are armed. Errors: there is no thread to be had.
    pub(super) fn await_armed(&self, armed: Receiver<()>) -> std::io::Result<()> {
        let out = self.out.clone();
        let work = move || {
            // An error means that other watches are armed since, or that dagd ends.
            armed.recv().ok();
            out.send(Loading::Armed).ok();
        };
        std::thread::Builder::new().name("dagd-armed".to_owned()).spawn(work).map(drop)
    }

    /// Watches the configuration's files, or does so no longer. What could not be watched before is
    /// tried again. Whether it could be tells [`Reloader::lack`].
    pub(super) fn watch_files(&mut self, wanted: bool) {
        self.unstarted = None;
        match &self.watch {
            _ if !wanted => self.watch = None,
            // What is watched already is not looked at here: its file system may hang.
            Some(watch) if matches!(watch.problem(), Some(Lack::Unwatched(_))) => watch.try_again(),
            Some(_) => {}
            None => {
                let out = self.out.clone();
                let changed = move || out.send(Loading::Changed).is_ok();
                match ConfigWatch::start(self.config.clone(), changed) {
                    Ok(watch) => self.watch = Some(watch),
                    Err(why) => self.unstarted = Some(Lack::Unwatched(why)),
                }
            }
        }
    }

    /// Why changes of the configuration's files may go unnoticed for a while, if they should not.
    pub(super) fn lack(&self) -> Option<Lack> {
        self.unstarted.clone().or_else(|| self.watch.as_ref()?.problem())
    }
}
