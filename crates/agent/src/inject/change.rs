//! Changes patches under running threads: `sledge_wire::attach::after` says how.
//!
//! No thread is stopped, waited for or looked at. The texts that hold sites are opened for writing
//! while they stay executable, for as long as a batch takes.

use super::process::SETTINGS;
use super::system::{self, Errno, PROT_EXEC, PROT_READ, PROT_WRITE};
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use sledge_wire::attach::{self, Outcome, STEPS};

/// A word of the segment that only the controller's thread and ours use.
fn word(offset: u64) -> &'static AtomicU64 {
    // SAFETY: within the mapped segment, aligned by its layout.
    unsafe { &*((SETTINGS.segment.load(Ordering::Relaxed) + offset) as *const AtomicU64) }
}

fn half(offset: u64) -> &'static AtomicU32 {
    // SAFETY: as above.
    unsafe { &*((SETTINGS.segment.load(Ordering::Relaxed) + offset) as *const AtomicU32) }
}

fn shape() -> (usize, u64) {
    let count = SETTINGS.ring_count.load(Ordering::Relaxed);
    (count as usize, SETTINGS.ring_bytes.load(Ordering::Relaxed))
}

/// Registers this process for the barrier.
pub(crate) fn register() -> Result<(), Errno> {
    membarrier(64)
}

/// Serialises all processors that run this process.
pub(crate) fn barrier() -> Result<(), Errno> {
    membarrier(32)
}

fn membarrier(command: u64) -> Result<(), Errno> {
    // SAFETY: touches no memory.
    unsafe { system::retrying(324, [command, 0, 0, 0, 0, 0]) }.map(drop)
}

/// A mapping with sites.
#[derive(Clone, Copy)]
struct Text {
    start: u64,
    length: u64,
    protection: u64,
}

fn text(index: u64) -> Text {
    let (rings, bytes) = shape();
    let at = attach::texts_offset(rings, bytes) + index * attach::TEXT_BYTES as u64;
    let get = |offset| word(at + offset).load(Ordering::Relaxed);
    Text { start: get(0), length: get(8), protection: get(16) }
}

/// Which texts a command is about: places in the array.
type Texts = core::ops::Range<u64>;

/// Brings patches to a goal: those of the batch, in its texts, or all where there is no batch.
pub(crate) fn change(jump: bool, batch: u64) -> Result<(), Errno> {
    let (count, windows) = (batch & 0xffff_ffff, batch >> 32);
    if count > attach::PATCHES as u64 || windows > attach::MAX_TEXTS as u64 {
        return Err(Errno(22));
    }
    let most = attach::MAX_TEXTS as u64;
    let all = u64::from(half(attach::TEXTS as u64).load(Ordering::Acquire)).min(most);
    let texts = if count == 0 { 0..all } else { most..most + windows };
    for index in texts.clone() {
        let Text { start, length, protection } = text(index);
        let open = protection | PROT_READ | PROT_WRITE | PROT_EXEC;
        // SAFETY: adds rights to code of the program's; its objects are there for good.
        if let Err(error) = unsafe { system::protect(start, length, open) } {
            close_texts(texts.start..index);
            return Err(error);
        }
    }
    let journaled = u64::from(half(attach::JOURNALED as u64).load(Ordering::Acquire));
    let changed = match count {
        0 => steps(jump, journaled.min(attach::PATCHES as u64), false, &texts),
        count => steps(jump, count, true, &texts),
    };
    close_texts(texts);
    changed
}

fn close_texts(texts: Texts) {
    for Text { start, length, protection } in texts.map(text) {
        // SAFETY: the protection that it had. Should it fail, the text stays writable.
        let _ = unsafe { system::protect(start, length, protection) };
    }
}

fn steps(jump: bool, number: u64, from_batch: bool, texts: &Texts) -> Result<(), Errno> {
    let (rings, bytes) = shape();
    let batch = attach::batch_offset(rings, bytes);
    // Traps that an interrupted change has left may not be everywhere yet.
    barrier()?;
    for step in 0..STEPS {
        let mut wrote = false;
        for at in 0..number {
            let index = if from_batch {
                u64::from(half(batch + 4 * at).load(Ordering::Relaxed))
            } else {
                at
            };
            if index < attach::PATCHES as u64 {
                wrote |= Patch::at(index).step(step, jump, texts);
            }
        }
        if wrote {
            barrier()?;
        }
    }
    Ok(())
}

/// A patch in the journal.
#[derive(Clone, Copy)]
struct Patch {
    offset: u64,
}

impl Patch {
    fn at(index: u64) -> Self {
        let (rings, bytes) = shape();
        let offset = attach::patches_offset(rings, bytes) + index * attach::PATCH_BYTES as u64;
        Self { offset }
    }

    fn field(self, field: usize) -> &'static AtomicU64 {
        word(self.offset + field as u64)
    }

    /// Takes a step, unless other bytes are there than it left; says whether it wrote.
    fn step(self, step: u32, jump: bool, texts: &Texts) -> bool {
        let get = |field| self.field(field).load(Ordering::Relaxed);
        let outcome = self.field(attach::PATCH_OUTCOME);
        if outcome.load(Ordering::Relaxed) & 0xff >= Outcome::Refused as u64 {
            return false;
        }
        let goal = get(if jump { attach::PATCH_JUMP } else { attach::PATCH_ORIGINAL });
        let (believed, shape) = (get(attach::PATCH_BELIEVED), get(attach::PATCH_SHAPE));
        let (length, boundaries) = ((shape & 0xff).min(attach::LONGEST), (shape >> 8) as u8);
        let next = attach::after(step, believed, goal, boundaries);
        if step + 1 == STEPS {
            outcome.store(Outcome::Done as u64, Ordering::Relaxed);
        }
        if next == believed {
            return false;
        }
        let address = get(attach::PATCH_ADDRESS);
        if !is_open(texts, address, length) {
            outcome.store(Outcome::Unwritable as u64, Ordering::Relaxed);
            return false;
        }
        let found = read(address, length);
        if found != believed {
            outcome.store(Outcome::Refused as u64 | found << 24, Ordering::Relaxed);
            return false;
        }
        for at in 0..length {
            let (old, new) = ((believed >> (8 * at)) as u8, (next >> (8 * at)) as u8);
            if old != new {
                // SAFETY: the text is open. That threads may run it at any time is what the order
                // of the steps is for.
                unsafe { ((address + at) as *mut u8).write_volatile(new) };
            }
        }
        self.field(attach::PATCH_BELIEVED).store(next, Ordering::Relaxed);
        true
    }
}

fn is_open(texts: &Texts, address: u64, length: u64) -> bool {
    texts.clone().map(text).any(|text| {
        text.start <= address && address + length <= text.start.saturating_add(text.length)
    })
}

fn read(address: u64, length: u64) -> u64 {
    (0..length).fold(0, |found, at| {
        // SAFETY: in an open text.
        let byte = unsafe { ((address + at) as *const u8).read_volatile() };
        found | u64::from(byte) << (8 * at)
    })
}
