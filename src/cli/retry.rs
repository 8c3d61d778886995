//! `retry`: runs a finished run once more, on the same files, wherever they are now.

use clap::Args;

use super::Context;
use super::exit::Outcome;
use super::follow::{Follow, follow};

/// Options of `retry`.
#[derive(Debug, Args)]
pub struct RetryArgs {
    /// The run's number
    #[arg(value_name = "RUN", value_parser = super::number)]
    pub run: u64,
    /// Only what did not succeed, and what depends on it
    #[arg(long)]
    pub failed: bool,
    /// How to go on.
    #[command(flatten)]
    pub follow: Follow,
}

/// Prints the new run's number.
pub fn retry(args: &RetryArgs, context: &mut Context) -> Outcome {
    let client = context.finder.client()?;
    let accepted = client.retry(args.run, args.failed)?;
    follow(&client, &accepted, args.follow, &mut context.screen)
}
