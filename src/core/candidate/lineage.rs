//! The runs that may have caused each other before a file: how many, and of which triggers.

use std::collections::BTreeMap;

use crate::core::id::Name;

/// A row of runs of which each may have written the file that started the next. It holds a number
/// for each trigger that it went through, of which the configuration bounds how many there are.
///
/// What counts against a file is how often its row has come back to its own trigger: folders to
/// which files of one name come at the same time, or one after the other, are no loop.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lineage(BTreeMap<Name, u32>);

impl Lineage {
    /// How many of the runs were of this trigger.
    pub fn of(&self, trigger: &str) -> u32 {
        self.0.get(trigger).copied().unwrap_or(0)
    }

    /// All of the runs.
    pub fn runs(&self) -> u32 {
        self.0.values().fold(0, |all, runs| all.saturating_add(*runs))
    }

    /// The row of a file that a run of this trigger may have written, whose own file had this row.
    #[must_use]
    pub fn then(mut self, trigger: &Name) -> Self {
        let runs = self.0.entry(trigger.clone()).or_default();
        *runs = runs.saturating_add(1);
        self
    }
}
