//! Why a file stays where it is, in words that name both paths and a remedy.

use std::io;
use std::path::PathBuf;

/// What keeps a move from being done.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("{doing}: {source}; {}", remedy(.source))]
    Io { doing: &'static str, source: io::Error },
    #[error(
        "another file came to {} meanwhile; what was there before is kept as {}: put one of \
         them elsewhere", .taken.display(), .kept.display()
    )]
    Kept { kept: PathBuf, taken: PathBuf },
    #[error("cannot put it back from {}: {source}; rename that by hand", .kept.display())]
    Stranded { kept: PathBuf, source: io::Error },
    #[error("no free name beside the target; clear that folder")]
    NoFreeName,
    #[error("the target is no absolute path of a file; change `move` or `move_failed`")]
    BadTarget,
    #[error("its folders keep changing; move it by hand")]
    Restless,
    #[error("{0}; move it by hand")]
    Refused(String),
}

/// Names what was being done when the kernel refused.
pub(super) trait Doing<T> {
    fn doing(self, doing: &'static str) -> Result<T, Error>;
}

impl<T, E: Into<io::Error>> Doing<T> for Result<T, E> {
    fn doing(self, doing: &'static str) -> Result<T, Error> {
        self.map_err(|error| Error::Io { doing, source: error.into() })
    }
}

fn remedy(error: &io::Error) -> &'static str {
    use io::ErrorKind as Kind;
    match error.kind() {
        Kind::PermissionDenied => "give dagd's user the right to write in both folders",
        Kind::ReadOnlyFilesystem => "mount it writable, or add it to ReadWritePaths= of the unit",
        Kind::StorageFull | Kind::QuotaExceeded => "make room there and move it by hand",
        Kind::NotADirectory | Kind::AlreadyExists => {
            "part of the target's path is a file: move that away, or change the target"
        }
        Kind::InvalidFilename => "the name is too long there: shorten the target",
        Kind::CrossesDevices | Kind::Unsupported => {
            "its file system can neither rename without replacing nor link: choose another target"
        }
        _ => "move it by hand once the cause is gone",
    }
}
