//! Cgroups of version 2: the tree that dagd keeps its attempts in, one cgroup for each.
//!
//! ```text
//! <own>/daemon                            dagd itself: what has controllers holds no processes
//! <own>/<instance>/<run>.<task>.<attempt> an attempt, with all that it starts
//! ```
//!
//! A process leaves its cgroup only by the hand of somebody who may write there, so that killing the
//! cgroup leaves nothing. Whether a tree is to be taken at all is decided in [`super::means`].

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::core::confine::{Confine, Usage};

/// Where file systems of cgroups lie: of version 2 alone, or beside those of version 1.
const MOUNTS: [&str; 2] = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];

/// What `statfs` tells of version 2.
const CGROUP2_MAGIC: i64 = 0x6367_7270;

/// The cgroup that dagd itself moves to.
const LEAF: &str = "daemon";

/// The controllers that limits need.
const CONTROLLERS: [&str; 3] = ["memory", "cpu", "pids"];

/// Microseconds over which the share of processors is counted: the kernel's default.
const CPU_PERIOD: u64 = 100_000;

/// How long what was killed may take to die. Only what hangs in the kernel takes longer.
const DEATH_MAX: Duration = Duration::from_secs(5);

/// How deep below an attempt's cgroup a task may have made others that are removed with it.
const DEPTH_MAX: usize = 64;

/// Where this process could have a tree.
#[derive(Clone, Debug)]
pub struct Found {
    /// The cgroup that this process was started in.
    pub own: PathBuf,
    /// Whether who runs the machine has marked it as ours to divide.
    pub delegated: bool,
    /// The controllers that could be used in it.
    pub controllers: BTreeSet<String>,
}

/// Looks; changes nothing. The error says why there can be no tree.
pub fn find() -> Result<Found, String> {
    let mount = MOUNTS
        .iter()
        .find(|mount| rustix::fs::statfs(**mount).is_ok_and(|fs| fs.f_type == CGROUP2_MAGIC));
    let mount = mount.ok_or("no file system of cgroups (version 2) is mounted")?;
    let text = std::fs::read_to_string("/proc/self/cgroup").map_err(|error| error.to_string())?;
    let path = text.lines().find_map(|line| line.strip_prefix("0::/"));
    let path = path.ok_or("the kernel keeps no cgroups of version 2")?;
    let mut own = Path::new(mount).join(path);
    if own.file_name().is_some_and(|name| name == LEAF) {
        own.pop();
    }
    if path.split('/').any(|part| part == "..") || !own.is_dir() {
        return Err(format!("this process's cgroup /{path} cannot be seen from here"));
    }
    let delegated = ["user.delegate", "trusted.delegate"].iter().any(|name| {
        let mut value = [0; 8];
        rustix::fs::getxattr(&own, *name, &mut value)
            .is_ok_and(|len| value.get(..len) == Some(b"1"))
    });
    let controllers = words(&own.join("cgroup.controllers")).unwrap_or_default();
    Ok(Found { own, delegated, controllers })
}

/// Kills all that is left in the tree of earlier attempts of `instance`, and removes it, whether or
/// not there is to be one again. Returns how many processes there were. Fails if some do not die:
/// their attempts must not start again beside them.
pub fn sweep(instance: &str) -> io::Result<u32> {
    // Where there can be no tree there was none: a daemon finds itself where it was started.
    let Ok(found) = find() else { return Ok(0) };
    let top = found.own.join(instance);
    let entries = match std::fs::read_dir(&top) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(0),
        entries => entries.map_err(|error| named(&top, error))?,
    };
    let mut killed = 0;
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            let cgroup = Cgroup { path: entry.path() };
            killed += cgroup.end()?;
            cgroup.remove()?;
        }
    }
    std::fs::remove_dir(&top).map_err(|error| named(&top, error))?;
    Ok(killed)
}

/// The tree of this dagd, in which it is the only one to write.
#[derive(Debug)]
pub struct Tree {
    /// Where the attempts' cgroups are made.
    top: PathBuf,
    /// The controllers that they have.
    controllers: BTreeSet<String>,
}

impl Tree {
    /// Moves this process to a leaf of `found`, enables what controllers there are, and makes a
    /// place for the attempts of `instance`. `bare`: without controllers, since what has them can
    /// hold no process itself; the service manager puts the next dagd there, while processes of the
    /// last one that go on keep the group.
    pub fn take(found: &Found, instance: &str, bare: bool) -> io::Result<Self> {
        let leaf = found.own.join(LEAF);
        make(&leaf)?;
        write(&leaf.join("cgroup.procs"), &std::process::id().to_string())?;
        let top = found.own.join(instance);
        make(&top)?;
        if !top.join("cgroup.kill").exists() {
            return Err(io::Error::other("the kernel cannot kill a cgroup: it is older than 5.14"));
        }
        let sign = if bare { '-' } else { '+' };
        let dirs = if bare { [&top, &found.own] } else { [&found.own, &top] };
        for dir in dirs {
            for controller in CONTROLLERS.iter().filter(|name| found.controllers.contains(**name)) {
                // One by one: what cannot be had keeps nothing else from being used. Who asks for a
                // limit that needs it is told.
                if let Err(error) =
                    write(&dir.join("cgroup.subtree_control"), &format!("{sign}{controller}"))
                {
                    tracing::warn!(%error, controller, "a controller of cgroups cannot be used");
                }
            }
        }
        let controllers = words(&top.join("cgroup.subtree_control"))?;
        Ok(Self { top, controllers })
    }

    /// Makes a cgroup for an attempt, with its limits. The error keeps its number, which tells a
    /// shortage.
    pub fn make(&self, name: &str, confine: Option<&Confine>) -> io::Result<Cgroup> {
        let path = self.top.join(name);
        std::fs::create_dir(&path)?;
        let cgroup = Cgroup { path };
        let limited = self.limit(&cgroup, confine);
        if limited.is_err() {
            // The error is told; an empty cgroup that stays costs nothing.
            cgroup.remove().ok();
        }
        limited.map(|()| cgroup)
    }

    fn limit(&self, cgroup: &Cgroup, confine: Option<&Confine>) -> io::Result<()> {
        let set = |file: &str, value: String| write(&cgroup.path.join(file), &value);
        if self.controllers.contains("memory") {
            // An attempt is one thing: half of it is of no use.
            set("memory.oom.group", "1".to_owned())?;
        }
        let Some(confine) = confine else { return Ok(()) };
        if let Some(max) = confine.memory_max {
            set("memory.max", max.to_string())?;
            // What is above would go on in swap, where there is any.
            if cgroup.path.join("memory.swap.max").exists() {
                set("memory.swap.max", "0".to_owned())?;
            }
        }
        if let Some(max) = confine.cpu_max {
            set("cpu.max", format!("{} {CPU_PERIOD}", u64::from(max) * CPU_PERIOD / 1000))?;
        }
        if let Some(max) = confine.pids_max {
            set("pids.max", max.to_string())?;
        }
        Ok(())
    }

    /// Removes the place of the attempts. If one is still there, the next start ends it.
    pub fn leave(&self) {
        std::fs::remove_dir(&self.top).ok();
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.top
    }

    /// The controllers that attempts have.
    pub fn controllers(&self) -> &BTreeSet<String> {
        &self.controllers
    }
}

/// The cgroup of an attempt.
#[derive(Debug)]
pub struct Cgroup {
    path: PathBuf,
}

impl Cgroup {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Kills all that is in it, and what that forks meanwhile.
    pub fn kill(&self) {
        if let Err(error) = write(&self.path.join("cgroup.kill"), "1") {
            tracing::warn!(%error, "cannot kill a cgroup");
        }
    }

    /// Kills all that is in it and waits until it is dead. Returns how many processes there were.
    pub fn end(&self) -> io::Result<u32> {
        let count = count(&self.path, DEPTH_MAX);
        if count > 0 {
            self.kill();
        }
        if self.wait(Instant::now() + DEATH_MAX)? {
            return Ok(count);
        }
        let why = format!("processes in {} do not die", self.path.display());
        Err(io::Error::new(ErrorKind::TimedOut, why))
    }

    /// What it used, and how many of its processes were killed for want of memory.
    pub fn usage(&self) -> (Usage, u64) {
        let peak = std::fs::read_to_string(self.path.join("memory.peak"));
        let memory_peak = peak.ok().and_then(|text| text.trim().parse().ok());
        let cpu_us = self.value("cpu.stat", "usage_usec");
        (Usage { memory_peak, cpu_us }, self.value("memory.events", "oom_kill").unwrap_or(0))
    }

    /// Removes it, with what the task made below it.
    pub fn remove(&self) -> io::Result<()> {
        remove(&self.path, DEPTH_MAX)
    }

    fn value(&self, file: &str, key: &str) -> Option<u64> {
        let text = std::fs::read_to_string(self.path.join(file)).ok()?;
        text.lines().find_map(|line| line.strip_prefix(key)?.trim().parse().ok())
    }

    /// Waits until no process is left in it; `false` if one is at `deadline`.
    fn wait(&self, deadline: Instant) -> io::Result<bool> {
        let path = self.path.join("cgroup.events");
        let events = File::open(&path).map_err(|error| named(&path, error))?;
        loop {
            let mut text = [0; 256];
            let read = events.read_at(&mut text, 0)?;
            let text = String::from_utf8_lossy(&text[..read]);
            if text.lines().any(|line| line == "populated 0") {
                return Ok(true);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let left = Timespec::try_from(left).unwrap_or_default();
            match poll(&mut [PollFd::new(&events, PollFlags::PRI)], Some(&left)) {
                Ok(0) => return Ok(false),
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// The processes in a cgroup and below it; one that cannot be read counts as empty.
fn count(path: &Path, depth: usize) -> u32 {
    let procs = std::fs::read_to_string(path.join("cgroup.procs")).unwrap_or_default();
    let own = u32::try_from(procs.lines().count()).unwrap_or(u32::MAX);
    below(path, depth).iter().fold(own, |sum, path| sum.saturating_add(count(path, depth - 1)))
}

fn remove(path: &Path, depth: usize) -> io::Result<()> {
    for path in below(path, depth) {
        remove(&path, depth - 1)?;
    }
    std::fs::remove_dir(path).map_err(|error| named(path, error))
}

/// The cgroups right below one; none where it is too deep.
fn below(path: &Path, depth: usize) -> Vec<PathBuf> {
    if depth == 0 {
        return Vec::new();
    }
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    let dirs = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    dirs.map(|entry| entry.path()).collect()
}

fn make(path: &Path) -> io::Result<()> {
    match std::fs::create_dir(path) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(named(path, error)),
        _ => Ok(()),
    }
}

/// Writes in one call, as these files want it.
fn write(path: &Path, text: &str) -> io::Result<()> {
    std::fs::write(path, text).map_err(|error| named(path, error))
}

fn words(path: &Path) -> io::Result<BTreeSet<String>> {
    let text = std::fs::read_to_string(path).map_err(|error| named(path, error))?;
    Ok(text.split_whitespace().map(str::to_owned).collect())
}

fn named(path: &Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), At { path: path.to_owned(), error })
}

/// An error of the system with the file that it is about.
#[derive(Debug, thiserror::Error)]
#[error("{}: {error}", path.display())]
struct At {
    path: PathBuf,
    #[source]
    error: io::Error,
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::path::Path;

    use super::named;
    use crate::core::task::Exit;
    use crate::io::process::launch::unstarted;

    #[test]
    fn an_error_keeps_its_number_which_tells_a_shortage() {
        for (number, is_shortage) in
            [(libc::ENOMEM, true), (libc::ENOSPC, true), (libc::EACCES, false)]
        {
            let error = named(Path::new("/x/memory.max"), io::Error::from_raw_os_error(number));
            assert!(error.to_string().starts_with("/x/memory.max: "), "{error}");
            let exit = unstarted(&error, String::new());
            assert_eq!(matches!(exit, Exit::Shortage(_)), is_shortage, "{exit:?}");
        }
    }
}
