//! A trigger: a source of events, a selector, policies.
//!
//! Holds the configuration of triggers and the pure questions that it answers: whether a name
//! matches, which key a file is busy under. What is live is in [`super::machine`].

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::bound::OnRemoval;
use super::calendar::Schedule;
use super::candidate::Kind;
use super::filter::{Filter, KeyPattern, Pattern};
use super::id::Name;
use super::path::Bytes;
use super::selector::Selector;
use super::sidecar::{Checksum, Sidecar};
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
    /// The same, for each folder that holds files.
    Dir,
    /// The same, for each key (see [`FolderSpec::set_key`]).
    Key,
}

/// What the files of a run have in common.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Group {
    /// The folder that they lie in, relative to the root; empty for the root itself.
    Dir(Bytes),
    /// Their `set_key`.
    Key(Bytes),
}

impl Group {
    /// The key under which runs for the group are busy.
    pub fn key(&self) -> &Bytes {
        let (Self::Dir(key) | Self::Key(key)) = self;
        key
    }
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

/// What a trigger takes for work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FileType {
    /// Regular files.
    File,
    /// Folders, each with all that is in it: the results of an instrument.
    Dir,
}

/// Which symbolic links count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FollowSymlinks {
    /// None.
    Never,
    /// Those that lead to a regular file.
    Files,
    /// Those that lead to a folder as well; each folder once.
    All,
}

/// How changes are noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Backend {
    /// By the kernel where it tells, else by looking at intervals.
    Auto,
    /// By inotify.
    Inotify,
    /// By fanotify: one mark for each file system.
    Fanotify,
    /// By looking at intervals.
    Poll,
}

/// What makes two deliveries the same, so that the second is left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IdempotentKey {
    /// The same version at the same path.
    Version,
    /// The same path, whatever is in it, for ever.
    Path,
    /// The same name and size, in whatever folder.
    NameSize,
    /// The same content, whatever its name.
    Content,
    /// The same text, made from the file's names.
    Template(Template),
}

/// What ready files are put in order by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SortBy {
    /// When they were seen first.
    Arrival,
    /// Their path below the root, as bytes.
    Name,
    /// Their modification time.
    Mtime,
    /// Their size.
    Size,
}

/// One part of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sort {
    /// By what.
    pub by: SortBy,
    /// The greatest first.
    pub reverse: bool,
}

/// What to do with a file whose place is taken where it is to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnConflict {
    /// It gets a free name beside the one that is taken.
    Rename,
    /// It takes the place.
    Replace,
    /// It stays, and the move counts as failed.
    Fail,
    /// It stays, as if no move were configured.
    Keep,
}

/// Runs that may start in a time: a bucket of `runs` tokens that fills evenly within `per`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RateLimit {
    /// Tokens, at least one.
    pub runs: u32,
    /// The time in which an empty bucket fills; not zero.
    pub per: Duration,
}

/// A folder and what is wanted from it. Names of fields are those of the configuration.
#[expect(clippy::struct_excessive_bools, reason = "each is a key of the configuration")]
#[derive(Clone, Debug)]
pub struct FolderSpec {
    /// Drop or watch.
    pub folder: Folder,
    /// The absolute path of the root.
    pub root: PathBuf,
    /// Whether folders below the root count, too.
    pub recursive: bool,
    /// How deep a file lies at least; 1 is right in the root.
    pub min_depth: u32,
    /// How deep it lies at most.
    pub max_depth: u32,
    /// Which symbolic links count.
    pub follow_symlinks: FollowSymlinks,
    /// Whether other file systems mounted below the root count.
    pub cross_filesystem: bool,
    /// Whether `.gitignore` and `.ignore` files below the root are honoured.
    pub gitignore: bool,
    /// How changes are noticed.
    pub backend: Backend,
    /// How often the folder is looked at where nothing else tells of changes.
    pub poll_interval: Duration,
    /// Full scans at this interval.
    pub reconcile_interval: Option<Duration>,
    /// Which names count.
    pub filter: Filter,
    /// What counts as work.
    pub file_type: FileType,
    /// Smaller files do not count, in bytes.
    pub min_size: u64,
    /// Larger files do not count, in bytes.
    pub max_size: u64,
    /// Which changes count.
    pub kinds: Vec<Kind>,
    /// How completeness is established.
    pub read_lock: ReadLock,
    /// How long size and time must stay the same where a lease does not prove completeness.
    pub stability_threshold: Duration,
    /// How long a version has been seen, at least.
    pub min_age: Duration,
    /// Quiet time after the last change.
    pub settle: Duration,
    /// Quiet time for a file without content.
    pub settle_empty: Duration,
    /// Ceiling of `settle` and batching.
    pub max_wait: Option<Duration>,
    /// A file that has to be there before another one counts.
    pub done_file: Option<Sidecar>,
    /// A file that holds the checksum of another one, which has to match before that one counts.
    pub checksum_file: Option<(Sidecar, Checksum)>,
    /// How long a file may wait to become ready before that is told.
    pub ready_alarm: Option<Duration>,
    /// Files to runs.
    pub fan_out: FanOut,
    /// What files of one key have in common.
    pub set_key: Option<KeyPattern>,
    /// A pattern for each file without which the others of its key do not count. Not with deletions:
    /// what is gone completes nothing.
    pub set: Vec<Pattern>,
    /// Files in a batch, at most.
    pub batch_max_files: usize,
    /// How long a batch that is not full waits for more; `None`: `settle` alone tells.
    pub batch_max_wait: Option<Duration>,
    /// The order of what is ready; empty: of arrival.
    pub sort_by: Vec<Sort>,
    /// What makes two deliveries the same.
    pub idempotent_key: IdempotentKey,
    /// What a first start does.
    pub initial_scan: InitialScan,
    /// A first scan that finds more pauses the trigger, unless files are moved away.
    pub initial_max: u64,
    /// The name under which the ledger knew the trigger before.
    pub renamed_from: Option<Name>,
    /// Where a file goes before its run starts.
    pub pre_move: Option<Template>,
    /// Where the file goes after a succeeded run.
    pub move_to: Option<Template>,
    /// Where the file goes after a failed run.
    pub move_failed: Option<Template>,
    /// Whether the file is removed after a succeeded run.
    pub delete: bool,
    /// What to do where the place is taken.
    pub on_conflict: OnConflict,
    /// How often a row of runs, each caused by the one before, may come back to the trigger.
    pub max_hops: u32,
}

/// How long a batch waits for more where nothing else tells: a person who drops files by hand is
/// done with a few by then.
const BATCH_MAX_WAIT: Duration = Duration::from_secs(5);

impl FolderSpec {
    /// What a folder trigger is when nothing is said but what it is for, where it is, and which
    /// names count. The defaults of all fields are here.
    pub fn new(folder: Folder, root: PathBuf, filter: Filter) -> Self {
        let drop = folder == Folder::Drop;
        let all = [Kind::Created, Kind::Modified, Kind::Deleted];
        let settle = Duration::from_millis(if drop { 0 } else { 100 });
        Self {
            folder,
            root,
            recursive: !drop,
            min_depth: 1,
            max_depth: u32::MAX,
            follow_symlinks: FollowSymlinks::Never,
            cross_filesystem: false,
            gitignore: false,
            backend: Backend::Auto,
            poll_interval: Duration::from_secs(5),
            reconcile_interval: None,
            filter,
            file_type: FileType::File,
            min_size: 0,
            max_size: u64::MAX,
            kinds: if drop { all[..2].into() } else { all.into() },
            read_lock: if drop { ReadLock::Auto } else { ReadLock::None },
            stability_threshold: Duration::from_secs(2),
            min_age: Duration::ZERO,
            settle,
            // A file without content looks the same as one whose writer has not begun.
            settle_empty: if drop { Duration::from_secs(2) } else { settle },
            max_wait: (!drop).then_some(Duration::from_secs(5)),
            done_file: None,
            checksum_file: None,
            ready_alarm: Some(Duration::from_mins(10)),
            fan_out: if drop { FanOut::File } else { FanOut::Batch },
            set_key: None,
            set: Vec::new(),
            batch_max_files: 1000,
            batch_max_wait: drop.then_some(BATCH_MAX_WAIT),
            sort_by: Vec::new(),
            idempotent_key: IdempotentKey::Version,
            initial_scan: if drop { InitialScan::Unprocessed } else { InitialScan::Baseline },
            initial_max: if drop { 10_000 } else { u64::MAX },
            renamed_from: None,
            pre_move: None,
            move_to: None,
            move_failed: None,
            delete: false,
            on_conflict: OnConflict::Rename,
            max_hops: 8,
        }
    }

    /// How long a batch waits for more if nothing is said: a quiet time or a complete set tells by
    /// itself that there is no more to wait for.
    pub fn default_batch_wait(&self) -> Option<Duration> {
        (self.settle.is_zero() && self.set.is_empty()).then_some(BATCH_MAX_WAIT)
    }

    /// Whether dagd takes files away from the folder, before or after their runs.
    pub fn empties(&self) -> bool {
        self.delete
            || [&self.pre_move, &self.move_to, &self.move_failed].into_iter().any(Option::is_some)
    }
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
    /// The calendar.
    Schedule(Box<ScheduleSpec>),
    /// Another trigger's silence.
    Absent {
        /// How long it has started no run.
        after: Duration,
        /// Its name.
        of: Name,
    },
}

/// A schedule and what is wanted of it.
#[derive(Clone, Debug)]
pub struct ScheduleSpec {
    /// When.
    pub schedule: Schedule,
    /// What becomes of occurrences that were missed.
    pub catch_up: CatchUp,
}

/// What becomes of occurrences that dagd was not there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CatchUp {
    /// The last one runs.
    Last,
    /// They all run, up to a bound.
    All,
    /// None runs.
    None,
}

impl CatchUp {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Last => "last",
            Self::All => "all",
            Self::None => "none",
        }
    }
}

impl Source {
    /// What it is, and which one: the key that configures it, and what the key says.
    pub fn told(&self) -> (&'static str, String) {
        match self {
            Self::Folder(folder) => {
                let kind = if folder.folder == Folder::Drop { "drop" } else { "watch" };
                (kind, folder.root.display().to_string())
            }
            Self::Signal { name, .. } => ("signal", name.to_string()),
            Self::Schedule(spec) => ("schedule", spec.schedule.id().to_owned()),
            Self::Absent { after, of } => ("absent", format!("{} of {of}", units(*after))),
        }
    }
}

/// A time in the largest unit that it is a whole number of.
fn units(time: Duration) -> String {
    let ms = time.as_millis();
    let units = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "min"), (1000, "s")];
    let whole = units.into_iter().find(|(unit, _)| ms > 0 && ms.is_multiple_of(*unit));
    let (unit, word) = whole.unwrap_or((1, "ms"));
    format!("{}{word}", ms / unit)
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
    /// How many of its runs may start in a time; more wait.
    pub rate_limit: Option<RateLimit>,
    /// What becomes of what waits when the trigger leaves the configuration.
    pub on_removal: OnRemoval,
    /// Hash of everything above, so that a reload can tell what changed.
    pub rev: Arc<str>,
}

impl TriggerSpec {
    /// What a file has in common with the others of its run, where that is what runs are for.
    pub fn group(&self, rel: &Bytes) -> Option<Group> {
        let folder = self.folder()?;
        match folder.fan_out {
            FanOut::File | FanOut::Batch => None,
            FanOut::Dir => Some(Group::Dir(rel.dir().into())),
            FanOut::Key => folder.set_key.as_ref()?.key(rel).map(Group::Key),
        }
    }

    /// Whether its work has keys under which it runs one after the other.
    pub fn has_keys(&self) -> bool {
        let by_group = |folder: &FolderSpec| matches!(folder.fan_out, FanOut::Dir | FanOut::Key);
        self.order_key.is_some() || self.folder().is_some_and(by_group)
    }

    /// The folder, if it is a folder trigger.
    pub fn folder(&self) -> Option<&FolderSpec> {
        match &self.source {
            Source::Folder(folder) => Some(folder),
            Source::Signal { .. } | Source::Schedule(_) | Source::Absent { .. } => None,
        }
    }

    /// The schedule, if it has one.
    pub fn schedule(&self) -> Option<&ScheduleSpec> {
        match &self.source {
            Source::Schedule(schedule) => Some(schedule),
            Source::Folder(_) | Source::Signal { .. } | Source::Absent { .. } => None,
        }
    }
}
