//! From triggers as written to triggers of the model.
//!
//! Applies the defaults of each kind and checks what the keys of one trigger mean together. Whether
//! what it selects can run is asked in [`super::reach`], where files may go in [`super::moves`].

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::diagnostics::{Problem, Span};
use super::keys::{DROP_ONLY, FOLDER_ONLY, SIGNAL_ONLY};
use super::overlap::{self, Kinship, Role};
use super::reader::{At, Reader, Value};
use super::trigger::RawTrigger;
use super::words;
use crate::core::candidate::Kind;
use crate::core::id::Name;
use crate::core::selector::Selector;
use crate::core::template::Template;
use crate::core::trigger::{
    FanOut, Filter, Folder, FolderSpec, InitialScan, ReadLock, Source, TriggerSpec,
};

/// Files in a batch, at most: enough to make a start cheap, few enough for an argument list.
const BATCH_FILES_MAX: usize = 1_000;

/// Where the parts of a trigger stand that later checks may have to show.
#[derive(Debug)]
pub struct TriggerPlace {
    /// Its name.
    pub name: Span,
    /// Its folder.
    pub root: Option<Span>,
    /// The parts of its selection.
    pub run: Vec<At<Selector>>,
    /// Its moves.
    pub moves: Vec<Span>,
    /// Whether its signal carries a value.
    pub real_time: bool,
}

/// All triggers that could be made.
#[derive(Debug, Default)]
pub struct Triggers {
    /// For the model.
    pub specs: BTreeMap<Name, TriggerSpec>,
    /// By name.
    pub places: BTreeMap<Name, TriggerPlace>,
    /// Every name that was met.
    names: BTreeMap<String, Span>,
}

impl Triggers {
    /// Reads the trigger at `value`.
    pub fn add<'s>(
        &mut self,
        reader: &mut Reader<'s>,
        value: Value<'s>,
        defaults: &RawTrigger<'s>,
    ) {
        let shown = words::shown(value.name);
        if let Some(why) = words::name_fault(value.name) {
            let what = format!("`{shown}` cannot be the name of a trigger");
            reader.note(Problem::at(value.key, what).help(why));
        }
        if let Some(&first) = self.names.get(value.name) {
            reader.twice(&format!("trigger `{shown}`"), first, value.key);
            return;
        }
        self.names.insert(value.name.to_owned(), value.key);
        if !value.is_table() {
            reader.table(value, "[triggers.NAME]");
            return;
        }
        let mut raw = RawTrigger::default();
        for entry in reader.table(value, "[triggers.NAME]") {
            raw.read(reader, entry);
        }
        let Some((spec, place)) = finish(reader, value, &raw, defaults) else { return };
        self.places.insert(spec.name.clone(), place);
        self.specs.insert(spec.name.clone(), spec);
    }
}

fn finish<'s>(
    reader: &mut Reader<'s>,
    value: Value<'s>,
    raw: &RawTrigger<'s>,
    defaults: &RawTrigger<'s>,
) -> Option<(TriggerSpec, TriggerPlace)> {
    let role = role(reader, value, raw)?;
    misplaced(reader, role, raw);
    let shown = words::shown(value.name);
    if raw.key("run").or(defaults.key("run")).is_none() {
        let what = format!("trigger `{shown}` runs nothing");
        let help = "say which tasks it starts, as in run = \"task+\"";
        reader.note(Problem::at(value.key, what).help(help).absence());
    }
    let parts = if raw.key("run").is_some() { &raw.run } else { &defaults.run };
    let run: Vec<&str> = parts.iter().map(|part| part.value.text()).collect();
    let select = Selector::parse(&run.join(", ")).ok();
    let (source, real_time, fan_out) = match role {
        Role::Drop | Role::Watch => {
            let folder = if role == Role::Drop { Folder::Drop } else { Folder::Watch };
            let spec = folder_spec(reader, value.key, folder, raw, defaults);
            let fan_out = raw.fan_out.as_ref().or(defaults.fan_out.as_ref());
            let fan_out = fan_out.map_or(default_fan_out(folder), |fan_out| fan_out.value);
            (spec.map(|spec| Source::Folder(Box::new(spec))), false, Some(fan_out))
        }
        Role::Signal => {
            let source = raw.signal.clone().map(|(signal, name)| {
                let sender_uid = raw.sender_uid.as_ref().or(defaults.sender_uid.as_ref());
                let sender_uid = sender_uid.cloned().unwrap_or_default();
                (Source::Signal { signo: signal.signo, name, sender_uid }, signal.real_time)
            });
            let real_time = source.as_ref().is_some_and(|(_, real_time)| *real_time);
            (source.map(|(source, _)| source), real_time, None)
        }
    };
    let kind = Kinship { role, fan_out, real_time };
    let (overlap, max_runs) = overlap::decide(reader, kind, value.key, raw, defaults);
    let order_key = overlap::order_key(reader, kind, raw, defaults);
    let mut spec = TriggerSpec {
        name: value.name.into(),
        source: source?,
        select: select?,
        overlap: overlap?,
        max_runs,
        order_key,
        rev: Arc::from(""),
    };
    spec.rev = super::revision::of(&spec);
    let place = TriggerPlace {
        name: value.key,
        root: raw.root.as_ref().map(|root| root.span),
        run: parts.clone(),
        moves: [("move", &raw.move_to), ("move_failed", &raw.move_failed)]
            .iter()
            .filter_map(|(key, _)| raw.key(key).or(defaults.key(key)))
            .collect(),
        real_time,
    };
    Some((spec, place))
}

/// Exactly one of `drop`, `watch` and `signal`.
fn role<'s>(reader: &mut Reader<'s>, value: Value<'s>, raw: &RawTrigger<'s>) -> Option<Role> {
    let sources = [("drop", Role::Drop), ("watch", Role::Watch), ("signal", Role::Signal)];
    let mut written: Vec<(Span, Role)> = Vec::new();
    written.extend(sources.iter().filter_map(|(key, role)| Some((raw.key(key)?, *role))));
    written.sort_by_key(|(span, _)| *span);
    let shown = words::shown(value.name);
    match written.as_slice() {
        [(_, role)] => return Some(*role),
        [] if ["schedule", "absent", "subject"].iter().any(|key| raw.key(key).is_some()) => {}
        [] => {
            let what = format!("trigger `{shown}` has no source of events");
            let help = "give it `drop = \"FOLDER\"`, `watch = \"FOLDER\"` or `signal = \"NAME\"`";
            reader.note(Problem::at(value.key, what).help(help).absence());
        }
        [(first, _), (second, _), ..] => {
            let what = format!("trigger `{shown}` has two sources of events");
            let problem = Problem::at(*second, what).also(*first, "this is the other");
            reader.note(problem.help("make two triggers of it"));
        }
    }
    None
}

/// Notes keys that mean nothing for this kind of trigger. Only those of the trigger itself: the
/// defaults are for triggers of all kinds.
fn misplaced(reader: &mut Reader<'_>, role: Role, raw: &RawTrigger<'_>) {
    for &(key, span) in &raw.keys {
        let why = match role {
            Role::Signal if FOLDER_ONLY.contains(&key) || DROP_ONLY.contains(&key) => {
                "a signal brings no file"
            }
            Role::Drop | Role::Watch if SIGNAL_ONLY.contains(&key) => {
                "a change of a file has no sender that the kernel names"
            }
            Role::Watch => match key {
                "move" | "move_failed" => "a watched tree is not emptied, only a drop folder is",
                "order_key" => "changes of a watched tree are no deliveries to keep in order",
                "allow_loss" => "changes of a watched tree may be skipped without it",
                "initial_max" => {
                    "it protects from a flood of deliveries, which a watched tree has not"
                }
                _ => continue,
            },
            Role::Drop | Role::Signal => continue,
        };
        let kind = match role {
            Role::Drop => "drop",
            Role::Watch => "watch",
            Role::Signal => "signal",
        };
        let what = format!("`{key}` means nothing for a {kind} trigger: {why}");
        let help = if role == Role::Watch {
            "remove it, or use `drop` for the folder"
        } else {
            "remove it"
        };
        reader.note(Problem::at(span, what).help(help));
    }
}

fn default_fan_out(folder: Folder) -> FanOut {
    match folder {
        Folder::Drop => FanOut::File,
        Folder::Watch => FanOut::Batch,
    }
}

fn folder_spec(
    reader: &mut Reader<'_>,
    name: Span,
    folder: Folder,
    raw: &RawTrigger<'_>,
    defaults: &RawTrigger<'_>,
) -> Option<FolderSpec> {
    let drop = folder == Folder::Drop;
    let recursive = raw.recursive.or(defaults.recursive).unwrap_or(!drop);
    let filter = filter(reader, name, recursive, raw, defaults);
    let default_kinds = [Kind::Created, Kind::Modified, Kind::Deleted];
    let default_kinds = if drop { &default_kinds[..2] } else { &default_kinds[..] };
    let default_lock = if drop { ReadLock::Auto } else { ReadLock::None };
    let read_lock = raw.read_lock.or(defaults.read_lock).unwrap_or(default_lock);
    if let Some(span) = raw.key("stability_threshold").filter(|_| read_lock == ReadLock::None) {
        let what = "`stability_threshold` does nothing: `read_lock` is \"none\"";
        let help = "write read_lock = \"changed\" to wait until files stay the same";
        reader.note(Problem::at(span, what).help(help));
    }
    let settle = raw.settle.or(defaults.settle);
    let settle = settle.unwrap_or(Duration::from_millis(if drop { 0 } else { 100 }));
    // A file without content looks the same as one whose writer has not begun.
    let empty = Duration::from_secs(if drop { 2 } else { 0 });
    let max_wait = raw.max_wait.as_ref().or(defaults.max_wait.as_ref());
    if let Some(wait) = max_wait.filter(|wait| wait.value < settle) {
        let what = "`max_wait` is shorter than `settle`";
        let help = format!("`settle` is {settle:?}, and `max_wait` is the ceiling of it");
        reader.note(Problem::at(wait.span, what).help(help));
    }
    let default_wait = (!drop).then(|| Duration::from_secs(5).max(settle));
    let fan_out = raw.fan_out.as_ref().or(defaults.fan_out.as_ref());
    let default_scan = if drop { InitialScan::Unprocessed } else { InitialScan::Baseline };
    let moved = |raw: &Option<At<Template>>, defaults: &Option<At<Template>>| {
        let target = raw.as_ref().or(defaults.as_ref()).filter(|_| drop);
        target.map(|target| target.value.clone())
    };
    let threshold = raw.stability_threshold.or(defaults.stability_threshold);
    Some(FolderSpec {
        folder,
        root: raw.root.as_ref()?.value.clone(),
        recursive,
        filter: filter?,
        kinds: raw.kinds.clone().or_else(|| defaults.kinds.clone()).unwrap_or(default_kinds.into()),
        read_lock,
        stability_threshold: threshold.unwrap_or(Duration::from_secs(2)),
        settle,
        settle_empty: settle.max(empty),
        max_wait: max_wait.map(|wait| wait.value).or(default_wait),
        fan_out: fan_out.map_or(default_fan_out(folder), |fan_out| fan_out.value),
        batch_max_files: BATCH_FILES_MAX,
        initial_scan: raw.initial_scan.or(defaults.initial_scan).unwrap_or(default_scan),
        initial_max: if drop {
            raw.initial_max.or(defaults.initial_max).unwrap_or(10_000)
        } else {
            u64::MAX
        },
        move_to: moved(&raw.move_to, &defaults.move_to),
        move_failed: moved(&raw.move_failed, &defaults.move_failed),
        reconcile_interval: raw.reconcile_interval.or(defaults.reconcile_interval),
    })
}

fn filter(
    reader: &mut Reader<'_>,
    name: Span,
    recursive: bool,
    raw: &RawTrigger<'_>,
    defaults: &RawTrigger<'_>,
) -> Option<Filter> {
    for pattern in raw.include.iter().flatten().filter(|_| !recursive) {
        let below = pattern.value.trim_start_matches("**/");
        if below.contains('/') {
            let what = format!("pattern `{}` matches nothing", words::shown(pattern.value));
            let problem = Problem::at(pattern.span, what).label("names files in folders below");
            reader.note(problem.help("write recursive = true to look into folders below"));
        }
    }
    let written = |key| raw.key(key).is_some();
    let texts = |patterns: &Option<Vec<At<&str>>>| {
        patterns.as_ref().map(|list| list.iter().map(|at| at.value.to_owned()).collect())
    };
    let all = if recursive { "**/*" } else { "*" };
    let include = match texts(&raw.include) {
        None if written("include") => return None,
        include => include.or_else(|| texts(&defaults.include)),
    };
    let exclude = match texts(&raw.exclude) {
        None if written("exclude") => return None,
        exclude => exclude.or_else(|| texts(&defaults.exclude)),
    };
    let filter = Filter::new(
        include.unwrap_or_else(|| vec![all.to_owned()]),
        exclude.unwrap_or_default(),
        raw.default_ignores.or(defaults.default_ignores).unwrap_or(true),
        raw.hidden.or(defaults.hidden).unwrap_or(false),
    );
    // Each pattern was good by itself, so together they are too many.
    filter
        .map_err(|(_, why)| {
            let what = format!("the patterns cannot be compiled together: {why}");
            reader.note(Problem::at(name, what).help("use fewer or simpler patterns"));
        })
        .ok()
}
