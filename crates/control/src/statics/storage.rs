//! Thread-local storage: the program's block grows by a few bytes at its low end.
//!
//! On x86-64 a static program's block ends at the thread pointer, and the linker counted all
//! offsets from there. So the block may grow downwards by a multiple of its alignment, and
//! nothing in it moves. What C library there is gives each thread a copy of the image, ours with
//! it: the agent's word, and a mark by which one can see that it did.

use super::refuse;
use crate::error::ControlError;
use sledge_inject::header::{Header, PT_TLS, READ};
use std::ops::Range;

/// Bytes wanted: the agent's word at the first multiple of sixteen, and behind it the mark.
const WANTED: u64 = 64;
/// Where the mark lies in the bytes added.
const MARK_AT: u64 = 48;
const MARK: [u8; 16] = *b"sledge was here\0";
/// Anything larger is not what a linker writes.
const MOST_ALIGN: u64 = 4096;
const MOST_BYTES: u64 = 1 << 28;

/// The program's thread-local storage and how it grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Storage {
    /// As the program has it; empty where it has none.
    original: Header,
    /// Bytes added in front.
    growth: u64,
}

impl Storage {
    pub(super) fn of(headers: &[Header]) -> Result<Self, ControlError> {
        let mut found = headers.iter().filter(|header| header.kind == PT_TLS);
        let none = Header { kind: PT_TLS, flags: READ, align: 64, ..Header::default() };
        let original = found.next().copied().unwrap_or(none);
        let align = original.align.max(1);
        let usual = align.is_power_of_two()
            && align <= MOST_ALIGN
            && original.address.is_multiple_of(align)
            && original.memory_size <= MOST_BYTES
            && original.file_size <= original.memory_size;
        if found.next().is_some() || !usual {
            return Err(refuse("its thread-local storage is laid out in an unusual way"));
        }
        Ok(Self { original, growth: WANTED.next_multiple_of(align) })
    }

    /// Link-time addresses of the program's initial image.
    pub(super) const fn original(&self) -> Range<u64> {
        self.original.address..self.original.address + self.original.file_size
    }

    /// The new initial image.
    pub(super) fn image(&self, original: &[u8]) -> Vec<u8> {
        let mut image = vec![0; self.growth as usize];
        image[MARK_AT as usize..][..MARK.len()].copy_from_slice(&MARK);
        image.extend_from_slice(original);
        image
    }

    /// The lowest address from `after` on at which the image may lie: as congruent as before.
    pub(super) fn place(&self, after: u64, bias: u64) -> u64 {
        let align = self.original.align.max(1);
        let wanted = bias.wrapping_add(self.original.address) % align;
        after + wanted.wrapping_sub(after) % align
    }

    /// The header that says so.
    pub(super) const fn header(&self, place: u64) -> Header {
        Header {
            address: place,
            physical: place,
            offset: 0,
            file_size: self.original.file_size + self.growth,
            memory_size: self.original.memory_size + self.growth,
            ..self.original
        }
    }

    /// Where the block begins, from the thread pointer.
    pub(super) const fn block(&self) -> i64 {
        let align = if self.original.align == 0 { 1 } else { self.original.align };
        let bytes = (self.original.memory_size + self.growth).next_multiple_of(align);
        -bytes.cast_signed()
    }

    /// The agent's word, from the thread pointer.
    pub(super) const fn word(&self) -> i64 {
        // The thread pointer itself is a multiple of 64.
        self.block() + (-self.block()).rem_euclid(16)
    }
}
