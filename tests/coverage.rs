//! What is covered, provoked for real: the kernel's limits, trees that move, names that are odd,
//! folders that cannot be read. Whatever happens, each file is delivered once, under its right path.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test ends at the first thing that goes wrong"
)]

#[expect(dead_code, reason = "a part of the harness is enough here")]
mod common;

#[path = "coverage/denied.rs"]
mod denied;
#[path = "coverage/fanotify.rs"]
mod fanotify;
#[path = "coverage/limits.rs"]
mod limits;
#[path = "coverage/mounts.rs"]
mod mounts;
#[path = "coverage/names.rs"]
mod names;
#[path = "coverage/overflow.rs"]
mod overflow;
#[path = "coverage/reload.rs"]
mod reload;
#[path = "coverage/trees.rs"]
mod trees;
#[path = "coverage/world.rs"]
mod world;
