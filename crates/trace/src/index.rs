//! The index and the trailer, the last two blocks of a finished trace.

use crate::block::{Kind, TRAILER_BYTES};
use crate::event::{ThreadId, Ticks};
use crate::varint::{Fields, put, put_signed};

/// Where a steps block lies and what it covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ChunkPlace {
    pub(crate) offset: u64,
    pub(crate) thread: ThreadId,
    pub(crate) first: Ticks,
    pub(crate) last: Ticks,
    pub(crate) count: u32,
}

/// One block of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Steps(ChunkPlace),
    Other { kind: u8, offset: u64 },
}

impl Place {
    pub(crate) fn offset(&self) -> u64 {
        match self {
            Self::Steps(chunk) => chunk.offset,
            Self::Other { offset, .. } => *offset,
        }
    }
}

pub(crate) fn put_index(out: &mut Vec<u8>, places: &[Place]) {
    let (mut offset, mut time) = (0, 0);
    for place in places {
        put(out, place.offset() - offset);
        offset = place.offset();
        match place {
            Place::Other { kind, .. } => out.push(*kind),
            Place::Steps(chunk) => {
                out.push(Kind::Steps as u8);
                put(out, u64::from(chunk.thread.0));
                put_signed(out, chunk.first.0.wrapping_sub(time) as i64);
                put(out, chunk.last.0 - chunk.first.0);
                put(out, u64::from(chunk.count));
                time = chunk.first.0;
            }
        }
    }
}

pub(crate) fn take_index(bytes: &[u8]) -> Option<Vec<Place>> {
    let mut fields = Fields::new(bytes);
    let mut places = Vec::new();
    let (mut offset, mut time) = (0u64, 0u64);
    while !fields.at_end() {
        offset = offset.checked_add(fields.number()?)?;
        let kind = fields.raw(1)?[0];
        if kind != Kind::Steps as u8 {
            places.push(Place::Other { kind, offset });
            continue;
        }
        let thread = ThreadId(fields.number32()?);
        time = time.wrapping_add(fields.signed()? as u64);
        let last = time.checked_add(fields.number()?)?;
        let count = fields.number32()?;
        let (first, last) = (Ticks(time), Ticks(last));
        places.push(Place::Steps(ChunkPlace { offset, thread, first, last, count }));
    }
    Some(places)
}

/// What the trailer says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Trailer {
    /// Where the index begins.
    pub(crate) index: u64,
    /// The latest time in the file.
    pub(crate) last: u64,
    /// How many of each were defined.
    pub(crate) objects: u32,
    pub(crate) functions: u32,
    pub(crate) processes: u32,
    pub(crate) threads: u32,
}

impl Trailer {
    pub(crate) fn encode(&self) -> [u8; TRAILER_BYTES] {
        let mut bytes = [0; TRAILER_BYTES];
        bytes[..8].copy_from_slice(&self.index.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.last.to_le_bytes());
        let counts = [self.objects, self.functions, self.processes, self.threads];
        for (place, count) in bytes[16..].chunks_exact_mut(4).zip(counts) {
            place.copy_from_slice(&count.to_le_bytes());
        }
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields::new(bytes);
        Some(Self {
            index: fields.fixed64()?,
            last: fields.fixed64()?,
            objects: fields.fixed32()?,
            functions: fields.fixed32()?,
            processes: fields.fixed32()?,
            threads: fields.fixed32()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_survives_the_round_trip() {
        let chunk = |offset, thread, first, last| {
            let (first, last) = (Ticks(first), Ticks(last));
            Place::Steps(ChunkPlace { offset, thread: ThreadId(thread), first, last, count: 5 })
        };
        let places = [
            Place::Other { kind: 1, offset: 0 },
            chunk(70, 0, 1 << 60, u64::MAX),
            Place::Other { kind: 99, offset: 80 },
            chunk(90_000, 4, 3, 3),
        ];
        let mut bytes = Vec::new();
        put_index(&mut bytes, &places);
        assert_eq!(take_index(&bytes).unwrap(), places);
        let trailer =
            Trailer { index: 7, last: 8, objects: 1, functions: 2, processes: 3, threads: 4 };
        assert_eq!(Trailer::decode(&trailer.encode()), Some(trailer));
    }
}
