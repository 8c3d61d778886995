//! `plan`: what a trigger would run, in which order, and why; nothing is run.

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::Args;
use jiff::Zoned;

use super::Context;
use super::exit::{Exit, Outcome};
use super::explain::absolute;
use super::graph::{rule_word, trigger};
use super::text::{Paint, Style, count, visible};
use crate::core::graph::{Graph, Plan};
use crate::core::id::Wall;
use crate::core::path::Bytes;
use crate::core::task::{Body, Rule, TaskSpec};
use crate::core::template::{self, Piece, Slot, Template};
use crate::core::trigger::{Source, TriggerSpec};
use crate::io::config_files;
use crate::io::control::{below, rule_against};

/// Options of `plan`.
#[derive(Debug, Args)]
pub struct PlanArgs {
    /// The trigger
    #[arg(long, value_name = "TRIGGER")]
    pub trigger: String,
    /// As if this file had been dropped; it need not be there
    #[arg(long, value_name = "PATH")]
    pub path: Option<PathBuf>,
}

/// Shows the plan. Exit code 1 if the trigger would not take the path.
pub fn plan(args: &PlanArgs, context: &mut Context) -> Outcome {
    let loaded = config_files::load(&context.finder.config()?)?;
    let model = &loaded.resolved.model;
    let spec = trigger(model, &args.trigger)?;
    let path = args.path.as_deref().map(absolute).transpose()?;
    let now = Zoned::now();
    let event = Supposed {
        trigger: spec,
        path: path.as_ref(),
        rel: spec.folder().zip(path.as_ref()).and_then(|(folder, path)| below(&folder.root, path)),
        at: Wall(i64::try_from(now.timestamp().as_nanosecond()).unwrap_or(0)),
        utc_offset_s: now.offset().seconds(),
    };
    let refused = event.refused();
    let style = context.screen.style;
    let mut text = head(&event, refused.as_deref(), style);
    if refused.is_none() {
        text += &steps(&model.graph, &model.graph.plan(&spec.select), &event, style);
    }
    context.screen.text(&text)?;
    Ok(if refused.is_some() { Exit::Failed } else { Exit::Done })
}

/// The event that a plan is for.
pub struct Supposed<'a> {
    /// The trigger.
    pub trigger: &'a TriggerSpec,
    /// The file, absolute, if one is supposed.
    pub path: Option<&'a Bytes>,
    /// The same below the trigger's root, if it lies there.
    pub rel: Option<Bytes>,
    /// When.
    pub at: Wall,
    /// Seconds east of UTC.
    pub utc_offset_s: i32,
}

impl Supposed<'_> {
    /// Why the trigger would not take the path.
    pub fn refused(&self) -> Option<String> {
        self.path?;
        match (self.trigger.folder(), &self.rel) {
            (None, _) => Some("this trigger waits for a signal, not for files".to_owned()),
            (Some(folder), None) => {
                Some(format!("it does not lie below {}", folder.root.display()))
            }
            (Some(folder), Some(rel)) => rule_against(folder, rel),
        }
    }

    /// What is known of a slot's value before there is a run.
    fn fill(&self, task: &TaskSpec, slot: &Slot) -> Option<Vec<u8>> {
        let path = || self.path.map(|path| path.as_bytes().to_vec());
        let name = || self.path.map(Bytes::name);
        let dot = |name: &[u8]| name.iter().rposition(|&b| b == b'.').filter(|&at| at > 0);
        match slot {
            Slot::Path | Slot::Paths => path(),
            Slot::Rel => self.rel.as_ref().map(|rel| rel.as_bytes().to_vec()),
            Slot::Name => name().map(<[u8]>::to_vec),
            Slot::Stem => name().map(|name| name[..dot(name).unwrap_or(name.len())].to_vec()),
            Slot::Ext => {
                name().map(|name| dot(name).map_or(&[][..], |at| &name[at + 1..]).to_vec())
            }
            Slot::Dir => self.path.map(|path| path.dir().to_vec()),
            Slot::Root => {
                let root = self.trigger.folder().map(|folder| Bytes::from(folder.root.as_path()));
                root.map(|root| root.as_bytes().to_vec())
            }
            Slot::Trigger => Some(self.trigger.name.as_bytes().to_vec()),
            Slot::Task => Some(task.name.as_bytes().to_vec()),
            Slot::Signal => match &self.trigger.source {
                Source::Signal { name, .. } => Some(name.as_bytes().to_vec()),
                Source::Folder(_) | Source::Schedule(_) | Source::Absent { .. } => None,
            },
            Slot::Date(format) => {
                template::date(format, self.at, self.utc_offset_s).map(String::into_bytes)
            }
            Slot::Run | Slot::Attempt | Slot::Value | Slot::Failed | Slot::Out { .. } => None,
        }
    }

    fn expand(&self, task: &TaskSpec, template: &Template) -> String {
        let mut text = String::new();
        for piece in template.pieces() {
            match piece {
                Piece::Literal(literal) => text.push_str(literal),
                Piece::Slot(slot) => match self.fill(task, slot) {
                    Some(value) => text.push_str(&String::from_utf8_lossy(&value)),
                    None => text.push_str(&slot.to_string()),
                },
            }
        }
        visible(&text)
    }
}

/// What would set it off, and whether it takes the path.
pub fn head(event: &Supposed<'_>, refused: Option<&str>, style: Style) -> String {
    let trigger = event.trigger;
    let (kind, source) = trigger.source.told();
    let mut text = format!(
        "{}  {kind} {}, runs {}\n",
        style.paint(Paint::Bold, &trigger.name),
        visible(&source),
        visible(trigger.select.text())
    );
    if let Some(path) = event.path {
        let path = visible(&path.lossy());
        let line = match refused {
            None => format!("takes {path}\n"),
            Some(why) => {
                style.paint(Paint::Warn, &format!("does not take {path}: {}", visible(why))) + "\n"
            }
        };
        text.push_str(&line);
    }
    text
}

/// The tasks in an order in which each comes after what it needs. Those of one level can run side
/// by side.
pub fn steps(graph: &Graph, plan: &Plan, event: &Supposed<'_>, style: Style) -> String {
    let nodes = plan.nodes();
    let mut levels = vec![0_usize; nodes.len()];
    let mut order: Vec<usize> = plan.topological().iter().map(|&at| at as usize).collect();
    for &at in &order {
        let above = nodes[at].needs.iter().map(|&need| levels[need as usize] + 1);
        levels[at] = above.max().unwrap_or(0);
    }
    // Stable: within a level the order of the names stays.
    order.sort_by_key(|&at| levels[at]);
    let mut text = String::new();
    let mut level = usize::MAX;
    for at in order {
        if levels[at] != level {
            level = levels[at];
            let heading = style.paint(Paint::Dim, &format!("level {}", level + 1));
            writeln!(text, "\n{heading}").expect("a string takes everything");
        }
        let task = graph.task(nodes[at].ix);
        let needs: Vec<&str> =
            nodes[at].needs.iter().map(|&n| &*graph.task(nodes[n as usize].ix).name).collect();
        let outside = task.needs.len() - needs.len().min(task.needs.len());
        let why = why(task, nodes[at].pass, &needs, outside);
        writeln!(
            text,
            "  {}  {}",
            style.paint(Paint::Bold, &task.name),
            style.paint(Paint::Dim, &why)
        )
        .expect("a string takes everything");
        if !nodes[at].pass {
            writeln!(text, "    {}", command(task, event)).expect("a string takes everything");
        }
    }
    let passes = nodes.iter().filter(|node| node.pass).count();
    let runs = count(nodes.len() - passes, "task");
    let side = if passes == 0 { String::new() } else { format!(", {passes} passed through") };
    let deep = count(level.wrapping_add(1), "level");
    writeln!(text, "\n{runs}{side}, {deep}").expect("a string takes everything");
    text
}

fn why(task: &TaskSpec, pass: bool, needs: &[&str], outside: usize) -> String {
    let mut parts = Vec::new();
    parts.push(if pass {
        "not selected, lies between selected tasks: passed through".to_owned()
    } else {
        "selected".to_owned()
    });
    if !needs.is_empty() {
        parts.push(format!("after {}", needs.join(", ")));
    }
    if outside > 0 {
        parts.push(format!("{} outside the selection", count(outside, "need")));
    }
    if task.rule != Rule::AllSuccess {
        parts.push(format!("rule {}", rule_word(task.rule)));
    }
    if pass {
        return parts.join("; ");
    }
    for (pool, amount) in &task.uses {
        parts.push(format!("{amount} of pool {pool}"));
    }
    if task.priority != 0 {
        parts.push(format!("priority {}", task.priority));
    }
    parts.join("; ")
}

/// The command as far as it is known; what is not yet stays a placeholder.
fn command(task: &TaskSpec, event: &Supposed<'_>) -> String {
    match &task.body {
        Body::Command(arguments) => {
            let shown = arguments.iter().map(|argument| quoted(&event.expand(task, argument)));
            shown.collect::<Vec<_>>().join(" ")
        }
        Body::Shell { program, script } => {
            let script = script.trim();
            let first = script.lines().next().unwrap_or_default();
            let more = script.lines().count().saturating_sub(1);
            let more =
                if more == 0 { String::new() } else { format!("  (+ {})", count(more, "line")) };
            format!("{}: {}{more}", program.join(" "), visible(first))
        }
    }
}

/// As a person would have to write it for a shell.
fn quoted(argument: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "-_./=:,@%+{}".contains(c);
    if !argument.is_empty() && argument.chars().all(plain) {
        argument.to_owned()
    } else {
        format!("'{}'", argument.replace('\'', r"'\''"))
    }
}
