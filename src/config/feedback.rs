//! What tasks write where their own triggers look: left out if it is declared, warned of if not.
//!
//! Compares paths as text; looks at no file system.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::moves::{normal, sees};
use super::revision;
use crate::core::graph::Graph;
use crate::core::id::{Name, NodeIx};
use crate::core::task::TaskSpec;
use crate::core::template::{Piece, Slot};
use crate::core::trigger::{FolderSpec, Source, TriggerSpec};

/// Leaves out of each trigger what its own tasks write, and says what is hardly meant.
pub fn settle(graph: &Graph, triggers: &mut BTreeMap<Name, TriggerSpec>) -> Vec<String> {
    let mut warnings = Vec::new();
    let says = |ix: &NodeIx| graph.task(*ix).cwd.is_some() || !graph.task(*ix).outputs.is_empty();
    let telling: Vec<NodeIx> = graph.nodes().filter(says).collect();
    for spec in triggers.values_mut().filter(|_| !telling.is_empty()) {
        let Source::Folder(folder) = &mut spec.source else { continue };
        let selected = spec.select.eval(graph);
        let tasks: Vec<&TaskSpec> = (telling.iter())
            .filter(|ix| selected.contains(ix))
            .map(|ix| &**graph.task(*ix))
            .collect();
        let outputs: Vec<String> =
            tasks.iter().flat_map(|task| &task.outputs).flat_map(|o| below(o, folder)).collect();
        if let Err((pattern, why)) = folder.filter.set_outputs(outputs) {
            warnings.push(format!("output `{pattern}` is not left out: {why}"));
        }
        for task in tasks.iter().filter(|task| task.outputs.is_empty()) {
            if let Some(place) = works_below(task, folder) {
                warnings.push(format!(
                    "task `{}` works in {place}, where trigger `{}` looks: what it writes there may \
                     start it again; declare `outputs` of the task, or `exclude` them",
                    task.name, spec.name
                ));
            }
        }
        spec.rev = revision::of(spec);
    }
    warnings
}

/// The patterns relative to the root that stand for an absolute one. One that names a folder stands
/// for all in it.
fn below(output: &str, folder: &FolderSpec) -> Vec<String> {
    let root = normal(&folder.root);
    let Ok(rel) = Path::new(output).strip_prefix(&root) else { return Vec::new() };
    match rel.to_str() {
        Some("") => vec!["**".to_owned()],
        Some(rel) if rel.ends_with("**") => vec![rel.to_owned()],
        Some(rel) => vec![rel.to_owned(), format!("{rel}/**")],
        None => Vec::new(),
    }
}

/// Where a task works, if the trigger would look at what it writes there.
fn works_below(task: &TaskSpec, folder: &FolderSpec) -> Option<String> {
    let cwd = task.cwd.as_ref()?;
    let place = match cwd.pieces() {
        [Piece::Slot(Slot::Root | Slot::Dir), ..] => {
            return Some("the trigger's folder".to_owned());
        }
        [Piece::Literal(text)] => PathBuf::from(text),
        _ => return None,
    };
    let rel = normal(&place).strip_prefix(normal(&folder.root)).ok()?.join("x");
    sees(folder, &rel).then(|| place.display().to_string())
}
