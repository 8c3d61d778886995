//! `fire`: starts a run by hand.

use std::path::PathBuf;

use clap::{ArgGroup, Args};

use super::Context;
use super::exit::Outcome;
use super::explain::absolute;
use super::follow::{Follow, follow};
use crate::wire::FireRequest;

/// Options of `fire`.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("what").required(true).args(["trigger", "select"]))]
pub struct FireArgs {
    /// The trigger whose selection and policies apply
    #[arg(value_name = "TRIGGER")]
    pub trigger: Option<String>,
    /// Files to run for; below the trigger's folder
    #[arg(value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// A selection instead of a trigger, such as `parse+` or `tag:nightly`
    #[arg(long, value_name = "SELECTOR", allow_hyphen_values = true)]
    pub select: Option<String>,
    /// How to go on.
    #[command(flatten)]
    pub follow: Follow,
}

/// Prints the run's number.
pub fn fire(args: &FireArgs, context: &mut Context) -> Outcome {
    let paths = args.paths.iter().map(|path| absolute(path).map(|path| path.b64()));
    let request = FireRequest {
        trigger: args.trigger.clone(),
        select: args.select.clone(),
        paths_b64: paths.collect::<Result<_, _>>()?,
    };
    let client = context.finder.client()?;
    let accepted = client.fire(&request)?;
    follow(&client, &accepted, args.follow, &mut context.screen)
}
