//! Takes values for probes, where a site is hit.
//!
//! A WORD OF CAUTION: `sledge_probe` in `slow.rs` calls [`hit`], and its frame is what is read here.
//!
//! Memory is read by the kernel (`process_vm_readv` on the process itself), so a bad address is an
//! error and not a fault. Programs come from the controller; they can read, and write nothing but
//! records.

use super::process::SETTINGS;
use super::{ranges, slow, system, thread};
use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering};
use sledge_wire::cell;
use sledge_wire::probe::{
    AREA_WORDS, HIT_SITE, Head, LIST_WORDS, MOST_RECORDS, MOST_STRING, Step, VALUE_FAULT,
    VALUE_LAST, VALUE_SITE, records_of,
};
use sledge_wire::record::{Kind, Record};
use sledge_wire::segment;

/// Words between the lowest saved register and the cell that the trampoline returns through.
const TRAMPOLINE_RETURN: usize = 28;
/// Where each register is among the saved ones, by its number; others are not there.
const SAVED: [Option<usize>; 16] = [
    Some(10),
    Some(1),
    Some(9),
    Some(8),
    Some(7),
    Some(6),
    Some(0),
    None,
    Some(5),
    Some(4),
    None,
    Some(2),
    None,
    None,
    None,
    None,
];

/// The program at a site.
struct Site {
    saved: *const u64,
    /// `r12` to `r15`.
    others: [u64; 4],
    /// The cell of the return address.
    cell: u64,
    leaving: bool,
    pid: u64,
}

/// Called for a site that has probes. `saved` are its registers: rbp rbx r11 r10 r9 r8 rdi rsi rdx
/// rcx rax, and then what lies between them and the trampoline's frame.
pub(crate) extern "C" fn hit(saved: *const u64, r12: u64, r13: u64, r14: u64, r15: u64) {
    // SAFETY: the stub's frame, and above it the cell that the trampoline returns through.
    let (back, at) = unsafe {
        let at = saved.add(TRAMPOLINE_RETURN);
        (at.read(), at.addr() as u64)
    };
    let leaving = back % cell::THUNK_BYTES == cell::AFTER_LEAVE;
    let thunk = back - back % cell::THUNK_BYTES;
    // SAFETY: a trampoline returns into a thunk, whose data is readable.
    let (number, list) = unsafe {
        let word = |offset| ((thunk + offset) as *const u32).read_volatile();
        (word(cell::THUNK_SITE), word(cell::THUNK_PROBES))
    };
    let cell = if leaving { at } else { at + 8 };
    let pid = u64::from(system::process_id());
    let site = Site { saved, others: [r12, r13, r14, r15], cell, leaving, pid };
    let mut next = u64::from(list);
    if area(next) != u64::from(number) {
        return;
    }
    let count = area(next + 1);
    next += LIST_WORDS;
    for _ in 0..count {
        let head = Head::from_word(area(next));
        let steps = next + 1..next + 1 + 2 * u64::from(head.steps);
        next = steps.end;
        if next > AREA_WORDS {
            return;
        }
        if head.on_return == leaving {
            site.run(head, steps);
        }
    }
}

/// A word of the programs' area; 0 behind its end.
fn area(index: u64) -> u64 {
    if index >= AREA_WORDS {
        return 0;
    }
    let count = SETTINGS.ring_count.load(Ordering::Relaxed) as usize;
    let ring = SETTINGS.ring_bytes.load(Ordering::Relaxed);
    let start = SETTINGS.segment.load(Ordering::Relaxed) + segment::probes_offset(count, ring);
    // SAFETY: within the mapped segment, and aligned.
    unsafe { &*((start + 8 * index) as *const AtomicU64) }.load(Ordering::Relaxed)
}

impl Site {
    fn run(&self, head: Head, steps: Range<u64>) {
        let mut values = Values { words: [(0, 0); MOST_RECORDS], count: 0 };
        values.number(self.caller());
        let (mut number, mut fault) = (0, false);
        for at in steps.step_by(2) {
            let step = Step::from_words([area(at), area(at + 1)]);
            if fault && !step.ends() {
                continue;
            }
            match step {
                _ if fault => values.fault(),
                Step::Register(register) => number = self.register(register),
                Step::Number(it) => number = it,
                Step::Stack(index) => {
                    let at = self.stack_pointer().wrapping_add(index.wrapping_mul(8));
                    (number, fault) = self.word(at);
                }
                Step::Follow(offset) => {
                    (number, fault) = self.word(number.wrapping_add_signed(offset));
                }
                Step::Give => values.number(number),
                Step::Bytes(length, offset) => {
                    values.bytes(self, number.wrapping_add_signed(offset), length.into());
                }
                Step::String(offset) => values.string(self, number.wrapping_add_signed(offset)),
                Step::Fault => values.fault(),
            }
            if step.ends() {
                fault = false;
            }
        }
        let Some((_, cell)) = values.count.checked_sub(1).and_then(|at| values.words.get_mut(at))
        else {
            return;
        };
        *cell |= VALUE_LAST;
        let kind = if self.leaving { Kind::Exit } else { Kind::Enter };
        let tsc = system::time_stamp();
        let first = Record { tsc, kind, site: HIT_SITE, cell: head.probe };
        let Some(place) = thread::reserve(values.count as u64 + 1) else { return };
        place.write(0, first);
        for (index, &(word, cell)) in values.words.iter().take(values.count).enumerate() {
            let (tsc, kind) = if word == 0 { (1, Kind::Exit) } else { (word, Kind::Enter) };
            place.write(index as u64 + 1, Record { tsc, kind, site: VALUE_SITE, cell });
        }
    }

    /// Where the function returns to. It may be in the slot, on the way back and behind a jump.
    fn caller(&self) -> u64 {
        // SAFETY: the cell of a return address, which a call has just written.
        let there = unsafe { (self.cell as *const u64).read_volatile() };
        let hooked = there.wrapping_sub(ranges::thunks()) < cell::THUNK_RANGE;
        let slot = if self.leaving || hooked { slow::slot(self.cell) } else { None };
        // SAFETY: a slot of a stack that has slots.
        slot.map_or(there, |slot| unsafe { (slot as *const u64).read_volatile() })
    }

    const fn stack_pointer(&self) -> u64 {
        if self.leaving { self.cell + 8 } else { self.cell }
    }

    fn register(&self, number: u64) -> u64 {
        match number {
            7 => self.stack_pointer(),
            // SAFETY: the thunk keeps it there, see `sledge_engine::thunk`.
            10 => unsafe { ((self.cell - 24) as *const u64).read_volatile() },
            12..=15 => self.others.get(number as usize - 12).copied().unwrap_or(0),
            _ => match SAVED.get(number as usize).copied().flatten() {
                // SAFETY: one of the eleven registers that the stub saved.
                Some(index) => unsafe { self.saved.add(index).read() },
                None => 0,
            },
        }
    }

    /// A word of memory, and whether it could not be read.
    fn word(&self, address: u64) -> (u64, bool) {
        let mut bytes = [0; 8];
        let read = system::read_memory(self.pid, address, &mut bytes) == 8;
        (u64::from_le_bytes(bytes), !read)
    }
}

/// Values, as they go into the ring: eight bytes, and what is said of them.
struct Values {
    words: [(u64, u32); MOST_RECORDS],
    count: usize,
}

impl Values {
    fn push(&mut self, word: u64, cell: u32) {
        // One is kept for the record that begins the hit.
        if let Some(place) =
            self.words.get_mut(self.count).filter(|_| self.count < MOST_RECORDS - 1)
        {
            *place = (word, cell);
            self.count += 1;
        }
    }

    fn number(&mut self, number: u64) {
        self.push(number, 8);
    }

    fn fault(&mut self) {
        self.push(0, VALUE_FAULT);
    }

    fn bytes(&mut self, site: &Site, address: u64, length: usize) {
        let mut left = length;
        if self.count + records_of(length) >= MOST_RECORDS {
            return self.fault();
        }
        let before = self.count;
        while left > 0 {
            let (mut chunk, at) = ([0; 64], address.wrapping_add((length - left) as u64));
            let part = left.min(64);
            let Some(into) = chunk.get_mut(..part) else { return };
            if system::read_memory(site.pid, at, into) != part {
                self.count = before;
                return self.fault();
            }
            self.pieces(&chunk, part, left);
            left -= part;
        }
    }

    fn string(&mut self, site: &Site, address: u64) {
        let mut text = [0; MOST_STRING + 1];
        let mut length = 0;
        let end = loop {
            let at = address.wrapping_add(length as u64);
            // Never over the end of a page: the next one may not be there.
            let most = (4096 - at % 4096) as usize;
            let Some(into) = text.get_mut(length..MOST_STRING.min(length + most)) else { break 0 };
            if into.is_empty() {
                break MOST_STRING;
            }
            let read = system::read_memory(site.pid, at, into);
            if read != into.len() {
                return self.fault();
            }
            if let Some(end) = into.iter().position(|&byte| byte == 0) {
                break length + end;
            }
            length += read;
        };
        if self.count + records_of(end) >= MOST_RECORDS {
            return self.fault();
        }
        if end == 0 {
            return self.push(0, 0);
        }
        self.pieces(&text, end, end);
    }

    /// `length` bytes in pieces of eight, of a value that still has `left`.
    fn pieces(&mut self, bytes: &[u8], length: usize, left: usize) {
        for (index, piece) in bytes.chunks_exact(8).take(length.div_ceil(8)).enumerate() {
            let word = u64::from_le_bytes(piece.try_into().unwrap_or([0; 8]));
            let bits = 8 * (length - 8 * index).min(8) as u32;
            let word = if bits == 64 { word } else { word & ((1 << bits) - 1) };
            self.push(word, (left - 8 * index) as u32);
        }
    }
}
