//! Text for people: safe names, durations, sizes, times, tables.
//!
//! Pure: knows no terminal and no clock.

use std::fmt::Write as _;
use std::time::Duration;

use jiff::Timestamp;

/// How text is set off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Paint {
    /// Not at all.
    Plain,
    /// It went well.
    Good,
    /// It went wrong.
    Bad,
    /// It deserves a look.
    Warn,
    /// It is under way.
    Live,
    /// It matters less.
    Dim,
    /// It matters more.
    Bold,
}

/// Whether colors are to be used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Style {
    /// They are.
    pub color: bool,
}

impl Style {
    /// `text`, set off.
    pub fn paint(self, paint: Paint, text: &str) -> String {
        let code = match paint {
            Paint::Plain => return text.to_owned(),
            Paint::Good => "32",
            Paint::Bad => "31",
            Paint::Warn => "33",
            Paint::Live => "36",
            Paint::Dim => "2",
            Paint::Bold => "1",
        };
        if self.color { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// The paint for the word of a run's or task's state.
pub fn state_paint(state: &str) -> Paint {
    match state {
        "succeeded" | "active" => Paint::Good,
        "failed" | "timed_out" | "lost" | "stalled" => Paint::Bad,
        "cancelled" | "retrying" | "paused" | "stopping" => Paint::Warn,
        "running" | "ready" => Paint::Live,
        _ => Paint::Dim,
    }
}

/// `text` without anything that a terminal would obey: control characters, and those that change
/// the direction of writing, are escaped.
pub fn visible(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        let obeyed = c.is_control()
            || matches!(c, '\u{200E}' | '\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}');
        if obeyed {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    shown
}

/// `text` without the numbers that the standard library puts behind the words of system errors.
pub fn plain(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once(" (os error ") {
        shown.push_str(before);
        match behind.split_once(')') {
            Some((number, after)) if number.bytes().all(|b| b.is_ascii_digit()) => rest = after,
            _ => {
                shown.push_str(" (os error ");
                rest = behind;
            }
        }
    }
    shown + rest
}

/// A length of time in its natural unit: `12 ms`, `1.2 s`, `3 min 5 s`, `2 h 10 min`, `4 d 3 h`.
pub fn duration(length: Duration) -> String {
    let (ms, s) = (length.as_millis(), length.as_secs());
    match s {
        0 if ms == 0 => "<1 ms".to_owned(),
        0 => format!("{ms} ms"),
        1..10 => format!("{}.{} s", s, ms % 1000 / 100),
        10..60 => format!("{s} s"),
        60..3600 => two(s / 60, "min", s % 60, "s"),
        3600..86_400 => two(s / 3600, "h", s % 3600 / 60, "min"),
        _ => two(s / 86_400, "d", s % 86_400 / 3600, "h"),
    }
}

fn two(major: u64, unit: &str, minor: u64, minor_unit: &str) -> String {
    match minor {
        0 => format!("{major} {unit}"),
        _ => format!("{major} {unit} {minor} {minor_unit}"),
    }
}

/// A number of bytes: `512 B`, `1.5 KiB`.
pub fn size(bytes: u64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let (mut whole, mut tenth, mut unit) = (bytes, 0, "B");
    for next in units {
        if whole < 1024 {
            break;
        }
        (tenth, whole, unit) = (whole % 1024 * 10 / 1024, whole / 1024, next);
    }
    if unit == "B" || whole >= 100 {
        format!("{whole} {unit}")
    } else {
        format!("{whole}.{tenth} {unit}")
    }
}

/// A time as the API writes it.
fn time(text: &str) -> Option<Timestamp> {
    text.parse().ok()
}

/// The time from one to the other, as the API writes them; empty if there is none.
pub fn between(start: Option<&str>, end: Option<&str>) -> String {
    let (Some(start), Some(end)) = (start.and_then(time), end.and_then(time)) else {
        return String::new();
    };
    duration(end.duration_since(start).try_into().unwrap_or(Duration::ZERO))
}

/// How long ago a time of the API was: `3 s ago`. In words that are as short as can be.
pub fn ago(then: &str, now: Timestamp) -> String {
    let Some(then) = time(then) else { return visible(then) };
    let passed = Duration::try_from(now.duration_since(then)).unwrap_or(Duration::ZERO);
    match passed.as_secs() {
        0 => "just now".to_owned(),
        s @ 1..60 => format!("{s} s ago"),
        s @ 60..3600 => format!("{} min ago", s / 60),
        s @ 3600..172_800 => format!("{} h ago", s / 3600),
        s => format!("{} d ago", s / 86_400),
    }
}

/// A time of the API to the second, as it is in UTC.
pub fn stamp(text: &str) -> String {
    time(text)
        .map_or_else(|| visible(text), |time| time.strftime("%Y-%m-%d %H:%M:%S UTC").to_string())
}

/// Appends to a text.
pub fn put(text: &mut String, more: std::fmt::Arguments<'_>) {
    text.write_fmt(more).expect("a string takes everything");
}

/// `1 run`, `2 runs`.
pub fn count(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

/// Cells in aligned columns, two spaces apart. Widths are counted in characters.
#[derive(Debug, Default)]
pub struct Table {
    rows: Vec<Vec<(String, Paint)>>,
    /// Columns whose cells end at the same place.
    right: Vec<usize>,
}

impl Table {
    /// A table with these headings; columns at the positions in `right` hold numbers.
    pub fn new(headings: &[&str], right: &[usize]) -> Self {
        let heading = |&text: &&str| (text.to_owned(), Paint::Dim);
        Self { rows: vec![headings.iter().map(heading).collect()], right: right.to_vec() }
    }

    /// Adds a row. Names are made safe here.
    pub fn row<const N: usize>(&mut self, cells: [(String, Paint); N]) {
        self.rows.push(cells.into_iter().map(|(text, paint)| (visible(&text), paint)).collect());
    }

    /// The table, each line behind `indent`. Columns that are empty throughout are left out.
    pub fn render(&self, indent: &str, style: Style) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let wide = |text: &str| text.chars().count();
        let width = |column: usize, rows: &[Vec<(String, Paint)>]| {
            rows.iter().filter_map(|row| row.get(column)).map(|cell| wide(&cell.0)).max()
        };
        let shown: Vec<(usize, usize)> = (0..columns)
            .filter(|&column| width(column, &self.rows[1..]).unwrap_or(0) > 0)
            .map(|column| (column, width(column, &self.rows).unwrap_or(0)))
            .collect();
        let mut text = String::new();
        for row in &self.rows {
            let mut line = String::new();
            // Spaces wait until something follows them: no line ends in them.
            let mut gap = String::new();
            for &(column, width) in &shown {
                let (cell, paint) = &row[column];
                let fill = " ".repeat(width - wide(cell));
                let right = self.right.contains(&column);
                if cell.is_empty() {
                    gap.push_str(&fill);
                } else {
                    line.push_str(&gap);
                    gap.clear();
                    line.push_str(if right { &fill } else { "" });
                    line.push_str(&style.paint(*paint, cell));
                    gap.push_str(if right { "" } else { &fill });
                }
                gap.push_str("  ");
            }
            writeln!(text, "{indent}{line}").expect("a string takes everything");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Paint, Style, Table, ago, between, duration, plain, size, visible};

    #[test]
    fn lengths_have_their_unit() {
        let shown = [0, 12, 1234, 12_345, 185_000, 7_800_000, 356_400_000]
            .map(|ms| duration(Duration::from_millis(ms)));
        assert_eq!(
            shown,
            ["<1 ms", "12 ms", "1.2 s", "12 s", "3 min 5 s", "2 h 10 min", "4 d 3 h"]
        );
        assert_eq!([0, 1023, 1536, 200 << 20].map(size), ["0 B", "1023 B", "1.5 KiB", "200 MiB"]);
    }

    #[test]
    fn times_are_relative() {
        let now = "2026-01-01T00:01:05Z".parse().unwrap();
        assert_eq!(ago("2026-01-01T00:01:04.5Z", now), "just now");
        assert_eq!(ago("2026-01-01T00:00:05.000000000Z", now), "1 min ago");
        assert_eq!(ago("\x1b[2J", now), "\\u{1b}[2J");
        let end = Some("2026-01-01T00:00:01.250000000Z");
        assert_eq!(between(Some("2026-01-01T00:00:00Z"), end), "1.2 s");
        assert_eq!(between(None, end), "");
    }

    #[test]
    fn terminals_obey_no_name() {
        assert_eq!(visible("a\nb\x1b[31m\u{202e}é"), "a\\nb\\u{1b}[31m\\u{202e}é");
    }

    #[test]
    fn people_need_no_error_numbers() {
        let text = "/a: No such file or directory (os error 2); /b: File exists (os error 17)";
        assert_eq!(plain(text), "/a: No such file or directory; /b: File exists");
        assert_eq!(plain("a (os error x) b (os error "), "a (os error x) b (os error ");
    }

    #[test]
    fn columns_align() {
        let mut table = Table::new(&["RUN", "NAME", "NONE", "STATE"], &[0]);
        let cell = |text: &str| (text.to_owned(), Paint::Plain);
        table.row([cell("7"), cell("a\tb"), cell(""), cell("ok")]);
        table.row([cell("12345"), cell("é"), cell(""), cell("")]);
        insta::assert_snapshot!(table.render("  ", Style::default()), @r"
          RUN  NAME  STATE
            7  a\tb  ok
        12345  é
        ");
        let painted = table.render("", Style { color: true });
        assert!(painted.contains("\x1b[2mNAME\x1b[0m  \x1b[2mSTATE\x1b[0m"), "{painted}");
    }
}
