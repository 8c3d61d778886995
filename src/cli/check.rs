//! `check`: is the configuration valid?

use super::Context;
use super::exit::{Exit, Outcome};
use super::text::{Paint, Style, Table, count};
use crate::core::trigger::{Folder, Source, TriggerSpec};
use crate::io::process::means::foresee;
use crate::io::{config_files, disk};

/// Exactly what the daemon does before it runs. Exit code 78, with everything that is wrong, if
/// the configuration is not valid.
pub fn check(context: &mut Context) -> Outcome {
    let path = context.finder.config()?;
    let loaded = config_files::load(&path)?;
    let model = &loaded.resolved.model;
    context.screen.line(&format!(
        "{}: valid; {}, {}, graph {}",
        path.display(),
        count(model.graph.len(), "task"),
        count(model.triggers.len(), "trigger"),
        model.graph.rev(),
    ))?;
    let shared = model.triggers.values().filter_map(|trigger| shared(trigger));
    // For a daemon that is started from here; the service manager may give it more.
    let here = foresee(loaded.resolved.settings.containment, &model.graph);
    let here = here.into_iter().map(|fault| format!("{fault} (as things are here)"));
    for warning in loaded.resolved.warnings.iter().cloned().chain(shared).chain(here) {
        context.screen.line(&format!("warning: {warning}"))?;
    }
    if !model.triggers.is_empty() {
        let table = triggers(model.triggers.values().map(AsRef::as_ref), context.screen.style);
        context.screen.text(&format!("\n{table}"))?;
    }
    Ok(Exit::Done)
}

/// What is to be said of a drop folder into which others may write: a task opens its file by path.
fn shared(trigger: &TriggerSpec) -> Option<String> {
    let folder = trigger.folder()?;
    let exposed = folder.folder == Folder::Drop && folder.pre_move.is_none();
    (exposed && disk::others_may_write(&folder.root)).then(|| {
        format!(
            "trigger `{}`: others may write {}, and could exchange a file after it was found \
             complete; a `pre_move` into a folder that is dagd's own prevents that",
            trigger.name,
            folder.root.display(),
        )
    })
}

/// The triggers, and how files under their folders will be known to be complete.
fn triggers<'a>(triggers: impl Iterator<Item = &'a TriggerSpec>, style: Style) -> String {
    let mut prober = disk::Prober::new();
    let mut table = Table::new(&["TRIGGER", "SOURCE", "RUNS", "COMPLETE", "NOTE"], &[]);
    for trigger in triggers {
        let (complete, note) = match &trigger.source {
            Source::Folder(folder) if folder.root.is_dir() => {
                (prober.readiness(&folder.root, folder.proof()), "")
            }
            Source::Folder(_) => ("", "the folder does not exist yet; it is waited for"),
            Source::Signal { .. } | Source::Schedule(_) | Source::Absent { .. } => ("", ""),
        };
        let (kind, source) = trigger.source.told();
        table.row([
            (trigger.name.to_string(), Paint::Plain),
            (format!("{kind} {source}"), Paint::Plain),
            (trigger.select.to_string(), Paint::Plain),
            (complete.to_owned(), Paint::Plain),
            (note.to_owned(), Paint::Warn),
        ]);
    }
    table.render("", style)
}
