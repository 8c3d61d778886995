//! Files of checksums, as sha256sum, b3sum, md5sum and their like write them: which line is for a
//! file, and what it says.
//!
//! Reads text; opens no file. A line that is none is passed over.

use super::sidecar::{Checksum, Sidecar};

/// One line: a value, and the name that it is for, if it tells one.
#[derive(Debug, PartialEq, Eq)]
struct Line {
    value: Vec<u8>,
    name: Option<Vec<u8>>,
}

/// The checksum that the sidecar's `text` holds for the file `name` beside it; `None` if it holds
/// none. A line for exactly this name counts first, then one whose path ends in it. In a sidecar of
/// one file a single line counts, whatever name it tells: the file may have had another one when
/// the line was written, and it is the content that has to match.
pub fn find(text: &[u8], name: &[u8], sidecar: &Sidecar, kind: Checksum) -> Option<Vec<u8>> {
    let lines: Vec<Line> = text.split(|&b| b == b'\n').filter_map(|l| parse(l, kind)).collect();
    let is = |line: &&Line| line.name.as_deref().is_some_and(|told| plain(told) == name);
    let ends = |line: &&Line| line.name.as_deref().is_some_and(|told| last(told) == name);
    let only = |found: Vec<&Line>| match found.as_slice() {
        [first, rest @ ..] if rest.iter().all(|line| line.value == first.value) => {
            Some(first.value.clone())
        }
        _ => None,
    };
    let exact: Vec<&Line> = lines.iter().filter(is).collect();
    if !exact.is_empty() {
        return only(exact);
    }
    let own = !matches!(sidecar, Sidecar::Folder(_));
    only(lines.iter().filter(ends).collect())
        .or_else(|| if own && lines.len() == 1 { only(lines.iter().collect()) } else { None })
}

fn plain(name: &[u8]) -> &[u8] {
    name.strip_prefix(b"./").unwrap_or(name)
}

fn last(name: &[u8]) -> &[u8] {
    name.rsplit(|&b| b == b'/').next().unwrap_or_default()
}

/// `HEX`, `HEX  NAME`, `HEX *NAME` or `KIND (NAME) = HEX`; with a leading backslash the name is
/// escaped.
fn parse(line: &[u8], kind: Checksum) -> Option<Line> {
    let line = line.strip_suffix(b"\r").unwrap_or(line).trim_ascii_start();
    let (escaped, line) = line.strip_prefix(b"\\").map_or((false, line), |line| (true, line));
    let name = |told: &[u8]| if escaped { unescape(told) } else { told.to_vec() };
    if let Some(told) = tagged(line, kind) {
        let at = told.windows(4).rposition(|at| at == b") = ")?;
        let value = hex(told[at + 4..].trim_ascii(), kind)?;
        return Some(Line { value, name: Some(name(&told[..at])) });
    }
    let end = line.iter().position(|b| !b.is_ascii_hexdigit()).unwrap_or(line.len());
    let value = hex(&line[..end], kind)?;
    let rest = &line[end..];
    if rest.trim_ascii().is_empty() {
        return Some(Line { value, name: None });
    }
    let told = rest.strip_prefix(b" ")?;
    // The second character says whether it was read as text or as bytes; BSD leaves it out.
    let told = told.strip_prefix(b" ").or_else(|| told.strip_prefix(b"*")).unwrap_or(told);
    Some(Line { value, name: Some(name(told)) })
}

/// What follows the tag and the opening bracket, if the line has the tag of this kind.
fn tagged(line: &[u8], kind: Checksum) -> Option<&[u8]> {
    let tags: &[&str] = match kind {
        Checksum::Sha256 => &["SHA256", "SHA2-256"],
        Checksum::Blake3 => &["BLAKE3"],
        Checksum::Md5 => &["MD5"],
    };
    tags.iter().find_map(|tag| line.strip_prefix(tag.as_bytes())?.strip_prefix(b" ("))
}

fn unescape(name: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(name.len());
    let mut bytes = name.iter();
    while let Some(&byte) = bytes.next() {
        match (byte, if byte == b'\\' { bytes.next() } else { None }) {
            (b'\\', Some(b'n')) => plain.push(b'\n'),
            (b'\\', Some(b'r')) => plain.push(b'\r'),
            (b'\\', Some(&other)) => plain.push(other),
            _ => plain.push(byte),
        }
    }
    plain
}

/// The bytes of a value of this kind, in either case.
fn hex(text: &[u8], kind: Checksum) -> Option<Vec<u8>> {
    if text.len() != kind.bytes() * 2 {
        return None;
    }
    let digit = |b: u8| char::from(b).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    text.chunks(2).map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?)).collect()
}

#[cfg(test)]
mod tests {
    use super::find;
    use crate::core::sidecar::{Checksum, Sidecar};

    const A: &str = "0cc175b9c0f1b6a831c399e269772661";
    const B: &str = "92eb5ffee6ae2fec3ad71c777531578f";

    fn found(text: &str, name: &str, sidecar: &str) -> Option<&'static str> {
        let sidecar = Sidecar::parse(sidecar).unwrap();
        let value = find(text.as_bytes(), name.as_bytes(), &sidecar, Checksum::Md5)?;
        let hex = value.iter().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"));
        Some(if hex == A { "a" } else { "b" })
    }

    #[test]
    fn a_line_for_the_file() {
        let own = "{name}.md5";
        for text in [
            A.to_owned(),
            format!("{A}\n"),
            format!("{}\r\n", A.to_uppercase()),
            format!("{A}  x.csv\n"),
            format!("{A} *x.csv\n"),
            format!("{A} x.csv"),
            format!("{A}  ./x.csv"),
            format!("{A}  /build/out/x.csv"),
            format!("{A}  another-name.csv"),
            format!("MD5 (x.csv) = {A}\n"),
            format!("MD5 (x.csv) = {A}\r\n"),
            format!("# made today\n\n{A}  x.csv\n"),
        ] {
            assert_eq!(found(&text, "x.csv", own), Some("a"), "{text:?}");
        }
    }

    #[test]
    fn the_line_of_the_file_among_others() {
        let all = "MD5SUMS";
        let text = format!("{B}  y.csv\n{A}  x.csv\n{B}  sub/x.csv\n");
        assert_eq!(found(&text, "x.csv", all), Some("a"));
        assert_eq!(found(&text, "y.csv", all), Some("b"));
        assert_eq!(found(&text, "z.csv", all), None);
        assert_eq!(found(A, "x.csv", all), None, "a bare value is for nobody here");
        assert_eq!(found(&format!("{A}  y.csv"), "x.csv", all), None);
        // Two lines for one file that say different things say nothing.
        assert_eq!(found(&format!("{A}  x\n{B}  x\n"), "x", all), None);
        assert_eq!(found(&format!("{A}  x\n{A}  x\n"), "x", all), Some("a"));
        assert_eq!(found(&format!("{B}  x.xml\n{A}  x.csv\n"), "x.csv", "{stem}.md5"), Some("a"));
    }

    #[test]
    fn names_of_all_kinds() {
        let all = "MD5SUMS";
        assert_eq!(found(&format!("\\{A}  a\\nb\\\\c\n"), "a\nb\\c", all), Some("a"));
        assert_eq!(found(&format!("{A}  a\\nb\n"), "a\\nb", all), Some("a"), "not escaped");
        assert_eq!(found(&format!("{A}   x\n"), " x", all), Some("a"), "a leading space");
        assert_eq!(found(&format!("{A}  *x\n"), "*x", all), Some("a"), "a leading star");
        assert_eq!(found(&format!("MD5 (a) = b) = {A}\n"), "a) = b", all), Some("a"));
        assert_eq!(found(&format!("\\MD5 (a\\nb) = {A}\n"), "a\nb", all), Some("a"));
    }

    #[test]
    fn what_is_no_value() {
        for text in ["", "\n", "x", "<html>", &A[1..], &format!("{A}0"), &format!("SHA1 (x) = {A}")]
        {
            assert_eq!(found(text, "x", "{name}.md5"), None, "{text:?}");
        }
        // The value of another kind has another length.
        let sha = format!("{A}{B}  x\n");
        assert_eq!(found(&sha, "x", "{name}.md5"), None);
    }
}
