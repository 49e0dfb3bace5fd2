//! How much of a recording is kept.

use crate::block::Kind;
use crate::error::WriteError;
use crate::event::Ticks;
use crate::output::Output;
use crate::varint::put;

/// How much of a recording is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Keep {
    /// All of it.
    #[default]
    All,
    /// The first so many bytes.
    First(u64),
    /// The last files of a recording, each complete in itself: `FILE` is the newest, `FILE.1` the
    /// one before.
    Files {
        /// How long each is, about.
        bytes: u64,
        /// How many there are at most.
        count: u32,
    },
    /// The last so many bytes of steps. They are in memory until the end, or a snapshot.
    Last(u64),
}

/// How a recording is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Storage {
    /// How much.
    pub keep: Keep,
    /// Whether blocks are compressed that become shorter by that.
    pub compress: bool,
}

impl Default for Storage {
    fn default() -> Self {
        Self { keep: Keep::All, compress: true }
    }
}

/// Clock readings that are kept; of more than these, every other old one is dropped.
const READINGS: usize = 8192;

/// What all files of a recording begin with: definitions, and notes of what is before them.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    definitions: Vec<(Kind, Vec<u8>)>,
    names: Vec<u8>,
    readings: Vec<(Ticks, u64)>,
    losses: Vec<u8>,
    ends: Vec<u8>,
    outcome: Vec<u8>,
}

impl Kept {
    /// Remembers the body of a block.
    pub(crate) fn note(&mut self, kind: Kind, body: &[u8]) {
        match kind {
            _ if body.is_empty() => {}
            Kind::ThreadNames => self.names.extend_from_slice(body),
            Kind::Lost => self.losses.extend_from_slice(body),
            Kind::ThreadEnds => self.ends.extend_from_slice(body),
            Kind::Outcome => self.outcome = body.to_vec(),
            Kind::Objects | Kind::Functions | Kind::Processes | Kind::Threads => {
                self.definitions.push((kind, body.to_vec()));
            }
            Kind::Header | Kind::Clock | Kind::Steps | Kind::Index | Kind::Trailer => {}
        }
    }

    /// Remembers a reading of the clocks.
    pub(crate) fn clock(&mut self, ticks: Ticks, nanos: u64) {
        self.readings.push((ticks, nanos));
        if self.readings.len() > READINGS {
            let mut number = 0;
            self.readings.retain(|_| {
                number += 1;
                number > READINGS / 2 || number % 2 == 1
            });
        }
    }

    /// Writes it all.
    pub(crate) fn write(&self, output: &mut Output) -> Result<(), WriteError> {
        for (kind, body) in &self.definitions {
            output.small(*kind, body)?;
        }
        let mut clock = Vec::new();
        for (ticks, nanos) in &self.readings {
            put(&mut clock, ticks.0);
            put(&mut clock, *nanos);
        }
        output.small(Kind::ThreadNames, &self.names)?;
        output.small(Kind::Clock, &clock)?;
        output.small(Kind::Lost, &self.losses)?;
        output.small(Kind::ThreadEnds, &self.ends)?;
        output.small(Kind::Outcome, &self.outcome)
    }
}
