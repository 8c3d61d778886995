//! Reading a task's `env_file`: who may see it, and what it says.
//!
//! Errors name the file and the line, never the line's text: it may hold a secret.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use crate::core::task::Exit;

use super::launch::unstarted;

/// The largest file that is read, in bytes: far above what an environment can hold.
const ENV_FILE_MAX: u64 = 1 << 20;

/// Names and values, as bytes.
pub type Variables = Vec<(Vec<u8>, Vec<u8>)>;

/// Permission bits that make a file unfit for secrets: group may write, others may read or write.
const TOO_OPEN: u32 = 0o026;

/// The variables in `path`, in order. `KEY=value` lines, `#` comments, empty lines; a value is
/// everything up to the end of the line, quotes included. The error is how the attempt ends instead.
pub fn read(path: &Path) -> Result<Variables, Exit> {
    let shown = path.display();
    let failed =
        |what, error| unstarted(&error, format!("cannot {what} env_file `{shown}`: {error}"));
    let file = std::fs::OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
        .open(path)
        .map_err(|error| failed("open", error))?;
    check(&file, rustix::process::geteuid().as_raw())
        .map_err(|why| Exit::NotStarted(format!("env_file `{shown}` is refused: {why}")))?;
    let mut text = Vec::new();
    let read = file.take(ENV_FILE_MAX + 1).read_to_end(&mut text);
    read.map_err(|error| failed("read", error))?;
    if text.len() as u64 > ENV_FILE_MAX {
        let why = format!("env_file `{shown}` is larger than {ENV_FILE_MAX} bytes");
        return Err(Exit::NotStarted(why));
    }
    parse(&text).map_err(|line| {
        Exit::NotStarted(format!(
            "env_file `{shown}`, line {line}: not of the form KEY=value; comments begin with #"
        ))
    })
}

fn check(file: &File, user: u32) -> Result<(), String> {
    let meta = file.metadata().map_err(|error| error.to_string())?;
    if !meta.is_file() {
        return Err("it is not a regular file".into());
    }
    if meta.uid() != 0 && meta.uid() != user {
        return Err(format!("it belongs to user {}, not to root or user {user}", meta.uid()));
    }
    if meta.mode() & TOO_OPEN != 0 {
        return Err(format!(
            "its mode {:04o} lets others read or change it; run chmod 600 on it",
            meta.mode() & 0o7777
        ));
    }
    Ok(())
}

/// An `Err` is the number of the first bad line, from 1.
fn parse(text: &[u8]) -> Result<Variables, usize> {
    let mut variables = Vec::new();
    for (index, line) in text.split(|&b| b == b'\n').enumerate() {
        let start = line.trim_ascii_start();
        if start.is_empty() || start.starts_with(b"#") {
            continue;
        }
        let (key, value) = key_value(start).ok_or(index + 1)?;
        variables.push((key.to_vec(), value.to_vec()));
    }
    Ok(variables)
}

/// Splits `KEY=value`; `None` if the key is no identifier or a NUL is in the value.
pub fn key_value(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = line.iter().position(|&b| b == b'=')?;
    let (key, value) = (&line[..at], &line[at + 1..]);
    let first = *key.first()?;
    let named = (first.is_ascii_alphabetic() || first == b'_')
        && key.iter().all(|&b| b.is_ascii_alphanumeric() || b == b'_');
    (named && !value.contains(&0)).then_some((key, value))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::{Exit, parse, read};

    /// Why a file is not read.
    fn why(path: &std::path::Path) -> String {
        let Err(Exit::NotStarted(why)) = read(path) else { panic!("{}", path.display()) };
        why
    }

    #[test]
    fn lines() {
        let parsed = parse(b"# c\n\nA=1\n  _b2= x=\"y\" \nEMPTY=").unwrap();
        let expected = [("A", "1"), ("_b2", " x=\"y\" "), ("EMPTY", "")];
        assert_eq!(parsed, expected.map(|(k, v)| (k.as_bytes().to_vec(), v.as_bytes().to_vec())));
        assert_eq!(parse(b"A=1\nexport B=2"), Err(2));
        assert_eq!(parse(b"1A=1"), Err(1));
        assert_eq!(parse(b"A=\0"), Err(1));
    }

    #[test]
    fn modes_and_errors_hide_the_text() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("env");
        std::fs::write(&path, "A=1\nthe secret\n").unwrap();
        for (mode, refused) in [(0o644, true), (0o660, true), (0o602, true), (0o640, false)] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            let error = why(&path);
            assert_eq!(error.contains("chmod 600"), refused, "{mode:o}: {error}");
            assert_eq!(error.contains("line 2"), !refused, "{mode:o}: {error}");
            assert!(!error.contains("secret"));
        }
        assert!(why(dir.path()).contains("not a regular file"));
        assert!(why(&dir.path().join("gone")).contains("gone"));
    }
}
