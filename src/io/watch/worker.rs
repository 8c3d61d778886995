//! The watch thread: takes orders and hints, and does one bounded step of everything in turn.
//!
//! Sleeps when there is nothing to do, with a timeout only where a timer is pending. Hints are
//! served between any two steps of what takes long.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use indexmap::IndexSet;

use crate::core::id::Name;
use crate::core::path::Bytes;

use super::cover::{Cover, News};
use super::descend::Reading;
use super::desk::Desk;
use super::dirty::{Inbox, Order, Serving};
use super::hints::Closing;
use super::listing::Listings;
use super::mounts::{self, Mounts};
use super::places::Places;
use super::recover::Recovery;
use super::report::{Reporter, Stopped};
use super::roots::Armed;
use super::scan::Walk;
use super::sweep::Sweep;
use super::{Coverage, Published, ToWatch};

/// How often directories that cannot be watched are polled, while there are any.
pub const POLL: Duration = Duration::from_secs(5);

/// Turns after which the coverage is published although there is still work.
const PUBLISH_TURNS: u64 = 64;

/// The state of the watch thread.
#[expect(clippy::struct_excessive_bools, reason = "they have nothing to do with each other")]
pub struct Worker {
    pub(super) inbox: Arc<Inbox>,
    pub(super) reporter: Reporter,
    pub(super) triggers: Vec<Armed>,
    pub(super) cover: Cover,
    pub(super) reading: Reading,
    pub(super) hints: Serving,
    pub(super) closing: Vec<Closing>,
    /// Files of which only attributes changed, by trigger and path relative to its root. No more
    /// hints are taken before all are looked at.
    pub(super) stamps: IndexSet<(Name, Bytes)>,
    /// Links to be looked at, by trigger and path relative to its root.
    pub(super) links: BTreeMap<(Name, Bytes), News>,
    pub(super) walks: VecDeque<Walk>,
    pub(super) sweeps: VecDeque<Sweep>,
    /// Whether directories may be covered that nobody wants any more.
    pub(super) unwanted: bool,
    pub(super) listings: Listings,
    /// Whether the published coverage is out of date.
    pub(super) changed: bool,
    coverage: Published,
    /// The arming that is not covered yet.
    pub(super) uncovered: Option<u64>,
    /// Its number among the workers.
    pub(super) number: u64,
    pub(super) places: Arc<Places>,
    pub(super) desk: Arc<Desk>,
    /// Times that hints were lost, for all workers.
    pub(super) overflows: Arc<AtomicU64>,
    /// Whether it serves one root that may hang.
    pub(super) apart: bool,
    pub(super) mounts: Mounts,
    pub(super) mount_news: mounts::News,
    /// Whether the table of mounts could not be read the last time.
    pub(super) unread_mounts: bool,
    /// The problems that were logged last.
    logged: BTreeSet<(Name, String)>,
    pub(super) recovery: Recovery,
    poll_at: Option<Instant>,
    turns: u64,
}

impl Worker {
    /// A worker without triggers.
    pub fn new(
        number: u64,
        inbox: Arc<Inbox>,
        reporter: Reporter,
        places: Arc<Places>,
        desk: Arc<Desk>,
        coverage: Published,
    ) -> Self {
        Self {
            cover: Cover::new(&inbox),
            inbox,
            reporter,
            triggers: Vec::new(),
            reading: Reading::default(),
            hints: Serving::default(),
            closing: Vec::new(),
            stamps: IndexSet::new(),
            links: BTreeMap::new(),
            walks: VecDeque::new(),
            sweeps: VecDeque::new(),
            unwanted: false,
            listings: Listings::default(),
            changed: false,
            coverage,
            uncovered: None,
            number,
            places,
            overflows: desk.overflows.clone(),
            desk,
            apart: false,
            mounts: Mounts::default(),
            mount_news: mounts::News::since_now(),
            unread_mounts: false,
            logged: BTreeSet::new(),
            recovery: Recovery::default(),
            poll_at: None,
            turns: 0,
        }
    }

    /// Runs until it is told to stop or nobody listens.
    pub fn run(mut self) {
        while self.turn().is_ok() {}
    }

    fn turn(&mut self) -> Result<(), Stopped> {
        let idle = !self.is_busy();
        self.turns += 1;
        if self.changed && (idle || self.turns.is_multiple_of(PUBLISH_TURNS)) {
            self.publish();
        }
        self.reporter.pulse.rest();
        let served = self.hints.is_done() && self.stamps.is_empty();
        let taken = self.inbox.take(served, idle, self.deadline());
        for order in taken.orders {
            // The turn before may have ended, or an arming have begun, with another root.
            self.tell_places()?;
            self.follow(order)?;
        }
        if !taken.hints.is_empty() {
            self.hints = Serving::new(taken.hints);
        }
        self.report()?;
        self.lose(taken.lost);
        if taken.wandered {
            self.wander();
        }
        self.step_hints()?;
        self.step_closing()?;
        self.step_stamps()?;
        self.timers();
        self.tell_places()?;
        self.step_cover()?;
        self.step_links();
        // A walk may go on into a link at once.
        self.tell_places()?;
        self.step_kept()?;
        self.step_sweep()?;
        self.step_listing()?;
        self.step_measure()?;
        self.step_walk()?;
        self.report()?;
        self.settle();
        Ok(())
    }

    fn is_busy(&self) -> bool {
        !self.hints.is_done()
            || !self.stamps.is_empty()
            || self.is_covering()
            || self.sweeps.iter().any(|sweep| !self.is_held(&sweep.trigger))
            || self.walks.iter().any(|walk| self.may_walk(walk))
            || self.triggers.iter().any(|t| !t.held && !t.kept.rels.is_empty())
            || self.listings.is_busy(|name| self.is_held(name))
            || self.reporter.measures.is_busy()
    }

    /// Whether directories are still to be watched or read.
    pub(super) fn is_covering(&self) -> bool {
        self.cover.is_waiting() || !self.reading.is_empty() || !self.links.is_empty()
    }

    fn follow(&mut self, order: Order) -> Result<(), Stopped> {
        let order = match order {
            Order::Arm(arming) => return self.arm(&arming),
            Order::Stop => return Err(Stopped),
            Order::To(order) => order,
        };
        if !self.serves(order.trigger()) {
            self.desk.forward(self.number, order);
            return Ok(());
        }
        match order {
            ToWatch::Scan(name) => self.scan(&name),
            ToWatch::Count(name, limit) => self.count(&name, limit),
            ToWatch::Look(name, rel) => self.look(&name, rel)?,
            ToWatch::Recheck(name, rel) => drop(self.stamps.insert((name, rel))),
            ToWatch::Hold(name) => {
                if let Some(trigger) = self.trigger(&name) {
                    trigger.held = true;
                }
            }
            ToWatch::Release(name) => self.release(&name),
        }
        Ok(())
    }

    pub(super) fn trigger(&mut self, name: &str) -> Option<&mut Armed> {
        self.triggers.iter_mut().find(|trigger| *trigger.name == *name)
    }

    fn serves(&self, name: &str) -> bool {
        self.triggers.iter().any(|trigger| *trigger.name == *name && !trigger.apart)
    }

    pub(super) fn is_held(&self, name: &str) -> bool {
        self.triggers.iter().any(|trigger| trigger.held && *trigger.name == *name)
    }

    fn release(&mut self, name: &Name) {
        let Some(trigger) = self.trigger(name) else { return };
        trigger.held = false;
        if std::mem::take(&mut trigger.kept.lost) {
            self.overflows.fetch_add(1, Ordering::Relaxed);
            self.scan(name);
        }
    }

    fn deadline(&self) -> Option<Instant> {
        let scans = self.triggers.iter().filter_map(|trigger| trigger.next_scan);
        let closing = self.closing.iter().map(|closing| closing.at);
        let folders = self.listings.deadline(|name| self.is_held(name));
        let folders = folders.into_iter().chain(self.reporter.measures.deadline());
        scans.chain(closing).chain(folders).chain(self.recovery.due).chain(self.poll_at).min()
    }

    fn timers(&mut self) {
        let now = Instant::now();
        let is_due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        if is_due(self.recovery.due) {
            self.recover();
        }
        for at in 0..self.triggers.len() {
            if is_due(self.triggers[at].next_scan) {
                self.triggers[at].next_scan = None;
                self.check_root(at, true);
                let trigger = &mut self.triggers[at];
                if trigger.root.is_none() {
                    trigger.next_scan = trigger.means.every.map(|every| now + every);
                } else {
                    let name = trigger.name.clone();
                    self.scan(&name);
                }
            }
        }
        if is_due(self.poll_at) {
            self.poll_at = None;
            self.poll();
        }
    }

    fn poll(&mut self) {
        if self.unread_mounts {
            self.wander();
        } else {
            self.read_mounts();
        }
        for at in 0..self.triggers.len() {
            let trigger = &self.triggers[at];
            let resists = trigger.unfollowed.is_some() || trigger.trouble.is_some();
            if trigger.root.is_none() || resists {
                self.check_root(at, true);
            }
        }
        for path in self.cover.poll() {
            self.sweep_under(&path, false);
        }
        self.changed = true;
    }

    /// Ends a turn: roots in doubt, acknowledgements, the next poll.
    fn settle(&mut self) {
        self.triggers.retain(|trigger| !trigger.apart);
        for at in 0..self.triggers.len() {
            self.triggers[at].close();
            if self.triggers[at].doubtful {
                self.check_root(at, true);
                self.triggers[at].close();
            }
        }
        if self.is_covering() {
            return;
        }
        if std::mem::take(&mut self.unwanted) {
            self.release_unwanted();
            self.roots_changed();
        }
        self.cover.settled();
        if let Some(arming) = self.uncovered.take() {
            // Whoever hears that all is covered, and looks, must find it so.
            self.publish();
            if !self.apart {
                self.desk.covered(arming);
            }
        }
        let resists = |t: &Armed| t.trouble.is_some() || t.unfollowed.is_some();
        let must =
            self.unread_mounts || self.cover.must_poll() || self.triggers.iter().any(resists);
        self.poll_at = must.then(|| self.poll_at.unwrap_or_else(|| Instant::now() + POLL));
    }

    fn publish(&mut self) {
        self.changed = false;
        let coverage = self.triggers.iter().map(|trigger| {
            let mut problems = self.cover.problems(|path| trigger.rel(path).is_some());
            problems.extend(trigger.problems());
            Coverage {
                trigger: trigger.name.clone(),
                exists: trigger.root.is_some(),
                directories: trigger.directories,
                readiness: trigger.readiness,
                noticed_by: trigger.means.word(),
                problems,
                silent: None,
                apart: self.apart,
            }
        });
        let coverage: Vec<Coverage> = coverage.collect();
        if !self.is_covering() {
            self.log_problems(&coverage);
        }
        // lock: see `Published`
        *self.coverage.lock().unwrap_or_else(PoisonError::into_inner) = coverage;
    }

    /// Logs what is not covered, once each time that it becomes something else.
    fn log_problems(&mut self, coverage: &[Coverage]) {
        let of = |told: &Coverage| {
            let trigger = told.trigger.clone();
            told.problems.iter().map(move |problem| (trigger.clone(), problem.clone())).collect()
        };
        let now: BTreeSet<(Name, String)> = coverage.iter().flat_map::<Vec<_>, _>(of).collect();
        for (trigger, problem) in now.difference(&self.logged) {
            tracing::warn!(trigger = &**trigger, "{problem}");
        }
        if now.is_empty() && !self.logged.is_empty() {
            tracing::info!("all folders are covered again");
        }
        self.logged = now;
    }
}
