//! The producer matrix: programs that put files into folders, the real ones, and for each how often
//! its files are delivered. A task notes the content that it sees, so that half of a file would
//! show.

#![expect(clippy::unwrap_used, reason = "a test ends at the first thing that goes wrong")]

#[expect(dead_code, reason = "a part of the harness is enough here")]
mod common;

#[path = "producers/moves.rs"]
mod moves;
#[path = "producers/readiness.rs"]
mod readiness;
#[path = "producers/rows.rs"]
mod rows;
#[path = "producers/slow.rs"]
mod slow;
#[path = "producers/starvation.rs"]
mod starvation;
#[path = "producers/table.rs"]
mod table;
#[path = "producers/upload.rs"]
mod upload;
#[path = "producers/world.rs"]
mod world;
