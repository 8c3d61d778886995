//! Floor 4: the command line. One file per verb.
//!
//! Reading order: [`Verb`] lists them, [`find`] tells how a client finds its daemon, [`look`] how
//! looking works without one, [`render`] is the only place that prints.

pub mod cancel;
pub mod check;
pub mod demo;
pub mod demo_daemon;
pub mod demo_files;
pub mod doctor;
pub mod exit;
pub mod explain;
pub mod find;
pub mod fire;
pub mod follow;
pub mod graph;
pub mod init;
pub mod logs;
pub mod look;
pub mod once;
pub mod pause;
pub mod pending;
pub mod plan;
pub mod reload;
pub mod render;
pub mod replay;
pub mod retry;
pub mod run;
pub mod runs;
pub mod show;
pub mod start;
pub mod status;
pub mod stop;
pub mod text;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use exit::{Exit, Outcome};
use find::Finder;
use render::{Color, Screen};

use crate::io::control::History;

/// Opens the history under a state folder, read-only.
pub type OpenHistory = fn(&Path) -> Result<Box<dyn History + Send>, String>;

/// The command line.
#[derive(Debug, Parser)]
#[command(
    name = "dagd",
    version,
    about = "Turns dropped files and signals into runs of task subgraphs",
    after_help = "First steps: `dagd demo` shows it at work, `dagd init` writes a configuration.\n\
        Exit codes: 0 done, 1 failed, 2 usage, 3 not found, 4 no daemon, 78 configuration.",
    disable_help_subcommand = true,
    max_term_width = 100
)]
pub struct Cli {
    /// What holds for every verb.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// Options of every verb.
#[derive(Debug, Args)]
#[command(next_help_heading = "Options of every verb")]
pub struct Global {
    /// The configuration file [default: `$DAGD_CONFIG`, then the usual places]
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The daemon's control socket [default: `$DAGD_SOCKET`, then as configured]
    #[arg(long, global = true, value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// When to use colors: auto (on a terminal, unless `NO_COLOR` is set), always or never
    #[arg(
        long,
        global = true,
        value_enum,
        default_value_t,
        value_name = "WHEN",
        hide_possible_values = true
    )]
    pub color: Color,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Run the daemon in the foreground
    Run(run::RunArgs),
    /// Start the daemon in the background; returns when it watches
    Start(start::StartArgs),
    /// Stop the daemon gracefully; returns when it is gone
    Stop(stop::StopArgs),
    /// Have the daemon read its configuration again; shows what changed
    Reload(Json),
    /// Run a subgraph in this process, without a daemon
    Once(once::OnceCommand),
    /// Check the configuration
    Check,
    /// Look at what the machine allows, with a remedy for what it does not
    Doctor(Json),
    /// Show a subgraph
    Graph(graph::GraphArgs),
    /// Show what a trigger would run, in which order, and why
    Plan(plan::PlanArgs),
    /// Tell why something did or did not run
    Explain(explain::ExplainArgs),
    /// Start a run by hand
    Fire(fire::FireArgs),
    /// Show the daemon at a glance
    Status(Json),
    /// Show what waits, and for what
    Pending(Json),
    /// List runs, newest first
    Runs(runs::RunsArgs),
    /// Show a run
    Show(show::ShowArgs),
    /// Print the output of a run or task
    Logs(logs::LogsArgs),
    /// Cancel a run, or one task of it
    Cancel(cancel::CancelArgs),
    /// Run a finished run once more
    Retry(retry::RetryArgs),
    /// Deliver a file once more
    Replay(replay::ReplayArgs),
    /// Take no new work from a trigger
    Pause(pause::TriggerArgs),
    /// Take work from a trigger again
    Resume(pause::TriggerArgs),
    /// Write a small configuration to start from
    Init(init::InitArgs),
    /// See dagd at work, in a folder of its own
    Demo(demo::DemoArgs),
}

/// Options of a verb that looks.
#[derive(Clone, Copy, Debug, Args)]
pub struct Json {
    /// Print JSON of a stable shape
    #[arg(long)]
    pub json: bool,
}

/// What every verb has.
pub struct Context {
    /// Where things are.
    pub finder: Finder,
    /// Where output goes.
    pub screen: Screen,
    /// The history without a daemon.
    pub history: OpenHistory,
}

/// Runs the command line. Starts no thread before a verb asks for one.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // Help goes to standard output and is no failure; nothing is left to do if it cannot.
            drop(error.print());
            return if error.use_stderr() { Exit::Usage } else { Exit::Done }.into();
        }
    };
    let mut context = Context {
        finder: Finder::new(cli.global.socket, cli.global.config),
        screen: Screen::new(cli.global.color),
        history: crate::daemon::history,
    };
    let outcome = dispatch(cli.verb, &mut context);
    crate::io::log::finish();
    match outcome {
        Ok(exit) => exit.into(),
        Err(failure) => {
            context.screen.failure(&failure);
            failure.exit.into()
        }
    }
}

fn dispatch(verb: Verb, context: &mut Context) -> Outcome {
    match verb {
        Verb::Run(args) => run::run(&args, context),
        Verb::Start(args) => start::start(&args, context),
        Verb::Stop(args) => stop::stop(&args, context),
        Verb::Reload(args) => reload::reload(args, context),
        Verb::Once(args) => once::once(args, context),
        Verb::Check => check::check(context),
        Verb::Doctor(args) => doctor::doctor(args, context),
        Verb::Graph(args) => graph::graph(&args, context),
        Verb::Plan(args) => plan::plan(&args, context),
        Verb::Explain(args) => explain::explain(&args, context),
        Verb::Fire(args) => fire::fire(&args, context),
        Verb::Status(args) => status::status(args, context),
        Verb::Pending(args) => pending::pending(args, context),
        Verb::Runs(args) => runs::runs(&args, context),
        Verb::Show(args) => show::show(&args, context),
        Verb::Logs(args) => logs::logs(&args, context),
        Verb::Cancel(args) => cancel::cancel(&args, context),
        Verb::Retry(args) => retry::retry(&args, context),
        Verb::Replay(args) => replay::replay(&args, context),
        Verb::Pause(args) => pause::pause(&args, context),
        Verb::Resume(args) => pause::resume(&args, context),
        Verb::Init(args) => init::init(&args, context),
        Verb::Demo(args) => demo::demo(&args, context),
    }
}

/// A run, or a task of one, as it is named on the command line: `12` or `12/load`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Which {
    /// The run.
    pub run: u64,
    /// The task; `None`: all.
    pub task: Option<String>,
}

/// A run's number on the command line.
fn number(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| "give a run's number".to_owned())
}

impl std::str::FromStr for Which {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (run, task) = match text.split_once('/') {
            Some((run, task)) => (run, Some(task)),
            None => (text, None),
        };
        match (run.parse(), task) {
            (Ok(run), Some(task)) if !task.is_empty() => {
                Ok(Self { run, task: Some(task.to_owned()) })
            }
            (Ok(run), None) => Ok(Self { run, task: None }),
            _ => Err("give a run's number, or number/task".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::{Cli, Which};

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn runs_and_tasks_are_named() {
        assert_eq!("12".parse(), Ok(Which { run: 12, task: None }));
        assert_eq!("12/a".parse(), Ok(Which { run: 12, task: Some("a".to_owned()) }));
        for bad in ["", "x", "/a", "12/", "-1"] {
            assert!(bad.parse::<Which>().is_err(), "{bad}");
        }
    }
}
