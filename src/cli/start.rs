//! `start`: the classic daemon: detached, with a pid file, ready when the command returns.
//!
//! Forks before any thread or runtime exists. The parent learns the outcome through a pipe: one
//! byte when events are being watched, or the reason why not.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use clap::Args;
use daemonize::{Daemonize, Outcome as Forked, Stdio};

use super::Context;
use super::exit::{Exit, Failure, Outcome};
use super::run::{Level, log};
use crate::daemon::{self, DaemonArgs};
use crate::io::config_files;

/// Name of the pid file in the runtime folder.
pub const PID_FILE: &str = "dagd.pid";

/// Name of the log in the state folder.
pub const LOG_FILE: &str = "dagd.log";

/// First byte of a good report.
const READY: u8 = b'+';

/// Options of `start`.
#[derive(Debug, Args)]
pub struct StartArgs {
    /// How much to log: error, warn, info, debug or trace
    #[arg(long, value_enum, default_value_t, value_name = "LEVEL", hide_possible_values = true)]
    pub log: Level,
}

/// In the parent: returns when the daemon watches, or fails with its reason. In the child: runs
/// the daemon until it is stopped.
pub fn start(args: &StartArgs, context: &mut Context) -> Outcome {
    let config = context.finder.config()?;
    let settings = config_files::load(&config)?.resolved.settings;
    let log_path = settings.state_dir.join(LOG_FILE);
    let pid_file = settings.runtime_dir.join(PID_FILE);
    folder(&settings.state_dir)?;
    folder(&settings.runtime_dir)?;
    let at = |error: std::io::Error| Failure::failed(format!("{}: {error}", log_path.display()));
    let output =
        OpenOptions::new().append(true).create(true).mode(0o640).open(&log_path).map_err(at)?;
    let errors = output.try_clone().map_err(at)?;
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
        .map_err(|error| Failure::failed(format!("no pipe: {error}")))?;
    let forked = Daemonize::<()>::new()
        .pid_file(&pid_file)
        .stdout(Stdio::from(output))
        .stderr(Stdio::from(errors))
        .execute();
    match forked {
        Forked::Parent(outcome) => {
            drop(write);
            outcome.map_err(|error| Failure::failed(format!("cannot detach: {error}")))?;
            report(read, &log_path, context)
        }
        Forked::Child(outcome) => {
            drop(read);
            let ran = match outcome {
                Ok(_) => background(args, context, config, &write),
                // Its streams are still those of the terminal: only the parent speaks.
                Err(error) => {
                    tell(&write, &undetached(&pid_file, &error.to_string()));
                    return Err(Failure::failed(""));
                }
            };
            if let Err(failure) = &ran {
                tell(&write, failure);
            }
            remove(&pid_file, ran)
        }
    }
}

/// Why there is no second daemon, if that is the reason.
fn undetached(pid_file: &Path, error: &str) -> Failure {
    let pid = std::fs::read_to_string(pid_file).unwrap_or_default();
    let shown = pid_file.display();
    match pid.trim().parse::<u32>() {
        Ok(pid) if super::stop::Process::of(pid).is_some() => Failure::failed(format!(
            "a daemon runs already (pid {pid}, {shown}); `dagd stop` stops it"
        )),
        _ => Failure::failed(format!("cannot detach with the pid file {shown}: {error}")),
    }
}

/// What the child does.
fn background(
    args: &StartArgs,
    context: &Context,
    config: std::path::PathBuf,
    write: &OwnedFd,
) -> Outcome {
    log(args.log, false);
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
    daemon::run(DaemonArgs { config, socket, ready: Some(ready) })?;
    Ok(Exit::Done)
}

/// Tells the parent, if it still listens, why there is no daemon.
fn tell(write: &OwnedFd, failure: &Failure) {
    let exit = failure.exit as u8;
    if let Ok(mut pipe) = write.try_clone().map(File::from) {
        drop(pipe.write_all(&[exit]).and_then(|()| pipe.write_all(failure.text.as_bytes())));
    }
}

/// The pid file goes with the daemon that wrote it. A daemon that could not start did not write
/// one, and may have found another's.
fn remove(pid_file: &Path, ran: Outcome) -> Outcome {
    let own = std::fs::read_to_string(pid_file)
        .is_ok_and(|text| text.trim() == std::process::id().to_string());
    if own && let Err(error) = std::fs::remove_file(pid_file) {
        tracing::warn!(%error, pid_file = %pid_file.display(), "the pid file stays behind");
    }
    ran
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
