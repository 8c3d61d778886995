//! Folders that are work themselves: which are to be measured, when, and the one in hand.
//!
//! To measure a folder is to look at each file in it, so a change in it is only noted here, and it
//! is measured once for all that changed meanwhile, in bounded steps. A large folder that is being
//! written is measured again only after a pause in proportion to its size; a scan does not wait, nor
//! does a look whose time has come.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::mem;
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::{Duration, Instant};

use crate::core::candidate::{Disk, Origin, Probe, Row};
use crate::core::id::Name;
use crate::core::path::Bytes;
use crate::io::disk::{self, Tree};

use super::report::{Stopped, Target};
use super::worker::Worker;

/// Names looked at in one step, so that hints are served in between.
const STEP_MAX: usize = 256;

/// Pause for each name in a folder before it is measured again: some five times what a name costs.
const PAUSE: Duration = Duration::from_micros(50);

/// Folders that wait to be measured, at most. Beyond it their triggers are scanned, which finds
/// them one by one.
const ASKED_MAX: usize = 65_536;

/// Folders whose pause is remembered, at most; one that is forgotten is measured sooner.
const PAUSES_MAX: usize = 1024;

/// A trigger and a path relative to its root.
type Key = (Name, Bytes);

/// A folder that is to be measured.
struct Asked {
    target: Target,
    /// As what it is reported: a scan has to hear of each folder; else a hint says more than a look.
    origin: Origin,
    /// Whether but hints have asked for it.
    hinted: bool,
    /// Whether its done file has come: then it does not pause.
    done: bool,
    /// Whether it is reported only if its version is not known.
    only_new: bool,
    /// Until when it pauses, if it does.
    until: Option<Instant>,
}

/// A folder that is being measured.
struct Begun {
    asked: Asked,
    tree: Tree,
    /// Whether its done file was there before the first look.
    done: bool,
    /// The ledger's row before the first look.
    row: Option<Row>,
}

/// The pause of a folder that was measured.
#[derive(Clone, Copy)]
struct Pause {
    until: Instant,
    /// Whether somebody wrote in it: then whoever looks waits as well, for the close will tell.
    busy: bool,
}

impl Pause {
    fn holds(self, asked: &Asked, now: Instant) -> bool {
        let patient = asked.hinted || (self.busy && asked.origin != Origin::Scan);
        patient && !asked.done && self.until > now
    }
}

/// What is to be measured.
#[derive(Default)]
pub struct Measures {
    asked: BTreeMap<Key, Asked>,
    /// Those that do not pause, in order.
    due: VecDeque<Key>,
    /// Those that do.
    pausing: BTreeSet<(Instant, Key)>,
    /// The folders that were measured and may pause.
    pauses: BTreeMap<Key, Pause>,
    begun: Option<Begun>,
    /// Triggers that asked for more than fit.
    lost: BTreeSet<Name>,
}

impl Measures {
    /// Asks for a folder to be measured and reported; with `only_new`, unless its version is known.
    /// After a hint it may pause.
    pub fn ask(&mut self, target: Target, origin: Origin, only_new: bool) {
        let key = (target.trigger.clone(), target.rel.clone());
        if let Some(asked) = self.asked.get_mut(&key) {
            if origin == Origin::Scan || asked.origin == Origin::Look {
                asked.origin = origin;
            }
            asked.hinted &= origin == Origin::Event;
            asked.only_new &= only_new;
            let now = Instant::now();
            let held = self.pauses.get(&key).is_some_and(|pause| pause.holds(asked, now));
            if let Some(until) = asked.until.take_if(|_| !held) {
                self.pausing.remove(&(until, key.clone()));
                self.due.push_front(key);
            }
        } else if self.asked.len() >= ASKED_MAX {
            self.lost.insert(key.0);
        } else {
            self.due.push_back(key.clone());
            let hinted = origin == Origin::Event;
            let asked = Asked { target, origin, hinted, done: false, only_new, until: None };
            self.asked.insert(key, asked);
        }
    }

    /// The done file of a folder that is to be measured has come, or changed.
    pub fn hurry(&mut self, trigger: &Name, rel: &Bytes) {
        let key = (trigger.clone(), rel.clone());
        if let Some(asked) = self.asked.get_mut(&key) {
            asked.done = true;
            if let Some(until) = asked.until.take() {
                self.pausing.remove(&(until, key.clone()));
                self.due.push_front(key);
            }
        }
    }

    /// Whether a scan waits for a folder.
    pub fn is_scanning(&self, trigger: &Name, rel: &Bytes) -> bool {
        let of_scan = |asked: &Asked| {
            asked.origin == Origin::Scan
                && asked.target.trigger == *trigger
                && asked.target.rel == *rel
        };
        self.begun.as_ref().is_some_and(|begun| of_scan(&begun.asked))
            || self.asked.get(&(trigger.clone(), rel.clone())).is_some_and(of_scan)
    }

    /// Whether something can be measured now.
    pub fn is_busy(&self) -> bool {
        self.begun.is_some() || !self.due.is_empty() || !self.lost.is_empty()
    }

    /// When the next pause ends.
    pub fn deadline(&self) -> Option<Instant> {
        self.pausing.first().map(|(until, _)| *until)
    }

    /// The trigger is gone or has changed: nothing is measured for it.
    pub fn forget(&mut self, name: &Name) {
        self.asked.retain(|(trigger, _), _| trigger != name);
        self.due.retain(|(trigger, _)| trigger != name);
        self.pausing.retain(|(_, (trigger, _))| trigger != name);
        self.begun = self.begun.take().filter(|begun| begun.asked.target.trigger != *name);
        self.lost.remove(name);
    }

    /// Takes the next folder that may be measured.
    fn next(&mut self) -> Option<Asked> {
        let now = Instant::now();
        while let Some((_, key)) = self.pausing.first().filter(|(until, _)| *until <= now).cloned()
        {
            self.pausing.pop_first();
            self.due.push_back(key);
        }
        while let Some(key) = self.due.pop_front() {
            let Some(asked) = self.asked.remove(&key) else { continue };
            match self.pauses.get(&key).copied().filter(|pause| pause.holds(&asked, now)) {
                Some(Pause { until, .. }) => {
                    self.asked.insert(key.clone(), Asked { until: Some(until), ..asked });
                    self.pausing.insert((until, key));
                }
                None => return Some(asked),
            }
        }
        None
    }

    /// A folder with so many names was measured; `busy`: somebody writes in it.
    fn pause(&mut self, key: Key, names: usize, busy: bool) {
        let now = Instant::now();
        if self.pauses.len() >= PAUSES_MAX {
            self.pauses.retain(|_, pause| pause.until > now);
        }
        if self.pauses.len() < PAUSES_MAX {
            let names = u32::try_from(names).unwrap_or(u32::MAX);
            self.pauses.insert(key, Pause { until: now + PAUSE.saturating_mul(names), busy });
        }
    }
}

impl Worker {
    /// Goes on with the folder in hand, or begins with the next one, once everything is covered:
    /// what is measured after it is watched can be missed by neither.
    pub(super) fn step_measure(&mut self) -> Result<(), Stopped> {
        if self.is_covering() {
            return Ok(());
        }
        for name in mem::take(&mut self.reporter.measures.lost) {
            self.scan(&name);
        }
        let begun = match self.reporter.measures.begun.take() {
            Some(begun) => Some(begun),
            None => self.begin_measure()?,
        };
        let Some(mut begun) = begun else { return Ok(()) };
        let Some(root) = self.root_of(&begun.asked.target.trigger) else {
            let Asked { target, origin, only_new, .. } = begun.asked;
            self.reporter.measures.ask(target, origin, only_new);
            return Ok(());
        };
        let lock = begun.asked.target.lock;
        let prober = begun.done.then_some((&mut self.reporter.prober, lock));
        if begun.tree.step(root.as_fd(), prober, STEP_MAX) {
            self.end_measure(begun, &root)
        } else {
            self.reporter.measures.begun = Some(begun);
            Ok(())
        }
    }

    fn root_of(&mut self, name: &Name) -> Option<std::sync::Arc<OwnedFd>> {
        self.trigger(name)?.open()
    }

    fn begin_measure(&mut self) -> Result<Option<Begun>, Stopped> {
        let Some(asked) = self.reporter.measures.next() else { return Ok(None) };
        let Asked { target, origin, only_new, .. } = &asked;
        let Some(trigger) = self.trigger(&target.trigger) else { return Ok(None) };
        if trigger.held && *origin == Origin::Event {
            trigger.keep(target.rel.clone());
            return Ok(None);
        }
        let Some(root) = trigger.open() else {
            // Whoever asked has to be answered.
            if *origin == Origin::Look {
                self.reporter.unseen(target.clone(), *origin)?;
            }
            return Ok(None);
        };
        let row = self.reporter.ledger.row(&target.trigger, &target.rel);
        self.reporter.pulse.touch(&target.trigger);
        let done = target.is_done(root.as_fd());
        match Tree::begin(root.as_fd(), &target.rel) {
            Ok(Some(tree)) if target.reachable => Ok(Some(Begun { asked, tree, done, row })),
            begun => {
                self.reporter.before_look(*origin)?;
                self.reporter.pulse.touch(&target.trigger);
                let found = match begun {
                    Err(error) => Err(error),
                    Ok(Some(_)) => Err(io::Error::from_raw_os_error(libc::ENAMETOOLONG)),
                    Ok(None) => match disk::find(root.as_fd(), &target.rel, target.follow) {
                        // It came this moment: its hint is on its way.
                        Ok(disk::Found::Directory(_)) => return Ok(None),
                        found => found,
                    },
                };
                self.reporter.found(target.clone(), found, *only_new);
                Ok(None)
            }
        }
    }

    /// A folder is measured. It is reported unless its row has changed or it has gone meanwhile:
    /// then nobody can say when what was measured was true.
    fn end_measure(&mut self, begun: Begun, root: &OwnedFd) -> Result<(), Stopped> {
        let Begun { asked, tree, done, row } = begun;
        let Asked { target, origin, only_new, .. } = asked;
        self.reporter.before_look(origin)?;
        let now = self.reporter.ledger.row(&target.trigger, &target.rel);
        self.reporter.pulse.touch(&target.trigger);
        if now != row || !tree.is_at(root.as_fd(), &target.rel) {
            self.reporter.measures.ask(target, origin, only_new);
            return Ok(());
        }
        let key = (target.trigger.clone(), target.rel.clone());
        let torn = self.reporter.measures.asked.contains_key(&key);
        let names = tree.names();
        let disk = match tree.end(torn) {
            Disk::File { version, .. } if !done => Disk::File { version, probe: Probe::NotDone },
            disk => disk,
        };
        let busy = matches!(disk, Disk::File { probe: Probe::WriterOpen, .. });
        self.reporter.measures.pause(key, names, busy);
        self.reporter.measured(target, disk, now, only_new);
        self.report()
    }
}

#[cfg(test)]
mod tests {
    use super::{Measures, Origin, Target};
    use crate::core::trigger::{FileType, FollowSymlinks, ReadLock};

    fn target(rel: &str) -> Target {
        Target {
            trigger: "t".into(),
            rel: rel.into(),
            follow: FollowSymlinks::Never,
            lock: ReadLock::Auto,
            work: FileType::Dir,
            done: None,
            reachable: true,
        }
    }

    fn next(measures: &mut Measures) -> Option<String> {
        measures.next().map(|asked| asked.target.rel.lossy().into_owned())
    }

    #[test]
    fn many_hints_are_one_measure_and_a_large_folder_pauses() {
        let mut measures = Measures::default();
        for _ in 0..1000 {
            measures.ask(target("a"), Origin::Event, false);
        }
        assert_eq!((next(&mut measures), next(&mut measures)), (Some("a".into()), None));
        measures.pause(("t".into(), "a".into()), 1_000_000, false);
        measures.ask(target("a"), Origin::Event, false);
        measures.ask(target("b"), Origin::Event, false);
        assert_eq!((next(&mut measures), next(&mut measures)), (Some("b".into()), None));
        assert!(measures.deadline().is_some() && !measures.is_busy(), "a waits, asleep");
        measures.ask(target("a"), Origin::Look, false);
        assert_eq!((next(&mut measures), next(&mut measures)), (Some("a".into()), None));
        assert_eq!(measures.deadline(), None);
        measures.ask(target("a"), Origin::Event, false);
        assert_eq!(next(&mut measures), None);
        measures.hurry(&"t".into(), &"a".into());
        assert_eq!(next(&mut measures), Some("a".into()), "its done file has come");
    }

    #[test]
    fn a_folder_that_is_written_keeps_looks_waiting_but_no_scan() {
        let mut measures = Measures::default();
        measures.pause(("t".into(), "a".into()), 1_000_000, true);
        measures.ask(target("a"), Origin::Look, false);
        assert_eq!(next(&mut measures), None);
        measures.ask(target("a"), Origin::Scan, true);
        assert!(measures.is_scanning(&"t".into(), &"a".into()));
        let asked = measures.next().unwrap();
        assert!(asked.origin == Origin::Scan && !asked.only_new, "the look is answered as well");
        assert_eq!(next(&mut measures), None);
    }

    #[test]
    fn what_does_not_fit_becomes_a_scan() {
        let mut measures = Measures::default();
        for n in 0..=super::ASKED_MAX {
            measures.ask(target(&n.to_string()), Origin::Event, false);
        }
        assert_eq!(measures.asked.len(), super::ASKED_MAX);
        assert!(measures.lost.contains("t"));
        measures.forget(&"t".into());
        assert!(!measures.is_busy() && measures.next().is_none());
    }
}
