//! The ignore files beneath a root: which names they take out.
//!
//! Knows the rules of git: the last pattern that matches decides, a deeper file before the ones
//! above it, and what lies in a directory that is out cannot be taken back in. `.ignore` comes
//! after `.gitignore`. Files outside the root do not count.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, BorrowedFd};

use ignore::Match;
use ignore::gitignore::{Gitignore, GitignoreBuilder};
use rustix::fs::{FileType, Mode, OFlags, fstat, openat};
use rustix::io::Errno;

use crate::core::path::Bytes;

use super::hints::is_scarcity;

/// The names of ignore files, the one that counts more last.
pub const NAMES: [&str; 2] = [".gitignore", ".ignore"];

/// Bytes read of an ignore file, at most: nobody writes longer ones, and no folder may fill the
/// memory. A longer one is told and does not count.
const FILE_MAX: u64 = 1 << 20;

/// Why a path is out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ignored {
    /// The directory whose ignore file says so, relative to the root.
    pub dir: Bytes,
    /// The pattern.
    pub pattern: String,
}

/// The ignore files that were read, by their directories relative to the root. Bounded by the
/// directories that have one.
#[derive(Debug, Default)]
pub struct Ignores(BTreeMap<Bytes, Read>);

/// What was read in a directory.
#[derive(Debug)]
struct Read {
    texts: [String; 2],
    matcher: Gitignore,
}

/// Whether a name is that of an ignore file.
pub fn is_ignore_file(name: &[u8]) -> bool {
    NAMES.iter().any(|known| known.as_bytes() == name)
}

impl Ignores {
    /// Reads the ignore files in an open directory that is `rel` relative to the root. Returns
    /// whether they are others than before; what is wrong with them is logged then. Errors: too
    /// much is open to know what they say; what they said before holds.
    pub fn read(&mut self, dir: BorrowedFd<'_>, rel: &Bytes) -> io::Result<bool> {
        let (mut texts, mut wrong) = ([const { String::new() }; 2], Vec::new());
        for (text, name) in texts.iter_mut().zip(NAMES) {
            match text_of(dir, name) {
                Ok(read) => *text = read,
                Err(error) if is_scarcity(&error) => return Err(error),
                Err(error) => wrong.push(format!("{name} does not count: {error}")),
            }
        }
        if texts.iter().all(String::is_empty) && wrong.is_empty() {
            return Ok(self.0.remove(rel).is_some());
        }
        if self.0.get(rel).is_some_and(|read| read.texts == texts) {
            return Ok(false);
        }
        // Patterns hold beneath their directory: names are matched relative to it.
        let mut builder = GitignoreBuilder::new("");
        for line in texts.iter().flat_map(|text| text.lines()) {
            if let Err(error) = builder.add_line(None, line) {
                wrong.push(format!("a line of an ignore file does not count: {error}"));
            }
        }
        let matcher = builder.build().unwrap_or_else(|error| {
            wrong.push(error.to_string());
            Gitignore::empty()
        });
        for wrong in wrong {
            tracing::warn!(dir = %rel.lossy(), "{wrong}");
        }
        self.0.insert(rel.clone(), Read { texts, matcher });
        Ok(true)
    }

    /// Forgets what was read in a directory below the root, and below that.
    pub fn forget(&mut self, top: &Bytes) {
        self.0.remove(top);
        // Not a look at each: whole trees go folder by folder.
        let first = top.join(b"");
        let below = self.0.range(first.clone()..).map(|(dir, _)| dir);
        let below = below.take_while(|dir| dir.as_bytes().starts_with(first.as_bytes()));
        let below: Vec<Bytes> = below.cloned().collect();
        for dir in below {
            self.0.remove(&dir);
        }
    }

    /// Why the path `rel` is out, if it is; the directories over it are not.
    pub fn against(&self, rel: &Bytes, is_dir: bool) -> Option<Ignored> {
        if rel.name() == b".git" {
            return Some(Ignored { dir: Bytes::default(), pattern: ".git".to_owned() });
        }
        // Most folders have none.
        if self.0.is_empty() {
            return None;
        }
        let mut dir = rel.dir();
        loop {
            if let Some(Read { matcher, .. }) = self.0.get(&Bytes::from(dir)) {
                let skip = if dir.is_empty() { 0 } else { dir.len() + 1 };
                let name = Bytes::from(&rel.as_bytes()[skip..]);
                match matcher.matched(name.as_path(), is_dir) {
                    Match::Ignore(glob) => {
                        let pattern = glob.original().to_owned();
                        return Some(Ignored { dir: Bytes::from(dir), pattern });
                    }
                    Match::Whitelist(_) => return None,
                    Match::None => {}
                }
            }
            if dir.is_empty() {
                return None;
            }
            dir = dir.iter().rposition(|&byte| byte == b'/').map_or(&[], |at| &dir[..at]);
        }
    }
}

/// The text of an ignore file; empty if there is none. Only a regular file is read, and no link is
/// followed.
fn text_of(dir: BorrowedFd<'_>, name: &str) -> io::Result<String> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let fd = match openat(dir, name, flags, Mode::empty()) {
        Ok(fd) => fd,
        Err(Errno::NOENT | Errno::LOOP) => return Ok(String::new()),
        Err(errno) => return Err(errno.into()),
    };
    if FileType::from_raw_mode(fstat(fd.as_fd())?.st_mode) != FileType::RegularFile {
        return Ok(String::new());
    }
    let mut bytes = Vec::new();
    let size = File::from(fd).take(FILE_MAX + 1).read_to_end(&mut bytes)?;
    if size as u64 > FILE_MAX {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "it is longer than 1 MiB"));
    }
    // Names that are not UTF-8 cannot be in a pattern: they match nothing.
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::fd::AsFd as _;

    use super::{Ignored, Ignores};

    fn read(files: &[(&str, &str)]) -> Ignores {
        let root = tempfile::tempdir().unwrap();
        let mut ignores = Ignores::default();
        for (file, text) in files {
            let path = root.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        for dir in ["", "a", "a/b"] {
            if let Ok(open) = fs::File::open(root.path().join(dir)) {
                assert!(ignores.read(open.as_fd(), &dir.into()).unwrap());
                assert!(!ignores.read(open.as_fd(), &dir.into()).unwrap(), "nothing has changed");
            }
        }
        ignores
    }

    #[test]
    fn the_last_pattern_of_the_deepest_file_decides() {
        let ignores = read(&[
            (".gitignore", "*.o\n!keep.o\n/build\n# a comment\nlogs/\n"),
            ("a/.gitignore", "!x.o\n"),
            ("a/b/.gitignore", "*.txt\n"),
            ("a/b/.ignore", "!some.txt\n"),
        ]);
        let out = |rel: &str| ignores.against(&rel.into(), false).is_some();
        assert!(out("x.o") && !out("keep.o") && !out("a/x.o") && out("a/y.o") && out("a/b/y.o"));
        assert!(out("build") && !out("a/build"));
        assert!(out("a/b/t.txt") && !out("a/t.txt") && !out("a/b/some.txt"));
        assert!(!out("logs") && ignores.against(&"a/logs".into(), true).is_some());
        assert!(ignores.against(&"a/.git".into(), true).is_some());
        let why = Ignored { dir: "a/b".into(), pattern: "*.txt".into() };
        assert_eq!(ignores.against(&"a/b/t.txt".into(), false), Some(why));
    }

    #[test]
    fn a_folder_that_is_gone_has_no_rules() {
        let files = [(".gitignore", "r\n"), ("a/.gitignore", "s\n"), ("a/b/.ignore", "t\n")];
        let mut ignores = read(&files);
        ignores.forget(&"a/b".into());
        assert_eq!(ignores.0.len(), 2);
        ignores.forget(&"a".into());
        assert!(ignores.0.keys().eq([&"".into()]));
    }

    #[test]
    fn what_is_no_file_is_not_read() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join(".gitignore")).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", root.path().join(".ignore")).unwrap();
        let open = fs::File::open(root.path()).unwrap();
        let mut ignores = Ignores::default();
        assert!(!ignores.read(open.as_fd(), &"".into()).unwrap());
        assert!(ignores.0.is_empty());
        fs::remove_file(root.path().join(".ignore")).unwrap();
        fs::write(root.path().join(".ignore"), "x\n".repeat(1 << 20)).unwrap();
        assert!(ignores.read(open.as_fd(), &"".into()).unwrap());
        assert!(ignores.against(&"x".into(), false).is_none(), "it is too long");
    }
}
