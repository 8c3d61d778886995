//! Takes up a new set of triggers: what stays goes on, what is new is sought, what is gone is left.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use crossbeam_channel::Sender;

use crate::core::path::Bytes;
use crate::core::trigger::TriggerSpec;

use super::FromWatch;
use super::cover::{Covered, News};
use super::report::Stopped;
use super::roots::Armed;
use super::worker::Worker;

impl Worker {
    /// Takes up these triggers instead of those before.
    pub(super) fn arm(
        &mut self,
        specs: &[Arc<TriggerSpec>],
        ack: Option<Sender<()>>,
    ) -> Result<(), Stopped> {
        self.reporter.send(FromWatch::Rearmed)?;
        self.reporter.prober.forget();
        let mut old = std::mem::take(&mut self.triggers);
        for mut new in specs.iter().filter_map(|spec| Armed::new(spec)) {
            let at = old.iter().position(|was| was.name == new.name);
            let was = at.map(|at| old.swap_remove(at));
            match was.filter(|was| was.folder.root == new.folder.root) {
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
            new.next_scan = new.folder.reconcile_interval.map(|every| Instant::now() + every);
            self.triggers.push(new);
        }
        for gone in old {
            self.drop_walks(&gone.name);
            self.places.leave(&(self.number, gone.name));
        }
        for at in 0..self.triggers.len() {
            self.check_root(at, false);
        }
        self.release_unwanted();
        self.roots_changed();
        self.acks.extend(ack);
        Ok(())
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
            trigger.directories =
                u64::try_from(cover.dirs().filter(wants).count()).unwrap_or(u64::MAX);
            trigger.readiness =
                reporter.prober.readiness(&trigger.folder.root, trigger.folder.read_lock);
        }
        let roots: BTreeSet<Bytes> =
            triggers.iter().filter_map(|t| t.root.as_ref()).map(|r| r.base.clone()).collect();
        inbox.set_roots(roots.into_iter().collect());
    }
}
