//! Reading what an attempt wrote to `DAGD_OUTPUT`.
//!
//! The file is the task's: it may be missing, huge, a fifo or nonsense. None of that makes a task
//! fail; what cannot be used is logged.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use super::env_file::key_value;

/// The most that is read, in bytes: outputs are small facts; data belongs in files.
const OUTPUT_MAX: u64 = 1 << 20;

/// The `KEY=value` lines in `path`, a later one replacing an earlier one; then removes the file.
pub fn take(path: &Path) -> BTreeMap<String, String> {
    let found = look(path);
    if let Err(error) = std::fs::remove_file(path)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(path = %path.display(), %error, "cannot remove a task's outputs");
    }
    found
}

/// The same without removing it.
pub fn look(path: &Path) -> BTreeMap<String, String> {
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_CLOEXEC)
        .open(path);
    let read = match opened {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return BTreeMap::new(),
        Err(error) => Err(error),
        Ok(file) => read(file),
    };
    let text = read.unwrap_or_else(|error| {
        tracing::warn!(path = %path.display(), %error, "cannot read a task's outputs");
        Vec::new()
    });
    let (found, bad) = parse(&text);
    if bad > 0 {
        tracing::warn!(
            path = %path.display(), lines = bad,
            "lines of a task's outputs are not of the form KEY=value and are left out"
        );
    }
    found
}

fn read(file: File) -> io::Result<Vec<u8>> {
    let meta = file.metadata()?;
    if !meta.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    if meta.nlink() > 1 {
        // A task of another user may have linked what it could not read itself.
        return Err(io::Error::other("it is another file as well"));
    }
    let mut text = Vec::new();
    file.take(OUTPUT_MAX + 1).read_to_end(&mut text)?;
    if text.len() as u64 > OUTPUT_MAX {
        // The line at the border is cut: better none than half a value.
        let end = text.iter().rposition(|&b| b == b'\n').unwrap_or(0);
        text.truncate(end);
        tracing::warn!(max = OUTPUT_MAX, "a task's outputs are too long; the rest is left out");
    }
    Ok(text)
}

/// What was found, and how many lines were bad.
fn parse(text: &[u8]) -> (BTreeMap<String, String>, usize) {
    let mut found = BTreeMap::new();
    let mut bad = 0;
    for line in text.split(|&b| b == b'\n').filter(|line| !line.is_empty()) {
        let pair = std::str::from_utf8(line).ok().and_then(|line| {
            key_value(line.as_bytes())?;
            line.split_once('=')
        });
        match pair {
            Some((key, value)) => {
                found.insert(key.to_owned(), value.to_owned());
            }
            None => bad += 1,
        }
    }
    (found, bad)
}

#[cfg(test)]
mod tests {
    use super::{OUTPUT_MAX, parse, take};

    #[test]
    fn lines() {
        let (found, bad) = parse(b"a=1\nb=x=y\n\na=2\nno\n1=2\nc=\xff\nlast=z");
        let pairs: Vec<_> = found.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(pairs, [("a", "2"), ("b", "x=y"), ("last", "z")]);
        assert_eq!(bad, 3);
    }

    #[test]
    fn files_are_bounded_and_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out");
        assert!(take(&path).is_empty());
        let mut text = b"a=1\nb=".to_vec();
        text.resize(usize::try_from(OUTPUT_MAX).unwrap() + 10, b'x');
        std::fs::write(&path, text).unwrap();
        assert_eq!(take(&path).into_keys().collect::<Vec<_>>(), ["a"]);
        assert!(!path.exists());
    }

    #[test]
    fn what_is_no_file_is_left_unread() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &path,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
            0,
        )
        .unwrap();
        assert!(take(&path).is_empty());
        assert!(!path.exists());
        std::fs::write(dir.path().join("secret"), "a=1\n").unwrap();
        std::fs::hard_link(dir.path().join("secret"), &path).unwrap();
        assert!(take(&path).is_empty());
        assert!(!path.exists());
        std::os::unix::fs::symlink("/etc/passwd", &path).unwrap();
        assert!(take(&path).is_empty());
        assert!(!path.is_symlink());
    }
}
