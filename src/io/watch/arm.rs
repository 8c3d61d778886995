//! Takes up a new set of triggers: what stays goes on, what is new is sought, what is gone is left.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Instant;

use crate::core::path::Bytes;

use super::FromWatch;
use super::cover::{Covered, News};
use super::report::Stopped;
use super::roots::Armed;
use super::staff::Arming;
use super::worker::Worker;

impl Worker {
    /// Takes up these triggers instead of those before.
    pub(super) fn arm(&mut self, arming: &Arming) -> Result<(), Stopped> {
        // What was seen before was seen under the old ones.
        self.report()?;
        self.reporter.arming = arming.number;
        self.apart = arming.apart;
        for spec in arming.specs.iter().filter(|_| arming.apart) {
            self.reporter.send(FromWatch::Apart { trigger: spec.name.clone() })?;
        }
        self.reporter.prober.forget();
        let backends = self.backends();
        let mut old = std::mem::take(&mut self.triggers);
        let pulse = self.reporter.pulse.clone();
        // Nobody scans what goes on as it was: a root that it did not have before is news.
        let mut news = Vec::new();
        for mut new in arming.specs.iter().filter_map(|spec| Armed::new(spec, pulse.clone())) {
            let at = old.iter().position(|was| was.name == new.name);
            let was = at.map(|at| old.swap_remove(at));
            new.next_scan = new.means.every.map(|every| Instant::now() + every);
            let was = was.filter(|was| was.folder.root == new.folder.root);
            news.push(was.as_ref().is_some_and(|was| was.rev == new.rev));
            match was {
                Some(was) if was.rev == new.rev => new = was,
                Some(was) => {
                    self.renew_walks(&new.name);
                    new.inherit(was);
                    if let Some(root) = &new.root {
                        self.cover.ask(root.base.clone(), News::Known);
                    }
                }
                None => self.drop_walks(&new.name),
            }
            self.triggers.push(new);
        }
        for gone in old {
            self.drop_walks(&gone.name);
            self.places.leave(&(self.number, gone.name));
        }
        self.read_mounts();
        for (at, news) in news.into_iter().enumerate() {
            self.check_root(at, news);
            self.assess(at);
        }
        self.release_unwanted();
        let now = self.backends();
        if backends != now && backends.iter().chain(&now).any(|(_, marked)| *marked) {
            // What is watched stays with its backend, and a mark that nobody needs costs.
            self.cover.watch_anew();
        }
        self.roots_changed();
        self.uncovered = Some(arming.number);
        Ok(())
    }

    /// All roots, as configured, and whether their file systems are to be marked.
    fn backends(&self) -> BTreeSet<(PathBuf, bool)> {
        let roots = self.triggers.iter().filter(|trigger| trigger.means.watches);
        roots.map(|trigger| (trigger.folder.root.clone(), trigger.is_marked())).collect()
    }

    /// Gives up directories that no trigger wants any more.
    pub(super) fn release_unwanted(&mut self) {
        let wanted = |path: &Bytes, dir: &Covered| {
            self.triggers.iter().any(|trigger| trigger.wants(path, Some(dir.id.mount)))
        };
        let unwanted: Vec<Bytes> = (self.cover.dirs())
            .filter(|(path, dir)| !wanted(path, dir))
            .map(|(path, _)| path.clone())
            .collect();
        self.cover.release(&unwanted);
    }

    /// The roots are other ones: what depends on all of them is computed anew.
    pub(super) fn roots_changed(&mut self) {
        self.changed = true;
        let Self { triggers, cover, reporter, inbox, .. } = self;
        for trigger in triggers.iter_mut() {
            let wants = |(path, dir): &(&Bytes, &Covered)| trigger.wants(path, Some(dir.id.mount));
            let count = cover.dirs().filter(wants).count();
            if trigger.means.watches {
                trigger.directories = u64::try_from(count).unwrap_or(u64::MAX);
            }
            reporter.pulse.touch(&trigger.name);
            trigger.readiness =
                reporter.prober.readiness(&trigger.folder.root, trigger.folder.proof());
        }
        let roots: BTreeSet<Bytes> =
            triggers.iter().flat_map(|trigger| trigger.bases().cloned()).collect();
        inbox.set_roots(roots.into_iter().collect());
    }
}
