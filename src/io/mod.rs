//! Floor 2: adapters. Each owns one thing of the world and turns it into events, or commands into
//! deeds. None decides anything.

pub mod alarm;
pub mod check;
pub mod client;
pub mod config_files;
pub mod config_watch;
pub mod control;
pub mod disk;
pub mod dispose;
pub mod failpoint;
pub mod handover;
pub mod log;
pub mod log_file;
pub mod machine;
pub mod pid_file;
pub mod process;
pub mod signals;
pub mod store;
pub mod systemd;
pub mod watch;
