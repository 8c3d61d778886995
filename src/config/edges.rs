//! From tasks to their graph.
//!
//! Shows unknown needs, circles, and outputs of tasks that come no earlier, each in its place.

use std::collections::{BTreeMap, BTreeSet};

use super::diagnostics::Problem;
use super::reader::Reader;
use super::tasks::{Place, Tasks};
use super::words;
use crate::core::graph::{Graph, GraphError};
use crate::core::id::{Name, NodeIx};
use crate::core::task::TaskSpec;
use crate::core::template::Slot;

/// Edges of a circle that are shown; the title names all.
const SHOWN_MAX: usize = 4;

/// The graph of the tasks, or one without edges if they make none.
pub enum Edges {
    /// All is well.
    Whole(Graph),
    /// Something is noted; names and tags are right, edges are not.
    Loose(Graph),
}

impl Edges {
    /// The graph, for questions about names and tags.
    pub fn names(&self) -> &Graph {
        match self {
            Self::Whole(graph) | Self::Loose(graph) => graph,
        }
    }
}

/// Builds the graph. Returns it with the places of its tasks.
pub fn build(reader: &mut Reader<'_>, tasks: Tasks) -> (Edges, BTreeMap<Name, Place>) {
    let places = tasks.places;
    match Graph::build(tasks.specs) {
        Ok(graph) => {
            outputs(reader, &graph, &places);
            (Edges::Whole(graph), places)
        }
        Err(errors) => {
            for error in &errors {
                match error {
                    GraphError::UnknownNeed { task, need } => unknown(reader, task, need, &places),
                    GraphError::Cycle { path } => circle(reader, path, error, &places),
                }
            }
            (Edges::Loose(without_edges(&places)), places)
        }
    }
}

fn unknown(reader: &mut Reader<'_>, task: &Name, need: &Name, places: &BTreeMap<Name, Place>) {
    let place = places.get(task).and_then(|place| place.needs.iter().find(|at| at.value == *need));
    let Some(entry) = place else { return };
    let shown = words::shown(need);
    let meant = reader.suggest.did_you_mean(need, places.keys().map(AsRef::as_ref));
    let what = format!("task `{task}` needs `{shown}`, which does not exist");
    let help = meant.unwrap_or_else(|| format!("define [tasks.{shown}], or remove the need"));
    reader.note(Problem::at(entry.span, what).help(help));
}

fn circle(
    reader: &mut Reader<'_>,
    path: &[Name],
    error: &GraphError,
    places: &BTreeMap<Name, Place>,
) {
    let mut edges = path.windows(2).filter_map(|pair| {
        let [task, need] = pair else { return None };
        let entry = places.get(task)?.needs.iter().find(|entry| entry.value == *need)?;
        Some((entry.span, format!("`{task}` needs `{need}`")))
    });
    let Some((span, label)) = edges.next() else { return };
    let mut problem = Problem::at(span, error.to_string()).label(label);
    for (span, label) in edges.take(SHOWN_MAX) {
        problem = problem.also(span, label);
    }
    reader.note(problem.help("remove one of these needs"));
}

/// The same tasks without their needs: names and tags can be asked for.
fn without_edges(places: &BTreeMap<Name, Place>) -> Graph {
    let tasks = places.iter().map(|(name, place)| {
        let mut task = TaskSpec::new(name, Vec::new());
        task.tags = place.tags.iter().cloned().collect();
        task
    });
    Graph::build(tasks.collect()).expect("tasks without needs make a graph")
}

/// Checks that each `{out.TASK.KEY}` names a task that comes earlier.
fn outputs(reader: &mut Reader<'_>, graph: &Graph, places: &BTreeMap<Name, Place>) {
    // Grouped by source, so that a source that many tasks name is searched from once.
    let mut wanted: BTreeMap<NodeIx, BTreeSet<NodeIx>> = BTreeMap::new();
    for (name, place) in places {
        for demand in &place.demands {
            let Slot::Out { task, .. } = &demand.slot else { continue };
            let (Some(source), Some(user)) = (graph.find(task), graph.find(name)) else { continue };
            if !place.needs.iter().any(|need| *need.value == **task) {
                wanted.entry(source).or_default().insert(user);
            }
        }
    }
    let mut late = BTreeSet::new();
    for (source, mut users) in wanted {
        cross_off(graph, source, &mut users);
        late.extend(users.into_iter().map(|user| (source, user)));
    }
    for (name, place) in places {
        for demand in &place.demands {
            let Slot::Out { task, key } = &demand.slot else { continue };
            let problem = match (graph.find(task), graph.find(name)) {
                (None, _) => {
                    let what = format!("there is no task `{}`", words::shown(task));
                    let names = places.keys().map(AsRef::as_ref);
                    let meant = reader.suggest.like(task, names);
                    let meant = meant.map(|meant| format!("did you mean `{{out.{meant}.{key}}}`?"));
                    Problem::at(demand.span, what).maybe_help(meant)
                }
                (Some(source), Some(user)) if source == user => {
                    let what = format!("task `{name}` cannot use its own output");
                    Problem::at(demand.span, what).help("only outputs of tasks before it are known")
                }
                (Some(source), Some(user)) if late.contains(&(source, user)) => {
                    let what = format!("task `{name}` does not come after task `{task}`");
                    Problem::at(demand.span, what)
                        .label("has no value yet")
                        .help(format!("add \"{task}\" to the `needs` of `{name}`"))
                }
                (Some(_), _) => continue,
            };
            reader.note(problem);
        }
    }
}

/// Removes from `users` what comes after `source`. Stops as soon as nothing is left.
fn cross_off(graph: &Graph, source: NodeIx, users: &mut BTreeSet<NodeIx>) {
    let mut reached = BTreeSet::from([source]);
    let mut edge = vec![source];
    while let Some(at) = edge.pop() {
        if users.is_empty() {
            return;
        }
        for next in graph.dependents(at) {
            if reached.insert(next) {
                users.remove(&next);
                edge.push(next);
            }
        }
    }
}
