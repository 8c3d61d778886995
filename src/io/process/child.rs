//! The helper: dagd, started in place of an attempt's program, which makes of itself what the task
//! asks for and then becomes the program.
//!
//! The daemon does not do this between fork and exec, where nothing but plain system calls may be
//! made and which costs time in proportion to its memory. The helper is a process like any other: it
//! may look users up. It has one thread, and the environment of the task from the beginning, so that
//! a sweep finds it. What is asked for in which order:
//!
//! the cgroup; then what needs means of its own: looking users up, handing them their files; then the
//! limits, while it still may; then groups before user, since after it they cannot be changed; then
//! what the user is to be asked for: folder and program.

use std::convert::Infallible;
use std::ffi::{CString, OsStr, OsString};
use std::io;
use std::os::fd::{FromRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, chown, fchown};
use std::path::Path;
use std::process::ExitCode;

use rustix::fs::Mode;
use rustix::process::{Gid, Rlimit as Raw, Uid};

use crate::core::confine::{Confine, Resource, Rlimit};

use super::order::{APART, Failed, MARK, Order, REPORT, Step, c_string};
use super::prepare::Private;
use super::users::{self, Account};
use super::watcher::{self, Part, Watched};

/// Does the helper's work if that is what this process was started for; returns only then, with the
/// status of a helper that failed. To be called before anything else, while there is one thread.
pub fn run_if_asked() -> Option<ExitCode> {
    let mut words = std::env::args_os().skip(1);
    if words.next()? != MARK {
        return None;
    }
    let report = own_report();
    let failed = match Order::read(words) {
        Some(order) => match order.left.as_deref().map(watcher::split).transpose() {
            Ok(Some(Part::Watcher(watcher))) => {
                drop(report);
                return Some(watcher.wait());
            }
            Ok(Some(Part::Program(watched))) => failed(obey(&order, Some(&watched))),
            Ok(None) => failed(obey(&order, None)),
            Err(error) => other("cannot watch over the program", Some(&error)),
        },
        None => other("this is how dagd starts attempts; it is no command", None),
    };
    // Nobody listens if this was started by hand.
    if let Ok(report) = report {
        rustix::io::write(report, &failed.told()).ok();
    }
    Some(ExitCode::from(127))
}

/// The writing end of the pipe, which the program is not to have.
#[expect(unsafe_code, reason = "the descriptor was handed over by number")]
fn own_report() -> io::Result<OwnedFd> {
    // SAFETY: tells whether the number is a descriptor; if it is, it is this function's from here on:
    // nothing else was opened before, and it is called once.
    let report = unsafe {
        if libc::fcntl(REPORT, libc::F_GETFD) < 0 {
            return Err(io::Error::last_os_error());
        }
        OwnedFd::from_raw_fd(REPORT)
    };
    rustix::io::fcntl_setfd(&report, rustix::io::FdFlags::CLOEXEC)?;
    Ok(report)
}

fn failed(done: Result<Infallible, Failed>) -> Failed {
    let Err(failed) = done;
    failed
}

fn obey(order: &Order, watched: Option<&Watched>) -> Result<Infallible, Failed> {
    if let Some(cgroup) = &order.cgroup {
        let procs = cgroup.join("cgroup.procs");
        std::fs::write(&procs, "0")
            .map_err(|error| other(&format!("cannot join {}", procs.display()), Some(&error)))?;
    }
    let Confine { user, group, umask, .. } = &order.confine;
    let account = user.as_ref().map(|name| Account::named(name)).transpose();
    let account = account.map_err(|why| other(&why, None))?;
    let gid = group.as_ref().map(|name| users::group(name)).transpose();
    let gid = gid.map_err(|why| other(&why, None))?;
    let user = account.as_ref().map(|account| User::of(account, gid)).transpose()?;
    if let Some(user) = &user {
        user.hand_over(order.private.as_ref())?;
    }
    let image = Image::of(order, account.as_ref());
    limit(&order.confine)?;
    if let Some(user) = &user {
        user.take(order.private.as_ref())?;
    } else if let Some(gid) = gid {
        let gid = Gid::from_raw(gid);
        rustix::thread::set_thread_res_gid(gid, gid, gid)
            .map_err(|error| other("cannot change the group", Some(&error.into())))?;
    }
    if let Some(umask) = umask {
        rustix::process::umask(Mode::from_bits_truncate(*umask));
    }
    if let Some(watched) = watched {
        watched
            .die_with_watcher()
            .map_err(|error| other("cannot bind the program to its watcher", Some(&error)))?;
    }
    std::env::set_current_dir(&order.cwd)
        .map_err(|error| Failed { step: Step::Folder, ..other("", Some(&error)) })?;
    let error = image.map_or_else(|error| error, |image| image.become_it());
    Err(Failed { step: Step::Program, ..other("", Some(&error)) })
}

/// From here on the process has the task's limits: what is left to do has to do with next to nothing.
fn limit(Confine { nice, rlimits, .. }: &Confine) -> Result<(), Failed> {
    for (of, limit) in rlimits {
        set_limit(*of, *limit)
            .map_err(|error| other(&format!("cannot set rlimits.{}", of.word()), Some(&error)))?;
    }
    if let Some(nice) = nice {
        rustix::process::setpriority_process(None, *nice)
            .map_err(|error| other(&format!("cannot set nice = {nice}"), Some(&error.into())))?;
    }
    Ok(())
}

fn set_limit(of: Resource, limit: Rlimit) -> io::Result<()> {
    let raw = Raw { current: limit.soft, maximum: limit.hard };
    Ok(rustix::process::setrlimit(kernels(of), raw)?)
}

/// The kernel's name of a resource.
pub(super) fn kernels(of: Resource) -> rustix::process::Resource {
    use rustix::process::Resource as R;
    match of {
        Resource::As => R::As,
        Resource::Core => R::Core,
        Resource::Cpu => R::Cpu,
        Resource::Data => R::Data,
        Resource::Fsize => R::Fsize,
        Resource::Memlock => R::Memlock,
        Resource::Nofile => R::Nofile,
        Resource::Nproc => R::Nproc,
        Resource::Stack => R::Stack,
    }
}

/// A user that this process is to become.
struct User<'a> {
    account: &'a Account,
    gid: u32,
    /// Its groups. `None`: this process is that user already and keeps its own, for which it needs no
    /// privilege.
    groups: Option<Vec<Gid>>,
}

impl<'a> User<'a> {
    /// Looks up what is to be known of it, with `gid` in place of its own group.
    fn of(account: &'a Account, gid: Option<u32>) -> Result<Self, Failed> {
        let gid = gid.unwrap_or(account.gid);
        let own = rustix::process::geteuid().as_raw();
        let groups = (own != account.uid || own == 0).then(|| account.groups(gid)).transpose();
        let groups = groups.map_err(|why| other(&why, None))?;
        let groups = groups.map(|all| all.into_iter().map(Gid::from_raw).collect());
        Ok(Self { account, gid, groups })
    }

    fn failed(&self, what: &str, error: &io::Error) -> Failed {
        other(&format!("cannot {what} user `{}`", self.account.name.display()), Some(error))
    }

    /// Gives it what is its own.
    fn hand_over(&self, private: Option<&Private>) -> Result<(), Failed> {
        let Some(private) = private else { return Ok(()) };
        hand_over(private, self.account.uid, self.gid)
            .map_err(|error| self.failed("hand the run's files over to", &error))?;
        // A program may open its standard output by its name in /dev.
        fchown(io::stdout(), Some(self.account.uid), Some(self.gid))
            .map_err(|error| self.failed("hand the log over to", &error))
    }

    /// Becomes it.
    fn take(&self, private: Option<&Private>) -> Result<(), Failed> {
        if let Some(groups) = &self.groups {
            rustix::thread::set_thread_groups(groups)
                .map_err(|error| self.failed("take the groups of", &error.into()))?;
        }
        let (uid, gid) = (Uid::from_raw(self.account.uid), Gid::from_raw(self.gid));
        if rustix::process::getegid() != gid {
            rustix::thread::set_thread_res_gid(gid, gid, gid)
                .map_err(|error| self.failed("take the group of", &error.into()))?;
        }
        rustix::thread::set_thread_res_uid(uid, uid, uid)
            .map_err(|error| self.failed("become", &error.into()))?;
        let Some(private) = private else { return Ok(()) };
        std::fs::metadata(private.json()).map_err(|error| {
            let (name, dir) = (self.account.name.display(), private.dir.display());
            let what =
                format!("user `{name}` cannot reach {dir}: run chmod o+x on what it lies in");
            other(&what, Some(&error))
        })?;
        Ok(())
    }
}

/// Copies the run's event files, and the credentials that the task names, into a folder of the user's
/// own.
fn hand_over(private: &Private, uid: u32, gid: u32) -> io::Result<()> {
    std::fs::DirBuilder::new().mode(0o700).create(&private.dir)?;
    let copy = |from: &Path, to: &Path| {
        let mut from = std::fs::File::open(from)?;
        let mut made =
            std::fs::OpenOptions::new().write(true).create_new(true).mode(0o400).open(to)?;
        io::copy(&mut from, &mut made)?;
        fchown(made, Some(uid), Some(gid))
    };
    copy(&private.json, &private.json())?;
    copy(&private.files, &private.files())?;
    if let Some(folder) = private.credentials() {
        std::fs::DirBuilder::new().mode(0o700).create(&folder)?;
        for from in &private.credentials {
            copy(from, &folder.join(from.file_name().unwrap_or_default()))?;
        }
        chown(&folder, Some(uid), Some(gid))?;
    }
    chown(&private.dir, Some(uid), Some(gid))
}

/// What the process becomes.
struct Image {
    program: CString,
    argv: Vec<CString>,
    envp: Vec<CString>,
}

impl Image {
    fn of(order: &Order, account: Option<&Account>) -> io::Result<Self> {
        let all =
            |texts: Vec<OsString>| texts.into_iter().map(c_string).collect::<io::Result<Vec<_>>>();
        Ok(Self {
            program: c_string(order.program.clone())?,
            argv: all(order.argv.clone())?,
            envp: all(environment(account))?,
        })
    }

    /// Returns only with the error.
    #[expect(unsafe_code, reason = "execve has no safe wrapper that starts no shell")]
    fn become_it(&self) -> io::Error {
        let pointers = |texts: &[CString]| -> Vec<*const libc::c_char> {
            texts.iter().map(|text| text.as_ptr()).chain([std::ptr::null()]).collect()
        };
        let (argv, envp) = (pointers(&self.argv), pointers(&self.envp));
        // SAFETY: the first sets a disposition (the language's start ignores SIGPIPE); for the second,
        // both lists end in null and their texts end in NUL and outlive the call.
        unsafe {
            libc::signal(libc::SIGPIPE, libc::SIG_DFL);
            libc::execve(self.program.as_ptr(), argv.as_ptr(), envp.as_ptr());
        }
        io::Error::last_os_error()
    }
}

/// The environment that this process was given; what tells who the user is and was left out by
/// whoever prepared it is the account's.
fn environment(account: Option<&Account>) -> Vec<OsString> {
    let own = |(key, value): (OsString, OsString)| {
        let name = key.as_bytes().strip_prefix(&[APART]).unwrap_or(key.as_bytes());
        (OsStr::from_bytes(name).to_owned(), value)
    };
    let mut env: Vec<(OsString, OsString)> = std::env::vars_os().map(own).collect();
    let Some(Account { name, home, shell, .. }) = account else { return joined(&env) };
    for (key, value) in [("HOME", home), ("USER", name), ("LOGNAME", name), ("SHELL", shell)] {
        if !env.iter().any(|(known, _)| known == key) {
            env.push((key.into(), value.clone()));
        }
    }
    joined(&env)
}

fn joined(env: &[(OsString, OsString)]) -> Vec<OsString> {
    let join = |(key, value): &(OsString, OsString)| {
        OsStr::from_bytes(&[key.as_bytes(), b"=", value.as_bytes()].concat()).to_owned()
    };
    env.iter().map(join).collect()
}

fn other(text: &str, error: Option<&io::Error>) -> Failed {
    let errno = error.and_then(io::Error::raw_os_error).unwrap_or(0);
    let text = error.map_or_else(|| text.to_owned(), |error| format!("{text}: {error}"));
    Failed { step: Step::Other, errno, text }
}
