//! Which paths the configuration's files depend on: its files, and every symbolic link on the way to
//! them. Looks at names and links, opens no file.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ffi::OsString;
use std::os::fd::AsFd as _;
use std::path::{Component, Path, PathBuf};

use crate::io::config_files;
use crate::io::disk::{DirId, dir_id, open_root};

/// Symbolic links that are followed on the way to a file, at most, as the kernel does. A way with
/// more leads nowhere.
const LINKS_MAX: usize = 40;

/// What is of interest: entries of folders, and all of `conf.d`. No symbolic link is on the way to
/// one of them: a folder that was watched by two paths would be told of by one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Entries {
    paths: BTreeSet<PathBuf>,
    conf_d: PathBuf,
}

impl Entries {
    /// What the configuration whose main file is `main` depends on at present.
    pub(super) fn of(main: &Path) -> Self {
        let main = std::path::absolute(main).unwrap_or_else(|_| main.to_owned());
        let (mut paths, conf_d) = way(&config_files::conf_d(&main));
        for file in config_files::files(&main) {
            paths.extend(way(&file).0);
        }
        Self { paths, conf_d }
    }

    /// The folders that have them, each with what tells it from another one at its path.
    pub(super) fn folders(&self) -> BTreeMap<PathBuf, DirId> {
        let parents = self.paths.iter().filter_map(|path| path.parent().map(Path::to_owned));
        let id = |path: PathBuf| {
            let id = open_root(&path).and_then(|folder| dir_id(folder.as_fd())).ok()?;
            Some((path, id))
        };
        parents.chain([self.conf_d.clone()]).filter_map(id).collect()
    }

    pub(super) fn concerns(&self, path: &Path) -> bool {
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
