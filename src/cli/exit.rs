//! How the program ends: the exit codes, and failures on their way to one.

use std::fmt;
use std::io;
use std::process::ExitCode;

use crate::config::Diagnostics;
use crate::daemon::DaemonError;
use crate::io::client::ClientError;

/// The exit codes, stable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Done.
    Done = 0,
    /// The run failed, or what was asked for was refused.
    Failed = 1,
    /// The command line makes no sense.
    Usage = 2,
    /// What was named is not there.
    NotFound = 3,
    /// No daemon answers.
    Unreachable = 4,
    /// The configuration is not valid.
    Configuration = 78,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a verb came to no good end.
#[derive(Debug, PartialEq, Eq)]
pub struct Failure {
    /// The exit code.
    pub exit: Exit,
    /// For people; empty if everything has been said, or nobody is left to hear it.
    pub text: String,
}

/// What a verb comes to.
pub type Outcome = Result<Exit, Failure>;

impl Failure {
    /// Exit code 1.
    pub fn failed(text: impl Into<String>) -> Self {
        Self { exit: Exit::Failed, text: text.into() }
    }

    /// Exit code 2.
    pub fn usage(text: impl Into<String>) -> Self {
        Self { exit: Exit::Usage, text: text.into() }
    }

    /// Exit code 3.
    pub fn missing(text: impl Into<String>) -> Self {
        Self { exit: Exit::NotFound, text: text.into() }
    }

    /// Exit code 78.
    pub fn configuration(text: impl Into<String>) -> Self {
        Self { exit: Exit::Configuration, text: text.into() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let text = error.to_string();
        match error {
            ClientError::Unreachable { .. } => Self { exit: Exit::Unreachable, text },
            ClientError::Refused { status: 404, .. } => Self::missing(text),
            ClientError::Refused { status: 400, .. } => Self::usage(text),
            ClientError::Output(error) => Self::from(error),
            ClientError::Refused { .. } | ClientError::Broken(_) => Self::failed(text),
        }
    }
}

impl From<io::Error> for Failure {
    /// Nobody reads any more (`dagd runs | head`): no failure.
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self { exit: Exit::Done, text: String::new() },
            _ => Self::failed(error.to_string()),
        }
    }
}

impl From<DaemonError> for Failure {
    fn from(error: DaemonError) -> Self {
        let exit = match &error {
            error if error.is_configuration() => Exit::Configuration,
            error if error.is_missing() => Exit::NotFound,
            _ => Exit::Failed,
        };
        Self { exit, text: error.to_string() }
    }
}

impl From<Diagnostics> for Failure {
    fn from(diagnostics: Diagnostics) -> Self {
        Self::configuration(diagnostics.to_string())
    }
}
