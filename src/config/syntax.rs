//! From text to TOML trees, with every syntax error.
//!
//! What the trees mean is read by [`super::resolve()`].

use std::path::Path;

use toml::Spanned;
use toml::de::DeTable;

use super::SourceText;
use super::diagnostics::{Problem, Span};
use super::reader;
use super::words;

/// The largest file, in bytes. A hundred thousand tasks take a tenth of it.
pub const FILE_MAX: usize = 64 << 20;

/// Syntax errors that are kept of one file: after a few, the rest are echoes.
const ERRORS_MAX: usize = 20;

/// A file's tree.
#[derive(Debug)]
pub struct Tree<'s> {
    /// The top table.
    pub root: Spanned<DeTable<'s>>,
    /// Where what was read may be nonsense, because of a syntax error.
    pub broken: Vec<Span>,
}

/// Parses file number `file`.
pub fn parse<'s>(file: u32, source: &'s SourceText, problems: &mut Vec<Problem>) -> Tree<'s> {
    if source.text.len() > FILE_MAX {
        problems.push(too_large(&source.path));
        let broken = vec![Span { file, start: 0, end: u32::MAX }];
        return Tree { root: Spanned::new(0..0, DeTable::new()), broken };
    }
    let (root, errors) = DeTable::parse_recoverable(&source.text);
    let mut broken = Vec::new();
    let mut told = None;
    for error in errors.iter().take(ERRORS_MAX) {
        let end = source.text.len();
        let range = error.span().unwrap_or(end..end);
        let before = &source.text[..range.start.min(end)];
        // From the beginning of the line: it may have been read as something else.
        let line = before.rfind('\n').map_or(0, |at| at + 1);
        if told.replace(line) == Some(line) {
            // A second error in a line is an echo of the first.
            continue;
        }
        problems.push(problem(file, &source.text, &range, error.message()));
        let header = source.text[line..].trim_start().starts_with('[');
        let stays = !header && stays_in_line(error.message());
        let until = if stays { range.end.max(line) } else { usize::MAX };
        broken.push(reader::span(file, &(line..until)));
        if error.message().contains("array") || error.message().contains("inline table") {
            // The parser takes all that follows for a part of it.
            break;
        }
    }
    Tree { root, broken }
}

/// Whether the parser is sure about the lines after such an error.
fn stays_in_line(message: &str) -> bool {
    let sure = ["string values must be quoted", "duplicate key", "invalid "];
    sure.iter().any(|start| message.starts_with(start)) && !message.contains("multi-line")
}

/// The problem of a file beyond [`FILE_MAX`].
pub fn too_large(path: &Path) -> Problem {
    let what = format!("the file is larger than {} MiB", FILE_MAX >> 20);
    Problem::file(path, what).help("split it into files in conf.d")
}

fn problem(file: u32, text: &str, range: &std::ops::Range<usize>, message: &str) -> Problem {
    let span = reader::span(file, range);
    let key = text.get(range.clone()).unwrap_or_default();
    if message.starts_with("string values must be quoted") {
        let help = format!("write \"{}\"", words::shown(key));
        return Problem::at(span, "a string must stand in quotes").help(help);
    }
    if message.contains("array") {
        let help = "end the list with `]`, and put a `,` between its items";
        return Problem::at(span, message).help(help);
    }
    if message != "duplicate key" {
        return Problem::at(span, message);
    }
    let problem = Problem::at(span, format!("`{}` is defined twice", words::shown(key)))
        .label("defined again here")
        .help("rename or remove one of the two");
    match first_place(text, range.start, key) {
        Some(at) => problem.also(reader::span(file, &(at..at + key.len())), "first defined here"),
        None => problem,
    }
}

/// Where the key that is defined again at `at` was defined first, as far as the lines before tell.
fn first_place(text: &str, at: usize, key: &str) -> Option<usize> {
    let line_start = text[..at].rfind('\n').map_or(0, |newline| newline + 1);
    let header = text[line_start..].trim_start().starts_with('[');
    let wanted = if header {
        let line = text[line_start..].lines().next()?;
        line.split_once(']')?.0.trim()
    } else {
        key
    };
    let mut found = None;
    let mut start = 0;
    for line in text[..line_start].split_inclusive('\n') {
        let trimmed = line.trim_start();
        let indent = line.len() - trimmed.len();
        if let Some(rest) = trimmed.strip_prefix(wanted) {
            let rest = rest.trim_start();
            if header && rest.starts_with(']') && found.is_none() {
                found = Some(start + indent + wanted.len() - key.len());
            } else if !header && rest.starts_with('=') && found.is_none() {
                found = Some(start + indent);
            }
        } else if !header && trimmed.starts_with('[') {
            // Another table begins.
            found = None;
        }
        start += line.len();
    }
    found
}

#[cfg(test)]
mod tests {
    use super::first_place;

    #[test]
    fn first_places() {
        let text = "[tasks.a]\nx = 1\n[tasks.b]\n  x = 2\nx = 3\n[tasks.a]\n";
        let again = text.rfind("x = 3").unwrap();
        assert_eq!(first_place(text, again, "x"), text.find("x = 2"));
        let again = text.rfind("a]").unwrap();
        assert_eq!(first_place(text, again, "a"), Some(7));
    }
}
