//! Placeholders: text with slots, parsed once, filled per attempt.
//!
//! Only `{` + a known name + `}` is a placeholder. Everything else stays as it is, so that awk,
//! find and JSON need no escapes. `{{name}` is the literal `{name}`. Bytes go through unchanged.

use std::fmt;

use jiff::Timestamp;
use jiff::tz::{Offset, TimeZone};
use serde::{Deserialize, Serialize};

use super::id::Wall;

/// What a placeholder stands for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Slot {
    /// The file's absolute path.
    Path,
    /// The file's path relative to the trigger's folder.
    Rel,
    /// The file's name.
    Name,
    /// The name without its last extension.
    Stem,
    /// The last extension, without the dot.
    Ext,
    /// The absolute path of the folder that holds the file.
    Dir,
    /// The trigger's folder.
    Root,
    /// One argument per file; only as a whole argument.
    Paths,
    /// The trigger's name.
    Trigger,
    /// The run's number.
    Run,
    /// The task's name.
    Task,
    /// The attempt's number.
    Attempt,
    /// The signal's name.
    Signal,
    /// The value that came with a real-time signal.
    Value,
    /// The names of the run's failed tasks, separated by spaces.
    Failed,
    /// The run's creation time in the given strftime format.
    Date(String),
    /// A value that a task that this one needs wrote to `DAGD_OUTPUT`.
    Out {
        /// The task.
        task: String,
        /// The key.
        key: String,
    },
}

impl Slot {
    /// All names that a placeholder may have, for suggestions.
    pub const NAMES: [&str; 17] = [
        "path", "rel", "name", "stem", "ext", "dir", "root", "paths", "trigger", "run", "task",
        "attempt", "signal", "value", "failed", "date", "out",
    ];

    /// Whether only an event with exactly one file can fill it.
    pub fn needs_file(&self) -> bool {
        matches!(self, Self::Path | Self::Rel | Self::Name | Self::Stem | Self::Ext | Self::Dir)
    }

    /// Whether only an event from a folder can fill it.
    pub fn needs_folder(&self) -> bool {
        self.needs_file() || matches!(self, Self::Root | Self::Paths)
    }

    /// Whether only a signal can fill it.
    pub fn needs_signal(&self) -> bool {
        matches!(self, Self::Signal | Self::Value)
    }

    fn parse(name: &str, argument: Option<&str>) -> Option<Self> {
        Some(match (name, argument) {
            ("path", None) => Self::Path,
            ("rel", None) => Self::Rel,
            ("name", None) => Self::Name,
            ("stem", None) => Self::Stem,
            ("ext", None) => Self::Ext,
            ("dir", None) => Self::Dir,
            ("root", None) => Self::Root,
            ("paths", None) => Self::Paths,
            ("trigger", None) => Self::Trigger,
            ("run", None) => Self::Run,
            ("task", None) => Self::Task,
            ("attempt", None) => Self::Attempt,
            ("signal", None) => Self::Signal,
            ("value", None) => Self::Value,
            ("failed", None) => Self::Failed,
            ("date", None) => Self::Date("%Y-%m-%d".to_owned()),
            ("date", Some(format)) => Self::Date(format.to_owned()),
            _ => return None,
        })
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Date(format) => write!(f, "{{date:{format}}}"),
            Self::Out { task, key } => write!(f, "{{out.{task}.{key}}}"),
            Self::Path => f.write_str("{path}"),
            Self::Rel => f.write_str("{rel}"),
            Self::Name => f.write_str("{name}"),
            Self::Stem => f.write_str("{stem}"),
            Self::Ext => f.write_str("{ext}"),
            Self::Dir => f.write_str("{dir}"),
            Self::Root => f.write_str("{root}"),
            Self::Paths => f.write_str("{paths}"),
            Self::Trigger => f.write_str("{trigger}"),
            Self::Run => f.write_str("{run}"),
            Self::Task => f.write_str("{task}"),
            Self::Attempt => f.write_str("{attempt}"),
            Self::Signal => f.write_str("{signal}"),
            Self::Value => f.write_str("{value}"),
            Self::Failed => f.write_str("{failed}"),
        }
    }
}

/// A stretch of a template.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Piece {
    /// Text that stands for itself.
    Literal(String),
    /// A placeholder.
    Slot(Slot),
}

/// Text with slots.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Template {
    pieces: Vec<Piece>,
}

/// Why a text is no template.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// A name in braces that means nothing.
    #[error("unknown placeholder `{{{name}}}`")]
    Unknown {
        /// The name as written.
        name: String,
        /// Byte offset of the opening brace in the text.
        at: usize,
    },
    /// A date format that cannot be rendered.
    #[error("bad date format `{format}`")]
    BadDate {
        /// The format as written.
        format: String,
        /// Byte offset of the opening brace in the text.
        at: usize,
    },
}

impl Template {
    /// Parses `text`.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let mut pieces = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some(open) = rest.find('{') {
            literal.push_str(&rest[..open]);
            let at = text.len() - rest.len() + open;
            let after = &rest[open + 1..];
            if let Some(escaped) = after.strip_prefix('{').and_then(Braced::read) {
                literal.push_str(&after[..=escaped.len]);
                rest = &after[1 + escaped.len..];
            } else if let Some(braced) = Braced::read(after) {
                let slot = braced.slot(at)?;
                if !literal.is_empty() {
                    pieces.push(Piece::Literal(std::mem::take(&mut literal)));
                }
                pieces.push(Piece::Slot(slot));
                rest = &after[braced.len..];
            } else {
                literal.push('{');
                rest = after;
            }
        }
        literal.push_str(rest);
        if !literal.is_empty() {
            pieces.push(Piece::Literal(literal));
        }
        Ok(Self { pieces })
    }

    /// The same with literal text before it.
    #[must_use]
    pub fn prefixed(mut self, text: &str) -> Self {
        match self.pieces.first_mut() {
            _ if text.is_empty() => {}
            Some(Piece::Literal(first)) => first.insert_str(0, text),
            Some(Piece::Slot(_)) | None => self.pieces.insert(0, Piece::Literal(text.to_owned())),
        }
        self
    }

    /// The stretches, in order.
    pub fn pieces(&self) -> &[Piece] {
        &self.pieces
    }

    /// The slots, in order.
    pub fn slots(&self) -> impl Iterator<Item = &Slot> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Slot(slot) => Some(slot),
            Piece::Literal(_) => None,
        })
    }

    /// Whether the whole template is `{paths}`.
    pub fn is_paths(&self) -> bool {
        matches!(self.pieces.as_slice(), [Piece::Slot(Slot::Paths)])
    }

    /// Fills the slots. An `Err` is the first slot that `fill` could not supply.
    pub fn expand(&self, fill: impl Fn(&Slot) -> Option<Vec<u8>>) -> Result<Vec<u8>, Slot> {
        let mut whole = Vec::new();
        for piece in &self.pieces {
            match piece {
                Piece::Literal(text) => whole.extend_from_slice(text.as_bytes()),
                Piece::Slot(slot) => {
                    whole.extend_from_slice(&fill(slot).ok_or_else(|| slot.clone())?);
                }
            }
        }
        Ok(whole)
    }
}

/// A name in braces, read from behind the opening brace.
struct Braced<'a> {
    name: &'a str,
    argument: Option<&'a str>,
    /// Bytes up to and with the closing brace.
    len: usize,
}

impl<'a> Braced<'a> {
    /// `name}`, `name:argument}` or `out.task.key}`; anything else is no placeholder.
    fn read(text: &'a str) -> Option<Self> {
        let end = text.find('}')?;
        let inner = &text[..end];
        let (name, argument) = match inner.split_once(':') {
            Some((name, argument)) => (name, Some(argument)),
            None => (inner, None),
        };
        let first = name.bytes().next()?;
        let shaped = first.is_ascii_lowercase()
            && (name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
                || (argument.is_none() && name.starts_with("out.")));
        let known_argument = argument.is_none() || name == "date";
        (shaped && known_argument).then_some(Self { name, argument, len: end + 1 })
    }

    fn slot(&self, at: usize) -> Result<Slot, TemplateError> {
        let unknown = || TemplateError::Unknown { name: self.name.to_owned(), at };
        if let Some(rest) = self.name.strip_prefix("out.") {
            let (task, key) = rest.rsplit_once('.').ok_or_else(unknown)?;
            if task.is_empty() || key.is_empty() {
                return Err(unknown());
            }
            return Ok(Slot::Out { task: task.to_owned(), key: key.to_owned() });
        }
        let slot = Slot::parse(self.name, self.argument).ok_or_else(unknown)?;
        if let Slot::Date(format) = &slot
            && date(format, Wall(0), 0).is_none()
        {
            return Err(TemplateError::BadDate { format: format.clone(), at });
        }
        Ok(slot)
    }
}

/// `at` in strftime `format`, `utc_offset_s` seconds east of UTC. `None` if the format is bad.
pub fn date(format: &str, at: Wall, utc_offset_s: i32) -> Option<String> {
    let stamp = Timestamp::from_nanosecond(i128::from(at.0)).ok()?;
    let offset = Offset::from_seconds(utc_offset_s).ok()?;
    jiff::fmt::strtime::format(format, &stamp.to_zoned(TimeZone::fixed(offset))).ok()
}

#[cfg(test)]
mod tests {
    use super::{Slot, Template, TemplateError, date};
    use crate::core::id::Wall;

    fn fill(text: &str) -> String {
        let filled =
            Template::parse(text).unwrap().expand(|slot| Some(slot.to_string().into_bytes()));
        String::from_utf8(filled.unwrap()).unwrap()
    }

    #[test]
    fn literals_stay() {
        for text in [
            "{}",
            "{print $1}",
            r#"{"a":{"b":1}}"#,
            "{{.Name}}",
            "a{",
            "{ path }",
            "{A}",
            "${HOME}",
        ] {
            assert_eq!(fill(text), text);
        }
    }

    #[test]
    fn escapes_and_slots() {
        assert_eq!(fill("{{path}"), "{path}");
        let parsed = Template::parse("x{path}y{out.a.b.rows}").unwrap();
        let slots: Vec<_> = parsed.slots().cloned().collect();
        assert_eq!(slots, [Slot::Path, Slot::Out { task: "a.b".into(), key: "rows".into() }]);
        assert!(Template::parse("{paths}").unwrap().is_paths());
        assert!(!Template::parse("x{paths}").unwrap().is_paths());
    }

    #[test]
    fn unknown_names_are_errors() {
        let unknown = Template::parse("a {pth}").unwrap_err();
        assert_eq!(unknown, TemplateError::Unknown { name: "pth".into(), at: 2 });
        assert!(matches!(Template::parse("{date:%!}"), Err(TemplateError::BadDate { at: 0, .. })));
    }

    #[test]
    fn dates_use_the_offset() {
        assert_eq!(date("%Y%m%d %H", Wall(0), 3600).unwrap(), "19700101 01");
    }
}
