//! A folder seen through FUSE: what changes behind it is told to nobody who looks at it from here.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;

use super::{PATIENCE, have, kill, skip};

/// A folder seen through FUSE, until it is dropped.
pub(crate) struct Fuse(Child);

impl Fuse {
    /// Mounts `backing`, in which a file `mounted` is, on `point`. `None`, aloud, where that cannot be.
    pub(crate) fn mount(backing: &Path, point: &Path) -> Option<Self> {
        if !have("bindfs") {
            return None;
        }
        if !Path::new("/dev/fuse").exists() {
            skip("there is no /dev/fuse");
            return None;
        }
        // It goes with the test, whatever ends that; at TERM it unmounts.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "TERM", "bindfs", "-f"]).arg(backing).arg(point);
        let server = Self(command.stdin(Stdio::null()).spawn().unwrap());
        let deadline = std::time::Instant::now() + PATIENCE;
        while !point.join("mounted").exists() {
            assert!(std::time::Instant::now() < deadline, "nothing is mounted");
            sleep(std::time::Duration::from_millis(5));
        }
        Some(server)
    }
}

impl Drop for Fuse {
    fn drop(&mut self) {
        kill(self.0.id().cast_signed(), 15);
        self.0.wait().unwrap();
    }
}
