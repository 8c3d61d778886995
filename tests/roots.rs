//! Roots that move, that file systems are mounted over, that tell of nothing, that do not answer;
//! and how far a folder reaches. All against the real kernel.

#![expect(clippy::unwrap_used, reason = "a test says no by panicking")]

#[path = "roots/asking.rs"]
mod asking;
#[path = "watch/bench.rs"]
#[expect(dead_code, reason = "a part of the bench is enough here")]
mod bench;
#[expect(dead_code, reason = "a part of the harness is enough here")]
mod common;

#[path = "roots/daemon.rs"]
mod daemon;
#[path = "roots/fuse.rs"]
mod fuse;
#[path = "roots/hang.rs"]
mod hang;
#[path = "roots/means.rs"]
mod means;
#[path = "roots/places.rs"]
mod places;
#[path = "roots/reach.rs"]
mod reach;
#[path = "roots/scarce.rs"]
mod scarce;
