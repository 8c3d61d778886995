//! `check`: is the configuration valid?

use super::Context;
use super::exit::{Exit, Outcome};
use super::text::count;
use crate::io::config_files;

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
    Ok(Exit::Done)
}
