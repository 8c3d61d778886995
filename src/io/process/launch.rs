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

use super::cgroup::Cgroup;
use super::order::{self, Failed, Report, Step};
use super::prepare::Exec;
use super::spawn::{Child, Spawner};

/// Starts processes for one slot.
#[derive(Debug)]
pub struct Launcher {
    spawner: Spawner,
    /// The program of the helper.
    helper: CString,
}

/// A process that was started.
#[derive(Debug)]
pub struct Launched {
    /// It, the leader of its group.
    pub leader: Pid,
    /// If it is a helper: what it reports, and the program that it is to become.
    pub helper: Option<(Report, CString)>,
}

impl Launcher {
    /// Prepares what is the same for all attempts.
    pub fn new(helper: CString) -> io::Result<Self> {
        Ok(Self { spawner: Spawner::new()?, helper })
    }

    /// Starts `exec` in `cgroup` with its output going to `log`: by way of the helper only where that
    /// is needed. The error is how the attempt ends instead.
    pub fn launch(
        &self,
        exec: &Exec,
        cgroup: Option<&Cgroup>,
        log: &File,
    ) -> Result<Launched, Exit> {
        let program = find(exec).map_err(Exit::NotStarted)?;
        let asks = || exec.confine.as_ref().is_some_and(|asked| asked.changes_process());
        if cgroup.is_some() || exec.left.is_some() || asks() {
            let started = self.help(exec, cgroup, &program, log);
            return started
                .map(|(leader, report)| Launched {
                    leader,
                    helper: Some((report, program.clone())),
                })
                .map_err(|error| {
                    unstarted(&error, explain_helper((&self.helper, &program), &error))
                });
        }
        let child = Child {
            program: &program,
            argv: &exec.argv,
            envp: &exec.envp,
            cwd: &exec.cwd,
            log: log.as_fd(),
            report: None,
        };
        let started = self.spawner.spawn(child);
        started
            .map(|leader| Launched { leader, helper: None })
            .map_err(|error| unstarted(&error, explain(exec, &program, &error)))
    }

    /// Starts the helper, which is to become `program`.
    fn help(
        &self,
        exec: &Exec,
        cgroup: Option<&Cgroup>,
        program: &CString,
        log: &File,
    ) -> io::Result<(Pid, Report)> {
        let argv = order::arguments(exec, cgroup.map(Cgroup::path), program)?;
        let (report, writing) = Report::pipe()?;
        let child = Child {
            program: &self.helper,
            argv: &argv,
            envp: &order::environment(&exec.envp),
            // The helper goes to the task's own as the task's user.
            cwd: c"/",
            log: log.as_fd(),
            report: Some(writing.as_fd()),
        };
        Ok((self.spawner.spawn(child)?, report))
    }
}

/// Why there is no helper: only the length of the arguments is the task's own matter.
fn explain_helper((helper, program): (&CString, &CString), error: &io::Error) -> String {
    let to_blame = if error.raw_os_error() == Some(libc::E2BIG) { program } else { helper };
    explain_program(to_blame, error)
}

/// How an attempt ends whose helper failed to become `program`.
pub fn not_become(exec: &Exec, program: &CString, failed: Failed) -> Exit {
    let error = io::Error::from_raw_os_error(failed.errno);
    let as_user = exec.confine.as_ref().and_then(|confine| confine.user.as_ref());
    let as_user = as_user.map_or_else(String::new, |user| format!(" as user `{user}`"));
    let why = match failed.step {
        Step::Other => failed.text,
        Step::Folder => bad_cwd(exec, &error) + &as_user,
        Step::Program if failed.errno == libc::EACCES => {
            format!(
                "cannot start `{}`{as_user}: {error}; let it be read and run",
                program.to_string_lossy()
            )
        }
        Step::Program => explain_program(program, &error),
    };
    unstarted(&error, why)
}

/// How an attempt ends that this error kept from being started, in the words `why`.
pub fn unstarted(error: &io::Error, why: String) -> Exit {
    // Or of the system's error that it is about.
    let inner = || error.get_ref()?.source()?.downcast_ref::<io::Error>()?.raw_os_error();
    match error.raw_os_error().or_else(inner) {
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
    match bad_folder(&exec.cwd) {
        Some(why) => bad_cwd(exec, &why),
        None => explain_program(program, error),
    }
}

fn bad_cwd(exec: &Exec, why: &io::Error) -> String {
    let cwd = exec.cwd.to_string_lossy();
    format!("cannot enter the working directory `{cwd}`: {why}; create it, or change cwd")
}

fn explain_program(program: &CString, error: &io::Error) -> String {
    let shown = program.to_string_lossy();
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
