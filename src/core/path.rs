//! File names as the kernel has them: bytes.
//!
//! A name may hold a newline, begin with a dash or be no UTF-8; it goes through unchanged. In JSON
//! it is a string when it is UTF-8 and `{"b64": "…"}` otherwise.

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The bytes of a path, absolute or relative, without a guarantee of encoding. Shared by its copies: a
/// file that is worked on is named in a dozen places.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Bytes(Arc<[u8]>);

impl Bytes {
    /// The bytes themselves.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// As a path of this platform.
    pub fn as_path(&self) -> &Path {
        Path::new(OsStr::from_bytes(&self.0))
    }

    /// For people: invalid sequences are replaced.
    pub fn lossy(&self) -> std::borrow::Cow<'_, str> {
        String::from_utf8_lossy(&self.0)
    }

    /// For machines: standard base64 of the exact bytes.
    pub fn b64(&self) -> String {
        STANDARD.encode(&self.0)
    }

    /// The last component.
    pub fn name(&self) -> &[u8] {
        self.0.rsplit(|&b| b == b'/').next().unwrap_or_default()
    }

    /// All before the last component, without the slash; empty if there is none.
    pub fn dir(&self) -> &[u8] {
        self.0.iter().rposition(|&b| b == b'/').map_or(&[], |at| &self.0[..at])
    }

    /// `self/name`, or `name` alone if `self` is empty.
    #[must_use]
    pub fn join(&self, name: &[u8]) -> Self {
        if self.0.is_empty() {
            return Self(name.into());
        }
        let mut whole = Vec::with_capacity(self.0.len() + 1 + name.len());
        whole.extend_from_slice(&self.0);
        if self.0.last() != Some(&b'/') {
            whole.push(b'/');
        }
        whole.extend_from_slice(name);
        Self(whole.into())
    }
}

impl From<&[u8]> for Bytes {
    fn from(bytes: &[u8]) -> Self {
        Self(bytes.into())
    }
}

impl From<Vec<u8>> for Bytes {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes.into())
    }
}

impl From<&str> for Bytes {
    fn from(text: &str) -> Self {
        Self(text.as_bytes().into())
    }
}

impl From<&Path> for Bytes {
    fn from(path: &Path) -> Self {
        Self(path.as_os_str().as_bytes().into())
    }
}

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.escape_ascii())
    }
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match std::str::from_utf8(&self.0) {
            Ok(text) => serializer.serialize_str(text),
            Err(_) => Exact { b64: self.b64() }.serialize(serializer),
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Exact {
    b64: String,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Either {
    Text(String),
    Exact(Exact),
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Either::deserialize(deserializer)? {
            Either::Text(text) => Ok(Self::from(text.as_str())),
            Either::Exact(exact) => {
                STANDARD.decode(exact.b64).map(Self::from).map_err(D::Error::custom)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Bytes;

    #[test]
    fn every_byte_survives_json() {
        let odd = Bytes::from((1..=255u8).filter(|&b| b != b'/').collect::<Vec<_>>());
        let json = serde_json::to_string(&odd).unwrap();
        assert_eq!(serde_json::from_str::<Bytes>(&json).unwrap(), odd);
        assert_eq!(serde_json::to_string(&Bytes::from("a\nb")).unwrap(), r#""a\nb""#);
    }

    #[test]
    fn components() {
        let rel = Bytes::from("a/b/c.csv");
        assert_eq!((rel.dir(), rel.name()), (&b"a/b"[..], &b"c.csv"[..]));
        let flat = Bytes::from("c.csv");
        assert_eq!((flat.dir(), flat.name()), (&b""[..], &b"c.csv"[..]));
        assert_eq!(Bytes::from("").join(b"x"), Bytes::from("x"));
        assert_eq!(Bytes::from("/").join(b"x"), Bytes::from("/x"));
    }
}
