//! A process from outside: what it holds, and signals with a value to it.

use std::collections::BTreeSet;
use std::fs;
use std::time::Instant;

use super::PATIENCE;

/// What a process holds of the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Held {
    /// What its open descriptors are, sockets apart: connections come and go.
    pub(crate) descriptors: Vec<String>,
    /// Its inotify watches: number, inode and device. One that was made anew has another number.
    pub(crate) watches: BTreeSet<String>,
    /// Names of its threads.
    pub(crate) threads: Vec<String>,
}

/// What a process holds now.
pub(crate) fn held(pid: i32) -> Held {
    let proc = format!("/proc/{pid}");
    let entries = |dir: &str| fs::read_dir(format!("{proc}/{dir}")).unwrap().flatten();
    let mut descriptors: Vec<String> = entries("fd")
        .filter_map(|fd| fs::read_link(fd.path()).ok())
        .map(|target| target.display().to_string())
        .filter(|target| !target.starts_with("socket:"))
        .map(|target| target.split(":[").next().unwrap_or_default().to_owned())
        .collect();
    descriptors.sort();
    let mut watches = BTreeSet::new();
    for info in entries("fdinfo") {
        let text = fs::read_to_string(info.path()).unwrap_or_default();
        let fd = info.file_name().to_string_lossy().into_owned();
        let lines = text.lines().filter(|line| line.starts_with("inotify wd:"));
        let parts = lines.map(|line| line.split(' ').take(4).collect::<Vec<_>>().join(" "));
        watches.extend(parts.map(|line| format!("{fd} {line}")));
    }
    let names = entries("task").filter_map(|t| fs::read_to_string(t.path().join("comm")).ok());
    let mut threads: Vec<String> = names.map(|name| name.trim().to_owned()).collect();
    threads.sort();
    Held { descriptors, watches, threads }
}

/// Queues a real-time signal with a value. Waits while the kernel's queue is full.
pub(crate) fn sigqueue(pid: i32, signo: i32, value: i32) {
    let deadline = Instant::now() + PATIENCE;
    while let Err(error) = try_sigqueue(pid, signo, value) {
        assert_eq!(error.raw_os_error(), Some(libc::EAGAIN), "only a full queue refuses");
        assert!(Instant::now() < deadline, "the queue never had room");
        std::thread::yield_now();
    }
}

#[expect(unsafe_code, reason = "sigqueue has no safe wrapper in the crates at hand")]
fn try_sigqueue(pid: i32, signo: i32, value: i32) -> std::io::Result<()> {
    let value = libc::sigval {
        sival_ptr: std::ptr::without_provenance_mut(value.cast_unsigned() as usize),
    };
    // SAFETY: plain integers go in; the value is not dereferenced by anyone.
    if unsafe { libc::sigqueue(pid, signo, value) } == 0 {
        Ok(())
    } else {
        Err(std::io::Error::last_os_error())
    }
}
