//! From time stamp counter to nanoseconds.

use nix::time::{ClockId, clock_gettime};
use sledge_control::clock_pair;
use sledge_tracefs::Clock;
use std::time::{Duration, Instant};

/// How often the rate is measured anew.
const ROUND: Duration = Duration::from_millis(100);

/// Converts time stamps to `CLOCK_MONOTONIC`.
#[derive(Debug)]
pub(crate) struct Converter {
    first: (u64, u64),
    latest: (u64, u64),
    rate: f64,
    looked: Instant,
}

impl Converter {
    /// Takes a few milliseconds to measure the rate.
    pub(crate) fn new() -> Self {
        let first = clock_pair();
        std::thread::sleep(Duration::from_millis(10));
        let mut converter = Self { first, latest: first, rate: 1.0, looked: Instant::now() };
        converter.measure();
        converter
    }

    fn measure(&mut self) {
        self.latest = clock_pair();
        let ticks = self.latest.0.wrapping_sub(self.first.0).max(1);
        self.rate = self.latest.1.wrapping_sub(self.first.1) as f64 / ticks as f64;
        self.looked = Instant::now();
    }

    /// Keeps up with the clock.
    pub(crate) fn refresh(&mut self) {
        if self.looked.elapsed() > ROUND {
            self.measure();
        }
    }

    /// Nanoseconds of `CLOCK_MONOTONIC`.
    pub(crate) fn nanoseconds(&self, ticks: u64) -> u64 {
        let distance = ticks.wrapping_sub(self.latest.0).cast_signed();
        self.latest.1.saturating_add_signed((distance as f64 * self.rate) as i64)
    }
}

fn read(clock: ClockId) -> Option<u64> {
    let time = clock_gettime(clock).ok()?;
    let (seconds, rest) = (time.tv_sec().cast_unsigned(), time.tv_nsec().cast_unsigned());
    Some(seconds * 1_000_000_000 + rest)
}

/// `CLOCK_MONOTONIC` in nanoseconds.
pub(crate) fn now() -> u64 {
    read(ClockId::CLOCK_MONOTONIC).unwrap_or(0)
}

/// How far another clock is ahead.
pub(crate) fn offset(clock: Clock) -> Option<i64> {
    let other = match clock {
        Clock::MonoRaw => ClockId::CLOCK_MONOTONIC_RAW,
        Clock::Boot => ClockId::CLOCK_BOOTTIME,
        Clock::Tai => ClockId::from_raw(nix::libc::CLOCK_TAI),
        _ => return Some(0),
    };
    Some(read(other)?.wrapping_sub(now()).cast_signed())
}
