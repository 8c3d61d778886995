//! Records and events in a line each, for the trace of a world.

use dagd::core::event::Event;
use dagd::core::record::Record;

/// A record in a line, for the trace.
pub(crate) fn short(record: &Record) -> String {
    match record {
        Record::RunCreated(c) => {
            let files: Vec<String> = c
                .files
                .iter()
                .map(|f| format!("{:?}:{}:v{}", f.rel, f.kind.word(), f.version.mtime_ns))
                .collect();
            let (run, trigger, reason) = (c.run, &c.trigger, c.reason.word());
            format!("run {run} of {trigger:?} ({reason}) items {:?} files {files:?}", c.items)
        }
        other => format!("{other:?}"),
    }
}

/// An event in a line, for the trace.
pub(crate) fn shown(event: &Event) -> String {
    match event {
        Event::Reloaded(_) => "reloaded".to_owned(),
        Event::Observed(observed) => {
            let seen: Vec<String> = observed
                .seen
                .iter()
                .map(|s| format!("{} {:?} {:?} row {:?}", s.trigger, s.rel, s.disk, s.row))
                .collect();
            format!("observed@{} {:?} {seen:?}", observed.seq.0, observed.origin)
        }
        other => format!("{other:?}"),
    }
}
