//! Floor 0: the pure core.
//!
//! Everything that dagd decides is decided here, as arithmetic over plain data. The core knows no
//! runtime, file system, clock, environment, thread, lock or randomness: time, offsets and seeds
//! are arguments, effects are values. Reading order is the order of the data:
//! [`trigger`] → [`candidate`] → [`run`] → [`task`] → [`machine`] → [`record`].

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod fill;
pub mod id;
pub mod path;
pub mod template;

pub mod check;
pub mod confine;
pub mod filter;
pub mod graph;
pub mod scope;
pub mod selector;
pub mod sidecar;
pub mod sums;
pub mod task;
pub mod trigger;

pub mod bound;
pub mod calendar;
pub mod candidate;
pub mod disposition;
pub mod effect;
pub mod event;
pub mod ledger;
pub mod record;
pub mod run;

mod counts;

pub mod machine;
pub mod model;
// view
