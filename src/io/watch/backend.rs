//! What a backend can answer, and what is said to the user when it cannot watch.
//!
//! Names the outcomes; the backends themselves are [`super::inotify`] and [`super::fanotify`].

use super::limits::{INSTANCES, WATCHES};

/// Watchers of one kind that go on until another one covers everything, at most, since each has its
/// table and its part of what the kernel grants. With one more nothing is kept, and a scan makes up
/// for that.
pub const OLD_MAX: usize = 8;

/// What became of the wish to watch a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is watched.
    Watched,
    /// It is no directory, or not there any more; if it comes back, its parent will tell.
    Gone,
    /// It has to be polled.
    Failed(Problem),
}

/// Why a directory has to be polled.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Problem {
    /// The user's limit of watches is reached.
    Limit,
    /// The user's limit of inotify instances is reached.
    Instances,
    /// The system refuses: permissions, a path that is too long.
    Refused(String),
    /// The backend does not work.
    Broken(String),
}

impl Problem {
    /// One line for `directories` with this problem, `example` being one of them.
    pub fn line(&self, directories: usize, example: &str) -> String {
        let polled = match directories {
            1 => format!("{example} is polled every 5 s"),
            n => format!("{n} directories (such as {example}) are polled every 5 s"),
        };
        format!("{polled}: {}", self.why(directories))
    }

    /// The reason, and the remedy for so many directories.
    pub fn why(&self, directories: usize) -> String {
        match self {
            Self::Limit => {
                format!("limit of watches reached; {}", WATCHES.remedy(directories))
            }
            Self::Instances => format!("no inotify instance left; {}", INSTANCES.remedy(1)),
            Self::Refused(why) => format!("{why}; let dagd's user read and search it"),
            Self::Broken(why) => why.clone(),
        }
    }
}
