//! When and where a recording was made.

use sledge_trace::Host;
use sledge_trace::event::Nanos;

const DAY: u64 = 86_400_000_000_000;

/// Turns a trace's times into those of the world.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    began: u64,
}

/// Days since 1970 (UTC).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Day(pub(super) u64);

impl Place {
    pub(super) fn new(host: &Host) -> Self {
        Self { began: host.began }
    }

    /// Names the recording: when it began, in nanoseconds since 1970.
    pub(super) fn recording(&self) -> u64 {
        self.began
    }

    pub(super) fn micros(&self, at: Nanos) -> u64 {
        self.began.saturating_add(at.0) / 1000
    }

    pub(super) fn day(&self, at: Nanos) -> Day {
        Day(self.began.saturating_add(at.0) / DAY)
    }
}

impl std::fmt::Display for Day {
    /// `2026-11-25`. The rule of Gregory's calendar, with years that begin in March.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let days = self.0 + 719_468;
        let (era, of_era) = (days / 146_097, days % 146_097);
        let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year + year / 4 - year / 100);
        let month = (5 * of_year + 2) / 153;
        let day = of_year - (153 * month + 2) / 5 + 1;
        let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
        write!(f, "{:04}-{month:02}-{day:02}", era * 400 + year + next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_have_dates() {
        let dates =
            [(0, "1970-01-01"), (59, "1970-03-01"), (11_016, "2000-02-29"), (20_782, "2026-11-25")];
        for (day, date) in dates {
            assert_eq!(Day(day).to_string(), date);
        }
    }
}
