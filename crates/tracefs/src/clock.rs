//! `trace_clock`: what time stamps mean.

/// A clock that stamps entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Clock {
    /// `local`: monotonic time, as all others that have no own meaning in a process.
    #[default]
    Local,
    /// `global`: the same.
    Global,
    /// `counter`: no time, but the number of the event.
    Counter,
    /// `mono`: `CLOCK_MONOTONIC`.
    Mono,
    /// `mono_raw`: `CLOCK_MONOTONIC_RAW`.
    MonoRaw,
    /// `boot`: `CLOCK_BOOTTIME`.
    Boot,
    /// `tai`: `CLOCK_TAI`.
    Tai,
}

/// All clocks, in the order in which they are listed.
pub(crate) const CLOCKS: [(Clock, &str); 7] = [
    (Clock::Local, "local"),
    (Clock::Global, "global"),
    (Clock::Counter, "counter"),
    (Clock::Mono, "mono"),
    (Clock::MonoRaw, "mono_raw"),
    (Clock::Boot, "boot"),
    (Clock::Tai, "tai"),
];

impl Clock {
    /// The clock of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        CLOCKS.iter().find(|(_, other)| *other == name).map(|(clock, _)| *clock)
    }

    /// Whether it counts nanoseconds.
    #[must_use]
    pub const fn is_time(self) -> bool {
        !matches!(self, Self::Counter)
    }

    /// The file: all names, the current one in brackets.
    #[must_use]
    pub fn listing(self) -> String {
        let show = |(clock, name): &(Self, &str)| {
            if *clock == self { format!("[{name}]") } else { (*name).to_owned() }
        };
        CLOCKS.iter().map(show).collect::<Vec<_>>().join(" ") + "\n"
    }
}
