//! What handlers share: errors as problems, JSON bodies with limits, questions to the engine.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use crossbeam_channel::TrySendError;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde::de::DeserializeOwned;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::room::Limits;
use super::threads::Threads;
use super::{Ask, Sources};
use crate::wire::Problem;

/// Bytes of a request's body, at most: room for tens of thousands of paths.
pub(super) const BODY_MAX: usize = 8 << 20;

/// Time for a request's body to arrive.
pub(super) const BODY_TIME: Duration = Duration::from_secs(10);

/// Time for the engine to answer; it commits at most 64 events in between.
const ANSWER_TIME: Duration = Duration::from_secs(30);

/// What every handler has, for one class of clients.
#[derive(Clone)]
pub(super) struct App {
    pub(super) sources: Arc<Sources>,
    pub(super) threads: Arc<Threads>,
    limits: Limits,
    long: Arc<Semaphore>,
}

/// A request that was not fulfilled.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) status: StatusCode,
    pub(super) error: String,
}

/// A handler's outcome.
pub(super) type Answer<T> = Result<Json<T>, Fault>;

impl Fault {
    pub(super) fn bad(error: impl Into<String>) -> Self {
        Self { status: StatusCode::BAD_REQUEST, error: error.into() }
    }

    pub(super) fn missing(error: impl Into<String>) -> Self {
        Self { status: StatusCode::NOT_FOUND, error: error.into() }
    }

    pub(super) fn refused(error: impl Into<String>) -> Self {
        Self { status: StatusCode::CONFLICT, error: error.into() }
    }

    pub(super) fn unavailable(error: impl Into<String>) -> Self {
        Self { status: StatusCode::SERVICE_UNAVAILABLE, error: error.into() }
    }
}

impl IntoResponse for Fault {
    fn into_response(self) -> Response {
        (self.status, Json(Problem { error: self.error })).into_response()
    }
}

impl App {
    /// For one class of clients.
    pub(super) fn new(sources: Arc<Sources>, limits: Limits) -> Self {
        let (threads, long) = (Threads::new(), Semaphore::new(limits.long));
        Self { sources, threads: Arc::new(threads), limits, long: Arc::new(long) }
    }

    /// Asks the engine and waits. `None`: the engine dropped the question.
    pub(super) async fn ask<T>(
        &self,
        time: Option<Duration>,
        make: impl FnOnce(oneshot::Sender<T>) -> Ask,
    ) -> Result<Option<T>, Fault> {
        let busy = || Fault::unavailable("dagd is busy; try again in a moment");
        let (sender, receiver) = oneshot::channel();
        // Nobody asks in between: all requests are served by one thread.
        if self.sources.asks.len() >= self.limits.asks {
            return Err(busy());
        }
        self.sources.asks.try_send(make(sender)).map_err(|error| match error {
            TrySendError::Full(_) => busy(),
            TrySendError::Disconnected(_) => Fault::unavailable("dagd is stopping"),
        })?;
        let Some(time) = time else {
            return Ok(receiver.await.ok());
        };
        match tokio::time::timeout(time, receiver).await {
            Ok(answer) => Ok(answer.ok()),
            Err(_) => Err(Fault::unavailable(format!(
                "the engine did not answer within {} s; `dagd status` tells whether it is stalled",
                time.as_secs()
            ))),
        }
    }

    /// Asks what the engine answers at once.
    pub(super) async fn must<T>(
        &self,
        make: impl FnOnce(oneshot::Sender<T>) -> Ask,
    ) -> Result<T, Fault> {
        let answer = self.ask(Some(ANSWER_TIME), make).await?;
        answer.ok_or_else(|| Fault::unavailable("dagd is stopping"))
    }
}

/// Reads a JSON body within its limits. No body is an empty object.
pub(super) async fn body<T: DeserializeOwned>(request: Request) -> Result<T, Fault> {
    let limited = Limited::new(request.into_body(), BODY_MAX);
    let bytes = match tokio::time::timeout(BODY_TIME, limited.collect()).await {
        Ok(Ok(collected)) => collected.to_bytes(),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            return Err(Fault {
                status: StatusCode::PAYLOAD_TOO_LARGE,
                error: format!("the body is longer than {} MiB", BODY_MAX >> 20),
            });
        }
        Ok(Err(error)) => return Err(Fault::bad(format!("the body could not be read: {error}"))),
        Err(_) => {
            return Err(Fault {
                status: StatusCode::REQUEST_TIMEOUT,
                error: format!("the body did not arrive within {} s", BODY_TIME.as_secs()),
            });
        }
    };
    let text: &[u8] = if bytes.is_empty() { b"{}" } else { &bytes };
    serde_json::from_slice(text)
        .map_err(|error| Fault::bad(format!("the body is not the JSON expected: {error}")))
}

impl App {
    /// Room for a request that takes as long as a run does.
    pub(super) fn long(&self) -> Result<OwnedSemaphorePermit, Fault> {
        Arc::clone(&self.long).try_acquire_owned().map_err(|_| {
            Fault::unavailable(format!(
                "{} clients already wait or follow; try again when one has left",
                self.limits.long
            ))
        })
    }
}
