//! A trigger's live side: its candidates, what waits for a run, what is busy.
//!
//! Candidates are never recorded: what is not claimed by a run is found again by the next scan.
//! Memory is bounded by the marks: above the high one the folder is the queue.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::checks::Checks;
use super::groups::{Groups, Standing};
use super::rate::Bucket;
use super::stamps::Unseen;
use super::waiting::Waiting;
use crate::core::bound::Bound;
use crate::core::calendar::TimeMark;
use crate::core::candidate::{Candidate, Lineage, Stage};
use crate::core::effect::{Command, Out};
use crate::core::fill::expand;
use crate::core::id::{ItemId, Mono, Name, Now, RunId, Wall};
use crate::core::path::Bytes;
use crate::core::record::{ItemQueued, SignalInfo};
use crate::core::trigger::{Folder, InitialScan, Overlap, Source, TriggerSpec};

/// Ready candidates above which a lane asks for no more, enough to keep any number of slots busy.
pub const READY_HIGH: usize = 2048;
/// Ready candidates below which it asks again.
pub const READY_LOW: usize = 1024;
/// Candidates of any kind above which it asks for no more: files that never become ready must not
/// fill the memory.
pub const CANDIDATES_MAX: usize = 65_536;

/// Candidates of any kind above which those that no time makes ready are not remembered. If they
/// filled the lane, it would ask for no more hints, and nothing would ever empty it. Most are found
/// again by the event that makes them ready, a hint at their name; for the others the folder is
/// gone through once more when there is room for [`READY_HIGH`].
pub const WAITING_MAX: usize = CANDIDATES_MAX / 2;

/// Files of a trigger that are told to be late within [`ALARMS_PERIOD`], at most: the log is no
/// list of them. All are counted.
pub const ALARMS_MAX: u32 = 16;
/// See [`ALARMS_MAX`].
const ALARMS_PERIOD: Duration = Duration::from_mins(1);

/// Accepted events that wait for a run, per trigger: signals beyond that wait in the kernel, or are
/// merged where the policy merges; starts by hand are refused; and no more files are asked for, as
/// each can make one give way that becomes such an event. Until half of them have gone.
pub const ITEMS_MAX: usize = 4096;

/// Runs of a trigger whose files cannot be moved at present, above which it gets no more: where the
/// target is full or away, the folder is the queue. So many count towards no limit but their
/// trigger's, or a target that is away would keep all other triggers from running.
pub const STUCK_MAX: usize = 32;

/// A trigger's live side.
#[derive(Debug)]
pub struct Lane {
    /// The trigger.
    pub spec: Arc<TriggerSpec>,
    /// What is stored of it.
    pub stored: Stored,
    /// When its schedule is due next.
    pub due: Option<Wall>,
    /// When the silence that it listens to will have lasted long enough.
    pub silence: Option<Mono>,
    /// The timer that looks whether it has.
    pub(super) ear: Option<Mono>,
    /// Whether its first scan is still under way.
    pub gate: Gate,
    /// Whether its folder was gone through since it was armed.
    pub(super) caught_up: bool,
    /// Live candidates by path below the root.
    pub candidates: BTreeMap<Bytes, Candidate>,
    /// Files that live runs have taken away, with their rows.
    pub(super) away: BTreeMap<(Bytes, RunId), Lineage>,
    /// Accepted events that wait for a run.
    pub items: Waiting,
    /// Live runs.
    pub live_runs: usize,
    /// Those of which a file cannot be moved at present.
    pub(super) stuck: BTreeSet<RunId>,
    /// Live runs by key.
    pub live: BTreeMap<Bytes, u32>,
    pub(super) next_order: u64,
    /// The ready ones among the candidates.
    pub(super) groups: Groups,
    /// What `rate_limit` lets start.
    pub(super) bucket: Option<Bucket>,
    /// When the rate lets another run start, if that is all that one waits for.
    pub(super) rated: Option<Mono>,
    /// The timer that looks at it next.
    pub(super) alarm: Option<Mono>,
    /// Whether the watch side was asked to hold.
    pub(super) held: bool,
    /// Whether the folder holds files for which there was no room, and of which perhaps no hint will tell.
    left_out: bool,
    /// What is being checked, and keys.
    pub(super) checks: Checks,
    /// Paths at which more may have happened than is known here.
    pub(super) unseen: Unseen,
    /// When files that miss a member of their set may have waited for too long.
    pub(super) late_at: Option<Mono>,
    /// Since when late files are counted, and how many were told.
    told_late: (Mono, u32),
}

/// How a ready file waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wait<'a> {
    /// For a ready file that matches each of these patterns.
    Set(Vec<&'a str>),
    /// For more files, until then.
    Gathering(Mono),
    /// For its trigger's rate, until then.
    Rate(Mono),
    /// For files of its trigger's runs, which cannot be moved.
    Moves,
    /// For its turn.
    Turn,
}

/// What is stored of a trigger.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stored {
    /// Why it takes no work, if it does not.
    pub paused: Option<String>,
    /// Whether it is the first scan that paused it, by what it found.
    pub flooded: bool,
    /// Whether the ledger tells what is new.
    pub armed: bool,
    /// Since when it is not configured, if it is not.
    pub left: Option<Wall>,
    /// Up to where its schedule or its silence is settled.
    pub mark: Option<TimeMark>,
    /// What its accepted events need should it leave the configuration.
    pub bound: Option<Box<Bound>>,
}

/// What a lane's first scan waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// The count of what a first scan would deliver.
    Counting,
    /// The end of the scan that remembers what is there.
    Baseline,
    /// Nothing: there is no first scan, or it is decided.
    Open,
}

/// What becomes a run.
#[derive(Debug)]
pub(super) enum Unit {
    Items(Vec<ItemId>),
    /// Files of a group.
    Files {
        key: Bytes,
        rels: Vec<Bytes>,
    },
}

impl Lane {
    pub(super) fn new(spec: Arc<TriggerSpec>) -> Self {
        Self {
            bucket: spec.rate_limit.map(Bucket::full),
            spec,
            stored: Stored::default(),
            due: None,
            silence: None,
            ear: None,
            gate: Gate::Open,
            caught_up: false,
            candidates: BTreeMap::new(),
            away: BTreeMap::new(),
            items: Waiting::default(),
            live_runs: 0,
            stuck: BTreeSet::new(),
            live: BTreeMap::new(),
            next_order: 0,
            groups: Groups::default(),
            rated: None,
            alarm: None,
            held: false,
            left_out: false,
            checks: Checks::default(),
            unseen: Unseen::default(),
            late_at: None,
            told_late: (Mono(0), 0),
        }
    }

    /// Another configuration is in force. A bucket stays as full as it is while its limit stays.
    pub(super) fn configure(&mut self, spec: Arc<TriggerSpec>) {
        let limit = self.bucket.as_ref().map(Bucket::limit);
        if limit != spec.rate_limit {
            self.bucket = spec.rate_limit.map(Bucket::full);
        }
        self.spec = spec;
    }

    /// When a candidate that waits will have waited for too long, unless it was told. If it has, it
    /// is told now.
    pub(super) fn late(
        &mut self,
        trigger: &Name,
        rel: &Bytes,
        now: Now,
        out: &mut Out,
    ) -> Option<Mono> {
        let alarm = self.spec.folder()?.ready_alarm?;
        let candidate = self.candidates.get_mut(rel).filter(|candidate| !candidate.alarmed)?;
        let since = candidate.waiting_since;
        if since.after(alarm) > now.mono {
            return Some(since.after(alarm));
        }
        candidate.alarmed = true;
        let (period, told) = &mut self.told_late;
        if period.until(now.mono) >= ALARMS_PERIOD {
            (*period, *told) = (now.mono, 0);
        }
        *told = told.saturating_add(1);
        if *told <= ALARMS_MAX {
            let waited = i64::try_from(since.until(now.mono).as_nanos()).unwrap_or(i64::MAX);
            let since = Wall(now.wall.0.saturating_sub(waited));
            let (trigger, rel, last) = (trigger.clone(), rel.clone(), *told == ALARMS_MAX);
            out.commands.push(Command::Alarm { trigger, rel, since, last });
        }
        None
    }

    /// Whether a candidate is ready but for others of its set.
    pub fn is_incomplete(&self, candidate: &Candidate) -> bool {
        self.groups.standing(candidate.order) == Some(Standing::Incomplete)
    }

    /// What the first scan has to wait for.
    pub(super) fn first_gate(&self) -> Gate {
        let Some(folder) = self.spec.folder().filter(|_| !self.stored.armed) else {
            return Gate::Open;
        };
        let takes = folder.delete || folder.pre_move.is_some() || folder.move_to.is_some();
        let stays = folder.folder == Folder::Drop && !takes;
        match folder.initial_scan {
            InitialScan::Baseline => Gate::Baseline,
            InitialScan::Unprocessed if stays => Gate::Counting,
            InitialScan::Unprocessed => Gate::Open,
        }
    }

    /// The key under which a run for this file or signal is busy.
    pub(super) fn key(&self, file: Option<&Bytes>, signal: Option<&SignalInfo>) -> Bytes {
        let whole = || Bytes::from(&*self.spec.name);
        if let Some(group) = file.and_then(|rel| self.spec.group(rel)) {
            return group.key().clone();
        }
        let root = self.spec.folder().map(|folder| Bytes::from(folder.root.as_path()));
        let template = self.spec.order_key.as_ref();
        let key = template.and_then(|of| expand(of, &self.spec.name, root.as_ref(), file, signal));
        key.unwrap_or_else(whole)
    }

    /// Whether a run with this key is alive, and is all that what has just come has to wait for: a
    /// trigger that is paused takes no new work, and nothing gives way to it.
    pub(super) fn is_busy(&self, key: &Bytes) -> bool {
        self.live.contains_key(key) && self.stored.paused.is_none() && self.gate == Gate::Open
    }

    /// Whether a run with this key may start beside those that are alive.
    pub(super) fn may_start(&self, key: &Bytes) -> bool {
        !holds_up(&self.spec, &self.live, key)
    }

    /// What becomes a run next, if anything may.
    pub(super) fn next_unit(&mut self, now: Mono) -> Option<Unit> {
        self.rated = None;
        let full = self.spec.max_runs.is_some_and(|max| self.live_runs >= max);
        if self.stored.paused.is_some()
            || self.is_stuck()
            || (full && self.spec.overlap != Overlap::Parallel)
        {
            return None;
        }
        let by_items = |back| self.next_items(back).map(Unit::Items);
        let by_files = || self.next_files();
        let unit = by_items(false).or_else(by_files).or_else(|| by_items(true))?;
        self.rated = self.bucket.as_ref().and_then(|bucket| bucket.fills(now));
        self.rated.is_none().then_some(unit)
    }

    /// `back`: those that gave way, otherwise the others.
    fn next_items(&self, back: bool) -> Option<Vec<ItemId>> {
        let first = self.items.next(back)?;
        let merge = self.spec.overlap == Overlap::Coalesce;
        Some(if merge { self.items.merged(first) } else { vec![first] })
    }

    fn next_files(&self) -> Option<Unit> {
        let folder = self.spec.folder().filter(|_| self.gate == Gate::Open)?;
        let key = self.groups.next()?;
        // What comes last makes all that came before give way, whether that has begun or not.
        let newest = self.spec.overlap == Overlap::Restart && folder.sort_by.is_empty();
        Some(Unit::Files { key: key.clone(), rels: self.groups.next_of(folder, key, newest) })
    }

    /// Whether its folder was not yet gone through since it was armed, and is to be: what came
    /// before may be unknown.
    pub fn is_scanning(&self) -> bool {
        let asked = self.stored.flooded && self.stored.paused.is_some();
        self.spec.folder().is_some() && !self.caught_up && !asked
    }

    /// When something may become a run without another event.
    pub(super) fn wakes(&self) -> Option<Mono> {
        self.groups.closes().into_iter().chain(self.rated).min()
    }

    /// When time lets it start a run next, unless something else happens.
    pub fn next_at(&self) -> Option<Wall> {
        let silent = self.stored.mark.as_ref().filter(|mark| !mark.told);
        match &self.spec.source {
            Source::Absent { after, .. } => silent.map(|mark| mark.at.after(*after)),
            Source::Folder(_) | Source::Signal { .. } | Source::Schedule(_) => self.due,
        }
    }

    /// For how a ready file waits.
    pub fn wait(&self, candidate: &Candidate) -> Wait<'_> {
        let folder = self.spec.folder();
        match (self.groups.standing(candidate.order), folder) {
            (Some(Standing::Incomplete), Some(folder)) => {
                Wait::Set(self.groups.missing(folder, candidate.order))
            }
            (Some(Standing::Gathering(at)), _) => Wait::Gathering(at),
            _ if self.is_stuck() => Wait::Moves,
            _ => self.rated.map_or(Wait::Turn, Wait::Rate),
        }
    }

    /// When its rate lets it have another run, if that is what it waits for.
    pub fn rated(&self) -> Option<Mono> {
        self.rated
    }

    /// Whether files of so many of its runs cannot be moved that it gets no more.
    pub fn is_stuck(&self) -> bool {
        self.stuck.len() >= STUCK_MAX
    }

    /// Files that are ready and not yet claimed, those that wait for others of their set left out.
    pub fn queued(&self) -> usize {
        self.groups.len() - self.groups.incomplete()
    }

    /// Files that are ready but for others of their set.
    pub fn incomplete(&self) -> usize {
        self.groups.incomplete()
    }

    /// Whether the watch side should send no more. What gathers or misses a member of its set does
    /// not count as ready: a lane that is full of it would never get the rest.
    pub(super) fn is_full(&self) -> bool {
        self.groups.queued() >= READY_HIGH
            || self.candidates.len() >= CANDIDATES_MAX
            || self.items.len() >= ITEMS_MAX
    }

    /// Whether it may send again.
    pub(super) fn has_room(&self) -> bool {
        self.groups.queued() < READY_LOW
            && self.candidates.len() < CANDIDATES_MAX
            && self.items.len() < ITEMS_MAX / 2
    }

    /// Forgets a candidate that may wait for ever, if there are too many. Returns whether it did.
    /// `told`: a hint at its name ends its wait.
    pub(super) fn leave_out(&mut self, rel: &Bytes, told: bool, now: Mono) -> bool {
        let crowded = self.candidates.len() > WAITING_MAX;
        if crowded {
            self.left_out |= !told;
            self.unseen.insert(rel);
            self.forget(rel, now);
        }
        crowded
    }

    /// Whether there is room for what was left out; asked once.
    pub(super) fn wants_rest(&mut self) -> bool {
        let room = self.left_out && self.candidates.len() + READY_HIGH <= WAITING_MAX;
        self.left_out &= !room;
        room
    }

    /// Checks that what is ready is in its group, and nothing else.
    ///
    /// # Panics
    /// When it is not.
    pub(super) fn check(&self, items: &BTreeMap<ItemId, ItemQueued>) {
        let ready = self.candidates.iter().filter(|(_, c)| c.stage == Stage::Ready);
        let mut many = 0;
        for (rel, candidate) in ready {
            many += 1;
            assert!(self.groups.is(candidate.order, rel), "a ready candidate is in its group");
        }
        assert_eq!(many, self.groups.len(), "nothing is ready but candidates");
        let held = |key: &Bytes| holds_up(&self.spec, &self.live, key);
        self.groups.check(held);
        let claimed = |rel: &Bytes| is_claimed(&self.candidates, rel);
        self.items.check(held, claimed, items);
    }
}

/// Whether a run has claimed the path.
pub(super) fn is_claimed(candidates: &BTreeMap<Bytes, Candidate>, rel: &Bytes) -> bool {
    let stage = candidates.get(rel).map(|candidate| &candidate.stage);
    matches!(stage, Some(Stage::Claimed { .. }))
}

/// Whether runs that are alive keep one with this key from starting.
pub(super) fn holds_up(spec: &TriggerSpec, live: &BTreeMap<Bytes, u32>, key: &Bytes) -> bool {
    match spec.overlap {
        Overlap::Parallel => false,
        // Without keys of its own the trigger is limited by `max_runs` alone.
        Overlap::Queue => spec.has_keys() && live.contains_key(key),
        Overlap::Coalesce | Overlap::Restart | Overlap::Skip | Overlap::Signal(_) => {
            live.contains_key(key)
        }
    }
}
