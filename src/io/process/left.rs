//! Attempts that go on without dagd: the watcher of one, and what it leaves for the next dagd.
//!
//! The watcher is the helper, which stays the parent of the program instead of becoming it. Each
//! attempt has two files in a folder of its run: `NAME.watch`, which the watcher holds locked as
//! long as it lives and which tells its number, and `NAME.end`, how the program ended, which is
//! there as a whole or not at all. A lock cannot outlive its holder, so that a number that is read
//! under it is not that of somebody else.
//!
//! The room for the end is taken at the beginning: a disk that is full by then does not matter.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use rustix::fs::{FlockOperation, flock};
use rustix::process::{Pid, PidfdFlags, WaitId, WaitIdOptions, pidfd_open, waitid};
use serde::{Deserialize, Serialize};

use crate::core::id::{RunId, Wall};
use crate::core::task::Exit;

use super::slots::{exit_of, now};

/// Bytes kept for the end of an attempt.
const ROOM: usize = 256;

/// Where an attempt's files are: `left/RUN/NAME`, to which they add their own ending.
pub fn place(dir: &Path, run: RunId, stem: &str) -> PathBuf {
    dir.join(run.to_string()).join(stem)
}

/// Where the attempt at `place` may write for its dependents.
pub fn output(place: &Path) -> PathBuf {
    ending(place, ".out")
}

/// Makes the folder in which the files at `place` will be.
pub fn make_room(place: &Path) -> io::Result<()> {
    let Some(folder) = place.parent() else { return Ok(()) };
    DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// A run has ended: what its attempts have left is not needed any more.
pub fn forget(dir: &Path, run: RunId) {
    remove(&dir.join(run.to_string()));
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

/// How a program ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// How.
    pub exit: Exit,
    /// When its attempt began.
    pub began: Wall,
    /// When it ended.
    pub at: Wall,
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
    let mut text = String::new();
    { watch }.read_to_string(&mut text)?;
    let mut words = text.split_whitespace();
    let pid = words.next().and_then(|word| word.parse().ok()).and_then(Pid::from_raw);
    let began = words.next().and_then(|word| word.parse().ok()).map(Wall);
    let fd = pid.map(|pid| pidfd_open(pid, PidfdFlags::empty()));
    match flock(watch, FlockOperation::NonBlockingLockShared) {
        Ok(()) => Ok(None),
        // Only now is it sure whose number that was.
        Err(rustix::io::Errno::WOULDBLOCK) => match (pid, began, fd) {
            (Some(pid), Some(began), Some(fd)) => Ok(Some(Left { pid, fd: fd?, began })),
            _ => Err(io::Error::other("a watcher has not told who it is")),
        },
        Err(error) => Err(error.into()),
    }
}

/// How the attempt at `place` has ended; `None` if that was not written.
pub fn end(place: &Path) -> io::Result<Option<End>> {
    match std::fs::read_to_string(ending(place, ".end")) {
        Ok(text) => serde_json::from_str(text.trim_end()).map(Some).map_err(io::Error::other),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Not `with_extension`: names of tasks have dots.
fn ending(place: &Path, ending: &str) -> PathBuf {
    let mut path = place.as_os_str().to_owned();
    path.push(ending);
    path.into()
}

/// Which of the two a helper is after it has split.
pub enum Part {
    /// What becomes the program.
    Program,
    /// What waits for it.
    Watcher(Watcher),
}

/// The parent of a program.
pub struct Watcher {
    program: Pid,
    place: PathBuf,
    /// Where the end will be written.
    room: File,
    began: Wall,
    /// Held until this process ends.
    _lock: File,
}

/// Splits a helper of one thread into program and watcher. No signal but KILL ends the watcher.
/// Errors: the files at `place` cannot be made, or there can be no other process.
#[expect(unsafe_code, reason = "fork has no safe wrapper")]
pub fn split(place: &Path) -> io::Result<Part> {
    let make = |path: PathBuf| {
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)
    };
    let mut lock = make(ending(place, ".watch"))?;
    flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
    let began = now();
    writeln!(lock, "{} {}", std::process::id(), began.0)?;
    let mut room = make(ending(place, ".new"))?;
    room.write_all(&[b' '; ROOM])?;
    room.sync_all()?;
    let before = block_all()?;
    // SAFETY: this process has one thread, so that its copy is whole.
    match unsafe { libc::fork() } {
        0 => {
            restore(&before)?;
            Ok(Part::Program)
        }
        pid => match Pid::from_raw(pid).filter(|_| pid > 0) {
            Some(program) => {
                let place = place.to_owned();
                Ok(Part::Watcher(Watcher { program, place, room, began, _lock: lock }))
            }
            None => Err(io::Error::last_os_error()),
        },
    }
}

/// Blocks all signals; returns which were blocked before.
#[expect(unsafe_code, reason = "sigprocmask has no safe wrapper in our dependencies")]
fn block_all() -> io::Result<libc::sigset_t> {
    let mut all = std::mem::MaybeUninit::uninit();
    let mut before = std::mem::MaybeUninit::uninit();
    // SAFETY: the first call fills in `all`, the second `before`, of which a failure is told.
    unsafe {
        libc::sigfillset(all.as_mut_ptr());
        if libc::sigprocmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr()) != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(before.assume_init())
    }
}

#[expect(unsafe_code, reason = "sigprocmask has no safe wrapper in our dependencies")]
fn restore(mask: &libc::sigset_t) -> io::Result<()> {
    // SAFETY: the mask is valid and only read.
    let done = unsafe { libc::sigprocmask(libc::SIG_SETMASK, mask, std::ptr::null_mut()) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

impl Watcher {
    /// Waits for the end and writes it down. Returns the status that a shell would give; if the end
    /// could not be written, that is all that is known of it.
    pub fn wait(self) -> ExitCode {
        let dead = || waitid(WaitId::Pid(self.program), WaitIdOptions::EXITED);
        let status = rustix::io::retry_on_intr(dead).ok().flatten();
        let exit = status.map_or(Exit::Unknown, |status| exit_of(&status));
        let code = match exit {
            Exit::Code(code) => u8::try_from(code & 0xff).unwrap_or(u8::MAX),
            Exit::Signal(signal) => u8::try_from(128 + (signal & 0x7f)).unwrap_or(u8::MAX),
            _ => u8::MAX,
        };
        // Whoever started it hears the status all the same.
        self.write(exit).ok();
        ExitCode::from(code)
    }

    fn write(&self, exit: Exit) -> io::Result<()> {
        let end = End { exit, began: self.began, at: now() };
        let text = serde_json::to_string(&end)?;
        self.room.write_all_at(text.as_bytes(), 0)?;
        self.room.sync_all()?;
        std::fs::rename(ending(&self.place, ".new"), ending(&self.place, ".end"))?;
        self.place.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
    }
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

    use super::{End, Found, ROOM, end, find, forget, forget_others, make_room, place};
    use crate::core::id::{RunId, Wall};
    use crate::core::task::Exit;

    #[test]
    fn an_end_fits_the_room() {
        let end = |exit| End { exit, began: Wall(i64::MIN), at: Wall(i64::MIN) };
        for exit in [Exit::Code(i32::MIN), Exit::Signal(i32::MIN), Exit::Unknown] {
            let text = serde_json::to_string(&end(exit)).unwrap();
            assert!(text.len() < ROOM, "{text}");
        }
    }

    #[test]
    fn what_nobody_watches_has_ended_or_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let at = place(dir.path(), RunId(7), "7.a.b.1");
        assert!(matches!(find(&at).unwrap(), Found::Gone));
        make_room(&at).unwrap();
        fs::write(dir.path().join("7/7.a.b.1.watch"), "1 5\n").unwrap();
        assert!(matches!(find(&at).unwrap(), Found::Gone));
        let ended = End { exit: Exit::Code(3), began: Wall(1), at: Wall(2) };
        let text = serde_json::to_string(&ended).unwrap() + "   ";
        fs::write(dir.path().join("7/7.a.b.1.end"), text).unwrap();
        assert!(matches!(find(&at).unwrap(), Found::Ended(found) if found == ended));
        fs::write(dir.path().join("7/7.a.b.1.end"), "{").unwrap();
        assert!(end(&at).is_err());
        forget_others(dir.path(), &BTreeSet::from([RunId(7)])).unwrap();
        assert!(at.parent().unwrap().exists());
        forget(dir.path(), RunId(7));
        assert!(!at.parent().unwrap().exists());
        forget_others(&dir.path().join("none"), &BTreeSet::new()).unwrap();
    }
}
