//! Attempts that go on without dagd: what each leaves for the next dagd.
//!
//! Each has two files in a folder of its run: `NAME.watch`, which its watcher (see [`super::watcher`])
//! holds locked as long as it lives and which tells its number, and `NAME.end`, how the program
//! ended, which is there as a whole or not at all. A lock cannot outlive its holder, so that a number
//! that is read under it is not that of somebody else.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{DirBuilder, File};
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use rustix::fs::{FlockOperation, flock};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde::{Deserialize, Serialize};

use crate::core::id::{RunId, Wall};
use crate::core::machine::By;
use crate::core::task::Exit;

use super::token::wait_for_death;

/// Where an attempt's files are: `left/RUN/NAME`, to which they add their own ending.
pub fn place(dir: &Path, run: RunId, stem: &str) -> PathBuf {
    dir.join(run.to_string()).join(stem)
}

/// Where the attempt at `place` may write for its dependents.
pub fn output(place: &Path) -> PathBuf {
    ending(place, ".out")
}

/// Makes the folder in which the files at `place` will be. What is there already was left by an attempt
/// that the database forgot in a power failure, and would be taken for what this one leaves.
pub fn make_room(place: &Path) -> io::Result<()> {
    let Some(folder) = place.parent() else { return Ok(()) };
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    for stale in [ending(place, ".end"), output(place)] {
        match std::fs::remove_file(stale) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// A run has ended: what its attempts have left is not needed any more, nor are the folders of their
/// users in `outputs`.
pub fn forget(dir: &Path, run: RunId, outputs: &Path) {
    let folder = dir.join(run.to_string());
    for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        if let Some(stem) = name.to_str().and_then(|name| name.strip_suffix(".watch")) {
            remove(&outputs.join(stem));
        }
    }
    remove(&folder);
}

/// Removes what attempts of other runs than these have left. Errors: the folder cannot be read.
pub fn forget_others(dir: &Path, runs: &BTreeSet<RunId>) -> io::Result<()> {
    let kept: BTreeSet<OsString> = runs.iter().map(|run| run.to_string().into()).collect();
    let all = match std::fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        all => all?,
    };
    for entry in all {
        let entry = entry?;
        if !kept.contains(&entry.file_name()) {
            remove(&entry.path());
        }
    }
    Ok(())
}

fn remove(folder: &Path) {
    if let Err(error) = std::fs::remove_dir_all(folder)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(path = %folder.display(), %error, "cannot remove what a run has left");
    }
}

/// How a program ended. Written by the dagd that started it and read by another: a field that is added
/// has a default.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// How.
    pub exit: Exit,
    /// When its attempt began.
    pub began: Wall,
    /// When it ended.
    pub at: Wall,
    /// Whether it had been sent a TERM: by dagd, or to all processes of a machine that stops.
    #[serde(default)]
    pub told: bool,
    /// The life of the machine in which it ended.
    #[serde(default)]
    pub boot: String,
    /// Processes that it left behind, and that were ended.
    #[serde(default)]
    pub leftovers: u32,
}

impl End {
    /// What may have ended it, in so far as nothing but this tells.
    pub fn by(&self) -> By {
        let earlier = !self.boot.is_empty() && self.boot != boot();
        if earlier && (self.told || matches!(self.exit, Exit::Signal(_))) {
            return By::Shutdown;
        }
        if self.told { By::Term } else { By::Itself }
    }
}

/// Tells one life of the machine from the next. Empty where the kernel does not say: then all are one.
pub fn boot() -> String {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    id.trim_end().to_owned()
}

/// What an attempt has left.
#[derive(Debug)]
pub enum Found {
    /// It goes on.
    Running(Left),
    /// It has ended.
    Ended(End),
    /// It has not begun, or its watcher is gone without a word.
    Gone,
}

/// An attempt that goes on.
#[derive(Debug)]
pub struct Left {
    /// Its watcher, which leads its process group. The number means nobody else as long as it lives.
    pub pid: Pid,
    /// The watcher.
    pub fd: OwnedFd,
    /// When it began.
    pub began: Wall,
}

impl Left {
    /// Whether it has ended by now: then its number may mean somebody else.
    pub fn has_ended(&self) -> bool {
        wait_for_death(&self.fd, Instant::now())
    }
}

/// What the attempt at `place` has left. Errors: the files cannot be read; whether it goes on is not
/// known then.
pub fn find(place: &Path) -> io::Result<Found> {
    let watch = match File::open(ending(place, ".watch")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Gone),
        watch => watch?,
    };
    if let Some(left) = watched(&watch)? {
        return Ok(Found::Running(left));
    }
    Ok(end(place)?.map_or(Found::Gone, Found::Ended))
}

/// Who holds the file locked and is therefore alive; `None` if nobody does.
fn watched(watch: &File) -> io::Result<Option<Left>> {
    // It is locked once it tells who that is.
    if !is_locked(watch)? {
        return Ok(None);
    }
    let mut text = String::new();
    { watch }.read_to_string(&mut text)?;
    let mut words = text.split_whitespace();
    let pid = words.next().and_then(|word| word.parse().ok()).and_then(Pid::from_raw);
    let began = words.next().and_then(|word| word.parse().ok()).map(Wall);
    let (Some(pid), Some(began)) = (pid, began) else {
        return Err(io::Error::other("a watcher has not told who it is"));
    };
    let fd = pidfd_open(pid, PidfdFlags::empty());
    // Only if it is still locked it is sure whose number that is.
    if is_locked(watch)? { Ok(Some(Left { pid, fd: fd?, began })) } else { Ok(None) }
}

fn is_locked(watch: &File) -> io::Result<bool> {
    match flock(watch, FlockOperation::NonBlockingLockShared) {
        Ok(()) => Ok(false),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(true),
        Err(error) => Err(error.into()),
    }
}

/// How the attempt at `place` has ended; `None` if that was not written.
pub fn end(place: &Path) -> io::Result<Option<End>> {
    let path = ending(place, ".end");
    match std::fs::read_to_string(&path) {
        Ok(text) => serde_json::from_str(text.trim_end()).map(Some).map_err(io::Error::other),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
    .map_err(|error: io::Error| {
        let why = format!("{}: {error}; remove it, and the attempt is made anew", path.display());
        io::Error::new(error.kind(), why)
    })
}

/// The same, where nothing can be done about a failure.
pub fn written(place: &Path) -> Option<End> {
    end(place).unwrap_or_else(|error| {
        tracing::warn!(path = %place.display(), %error, "cannot read how a task has ended");
        None
    })
}

/// Not `with_extension`: names of tasks have dots.
pub(super) fn ending(place: &Path, ending: &str) -> PathBuf {
    let mut path = place.as_os_str().to_owned();
    path.push(ending);
    path.into()
}

/// Why attempts cannot outlive this daemon, if they cannot, with the remedy.
pub fn refusal() -> Option<String> {
    let own = std::process::id().to_string();
    let is_service = std::env::var("SYSTEMD_EXEC_PID").is_ok_and(|pid| pid == own);
    if !is_service {
        return None;
    }
    let uid = rustix::process::geteuid().as_raw();
    if DYNAMIC_USERS.contains(&uid) {
        let why = "the unit's user (DynamicUser=) is gone when the unit stops; give it a user of its \
                   own, or remove the key";
        return Some(why.to_owned());
    }
    let told = std::env::var_os("DAGD_LEAVE").is_some_and(|value| value == "1");
    (!told).then(|| {
        "the service manager ends what the unit leaves; take the unit's drop-in leave.conf, or \
         remove the key"
            .to_owned()
    })
}

/// Users that systemd hands out for `DynamicUser=` (its documentation of users and groups).
const DYNAMIC_USERS: std::ops::RangeInclusive<u32> = 61_184..=65_519;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;

    use rustix::process::getpid;

    use super::{By, End, Found, boot, end, find, forget, forget_others, make_room, place};
    use crate::core::id::{RunId, Wall};
    use crate::core::task::Exit;

    fn ended(exit: Exit) -> End {
        let (began, at) = (Wall(1), Wall(2));
        End { exit, began, at, told: false, boot: boot(), leftovers: 0 }
    }

    #[test]
    fn what_the_machine_took_along_did_not_end_by_itself() {
        let other = |end: End| End { boot: "another".to_owned(), ..end };
        let told = |end: End| End { told: true, ..end };
        let (code, signal) = (ended(Exit::Code(3)), ended(Exit::Signal(11)));
        assert_eq!(boot().len(), 36);
        for (end, by) in [
            (code.clone(), By::Itself),
            (signal.clone(), By::Itself),
            (told(code.clone()), By::Term),
            (other(code.clone()), By::Itself),
            (other(signal), By::Shutdown),
            (other(told(code)), By::Shutdown),
        ] {
            assert_eq!(end.by(), by, "{end:?}");
        }
    }

    #[test]
    fn what_nobody_watches_has_ended_or_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let at = place(dir.path(), RunId(7), "7.a.b.1");
        assert!(matches!(find(&at).unwrap(), Found::Gone));
        make_room(&at).unwrap();
        for stale in ["end", "out"] {
            fs::write(dir.path().join(format!("7/7.a.b.1.{stale}")), "stale").unwrap();
        }
        make_room(&at).unwrap();
        assert!(matches!(find(&at).unwrap(), Found::Gone));
        assert_eq!(fs::read_dir(dir.path().join("7")).unwrap().count(), 0);
        let watch = dir.path().join("7/7.a.b.1.watch");
        fs::write(&watch, format!("{} 5\n", std::process::id())).unwrap();
        assert!(matches!(find(&at).unwrap(), Found::Gone));
        let held = fs::File::open(&watch).unwrap();
        held.lock().unwrap();
        let Found::Running(left) = find(&at).unwrap() else { panic!("it is held") };
        assert!(left.pid == getpid() && left.began == Wall(5) && !left.has_ended());
        fs::write(&watch, "").unwrap();
        assert!(find(&at).is_err());
        drop(held);
        let ended = ended(Exit::Code(3));
        let text = serde_json::to_string(&ended).unwrap() + "   ";
        fs::write(dir.path().join("7/7.a.b.1.end"), text).unwrap();
        assert!(matches!(find(&at).unwrap(), Found::Ended(found) if found == ended));
        fs::write(dir.path().join("7/7.a.b.1.end"), "{").unwrap();
        let told = end(&at).unwrap_err().to_string();
        assert!(told.contains("7.a.b.1.end: ") && told.contains("remove it"), "{told}");
        forget_others(dir.path(), &BTreeSet::from([RunId(7)])).unwrap();
        assert!(at.parent().unwrap().exists());
        let outputs = dir.path().join("outputs");
        fs::create_dir_all(outputs.join("7.a.b.1")).unwrap();
        fs::create_dir_all(outputs.join("8.a.b.1")).unwrap();
        forget(dir.path(), RunId(7), &outputs);
        assert!(!at.parent().unwrap().exists() && !outputs.join("7.a.b.1").exists());
        assert!(outputs.join("8.a.b.1").exists());
        forget_others(&dir.path().join("none"), &BTreeSet::new()).unwrap();
    }
}
