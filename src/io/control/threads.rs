//! The threads that wait for disks in the runtime's place: who may keep how many of them.
//!
//! Nobody can end a thread that waits for a file system which does not answer, so each keeps its
//! place until it comes back, whether or not its client is still there. What must go on has places
//! of its own.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::{JoinError, spawn_blocking};
use tokio::time::timeout;

use super::History;
use super::reply::{App, Fault};
use crate::core::path::Bytes;

/// Threads for one purpose of one class of clients, at most; further requests wait for one.
const EACH_MAX: usize = 4;

/// Threads in all: for the three purposes of the two classes.
pub(super) const THREADS_MAX: usize = 2 * 3 * EACH_MAX;

/// Time for a thread to become free, and for a file system to tell of one path.
const LOOK_TIME: Duration = Duration::from_secs(20);

/// Outcomes of looks on their way, at most; then the thread waits.
const OUTCOMES_MAX: usize = 64;

/// The threads of one class of clients.
pub(super) struct Threads {
    /// For the state folder: without it there is no dagd, so it always answers.
    state: Arc<Semaphore>,
    /// For explaining any path.
    pub(super) explain: Arc<Semaphore>,
    /// For the files that an act names.
    pub(super) act: Arc<Semaphore>,
}

impl Threads {
    pub(super) fn new() -> Self {
        let each = || Arc::new(Semaphore::new(EACH_MAX));
        Self { state: each(), explain: each(), act: each() }
    }
}

impl App {
    /// Runs `work`, which reads in the state folder, in a thread.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, Fault> {
        let place = place(&self.threads.state).await?;
        let work = move || {
            let _place = place;
            work()
        };
        spawn_blocking(work).await.map_err(|error| broken(&error))?
    }

    /// Runs `work` with the history in a thread.
    pub(super) async fn history<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut dyn History) -> Result<T, String> + Send + 'static,
    ) -> Result<T, Fault> {
        let app = self.clone();
        self.read(move || work(&mut *app.open()?).map_err(Fault::unavailable)).await
    }

    /// The history, in a thread.
    pub(super) fn open(&self) -> Result<Box<dyn History + Send>, Fault> {
        (self.sources.reader)().map_err(Fault::unavailable)
    }
}

/// What `work` finds at each of `paths`, in their order; the first fault ends it. It may look at any
/// file system: one that does not answer in time is a fault.
pub(super) async fn look<P: Send + 'static, T: Send + 'static>(
    threads: &Arc<Semaphore>,
    paths: Vec<(Bytes, P)>,
    work: impl Fn(&Bytes, P) -> Result<T, Fault> + Send + 'static,
) -> Result<Vec<T>, Fault> {
    if paths.is_empty() {
        return Ok(Vec::new());
    }
    let place = timeout(LOOK_TIME, place(threads)).await.map_err(|_| taken())??;
    let names: Vec<Bytes> = paths.iter().map(|(path, _)| path.clone()).collect();
    let (sender, mut outcomes) = mpsc::channel(OUTCOMES_MAX);
    let mut thread = spawn_blocking(move || {
        let _place = place;
        for (path, more) in paths {
            // Whoever asked may have left, or have been told of a fault.
            if sender.blocking_send(work(&path, more)).is_err() {
                return;
            }
        }
    });
    let mut found = Vec::with_capacity(names.len());
    for name in &names {
        match timeout(LOOK_TIME, outcomes.recv()).await {
            Ok(Some(outcome)) => found.push(outcome?),
            Ok(None) => return Err((&mut thread).await.map_or_else(|e| broken(&e), |()| gone())),
            Err(_) => return Err(silent(name)),
        }
    }
    Ok(found)
}

/// What `work` finds at one path: as [`look`].
pub(super) async fn look_at<T: Send + 'static>(
    threads: &Arc<Semaphore>,
    path: Bytes,
    work: impl FnOnce(&Bytes) -> Result<T, Fault> + Send + 'static,
) -> Result<T, Fault> {
    let found = look(threads, vec![(path, work)], |path, work| work(path)).await?;
    found.into_iter().next().ok_or_else(gone)
}

async fn place(threads: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, Fault> {
    Arc::clone(threads).acquire_owned().await.map_err(|_| gone())
}

fn gone() -> Fault {
    Fault::unavailable("dagd is stopping")
}

fn broken(error: &JoinError) -> Fault {
    tracing::error!(%error, "a control request failed inside");
    Fault::unavailable("the request failed inside dagd; its log tells more")
}

fn silent(path: &Bytes) -> Fault {
    let time = LOOK_TIME.as_secs();
    Fault::unavailable(format!(
        "{path:?} cannot be looked at: its file system, or that of a trigger's folder, has not \
         answered for {time} s; `dagd status` tells of folders that do not answer"
    ))
}

fn taken() -> Fault {
    Fault::unavailable(format!(
        "{EACH_MAX} others look at files already and wait for their file systems; try again when \
         those answer"
    ))
}
