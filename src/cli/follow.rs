//! What becomes of an accepted start: its number, and on demand its end.

use clap::Args;

use super::exit::{Exit, Failure, Outcome};
use super::render::Screen;
use crate::io::client::Client;
use crate::wire::Accepted;

/// How to go on after a start by hand.
#[derive(Clone, Copy, Debug, Args)]
pub struct Follow {
    /// Wait until the run has ended, and exit as it did
    #[arg(long)]
    pub wait: bool,
    /// Print JSON of a stable shape
    #[arg(long)]
    pub json: bool,
}

/// Prints what was accepted, waits if asked to.
pub fn follow(client: &Client, accepted: &Accepted, how: Follow, screen: &mut Screen) -> Outcome {
    let told = |accepted: &Accepted| match (accepted.run, accepted.item) {
        (Some(run), _) => format!("run {run}"),
        (None, Some(item)) => format!("accepted as event {item}; it waits for room"),
        (None, None) => "accepted".to_owned(),
    };
    if !how.wait {
        if how.json {
            screen.json(accepted)?;
        } else {
            screen.line(&told(accepted))?;
        }
        return Ok(Exit::Done);
    }
    let run = match (accepted.run, accepted.item) {
        (Some(run), _) => run,
        (None, Some(item)) => {
            let started = client.wait_item(item)?;
            started.run.ok_or_else(|| Failure::failed("the event has no run"))?
        }
        (None, None) => return Err(Failure::failed("there is no run to wait for")),
    };
    let waited = client.wait(run)?;
    if how.json {
        screen.json(&waited)?;
    } else {
        screen.line(&format!("run {run} {}", waited.state))?;
    }
    Ok(if waited.state == "succeeded" { Exit::Done } else { Exit::Failed })
}
