//! `logs`: what the commands of a run wrote, unchanged.

use std::io;
use std::time::Duration;

use clap::Args;

use super::exit::{Exit, Failure, Outcome};
use super::look::Look;
use super::text::{Paint, visible};
use super::{Context, Which};
use crate::wire::{AttemptRow, RunDetail};

/// How long to let a run go on before asking whether another of its tasks has started.
const NEXT_TASK: Duration = Duration::from_millis(250);

/// Options of `logs`.
#[derive(Debug, Args)]
pub struct LogsArgs {
    /// A run's number, or number/task
    #[arg(value_name = "RUN[/TASK]")]
    pub which: Which,
    /// Go on until the run, or the task's attempt, has ended
    #[arg(long, short)]
    pub follow: bool,
    /// Of this try [default: the last]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub attempt: Option<u32>,
}

/// Prints one task's output as it is, or that of all tasks under headings.
pub fn logs(args: &LogsArgs, context: &mut Context) -> Outcome {
    let mut look = Look::new(context)?;
    match &args.which.task {
        Some(task) => one(args, task, &mut look, context),
        None => all(args, &mut look, context),
    }
}

fn one(args: &LogsArgs, name: &str, look: &mut Look, context: &mut Context) -> Outcome {
    let run = args.which.run;
    loop {
        let detail = look.run(run)?;
        let shown = visible(name);
        let task = detail.tasks.iter().find(|task| task.name == name);
        let task =
            task.ok_or_else(|| Failure::missing(format!("run {run} has no task `{shown}`")))?;
        let asked = |row: &&AttemptRow| args.attempt.is_none_or(|number| number == row.attempt);
        if let Some(row) = task.attempts.iter().rfind(asked) {
            let mut sink = |bytes: &[u8]| context.screen.bytes(bytes);
            look.log((run, name), row, args.follow, &mut sink)?;
            return Ok(Exit::Done);
        }
        let over = detail.run.ended_at.is_some() || matches!(look, Look::Stored(_));
        if !args.follow || over {
            let number = args.attempt.map_or_else(String::new, |number| format!(" {number}"));
            let text =
                format!("task `{shown}` of run {run} ({}) has no attempt{number}", task.state);
            return Err(Failure::missing(text));
        }
        std::thread::sleep(NEXT_TASK);
    }
}

fn all(args: &LogsArgs, look: &mut Look, context: &mut Context) -> Outcome {
    let run = args.which.run;
    let mut printed: Vec<(String, u32)> = Vec::new();
    loop {
        let detail = look.run(run)?;
        let found = attempts(&detail, args.attempt);
        let fresh: Vec<_> = found
            .into_iter()
            .filter(|(task, row)| !printed.contains(&((*task).to_owned(), row.attempt)))
            .collect();
        for (task, row) in &fresh {
            heading(task, row, !printed.is_empty(), context)?;
            let mut last = b'\n';
            let mut sink = |bytes: &[u8]| -> io::Result<()> {
                last = bytes.last().copied().unwrap_or(last);
                context.screen.bytes(bytes)
            };
            look.log((run, task), row, args.follow, &mut sink)?;
            if last != b'\n' {
                context.screen.text("\n")?;
            }
            printed.push(((*task).to_owned(), row.attempt));
        }
        let over = detail.run.ended_at.is_some() || matches!(look, Look::Stored(_));
        if !args.follow || (over && fresh.is_empty()) {
            return match (args.attempt, printed.is_empty()) {
                (Some(number), true) => {
                    Err(Failure::missing(format!("no task of run {run} has an attempt {number}")))
                }
                _ => Ok(Exit::Done),
            };
        }
        if fresh.is_empty() {
            std::thread::sleep(NEXT_TASK);
        }
    }
}

/// The attempts to print, in the order in which they started.
fn attempts(detail: &RunDetail, number: Option<u32>) -> Vec<(&str, &AttemptRow)> {
    let mut found: Vec<(&str, &AttemptRow)> = Vec::new();
    for task in &detail.tasks {
        let wanted = |row: &&AttemptRow| number.is_none_or(|number| number == row.attempt);
        found.extend(task.attempts.iter().filter(wanted).map(|row| (task.name.as_str(), row)));
    }
    found.sort_by(|a, b| a.1.started_at.cmp(&b.1.started_at));
    found
}

fn heading(task: &str, row: &AttemptRow, gap: bool, context: &mut Context) -> Result<(), Failure> {
    let try_ = if row.attempt > 1 { format!(", attempt {}", row.attempt) } else { String::new() };
    let silent = row.ended_at.is_some() && row.log.is_none();
    let silent = if silent { ": no output" } else { "" };
    let text = format!("==> {}{try_}{silent}", visible(task));
    let text = context.screen.style.paint(Paint::Bold, &text);
    context.screen.line(&format!("{}{text}", if gap { "\n" } else { "" }))
}
