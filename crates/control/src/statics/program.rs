//! The program at the moment before its first instruction.

use super::refuse;
use super::tracee::Tracee;
use crate::error::ControlError;
use crate::image::Image;
use sledge_discover::open_header;
use sledge_engine::islands::AddressSpace;
use sledge_inject::header::{
    EXECUTE, HEADER_BYTES, Header, PT_GNU_EH_FRAME, PT_INTERP, PT_LOAD, PT_NOTE,
};
use sledge_inject::index::Index;
use sledge_inject::note;
use std::ops::Range;
use std::path::Path;

const AT_PHDR: u64 = 3;
const AT_PHENT: u64 = 4;
const AT_PHNUM: u64 = 5;
const AT_ENTRY: u64 = 9;
const MOST_HEADERS: u64 = 128;
/// Room that a heap made by `brk` is left.
const HEAP_ROOM: u64 = 1 << 30;
const MOST_NOTES: u64 = 1 << 16;

/// What the kernel laid out.
#[derive(Debug)]
pub(super) struct Program {
    pub(super) bias: u64,
    pub(super) headers: Vec<Header>,
    /// Address of a `syscall` instruction.
    pub(super) gate: u64,
    /// Where the auxiliary vector says where the headers are, and how many.
    table_at: u64,
    count_at: u64,
    space: AddressSpace,
}

impl Program {
    /// Looks at a stopped child.
    pub(super) fn look(tracee: &Tracee, pid: i32) -> Result<Self, ControlError> {
        let image = Image::of(pid)?;
        let file = open_header(Path::new(&format!("/proc/{pid}/exe")))?;
        let auxiliary = auxiliary_vector(tracee, &image)
            .ok_or_else(|| refuse("its auxiliary vector is not as usual"))?;
        let value = |kind| {
            let found = auxiliary.iter().find(|entry| entry.1 == kind);
            found.map(|entry| (entry.0, entry.2)).ok_or_else(|| {
                refuse("its auxiliary vector does not say where its program headers are")
            })
        };
        let (table_at, table) = value(AT_PHDR)?;
        let (count_at, count) = value(AT_PHNUM)?;
        if value(AT_PHENT)?.1 != HEADER_BYTES || count > MOST_HEADERS {
            return Err(refuse("its program headers are of an unknown size"));
        }
        let bias = value(AT_ENTRY)?.1.wrapping_sub(file.entry);
        let headers = Header::table(&tracee.read(table, (count * HEADER_BYTES) as usize));
        let of_kind = |kind| headers.iter().filter(move |header| header.kind == kind);
        if headers.len() as u64 != count || of_kind(PT_LOAD).count() == 0 {
            return Err(refuse("its program headers are not in its memory"));
        }
        if of_kind(PT_INTERP).next().is_some() {
            return Err(refuse("it is not what it was when sledge looked"));
        }
        let is_go = of_kind(PT_NOTE).any(|header| {
            let length = header.memory_size.min(MOST_NOTES) as usize;
            let notes = tracee.read(bias.wrapping_add(header.address), length);
            note(&notes, b"Go\0\0", None).is_some()
        });
        if is_go {
            return Err(refuse("it was compiled by Go, whose stacks move"));
        }
        let gate = gate(tracee, &image, bias, &headers)
            .ok_or_else(|| refuse("there is no system call instruction in it"))?;
        let space = address_space(&image, pid)?;
        Ok(Self { bias, headers, gate, table_at, count_at, space })
    }

    /// Free address space from which all of the program can be reached.
    pub(super) fn room(&self, bytes: u64) -> Result<u64, ControlError> {
        let loads = || self.headers.iter().filter(|header| header.kind == PT_LOAD);
        let start = loads().map(|load| load.range().start).min().unwrap_or(0);
        let end = loads().map(|load| load.range().end).max().unwrap_or(0);
        let program = self.bias.wrapping_add(start)..self.bias.wrapping_add(end);
        let mut space = self.space.clone();
        space.near(&program, bytes).ok_or_else(|| refuse("there is no room for the agent near it"))
    }

    /// Its own unwind index; an empty one if it has none.
    pub(super) fn index(&self, tracee: &Tracee) -> Result<Index, ControlError> {
        let found = self.headers.iter().find(|header| header.kind == PT_GNU_EH_FRAME);
        let Some(header) = found else { return Ok(Index::default()) };
        let at = self.bias.wrapping_add(header.address);
        Ok(Index::read(&tracee.read(at, header.memory_size as usize), at)?)
    }

    /// Makes the second table of headers the one that the program finds.
    pub(super) fn point_to(
        &self,
        tracee: &Tracee,
        table: u64,
        count: u64,
    ) -> Result<(), ControlError> {
        tracee.write(self.table_at, &table.to_le_bytes())?;
        tracee.write(self.count_at, &count.to_le_bytes())
    }
}

/// The entries of the auxiliary vector: address of the value, kind, value.
fn auxiliary_vector(tracee: &Tracee, image: &Image) -> Option<Vec<(u64, u64, u64)>> {
    let start = tracee.registers().ok()?.rsp;
    let stack = image.mappings.iter().find(|mapping| mapping.contains(start))?;
    let bytes = tracee.read(start, usize::try_from(stack.end - start).ok()?);
    let words: Vec<u64> = bytes
        .chunks_exact(8)
        .map(|word| u64::from_le_bytes(word.try_into().expect("eight bytes")))
        .collect();
    entries(&words, start)
}

/// Reads the initial stack: argument count, arguments, environment, auxiliary vector.
fn entries(words: &[u64], start: u64) -> Option<Vec<(u64, u64, u64)>> {
    let arguments = usize::try_from(*words.first()?).ok()?;
    let environment = arguments.checked_add(2)?;
    if *words.get(environment - 1)? != 0 {
        return None;
    }
    let strings = words.get(environment..)?.iter().position(|&word| word == 0)?;
    let first = environment + strings + 1;
    let mut entries = Vec::new();
    for (index, pair) in words.get(first..)?.chunks_exact(2).enumerate() {
        if pair[0] == 0 {
            return Some(entries);
        }
        entries.push((start + 8 * (first + 2 * index + 1) as u64, pair[0], pair[1]));
    }
    None
}

/// Finds a `syscall` instruction, in the vDSO or else in the program's text.
fn gate(tracee: &Tracee, image: &Image, bias: u64, headers: &[Header]) -> Option<u64> {
    const SYSCALL: [u8; 2] = [0x0f, 0x05];
    let vdso = image.mappings.iter().filter(|mapping| mapping.path == Path::new("[vdso]"));
    let text =
        headers.iter().filter(|header| header.kind == PT_LOAD && header.flags & EXECUTE != 0);
    let text = text.map(|header| {
        let range = header.range();
        bias.wrapping_add(range.start)..bias.wrapping_add(range.end)
    });
    let mut places = vdso.map(|mapping| mapping.start..mapping.end).chain(text);
    places.find_map(|range: Range<u64>| {
        let bytes = tracee.read(range.start, usize::try_from(range.end - range.start).ok()?);
        let found = bytes.windows(2).position(|pair| pair == SYSCALL)?;
        Some(range.start + found as u64)
    })
}

/// What is mapped, and where the heap will grow.
fn address_space(image: &Image, pid: i32) -> Result<AddressSpace, ControlError> {
    let mut space = AddressSpace::new(image.mappings.iter().map(|m| m.start..m.end).collect());
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .map_err(|source| ControlError::System { what: "reading /proc", source })?;
    match heap_start(&stat) {
        Some(heap) => space.take(heap..heap.saturating_add(HEAP_ROOM)),
        None => return Err(refuse("the kernel does not say where its heap begins")),
    }
    Ok(space)
}

/// `start_brk`, the 47th field of `/proc/PID/stat`; the second may hold spaces.
fn heap_start(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_whitespace().nth(47 - 3)?.parse().ok().filter(|&start| start != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_initial_stack_is_read() {
        let words = [2, 0x10, 0x20, 0, 0x30, 0, AT_PHDR, 0x400040, AT_PHNUM, 9, 0, 0, 0x41];
        let found = entries(&words, 0x1000).expect("as the kernel lays it out");
        assert_eq!(found, [(0x1038, AT_PHDR, 0x400040), (0x1048, AT_PHNUM, 9)]);
    }

    #[test]
    fn a_stack_of_another_form_is_refused() {
        assert_eq!(entries(&[], 0), None);
        assert_eq!(entries(&[u64::MAX, 0, 0], 0), None);
        assert_eq!(entries(&[1, 0x10, 0x20, 0, 0, 0], 0), None);
        assert_eq!(entries(&[0, 0, 0, AT_PHDR, 0x400040], 0), None);
    }

    #[test]
    fn the_heap_is_found_behind_a_name_with_parentheses() {
        let fields: Vec<String> = (3..=52).map(|field: u32| (field * 100).to_string()).collect();
        let stat = format!("12 (a) b) {}", fields.join(" "));
        assert_eq!(heap_start(&stat), Some(4700));
        assert_eq!(heap_start("12 (a) S 1"), None);
    }
}
