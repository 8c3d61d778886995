//! Why a path did or did not run: filter, live work, ledger and disk, put into sentences.
//!
//! Changes nothing. The same function answers with and without a daemon.

use std::fmt::Write as _;
use std::io;
use std::path::Path;
use std::sync::Arc;

use super::place::{below, rule_against};
use super::{History, Told};
use crate::core::candidate::Version;
use crate::core::id::RunId;
use crate::core::path::Bytes;
use crate::core::scope::Ignored;
use crate::core::trigger::{FileType, Folder, FolderSpec, FollowSymlinks, TriggerSpec};
use crate::wire::{Explain, ExplainTrigger, PathText, PendingEntry};

/// What an explanation is made from, beside the history.
pub struct View<'a> {
    /// The triggers in force.
    pub triggers: &'a [Arc<TriggerSpec>],
    /// What waits or runs; empty without a daemon.
    pub pending: &'a [PendingEntry],
    /// The version of the file or folder at a path, if there is one.
    pub look: &'a dyn Fn(&Path, FileType) -> io::Result<Option<Version>>,
}

/// Explains `path` (absolute) to everybody whose folder holds it, or held it before a run moved it.
pub fn explain(
    path: &Bytes,
    view: &View<'_>,
    history: &mut dyn History,
) -> Result<Explain, String> {
    let now = match path.as_path().symlink_metadata() {
        Ok(meta) if meta.is_file() => "file",
        Ok(_) => "other",
        Err(_) => "absent",
    };
    let mut triggers = Vec::new();
    for trigger in view.triggers {
        let Some(folder) = trigger.folder() else { continue };
        let Some(rel) = below(&folder.root, path) else { continue };
        // What lies in a folder that counts as a whole shares its story.
        let (rel, whole) = match folder.rejects_path(&rel) {
            Some(Ignored::PartOf(whole)) => (whole.clone(), Some(whole)),
            _ => (rel, None),
        };
        let place = Bytes::from(folder.root.join(rel.as_path()).as_path());
        let version = (view.look)(place.as_path(), folder.file_type).ok().flatten();
        // For a trigger that follows links a link is the file that it leads to.
        let follows = version.is_none() && folder.follow_symlinks != FollowSymlinks::Never;
        let target = place.as_path().canonicalize().ok().filter(|_| follows && now == "other");
        let target = target.and_then(|at| (view.look)(&at, folder.file_type).ok().flatten());
        let now = if target.is_some() { "file" } else { now };
        let seen = Sight { path: &place, exact: path, now, version: version.or(target) };
        let told = history.explain_row(&trigger.name, &rel)?;
        let mut story = one(&seen, trigger, folder, &rel, told, view.pending);
        if let Some(whole) = whole {
            story.text = format!("it is part of the folder {}: {}", quoted(&whole), story.text);
        }
        triggers.push(story);
    }
    for (name, rel) in history.located(path)? {
        if let Some(told) = history.explain_row(&name, &rel)? {
            triggers.push(moved_here(&name, &rel, &told));
        }
    }
    Ok(Explain { path: path.into(), now: now.to_owned(), triggers })
}

/// What is at the path.
struct Sight<'a> {
    /// As the trigger's folder has it.
    path: &'a Bytes,
    /// As it was asked for.
    exact: &'a Bytes,
    now: &'static str,
    version: Option<Version>,
}

fn entry(trigger: &str, verdict: &str, text: String) -> ExplainTrigger {
    ExplainTrigger {
        trigger: trigger.to_owned(),
        verdict: verdict.to_owned(),
        text,
        run: None,
        run_state: None,
        moved_to: None,
    }
}

fn one(
    seen: &Sight<'_>,
    trigger: &TriggerSpec,
    folder: &FolderSpec,
    rel: &Bytes,
    told: Option<Told>,
    pending: &[PendingEntry],
) -> ExplainTrigger {
    let name = &*trigger.name;
    // Through a link the file waits under another name.
    let names = [seen.exact.b64(), seen.path.b64()];
    let alive = pending.iter().find(|entry| {
        let by = entry.trigger.as_deref() == Some(name);
        by && entry.file.as_ref().is_some_and(|file| names.contains(&file.path_b64))
    });
    if let Some(alive) = alive {
        return waiting(name, alive);
    }
    if let Some(rule) = rule_against(folder, rel) {
        let text = format!("it does not count under `{name}`: {rule}; change that rule to have it");
        return entry(name, "ignored", text);
    }
    let known = |told: &Told| {
        told.open && seen.version.as_ref().is_none_or(|version| *version == told.version)
    };
    if !told.as_ref().is_some_and(known)
        && let Some(waits) = unready(seen, name, folder, rel)
    {
        return waits;
    }
    match told {
        Some(told) => remembered(seen, name, folder, told),
        None => unseen(seen, name, folder),
    }
}

/// Why the version that is there now is no work, or not yet, as far as a look at it tells.
fn unready(
    seen: &Sight<'_>,
    name: &str,
    folder: &FolderSpec,
    rel: &Bytes,
) -> Option<ExplainTrigger> {
    let version = seen.version.as_ref()?;
    if let Some(rule) = folder.rejects_size(version.size) {
        let bytes = version.size;
        let text = format!("it does not count under `{name}`: {rule}; there are {bytes} now");
        return Some(entry(name, "ignored", text));
    }
    let done = folder.root.join(folder.done_of(rel)?.as_path());
    if done.symlink_metadata().is_ok_and(|meta| !meta.is_dir()) {
        return None;
    }
    let done = quoted(&Bytes::from(done.as_path()));
    let text = format!("it is not ready yet: waiting_done_file: {done} is not there");
    Some(entry(name, "pending", text))
}

fn waiting(name: &str, alive: &PendingEntry) -> ExplainTrigger {
    let text = match (alive.stage.as_str(), alive.run) {
        ("running", Some(run)) => format!("run {run} is at work on it"),
        ("running", None) => "it is being run".to_owned(),
        ("queued", Some(run)) => format!("it is ready and belongs to run {run}: {}", alive.reason),
        ("queued", None) => format!("it is ready and waits for a run: {}", alive.reason),
        ("moving", Some(run)) => format!("run {run} waits until it can be moved: {}", alive.reason),
        _ => format!("it is not ready yet: {}", alive.reason),
    };
    let text = format!("{text} (since {})", to_the_second(&alive.since));
    ExplainTrigger { run: alive.run, ..entry(name, &alive.stage, text) }
}

/// A time of the API as people write it.
fn to_the_second(time: &str) -> String {
    let parsed = time.parse::<jiff::Timestamp>();
    parsed.map_or_else(|_| time.to_owned(), |at| at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string())
}

fn unseen(seen: &Sight<'_>, name: &str, folder: &FolderSpec) -> ExplainTrigger {
    let text = match (seen.now, folder.file_type) {
        _ if seen.version.is_some() => {
            "it matches, but dagd has not seen this version yet; is the trigger paused, or is \
             dagd not running?"
        }
        ("absent", _) => "there is nothing at this path, and nothing there was ever delivered",
        (_, FileType::File) => "what is there is no regular file; only regular files are delivered",
        (_, FileType::Dir) => "what is there is no folder; only folders are delivered",
    };
    let text = text.to_owned();
    let text = if folder.root.is_dir() {
        text
    } else {
        format!("{text} (the folder {} does not exist)", folder.root.display())
    };
    entry(name, "unseen", text)
}

fn remembered(seen: &Sight<'_>, name: &str, folder: &FolderSpec, told: Told) -> ExplainTrigger {
    let Some(run) = told.run else {
        return baseline(seen, name, &told);
    };
    if told.state == DUPLICATE {
        return duplicate(seen, name, run, &told);
    }
    let mut text = format!("it was delivered to run {run}, which {}", phrase(&told.state));
    let outcome = told.outcome.as_ref().map(|(word, why)| (word.as_str(), why.as_deref()));
    match outcome {
        Some(("deleted", _)) => text += "; dagd then deleted it, as `delete` asks",
        Some(("kept", _)) => text += "; it was to be moved, but its place was taken",
        Some(("failed", Some(why))) => put(&mut text, format_args!("; {why}")),
        _ => {}
    }
    let same = |version: &Version| told.open && *version == told.version;
    match (&told.location, &seen.version) {
        (Some(to), Some(_)) => {
            put(&mut text, format_args!("; that version was moved to {}. ", quoted(to)));
            text += "The file at the path now is another one and has not been delivered yet";
        }
        (Some(to), None) => put(&mut text, format_args!("; it was moved to {}", quoted(to))),
        (None, Some(version)) if same(version) && told.quarantined => {
            put(&mut text, format_args!("; it is quarantined by run {run}: a new version, "));
            put(&mut text, format_args!("`dagd retry {run}` or `replay` has it run again"));
        }
        (None, Some(version)) if same(version) => {
            text += "; the same version is still there, so it does not run again: \
                     `retry`, `replay` or a new version would";
        }
        (None, Some(_)) => {
            text += ". The version there now is another one and has not been delivered yet";
        }
        (None, None) if told.open => text += "; it has left its path since",
        (None, None) if matches!(outcome, Some(("deleted", _))) => {}
        (None, None) => text += "; it is no longer there",
    }
    let same = seen.version.as_ref().is_none_or(|now| told.open && *now == told.version);
    let verdict = match (told.state.as_str(), same) {
        (_, false) => "unseen",
        ("queued" | "running", true) => "running",
        (_, true) if told.quarantined && seen.version.is_some() => "quarantined",
        (_, true) => "delivered",
    };
    if verdict == "delivered" && folder.folder == Folder::Watch {
        text = text.replace("it was delivered to", "its change was delivered to");
    }
    ExplainTrigger {
        run: Some(run.0),
        run_state: Some(told.state),
        moved_to: told.location.as_ref().map(PathText::from),
        ..entry(name, verdict, text + ".")
    }
}

/// The state of a version that was not delivered because another one had its key.
const DUPLICATE: &str = "duplicate";

fn duplicate(seen: &Sight<'_>, name: &str, run: RunId, told: &Told) -> ExplainTrigger {
    let same = seen.version.as_ref().is_none_or(|now| told.open && *now == told.version);
    let text = format!(
        "a file with the same idempotent_key was delivered to run {run}, so this one was not; \
         `dagd replay` would run it"
    );
    let run = Some(run.0);
    if same {
        return ExplainTrigger { run, ..entry(name, DUPLICATE, text) };
    }
    let text = format!("of an earlier version: {text}; this version was not seen yet");
    entry(name, "unseen", text)
}

fn baseline(seen: &Sight<'_>, name: &str, told: &Told) -> ExplainTrigger {
    match &seen.version {
        Some(now) if told.open && *now == told.version => {
            let text = "this version was there already, or is no kind of change that counts, so \
                        it was remembered without a run";
            entry(name, "baseline", text.to_owned())
        }
        Some(_) => {
            let text = "an earlier version was remembered without a run; this one has not been \
                        seen yet";
            entry(name, "unseen", text.to_owned())
        }
        None => {
            entry(name, "baseline", "it was remembered without a run, and is gone now".to_owned())
        }
    }
}

fn moved_here(name: &str, rel: &Bytes, told: &Told) -> ExplainTrigger {
    let run = told.run.map_or_else(|| "a run".to_owned(), |run| format!("run {run}"));
    let text = format!(
        "{run}, which {}, moved it here; it had come in as {} under `{name}`.",
        phrase(&told.state),
        quoted(rel),
    );
    ExplainTrigger {
        run: told.run.map(|run| run.0),
        run_state: Some(told.state.clone()),
        moved_to: told.location.as_ref().map(PathText::from),
        ..entry(name, "delivered", text)
    }
}

fn put(text: &mut String, more: std::fmt::Arguments<'_>) {
    text.write_fmt(more).expect("a string takes everything");
}

fn phrase(state: &str) -> &str {
    match state {
        "queued" => "is queued",
        "running" => "is running",
        "cancelled" => "was cancelled",
        other => other,
    }
}

/// A path within a sentence: one line, whatever its name.
fn quoted(path: &Bytes) -> String {
    path.lossy()
        .chars()
        .flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] })
        .collect()
}
