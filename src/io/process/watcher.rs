//! The watcher of an attempt that goes on without dagd: the helper, which stays the parent of the
//! program instead of becoming it.
//!
//! It waits for the program, writes down how it ended, and ends what it has left behind: all of that
//! are its own children by then, whatever they have left or forgotten. It does nothing else, and no
//! signal but KILL ends it.
//!
//! It leads the group to which signals for the attempt are sent. A program that has left the group, as
//! `timeout` and `setsid` do, gets them from the watcher; and it dies with the watcher, unless it becomes
//! another user by itself.
//!
//! The room for the end is taken at the beginning: a disk that is full by then does not matter.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::AsFd as _;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::io::{Errno, retry_on_intr};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitOptions, getpgid, getpid, getppid, kill_process, pidfd_open,
    set_child_subreaper, set_parent_process_death_signal,
};

use crate::core::id::Wall;
use crate::core::task::Exit;

use super::death::{exit_of, now};
use super::left::{End, boot, ending};
use super::table::{to_group, to_process};
use super::token::wait_for_death;

/// Bytes kept for the end of an attempt.
const ROOM: usize = 512;

/// How long what was left behind may take to die. What hangs in the kernel takes longer: then the
/// watcher leaves it to dagd.
const DEATH_MAX: Duration = Duration::from_secs(5);

/// Which of the two a helper is after it has split.
pub enum Part {
    /// What becomes the program.
    Program(Watched),
    /// What waits for it.
    Watcher(Watcher),
}

/// What is to be the program of a watcher.
pub struct Watched {
    watcher: Pid,
}

/// The parent of a program.
pub struct Watcher {
    program: Pid,
    place: PathBuf,
    /// Where the end will be written.
    room: File,
    began: Wall,
    /// Whether a TERM has come.
    told: bool,
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
    let watcher = getpid();
    set_child_subreaper(Some(watcher))?;
    let (gate, open) = pipe_with(PipeFlags::CLOEXEC)?;
    let before = change_mask(&all_signals())?;
    // SAFETY: this process has one thread, so that its copy is whole.
    match unsafe { libc::fork() } {
        0 => {
            drop(open);
            // Ends when the watcher has handed on what came before there was anybody else, or is dead.
            retry_on_intr(|| rustix::io::read(gate.as_fd(), &mut [0]))?;
            change_mask(&before)?;
            Ok(Part::Program(Watched { watcher }))
        }
        pid => match Pid::from_raw(pid).filter(|_| pid > 0) {
            Some(program) => {
                let place = place.to_owned();
                let mut watcher = Watcher { program, place, room, began, told: false, _lock: lock };
                watcher.hand_on_what_waits();
                drop(open);
                Ok(Part::Watcher(watcher))
            }
            None => Err(io::Error::last_os_error()),
        },
    }
}

impl Watched {
    /// This process is killed when its watcher dies: nobody would know how it ends, and it would be in
    /// the way of the next attempt. To be called after the user is changed, which undoes it.
    pub fn die_with_watcher(&self) -> io::Result<()> {
        set_parent_process_death_signal(Some(Signal::KILL))?;
        if getppid() == Some(self.watcher) {
            Ok(())
        } else {
            Err(io::Error::other("the process that watches over the program is gone"))
        }
    }
}

fn make(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)
}

impl Watcher {
    /// Waits for the end and writes it down, then ends what was left behind. Returns the status that
    /// a shell would give; if the end could not be written, that is all that is known of it.
    pub fn wait(mut self) -> ExitCode {
        let exit = self.program();
        let code = match exit {
            Exit::Code(code) => u8::try_from(code & 0xff).unwrap_or(u8::MAX),
            Exit::Signal(signal) => u8::try_from(128 + (signal & 0x7f)).unwrap_or(u8::MAX),
            _ => u8::MAX,
        };
        self.told |= is_pending(libc::SIGTERM);
        let (began, at, told) = (self.began, now(), self.told);
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

    /// Waits for the program; reaps what it leaves dead meanwhile, and hands signals on to it.
    fn program(&mut self) -> Exit {
        loop {
            match rustix::process::wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) if pid == self.program => {
                    return exit_of(status.exit_status(), status.terminating_signal());
                }
                Ok(Some(_)) | Err(Errno::INTR) => {}
                // A death after this look is a signal that waits.
                Ok(None) => {
                    if let Some(signal) = next_signal(None) {
                        self.hand_on(signal);
                    }
                }
                Err(_) => return Exit::Unknown,
            }
        }
    }

    /// What came before the program was there, it cannot have got; what came since it may have, and
    /// has still to take, so that it gets one of a kind (and two of a real-time signal that comes in
    /// this instant).
    fn hand_on_what_waits(&mut self) {
        while let Some(signal) = next_signal(Some(Duration::ZERO)) {
            self.told |= signal == libc::SIGTERM;
            if signal != libc::SIGCHLD {
                to_process(self.program, signal);
            }
        }
    }

    /// A signal to the group has reached the program, unless that has left: then it gets it here, with
    /// the group that it leads.
    fn hand_on(&mut self, signal: i32) {
        self.told |= signal == libc::SIGTERM;
        // Its number is its own until it is reaped, which only this process does.
        let group = getpgid(Some(self.program));
        if signal == libc::SIGCHLD || group == Ok(getpid()) {
            return;
        }
        if group != Ok(self.program) || !to_group(self.program, signal) {
            to_process(self.program, signal);
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

/// Whether a signal has been sent to this process that nobody has taken.
#[expect(unsafe_code, reason = "sigpending has no safe wrapper in our dependencies")]
fn is_pending(signal: i32) -> bool {
    let mut pending = MaybeUninit::uninit();
    // SAFETY: the first call fills in `pending`, unless it fails; the second only reads it.
    unsafe {
        libc::sigpending(pending.as_mut_ptr()) == 0
            && libc::sigismember(pending.as_ptr(), signal) == 1
    }
}

/// Takes a signal that was sent to this process, which blocks them all; waits for one, for so long at
/// most. `None`: there was none.
#[expect(unsafe_code, reason = "sigtimedwait has no safe wrapper in our dependencies")]
fn next_signal(most: Option<Duration>) -> Option<i32> {
    let set = all_signals();
    let most = most.map(|most| libc::timespec {
        tv_sec: most.as_secs().try_into().unwrap_or(libc::time_t::MAX),
        tv_nsec: most.subsec_nanos().into(),
    });
    let until = most.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    loop {
        // SAFETY: the set and the time are valid and only read; that there is no time, and nowhere to
        // tell more of the signal, is allowed.
        let signal = unsafe { libc::sigtimedwait(&raw const set, std::ptr::null_mut(), until) };
        if signal > 0 {
            return Some(signal);
        }
        if Errno::from_io_error(&io::Error::last_os_error()) != Some(Errno::INTR) {
            return None;
        }
    }
}

#[expect(unsafe_code, reason = "a set of signals has no safe maker in our dependencies")]
fn all_signals() -> libc::sigset_t {
    let mut all = MaybeUninit::uninit();
    // SAFETY: the call fills in `all` and cannot fail.
    unsafe {
        libc::sigfillset(all.as_mut_ptr());
        all.assume_init()
    }
}

/// Blocks these signals and no others; returns which were blocked before.
#[expect(unsafe_code, reason = "sigprocmask has no safe wrapper in our dependencies")]
fn change_mask(mask: &libc::sigset_t) -> io::Result<libc::sigset_t> {
    let mut before = MaybeUninit::uninit();
    // SAFETY: the mask is valid and only read; the call fills in `before`, unless it fails.
    unsafe {
        if libc::sigprocmask(libc::SIG_SETMASK, mask, before.as_mut_ptr()) != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(before.assume_init())
    }
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
