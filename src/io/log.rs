//! What dagd itself has to say: each event becomes one line of text or JSON on standard error, or one
//! entry of the journal.
//!
//! Owns the choice of the form and the fields of a line. Writes to what it was given and never keeps a
//! caller waiting for long: who logs may be the engine.

mod journal;
mod lane;
mod line;

use std::io::{self, Write as _};
use std::sync::OnceLock;

use rustix::fs::{FileType, fstat};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::fmt::writer::BoxMakeWriter;
use tracing_subscriber::layer::{Context, SubscriberExt as _};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::core::id::Wall;
use lane::{Lane, Notice};
use line::{Fields, Line};

pub use journal::Journal;

/// The form of what is logged.
#[derive(Debug)]
pub enum Form {
    /// Lines for people on standard error.
    Text {
        /// With colours.
        ansi: bool,
    },
    /// One JSON object a line on standard error.
    Json,
    /// Entries of the journal, with fields.
    Journal(Journal),
}

/// The way to standard error, where that may stop taking anything.
static LANE: OnceLock<Lane> = OnceLock::new();

/// Logs in this form from here on. A second call in one process keeps the first.
pub fn start(level: LevelFilter, form: Form) {
    let sink = match form {
        Form::Text { ansi } => {
            let writer = match way(line::text_notice) {
                None => BoxMakeWriter::new(io::stderr),
                Some(lane) => BoxMakeWriter::new(move || lane.clone()),
            };
            let subscriber = tracing_subscriber::fmt()
                .with_max_level(level)
                .with_ansi(ansi)
                .with_target(false)
                .with_writer(writer);
            return drop(subscriber.finish().try_init());
        }
        Form::Json => Sink::Json(way(line::json_notice)),
        Form::Journal(journal) => Sink::Journal(journal),
    };
    drop(tracing_subscriber::registry().with(level).with(sink).try_init());
}

/// Waits until what was logged so far is written, but no longer than a second: to be called when the
/// process is about to end.
pub fn finish() {
    if let Some(lane) = LANE.get() {
        lane.flush();
    }
}

/// The way to standard error; `None` if that is a file, which takes a line or fails, but waits for
/// nobody.
fn way(notice: Notice) -> Option<Lane> {
    let is_file = |mode| FileType::from_raw_mode(mode).is_file();
    let file = fstat(io::stderr()).is_ok_and(|stat| is_file(stat.st_mode));
    (!file).then(|| LANE.get_or_init(|| Lane::new(rustix::stdio::stderr(), notice)).clone())
}

/// Where whole lines go.
enum Sink {
    /// To standard error, by a way if that is no file.
    Json(Option<Lane>),
    Journal(Journal),
}

impl Sink {
    fn write(&self, line: &Line<'_>) {
        match self {
            Self::Json(Some(way)) => way.put(line.json(now()).into_bytes()),
            // Nobody is left to be told if standard error is gone.
            Self::Json(None) => drop(io::stderr().lock().write_all(line.json(now()).as_bytes())),
            Self::Journal(journal) => journal.send(line),
        }
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Sink {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        if let Some(span) = context.span(id) {
            let mut fields = Fields::default();
            attributes.record(&mut fields);
            span.extensions_mut().insert(fields);
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(fields) = span.extensions_mut().get_mut::<Fields>()
        {
            values.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        // What is nearest comes first.
        for span in context.event_scope(event).into_iter().flatten() {
            if let Some(around) = span.extensions().get::<Fields>() {
                fields.add(around);
            }
        }
        self.write(&Line { about: event.metadata(), fields });
    }
}

fn now() -> Wall {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    Wall(time.tv_sec.saturating_mul(1_000_000_000).saturating_add(time.tv_nsec))
}
