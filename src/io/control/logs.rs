//! An attempt's output, as it is or as it grows.
//!
//! Reads log files; never writes or locates them by guessing: the engine tells where an attempt in
//! flight writes, the history where an ended one wrote.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path as FilePath, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse as _, Response};
use hyper::body::{Body as HttpBody, Frame};
use rustix::fs::inotify;
use serde::Deserialize;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;

use super::reply::{App, Fault};
use super::routes::{no_run, run_id};
use super::{Ask, LiveLog};
use crate::io::log_file::Stretch;
use crate::wire::AttemptRow;

/// Chunks on their way to a client, at most; then reading waits for it.
const CHUNKS_MAX: usize = 4;

/// The engine announces the end of runs, not of attempts. So it is asked this often whether the
/// attempt is still in flight, for as long as somebody follows it and nothing is written.
const STILL_ALIVE: Duration = Duration::from_millis(250);

#[derive(Deserialize)]
pub(super) struct LogQuery {
    attempt: Option<u32>,
    #[serde(default)]
    follow: u8,
}

/// An attempt and how to find it.
#[derive(Clone)]
struct Wanted {
    which: LiveLog,
    /// Where an ended one wrote; `None`: it wrote nothing, or is in flight.
    log: Option<PathBuf>,
    ended: bool,
}

pub(super) async fn logs(
    State(app): State<App>,
    Path((id, task)): Path<(String, String)>,
    query: Result<Query<LogQuery>, QueryRejection>,
) -> Result<Response, Fault> {
    let id = run_id(&id)?;
    let Query(query) = query.map_err(|error| Fault::bad(error.body_text()))?;
    let which = LiveLog { run: id, task: task.into(), attempt: query.attempt.unwrap_or(0) };
    let permit = if query.follow == 0 { None } else { Some(app.long()?) };
    let (sender, receiver) = mpsc::channel(CHUNKS_MAX);
    let mut tail = Tail { app, sender, position: 0 };
    let wanted = tail.find(which).await?;
    tokio::spawn(async move {
        // The client may leave at any time, and a log may be cleared away: both end the stream.
        if let Err(error) = tail.run(wanted, permit.is_some()).await {
            tracing::debug!(%error, "a log was not sent to its end");
        }
        drop(permit);
    });
    let body = Body::new(Chunks(receiver));
    Ok(([(CONTENT_TYPE, "application/octet-stream")], body).into_response())
}

/// A body that is fed through a channel.
struct Chunks(mpsc::Receiver<Result<Bytes, io::Error>>);

impl HttpBody for Chunks {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        self.0.poll_recv(cx).map(|chunk| chunk.map(|chunk| chunk.map(Frame::data)))
    }
}

/// A client that reads a log.
struct Tail {
    app: App,
    sender: mpsc::Sender<Result<Bytes, io::Error>>,
    /// Bytes sent so far.
    position: u64,
}

impl Tail {
    /// The attempt as the history has it; attempt 0 stands for the last.
    async fn find(&self, which: LiveLog) -> Result<Wanted, Fault> {
        let run = which.run;
        let detail = self.app.history(move |history| history.run(run)).await?;
        let detail = detail.ok_or_else(|| no_run(run))?;
        let name = which.task.escape_debug().to_string();
        let task = detail.tasks.iter().find(|task| *task.name == *which.task);
        let task = task.ok_or_else(|| Fault::missing(format!("run {run} has no task `{name}`")))?;
        let asked = |row: &&AttemptRow| which.attempt == 0 || row.attempt == which.attempt;
        let row = task.attempts.iter().rfind(asked).ok_or_else(|| {
            Fault::missing(match which.attempt {
                0 => format!("task `{name}` of run {run} has not been tried: {}", task.state),
                attempt => format!("task `{name}` of run {run} has no attempt {attempt}"),
            })
        })?;
        let which = LiveLog { attempt: row.attempt, ..which };
        let log = row.log.as_ref().map(PathBuf::from);
        Ok(Wanted { which, log, ended: row.ended_at.is_some() })
    }

    /// Where the attempt writes now; `None` if it is not in flight.
    async fn live(&self, which: &LiveLog) -> Result<Option<PathBuf>, Fault> {
        let which = which.clone();
        self.app.ask(Some(Duration::from_secs(30)), |sender| Ask::LiveLog(which, sender)).await
    }

    async fn run(&mut self, mut wanted: Wanted, follow: bool) -> io::Result<()> {
        let broken = |fault: Fault| io::Error::other(fault.error);
        if !wanted.ended
            && let Some(path) = self.live(&wanted.which).await.map_err(broken)?
        {
            self.grow(&wanted.which, &path, follow).await?;
            if !follow {
                return Ok(());
            }
        }
        if !wanted.ended {
            wanted = self.find(wanted.which).await.map_err(broken)?;
        }
        match wanted.log {
            Some(log) => self.send_from(&log).await,
            None => Ok(()),
        }
    }

    /// Sends what a live attempt has written and, if asked to, what it writes until it ends.
    /// A log that stays empty is used again for another attempt, so the first bytes count only if
    /// the attempt is still in flight after they were read.
    async fn grow(&mut self, which: &LiveLog, path: &FilePath, follow: bool) -> io::Result<()> {
        let file = std::fs::File::open(path)?;
        let changes = Changes::of(path)?;
        let closed = self.sender.clone();
        loop {
            let mut chunk = self.read(&file).await?;
            if self.position == 0 && self.live(which).await.ok().flatten().is_none() {
                return Ok(());
            }
            let idle = chunk.bytes.is_empty();
            while !chunk.bytes.is_empty() {
                self.send(chunk).await?;
                chunk = self.read(&file).await?;
            }
            if !follow {
                return Ok(());
            }
            if idle && self.live(which).await.ok().flatten().is_none() {
                return Ok(());
            }
            tokio::select! {
                woken = tokio::time::timeout(STILL_ALIVE, changes.next()) => {
                    woken.unwrap_or(Ok(()))?;
                }
                () = closed.closed() => return Err(io::ErrorKind::BrokenPipe.into()),
            }
        }
    }

    /// Sends the rest of an ended attempt's log.
    async fn send_from(&mut self, log: &FilePath) -> io::Result<()> {
        let file = match std::fs::File::open(log) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return self.fail(format!("{}: the log is no longer kept", log.display())).await;
            }
            Err(error) => return self.fail(format!("{}: {error}", log.display())).await,
        };
        loop {
            let chunk = self.read(&file).await?;
            if chunk.bytes.is_empty() {
                return Ok(());
            }
            self.send(chunk).await?;
        }
    }

    /// What follows on what was sent.
    async fn read(&self, file: &std::fs::File) -> io::Result<Stretch> {
        let (file, position) = (file.try_clone()?, self.position);
        let read = self.app.read(move || {
            Stretch::read(&file, position).map_err(|error| Fault::unavailable(error.to_string()))
        });
        read.await.map_err(|fault| io::Error::other(fault.error))
    }

    async fn send(&mut self, chunk: Stretch) -> io::Result<()> {
        let note = chunk.note(self.position);
        self.position = chunk.end();
        let mut bytes = chunk.bytes;
        if let Some(note) = note {
            bytes.splice(0..0, note.into_bytes());
        }
        let sent = self.sender.send(Ok(Bytes::from(bytes))).await;
        sent.map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    /// Breaks the stream, so that the client can tell it from a log that ends here.
    async fn fail(&self, error: String) -> io::Result<()> {
        let sent = self.sender.send(Err(io::Error::other(error))).await;
        sent.map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

/// Wakes when a file is written to.
struct Changes(AsyncFd<OwnedFd>);

impl Changes {
    fn of(path: &FilePath) -> io::Result<Self> {
        let fd = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
        let wanted = inotify::WatchFlags::MODIFY | inotify::WatchFlags::CLOSE_WRITE;
        inotify::add_watch(&fd, path, wanted)?;
        registered(fd).map(Self)
    }

    /// Waits for a change; several count as one.
    async fn next(&self) -> io::Result<()> {
        let mut ready = self.0.readable().await?;
        let mut events = [0; 4096];
        while rustix::io::read(&self.0, &mut events).is_ok_and(|read| read > 0) {}
        ready.clear_ready();
        Ok(())
    }
}

#[expect(unsafe_code, reason = "tokio wants the word of its caller that the descriptor stays open")]
fn registered(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` always names the same descriptor and keeps it open until it is dropped,
    // and it is moved into the `AsyncFd`, which deregisters it before that.
    unsafe { AsyncFd::register(fd) }.map_err(io::Error::from)
}
