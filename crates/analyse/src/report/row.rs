//! A row of a report.

use crate::histogram::Histogram;

/// What is known of one function, or of whatever else a report is by.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Its readable name.
    pub name: Box<str>,
    /// The file name of its object; empty where the report is not by function.
    pub module: Box<str>,
    /// How often it was called.
    pub calls: u64,
    /// Nanoseconds in it and what it called; of a recursion the outermost call only.
    pub total: u64,
    /// Nanoseconds in it but not in traced functions that it called.
    pub own: u64,
    /// The longest call.
    pub max: u64,
    /// The sum of all durations, recursion or not, and that of their squares.
    sum: u64,
    squares: f64,
    min: u64,
    durations: Histogram,
}

impl Row {
    pub(super) fn new(name: Box<str>, module: Box<str>) -> Self {
        Self {
            name,
            module,
            calls: 0,
            total: 0,
            own: 0,
            max: 0,
            sum: 0,
            squares: 0.0,
            min: u64::MAX,
            durations: Histogram::default(),
        }
    }

    /// How many calls have a known duration.
    #[must_use]
    pub fn timed(&self) -> u64 {
        self.durations.total()
    }

    /// The shortest call; 0 where no duration is known.
    #[must_use]
    pub fn min(&self) -> u64 {
        if self.timed() == 0 { 0 } else { self.min }
    }

    /// The mean duration of a call; 0 where no duration is known.
    #[must_use]
    pub fn average(&self) -> u64 {
        self.sum.checked_div(self.timed()).unwrap_or(0)
    }

    /// The standard deviation of the durations; `None` with fewer than two.
    #[must_use]
    pub fn deviation(&self) -> Option<f64> {
        let count = self.timed() as f64;
        let mean = self.sum as f64 / count;
        let variance = (self.squares - count * mean * mean) / (count - 1.0);
        (self.timed() > 1).then(|| variance.max(0.0).sqrt())
    }

    /// The duration that this share of the calls does not exceed, to within 1/32 of it.
    #[must_use]
    pub fn quantile(&self, share: f64) -> u64 {
        self.durations.quantile(share).clamp(self.min(), self.max.max(self.min()))
    }

    #[inline]
    pub(super) fn add(&mut self, duration: u64, own: u64, outermost: bool) {
        self.sum = self.sum.saturating_add(duration);
        self.squares += duration as f64 * duration as f64;
        self.min = self.min.min(duration);
        self.max = self.max.max(duration);
        self.own += own;
        if outermost {
            self.total += duration;
        }
        self.durations.add(duration);
    }
}
