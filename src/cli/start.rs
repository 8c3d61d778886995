//! `start`: the classic daemon: detached, with a pid file, ready when the command returns.
//!
//! Forks before any thread or runtime exists, with the pid file locked already. The parent learns the outcome through a pipe: one
//! byte when events are being watched, or the reason why not.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use clap::Args;
use daemonize::{Daemonize, Outcome as Forked, Stdio};

use super::Context;
use super::exit::{Exit, Failure, Outcome};
use super::run::LogArgs;
use crate::daemon::{self, DaemonArgs};
use crate::io::pid_file::{PidFile, PidFileError};
use crate::io::{config_files, control};

/// Name of the pid file in the runtime folder.
pub const PID_FILE: &str = "dagd.pid";

/// Name of the log in the state folder.
pub const LOG_FILE: &str = "dagd.log";

/// First byte of a good report.
const READY: u8 = b'+';

/// Options of `start`.
#[derive(Debug, Args)]
pub struct StartArgs {
    /// What is logged, and how.
    #[command(flatten)]
    pub log: LogArgs,
}

/// In the parent: returns when the daemon watches, or fails with its reason. In the child: runs
/// the daemon until it is stopped.
pub fn start(args: &StartArgs, context: &mut Context) -> Outcome {
    let config = context.finder.config()?;
    let settings = config_files::load(&config)?.resolved.settings;
    let log_path = settings.state_dir.join(LOG_FILE);
    folder(&settings.state_dir)?;
    control::make_folder(&settings.runtime_dir)
        .map_err(|error| Failure::failed(format!("{}: {error}", settings.runtime_dir.display())))?;
    let at = |error: std::io::Error| Failure::failed(format!("{}: {error}", log_path.display()));
    let output = log_file(&log_path).map_err(at)?;
    let errors = output.try_clone().map_err(at)?;
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
        .map_err(|error| Failure::failed(format!("no pipe: {error}")))?;
    let mut pid_file =
        PidFile::claim(&settings.runtime_dir.join(PID_FILE)).map_err(|error| refused(&error))?;
    let forked =
        Daemonize::<()>::new().stdout(Stdio::from(output)).stderr(Stdio::from(errors)).execute();
    match forked {
        Forked::Parent(outcome) => {
            drop(write);
            outcome.map_err(|error| Failure::failed(format!("cannot detach: {error}")))?;
            report(read, &log_path, context)
        }
        Forked::Child(outcome) => {
            drop(read);
            if let Err(error) = outcome {
                // Its streams are still those of the terminal: only the parent speaks.
                tell(&write, &Failure::failed(format!("cannot detach: {error}")));
                return Err(Failure::failed(""));
            }
            let written = pid_file.write().map_err(|error| refused(&error));
            let ran = written.and_then(|()| background(args, context, config, &log_path, &write));
            // First, so that whoever hears of the failure finds no pid file.
            pid_file.remove();
            if let Err(failure) = &ran {
                tell(&write, failure);
            }
            ran
        }
    }
}

fn refused(error: &PidFileError) -> Failure {
    Failure::failed(error.to_string())
}

/// What the child does.
fn background(
    args: &StartArgs,
    context: &Context,
    config: PathBuf,
    log_path: &Path,
    write: &OwnedFd,
) -> Outcome {
    args.log.start()?;
    let mut report = write
        .try_clone()
        .map(File::from)
        .map_err(|error| Failure::failed(format!("no pipe: {error}")))?;
    let ready = Box::new(move || {
        // The parent may have been interrupted; the daemon stays.
        drop(report.write_all(format!("{}{}", char::from(READY), std::process::id()).as_bytes()));
        drop(report);
    });
    let socket = context.finder.socket.clone();
    let log_path = log_path.to_owned();
    let reopen = Box::new(move || {
        let log = log_file(&log_path)?;
        rustix::stdio::dup2_stdout(&log)?;
        rustix::stdio::dup2_stderr(&log).map_err(std::io::Error::from)
    });
    daemon::run(DaemonArgs { config, socket, ready: Some(ready), reopen: Some(reopen) })?;
    Ok(Exit::Done)
}

/// Opens the log, for more to be written to its end.
fn log_file(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o640).open(path)
}

/// Tells the parent, if it still listens, why there is no daemon.
fn tell(write: &OwnedFd, failure: &Failure) {
    let exit = failure.exit as u8;
    if let Ok(mut pipe) = write.try_clone().map(File::from) {
        drop(pipe.write_all(&[exit]).and_then(|()| pipe.write_all(failure.text.as_bytes())));
    }
}

/// What the parent does: wait for the first byte.
fn report(read: OwnedFd, log_path: &Path, context: &mut Context) -> Outcome {
    let mut pipe = File::from(read);
    let mut first = [0];
    if pipe.read(&mut first)? == 0 {
        let log_path = log_path.display();
        return Err(Failure::failed(format!("the daemon died at its start; see {log_path}")));
    }
    let mut text = String::new();
    let exit = match first[0] {
        READY => {
            // The daemon keeps its end until it has let go of it; the pid is there at once.
            let mut pid = [0; 32];
            let length = pipe.read(&mut pid)?;
            text.push_str(&String::from_utf8_lossy(&pid[..length]));
            context.screen.line(&format!("dagd is watching (pid {text})"))?;
            return Ok(Exit::Done);
        }
        code if code == Exit::Configuration as u8 => Exit::Configuration,
        _ => Exit::Failed,
    };
    // The child says no more than fits a pipe, then ends.
    pipe.take(64 << 10).read_to_string(&mut text)?;
    Err(Failure { exit, text })
}

/// Makes a folder that only its owner may write and its group may read.
fn folder(path: &Path) -> Result<(), Failure> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o750)
        .create(path)
        .map_err(|error| Failure::failed(format!("{}: {error}", path.display())))
}
