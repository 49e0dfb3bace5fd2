//! The agent's file, laid out without a loader.

use crate::error::Unusual;
use crate::header::{
    HEADER_BYTES, Header, PT_DYNAMIC, PT_GNU_EH_FRAME, PT_GNU_RELRO, PT_LOAD, PT_NOTE,
};
use crate::index::Index;
use sledge_wire::raw::NOTE_OWNER;
use std::ops::Range;

const PAGE: u64 = 4096;
const DT_RELA: u64 = 7;
const DT_RELASZ: u64 = 8;
const RELOCATION_BYTES: usize = 24;
const R_X86_64_RELATIVE: u64 = 8;
const R_X86_64_TPOFF64: u64 = 18;

/// The agent, as its file has it.
#[derive(Debug)]
pub struct Agent<'a> {
    file: &'a [u8],
    headers: Vec<Header>,
}

/// A piece of it in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Where.
    pub address: u64,
    /// What.
    pub bytes: Vec<u8>,
}

impl<'a> Agent<'a> {
    /// Reads its headers.
    ///
    /// # Errors
    /// When it is no such file.
    pub fn read(file: &'a [u8]) -> Result<Self, Unusual> {
        Self::parse(file).ok_or_else(damaged)
    }

    fn parse(file: &'a [u8]) -> Option<Self> {
        let offset = usize::try_from(word(file, 32)?).ok()?;
        let count = usize::from(u16::from_le_bytes(file.get(56..58)?.try_into().ok()?));
        let end = offset.checked_add(count * HEADER_BYTES as usize)?;
        Some(Self { file, headers: Header::table(file.get(offset..end)?) })
    }

    fn of_kind(&self, kind: u32) -> impl Iterator<Item = &Header> {
        self.headers.iter().filter(move |header| header.kind == kind)
    }

    /// Bytes of address space that it takes, from its beginning.
    #[must_use]
    pub fn span(&self) -> u64 {
        let ends = self.of_kind(PT_LOAD).map(|header| header.range().end);
        ends.max().unwrap_or(0).next_multiple_of(PAGE)
    }

    /// Bytes at an address of its own.
    fn bytes(&self, range: Range<u64>) -> Option<&'a [u8]> {
        let load = self.of_kind(PT_LOAD).find(|load| load.range().contains(&range.start))?;
        let start = usize::try_from(range.start - load.address + load.offset).ok()?;
        self.file.get(start..start.checked_add(usize::try_from(range.end - range.start).ok()?)?)
    }

    /// Pages and the protection they are to have (`PROT_*`), in the order in which to set it.
    #[must_use]
    pub fn protections(&self) -> Vec<(Range<u64>, u64)> {
        let pages = |header: &Header| {
            header.range().start / PAGE * PAGE..header.range().end.next_multiple_of(PAGE)
        };
        let loads = self.of_kind(PT_LOAD).map(|load| {
            let flags = u64::from(load.flags);
            (pages(load), (flags >> 2 & 1) | (flags & 2) | (flags & 1) << 2)
        });
        let constant = self.of_kind(PT_GNU_RELRO).map(|relro| (pages(relro), 1));
        loads.chain(constant).collect()
    }

    /// What its file fills, relocated to `base`; the thread-local word is at `word_offset`.
    ///
    /// # Errors
    /// When the file is damaged.
    pub fn pieces(&self, base: u64, word_offset: i64) -> Result<Vec<Piece>, Unusual> {
        self.relocated(base, word_offset).ok_or_else(damaged)
    }

    fn relocated(&self, base: u64, word_offset: i64) -> Option<Vec<Piece>> {
        let loads = self.of_kind(PT_LOAD).filter(|load| load.file_size > 0);
        let piece = |load: &Header| {
            let bytes = self.bytes(load.address..load.address.checked_add(load.file_size)?)?;
            Some(Piece { address: base + load.address, bytes: bytes.to_vec() })
        };
        let mut pieces: Vec<Piece> = loads.map(piece).collect::<Option<_>>()?;
        for relocation in self.relocations()?.chunks_exact(RELOCATION_BYTES) {
            let [place, kind, addend] = [0, 8, 16].map(|at| word(relocation, at).unwrap_or(0));
            let value = match kind {
                R_X86_64_RELATIVE => base.wrapping_add(addend),
                R_X86_64_TPOFF64 => addend.wrapping_add_signed(word_offset),
                _ => return None,
            };
            let place = base.checked_add(place)?;
            let into = |piece: &&mut Piece| {
                (piece.address..piece.address + piece.bytes.len() as u64).contains(&place)
            };
            let piece = pieces.iter_mut().find(into)?;
            let at = usize::try_from(place - piece.address).ok()?;
            piece.bytes.get_mut(at..at + 8)?.copy_from_slice(&value.to_le_bytes());
        }
        Some(pieces)
    }

    fn relocations(&self) -> Option<&'a [u8]> {
        let dynamic = self.of_kind(PT_DYNAMIC).next()?;
        let table = self.bytes(dynamic.address..dynamic.address.checked_add(dynamic.file_size)?)?;
        let value = |tag| {
            let mut entries = table.chunks_exact(16);
            word(entries.find(|entry| word(entry, 0) == Some(tag))?, 8)
        };
        let start = value(DT_RELA)?;
        self.bytes(start..start.checked_add(value(DT_RELASZ)?)?)
    }

    /// Its unwind rules, laid out at `base`.
    ///
    /// # Errors
    /// When the file is damaged.
    pub fn index(&self, base: u64) -> Result<Index, Unusual> {
        let header = self.of_kind(PT_GNU_EH_FRAME).next().ok_or_else(damaged)?;
        let bytes = self.bytes(header.range()).ok_or_else(damaged)?;
        Index::read(bytes, base + header.address)
    }

    /// What is written to, from its beginning: whole pages.
    #[must_use]
    pub fn writable(&self) -> Range<u64> {
        let writable = || self.of_kind(PT_LOAD).filter(|load| load.flags & 2 != 0);
        let start = writable().map(|load| load.range().start).min().unwrap_or(0);
        let end = writable().map(|load| load.range().end).max().unwrap_or(0);
        start / PAGE * PAGE..end.next_multiple_of(PAGE)
    }

    /// The entry that a note of this type names, from its beginning.
    ///
    /// # Errors
    /// When there is no such note.
    pub fn entry(&self, kind: u32) -> Result<u64, Unusual> {
        let notes = self.of_kind(PT_NOTE).filter_map(|header| {
            let distance = note(self.bytes(header.range())?, NOTE_OWNER, Some(kind))?;
            let (at, bytes) = distance;
            let distance = i32::from_le_bytes(bytes.try_into().ok()?);
            Some(header.address.checked_add(at)?.wrapping_add_signed(distance.into()))
        });
        { notes }.next().ok_or_else(damaged)
    }
}

fn damaged() -> Unusual {
    Unusual("the agent that sledge carries cannot be laid out")
}

fn word(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

/// Finds a note by its owner (and its type): where its descriptor begins, and the descriptor.
#[must_use]
pub fn note<'a>(notes: &'a [u8], owner: &[u8], kind: Option<u32>) -> Option<(u64, &'a [u8])> {
    let mut at = 0;
    while let Some(head) = notes.get(at..at + 12) {
        let field = |i: usize| u32::from_le_bytes(head[4 * i..4 * i + 4].try_into().expect("four"));
        let name = at + 12;
        let descriptor = name + (field(0) as usize).next_multiple_of(4);
        let end = descriptor + field(1) as usize;
        let named = notes.get(name..name + field(0) as usize)? == owner;
        if named && kind.is_none_or(|kind| kind == field(2)) {
            return Some((descriptor as u64, notes.get(descriptor..end)?));
        }
        at = end.next_multiple_of(4);
    }
    None
}
