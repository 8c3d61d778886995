//! Room for connections and for what they ask: how much there may be at once, by what the other end
//! may do.
//!
//! Counts places; knows nothing of sockets. Whoever may act always finds room that whoever may not
//! cannot use up.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};

use super::ASKS_MAX;
use super::door::Access;

/// Connections at once, at most; further ones wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 96;

/// Of these, connections of those who may only look, at most; further ones are told to come again.
/// All others are for those who may act, more than they have [long](Limits::long) requests.
pub(super) const LOOKERS_MAX: usize = 32;

/// What one class of clients may have at once, at most. The other class has its own.
#[derive(Clone, Copy)]
pub(super) struct Limits {
    /// Questions that wait for the engine when another one is asked.
    pub(super) asks: usize,
    /// Requests that take as long as a run does (waiting, following); further ones are refused. The
    /// rest of the connections stays free for `status` and `stop`.
    pub(super) long: usize,
}

impl Limits {
    /// Those who may act.
    pub(super) const ACTING: Self = Self { asks: ASKS_MAX, long: 48 };
    /// Those who may only look.
    pub(super) const LOOKING: Self = Self { asks: ASKS_MAX / 2, long: 24 };
}

/// Connections at once that nothing is done for, at most: those of strangers, and of lookers for whom
/// there is no room. They take no room from others, and are told why; further ones are closed.
const REFUSED_MAX: usize = 8;

/// The room of one server.
pub(super) struct Room {
    all: Arc<Semaphore>,
    lookers: Arc<Semaphore>,
    refused: Arc<Semaphore>,
}

/// A place for a connection whose owner is not yet known.
pub(super) struct Place(OwnedSemaphorePermit);

/// A place that is taken for as long as this is kept.
pub(super) struct Taken {
    _permits: [Option<OwnedSemaphorePermit>; 2],
}

/// What becomes of a connection.
pub(super) enum Admitted {
    /// It is served.
    Served(Taken),
    /// It is told that there is no room for those who look.
    Crowded(Taken),
    /// It is closed.
    Closed,
}

impl Room {
    pub(super) fn new() -> Self {
        let room = |places| Arc::new(Semaphore::new(places));
        Self { all: room(CONNECTIONS_MAX), lookers: room(LOOKERS_MAX), refused: room(REFUSED_MAX) }
    }

    /// Waits for a place, before a connection is accepted.
    pub(super) async fn place(&self) -> Result<Place, AcquireError> {
        Arc::clone(&self.all).acquire_owned().await.map(Place)
    }

    /// Admits a connection, now that it is known what the other end may do.
    pub(super) fn admit(&self, place: Place, access: Access) -> Admitted {
        let looker = match access {
            Access::Write => return Admitted::Served(Taken { _permits: [Some(place.0), None] }),
            Access::Read => Arc::clone(&self.lookers).try_acquire_owned().ok(),
            Access::None => None,
        };
        if looker.is_some() {
            return Admitted::Served(Taken { _permits: [Some(place.0), looker] });
        }
        // The place is free again.
        match Arc::clone(&self.refused).try_acquire_owned() {
            Err(_) => Admitted::Closed,
            Ok(permit) => {
                let taken = Taken { _permits: [None, Some(permit)] };
                match access {
                    Access::Read => Admitted::Crowded(taken),
                    Access::Write | Access::None => Admitted::Served(taken),
                }
            }
        }
    }

    /// Waits until all places are free, but no longer than this.
    pub(super) async fn empty(&self, limit: Duration) {
        let all = u32::try_from(CONNECTIONS_MAX).unwrap_or(u32::MAX);
        // Whoever still waits or follows after that is cut off.
        drop(tokio::time::timeout(limit, self.all.acquire_many(all)).await);
    }
}
