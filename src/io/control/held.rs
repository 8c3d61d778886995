//! The memory of answers on their way: how much of it there may be at once.
//!
//! An answer is made as a whole and lies here until its client has taken it, which may be long after.
//! Streams are no concern of this: they have bounds of their own.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::response::{IntoResponse as _, Response};
use http_body_util::BodyExt as _;
use hyper::body::Body as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::reply::Fault;

/// KiB of large answers to one class of clients, at most; further ones are refused. That is more than
/// most listings of all runs have; one that has more than this is sent when there is no other.
const HELD_MAX: u32 = 64 << 10;

/// KiB of an answer that is not counted: of all connections together that is little.
const SMALL_MAX: u32 = 64;

/// Counts the answers to one class of clients.
#[derive(Clone)]
pub(super) struct Held(Arc<Semaphore>);

/// An answer with its share of the memory.
struct Counted {
    bytes: Bytes,
    _share: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Held {
    pub(super) fn new() -> Self {
        Self(Arc::new(Semaphore::new(HELD_MAX as usize)))
    }

    /// The answer, counted until the last of it is sent; a refusal if there is no memory for it.
    pub(super) async fn count(self, answer: Response) -> Response {
        let Some(size) = answer.body().size_hint().exact() else { return answer };
        let size = u32::try_from(size >> 10).unwrap_or(HELD_MAX).min(HELD_MAX);
        if size < SMALL_MAX {
            return answer;
        }
        let Ok(share) = self.0.try_acquire_many_owned(size) else {
            return Fault::unavailable(format!(
                "answers that nobody has read yet take {} MiB already; ask for less, or try again \
                 when they are read",
                HELD_MAX >> 10
            ))
            .into_response();
        };
        let (head, body) = answer.into_parts();
        match body.collect().await {
            Ok(whole) => {
                let bytes = Bytes::from_owner(Counted { bytes: whole.to_bytes(), _share: share });
                Response::from_parts(head, Body::from(bytes))
            }
            Err(error) => Fault::unavailable(error.to_string()).into_response(),
        }
    }
}
