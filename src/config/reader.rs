//! Typed reading of a parsed TOML tree that goes on after an error.
//!
//! Every method returns what it could read and notes what it could not, with the place. Knows
//! types, units and places, but not what the keys mean.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::SourceText;
use super::diagnostics::{Problem, Span};
use super::keys::{self, Scope};
use super::units::{self, UnitError};
use super::words::{self, Suggest};

/// Something read, and where.
#[derive(Clone, Debug)]
pub struct At<T> {
    /// What.
    pub value: T,
    /// Where.
    pub span: Span,
}

/// A value in a table or list, with the key that it belongs to.
#[derive(Clone, Copy, Debug)]
pub struct Value<'s> {
    /// The key's name.
    pub name: &'s str,
    /// Where the key stands.
    pub key: Span,
    node: &'s Spanned<DeValue<'s>>,
}

impl Value<'_> {
    /// Where the value stands.
    pub fn span(&self) -> Span {
        span(self.key.file, &self.node.span())
    }

    /// Whether it is a list.
    pub fn is_list(&self) -> bool {
        self.node.get_ref().is_array()
    }

    /// Whether it is a table.
    pub fn is_table(&self) -> bool {
        self.node.get_ref().is_table()
    }

    /// Whether it is a string.
    pub fn is_text(&self) -> bool {
        self.node.get_ref().is_str()
    }

    /// Whether it is a whole number.
    pub fn is_int(&self) -> bool {
        self.node.get_ref().is_integer()
    }

    /// Wraps something read from it.
    pub fn at<T>(&self, value: T) -> At<T> {
        At { value, span: self.span() }
    }
}

/// The reading of a whole configuration: all its problems come together here.
#[derive(Debug)]
pub struct Reader<'s> {
    sources: &'s [SourceText],
    problems: Vec<Problem>,
    once: BTreeMap<String, Span>,
    /// Finds what was meant.
    pub suggest: Suggest,
}

impl<'s> Reader<'s> {
    /// A reading of `sources`.
    pub fn new(sources: &'s [SourceText], problems: Vec<Problem>) -> Self {
        Self { sources, problems, once: BTreeMap::new(), suggest: Suggest::default() }
    }

    /// Notes a problem.
    pub fn note(&mut self, problem: Problem) {
        self.problems.push(problem);
    }

    /// What was noted so far.
    pub fn problems(&mut self) -> &mut Vec<Problem> {
        &mut self.problems
    }

    /// The folder of a file, which its relative paths begin from.
    pub fn folder(&self, file: u32) -> &'s Path {
        let path = self.sources.get(file as usize).map(|source| source.path.as_path());
        path.and_then(Path::parent).unwrap_or(Path::new("/"))
    }

    /// The entries of a whole file.
    pub fn root(&self, file: u32, map: &'s DeTable<'s>) -> Vec<Value<'s>> {
        entries(file, map)
    }

    /// The entries of a table, in the order of their names.
    pub fn table(&mut self, value: Value<'s>, example: &str) -> Vec<Value<'s>> {
        if let DeValue::Table(map) = value.node.get_ref() {
            return entries(value.key.file, map);
        }
        self.mismatch(value, "a table", &format!("write it as {example}"));
        Vec::new()
    }

    /// Notes that a key means nothing in `scope`, or nothing yet.
    pub fn unknown(&mut self, scope: &Scope, value: Value<'s>) {
        let shown = words::shown(value.name);
        let problem = if scope.later.contains(&value.name) {
            Problem::at(value.key, format!("`{shown}` is not supported yet"))
                .help(format!("remove it: this version of dagd does without `{shown}`"))
        } else {
            let help = self
                .suggest
                .did_you_mean(value.name, scope.keys.iter().copied())
                .or_else(|| {
                    keys::elsewhere(value.name).map(|home| format!("`{shown}` belongs into {home}"))
                })
                .unwrap_or_else(|| {
                    format!("the keys of {} are {}", scope.what, list(scope.keys, "and"))
                });
            Problem::at(value.key, format!("unknown key `{shown}` in {}", scope.what)).help(help)
        };
        self.note(problem);
    }

    /// Notes it if `id` was met before; the first place wins.
    pub fn once(&mut self, id: &str, what: &str, key: Span) -> bool {
        let Some(&first) = self.once.get(id) else {
            self.once.insert(id.to_owned(), key);
            return true;
        };
        self.twice(what, first, key);
        false
    }

    /// Notes that `what` has two definitions.
    pub fn twice(&mut self, what: &str, first: Span, second: Span) {
        self.note(
            Problem::at(second, format!("{what} is defined twice"))
                .label("defined again here")
                .also(first, "first defined here")
                .help("all files share one set of names: rename or remove one of the two"),
        );
    }

    /// A string.
    pub fn text(&mut self, value: Value<'s>) -> Option<&'s str> {
        let DeValue::String(text) = value.node.get_ref() else {
            let help = match value.node.get_ref() {
                DeValue::Integer(_) | DeValue::Float(_) | DeValue::Boolean(_) => {
                    format!("write \"{}\"", self.raw(value.span()))
                }
                _ => "write one string, in quotes".to_owned(),
            };
            self.mismatch(value, "a string", &help);
            return None;
        };
        if let Some(at) = text.find('\0') {
            let span = self.within(value.span(), at, 1);
            self.note(
                Problem::at(span, format!("`{}` holds a NUL character", value.name))
                    .help("neither a path nor an argument can hold one"),
            );
            return None;
        }
        Some(text)
    }

    /// A list; its items carry the list's key.
    pub fn items(&mut self, value: Value<'s>, of: &str, example: &str) -> Vec<Value<'s>> {
        let DeValue::Array(array) = value.node.get_ref() else {
            let help = match value.node.get_ref() {
                DeValue::String(_) | DeValue::Integer(_) => {
                    format!("write {} = [{}]", value.name, self.raw(value.span()))
                }
                _ => format!("write it as {example}"),
            };
            self.mismatch(value, &format!("a list of {of}"), &help);
            return Vec::new();
        };
        array.iter().map(|node| Value { node, ..value }).collect()
    }

    /// A list of strings.
    pub fn texts(&mut self, value: Value<'s>, example: &str) -> Vec<At<&'s str>> {
        let items = self.items(value, "strings", example);
        items.into_iter().filter_map(|item| Some(item.at(self.text(item)?))).collect()
    }

    /// True or false.
    pub fn flag(&mut self, value: Value<'s>) -> Option<bool> {
        if let DeValue::Boolean(flag) = value.node.get_ref() {
            return Some(*flag);
        }
        self.mismatch(value, "true or false", "write true or false, without quotes");
        None
    }

    /// A whole number within `range`.
    pub fn int(&mut self, value: Value<'s>, range: RangeInclusive<i64>) -> Option<i64> {
        let DeValue::Integer(int) = value.node.get_ref() else {
            let help = format!("write a number from {} to {}", range.start(), range.end());
            self.mismatch(value, "a whole number", &help);
            return None;
        };
        let read = i64::from_str_radix(int.as_str(), int.radix()).ok();
        let read = read.filter(|read| range.contains(read));
        if read.is_none() {
            let raw = words::shown(self.raw(value.span()));
            let what = format!("`{}` cannot be {raw}", words::shown(value.name));
            let help = format!("it goes from {} to {}", range.start(), range.end());
            self.note(Problem::at(value.span(), what).help(help));
        }
        read
    }

    /// A number, with or without a fraction.
    pub fn number(&mut self, value: Value<'s>) -> Option<f64> {
        let text = match value.node.get_ref() {
            DeValue::Float(float) => float.as_str(),
            DeValue::Integer(int) if int.radix() == 10 => int.as_str(),
            _ => {
                self.mismatch(value, "a number", "write it as 2.0");
                return None;
            }
        };
        text.parse().ok()
    }

    /// A span of time.
    pub fn duration(&mut self, value: Value<'s>) -> Option<Duration> {
        self.unit(value, "a duration", ("s", "30s"), units::duration)
    }

    /// A number of bytes.
    pub fn size(&mut self, value: Value<'s>) -> Option<u64> {
        self.unit(value, "a size", ("B", "64MiB"), units::size)
    }

    fn unit<T>(
        &mut self,
        value: Value<'s>,
        what: &str,
        (unit, example): (&str, &str),
        parse: fn(&str) -> Result<T, UnitError>,
    ) -> Option<T> {
        let DeValue::String(text) = value.node.get_ref() else {
            let help = match value.node.get_ref() {
                DeValue::Integer(_) => format!(
                    "add the unit and quotes: {} = \"{}{unit}\"",
                    value.name,
                    self.raw(value.span()).replace('_', "")
                ),
                _ => format!("write it as \"{example}\""),
            };
            self.mismatch(value, &format!("{what} with a unit"), &help);
            return None;
        };
        match parse(text) {
            Ok(read) => Some(read),
            Err(UnitError { what, help }) => {
                self.note(Problem::at(value.span(), what).help(help));
                None
            }
        }
    }

    /// One of a few words. `later` are words that will mean something.
    pub fn choice<T: Copy>(
        &mut self,
        value: Value<'s>,
        words: &[(&'static str, T)],
        later: &[&str],
    ) -> Option<T> {
        let text = self.text(value)?;
        if let Some((_, choice)) = words.iter().find(|(word, _)| *word == text) {
            return Some(*choice);
        }
        let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        let shown = words::shown(text);
        let problem = if later.contains(&text) {
            let what = format!("`{} = \"{shown}\"` is not supported yet", value.name);
            Problem::at(value.span(), what).help(format!("it can be {}", list(&known, "or")))
        } else {
            let what = format!("`{}` cannot be \"{shown}\"", value.name);
            Problem::at(value.span(), what)
                .maybe_help(self.suggest.did_you_mean(text, known.iter().copied()))
                .help(format!("it can be {}", list(&known, "or")))
        };
        self.note(problem);
        None
    }

    /// A path; a relative one begins in the folder of the file.
    pub fn path(&mut self, value: Value<'s>) -> Option<PathBuf> {
        let text = self.text(value)?;
        if text.is_empty() {
            let help = "write a path, absolute or relative to the folder of this file";
            let what = format!("`{}` is empty", value.name);
            self.note(Problem::at(value.span(), what).help(help));
            return None;
        }
        Some(self.folder(value.key.file).join(text).components().collect())
    }

    /// The place of `len` bytes from byte `at` of the string that stands at `span`.
    pub fn within(&self, span: Span, at: usize, len: usize) -> Span {
        let raw = self.raw(span);
        let place = |at: usize| u32::try_from(words::place_in(raw, at)).unwrap_or(u32::MAX);
        let start = span.start.saturating_add(place(at)).min(span.end.saturating_sub(1));
        let end =
            span.start.saturating_add(place(at + len)).clamp(start + 1, span.end.max(start + 1));
        Span { start, end, ..span }
    }

    /// The source at `span`.
    pub fn raw(&self, span: Span) -> &'s str {
        let source = self.sources.get(span.file as usize).map_or("", |source| &source.text);
        source.get(span.start as usize..span.end as usize).unwrap_or_default()
    }

    fn mismatch(&mut self, value: Value<'s>, expected: &str, help: &str) {
        let found = match value.node.get_ref() {
            DeValue::String(_) => "a string",
            DeValue::Integer(_) => "a whole number",
            DeValue::Float(_) => "a number with a fraction",
            DeValue::Boolean(_) => "true or false",
            DeValue::Datetime(_) => "a date",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a table",
        };
        let name = words::shown(value.name);
        self.note(
            Problem::at(value.span(), format!("`{name}` takes {expected}, not {found}")).help(help),
        );
    }
}

/// `a`, `b` and `c`, with `and` or another word before the last.
pub fn list(words: &[&str], joint: &str) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
    match quoted.as_slice() {
        [] => String::new(),
        [one] => one.clone(),
        [most @ .., last] => format!("{} {joint} {last}", most.join(", ")),
    }
}

fn entries<'s>(file: u32, map: &'s DeTable<'s>) -> Vec<Value<'s>> {
    let entry = |(key, node): (&'s Spanned<_>, &'s Spanned<DeValue<'s>>)| {
        let key: &'s Spanned<toml::de::DeString<'s>> = key;
        Value { name: key.get_ref(), key: span(file, &key.span()), node }
    };
    map.iter().map(entry).collect()
}

/// A span of file number `file`.
pub fn span(file: u32, range: &std::ops::Range<usize>) -> Span {
    let place = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
    Span { file, start: place(range.start), end: place(range.end) }
}
