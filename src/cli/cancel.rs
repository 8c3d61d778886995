//! `cancel`: ends a run, or one task of it.

use clap::Args;

use super::exit::{Exit, Outcome};
use super::{Context, Which};

/// Options of `cancel`.
#[derive(Debug, Args)]
pub struct CancelArgs {
    /// A run's number, or number/task
    #[arg(value_name = "RUN[/TASK]")]
    pub which: Which,
}

/// Asks the daemon; returns when it has taken note, not when everything has ended.
pub fn cancel(args: &CancelArgs, context: &mut Context) -> Outcome {
    context.finder.client()?.cancel(args.which.run, args.which.task.as_deref())?;
    Ok(Exit::Done)
}
