//! Disposition against real file systems: every outcome, every conflict, and a crash before each
//! call that changes a name.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test ends at the first thing that goes wrong"
)]

#[expect(dead_code, reason = "a part of the harness is enough here")]
mod common;

#[path = "dispose/crash.rs"]
mod crash;
#[path = "dispose/kinds.rs"]
mod kinds;
#[path = "dispose/outcomes.rs"]
mod outcomes;
#[path = "dispose/world.rs"]
mod world;

use common::skip;
