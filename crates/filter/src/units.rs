//! Durations and sizes as people write them.

use sledge_trace::event::Nanos;
use thiserror::Error;

/// Why a quantity cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum UnitError {
    /// It is not a number.
    #[error("{text:?} is not a number with a unit ({units})")]
    NotANumber {
        /// As given.
        text: String,
        /// The units that would do.
        units: &'static str,
    },
    /// Its unit is unknown.
    #[error("{text:?} has an unknown unit; known are {units}")]
    UnknownUnit {
        /// As given.
        text: String,
        /// The units that would do.
        units: &'static str,
    },
    /// It is too large.
    #[error("{text:?} is too large")]
    TooLarge {
        /// As given.
        text: String,
    },
}

/// Reads `10us`, `1ms`, `2s`, `1.5ms`, `2m`, `1h`; a plain number is nanoseconds.
///
/// # Errors
/// See [`UnitError`].
pub fn parse_duration(text: &str) -> Result<Nanos, UnitError> {
    let scale = |unit: &str| match unit {
        "" | "ns" => Some(1),
        "us" | "µs" => Some(1000),
        "ms" => Some(1_000_000),
        "s" => Some(1_000_000_000),
        "m" | "min" => Some(60_000_000_000),
        "h" => Some(3_600_000_000_000),
        _ => None,
    };
    parse(text, "ns, us, ms, s, m, h", scale).map(Nanos)
}

/// Reads `4M`, `64k`, `1G`, `1.5MiB`, with 1024 as the step; a plain number is bytes.
///
/// # Errors
/// See [`UnitError`].
pub fn parse_size(text: &str) -> Result<u64, UnitError> {
    let scale = |unit: &str| {
        let unit = unit.to_ascii_lowercase();
        match unit.trim_end_matches('b').trim_end_matches('i') {
            "" => Some(1),
            "k" => Some(1 << 10),
            "m" => Some(1 << 20),
            "g" => Some(1 << 30),
            "t" => Some(1 << 40),
            _ => None,
        }
    };
    parse(text, "k, M, G, T", scale)
}

fn parse(
    text: &str,
    units: &'static str,
    scale: impl Fn(&str) -> Option<u64>,
) -> Result<u64, UnitError> {
    let trimmed = text.trim();
    let end = trimmed.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(trimmed.len());
    let (number, unit) = trimmed.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() || fraction.contains('.') {
        return Err(UnitError::NotANumber { text: text.to_owned(), units });
    }
    let Some(scale) = scale(unit.trim_start()) else {
        return Err(UnitError::UnknownUnit { text: text.to_owned(), units });
    };
    let too_large = || UnitError::TooLarge { text: text.to_owned() };
    let whole: u64 = whole.parse().map_err(|_| too_large())?;
    // Beyond twelve places nothing is left of any unit.
    let fraction = &fraction[..fraction.len().min(12)];
    let parts: u128 = if fraction.is_empty() { 0 } else { fraction.parse().unwrap_or(0) };
    let parts = parts * u128::from(scale) / 10u128.pow(fraction.len() as u32);
    let total = u128::from(whole) * u128::from(scale) + parts;
    u64::try_from(total).map_err(|_| too_large())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, nanos) in [
            ("0", 0),
            ("17", 17),
            ("10us", 10_000),
            ("10 µs", 10_000),
            ("1.5ms", 1_500_000),
            ("2s", 2_000_000_000),
            ("0.000000001s", 1),
            ("1h", 3_600_000_000_000),
        ] {
            assert_eq!(parse_duration(text), Ok(Nanos(nanos)), "{text}");
        }
    }

    #[test]
    fn sizes() {
        for (text, bytes) in
            [("0", 0), ("64k", 65_536), ("4M", 4 << 20), ("1.5MiB", 3 << 19), ("2GB", 2 << 30)]
        {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        let text = |text: &str| text.to_owned();
        let units = "ns, us, ms, s, m, h";
        for wrong in ["", "us", "-1", ".", "1.2.3"] {
            let expected = UnitError::NotANumber { text: text(wrong), units };
            assert_eq!(parse_duration(wrong), Err(expected));
        }
        let unknown = UnitError::UnknownUnit { text: text("3 weeks"), units };
        assert_eq!(parse_duration("3 weeks"), Err(unknown));
        for large in ["99999999999999999999", "20000000T", "18446744073709551616"] {
            assert_eq!(parse_size(large), Err(UnitError::TooLarge { text: text(large) }));
        }
    }
}
