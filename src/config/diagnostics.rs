//! What is wrong with a configuration, all of it, shown in its place.
//!
//! Collects [`Problem`]s and renders them with file, line, column, source line and caret. Decides
//! nothing about what is wrong, and prints nothing.

use std::fmt;
use std::path::{Path, PathBuf};

use annotate_snippets::{
    AnnotationKind, Element, Group, Level, Origin, Renderer, Snippet, normalize_untrusted_str,
};

use super::SourceText;

/// Problems that are kept; more are counted. Nobody reads further, and a broken file of many
/// megabytes must not become gigabytes of text.
const PROBLEMS_MAX: usize = 1_000;

/// Bytes of a source line that are shown on either side of a caret.
const EXCERPT_MAX: usize = 2_000;

/// Lines between two marks in one file that are shown together.
const TOGETHER_MAX: usize = 4;

/// A stretch of a source file, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span {
    /// Index of the file among the sources.
    pub file: u32,
    /// First byte.
    pub start: u32,
    /// The byte after the last.
    pub end: u32,
}

/// One thing that is wrong, with its place and its remedy.
#[derive(Clone, Debug)]
pub struct Problem {
    title: String,
    place: Place,
    also: Vec<(Span, String)>,
    help: Vec<String>,
    /// Whether it tells that something is missing: void if a part of the file cannot be read.
    absence: bool,
}

#[derive(Clone, Debug)]
enum Place {
    Nowhere,
    File(PathBuf),
    Span(Span, String),
}

impl Problem {
    /// A problem at `span`.
    pub fn at(span: Span, title: impl Into<String>) -> Self {
        Self::new(Place::Span(span, String::new()), title)
    }

    /// A problem with a file as a whole.
    pub fn file(path: &Path, title: impl Into<String>) -> Self {
        Self::new(Place::File(path.to_owned()), title)
    }

    /// A problem without a place.
    pub fn nowhere(title: impl Into<String>) -> Self {
        Self::new(Place::Nowhere, title)
    }

    fn new(place: Place, title: impl Into<String>) -> Self {
        Self { title: title.into(), place, also: Vec::new(), help: Vec::new(), absence: false }
    }

    /// Says at the caret what is wrong there.
    #[must_use]
    pub fn label(mut self, text: impl Into<String>) -> Self {
        if let Place::Span(_, label) = &mut self.place {
            *label = text.into();
        }
        self
    }

    /// Shows a second place.
    #[must_use]
    pub fn also(mut self, span: Span, text: impl Into<String>) -> Self {
        self.also.push((span, text.into()));
        self
    }

    /// Says what to do.
    #[must_use]
    pub fn help(mut self, text: impl Into<String>) -> Self {
        self.help.push(text.into());
        self
    }

    /// Says what to do, if there is an idea.
    #[must_use]
    pub fn maybe_help(self, text: Option<String>) -> Self {
        match text {
            Some(text) => self.help(text),
            None => self,
        }
    }

    /// Marks it as void where a part of the file could not be read.
    #[must_use]
    pub fn absence(mut self) -> Self {
        self.absence = true;
        self
    }

    /// Whether it may be a mere consequence of a syntax error that makes `syntax` doubtful.
    pub(super) fn is_echo_of(&self, syntax: Span) -> bool {
        match self.place {
            Place::Span(span, _) if span.file == syntax.file => {
                self.absence || (span.end >= syntax.start && span.start <= syntax.end)
            }
            Place::Span(..) | Place::File(_) | Place::Nowhere => false,
        }
    }
}

/// The problems of a configuration, in the order of their places.
pub struct Diagnostics {
    sources: Vec<Source>,
    problems: Vec<Problem>,
    /// Problems beyond [`PROBLEMS_MAX`].
    more: usize,
}

struct Source {
    path: String,
    text: String,
    /// Where each line begins.
    lines: Vec<usize>,
}

impl Diagnostics {
    /// Puts `problems` of `sources` in order.
    pub fn new(sources: &[SourceText], mut problems: Vec<Problem>) -> Self {
        problems.sort_by_key(|problem| match problem.place {
            Place::Nowhere => (0, None),
            Place::File(_) => (1, None),
            Place::Span(span, _) => (2, Some(span)),
        });
        let more = problems.len().saturating_sub(PROBLEMS_MAX);
        problems.truncate(PROBLEMS_MAX);
        let sources = sources.iter().map(Source::new).collect();
        Self { sources, problems, more }
    }

    /// How many problems there are, at least 1.
    pub fn len(&self) -> usize {
        self.problems.len() + self.more
    }

    /// Whether there is no problem at all.
    pub fn is_empty(&self) -> bool {
        self.problems.is_empty()
    }

    /// All of it for a person, each problem followed by an empty line; coloured for a terminal if
    /// `color`.
    pub fn render(&self, color: bool) -> String {
        let renderer = if color { Renderer::styled() } else { Renderer::plain() };
        let mut whole = String::new();
        for problem in &self.problems {
            whole.push_str(&renderer.render(&[self.group(problem)]));
            whole.push_str("\n\n");
        }
        if self.more > 0 {
            whole.push_str("… and ");
            whole.push_str(&self.more.to_string());
            whole.push_str(" more\n\n");
        }
        whole
    }

    fn group<'a>(&'a self, problem: &'a Problem) -> Group<'a> {
        let title = Level::ERROR.primary_title(problem.title.as_str());
        let mut elements: Vec<Element<'a>> = Vec::new();
        match &problem.place {
            Place::Nowhere => {}
            Place::File(path) => {
                elements.push(Origin::path(path.to_string_lossy().into_owned()).into());
            }
            Place::Span(span, label) => {
                let mut marks = vec![(*span, label.as_str(), AnnotationKind::Primary)];
                for (span, label) in &problem.also {
                    marks.push((*span, label.as_str(), AnnotationKind::Context));
                }
                elements.extend(self.snippets(marks).into_iter().map(Element::from));
            }
        }
        for help in &problem.help {
            elements.push(Level::HELP.message(normalize_untrusted_str(help)).into());
        }
        let group = Group::with_title(title);
        if elements.is_empty() { group } else { group.elements(elements) }
    }

    /// The excerpts that show `marks`: near ones of a file together, the one with the caret first.
    fn snippets<'a>(
        &'a self,
        mut marks: Vec<Mark<'a>>,
    ) -> Vec<Snippet<'a, annotate_snippets::Annotation<'a>>> {
        // In the order of their places, so that a chain of near marks stays together.
        marks.sort_by_key(|mark| mark.0);
        let mut excerpts: Vec<Excerpt<'a>> = Vec::new();
        for mark in marks {
            let Some(source) = self.sources.get(mark.0.file as usize) else { continue };
            let (first, last) = (source.line(mark.0.start), source.line(mark.0.end));
            match excerpts.last_mut() {
                Some(near) if near.file == mark.0.file && first <= near.last + TOGETHER_MAX => {
                    near.last = near.last.max(last);
                    near.marks.push(mark);
                }
                Some(_) | None => {
                    excerpts.push(Excerpt { file: mark.0.file, first, last, marks: vec![mark] });
                }
            }
        }
        excerpts.sort_by_key(|excerpt| {
            !excerpt.marks.iter().any(|mark| mark.2 == AnnotationKind::Primary)
        });
        let shown = excerpts.iter();
        shown.map(|excerpt| self.sources[excerpt.file as usize].snippet(excerpt)).collect()
    }
}

/// A place, what to say at it, and whether it is the caret's.
type Mark<'a> = (Span, &'a str, AnnotationKind);

/// Lines of a file with their marks.
struct Excerpt<'a> {
    file: u32,
    first: usize,
    last: usize,
    marks: Vec<Mark<'a>>,
}

impl Source {
    fn new(source: &SourceText) -> Self {
        let ends = source.text.bytes().enumerate().filter(|&(_, byte)| byte == b'\n');
        Self {
            path: source.path.to_string_lossy().into_owned(),
            text: source.text.clone(),
            lines: std::iter::once(0).chain(ends.map(|(at, _)| at + 1)).collect(),
        }
    }

    /// The index of the line that holds byte `at`.
    fn line(&self, at: u32) -> usize {
        self.lines.partition_point(|&start| start <= at as usize).saturating_sub(1)
    }

    /// The lines of an excerpt with their marks. Very long lines are cut.
    fn snippet<'a>(
        &'a self,
        shown: &Excerpt<'a>,
    ) -> Snippet<'a, annotate_snippets::Annotation<'a>> {
        let (from, marks) = (shown.first, &shown.marks);
        let start = self.lines[from];
        let end = self.lines.get(shown.last + 1).copied().unwrap_or(self.text.len());
        let last = marks.iter().map(|mark| mark.0.end as usize).max().unwrap_or(start);
        let end = self.text.floor_char_boundary(end.min(last + EXCERPT_MAX));
        let excerpt = self.text.get(start..end).unwrap_or_default();
        let excerpt = excerpt.strip_suffix('\n').unwrap_or(excerpt);
        let within = |at: u32| {
            excerpt.floor_char_boundary((at as usize).saturating_sub(start).min(excerpt.len()))
        };
        let annotations = marks.iter().map(|(span, label, kind)| {
            let at = kind.span(within(span.start)..within(span.end));
            if label.is_empty() { at } else { at.label(*label) }
        });
        Snippet::source(excerpt)
            .line_start(from + 1)
            .path(self.path.as_str())
            .annotations(annotations)
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.render(false).trim_end())
    }
}

impl fmt::Debug for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Diagnostics {}
