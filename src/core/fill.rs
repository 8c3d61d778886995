//! What an event can put into placeholders: one table for commands, keys and move targets.

use super::id::{RunId, Wall};
use super::path::Bytes;
use super::record::SignalInfo;
use super::template::{Slot, Template, date};

/// The facts of an event, as far as they are known where a template is filled.
#[derive(Clone, Copy, Debug, Default)]
pub struct Facts<'a> {
    /// The trigger's name.
    pub trigger: Option<&'a str>,
    /// The run.
    pub run: Option<RunId>,
    /// The trigger's folder.
    pub root: Option<&'a Bytes>,
    /// The one file: its path below the folder, and its absolute path.
    pub file: Option<(&'a Bytes, &'a Bytes)>,
    /// The signal.
    pub signal: Option<&'a SignalInfo>,
    /// The time at which dates are frozen, and the offset from UTC in seconds.
    pub at: Option<(Wall, i32)>,
}

/// Fills `slot`, or `None` where the facts do not hold it.
pub fn fill(slot: &Slot, facts: &Facts<'_>) -> Option<Vec<u8>> {
    let file = |part: fn(&Bytes, &Bytes) -> Vec<u8>| facts.file.map(|(rel, path)| part(rel, path));
    match slot {
        Slot::Path => file(|_, path| path.as_bytes().to_vec()),
        Slot::Rel => file(|rel, _| rel.as_bytes().to_vec()),
        Slot::Name => file(|rel, _| rel.name().to_vec()),
        Slot::Stem => file(|rel, _| split(rel.name()).0.to_vec()),
        Slot::Ext => file(|rel, _| split(rel.name()).1.to_vec()),
        Slot::Dir => file(|_, path| path.dir().to_vec()),
        Slot::Root => facts.root.map(|root| root.as_bytes().to_vec()),
        Slot::Trigger => Some(facts.trigger.unwrap_or_default().into()),
        Slot::Run => facts.run.map(|run| run.to_string().into_bytes()),
        Slot::Signal => facts.signal.map(|info| info.signal.as_bytes().to_vec()),
        Slot::Value => facts.signal.map(|info| info.value.unwrap_or(0).to_string().into_bytes()),
        Slot::Date(format) => {
            facts.at.and_then(|(at, offset)| date(format, at, offset)).map(String::into_bytes)
        }
        Slot::Task | Slot::Attempt | Slot::Failed | Slot::Paths | Slot::Out { .. } => None,
    }
}

/// What a template makes of an event of a trigger, before there is a run; `None` if the event lacks
/// something that it asks for. The file is relative to `root`.
pub fn expand(
    template: &Template,
    trigger: &str,
    root: Option<&Bytes>,
    file: Option<&Bytes>,
    signal: Option<&SignalInfo>,
) -> Option<Bytes> {
    let path = root.zip(file).map(|(root, rel)| root.join(rel.as_bytes()));
    let file = file.zip(path.as_ref());
    let facts = Facts { trigger: Some(trigger), root, file, signal, ..Facts::default() };
    template.expand(|slot| fill(slot, &facts)).ok().map(Bytes::from)
}

/// A name without its last extension, and the extension. A leading dot begins no extension.
pub fn split(name: &[u8]) -> (&[u8], &[u8]) {
    match name.iter().rposition(|&b| b == b'.') {
        Some(at) if at > 0 => (&name[..at], &name[at + 1..]),
        _ => (name, &[]),
    }
}

#[cfg(test)]
mod tests {
    use super::{Facts, fill};
    use crate::core::path::Bytes;
    use crate::core::template::Slot;

    #[test]
    fn parts_of_a_file() {
        let (rel, path) = (Bytes::from("a/b.tar.gz"), Bytes::from("/in/a/b.tar.gz"));
        let facts = Facts { file: Some((&rel, &path)), ..Facts::default() };
        let part = |slot| String::from_utf8(fill(&slot, &facts).unwrap()).unwrap();
        assert_eq!(part(Slot::Stem), "b.tar");
        assert_eq!(part(Slot::Ext), "gz");
        assert_eq!(part(Slot::Dir), "/in/a");
        assert_eq!(fill(&Slot::Signal, &facts), None);
    }

    #[test]
    fn a_leading_dot_begins_no_extension() {
        assert_eq!(super::split(b".profile"), (&b".profile"[..], &b""[..]));
    }
}
