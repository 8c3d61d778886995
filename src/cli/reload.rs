//! `reload`: has the daemon read its configuration again, and waits for the outcome.

use super::exit::{Exit, Failure, Outcome};
use super::{Context, Json};

/// Exit code 78 if the configuration is not valid: the old one stays in force.
pub fn reload(args: Json, context: &mut Context) -> Outcome {
    let outcome = context.finder.client()?.reload()?;
    if args.json {
        context.screen.json(&outcome)?;
        return Ok(if outcome.ok { Exit::Done } else { Exit::Configuration });
    }
    for warning in &outcome.warnings {
        context.screen.note(&format!("warning: {warning}"))?;
    }
    if outcome.ok {
        context.screen.line(outcome.text.trim_end())?;
        return Ok(Exit::Done);
    }
    Err(Failure::configuration(outcome.text))
}
