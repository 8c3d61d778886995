//! The program: the command line is all there is to see from here.
//!
//! Starts no thread and no runtime: what needs a process of its own forks first.

use std::process::ExitCode;

fn main() -> ExitCode {
    dagd::cli::main(std::env::args_os())
}
