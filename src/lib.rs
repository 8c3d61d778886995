//! dagd turns outside events into work.
//!
//! The map of the house, in the order of the data: source → trigger → run → task → executor →
//! result → record. A file names only its own floor or lower ones.
//!
//! - [`core`] (floor 0): pure. Graph, selectors, triggers, runs, and the state machine that decides
//!   everything.
//! - [`config`], [`wire`] (floor 1): text to a validated model; the shapes of the control API.
//! - [`io`] (floor 2): adapters. Each owns one thing of the world.
//! - [`daemon`] (floor 3): assembly. Boot, the engine's loop, reload, shutdown.
//! - [`cli`] (floor 4): people. One file per verb; the only place that prints.

pub mod core;

pub mod config;
pub mod wire;

pub mod io;

pub mod daemon;

pub mod cli;
