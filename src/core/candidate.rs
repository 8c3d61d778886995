//! A file on its way to a run: what the disk said, what the ledger remembers, what is decided.
//!
//! The whole reconciler is [`decide`]: a pure comparison of an observation with the ledger row and
//! the live candidate. Events never say what happened to a file; only this comparison does. Whether
//! work can start is asked in [`ready`].

mod lineage;
mod ready;

pub use lineage::Lineage;
pub use ready::backoff;

use serde::{Deserialize, Serialize};

use super::id::{Mono, Name, RunId, Seq, Wall};
use super::path::Bytes;
use super::trigger::FolderSpec;

pub use ready::Readiness;

/// A change to a file, derived from ledger and disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// It was not there, as far as the ledger knows. A file that was moved in is created.
    Created,
    /// It is another version than the one delivered.
    Modified,
    /// It is gone.
    Deleted,
}

impl Kind {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Modified => "modified",
            Self::Deleted => "deleted",
        }
    }
}

/// What makes a file the same version as before. `ctime` is left out: chmod, link and relabel are
/// no new version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// Identity that survives a rename and differs after reuse of an inode: the file handle, or
    /// device, inode and birth time where the file system has none.
    pub file: Bytes,
    /// Bytes; of a folder, of all regular files in it.
    pub size: u64,
    /// Modification time, nanoseconds since 1970; of a folder, the newest of all that is in it.
    pub mtime_ns: i64,
}

impl Version {
    /// What stands for the version of something that cannot be looked at. No file has it.
    pub fn unknown() -> Self {
        Self { file: Bytes::default(), size: 0, mtime_ns: 0 }
    }

    /// Whether it is the same but for its time, which is earlier: one that was set, if nobody wrote.
    pub fn is_set_back_from(&self, was: &Self) -> bool {
        self.file == was.file && self.size == was.size && self.mtime_ns < was.mtime_ns
    }

    /// Whether it is one that was seen.
    fn is_known(&self) -> bool {
        !self.file.as_bytes().is_empty()
    }
}

/// What the ledger remembers of a path under a trigger.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// The version that was delivered last.
    pub version: Version,
    /// Whether that version was still at the path when dagd last looked. A closed row only tells
    /// history: whatever is at the path now is a new delivery.
    pub open: bool,
    /// The run it was delivered to; `None` for a baseline.
    pub run: Option<RunId>,
}

impl Row {
    /// Whether this version was delivered and is still there. One that cannot be looked at is like
    /// no other, not even like what the row holds when nothing was delivered after all.
    pub fn tells_of(&self, version: &Version) -> bool {
        self.open && version.is_known() && self.version == *version
    }
}

/// What is known of a file's completeness. Of a folder: of all that is in it, the worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Probe {
    /// Nobody has it open for writing: the kernel says so.
    Free,
    /// Somebody has it open for writing.
    WriterOpen,
    /// The kernel cannot tell here: foreign owner without `CAP_LEASE`, or a file system without
    /// leases.
    Unproved,
    /// It was not asked.
    NotAsked,
    /// The file cannot be opened for reading.
    Unreadable,
    /// Its path is longer than any that a program can open.
    Unreachable,
    /// The file that tells that it is complete is not there; who writes was not asked.
    NotDone,
}

/// What a look at a path found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Disk {
    /// Nothing.
    Absent,
    /// Something that is not what the trigger takes for work; never opened.
    Other,
    /// What the trigger takes for work: a regular file, or a folder with all that is in it.
    File {
        /// Which version.
        version: Version,
        /// Whether it is complete.
        probe: Probe,
    },
}

/// Why dagd looked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// The kernel hinted at a change.
    Event,
    /// A scan came by.
    Scan,
    /// The machine asked for it.
    Look,
    /// Nothing but attributes has changed, its times maybe, since it was last told of: nobody has
    /// written to it.
    Stamp,
}

/// A path under a trigger, as seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The trigger.
    pub trigger: Name,
    /// The path relative to the trigger's root.
    pub rel: Bytes,
    /// What is there.
    pub disk: Disk,
    /// What the ledger says.
    pub row: Option<Row>,
}

/// A batch of looks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observed {
    /// The newest state that was committed before the first look of the batch.
    pub seq: Seq,
    /// Why.
    pub origin: Origin,
    /// What.
    pub seen: Vec<Seen>,
}

/// Why a candidate is not ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pending {
    /// Somebody has it open for writing.
    WriterOpen,
    /// It has not stayed the same for `stability_threshold`.
    Unstable,
    /// It has not been seen for `min_age`.
    MinAge,
    /// It has not been quiet for `settle`.
    Settle,
    /// Its done file is not there.
    DoneFile,
    /// It cannot be opened for reading.
    Unreadable,
    /// Its checksum file is not there, or does not tell of it.
    ChecksumFile,
    /// Its content is another one than its checksum file tells.
    ChecksumDiffers,
    /// Another file with the same key is about to be delivered.
    SameKey,
    /// It is one of a long row of files that may each have been written by the run for the one
    /// before.
    Loop,
    /// Its path is too long to be opened.
    Unreachable,
}

impl Pending {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::WriterOpen => "writer_open",
            Self::Unstable => "unstable",
            Self::MinAge => "min_age",
            Self::Settle => "settle",
            Self::DoneFile => "waiting_done_file",
            Self::Unreadable => "unreadable",
            Self::ChecksumFile => "checksum_file",
            Self::ChecksumDiffers => "checksum_differs",
            Self::SameKey => "same_key",
            Self::Loop => "loop_suspected",
            Self::Unreachable => "unreachable",
        }
    }

    /// Whether only an event ends the wait, and no time.
    pub fn is_told(self) -> bool {
        match self {
            Self::DoneFile
            | Self::Unreachable
            | Self::ChecksumFile
            | Self::ChecksumDiffers
            | Self::SameKey => true,
            Self::WriterOpen
            | Self::Unstable
            | Self::MinAge
            | Self::Settle
            | Self::Unreadable
            | Self::Loop => false,
        }
    }

    /// The reason in words.
    pub fn text(self) -> &'static str {
        match self {
            Self::WriterOpen => "somebody has it open for writing",
            Self::Unstable => "it has not stayed the same for stability_threshold yet",
            Self::MinAge => "it has not been seen for min_age yet",
            Self::Settle => "the quiet time after its last change is not over",
            Self::DoneFile => "its done file is not there",
            Self::Unreadable => "dagd may not read it",
            Self::ChecksumFile => "its checksum_file is not there, or has no line for it",
            Self::ChecksumDiffers => "its content is not the one that its checksum_file tells",
            Self::SameKey => "another file with the same idempotent_key is to be delivered",
            Self::Loop => {
                "each of more than max_hops runs in a row seems to have written the file that \
                 started the next; `dagd resume TRIGGER` lets it go on"
            }
            Self::Unreachable => "its path is longer than any that a program can open",
        }
    }
}

/// Where a candidate stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Not ready; looked at again at the instant, or sooner if something happens.
    Pending(Pending, Option<Mono>),
    /// Ready but for a check, which has this number. `again`: it was looked at since, so that a
    /// finding against it may be out of date.
    Checking {
        /// The number.
        number: u64,
        /// Whether it is to be checked again.
        again: bool,
    },
    /// Ready, waiting for its run.
    Ready,
    /// Delivered to a live run. `changed`: something happened to it since, look again at the end.
    Claimed {
        /// The run.
        run: RunId,
        /// Whether a look is due when the run has ended.
        changed: bool,
    },
}

/// A file version on its way to a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Where it stands.
    pub stage: Stage,
    /// What happened to the file.
    pub kind: Kind,
    /// The version; for a deletion the one that was.
    pub version: Version,
    /// Why it was found.
    pub origin: Origin,
    /// When this version was seen first.
    pub first_seen: Mono,
    /// The same by the calendar.
    pub first_seen_at: Wall,
    /// When it was last seen to change.
    pub last_change: Mono,
    /// When the file was first waited for, through all its versions.
    pub waiting_since: Mono,
    /// Looks in vain so far, for the backoff.
    pub looks: u32,
    /// Arrival order among the trigger's candidates.
    pub order: u64,
    /// Whether a scan has come by since the last one was over.
    pub scanned: bool,
    /// The runs that may have caused each other before this version.
    pub lineage: Lineage,
    /// Until when it waits because of that.
    pub held_until: Option<Mono>,
    /// Whether it was told that it has waited for longer than `ready_alarm`.
    pub alarmed: bool,
    /// What the check of this version found, if it passed one.
    pub passed: Option<Passed>,
}

/// A check that was passed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passed {
    /// The key, where one is asked for.
    pub key: Option<Bytes>,
    /// Its turn among those of the trigger that passed: of several with one key the first counts.
    pub turn: u64,
}

/// What an observation means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The delivered version is still there, or there is nothing and never was.
    Nothing,
    /// The delivered version has left its path: the row is closed.
    Departed,
    /// A version that is no work under this trigger's `kinds` is remembered as seen.
    Noted(Version),
    /// A version that is no work, by its name or its size. What is remembered of the path stays.
    Ignored,
    /// There is work.
    Work(Kind, Version, Readiness),
}

/// Compares what is on disk with what the ledger remembers and what is already under way.
/// `live` is the path's candidate if it is not claimed; `hinted` tells that the kernel hinted at
/// the path, which restarts `settle`.
pub fn decide(
    spec: &FolderSpec,
    seen: &Seen,
    live: Option<&Candidate>,
    hinted: bool,
    now: Mono,
) -> Decision {
    let delivered = seen.row.as_ref().filter(|row| row.open);
    match &seen.disk {
        Disk::Absent | Disk::Other => match delivered {
            Some(row) if spec.kinds.contains(&Kind::Deleted) => {
                Decision::Work(Kind::Deleted, row.version.clone(), Readiness::Ready)
            }
            Some(_) => Decision::Departed,
            None => Decision::Nothing,
        },
        Disk::File { version, probe } => {
            let kind = match delivered {
                Some(row) if row.tells_of(version) => return Decision::Nothing,
                Some(_) => Kind::Modified,
                None => Kind::Created,
            };
            // The core may ask for a path whose name counted under the configuration before, or which
            // a person named.
            if spec.rejects(&seen.rel).is_some() {
                return Decision::Ignored;
            }
            // The size of a file that is being written is not its last. But whoever changes it has
            // it open for writing, and its close is a hint: no need to look again before. That
            // holds wherever there are hints, whatever `read_lock` is; elsewhere scans come by.
            if version.is_known() && spec.rejects_size(version.size).is_some() {
                return Decision::Ignored;
            }
            let readiness = ready::readiness(spec, version, *probe, live, hinted, now);
            // A part of a file is no version: what comes behind it would be another one.
            let whole = version.is_known() && readiness == Readiness::Ready;
            if whole && !spec.kinds.contains(&kind) {
                return Decision::Noted(version.clone());
            }
            Decision::Work(kind, version.clone(), readiness)
        }
    }
}
