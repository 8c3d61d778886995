//! Names, suggestions, and the way back from a string's value to its place in the source.
//!
//! Pure text; collects nothing.

use crate::core::selector::is_name_byte;
use crate::core::template::{Piece, Slot, Template};

/// The longest name of a task, trigger, pool or tag, in bytes: it becomes part of file names and of
/// an environment variable, together with others.
pub const NAME_MAX: usize = 64;

/// Why `name` is no name of a task, trigger, pool or tag.
pub fn name_fault(name: &str) -> Option<String> {
    let bytes = name.as_bytes();
    match bytes.first() {
        None => Some("a name is missing".to_owned()),
        Some(&first) if !first.is_ascii_alphanumeric() && first != b'_' => {
            Some("a name begins with a letter, a digit or `_`".to_owned())
        }
        Some(_) if !bytes.iter().all(|&byte| is_name_byte(byte)) => {
            Some("a name has letters, digits, `_`, `-` and `.` only".to_owned())
        }
        Some(_) if bytes.len() > NAME_MAX => {
            Some(format!("a name has at most {NAME_MAX} characters, this one has {}", bytes.len()))
        }
        Some(_) => None,
    }
}

/// Why `name` is no name of an environment variable that a task may be given.
pub fn variable_fault(name: &str) -> Option<&'static str> {
    let bytes = name.as_bytes();
    let shaped = bytes.first().is_some_and(|first| !first.is_ascii_digit())
        && bytes.iter().all(|&byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if !shaped {
        return Some("a variable's name has letters, digits and `_`, and no digit first");
    }
    name.starts_with("DAGD_").then_some("variables that begin with `DAGD_` are set by dagd itself")
}

/// Text from a file as it may stand in a message: on one line, not too long.
pub fn shown(text: &str) -> String {
    const SHOWN_MAX: usize = 80;
    let mut shown: String = text.chars().take(SHOWN_MAX).flat_map(char::escape_debug).collect();
    if text.chars().nth(SHOWN_MAX).is_some() {
        shown.push('…');
    }
    shown
}

/// Comparisons that the suggestions for one configuration may cost: thousands of misspelt names
/// among a hundred thousand tasks must not take minutes.
const COMPARISONS_MAX: usize = 2_000_000;

/// Finds the name that somebody probably meant.
#[derive(Debug, Default)]
pub struct Suggest {
    spent: usize,
}

impl Suggest {
    /// The one of `known` that is most like `wrong`, if one is like it at all.
    pub fn like<'a>(
        &mut self,
        wrong: &str,
        known: impl IntoIterator<Item = &'a str>,
    ) -> Option<&'a str> {
        let allowed = (wrong.len() / 3).clamp(1, 4);
        let folded = wrong.to_ascii_lowercase();
        let mut best: Option<(usize, &str)> = None;
        for name in known {
            if name.len().abs_diff(wrong.len()) > allowed {
                continue;
            }
            if self.spent >= COMPARISONS_MAX {
                return None;
            }
            self.spent += 1;
            let distance = strsim::osa_distance(&folded, &name.to_ascii_lowercase());
            if distance <= allowed && best.is_none_or(|(least, _)| distance < least) {
                best = Some((distance, name));
            }
        }
        best.map(|(_, name)| name)
    }

    /// [`Suggest::like`] as a sentence.
    pub fn did_you_mean<'a>(
        &mut self,
        wrong: &str,
        known: impl IntoIterator<Item = &'a str>,
    ) -> Option<String> {
        self.like(wrong, known).map(|name| format!("did you mean `{name}`?"))
    }
}

/// Where byte `at` of a string's value stands in `raw`, the string as written with its quotes.
pub fn place_in(raw: &str, at: usize) -> usize {
    for (quotes, escapes) in [("\"\"\"", true), ("'''", false), ("\"", true), ("'", false)] {
        let Some(inner) = raw.strip_prefix(quotes) else { continue };
        let newline = if quotes.len() < 3 {
            0
        } else if inner.starts_with("\r\n") {
            2
        } else {
            usize::from(inner.starts_with('\n'))
        };
        let start = quotes.len() + newline;
        return if escapes { start + escaped(&inner[newline..], at) } else { start + at };
    }
    at
}

/// [`place_in`] for text with escapes.
fn escaped(text: &str, at: usize) -> usize {
    let (mut value, mut source) = (0, 0);
    while value < at || trims(&text[source..]) {
        let rest = &text[source..];
        let mut chars = rest.chars();
        let (width, len) = match (chars.next(), chars.next()) {
            (None, _) => break,
            (Some('\\'), Some(kind @ ('u' | 'U' | 'x'))) => {
                let digits = match kind {
                    'u' => 4,
                    'U' => 8,
                    _ => 2,
                };
                let code =
                    rest.get(2..2 + digits).and_then(|hex| u32::from_str_radix(hex, 16).ok());
                (2 + digits, code.and_then(char::from_u32).map_or(1, char::len_utf8))
            }
            (Some('\\'), Some(next)) if next.is_whitespace() => {
                (rest.len() - rest[1..].trim_start().len(), 0)
            }
            (Some('\\'), Some(_)) => (2, 1),
            (Some(plain), _) => (plain.len_utf8(), plain.len_utf8()),
        };
        value += len;
        source = (source + width).min(text.len());
        if !text.is_char_boundary(source) {
            break;
        }
    }
    source
}

/// Whether a line continuation, which stands for nothing, comes next.
fn trims(text: &str) -> bool {
    text.strip_prefix('\\').is_some_and(|rest| rest.starts_with(char::is_whitespace))
}

/// The slots of a template's text with the byte offsets of their opening braces.
pub fn slots(text: &str) -> Vec<(usize, Slot)> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(open) = text[at..].find('{') {
        let open = at + open;
        if let Some((_, len)) =
            text[open + 1..].starts_with('{').then(|| slot(&text[open + 1..])).flatten()
        {
            at = open + 1 + len;
        } else if let Some((slot, len)) = slot(&text[open..]) {
            found.push((open, slot));
            at = open + len;
        } else {
            at = open + 1;
        }
    }
    found
}

/// The slot that `text` begins with, and its length.
fn slot(text: &str) -> Option<(Slot, usize)> {
    let len = text.find('}')? + 1;
    match Template::parse(&text[..len]).ok()?.pieces() {
        [Piece::Slot(slot)] => Some((slot.clone(), len)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{Suggest, name_fault, place_in, slots, variable_fault};

    #[test]
    fn names() {
        for good in ["a", "_x", "load-1.x", "9"] {
            assert_eq!(name_fault(good), None, "{good}");
        }
        for bad in ["", "-a", ".a", "a b", "é", &"x".repeat(65)] {
            assert!(name_fault(bad).is_some(), "{bad}");
        }
        assert!(variable_fault("PATH").is_none() && variable_fault("_1").is_none());
        assert!(variable_fault("1A").is_some() && variable_fault("A=B").is_some());
        assert!(variable_fault("DAGD_RUN").is_some() && variable_fault("").is_some());
    }

    #[test]
    fn suggestions() {
        let mut suggest = Suggest::default();
        assert_eq!(suggest.like("chekcsum", ["checksum", "load"]), Some("checksum"));
        assert_eq!(suggest.like("SETTLE", ["settle"]), Some("settle"));
        assert_eq!(suggest.like("x", ["checksum", "load"]), None);
    }

    #[test]
    fn places_in_strings() {
        for (raw, at, place) in [
            ("\"abc\"", 2, 3),
            ("'abc'", 0, 1),
            (r#""a\tb""#, 2, 4),
            (r#""\u00e9b""#, 2, 7),
            (r#""é{""#, 2, 3),
            ("\"\"\"\nab\"\"\"", 1, 5),
            ("\"\"\"a\\\n   b\"\"\"", 1, 9),
            ("'''\nab'''", 1, 5),
        ] {
            assert_eq!(place_in(raw, at), place, "{raw}");
        }
    }

    #[test]
    fn slots_have_places() {
        let found = slots("{{path} {x {path}{out.a.k}");
        let places: Vec<_> = found.iter().map(|(at, slot)| (*at, slot.to_string())).collect();
        assert_eq!(places, [(11, "{path}".to_owned()), (17, "{out.a.k}".to_owned())]);
    }
}
