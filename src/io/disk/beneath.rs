//! Opening beneath a folder: names that lead out of it, or through a link, open nothing.
//!
//! The kernel does it in one call. Where that is not to be had (a sandbox that takes it away, such as
//! `RestrictSUIDSGID=` and `DynamicUser=` of systemd), the way is walked name by name.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, ResolveFlags, StatxFlags, openat, openat2, statx,
};
use rustix::io::Errno;

use crate::core::path::Bytes;

/// Times that a lookup which raced with a rename elsewhere is tried again.
const RACES_MAX: usize = 8;

/// Opens `rel` beneath `root`, through no link.
pub(super) fn beneath(root: BorrowedFd<'_>, rel: &Bytes, flags: OFlags) -> Result<OwnedFd, Errno> {
    at(root, rel, flags, false)
}

/// Opens `rel` beneath `root`, or with `through` wherever links lead.
pub(super) fn at(
    root: BorrowedFd<'_>,
    rel: &Bytes,
    flags: OFlags,
    through: bool,
) -> Result<OwnedFd, Errno> {
    let path: &[u8] = if rel.as_bytes().is_empty() { b"." } else { rel.as_bytes() };
    let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let how = if through { ResolveFlags::empty() } else { beneath } | ResolveFlags::NO_MAGICLINKS;
    let mut last = Errno::AGAIN;
    for _ in 0..RACES_MAX {
        match openat2(root, path, flags, Mode::empty(), how) {
            // A rename somewhere made the kernel unsure whether this is still beneath the root.
            Err(Errno::AGAIN) => last = Errno::AGAIN,
            Err(Errno::NOSYS) if through => return openat(root, path, flags, Mode::empty()),
            Err(Errno::NOSYS) => return walk(root, path, flags),
            other => return other,
        }
    }
    Err(last)
}

/// The same by one call for each name, through no link, with the same errors.
fn walk(root: BorrowedFd<'_>, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
    let names = || path.split(|&byte| byte == b'/').filter(|name| !matches!(*name, b"" | b"."));
    if path.starts_with(b"/") || names().any(|name| name == b"..") {
        return Err(Errno::XDEV);
    }
    let mut names = names().peekable();
    let mut reached: Option<OwnedFd> = None;
    while let Some(name) = names.next() {
        let here = reached.as_ref().map_or(root, |fd| fd.as_fd());
        let folder = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let step = if names.peek().is_some() { folder } else { flags };
        let opened = openat(here, name, step | OFlags::NOFOLLOW, Mode::empty());
        // A link is opened as itself where nothing but its place is asked for, and is no folder.
        let open_link = opened.is_ok() && step.contains(OFlags::PATH);
        let doubtful = open_link || matches!(opened, Err(Errno::NOTDIR));
        if doubtful && !step.contains(OFlags::NOFOLLOW) && is_link(here, name) {
            return Err(Errno::LOOP);
        }
        reached = Some(opened?);
    }
    reached.map_or_else(|| openat(root, c".", flags, Mode::empty()), Ok)
}

fn is_link(dir: BorrowedFd<'_>, name: &[u8]) -> bool {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    statx(dir, name, flags, StatxFlags::TYPE)
        .is_ok_and(|stat| FileType::from_raw_mode(u32::from(stat.stx_mode)) == FileType::Symlink)
}

#[cfg(test)]
mod tests {
    use std::os::fd::{AsFd as _, OwnedFd};
    use std::os::unix::fs::{MetadataExt as _, symlink};

    use rustix::fs::OFlags;
    use rustix::io::Errno;

    use super::{at, walk};
    use crate::core::path::Bytes;

    #[test]
    fn walking_opens_what_the_kernel_opens() {
        let folder = tempfile::tempdir().unwrap();
        let top = folder.path();
        std::fs::create_dir_all(top.join("a/b")).unwrap();
        std::fs::write(top.join("a/b/file"), "").unwrap();
        for (target, link) in [("a", "to_dir"), ("a/b/file", "to_file"), ("nowhere", "to_none")] {
            symlink(target, top.join(link)).unwrap();
        }
        symlink("..", top.join("a/up")).unwrap();
        let root: OwnedFd = std::fs::File::open(top).unwrap().into();
        let (cloexec, folder) = (OFlags::CLOEXEC, OFlags::DIRECTORY);
        let ways =
            [cloexec, OFlags::PATH, OFlags::PATH | OFlags::NOFOLLOW, folder, OFlags::PATH | folder];
        let of = |opened: Result<OwnedFd, Errno>| {
            opened.map(|fd| std::fs::File::from(fd).metadata().unwrap().ino())
        };
        let names = "|.|a|a/b|a//b/|./a/./b|a/b/file|a/b/file/x|a/none|none/x|to_dir|to_dir/b|to_file\
                     |to_none|a/up|a/up/a|..|a/../a|/etc";
        for name in names.split('|') {
            for flags in ways {
                let rel = Bytes::from(name);
                let path = if name.is_empty() { "." } else { name };
                let walked = of(walk(root.as_fd(), path.as_bytes(), flags | cloexec));
                let called = of(at(root.as_fd(), &rel, flags | cloexec, false));
                // Names that lead up and back are none that dagd makes: the walk refuses them.
                if name == "a/../a" {
                    assert_eq!(walked, Err(Errno::XDEV));
                } else {
                    assert_eq!(walked, called, "{name} {flags:?}");
                }
            }
        }
    }
}
