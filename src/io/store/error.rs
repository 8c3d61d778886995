//! What can go wrong with the store, sorted by what the caller does about it.
//!
//! Sorts failures; never handles one.

use std::io;
use std::path::{Path, PathBuf};

use rusqlite::{ErrorCode, ffi};

/// Why the store could not do what it was asked to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// It may pass: no space, a quota, a read-only file system, an input/output error, a lock that
    /// another process holds. Nothing was stored; the same batch can be committed again.
    #[error("{0}")]
    Passing(String),
    /// What is stored contradicts itself, or what was to be stored contradicts it. Trying again
    /// does not help.
    #[error("{0}")]
    Corrupt(String),
    /// The database has another layout than this program.
    #[error("{}", schema_text(.path, *.found, *.known))]
    Schema {
        /// The database.
        path: PathBuf,
        /// Its layout.
        found: u32,
        /// The newest layout that this program knows.
        known: u32,
    },
    /// Another dagd uses the same state directory.
    #[error("{}", locked_text(.path, *.pid))]
    Locked {
        /// The state directory.
        path: PathBuf,
        /// Its process; 0 if it has not written its number yet.
        pid: u32,
    },
    /// There is no database.
    #[error("{}: no such file: no dagd has run with this state_dir yet", .path.display())]
    Missing {
        /// Where it should be.
        path: PathBuf,
    },
}

fn schema_text(path: &Path, found: u32, known: u32) -> String {
    let path = path.display();
    if found > known {
        format!(
            "{path}: layout {found} was written by a newer dagd, this one knows up to {known}: \
             upgrade dagd, or choose another state_dir"
        )
    } else {
        format!(
            "{path}: layout {found} was written by an older dagd, this one needs {known}: \
             start the daemon once, it converts the database"
        )
    }
}

fn locked_text(path: &Path, pid: u32) -> String {
    let path = path.display();
    let who = if pid == 0 { String::new() } else { format!(" (process {pid})") };
    format!("{path}: in use by another dagd{who}: stop that one, or choose another state_dir")
}

/// A failure inside the store, before it is known whose file it is about.
#[derive(Debug)]
pub(super) enum Fault {
    /// From the database.
    Sql(rusqlite::Error),
    /// What is stored cannot be: the text says what.
    Contradiction(String),
    /// The file has another layout.
    Layout { found: u32, known: u32 },
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sql(error)
    }
}

/// The result of a step inside the store.
pub(super) type Step<T> = Result<T, Fault>;

impl Fault {
    /// The same for the outside: with the file's name, and sorted.
    pub(super) fn at(self, path: &Path) -> StoreError {
        match self {
            Self::Sql(error) => sorted(path, &error),
            Self::Contradiction(text) => StoreError::Corrupt(format!("{}: {text}", path.display())),
            Self::Layout { found, known } => {
                StoreError::Schema { path: path.to_owned(), found, known }
            }
        }
    }
}

/// A failure of the file system around the database.
pub(super) fn io_error(path: &Path, what: &str, error: &io::Error) -> StoreError {
    StoreError::Passing(format!("{}: {what}: {error}", path.display()))
}

fn sorted(path: &Path, error: &rusqlite::Error) -> StoreError {
    let path = path.display();
    let rusqlite::Error::SqliteFailure(code, _) = error else {
        return StoreError::Corrupt(format!("{path}: {error}"));
    };
    let remedy = match (code.code, code.extended_code) {
        (ErrorCode::SystemIoFailure, ffi::SQLITE_IOERR_DATA | ffi::SQLITE_IOERR_CORRUPTFS) => {
            return StoreError::Corrupt(format!("{path}: {error}: restore it from a backup"));
        }
        (ErrorCode::ReadOnly, ffi::SQLITE_READONLY_DBMOVED) => {
            return StoreError::Corrupt(format!(
                "{path}: moved or removed while in use: put it back and start dagd again"
            ));
        }
        (ErrorCode::DiskFull, _) => "free some space on its file system",
        (ErrorCode::ReadOnly, _) => "make the file and its file system writable",
        (ErrorCode::SystemIoFailure, _) => "check its file system (space, quota, health)",
        (ErrorCode::CannotOpen, _) => "check that the directory exists and is accessible",
        (ErrorCode::PermissionDenied, _) => "check the owner and mode of the file",
        (
            ErrorCode::DatabaseBusy
            | ErrorCode::DatabaseLocked
            | ErrorCode::FileLockingProtocolFailed,
            _,
        ) => "another process holds it, such as an open sqlite3 shell: end that one",
        (ErrorCode::OutOfMemory, _) => "free some memory",
        (ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase, _) => {
            return StoreError::Corrupt(format!(
                "{path}: {error}: move it aside to start empty, or restore it from a backup"
            ));
        }
        _ => return StoreError::Corrupt(format!("{path}: {error}")),
    };
    StoreError::Passing(format!("{path}: {error}: {remedy}"))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use rusqlite::ffi;

    use super::{Fault, StoreError};

    fn of(code: i32) -> StoreError {
        let error = rusqlite::Error::SqliteFailure(ffi::Error::new(code), None);
        Fault::from(error).at(Path::new("/s/dagd.db"))
    }

    #[test]
    fn what_may_pass_and_what_may_not() {
        for code in [
            ffi::SQLITE_FULL,
            ffi::SQLITE_IOERR_WRITE,
            ffi::SQLITE_IOERR_FSYNC,
            ffi::SQLITE_BUSY,
            ffi::SQLITE_READONLY,
            ffi::SQLITE_CANTOPEN,
        ] {
            let error = of(code);
            assert!(matches!(error, StoreError::Passing(_)), "{code}: {error:?}");
            assert!(error.to_string().starts_with("/s/dagd.db: "), "{error}");
        }
        for code in [
            ffi::SQLITE_CORRUPT,
            ffi::SQLITE_NOTADB,
            ffi::SQLITE_IOERR_CORRUPTFS,
            ffi::SQLITE_READONLY_DBMOVED,
            ffi::SQLITE_CONSTRAINT_PRIMARYKEY,
        ] {
            assert!(matches!(of(code), StoreError::Corrupt(_)), "{code}");
        }
    }

    #[test]
    fn both_layouts_are_named() {
        let text = Fault::Layout { found: 7, known: 1 }.at(Path::new("/s/dagd.db")).to_string();
        assert!(text.contains("layout 7") && text.contains("up to 1"), "{text}");
    }
}
