//! What has to be known of a ready file before it is delivered: that its content is the one that
//! its checksum file tells, and that no other with the same key was delivered.
//!
//! Questions and answers only: whoever reads the file answers, and the machine decides.

use super::fill::{Facts, fill};
use super::id::{Name, RunId, Seq};
use super::path::Bytes;
use super::sidecar::{Checksum, Sidecar};
use super::trigger::{FolderSpec, FollowSymlinks, IdempotentKey, TriggerSpec};

use super::candidate::Version;

/// The longest key that is kept as it is, in bytes; of a longer one the hash is kept. Keys are for
/// people to read, too.
pub const KEY_MAX: usize = 1024;

/// A question about a file version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// Tells the answer from those to other questions; counted from 1 since the start.
    pub number: u64,
    /// The trigger.
    pub trigger: Name,
    /// Its root, absolute.
    pub root: Bytes,
    /// The path below the root.
    pub rel: Bytes,
    /// The version that is asked about.
    pub version: Version,
    /// Which symbolic links count.
    pub follow: FollowSymlinks,
    /// The file that holds its checksum, if that has to match.
    pub checksum: Option<(Sidecar, Checksum)>,
    /// Its key, if it must be the only one delivered with it.
    pub key: Option<KeyOf>,
}

/// How a key comes about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyOf {
    /// It is this.
    Known(Bytes),
    /// From the content: see [`content_key`].
    Content,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// The number of the question.
    pub number: u64,
    /// The trigger.
    pub trigger: Name,
    /// The newest state that was committed before the ledger was asked for the key.
    pub seq: Seq,
    /// What was found.
    pub finding: Finding,
}

/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// The checksum matches, where one was asked for.
    Good {
        /// The key.
        key: Option<Bytes>,
        /// The run that something with the same key was delivered to.
        delivered: Option<RunId>,
    },
    /// The checksum file is not there, or does not tell of this file.
    Untold,
    /// The content is another one than the checksum file tells.
    Differs,
    /// The file is gone, or was changed meanwhile.
    Changed,
    /// It cannot be read.
    Unreadable,
}

impl FolderSpec {
    /// Whether a ready file has to be checked before it is delivered.
    pub fn checks(&self) -> bool {
        self.checksum_file.is_some() || self.idempotent_key != IdempotentKey::Version
    }

    /// Whether a check reads its content.
    pub fn checks_content(&self) -> bool {
        self.checksum_file.is_some() || self.idempotent_key == IdempotentKey::Content
    }
}

/// The key of a file, or what it is made of; `None` if the version at its path is the key.
pub fn key_of(spec: &TriggerSpec, rel: &Bytes, version: &Version) -> Option<KeyOf> {
    let folder = spec.folder()?;
    let key = match &folder.idempotent_key {
        IdempotentKey::Version => return None,
        IdempotentKey::Content => return Some(KeyOf::Content),
        IdempotentKey::Path => known("path", rel.as_bytes()),
        IdempotentKey::NameSize => {
            let name = [rel.name(), b":", version.size.to_string().as_bytes()].concat();
            known("name+size", &name)
        }
        IdempotentKey::Template(template) => {
            let root = Bytes::from(folder.root.as_path());
            let path = root.join(rel.as_bytes());
            let facts = Facts {
                trigger: Some(&spec.name),
                root: Some(&root),
                file: Some((rel, &path)),
                ..Facts::default()
            };
            // What a template of a key may hold, the file has; the path is the narrowest otherwise.
            let filled = template.expand(|slot| fill(slot, &facts));
            known("key", &filled.unwrap_or_else(|_| rel.as_bytes().to_vec()))
        }
    };
    Some(KeyOf::Known(key))
}

/// The key of a content with this BLAKE3 hash.
pub fn content_key(hash: &[u8; 32]) -> Bytes {
    known("content", blake3::Hash::from_bytes(*hash).to_hex().as_bytes())
}

/// A key says of which kind it is, so that it never meets one of another kind after a reload.
fn known(kind: &str, text: &[u8]) -> Bytes {
    if text.len() > KEY_MAX {
        let hash = blake3::hash(text).to_hex();
        return Bytes::from([kind.as_bytes(), b" hash:", hash.as_bytes()].concat());
    }
    Bytes::from([kind.as_bytes(), b":", text].concat())
}

#[cfg(test)]
mod tests {
    use super::{KEY_MAX, content_key, known};

    #[test]
    fn keys_tell_their_kind_and_stay_short() {
        assert_eq!(known("path", b"a/b"), "path:a/b".into());
        let long = known("key", &[b'x'; KEY_MAX + 1]);
        assert!(long.as_bytes().starts_with(b"key hash:") && long.as_bytes().len() < 100);
        assert!(content_key(&[7; 32]).as_bytes().starts_with(b"content:0707"));
    }
}
