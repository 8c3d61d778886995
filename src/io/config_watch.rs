//! Tells that the configuration's files may have changed, once nobody is writing them.
//!
//! Watches the folders of the main file and of `conf.d`, and those of every symbolic link on the
//! way to them. Where one of them cannot be watched, the files are looked at now and then, until it
//! can be. Reads nothing and decides nothing: whether anything has changed is for who is told.

mod entries;
mod writing;

use std::collections::BTreeMap;
use std::fmt;
use std::mem;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, TryLockError};
use std::thread::Builder;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, after, never, select};
use notify::{Event, PathOp, RecommendedWatcher, Watcher as _};
use tracing::{info, warn};

use super::disk::DirId;
use super::watch::backend::Outcome;
use super::watch::inotify;
use super::watch::mounts::Mounts;
use crate::core::path::Bytes;
use entries::Entries;

pub use writing::{Writing, writing};

/// Looks at the way in a row, at most, when it changes while it is being watched.
const LOOKS_MAX: usize = 8;

/// First and longest pause between tries to watch what cannot be watched.
const RETRY_PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(1));

// lock: written by whoever looks at the way to a file, read by notify's thread for each event; held
// for a look-up
type Shared = Arc<Mutex<Entries>>;

// lock: written by whoever has tried to watch, read by the engine for whoever asks; held for a copy
type Problem = Arc<Mutex<Option<Lack>>>;

/// Why changes of the configuration's files may go unnoticed for a while, with the remedy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lack {
    /// Not all of them can be watched; another try may come true.
    Unwatched(String),
    /// All are watched, but a file system does not tell of every change.
    Deaf(String),
}

impl fmt::Display for Lack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Unwatched(why) | Self::Deaf(why)) = self;
        write!(f, "cannot watch the configuration's files: {why}")
    }
}

/// A watch on the configuration's files; ends when it is dropped.
#[derive(Debug)]
pub struct ConfigWatch {
    /// Dropped: the thread ends.
    _stop: Sender<()>,
    // lock: the thread looks at the way to the files, or the engine does at a reload; held for such
    // a look, for which the engine does not wait
    watching: Arc<Mutex<Watching>>,
    problem: Problem,
    hint: Sender<()>,
}

/// What is watched.
struct Watching {
    main: PathBuf,
    entries: Shared,
    /// Tells the thread that something has changed.
    hint: Sender<()>,
    /// `None`: the system grants none.
    watcher: Option<RecommendedWatcher>,
    folders: BTreeMap<PathBuf, DirId>,
    problem: Problem,
}

impl fmt::Debug for Watching {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.folders.keys()).finish()
    }
}

impl ConfigWatch {
    /// Watches from now on, as far as that is possible. `changed` is called at first, and then
    /// whenever the files may have changed and nobody is writing them any more; `false` ends the
    /// watch. Errors: there is no thread for it.
    pub fn start(
        main: PathBuf,
        changed: impl Fn() -> bool + Send + 'static,
    ) -> Result<Self, String> {
        let (hint, hints) = crossbeam_channel::bounded(1);
        let (entries, problem) = (Shared::default(), Problem::default());
        let (folders, of, told) = (BTreeMap::new(), main.clone(), problem.clone());
        let mut watching =
            Watching { main, entries, hint: hint.clone(), watcher: None, folders, problem: told };
        watching.look(false);
        // lock: see the field
        let watching = Arc::new(Mutex::new(watching));
        let (stop, stopped) = crossbeam_channel::bounded(0);
        let shared = watching.clone();
        let work = move || run(&shared, &of, (&hints, &stopped), changed);
        let thread = Builder::new().name("dagd-config".to_owned()).spawn(work);
        let started = thread.map(|_| Self { _stop: stop, watching, problem, hint });
        started.map_err(|error| format!("no thread for it: {error}"))
    }

    /// Why not every change is noticed at once, if not.
    pub fn problem(&self) -> Option<Lack> {
        self.problem.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Tries again to watch what is not watched, unless that is just being done.
    pub fn try_again(&self) {
        let mut watching = match self.watching.try_lock() {
            Ok(watching) => watching,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        watching.look(true);
        // What has changed before is found now. Full: a hint is waiting already.
        self.hint.try_send(()).ok();
    }
}

fn concerns(entries: &Shared, event: notify::Result<Event>) -> bool {
    let Ok(event) = event else { return true };
    let entries = entries.lock().unwrap_or_else(PoisonError::into_inner);
    event.need_rescan() || event.paths.iter().any(|path| entries.concerns(path))
}

/// The thread: looks whenever it is told to, and later by itself where nobody would tell.
fn run(
    // lock: see `ConfigWatch`
    watching: &Mutex<Watching>,
    main: &Path,
    (hints, stop): (&Receiver<()>, &Receiver<()>),
    changed: impl Fn() -> bool,
) {
    let mut pause = RETRY_PAUSE.0;
    loop {
        // What came before it was watched brought no hint; so the files are looked at after that.
        let whole = watching.lock().unwrap_or_else(PoisonError::into_inner).look(true);
        let writing = writing(main);
        if writing == Writing::Over && !changed() {
            return;
        }
        let again = (!whole).then_some(pause);
        pause = if whole { RETRY_PAUSE.0 } else { RETRY_PAUSE.1.min(pause * 2) };
        let stable = match writing {
            Writing::Perhaps(left) => Some(left),
            Writing::Over | Writing::Open => None,
        };
        let timer = again.into_iter().chain(stable).min().map_or_else(never, after);
        select! {
            recv(hints) -> hint => if hint.is_err() { return },
            recv(stop) -> _ => return,
            recv(timer) -> _ => {}
        }
    }
}

impl Watching {
    /// Watches what there is by now, and notes why it cannot if it cannot; `tell`: news of that are
    /// logged. Returns whether all is watched.
    fn look(&mut self, tell: bool) -> bool {
        let now = self.follow().err();
        let mut problem = self.problem.lock().unwrap_or_else(PoisonError::into_inner);
        match (&*problem, &now) {
            (Some(_), None) if tell => info!("the configuration's files are watched again"),
            (was, Some(lack)) if tell && was.as_ref() != Some(lack) => {
                warn!("{lack}");
            }
            _ => {}
        }
        *problem = now;
        problem.is_none()
    }

    /// Watches what there is by now. Errors: why not every change will be told.
    fn follow(&mut self) -> Result<(), Lack> {
        if self.watcher.is_none() {
            let (entries, hint) = (self.entries.clone(), self.hint.clone());
            let handler = move |event: notify::Result<Event>| {
                if concerns(&entries, event) {
                    // Full: a hint is waiting already.
                    hint.try_send(()).ok();
                }
            };
            let opened = inotify::open(handler);
            self.watcher = Some(opened.map_err(|problem| Lack::Unwatched(problem.why(1)))?);
        }
        for _ in 0..LOOKS_MAX {
            let entries = Entries::of(&self.main);
            let folders = entries.folders();
            entries.clone_into(&mut self.entries.lock().unwrap_or_else(PoisonError::into_inner));
            let whole = self.watch(&folders).map_err(Lack::Unwatched)?;
            // The way may have changed before all of it was watched.
            let now = Entries::of(&self.main);
            if whole && now.folders() == folders && now == entries {
                let deaf = folders.keys().find_map(|folder| deaf(folder));
                return deaf.map_or(Ok(()), |why| Err(Lack::Deaf(why)));
            }
        }
        Err(Lack::Unwatched("they change all the time".to_owned()))
    }

    /// Watches these folders and no others. Returns whether all of them were still there. Errors:
    /// why one cannot be watched; those that can be are.
    fn watch(&mut self, folders: &BTreeMap<PathBuf, DirId>) -> Result<bool, String> {
        let Some(watcher) = &mut self.watcher else { return Ok(false) };
        for (folder, id) in mem::take(&mut self.folders) {
            if folders.get(&folder) != Some(&id) {
                // What is not there any more is not watched any more.
                watcher.update_paths(vec![PathOp::Unwatch(folder)]).ok();
            }
        }
        // What is watched already stays so.
        let outcomes = inotify::watch_all(watcher, folders.keys().cloned(), true);
        let (mut gone, mut failed) = (false, Vec::new());
        for ((folder, id), outcome) in folders.iter().zip(outcomes) {
            match outcome {
                Outcome::Watched => drop(self.folders.insert(folder.clone(), id.clone())),
                Outcome::Gone => gone = true,
                Outcome::Failed(problem) => failed.push((folder, problem)),
            }
        }
        match failed.first() {
            Some((folder, problem)) => {
                Err(format!("{}: {}", folder.display(), problem.why(failed.len())))
            }
            None => Ok(!gone),
        }
    }
}

/// Why not every change in a folder without links on the way to it is told, if not.
fn deaf(folder: &Path) -> Option<String> {
    let mounts = Mounts::read().ok()?;
    let mount = mounts.over(&Bytes::from(folder))?;
    let why = mounts.nature(mount).deaf?;
    Some(format!("{}: {}: {why}; looked at each minute", folder.display(), mount.kind))
}
