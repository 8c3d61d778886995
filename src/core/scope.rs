//! What a folder trigger takes for work, by name, place and size; and which names tell of it.
//!
//! One place for the watch side, which leaves out what does not count, and for the answers to
//! people, which tell why. Compares names and numbers: looks at no file.

use std::fmt;

use super::filter::Rejected;
use super::path::Bytes;
use super::sidecar::{For, Sidecar};
use super::trigger::{FileType, FolderSpec, ReadLock};

/// Why a path is no work. Final for a version: what only has to wait is pending.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ignored {
    /// It lies in a folder below, and those do not count.
    NotRecursive,
    /// A folder above it is left out.
    Folder(Bytes, Rejected),
    /// A folder that it lies in counts as a whole.
    PartOf(Bytes),
    /// Its name tells that others are complete.
    DoneFile,
    /// Its name tells that it holds the checksum of others.
    ChecksumFile,
    /// It does not lie deep enough.
    Shallow(u32),
    /// It lies too deep.
    Deep(u32),
    /// Its name does not count.
    Name(Rejected),
    /// It has fewer bytes than these.
    Small(u64),
    /// It has more bytes than these.
    Large(u64),
}

impl fmt::Display for Ignored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotRecursive => f.write_str("recursive: false"),
            Self::Folder(folder, rule) => {
                write!(f, "{rule}: folder `{}`", folder.as_bytes().escape_ascii())
            }
            Self::PartOf(folder) => {
                write!(f, "file_type: part of folder `{}`", folder.as_bytes().escape_ascii())
            }
            Self::DoneFile => f.write_str("done_file: it tells that others are complete"),
            Self::ChecksumFile => f.write_str("checksum_file: it holds the checksum of others"),
            Self::Shallow(least) => write!(f, "min_depth: it lies less than {least} deep"),
            Self::Deep(most) => write!(f, "max_depth: it lies more than {most} deep"),
            Self::Name(rejected) => rejected.fmt(f),
            Self::Small(least) => write!(f, "min_size: it has less than {least} bytes"),
            Self::Large(most) => write!(f, "max_size: it has more than {most} bytes"),
        }
    }
}

impl FolderSpec {
    /// Why a file or folder that is called `rel` (relative to the root) is no work, or `None` if it
    /// is. The folders above it are another matter: see [`FolderSpec::enters`].
    pub fn rejects(&self, rel: &Bytes) -> Option<Ignored> {
        let is = |sidecar: &Sidecar| sidecar.is_for(rel).is_some();
        let depth = depth(rel);
        if self.done_file.as_ref().is_some_and(is) {
            Some(Ignored::DoneFile)
        } else if self.checksum_file.as_ref().is_some_and(|(sidecar, _)| is(sidecar)) {
            Some(Ignored::ChecksumFile)
        } else if depth < self.min_depth {
            Some(Ignored::Shallow(self.min_depth))
        } else if depth > self.max_depth {
            Some(Ignored::Deep(self.max_depth))
        } else {
            self.filter.rejects(rel).map(Ignored::Name)
        }
    }

    /// The same with the folders above it.
    pub fn rejects_path(&self, rel: &Bytes) -> Option<Ignored> {
        if self.file_type == FileType::Dir
            && let Some(whole) = self.work_at(rel).filter(|whole| whole != rel)
        {
            return Some(Ignored::PartOf(whole));
        }
        if !self.recursive && rel.as_bytes().contains(&b'/') {
            return Some(Ignored::NotRecursive);
        }
        let pruned =
            |folder| self.filter.pruned_by(&folder).map(|rule| Ignored::Folder(folder, rule));
        above(rel).find_map(pruned).or_else(|| self.rejects(rel))
    }

    /// Why so many bytes are no work, or `None` if they are.
    pub fn rejects_size(&self, bytes: u64) -> Option<Ignored> {
        if bytes < self.min_size {
            Some(Ignored::Small(self.min_size))
        } else {
            (bytes > self.max_size).then_some(Ignored::Large(self.max_size))
        }
    }

    /// Whether the folder `rel` (the root, if it is empty) is watched and read: work may lie in it,
    /// or it is part of work.
    pub fn enters(&self, rel: &Bytes) -> bool {
        if rel.as_bytes().is_empty() {
            return true;
        }
        let below = self.recursive
            && depth(rel) < self.max_depth
            && !self.filter.prunes(rel)
            && !above(rel).any(|folder| self.filter.prunes(&folder));
        below || (self.file_type == FileType::Dir && self.work_at(rel).is_some())
    }

    /// What a change at `rel` is a change of: the file itself, or the topmost folder that it is or
    /// lies in which counts. `None` if it is no work.
    pub fn work_at(&self, rel: &Bytes) -> Option<Bytes> {
        match self.file_type {
            FileType::File => {
                let counts = self.rejects(rel).is_none() && self.enters(&Bytes::from(rel.dir()));
                counts.then(|| rel.clone())
            }
            FileType::Dir => {
                let levels = above(rel).chain([rel.clone()]);
                let depth = if self.recursive { usize::MAX } else { 1 };
                levels
                    .take(depth)
                    .take_while(|folder| !self.filter.prunes(folder))
                    .find(|folder| self.rejects(folder).is_none())
            }
        }
    }

    /// What can tell that work is complete. That nobody writes a file in a folder does not tell
    /// that the next one is not to come: without a done file, a folder has to stay the same.
    pub fn proof(&self) -> ReadLock {
        match (self.read_lock, self.file_type) {
            (ReadLock::None, _) => ReadLock::None,
            (_, FileType::Dir) if self.done_file.is_none() => ReadLock::Changed,
            (lock, _) => lock,
        }
    }

    /// The file that has to be there before `rel` is complete, if one has to. For a folder, one that
    /// is called the same for all lies in it.
    pub fn done_of(&self, rel: &Bytes) -> Option<Bytes> {
        match (self.done_file.as_ref()?, self.file_type) {
            (Sidecar::Folder(name), FileType::Dir) => Some(rel.join(name.as_bytes())),
            (sidecar, _) => Some(sidecar.of(rel)),
        }
    }

    /// Which work the file `rel` tells of without being part of it: each sidecar's.
    pub fn told_by(&self, rel: &Bytes) -> impl Iterator<Item = For> {
        let checksum = self.checksum_file.as_ref().map(|(sidecar, _)| sidecar);
        let beside = |sidecar: &&Sidecar| {
            self.file_type == FileType::File || !matches!(sidecar, Sidecar::Folder(_))
        };
        let sidecars = self.done_file.iter().chain(checksum);
        sidecars.filter(beside).filter_map(|sidecar| sidecar.is_for(rel))
    }
}

/// The folders over `rel`, from the top.
fn above(rel: &Bytes) -> impl Iterator<Item = Bytes> {
    let ends = rel.as_bytes().iter().enumerate().filter(|(_, b)| **b == b'/').map(|(at, _)| at);
    ends.map(|end| Bytes::from(&rel.as_bytes()[..end]))
}

/// How deep a file lies: 1 is right in the root.
fn depth(rel: &Bytes) -> u32 {
    u32::try_from(rel.as_bytes().split(|b| *b == b'/').count()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use crate::core::filter::Filter;
    use crate::core::path::Bytes;
    use crate::core::sidecar::{Checksum, For, Sidecar};
    use crate::core::trigger::{FileType, Folder, FolderSpec};

    fn spec(include: &str, exclude: &[&str]) -> FolderSpec {
        let exclude = exclude.iter().map(|&pattern| pattern.to_owned()).collect();
        let filter = Filter::new(vec![include.to_owned()], exclude, true, false).unwrap();
        FolderSpec::new(Folder::Drop, "/in".into(), filter)
    }

    fn rule(spec: &FolderSpec, rel: &str) -> String {
        spec.rejects_path(&rel.into()).map_or_else(String::new, |rule| rule.to_string())
    }

    fn work(spec: &FolderSpec, rel: &str) -> String {
        spec.work_at(&rel.into()).map_or_else(String::new, |rel| rel.lossy().into_owned())
    }

    #[test]
    fn sidecars_are_no_work() {
        let mut spec = spec("*", &[]);
        spec.done_file = Some(Sidecar::parse("{name}.done").unwrap());
        spec.checksum_file = Some((Sidecar::parse("SHA256SUMS").unwrap(), Checksum::Sha256));
        assert!(rule(&spec, "a.done").starts_with("done_file: "));
        assert!(rule(&spec, "SHA256SUMS").starts_with("checksum_file: "));
        assert_eq!(rule(&spec, "a"), "");
        assert_eq!(spec.done_of(&"a".into()), Some("a.done".into()));
        let told = |rel: &str| spec.told_by(&rel.into()).collect::<Vec<_>>();
        assert_eq!(told("a.done"), [For::File("a".into())]);
        assert_eq!(told("SHA256SUMS"), [For::Folder(Bytes::default())]);
        assert_eq!(told("a"), []);
    }

    #[test]
    fn depths_and_folders_count() {
        let mut spec = spec("**/*", &["old"]);
        assert_eq!(rule(&spec, "a/b"), "recursive: false");
        assert!(!spec.enters(&"a".into()));
        spec.recursive = true;
        (spec.min_depth, spec.max_depth) = (2, 3);
        assert_eq!(rule(&spec, "a"), "min_depth: it lies less than 2 deep");
        assert_eq!(rule(&spec, "a/b"), "");
        assert_eq!(rule(&spec, "a/b/c/d"), "max_depth: it lies more than 3 deep");
        assert!(spec.enters(&"a/b".into()));
        assert!(!spec.enters(&"a/b/c".into()), "nothing right in it counts");
        assert_eq!(rule(&spec, "old/b"), "exclude: old: folder `old`");
        assert_eq!(rule(&spec, "a/.b/c"), "hidden: folder `a/.b`");
        assert!(!spec.enters(&"a/.b".into()) && !spec.enters(&"old".into()));
        assert_eq!((work(&spec, "a/b"), work(&spec, "a/.b/c")), ("a/b".into(), String::new()));
    }

    #[test]
    fn sizes_count() {
        let mut spec = spec("*", &[]);
        (spec.min_size, spec.max_size) = (2, 3);
        let rule = |bytes| spec.rejects_size(bytes).map(|rule| rule.to_string());
        assert_eq!(rule(1).unwrap(), "min_size: it has less than 2 bytes");
        assert_eq!((rule(2), rule(3)), (None, None));
        assert_eq!(rule(4).unwrap(), "max_size: it has more than 3 bytes");
    }

    #[test]
    fn a_change_in_a_folder_is_one_of_the_topmost_that_counts() {
        let mut spec = spec("run*", &[]);
        spec.file_type = FileType::Dir;
        assert_eq!(work(&spec, "run1"), "run1");
        assert_eq!(work(&spec, "run1/.deep/run2/x.tmp"), "run1");
        assert_eq!(work(&spec, "other/run1"), "");
        assert_eq!(rule(&spec, "run1/run2"), "file_type: part of folder `run1`");
        assert_eq!(rule(&spec, "run1"), "");
        assert!(spec.enters(&"run1/.deep".into()), "what is in it is part of it");
        assert!(!spec.enters(&"other".into()));
        spec.done_file = Some(Sidecar::parse("_SUCCESS").unwrap());
        assert_eq!(spec.done_of(&"run1".into()), Some("run1/_SUCCESS".into()));
        assert_eq!(spec.told_by(&"run1/_SUCCESS".into()).next(), None, "it is part of the folder");
        spec.done_file = Some(Sidecar::parse("{name}.ok").unwrap());
        assert_eq!(spec.done_of(&"run1".into()), Some("run1.ok".into()));
        assert_eq!(spec.told_by(&"run1.ok".into()).next(), Some(For::File("run1".into())));
    }

    #[test]
    fn folders_that_count_may_lie_deeper() {
        let mut spec = spec("**/*", &["**/old"]);
        (spec.file_type, spec.recursive, spec.min_depth) = (FileType::Dir, true, 2);
        assert_eq!(work(&spec, "a"), "", "only what lies in it counts");
        assert_eq!(work(&spec, "a/b/c/d"), "a/b");
        assert_eq!(work(&spec, "a/old/c"), "");
        assert!(spec.enters(&"a".into()) && spec.enters(&"a/b/c".into()));
        assert!(!spec.enters(&"a/old".into()));
    }
}
