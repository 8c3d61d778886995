//! Files beside a file: those that say that it is complete, and those that hold its checksum.
//!
//! From a name to the names that belong to it, in both directions. Looks at no file.

use serde::{Deserialize, Serialize};

use super::fill::split;
use super::path::Bytes;

/// How the name of a sidecar follows from the name of the file that it is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sidecar {
    /// One for each file: `before`, the file's name, `after`.
    Name {
        /// What stands before the name.
        before: String,
        /// What stands after it.
        after: String,
    },
    /// One for each stem: the same with the name without its last extension.
    Stem {
        /// What stands before the stem.
        before: String,
        /// What stands after it.
        after: String,
    },
    /// One for all files of a folder.
    Folder(String),
}

/// Which files a sidecar is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum For {
    /// This one.
    File(Bytes),
    /// Those in this folder with this stem.
    Stem(Bytes, Vec<u8>),
    /// All in this folder.
    Folder(Bytes),
}

/// Why a text names no sidecar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SidecarError {
    /// It is empty, `.` or `..`.
    Empty,
    /// It holds a slash: sidecars lie beside their files.
    Slash,
    /// It holds a placeholder twice, or both.
    Twice,
    /// It is the name of the file itself.
    Itself,
}

impl Sidecar {
    /// Reads a text such as `{name}.done`, `{stem}.ok` or `_SUCCESS`.
    pub fn parse(text: &str) -> Result<Self, SidecarError> {
        if text.contains('/') {
            return Err(SidecarError::Slash);
        }
        let found = ["{name}", "{stem}"].map(|slot| text.split_once(slot));
        let sidecar = match found {
            [None, None] if matches!(text, "" | "." | "..") => return Err(SidecarError::Empty),
            [None, None] => return Ok(Self::Folder(text.to_owned())),
            [Some((before, after)), None] => {
                Self::Name { before: before.to_owned(), after: after.to_owned() }
            }
            [None, Some((before, after))] => {
                Self::Stem { before: before.to_owned(), after: after.to_owned() }
            }
            [Some(_), Some(_)] => return Err(SidecarError::Twice),
        };
        match &sidecar {
            Self::Name { after, .. } | Self::Stem { after, .. }
                if after.contains("{name}") || after.contains("{stem}") =>
            {
                Err(SidecarError::Twice)
            }
            // A file without an extension is called like its stem.
            Self::Name { before, after } | Self::Stem { before, after }
                if before.is_empty() && after.is_empty() =>
            {
                Err(SidecarError::Itself)
            }
            _ => Ok(sidecar),
        }
    }

    /// The path of the sidecar of the file `rel`.
    pub fn of(&self, rel: &Bytes) -> Bytes {
        let around = |before: &str, middle: &[u8], after: &str| {
            [before.as_bytes(), middle, after.as_bytes()].concat()
        };
        let name = match self {
            Self::Name { before, after } => around(before, rel.name(), after),
            Self::Stem { before, after } => around(before, split(rel.name()).0, after),
            Self::Folder(name) => name.clone().into_bytes(),
        };
        beside(rel, &name)
    }

    /// Which files the sidecar `rel` is for; `None` if it is none by its name.
    pub fn is_for(&self, rel: &Bytes) -> Option<For> {
        let name = rel.name();
        let folder = || Bytes::from(rel.dir());
        let middle = |before: &str, after: &str| {
            let middle = name.strip_prefix(before.as_bytes())?.strip_suffix(after.as_bytes())?;
            (!middle.is_empty()).then(|| middle.to_vec())
        };
        match self {
            Self::Name { before, after } => Some(For::File(beside(rel, &middle(before, after)?))),
            Self::Stem { before, after } => Some(For::Stem(folder(), middle(before, after)?)),
            Self::Folder(own) => (name == own.as_bytes()).then(|| For::Folder(folder())),
        }
    }
}

fn beside(rel: &Bytes, name: &[u8]) -> Bytes {
    let dir = rel.dir();
    if dir.is_empty() { Bytes::from(name.to_vec()) } else { Bytes::from(dir).join(name) }
}

/// A checksum's algorithm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Checksum {
    /// SHA-256.
    Sha256,
    /// BLAKE3 with 256 bits.
    Blake3,
    /// MD5: tells damage, not malice.
    Md5,
}

impl Checksum {
    /// The algorithm that a sidecar's name tells: by its extension, such as `.sha256`, or as
    /// `SHA256SUMS`.
    pub fn told_by(name: &str) -> Option<Self> {
        let lower = name.to_ascii_lowercase();
        let last = lower.rsplit('.').next().unwrap_or_default();
        match last {
            "sha256" | "sha256sum" | "sha256sums" => Some(Self::Sha256),
            "blake3" | "b3" | "b3sum" | "b3sums" => Some(Self::Blake3),
            "md5" | "md5sum" | "md5sums" => Some(Self::Md5),
            _ => None,
        }
    }

    /// Length of its value in bytes.
    pub fn bytes(self) -> usize {
        match self {
            Self::Sha256 | Self::Blake3 => 32,
            Self::Md5 => 16,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Checksum, For, Sidecar, SidecarError};
    use crate::core::path::Bytes;

    #[test]
    fn there_and_back() {
        let done = Sidecar::parse("{name}.done").unwrap();
        assert_eq!(done.of(&"a/b.csv".into()), "a/b.csv.done".into());
        assert_eq!(done.is_for(&"a/b.csv.done".into()), Some(For::File("a/b.csv".into())));
        assert_eq!(done.is_for(&"a/.done".into()), None, "no file has an empty name");
        assert_eq!(done.is_for(&"a/b.csv".into()), None);
        let ready = Sidecar::parse("ready-{stem}").unwrap();
        assert_eq!(ready.of(&"b.csv".into()), "ready-b".into());
        let stem = For::Stem(Bytes::default(), b"b".to_vec());
        assert_eq!(ready.is_for(&"ready-b".into()), Some(stem));
        let folder = Sidecar::parse("_SUCCESS").unwrap();
        assert_eq!(folder.of(&"x/y/b.csv".into()), "x/y/_SUCCESS".into());
        assert_eq!(folder.is_for(&"x/y/_SUCCESS".into()), Some(For::Folder("x/y".into())));
    }

    #[test]
    fn what_is_no_sidecar() {
        for (text, why) in [
            ("", SidecarError::Empty),
            ("..", SidecarError::Empty),
            ("done/{name}", SidecarError::Slash),
            ("{name}{stem}", SidecarError::Twice),
            ("{name}.{name}", SidecarError::Twice),
            ("{name}", SidecarError::Itself),
            ("{stem}", SidecarError::Itself),
        ] {
            assert_eq!(Sidecar::parse(text), Err(why), "{text}");
        }
    }

    #[test]
    fn names_tell_the_algorithm() {
        assert_eq!(Checksum::told_by("{name}.sha256"), Some(Checksum::Sha256));
        assert_eq!(Checksum::told_by("SHA256SUMS"), Some(Checksum::Sha256));
        assert_eq!(Checksum::told_by("{stem}.md5"), Some(Checksum::Md5));
        assert_eq!(Checksum::told_by("{name}.b3"), Some(Checksum::Blake3));
        assert_eq!(Checksum::told_by("{name}.sum"), None);
    }
}
