//! What runs in a traced call whose return may be hooked: notes who wants to see it, and tells them.
//!
//! A WORD OF CAUTION: see [`sledge_engine::dispatch::hooked_cell`]. `S` is the address of the stack
//! cell with the return address of a hooked call. All that is noted of it is found from `S` alone:
//! so it makes no difference which thread runs on a stack, or how a frame came to its end.
//!
//! ```text
//! slots[S >> 24] + S            the true return address
//!                  + SPAN      the record: for each ops that saw the entry, its data
//! ```
//!
//! A function that ends in a jump to another shares its cell with it: the records of both are
//! chained, and both returns are seen when the last of them returns.
//!
//! What runs here must not be traced itself: it is written with raw pointers, calls the kernel
//! directly, and lies in the section that is never patched.

use crate::client::{Client, EnterFunction, LeaveFunction};
use crate::thread;
use nix::libc;
use sledge_engine::dispatch::{HOOKED_BACK, HOOKED_RETURN, Registers, Results};
use std::arch::asm;
use std::ffi::c_void;
use std::mem::transmute;
use std::ptr::{null_mut, with_exposed_provenance, with_exposed_provenance_mut};
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

/// What an ops keeps from entry to exit.
pub type Scratch = [u64; 2];

/// Addresses that one mapping of slots stands for.
const SPAN: u64 = 1 << SPAN_BITS;
const SPAN_BITS: u32 = 24;
/// Spans of user addresses, a word for each.
const TABLE_BYTES: usize = 8 << (47 - SPAN_BITS);
/// Functions that may share a stack cell, one jumping to the next.
const CHAIN: u64 = 64;
/// Ops that may see exits at once.
const CLIENTS: usize = 64;

/// The table of distances from cells to slots; 0 before there is one.
static SLOTS: AtomicU64 = AtomicU64::new(0);
/// Where hooked cells lie: start and length.
static CELLS: [AtomicU64; 2] = [const { AtomicU64::new(0) }; 2];
/// Who sees exits, by their bits.
static CLIENT: [AtomicPtr<Client>; CLIENTS] = [const { AtomicPtr::new(null_mut()) }; CLIENTS];
/// Calls of which neither entry nor exit could be told.
static MISSED: AtomicU64 = AtomicU64::new(0);

/// The ops of a set that see exits. Lives until a grace period after the last trampoline that names
/// it is gone.
#[derive(Debug)]
pub(crate) struct Exits(pub(crate) Box<[ExitOps]>);

/// One of them.
#[derive(Debug)]
pub(crate) struct ExitOps {
    pub(crate) client: *const Client,
    pub(crate) bit: u8,
    pub(crate) guarded: bool,
    pub(crate) save_regs: bool,
    /// The bits of its thread filter, or 0.
    pub(crate) threads: u64,
}

// SAFETY: clients can be used from any thread, and live as long as their registration and longer.
unsafe impl Send for Exits {}

/// What is noted of one call.
#[repr(C)]
struct Record {
    /// In the first of a chain: the last that is in use.
    last: *mut Record,
    /// The call that jumped here, and the one that this jumped to (or jumped to some time).
    before: *mut Record,
    next: *mut Record,
    function: u64,
    /// How many are before it.
    depth: u64,
    capacity: u64,
    count: u64,
    kept: [Kept; 0],
}

/// What an ops keeps.
#[repr(C)]
struct Kept {
    data: Scratch,
    /// Which client it was, lest another with its bit is told.
    number: u64,
    bit: u64,
}

/// Reserves the table, and says where cells are.
///
/// # Errors
/// When there is no address space.
pub(crate) fn prepare(cells: std::ops::Range<u64>) -> std::io::Result<u64> {
    let table = map(TABLE_BYTES).ok_or(std::io::ErrorKind::OutOfMemory)?;
    CELLS[0].store(cells.start, Ordering::SeqCst);
    CELLS[1].store(cells.end - cells.start, Ordering::SeqCst);
    SLOTS.store(table, Ordering::SeqCst);
    Ok(table)
}

/// Lets a client see the exits of calls whose entries it saw; none from now on, if there is none.
pub(crate) fn install(bit: u8, client: *const Client) {
    CLIENT[usize::from(bit)].store(client.cast_mut(), Ordering::SeqCst);
}

/// Calls so far of which neither entry nor exit could be told, for want of memory or since too many
/// functions jumped from one to the next.
pub(crate) fn missed() -> u64 {
    MISSED.load(Ordering::Relaxed)
}

/// On entry: see [`sledge_engine::dispatch::Hook::enter`].
#[unsafe(link_section = "sledge_trap")]
pub(crate) extern "C" fn enter(
    function: u64,
    parent: u64,
    exits: *const c_void,
    registers: *mut Registers,
    cell: *mut u64,
) -> u32 {
    // SAFETY: a trampoline calls this, in a thread that has counted itself in: with the ops of its
    // set, and with the cell of the return address, which is this call's alone.
    unsafe {
        let exits: *const [ExitOps] = &raw const *(*exits.cast::<Exits>()).0;
        let count = exits.len();
        let place = find(cell.addr() as u64, parent, count as u64);
        if place.record.is_null() {
            MISSED.fetch_add(1, Ordering::Relaxed);
            return 0;
        }
        let record = place.record;
        let mut hooked = 0;
        let mut at = 0;
        while at < count {
            let ops = exits.cast::<ExitOps>().wrapping_add(at);
            at += 1;
            if wants(ops, (function, place.parent), registers, record, hooked) {
                hooked += 1;
            }
        }
        if hooked == 0 {
            return 0;
        }
        (*record).function = function;
        (*record).count = hooked;
        if place.tail {
            let first = *place.slot.wrapping_add(SPAN as usize / 8) as usize;
            (*with_exposed_provenance_mut::<Record>(first)).last = record;
            return 0;
        }
        (*record).last = record;
        *place.slot.wrapping_add(SPAN as usize / 8) = record.expose_provenance() as u64;
        *place.slot = parent;
        if !registers.is_null() && (*registers).rip != function {
            // It goes on elsewhere, and does not come by the cell's own call: the address that the
            // trampoline returns to tells which cell.
            let back = *cell.wrapping_sub(2);
            *cell = back - HOOKED_BACK + HOOKED_RETURN;
        }
        1
    }
}

/// Asks an ops whether it wants to see the exit, and keeps its data in the record if so.
///
/// # Safety
/// As in [`enter`].
#[inline(always)]
unsafe fn wants(
    ops: *const ExitOps,
    (function, parent): (u64, u64),
    registers: *mut Registers,
    record: *mut Record,
    hooked: u64,
) -> bool {
    // SAFETY: the caller's; what a client's target holds is the address of such a function.
    unsafe {
        if (*ops).threads != 0 && thread::wanted() & (*ops).threads == 0 {
            return false;
        }
        if (*ops).guarded && !thread::enter_guarded() {
            return false;
        }
        let client = (*ops).client;
        let kept = kept(record, hooked);
        let target = (*(*client).target()).load(Ordering::Relaxed) as usize;
        let target: EnterFunction = transmute(with_exposed_provenance::<()>(target));
        let registers = if (*ops).save_regs { registers } else { null_mut() };
        let data = with_exposed_provenance_mut((*client).argument() as usize);
        let wants = target(function, parent, data, registers, &raw mut (*kept).data);
        if (*ops).guarded {
            thread::leave_guarded();
        }
        if wants {
            (*kept).number = (*client).number();
            (*kept).bit = (*ops).bit as u64;
        }
        wants
    }
}

/// On return: see [`sledge_engine::dispatch::Leaving::leave`].
#[unsafe(link_section = "sledge_trap")]
pub(crate) extern "C" fn leave(cell: *mut u64, results: *mut Results) {
    // SAFETY: a hooked cell calls this, in a thread that has counted itself in, for a call that
    // `enter` has noted.
    unsafe {
        let slot = slot(cell.addr() as u64);
        let parent = *slot;
        *cell = parent;
        let first = *slot.wrapping_add(SPAN as usize / 8) as usize;
        let first: *mut Record = with_exposed_provenance_mut(first);
        let mut record = (*first).last;
        loop {
            let mut at = (*record).count;
            while at > 0 {
                at -= 1;
                tell(kept(record, at), ((*record).function, parent), results);
            }
            if record == first {
                break;
            }
            record = (*record).before;
        }
    }
}

/// Tells an ops that a call it saw has ended.
///
/// # Safety
/// As in [`leave`].
#[inline(always)]
unsafe fn tell(kept: *mut Kept, (function, parent): (u64, u64), results: *mut Results) {
    // SAFETY: the caller's; a client that is found here lives until a grace period after it was
    // taken away.
    unsafe {
        let clients: *const AtomicPtr<Client> = (&raw const CLIENT).cast();
        let client = (*clients.wrapping_add((*kept).bit as usize)).load(Ordering::Acquire);
        if client.is_null() || (*client).number() != (*kept).number {
            return;
        }
        let guarded = (*client).is_guarded();
        if guarded && !thread::enter_guarded() {
            return;
        }
        let target: LeaveFunction = (*client).leave_target();
        let data = with_exposed_provenance_mut((*client).argument() as usize);
        target(function, parent, data, results, &raw mut (*kept).data);
        if guarded {
            thread::leave_guarded();
        }
    }
}

/// Where a call is noted.
struct Place {
    slot: *mut u64,
    /// Null if there is none.
    record: *mut Record,
    /// Whether another hooked function jumped here.
    tail: bool,
    /// The true return address.
    parent: u64,
}

/// Finds the slot and the record for a call.
///
/// # Safety
/// As in [`enter`].
#[inline(always)]
unsafe fn find(cell: u64, parent: u64, count: u64) -> Place {
    let none = Place { slot: null_mut(), record: null_mut(), tail: false, parent };
    // SAFETY: the slot of a covered cell, and the records it leads to, which only this call uses.
    unsafe {
        if !cover(cell) {
            return none;
        }
        let slot = slot(cell);
        let first = *slot.wrapping_add(SPAN as usize / 8) as usize;
        let first: *mut Record = with_exposed_provenance_mut(first);
        let start = CELLS[0].load(Ordering::Relaxed);
        let tail = parent.wrapping_sub(start) < CELLS[1].load(Ordering::Relaxed);
        if !tail {
            let record = with_room(first, count);
            return Place { slot, record, tail, parent };
        }
        let before = (*first).last;
        if (*before).depth >= CHAIN {
            return none;
        }
        let record = with_room((*before).next, count);
        if !record.is_null() {
            (*before).next = record;
            (*record).before = before;
            (*record).depth = (*before).depth + 1;
        }
        Place { slot, record, tail, parent: *slot }
    }
}

#[inline(always)]
unsafe fn kept(record: *mut Record, at: u64) -> *mut Kept {
    // SAFETY: the caller's: the record is there.
    let first: *mut Kept = unsafe { (&raw mut (*record).kept).cast() };
    first.wrapping_add(at as usize)
}

/// The slot of a cell that is covered.
///
/// # Safety
/// It is.
#[inline(always)]
unsafe fn slot(cell: u64) -> *mut u64 {
    // SAFETY: the table has a word for every span of user addresses.
    let distance = unsafe { (*distance_of(cell)).load(Ordering::Relaxed) };
    with_exposed_provenance_mut(cell.wrapping_add(distance) as usize)
}

#[inline(always)]
fn distance_of(cell: u64) -> *const AtomicU64 {
    let table = SLOTS.load(Ordering::Relaxed);
    with_exposed_provenance((table + (cell >> SPAN_BITS) * 8) as usize)
}

/// Sees to it that a cell has a slot.
///
/// # Safety
/// The table is there, and `cell` a user address.
#[inline(always)]
unsafe fn cover(cell: u64) -> bool {
    let distance = distance_of(cell);
    // SAFETY: as in `slot`.
    unsafe {
        if (*distance).load(Ordering::Relaxed) != 0 {
            return true;
        }
        let Some(slots) = map(2 * SPAN as usize) else { return false };
        let fresh = slots.wrapping_sub(cell & !(SPAN - 1));
        let put = (*distance).compare_exchange(0, fresh, Ordering::SeqCst, Ordering::SeqCst);
        if put.is_err() {
            unmap(slots, 2 * SPAN as usize);
        }
        true
    }
}

/// The record if it has room for so many, or another that takes its place; null if there is none.
///
/// # Safety
/// The record is this call's.
#[inline(always)]
unsafe fn with_room(record: *mut Record, count: u64) -> *mut Record {
    // SAFETY: fresh memory is zero, which is a record; `record` is the caller's.
    unsafe {
        if !record.is_null() && (*record).capacity >= count {
            return record;
        }
        let mut capacity = 1;
        while capacity < count {
            capacity *= 2;
        }
        let bytes = size_of::<Record>() as u64 + capacity * size_of::<Kept>() as u64;
        let fresh: *mut Record = with_exposed_provenance_mut(take(bytes) as usize);
        if !fresh.is_null() {
            (*fresh).capacity = capacity;
            if !record.is_null() {
                // Those behind can be used again; the old one itself is too small for ever.
                (*fresh).next = (*record).next;
            }
        }
        fresh
    }
}

/// Memory for records, from which pieces are cut until it is used up.
static SLAB: AtomicU64 = AtomicU64::new(0);
const SLAB_BYTES: u64 = 1 << 20;

/// Cuts a piece of zeros off; 0 if there is no memory. A slab begins with the number of bytes used.
#[inline(always)]
fn take(bytes: u64) -> u64 {
    loop {
        let slab = SLAB.load(Ordering::SeqCst);
        if slab != 0 {
            let used: *const AtomicU64 = with_exposed_provenance(slab as usize);
            // SAFETY: slabs are never unmapped once they were put there.
            let at = unsafe { (*used).fetch_add(bytes, Ordering::SeqCst) } + 8;
            if at + bytes <= SLAB_BYTES {
                return slab + at;
            }
        }
        let Some(fresh) = map(SLAB_BYTES as usize) else { return 0 };
        let put = SLAB.compare_exchange(slab, fresh, Ordering::SeqCst, Ordering::SeqCst);
        if put.is_err() {
            unmap(fresh, SLAB_BYTES as usize);
        }
    }
}

/// Maps zeros, without libc, whose functions may be patched.
#[inline(always)]
fn map(bytes: usize) -> Option<u64> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    let result: isize;
    // SAFETY: a new mapping, at an address that the kernel chooses.
    unsafe {
        asm!("syscall", inlateout("rax") libc::SYS_mmap as isize => result,
            in("rdi") 0, in("rsi") bytes, in("rdx") libc::PROT_READ | libc::PROT_WRITE,
            in("r10") flags, in("r8") -1_i64, in("r9") 0,
            out("rcx") _, out("r11") _, options(nostack));
    }
    if result < 0 { None } else { Some(result as u64) }
}

#[inline(always)]
fn unmap(address: u64, bytes: usize) {
    // SAFETY: a mapping that was just made, and that nobody else knows.
    unsafe {
        asm!("syscall", inlateout("rax") libc::SYS_munmap as isize => _,
            in("rdi") address, in("rsi") bytes,
            out("rcx") _, out("r11") _, options(nostack));
    }
}
