//! Which names count for a trigger, and which belong together.
//!
//! Compares names only: what is at a name is asked elsewhere.

use std::fmt;

use globset::{Glob, GlobBuilder, GlobMatcher, GlobSet, GlobSetBuilder};
use regex::bytes::{Regex, RegexBuilder};

use super::path::Bytes;

/// Which names count. Rejection is final for a version: see [`Filter::rejects`].
#[derive(Clone)]
pub struct Filter {
    include: GlobSet,
    exclude: GlobSet,
    outputs: GlobSet,
    /// The patterns as configured, for messages.
    include_patterns: Vec<String>,
    exclude_patterns: Vec<String>,
    output_patterns: Vec<String>,
    /// Whether the list of names that producers use for unfinished files applies.
    default_ignores: bool,
    /// Whether names that begin with a dot count.
    hidden: bool,
    /// What a path has to match besides: a file without a key belongs to no group.
    set_key: Option<KeyPattern>,
}

/// Why a name does not count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rejected {
    /// A component begins with a dot and `hidden` is false.
    Hidden,
    /// It is a name that producers give to unfinished files.
    DefaultIgnore(&'static str),
    /// A pattern of `exclude` matches.
    Exclude(String),
    /// A task that the trigger runs writes it, as its `outputs` say.
    Output(String),
    /// No pattern of `include` matches.
    NotIncluded,
    /// The expression of `set_key` does not match.
    SetKey(String),
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hidden => f.write_str("hidden"),
            Self::DefaultIgnore(pattern) => write!(f, "default_ignores: {pattern}"),
            Self::Exclude(pattern) => write!(f, "exclude: {pattern}"),
            Self::Output(pattern) => write!(f, "outputs: {pattern}"),
            Self::NotIncluded => f.write_str("include: no pattern matches"),
            Self::SetKey(text) => write!(f, "set_key: `{text}` does not match"),
        }
    }
}

impl fmt::Debug for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Filter")
            .field("include", &self.include_patterns)
            .field("exclude", &self.exclude_patterns)
            .field("default_ignores", &self.default_ignores)
            .field("hidden", &self.hidden)
            .field("outputs", &self.output_patterns)
            .finish_non_exhaustive()
    }
}

/// Names that producers give to files that are not finished. A trailing run of six capital `X`
/// stands for six letters or digits, as rsync and mkstemp append them.
const DEFAULT_IGNORES: [&str; 15] = [
    "*.part",
    "*.partial",
    "*.filepart",
    "*.crdownload",
    "*.download",
    "*.tmp",
    "*~",
    ".*.sw?",
    ".#*",
    ".~lock*",
    ".nfs*",
    ".fuse_hidden*",
    ".goutputstream-*",
    ".syncthing.*.tmp",
    ".*.XXXXXX",
];

impl Filter {
    /// Compiles the patterns. An `Err` holds the first bad one and why.
    pub fn new(
        include: Vec<String>,
        exclude: Vec<String>,
        default_ignores: bool,
        hidden: bool,
    ) -> Result<Self, (String, String)> {
        Ok(Self {
            include: globs(&include)?,
            exclude: globs(&exclude)?,
            outputs: GlobSet::empty(),
            include_patterns: include,
            exclude_patterns: exclude,
            output_patterns: Vec::new(),
            default_ignores,
            hidden,
            set_key: None,
        })
    }

    /// Leaves out what the trigger's own tasks write: patterns relative to the root. An `Err` holds
    /// the first bad one and why.
    pub fn set_outputs(&mut self, outputs: Vec<String>) -> Result<(), (String, String)> {
        self.outputs = globs(&outputs)?;
        self.output_patterns = outputs;
        Ok(())
    }

    /// The same, for files that have a key only.
    #[must_use]
    pub fn with_key(self, set_key: Option<KeyPattern>) -> Self {
        Self { set_key, ..self }
    }

    /// Why the file `rel` (relative to the root) does not count, or `None` if it does.
    pub fn rejects(&self, rel: &Bytes) -> Option<Rejected> {
        if !self.hidden && rel.as_bytes().split(|&b| b == b'/').any(|part| part.starts_with(b".")) {
            return Some(Rejected::Hidden);
        }
        if self.default_ignores
            && let Some(pattern) = DEFAULT_IGNORES.iter().find(|p| ignore_matches(p, rel.name()))
        {
            return Some(Rejected::DefaultIgnore(pattern));
        }
        if let Some(&at) = self.exclude.matches(rel.as_path()).first() {
            return Some(Rejected::Exclude(self.exclude_patterns[at].clone()));
        }
        if let Some(&at) = self.outputs.matches(rel.as_path()).first() {
            return Some(Rejected::Output(self.output_patterns[at].clone()));
        }
        if !self.include.is_match(rel.as_path()) {
            return Some(Rejected::NotIncluded);
        }
        let other = self.set_key.as_ref().filter(|pattern| pattern.key(rel).is_none());
        other.map(|pattern| Rejected::SetKey(pattern.text().to_owned()))
    }

    /// Whether the folder `rel` and all below it are out: neither watched nor scanned.
    pub fn prunes(&self, rel: &Bytes) -> bool {
        self.pruned_by(rel).is_some()
    }

    /// By which rule the folder `rel` and all below it are out.
    pub fn pruned_by(&self, rel: &Bytes) -> Option<Rejected> {
        if !self.hidden && rel.name().starts_with(b".") {
            return Some(Rejected::Hidden);
        }
        let inside = rel.join(b"");
        let first = |set: &GlobSet, patterns: &[String]| {
            let of =
                |path: &Bytes| set.matches(path.as_path()).first().map(|&at| patterns[at].clone());
            of(rel).or_else(|| of(&inside))
        };
        let excluded = first(&self.exclude, &self.exclude_patterns).map(Rejected::Exclude);
        excluded.or_else(|| first(&self.outputs, &self.output_patterns).map(Rejected::Output))
    }
}

/// One pattern, as of `set`.
#[derive(Clone)]
pub struct Pattern {
    text: String,
    glob: GlobMatcher,
}

impl Pattern {
    /// Compiles a pattern. An `Err` says why it is none.
    pub fn new(text: &str) -> Result<Self, String> {
        let glob = glob(text).map_err(|(_, why)| why)?.compile_matcher();
        Ok(Self { text: text.to_owned(), glob })
    }

    /// Whether the path below the root matches.
    pub fn matches(&self, rel: &Bytes) -> bool {
        self.glob.is_match(rel.as_path())
    }

    /// The pattern as configured.
    pub fn text(&self) -> &str {
        &self.text
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.text, f)
    }
}

/// What files have in common: the first group of a regular expression over the path below the root,
/// or all that matches if it has no group.
#[derive(Clone)]
pub struct KeyPattern {
    regex: Regex,
}

impl KeyPattern {
    /// Compiles an expression. An `Err` says why it is none.
    pub fn new(text: &str) -> Result<Self, String> {
        // Names are bytes, and need not be text.
        let regex = RegexBuilder::new(text).unicode(false).size_limit(KEY_SIZE_MAX).build();
        Ok(Self { regex: regex.map_err(|error| error.to_string())? })
    }

    /// The key of a file; `None` if the expression does not match.
    pub fn key(&self, rel: &Bytes) -> Option<Bytes> {
        let found = self.regex.captures(rel.as_bytes())?;
        let key = found.get(1).or_else(|| found.get(0))?;
        Some(Bytes::from(key.as_bytes().to_vec()))
    }

    /// The expression as configured.
    pub fn text(&self) -> &str {
        self.regex.as_str()
    }
}

impl fmt::Debug for KeyPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.text(), f)
    }
}

/// Memory of a compiled expression, in bytes: enough for any that a person writes.
const KEY_SIZE_MAX: usize = 1 << 20;

fn glob(pattern: &str) -> Result<Glob, (String, String)> {
    GlobBuilder::new(pattern)
        .literal_separator(true)
        .backslash_escape(true)
        .build()
        .map_err(|error| (pattern.to_owned(), error.kind().to_string()))
}

fn globs(patterns: &[String]) -> Result<GlobSet, (String, String)> {
    let mut set = GlobSetBuilder::new();
    for pattern in patterns {
        set.add(glob(pattern)?);
    }
    set.build().map_err(|error| (patterns.join(", "), error.kind().to_string()))
}

/// Matches the few shapes that occur in [`DEFAULT_IGNORES`]: `*`, `?` and the `X` run.
fn ignore_matches(pattern: &str, name: &[u8]) -> bool {
    fn go(pattern: &[u8], name: &[u8]) -> bool {
        match (pattern.split_first(), name.split_first()) {
            (None, None) => true,
            (Some((b'*', rest)), _) => (0..=name.len()).any(|skip| go(rest, &name[skip..])),
            (Some((b'?', rest)), Some((_, tail))) => go(rest, tail),
            (Some((b'X', rest)), Some((c, tail))) => c.is_ascii_alphanumeric() && go(rest, tail),
            (Some((p, rest)), Some((c, tail))) => p == c && go(rest, tail),
            (None, Some(_)) | (Some(_), None) => false,
        }
    }
    go(pattern.as_bytes(), name)
}

#[cfg(test)]
mod tests {
    use super::{Filter, KeyPattern, Rejected};

    fn filter(include: &[&str], exclude: &[&str]) -> Filter {
        let owned = |list: &[&str]| list.iter().map(|&s| s.to_owned()).collect();
        Filter::new(owned(include), owned(exclude), true, false).unwrap()
    }

    #[test]
    fn unfinished_names_do_not_count() {
        let all = filter(&["*"], &[]);
        for name in ["a.part", "a.filepart", "a.tmp", "a~", "x.crdownload"] {
            assert!(
                matches!(all.rejects(&name.into()), Some(Rejected::DefaultIgnore(_))),
                "{name}"
            );
        }
        let dots = Filter::new(vec!["*".into()], Vec::new(), true, true).unwrap();
        for name in [".a.swp", ".~lock.a#", ".data.csv.a1B2c3", ".#x"] {
            assert!(
                matches!(dots.rejects(&name.into()), Some(Rejected::DefaultIgnore(_))),
                "{name}"
            );
        }
        assert_eq!(dots.rejects(&".profile".into()), None);
        assert_eq!(all.rejects(&".profile".into()), Some(Rejected::Hidden));
    }

    #[test]
    fn globs_respect_folders() {
        let csv = filter(&["*.csv"], &["old*"]);
        assert_eq!(csv.rejects(&"a.csv".into()), None);
        assert_eq!(csv.rejects(&"sub/a.csv".into()), Some(Rejected::NotIncluded));
        assert_eq!(csv.rejects(&"old.csv".into()), Some(Rejected::Exclude("old*".into())));
        let deep = filter(&["**/*"], &["public/**"]);
        assert_eq!(deep.rejects(&"a/b/c".into()), None);
        assert!(deep.prunes(&"public".into()));
        assert!(!deep.prunes(&"src".into()));
        assert!(deep.prunes(&"src/.git".into()));
    }

    #[test]
    fn files_without_a_key_do_not_count() {
        let key = KeyPattern::new("^([0-9]+)_").unwrap();
        let keyed = filter(&["*.csv"], &[]).with_key(Some(key));
        assert_eq!(keyed.rejects(&"17_a.csv".into()), None);
        let why = keyed.rejects(&"a.csv".into()).unwrap();
        assert_eq!(why.to_string(), "set_key: `^([0-9]+)_` does not match");
        assert_eq!(keyed.rejects(&"17_a.xml".into()), Some(Rejected::NotIncluded));
    }

    #[test]
    fn bad_globs_are_named() {
        let (pattern, why) = Filter::new(vec!["[".into()], Vec::new(), true, false).unwrap_err();
        assert_eq!(pattern, "[");
        assert!(why.contains("unclosed"), "{why}");
    }
}
