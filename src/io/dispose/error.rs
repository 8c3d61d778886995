//! Why a file is not where it is to be, in words that name both paths and a remedy; and whether
//! that may pass.

use std::io;
use std::path::PathBuf;

/// What keeps a disposition from being done.
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
    #[error("its place is taken, and on_conflict is \"fail\"; take away what is there")]
    Taken,
    #[error("what is there is no regular file, and only such are replaced; take it away")]
    Irreplaceable,
    #[error("it holds {}, which is no file, folder or link; take that out", .0.display())]
    Odd(PathBuf),
    #[error("no free name beside the target; clear that folder")]
    NoFreeName,
    #[error(
        "the target is no absolute path of a file outside of it; change `pre_move`, `move` or \
         `move_failed`"
    )]
    BadTarget,
    #[error("somebody has it open for writing; it stays until they close it")]
    Busy,
    #[error("its folders keep changing")]
    Restless,
    #[error("{0}")]
    Refused(String),
}

impl Error {
    /// Whether it may pass, so that trying again is of use. What a person has to decide about does
    /// not.
    pub(super) fn may_pass(&self) -> bool {
        match self {
            Self::Io { source, .. } => !is_permanent(source),
            Self::Kept { .. }
            | Self::Stranded { .. }
            | Self::NoFreeName
            | Self::Busy
            | Self::Restless
            | Self::Refused(_) => true,
            Self::Taken | Self::Irreplaceable | Self::Odd(_) | Self::BadTarget => false,
        }
    }
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

/// What follows from the names and the kind of the file system. All else (space, quotas, rights,
/// disks, networks) may change without anybody touching the configuration.
fn is_permanent(error: &io::Error) -> bool {
    use io::ErrorKind as Kind;
    matches!(
        error.kind(),
        Kind::InvalidFilename
            | Kind::NotADirectory
            | Kind::AlreadyExists
            | Kind::IsADirectory
            | Kind::CrossesDevices
            | Kind::Unsupported
            | Kind::InvalidInput
            | Kind::FileTooLarge
            | Kind::TooManyLinks
    ) || error.raw_os_error() == Some(libc::ELOOP)
}

fn remedy(error: &io::Error) -> &'static str {
    use io::ErrorKind as Kind;
    match error.kind() {
        Kind::PermissionDenied => "give dagd's user the right to write in both folders",
        Kind::ReadOnlyFilesystem => "mount it writable, or add it to ReadWritePaths= of the unit",
        Kind::StorageFull | Kind::QuotaExceeded => "make room there",
        Kind::NotADirectory | Kind::AlreadyExists | Kind::IsADirectory => {
            "part of the target's path is a file: move that away, or change the target"
        }
        Kind::InvalidFilename => "the name is too long there: shorten the target",
        Kind::CrossesDevices | Kind::Unsupported => {
            "its file system can neither rename without replacing nor link: choose another target"
        }
        Kind::FileTooLarge => "its file system holds no file of that size: choose another target",
        _ => "check its file system",
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::{Error, is_permanent};

    #[test]
    fn what_may_pass_is_tried_again() {
        for code in [
            libc::ENOSPC,
            libc::EDQUOT,
            libc::EROFS,
            libc::EIO,
            libc::EACCES,
            libc::EPERM,
            libc::EBUSY,
            libc::ESTALE,
            libc::ENOTCONN,
            libc::ETIMEDOUT,
            libc::EMFILE,
            libc::ENOMEM,
            libc::ENOENT,
        ] {
            let error = io::Error::from_raw_os_error(code);
            assert!(!is_permanent(&error), "{error}");
        }
        for code in [
            libc::ENAMETOOLONG,
            libc::ENOTDIR,
            libc::EEXIST,
            libc::EISDIR,
            libc::EXDEV,
            libc::EOPNOTSUPP,
            libc::EINVAL,
            libc::EFBIG,
            libc::ELOOP,
        ] {
            let error = io::Error::from_raw_os_error(code);
            assert!(is_permanent(&error), "{error}");
        }
        assert!(Error::NoFreeName.may_pass() && !Error::Taken.may_pass());
    }
}
