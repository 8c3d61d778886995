//! A thin wrapper around `posix_spawn`.
//!
//! What a child inherits is stated here and nowhere else: its own process group, an empty signal
//! mask, default dispositions for every signal (even those that dagd's parent ignored), a working
//! directory, nothing to read, and one file for all that it writes. Never forks: the cost does not
//! grow with dagd's memory.

use std::ffi::{CStr, CString};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};

use rustix::process::Pid;

use super::order::REPORT;

/// What is the same for every child. One per slot.
#[derive(Debug)]
pub struct Spawner {
    attributes: Attributes,
    null: OwnedFd,
}

/// A child to be.
#[derive(Clone, Copy, Debug)]
pub struct Child<'a> {
    /// The program's absolute path.
    pub program: &'a CStr,
    /// Its arguments, the first of which is its own name.
    pub argv: &'a [CString],
    /// Its environment.
    pub envp: &'a [CString],
    /// Its working directory.
    pub cwd: &'a CStr,
    /// Where standard output and standard error go.
    pub log: BorrowedFd<'a>,
    /// What a helper has as [`REPORT`]; a program has nothing of the kind.
    pub report: Option<BorrowedFd<'a>>,
}

impl Spawner {
    /// Prepares the attributes and opens `/dev/null`.
    pub fn new() -> io::Result<Self> {
        let null = std::fs::File::open("/dev/null")?.into();
        Ok(Self { attributes: Attributes::new()?, null })
    }

    /// Starts `child`, which leads a process group of its own. Returns when its program runs, or
    /// with the error of the first step that failed (folder or program; the caller finds out which).
    pub fn spawn(&self, child: Child<'_>) -> io::Result<Pid> {
        let mut actions = Actions::new()?;
        actions.chdir(child.cwd)?;
        actions.dup2(self.null.as_fd(), libc::STDIN_FILENO)?;
        actions.dup2(child.log, libc::STDOUT_FILENO)?;
        actions.dup2(child.log, libc::STDERR_FILENO)?;
        if let Some(report) = child.report {
            // Last: the number may be that of one of the others here.
            actions.dup2(report, REPORT)?;
        }
        start(&actions, &self.attributes, child)
    }
}

#[expect(unsafe_code, reason = "posix_spawn has no safe wrapper in our dependencies")]
fn start(actions: &Actions, attributes: &Attributes, child: Child<'_>) -> io::Result<Pid> {
    let pointers = |texts: &[CString]| -> Vec<*mut libc::c_char> {
        let all = texts.iter().map(|text| text.as_ptr().cast_mut());
        all.chain([std::ptr::null_mut()]).collect()
    };
    let (argv, envp) = (pointers(child.argv), pointers(child.envp));
    let mut pid = 0;
    // SAFETY: both lists end in null and their strings end in NUL; they, the actions and the
    // attributes outlive the call, which writes only to `pid`.
    check(unsafe {
        libc::posix_spawn(
            &raw mut pid,
            child.program.as_ptr(),
            &raw const *actions.0,
            &raw const *attributes.0,
            argv.as_ptr(),
            envp.as_ptr(),
        )
    })?;
    Pid::from_raw(pid).ok_or_else(|| io::Error::other("posix_spawn returned no process"))
}

/// Attributes of a child; boxed, so that they never move.
struct Attributes(Box<libc::posix_spawnattr_t>);

impl Attributes {
    #[expect(unsafe_code, reason = "posix_spawn has no safe wrapper in our dependencies")]
    fn new() -> io::Result<Self> {
        let mut room = Box::new(MaybeUninit::uninit());
        // SAFETY: initialises the attributes behind the pointer.
        check(unsafe { libc::posix_spawnattr_init(room.as_mut_ptr()) })?;
        // SAFETY: initialised by the call above.
        let mut new = Self(unsafe { room.assume_init() });
        let flags = libc::POSIX_SPAWN_SETPGROUP
            | libc::POSIX_SPAWN_SETSIGMASK
            | libc::POSIX_SPAWN_SETSIGDEF;
        let flags = libc::c_short::try_from(flags).map_err(io::Error::other)?;
        let mut none = MaybeUninit::uninit();
        let mut all = MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: the attributes are initialised; the sets are initialised before they are read,
        // and a set is an array of integers, for which all bytes are valid.
        unsafe {
            libc::sigemptyset(none.as_mut_ptr());
            // Not sigfillset: it leaves out the C library's own two, which the library would then
            // have the child ignore.
            all.as_mut_ptr().write_bytes(0xff, 1);
            check(libc::posix_spawnattr_setflags(&raw mut *new.0, flags))?;
            check(libc::posix_spawnattr_setpgroup(&raw mut *new.0, 0))?;
            check(libc::posix_spawnattr_setsigmask(&raw mut *new.0, none.as_ptr()))?;
            check(libc::posix_spawnattr_setsigdefault(&raw mut *new.0, all.as_ptr()))?;
        }
        Ok(new)
    }
}

impl std::fmt::Debug for Attributes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Attributes")
    }
}

impl Drop for Attributes {
    #[expect(unsafe_code, reason = "posix_spawn has no safe wrapper in our dependencies")]
    fn drop(&mut self) {
        // SAFETY: initialised in `new`, destroyed once.
        unsafe { libc::posix_spawnattr_destroy(&raw mut *self.0) };
    }
}

/// What a child does before its program; boxed, so that they never move.
struct Actions(Box<libc::posix_spawn_file_actions_t>);

impl Actions {
    #[expect(unsafe_code, reason = "posix_spawn has no safe wrapper in our dependencies")]
    fn new() -> io::Result<Self> {
        let mut room = Box::new(MaybeUninit::uninit());
        // SAFETY: initialises the actions behind the pointer.
        check(unsafe { libc::posix_spawn_file_actions_init(room.as_mut_ptr()) })?;
        // SAFETY: initialised by the call above.
        Ok(Self(unsafe { room.assume_init() }))
    }

    #[expect(unsafe_code, reason = "posix_spawn has no safe wrapper in our dependencies")]
    fn chdir(&mut self, to: &CStr) -> io::Result<()> {
        // SAFETY: the actions are initialised; the call copies the path.
        check(unsafe { libc::posix_spawn_file_actions_addchdir_np(&raw mut *self.0, to.as_ptr()) })
    }

    #[expect(unsafe_code, reason = "posix_spawn has no safe wrapper in our dependencies")]
    fn dup2(&mut self, from: BorrowedFd<'_>, to: i32) -> io::Result<()> {
        // SAFETY: the actions are initialised; the descriptors are plain numbers to the call.
        check(unsafe {
            libc::posix_spawn_file_actions_adddup2(&raw mut *self.0, from.as_raw_fd(), to)
        })
    }
}

impl Drop for Actions {
    #[expect(unsafe_code, reason = "posix_spawn has no safe wrapper in our dependencies")]
    fn drop(&mut self) {
        // SAFETY: initialised in `new`, destroyed once.
        unsafe { libc::posix_spawn_file_actions_destroy(&raw mut *self.0) };
    }
}

/// These calls return their error instead of setting `errno`.
fn check(code: i32) -> io::Result<()> {
    if code == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(code)) }
}
