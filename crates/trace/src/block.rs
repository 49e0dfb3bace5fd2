//! Blocks: what a trace file is made of.
//!
//! A block is sixteen bytes of header and a body. The header carries a check of its own, so that
//! a file without an index can be walked, and a damaged stretch be skipped, without reading the
//! bodies.

use crate::checksum::crc32;
use crate::error::Flaw;

/// Version of the format; a reader refuses others.
pub(crate) const VERSION: u32 = 1;
/// What every block begins with.
pub(crate) const MAGIC: [u8; 4] = [0x89, b'S', b'L', b'G'];
/// What the body of the first block begins with.
pub(crate) const MARKER: [u8; 16] = *b"sledge.trace\0\0\0\0";
/// Bytes of a block header.
pub(crate) const HEADER_BYTES: usize = 16;
/// Bytes of a steps block's head, which is never compressed.
pub(crate) const STEPS_HEAD_BYTES: usize = 40;
/// Bytes of a trailer's body.
pub(crate) const TRAILER_BYTES: usize = 32;
/// Header flag: what follows the head is a 32-bit length and an LZ4 block of that plain length.
pub(crate) const COMPRESSED: u8 = 1;

/// What a block holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    Header = 1,
    Objects = 2,
    Functions = 3,
    Processes = 4,
    Threads = 5,
    ThreadNames = 6,
    Clock = 7,
    Steps = 8,
    Lost = 9,
    ThreadEnds = 10,
    Outcome = 11,
    Index = 12,
    Trailer = 13,
}

impl Kind {
    /// The kind numbered so; `None` for one of a later version, which is to be skipped.
    pub(crate) fn from_number(number: u8) -> Option<Self> {
        use Kind::*;
        let all = [
            Header,
            Objects,
            Functions,
            Processes,
            Threads,
            ThreadNames,
            Clock,
            Steps,
            Lost,
            ThreadEnds,
            Outcome,
            Index,
            Trailer,
        ];
        all.into_iter().find(|kind| *kind as u8 == number)
    }

    /// Bytes at the beginning of the body that are never compressed.
    pub(crate) fn head_bytes(self) -> usize {
        match self {
            Self::Header => MARKER.len() + 4,
            Self::Steps => STEPS_HEAD_BYTES,
            _ => 0,
        }
    }
}

/// A block's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BlockHeader {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    /// Bytes of the body, as stored.
    pub(crate) length: u32,
    /// CRC-32 of the body, as stored.
    pub(crate) checksum: u32,
}

impl BlockHeader {
    pub(crate) fn encode(self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..4].copy_from_slice(&MAGIC);
        bytes[4] = self.kind;
        bytes[5] = self.flags;
        bytes[8..12].copy_from_slice(&self.length.to_le_bytes());
        bytes[12..].copy_from_slice(&self.checksum.to_le_bytes());
        // The check's own place counts as zero.
        let check = (crc32(&bytes) & 0xffff) as u16;
        bytes[6..8].copy_from_slice(&check.to_le_bytes());
        bytes
    }

    /// Reads a header; `None` where none is.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; HEADER_BYTES] = bytes.get(..HEADER_BYTES)?.try_into().ok()?;
        let [_, _, _, _, kind, flags, _, _, a, b, c, d, e, f, g, h] = *bytes;
        let header = Self {
            kind,
            flags,
            length: u32::from_le_bytes([a, b, c, d]),
            checksum: u32::from_le_bytes([e, f, g, h]),
        };
        (header.encode() == *bytes).then_some(header)
    }

    /// Bytes of the whole block.
    pub(crate) fn block_bytes(self) -> u64 {
        HEADER_BYTES as u64 + u64::from(self.length)
    }
}

/// Lays out a whole block in `out`: `head` as it is, `content` compressed if it may be and is
/// shorter so. `None` when it is longer than a block can be.
pub(crate) fn encode(
    kind: Kind,
    head: &[u8],
    content: &[u8],
    compress: bool,
    out: &mut Vec<u8>,
) -> Option<()> {
    out.clear();
    out.extend_from_slice(&[0; HEADER_BYTES]);
    out.extend_from_slice(head);
    let plain_length = u32::try_from(content.len()).ok()?;
    let packed = if compress && content.len() > 64 {
        lz4_flex::block::compress(content)
    } else {
        Vec::new()
    };
    let compress = !packed.is_empty() && packed.len() + 4 < content.len();
    if compress {
        out.extend_from_slice(&plain_length.to_le_bytes());
        out.extend_from_slice(&packed);
    } else {
        out.extend_from_slice(content);
    }
    let body = &out[HEADER_BYTES..];
    let header = BlockHeader {
        kind: kind as u8,
        flags: if compress { COMPRESSED } else { 0 },
        length: u32::try_from(body.len()).ok()?,
        checksum: crc32(body),
    };
    out[..HEADER_BYTES].copy_from_slice(&header.encode());
    Some(())
}

/// Checks a stored body against its header and puts its plain content, without the head, in
/// `out`.
pub(crate) fn unpack(
    header: BlockHeader,
    head_bytes: usize,
    body: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), Flaw> {
    if crc32(body) != header.checksum {
        return Err(Flaw::BadChecksum);
    }
    let stored = body.get(head_bytes..).ok_or(Flaw::BadContent)?;
    out.clear();
    if header.flags & COMPRESSED == 0 {
        out.extend_from_slice(stored);
        return Ok(());
    }
    let (length, packed) = stored.split_first_chunk::<4>().ok_or(Flaw::BadCompression)?;
    let length = u32::from_le_bytes(*length) as usize;
    // LZ4 cannot do better than 255 to 1; more is no reason to reserve memory.
    if length / 255 > packed.len() {
        return Err(Flaw::BadCompression);
    }
    out.resize(length, 0);
    match lz4_flex::block::decompress_into(packed, out) {
        Ok(written) if written == length => Ok(()),
        _ => Err(Flaw::BadCompression),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_survives_the_round_trip_compressed_or_not() {
        let (long, short) = (vec![7; 5000], vec![1, 2, 3]);
        for (content, compressed) in [(long, true), (short, false)] {
            let mut block = Vec::new();
            encode(Kind::Steps, &[9; STEPS_HEAD_BYTES], &content, true, &mut block).unwrap();
            let header = BlockHeader::decode(&block).unwrap();
            assert_eq!(header.block_bytes(), block.len() as u64);
            assert_eq!(header.flags & COMPRESSED != 0, compressed);
            let mut plain = Vec::new();
            unpack(header, STEPS_HEAD_BYTES, &block[HEADER_BYTES..], &mut plain).unwrap();
            assert_eq!(plain, content);
        }
    }

    #[test]
    fn any_flipped_bit_of_a_header_is_noticed() {
        let header = BlockHeader { kind: 8, flags: 1, length: 70_000, checksum: 0x1234_5678 };
        let good = header.encode();
        for bit in 0..HEADER_BYTES * 8 {
            let mut bad = good;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(BlockHeader::decode(&bad), None, "bit {bit}");
        }
    }

    #[test]
    fn a_length_that_cannot_be_is_refused_before_memory_is_reserved() {
        let mut body = u32::MAX.to_le_bytes().to_vec();
        body.extend_from_slice(&[0; 32]);
        let header = BlockHeader {
            kind: Kind::Index as u8,
            flags: COMPRESSED,
            length: body.len() as u32,
            checksum: crc32(&body),
        };
        assert_eq!(unpack(header, 0, &body, &mut Vec::new()), Err(Flaw::BadCompression));
    }
}
