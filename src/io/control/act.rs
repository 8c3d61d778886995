//! The handlers that act: each checks what can be checked here, then asks the engine.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Request as Http, State};

use super::files;
use super::place::{below, rule_against};
use super::reply::{Answer, App, Fault, body};
use super::routes::{exact, no_run, run_id};
use super::threads::{look, look_at};
use super::{Ask, History, RetrySource};
use crate::core::effect::Reply;
use crate::core::event::{Fire, FireFile, FireWhat, Request, RetryOf};
use crate::core::id::{Name, NodeIx, RunId};
use crate::core::path::Bytes;
use crate::core::record::FileClaim;
use crate::core::selector::Selector;
use crate::core::trigger::TriggerSpec;
use crate::wire;

/// Tasks that are not run again, with their outputs.
type Kept = Vec<(Name, BTreeMap<String, String>)>;

impl App {
    async fn request(&self, request: Request) -> Result<Reply, Fault> {
        match self.must(|sender| Ask::Request(request, sender)).await? {
            Reply::NotFound(error) => Err(Fault::missing(error)),
            Reply::Refused(error) => Err(Fault::refused(error)),
            reply => Ok(reply),
        }
    }

    async fn done(&self, request: Request) -> Answer<wire::Done> {
        self.request(request).await?;
        Ok(Json(wire::Done { ok: true }))
    }

    async fn start(&self, fire: Fire) -> Result<wire::Accepted, Fault> {
        Ok(match self.request(Request::Fire(fire)).await? {
            Reply::Run(run) => wire::Accepted { run: Some(run.0), item: None },
            Reply::Queued(item) => wire::Accepted { run: None, item: Some(item.0) },
            Reply::Done | Reply::NotFound(_) | Reply::Refused(_) => {
                wire::Accepted { run: None, item: None }
            }
        })
    }
}

pub(super) async fn fire(State(app): State<App>, request: Http) -> Answer<wire::Accepted> {
    let asked: wire::FireRequest = body(request).await?;
    let paths = asked.paths_b64.iter().map(|b64| absolute(b64)).collect::<Result<Vec<_>, _>>()?;
    let fire = match (asked.trigger, asked.select) {
        (Some(name), None) => {
            let trigger = files::find(&(app.sources.triggers)(), &name)?;
            let what = FireWhat::Trigger(trigger.name.clone());
            let file = move |path: &Bytes, ()| files::for_trigger(&trigger, path);
            Fire { what, files: look(&app.threads.act, paths, file).await? }
        }
        (None, Some(select)) => {
            let select = Selector::parse(&select).map_err(|error| {
                Fault::bad(format!("bad selector at byte {}: {error}", error.at))
            })?;
            let file = |path: &Bytes, ()| files::anywhere(path);
            let files = look(&app.threads.act, paths, file).await?;
            Fire { what: FireWhat::Select(select), files }
        }
        _ => return Err(Fault::bad("give either `trigger` or `select`")),
    };
    app.start(fire).await.map(Json)
}

/// A path to be looked at.
fn absolute(b64: &str) -> Result<(Bytes, ()), Fault> {
    Ok((files::absolute(exact(b64)?)?, ()))
}

pub(super) async fn cancel(
    State(app): State<App>,
    Path(id): Path<String>,
    request: Http,
) -> Answer<wire::Done> {
    let run = run_id(&id)?;
    let asked: wire::CancelRequest = body(request).await?;
    let outcome = app.done(Request::Cancel { run, task: asked.task.map(Name::from) }).await;
    let Err(fault) = outcome else { return outcome };
    // The engine knows what lives; what has ended, and that there never was such a run, only the
    // history does.
    Err(match app.history(move |history| history.run(run)).await? {
        None => no_run(run),
        Some(past) if past.run.ended_at.is_some() => {
            Fault::refused(format!("run {run} has ended already: it {}", ended(&past.run.state)))
        }
        Some(_) => fault,
    })
}

/// A run's last state as a phrase.
fn ended(state: &str) -> &str {
    if state == "cancelled" { "was cancelled" } else { state }
}

pub(super) async fn pause(State(app): State<App>, Path(name): Path<String>) -> Answer<wire::Done> {
    let trigger = files::find(&(app.sources.triggers)(), &name)?.name.clone();
    app.done(Request::Pause { trigger }).await
}

pub(super) async fn resume(State(app): State<App>, Path(name): Path<String>) -> Answer<wire::Done> {
    // Also one that has left the configuration, of which something waits: the engine knows it.
    let trigger = name.as_str().into();
    app.done(Request::Resume { trigger }).await
}

pub(super) async fn reload(State(app): State<App>) -> Answer<wire::Reload> {
    // As long as its first scans take: the answer is the outcome. A stop ends it.
    let _long = app.long()?;
    let outcome = app.ask(None, Ask::Reload).await?;
    outcome.map(Json).ok_or_else(|| Fault::unavailable("dagd is stopping"))
}

pub(super) async fn stop(State(app): State<App>) -> Answer<wire::Done> {
    app.must(Ask::Stop).await?;
    Ok(Json(wire::Done { ok: true }))
}

pub(super) async fn retry(
    State(app): State<App>,
    Path(id): Path<String>,
    request: Http,
) -> Answer<wire::Accepted> {
    let id = run_id(&id)?;
    let asked: wire::RetryRequest = body(request).await?;
    let looked = app.history(move |history| {
        let source = history.retry_source(id)?;
        let known = source.is_some() || history.run(id)?.is_some();
        Ok((source, known))
    });
    let source = match looked.await? {
        (Some(source), _) if !matches!(source.state.as_str(), "queued" | "running") => source,
        (None, false) => return Err(no_run(id)),
        (Some(_), _) | (None, true) => {
            let error = format!("run {id} has not ended yet; `dagd cancel {id}` ends it");
            return Err(Fault::refused(error));
        }
    };
    let keep = if asked.failed { kept(id, &source)? } else { Vec::new() };
    let places = source.files.into_iter().map(|(claim, place)| match place {
        Some(place) => Ok((place, claim)),
        None => Err(files::deleted(id, &claim.path)),
    });
    let places = places.collect::<Result<Vec<_>, _>>()?;
    let file = |place: &Bytes, claim: FileClaim| files::of_run(&claim, place);
    let files = look(&app.threads.act, places, file).await?;
    let what = FireWhat::Retry(Box::new(RetryOf {
        run: id,
        trigger: source.trigger,
        select: source.select,
        signal: source.signal,
        scheduled: source.scheduled,
        keep,
    }));
    app.start(Fire { what, files }).await.map(Json)
}

/// Tasks that are not run again, with their outputs: those that succeeded and do not depend on one
/// that did not, directly or not.
fn kept(id: RunId, source: &RetrySource) -> Result<Kept, Fault> {
    let Some(graph) = &source.graph else {
        let rev = &source.rev;
        let error = format!("the graph {rev} of run {id} is no longer kept; leave out --failed");
        return Err(Fault::refused(error));
    };
    let bad = |state: &str| matches!(state, "failed" | "timed_out" | "lost" | "cancelled");
    if !source.tasks.iter().any(|(_, state, _)| bad(state)) {
        let error = format!("nothing failed in run {id}; leave out --failed to run all of it");
        return Err(Fault::refused(error));
    }
    let again: BTreeSet<NodeIx> = source
        .tasks
        .iter()
        .filter(|(_, state, _)| state != "succeeded")
        .filter_map(|(name, _, _)| graph.find(name))
        .collect();
    let again = graph.reach(&again, false, u32::MAX);
    let keeps = |name: &Name| graph.find(name).is_some_and(|ix| !again.contains(&ix));
    Ok(source
        .tasks
        .iter()
        .filter(|(name, _, _)| keeps(name))
        .map(|(name, _, outputs)| (name.clone(), outputs.clone()))
        .collect())
}

pub(super) async fn replay(State(app): State<App>, request: Http) -> Answer<Vec<wire::Replayed>> {
    let asked: wire::ReplayRequest = body(request).await?;
    let path = files::absolute(exact(&asked.path_b64)?)?;
    let triggers = (app.sources.triggers)();
    let own = app.clone();
    let found = look_at(&app.threads.act, path, move |path| {
        let mut history = own.open()?;
        let located = history.located(path).map_err(Fault::unavailable)?;
        replays(&triggers, path, &located).map_err(|fault| {
            match deleted_by(&triggers, path, &mut *history) {
                Ok(Some(run)) if path.as_path().symlink_metadata().is_err() => {
                    files::deleted(run, path)
                }
                Ok(_) => fault,
                Err(error) => Fault::unavailable(error),
            }
        })
    });
    let found = found.await?;
    let mut outcomes = Vec::with_capacity(found.len());
    let mut refused = None;
    for (trigger, file) in found {
        let what = FireWhat::Replay(trigger.clone());
        let outcome = app.start(Fire { what, files: vec![file] }).await;
        let (accepted, error) = match outcome {
            Ok(accepted) => (accepted, None),
            Err(fault) => {
                let error = fault.error.clone();
                refused = Some(fault);
                (wire::Accepted { run: None, item: None }, Some(error))
            }
        };
        let (run, item) = (accepted.run, accepted.item);
        outcomes.push(wire::Replayed { trigger: trigger.to_string(), run, item, error });
    }
    match refused {
        Some(fault) if outcomes.iter().all(|outcome| outcome.error.is_some()) => Err(fault),
        _ => Ok(Json(outcomes)),
    }
}

/// The run whose end has removed the file that was at the path.
fn deleted_by(
    triggers: &[Arc<TriggerSpec>],
    path: &Bytes,
    history: &mut dyn History,
) -> Result<Option<RunId>, String> {
    for trigger in triggers {
        let rel = trigger.folder().and_then(|folder| below(&folder.root, path));
        let told = rel.map(|rel| history.explain_row(&trigger.name, &rel)).transpose()?.flatten();
        let outcome = told.as_ref().and_then(|told| told.outcome.as_ref());
        if let (Some(told), Some(("deleted", _))) =
            (&told, outcome.map(|(word, why)| (word.as_str(), why)))
        {
            return Ok(told.run);
        }
    }
    Ok(None)
}

/// Every trigger that is to have the file again, with the file as that trigger knows it.
fn replays(
    triggers: &[Arc<TriggerSpec>],
    path: &Bytes,
    located: &[(Name, Bytes)],
) -> Result<Vec<(Name, FireFile)>, Fault> {
    let mut found = Vec::new();
    let mut rules = Vec::new();
    for trigger in triggers {
        let moved = located.iter().find(|(name, _)| *name == trigger.name);
        if let Some((name, rel)) = moved {
            found.push((name.clone(), files::elsewhere(rel, path)?));
        } else if let Some(folder) = trigger.folder()
            && let Some(rel) = below(&folder.root, path)
        {
            match rule_against(folder, &rel) {
                Some(rule) => rules.push(format!("`{}` ({rule})", trigger.name)),
                None => {
                    found.push((trigger.name.clone(), files::for_trigger(trigger, path)?));
                }
            }
        }
    }
    match (found.is_empty(), rules.is_empty()) {
        (false, _) => Ok(found),
        (true, false) => {
            let rules = rules.join(", ");
            Err(Fault::refused(format!("{path:?} does not count under {rules}")))
        }
        (true, true) => Err(Fault::missing(format!(
            "{path:?} lies in no trigger's folder, and no run moved it there"
        ))),
    }
}
