//! What the kernel says of a process and of the clock, for whoever asks what the machine allows.
//!
//! Only reads. What the answers mean for dagd is decided elsewhere.

use std::fs;
use std::io;
use std::mem::MaybeUninit;

use crate::core::path::Bytes;

/// `CAP_DAC_READ_SEARCH`, as a number of a bit.
pub const DAC_READ_SEARCH: u32 = 2;
/// `CAP_SETGID`.
pub const SETGID: u32 = 6;
/// `CAP_SETUID`.
pub const SETUID: u32 = 7;
/// `CAP_SYS_ADMIN`.
pub const SYS_ADMIN: u32 = 21;
/// `CAP_SYS_NICE`.
pub const SYS_NICE: u32 = 23;
/// `CAP_SYS_RESOURCE`.
pub const SYS_RESOURCE: u32 = 24;
/// `CAP_LEASE`.
pub const LEASE: u32 = 28;

/// Who a process is, and what it may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rights {
    /// Its effective user.
    pub uid: u32,
    /// Its effective capabilities.
    capabilities: u64,
}

impl Rights {
    /// Reads them of a process. Errors: it is gone.
    pub fn of(pid: u32) -> io::Result<Self> {
        let text = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name));
        // Real, effective, saved, of the file system.
        let uid = field("Uid:").and_then(|ids| ids.split_whitespace().nth(1)?.parse().ok());
        let set = field("CapEff:").and_then(|set| u64::from_str_radix(set.trim(), 16).ok());
        match (uid, set) {
            (Some(uid), Some(capabilities)) => Ok(Self { uid, capabilities }),
            _ => Err(io::Error::new(io::ErrorKind::InvalidData, "an unknown form of `status`")),
        }
    }

    /// Whether the process has a capability, by its number.
    pub fn has(self, capability: u32) -> bool {
        self.capabilities.checked_shr(capability).is_some_and(|bits| bits & 1 == 1)
    }
}

/// Whether something sets the clock by others; `None` where the kernel does not say.
#[expect(unsafe_code, reason = "rustix has no adjtimex")]
pub fn is_clock_synchronised() -> Option<bool> {
    let mut state = MaybeUninit::<libc::timex>::zeroed();
    // SAFETY: a `timex` of zeroes is valid, and with `modes` of zero the call only fills it.
    let answer = unsafe { libc::adjtimex(state.as_mut_ptr()) };
    // SAFETY: it was valid before the call, which writes valid values.
    let status = unsafe { state.assume_init() }.status;
    (answer >= 0).then_some(answer != libc::TIME_ERROR && status & libc::STA_UNSYNC == 0)
}

/// Space on a file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// Bytes that dagd's user may still write.
    pub free: u64,
    /// Bytes of all.
    pub all: u64,
    /// Files that can still be made; `None` where nobody counts them.
    pub files: Option<u64>,
    /// Whether nothing can be written at all.
    pub read_only: bool,
}

/// The space around a path. Errors: what the kernel says.
pub fn space(path: &Bytes) -> io::Result<Space> {
    let fs = rustix::fs::statvfs(path.as_path())?;
    Ok(Space {
        free: fs.f_bavail.saturating_mul(fs.f_frsize),
        all: fs.f_blocks.saturating_mul(fs.f_frsize),
        files: (fs.f_files > 0).then_some(fs.f_favail),
        read_only: fs.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY),
    })
}

#[cfg(test)]
mod tests {
    use super::{Rights, is_clock_synchronised, space};

    #[test]
    fn a_process_is_who_it_is() {
        let own = Rights::of(std::process::id()).unwrap();
        assert_eq!(own.uid, rustix::process::geteuid().as_raw());
        let kernel = rustix::thread::capabilities(None).unwrap().effective.bits();
        assert!((0..40).all(|bit| own.has(bit) == (kernel >> bit & 1 == 1)));
        assert!(!own.has(64) && !own.has(u32::MAX));
        assert!(Rights::of(0).is_err());
    }

    #[test]
    fn the_kernel_answers() {
        assert!(is_clock_synchronised().is_some());
        let space = space(&"/".into()).unwrap();
        assert!(space.all > 0 && space.free <= space.all);
    }
}
