//! Reads the values that triggers have and nothing else has.
//!
//! One value each, with what can be said of it alone. What values mean together is decided in
//! [`super::triggers`] and [`super::folder`].

use std::time::Duration;

use super::diagnostics::Problem;
use super::reader::{At, Reader, Value};
use super::signals::{self, SENT_HELP, SignalFault, TRIGGER_HELP, TriggerSignal};
use super::templates::{self, Use};
use super::words;
use crate::core::candidate::Kind;
use crate::core::filter::{Filter, KeyPattern, Pattern};
use crate::core::id::Name;
use crate::core::selector::Selector;
use crate::core::sidecar::{Checksum, Sidecar, SidecarError};
use crate::core::template::{Slot, Template};
use crate::core::trigger::{IdempotentKey, RateLimit, Sort, SortBy};

/// The deepest folder that can be asked for; paths end long before.
const DEPTH_MAX: i64 = 4096;

/// Runs that a rate can name.
const RATE_MAX: u32 = 1_000_000;

const KINDS: [(&str, Kind); 3] =
    [("created", Kind::Created), ("modified", Kind::Modified), ("deleted", Kind::Deleted)];

/// A signal that starts work, and its name as written.
pub fn signal<'s>(reader: &mut Reader<'s>, value: Value<'s>) -> Option<(TriggerSignal, Name)> {
    let name = reader.text(value)?;
    match signals::for_trigger(name) {
        Ok(signal) => Some((signal, name.into())),
        Err(fault) => {
            no_signal(reader, value, name, "start work", fault, TRIGGER_HELP);
            None
        }
    }
}

/// A signal for running tasks, by its number.
pub fn overlap_signal<'s>(reader: &mut Reader<'s>, value: Value<'s>) -> Option<At<i32>> {
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

/// A selection: one selector, or a list of which all count.
pub fn run<'s>(reader: &mut Reader<'s>, value: Value<'s>) -> Vec<At<Selector>> {
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

/// Patterns of names.
pub fn patterns<'s>(reader: &mut Reader<'s>, value: Value<'s>) -> Option<Vec<At<&'s str>>> {
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

/// Changes that count.
pub fn kinds<'s>(reader: &mut Reader<'s>, value: Value<'s>) -> Option<Vec<Kind>> {
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

/// What deliveries are kept in order by.
pub fn order_key<'s>(reader: &mut Reader<'s>, value: Value<'s>) -> Option<At<Template>> {
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
pub fn target<'s>(reader: &mut Reader<'s>, value: Value<'s>) -> Option<At<Template>> {
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

/// Users, one or a list.
pub fn uids<'s>(reader: &mut Reader<'s>, value: Value<'s>) -> Vec<u32> {
    let items = if value.is_int() {
        vec![value]
    } else {
        reader.items(value, "user ids", "sender_uid = [0, 1000]")
    };
    let range = 0..=i64::from(u32::MAX);
    items.into_iter().filter_map(|item| reader.int(item, range.clone())?.try_into().ok()).collect()
}

/// How deep a file lies; 1 is right in the folder.
pub fn depth<'s>(reader: &mut Reader<'s>, value: Value<'s>) -> Option<At<u32>> {
    Some(value.at(reader.int(value, 1..=DEPTH_MAX)?.try_into().ok()?))
}

/// The name of a trigger that need not exist.
pub fn trigger_name<'s>(reader: &mut Reader<'s>, value: Value<'s>) -> Option<At<&'s str>> {
    let text = reader.text(value)?;
    if let Some(why) = words::name_fault(text) {
        let what = format!("`{}` cannot be the name of a trigger", words::shown(text));
        reader.note(Problem::at(value.span(), what).help(why));
        return None;
    }
    Some(value.at(text))
}

/// A file beside another one.
pub fn sidecar<'s>(reader: &mut Reader<'s>, value: Value<'s>) -> Option<At<Sidecar>> {
    let text = reader.text(value)?;
    match Sidecar::parse(text) {
        Ok(sidecar) => Some(value.at(sidecar)),
        Err(fault) => {
            let why = match fault {
                SidecarError::Empty => "names no file",
                SidecarError::Slash => "lies in another folder, not beside its file",
                SidecarError::Twice => "holds more than one placeholder",
                SidecarError::Itself => "is the name of the file itself",
            };
            let what = format!("`{}` = \"{}\" {why}", value.name, words::shown(text));
            let help = format!(
                "write it as \"{{name}}.{0}\" for one beside each file, or as a plain name for \
                 one in each folder",
                if value.name == "done_file" { "done" } else { "sha256" }
            );
            reader.note(Problem::at(value.span(), what).help(help));
            None
        }
    }
}

/// A file beside another one that holds its checksum.
pub fn checksum<'s>(reader: &mut Reader<'s>, value: Value<'s>) -> Option<At<(Sidecar, Checksum)>> {
    let sidecar = sidecar(reader, value)?;
    let text = reader.text(value)?;
    let Some(checksum) = Checksum::told_by(text) else {
        let what = format!("`{}` does not tell which checksum it holds", words::shown(text));
        let help = "end the name with .sha256, .blake3 or .md5, as in \"{name}.sha256\", or write \
                    \"SHA256SUMS\"";
        reader.note(Problem::at(value.span(), what).help(help));
        return None;
    };
    Some(value.at((sidecar.value, checksum)))
}

/// A pattern for each member of a set.
pub fn set<'s>(reader: &mut Reader<'s>, value: Value<'s>) -> Option<Vec<At<Pattern>>> {
    let patterns = patterns(reader, value)?;
    if patterns.len() < 2 {
        let what = "`set` has fewer than two members";
        let help = "name a pattern for each file that has to be there, as in set = [\"*.csv\", \
                    \"*.xml\"]; for one file, use `include`";
        reader.note(Problem::at(value.span(), what).help(help));
        return None;
    }
    let compile = |at: At<&str>| Some(At { value: Pattern::new(at.value).ok()?, span: at.span });
    patterns.into_iter().map(compile).collect()
}

/// What files have in common.
pub fn key_pattern<'s>(reader: &mut Reader<'s>, value: Value<'s>) -> Option<At<KeyPattern>> {
    let text = reader.text(value)?;
    match KeyPattern::new(text) {
        Ok(pattern) => Some(value.at(pattern)),
        Err(why) => {
            // The last line says what is wrong; those before it draw the place.
            let last = why.lines().last().unwrap_or_default().trim_start_matches("error: ");
            let what = format!("`{}` is no regular expression: {last}", value.name);
            let help = "the first group is the key, as in \"^([^_]+)_\" for what stands before the \
                        first `_` of a path below the folder";
            reader.note(Problem::at(value.span(), what).help(help));
            None
        }
    }
}

/// An order, its most important part first.
pub fn sort_by<'s>(reader: &mut Reader<'s>, value: Value<'s>) -> Option<Vec<Sort>> {
    const WORDS: [(&str, SortBy); 4] = [
        ("arrival", SortBy::Arrival),
        ("name", SortBy::Name),
        ("mtime", SortBy::Mtime),
        ("size", SortBy::Size),
    ];
    let items = if value.is_list() {
        reader.texts(value, "[\"-mtime\", \"name\"]")
    } else {
        reader.text(value).map(|text| value.at(text)).into_iter().collect()
    };
    let mut sorts = Vec::new();
    for item in items {
        let (reverse, word) =
            item.value.strip_prefix('-').map_or((false, item.value), |word| (true, word));
        if let Some(&(_, by)) = WORDS.iter().find(|(known, _)| *known == word) {
            sorts.push(Sort { by, reverse });
        } else {
            let what = format!("files cannot be sorted by \"{}\"", words::shown(word));
            let help = "it can be \"arrival\", \"name\", \"mtime\" or \"size\"; with a leading \
                            `-` the greatest comes first";
            reader.note(Problem::at(item.span, what).help(help));
        }
    }
    Some(sorts)
}

/// Runs in a time, such as "10/min".
pub fn rate<'s>(reader: &mut Reader<'s>, value: Value<'s>) -> Option<RateLimit> {
    let text = reader.text(value)?;
    let read = || {
        let (runs, per) = text.split_once('/')?;
        let per = match per.trim() {
            "s" => Duration::from_secs(1),
            "min" | "m" => Duration::from_mins(1),
            "h" => Duration::from_hours(1),
            "d" => Duration::from_hours(24),
            _ => return None,
        };
        let runs = runs.trim().parse().ok().filter(|runs| (1..=RATE_MAX).contains(runs))?;
        Some(RateLimit { runs, per })
    };
    let limit = read();
    if limit.is_none() {
        let what = format!("`{}` is no rate", words::shown(text));
        let help = format!(
            "write how many runs may start in which time, as in \"10/min\"; units are s, min, h \
             and d, and there may be {RATE_MAX} at most"
        );
        reader.note(Problem::at(value.span(), what).help(help));
    }
    limit
}

/// What makes two deliveries the same.
pub fn idempotent_key<'s>(reader: &mut Reader<'s>, value: Value<'s>) -> Option<At<IdempotentKey>> {
    let text = reader.text(value)?;
    let key = match text {
        "path+version" => IdempotentKey::Version,
        "path" => IdempotentKey::Path,
        "name+size" => IdempotentKey::NameSize,
        "content" => IdempotentKey::Content,
        _ => {
            let template = templates::read(reader, value, text, Use::OrderKey)?.template;
            if !template.slots().any(Slot::needs_file) {
                let what = format!("`idempotent_key` cannot be \"{}\"", words::shown(text));
                let help = "it can be \"path+version\", \"path\", \"name+size\", \"content\", or a \
                            text that depends on the file, as in \"{stem}\"";
                reader.note(Problem::at(value.span(), what).help(help));
                return None;
            }
            IdempotentKey::Template(template)
        }
    };
    Some(value.at(key))
}

/// The shortest interval at which a folder may be looked at.
const POLL_MIN: Duration = Duration::from_millis(100);

/// How often a folder is looked at.
pub fn poll_interval<'s>(reader: &mut Reader<'s>, value: Value<'s>) -> Option<Duration> {
    let interval = reader.duration(value)?;
    if interval < POLL_MIN {
        let what = format!("a `poll_interval` of {interval:?} is too short");
        reader.note(Problem::at(value.span(), what).help("the shortest is \"100ms\""));
        return None;
    }
    Some(interval)
}
