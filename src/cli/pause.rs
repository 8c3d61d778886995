//! `pause` and `resume`: whether a trigger takes new work.

use clap::Args;

use super::Context;
use super::exit::{Exit, Outcome};

/// Options of both.
#[derive(Debug, Args)]
pub struct TriggerArgs {
    /// The trigger's name
    #[arg(value_name = "TRIGGER")]
    pub trigger: String,
}

/// No new work; what is under way goes on, and files wait in their folder.
pub fn pause(args: &TriggerArgs, context: &mut Context) -> Outcome {
    context.finder.client()?.pause(&args.trigger)?;
    Ok(Exit::Done)
}

/// Work again, beginning with what has waited.
pub fn resume(args: &TriggerArgs, context: &mut Context) -> Outcome {
    context.finder.client()?.resume(&args.trigger)?;
    Ok(Exit::Done)
}
