//! Which file is which, end to end: checksums, keys, triggers that change their names, first scans,
//! inodes that are used again.

#![expect(clippy::unwrap_used, reason = "a test ends at the first thing that goes wrong")]

#[expect(dead_code, reason = "a part of the harness is enough here")]
mod common;

#[path = "identity/checksums.rs"]
mod checksums;
#[path = "identity/first.rs"]
mod first;
#[path = "identity/inodes.rs"]
mod inodes;
#[path = "identity/keys.rs"]
mod keys;
#[path = "identity/renames.rs"]
mod renames;
#[path = "identity/world.rs"]
mod world;
