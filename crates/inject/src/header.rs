//! Program headers: read, changed, written; and the program's second table of them.

use std::ops::Range;

/// A kind of header.
pub const PT_LOAD: u32 = 1;
/// A kind of header.
pub const PT_DYNAMIC: u32 = 2;
/// A kind of header.
pub const PT_INTERP: u32 = 3;
/// A kind of header.
pub const PT_NOTE: u32 = 4;
/// A kind of header.
pub const PT_PHDR: u32 = 6;
/// A kind of header.
pub const PT_TLS: u32 = 7;
/// A kind of header.
pub const PT_GNU_EH_FRAME: u32 = 0x6474_e550;
/// A kind of header.
pub const PT_GNU_RELRO: u32 = 0x6474_e552;

/// Flag: readable.
pub const READ: u32 = 4;
/// Flag: executable.
pub const EXECUTE: u32 = 1;

/// Bytes of a program header.
pub const HEADER_BYTES: u64 = 56;

/// A program header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// What it describes.
    pub kind: u32,
    /// How it may be used.
    pub flags: u32,
    /// Where in the file.
    pub offset: u64,
    /// Where in memory.
    pub address: u64,
    /// The same, by custom.
    pub physical: u64,
    /// Bytes in the file.
    pub file_size: u64,
    /// Bytes in memory.
    pub memory_size: u64,
    /// Alignment.
    pub align: u64,
}

impl Header {
    /// Reads a table.
    #[must_use]
    pub fn table(bytes: &[u8]) -> Vec<Self> {
        let words = bytes.chunks_exact(HEADER_BYTES as usize).map(|header| {
            let word = |index: usize| {
                let bytes = header[8 * index..8 * index + 8].try_into().expect("eight bytes");
                u64::from_le_bytes(bytes)
            };
            Self {
                kind: word(0) as u32,
                flags: (word(0) >> 32) as u32,
                offset: word(1),
                address: word(2),
                physical: word(3),
                file_size: word(4),
                memory_size: word(5),
                align: word(6),
            }
        });
        words.collect()
    }

    /// As it lies in memory.
    #[must_use]
    pub fn to_bytes(self) -> Vec<u8> {
        let first = u64::from(self.kind) | u64::from(self.flags) << 32;
        let rest = [self.offset, self.address, self.physical, self.file_size, self.memory_size];
        let words = [&[first][..], &rest, &[self.align]].concat();
        words.into_iter().flat_map(u64::to_le_bytes).collect()
    }

    /// The addresses it covers.
    #[must_use]
    pub const fn range(&self) -> Range<u64> {
        self.address..self.address.wrapping_add(self.memory_size)
    }

    /// One that describes memory which no file has.
    const fn of_memory(kind: u32, range: &Range<u64>, bias: u64) -> Self {
        let bytes = range.end - range.start;
        let address = range.start.wrapping_sub(bias);
        Self {
            kind,
            flags: READ,
            offset: 0,
            address,
            physical: address,
            file_size: bytes,
            memory_size: bytes,
            align: 4,
        }
    }
}

/// What the second table says that the first does not. All addresses are the process's.
#[derive(Clone, Debug)]
pub struct Additions {
    /// What `dl_iterate_phdr` will add to addresses in the table.
    pub bias: u64,
    /// Where the table itself will lie.
    pub table: u64,
    /// Everything that was added to the image.
    pub region: Range<u64>,
    /// The index of all unwind rules.
    pub index: Range<u64>,
    /// The new thread-local storage, with its address in the process.
    pub storage: Header,
}

/// How many headers the second table has.
#[must_use]
pub fn second_count(first: &[Header]) -> u64 {
    let has = |kind| first.iter().any(|header| header.kind == kind);
    first.len() as u64 + 1 + u64::from(!has(PT_GNU_EH_FRAME)) + u64::from(!has(PT_TLS))
}

/// The second table: the first one, with its unwind index and its thread-local storage replaced
/// or added, and one more loaded segment behind the others.
#[must_use]
pub fn second(first: &[Header], additions: &Additions) -> Vec<Header> {
    let Additions { bias, table, region, index, storage } = additions;
    let bytes = second_count(first) * HEADER_BYTES;
    let own = Header { align: 8, ..Header::of_memory(PT_PHDR, &(*table..*table + bytes), *bias) };
    let index = Header::of_memory(PT_GNU_EH_FRAME, index, *bias);
    let at = storage.address.wrapping_sub(*bias);
    let storage = Header { address: at, physical: at, ..*storage };
    let load = Header {
        flags: READ | EXECUTE,
        file_size: 0,
        align: 4096,
        ..Header::of_memory(PT_LOAD, region, *bias)
    };
    let mut headers: Vec<Header> = first.to_vec();
    for header in &mut headers {
        match header.kind {
            PT_PHDR => *header = own,
            PT_GNU_EH_FRAME => *header = index,
            PT_TLS => *header = storage,
            _ => {}
        }
    }
    let last_load = headers.iter().rposition(|header| header.kind == PT_LOAD);
    headers.insert(last_load.map_or(0, |last| last + 1), load);
    for added in [index, storage] {
        if !first.iter().any(|header| header.kind == added.kind) {
            headers.push(added);
        }
    }
    headers
}
