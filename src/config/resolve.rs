//! From texts to a validated model: the order of the checks.
//!
//! Everything that is named by others is read before what names it, over all files: `[daemon]`,
//! `[pools]` and `[defaults]` first, then tasks, then triggers, then what they mean to each other.

use std::sync::Arc;

use super::diagnostics::{Diagnostics, Problem, Span};
use super::edges::{self, Edges};
use super::keys::{DEFAULTS, ROOT};
use super::reader::{Reader, Value};
use super::settings::{self, RawDaemon};
use super::syntax;
use super::task::RawTask;
use super::tasks::{Pools, Tasks};
use super::trigger::RawTrigger;
use super::triggers::Triggers;
use super::{Resolved, SourceText, Surroundings, feedback, moves, reach, renames, times};
use crate::core::model::Model;

/// Keys that say what one task or trigger is, and so cannot be the default of all.
const NO_DEFAULT: [&str; 10] = [
    "needs",
    "command",
    "shell",
    "drop",
    "watch",
    "signal",
    "schedule",
    "absent",
    "of",
    "renamed_from",
];

/// Reads and checks `sources`; `before` are problems with files that could not be read at all.
pub fn resolve(
    sources: &[SourceText],
    around: &Surroundings,
    before: Vec<Problem>,
) -> Result<Resolved, Diagnostics> {
    let mut whole = before.is_empty();
    let mut problems = before;
    let mut trees = Vec::with_capacity(sources.len());
    let mut broken: Vec<Span> = Vec::new();
    for (file, source) in (0..).zip(sources) {
        let tree = syntax::parse(file, source, &mut problems);
        broken.extend(&tree.broken);
        trees.push(tree);
    }
    whole &= broken.is_empty();
    let mut reader = Reader::new(sources, problems);
    let syntax_errors = reader.problems().len();
    let mut sections = Sections::default();
    for (file, tree) in (0..).zip(&trees) {
        for value in reader.root(file, tree.root.get_ref()) {
            sections.sort(&mut reader, value);
        }
    }
    let read = Read::new(&mut reader, &sections, whole, around);
    let mut seen = 0;
    reader.problems().retain(|problem| {
        seen += 1;
        seen <= syntax_errors || !broken.iter().any(|&syntax| problem.is_echo_of(syntax))
    });
    let resolved = if whole { read.assemble(&mut reader, around) } else { None };
    let problems = std::mem::take(reader.problems());
    match resolved {
        Some(resolved) if problems.is_empty() => Ok(resolved),
        Some(_) | None => Err(Diagnostics::new(sources, problems)),
    }
}

/// The tables of all files, by what they are.
#[derive(Default)]
struct Sections<'s> {
    daemon: Vec<Value<'s>>,
    control: Vec<Value<'s>>,
    pools: Vec<Value<'s>>,
    task_defaults: Vec<Value<'s>>,
    trigger_defaults: Vec<Value<'s>>,
    tasks: Vec<Value<'s>>,
    triggers: Vec<Value<'s>>,
}

impl<'s> Sections<'s> {
    fn sort(&mut self, reader: &mut Reader<'s>, value: Value<'s>) {
        match value.name {
            "daemon" => self.daemon.extend(reader.table(value, "[daemon]")),
            "control" => self.control.extend(reader.table(value, "[control]")),
            "pools" => self.pools.extend(reader.table(value, "[pools]")),
            "tasks" => self.tasks.extend(reader.table(value, "[tasks.NAME]")),
            "triggers" => self.triggers.extend(reader.table(value, "[triggers.NAME]")),
            "defaults" => {
                for entry in reader.table(value, "[defaults.task]") {
                    match entry.name {
                        "task" => {
                            self.task_defaults.extend(reader.table(entry, "[defaults.task]"));
                        }
                        "trigger" => {
                            self.trigger_defaults.extend(reader.table(entry, "[defaults.trigger]"));
                        }
                        _ => reader.unknown(&DEFAULTS, entry),
                    }
                }
            }
            _ => reader.unknown(&ROOT, value),
        }
    }
}

/// What was read of all files.
struct Read {
    daemon: RawDaemon,
    pools: Pools,
    tasks: Tasks,
    triggers: Triggers,
}

impl Read {
    fn new<'s>(
        reader: &mut Reader<'s>,
        sections: &Sections<'s>,
        whole: bool,
        around: &Surroundings,
    ) -> Self {
        let mut read = Self {
            daemon: RawDaemon::default(),
            pools: Pools::new(),
            tasks: Tasks::default(),
            triggers: Triggers::default(),
        };
        for &value in &sections.daemon {
            read.daemon.read(reader, value);
        }
        for &value in &sections.control {
            read.daemon.read_control(reader, around, value);
        }
        for &value in &sections.pools {
            settings::pool(reader, &mut read.pools, value);
        }
        let mut task_defaults = RawTask::default();
        for &value in &sections.task_defaults {
            if is_default(reader, value, "task") {
                task_defaults.read(reader, value);
            }
        }
        let mut trigger_defaults = RawTrigger::default();
        for &value in &sections.trigger_defaults {
            if is_default(reader, value, "trigger") {
                trigger_defaults.read(reader, value);
            }
        }
        let pools = whole.then_some(&read.pools);
        read.tasks.specs.reserve(sections.tasks.len());
        for &value in &sections.tasks {
            read.tasks.add(reader, value, &task_defaults, pools);
        }
        for &value in &sections.triggers {
            read.triggers.add(reader, value, &trigger_defaults);
        }
        read
    }

    /// Checks what the parts mean to each other, and puts them together.
    fn assemble(self, reader: &mut Reader<'_>, around: &Surroundings) -> Option<Resolved> {
        let settings = self.daemon.settings(reader, around);
        moves::check(reader, &self.triggers, settings.as_ref());
        renames::check(reader, &self.triggers);
        times::siblings(reader, &self.triggers);
        let (edges, places) = edges::build(reader, self.tasks);
        let matched = reach::selections(reader, edges.names(), &self.triggers);
        let sound = matched && matches!(edges, Edges::Whole(_));
        reach::supplies(reader, edges.names(), sound, (&places, &self.triggers));
        let Edges::Whole(graph) = edges else { return None };
        let mut warnings = reach::never_run(&graph);
        for pool in self.pools.keys() {
            if !graph.nodes().any(|ix| graph.task(ix).uses.contains_key(pool)) {
                warnings.push(format!("pool `{pool}` is used by no task"));
            }
        }
        let mut triggers = self.triggers.specs;
        warnings.extend(feedback::settle(&graph, &mut triggers));
        let model = Model {
            graph: Arc::new(graph),
            triggers: triggers.into_iter().map(|(name, spec)| (name, Arc::new(spec))).collect(),
            pools: self.pools.into_iter().map(|(name, size)| (name, size.value)).collect(),
            slots: self.daemon.slots(around),
            max_live_runs: self.daemon.live_runs(around),
            stop_timeout: self.daemon.stop_timeout(),
            can_leave: true,
        };
        Some(Resolved { model: Arc::new(model), settings: settings?, warnings })
    }
}

/// Whether a key can be a default; it is noted if not, and if it is given twice.
fn is_default<'s>(reader: &mut Reader<'s>, value: Value<'s>, kind: &str) -> bool {
    let shown = super::words::shown(value.name);
    if NO_DEFAULT.contains(&value.name) {
        let what = format!("`{shown}` cannot be a default");
        let help = format!("write it in each {kind} that has it");
        reader.note(Problem::at(value.key, what).help(help));
        return false;
    }
    reader.once(
        &format!("defaults.{kind}.{}", value.name),
        &format!("default `{shown}`"),
        value.key,
    )
}
