//! What a new configuration changes.
//!
//! Compares two models; decides nothing about what the changes mean.

use std::collections::BTreeMap;
use std::fmt::{self, Debug};

use super::confine::compared;
use super::revision::facts;
use super::{Resolved, Settings};
use crate::core::confine::Confine;
use crate::core::id::Name;
use crate::core::model::Model;
use crate::core::task::TaskSpec;
use crate::core::trigger::TriggerSpec;

/// What becomes of a thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// It is new.
    Added,
    /// It is gone.
    Removed,
    /// It is another one by now.
    Changed,
}

impl How {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Removed => "removed",
            Self::Changed => "changed",
        }
    }
}

/// A task, trigger, pool or setting that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// How.
    pub how: How,
    /// `task`, `trigger`, `pool` or `setting`.
    pub what: &'static str,
    /// Its name.
    pub name: String,
    /// The keys that differ, of a task or trigger that was there before.
    pub keys: Vec<&'static str>,
    /// What it was, of a pool or setting.
    pub old: Option<String>,
    /// What it is.
    pub new: Option<String>,
}

/// A line: `+` new, `-` gone, `~` changed.
impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.how {
            How::Added => "+ ",
            How::Removed => "- ",
            How::Changed => "~ ",
        })?;
        if self.what != SETTING {
            write!(f, "{} ", self.what)?;
        }
        f.write_str(&self.name)?;
        match (&self.old, &self.new) {
            (Some(old), Some(new)) => write!(f, " {old} → {new}")?,
            (None, Some(new)) => write!(f, " {new}")?,
            (_, None) => {}
        }
        if self.keys.is_empty() { Ok(()) } else { write!(f, " ({})", self.keys.join(", ")) }
    }
}

const SETTING: &str = "setting";

/// Every task, trigger, pool and setting that differs.
pub fn diff(old: &Resolved, new: &Resolved) -> Vec<Change> {
    let mut changes = settings(&old.settings, &new.settings);
    changes.extend(limits(&old.model, &new.model));
    changes.extend(pools(&old.model.pools, &new.model.pools));
    changes.extend(each("task", &tasks(&old.model), &tasks(&new.model), task));
    changes.extend(each("trigger", &triggers(&old.model), &triggers(&new.model), trigger));
    changes
}

/// A thing without more to say.
fn named(how: How, what: &'static str, name: &str) -> Change {
    Change { how, what, name: name.to_owned(), keys: Vec::new(), old: None, new: None }
}

fn field(changes: &mut Vec<Change>, name: &str, old: &dyn Debug, new: &dyn Debug) {
    let (old, new) = (format!("{old:?}"), format!("{new:?}"));
    if old != new {
        let change = named(How::Changed, SETTING, name);
        changes.push(Change { old: Some(old), new: Some(new), ..change });
    }
}

fn settings(old: &Settings, new: &Settings) -> Vec<Change> {
    let mut changes = fixed(old, new);
    field(&mut changes, "retention.runs", &old.retention.runs, &new.retention.runs);
    field(&mut changes, "retention.age", &old.retention.age, &new.retention.age);
    field(&mut changes, "retention.logs", &old.retention.logs, &new.retention.logs);
    field(&mut changes, "durability", &old.durability, &new.durability);
    field(&mut changes, "reload_on_change", &old.reload_on_change, &new.reload_on_change);
    changes
}

/// The settings that differ and that only a restart can change.
pub fn fixed(old: &Settings, new: &Settings) -> Vec<Change> {
    let mut changes = Vec::new();
    field(&mut changes, "state_dir", &old.state_dir, &new.state_dir);
    field(&mut changes, "runtime_dir", &old.runtime_dir, &new.runtime_dir);
    field(&mut changes, "containment", &old.containment, &new.containment);
    let name = |settings: &Settings| {
        settings.write_group.as_ref().map_or_else(|| "none".to_owned(), |group| group.name.clone())
    };
    field(&mut changes, "write_group", &name(old), &name(new));
    changes
}

fn limits(old: &Model, new: &Model) -> Vec<Change> {
    let mut changes = Vec::new();
    field(&mut changes, "max_parallel", &old.slots, &new.slots);
    field(&mut changes, "max_live_runs", &old.max_live_runs, &new.max_live_runs);
    field(&mut changes, "stop_timeout", &old.stop_timeout, &new.stop_timeout);
    changes
}

fn pools(old: &BTreeMap<Name, u32>, new: &BTreeMap<Name, u32>) -> Vec<Change> {
    let gone = old.iter().filter(|(name, _)| !new.contains_key(*name));
    let gone = gone.map(|(name, _)| named(How::Removed, "pool", name));
    let changed = new.iter().filter_map(|(name, size)| {
        let before = old.get(name);
        let how = if before.is_some() { How::Changed } else { How::Added };
        (before != Some(size)).then(|| Change {
            old: before.map(ToString::to_string),
            new: Some(size.to_string()),
            ..named(how, "pool", name)
        })
    });
    gone.chain(changed).collect()
}

fn tasks(model: &Model) -> BTreeMap<&Name, &TaskSpec> {
    let tasks = model.graph.nodes().map(|ix| &**model.graph.task(ix));
    tasks.map(|task| (&task.name, task)).collect()
}

fn triggers(model: &Model) -> BTreeMap<&Name, &TriggerSpec> {
    model.triggers.iter().map(|(name, trigger)| (name, &**trigger)).collect()
}

/// Changes of things with names; `differing` tells which keys of two differ.
fn each<T>(
    what: &'static str,
    old: &BTreeMap<&Name, &T>,
    new: &BTreeMap<&Name, &T>,
    differing: fn(&T, &T) -> Vec<&'static str>,
) -> Vec<Change> {
    let gone = old.keys().filter(|name| !new.contains_key(*name));
    let mut changes: Vec<Change> = gone.map(|name| named(How::Removed, what, name)).collect();
    for (name, after) in new {
        let Some(before) = old.get(name) else {
            changes.push(named(How::Added, what, name));
            continue;
        };
        let keys = differing(before, after);
        if !keys.is_empty() {
            changes.push(Change { keys, ..named(How::Changed, what, name) });
        }
    }
    changes
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
        ("credentials", old.credentials == new.credentials),
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
