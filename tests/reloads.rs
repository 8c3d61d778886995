//! Reloads of a real daemon: what they tell, what they leave alone, and that nothing is lost by any.
//!
//! `DAGD_RELOADS=5000` reloads that often, with ten files for each.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test ends at the first thing that goes wrong, and says what it did"
)]

#[expect(dead_code, reason = "a part of the harness is enough here")]
mod common;

#[path = "reloads/answers.rs"]
mod answers;
#[path = "reloads/by_change.rs"]
mod by_change;
#[path = "reloads/failing.rs"]
mod failing;
#[path = "reloads/flood.rs"]
mod flood;
#[path = "reloads/settling.rs"]
mod settling;
#[path = "reloads/unchanged.rs"]
mod unchanged;
