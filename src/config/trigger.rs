//! Reads triggers and their defaults.
//!
//! From a TOML table to a [`RawTrigger`]: every key that was written, typed, with its place. What
//! the keys mean together is decided in [`super::triggers`].

use std::path::PathBuf;
use std::time::Duration;

use super::diagnostics::{Problem, Span};
use super::keys::TRIGGER;
use super::reader::{At, Reader, Value};
use super::signals::{self, SENT_HELP, SignalFault, TRIGGER_HELP, TriggerSignal};
use super::task::not_zero;
use super::templates::{self, Use};
use super::words;
use crate::core::candidate::Kind;
use crate::core::id::Name;
use crate::core::selector::Selector;
use crate::core::template::{Slot, Template};
use crate::core::trigger::{FanOut, Filter, InitialScan, ReadLock};

/// The largest `max_runs` that can be asked for: as many as the daemon can have alive.
const RUNS_MAX: i64 = 100_000;

/// The largest `initial_max`.
const INITIAL_MAX: i64 = 1_000_000_000;

/// `on_overlap` as written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OverlapWord {
    /// "queue"
    Queue,
    /// "coalesce"
    Coalesce,
    /// "parallel"
    Parallel,
    /// "restart"
    Restart,
    /// "skip"
    Skip,
    /// "signal"
    Signal,
}

/// A trigger as written, or the defaults of all.
#[derive(Clone, Debug, Default)]
pub struct RawTrigger<'s> {
    /// The keys that were written.
    pub keys: Vec<(&'s str, Span)>,
    /// `drop` or `watch`, if it could be read.
    pub root: Option<At<PathBuf>>,
    /// `signal`, if it could be read.
    pub signal: Option<(TriggerSignal, Name)>,
    /// `run`: the parts that could be read.
    pub run: Vec<At<Selector>>,
    /// `recursive`.
    pub recursive: Option<bool>,
    /// `include`.
    pub include: Option<Vec<At<&'s str>>>,
    /// `exclude`.
    pub exclude: Option<Vec<At<&'s str>>>,
    /// `default_ignores`.
    pub default_ignores: Option<bool>,
    /// `hidden`.
    pub hidden: Option<bool>,
    /// `kinds`.
    pub kinds: Option<Vec<Kind>>,
    /// `read_lock`.
    pub read_lock: Option<ReadLock>,
    /// `stability_threshold`.
    pub stability_threshold: Option<Duration>,
    /// `settle`.
    pub settle: Option<Duration>,
    /// `max_wait`.
    pub max_wait: Option<At<Duration>>,
    /// `fan_out`.
    pub fan_out: Option<At<FanOut>>,
    /// `on_overlap`.
    pub on_overlap: Option<At<OverlapWord>>,
    /// `overlap_signal`.
    pub overlap_signal: Option<At<i32>>,
    /// `allow_loss`.
    pub allow_loss: Option<bool>,
    /// `max_runs`.
    pub max_runs: Option<At<usize>>,
    /// `order_key`.
    pub order_key: Option<At<Template>>,
    /// `initial_scan`.
    pub initial_scan: Option<InitialScan>,
    /// `initial_max`.
    pub initial_max: Option<u64>,
    /// `move`.
    pub move_to: Option<At<Template>>,
    /// `move_failed`.
    pub move_failed: Option<At<Template>>,
    /// `reconcile_interval`.
    pub reconcile_interval: Option<Duration>,
    /// `sender_uid`.
    pub sender_uid: Option<Vec<u32>>,
}

impl<'s> RawTrigger<'s> {
    /// Where `key` was written.
    pub fn key(&self, key: &str) -> Option<Span> {
        self.keys.iter().find(|(name, _)| *name == key).map(|(_, span)| *span)
    }

    /// Reads one key of a trigger.
    pub fn read(&mut self, reader: &mut Reader<'s>, value: Value<'s>) {
        self.keys.push((value.name, value.key));
        match value.name {
            "drop" | "watch" => self.root = reader.path(value).map(|path| value.at(path)),
            "signal" => self.signal = signal(reader, value),
            "run" => self.run = run(reader, value),
            "recursive" => self.recursive = reader.flag(value),
            "include" => self.include = patterns(reader, value),
            "exclude" => self.exclude = patterns(reader, value),
            "default_ignores" => self.default_ignores = reader.flag(value),
            "hidden" => self.hidden = reader.flag(value),
            "kinds" => self.kinds = kinds(reader, value),
            "read_lock" => self.read_lock = reader.choice(value, &READ_LOCKS, &[]),
            "stability_threshold" => {
                let help = "to wait for nothing, write read_lock = \"none\"";
                self.stability_threshold = reader
                    .duration(value)
                    .filter(|threshold| not_zero(reader, value, threshold.is_zero(), help));
            }
            "settle" => self.settle = reader.duration(value),
            "max_wait" => self.max_wait = reader.duration(value).map(|wait| value.at(wait)),
            "fan_out" => {
                let read = reader.choice(value, &FAN_OUTS, &["dir", "key"]);
                self.fan_out = read.map(|fan_out| value.at(fan_out));
            }
            "on_overlap" => {
                let read = reader.choice(value, &OVERLAPS, &[]);
                self.on_overlap = read.map(|overlap| value.at(overlap));
            }
            "overlap_signal" => self.overlap_signal = overlap_signal(reader, value),
            "allow_loss" => self.allow_loss = reader.flag(value),
            "max_runs" => {
                let read = reader.int(value, 1..=RUNS_MAX);
                self.max_runs = read.and_then(|int| Some(value.at(int.try_into().ok()?)));
            }
            "order_key" => self.order_key = order_key(reader, value),
            "initial_scan" => self.initial_scan = reader.choice(value, &INITIAL_SCANS, &[]),
            "initial_max" => {
                let read = reader.int(value, 0..=INITIAL_MAX);
                self.initial_max = read.and_then(|int| int.try_into().ok());
            }
            "move" => self.move_to = target(reader, value),
            "move_failed" => self.move_failed = target(reader, value),
            "reconcile_interval" => {
                let help = "leave it out for no regular scans";
                self.reconcile_interval = reader
                    .duration(value)
                    .filter(|interval| not_zero(reader, value, interval.is_zero(), help));
            }
            "sender_uid" => self.sender_uid = Some(uids(reader, value)),
            _ => reader.unknown(&TRIGGER, value),
        }
    }
}

const READ_LOCKS: [(&str, ReadLock); 4] = [
    ("auto", ReadLock::Auto),
    ("lease", ReadLock::Lease),
    ("changed", ReadLock::Changed),
    ("none", ReadLock::None),
];

const FAN_OUTS: [(&str, FanOut); 2] = [("file", FanOut::File), ("batch", FanOut::Batch)];

const OVERLAPS: [(&str, OverlapWord); 6] = [
    ("queue", OverlapWord::Queue),
    ("coalesce", OverlapWord::Coalesce),
    ("parallel", OverlapWord::Parallel),
    ("restart", OverlapWord::Restart),
    ("skip", OverlapWord::Skip),
    ("signal", OverlapWord::Signal),
];

const INITIAL_SCANS: [(&str, InitialScan); 2] =
    [("unprocessed", InitialScan::Unprocessed), ("baseline", InitialScan::Baseline)];

const KINDS: [(&str, Kind); 3] =
    [("created", Kind::Created), ("modified", Kind::Modified), ("deleted", Kind::Deleted)];

fn signal<'s>(reader: &mut Reader<'s>, value: Value<'s>) -> Option<(TriggerSignal, Name)> {
    let name = reader.text(value)?;
    match signals::for_trigger(name) {
        Ok(signal) => Some((signal, name.into())),
        Err(fault) => {
            no_signal(reader, value, name, "start work", fault, TRIGGER_HELP);
            None
        }
    }
}

fn overlap_signal<'s>(reader: &mut Reader<'s>, value: Value<'s>) -> Option<At<i32>> {
    let name = reader.text(value)?;
    match signals::for_tasks(name) {
        Ok(signo) => Some(value.at(signo)),
        Err(fault) => {
            no_signal(reader, value, name, "be sent to tasks", fault, SENT_HELP);
            None
        }
    }
}

fn no_signal<'s>(
    reader: &mut Reader<'s>,
    value: Value<'s>,
    name: &str,
    purpose: &str,
    fault: SignalFault,
    help: &str,
) {
    let shown = words::shown(name);
    let problem = match fault {
        SignalFault::Reserved(why) => {
            Problem::at(value.span(), format!("`{shown}` cannot {purpose}: {why}"))
        }
        SignalFault::OutOfRange => {
            let what = format!("there is no signal `{shown}`");
            Problem::at(value.span(), what).label("real-time signals go from 34 to 64")
        }
        SignalFault::Unknown(meant) => {
            Problem::at(value.span(), format!("there is no signal `{shown}`"))
                .maybe_help(meant.map(|meant| format!("did you mean \"{meant}\"?")))
        }
    };
    reader.note(problem.help(help));
}

fn run<'s>(reader: &mut Reader<'s>, value: Value<'s>) -> Vec<At<Selector>> {
    let texts = if value.is_list() {
        let before = reader.problems().len();
        let texts = reader.texts(value, "run = \"task+\"");
        if texts.is_empty() && reader.problems().len() == before {
            let what = "`run` names no task";
            reader.note(
                Problem::at(value.span(), what).help("write it as run = \"task+\"").absence(),
            );
        }
        texts
    } else {
        reader.text(value).map(|text| value.at(text)).into_iter().collect()
    };
    let mut parts = Vec::new();
    for text in texts {
        match Selector::parse(text.value) {
            Ok(part) => parts.push(At { value: part, span: text.span }),
            Err(error) => {
                let span = reader.within(text.span, error.at, 1);
                let what = format!("`run` is no selector: {error}");
                let help = "a selector looks like `task`, `task+` (and what depends on it), \
                            `+task` (and what it needs), `tag:x`, `a,b` or `a+,-b`";
                reader.note(Problem::at(span, what).help(help));
            }
        }
    }
    parts
}

fn patterns<'s>(reader: &mut Reader<'s>, value: Value<'s>) -> Option<Vec<At<&'s str>>> {
    let before = reader.problems().len();
    let patterns = reader.texts(value, "[\"*.csv\"]");
    for pattern in &patterns {
        let text = pattern.value;
        let alone = Filter::new(vec![text.to_owned()], Vec::new(), true, false);
        if let Err((_, why)) = alone {
            let what = format!("`{}` is no pattern: {why}", words::shown(text));
            let help = "patterns have `*`, `?`, `**`, `[abc]` and `{a,b}`; a backslash before one \
                        of these makes it literal";
            reader.note(Problem::at(pattern.span, what).help(help));
        } else if text.is_empty() || text.starts_with('/') || text.starts_with("./") {
            let what = format!("pattern `{}` matches nothing", words::shown(text));
            let help = "patterns are compared with paths below the folder, such as `a.csv` or \
                        `sub/a.csv`";
            reader.note(Problem::at(pattern.span, what).help(help));
        }
    }
    if patterns.is_empty() && value.name == "include" && reader.problems().len() == before {
        let what = "with an empty `include` no file counts";
        reader.note(Problem::at(value.span(), what).help("leave it out to include every file"));
    }
    (reader.problems().len() == before).then_some(patterns)
}

fn kinds<'s>(reader: &mut Reader<'s>, value: Value<'s>) -> Option<Vec<Kind>> {
    let before = reader.problems().len();
    let items = reader.items(value, "strings", "[\"created\", \"modified\"]");
    let mut kinds: Vec<Kind> =
        items.into_iter().filter_map(|item| reader.choice(item, &KINDS, &[])).collect();
    kinds.sort_unstable();
    kinds.dedup();
    if kinds.is_empty() && reader.problems().len() == before {
        let help = "name at least one of `created`, `modified` and `deleted`";
        let what = "with empty `kinds` no change counts";
        reader.note(Problem::at(value.span(), what).help(help));
    }
    (!kinds.is_empty()).then_some(kinds)
}

fn order_key<'s>(reader: &mut Reader<'s>, value: Value<'s>) -> Option<At<Template>> {
    let text = reader.text(value)?;
    let template = templates::read(reader, value, text, Use::OrderKey)?.template;
    if !template.slots().any(Slot::needs_file) {
        let what = "`order_key` is the same for every file";
        let help = "let it depend on the file, as in \"{stem}\"; for one run at a time write \
                    max_runs = 1";
        reader.note(Problem::at(value.span(), what).help(help));
        return None;
    }
    Some(value.at(template))
}

/// The target of a move. With a slash at the end it is a folder.
fn target<'s>(reader: &mut Reader<'s>, value: Value<'s>) -> Option<At<Template>> {
    let text = reader.text(value)?;
    let whole = if text.ends_with('/') { format!("{text}{{rel}}") } else { text.to_owned() };
    let template = templates::read(reader, value, &whole, Use::Move)?.template;
    let varies = |slot: &Slot| matches!(slot, Slot::Rel | Slot::Name | Slot::Stem | Slot::Run);
    if !template.slots().any(varies) {
        let what = format!("`{}` gives every file the same name", value.name);
        let help =
            format!("to move into a folder, end it with a slash: \"{}/\"", words::shown(text));
        reader.note(Problem::at(value.span(), what).help(help));
        return None;
    }
    Some(value.at(templates::anchored(reader, value, &whole, template)?))
}

fn uids<'s>(reader: &mut Reader<'s>, value: Value<'s>) -> Vec<u32> {
    let items = if value.is_int() {
        vec![value]
    } else {
        reader.items(value, "user ids", "sender_uid = [0, 1000]")
    };
    let range = 0..=i64::from(u32::MAX);
    items.into_iter().filter_map(|item| reader.int(item, range.clone())?.try_into().ok()).collect()
}
