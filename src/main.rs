//! The program: the command line is all there is to see from here.
//!
//! Starts no thread and no runtime: what needs a process of its own forks first.

use std::process::ExitCode;

fn main() -> ExitCode {
    // An attempt on its way to its program: nothing of the daemon is to happen in it.
    if let Some(failed) = dagd::io::process::child::run_if_asked() {
        return failed;
    }
    dagd::cli::main(std::env::args_os())
}
