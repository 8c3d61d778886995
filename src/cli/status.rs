//! `status`: the daemon at a glance.

use std::fmt::Write as _;

use jiff::Timestamp;

use super::exit::{Exit, Outcome};
use super::text::{Paint, Style, Table, ago, count, state_paint, visible};
use super::{Context, Json};
use crate::wire::{Status, TriggerStatus};

/// Asks the daemon.
pub fn status(args: Json, context: &mut Context) -> Outcome {
    let status = context.finder.client()?.status()?;
    if args.json {
        context.screen.json(&status)?;
    } else {
        let text = overview(&status, Timestamp::now(), context.screen.style);
        context.screen.text(&text)?;
    }
    Ok(Exit::Done)
}

/// The overview for people.
pub fn overview(status: &Status, now: Timestamp, style: Style) -> String {
    let mut text = String::new();
    let mut line = |key: &str, value: &str| {
        let key = style.paint(Paint::Dim, &format!("{key:<9}"));
        writeln!(text, "{key} {}", value.trim_end()).expect("a string takes everything");
    };
    let state = style.paint(state_paint(&status.state), &status.state);
    let state = if status.state == "running" { style.paint(Paint::Good, "running") } else { state };
    line(
        "dagd",
        &format!(
            "{} {state}, pid {}, started {}",
            status.version,
            status.pid,
            ago(&status.started_at, now)
        ),
    );
    if let Some(reason) = &status.stalled {
        line("stalled", &style.paint(Paint::Bad, &visible(reason)));
    }
    line("config", &format!("{} (graph {})", visible(&status.config), status.rev));
    if let Some(reload) = &status.reload {
        let paint = if reload.ok { Paint::Good } else { Paint::Bad };
        let outcome = style.paint(paint, if reload.ok { "in force" } else { "refused" });
        let first = visible(reload.text.lines().next().unwrap_or_default());
        line("reload", &format!("{outcome}, {}: {first}", ago(&reload.at, now)));
    }
    line("state", &visible(&status.state_dir));
    if !status.containment.is_empty() {
        line("processes", &visible(&status.containment));
    }
    line(
        "tasks",
        &format!("{} of {} slots busy, {} ready", status.running, status.slots, status.ready),
    );
    line("runs", &format!("{} of {} alive", status.live_runs, status.max_live_runs));
    if !status.triggers.is_empty() {
        text.push('\n');
        text.push_str(&triggers(&status.triggers, style));
    }
    let late = status.triggers.iter().filter_map(late);
    let problems: Vec<String> = status.problems.iter().cloned().chain(late).collect();
    for problem in &problems {
        let problem = style.paint(Paint::Warn, &visible(problem));
        write!(text, "\n! {problem}").expect("a string takes everything");
    }
    if !problems.is_empty() {
        text.push('\n');
    }
    text
}

/// What is said of files that have not become ready for too long.
fn late(trigger: &TriggerStatus) -> Option<String> {
    let oldest = trigger.late_oldest.as_ref()?;
    let files = count(usize::try_from(trigger.late).unwrap_or(usize::MAX), "file");
    let (name, path) = (&trigger.name, &oldest.path);
    Some(format!("{name}: {files} not ready for longer than ready_alarm, the longest {path}"))
}

fn triggers(triggers: &[TriggerStatus], style: Style) -> String {
    let headings = [
        "TRIGGER",
        "STATE",
        "SOURCE",
        "COMPLETE",
        "DIRS",
        "PENDING",
        "QUEUED",
        "LIVE",
        "QUARANTINE",
        "WHY",
    ];
    let mut table = Table::new(&headings, &[4, 5, 6, 7, 8]);
    let blank = || (String::new(), Paint::Plain);
    let number = |n: u64| (n.to_string(), if n == 0 { Paint::Dim } else { Paint::Plain });
    for trigger in triggers {
        let folder = matches!(trigger.kind.as_str(), "drop" | "watch");
        let next = trigger.next_at.as_ref().map(|at| format!("next at {at}"));
        table.row([
            (trigger.name.clone(), Paint::Plain),
            (trigger.state.clone(), state_paint(&trigger.state)),
            (format!("{} {}", trigger.kind, trigger.source), Paint::Plain),
            // Nothing is known of a folder that is not there.
            (
                trigger.readiness.clone().filter(|_| trigger.directories > 0).unwrap_or_default(),
                Paint::Plain,
            ),
            if folder { number(trigger.directories) } else { blank() },
            number(trigger.pending),
            number(trigger.queued),
            number(trigger.live_runs),
            if trigger.kind == "drop" { number(trigger.quarantined) } else { blank() },
            match (&trigger.reason, next) {
                (None, Some(next)) => (next, Paint::Dim),
                (None, None) if trigger.scanning => ("scanning".to_owned(), Paint::Dim),
                (why, _) => (why.clone().unwrap_or_default(), Paint::Warn),
            },
        ]);
    }
    table.render("", style)
}
