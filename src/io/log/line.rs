//! A line of the log: what happened, and to which run, task or trigger.
//!
//! Only bytes and text; sends nothing.

use std::fmt::{Debug, Write as _};

use serde_json::Value;
use tracing::field::{Field, Visit};
use tracing::{Level, Metadata};

use super::now;
use crate::core::id::Wall;
use crate::wire;

/// Bytes of a journal entry's message, at most; the rest is left out. The journal itself keeps no
/// longer lines of text by default.
const MESSAGE_MAX: usize = 48 << 10;

/// Bytes of each other field of an entry, at most; the rest is left out. With the message all of them
/// fit one datagram.
const FIELD_MAX: usize = 4 << 10;

/// Fields of a line, at most; further ones are left out. Far more than any line has.
const FIELDS_MAX: usize = 32;

/// What an event or a span says.
#[derive(Debug, Default)]
pub(super) struct Fields {
    message: String,
    named: Vec<(&'static str, Value)>,
}

impl Fields {
    fn put(&mut self, field: &Field, value: Value) {
        if self.named.len() < FIELDS_MAX && self.get(field.name()).is_none() {
            self.named.push((field.name(), value));
        }
    }

    fn get(&self, name: &str) -> Option<&Value> {
        self.named.iter().find(|(known, _)| *known == name).map(|(_, value)| value)
    }

    /// Adds what is not there yet.
    pub(super) fn add(&mut self, other: &Self) {
        for (name, value) in &other.named {
            if self.named.len() < FIELDS_MAX && self.get(name).is_none() {
                self.named.push((name, value.clone()));
            }
        }
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.record_str(field, &format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            value.clone_into(&mut self.message);
        } else {
            self.put(field, Value::from(value));
        }
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, Value::from(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, Value::from(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, Value::from(value));
    }
}

/// An event with all that is known of it.
#[derive(Debug)]
pub(super) struct Line<'a> {
    pub(super) about: &'a Metadata<'a>,
    pub(super) fields: Fields,
}

impl Line<'_> {
    /// One JSON object and the end of its line: `time`, `level`, `message`, then the fields.
    pub(super) fn json(&self, at: Wall) -> String {
        let told = [
            ("time", Value::from(wire::time(at))),
            ("level", word(*self.about.level()).into()),
            ("message", self.fields.message.as_str().into()),
        ];
        let own = |name: &str| told.iter().any(|(taken, _)| *taken == name);
        let fields = self.fields.named.iter().filter(|(name, _)| !own(name));
        let all: Vec<String> = told
            .iter()
            .chain(fields)
            .map(|(name, value)| format!("{}:{value}", Value::from(*name)))
            .collect();
        format!("{{{}}}\n", all.join(","))
    }

    /// An entry in the journal's own protocol. The message has the fields as well: most looks at the
    /// journal show nothing else.
    pub(super) fn entry(&self) -> Vec<u8> {
        let mut message = self.fields.message.clone();
        let mut entry = Vec::new();
        for (name, value) in &self.fields.named {
            let text = text(value);
            // Writing to a string cannot fail.
            write!(message, "{}{name}={text}", if message.is_empty() { "" } else { " " }).ok();
            let name = format!("DAGD_{}", name.to_ascii_uppercase());
            variable(&mut entry, &name, shortened(&text, FIELD_MAX));
        }
        variable(&mut entry, "MESSAGE", shortened(&message, MESSAGE_MAX));
        variable(&mut entry, "PRIORITY", priority(*self.about.level()));
        variable(&mut entry, "SYSLOG_IDENTIFIER", "dagd");
        if let Some(file) = self.about.file() {
            variable(&mut entry, "CODE_FILE", file);
        }
        if let Some(line) = self.about.line() {
            variable(&mut entry, "CODE_LINE", &line.to_string());
        }
        entry
    }
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn shortened(text: &str, max: usize) -> &str {
    &text[..text.floor_char_boundary(max)]
}

/// What the journal is told after `lost` entries that it did not take.
pub(super) fn notice(lost: u64) -> Vec<u8> {
    let mut entry = Vec::new();
    let message = format!("the journal did not take {lost} lines of this log");
    variable(&mut entry, "MESSAGE", &message);
    variable(&mut entry, "PRIORITY", priority(Level::WARN));
    variable(&mut entry, "SYSLOG_IDENTIFIER", "dagd");
    entry
}

fn missing(lost: u64) -> String {
    format!("standard error did not take {lost} lines of this log")
}

/// The same of standard error, for people.
pub(super) fn text_notice(lost: u64) -> Vec<u8> {
    format!("{}  WARN {}\n", wire::time(now()), missing(lost)).into_bytes()
}

/// The same as an object.
pub(super) fn json_notice(lost: u64) -> Vec<u8> {
    let (time, message) = (Value::from(wire::time(now())), Value::from(missing(lost)));
    let level = word(Level::WARN);
    format!("{{\"time\":{time},\"level\":\"{level}\",\"message\":{message}}}\n").into_bytes()
}

/// `NAME=value` and a line break; where there is one within: the name, a line break, the length in
/// eight bytes, the value. Names of fields are identifiers, which is what the journal asks for.
fn variable(entry: &mut Vec<u8>, name: &str, value: &str) {
    entry.extend_from_slice(name.as_bytes());
    if value.contains('\n') {
        entry.push(b'\n');
        entry.extend_from_slice(&(value.len() as u64).to_le_bytes());
    } else {
        entry.push(b'=');
    }
    entry.extend_from_slice(value.as_bytes());
    entry.push(b'\n');
}

fn word(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        Level::DEBUG => "debug",
        Level::TRACE => "trace",
    }
}

/// As syslog counts: error, warning, informational, debug.
fn priority(level: Level) -> &'static str {
    match level {
        Level::ERROR => "3",
        Level::WARN => "4",
        Level::INFO => "6",
        Level::DEBUG | Level::TRACE => "7",
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_notice_has_the_form_of_the_lines_around_it() {
        let json: serde_json::Value = serde_json::from_slice(&super::json_notice(7)).unwrap();
        assert_eq!(json["message"], "standard error did not take 7 lines of this log");
        assert_eq!(json["level"], "warn");
        assert!(json["time"].as_str().unwrap().ends_with('Z'));
        let text = String::from_utf8(super::text_notice(7)).unwrap();
        assert!(
            text.ends_with("Z  WARN standard error did not take 7 lines of this log\n"),
            "{text}"
        );
    }
}
