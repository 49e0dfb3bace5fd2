//! Numbers and durations as text, written straight into a byte buffer: replaying millions of
//! events spends its time here.

use std::borrow::Cow;

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Units of a shown duration, by magnitude.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Below a millisecond.
    Micro,
    /// Below a second.
    Milli,
    /// Below a minute.
    Second,
    /// Below an hour.
    Minute,
    /// An hour and more.
    Hour,
}

impl Unit {
    /// Its two columns.
    const fn label(self) -> &'static [u8; 2] {
        match self {
            Self::Micro => b"us",
            Self::Milli => b"ms",
            Self::Second => b" s",
            Self::Minute => b" m",
            Self::Hour => b" h",
        }
    }
}

/// Columns of [`duration`], unless the hours run over 999.
pub const DURATION_COLUMNS: usize = 10;

/// A duration in thousandths of its unit.
#[must_use]
pub const fn scale(nanos: u64) -> (u64, Unit) {
    const MICRO: u64 = 1_000;
    const MILLI: u64 = 1_000 * MICRO;
    const SECOND: u64 = 1_000 * MILLI;
    const MINUTE: u64 = 60 * SECOND;
    const HOUR: u64 = 60 * MINUTE;
    match nanos {
        0..MILLI => (nanos, Unit::Micro),
        MILLI..SECOND => (nanos / MICRO, Unit::Milli),
        SECOND..MINUTE => (nanos / MILLI, Unit::Second),
        MINUTE..HOUR => (nanos / (MINUTE / 1_000), Unit::Minute),
        _ => (nanos / (HOUR / 1_000), Unit::Hour),
    }
}

/// Appends `123.456 us`, right-aligned in [`DURATION_COLUMNS`].
pub fn duration(out: &mut Vec<u8>, nanos: u64) {
    let (thousandths, unit) = scale(nanos);
    right(out, thousandths / 1_000, 3);
    out.push(b'.');
    zeroed(out, thousandths % 1_000, 3);
    out.push(b' ');
    out.extend_from_slice(unit.label());
}

/// Appends a number.
pub fn number(out: &mut Vec<u8>, value: u64) {
    right(out, value, 0);
}

/// Appends a number in at least `columns`, filled with blanks.
pub fn right(out: &mut Vec<u8>, value: u64, columns: usize) {
    padded(out, value, columns, b' ');
}

/// Appends a number in at least `columns`, filled with zeros.
pub fn zeroed(out: &mut Vec<u8>, value: u64, columns: usize) {
    padded(out, value, columns, b'0');
}

fn padded(out: &mut Vec<u8>, mut value: u64, columns: usize, fill: u8) {
    let mut digits = [fill; 20];
    let mut start = digits.len();
    loop {
        start -= 1;
        digits[start] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            break;
        }
    }
    let start = start.min(digits.len().saturating_sub(columns));
    out.extend_from_slice(&digits[start..]);
}

/// Appends `count` blanks.
pub fn blanks(out: &mut Vec<u8>, count: usize) {
    out.resize(out.len() + count, b' ');
}

/// How many columns of a terminal a text takes.
#[must_use]
pub fn columns(text: &str) -> usize {
    text.width()
}

/// The beginning of a text that fits in so many columns.
#[must_use]
pub fn cut(text: &str, columns: usize) -> &str {
    let mut taken = 0;
    for (index, character) in text.char_indices() {
        taken += character.width().unwrap_or(0);
        if taken > columns {
            return &text[..index];
        }
    }
    text
}

/// A text that a terminal takes for nothing but text: control characters, and those that turn the
/// direction of what follows, are spelled out.
#[must_use]
pub fn printable(text: &str) -> Cow<'_, str> {
    let is_bad =
        |c: char| c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    if !text.contains(is_bad) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if is_bad(c) {
            shown.extend(c.escape_unicode());
        } else {
            shown.push(c);
        }
    }
    Cow::Owned(shown)
}

/// A number with its thousands apart: `1 284 033`.
#[must_use]
pub fn grouped(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(nanos: u64) -> String {
        let mut out = Vec::new();
        duration(&mut out, nanos);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn durations_take_ten_columns_and_change_units() {
        assert_eq!(shown(0), "  0.000 us");
        assert_eq!(shown(1_204), "  1.204 us");
        assert_eq!(shown(999_999), "999.999 us");
        assert_eq!(shown(1_000_000), "  1.000 ms");
        assert_eq!(shown(59_999_999_999), " 59.999  s");
        assert_eq!(shown(90_000_000_000), "  1.500  m");
        assert_eq!(shown(3_600_000_000_000), "  1.000  h");
        assert_eq!(shown(u64::MAX), "5124095.576  h");
    }

    #[test]
    fn numbers_are_padded_not_cut() {
        let mut out = Vec::new();
        right(&mut out, 42, 5);
        right(&mut out, 1_234_567, 5);
        zeroed(&mut out, 7, 3);
        number(&mut out, u64::MAX);
        assert_eq!(
            out,
            b"   421234567007".iter().chain(b"18446744073709551615").copied().collect::<Vec<_>>()
        );
    }

    #[test]
    fn texts_are_measured_and_cut_by_columns() {
        assert_eq!((columns("f"), columns("字符"), columns("e\u{301}")), (1, 4, 1));
        assert_eq!(cut("字符串", 5), "字符");
        assert_eq!(cut("abc", 3), "abc");
    }

    #[test]
    fn a_terminal_is_not_spoken_to_by_names() {
        assert_eq!(printable("\x1b[31mred\n"), "\\u{1b}[31mred\\u{a}");
        assert_eq!(printable("a\u{202e}b"), "a\\u{202e}b");
        assert!(matches!(printable("ns::f<字>"), Cow::Borrowed(_)));
    }

    #[test]
    fn thousands_stand_apart() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(1_284_033), "1 284 033");
    }
}
