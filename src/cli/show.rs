//! `show`: one run, with its files, tasks and attempts.

use std::fmt::Write as _;
use std::time::Duration;

use clap::Args;
use jiff::Timestamp;

use super::Context;
use super::exit::{Exit, Outcome};
use super::look::Look;
use super::runs::took;
use super::text::{
    Paint, Style, Table, ago, between, duration, plain, put, size, stamp, state_paint, visible,
};
use crate::wire::{AttemptRow, RunDetail, RunFile, Signal, Task};

/// Options of `show`.
#[derive(Debug, Args)]
pub struct ShowArgs {
    /// The run's number
    #[arg(value_name = "RUN", value_parser = super::number)]
    pub run: u64,
    /// Print JSON of a stable shape
    #[arg(long)]
    pub json: bool,
}

/// Shows a run.
pub fn show(args: &ShowArgs, context: &mut Context) -> Outcome {
    let detail = Look::new(context)?.run(args.run)?;
    if args.json {
        context.screen.json(&detail)?;
    } else {
        let text = story(&detail, Timestamp::now(), context.screen.style);
        context.screen.text(&text)?;
    }
    Ok(Exit::Done)
}

/// The run for people.
pub fn story(detail: &RunDetail, now: Timestamp, style: Style) -> String {
    let run = &detail.run;
    let mut text = String::new();
    let state = style.paint(state_paint(&run.state), &run.state);
    let head = style.paint(Paint::Bold, &format!("run {}", run.id));
    push(&mut text, &format!("{head} {state}"));
    let mut line = |key: &str, value: &str| {
        let key = style.paint(Paint::Dim, &format!("{key:<8}"));
        push(&mut text, &format!("  {key} {value}"));
    };
    let trigger = run.trigger.as_deref().map_or_else(|| "none".to_owned(), visible);
    line("trigger", &format!("{trigger}, {}", reason(detail)));
    line("select", &visible(&detail.select));
    line("graph", &run.rev);
    line("created", &format!("{} ({})", stamp(&run.created_at), ago(&run.created_at, now)));
    match (took(run, now), &run.ended_at) {
        (took, Some(_)) if !took.is_empty() => line("took", &took),
        (took, None) if !took.is_empty() => line("so far", &took),
        _ => {}
    }
    if !run.files.is_empty() {
        push(&mut text, &style.paint(Paint::Dim, "\nFILES"));
        for file in &run.files {
            push(&mut text, &one_file(file, style));
        }
    }
    push(&mut text, "");
    text.push_str(&tasks(&detail.tasks, now, style));
    let logs =
        detail.tasks.iter().flat_map(|task| &task.attempts).filter_map(|row| row.log.as_ref());
    let logs: Vec<String> = logs.map(|log| visible(log)).collect();
    if !logs.is_empty() {
        push(&mut text, &style.paint(Paint::Dim, "\nLOGS"));
        for log in logs {
            push(&mut text, &log);
        }
    }
    text
}

fn push(text: &mut String, line: &str) {
    writeln!(text, "{line}").expect("a string takes everything");
}

/// Why the run exists, with the signal or the run that it repeats.
fn reason(detail: &RunDetail) -> String {
    let mut text = detail.run.reason.clone();
    if let Some(parent) = detail.parent {
        put(&mut text, format_args!(" of run {parent}"));
    }
    if let Some(at) = &detail.scheduled_at {
        put(&mut text, format_args!(" for {}", visible(at)));
    }
    if let Some(Signal { signal, value, sender_pid, sender_uid }) = &detail.signal {
        put(&mut text, format_args!(" {}", visible(signal)));
        let with = [
            value.map(|value| format!("value {value}")),
            sender_pid.map(|pid| format!("from pid {pid}")),
            sender_uid.map(|uid| format!("uid {uid}")),
        ];
        for with in with.into_iter().flatten() {
            put(&mut text, format_args!(", {with}"));
        }
    }
    text
}

fn one_file(file: &RunFile, style: Style) -> String {
    let mut text =
        format!("{}  {}, {}", visible(&file.path.path), visible(&file.kind), size(file.size));
    if let Some(to) = &file.moved_to {
        put(&mut text, format_args!("\n  moved to {}", visible(&to.path)));
    }
    match (file.outcome.as_deref(), &file.move_error) {
        (Some("deleted"), _) => text += "\n  deleted",
        (Some("moving"), error) => {
            let error = error.as_deref().unwrap_or("moving");
            put(&mut text, format_args!("\n  {}", style.paint(Paint::Warn, &visible(error))));
        }
        (_, Some(error)) => {
            let error = style.paint(Paint::Bad, &format!("not moved: {}", visible(error)));
            put(&mut text, format_args!("\n  {error}"));
        }
        (_, None) => {}
    }
    text
}

fn tasks(tasks: &[Task], now: Timestamp, style: Style) -> String {
    let mut table =
        Table::new(&["TASK", "STATE", "TRY", "END", "TOOK", "CPU", "MEMORY", "WHY"], &[2]);
    for task in tasks {
        let (last, before) = match task.attempts.split_last() {
            Some((last, before)) => (Some(last), before),
            None => (None, &[][..]),
        };
        for row in before {
            table.row([
                (task.name.clone(), Paint::Dim),
                (String::new(), Paint::Plain),
                (row.attempt.to_string(), Paint::Dim),
                (end(row), Paint::Dim),
                (length(row, now), Paint::Dim),
                (cpu(row), Paint::Dim),
                (memory(row), Paint::Dim),
                (why(None, Some(row)), Paint::Dim),
            ]);
        }
        table.row([
            (task.name.clone(), Paint::Plain),
            (task.state.clone(), state_paint(&task.state)),
            (last.map_or_else(String::new, |row| row.attempt.to_string()), Paint::Plain),
            (last.map_or_else(String::new, end), Paint::Plain),
            (last.map_or_else(String::new, |row| length(row, now)), Paint::Plain),
            (last.map_or_else(String::new, cpu), Paint::Plain),
            (last.map_or_else(String::new, memory), Paint::Plain),
            (why(task.cause.as_deref(), last), Paint::Plain),
        ]);
    }
    table.render("", style)
}

fn length(row: &AttemptRow, now: Timestamp) -> String {
    let until = now.to_string();
    between(row.started_at.as_deref(), Some(row.ended_at.as_deref().unwrap_or(&until)))
}

fn cpu(row: &AttemptRow) -> String {
    row.cpu_us.map_or_else(String::new, |us| duration(Duration::from_micros(us)))
}

fn memory(row: &AttemptRow) -> String {
    row.memory_peak.map_or_else(String::new, size)
}

/// How an attempt's command ended: `exit 1`, `signal 9`.
pub fn end(row: &AttemptRow) -> String {
    match (row.exit_code, row.signal) {
        (Some(code), _) => format!("exit {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => String::new(),
    }
}

/// The cause of a task's state, and what dagd has to say about an attempt.
pub fn why(cause: Option<&str>, row: Option<&AttemptRow>) -> String {
    let mut parts: Vec<String> = cause.map(str::to_owned).into_iter().collect();
    if let Some(row) = row {
        parts.extend(row.error.iter().filter(|error| Some(error.as_str()) != cause).cloned());
        if row.leftovers > 0 {
            parts.push(format!("{} left behind and killed", row.leftovers));
        }
    }
    plain(&parts.join("; "))
}
