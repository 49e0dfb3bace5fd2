//! What each thread notes about itself, and how others read it.
//!
//! A thread counts itself in before it reads the cell of a thunk, and out when it is back from the
//! trampoline ([`sledge_engine::dispatch::Gate`]). From these two counts [`Grace`] learns when
//! nobody can be in a trampoline any more that no cell leads to; `table` says why that is right.

mod table;

use nix::libc;
use sledge_engine::dispatch::{Guard, ThreadFilter};
use std::arch::{asm, global_asm};
use std::ffi::c_void;
use std::fs::File;
use std::io;
use std::mem::offset_of;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicI32, AtomicU64, AtomicUsize, Ordering};
pub(crate) use table::Seen;
use table::{Itself, Look, Table};

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
    /// The entry of the table that stands for this block; 0 in a new thread.
    entry: u64,
    /// The number of its thread.
    number: i32,
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

/// The table of this process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Own;

static TABLE: [AtomicU64; MOST] = [const { AtomicU64::new(0) }; MOST];
/// Places of the table that were ever used.
static USED: AtomicUsize = AtomicUsize::new(0);
/// More threads than that at once are not known: nothing is freed then.
const MOST: usize = 1 << 16;
/// Threads that found no place.
static UNPLACED: AtomicUsize = AtomicUsize::new(0);
static GENERATION: AtomicU64 = AtomicU64::new(0);
/// The process that the table is about.
static OWNER: AtomicI32 = AtomicI32::new(0);

impl Table for Own {
    #[inline(always)]
    fn most(&self) -> usize {
        MOST
    }

    #[inline(always)]
    fn used(&self) -> usize {
        USED.load(Ordering::SeqCst)
    }

    #[inline(always)]
    fn raise_used(&self, to: usize) {
        USED.fetch_max(to, Ordering::SeqCst);
    }

    #[inline(always)]
    fn get(&self, at: usize) -> u64 {
        TABLE[at].load(Ordering::SeqCst)
    }

    #[inline(always)]
    fn replace(&self, at: usize, from: u64, to: u64) -> bool {
        TABLE[at].compare_exchange(from, to, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }
}

impl Itself for Own {
    #[inline(always)]
    fn entry(&self) -> u64 {
        // SAFETY: this thread's own block.
        unsafe { (&raw const (*own()).entry).read_volatile() }
    }

    #[inline(always)]
    fn note_entry(&self) {
        let generation = GENERATION.fetch_add(1, Ordering::SeqCst);
        let block = own();
        let fresh = table::entry(block.addr() as u64, generation);
        // SAFETY: this thread's own block, which others only read.
        let entry = unsafe { AtomicU64::from_ptr(&raw mut (*block).entry) };
        let _ = entry.compare_exchange(0, fresh, Ordering::SeqCst, Ordering::SeqCst);
    }

    #[inline(always)]
    fn note_number(&self) -> bool {
        let number = thread_number();
        // SAFETY: this thread's own block, which others only read.
        unsafe { (&raw mut (*own()).number).write_volatile(number) };
        number != BORROWED
    }

    #[inline(always)]
    fn apply_filters(&self) {
        let block = own();
        // SAFETY: this thread's own block; others change filter bits after they found it in the
        // table.
        unsafe {
            let number = (&raw const (*block).number).read_volatile();
            crate::filters::apply(number, &raw mut (*block).wanted);
        }
    }

    #[inline(always)]
    fn clear_unknown(&self) {
        // SAFETY: this thread's own block; one instruction, since a signal's handler may count, too.
        unsafe {
            let entered = &raw mut (*own()).entered;
            asm!("btr dword ptr [{}], 31", in(reg) entered, options(nostack));
        }
    }
}

/// Takes this thread into the table. Called by generated code as callbacks are; calls nothing that
/// could be traced.
#[unsafe(link_section = "sledge_trap")]
pub(crate) extern "C" fn register(_: u64, _: u64, _: *const c_void, _: *mut c_void) {
    if !table::make_known(&Own) {
        UNPLACED.fetch_add(1, Ordering::SeqCst);
    }
}

/// The number of a thread in another process that shares this memory: a child of `vfork` runs on
/// its parent's block, and is none of the threads that can be asked for.
const BORROWED: i32 = 0;

#[inline(always)]
fn thread_number() -> i32 {
    if system_call(libc::SYS_getpid) != OWNER.load(Ordering::SeqCst) {
        return BORROWED;
    }
    system_call(libc::SYS_gettid)
}

/// A system call that takes nothing and cannot fail, without libc, whose functions may be patched.
#[inline(always)]
fn system_call(number: libc::c_long) -> i32 {
    let result: u64;
    // SAFETY: changes nothing but these registers.
    unsafe {
        asm!("syscall", inlateout("rax") number as u64 => result,
            out("rcx") _, out("r11") _, options(nostack));
    }
    result as i32
}

/// This thread's number.
pub(crate) fn number() -> i32 {
    system_call(libc::SYS_gettid)
}

/// Makes this thread known, so that what it does under a lock needs no first time.
pub(crate) fn register_own() {
    let own = system_call(libc::SYS_getpid);
    let _ = OWNER.compare_exchange(0, own, Ordering::SeqCst, Ordering::SeqCst);
    register(0, 0, std::ptr::null(), std::ptr::null_mut());
}

/// In a forked child: the only thread is this one, under another number.
pub(crate) fn start_anew() {
    for entry in &TABLE[..USED.load(Ordering::SeqCst).min(MOST)] {
        entry.store(0, Ordering::SeqCst);
    }
    OWNER.store(system_call(libc::SYS_getpid), Ordering::SeqCst);
    register_own();
}

/// Whether this thread is in a trampoline, that is, in a callback.
pub(crate) fn inside() -> bool {
    // SAFETY: this thread's own block.
    unsafe {
        let block = own();
        let entered = (&raw const (*block).entered).read_volatile();
        let left = (&raw const (*block).left).read_volatile();
        table::depth(entered, left) != 0
    }
}

/// Which thread filters want this thread.
#[inline(always)]
pub(crate) fn wanted() -> u64 {
    // SAFETY: this thread's own block.
    unsafe { (&raw const (*own()).wanted).read_volatile() }
}

/// Begins a guarded callback, as trampolines do; if one runs in this thread already, counts the
/// call as left out.
#[inline(always)]
pub(crate) fn enter_guarded() -> bool {
    // SAFETY: this thread's own block.
    unsafe {
        let block = own();
        if (&raw const (*block).busy).read_volatile() != 0 {
            let left_out = &raw mut (*block).left_out;
            left_out.write_volatile(left_out.read_volatile().wrapping_add(1));
            return false;
        }
        (&raw mut (*block).busy).write_volatile(1);
    }
    true
}

/// Ends it.
#[inline(always)]
pub(crate) fn leave_guarded() {
    // SAFETY: this thread's own block.
    unsafe { (&raw mut (*own()).busy).write_volatile(0) };
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

/// The blocks of all threads of this process, as far as they can be read.
#[derive(Debug)]
pub(crate) struct Blocks(File);

impl Blocks {
    /// # Errors
    /// When this process' memory cannot be read through `/proc`, or the table is full.
    fn open() -> io::Result<Self> {
        if UNPLACED.load(Ordering::SeqCst) != 0 {
            return Err(io::Error::other("more threads than can be watched"));
        }
        Ok(Self(File::open("/proc/self/mem")?))
    }

    fn read<const N: usize>(&self, address: u64) -> Option<[u8; N]> {
        let mut bytes = [0; N];
        // What cannot be read is not there any more.
        self.0.read_exact_at(&mut bytes, address).ok().map(|()| bytes)
    }
}

impl Look for Blocks {
    fn left(&self, block: u64) -> Option<u32> {
        self.read(block + offset_of!(Block, left) as u64).map(u32::from_le_bytes)
    }

    fn entered(&self, block: u64) -> Option<u32> {
        self.read(block + offset_of!(Block, entered) as u64).map(u32::from_le_bytes)
    }

    fn entry(&self, block: u64) -> Option<u64> {
        self.read(block + offset_of!(Block, entry) as u64).map(u64::from_le_bytes)
    }

    fn has_ended(&self, block: u64) -> bool {
        let number = self.read(block + offset_of!(Block, number) as u64).map(i32::from_le_bytes);
        number.is_none_or(|number| number != BORROWED && has_ended(number))
    }
}

/// Waits until every thread has been out of all trampolines once.
pub(crate) type Grace = table::Grace<Own, Blocks>;

/// To be called after a barrier that followed the last store to a cell.
///
/// # Errors
/// When this process' memory cannot be read through `/proc`, or the table is full.
pub(crate) fn begin_grace() -> io::Result<Grace> {
    Ok(Grace::begin(Own, Blocks::open()?))
}

fn has_ended(number: i32) -> bool {
    // SAFETY: signal 0 is not sent; only its receiver is looked for.
    let answer = unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), number, 0) };
    answer != 0 && io::Error::last_os_error().raw_os_error() == Some(libc::ESRCH)
}

/// Writes the filter bits of all known threads.
///
/// # Errors
/// When this process' memory cannot be written through `/proc`.
pub(crate) fn write_filters() -> io::Result<()> {
    let blocks = Blocks(File::options().read(true).write(true).open("/proc/self/mem")?);
    for entry in &TABLE[..USED.load(Ordering::SeqCst).min(MOST)] {
        let entry = entry.load(Ordering::SeqCst);
        let block = table::block(entry);
        // A thread that has ended has no use for them; one that is ending may still be mapped.
        if entry == 0 || blocks.entry(block) != Some(entry) || blocks.has_ended(block) {
            continue;
        }
        let number = blocks.read(block + offset_of!(Block, number) as u64);
        let bits = crate::filters::bits(number.map_or(BORROWED, i32::from_le_bytes));
        let place = block + offset_of!(Block, wanted) as u64;
        let _ = blocks.0.write_all_at(&bits.to_le_bytes(), place);
    }
    Ok(())
}
