//! What changed lately in the ledger, so that a look that is older is not believed.

use std::collections::{BTreeMap, VecDeque};

use crate::core::id::{Name, Seq};
use crate::core::path::Bytes;

/// Ledger keys that changed lately, with the commit that changed them. An observation made before
/// that commit says nothing about them any more.
///
/// Nothing is kept of triggers that the configuration has dropped: one that comes back is watched
/// anew, and what was seen before that is not believed whatever it is.
#[derive(Debug, Default)]
pub(super) struct Recent {
    keys: BTreeMap<Name, Marks>,
}

#[derive(Debug, Default)]
struct Marks {
    changed: BTreeMap<Bytes, Seq>,
    order: VecDeque<(Seq, Bytes)>,
    /// The last change of all keys.
    all: Seq,
}

impl Recent {
    /// The ledger row of the path changes with the commit `seq`.
    pub(super) fn mark(&mut self, seq: Seq, trigger: &Name, rel: &Bytes) {
        let marks = self.keys.entry(trigger.clone()).or_default();
        marks.changed.insert(rel.clone(), seq);
        marks.order.push_back((seq, rel.clone()));
    }

    /// All rows of the trigger change with the commit `seq`.
    pub(super) fn mark_all(&mut self, seq: Seq, trigger: &Name) {
        self.keys.entry(trigger.clone()).or_default().all = seq;
    }

    /// How many changes are remembered.
    pub(super) fn len(&self) -> usize {
        self.keys.values().map(|marks| marks.order.len()).sum()
    }

    /// Forgets the triggers that are not wanted any more.
    pub(super) fn keep(&mut self, wanted: impl Fn(&Name) -> bool) {
        self.keys.retain(|name, _| wanted(name));
    }

    /// Whether an observation that was begun at `seen` is older than the path's last change.
    pub(super) fn is_stale(&self, seen: Seq, trigger: &Name, rel: &Bytes) -> bool {
        let Some(marks) = self.keys.get(trigger) else { return false };
        marks.all > seen || marks.changed.get(rel).is_some_and(|changed| *changed > seen)
    }

    /// Observations of a trigger come in order: none will be older than `seen`. Those of another
    /// may come from a slower thread.
    pub(super) fn prune(&mut self, seen: Seq, trigger: &Name) {
        let Some(marks) = self.keys.get_mut(trigger) else { return };
        while let Some((seq, rel)) = marks.order.front().filter(|(seq, _)| *seq <= seen) {
            if marks.changed.get(rel) == Some(seq) {
                marks.changed.remove(rel);
            }
            marks.order.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Recent, Seq};

    #[test]
    fn nothing_is_kept_of_triggers_that_are_gone() {
        let mut recent = Recent::default();
        for trigger in ["a", "b"] {
            recent.mark(Seq(7), &trigger.into(), &"f".into());
        }
        recent.keep(|name| **name == *"b");
        assert!(recent.is_stale(Seq(6), &"b".into(), &"f".into()));
        assert_eq!(recent.keys.len(), 1);
    }
}
