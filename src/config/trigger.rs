//! Reads triggers and their defaults.
//!
//! From a TOML table to a [`RawTrigger`]: every key that was written, typed, with its place. What
//! the keys mean together is decided in [`super::triggers`].

use std::path::PathBuf;
use std::time::Duration;

use jiff::tz::TimeZone;

use super::diagnostics::Span;
use super::keys::TRIGGER;
use super::reader::{At, Reader, Value};
use super::signals::TriggerSignal;
use super::task::not_zero;
use super::{times, values};
use crate::core::bound::OnRemoval;
use crate::core::candidate::Kind;
use crate::core::filter::{KeyPattern, Pattern};
use crate::core::id::Name;
use crate::core::selector::Selector;
use crate::core::sidecar::{Checksum, Sidecar};
use crate::core::template::Template;
use crate::core::trigger::{
    Backend, CatchUp, FanOut, FileType, FollowSymlinks, IdempotentKey, InitialScan, OnConflict,
    RateLimit, ReadLock, Sort,
};

/// The largest `max_runs` that can be asked for: as many as the daemon can have alive.
const RUNS_MAX: i64 = 100_000;

/// The largest `initial_max`.
const INITIAL_MAX: i64 = 1_000_000_000;

/// The largest batch: its files wait in memory, and its run's record names each.
const BATCH_MAX: i64 = 50_000;

/// The longest row of runs that cause each other.
const HOPS_MAX: i64 = 1_000;

/// `on_overlap` as written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OverlapWord {
    /// "queue"
    Queue,
    /// "coalesce"
    Coalesce,
    /// "parallel"
    Parallel,
    /// "restart"
    Restart,
    /// "skip"
    Skip,
    /// "signal"
    Signal,
}

/// A trigger as written, or the defaults of all.
#[derive(Clone, Debug, Default)]
pub struct RawTrigger<'s> {
    /// The keys that were written.
    pub keys: Vec<(&'s str, Span)>,
    /// `drop` or `watch`, if it could be read.
    pub root: Option<At<PathBuf>>,
    /// `signal`, if it could be read.
    pub signal: Option<(TriggerSignal, Name)>,
    /// `schedule`.
    pub schedule: Option<At<&'s str>>,
    /// `timezone`: the zone and its name.
    pub timezone: Option<(TimeZone, String)>,
    /// `catch_up`.
    pub catch_up: Option<CatchUp>,
    /// `absent`.
    pub absent: Option<Duration>,
    /// `of`.
    pub of: Option<At<&'s str>>,
    /// `run`: the parts that could be read.
    pub run: Vec<At<Selector>>,
    /// `recursive`.
    pub recursive: Option<bool>,
    /// `include`.
    pub include: Option<Vec<At<&'s str>>>,
    /// `exclude`.
    pub exclude: Option<Vec<At<&'s str>>>,
    /// `default_ignores`.
    pub default_ignores: Option<bool>,
    /// `hidden`.
    pub hidden: Option<bool>,
    /// `kinds`.
    pub kinds: Option<Vec<Kind>>,
    /// `read_lock`.
    pub read_lock: Option<ReadLock>,
    /// `stability_threshold`.
    pub stability_threshold: Option<Duration>,
    /// `settle`.
    pub settle: Option<Duration>,
    /// `max_wait`.
    pub max_wait: Option<At<Duration>>,
    /// `fan_out`.
    pub fan_out: Option<At<FanOut>>,
    /// `on_overlap`.
    pub on_overlap: Option<At<OverlapWord>>,
    /// `overlap_signal`.
    pub overlap_signal: Option<At<i32>>,
    /// `allow_loss`.
    pub allow_loss: Option<bool>,
    /// `max_runs`.
    pub max_runs: Option<At<usize>>,
    /// `on_removal`.
    pub on_removal: Option<OnRemoval>,
    /// `order_key`.
    pub order_key: Option<At<Template>>,
    /// `initial_scan`.
    pub initial_scan: Option<InitialScan>,
    /// `initial_max`.
    pub initial_max: Option<u64>,
    /// `move`.
    pub move_to: Option<At<Template>>,
    /// `move_failed`.
    pub move_failed: Option<At<Template>>,
    /// `reconcile_interval`.
    pub reconcile_interval: Option<Duration>,
    /// `sender_uid`.
    pub sender_uid: Option<Vec<u32>>,
    /// `min_depth`.
    pub min_depth: Option<At<u32>>,
    /// `max_depth`.
    pub max_depth: Option<At<u32>>,
    /// `follow_symlinks`.
    pub follow_symlinks: Option<FollowSymlinks>,
    /// `cross_filesystem`.
    pub cross_filesystem: Option<bool>,
    /// `gitignore`.
    pub gitignore: Option<bool>,
    /// `backend`.
    pub backend: Option<Backend>,
    /// `poll_interval`.
    pub poll_interval: Option<Duration>,
    /// `file_type`.
    pub file_type: Option<At<FileType>>,
    /// `min_size`.
    pub min_size: Option<At<u64>>,
    /// `max_size`.
    pub max_size: Option<At<u64>>,
    /// `min_age`.
    pub min_age: Option<Duration>,
    /// `ready_alarm`.
    pub ready_alarm: Option<Duration>,
    /// `done_file`.
    pub done_file: Option<At<Sidecar>>,
    /// `checksum_file`.
    pub checksum_file: Option<At<(Sidecar, Checksum)>>,
    /// `set`.
    pub set: Option<Vec<At<Pattern>>>,
    /// `set_key`.
    pub set_key: Option<At<KeyPattern>>,
    /// `batch_max_files`.
    pub batch_max_files: Option<At<usize>>,
    /// `batch_max_wait`.
    pub batch_max_wait: Option<At<Duration>>,
    /// `sort_by`.
    pub sort_by: Option<Vec<Sort>>,
    /// `rate_limit`.
    pub rate_limit: Option<RateLimit>,
    /// `idempotent_key`.
    pub idempotent_key: Option<At<IdempotentKey>>,
    /// `renamed_from`.
    pub renamed_from: Option<At<&'s str>>,
    /// `pre_move`.
    pub pre_move: Option<At<Template>>,
    /// `delete`.
    pub delete: Option<At<bool>>,
    /// `on_conflict`.
    pub on_conflict: Option<OnConflict>,
    /// `max_hops`.
    pub max_hops: Option<u32>,
}

impl<'s> RawTrigger<'s> {
    /// Where `key` was written.
    pub fn key(&self, key: &str) -> Option<Span> {
        self.keys.iter().find(|(name, _)| *name == key).map(|(_, span)| *span)
    }

    /// Reads one key of a trigger.
    pub fn read(&mut self, reader: &mut Reader<'s>, value: Value<'s>) {
        self.keys.push((value.name, value.key));
        let known = self.read_source(reader, value)
            || self.read_scope(reader, value)
            || self.read_readiness(reader, value)
            || self.read_grouping(reader, value)
            || self.read_end(reader, value);
        if !known {
            reader.unknown(&TRIGGER, value);
        }
    }

    /// Where events come from and what they start.
    fn read_source(&mut self, reader: &mut Reader<'s>, value: Value<'s>) -> bool {
        match value.name {
            "drop" | "watch" => self.root = reader.path(value).map(|path| value.at(path)),
            "signal" => self.signal = values::signal(reader, value),
            "schedule" => self.schedule = reader.text(value).map(|text| value.at(text)),
            "timezone" => self.timezone = times::timezone(reader, value),
            "catch_up" => self.catch_up = reader.choice(value, &CATCH_UPS, &[]),
            "absent" => {
                let help = "say how long the other trigger may be silent, as in absent = \"6h\"";
                self.absent = reader
                    .duration(value)
                    .filter(|after| not_zero(reader, value, after.is_zero(), help));
            }
            "of" => self.of = reader.text(value).map(|text| value.at(text)),
            "sender_uid" => self.sender_uid = Some(values::uids(reader, value)),
            "run" => self.run = values::run(reader, value),
            "renamed_from" => self.renamed_from = values::trigger_name(reader, value),
            "initial_scan" => self.initial_scan = reader.choice(value, &INITIAL_SCANS, &[]),
            "initial_max" => {
                let read = reader.int(value, 0..=INITIAL_MAX);
                self.initial_max = read.and_then(|int| int.try_into().ok());
            }
            _ => return false,
        }
        true
    }

    /// Which files count, and how changes are noticed.
    fn read_scope(&mut self, reader: &mut Reader<'s>, value: Value<'s>) -> bool {
        match value.name {
            "recursive" => self.recursive = reader.flag(value),
            "min_depth" => self.min_depth = values::depth(reader, value),
            "max_depth" => self.max_depth = values::depth(reader, value),
            "include" => self.include = values::patterns(reader, value),
            "exclude" => self.exclude = values::patterns(reader, value),
            "default_ignores" => self.default_ignores = reader.flag(value),
            "hidden" => self.hidden = reader.flag(value),
            "gitignore" => self.gitignore = reader.flag(value),
            "follow_symlinks" => self.follow_symlinks = reader.choice(value, &SYMLINKS, &[]),
            "cross_filesystem" => self.cross_filesystem = reader.flag(value),
            "kinds" => self.kinds = values::kinds(reader, value),
            "file_type" => {
                let read = reader.choice(value, &FILE_TYPES, &[]);
                self.file_type = read.map(|file_type| value.at(file_type));
            }
            "min_size" => self.min_size = reader.size(value).map(|size| value.at(size)),
            "max_size" => self.max_size = reader.size(value).map(|size| value.at(size)),
            "backend" => self.backend = reader.choice(value, &BACKENDS, &[]),
            "poll_interval" => self.poll_interval = values::poll_interval(reader, value),
            "reconcile_interval" => {
                let help = "leave it out for no regular scans";
                self.reconcile_interval = reader
                    .duration(value)
                    .filter(|interval| not_zero(reader, value, interval.is_zero(), help));
            }
            _ => return false,
        }
        true
    }

    /// When a file is complete.
    fn read_readiness(&mut self, reader: &mut Reader<'s>, value: Value<'s>) -> bool {
        match value.name {
            "read_lock" => self.read_lock = reader.choice(value, &READ_LOCKS, &[]),
            "stability_threshold" => {
                let help = "to wait for nothing, write read_lock = \"none\"";
                self.stability_threshold = reader
                    .duration(value)
                    .filter(|threshold| not_zero(reader, value, threshold.is_zero(), help));
            }
            "min_age" => self.min_age = reader.duration(value),
            "settle" => self.settle = reader.duration(value),
            "max_wait" => self.max_wait = reader.duration(value).map(|wait| value.at(wait)),
            "ready_alarm" => self.ready_alarm = reader.duration(value),
            "done_file" => self.done_file = values::sidecar(reader, value),
            "checksum_file" => self.checksum_file = values::checksum(reader, value),
            _ => return false,
        }
        true
    }

    /// How files become runs, and when.
    fn read_grouping(&mut self, reader: &mut Reader<'s>, value: Value<'s>) -> bool {
        match value.name {
            "fan_out" => {
                let read = reader.choice(value, &FAN_OUTS, &[]);
                self.fan_out = read.map(|fan_out| value.at(fan_out));
            }
            "set" => self.set = values::set(reader, value),
            "set_key" => self.set_key = values::key_pattern(reader, value),
            "batch_max_files" => {
                let read = reader.int(value, 1..=BATCH_MAX);
                self.batch_max_files = read.and_then(|int| Some(value.at(int.try_into().ok()?)));
            }
            "batch_max_wait" => {
                self.batch_max_wait = reader.duration(value).map(|wait| value.at(wait));
            }
            "sort_by" => self.sort_by = values::sort_by(reader, value),
            "on_overlap" => {
                let read = reader.choice(value, &OVERLAPS, &[]);
                self.on_overlap = read.map(|overlap| value.at(overlap));
            }
            "overlap_signal" => self.overlap_signal = values::overlap_signal(reader, value),
            "allow_loss" => self.allow_loss = reader.flag(value),
            "max_runs" => {
                let read = reader.int(value, 1..=RUNS_MAX);
                self.max_runs = read.and_then(|int| Some(value.at(int.try_into().ok()?)));
            }
            "order_key" => self.order_key = values::order_key(reader, value),
            "rate_limit" => self.rate_limit = values::rate(reader, value),
            "on_removal" => self.on_removal = reader.choice(value, &REMOVALS, &[]),
            "idempotent_key" => self.idempotent_key = values::idempotent_key(reader, value),
            "max_hops" => {
                let read = reader.int(value, 1..=HOPS_MAX);
                self.max_hops = read.and_then(|int| int.try_into().ok());
            }
            _ => return false,
        }
        true
    }

    /// What becomes of files.
    fn read_end(&mut self, reader: &mut Reader<'s>, value: Value<'s>) -> bool {
        match value.name {
            "pre_move" => self.pre_move = values::target(reader, value),
            "move" => self.move_to = values::target(reader, value),
            "move_failed" => self.move_failed = values::target(reader, value),
            "delete" => self.delete = reader.flag(value).map(|flag| value.at(flag)),
            "on_conflict" => self.on_conflict = reader.choice(value, &CONFLICTS, &[]),
            _ => return false,
        }
        true
    }
}

const REMOVALS: [(&str, OnRemoval); 2] = [("drain", OnRemoval::Drain), ("drop", OnRemoval::Drop)];

const CATCH_UPS: [(&str, CatchUp); 3] =
    [("last", CatchUp::Last), ("all", CatchUp::All), ("none", CatchUp::None)];

const READ_LOCKS: [(&str, ReadLock); 4] = [
    ("auto", ReadLock::Auto),
    ("lease", ReadLock::Lease),
    ("changed", ReadLock::Changed),
    ("none", ReadLock::None),
];

const FAN_OUTS: [(&str, FanOut); 4] =
    [("file", FanOut::File), ("batch", FanOut::Batch), ("dir", FanOut::Dir), ("key", FanOut::Key)];

const SYMLINKS: [(&str, FollowSymlinks); 3] = [
    ("never", FollowSymlinks::Never),
    ("files", FollowSymlinks::Files),
    ("all", FollowSymlinks::All),
];

const FILE_TYPES: [(&str, FileType); 2] = [("file", FileType::File), ("dir", FileType::Dir)];

const BACKENDS: [(&str, Backend); 4] = [
    ("auto", Backend::Auto),
    ("inotify", Backend::Inotify),
    ("fanotify", Backend::Fanotify),
    ("poll", Backend::Poll),
];

const CONFLICTS: [(&str, OnConflict); 4] = [
    ("rename", OnConflict::Rename),
    ("replace", OnConflict::Replace),
    ("fail", OnConflict::Fail),
    ("keep", OnConflict::Keep),
];

const OVERLAPS: [(&str, OverlapWord); 6] = [
    ("queue", OverlapWord::Queue),
    ("coalesce", OverlapWord::Coalesce),
    ("parallel", OverlapWord::Parallel),
    ("restart", OverlapWord::Restart),
    ("skip", OverlapWord::Skip),
    ("signal", OverlapWord::Signal),
];

const INITIAL_SCANS: [(&str, InitialScan); 2] =
    [("unprocessed", InitialScan::Unprocessed), ("baseline", InitialScan::Baseline)];
