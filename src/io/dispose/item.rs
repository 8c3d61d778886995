//! What is disposed of, a file or a folder with all that is in it: the same questions for both.

use std::io;
use std::path::Path;

use super::error::{Doing as _, Error};
use super::{copy, lease, tree};
use crate::core::candidate::Version;
use crate::core::trigger::FileType;
use crate::io::disk::{tree_at, version_at};

/// The version at `path`; `None` if nothing of the kind is there, or the way to it is gone.
pub(super) fn look(what: FileType, path: &Path) -> Result<Option<Version>, Error> {
    use io::ErrorKind::{NotADirectory, NotFound};
    let looked = match what {
        FileType::File => version_at(path),
        FileType::Dir => tree_at(path),
    };
    match looked {
        Err(error) if matches!(error.kind(), NotFound | NotADirectory) => Ok(None),
        looked => looked.doing("look at it"),
    }
}

/// Whether somebody has it open for writing, or a file in it.
pub(super) fn writer_open(what: FileType, path: &Path) -> bool {
    match what {
        FileType::File => lease::writer_open(path),
        FileType::Dir => tree::any_file(path, &lease::writer_open),
    }
}

/// Copies the claimed version to the new name `temp`, durably; `false` if it is another by now.
pub(super) fn copy(
    what: FileType,
    from: &Path,
    temp: &Path,
    claim: &Version,
) -> Result<bool, Error> {
    match what {
        FileType::File => copy::copy(from, temp, claim).doing("copy it"),
        FileType::Dir => tree::copy(from, temp).map(|()| true),
    }
}

/// Whether both hold the same.
pub(super) fn same_content(what: FileType, a: &Path, b: &Path) -> bool {
    match what {
        FileType::File => copy::same_content(a, b).unwrap_or(false),
        FileType::Dir => tree::same(a, b).unwrap_or(false),
    }
}

/// Removes it under one of dagd's own names, if it is there.
pub(super) fn remove(what: FileType, own: &Path) -> io::Result<()> {
    let removed = match what {
        FileType::File => std::fs::remove_file(own),
        FileType::Dir => std::fs::remove_dir_all(own),
    };
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}
