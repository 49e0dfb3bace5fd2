//! One event as the tracee writes it into its ring: 16 bytes.
//!
//! | bytes | field | meaning |
//! |---|---|---|
//! | 0..8 | `tsc` | time stamp counter; never 0 once committed, and written last |
//! | 8..12 | `tag` | [`Kind`] in the two top bits, site index below |
//! | 12..16 | `cell` | bits 3..35 of the address of the stack cell that holds the return address |
//!
//! The stack cell makes pairing exact: a call and its return name the same cell, and frames that
//! were jumped over (exceptions, `longjmp`) betray themselves by a deeper one.

/// Bytes of one record.
pub const RECORD_BYTES: u64 = 16;
/// Offset of the site tag in a record.
pub const TAG_OFFSET: u64 = 8;
/// Offset of the stack cell in a record.
pub const CELL_OFFSET: u64 = 12;
/// Sites a process can have: the tag's low 30 bits.
pub const MAX_SITES: u32 = 1 << 30;

/// What happened at a site.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Kind {
    /// The function was called; its exit will be recorded.
    Enter = 0,
    /// The function was entered by a jump from a hooked one (tail call): it shares that one's
    /// stack cell, and ends when that one's exit is recorded.
    Tail = 1,
    /// The function returned.
    Exit = 2,
    /// The function was called and its exit is not hooked (`setjmp`, `vfork`, …).
    EnterOnly = 3,
}

impl Kind {
    /// The bits that mark this kind in a tag.
    #[must_use]
    pub const fn bits(self) -> u32 {
        (self as u32) << 30
    }
}

/// One event of a ring, as read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// Time stamp counter.
    pub tsc: u64,
    /// What happened.
    pub kind: Kind,
    /// Which site of the process; not checked against the site table.
    pub site: u32,
    /// Bits 3..35 of the address of the return-address cell.
    pub cell: u32,
}

impl Record {
    /// Reads the two words of a record; `None` while it is not committed.
    #[must_use]
    pub const fn decode(tsc: u64, tail: u64) -> Option<Self> {
        if tsc == 0 {
            return None;
        }
        let [a, b, c, d, e, f, g, h] = tail.to_le_bytes();
        let tag = u32::from_le_bytes([a, b, c, d]);
        let kind = match tag >> 30 {
            0 => Kind::Enter,
            1 => Kind::Tail,
            2 => Kind::Exit,
            _ => Kind::EnterOnly,
        };
        let site = tag & (MAX_SITES - 1);
        Some(Self { tsc, kind, site, cell: u32::from_le_bytes([e, f, g, h]) })
    }

    /// The two words of this record, the committing one first.
    #[must_use]
    pub const fn encode(self) -> (u64, u64) {
        let tag = self.kind.bits() | (self.site & (MAX_SITES - 1));
        (self.tsc, tag as u64 | (self.cell as u64) << 32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_survives_the_round_trip() {
        for kind in [Kind::Enter, Kind::Tail, Kind::Exit, Kind::EnterOnly] {
            let record = Record { tsc: 7, kind, site: 123_456, cell: 0xdead_beef };
            let (tsc, tail) = record.encode();
            assert_eq!(Record::decode(tsc, tail), Some(record));
        }
        assert_eq!(Record::decode(0, 99), None);
    }
}
