//! System calls, made directly: the tracee's libc is never entered.

use core::arch::asm;

pub(crate) const PROT_READ: u64 = 1;
pub(crate) const PROT_WRITE: u64 = 2;
pub(crate) const PROT_EXEC: u64 = 4;
pub(crate) const MAP_SHARED: u64 = 1;
pub(crate) const MAP_PRIVATE: u64 = 2;
pub(crate) const MAP_FIXED: u64 = 0x10;
pub(crate) const MAP_ANONYMOUS: u64 = 0x20;
pub(crate) const MAP_NORESERVE: u64 = 0x4000;
pub(crate) const MAP_FIXED_NOREPLACE: u64 = 0x10_0000;
const MADV_WIPEONFORK: u64 = 18;
const EINTR: i64 = -4;

/// A system call's error, as a positive `errno` number.
#[derive(Clone, Copy)]
pub(crate) struct Errno(pub(crate) u64);

/// Makes a system call. The result is the kernel's: negative errors.
///
/// # Safety
/// The call with these arguments must not break memory that Rust code relies on.
pub(crate) unsafe fn call(number: u64, a: [u64; 6]) -> i64 {
    let result: i64;
    // SAFETY: the caller vouches for the call; `syscall` itself changes rax, rcx and r11 only.
    unsafe {
        asm!("syscall", inlateout("rax") number.cast_signed() => result,
            in("rdi") a[0], in("rsi") a[1], in("rdx") a[2],
            in("r10") a[3], in("r8") a[4], in("r9") a[5],
            lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    result
}

fn checked(result: i64) -> Result<u64, Errno> {
    if result < 0 { Err(Errno(result.unsigned_abs())) } else { Ok(result.cast_unsigned()) }
}

/// Like [`call`], again while a signal interrupts it.
///
/// # Safety
/// As [`call`].
pub(crate) unsafe fn retrying(number: u64, a: [u64; 6]) -> Result<u64, Errno> {
    loop {
        // SAFETY: the caller's promise.
        let result = unsafe { call(number, a) };
        if result != EINTR {
            return checked(result);
        }
    }
}

/// `mmap` at `address` (0: anywhere).
///
/// # Safety
/// With `MAP_FIXED`, nothing that is in use may lie there.
pub(crate) unsafe fn map(
    address: u64,
    length: u64,
    protection: u64,
    flags: u64,
    descriptor: i64,
    offset: u64,
) -> Result<u64, Errno> {
    let arguments = [address, length, protection, flags, descriptor.cast_unsigned(), offset];
    // SAFETY: the caller vouches for fixed addresses; other mappings go to free space.
    checked(unsafe { call(9, arguments) })
}

/// Maps fresh zeroed private memory.
pub(crate) fn map_anonymous(length: u64) -> Result<u64, Errno> {
    let flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    // SAFETY: not a fixed address.
    unsafe { map(0, length, PROT_READ | PROT_WRITE, flags, -1, 0) }
}

/// # Safety
/// Nothing may use the memory any more.
pub(crate) unsafe fn unmap(address: u64, length: u64) {
    // SAFETY: the caller's promise.
    unsafe { call(11, [address, length, 0, 0, 0, 0]) };
}

/// # Safety
/// The protection must allow what code does with these pages.
pub(crate) unsafe fn protect(address: u64, length: u64, protection: u64) -> Result<(), Errno> {
    // SAFETY: the caller's promise.
    checked(unsafe { call(10, [address, length, protection, 0, 0, 0]) }).map(drop)
}

/// Asks the kernel to hand a forked child these pages zeroed.
pub(crate) fn wipe_on_fork(address: u64, length: u64) -> Result<(), Errno> {
    // SAFETY: changes what a child sees, not this process.
    checked(unsafe { call(28, [address, length, MADV_WIPEONFORK, 0, 0, 0]) }).map(drop)
}

pub(crate) fn close(descriptor: u64) {
    // SAFETY: only descriptors that we opened are closed.
    unsafe { call(3, [descriptor, 0, 0, 0, 0, 0]) };
}

/// Reads the beginning of a file, whose path ends with a zero.
pub(crate) fn read_file(path: &[u8], buffer: &mut [u8]) -> Option<usize> {
    const O_CLOEXEC: u64 = 0o2_000_000;
    let address = path.as_ptr().addr() as u64;
    // SAFETY: reads the path only.
    let file = unsafe { retrying(2, [address, O_CLOEXEC, 0, 0, 0, 0]) }.ok()?;
    let into = buffer.as_mut_ptr().addr() as u64;
    // SAFETY: writes within the buffer.
    let read = unsafe { retrying(0, [file, into, buffer.len() as u64, 0, 0, 0]) };
    close(file);
    // What the kernel wrote is not to be assumed unchanged.
    core::hint::black_box(buffer);
    Some(read.ok()? as usize)
}

pub(crate) fn process_id() -> u32 {
    // SAFETY: has no arguments and no effect.
    unsafe { call(39, [0; 6]) as u32 }
}

pub(crate) fn parent_id() -> u32 {
    // SAFETY: has no arguments and no effect.
    unsafe { call(110, [0; 6]) as u32 }
}

pub(crate) fn thread_id() -> u32 {
    // SAFETY: has no arguments and no effect.
    unsafe { call(186, [0; 6]) as u32 }
}

/// The thread's name into 16 bytes.
pub(crate) fn thread_name(name: &mut [u8; 16]) {
    const PR_GET_NAME: u64 = 16;
    // SAFETY: writes at most 16 bytes to the buffer.
    unsafe { call(157, [PR_GET_NAME, name.as_mut_ptr().addr() as u64, 0, 0, 0, 0]) };
}

/// Reads memory of this process, which may not be there: how many bytes that were.
pub(crate) fn read_memory(pid: u64, address: u64, into: &mut [u8]) -> usize {
    let ours = [into.as_mut_ptr().addr() as u64, into.len() as u64];
    let theirs = [address, into.len() as u64];
    let (local, remote) = (ours.as_ptr().addr() as u64, theirs.as_ptr().addr() as u64);
    // SAFETY: writes within the buffer; what cannot be read is an error, not a fault.
    let read = unsafe { call(310, [pid, local, 1, remote, 1, 0]) };
    // What the kernel wrote is not to be assumed unchanged, nor that nobody reads the words.
    core::hint::black_box((into, &ours, &theirs));
    usize::try_from(read).unwrap_or(0)
}

/// Waits on a shared futex while it holds `value`, at most `nanoseconds`.
pub(crate) fn futex_wait(word: u64, value: u32, nanoseconds: u64) {
    let time = [0u64, nanoseconds];
    let arguments = [word, 0, u64::from(value), time.as_ptr().addr() as u64, 0, 0];
    // SAFETY: reads the word and the time; a bad address is an error, not a fault.
    unsafe { call(202, arguments) };
}

/// Wakes whoever waits on a shared futex.
pub(crate) fn futex_wake(word: u64) {
    // SAFETY: as above.
    unsafe { call(202, [word, 1, i32::MAX as u64, 0, 0, 0]) };
}

/// The time stamp counter.
pub(crate) fn time_stamp() -> u64 {
    // SAFETY: `rdtsc` reads a counter.
    unsafe { core::arch::x86_64::_rdtsc() }
}
