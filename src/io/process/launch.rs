//! Finding an attempt's program and starting it; if that fails, saying why and what to do.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::fs::{Access, AtFlags, CWD, FileType, accessat, stat};
use rustix::process::Pid;

use crate::core::task::Exit;

use super::prepare::Exec;
use super::spawn::{Child, Spawner};

/// Starts processes for one slot.
#[derive(Debug)]
pub struct Launcher {
    spawner: Spawner,
}

impl Launcher {
    /// Prepares what is the same for all attempts.
    pub fn new() -> io::Result<Self> {
        Ok(Self { spawner: Spawner::new()? })
    }

    /// Starts `exec` with its output going to `log`. The error is how the attempt ends instead.
    pub fn launch(&self, exec: &Exec, log: &File) -> Result<Pid, Exit> {
        let program = find(exec).map_err(Exit::NotStarted)?;
        let child = Child {
            program: &program,
            argv: &exec.argv,
            envp: &exec.envp,
            cwd: &exec.cwd,
            log: log.as_fd(),
        };
        let started = self.spawner.spawn(child);
        started.map_err(|error| unstarted(&error, explain(exec, &program, &error)))
    }
}

/// How an attempt ends that this error kept from being started, in the words `why`.
pub fn unstarted(error: &io::Error, why: String) -> Exit {
    match error.raw_os_error() {
        Some(
            libc::EAGAIN | libc::ENOMEM | libc::ENOSPC | libc::EDQUOT | libc::EMFILE | libc::ENFILE,
        ) => Exit::Shortage(why),
        _ => Exit::NotStarted(why),
    }
}

/// The first candidate that is an executable file.
fn find(exec: &Exec) -> Result<CString, String> {
    let mut unfit = None;
    for path in &exec.candidates {
        let is_file = |path: &Path| {
            stat(path)
                .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile)
        };
        if !is_file(path) {
            continue;
        }
        if accessat(CWD, path, Access::EXEC_OK, AtFlags::EACCESS).is_ok() {
            return CString::new(path.as_os_str().as_bytes())
                .map_err(|_| "the path of the program holds a NUL".into());
        }
        unfit.get_or_insert(path);
    }
    if let Some(path) = unfit {
        return Err(format!("`{0}` is not executable; run chmod +x {0}", path.display()));
    }
    let name = exec.argv.first().map_or_else(Default::default, |name| name.to_string_lossy());
    if let [only] = exec.candidates.as_slice()
        && name.contains('/')
    {
        return Err(format!("there is no program `{}`; correct the path", only.display()));
    }
    let dirs = exec.candidates.iter().filter_map(|path| path.parent());
    let dirs = dirs.map(|dir| dir.display().to_string()).collect::<Vec<_>>().join(":");
    Err(format!("there is no program `{name}` in {dirs}; install it, or give its whole path"))
}

/// What was wrong: the error alone does not tell the step that failed.
fn explain(exec: &Exec, program: &CString, error: &io::Error) -> String {
    let shown = program.to_string_lossy();
    if let Some(why) = bad_folder(&exec.cwd) {
        let cwd = exec.cwd.to_string_lossy();
        return format!(
            "cannot enter the working directory `{cwd}`: {why}; create it, or change cwd"
        );
    }
    match error.raw_os_error() {
        Some(libc::E2BIG) => format!(
            "the arguments of `{shown}` are too long for one command; lower batch_max_files, or read \
             the names from the file in DAGD_FILES_NUL"
        ),
        Some(libc::ENOEXEC) => format!(
            "`{shown}` is nothing that this machine can run; a script needs a first line such as \
             #!/bin/sh"
        ),
        Some(libc::ENOENT) => format!(
            "the interpreter that `{shown}` names in its first line is not there; install it, or \
             correct that line"
        ),
        Some(libc::EAGAIN) => format!(
            "cannot start `{shown}`: too many processes; raise TasksMax, pids.max or ulimit -u, or \
             lower max_parallel"
        ),
        Some(libc::ENOMEM) => {
            format!("cannot start `{shown}`: not enough memory; lower max_parallel")
        }
        Some(libc::ETXTBSY) => {
            format!("`{shown}` is open for writing; replace programs by a rename")
        }
        _ => format!("cannot start `{shown}`: {error}"),
    }
}

fn bad_folder(cwd: &CString) -> Option<io::Error> {
    let found = match stat(cwd.as_c_str()) {
        Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => {
            accessat(CWD, cwd.as_c_str(), Access::EXEC_OK, AtFlags::EACCESS)
        }
        Ok(_) => Err(rustix::io::Errno::NOTDIR),
        Err(error) => Err(error),
    };
    found.err().map(io::Error::from)
}
