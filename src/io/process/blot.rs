//! Secrets that a task has printed: blotted out of its log, in place.
//!
//! Knows the values of one attempt and its log; tells nobody what they are.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;

use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};
use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;

/// Bytes of a value that counts as a secret, at least: shorter ones (`1`, `yes`, `5432`) are all over
/// any output.
const SECRET_MIN: usize = 8;

/// Bytes that are looked at in one go, at least.
const STRETCH: usize = 1 << 20;

/// Values that nobody is to read in a log.
#[derive(Clone, Default)]
pub struct Secrets(Vec<Vec<u8>>);

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secrets({})", self.0.len())
    }
}

impl Secrets {
    /// Those of the values that are long enough, each with what a program that trims it prints.
    pub fn of<'a>(values: impl Iterator<Item = &'a [u8]>) -> Self {
        let values = values.flat_map(|value| [value, value.trim_ascii()]);
        let mut secrets: Vec<_> =
            values.filter(|value| value.len() >= SECRET_MIN).map(<[u8]>::to_vec).collect();
        // The longest first, whose length counts.
        secrets.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        secrets.dedup();
        Self(secrets)
    }

    /// Overwrites each of them in the file with asterisks, as many as it has bytes: where a line
    /// begins stays the same. A file that is not there is fine.
    pub fn blot(&self, path: &Path) -> io::Result<()> {
        let Some(longest) = self.0.first().map(Vec::len) else { return Ok(()) };
        let opened =
            OpenOptions::new().read(true).write(true).custom_flags(libc::O_NOFOLLOW).open(path);
        match opened {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
            Ok(file) => overwrite(&file, &self.pattern()?, longest),
        }
    }

    /// The same where nothing can be done about a failure.
    pub fn blot_or_tell(&self, path: &Path) {
        if let Err(error) = self.blot(path) {
            tracing::warn!(path = %path.display(), %error, "secrets may be in the log of a task");
        }
    }

    fn pattern(&self) -> io::Result<AhoCorasick> {
        AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostLongest)
            .kind(Some(AhoCorasickKind::ContiguousNFA))
            .build(&self.0)
            // The error tells of numbers only.
            .map_err(io::Error::other)
    }
}

fn overwrite(file: &File, pattern: &AhoCorasick, longest: usize) -> io::Result<()> {
    let mut stretch = vec![0; STRETCH.max(2 * longest)];
    let mut from = 0;
    // What was cut out of a long log is a hole: nothing to look at, however long it is.
    while let Some(data) = data_from(file, from)? {
        from = data;
        let length = fill(file, &mut stretch, from)?;
        // Up to where the longest is whole if it begins there: of two that begin alike the longer one
        // may be cut beyond. What begins later is whole in the next stretch.
        let whole = if length < stretch.len() { length } else { length - (longest - 1) };
        let all = pattern.find_iter(&stretch[..length]);
        for found in all.take_while(|found| found.start() < whole) {
            file.write_all_at(&vec![b'*'; found.len()], from + found.start() as u64)?;
        }
        if length < stretch.len() {
            return Ok(());
        }
        from += whole as u64;
    }
    Ok(())
}

/// Where there is something next, at `from` or after it; `None`: there is nothing more.
fn data_from(file: &File, from: u64) -> io::Result<Option<u64>> {
    match seek(file, SeekFrom::Data(from)) {
        Ok(data) => Ok(Some(data)),
        Err(Errno::NXIO) => Ok(None),
        // A file system that does not tell where its holes are.
        Err(Errno::INVAL) => Ok(Some(from)),
        Err(error) => Err(error.into()),
    }
}

/// Reads until the buffer is full or the file ends; how much there was.
fn fill(file: &File, buffer: &mut [u8], from: u64) -> io::Result<usize> {
    let mut length = 0;
    while length < buffer.len() {
        match file.read_at(&mut buffer[length..], from + length as u64) {
            Ok(0) => break,
            Ok(read) => length += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(length)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt as _;

    use super::{STRETCH, Secrets};

    fn blotted(values: &[&[u8]], text: &[u8]) -> Vec<u8> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let secrets = Secrets::of(values.iter().copied());
        secrets.blot(&path).unwrap();
        std::fs::write(&path, text).unwrap();
        secrets.blot(&path).unwrap();
        std::fs::read(&path).unwrap()
    }

    #[test]
    fn values_go_wherever_they_are_and_nothing_else_does() {
        let values: [&[u8]; 4] = [b"hunter2-and-more", b"hunter2-", b"short", b"\xff(.*)[a]\n"];
        let text = b"a hunter2-and-more hunter2-hunter2- short \xff(.*)[a]\nhunter2";
        let clean = b"a **************** **************** short *********hunter2";
        assert_eq!(blotted(&values, text), clean);
        assert_eq!(blotted(&[b"short"], b"short"), b"short");
        assert_eq!(format!("{:?}", Secrets::of(values.into_iter())), "Secrets(4)");
    }

    #[test]
    fn a_value_goes_as_it_is_without_what_surrounds_it_as_well() {
        let values: [&[u8]; 2] = [b" hunter2-hunter2\r\n", b"  short \t"];
        let text = b"a hunter2-hunter2\nhunter2-hunter2\r\n  short \t";
        let clean = b"a ***************\n***************\r\n*********";
        let blotted = blotted(&values, text);
        assert_eq!(blotted.escape_ascii().to_string(), clean.escape_ascii().to_string());
    }

    #[test]
    fn values_across_stretches_go() {
        let secret = b"0123456789abcdef";
        for at in STRETCH - 17..STRETCH + 2 {
            let mut text = vec![b'.'; STRETCH + 40];
            text[at..at + secret.len()].copy_from_slice(secret);
            // One that begins another is no reason to leave the rest of that.
            let clean = blotted(&[secret, &secret[..9], b"unrelated"], &text);
            text[at..at + secret.len()].fill(b'*');
            assert!(clean == text, "{at}");
        }
        let long = vec![b'k'; 1 << 17];
        assert_eq!(blotted(&[&long], &long), vec![b'*'; long.len()]);
    }

    /// A TiB would take minutes if it were read.
    #[test]
    fn what_was_cut_out_of_a_log_is_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let (secret, end) = (b"0123456789abcdef", 1 << 40);
        let log = std::fs::File::create_new(&path).unwrap();
        log.write_all_at(secret, 0).unwrap();
        log.write_all_at(secret, end).unwrap();
        Secrets::of([&secret[..]].into_iter()).blot(&path).unwrap();
        let log = std::fs::File::open(&path).unwrap();
        for at in [0, end] {
            let mut found = [0; 16];
            log.read_exact_at(&mut found, at).unwrap();
            assert_eq!(found, [b'*'; 16]);
        }
    }
}
