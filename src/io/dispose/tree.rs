//! Folders with all that is in them: copied across file systems, compared, looked through.
//!
//! Follows no symbolic link: a link is a thing of its own. Holds no more open than one folder and
//! one file at a time, however deep it goes.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File, FileType};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use super::copy;
use super::error::{Doing as _, Error};

/// Copies the folder `from` to the new name `temp` and syncs all of it, with what files and folders
/// wear as far as this user may set it. What changes in `from` meanwhile, the caller finds out.
pub(super) fn copy(from: &Path, temp: &Path) -> Result<(), Error> {
    let mut made = Vec::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(rel) = folders.pop() {
        let (source, target) = (from.join(&rel), temp.join(&rel));
        fs::DirBuilder::new().mode(0o700).create(&target).doing("make a folder of the copy")?;
        for (name, kind) in entries(&source).doing("read a folder")? {
            let below = rel.join(&name);
            if kind.is_dir() {
                folders.push(below);
            } else {
                copy_entry(&source.join(&name), &target.join(&name), kind)?;
            }
        }
        made.push((source, target));
    }
    // From the deepest up: whatever is made in a folder changes its time.
    for (source, target) in made.into_iter().rev() {
        let dressed = File::open(&source).and_then(|source| {
            let target = File::open(&target)?;
            copy::dress(&source, &target, &source.metadata()?)?;
            target.sync_all()
        });
        dressed.doing("copy what a folder wears")?;
    }
    Ok(())
}

fn copy_entry(source: &Path, target: &Path, kind: FileType) -> Result<(), Error> {
    if kind.is_symlink() {
        let copied = fs::read_link(source).and_then(|to| std::os::unix::fs::symlink(to, target));
        return copied.doing("copy a link");
    }
    if kind.is_file() {
        return copy::copy_file(source, target).doing("copy a file");
    }
    Err(Error::Odd(source.to_path_buf()))
}

/// Whether two folders hold the same names with the same content.
pub(super) fn same(a: &Path, b: &Path) -> io::Result<bool> {
    let mut folders = vec![PathBuf::new()];
    while let Some(rel) = folders.pop() {
        let (in_a, in_b) = (entries(&a.join(&rel))?, entries(&b.join(&rel))?);
        if !in_a.keys().eq(in_b.keys()) {
            return Ok(false);
        }
        for ((name, kind), other) in in_a.into_iter().zip(in_b.into_values()) {
            let below = rel.join(name);
            let (one, two) = (a.join(&below), b.join(&below));
            let same = match (kind, other) {
                (kind, other) if kind != other => false,
                (kind, _) if kind.is_dir() => {
                    folders.push(below);
                    true
                }
                (kind, _) if kind.is_file() => copy::same_content(&one, &two)?,
                (kind, _) if kind.is_symlink() => fs::read_link(one)? == fs::read_link(two)?,
                _ => false,
            };
            if !same {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

/// Whether `is` holds for any regular file in the folder. What cannot be read is passed over.
pub(super) fn any_file(folder: &Path, is: &dyn Fn(&Path) -> bool) -> bool {
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for (name, kind) in entries(&folder).unwrap_or_default() {
            let path = folder.join(name);
            if kind.is_dir() {
                folders.push(path);
            } else if kind.is_file() && is(&path) {
                return true;
            }
        }
    }
    false
}

/// Whether it is a folder with nothing in it.
pub(super) fn is_empty(folder: &Path) -> bool {
    let is_folder = folder.symlink_metadata().is_ok_and(|stat| stat.is_dir());
    is_folder && fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_none())
}

fn entries(folder: &Path) -> io::Result<BTreeMap<OsString, FileType>> {
    fs::read_dir(folder)?
        .map(|entry| entry.and_then(|entry| Ok((entry.file_name(), entry.file_type()?))))
        .collect()
}
