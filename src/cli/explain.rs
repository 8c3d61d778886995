//! `explain`: why a file, a task or a signal did or did not run, in sentences.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use clap::Args;
use jiff::Timestamp;

use super::exit::{Exit, Failure, Outcome};
use super::look::Look;
use super::show::{end, why};
use super::text::{Paint, Style, ago, count, put, state_paint, visible};
use super::{Context, Which};
use crate::core::path::Bytes;
use crate::core::trigger::Source;
use crate::io::client::Listing;
use crate::io::config_files;
use crate::wire::{Explain, Run, Task};

/// Options of `explain`.
#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// A path, a signal such as SIGUSR1, or a run's number/task
    #[arg(value_name = "PATH|SIGNAL|RUN/TASK")]
    pub what: PathBuf,
    /// Print JSON of a stable shape
    #[arg(long)]
    pub json: bool,
}

/// Explains. What names a file that is there is a path, whatever it looks like.
pub fn explain(args: &ExplainArgs, context: &mut Context) -> Outcome {
    let text = args.what.to_str().filter(|_| args.what.symlink_metadata().is_err());
    match text {
        Some(text) if is_signal(text) => explain_signal(text, args.json, context),
        Some(text) => match text.parse::<Which>() {
            Ok(which) => explain_run(&which, args.json, context),
            Err(_) => explain_path(&args.what, args.json, context),
        },
        None => explain_path(&args.what, args.json, context),
    }
}

fn is_signal(text: &str) -> bool {
    text.strip_prefix("SIG").is_some_and(|rest| {
        !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-".contains(&b))
    })
}

/// A path as the daemon must see it: absolute, and with the links in its folder resolved as far as
/// that folder is there.
pub fn absolute(path: &Path) -> Result<Bytes, Failure> {
    let whole = std::path::absolute(path)
        .map_err(|error| Failure::usage(format!("{}: {error}", path.display())))?;
    let under = |parent: &Path, name: &OsStr| parent.canonicalize().ok().map(|p| p.join(name));
    let resolved = match (whole.parent(), whole.file_name()) {
        (Some(parent), Some(name)) if has_dots(&whole) => under(parent, name),
        _ => None,
    };
    Ok(Bytes::from(resolved.as_deref().unwrap_or(&whole)))
}

fn has_dots(path: &Path) -> bool {
    path.components().any(|part| part == std::path::Component::ParentDir)
}

fn explain_path(path: &Path, json: bool, context: &mut Context) -> Outcome {
    let path = absolute(path)?;
    let explained = Look::new(context)?.explain(&path, context)?;
    if json {
        context.screen.json(&explained)?;
    } else {
        let text = path_story(&explained, context.screen.style);
        context.screen.text(&text)?;
    }
    Ok(if explained.triggers.is_empty() { Exit::NotFound } else { Exit::Done })
}

/// A path's story for people.
pub fn path_story(explained: &Explain, style: Style) -> String {
    let now = match explained.now.as_str() {
        "file" => "a regular file",
        "absent" => "nothing there now",
        _ => "there, but no regular file",
    };
    let mut text = format!("{}: {now}\n", visible(&explained.path.path));
    if explained.triggers.is_empty() {
        text += "no trigger's folder holds this path, and no run moved a file to it\n";
    }
    for one in &explained.triggers {
        let paint = match (one.verdict.as_str(), one.run_state.as_deref()) {
            ("delivered" | "running", Some(state)) => state_paint(state),
            ("ignored", _) => Paint::Warn,
            _ => Paint::Dim,
        };
        let verdict = style.paint(paint, &one.verdict);
        put(
            &mut text,
            format_args!("  {} {verdict}: {}\n", visible(&one.trigger), visible(&one.text)),
        );
    }
    if let Some(run) = explained.triggers.iter().find_map(|one| one.run) {
        put(&mut text, format_args!("more: dagd show {run}\n"));
    }
    text
}

fn explain_run(which: &Which, json: bool, context: &mut Context) -> Outcome {
    let run = which.run;
    let detail = Look::new(context)?.run(run)?;
    let wanted = |task: &&Task| which.task.as_ref().is_none_or(|name| *name == task.name);
    let tasks: Vec<&Task> = detail.tasks.iter().filter(wanted).collect();
    if let (true, Some(name)) = (tasks.is_empty(), &which.task) {
        return Err(Failure::missing(format!("run {run} has no task `{}`", visible(name))));
    }
    if json {
        context.screen.json(&tasks)?;
        return Ok(Exit::Done);
    }
    context.screen.line(&format!("run {run}: {}", run_story(&detail.run)))?;
    for task in tasks {
        context.screen.line(&format!("  {}", task_story(task)))?;
    }
    Ok(Exit::Done)
}

fn run_story(run: &Run) -> String {
    let by = match (&run.trigger, run.reason.as_str()) {
        (Some(trigger), "event" | "scan") => {
            format!("{} under `{trigger}`", count(run.files.len(), "file"))
        }
        (Some(trigger), reason) => format!("{reason} under `{trigger}`"),
        (None, reason) => format!("{reason}, by selection"),
    };
    format!("{} ({})", run.state, visible(&by))
}

/// A task's story in a sentence.
pub fn task_story(task: &Task) -> String {
    let last = task.attempts.last();
    let cause = task.cause.as_deref();
    let ended = last.map_or_else(String::new, end);
    let tries = count(task.attempts.len(), "attempt");
    let because = match why(cause, last) {
        why if why.is_empty() => String::new(),
        why => format!(": {why}"),
    };
    let story = match (task.state.as_str(), cause) {
        ("waiting", _) => format!("waits for what it needs{because}"),
        ("ready", _) => format!("may start, and waits for a slot or a pool{because}"),
        ("running", _) => format!("is running, {tries} so far"),
        ("retrying", _) => format!("failed ({ended}) and will be tried again{because}"),
        ("succeeded", _) if last.is_none() => {
            format!("counts as succeeded without having been run{because}")
        }
        ("succeeded", _) => format!("succeeded after {tries}{because}"),
        ("failed", _) if ended.is_empty() => format!("failed after {tries}{because}"),
        ("failed", _) => format!("failed after {tries}, the last with {ended}{because}"),
        ("timed_out", _) => format!("reached its time limit after {tries}"),
        ("cancelled", _) if last.is_none() => "was cancelled before it started".to_owned(),
        ("cancelled", _) => format!("was cancelled while it ran{because}"),
        ("lost", _) => format!("was lost: dagd died too often while it ran ({tries})"),
        ("skipped", Some("exit_code")) => {
            format!("ended with {ended}, which it calls \"nothing to do\"")
        }
        ("skipped", Some("rule")) => "was skipped: its rule could not be met any more".to_owned(),
        ("skipped", Some("upstream_failed")) => {
            "was skipped: something that it needs failed".to_owned()
        }
        ("skipped", Some("upstream_skipped")) => {
            "was skipped: something that it needs was skipped".to_owned()
        }
        (state, _) => format!("is {state}{because}"),
    };
    visible(&format!("{} {story}", task.name))
}

fn explain_signal(signal: &str, json: bool, context: &mut Context) -> Outcome {
    let mut look = Look::new(context)?;
    let triggers: Vec<(String, String)> = match &look {
        Look::Live(client) => {
            let found = client.status()?.triggers.into_iter();
            let found = found.filter(|trigger| trigger.source == signal);
            found.map(|trigger| (trigger.name, trigger.state)).collect()
        }
        Look::Stored(_) => {
            let loaded = config_files::load(&context.finder.config()?)?;
            let found = loaded.resolved.model.triggers.values().filter(|trigger| {
                matches!(&trigger.source, Source::Signal { name, .. } if **name == *signal)
            });
            found.map(|trigger| (trigger.name.to_string(), "no daemon runs".to_owned())).collect()
        }
    };
    let mut runs = Vec::new();
    for (name, _) in &triggers {
        let listing = Listing { limit: Some(1), trigger: Some(name.clone()), state: None };
        runs.push(look.runs(&listing)?.into_iter().next());
    }
    if json {
        context.screen.json(&runs)?;
    } else {
        let text = signal_story(signal, &triggers, &runs, Timestamp::now());
        context.screen.text(&text)?;
    }
    let own = matches!(signal, "SIGTERM" | "SIGINT" | "SIGHUP");
    Ok(if triggers.is_empty() && !own { Exit::NotFound } else { Exit::Done })
}

fn signal_story(
    signal: &str,
    triggers: &[(String, String)],
    runs: &[Option<Run>],
    now: Timestamp,
) -> String {
    let mut text = match (signal, triggers.len()) {
        ("SIGTERM" | "SIGINT", _) => format!("{signal} stops dagd gracefully\n"),
        ("SIGHUP", _) => format!("{signal} has dagd read its configuration again\n"),
        (_, 0) => format!("no trigger waits for {signal}\n"),
        (_, number) => format!("{signal} fires {}\n", count(number, "trigger")),
    };
    for ((name, state), run) in triggers.iter().zip(runs) {
        let last = run.as_ref().map_or_else(
            || "it has not come yet".to_owned(),
            |run| format!("last in run {}, {}: {}", run.id, ago(&run.created_at, now), run.state),
        );
        put(&mut text, format_args!("  {} ({}): {last}\n", visible(name), visible(state)));
    }
    text
}
