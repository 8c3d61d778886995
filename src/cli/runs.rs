//! `runs`: the listing, newest first.

use clap::Args;
use jiff::Timestamp;

use super::Context;
use super::exit::{Exit, Outcome};
use super::look::Look;
use super::text::{Paint, Style, Table, ago, between, count, state_paint};
use crate::io::client::Listing;
use crate::io::control::RUNS_MAX;
use crate::wire::Run;

/// Runs in a table that does not say how many.
const TABLE_DEFAULT: usize = 30;

/// Options of `runs`.
#[derive(Debug, Args)]
pub struct RunsArgs {
    /// How many, at most [default: 30; all with --json]
    #[arg(long, short = 'n', value_name = "N")]
    pub limit: Option<usize>,
    /// Only of this trigger
    #[arg(long, value_name = "TRIGGER")]
    pub trigger: Option<String>,
    /// Only in this state
    #[arg(long, value_name = "STATE",
        value_parser = ["queued", "running", "succeeded", "failed", "cancelled"])]
    pub state: Option<String>,
    /// Print JSON of a stable shape
    #[arg(long)]
    pub json: bool,
}

/// Lists runs.
pub fn runs(args: &RunsArgs, context: &mut Context) -> Outcome {
    let all = if args.json { RUNS_MAX } else { TABLE_DEFAULT };
    let limit = args.limit.unwrap_or(all);
    let (trigger, state) = (args.trigger.clone(), args.state.clone());
    let found = Look::new(context)?.runs(&Listing { limit: Some(limit), trigger, state })?;
    if args.json {
        context.screen.json(&found)?;
        return Ok(Exit::Done);
    }
    if found.is_empty() {
        let all = args.trigger.is_none() && args.state.is_none();
        context.screen.note(if all { "no runs yet" } else { "no such runs" })?;
        return Ok(Exit::Done);
    }
    let table = table(&found, Timestamp::now(), context.screen.style);
    context.screen.text(&table)?;
    if args.limit.is_none() && found.len() == limit {
        context.screen.note(&format!("the newest {limit}; --limit shows more"))?;
    }
    Ok(Exit::Done)
}

/// The listing for people.
pub fn table(runs: &[Run], now: Timestamp, style: Style) -> String {
    let headings = ["RUN", "STATE", "TRIGGER", "REASON", "FILES", "CREATED", "TOOK"];
    let mut table = Table::new(&headings, &[0]);
    for run in runs {
        table.row([
            (run.id.to_string(), Paint::Plain),
            (run.state.clone(), state_paint(&run.state)),
            (run.trigger.clone().unwrap_or_else(|| "-".to_owned()), Paint::Plain),
            (run.reason.clone(), Paint::Dim),
            (files(run), Paint::Plain),
            (ago(&run.created_at, now), Paint::Dim),
            (took(run, now), Paint::Plain),
        ]);
    }
    table.render("", style)
}

/// From the first attempt's start to the end, or until now.
pub fn took(run: &Run, now: Timestamp) -> String {
    let until = now.to_string();
    let end = run.ended_at.as_deref().unwrap_or(&until);
    between(run.started_at.as_deref(), Some(end))
}

/// One file by its name, several by their number.
fn files(run: &Run) -> String {
    match run.files.as_slice() {
        [] => String::new(),
        [one] => one.rel.clone(),
        [first, rest @ ..] => format!("{} + {}", first.rel, count(rest.len(), "more file")),
    }
}
