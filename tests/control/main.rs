//! The control API over a real Unix socket: every path, every refusal, every limit.

mod acting;
mod cli;
mod limits;
mod looking;
mod world;
