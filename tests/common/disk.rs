//! Small file systems of their own, which can be full or refuse to be written.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use super::skip;

/// A file system; it is unmounted with the last handle of it.
#[derive(Clone)]
pub(crate) struct Disk(Arc<Mounted>);

struct Mounted(PathBuf);

impl Disk {
    /// Mounts one with these options over a folder that is there; `None` where that is not allowed.
    pub(crate) fn mount(dir: &Path, options: &str) -> Option<Self> {
        let mut mount = Command::new("mount");
        match mount.args(["-t", "tmpfs", "-o", options, "none"]).arg(dir).output() {
            Ok(done) if done.status.success() => Some(Self(Arc::new(Mounted(dir.to_owned())))),
            other => {
                skip(&format!("no tmpfs can be mounted here (needs root): {other:?}"));
                None
            }
        }
    }

    /// Where it is mounted.
    pub(crate) fn path(&self) -> &Path {
        &self.0.0
    }

    /// Takes all that is free.
    pub(crate) fn fill(&self) {
        let ballast = self.path().join("ballast");
        let mut ballast = File::options().create(true).append(true).open(ballast).unwrap();
        for size in [1 << 16, 1 << 12, 1] {
            while ballast.write_all(&vec![1; size]).is_ok() {}
        }
    }

    /// Gives back what was taken.
    pub(crate) fn free(&self) {
        fs::remove_file(self.path().join("ballast")).unwrap();
    }

    /// Mounts it anew with `ro` or `rw`.
    pub(crate) fn remount(&self, option: &str) {
        let option = format!("remount,{option}");
        let done = Command::new("mount").args(["-o", &option]).arg(self.path()).output().unwrap();
        assert!(done.status.success(), "{done:?}");
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let done = Command::new("umount").arg("-l").arg(&self.0).status();
        assert!(std::thread::panicking() || done.unwrap().success());
    }
}
