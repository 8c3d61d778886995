//! `reload`: has the daemon read its configuration again, and waits for the outcome.

use super::Context;
use super::exit::{Exit, Failure, Outcome};

/// Exit code 78 if the configuration is not valid: the old one stays in force.
pub fn reload(context: &mut Context) -> Outcome {
    let outcome = context.finder.client()?.reload()?;
    if outcome.ok {
        context.screen.line(outcome.text.trim_end())?;
        return Ok(Exit::Done);
    }
    Err(Failure::configuration(outcome.text))
}
