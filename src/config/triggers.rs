//! From triggers as written to triggers of the model.
//!
//! Applies the defaults of each kind and checks what the keys of one trigger mean together. Whether
//! what it selects can run is asked in [`super::reach`], what a folder's keys mean in [`super::folder`], where files may go in
//! [`super::moves`].

use std::collections::BTreeMap;
use std::sync::Arc;

use super::diagnostics::{Problem, Span};
use super::folder;
use super::keys::{ABSENCE_ONLY, DROP_ONLY, FOLDER_ONLY, SCHEDULE_ONLY, SIGNAL_ONLY};
use super::overlap::{self, Kinship, Role};
use super::reader::{At, Reader, Value};
use super::trigger::RawTrigger;
use super::{times, words};
use crate::core::id::Name;
use crate::core::selector::Selector;
use crate::core::trigger::{Folder, Source, TriggerSpec};

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
    /// Its former name.
    pub renamed_from: Option<Span>,
    /// The trigger whose silence it is for.
    pub of: Option<Span>,
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
    /// Whether a trigger of that name was met, whatever became of it.
    pub fn is_known(&self, name: &str) -> bool {
        self.names.contains_key(name)
    }

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
            let spec = folder::spec(reader, value.key, folder, raw, defaults);
            let fan_out = Some(folder::fan_out(folder, raw, defaults));
            (spec.map(|spec| Source::Folder(Box::new(spec))), false, fan_out)
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
        Role::Schedule => (times::schedule(reader, raw, defaults), false, None),
        Role::Absent => (times::absent(reader, value.key, raw), false, None),
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
        rate_limit: raw.rate_limit.or(defaults.rate_limit),
        on_removal: raw.on_removal.or(defaults.on_removal).unwrap_or_default(),
        rev: Arc::from(""),
    };
    spec.rev = super::revision::of(&spec);
    let place = TriggerPlace {
        name: value.key,
        root: raw.root.as_ref().map(|root| root.span),
        run: parts.clone(),
        moves: ["pre_move", "move", "move_failed", "delete"]
            .iter()
            .filter_map(|key| raw.key(key).or(defaults.key(key)))
            .collect(),
        renamed_from: raw.renamed_from.as_ref().map(|at| at.span),
        of: raw.of.as_ref().map(|of| of.span),
        real_time,
    };
    Some((spec, place))
}

/// Exactly one source.
fn role<'s>(reader: &mut Reader<'s>, value: Value<'s>, raw: &RawTrigger<'s>) -> Option<Role> {
    let sources = [Role::Drop, Role::Watch, Role::Signal, Role::Schedule, Role::Absent];
    let mut written: Vec<(Span, Role)> = Vec::new();
    written.extend(sources.iter().filter_map(|role| Some((raw.key(role.word())?, *role))));
    written.sort_by_key(|(span, _)| *span);
    let shown = words::shown(value.name);
    match written.as_slice() {
        [(_, role)] => return Some(*role),
        [] if raw.key("subject").is_some() => {}
        [] => {
            let what = format!("trigger `{shown}` has no source of events");
            let help = "give it `drop = \"FOLDER\"`, `watch = \"FOLDER\"`, `signal = \"NAME\"`, \
                        `schedule = \"0 3 * * *\"` or `absent = \"6h\"` with `of = \"TRIGGER\"`";
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
            Role::Schedule | Role::Absent
                if FOLDER_ONLY.contains(&key) || DROP_ONLY.contains(&key) =>
            {
                "time brings no file"
            }
            Role::Schedule | Role::Absent if SIGNAL_ONLY.contains(&key) => "time has no sender",
            _ if role != Role::Schedule && SCHEDULE_ONLY.contains(&key) => {
                "only a schedule has occurrences"
            }
            _ if role != Role::Absent && ABSENCE_ONLY.contains(&key) => {
                "only `absent` is about another trigger"
            }
            Role::Drop | Role::Watch if SIGNAL_ONLY.contains(&key) => {
                "a change of a file has no sender that the kernel names"
            }
            Role::Watch => match key {
                "pre_move" | "move" | "move_failed" | "delete" | "on_conflict" => {
                    "a watched tree is not emptied, only a drop folder is"
                }
                "order_key" => "changes of a watched tree are no deliveries to keep in order",
                "allow_loss" => "changes of a watched tree may be skipped without it",
                "initial_max" => {
                    "it protects from a flood of deliveries, which a watched tree has not"
                }
                _ => continue,
            },
            Role::Drop | Role::Signal | Role::Schedule | Role::Absent => continue,
        };
        let kind = role.word();
        let article = if role == Role::Absent { "an" } else { "a" };
        let what = format!("`{key}` means nothing for {article} {kind} trigger: {why}");
        let of_folder = FOLDER_ONLY.contains(&key) || DROP_ONLY.contains(&key);
        let help = if role == Role::Watch && of_folder {
            "remove it, or use `drop` for the folder"
        } else {
            "remove it"
        };
        reader.note(Problem::at(span, what).help(help));
    }
}
