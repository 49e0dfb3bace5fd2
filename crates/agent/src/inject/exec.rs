//! Follows `execve`: the new program gets our variables, which this one was never shown.

use super::environment::{MAX_PATH, value_of};
use super::process;
use super::system;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use sledge_wire::message::SOCKET_VARIABLE;

const PRELOAD: &[u8] = b"LD_PRELOAD";

/// Environments made lately. A successful `execve` out of a `vfork` never comes back to free
/// its own, so the oldest goes when a new one is made.
struct Recent {
    next: AtomicUsize,
    pages: [[AtomicU64; 2]; 16],
}

static RECENT: Recent =
    Recent { next: AtomicUsize::new(0), pages: [const { [const { AtomicU64::new(0) }; 2] }; 16] };

/// Replaces the saved register `envp` by a completed copy of the environment it points to.
///
/// # Safety
/// `registers` are the saved ones, `envp` is the index of the one that holds an environment as
/// `execve` takes it; with `path` set, `rdi` is the path of the program.
pub(crate) unsafe extern "C" fn complete_environment(registers: *mut u64, envp: u64, path: u64) {
    const RDI: usize = 6;
    if !process::follows() || process::closed() {
        return;
    }
    // SAFETY: the caller's promise.
    if path != 0 && !unsafe { preloadable(*registers.add(RDI), 4) } {
        return;
    }
    // SAFETY: the caller's promise.
    let register = unsafe { &mut *registers.add(envp as usize) };
    // SAFETY: the program passes a null-terminated array, or null for none.
    if let Some(completed) = unsafe { completed(*register as *const *const u8) } {
        *register = completed;
    }
}

/// Whether the loader of this program obeys `LD_PRELOAD`: a dynamic x86-64 executable, or a
/// script run by one.
///
/// # Safety
/// `path` is the address of a zero-terminated string.
unsafe fn preloadable(path: u64, nesting: u32) -> bool {
    let mut head = [0u8; 4096];
    // SAFETY: the caller's promise; a bad address is an error of the call.
    let Ok(file) = (unsafe { system::retrying(2, [path, 0o2_000_000, 0, 0, 0, 0]) }) else {
        return false;
    };
    let buffer = head.as_mut_ptr().addr() as u64;
    // SAFETY: reads into the buffer, within its length.
    let read = unsafe { system::retrying(0, [file, buffer, head.len() as u64, 0, 0, 0]) };
    system::close(file);
    let head = core::hint::black_box(&mut head);
    let Some(head) = read.ok().and_then(|length| head.get_mut(..length as usize)) else {
        return false;
    };
    if head.starts_with(b"#!") && nesting > 0 {
        let Some(start) = head.iter().skip(2).position(|&b| b != b' ' && b != b'\t') else {
            return false;
        };
        let Some(interpreter) = head.get_mut(start + 2..) else { return false };
        let end = interpreter.iter().position(|&b| matches!(b, b' ' | b'\t' | b'\n' | 0));
        let Some(terminator) = end.and_then(|end| interpreter.get_mut(end)) else { return false };
        *terminator = 0;
        // SAFETY: just zero-terminated.
        return unsafe { preloadable(interpreter.as_ptr().addr() as u64, nesting - 1) };
    }
    has_interpreter(head)
}

fn has_interpreter(head: &[u8]) -> bool {
    const ELF64_LITTLE: &[u8] = b"\x7fELF\x02\x01";
    const MACHINE_X86_64: u64 = 62;
    const PT_INTERP: u64 = 3;
    let number = |at: usize, length: usize| -> u64 {
        let mut bytes = [0; 8];
        let Some(field) = head.get(at..at + length) else { return 0 };
        bytes.iter_mut().zip(field).for_each(|(to, from)| *to = *from);
        u64::from_le_bytes(bytes)
    };
    if !head.starts_with(ELF64_LITTLE) || number(18, 2) != MACHINE_X86_64 {
        return false;
    }
    let (offset, size, count) = (number(32, 8), number(54, 2), number(56, 2));
    (0..count.min(64)).any(|i| {
        let at = offset.saturating_add(i * size);
        at < head.len() as u64 && number(at as usize, 4) == PT_INTERP
    })
}

/// A copy of the environment with our variables in it.
///
/// # Safety
/// `envp` is null or an array of zero-terminated strings that a null ends.
unsafe fn completed(envp: *const *const u8) -> Option<u64> {
    let mut count = 0;
    // SAFETY: the caller's promise: up to the null.
    while !envp.is_null() && !unsafe { *envp.add(count) }.is_null() {
        count += 1;
    }
    // SAFETY: the first `count` entries were just seen.
    let entries =
        if count == 0 { &[] } else { unsafe { core::slice::from_raw_parts(envp, count) } };
    let mut preload: &[u8] = &[];
    let mut strings = 4 * MAX_PATH;
    for &entry in entries {
        // SAFETY: a zero-terminated string.
        let text = unsafe { core::ffi::CStr::from_ptr(entry.cast()) }.to_bytes();
        if let Some(value) = value_of(text, PRELOAD) {
            preload = value;
            strings += value.len();
        }
    }
    let bytes = ((count + 3) * 8 + strings).next_multiple_of(4096);
    let page = system::map_anonymous(bytes as u64).ok()?;
    retire(page, bytes as u64);
    // SAFETY: fresh, writable, and of this length.
    let (array, text) = unsafe {
        core::slice::from_raw_parts_mut(page as *mut u8, bytes).split_at_mut((count + 3) * 8)
    };
    let mut text = Text { buffer: text, used: 0 };
    let ours = process::paths();
    let socket = text.variable(SOCKET_VARIABLE.as_bytes(), ours.socket.as_bytes(), &[])?;
    let agent = text.variable(PRELOAD, ours.agent.as_bytes(), preload)?;
    let mut words = array.chunks_exact_mut(8);
    for &entry in entries {
        // SAFETY: as above.
        let name = unsafe { core::ffi::CStr::from_ptr(entry.cast()) }.to_bytes();
        if value_of(name, PRELOAD).is_none() && value_of(name, SOCKET_VARIABLE.as_bytes()).is_none()
        {
            words.next()?.copy_from_slice(&(entry.addr() as u64).to_le_bytes());
        }
    }
    words.next()?.copy_from_slice(&socket.to_le_bytes());
    words.next()?.copy_from_slice(&agent.to_le_bytes());
    Some(page)
}

struct Text<'a> {
    buffer: &'a mut [u8],
    used: usize,
}

impl Text<'_> {
    /// Appends `NAME=value[:more]` and returns its address.
    fn variable(&mut self, name: &[u8], value: &[u8], more: &[u8]) -> Option<u64> {
        let start = self.used;
        let colon: &[u8] = if more.is_empty() { b"" } else { b":" };
        for part in [name, b"=", value, colon, more, b"\0"] {
            self.buffer.get_mut(self.used..self.used + part.len())?.copy_from_slice(part);
            self.used += part.len();
        }
        Some(self.buffer.as_ptr().addr() as u64 + start as u64)
    }
}

/// Notes a new environment and frees the oldest one.
fn retire(page: u64, bytes: u64) {
    let index = RECENT.next.fetch_add(1, Ordering::Relaxed) % RECENT.pages.len();
    let Some([address, length]) = RECENT.pages.get(index) else { return };
    let old = address.swap(page, Ordering::AcqRel);
    let old_bytes = length.swap(bytes, Ordering::AcqRel);
    if old != 0 {
        // SAFETY: made here sixteen calls ago, and no `execve` takes that long.
        unsafe { system::unmap(old, old_bytes) };
    }
}
