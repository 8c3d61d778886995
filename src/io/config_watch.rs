//! Tells that the configuration's files may have changed, once nobody is writing them.
//!
//! Watches the folders of the main file and of `conf.d`, and those of every symbolic link on the
//! way to them. Reads nothing and decides nothing: whether anything has changed is for who is told.

use std::collections::{BTreeSet, VecDeque};
use std::ffi::OsString;
use std::mem;
use std::os::fd::AsFd as _;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::Builder;

use crossbeam_channel::{Receiver, Sender, select};
use notify::{Event, PathOp, RecommendedWatcher, RecursiveMode, WatchPathConfig, Watcher as _};
use tracing::warn;

use super::config_files;
use super::disk::{Found, Prober, find, open_root};
use super::watch::inotify;
use crate::core::candidate::{Disk, Probe};
use crate::core::path::Bytes;
use crate::core::trigger::{FollowSymlinks, ReadLock};

/// Symbolic links that are followed on the way to a file, at most, as the kernel does. A way with
/// more leads nowhere.
const LINKS_MAX: usize = 40;

/// What is of interest: entries of folders, and all of `conf.d`.
#[derive(Debug, Default, PartialEq, Eq)]
struct Entries {
    paths: BTreeSet<PathBuf>,
    conf_d: PathBuf,
}

impl Entries {
    /// What the configuration whose main file is `main` depends on at present.
    fn of(main: &Path) -> Self {
        let main = std::path::absolute(main).unwrap_or_else(|_| main.to_owned());
        let conf_d = config_files::conf_d(&main);
        let mut paths = way(&conf_d);
        for file in config_files::files(&main) {
            paths.extend(way(&file));
        }
        Self { paths, conf_d }
    }

    fn folders(&self) -> BTreeSet<PathBuf> {
        let parents = self.paths.iter().filter_map(|path| path.parent().map(Path::to_owned));
        parents.chain([self.conf_d.clone()]).filter(|path| path.is_dir()).collect()
    }

    fn concerns(&self, path: &Path) -> bool {
        self.paths.contains(path) || path.starts_with(&self.conf_d)
    }
}

/// Every symbolic link on the way to a path, and where it ends: an entry, whether it is there or not.
fn way(path: &Path) -> BTreeSet<PathBuf> {
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
                entries.insert(next);
                return entries;
            }
            _ => at = next,
        }
    }
    entries.insert(at);
    entries
}

fn names(path: &Path) -> impl Iterator<Item = OsString> + '_ {
    path.components().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::Prefix(_) | Component::RootDir | Component::CurDir => None,
    })
}

// lock: written by the thread when the way to a file changes, read by notify's thread for each
// event; held for a look-up
type Shared = Arc<Mutex<Entries>>;

/// A watch on the configuration's files; ends when it is dropped.
#[derive(Debug)]
pub struct ConfigWatch {
    /// Dropped: the thread ends.
    _stop: Sender<()>,
}

/// The thread's side.
struct Watching {
    main: PathBuf,
    entries: Shared,
    watcher: RecommendedWatcher,
    folders: BTreeSet<PathBuf>,
}

impl ConfigWatch {
    /// Watches from now on. `changed` is called at first, and then whenever the files may have
    /// changed and nobody is writing them any more; `false` ends the watch. Errors: the files cannot
    /// be watched, with the reason and the remedy.
    pub fn start(
        main: PathBuf,
        changed: impl Fn() -> bool + Send + 'static,
    ) -> Result<Self, String> {
        let entries = Shared::default();
        let (hint, hints) = crossbeam_channel::bounded(1);
        let shared = entries.clone();
        let handler = move |event: notify::Result<Event>| {
            if concerns(&shared, event) {
                // Full: a hint is waiting already.
                hint.try_send(()).ok();
            }
        };
        let watcher = inotify::open(handler).map_err(|problem| problem.why(1))?;
        let folders = BTreeSet::new();
        let mut watching = Watching { main, entries, watcher, folders };
        watching.follow()?;
        let (stop, stopped) = crossbeam_channel::bounded(0);
        let work = move || watching.run(&hints, &stopped, changed);
        let thread = Builder::new().name("dagd-config".to_owned()).spawn(work);
        thread.map(|_| Self { _stop: stop }).map_err(|error| format!("no thread for it: {error}"))
    }
}

fn concerns(entries: &Shared, event: notify::Result<Event>) -> bool {
    let Ok(event) = event else { return true };
    let entries = entries.lock().unwrap_or_else(PoisonError::into_inner);
    event.need_rescan() || event.paths.iter().any(|path| entries.concerns(path))
}

impl Watching {
    fn run(mut self, hints: &Receiver<()>, stop: &Receiver<()>, changed: impl Fn() -> bool) {
        loop {
            // What came before it was watched brought no hint; so it is looked at after that.
            if let Err(why) = self.follow() {
                warn!("the configuration's files are not watched in full: {why}");
            }
            if !is_being_written(&self.main) && !changed() {
                return;
            }
            select! {
                recv(hints) -> hint => if hint.is_err() { return },
                recv(stop) -> _ => return,
            }
        }
    }

    /// Watches what there is by now. Errors: a folder cannot be watched.
    fn follow(&mut self) -> Result<(), String> {
        loop {
            let entries = Entries::of(&self.main);
            let folders = entries.folders();
            *self.entries.lock().unwrap_or_else(PoisonError::into_inner) = entries;
            self.watch(folders)?;
            // The way may have changed before all of it was watched.
            let now = Entries::of(&self.main);
            if *self.entries.lock().unwrap_or_else(PoisonError::into_inner) == now {
                return Ok(());
            }
        }
    }

    /// A folder that was exchanged has the path of the one before: all are watched anew.
    fn watch(&mut self, folders: BTreeSet<PathBuf>) -> Result<(), String> {
        for folder in mem::replace(&mut self.folders, folders) {
            // What is not there any more is not watched any more.
            self.watcher.update_paths(vec![PathOp::Unwatch(folder)]).ok();
        }
        let config =
            || WatchPathConfig::new(RecursiveMode::NonRecursive).with_dereference_symlinks(true);
        let watch = |folder: &PathBuf| PathOp::Watch(folder.clone(), config());
        let watched = self.watcher.update_paths(self.folders.iter().map(watch).collect());
        watched.map_err(|error| error.source.to_string())
    }
}

/// Whether somebody has one of the files open for writing, as far as the kernel tells: its end will
/// be told.
pub fn is_being_written(main: &Path) -> bool {
    let mut prober = Prober::new();
    config_files::files(main).iter().any(|file| is_open(&mut prober, file))
}

fn is_open(prober: &mut Prober, file: &Path) -> bool {
    let (Some(folder), Some(name)) = (file.parent(), file.file_name()) else { return false };
    let Ok(root) = open_root(folder) else { return false };
    let name = Bytes::from(Path::new(name));
    let found = find(root.as_fd(), &name, FollowSymlinks::Files);
    let Ok(Found::File(found)) = found else { return false };
    let disk = prober.probe(found, ReadLock::Auto);
    matches!(disk, Disk::File { probe: Probe::WriterOpen, .. })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::{Path, PathBuf};

    use super::way;

    fn rels(root: &Path, path: &str) -> Vec<PathBuf> {
        let way = way(&root.join(path));
        let rel = |path: PathBuf| path.strip_prefix(root).map(Path::to_owned).unwrap_or(path);
        way.into_iter().map(rel).collect()
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
    }
}
