//! What triggers select, against what the selected tasks ask for.
//!
//! Shows selections that match nothing, and placeholders that a trigger cannot fill.

use std::collections::{BTreeMap, BTreeSet};

use super::diagnostics::{Problem, Span};
use super::reader::{At, Reader, list};
use super::tasks::Place;
use super::triggers::{TriggerPlace, Triggers};
use super::words;
use crate::core::graph::Graph;
use crate::core::id::{Name, NodeIx};
use crate::core::selector::{Selector, is_name_byte};
use crate::core::template::Slot;
use crate::core::trigger::{FanOut, Source, TriggerSpec};

/// As many tasks are named where one is missed.
const FEW: usize = 8;

/// What a trigger brings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Supply {
    File,
    Batch,
    Signal,
    RealTime,
    Time,
}

impl Supply {
    fn of(spec: &TriggerSpec, place: &TriggerPlace) -> Self {
        match &spec.source {
            Source::Folder(folder) if folder.fan_out == FanOut::File => Self::File,
            Source::Folder(_) => Self::Batch,
            Source::Signal { .. } if place.real_time => Self::RealTime,
            Source::Signal { .. } => Self::Signal,
            Source::Schedule(_) | Source::Absent { .. } => Self::Time,
        }
    }

    /// Why it cannot fill `slot`, and what to do; `None` if it can.
    fn lacks(self, slot: &Slot) -> Option<(&'static str, Option<&'static str>)> {
        match self {
            Self::File | Self::Batch if slot.needs_signal() => {
                Some(("a folder brings no signal", None))
            }
            Self::Batch if slot.needs_file() => Some((
                "a batch has many files",
                Some("use {paths} as an argument of its own, or set fan_out = \"file\" there"),
            )),
            Self::Signal | Self::RealTime if slot.needs_folder() => {
                Some(("a signal brings no file", None))
            }
            Self::Signal if *slot == Slot::Value => Some((
                "only real-time signals carry a value",
                Some("let the trigger be for a signal from SIGRTMIN+0 on"),
            )),
            Self::Time if slot.needs_folder() => Some(("time brings no file", None)),
            Self::Time if slot.needs_signal() => Some(("time brings no signal", None)),
            Self::File | Self::Batch | Self::Signal | Self::RealTime | Self::Time => None,
        }
    }
}

/// Checks that every part of every selection matches something. Returns whether all do.
pub fn selections(reader: &mut Reader<'_>, graph: &Graph, triggers: &Triggers) -> bool {
    // One trigger per folder with the same selection is common, and looking up a tag walks
    // through all tasks.
    let mut known: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    let mut all = true;
    let mut shown: BTreeSet<Span> = BTreeSet::new();
    for place in triggers.places.values() {
        for part in place.run.iter().filter(|part| shown.insert(part.span)) {
            let unmatched =
                known.entry(part.value.text()).or_insert_with(|| part.value.unmatched(graph));
            for pattern in &*unmatched {
                all = false;
                unmatched_at(reader, graph, part, pattern);
            }
        }
    }
    all
}

fn unmatched_at(reader: &mut Reader<'_>, graph: &Graph, part: &At<Selector>, pattern: &str) {
    let at = token(part.value.text(), pattern);
    let span = reader.within(part.span, at, pattern.len());
    let tag = pattern.strip_prefix("tag:");
    let what = match tag {
        Some(tag) => format!("no task has tag `{tag}`"),
        None if pattern.contains(['*', '?']) => format!("no task matches `{pattern}`"),
        None => format!("there is no task `{pattern}`"),
    };
    let meant = if let Some(tag) = tag {
        let tags = graph.nodes().flat_map(|ix| graph.task(ix).tags.iter());
        reader.suggest.like(tag, tags.map(AsRef::as_ref)).map(|tag| format!("tag:{tag}"))
    } else {
        let names = graph.nodes().map(|ix| graph.task(ix).name.as_ref());
        reader.suggest.like(pattern, names).map(ToOwned::to_owned)
    };
    let help = meant.map_or_else(
        || match graph.len() {
            0 => "no task is defined".to_owned(),
            1..=FEW => {
                let names: Vec<&str> = graph.nodes().map(|ix| &*graph.task(ix).name).collect();
                format!("the tasks are {}", list(&names, "and"))
            }
            _ => "`dagd graph` shows all tasks".to_owned(),
        },
        |meant| format!("did you mean `{meant}`?"),
    );
    reader.note(Problem::at(span, what).help(help));
}

/// Where `pattern` stands in `text` as a whole word.
fn token(text: &str, pattern: &str) -> usize {
    let inside = |byte: u8| is_name_byte(byte) || matches!(byte, b'*' | b'?');
    let alone = |at: usize| {
        let before = text[..at].bytes().next_back();
        let after = text[at + pattern.len()..].bytes().next();
        !before.is_some_and(|byte| inside(byte) && byte != b'-' || byte == b':')
            && !after.is_some_and(|byte| inside(byte) || byte == b':')
    };
    let found = text.match_indices(pattern).map(|(at, _)| at).find(|&at| alone(at));
    found.or_else(|| text.find(pattern)).unwrap_or_default()
}

/// Checks that every trigger fills every placeholder of the tasks that it selects, and selects any.
/// If the graph or a selection is not `sound`, a selection may show too few tasks, but none too
/// many, unless something is subtracted: what is said of those that it shows is true.
pub fn supplies(
    reader: &mut Reader<'_>,
    graph: &Graph,
    sound: bool,
    (tasks, triggers): (&BTreeMap<Name, Place>, &Triggers),
) {
    // Both are in the order of the names.
    let asking: Vec<(NodeIx, &Name, &Place)> = graph
        .nodes()
        .zip(tasks)
        .filter(|(_, (_, place))| place.demands.iter().any(|demand| of_event(&demand.slot)))
        .map(|(ix, (name, place))| (ix, name, place))
        .collect();
    let mut met: BTreeSet<(&str, Supply)> = BTreeSet::new();
    let mut told: BTreeSet<(Span, &'static str)> = BTreeSet::new();
    for (name, spec) in &triggers.specs {
        let Some(place) = triggers.places.get(name) else { continue };
        let supply = Supply::of(spec, place);
        let subtracts = spec.select.text().contains(['-', '&']);
        let skipped = if sound { asking.is_empty() && !subtracts } else { subtracts };
        if skipped || !met.insert((spec.select.text(), supply)) {
            continue;
        }
        let selected = spec.select.eval(graph);
        if sound
            && selected.is_empty()
            && let Some(part) = place.run.first()
        {
            let what = format!("trigger `{name}` selects no task");
            let problem = Problem::at(part.span, what);
            reader.note(problem.help("nothing is left of its selection: see dagd graph SELECTOR"));
        }
        for (_, task, asks) in asking.iter().filter(|(ix, ..)| selected.contains(ix)) {
            for demand in &asks.demands {
                let Some((why, idea)) = supply.lacks(&demand.slot) else { continue };
                if told.insert((demand.span, why)) {
                    let slot = &demand.slot;
                    let what = format!("trigger `{name}` cannot fill `{slot}` of task `{task}`");
                    let mut problem = Problem::at(demand.span, what).label(why);
                    if let Some(part) = place.run.first() {
                        problem =
                            problem.also(part.span, format!("`{name}` selects `{task}` here"));
                    }
                    let leave =
                        format!("leave `{task}` out of the selection, or `{slot}` out of it");
                    reader.note(problem.help(idea.map_or(leave, ToOwned::to_owned)));
                }
            }
        }
    }
}

fn of_event(slot: &Slot) -> bool {
    slot.needs_folder() || slot.needs_signal()
}

/// Tasks that can never run by their rule, for a warning.
pub fn never_run(graph: &Graph) -> Vec<String> {
    use crate::core::task::Rule;
    let tasks = graph.nodes().map(|ix| graph.task(ix));
    tasks
        .filter(|task| {
            task.needs.is_empty() && matches!(task.rule, Rule::OneFailed | Rule::AllFailed)
        })
        .map(|task| {
            let name = words::shown(&task.name);
            format!("task `{name}` never runs: its rule waits for a failure, and it needs no task")
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::token;

    #[test]
    fn whole_words_are_found() {
        assert_eq!(token("load_all,load", "load"), 9);
        assert_eq!(token("tag:load,load", "load"), 9);
        assert_eq!(token("load,tag:load", "tag:load"), 5);
        assert_eq!(token("a+,-b", "b"), 4);
    }
}
