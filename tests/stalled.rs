//! What stops the daemon, or holds it up: a full disk, a stop, a crash, a rival; and what limits how
//! much it does at once.

#![expect(clippy::unwrap_used, reason = "a test ends at the first thing that goes wrong")]

#[expect(dead_code, reason = "a part of the harness is enough here")]
mod common;

#[path = "stalled/disk.rs"]
mod disk;
#[path = "stalled/ends.rs"]
mod ends;
#[path = "stalled/limits.rs"]
mod limits;
#[path = "stalled/overlap.rs"]
mod overlap;
#[path = "stalled/reloads.rs"]
mod reloads;
#[path = "stalled/requests.rs"]
mod requests;
#[path = "stalled/rivals.rs"]
mod rivals;
#[path = "stalled/short.rs"]
mod short;
