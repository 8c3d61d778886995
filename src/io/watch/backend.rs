//! What a backend can answer, and what is said to the user when it cannot watch.
//!
//! Names the outcomes; the backend itself is [`super::inotify`].

use std::fs;

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
        match self {
            Self::Limit => {
                let name = "fs.inotify.max_user_watches";
                format!("{polled}: limit of watches reached; sysctl -w {name}={}", twice(name))
            }
            Self::Instances => {
                let name = "fs.inotify.max_user_instances";
                format!("{polled}: no inotify instance left; sysctl -w {name}={}", twice(name))
            }
            Self::Refused(why) => {
                format!("{polled}: {why}; let dagd's user read and search it")
            }
            Self::Broken(why) => format!("{polled}: {why}"),
        }
    }
}

/// Twice the present value of a setting, for a remedy that can be pasted.
fn twice(name: &str) -> u64 {
    let path = format!("/proc/sys/{}", name.replace('.', "/"));
    let now = fs::read_to_string(path).ok().and_then(|text| text.trim().parse::<u64>().ok());
    now.unwrap_or(65_536).saturating_mul(2)
}
