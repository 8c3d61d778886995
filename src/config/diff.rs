//! What a new configuration changes, in lines for people.
//!
//! Compares two models; decides nothing about what the changes mean.

use std::collections::BTreeMap;
use std::fmt::Debug;

use super::confine::compared;
use super::revision::facts;
use super::{Resolved, Settings};
use crate::core::confine::Confine;
use crate::core::id::Name;
use crate::core::model::Model;
use crate::core::task::TaskSpec;
use crate::core::trigger::TriggerSpec;

/// One line per task, trigger, pool or setting that differs: `+` new, `-` gone, `~` changed.
pub fn diff(old: &Resolved, new: &Resolved) -> Vec<String> {
    let mut lines = settings(&old.settings, &new.settings);
    lines.extend(limits(&old.model, &new.model));
    lines.extend(pools(&old.model.pools, &new.model.pools));
    lines.extend(each("task", &tasks(&old.model), &tasks(&new.model), task));
    lines.extend(each("trigger", &triggers(&old.model), &triggers(&new.model), trigger));
    lines
}

fn field(lines: &mut Vec<String>, name: &str, old: &dyn Debug, new: &dyn Debug) {
    let (old, new) = (format!("{old:?}"), format!("{new:?}"));
    if old != new {
        lines.push(format!("~ {name} {old} → {new}"));
    }
}

fn settings(old: &Settings, new: &Settings) -> Vec<String> {
    let mut lines = Vec::new();
    field(&mut lines, "state_dir", &old.state_dir, &new.state_dir);
    field(&mut lines, "runtime_dir", &old.runtime_dir, &new.runtime_dir);
    field(&mut lines, "retention.runs", &old.retention.runs, &new.retention.runs);
    field(&mut lines, "retention.age", &old.retention.age, &new.retention.age);
    field(&mut lines, "retention.logs", &old.retention.logs, &new.retention.logs);
    field(&mut lines, "containment", &old.containment, &new.containment);
    field(&mut lines, "durability", &old.durability, &new.durability);
    let name = |settings: &Settings| settings.write_group.as_ref().map(|group| group.name.clone());
    field(&mut lines, "write_group", &name(old), &name(new));
    field(&mut lines, "reload_on_change", &old.reload_on_change, &new.reload_on_change);
    lines
}

fn limits(old: &Model, new: &Model) -> Vec<String> {
    let mut lines = Vec::new();
    field(&mut lines, "max_parallel", &old.slots, &new.slots);
    field(&mut lines, "max_live_runs", &old.max_live_runs, &new.max_live_runs);
    field(&mut lines, "stop_timeout", &old.stop_timeout, &new.stop_timeout);
    lines
}

fn pools(old: &BTreeMap<Name, u32>, new: &BTreeMap<Name, u32>) -> Vec<String> {
    let gone = old.keys().filter(|name| !new.contains_key(*name));
    let mut lines: Vec<String> = gone.map(|name| format!("- pool {name}")).collect();
    lines.extend(new.iter().filter_map(|(name, size)| match old.get(name) {
        None => Some(format!("+ pool {name} {size}")),
        Some(before) if before != size => Some(format!("~ pool {name} {before} → {size}")),
        Some(_) => None,
    }));
    lines
}

fn tasks(model: &Model) -> BTreeMap<&Name, &TaskSpec> {
    let tasks = model.graph.nodes().map(|ix| &**model.graph.task(ix));
    tasks.map(|task| (&task.name, task)).collect()
}

fn triggers(model: &Model) -> BTreeMap<&Name, &TriggerSpec> {
    model.triggers.iter().map(|(name, trigger)| (name, &**trigger)).collect()
}

/// Lines for things with names; `changes` tells which fields of two differ.
fn each<T>(
    what: &str,
    old: &BTreeMap<&Name, &T>,
    new: &BTreeMap<&Name, &T>,
    changes: fn(&T, &T) -> Vec<&'static str>,
) -> Vec<String> {
    let gone = old.keys().filter(|name| !new.contains_key(*name));
    let mut lines: Vec<String> = gone.map(|name| format!("- {what} {name}")).collect();
    for (name, after) in new {
        let Some(before) = old.get(name) else {
            lines.push(format!("+ {what} {name}"));
            continue;
        };
        let fields = changes(before, after);
        if !fields.is_empty() {
            lines.push(format!("~ {what} {name} ({})", fields.join(", ")));
        }
    }
    lines
}

/// The names of the pairs that differ.
fn differing(pairs: &[(&'static str, bool)]) -> Vec<&'static str> {
    pairs.iter().filter(|(_, same)| !same).map(|(name, _)| *name).collect()
}

fn task(old: &TaskSpec, new: &TaskSpec) -> Vec<&'static str> {
    if old == new {
        return Vec::new();
    }
    let plain = Confine::default();
    let confine = |task: &TaskSpec| task.confine.as_deref().unwrap_or(&plain).clone();
    let own = [
        ("needs", old.needs == new.needs),
        ("command", old.body == new.body),
        ("env", old.env == new.env),
        ("env_pass", old.env_pass == new.env_pass),
        ("env_file", old.env_file == new.env_file),
        ("cwd", old.cwd == new.cwd),
        ("outputs", old.outputs == new.outputs),
        ("timeout", old.timeout == new.timeout),
        ("kill_after", old.kill_after == new.kill_after),
        ("retry", old.retry == new.retry),
        ("success", old.success == new.success),
        ("skip", old.skip == new.skip),
        ("uses", old.uses == new.uses),
        ("priority", old.priority == new.priority),
        ("tags", old.tags == new.tags),
        ("allow_failure", old.allow_failure == new.allow_failure),
        ("on_crash", old.on_crash == new.on_crash),
        ("on_daemon_stop", old.on_daemon_stop == new.on_daemon_stop),
        ("rule", old.rule == new.rule),
        ("log_max", old.log_max == new.log_max),
    ];
    differing(&[&own[..], &compared(&confine(old), &confine(new))].concat())
}

fn trigger(old: &TriggerSpec, new: &TriggerSpec) -> Vec<&'static str> {
    if old.rev == new.rev {
        return Vec::new();
    }
    let (old, new) = (facts(old), facts(new));
    let differs = |fact: &&(&'static str, serde_json::Value)| !old.contains(fact);
    new.iter().filter(differs).map(|(key, _)| *key).collect()
}
