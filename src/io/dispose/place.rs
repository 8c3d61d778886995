//! Moving names without replacing any: the single steps of a disposition.
//!
//! Each step is atomic. None of them decides anything.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, RenameFlags};
use rustix::io::Errno;

use super::tree;
use crate::core::id::RunId;

/// Names that are tried for one file. A batch has 1,000 files by default, and all of them may
/// have the same name.
pub(super) const CONFLICTS_MAX: u32 = 2_000;

/// Longest name of a file, in bytes: the same on all file systems that matter.
const NAME_MAX: usize = 255;

/// Gives the file `from` the name `to` as well or instead. `EEXIST` if there is something.
pub(super) fn rename(from: &Path, to: &Path) -> Result<(), Errno> {
    rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE)
}

/// Whether a refused [`rename`] means that the file system does not know how to.
pub(super) fn cannot_rename(error: Errno) -> bool {
    matches!(error, Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP)
}

/// Gives the file `from` the second name `to`. `EEXIST` if there is something.
pub(super) fn link(from: &Path, to: &Path) -> Result<(), Errno> {
    rustix::fs::linkat(CWD, from, CWD, to, AtFlags::empty())
}

/// Gives the folder `from` the name `to` where [`rename`] cannot: in place of an empty folder that
/// is made for it. `EEXIST` if there is something else.
pub(super) fn rename_folder(from: &Path, to: &Path) -> Result<(), Errno> {
    match rustix::fs::mkdir(to, Mode::RWXU) {
        // One that is empty has been left by a crash, or does nobody good.
        Err(Errno::EXIST) if tree::is_empty(to) => {}
        made => made?,
    }
    match rustix::fs::rename(from, to) {
        Err(Errno::NOTEMPTY | Errno::NOTDIR) => Err(Errno::EXIST),
        Err(error) => {
            // It is empty, or it is not removed.
            rustix::fs::rmdir(to).ok();
            Err(error)
        }
        Ok(()) => Ok(()),
    }
}

/// [`rename`], or where the file system cannot, a second name and then the first one away. After
/// a crash both may be there. Only for names that are dagd's own.
pub(super) fn place(from: &Path, to: &Path) -> Result<(), Errno> {
    match rename(from, to) {
        Err(error) if cannot_rename(error) && from.is_dir() => rename_folder(from, to),
        Err(error) if cannot_rename(error) => {
            link(from, to)?;
            rustix::fs::unlink(from)
        }
        done => done,
    }
}

/// `target`, then free names beside it: `stem.<run>.ext`, `stem.<run>-2.ext`, and so on. The same
/// each time, so that after a crash the file is found again.
pub(super) fn names(target: &Path, run: RunId) -> impl Iterator<Item = PathBuf> {
    let others = (1..CONFLICTS_MAX).map(move |nth| variant(target, run, nth));
    std::iter::once(target.to_path_buf()).chain(others)
}

fn variant(target: &Path, run: RunId, nth: u32) -> PathBuf {
    let name = target.file_name().unwrap_or_default().as_bytes();
    // A leading dot makes a name hidden; it begins no extension.
    let dot = name.iter().rposition(|&byte| byte == b'.').filter(|&at| at > 0);
    let (stem, ext) = name.split_at(dot.unwrap_or(name.len()));
    let mark = if nth == 1 { format!(".{run}") } else { format!(".{run}-{nth}") };
    let mut room = NAME_MAX.saturating_sub(mark.len() + ext.len()).min(stem.len());
    // Not within a character, if it is UTF-8.
    while room < stem.len() && room > 0 && stem[room] & 0xC0 == 0x80 {
        room -= 1;
    }
    let name = [&stem[..room], mark.as_bytes(), ext].concat();
    target.with_file_name(OsStr::from_bytes(&name))
}

/// Whether two paths that lead to the same file are one and the same entry of a folder, perhaps
/// by way of a link or another mount.
pub(super) fn same_entry(a: &Path, b: &Path) -> bool {
    let folder = |path: &Path| {
        let stat = fs::metadata(path.parent()?).ok()?;
        Some((stat.dev(), stat.ino()))
    };
    let linked = fs::symlink_metadata(a).is_ok_and(|stat| stat.nlink() > 1);
    !linked || (a.file_name() == b.file_name() && folder(a) == folder(b))
}

/// Makes the folder `dir` and those above it, durably.
pub(super) fn make_folders(dir: &Path) -> io::Result<()> {
    let missing: Vec<&Path> = dir.ancestors().take_while(|dir| !dir.exists()).collect();
    for dir in missing.into_iter().rev() {
        match fs::create_dir(dir) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && dir.is_dir() => {}
            Err(error) => return Err(error),
            Ok(()) => sync_folder(dir)?,
        }
    }
    Ok(())
}

/// Makes durable what names the folder of `path` holds. A file system that cannot, or a folder
/// that this user may not read, is no error: there is nothing better to be had.
pub(super) fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    match fs::File::open(folder).and_then(|folder| folder.sync_all()) {
        Err(error) if error.raw_os_error() == Some(libc::EIO) => Err(error),
        Err(error) => {
            tracing::debug!(%error, folder = %folder.display(), "folder not synced");
            Ok(())
        }
        Ok(()) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt as _;
    use std::path::Path;

    use super::{CONFLICTS_MAX, NAME_MAX, RunId, link, make_folders, names, place, same_entry};

    fn first(target: &str) -> Vec<String> {
        let names = names(Path::new(target), RunId(7)).take(4);
        names.map(|path| path.display().to_string()).collect()
    }

    #[test]
    fn free_names_are_the_same_each_time() {
        assert_eq!(first("/d/a.csv"), ["/d/a.csv", "/d/a.7.csv", "/d/a.7-2.csv", "/d/a.7-3.csv"]);
        assert_eq!(first("/d/README")[1], "/d/README.7");
        assert_eq!(first("/d/.profile")[1], "/d/.profile.7");
        assert_eq!(first("/d/a.tar.gz")[1], "/d/a.tar.7.gz");
        assert_eq!(first("/d/a.")[1], "/d/a.7.");
        assert_eq!(names(Path::new("/d/a"), RunId(1)).count(), CONFLICTS_MAX as usize);
    }

    #[test]
    fn free_names_fit() {
        let long = format!("/d/{}.csv", "ü".repeat(125));
        for path in names(Path::new(&long), RunId(u64::MAX)).skip(1).take(12) {
            let name = path.file_name().unwrap();
            assert!(name.len() <= NAME_MAX && name.len() > NAME_MAX - 4, "{}", name.len());
            assert_eq!(path.extension().unwrap(), "csv");
        }
        let odd = [b"/d/".as_slice(), &[0xFF; 255]].concat();
        let path = names(Path::new(OsStr::from_bytes(&odd)), RunId(12)).nth(1).unwrap();
        assert_eq!(path.file_name().unwrap().len(), NAME_MAX);
    }

    #[test]
    fn placing_replaces_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let [a, b] = ["a", "b"].map(|name| folder.path().join(name));
        std::fs::write(&a, "a").unwrap();
        std::fs::write(&b, "b").unwrap();
        assert_eq!(place(&a, &b), Err(rustix::io::Errno::EXIST));
        assert_eq!(link(&a, &b), Err(rustix::io::Errno::EXIST));
        assert_eq!(std::fs::read(&b).unwrap(), b"b");
    }

    #[test]
    fn an_entry_is_told_from_a_second_name() {
        let folder = tempfile::tempdir().unwrap();
        let (a, b) = (folder.path().join("a"), folder.path().join("b"));
        let round = folder.path().join("self/../a");
        std::fs::create_dir(folder.path().join("self")).unwrap();
        std::fs::write(&a, "").unwrap();
        assert!(same_entry(&a, &round));
        std::fs::hard_link(&a, &b).unwrap();
        assert!(same_entry(&a, &round));
        assert!(!same_entry(&a, &b));
    }

    #[test]
    fn folders_are_made_down_to_the_last() {
        let top = tempfile::tempdir().unwrap();
        let deep = top.path().join("x/y/z");
        make_folders(&deep).unwrap();
        make_folders(&deep).unwrap();
        assert!(deep.is_dir());
        std::fs::write(deep.join("file"), "").unwrap();
        assert!(make_folders(&deep.join("file/below")).is_err());
        std::os::unix::fs::symlink("nowhere", deep.join("broken")).unwrap();
        assert!(make_folders(&deep.join("broken")).is_err());
    }
}
