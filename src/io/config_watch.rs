//! Tells that the configuration's files may have changed, once nobody is writing them.
//!
//! Watches the folders of the main file and of `conf.d`, and those of every symbolic link on the
//! way to them. Where one of them cannot be watched, the files are looked at now and then, until it
//! can be. Reads nothing and decides nothing: whether anything has changed is for who is told.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ffi::OsString;
use std::fmt;
use std::mem;
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, TryLockError};
use std::thread::Builder;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crossbeam_channel::{Receiver, Sender, after, never, select};
use notify::{Event, PathOp, RecommendedWatcher, Watcher as _};
use tracing::{info, warn};

use super::config_files;
use super::disk::{DirId, Found, Prober, dir_id, find, open_root};
use super::watch::backend::Outcome;
use super::watch::inotify;
use super::watch::mounts::Mounts;
use crate::core::candidate::{Disk, Probe};
use crate::core::path::Bytes;
use crate::core::trigger::{FollowSymlinks, ReadLock};

/// Symbolic links that are followed on the way to a file, at most, as the kernel does. A way with
/// more leads nowhere.
const LINKS_MAX: usize = 40;

/// Looks at the way in a row, at most, when it changes while it is being watched.
const LOOKS_MAX: usize = 8;

/// First and longest pause between tries to watch what cannot be watched.
const RETRY_PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(1));

/// How long files have to stay as they are where the kernel does not tell who writes them.
const STABLE: Duration = Duration::from_secs(2);

/// What is of interest: entries of folders, and all of `conf.d`. No symbolic link is on the way to
/// one of them: a folder that was watched by two paths would be told of by one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Entries {
    paths: BTreeSet<PathBuf>,
    conf_d: PathBuf,
}

impl Entries {
    /// What the configuration whose main file is `main` depends on at present.
    fn of(main: &Path) -> Self {
        let main = std::path::absolute(main).unwrap_or_else(|_| main.to_owned());
        let (mut paths, conf_d) = way(&config_files::conf_d(&main));
        for file in config_files::files(&main) {
            paths.extend(way(&file).0);
        }
        Self { paths, conf_d }
    }

    /// The folders that have them, each with what tells it from another one at its path.
    fn folders(&self) -> BTreeMap<PathBuf, DirId> {
        let parents = self.paths.iter().filter_map(|path| path.parent().map(Path::to_owned));
        let id = |path: PathBuf| {
            let id = open_root(&path).and_then(|folder| dir_id(folder.as_fd())).ok()?;
            Some((path, id))
        };
        parents.chain([self.conf_d.clone()]).filter_map(id).collect()
    }

    fn concerns(&self, path: &Path) -> bool {
        self.paths.contains(path) || path.starts_with(&self.conf_d)
    }
}

/// Every symbolic link on the way to a path, and where it ends: an entry, whether it is there or not.
/// Then that end by itself.
fn way(path: &Path) -> (BTreeSet<PathBuf>, PathBuf) {
    let mut entries = BTreeSet::new();
    let mut at = PathBuf::from("/");
    let mut rest: VecDeque<OsString> = names(path).collect();
    let mut links = 0;
    while let Some(name) = rest.pop_front() {
        if name == ".." {
            at.pop();
            continue;
        }
        let next = at.join(&name);
        match std::fs::read_link(&next) {
            Ok(target) if links < LINKS_MAX => {
                links += 1;
                if target.is_absolute() {
                    at = PathBuf::from("/");
                }
                for name in names(&target).collect::<Vec<_>>().into_iter().rev() {
                    rest.push_front(name);
                }
                entries.insert(next);
            }
            _ if !next.exists() => {
                // Whatever is missing here is the first that has to come.
                at = next;
                break;
            }
            _ => at = next,
        }
    }
    entries.insert(at.clone());
    (entries, at)
}

fn names(path: &Path) -> impl Iterator<Item = OsString> + '_ {
    path.components().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::Prefix(_) | Component::RootDir | Component::CurDir => None,
    })
}

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

/// Whether somebody is still writing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writing {
    /// Nobody is.
    Over,
    /// Somebody has a file open for writing: its end will be told.
    Open,
    /// The kernel does not tell of a file, and it has changed a moment ago: whether it stays as it
    /// is will be known after this time.
    Perhaps(Duration),
}

/// Whether somebody is still writing one of the configuration's files.
pub fn writing(main: &Path) -> Writing {
    let mut prober = Prober::new();
    let mut perhaps = Duration::ZERO;
    for file in config_files::files(main) {
        match probe(&mut prober, &file) {
            Some(Probe::WriterOpen) => return Writing::Open,
            Some(Probe::Unproved) => perhaps = perhaps.max(unstable(&file)),
            Some(_) | None => {}
        }
    }
    if perhaps.is_zero() { Writing::Over } else { Writing::Perhaps(perhaps) }
}

fn probe(prober: &mut Prober, file: &Path) -> Option<Probe> {
    let (folder, name) = (file.parent()?, file.file_name()?);
    let root = open_root(folder).ok()?;
    let name = Bytes::from(Path::new(name));
    let Ok(Found::File(found)) = find(root.as_fd(), &name, FollowSymlinks::Files) else {
        return None;
    };
    match prober.probe(found, ReadLock::Auto) {
        Disk::File { probe, .. } => Some(probe),
        Disk::Absent | Disk::Other => None,
    }
}

/// How much longer a file has to stay as it is. A time that is still to come tells nothing.
fn unstable(file: &Path) -> Duration {
    let Ok(meta) = file.metadata() else { return Duration::ZERO };
    let now = SystemTime::now();
    let left = |(s, ns): (i64, i64)| {
        let since = Duration::new(u64::try_from(s).ok()?, u32::try_from(ns).ok()?);
        let age = now.duration_since(UNIX_EPOCH.checked_add(since)?).ok()?;
        STABLE.checked_sub(age)
    };
    let stamps = [(meta.mtime(), meta.mtime_nsec()), (meta.ctime(), meta.ctime_nsec())];
    stamps.into_iter().filter_map(left).max().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::{Path, PathBuf};

    use super::{Entries, way};

    fn rels(root: &Path, path: &str) -> Vec<PathBuf> {
        let (way, _) = way(&root.join(path));
        let rel = |path: PathBuf| path.strip_prefix(root).map(Path::to_owned).unwrap_or(path);
        way.into_iter().map(rel).collect()
    }

    #[test]
    fn no_folder_is_watched_by_two_paths() {
        let folder = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(folder.path()).unwrap();
        fs::create_dir_all(root.join("real/parts")).unwrap();
        fs::write(root.join("real/parts/a.toml"), "").unwrap();
        symlink("real", root.join("given")).unwrap();
        symlink("parts", root.join("real/conf.d")).unwrap();
        let entries = Entries::of(&root.join("given/dagd.toml"));
        let folders: Vec<PathBuf> = entries.folders().into_keys().collect();
        let there = ["", "real", "real/parts"].map(|rel| root.join(rel));
        assert_eq!(folders, there);
        assert!(entries.concerns(&root.join("real/parts/b.toml")), "one that is to come");
        assert!(!entries.concerns(&root.join("real/other.toml")));
    }

    #[test]
    fn every_link_on_the_way_counts() {
        let folder = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(folder.path()).unwrap();
        fs::create_dir_all(root.join("a/v1")).unwrap();
        fs::write(root.join("a/v1/f"), "").unwrap();
        symlink("v1", root.join("a/data")).unwrap();
        symlink("data/f", root.join("a/f")).unwrap();
        symlink("../a", root.join("a/up")).unwrap();
        symlink("loop", root.join("loop")).unwrap();
        let paths = |names: &[&str]| names.iter().map(PathBuf::from).collect::<Vec<_>>();
        assert_eq!(rels(&root, "a/v1/f"), paths(&["a/v1/f"]));
        assert_eq!(rels(&root, "a/f"), paths(&["a/data", "a/f", "a/v1/f"]));
        assert_eq!(rels(&root, "a/up/v1/f"), paths(&["a/up", "a/v1/f"]));
        assert_eq!(rels(&root, "a/gone/f"), paths(&["a/gone"]));
        assert_eq!(rels(&root, "loop"), paths(&["loop"]));
        assert_eq!(way(&root.join("a/up/data/f")).1, root.join("a/v1/f"));
        assert_eq!(way(&root.join("a/up/gone/f")).1, root.join("a/gone"));
    }
}
