//! The way to a root: the directories and symbolic links that its path leads through.
//!
//! Walks component by component, as the kernel does, so that it can stop before a file system that
//! may not answer, and so that everything whose change would lead elsewhere is known.

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path};

use rustix::io::Errno;

use crate::core::path::Bytes;

/// Symbolic links followed on one way, at most: as many as the kernel follows.
const LINKS_MAX: usize = 40;

/// A way to a root.
#[derive(Debug, PartialEq, Eq)]
pub struct Way {
    /// The directories walked through, without links in their paths and without the end.
    pub through: Vec<Bytes>,
    /// Names in them which lead elsewhere once they change: links, and what is missing or in the
    /// way.
    pub hinges: Vec<Bytes>,
    /// Where it ends.
    pub end: End,
    /// The directories at which it ends, and the ways that have joined it.
    pub ends: Vec<Bytes>,
}

impl Way {
    /// Follows what another way leads through as well.
    pub fn join(&mut self, other: Self) {
        self.through.extend(other.through);
        self.hinges.extend(other.hinges);
        self.ends.extend(other.ends);
    }
}

/// Where a way ends.
#[derive(Debug, PartialEq, Eq)]
pub enum End {
    /// At a directory, by its path without links.
    Here(Bytes),
    /// Something is missing.
    Away,
    /// Something keeps dagd from going on, in words.
    Stuck(String),
    /// Before a directory that was not to be touched.
    Shunned(Bytes),
}

/// Walks to `path`, which is absolute. A directory that `shuns` picks is not touched.
pub fn walk(path: &Path, shuns: impl Fn(&Bytes) -> bool) -> Way {
    let (through, hinges, ends) = (Vec::new(), Vec::new(), Vec::new());
    let mut way = Way { through, hinges, end: End::Away, ends };
    let mut at = Bytes::from("/");
    let mut names = names_of(path);
    let mut links = 0;
    while let Some(name) = names.pop_front() {
        if name.as_bytes() == b".." {
            at = parent(&at);
            continue;
        }
        if !way.through.contains(&at) {
            way.through.push(at.clone());
        }
        let next = at.join(name.as_bytes());
        if shuns(&next) {
            way.end = End::Shunned(next);
            return way;
        }
        match look(&next) {
            Ok(Step::Directory) => at = next,
            Ok(Step::Link(target)) => {
                way.hinges.push(next.clone());
                links += 1;
                if links > LINKS_MAX {
                    way.end = End::Stuck(format!("too many symbolic links at {}", next.lossy()));
                    return way;
                }
                if target.is_absolute() {
                    at = Bytes::from("/");
                }
                for name in names_of(&target).into_iter().rev() {
                    names.push_front(name);
                }
            }
            Err(error) => {
                if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) {
                    way.hinges.push(next.clone());
                }
                if error.kind() != io::ErrorKind::NotFound {
                    way.end = End::Stuck(format!("cannot open {}: {error}", next.lossy()));
                }
                return way;
            }
        }
    }
    way.ends.push(at.clone());
    way.end = End::Here(at);
    way
}

enum Step {
    Directory,
    Link(std::path::PathBuf),
}

fn look(path: &Bytes) -> io::Result<Step> {
    let kind = fs::symlink_metadata(path.as_path())?.file_type();
    if kind.is_symlink() {
        return fs::read_link(path.as_path()).map(Step::Link);
    }
    if kind.is_dir() {
        return Ok(Step::Directory);
    }
    Err(Errno::NOTDIR.into())
}

fn names_of(path: &Path) -> VecDeque<Bytes> {
    let names = path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(Bytes::from(name.as_bytes())),
        Component::ParentDir => Some(Bytes::from("..")),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    });
    names.collect()
}

/// The directory over a path; `/` is over itself.
pub fn parent(path: &Bytes) -> Bytes {
    match path.dir() {
        [] => Bytes::from("/"),
        dir => Bytes::from(dir),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::{End, walk};
    use crate::core::path::Bytes;

    #[test]
    fn a_way_leads_through_links() {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().canonicalize().unwrap();
        let at = |rel: &str| Bytes::from(base.join(rel).as_path());
        fs::create_dir_all(base.join("real/in")).unwrap();
        symlink("real", base.join("link")).unwrap();
        symlink("link/../link/in", base.join("deep")).unwrap();
        let way = walk(&base.join("deep"), |_| false);
        assert_eq!(way.end, End::Here(at("real/in")));
        assert_eq!(way.hinges, [at("deep"), at("link"), at("link")]);
        assert_eq!(way.through.last(), Some(&at("real")));
        assert!(way.through.contains(&"/".into()));
    }

    #[test]
    fn a_way_ends_at_what_is_missing_or_in_the_way() {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().canonicalize().unwrap();
        let at = |rel: &str| Bytes::from(base.join(rel).as_path());
        symlink("gone/there", base.join("dangling")).unwrap();
        let way = walk(&base.join("dangling/in"), |_| false);
        assert_eq!((way.end, way.hinges), (End::Away, vec![at("dangling"), at("gone")]));
        fs::write(base.join("file"), "").unwrap();
        let way = walk(&base.join("file"), |_| false);
        assert!(matches!(way.end, End::Stuck(_)), "{way:?}");
        assert_eq!(way.hinges, [at("file")]);
        symlink("loop", base.join("loop")).unwrap();
        assert!(matches!(walk(&base.join("loop"), |_| false).end, End::Stuck(_)));
    }

    #[test]
    fn a_way_stops_before_what_may_hang() {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().canonicalize().unwrap();
        let nfs = Bytes::from(base.join("nfs").as_path());
        let way = walk(&base.join("nfs/in"), |path| *path == nfs);
        assert_eq!(way.end, End::Shunned(nfs));
    }
}
