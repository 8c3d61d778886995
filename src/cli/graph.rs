//! `graph`: shows a subgraph, as a tree for people or in the formats of other programs.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use clap::{Args, ValueEnum};
use serde::Serialize;

use super::Context;
use super::exit::{Exit, Failure, Outcome};
use super::text::{Paint, Style};
use crate::core::graph::{Graph, Plan};
use crate::core::model::Model;
use crate::core::selector::Selector;
use crate::core::task::{Rule, TaskSpec};
use crate::io::config_files;

/// How a graph is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Indented text: what needs a task stands below it.
    #[default]
    Tree,
    /// Graphviz.
    Dot,
    /// Mermaid.
    Mermaid,
    /// JSON of a stable shape.
    Json,
}

/// Options of `graph`.
#[derive(Debug, Args)]
pub struct GraphArgs {
    /// Only these tasks, such as `parse+`, `+report` or `tag:nightly` [default: all]
    #[arg(value_name = "SELECTOR", allow_hyphen_values = true)]
    pub select: Option<String>,
    /// Only what this trigger runs
    #[arg(long, value_name = "TRIGGER", conflicts_with = "select")]
    pub trigger: Option<String>,
    /// In which form
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    pub format: Format,
}

/// Shows a subgraph of the configuration; no daemon is asked.
pub fn graph(args: &GraphArgs, context: &mut Context) -> Outcome {
    let loaded = config_files::load(&context.finder.config()?)?;
    let model = &loaded.resolved.model;
    let plan = match (&args.trigger, &args.select) {
        (Some(name), _) => model.graph.plan(&trigger(model, name)?.select),
        (None, Some(text)) => model.graph.plan(&selector(model, text)?),
        (None, None) => {
            model.graph.plan(&Selector::parse("*").map_err(|e| Failure::usage(e.to_string()))?)
        }
    };
    let style = context.screen.style;
    match args.format {
        Format::Tree => context.screen.text(&tree(&model.graph, &plan, style))?,
        Format::Dot => context.screen.text(&dot(&model.graph, &plan))?,
        Format::Mermaid => context.screen.text(&mermaid(&model.graph, &plan))?,
        Format::Json => context.screen.json(&shape(&model.graph, &plan))?,
    }
    Ok(Exit::Done)
}

/// A selector from the command line: it must parse, and every name in it must match something.
pub fn selector(model: &Model, text: &str) -> Result<Selector, Failure> {
    let parsed = Selector::parse(text).map_err(|error| {
        let caret = " ".repeat(text.get(..error.at).map_or(0, |before| before.chars().count()));
        Failure::usage(format!("bad selector: {error}\n  {text}\n  {caret}^"))
    })?;
    match parsed.unmatched(&model.graph).as_slice() {
        [] => Ok(parsed),
        unmatched => Err(Failure::missing(format!("no task matches {}", unmatched.join(", ")))),
    }
}

/// A trigger of the configuration.
pub fn trigger<'a>(
    model: &'a Model,
    name: &str,
) -> Result<&'a crate::core::trigger::TriggerSpec, Failure> {
    model.triggers.get(name).map(AsRef::as_ref).ok_or_else(|| {
        let known: Vec<&str> = model.triggers.keys().map(AsRef::as_ref).collect();
        Failure::missing(format!("there is no trigger `{name}`; there are: {}", known.join(", ")))
    })
}

/// The word for a rule, as configured.
pub fn rule_word(rule: Rule) -> &'static str {
    match rule {
        Rule::AllSuccess => "all_success",
        Rule::AllDone => "all_done",
        Rule::OneSuccess => "one_success",
        Rule::OneFailed => "one_failed",
        Rule::AllFailed => "all_failed",
        Rule::NoneFailed => "none_failed",
        Rule::NoneFailedMinOneSuccess => "none_failed_min_one_success",
        Rule::Always => "always",
    }
}

/// Each task once with all that needs it below it; where it comes up again, only its name.
pub fn tree(graph: &Graph, plan: &Plan, style: Style) -> String {
    let nodes = plan.nodes();
    let mut text = String::new();
    let mut told = BTreeSet::new();
    // (position, guides of its line, guides of the lines below it)
    let mut stack: Vec<(usize, String, String)> = (0..nodes.len())
        .rev()
        .filter(|&at| nodes[at].needs.is_empty())
        .map(|at| (at, String::new(), String::new()))
        .collect();
    while let Some((at, guide, below)) = stack.pop() {
        let task = graph.task(nodes[at].ix);
        let first = told.insert(at);
        let more = if first || nodes[at].dependents.is_empty() { "" } else { " (above)" };
        let note = style.paint(Paint::Dim, &format!("{}{more}", note(task, nodes[at].pass)));
        writeln!(text, "{guide}{}{note}", task.name).expect("a string takes everything");
        if !first {
            continue;
        }
        let last = nodes[at].dependents.len().saturating_sub(1);
        for (position, &next) in nodes[at].dependents.iter().enumerate().rev() {
            let (branch, bar) =
                if position == last { ("└─ ", "   ") } else { ("├─ ", "│  ") };
            stack.push((next as usize, format!("{below}{branch}"), format!("{below}{bar}")));
        }
    }
    text
}

fn note(task: &TaskSpec, pass: bool) -> String {
    let mut notes = Vec::new();
    if task.rule != Rule::AllSuccess {
        notes.push(rule_word(task.rule));
    }
    if pass {
        notes.push("passed through");
    }
    if notes.is_empty() { String::new() } else { format!("  {}", notes.join(", ")) }
}

/// For Graphviz.
pub fn dot(graph: &Graph, plan: &Plan) -> String {
    let quoted = |name: &str| format!("\"{}\"", name.replace('\\', "\\\\").replace('"', "\\\""));
    let mut text = "digraph dagd {\n  rankdir=LR;\n  node [shape=box];\n".to_owned();
    for node in plan.nodes() {
        let task = graph.task(node.ix);
        let style = if node.pass { " [style=dashed]" } else { "" };
        writeln!(text, "  {}{style};", quoted(&task.name)).expect("a string takes everything");
    }
    for node in plan.nodes() {
        for &need in &node.needs {
            let from = &graph.task(plan.nodes()[need as usize].ix).name;
            let to = &graph.task(node.ix).name;
            writeln!(text, "  {} -> {};", quoted(from), quoted(to))
                .expect("a string takes everything");
        }
    }
    text + "}\n"
}

/// For Mermaid. Nodes are numbered: its names allow little.
pub fn mermaid(graph: &Graph, plan: &Plan) -> String {
    let mut text = "flowchart LR\n".to_owned();
    for (at, node) in plan.nodes().iter().enumerate() {
        let name = graph.task(node.ix).name.replace('"', "#quot;");
        let (open, close) = if node.pass { ("([", "])") } else { ("[", "]") };
        writeln!(text, "  t{at}{open}\"{name}\"{close}").expect("a string takes everything");
    }
    for (at, node) in plan.nodes().iter().enumerate() {
        for need in &node.needs {
            writeln!(text, "  t{need} --> t{at}").expect("a string takes everything");
        }
    }
    text
}

/// The JSON form.
#[derive(Debug, Serialize)]
pub struct GraphShape<'a> {
    /// The graph that it is of.
    pub rev: &'a str,
    /// Its tasks, in the order of their names.
    pub tasks: Vec<TaskShape<'a>>,
}

/// A task in the JSON form.
#[derive(Debug, Serialize)]
pub struct TaskShape<'a> {
    /// Its name.
    pub name: &'a str,
    /// Whether it only lies between selected tasks.
    pub pass: bool,
    /// What it needs, as far as it is selected.
    pub needs: Vec<&'a str>,
    /// When it may start.
    pub rule: &'static str,
    /// For selectors.
    pub tags: Vec<&'a str>,
}

/// The selection as data.
pub fn shape<'a>(graph: &'a Graph, plan: &Plan) -> GraphShape<'a> {
    let name = |at: u32| &*graph.task(plan.nodes()[at as usize].ix).name;
    let tasks = plan.nodes().iter().map(|node| {
        let task = graph.task(node.ix);
        TaskShape {
            name: &task.name,
            pass: node.pass,
            needs: node.needs.iter().map(|&need| name(need)).collect(),
            rule: rule_word(task.rule),
            tags: task.tags.iter().map(AsRef::as_ref).collect(),
        }
    });
    GraphShape { rev: &graph.rev().0, tasks: tasks.collect() }
}
