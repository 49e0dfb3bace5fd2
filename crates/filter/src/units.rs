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

/// Reads `10us`, `1ms`, `2s`, `1.5ms`; a plain number is nanoseconds.
///
/// # Errors
/// See [`UnitError`].
pub fn parse_duration(text: &str) -> Result<Nanos, UnitError> {
    text.parse().map(Nanos).map_err(|_| UnitError::TooLarge { text: text.to_owned() })
}

/// Reads `4M`, `64k`, `1G`, with 1024 as the step; a plain number is bytes.
///
/// # Errors
/// See [`UnitError`].
pub fn parse_size(text: &str) -> Result<u64, UnitError> {
    text.parse().map_err(|_| UnitError::TooLarge { text: text.to_owned() })
}
