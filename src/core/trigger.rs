//! A trigger: a source of events, a selector, policies.
//!
//! Holds the configuration of triggers and the pure questions that it answers: whether a name
//! matches, which key a file is busy under. What is live is in [`super::machine`].

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use serde::{Deserialize, Serialize};

use super::candidate::Kind;
use super::id::Name;
use super::path::Bytes;
use super::selector::Selector;
use super::template::Template;

/// What a folder trigger is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Folder {
    /// Every file version is work.
    Drop,
    /// Something in the tree changed.
    Watch,
}

/// How dagd makes sure that a file is complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReadLock {
    /// By lease on local file systems, else by `Changed`.
    Auto,
    /// Nobody has it open for writing; proved by the kernel.
    Lease,
    /// Size and time stay the same for `stability_threshold`.
    Changed,
    /// Not at all.
    None,
}

/// How ready files become runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FanOut {
    /// A run per file.
    File,
    /// A run for all files of a window.
    Batch,
}

/// What happens when there is work while its key is busy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Overlap {
    /// It waits, in order.
    Queue,
    /// All of it becomes one follow-up.
    Coalesce,
    /// It does not wait.
    Parallel,
    /// The running run is cancelled first.
    Restart,
    /// It is dropped, with a record.
    Skip,
    /// The running tasks get this signal instead.
    Signal(i32),
}

/// What a first start does with what it finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InitialScan {
    /// Everything found is delivered.
    Unprocessed,
    /// Everything found is recorded as delivered.
    Baseline,
}

/// A folder and what is wanted from it.
#[derive(Clone, Debug)]
pub struct FolderSpec {
    /// Drop or watch.
    pub folder: Folder,
    /// The absolute path of the root.
    pub root: PathBuf,
    /// Whether folders below the root count, too.
    pub recursive: bool,
    /// Which names count.
    pub filter: Filter,
    /// Which changes count.
    pub kinds: Vec<Kind>,
    /// How completeness is established.
    pub read_lock: ReadLock,
    /// How long size and time must stay the same where a lease does not prove completeness.
    pub stability_threshold: Duration,
    /// Quiet time after the last change.
    pub settle: Duration,
    /// Quiet time for a file without content.
    pub settle_empty: Duration,
    /// Ceiling of `settle` and batching.
    pub max_wait: Option<Duration>,
    /// Files to runs.
    pub fan_out: FanOut,
    /// Files in a batch, at most.
    pub batch_max_files: usize,
    /// What a first start does.
    pub initial_scan: InitialScan,
    /// A first scan that finds more pauses the trigger, unless files are moved away.
    pub initial_max: u64,
    /// Where the file goes after a succeeded run.
    pub move_to: Option<Template>,
    /// Where the file goes after a failed run.
    pub move_failed: Option<Template>,
    /// Full scans at this interval.
    pub reconcile_interval: Option<Duration>,
}

/// A source of events.
#[derive(Clone, Debug)]
pub enum Source {
    /// A folder.
    Folder(Box<FolderSpec>),
    /// A signal to the daemon.
    Signal {
        /// Its number on this platform.
        signo: i32,
        /// Its name as configured.
        name: Name,
        /// Whose signals count; empty: everyone's.
        sender_uid: Vec<u32>,
    },
}

/// A trigger, as configured.
#[derive(Clone, Debug)]
pub struct TriggerSpec {
    /// Its name.
    pub name: Name,
    /// Where its events come from.
    pub source: Source,
    /// What it runs.
    pub select: Selector,
    /// When its key is busy.
    pub overlap: Overlap,
    /// Runs of it at once; `None`: no limit but the daemon's.
    pub max_runs: Option<usize>,
    /// Serial inside a key, parallel across keys.
    pub order_key: Option<Template>,
    /// Hash of everything above, so that a reload can tell what changed.
    pub rev: Arc<str>,
}

impl TriggerSpec {
    /// The folder, if it is a folder trigger.
    pub fn folder(&self) -> Option<&FolderSpec> {
        match &self.source {
            Source::Folder(folder) => Some(folder),
            Source::Signal { .. } => None,
        }
    }
}

/// Which names count. Rejection is final for a version: see [`Filter::rejects`].
#[derive(Clone)]
pub struct Filter {
    include: GlobSet,
    exclude: GlobSet,
    /// The patterns as configured, for messages.
    include_patterns: Vec<String>,
    exclude_patterns: Vec<String>,
    /// Whether the list of names that producers use for unfinished files applies.
    default_ignores: bool,
    /// Whether names that begin with a dot count.
    hidden: bool,
}

/// Why a name does not count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rejected {
    /// A component begins with a dot and `hidden` is false.
    Hidden,
    /// It is a name that producers give to unfinished files.
    DefaultIgnore(&'static str),
    /// A pattern of `exclude` matches.
    Exclude(String),
    /// No pattern of `include` matches.
    NotIncluded,
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hidden => f.write_str("hidden"),
            Self::DefaultIgnore(pattern) => write!(f, "default_ignores: {pattern}"),
            Self::Exclude(pattern) => write!(f, "exclude: {pattern}"),
            Self::NotIncluded => f.write_str("include: no pattern matches"),
        }
    }
}

impl fmt::Debug for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Filter")
            .field("include", &self.include_patterns)
            .field("exclude", &self.exclude_patterns)
            .field("default_ignores", &self.default_ignores)
            .field("hidden", &self.hidden)
            .finish_non_exhaustive()
    }
}

/// Names that producers give to files that are not finished. A trailing run of six capital `X`
/// stands for six letters or digits, as rsync and mkstemp append them.
const DEFAULT_IGNORES: [&str; 15] = [
    "*.part",
    "*.partial",
    "*.filepart",
    "*.crdownload",
    "*.download",
    "*.tmp",
    "*~",
    ".*.sw?",
    ".#*",
    ".~lock*",
    ".nfs*",
    ".fuse_hidden*",
    ".goutputstream-*",
    ".syncthing.*.tmp",
    ".*.XXXXXX",
];

impl Filter {
    /// Compiles the patterns. An `Err` holds the first bad one and why.
    pub fn new(
        include: Vec<String>,
        exclude: Vec<String>,
        default_ignores: bool,
        hidden: bool,
    ) -> Result<Self, (String, String)> {
        Ok(Self {
            include: globs(&include)?,
            exclude: globs(&exclude)?,
            include_patterns: include,
            exclude_patterns: exclude,
            default_ignores,
            hidden,
        })
    }

    /// Why the file `rel` (relative to the root) does not count, or `None` if it does.
    pub fn rejects(&self, rel: &Bytes) -> Option<Rejected> {
        if !self.hidden && rel.as_bytes().split(|&b| b == b'/').any(|part| part.starts_with(b".")) {
            return Some(Rejected::Hidden);
        }
        if self.default_ignores
            && let Some(pattern) = DEFAULT_IGNORES.iter().find(|p| ignore_matches(p, rel.name()))
        {
            return Some(Rejected::DefaultIgnore(pattern));
        }
        if let Some(&at) = self.exclude.matches(rel.as_path()).first() {
            return Some(Rejected::Exclude(self.exclude_patterns[at].clone()));
        }
        (!self.include.is_match(rel.as_path())).then_some(Rejected::NotIncluded)
    }

    /// Whether the folder `rel` and all below it are out: neither watched nor scanned.
    pub fn prunes(&self, rel: &Bytes) -> bool {
        let hidden = !self.hidden && rel.name().starts_with(b".");
        hidden
            || self.exclude.is_match(rel.as_path())
            || self.exclude.is_match(rel.join(b"").as_path())
    }
}

fn globs(patterns: &[String]) -> Result<GlobSet, (String, String)> {
    let mut set = GlobSetBuilder::new();
    for pattern in patterns {
        let glob = GlobBuilder::new(pattern)
            .literal_separator(true)
            .backslash_escape(true)
            .build()
            .map_err(|error| (pattern.clone(), error.kind().to_string()))?;
        set.add(glob);
    }
    set.build().map_err(|error| (patterns.join(", "), error.kind().to_string()))
}

/// Matches the few shapes that occur in [`DEFAULT_IGNORES`]: `*`, `?` and the `X` run.
fn ignore_matches(pattern: &str, name: &[u8]) -> bool {
    fn go(pattern: &[u8], name: &[u8]) -> bool {
        match (pattern.split_first(), name.split_first()) {
            (None, None) => true,
            (Some((b'*', rest)), _) => (0..=name.len()).any(|skip| go(rest, &name[skip..])),
            (Some((b'?', rest)), Some((_, tail))) => go(rest, tail),
            (Some((b'X', rest)), Some((c, tail))) => c.is_ascii_alphanumeric() && go(rest, tail),
            (Some((p, rest)), Some((c, tail))) => p == c && go(rest, tail),
            (None, Some(_)) | (Some(_), None) => false,
        }
    }
    go(pattern.as_bytes(), name)
}

#[cfg(test)]
mod tests {
    use super::{Filter, Rejected};

    fn filter(include: &[&str], exclude: &[&str]) -> Filter {
        let owned = |list: &[&str]| list.iter().map(|&s| s.to_owned()).collect();
        Filter::new(owned(include), owned(exclude), true, false).unwrap()
    }

    #[test]
    fn unfinished_names_do_not_count() {
        let all = filter(&["*"], &[]);
        for name in ["a.part", "a.filepart", "a.tmp", "a~", "x.crdownload"] {
            assert!(
                matches!(all.rejects(&name.into()), Some(Rejected::DefaultIgnore(_))),
                "{name}"
            );
        }
        let dots = Filter::new(vec!["*".into()], Vec::new(), true, true).unwrap();
        for name in [".a.swp", ".~lock.a#", ".data.csv.a1B2c3", ".#x"] {
            assert!(
                matches!(dots.rejects(&name.into()), Some(Rejected::DefaultIgnore(_))),
                "{name}"
            );
        }
        assert_eq!(dots.rejects(&".profile".into()), None);
        assert_eq!(all.rejects(&".profile".into()), Some(Rejected::Hidden));
    }

    #[test]
    fn globs_respect_folders() {
        let csv = filter(&["*.csv"], &["old*"]);
        assert_eq!(csv.rejects(&"a.csv".into()), None);
        assert_eq!(csv.rejects(&"sub/a.csv".into()), Some(Rejected::NotIncluded));
        assert_eq!(csv.rejects(&"old.csv".into()), Some(Rejected::Exclude("old*".into())));
        let deep = filter(&["**/*"], &["public/**"]);
        assert_eq!(deep.rejects(&"a/b/c".into()), None);
        assert!(deep.prunes(&"public".into()));
        assert!(!deep.prunes(&"src".into()));
        assert!(deep.prunes(&"src/.git".into()));
    }

    #[test]
    fn bad_globs_are_named() {
        let (pattern, why) = Filter::new(vec!["[".into()], Vec::new(), true, false).unwrap_err();
        assert_eq!(pattern, "[");
        assert!(why.contains("unclosed"), "{why}");
    }
}
