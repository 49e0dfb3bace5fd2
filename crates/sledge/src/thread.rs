//! What each thread notes about itself, and how others read it.
//!
//! A thread counts itself in before it reads the cell of a thunk, and out when it is back from the
//! trampoline ([`sledge_engine::dispatch::Gate`]). From these two counts [`Grace`] learns when
//! nobody can be in a trampoline any more that no cell leads to.
//!
//! # Why that is correct
//! Who retires a trampoline stores another in every cell that led to it, then has every processor
//! take notice (`membarrier`), then reads the counts of all threads. A thread either read the cell
//! before the barrier, and then its count in is seen, since it was made before; or it reads the
//! cell after the barrier, and finds the other trampoline. So a thread whose counts agree once is
//! out, and stays out. A thread that is not in the table yet puts itself there, by a locked
//! instruction, before it reads a cell.

use nix::libc;
use sledge_engine::dispatch::{Guard, ThreadFilter};
use std::arch::{asm, global_asm};
use std::ffi::c_void;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

// Thread-local storage at a constant distance from the thread pointer, for generated code.
global_asm!(
    ".pushsection .tdata.sledge_thread, \"awT\", @progbits",
    ".balign 64",
    ".globl sledge_thread",
    ".hidden sledge_thread",
    ".type sledge_thread, @object",
    ".size sledge_thread, 64",
    "sledge_thread:",
    ".long 0x80000000, 0, 0, 0",
    ".zero 48",
    ".popsection",
);

/// The highest bit of `entered`: set in a thread that is not in the table.
const UNKNOWN: u32 = 1 << 31;

/// The block of a thread. Generated code counts; the rest is written under the table's rules.
#[repr(C)]
struct Block {
    entered: u32,
    left: u32,
    /// The note and the count of the [`Guard`].
    busy: u32,
    left_out: u32,
    /// Which thread filters want this thread: bit `n` of them all belongs to filter `n`.
    wanted: u64,
    /// The block's own address, once it is in the table.
    own: u64,
}

/// Offsets of the fields from the thread pointer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Offsets {
    pub(crate) entered: i32,
    pub(crate) left: i32,
    pub(crate) guard: Guard,
}

/// Where generated code finds the fields.
pub(crate) fn offsets() -> Offsets {
    // The block lies in the static storage of the thread, within 2 GiB of its pointer.
    let block = block_offset() as i32;
    Offsets { entered: block, left: block + 4, guard: Guard { offset: block + 8 } }
}

/// Where generated code finds the bit of a thread filter.
pub(crate) fn filter(number: u8) -> ThreadFilter {
    let offset = block_offset() as i32 + 16 + i32::from(number / 8);
    ThreadFilter { offset, mask: 1 << (number % 8) }
}

#[inline(always)]
fn block_offset() -> i64 {
    let offset: i64;
    // SAFETY: reads a constant that the loader has put into the global offset table.
    unsafe {
        asm!("mov {}, qword ptr [rip + sledge_thread@GOTTPOFF]", out(reg) offset,
            options(pure, readonly, nostack, preserves_flags));
    }
    offset
}

/// This thread's block.
#[inline(always)]
fn own() -> *mut Block {
    let pointer: u64;
    // SAFETY: the first word at the thread pointer is its own address (x86-64 psABI, TLS).
    unsafe {
        asm!("mov {}, fs:[0]", out(reg) pointer, options(pure, readonly, nostack, preserves_flags));
    }
    std::ptr::with_exposed_provenance_mut((pointer as i64 + block_offset()) as usize)
}

/// Threads, each by its block and its number: `block / 64` above 22 bits of number. Neither the
/// kernel's numbers (`PID_MAX_LIMIT`) nor user addresses are larger.
static TABLE: [AtomicU64; MOST] = [const { AtomicU64::new(0) }; MOST];
/// Entries that were ever used.
static USED: AtomicUsize = AtomicUsize::new(0);
/// More threads than that at once are not known: nothing is freed then.
const MOST: usize = 1 << 16;
/// Threads that found no place.
static UNPLACED: AtomicUsize = AtomicUsize::new(0);

const NUMBER_BITS: u32 = 22;
const NUMBER: u64 = (1 << NUMBER_BITS) - 1;

/// Takes this thread into the table. Called by generated code as callbacks are; calls nothing that
/// could be traced.
#[unsafe(link_section = "sledge_trap")]
pub(crate) extern "C" fn register(_: u64, _: u64, _: *const c_void, _: *mut c_void) {
    let block = own();
    let number = thread_number();
    let entry = (block.addr() as u64 >> 6) << NUMBER_BITS | number;
    if !insert(entry, number) {
        UNPLACED.fetch_add(1, Ordering::SeqCst);
    }
    // SAFETY: this thread's own block; others only read it, or change filter bits after they found
    // it in the table.
    unsafe {
        (&raw mut (*block).own).write_volatile(block.addr() as u64);
        crate::filters::apply(number as i32, &raw mut (*block).wanted);
        let entered = &raw mut (*block).entered;
        asm!("btr dword ptr [{}], 31", in(reg) entered, options(nostack));
    }
}

/// Whether the entry has a place; what else claims to be this thread is out of date.
#[unsafe(link_section = "sledge_trap")]
fn insert(entry: u64, number: u64) -> bool {
    let mut present = false;
    let mut free = usize::MAX;
    let used = USED.load(Ordering::SeqCst);
    let mut at = 0;
    while at < used && at < MOST {
        let found = TABLE[at].load(Ordering::SeqCst);
        if found == entry {
            present = true;
        } else if found & NUMBER == number && found != 0 {
            let _ = TABLE[at].compare_exchange(found, 0, Ordering::SeqCst, Ordering::SeqCst);
        } else if found == 0 && free == usize::MAX {
            free = at;
        }
        at += 1;
    }
    if present {
        return true;
    }
    if free != usize::MAX {
        let taken = TABLE[free].compare_exchange(0, entry, Ordering::SeqCst, Ordering::SeqCst);
        if taken.is_ok() {
            return true;
        }
    }
    let mut at = USED.fetch_add(1, Ordering::SeqCst);
    while at < MOST {
        let taken = TABLE[at].compare_exchange(0, entry, Ordering::SeqCst, Ordering::SeqCst);
        if taken.is_ok() {
            return true;
        }
        at += 1;
    }
    USED.fetch_sub(1, Ordering::SeqCst);
    false
}

#[inline(always)]
fn thread_number() -> u64 {
    let number: u64;
    // SAFETY: `gettid` changes nothing but these registers.
    unsafe {
        asm!("syscall", inlateout("rax") libc::SYS_gettid as u64 => number,
            out("rcx") _, out("r11") _, options(nostack));
    }
    number
}

/// Makes this thread known, so that what it does under a lock needs no first time.
pub(crate) fn register_own() {
    register(0, 0, std::ptr::null(), std::ptr::null_mut());
}

/// In a forked child: the only thread is this one, under another number.
pub(crate) fn start_anew() {
    for entry in &TABLE[..USED.load(Ordering::SeqCst).min(MOST)] {
        entry.store(0, Ordering::SeqCst);
    }
    register_own();
}

/// Whether this thread is in a trampoline, that is, in a callback.
pub(crate) fn inside() -> bool {
    // SAFETY: this thread's own block.
    unsafe {
        let block = own();
        let entered = (&raw const (*block).entered).read_volatile();
        let left = (&raw const (*block).left).read_volatile();
        depth(entered, left) != 0
    }
}

fn depth(entered: u32, left: u32) -> u32 {
    entered.wrapping_sub(left) & !UNKNOWN
}

/// While it lives, this thread's calls reach no guarded callback, and are not counted as left out:
/// they are ours, not the program's.
#[derive(Debug)]
pub(crate) struct Quiet {
    busy: u32,
    left_out: u32,
}

impl Quiet {
    pub(crate) fn begin() -> Self {
        // SAFETY: this thread's own block; generated code reads it in this thread only.
        unsafe {
            let block = own();
            let busy = (&raw mut (*block).busy).replace(1);
            Self { busy, left_out: (&raw const (*block).left_out).read() }
        }
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        // SAFETY: as in `begin`.
        unsafe {
            let block = own();
            (&raw mut (*block).left_out).write(self.left_out);
            (&raw mut (*block).busy).write(self.busy);
        }
    }
}

/// Waits until every thread has been out of all trampolines once.
#[derive(Debug)]
pub(crate) struct Grace {
    memory: File,
    /// Entries of the table that have not been seen outside yet.
    waiting: Vec<u64>,
}

impl Grace {
    /// To be called after a barrier that followed the last store to a cell.
    ///
    /// # Errors
    /// When this process' memory cannot be read through `/proc`, or the table is full.
    pub(crate) fn begin() -> io::Result<Self> {
        if UNPLACED.load(Ordering::SeqCst) != 0 {
            return Err(io::Error::other("more threads than can be watched"));
        }
        let memory = File::open("/proc/self/mem")?;
        let table = &TABLE[..USED.load(Ordering::SeqCst).min(MOST)];
        let entries = table.iter().map(|entry| entry.load(Ordering::SeqCst));
        Ok(Self { memory, waiting: entries.filter(|&entry| entry != 0).collect() })
    }

    /// Looks once more at those that were inside; says whether all have been outside.
    pub(crate) fn poll(&mut self) -> bool {
        let memory = &self.memory;
        self.waiting.retain(|&entry| is_inside(memory, entry));
        self.waiting.is_empty()
    }
}

/// Whether a thread is in a trampoline now; one that has ended is not, and leaves the table.
fn is_inside(memory: &File, entry: u64) -> bool {
    let block = (entry >> NUMBER_BITS) << 6;
    let mut bytes = [0; size_of::<Block>()];
    let alive = is_alive((entry & NUMBER) as i32);
    if !alive || memory.read_exact_at(&mut bytes, block).is_err() || word(&bytes, 24) != block {
        remove(entry);
        return false;
    }
    // One read, whose words the kernel copies in ascending order or all at once; `left` may only
    // be the newer of the two. So read it first, by itself.
    let mut left = [0; 4];
    let mut entered = [0; 4];
    let read = memory
        .read_exact_at(&mut left, block + 4)
        .and_then(|()| memory.read_exact_at(&mut entered, block));
    read.is_ok() && depth(u32::from_le_bytes(entered), u32::from_le_bytes(left)) != 0
}

fn word(bytes: &[u8], at: usize) -> u64 {
    bytes[at..at + 8].iter().rev().fold(0, |word, &byte| word << 8 | u64::from(byte))
}

fn is_alive(number: i32) -> bool {
    // SAFETY: signal 0 is not sent; only its permission and its receiver are looked at.
    unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), number, 0) == 0 }
}

/// Takes an ended thread out of the table; a new one that came to the same number and block in the
/// meantime stays.
fn remove(entry: u64) {
    let table = &TABLE[..USED.load(Ordering::SeqCst).min(MOST)];
    for place in table.iter().filter(|place| place.load(Ordering::SeqCst) == entry) {
        if place.compare_exchange(entry, 0, Ordering::SeqCst, Ordering::SeqCst).is_ok()
            && is_alive((entry & NUMBER) as i32)
        {
            let _ = place.compare_exchange(0, entry, Ordering::SeqCst, Ordering::SeqCst);
        }
    }
}

/// Writes the filter bits of all known threads.
///
/// # Errors
/// When this process' memory cannot be written through `/proc`.
pub(crate) fn write_filters() -> io::Result<()> {
    let memory = File::options().read(true).write(true).open("/proc/self/mem")?;
    for entry in &TABLE[..USED.load(Ordering::SeqCst).min(MOST)] {
        let entry = entry.load(Ordering::SeqCst);
        let (block, number) = ((entry >> NUMBER_BITS) << 6, (entry & NUMBER) as i32);
        // A thread that has ended has no use for them; one that is ending may still be mapped.
        if entry != 0 && is_alive(number) {
            let bits = crate::filters::bits(number).to_le_bytes();
            let _ = memory.write_all_at(&bits, block + 16);
        }
    }
    Ok(())
}
