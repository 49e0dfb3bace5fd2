//! The index of unwind rules (`.eh_frame_hdr`): read, joined, written.

use crate::error::Unusual;

/// Version, and how pointer, count and table are encoded: relative to the field, plain, and
/// relative to the index. What every linker writes, and all that LLVM's unwinder searches.
const OPENING: [u8; 4] = [1, 0x1b, 0x03, 0x3b];
/// Bytes before the table.
const HEAD: u64 = 12;
const ENTRY: u64 = 8;

/// An index, in addresses of the process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Index {
    /// Where `.eh_frame` is.
    pub frames: u64,
    /// Start of a function, and its rule.
    pub entries: Vec<(u64, u64)>,
}

impl Index {
    /// Reads the index that lies at an address.
    ///
    /// # Errors
    /// When it is not in the form that linkers write.
    pub fn read(bytes: &[u8], at: u64) -> Result<Self, Unusual> {
        Self::parse(bytes, at).ok_or(Unusual("the index of its unwind rules is of an unknown form"))
    }

    fn parse(bytes: &[u8], at: u64) -> Option<Self> {
        let word = |offset: u64| -> Option<u32> {
            let offset = usize::try_from(offset).ok()?;
            let word = bytes.get(offset..offset.checked_add(4)?)?;
            Some(u32::from_le_bytes(word.try_into().ok()?))
        };
        let from = |base: u64, offset: u64| {
            Some(base.wrapping_add_signed(i64::from(word(offset)?.cast_signed())))
        };
        if !bytes.starts_with(&OPENING) {
            return None;
        }
        let count = u64::from(word(8)?);
        if HEAD + count * ENTRY > bytes.len() as u64 {
            return None;
        }
        let entry = |index| {
            let offset = HEAD + index * ENTRY;
            Some((from(at, offset)?, from(at, offset + 4)?))
        };
        let entries = (0..count).map(entry).collect::<Option<_>>()?;
        Some(Self { frames: from(at.wrapping_add(4), 4)?, entries })
    }

    /// Both, in the order of addresses; `.eh_frame` is that of `self`, if it has one.
    #[must_use]
    pub fn join(mut self, other: Self) -> Self {
        if self.frames == 0 {
            self.frames = other.frames;
        }
        self.entries.extend(other.entries);
        self.entries.sort_unstable();
        self
    }

    /// Bytes that it takes.
    #[must_use]
    pub const fn size(&self) -> u64 {
        HEAD + self.entries.len() as u64 * ENTRY
    }

    /// As it lies at an address; `None` where something is out of reach from there.
    #[must_use]
    pub fn to_bytes(&self, at: u64) -> Option<Vec<u8>> {
        let distance = |to: u64, from: u64| {
            i32::try_from(to.wrapping_sub(from).cast_signed()).ok().map(i32::to_le_bytes)
        };
        let mut bytes = OPENING.to_vec();
        bytes.extend(distance(self.frames, at.wrapping_add(4))?);
        bytes.extend(u32::try_from(self.entries.len()).ok()?.to_le_bytes());
        for &(start, rule) in &self.entries {
            bytes.extend(distance(start, at)?);
            bytes.extend(distance(rule, at)?);
        }
        Some(bytes)
    }
}
