//! The control API over a real Unix socket: every path, every refusal, every limit.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

mod acting;
mod cli;
#[path = "../common/mod.rs"]
#[expect(dead_code, reason = "a part of the harness is enough here")]
mod common;
mod limits;
mod looking;
mod world;
