//! The control API over a real Unix socket: every path, every refusal, every limit.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

mod acting;
mod cli;
mod limits;
mod looking;
mod world;
