//! All that waits, and for what, in the API's shapes.
//!
//! Looks at the machine; changes nothing.

use std::collections::BTreeSet;

use crate::core::candidate::{Candidate, Pending, Stage};
use crate::core::id::{Mono, Name, Now, RunId};
use crate::core::machine::lane::{Gate, Lane, Wait};
use crate::core::machine::{Machine, Stuck};
use crate::core::path::Bytes;
use crate::core::trigger::TriggerSpec;
use crate::wire;

/// All that waits, and for what.
pub fn pending(machine: &Machine, now: Now) -> Vec<wire::PendingEntry> {
    let mut entries = Vec::new();
    let told = stuck_files(machine);
    for lane in machine.lanes().values() {
        for (rel, candidate) in &lane.candidates {
            let claimed = match candidate.stage {
                Stage::Claimed { run, .. } => Some((run, rel)),
                _ => None,
            };
            if claimed.is_none_or(|claimed| !told.contains(&claimed)) {
                entries.push(candidate_entry(lane, rel, candidate, now));
            }
        }
    }
    for (id, file, stuck) in machine.stuck() {
        let run = machine.runs().get(&id);
        let file = run.and_then(|run| run.files().get(file as usize));
        entries.push(wire::PendingEntry {
            trigger: run.and_then(|run| run.info().trigger.as_ref()).map(ToString::to_string),
            file: file.map(|file| (&file.claim.path).into()),
            stage: "moving".to_owned(),
            reason: stuck_reason(stuck, now),
            since: wire::time(stuck.since),
            run: Some(id.0),
        });
    }
    for (run, place, why, due) in machine.short_tasks() {
        let info = run.info();
        let since = run.started_at().unwrap_or(info.at);
        entries.push(wire::PendingEntry {
            trigger: info.trigger.as_ref().map(ToString::to_string),
            file: info.files.first().map(|file| (&file.path).into()),
            stage: "starting".to_owned(),
            reason: format!("{}: {why}; tried again in {}", run.name(place), left(now, due)),
            since: wire::time(since),
            run: Some(info.run.0),
        });
    }
    for item in machine.items().values() {
        let waits = item_reason(machine, item.trigger.as_ref(), now);
        entries.push(wire::PendingEntry {
            trigger: item.trigger.as_ref().map(ToString::to_string),
            file: item.files.first().map(|file| (&file.path).into()),
            stage: "queued".to_owned(),
            reason: format!("{}: {waits}", item.reason.word()),
            since: wire::time(item.at),
            run: None,
        });
    }
    entries
}

/// What an accepted event waits for.
fn item_reason(machine: &Machine, trigger: Option<&Name>, now: Now) -> String {
    let turn = || "waits for its turn".to_owned();
    let Some(name) = trigger else { return turn() };
    let (lane, gone) = (machine.lanes().get(name), machine.dormant().get(name));
    let stored = lane.map(|lane| &lane.stored).or(gone);
    let rated = lane.map_or_else(|| machine.rated_leaving(name, now), Lane::rated);
    let paused = stored.and_then(|stored| stored.paused.as_ref());
    let rate = || rated.map(|at| rate_limited(now, at));
    let waits = paused.map(|why| format!("paused: {why}")).or_else(rate).unwrap_or_else(turn);
    match (lane, paused) {
        (Some(_), _) => waits,
        (None, None) => format!("{waits}; its trigger is not configured any more"),
        (None, Some(_)) => {
            format!(
                "{waits}; its trigger is not configured any more, `dagd resume {name}` runs it all \
                 the same"
            )
        }
    }
}

/// The files that runs cannot move yet: that is told of the run, not of the candidate.
fn stuck_files(machine: &Machine) -> BTreeSet<(RunId, &Bytes)> {
    let claim = |(id, file, _): (RunId, u32, &Stuck)| {
        let file = machine.runs().get(&id)?.files().get(file as usize)?;
        Some((id, &file.claim.rel))
    };
    machine.stuck().filter_map(claim).collect()
}

/// What a candidate waits for, or who works on it.
pub fn candidate_entry(
    lane: &Lane,
    rel: &Bytes,
    candidate: &Candidate,
    now: Now,
) -> wire::PendingEntry {
    let (stage, reason, run) = match &candidate.stage {
        Stage::Pending(reason, due) => {
            let due = due.filter(|_| !reason.is_told());
            let again = due.map(|due| format!("; looked at again in {}", left(now, due)));
            ("pending", awaited(&lane.spec, rel, *reason) + &again.unwrap_or_default(), None)
        }
        Stage::Checking { .. } => {
            ("pending", "checking: it is ready but for its checksum or its key".to_owned(), None)
        }
        Stage::Ready => {
            let (stage, reason) = ready_reason(lane, candidate, now);
            (stage, reason, None)
        }
        Stage::Claimed { run, changed } => {
            let reason = if *changed { "running; changed since" } else { "running" };
            ("running", reason.to_owned(), Some(run.0))
        }
    };
    wire::PendingEntry {
        trigger: Some(lane.spec.name.to_string()),
        file: Some((&place_of(lane, rel)).into()),
        stage: stage.to_owned(),
        reason,
        since: wire::time(candidate.first_seen_at),
        run,
    }
}

/// Where a path below a lane's root is.
pub(super) fn place_of(lane: &Lane, rel: &Bytes) -> Bytes {
    let root = lane.spec.folder().map(|folder| Bytes::from(folder.root.as_path()));
    root.map_or_else(|| rel.clone(), |root| root.join(rel.as_bytes()))
}

/// What a file waits for: the word and the reason.
fn awaited(trigger: &TriggerSpec, rel: &Bytes, reason: Pending) -> String {
    let folder = trigger.folder().filter(|_| reason == Pending::DoneFile);
    let done = folder.and_then(|folder| Some(folder.root.join(folder.done_of(rel)?.as_path())));
    let text = done.map_or_else(
        || reason.text().to_owned(),
        |done| format!("{} is not there", done.display()),
    );
    format!("{}: {text}", reason.word())
}

/// What a file waits for that is ready by itself.
fn ready_reason(lane: &Lane, candidate: &Candidate, now: Now) -> (&'static str, String) {
    match (&lane.stored.paused, lane.gate, lane.wait(candidate)) {
        (_, _, Wait::Set(missing)) => {
            let missing: Vec<String> = missing.iter().map(|text| format!("`{text}`")).collect();
            let missing = missing.join(" and ");
            ("pending", format!("waiting_set: no file of its key that is ready matches {missing}"))
        }
        (Some(why), _, _) => ("queued", format!("paused: {why}")),
        (None, Gate::Counting | Gate::Baseline, _) => {
            ("queued", "the first scan is under way".to_owned())
        }
        (None, Gate::Open, Wait::Gathering(at)) => {
            ("queued", format!("batch: more may come, for {} at most", left(now, at)))
        }
        (None, Gate::Open, Wait::Rate(at)) => ("queued", rate_limited(now, at)),
        (None, Gate::Open, Wait::Moves) => {
            ("queued", "waits until files of other runs can be moved".to_owned())
        }
        (None, Gate::Open, Wait::Turn) => ("queued", "waits for its turn".to_owned()),
    }
}

fn rate_limited(now: Now, at: Mono) -> String {
    let instant = wire::time(now.wall.after(now.mono.until(at)));
    format!("rate_limited: the next run may start at {instant}")
}

fn left(now: Now, at: Mono) -> String {
    format!("{:.1} s", now.mono.until(at).as_secs_f64())
}

/// What a run cannot move yet: the index of each such file, with the reason.
pub fn stuck(machine: &Machine, run: RunId, now: Now) -> Vec<(usize, String)> {
    let own = machine.stuck().filter(|(of, ..)| *of == run);
    own.map(|(_, file, stuck)| (file as usize, stuck_reason(stuck, now))).collect()
}

fn stuck_reason(stuck: &Stuck, now: Now) -> String {
    let next = match stuck.due {
        Some(due) => format!("in {:.1} s", Mono::until(now.mono, due).as_secs_f64()),
        None => "just now".to_owned(),
    };
    format!("moving: {}; tried again {next}", stuck.why)
}

/// What stands in the way of a trigger's moves: how many files wait, and why one of them does.
pub(super) fn stuck_of<'a>(machine: &'a Machine, trigger: &str) -> (u64, Option<&'a Stuck>) {
    let of = |run: &RunId| machine.runs().get(run).and_then(|run| run.info().trigger.as_deref());
    let own = machine.stuck().filter(|(run, ..)| of(run) == Some(trigger));
    let (mut count, mut first) = (0, None);
    for (_, _, stuck) in own {
        count += 1;
        first = first.or(Some(stuck));
    }
    (count, first)
}
