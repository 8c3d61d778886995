//! `run`: the daemon in the foreground.

use std::io::{self, IsTerminal as _};

use clap::{Args, ValueEnum};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::util::SubscriberInitExt as _;

use super::Context;
use super::exit::{Exit, Outcome};
use super::render::{Color, Screen};
use crate::daemon::{self, DaemonArgs};

/// What `run` prints when events are being watched. Whoever starts it may wait for this line.
pub const WATCHING: &str = "dagd is watching";

/// Options of `run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// How much to log: error, warn, info, debug or trace
    #[arg(long, value_enum, default_value_t, value_name = "LEVEL", hide_possible_values = true)]
    pub log: Level,
}

/// How much is logged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Level {
    /// What went wrong.
    Error,
    /// What may need a look.
    Warn,
    /// What happens.
    #[default]
    Info,
    /// Why it happens.
    Debug,
    /// Everything.
    Trace,
}

/// Runs until it is stopped.
pub fn run(args: &RunArgs, context: &mut Context) -> Outcome {
    let config = context.finder.config()?;
    log(args.log, io::stderr().is_terminal());
    let ready = Box::new(|| {
        // Nobody needs to listen.
        drop(Screen::new(Color::Never).line(&format!("{WATCHING} (pid {})", std::process::id())));
    });
    let socket = context.finder.socket.clone();
    daemon::run(DaemonArgs { config, socket, ready: Some(ready) })?;
    Ok(Exit::Done)
}

/// Logs to standard error from here on.
pub fn log(level: Level, ansi: bool) {
    let level = match level {
        Level::Error => LevelFilter::ERROR,
        Level::Warn => LevelFilter::WARN,
        Level::Info => LevelFilter::INFO,
        Level::Debug => LevelFilter::DEBUG,
        Level::Trace => LevelFilter::TRACE,
    };
    let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_ansi(ansi && !plain)
        .with_target(false)
        .with_writer(io::stderr);
    // A second call in one process keeps the first.
    drop(subscriber.finish().try_init());
}
