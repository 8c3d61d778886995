//! `replay`: delivers a file once more to every trigger whose folder holds it, or held it.

use std::path::PathBuf;

use clap::Args;

use super::Context;
use super::exit::{Exit, Failure, Outcome};
use super::explain::absolute;
use super::follow::{Follow, follow};
use crate::wire::Accepted;

/// Options of `replay`.
#[derive(Debug, Args)]
pub struct ReplayArgs {
    /// The file, where it is now
    #[arg(value_name = "PATH")]
    pub path: PathBuf,
    /// How to go on.
    #[command(flatten)]
    pub follow: Follow,
}

/// Prints a run's number per trigger. Fails if one of several triggers refused.
pub fn replay(args: &ReplayArgs, context: &mut Context) -> Outcome {
    let client = context.finder.client()?;
    let mut exit = Exit::Done;
    let mut refused = Vec::new();
    for replayed in client.replay(&absolute(&args.path)?)? {
        if let Some(error) = replayed.error {
            refused.push(format!("trigger `{}`: {error}", replayed.trigger));
            continue;
        }
        let accepted = Accepted { run: replayed.run, item: replayed.item };
        let ended = follow(&client, &accepted, args.follow, &mut context.screen)?;
        if exit == Exit::Done {
            exit = ended;
        }
    }
    if refused.is_empty() { Ok(exit) } else { Err(Failure::failed(refused.join("\n"))) }
}
