//! Selectors: one grammar for naming a subgraph, in the configuration and on the command line.
//!
//! ```text
//! union     := intersect ("," intersect)*            a leading "-" subtracts from what is left of it
//! intersect := atom ("&" atom)*
//! atom      := "@" base | [N] "+" base | base "+" [N] | both | base | "(" union ")"
//! base      := name with * and ?  |  "tag:" name with * and ?
//! ```

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::graph::Graph;
use super::id::NodeIx;

/// A parsed selector. Two are equal if their texts are.
#[derive(Clone)]
pub struct Selector {
    text: String,
    union: Vec<Part>,
}

#[derive(Clone, Debug)]
struct Part {
    subtract: bool,
    factors: Vec<Atom>,
}

#[derive(Clone, Debug)]
struct Atom {
    base: Base,
    /// Steps towards what it needs.
    up: u32,
    /// Steps towards what needs it.
    down: u32,
    /// `@`: descendants, and all ancestors of those.
    at: bool,
}

#[derive(Clone, Debug)]
enum Base {
    Name(String),
    Tag(String),
    Group(Vec<Part>),
}

/// Why a text is no selector.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct SelectorError {
    /// What is wrong.
    pub what: String,
    /// Byte offset in the text.
    pub at: usize,
}

impl Selector {
    /// Parses `text`.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        let mut parser = Parser { text, at: 0, depth: 0 };
        let union = parser.union()?;
        parser.spaces();
        match parser.rest().chars().next() {
            None => Ok(Self { text: text.to_owned(), union }),
            Some(other) => Err(parser.error(format!("unexpected `{other}`"))),
        }
    }

    /// A selector for exactly the task `name`.
    pub fn task(name: &str) -> Self {
        let atom = Atom { base: Base::Name(name.to_owned()), up: 0, down: 0, at: false };
        Self { text: name.to_owned(), union: vec![Part { subtract: false, factors: vec![atom] }] }
    }

    /// The text that it was parsed from.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The tasks that it names.
    pub fn eval(&self, graph: &Graph) -> BTreeSet<NodeIx> {
        eval_union(&self.union, graph)
    }

    /// Names and tags in it that match nothing in the graph, each with its pattern as written.
    pub fn unmatched(&self, graph: &Graph) -> Vec<String> {
        fn walk(parts: &[Part], graph: &Graph, found: &mut Vec<String>) {
            for atom in parts.iter().flat_map(|part| &part.factors) {
                match &atom.base {
                    Base::Group(inner) => walk(inner, graph, found),
                    Base::Name(name) if eval_base(&atom.base, graph).is_empty() => {
                        found.push(name.clone());
                    }
                    Base::Tag(tag) if eval_base(&atom.base, graph).is_empty() => {
                        found.push(format!("tag:{tag}"));
                    }
                    Base::Name(_) | Base::Tag(_) => {}
                }
            }
        }
        let mut found = Vec::new();
        walk(&self.union, graph, &mut found);
        found
    }
}

fn eval_union(parts: &[Part], graph: &Graph) -> BTreeSet<NodeIx> {
    let mut chosen = BTreeSet::new();
    for part in parts {
        let mut factors = part.factors.iter().map(|atom| eval_atom(atom, graph));
        let first = factors.next().unwrap_or_default();
        let common = factors.fold(first, |common, next| &common & &next);
        chosen = if part.subtract { &chosen - &common } else { &chosen | &common };
    }
    chosen
}

fn eval_atom(atom: &Atom, graph: &Graph) -> BTreeSet<NodeIx> {
    let base = eval_base(&atom.base, graph);
    if atom.at {
        return graph.reach(&graph.reach(&base, false, u32::MAX), true, u32::MAX);
    }
    let up = graph.reach(&base, true, atom.up);
    let down = graph.reach(&base, false, atom.down);
    &up | &down
}

fn eval_base(base: &Base, graph: &Graph) -> BTreeSet<NodeIx> {
    match base {
        Base::Group(parts) => eval_union(parts, graph),
        Base::Name(name) if !name.contains(['*', '?']) => graph.find(name).into_iter().collect(),
        Base::Name(pattern) => {
            graph.nodes().filter(|&ix| wildcard(pattern, &graph.task(ix).name)).collect()
        }
        Base::Tag(pattern) => graph
            .nodes()
            .filter(|&ix| graph.task(ix).tags.iter().any(|tag| wildcard(pattern, tag)))
            .collect(),
    }
}

/// Matches `*` and `?`, in time linear in pattern times text.
fn wildcard(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut p, mut t, mut star) = (0, 0, None);
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(&c) if c == b'?' || c == text[t] => {
                p += 1;
                t += 1;
            }
            _ => match star {
                Some((at, from)) => {
                    star = Some((at, from + 1));
                    p = at + 1;
                    t = from + 1;
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|&c| c == b'*')
}

/// Brackets within brackets, at most.
const DEPTH_MAX: u32 = 64;

struct Parser<'a> {
    text: &'a str,
    at: usize,
    depth: u32,
}

impl<'a> Parser<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn error(&self, what: impl Into<String>) -> SelectorError {
        SelectorError { what: what.into(), at: self.at }
    }

    fn spaces(&mut self) {
        self.at += self.rest().len() - self.rest().trim_start().len();
    }

    fn take(&mut self, c: char) -> bool {
        let found = self.rest().starts_with(c);
        if found {
            self.at += c.len_utf8();
        }
        found
    }

    fn number(&mut self) -> Result<Option<u32>, SelectorError> {
        let digits = self.rest().bytes().take_while(u8::is_ascii_digit).count();
        if digits == 0 {
            return Ok(None);
        }
        let value =
            self.rest()[..digits].parse().map_err(|_| self.error("the number is too large"))?;
        self.at += digits;
        Ok(Some(value))
    }

    fn union(&mut self) -> Result<Vec<Part>, SelectorError> {
        let mut parts = Vec::new();
        loop {
            self.spaces();
            let subtract = self.take('-');
            let mut factors = vec![self.atom()?];
            self.spaces();
            while self.take('&') {
                factors.push(self.atom()?);
                self.spaces();
            }
            parts.push(Part { subtract, factors });
            if !self.take(',') {
                return Ok(parts);
            }
        }
    }

    fn atom(&mut self) -> Result<Atom, SelectorError> {
        self.spaces();
        if self.take('@') {
            return Ok(Atom { base: self.base()?, up: 0, down: 0, at: true });
        }
        let start = self.at;
        let steps = self.number()?;
        let up = match (steps, self.take('+')) {
            (steps, true) => steps.unwrap_or(u32::MAX),
            (None, false) => 0,
            (Some(_), false) => {
                // A name may begin with a digit.
                self.at = start;
                0
            }
        };
        let base = self.base()?;
        let down = if self.take('+') { self.number()?.unwrap_or(u32::MAX) } else { 0 };
        Ok(Atom { base, up, down, at: false })
    }

    fn base(&mut self) -> Result<Base, SelectorError> {
        if self.take('(') {
            self.depth += 1;
            if self.depth > DEPTH_MAX {
                return Err(self.error(format!("more than {DEPTH_MAX} brackets within each other")));
            }
            let parts = self.union()?;
            self.spaces();
            self.depth -= 1;
            return if self.take(')') {
                Ok(Base::Group(parts))
            } else {
                Err(self.error("missing `)`"))
            };
        }
        let tag = self.rest().starts_with("tag:");
        if tag {
            self.at += "tag:".len();
        }
        let len = self.rest().bytes().take_while(|&b| is_pattern_byte(b)).count();
        if len == 0 {
            let what = match self.rest().chars().next() {
                None => "a task name is missing at the end".to_owned(),
                Some(c) => format!("expected a task name, found `{c}`"),
            };
            return Err(self.error(what));
        }
        let name = self.rest()[..len].to_owned();
        self.at += len;
        Ok(if tag { Base::Tag(name) } else { Base::Name(name) })
    }
}

/// Whether a byte may stand in the name of a task, trigger, pool or tag.
pub fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.')
}

fn is_pattern_byte(byte: u8) -> bool {
    is_name_byte(byte) || matches!(byte, b'*' | b'?')
}

impl PartialEq for Selector {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Selector {}

impl fmt::Debug for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.text, f)
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Serialize for Selector {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Selector {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::Selector;
    use crate::core::graph::Graph;
    use crate::core::task::TaskSpec;

    /// a → b → c → d, x → c, lone (tag t)
    fn graph() -> Graph {
        let task = |name: &str, needs: &[&str], tag: &str| {
            let mut task = TaskSpec::new(name, Vec::new());
            task.needs = needs.iter().map(|&need| need.into()).collect();
            task.tags = [tag.into()].into();
            task
        };
        let tasks = vec![
            task("a", &[], "first"),
            task("b", &["a"], "t"),
            task("c", &["b", "x"], "t"),
            task("d", &["c"], "last"),
            task("x", &[], "first"),
            task("load-1.x", &[], "t"),
        ];
        Graph::build(tasks).unwrap()
    }

    fn select(text: &str) -> String {
        let graph = graph();
        let chosen = Selector::parse(text).unwrap().eval(&graph);
        let names: Vec<_> = chosen.into_iter().map(|ix| graph.task(ix).name.to_string()).collect();
        names.join(" ")
    }

    #[test]
    fn the_whole_grammar() {
        for (text, chosen) in [
            ("a", "a"),
            ("a+", "a b c d"),
            ("+c", "a b c x"),
            ("+c+", "a b c d x"),
            ("1+c", "b c x"),
            ("a+1", "a b"),
            ("1+c+1", "b c d x"),
            ("0+c", "c"),
            ("@b", "a b c d x"),
            ("load*", "load-1.x"),
            ("?", "a b c d x"),
            ("tag:t", "b c load-1.x"),
            ("tag:t & +d", "b c"),
            ("a, d", "a d"),
            ("a+, -c+", "a b"),
            ("a+,-(c,d)&tag:t", "a b d"),
            ("(a,x)+1", "a b c x"),
            ("load-1.x", "load-1.x"),
            ("nothing", ""),
            ("*, -tag:first", "b c d load-1.x"),
        ] {
            assert_eq!(select(text), chosen, "{text}");
        }
    }

    #[test]
    fn errors_have_a_place() {
        for (text, at, what) in [
            ("", 0, "a task name is missing at the end"),
            ("a,,b", 2, "expected a task name, found `,`"),
            ("a b", 2, "unexpected `b`"),
            ("(a", 2, "missing `)`"),
            ("a+99999999999", 2, "the number is too large"),
            ("@+a", 1, "expected a task name, found `+`"),
        ] {
            let error = Selector::parse(text).unwrap_err();
            assert_eq!((error.at, error.what.as_str()), (at, what), "{text}");
        }
        assert!(Selector::parse(&"(".repeat(100_000)).is_err());
    }

    #[test]
    fn unmatched_names_are_told() {
        let selector = Selector::parse("a+,zz,(tag:q)").unwrap();
        assert_eq!(selector.unmatched(&graph()), ["zz", "tag:q"]);
    }
}
