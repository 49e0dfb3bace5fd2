//! The bytes of an object, by link-time address.

use crate::header::Segment;

/// Longer strings are cut off: no name that a compiler makes is.
const LONGEST_STRING: usize = 1 << 16;

/// A file as its segments lay it out.
#[derive(Clone, Copy)]
pub(crate) struct Image<'a> {
    pub(crate) file: &'a [u8],
    segments: &'a [Segment],
}

impl<'a> Image<'a> {
    pub(crate) const fn new(file: &'a [u8], segments: &'a [Segment]) -> Self {
        Self { file, segments }
    }

    /// The bytes from an address to the end of what the file has of its segment.
    pub(crate) fn from(&self, address: u64) -> Option<&'a [u8]> {
        self.segments.iter().find_map(|segment| {
            let into = address.checked_sub(segment.address)?;
            let left = segment.file_size.checked_sub(into)?;
            slice(self.file, segment.file_offset.checked_add(into)?, left)
        })
    }

    pub(crate) fn at(&self, address: u64, size: u64) -> Option<&'a [u8]> {
        self.from(address)?.get(..usize::try_from(size).ok()?)
    }

    /// As much of a table as the file has.
    pub(crate) fn table(&self, address: u64, size: u64) -> &'a [u8] {
        let bytes = self.from(address).unwrap_or_default();
        &bytes[..bytes.len().min(usize::try_from(size).unwrap_or(usize::MAX))]
    }
}

pub(crate) fn slice(bytes: &[u8], offset: u64, size: u64) -> Option<&[u8]> {
    let start = usize::try_from(offset).ok()?;
    bytes.get(start..start.checked_add(usize::try_from(size).ok()?)?)
}

pub(crate) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(array(bytes, at)?))
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(array(bytes, at)?))
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(array(bytes, at)?))
}

/// The string that begins at an offset of a string table.
pub(crate) fn string_at(strings: &[u8], at: usize) -> &[u8] {
    let rest = strings.get(at..).unwrap_or_default();
    let rest = &rest[..rest.len().min(LONGEST_STRING)];
    rest.split(|&byte| byte == 0).next().unwrap_or_default()
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}
