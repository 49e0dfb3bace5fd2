//! Reads the rings of a segment, in the order in which they were written.

use crate::segment::Segment;
use sledge_wire::record::{RECORD_BYTES, Record};
use std::time::{Duration, Instant};

/// Records taken from one ring before the next one has its turn.
const BATCH: u64 = 32 * 1024;
/// A record that stays uncommitted so long, while later ones are there, is given up: its thread
/// left it behind by a jump out of a signal handler.
const HOLE_PATIENCE: Duration = Duration::from_millis(200);
/// How far behind a hole records are looked for.
const HOLE_SEARCH: u64 = 256;

/// What comes out of a ring.
#[derive(Clone, Copy, Debug)]
pub enum Taken {
    /// A record.
    Record(Record),
    /// One that its thread never finished.
    Hole,
}

/// How far each ring was read.
#[derive(Debug)]
pub struct Rings {
    positions: Vec<u64>,
    /// Since when the next record has been missing while later ones are there.
    holes: Vec<Option<Instant>>,
}

impl Rings {
    /// Nothing was read yet.
    #[must_use]
    pub fn new(segment: &Segment) -> Self {
        Self { positions: vec![0; segment.rings()], holes: vec![None; segment.rings()] }
    }

    /// Reads a batch from one ring; with `ended`, nothing more will be written. Returns how many
    /// records that were.
    pub fn read(
        &mut self,
        segment: &Segment,
        index: usize,
        ended: bool,
        mut take: impl FnMut(Taken),
    ) -> u64 {
        let start = self.positions[index];
        let publish_every = segment.ring_bytes() / 8;
        let (mut position, mut published) = (start, start);
        while position - start < BATCH * RECORD_BYTES {
            match segment.take(index, position) {
                Some(record) => take(Taken::Record(record)),
                None if self.is_given_up(segment, index, position, ended) => take(Taken::Hole),
                None => break,
            }
            self.holes[index] = None;
            position += RECORD_BYTES;
            if position - published >= publish_every {
                segment.publish(index, position);
                published = position;
            }
        }
        if position != start {
            segment.publish(index, position);
            self.positions[index] = position;
        }
        (position - start) / RECORD_BYTES
    }

    /// Whether the record at a position will never be committed.
    fn is_given_up(&mut self, segment: &Segment, index: usize, position: u64, ended: bool) -> bool {
        if !segment.any_behind(index, position, HOLE_SEARCH) {
            return false;
        }
        let since = *self.holes[index].get_or_insert_with(Instant::now);
        ended || since.elapsed() > HOLE_PATIENCE
    }

    /// Batches that empty a ring even if its thread goes on until it notices that we stopped; a
    /// tracee that does not stop is not listened to for longer.
    #[must_use]
    pub fn most_batches(segment: &Segment) -> u64 {
        2 * segment.ring_bytes() / (BATCH * RECORD_BYTES) + 2
    }
}
