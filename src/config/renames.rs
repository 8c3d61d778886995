//! Former names of triggers: each belongs to one trigger, and to none that is there.

use std::collections::BTreeMap;

use super::diagnostics::{Problem, Span};
use super::reader::Reader;
use super::triggers::Triggers;
use crate::core::id::Name;

/// Checks the former names of all triggers.
pub fn check(reader: &mut Reader<'_>, triggers: &Triggers) {
    let mut taken: BTreeMap<&Name, Span> = BTreeMap::new();
    for (name, place) in &triggers.places {
        let folder = triggers.specs.get(name).and_then(|spec| spec.folder());
        let Some(from) = folder.and_then(|folder| folder.renamed_from.as_ref()) else { continue };
        let Some(span) = place.renamed_from else { continue };
        if from == name {
            let what = format!("trigger `{name}` cannot have been called `{from}` before");
            reader.note(Problem::at(span, what).help("write its former name, or remove the key"));
        } else if let Some(other) = triggers.places.get(from) {
            let what = format!("trigger `{from}` is still there, and keeps what it has delivered");
            let problem = Problem::at(span, what).also(other.name, "this is the trigger");
            reader.note(problem.help("remove the trigger of that name, or this key"));
        } else if let Some(first) = taken.insert(from, span) {
            let what = format!("two triggers cannot both have been called `{from}`");
            let (first, second) = (first.min(span), first.max(span));
            let problem = Problem::at(second, what).also(first, "this is the other");
            reader.note(problem.help("keep the key where the files are the same as before"));
        }
    }
}
