//! The other end of the control socket: one request per connection, blocking for its callers.
//!
//! Knows the API's paths and shapes; prints nothing and decides nothing.

use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Bytes as Chunk, Incoming};
use hyper::client::conn::http1;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::runtime::Runtime;

use crate::core::path::Bytes;
use crate::wire;

/// Bytes of an answer, at most: above the longest listing that a daemon makes.
const ANSWER_MAX: usize = 512 << 20;

/// Time for the daemon's side to take the connection.
const CONNECT_TIME: Duration = Duration::from_secs(10);

/// Why a request had no success.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody answers at the socket.
    #[error("no daemon answers at {}: {error}; `dagd run` or `dagd start` starts one", socket.display())]
    Unreachable {
        /// The socket.
        socket: PathBuf,
        /// What connecting said.
        error: io::Error,
    },
    /// The daemon refused.
    #[error("{error}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// The daemon's words.
        error: String,
    },
    /// The daemon went away during the answer.
    #[error("the connection to the daemon broke: {0}")]
    Broken(String),
    /// What the caller does with the answer failed.
    #[error("{0}")]
    Output(io::Error),
}

impl ClientError {
    /// Whether what was asked for is not there.
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Refused { status: 404, .. })
    }

    /// Whether no daemon was reached.
    pub fn is_unreachable(&self) -> bool {
        matches!(self, Self::Unreachable { .. })
    }
}

/// Which runs to list; `None`: no restriction but the server's.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    /// How many, at most.
    pub limit: Option<usize>,
    /// Only this trigger's.
    pub trigger: Option<String>,
    /// Only those in this state.
    pub state: Option<String>,
}

/// A daemon, by its socket.
#[derive(Debug)]
pub struct Client {
    socket: PathBuf,
    runtime: Runtime,
}

type Answer<T> = Result<T, ClientError>;

impl Client {
    /// A client for the daemon at `socket`. Connects only with the first request.
    pub fn new(socket: &Path) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(Self { socket: socket.to_owned(), runtime })
    }

    /// Its socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// The daemon at a glance.
    pub fn status(&self) -> Answer<wire::Status> {
        self.get("/v1/status")
    }

    /// What waits.
    pub fn pending(&self) -> Answer<Vec<wire::PendingEntry>> {
        self.get("/v1/pending")
    }

    /// Runs, newest first.
    pub fn runs(&self, listing: &Listing) -> Answer<Vec<wire::Run>> {
        let mut query = Vec::new();
        if let Some(limit) = listing.limit {
            query.push(format!("limit={limit}"));
        }
        for (key, value) in [("trigger", &listing.trigger), ("state", &listing.state)] {
            if let Some(value) = value {
                query.push(format!("{key}={}", escape(value)));
            }
        }
        self.get(&format!("/v1/runs?{}", query.join("&")))
    }

    /// A run with its tasks.
    pub fn run(&self, id: u64) -> Answer<wire::RunDetail> {
        self.get(&format!("/v1/runs/{id}"))
    }

    /// Waits until a run has ended.
    pub fn wait(&self, id: u64) -> Answer<wire::Waited> {
        self.get(&format!("/v1/runs/{id}/wait"))
    }

    /// Waits until an accepted event has become a run.
    pub fn wait_item(&self, item: u64) -> Answer<wire::Accepted> {
        self.get(&format!("/v1/items/{item}/wait"))
    }

    /// Why a path (absolute) did or did not run.
    pub fn explain(&self, path: &Bytes) -> Answer<wire::Explain> {
        self.get(&format!("/v1/explain?path_b64={}", escape(&path.b64())))
    }

    /// An attempt's output, in pieces; `attempt` `None` is the last; `follow` goes on until the
    /// attempt has ended.
    pub fn log(
        &self,
        (run, task): (u64, &str),
        attempt: Option<u32>,
        follow: bool,
        sink: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> Answer<()> {
        let attempt = attempt.map_or_else(String::new, |attempt| format!("&attempt={attempt}"));
        let task = escape(task);
        let path = format!("/v1/runs/{run}/logs/{task}?follow={}{attempt}", u8::from(follow));
        self.runtime.block_on(async {
            let response = self.send(Method::GET, &path, Chunk::new()).await?;
            if response.status() != StatusCode::OK {
                return Err(refusal(response).await);
            }
            let mut body = response.into_body();
            while let Some(frame) = body.frame().await {
                let frame = frame.map_err(|error| ClientError::Broken(error.to_string()))?;
                if let Some(data) = frame.data_ref() {
                    sink(data).map_err(ClientError::Output)?;
                }
            }
            Ok(())
        })
    }

    /// Starts by hand.
    pub fn fire(&self, request: &wire::FireRequest) -> Answer<wire::Accepted> {
        self.post("/v1/fire", request)
    }

    /// Cancels a run, or one task of it.
    pub fn cancel(&self, run: u64, task: Option<&str>) -> Answer<wire::Done> {
        let request = wire::CancelRequest { task: task.map(str::to_owned) };
        self.post(&format!("/v1/runs/{run}/cancel"), &request)
    }

    /// Runs a finished run once more.
    pub fn retry(&self, run: u64, failed: bool) -> Answer<wire::Accepted> {
        self.post(&format!("/v1/runs/{run}/retry"), &wire::RetryRequest { failed })
    }

    /// Delivers a file (absolute) once more.
    pub fn replay(&self, path: &Bytes) -> Answer<Vec<wire::Replayed>> {
        self.post("/v1/replay", &wire::ReplayRequest { path_b64: path.b64() })
    }

    /// Takes no new work from a trigger.
    pub fn pause(&self, trigger: &str) -> Answer<wire::Done> {
        self.post(&format!("/v1/triggers/{}/pause", escape(trigger)), &())
    }

    /// Takes work again.
    pub fn resume(&self, trigger: &str) -> Answer<wire::Done> {
        self.post(&format!("/v1/triggers/{}/resume", escape(trigger)), &())
    }

    /// Reads the configuration again and waits for the outcome.
    pub fn reload(&self) -> Answer<wire::Reload> {
        self.post("/v1/reload", &())
    }

    /// Asks for a graceful stop; returns when it has begun.
    pub fn stop(&self) -> Answer<wire::Done> {
        self.post("/v1/stop", &())
    }

    fn get<T: DeserializeOwned>(&self, path: &str) -> Answer<T> {
        self.runtime.block_on(self.exchange(Method::GET, path, Chunk::new()))
    }

    fn post<B: Serialize, T: DeserializeOwned>(&self, path: &str, body: &B) -> Answer<T> {
        let body = serde_json::to_vec(body)
            .map_err(|error| ClientError::Broken(format!("the request has no JSON: {error}")))?;
        // `null` stands for a request without content.
        let body = if body == b"null" { Chunk::new() } else { Chunk::from(body) };
        self.runtime.block_on(self.exchange(Method::POST, path, body))
    }

    async fn exchange<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Chunk,
    ) -> Answer<T> {
        let response = self.send(method, path, body).await?;
        if response.status() != StatusCode::OK {
            return Err(refusal(response).await);
        }
        let whole = Limited::new(response.into_body(), ANSWER_MAX).collect().await;
        let whole = whole.map_err(|error| ClientError::Broken(error.to_string()))?.to_bytes();
        serde_json::from_slice(&whole).map_err(|error| {
            ClientError::Broken(format!("the answer is of another version of dagd: {error}"))
        })
    }

    async fn send(&self, method: Method, path: &str, body: Chunk) -> Answer<Response<Incoming>> {
        let unreachable = |error| ClientError::Unreachable { socket: self.socket.clone(), error };
        let connecting = tokio::time::timeout(CONNECT_TIME, UnixStream::connect(&self.socket));
        let stream = connecting
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
            .map_err(unreachable)?;
        let broken = |error: hyper::Error| ClientError::Broken(error.to_string());
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "the connection to the daemon broke");
            }
        });
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "dagd")
            .header("content-type", "application/json")
            .body(Full::new(body))
            .map_err(|error| ClientError::Broken(format!("the request has no shape: {error}")))?;
        sender.send_request(request).await.map_err(broken)
    }
}

/// The daemon's reason for an answer that is not 200.
async fn refusal(response: Response<Incoming>) -> ClientError {
    let status = response.status();
    let body = Limited::new(response.into_body(), 1 << 20).collect().await;
    let problem =
        body.ok().and_then(|body| serde_json::from_slice::<wire::Problem>(&body.to_bytes()).ok());
    let error = problem.map_or_else(|| format!("the daemon answered {status}"), |it| it.error);
    ClientError::Refused { status: status.as_u16(), error }
}

/// Percent-encodes everything but letters, digits, `-`, `_` and `.`.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            write!(escaped, "%{byte:02X}").expect("a string takes everything");
        }
    }
    escaped
}
