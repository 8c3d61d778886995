//! `run`: the daemon in the foreground.

use std::io::{self, IsTerminal as _};

use clap::{Args, ValueEnum};
use tracing::level_filters::LevelFilter;

use super::Context;
use super::exit::{Exit, Failure, Outcome};
use super::render::{Color, Screen};
use crate::daemon::{self, DaemonArgs};
use crate::io::log::{self, Form, Journal};

/// What `run` prints when events are being watched. Whoever starts it may wait for this line.
pub const WATCHING: &str = "dagd is watching";

/// Options of `run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// What is logged, and how.
    #[command(flatten)]
    pub log: LogArgs,
}

/// What a daemon logs, and how.
#[derive(Clone, Copy, Debug, Args)]
pub struct LogArgs {
    /// How much to log: error, warn, info, debug or trace
    #[arg(long, value_enum, default_value_t, value_name = "LEVEL", hide_possible_values = true)]
    pub log: Level,
    /// How: text, json (an object a line), journal (entries with fields), or auto: the journal if
    /// standard error leads there, else text
    #[arg(long, value_enum, default_value_t, value_name = "FORM", hide_possible_values = true)]
    pub log_format: LogFormat,
}

/// The form of what is logged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// The journal if standard error leads there, else text.
    #[default]
    Auto,
    /// Lines for people.
    Text,
    /// One JSON object a line.
    Json,
    /// Entries of the journal, with fields.
    Journal,
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
    args.log.start()?;
    let ready = Box::new(|| {
        // Nobody needs to listen, and whoever does not is not waited for: the caller is the engine.
        drop(std::thread::Builder::new().name("dagd-ready".to_owned()).spawn(|| {
            let line = format!("{WATCHING} (pid {})", std::process::id());
            drop(Screen::new(Color::Never).line(&line));
        }));
    });
    let socket = context.finder.socket.clone();
    daemon::run(DaemonArgs { config, socket, ready: Some(ready), reopen: None })?;
    Ok(Exit::Done)
}

impl LogArgs {
    /// Logs from here on. Fails if it is to be the journal, and there is none.
    pub fn start(self) -> Result<(), Failure> {
        let form = match self.log_format {
            LogFormat::Auto => Journal::of_stderr().map_or_else(text, Form::Journal),
            LogFormat::Text => text(),
            LogFormat::Json => Form::Json,
            LogFormat::Journal => {
                let why = |error| Failure::failed(format!("no journal to log to: {error}"));
                Form::Journal(Journal::open().map_err(why)?)
            }
        };
        log::start(self.log.filter(), form);
        Ok(())
    }
}

/// With colours on a terminal, unless the user wants none.
fn text() -> Form {
    let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    Form::Text { ansi: io::stderr().is_terminal() && !plain }
}

impl Level {
    /// What is at this level or more important.
    pub fn filter(self) -> LevelFilter {
        match self {
            Self::Error => LevelFilter::ERROR,
            Self::Warn => LevelFilter::WARN,
            Self::Info => LevelFilter::INFO,
            Self::Debug => LevelFilter::DEBUG,
            Self::Trace => LevelFilter::TRACE,
        }
    }
}
