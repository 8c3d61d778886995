//! Durations and sizes as people write them: always with a unit.
//!
//! Pure text to number; knows no place in a file.

use std::time::Duration;

/// The longest duration that can be configured: a hundred years. Sums of a few of them stay far
/// from any overflow.
const DURATION_MAX: Duration = Duration::from_hours(100 * 366 * 24);

/// Why a text is no duration or size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnitError {
    /// What is wrong.
    pub what: String,
    /// What to write instead.
    pub help: String,
}

fn error(what: impl Into<String>, help: impl Into<String>) -> UnitError {
    UnitError { what: what.into(), help: help.into() }
}

const TIME_UNITS: [(&str, u64); 6] = [
    ("d", 86_400_000_000),
    ("h", 3_600_000_000),
    ("m", 60_000_000),
    ("s", 1_000_000),
    ("ms", 1_000),
    ("us", 1),
];

const TIME_HELP: &str = "units are d, h, m, s, ms and us, as in \"90s\" or \"1h30m\"";

/// `"1h30m"`, `"250ms"`, `"0"`: whole numbers with units, the larger units first.
pub fn duration(text: &str) -> Result<Duration, UnitError> {
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    if text.is_empty() {
        return Err(error("a duration is missing", TIME_HELP));
    }
    let (mut rest, mut micros, mut below) = (text, 0_u64, u64::MAX);
    while !rest.is_empty() {
        let (number, unit, after) =
            leading(rest).ok_or_else(|| error(format!("`{text}` is no duration"), TIME_HELP))?;
        if unit.is_empty() {
            let help = format!("write \"{number}s\" for seconds, \"{number}ms\" or \"{number}m\"");
            return Err(error(format!("`{number}` has no unit"), help));
        }
        let factor = TIME_UNITS.iter().find(|(name, _)| *name == unit).map(|&(_, factor)| factor);
        let factor = factor.ok_or_else(|| error(format!("unknown unit `{unit}`"), TIME_HELP))?;
        if factor >= below {
            let what = format!("`{unit}` comes after a smaller unit, or twice");
            return Err(error(what, "write the larger unit first, as in \"1h30m\""));
        }
        below = factor;
        micros = number
            .parse::<u64>()
            .ok()
            .and_then(|number| number.checked_mul(factor)?.checked_add(micros))
            .filter(|&micros| Duration::from_micros(micros) <= DURATION_MAX)
            .ok_or_else(|| error(format!("`{text}` is too long"), "the longest is 36600d"))?;
        rest = after;
    }
    Ok(Duration::from_micros(micros))
}

const SIZE_UNITS: [(&str, u64); 9] = [
    ("B", 1),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
];

const SIZE_HELP: &str = "units are B, kB, MB, GB, TB (powers of 1000) and KiB, MiB, GiB, TiB \
                         (powers of 1024), as in \"64MiB\"";

/// `"64MiB"`, `"1kB"`, `"0"`: bytes, as one whole number with a unit.
pub fn size(text: &str) -> Result<u64, UnitError> {
    if text == "0" {
        return Ok(0);
    }
    let (number, unit, rest) =
        leading(text).ok_or_else(|| error(format!("`{text}` is no size"), SIZE_HELP))?;
    if unit.is_empty() && rest.is_empty() {
        let help = format!("write \"{number}B\" for bytes, \"{number}MiB\" or \"{number}GiB\"");
        return Err(error(format!("`{number}` has no unit"), help));
    }
    let factor = SIZE_UNITS.iter().find(|(name, _)| *name == unit).map(|&(_, factor)| factor);
    match factor {
        Some(factor) if rest.is_empty() => number
            .parse::<u64>()
            .ok()
            .and_then(|number| number.checked_mul(factor))
            .filter(|&bytes| i64::try_from(bytes).is_ok())
            .ok_or_else(|| error(format!("`{text}` is too large"), "the largest is 8388607TiB")),
        Some(_) => Err(error(format!("`{text}` is no size"), SIZE_HELP)),
        None => Err(error(format!("unknown unit `{unit}`"), SIZE_HELP)),
    }
}

/// Digits, letters after them, and the rest. `None` if there are no digits.
fn leading(text: &str) -> Option<(&str, &str, &str)> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let letters = text[digits..].bytes().take_while(u8::is_ascii_alphabetic).count();
    let odd = digits + letters < text.len() && !text.as_bytes()[digits + letters].is_ascii_digit();
    (digits > 0 && !odd).then(|| {
        let (number, after) = text.split_at(digits);
        let (unit, rest) = after.split_at(letters);
        (number, unit, rest)
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{duration, size};

    #[test]
    fn durations() {
        for (text, millis) in [
            ("0", 0),
            ("0s", 0),
            ("250ms", 250),
            ("90s", 90_000),
            ("1h30m", 5_400_000),
            ("1d1h1m1s1ms", 90_061_001),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for (text, what) in [
            ("90", "`90` has no unit"),
            ("1h30", "`30` has no unit"),
            ("5 s", "`5 s` is no duration"),
            ("1.5h", "`1.5h` is no duration"),
            ("-1s", "`-1s` is no duration"),
            ("5sec", "unknown unit `sec`"),
            ("1m1h", "`h` comes after a smaller unit, or twice"),
            ("99999999d", "`99999999d` is too long"),
            ("99999999999999999999s", "`99999999999999999999s` is too long"),
            ("", "a duration is missing"),
        ] {
            assert_eq!(duration(text).unwrap_err().what, what, "{text}");
        }
    }

    #[test]
    fn sizes() {
        for (text, bytes) in [("0", 0), ("1B", 1), ("1kB", 1000), ("64MiB", 64 << 20)] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for (text, what) in [
            ("64", "`64` has no unit"),
            ("64M", "unknown unit `M`"),
            ("64mb", "unknown unit `mb`"),
            ("1GiB1MiB", "`1GiB1MiB` is no size"),
            ("9999999999TiB", "`9999999999TiB` is too large"),
            ("é", "`é` is no size"),
        ] {
            assert_eq!(size(text).unwrap_err().what, what, "{text}");
        }
    }
}
