//! Hashes of a content, made piece by piece: all that are wanted in one pass.

use sha2::Digest as _;

use crate::core::sidecar::Checksum;

/// What is wanted of a content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    /// To compare with a checksum file.
    pub(super) checksum: Option<Checksum>,
    /// BLAKE3, for the key.
    pub(super) key: bool,
}

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Digests {
    pub(super) checksum: Option<Vec<u8>>,
    pub(super) key: Option<[u8; 32]>,
}

/// Hashes in the making.
pub(super) struct Hashers {
    wanted: Wanted,
    sha256: Option<sha2::Sha256>,
    md5: Option<md5::Md5>,
    blake3: Option<Box<blake3::Hasher>>,
}

impl Hashers {
    pub(super) fn new(wanted: Wanted) -> Self {
        let is = |kind| wanted.checksum == Some(kind);
        let blake3 = wanted.key || is(Checksum::Blake3);
        Self {
            wanted,
            sha256: is(Checksum::Sha256).then(sha2::Sha256::new),
            md5: is(Checksum::Md5).then(md5::Md5::new),
            blake3: blake3.then(|| Box::new(blake3::Hasher::new())),
        }
    }

    pub(super) fn update(&mut self, piece: &[u8]) {
        if let Some(sha256) = &mut self.sha256 {
            sha256.update(piece);
        }
        if let Some(md5) = &mut self.md5 {
            md5.update(piece);
        }
        if let Some(blake3) = &mut self.blake3 {
            blake3.update(piece);
        }
    }

    pub(super) fn finish(self) -> Digests {
        let blake3 = self.blake3.map(|hasher| *hasher.finalize().as_bytes());
        let checksum = match self.wanted.checksum {
            Some(Checksum::Sha256) => self.sha256.map(|sha256| sha256.finalize().to_vec()),
            Some(Checksum::Md5) => self.md5.map(|md5| md5.finalize().to_vec()),
            Some(Checksum::Blake3) => blake3.map(|hash| hash.to_vec()),
            None => None,
        };
        Digests { checksum, key: blake3.filter(|_| self.wanted.key) }
    }
}

#[cfg(test)]
mod tests {
    use super::{Digests, Hashers, Wanted};
    use crate::core::sidecar::Checksum;

    fn digests(checksum: Option<Checksum>, key: bool) -> Digests {
        let mut hashers = Hashers::new(Wanted { checksum, key });
        for piece in [&b"a"[..], b"", b"bc"] {
            hashers.update(piece);
        }
        hashers.finish()
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"))
    }

    #[test]
    fn known_values() {
        let of = |kind| hex(&digests(Some(kind), false).checksum.unwrap());
        assert_eq!(of(Checksum::Md5), "900150983cd24fb0d6963f7d28e17f72");
        assert_eq!(
            of(Checksum::Sha256),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        let blake3 = "6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85";
        assert_eq!(of(Checksum::Blake3), blake3);
        let both = digests(Some(Checksum::Md5), true);
        assert_eq!(hex(&both.key.unwrap()), blake3);
        assert_eq!(both.checksum.unwrap().len(), 16);
        assert_eq!(digests(None, false), Digests::default());
    }
}
