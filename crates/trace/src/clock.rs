//! From ticks to nanoseconds.

use crate::event::{Nanos, Ticks};

/// Fraction bits of a rate.
const SHIFT: u32 = 40;

/// A stretch of constant rate, from one clock reading to the next.
#[derive(Clone, Copy, Debug)]
struct Stretch {
    ticks: u64,
    /// How many ticks it lasts.
    span: u64,
    nanos: u64,
    /// Nanoseconds a tick, with [`SHIFT`] fraction bits.
    rate: u64,
    /// No time of this stretch is later.
    limit: u64,
}

/// Converts by interpolating between neighbouring readings of both clocks.
#[derive(Clone, Debug)]
pub(crate) struct Clock {
    stretches: Vec<Stretch>,
}

impl Clock {
    /// From readings of (ticks, monotonic nanoseconds); those that do not go forward in both are
    /// ignored. The trace begins at the first. Without any, a tick is a nanosecond.
    pub(crate) fn new(readings: &[(Ticks, u64)], ticks_per_second: u64) -> Self {
        let mut points: Vec<(u64, u64)> = Vec::with_capacity(readings.len());
        for &(Ticks(ticks), nanos) in readings {
            if points.last().is_none_or(|last| ticks > last.0 && nanos > last.1) {
                points.push((ticks, nanos));
            }
        }
        let (Some(&first), Some(&last)) = (points.first(), points.last()) else {
            let whole =
                Stretch { ticks: 0, span: u64::MAX, nanos: 0, rate: 1 << SHIFT, limit: u64::MAX };
            return Self { stretches: vec![whole] };
        };
        let overall = match (points.len(), ticks_per_second) {
            (1, 0) => 1 << SHIFT,
            (1, hertz) => rate(1_000_000_000, hertz),
            _ => rate(last.1 - first.1, last.0 - first.0),
        };
        let stretch = |at: usize, point: &(u64, u64)| {
            let next = points.get(at + 1);
            Stretch {
                ticks: point.0,
                span: next.map_or(u64::MAX, |next| next.0) - point.0,
                nanos: point.1 - first.1,
                rate: next.map_or(overall, |next| rate(next.1 - point.1, next.0 - point.0)),
                limit: next.map_or(u64::MAX, |next| next.1 - first.1),
            }
        };
        Self { stretches: points.iter().enumerate().map(|(at, p)| stretch(at, p)).collect() }
    }

    /// The time of a tick; 0 before the trace began. `hint` remembers the last stretch used.
    #[inline(always)]
    pub(crate) fn nanos(&self, Ticks(ticks): Ticks, hint: &mut usize) -> Nanos {
        let stretch = match self.stretches.get(*hint) {
            Some(stretch) if ticks.wrapping_sub(stretch.ticks) < stretch.span => stretch,
            _ => self.find(ticks, hint),
        };
        let passed = ticks.saturating_sub(stretch.ticks);
        let nanos = (u128::from(passed) * u128::from(stretch.rate)) >> SHIFT;
        let nanos = u64::try_from(nanos).unwrap_or(u64::MAX);
        Nanos(stretch.nanos.saturating_add(nanos).min(stretch.limit))
    }

    #[cold]
    fn find(&self, ticks: u64, hint: &mut usize) -> &Stretch {
        let after = self.stretches.partition_point(|stretch| stretch.ticks <= ticks);
        *hint = after.saturating_sub(1);
        &self.stretches[*hint]
    }

    /// The first tick whose time is `nanos` or later.
    pub(crate) fn ticks(&self, nanos: Nanos) -> Ticks {
        let (mut low, mut high) = (0, u64::MAX);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.nanos(Ticks(middle), &mut 0) < nanos {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Ticks(low)
    }
}

fn rate(nanos: u64, ticks: u64) -> u64 {
    let rate = (u128::from(nanos) << SHIFT) / u128::from(ticks.max(1));
    u64::try_from(rate).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_interpolated_between_neighbours_and_extended_at_the_end() {
        let readings = [(Ticks(1000), 500), (Ticks(2000), 1500), (Ticks(4000), 2500)];
        let clock = Clock::new(&readings, 0);
        let at = |ticks| clock.nanos(Ticks(ticks), &mut 0).0;
        assert_eq!([at(0), at(1000), at(1500), at(2000), at(3000)], [0, 0, 500, 1000, 1500]);
        assert_eq!(at(4000), 2000);
        // Beyond the last reading the rate is that of the whole trace: 2000 ns in 3000 ticks.
        assert!(at(7000).abs_diff(4000) <= 1);
    }

    #[test]
    fn one_reading_goes_by_the_nominal_rate_and_none_by_the_tick() {
        let nominal = Clock::new(&[(Ticks(10), 77)], 2_000_000_000);
        assert_eq!(nominal.nanos(Ticks(110), &mut 0), Nanos(50));
        assert_eq!(Clock::new(&[], 0).nanos(Ticks(42), &mut 0), Nanos(42));
        assert_eq!(Clock::new(&[(Ticks(40), 9)], 0).nanos(Ticks(42), &mut 0), Nanos(2));
    }

    #[test]
    fn the_inverse_finds_the_first_tick_of_a_time() {
        let clock = Clock::new(&[(Ticks(0), 1), (Ticks(3000), 1001), (Ticks(9001), 3001)], 0);
        for nanos in [0, 1, 17, 999, 1000, 1001, 2500, 9999] {
            let Ticks(ticks) = clock.ticks(Nanos(nanos));
            assert!(clock.nanos(Ticks(ticks), &mut 0) >= Nanos(nanos));
            assert!(ticks == 0 || clock.nanos(Ticks(ticks - 1), &mut 0) < Nanos(nanos));
        }
        assert_eq!(Clock::new(&[(Ticks(5), 0)], 1).ticks(Nanos(0)), Ticks(0));
    }

    #[test]
    fn readings_that_go_back_are_ignored() {
        let clock = Clock::new(&[(Ticks(10), 10), (Ticks(5), 20), (Ticks(20), 20)], 0);
        assert_eq!(clock.nanos(Ticks(15), &mut 99), Nanos(5));
    }
}
