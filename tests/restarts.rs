//! Stop, restart and `kill -9` in mid-run, again and again, with tasks of every temper: nothing is
//! left behind, no attempt runs twice at once, every run ends as it should.
//!
//! `DAGD_RESTARTS=1000` restarts that often.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test ends at the first thing that goes wrong, and says what it did"
)]

#[expect(dead_code, reason = "a part of the harness is enough here")]
mod common;

#[path = "restarts/pending.rs"]
mod pending;
#[path = "restarts/rounds.rs"]
mod rounds;
