//! The table of mounts: which file system a path lies on, and what can be expected of it.
//!
//! Everything is read from `/proc/self/mountinfo`, which answers whatever the file systems do: a
//! path that may hang is never touched to find out whether it may hang.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::core::path::Bytes;

use super::dirty::beneath;

/// The kernel's table of the mounts that this process sees.
pub const MOUNTINFO: &str = "/proc/self/mountinfo";

/// A mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Its number, which may be that of an earlier one.
    pub id: u64,
    parent: u64,
    /// The number of its file system.
    pub device: String,
    /// The part of its file system that is mounted.
    root: Bytes,
    /// Where.
    pub point: Bytes,
    /// The type of its file system, with the subtype: `fuse.sshfs`.
    pub kind: String,
    /// What is mounted: a device, a server's folder, or any word.
    source: Bytes,
    /// Directories that it shows in layers.
    layers: Vec<Bytes>,
}

/// What can be expected of a file system.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Nature {
    /// Whether somebody else has to answer before a call returns: another machine, or a program.
    pub may_hang: bool,
    /// Why changes can go untold, if they can.
    pub deaf: Option<&'static str>,
}

const ELSEWHERE: &str = "changes made on other machines make no events here";
const BEHIND: &str = "changes made behind the mount make no events";
const KERNEL: &str = "the kernel's own changes make no events";

/// File systems whose content other machines change.
const REMOTE: [&str; 20] = [
    "9p", "afs", "beegfs", "ceph", "cifs", "coda", "gfs2", "gpfs", "lustre", "ncpfs", "nfs",
    "nfs4", "ocfs2", "orangefs", "prl_fs", "pvfs2", "smb3", "smbfs", "vboxsf", "virtiofs",
];

/// File systems of programs that write only what comes through the mount.
const OWN_WRITES: [&str; 8] = [
    "fuseblk",
    "fuse.cryfs",
    "fuse.encfs",
    "fuse.exfat",
    "fuse.ext2",
    "fuse.fuse2fs",
    "fuse.gocryptfs",
    "fuse.ntfs-3g",
];

/// File systems that show what the kernel knows.
const KERNELS: [&str; 10] = [
    "bpf",
    "cgroup",
    "cgroup2",
    "configfs",
    "debugfs",
    "efivarfs",
    "proc",
    "securityfs",
    "sysfs",
    "tracefs",
];

impl Mount {
    /// What is mounted, told so that the same file system tells the same when it comes back: by
    /// its UUID where there is one, since names of devices change.
    pub fn identity(&self) -> String {
        if self.point == "/".into() {
            // It is always there, also after a move to another disk.
            return "/".to_owned();
        }
        let what = match self.source.as_bytes() {
            source if source.starts_with(b"/dev/") => uuid(self.source.as_path())
                .map_or_else(|| self.source.lossy().into_owned(), |uuid| format!("UUID={uuid}")),
            // Of file systems without a device only those of other machines have a name.
            _ if self.nature_alone().may_hang => self.source.lossy().into_owned(),
            _ => String::new(),
        };
        let part = if self.root == "/".into() { String::new() } else { self.root.lossy().into() };
        [self.kind.clone(), what, part]
            .into_iter()
            .filter(|word| !word.is_empty())
            .collect::<Vec<_>>()
            .join(" ")
    }

    fn nature_alone(&self) -> Nature {
        let kind = self.kind.as_str();
        let fuse = kind == "fuse" || kind == "fuseblk" || kind.starts_with("fuse.");
        if REMOTE.contains(&kind) {
            Nature { may_hang: true, deaf: Some(ELSEWHERE) }
        } else if OWN_WRITES.contains(&kind) {
            Nature { may_hang: true, deaf: None }
        } else if fuse {
            Nature { may_hang: true, deaf: Some(BEHIND) }
        } else if kind == "autofs" {
            // To look at it mounts what is behind.
            Nature { may_hang: true, deaf: None }
        } else if KERNELS.contains(&kind) {
            Nature { may_hang: false, deaf: Some(KERNEL) }
        } else {
            Nature::default()
        }
    }
}

/// The UUID of the file system on a block device.
fn uuid(device: &Path) -> Option<String> {
    let device = device.canonicalize().ok()?;
    let names = fs::read_dir("/dev/disk/by-uuid").ok()?.flatten();
    let of = |entry: &fs::DirEntry| entry.path().canonicalize().is_ok_and(|at| at == device);
    names.filter(of).map(|entry| entry.file_name().to_string_lossy().into_owned()).next()
}

/// All mounts that this process sees.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mounts(Vec<Mount>);

/// Tells whether something was mounted or unmounted since it was last asked, for the price of one call.
pub struct News(Option<File>);

impl News {
    /// Begins now. Where it cannot be told, something always was.
    pub fn since_now() -> Self {
        Self(File::open(MOUNTINFO).ok())
    }

    /// Whether something was.
    pub fn any(&self) -> bool {
        let Some(table) = &self.0 else { return true };
        let none = Timespec { tv_sec: 0, tv_nsec: 0 };
        poll(&mut [PollFd::new(table, PollFlags::PRI)], Some(&none)) != Ok(0)
    }
}

impl Mounts {
    /// Reads the table. Errors: `/proc` is not mounted.
    pub fn read() -> io::Result<Self> {
        Ok(Self::parse(&fs::read(MOUNTINFO)?))
    }

    /// The table that another process sees. Errors: it is gone, or another user's.
    pub fn of(pid: u32) -> io::Result<Self> {
        Ok(Self::parse(&fs::read(format!("/proc/{pid}/mountinfo"))?))
    }

    /// The same, of its text. Lines that are none are left out.
    pub fn parse(text: &[u8]) -> Self {
        Self(text.split(|&byte| byte == b'\n').filter_map(line).collect())
    }

    /// The mount on which a path without symbolic links lies. As the kernel walks: from mount to
    /// mount, so that what another mount hides does not count.
    pub fn over(&self, path: &Bytes) -> Option<&Mount> {
        let is_top = |mount: &&Mount| {
            mount.id == mount.parent || !self.0.iter().any(|other| other.id == mount.parent)
        };
        let mut at = self.first(path, is_top)?;
        // Each step leads to another mount, and none has two parents.
        for _ in 0..self.0.len() {
            let parent = at.id;
            match self.first(path, |mount| mount.parent == parent && mount.id != parent) {
                Some(next) => at = next,
                None => break,
            }
        }
        Some(at)
    }

    /// The first of those picked that a walk down the path comes to.
    fn first<'a>(&'a self, path: &Bytes, picked: impl Fn(&&'a Mount) -> bool) -> Option<&'a Mount> {
        let over = |mount: &&Mount| beneath(mount.point.as_bytes(), path.as_bytes()).is_some();
        let on_the_way = self.0.iter().filter(over).filter(picked);
        on_the_way.min_by_key(|mount| mount.point.as_bytes().len())
    }

    /// The mounts that begin beneath a directory and can be reached, each once.
    pub fn beneath<'a>(&'a self, dir: &'a Bytes) -> impl Iterator<Item = &'a Mount> {
        self.0.iter().filter(move |mount| {
            mount.point != *dir
                && beneath(dir.as_bytes(), mount.point.as_bytes()).is_some()
                && self.over(&mount.point).is_some_and(|over| over.id == mount.id)
        })
    }

    /// The mounts that are not the same in another table, of both.
    pub fn changed<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = &'a Mount> {
        let gone = other.0.iter().filter(|mount| !self.0.contains(mount));
        self.0.iter().filter(|mount| !other.0.contains(mount)).chain(gone)
    }

    /// What can be expected of a mount, of the layers under it as well.
    pub fn nature(&self, mount: &Mount) -> Nature {
        let mut nature = mount.nature_alone();
        for layer in &mount.layers {
            // Only what is not itself in layers: a loop of layers is not worth a proof.
            if let Some(under) = self.over(layer).filter(|under| under.layers.is_empty()) {
                let under = under.nature_alone();
                nature.may_hang |= under.may_hang;
                nature.deaf = nature.deaf.or(under.deaf);
            }
        }
        nature
    }
}

/// A line of the table: `id parent dev root point options [tag…] - type source superoptions`.
fn line(line: &[u8]) -> Option<Mount> {
    let mut words = line.split(|&byte| byte == b' ');
    let number = |word: &[u8]| std::str::from_utf8(word).ok()?.parse().ok();
    let (id, parent) = (number(words.next()?)?, number(words.next()?)?);
    let device = String::from_utf8_lossy(words.next()?).into_owned();
    let (root, point) = (unescape(words.next()?), unescape(words.next()?));
    let mut rest = words.skip_while(|word| *word != b"-").skip(1);
    let kind = String::from_utf8_lossy(rest.next()?).into_owned();
    let source = unescape(rest.next()?);
    let layers = if kind == "overlay" { layers(rest.next().unwrap_or_default()) } else { vec![] };
    Some(Mount { id, parent, device, root, point, kind, source, layers })
}

/// The directories that an overlay is made of. Those of another mount namespace do not exist here.
fn layers(options: &[u8]) -> Vec<Bytes> {
    let values = options.split(|&byte| byte == b',').filter_map(|option| {
        let lower = option.strip_prefix(b"lowerdir=").or(option.strip_prefix(b"lowerdir+="));
        lower.or(option.strip_prefix(b"upperdir="))
    });
    let dirs = values.flat_map(|value| value.split(|&byte| byte == b':'));
    dirs.filter(|dir| dir.starts_with(b"/")).map(unescape).collect()
}

/// Undoes the kernel's `\040` for bytes that would break the line.
fn unescape(word: &[u8]) -> Bytes {
    let mut bytes = Vec::with_capacity(word.len());
    let mut rest = word;
    while let Some((&byte, tail)) = rest.split_first() {
        let digits = tail.get(..3).filter(|_| byte == b'\\');
        let code = digits.and_then(|d| u8::from_str_radix(std::str::from_utf8(d).ok()?, 8).ok());
        bytes.push(code.unwrap_or(byte));
        rest = if code.is_some() { &tail[3..] } else { tail };
    }
    Bytes::from(bytes)
}

#[cfg(test)]
mod tests {
    use super::{BEHIND, ELSEWHERE, KERNEL, Mounts, Nature};

    const TABLE: &str = "\
22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw,discard
40 27 0:40 / /mnt/a\\040b rw - tmpfs tmpfs rw
41 40 0:41 / /mnt/a\\040b/deep rw - nfs4 server:/export rw
42 27 254:0 /srv/real /mnt/bound rw - ext4 /dev/vda rw
43 27 0:43 / /over rw - overlay overlay rw,lowerdir=/mnt/a\\040b/deep/base:/usr,upperdir=/up
50 27 0:50 / /hidden/below rw - fuse.sshfs host: rw
51 27 0:51 / /hidden rw - tmpfs tmpfs rw
52 51 0:52 / /hidden rw - xfs /dev/vdb rw
60 27 0:60 / /plain rw - overlay overlay rw,lowerdir=/lower,upperdir=/up
61 27 0:61 / /crypt rw - fuse.gocryptfs x rw
";

    #[test]
    fn a_path_lies_on_the_mount_that_a_walk_comes_to() {
        let mounts = Mounts::parse(TABLE.as_bytes());
        let kind = |path: &str| mounts.over(&path.into()).map(|mount| mount.kind.clone());
        assert_eq!(kind("/"), Some("ext4".into()));
        assert_eq!(kind("/mnt/a"), Some("ext4".into()));
        assert_eq!(kind("/mnt/a b"), Some("tmpfs".into()));
        assert_eq!(kind("/mnt/a b/x"), Some("tmpfs".into()));
        assert_eq!(kind("/mnt/a b/deep/x"), Some("nfs4".into()));
        assert_eq!(kind("/mnt/a bc"), Some("ext4".into()));
        assert_eq!(kind("/hidden/below/x"), Some("xfs".into()), "a later mount hides the others");
        let below: Vec<_> = mounts.beneath(&"/mnt".into()).map(|m| m.point.clone()).collect();
        assert_eq!(below, ["/mnt/a b".into(), "/mnt/a b/deep".into(), "/mnt/bound".into()]);
        assert_eq!(mounts.beneath(&"/hidden".into()).count(), 0);
        assert!(Mounts::parse(b"nonsense\n1 2\n").over(&"/".into()).is_none());
    }

    #[test]
    fn the_type_tells_what_to_expect() {
        let mounts = Mounts::parse(TABLE.as_bytes());
        let nature = |path: &str| mounts.nature(mounts.over(&path.into()).unwrap());
        assert_eq!(nature("/home"), Nature::default());
        assert_eq!(nature("/mnt/a b/deep"), Nature { may_hang: true, deaf: Some(ELSEWHERE) });
        assert_eq!(nature("/proc"), Nature { may_hang: false, deaf: Some(KERNEL) });
        assert_eq!(nature("/crypt"), Nature { may_hang: true, deaf: None });
        // Layers are as their lowest part.
        assert_eq!(nature("/over"), Nature { may_hang: true, deaf: Some(ELSEWHERE) });
        assert_eq!(nature("/plain"), Nature::default());
        let sshfs = Mounts::parse(b"50 27 0:50 / /x rw - fuse.sshfs host: rw\n");
        let mount = sshfs.over(&"/x".into()).unwrap();
        assert_eq!(sshfs.nature(mount), Nature { may_hang: true, deaf: Some(BEHIND) });
    }

    #[test]
    fn a_file_system_tells_who_it_is() {
        let mounts = Mounts::parse(TABLE.as_bytes());
        let identity = |path: &str| mounts.over(&path.into()).unwrap().identity();
        assert_eq!(identity("/mnt/a b"), "tmpfs");
        assert_eq!(identity("/mnt/a b/deep"), "nfs4 server:/export");
        assert!(identity("/mnt/bound").ends_with(" /srv/real"), "{}", identity("/mnt/bound"));
    }
}
