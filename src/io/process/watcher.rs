//! The watcher of an attempt that goes on without dagd: the helper, which stays the parent of the
//! program instead of becoming it.
//!
//! It waits for the program, writes down how it ended, and ends what it has left behind: all of that
//! are its own children by then, whatever they have left or forgotten. It does nothing else, and no
//! signal but KILL ends it.
//!
//! The room for the end is taken at the beginning: a disk that is full by then does not matter.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::mem::MaybeUninit;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::io::{Errno, retry_on_intr};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitOptions, getpid, kill_process, pidfd_open, set_child_subreaper,
};

use crate::core::id::Wall;
use crate::core::task::Exit;

use super::death::{exit_of, now};
use super::left::{End, boot, ending};
use super::token::wait_for_death;

/// Bytes kept for the end of an attempt.
const ROOM: usize = 512;

/// How long what was left behind may take to die. What hangs in the kernel takes longer: then the
/// watcher leaves it to dagd.
const DEATH_MAX: Duration = Duration::from_secs(5);

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
    let mut lock = make(&ending(place, ".watch"))?;
    let began = now();
    // First: who finds it locked can read who that is. Until then it is none that goes on.
    lock.write_all(format!("{} {}\n", std::process::id(), began.0).as_bytes())?;
    flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
    let mut room = make(&ending(place, ".new"))?;
    room.write_all(&[b' '; ROOM])?;
    room.sync_all()?;
    set_child_subreaper(Some(getpid()))?;
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

fn make(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)
}

impl Watcher {
    /// Waits for the end and writes it down, then ends what was left behind. Returns the status that
    /// a shell would give; if the end could not be written, that is all that is known of it.
    pub fn wait(self) -> ExitCode {
        let exit = self.program();
        let code = match exit {
            Exit::Code(code) => u8::try_from(code & 0xff).unwrap_or(u8::MAX),
            Exit::Signal(signal) => u8::try_from(128 + (signal & 0x7f)).unwrap_or(u8::MAX),
            _ => u8::MAX,
        };
        let (began, at, told) = (self.began, now(), was_told());
        let mut end = End { exit, began, at, told, boot: boot(), leftovers: 0 };
        // Whoever started it hears the status all the same.
        self.write(&self.room, &end).ok();
        end.leftovers = end_children();
        if end.leftovers > 0
            && let Ok(room) = make(&ending(&self.place, ".new"))
        {
            self.write(&room, &end).ok();
        }
        ExitCode::from(code)
    }

    /// Waits for the program; reaps what it leaves dead meanwhile.
    fn program(&self) -> Exit {
        loop {
            match retry_on_intr(|| rustix::process::wait(WaitOptions::empty())) {
                Ok(Some((pid, status))) if pid == self.program => {
                    return exit_of(status.exit_status(), status.terminating_signal());
                }
                Ok(_) => {}
                Err(_) => return Exit::Unknown,
            }
        }
    }

    fn write(&self, room: &File, end: &End) -> io::Result<()> {
        let text = serde_json::to_string(end)?;
        room.write_all_at(text.as_bytes(), 0)?;
        room.sync_all()?;
        std::fs::rename(ending(&self.place, ".new"), ending(&self.place, ".end"))?;
        self.place.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
    }
}

/// Ends the children that there are, and those that their deaths bring: what has lost its parent
/// becomes a child of this process. Returns how many. Gives up on what does not die.
fn end_children() -> u32 {
    let deadline = Instant::now() + DEATH_MAX;
    let mut ended = 0;
    // What forks faster than it can be killed is left to dagd.
    while is_parent() && Instant::now() < deadline {
        let children = children();
        for pid in &children {
            // Its number is its own until it is reaped below.
            kill_process(*pid, Signal::KILL).ok();
        }
        for pid in children {
            let held = pidfd_open(pid, PidfdFlags::empty());
            if !held.is_ok_and(|fd| wait_for_death(&fd, deadline)) {
                return ended;
            }
            ended += 1;
        }
    }
    ended
}

/// Reaps the dead; whether there are children that are alive.
fn is_parent() -> bool {
    loop {
        match rustix::process::wait(WaitOptions::NOHANG) {
            Ok(Some(_)) | Err(Errno::INTR) => {}
            Ok(None) => return true,
            Err(_) => return false,
        }
    }
}

fn children() -> Vec<Pid> {
    let text = std::fs::read_to_string("/proc/thread-self/children").unwrap_or_default();
    let numbers = text.split_whitespace().filter_map(|word| word.parse().ok());
    numbers.filter_map(Pid::from_raw).collect()
}

/// Whether a TERM was sent to this process, as it is to its group and to all processes of a machine
/// that stops.
#[expect(unsafe_code, reason = "sigpending has no safe wrapper in our dependencies")]
fn was_told() -> bool {
    let mut pending = MaybeUninit::uninit();
    // SAFETY: the first call fills in `pending`, unless it fails; the second only reads it.
    unsafe {
        libc::sigpending(pending.as_mut_ptr()) == 0
            && libc::sigismember(pending.as_ptr(), libc::SIGTERM) == 1
    }
}

/// Blocks all signals; returns which were blocked before.
#[expect(unsafe_code, reason = "sigprocmask has no safe wrapper in our dependencies")]
fn block_all() -> io::Result<libc::sigset_t> {
    let mut all = MaybeUninit::uninit();
    let mut before = MaybeUninit::uninit();
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

#[cfg(test)]
mod tests {
    use super::{End, ROOM};
    use crate::core::id::Wall;
    use crate::core::task::Exit;
    use crate::io::process::left::boot;

    #[test]
    fn an_end_fits_the_room() {
        let (began, at, told) = (Wall(i64::MIN), Wall(i64::MIN), false);
        let end = |exit| End { exit, began, at, told, boot: boot(), leftovers: u32::MAX };
        for exit in [Exit::Code(i32::MIN), Exit::Signal(i32::MIN), Exit::Unknown] {
            let text = serde_json::to_string(&end(exit)).unwrap();
            assert!(text.len() < ROOM, "{text}");
        }
    }
}
