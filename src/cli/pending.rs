//! `pending`: what waits, and for what.

use jiff::Timestamp;

use super::exit::{Exit, Outcome};
use super::text::{Paint, Style, Table, ago, state_paint};
use super::{Context, Json};
use crate::wire::PendingEntry;

/// Asks the daemon.
pub fn pending(args: Json, context: &mut Context) -> Outcome {
    let entries = context.finder.client()?.pending()?;
    if args.json {
        context.screen.json(&entries)?;
    } else if entries.is_empty() {
        context.screen.note("nothing waits")?;
    } else {
        let table = table(&entries, Timestamp::now(), context.screen.style);
        context.screen.text(&table)?;
    }
    Ok(Exit::Done)
}

/// The list for people.
pub fn table(entries: &[PendingEntry], now: Timestamp, style: Style) -> String {
    let mut table = Table::new(&["TRIGGER", "STAGE", "RUN", "SINCE", "FOR", "FILE"], &[2]);
    for entry in entries {
        let file = entry.file.as_ref().map_or_else(String::new, |file| file.path.clone());
        table.row([
            (entry.trigger.clone().unwrap_or_else(|| "-".to_owned()), Paint::Plain),
            (entry.stage.clone(), state_paint(&entry.stage)),
            (entry.run.map_or_else(String::new, |run| run.to_string()), Paint::Plain),
            (ago(&entry.since, now), Paint::Dim),
            (entry.reason.clone(), Paint::Plain),
            (file, Paint::Plain),
        ]);
    }
    table.render("", style)
}
