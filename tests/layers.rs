//! The laws of the house, checked on the sources: which floor may name which, what each file must
//! have, what none may have. Each law is a pure function and is also shown to catch a violation.

#![cfg(test)]

use std::fs;
use std::path::{Path, PathBuf};

/// The floors from the bottom. A file names its own or lower ones.
const FLOORS: [(&str, u8); 7] =
    [("core", 0), ("config", 1), ("wire", 1), ("io", 2), ("daemon", 3), ("cli", 4), ("main", 4)];

/// Lines in a source file: what is longer has more than one idea.
const LINES_MAX: usize = 500;

/// Packages in Cargo.lock stay below it.
const PACKAGES_MAX: usize = 300;

/// Lines in ARCHITECTURE.md: what is longer is not read.
const MAP_LINES_MAX: usize = 240;

/// Words that put work off.
const LEFTOVERS: [&str; 6] = ["TODO", "FIXME", "XXX", "HACK", "todo!", "unimplemented!"];

const LOCKS: [&str; 3] = ["Mutex", "RwLock", "Condvar"];

fn top() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every source file: its path below `src` and its text.
fn sources() -> Vec<(String, String)> {
    let src = top().join("src");
    let mut files = Vec::new();
    let mut folders = vec![src.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ext| ext == "rs") {
                let name = path.strip_prefix(&src).unwrap().to_str().unwrap().to_owned();
                files.push((name, fs::read_to_string(&path).unwrap()));
            }
        }
    }
    files.sort();
    assert!(files.len() > 3, "the sources were not found");
    files
}

/// Holds a law against every source file and tells of all that break it.
fn hold(law: fn(&str, &str) -> Vec<String>) {
    let broken: Vec<String> = sources().iter().flat_map(|(name, text)| law(name, text)).collect();
    assert!(broken.is_empty(), "\n{}\n", broken.join("\n"));
}

/// The text with comments and the insides of strings blanked out, line by line the same.
fn code(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let len = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            block_comment(rest)
        } else if let Some(len) = raw_string(rest, out.chars().next_back()) {
            len
        } else if c == '"' {
            quoted(rest, '"')
        } else if c == '\'' && is_char(rest) {
            quoted(rest, '\'')
        } else {
            out.push(c);
            rest = &rest[c.len_utf8()..];
            continue;
        };
        out.extend(rest[..len].chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
        rest = &rest[len..];
    }
    out
}

fn block_comment(text: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < text.len() {
        let two = text.as_bytes().get(at..at + 2);
        depth += match two {
            Some(b"/*") => 1,
            Some(b"*/") => -1,
            _ => 0,
        };
        at += if matches!(two, Some(b"/*" | b"*/")) { 2 } else { 1 };
        if depth == 0 {
            return at;
        }
    }
    text.len()
}

/// The length of a raw string at the start of `text`, unless it continues a name.
fn raw_string(text: &str, before: Option<char>) -> Option<usize> {
    if before.is_some_and(|c| c.is_alphanumeric() || c == '_') {
        return None;
    }
    let inner = text.strip_prefix("br").or_else(|| text.strip_prefix('r'))?;
    let hashes = inner.len() - inner.trim_start_matches('#').len();
    inner[hashes..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    let start = text.len() - inner.len() + hashes + 1;
    Some(text[start..].find(&end).map_or(text.len(), |at| start + at + end.len()))
}

fn quoted(text: &str, end: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == end => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// A character, not a lifetime.
fn is_char(text: &str) -> bool {
    let mut chars = text.chars().skip(1);
    chars.next() == Some('\\') || chars.next() == Some('\'')
}

fn floor_of(module: &str) -> Option<u8> {
    FLOORS.iter().find(|(name, _)| *name == module).map(|(_, floor)| *floor)
}

/// The modules at the top of the crate that a stretch of code after `crate::` names.
fn named(after: &str) -> Vec<&str> {
    fn first(text: &str) -> &str {
        let text = text.trim_start();
        &text[..text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len())]
    }
    let after = after.trim_start();
    let Some(group) = after.strip_prefix('{') else { return vec![first(after)] };
    let (mut depth, mut start, mut names) = (0, 0, Vec::new());
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            '}' | ',' if depth == 0 => {
                names.push(first(&group[start..at]));
                start = at + 1;
                if c == '}' {
                    break;
                }
            }
            _ => {}
        }
    }
    names
}

/// No file names a higher floor, and every file is on one.
fn upward(name: &str, text: &str) -> Vec<String> {
    let module = name.split('/').next().unwrap_or(name).trim_end_matches(".rs");
    if module == "lib" {
        return Vec::new();
    }
    let Some(own) = floor_of(module) else {
        return vec![format!("src/{name}: is on no floor; add it to FLOORS in tests/layers.rs")];
    };
    let code = code(text);
    // In these files the top of the crate is also reached by one step up.
    let at_top = !name.contains('/') || name.matches('/').count() == 1 && name.ends_with("/mod.rs");
    let roots: &[&str] = if at_top { &["crate::", "super::"] } else { &["crate::"] };
    let mut broken = Vec::new();
    for root in roots {
        for (at, _) in code.match_indices(root) {
            if code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':') {
                continue;
            }
            for other in named(&code[at + root.len()..]) {
                if floor_of(other).is_some_and(|floor| floor > own) {
                    let line = code[..at].matches('\n').count() + 1;
                    broken.push(format!("src/{name}:{line}: names {root}{other}, a higher floor"));
                }
            }
        }
    }
    broken
}

/// Every file says first what it owns.
fn without_purpose(name: &str, text: &str) -> Vec<String> {
    let missing = !text.starts_with("//! ");
    missing.then(|| format!("src/{name}:1: does not begin with //!")).into_iter().collect()
}

/// Nothing is reached by two steps up: such a path breaks when a file moves.
fn two_up(name: &str, text: &str) -> Vec<String> {
    let code = code(text);
    let lines = code.lines().enumerate().filter(|(_, line)| {
        let line: String = line.split_whitespace().collect();
        line.contains("super::super")
    });
    lines.map(|(at, _)| format!("src/{name}:{}: super::super", at + 1)).collect()
}

/// Each lock says why there is one, on its line or on one of the two before.
fn unexplained_locks(name: &str, text: &str) -> Vec<String> {
    let whole: Vec<&str> = text.lines().collect();
    let mut broken = Vec::new();
    let mut import = false;
    for (at, line) in code(text).lines().enumerate() {
        let start = line.trim_start();
        import |= ["use ", "pub use ", "pub(crate) use "].iter().any(|u| start.starts_with(u));
        let lock = LOCKS.iter().find(|lock| has_word(line, lock)).filter(|_| !import);
        let explained = whole[at.saturating_sub(2)..=at].iter().any(|l| l.contains("// lock: "));
        if let (Some(lock), false) = (lock, explained) {
            broken.push(format!("src/{name}:{}: {lock} without `// lock: …`", at + 1));
        }
        import &= !line.contains(';');
    }
    broken
}

fn has_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let joins = |c: char| c.is_alphanumeric() || c == '_';
        !line[..at].ends_with(joins) && !line[at + word.len()..].starts_with(joins)
    })
}

/// A file has one idea.
fn too_long(name: &str, text: &str) -> Vec<String> {
    let lines = text.lines().count();
    (lines > LINES_MAX)
        .then(|| format!("src/{name}: {lines} lines, above {LINES_MAX}; split it by idea"))
        .into_iter()
        .collect()
}

/// Nothing is put off in the sources.
fn leftovers(name: &str, text: &str) -> Vec<String> {
    let lines = text.lines().enumerate();
    lines
        .filter_map(|(at, line)| {
            let word = LEFTOVERS.iter().find(|word| has_word(line, word))?;
            Some(format!("src/{name}:{}: {word}", at + 1))
        })
        .collect()
}

/// The files and folders that a page names in backticks, by their path from the top. A module may
/// be named without its ending.
fn paths_in(page: &str) -> Vec<&str> {
    const TOPS: [&str; 7] =
        ["src/", "tests/", "config/", "systemd/", "benches/", "fuzz/", ".config/"];
    let spans = page.split('`').skip(1).step_by(2);
    spans
        .filter(|span| {
            let file = [".toml", ".md", ".lock"].iter().any(|ext| span.ends_with(ext));
            let plain = !span.contains([' ', '*', '{', '<', '\n']);
            plain && (TOPS.iter().any(|top| span.starts_with(top)) || (file && !span.contains('/')))
        })
        .collect()
}

fn missing_from(top: &Path, page: &str) -> Vec<String> {
    let exists = |path: &str| {
        let whole: PathBuf = top.join(path);
        whole.exists() || whole.with_extension("rs").exists()
    };
    paths_in(page).into_iter().filter(|path| !exists(path)).map(str::to_owned).collect()
}

fn packages(lock: &str) -> usize {
    lock.lines().filter(|line| *line == "[[package]]").count()
}

#[test]
fn no_file_names_a_higher_floor() {
    hold(upward);
}

#[test]
fn every_file_says_what_it_owns() {
    hold(without_purpose);
}

#[test]
fn nothing_is_two_steps_up() {
    hold(two_up);
}

#[test]
fn every_lock_has_its_reason() {
    hold(unexplained_locks);
}

#[test]
fn files_are_short() {
    hold(too_long);
}

#[test]
fn nothing_is_put_off() {
    hold(leftovers);
}

#[test]
fn the_map_is_short_and_names_what_exists() {
    let page = fs::read_to_string(top().join("ARCHITECTURE.md")).unwrap();
    assert!(page.lines().count() <= MAP_LINES_MAX);
    assert!(paths_in(&page).len() > 10, "the map names too little: {:?}", paths_in(&page));
    assert_eq!(missing_from(top(), &page), [""; 0]);
}

#[test]
fn the_dependencies_stay_few() {
    let packages = packages(&fs::read_to_string(top().join("Cargo.lock")).unwrap());
    assert!((2..PACKAGES_MAX).contains(&packages), "{packages} packages");
}

// Each law catches what breaks it, and nothing else.

#[test]
fn an_upward_name_is_caught_in_every_form() {
    for (name, text) in [
        ("core/run.rs", "use crate::io::disk;"),
        ("core/run.rs", "use crate::{id, wire::Reply};"),
        ("core/run.rs", "use crate::{\n    core::{id, path},\n    daemon::act,\n};"),
        ("core/deep/er.rs", "fn f() { crate::config::load() }"),
        ("config/mod.rs", "use super::io::disk;"),
        ("wire.rs", "use super::cli;"),
        ("io/disk.rs", "/* crate::io */ pub(in crate::daemon) struct X;"),
        ("daemon/boot.rs", "use crate::{core, cli::{self, exit}};"),
    ] {
        assert_eq!(upward(name, text).len(), 1, "{name}: {text}");
    }
    let report = upward("io/a.rs", "//! a\n\nuse crate::cli;\n");
    assert_eq!(report, ["src/io/a.rs:3: names crate::cli, a higher floor"]);
    assert_eq!(upward("extra/mod.rs", "").len(), 1, "a module without a floor");
}

#[test]
fn downward_names_and_prose_are_free() {
    for (name, text) in [
        ("cli/mod.rs", "use crate::{core::id, config, wire, io, daemon};"),
        ("io/disk.rs", "use crate::core::{daemon, cli};"),
        ("wire.rs", "use crate::config::Unit; use crate::core::id;"),
        ("core/id.rs", "//! See [crate::daemon].\n/* crate::io /* crate::cli */ */"),
        ("core/id.rs", "const A: &str = \"crate::io\"; const B: &str = r#\"\" crate::io\"#;"),
        ("core/id.rs", "const A: &str = \"\\\" crate::io\"; const B: char = '\"'; // crate::io"),
        ("core/id.rs", "fn f<'a>(a: &'a str) -> &'a str { a }"),
        ("core/id.rs", "use other_crate::io; use crate::iota;"),
        ("io/a/b.rs", "use super::cli;"),
        ("lib.rs", "pub mod cli; use crate::cli::X;"),
    ] {
        assert_eq!(upward(name, text), [""; 0], "{name}: {text}");
    }
    let after = "fn f<'a>() { let c = '\\''; let r = br\"x\"; } use crate::io::x;";
    assert_eq!(upward("core/a.rs", after).len(), 1, "code after literals is seen");
}

#[test]
fn a_file_without_purpose_is_caught() {
    for text in ["", "use std::fs;\n", "// plain\n", "//!\n", "\n//! late\n"] {
        assert_eq!(without_purpose("a.rs", text).len(), 1, "{text:?}");
    }
    assert_eq!(without_purpose("a.rs", "//! Owns it.\n"), [""; 0]);
}

#[test]
fn two_steps_up_are_caught() {
    assert_eq!(two_up("a.rs", "//! a\nuse super::super::x;"), ["src/a.rs:2: super::super"]);
    assert_eq!(two_up("a.rs", "// super::super\nuse super::x;"), [""; 0]);
}

#[test]
fn a_lock_without_reason_is_caught() {
    for text in [
        "static A: Mutex<u8> = Mutex::new(0);",
        "struct S {\n    a: Arc<RwLock<u8>>,\n}",
        "// lock: too far away\n\n\nlet c = Condvar::new();",
        "use std::sync::Mutex;\nlet m = Mutex::new(0);",
        "// lock:\nlet m = Mutex::new(0);",
    ] {
        assert_eq!(unexplained_locks("a.rs", text).len(), 1, "{text}");
    }
    for text in [
        "use std::sync::{Arc, Mutex};\nuse std::sync::{\n    Condvar,\n    RwLock,\n};",
        "a: Mutex<u8>, // lock: both threads write it",
        "// lock: read by many\n// and for long\na: RwLock<u8>,",
        "// A Mutex would do.\nlet text = \"Mutex\"; struct MutexLike;",
    ] {
        assert_eq!(unexplained_locks("a.rs", text), [""; 0], "{text}");
    }
}

#[test]
fn a_long_file_is_caught() {
    assert_eq!(too_long("a.rs", &"x\n".repeat(LINES_MAX)), [""; 0]);
    assert_eq!(too_long("a.rs", &"x\n".repeat(LINES_MAX + 1)).len(), 1);
}

#[test]
fn work_put_off_is_caught() {
    for text in ["// TODO later", "todo!()", "/// FIXME: x", "unimplemented!(\"x\")", "// XXX"] {
        assert_eq!(leftovers("a.rs", text).len(), 1, "{text}");
    }
    assert_eq!(leftovers("a.rs", "\".*.XXXXXX\" // mastodon, todos"), [""; 0]);
}

#[test]
fn a_missing_file_is_caught() {
    let page = "`src/lib.rs`, `src/wire`, `src`, `step`, `a.toml`, `src/nothing`, `Cargo.toml`, \
                `src/core/`, `state.rs`, `docs/x.md`";
    assert_eq!(missing_from(top(), page), ["a.toml", "src/nothing"]);
}

#[test]
fn packages_are_counted() {
    assert_eq!(packages("version = 4\n\n[[package]]\nname = \"a\"\n\n[[package]]\n"), 2);
}
