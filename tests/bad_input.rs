//! Bad input, from every side: the daemon says what is wrong, and goes on.

#![expect(clippy::unwrap_used, reason = "a test ends at the first thing that goes wrong")]

#[expect(dead_code, reason = "a part of the harness is enough here")]
mod common;

#[path = "bad_input/api.rs"]
mod api;
#[path = "bad_input/configuration.rs"]
mod configuration;
#[path = "bad_input/files.rs"]
mod files;
#[path = "bad_input/stories.rs"]
mod stories;
#[path = "bad_input/tasks.rs"]
mod tasks;
