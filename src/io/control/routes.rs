//! The paths of the API, and the handlers that only look.

use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::reply::{Answer, App, Fault};
use super::threads::look_at;
use super::{Ask, RUNS_MAX, RunFilter, View, act, explain, logs};
use crate::core::id::{ItemId, RunId};
use crate::core::path::Bytes;
use crate::core::record::RunState;
use crate::io::disk;
use crate::wire;

/// Runs in a listing that does not say how many.
const RUNS_DEFAULT: usize = 100;

/// All paths of version 1.
pub(super) fn router(app: App) -> Router {
    Router::new()
        .route("/v1/status", get(status))
        .route("/v1/pending", get(pending))
        .route("/v1/runs", get(runs))
        .route("/v1/runs/{id}", get(run))
        .route("/v1/runs/{id}/wait", get(wait))
        .route("/v1/items/{id}/wait", get(wait_item))
        .route("/v1/runs/{id}/logs/{task}", get(logs::logs))
        .route("/v1/runs/{id}/cancel", post(act::cancel))
        .route("/v1/runs/{id}/retry", post(act::retry))
        .route("/v1/explain", get(explain_path))
        .route("/v1/fire", post(act::fire))
        .route("/v1/replay", post(act::replay))
        .route("/v1/triggers/{name}/pause", post(act::pause))
        .route("/v1/triggers/{name}/resume", post(act::resume))
        .route("/v1/reload", post(act::reload))
        .route("/v1/stop", post(act::stop))
        .fallback(async || Fault::missing("there is no such path in version 1 of the API"))
        .method_not_allowed_fallback(async || Fault {
            status: StatusCode::METHOD_NOT_ALLOWED,
            error: "looking is GET, acting is POST".to_owned(),
        })
        .with_state(app)
}

/// A run's number from a path.
pub(super) fn run_id(text: &str) -> Result<RunId, Fault> {
    text.parse()
        .map(RunId)
        .map_err(|_| Fault::bad(format!("`{}` is no run's number", text.escape_debug())))
}

/// Exact bytes from base64.
pub(super) fn exact(b64: &str) -> Result<Bytes, Fault> {
    STANDARD.decode(b64).map(Bytes::from).map_err(|_| Fault::bad("a path is not valid base64"))
}

/// That a run is not there.
pub(super) fn no_run(id: RunId) -> Fault {
    Fault::missing(format!("there is no run {id}; `dagd runs` lists them"))
}

async fn status(State(app): State<App>) -> Answer<wire::Status> {
    let mut status = app.must(Ask::Status).await?;
    // What the engine does not hold in memory. A history that cannot be read at this moment must
    // not hide the rest.
    let counts = app.history(|history| history.quarantined()).await.unwrap_or_default();
    for trigger in status.triggers.iter_mut().filter(|trigger| trigger.kind == "drop") {
        let own = counts.iter().find(|(name, _)| **name == *trigger.name);
        trigger.quarantined = own.map_or(0, |(_, count)| *count);
    }
    Ok(Json(status))
}

async fn pending(State(app): State<App>) -> Answer<Vec<wire::PendingEntry>> {
    app.must(Ask::Pending).await.map(Json)
}

#[derive(Deserialize)]
struct RunsQuery {
    limit: Option<usize>,
    trigger: Option<String>,
    state: Option<String>,
}

async fn runs(
    State(app): State<App>,
    query: Result<Query<RunsQuery>, QueryRejection>,
) -> Result<Response, Fault> {
    let Query(query) = query.map_err(|error| Fault::bad(error.body_text()))?;
    let states = [
        RunState::Queued,
        RunState::Running,
        RunState::Succeeded,
        RunState::Failed,
        RunState::Cancelled,
    ];
    if let Some(state) = &query.state
        && !states.iter().any(|known| known.word() == state)
    {
        let known = states.map(RunState::word).join(", ");
        let state = state.escape_debug();
        return Err(Fault::bad(format!("`{state}` is no state of a run; these are: {known}")));
    }
    let filter = RunFilter {
        limit: query.limit.unwrap_or(RUNS_DEFAULT).min(RUNS_MAX),
        trigger: query.trigger,
        state: query.state,
    };
    // So large that the thread makes JSON of it, too.
    app.history(move |history| Ok(Json(history.runs(&filter)?).into_response())).await
}

async fn run(State(app): State<App>, Path(id): Path<String>) -> Answer<wire::RunDetail> {
    let id = run_id(&id)?;
    let found = app.history(move |history| history.run(id)).await?;
    let mut found = found.ok_or_else(|| no_run(id))?;
    if found.run.files.iter().any(|file| file.outcome.as_deref() == Some("moving")) {
        // Why it is not done yet is known to the engine alone.
        let stuck = app.must(|sender| Ask::Stuck(id, sender)).await?;
        for (at, why) in stuck {
            if let Some(file) = found.run.files.get_mut(at) {
                file.move_error = Some(why);
            }
        }
    }
    Ok(Json(found))
}

/// Answers when the run has ended, however long that takes.
async fn wait(State(app): State<App>, Path(id): Path<String>) -> Answer<wire::Waited> {
    let id = run_id(&id)?;
    let _long = app.long()?;
    if let Some(state) = app.ask(None, |sender| Ask::Wait(id, sender)).await? {
        return Ok(Json(wire::Waited { run: id.0, state: state.word().to_owned() }));
    }
    // Not alive: it has ended before, or never was.
    let run = app.history(move |history| history.run(id)).await?.ok_or_else(|| no_run(id))?.run;
    if run.ended_at.is_none() {
        return Err(Fault::unavailable(format!("dagd stopped before run {id} ended")));
    }
    Ok(Json(wire::Waited { run: id.0, state: run.state }))
}

/// Answers when an accepted event has become a run, with that run.
async fn wait_item(State(app): State<App>, Path(id): Path<String>) -> Answer<wire::Accepted> {
    let item = ItemId(run_id(&id)?.0);
    let _long = app.long()?;
    let run = app.ask(None, |sender| Ask::Item(item, sender)).await?.ok_or_else(|| {
        let item = item.0;
        Fault::missing(format!("event {item} does not wait; it may have been merged or dropped"))
    })?;
    Ok(Json(wire::Accepted { run: Some(run.0), item: Some(item.0) }))
}

#[derive(Deserialize)]
struct ExplainQuery {
    path_b64: String,
}

async fn explain_path(
    State(app): State<App>,
    query: Result<Query<ExplainQuery>, QueryRejection>,
) -> Answer<wire::Explain> {
    let Query(query) = query.map_err(|error| Fault::bad(error.body_text()))?;
    let path = exact(&query.path_b64)?;
    // Asked first: a file that becomes a run in between is then told twice, not lost.
    let pending = app.must(Ask::Pending).await?;
    let triggers = (app.sources.triggers)();
    let own = app.clone();
    look_at(&app.threads.explain, path, move |path| {
        let view = View { triggers: &triggers, pending: &pending, look: &disk::work_at };
        explain(path, &view, &mut *own.open()?).map_err(Fault::unavailable)
    })
    .await
    .map(Json)
}
