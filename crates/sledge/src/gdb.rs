//! Tells debuggers about generated code: names, and how to unwind it (gdb manual: "JIT Compilation
//! Interface").
//!
//! A debugger that attaches finds the list by its symbol, and in it an object file in memory; one that
//! is there already has a breakpoint on the function that is called then.

use std::arch::global_asm;
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

// Weak: a compiler in the same program may have them, too.
global_asm!(
    ".pushsection .data.sledge_gdb, \"aw\", @progbits",
    ".balign 8",
    ".weak __jit_debug_descriptor",
    ".type __jit_debug_descriptor, @object",
    ".size __jit_debug_descriptor, 24",
    "__jit_debug_descriptor: .long 1, 0; .quad 0, 0",
    ".popsection",
    ".pushsection .text.sledge_gdb, \"ax\", @progbits",
    ".weak __jit_debug_register_code",
    ".type __jit_debug_register_code, @function",
    "__jit_debug_register_code: ret",
    ".size __jit_debug_register_code, . - __jit_debug_register_code",
    ".popsection",
);

/// `struct jit_descriptor`.
#[repr(C)]
struct Descriptor {
    version: u32,
    action: AtomicU32,
    relevant: AtomicPtr<Entry>,
    first: AtomicPtr<Entry>,
}

/// `struct jit_code_entry`.
#[repr(C)]
struct Entry {
    next: *mut Entry,
    previous: *mut Entry,
    file: *const u8,
    bytes: u64,
}

unsafe extern "C" {
    #[link_name = "__jit_debug_descriptor"]
    static DESCRIPTOR: Descriptor;
    #[link_name = "__jit_debug_register_code"]
    safe fn register_code();
}

const REGISTER: u32 = 1;
const UNREGISTER: u32 = 2;

/// What was told last; and one at a time.
static TOLD: Mutex<Option<Told>> = Mutex::new(None);

struct Told(*mut Entry);

// SAFETY: an entry of our own, changed under the lock only.
unsafe impl Send for Told {}

/// Tells of code, in place of what was told before.
pub(crate) fn tell(names: &[(Range<u64>, String)], frames: &[&[u8]]) {
    let mut told = TOLD.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    // SAFETY: a static of this program's, or of a compiler in it that keeps to the same interface.
    let descriptor = unsafe { &DESCRIPTOR };
    if let Some(Told(entry)) = told.take() {
        announce(descriptor, UNREGISTER, entry);
        // SAFETY: made below, and in the list no more.
        unsafe {
            let file = std::ptr::slice_from_raw_parts_mut(
                (*entry).file.cast_mut(),
                (*entry).bytes as usize,
            );
            drop(Box::from_raw(file));
            drop(Box::from_raw(entry));
        }
    }
    let file = Box::leak(object(names, frames).into_boxed_slice());
    let (bytes, file) = (file.len() as u64, file.as_ptr());
    let null = std::ptr::null_mut();
    let entry = Box::into_raw(Box::new(Entry { next: null, previous: null, file, bytes }));
    announce(descriptor, REGISTER, entry);
    *told = Some(Told(entry));
}

/// Puts an entry into the list or takes it out, and has debuggers look.
fn announce(descriptor: &Descriptor, action: u32, entry: *mut Entry) {
    // SAFETY: entries of the list are there; nobody else changes it meanwhile but a compiler, whose
    // interface has no lock for that.
    unsafe {
        if action == REGISTER {
            let first = descriptor.first.load(Ordering::SeqCst);
            (*entry).next = first;
            if !first.is_null() {
                (*first).previous = entry;
            }
            descriptor.first.store(entry, Ordering::SeqCst);
        } else {
            let Entry { next, previous, .. } = *entry;
            if !next.is_null() {
                (*next).previous = previous;
            }
            if previous.is_null() {
                descriptor.first.store(next, Ordering::SeqCst);
            } else {
                (*previous).next = next;
            }
        }
    }
    descriptor.relevant.store(entry, Ordering::SeqCst);
    descriptor.action.store(action, Ordering::SeqCst);
    register_code();
}

const HEADER: u64 = 64;
const SECTION: usize = 64;
const NAMES: &[u8] = b"\0.text\0.symtab\0.strtab\0.eh_frame\0.shstrtab\0";

/// An ELF file that has symbols and unwind tables, and code only as an address.
fn object(names: &[(Range<u64>, String)], frames: &[&[u8]]) -> Vec<u8> {
    let start = names.iter().map(|(code, _)| code.start).min().unwrap_or(0);
    let end = names.iter().map(|(code, _)| code.end).max().unwrap_or(0);
    let (mut symbols, mut strings) = (vec![0; 24], vec![0]);
    for (code, name) in names {
        symbols.extend((strings.len() as u32).to_le_bytes());
        // A function, global; in the first section.
        symbols.extend([0x12, 0, 1, 0]);
        symbols.extend(code.start.to_le_bytes());
        symbols.extend((code.end - code.start).to_le_bytes());
        strings.extend(name.bytes().filter(|&byte| byte != 0));
        strings.push(0);
    }
    // All tables end with a zero; only the last one's counts.
    let mut unwind: Vec<u8> =
        frames.iter().flat_map(|table| &table[..table.len() - 4]).copied().collect();
    unwind.extend([0; 4]);
    let mut file = vec![0; HEADER as usize];
    let mut sections = vec![0; SECTION];
    // Type, flags, address, size or contents, link, info, alignment, size of an entry.
    section(&mut sections, 1, 8, 6, start, (HEADER, end - start), [0, 0, 16, 0]);
    let mut put = |name, kind, flags, bytes: &[u8], more| {
        file.resize(file.len().next_multiple_of(8), 0);
        let place = (file.len() as u64, bytes.len() as u64);
        file.extend(bytes);
        section(&mut sections, name, kind, flags, 0, place, more);
    };
    put(7, 2, 0, &symbols, [3, 1, 8, 24]);
    put(15, 3, 0, &strings, [0, 0, 1, 0]);
    put(23, 1, 2, &unwind, [0, 0, 8, 0]);
    put(33, 3, 0, NAMES, [0, 0, 1, 0]);
    file.resize(file.len().next_multiple_of(8), 0);
    let table = file.len() as u64;
    file.extend(&sections);
    file[..HEADER as usize].copy_from_slice(&header(table, (sections.len() / SECTION) as u16));
    file
}

/// One section header.
fn section(
    to: &mut Vec<u8>,
    name: u32,
    kind: u32,
    flags: u64,
    address: u64,
    (offset, size): (u64, u64),
    [link, info, alignment, entry]: [u64; 4],
) {
    to.extend(name.to_le_bytes());
    to.extend(kind.to_le_bytes());
    for word in [flags, address, offset, size] {
        to.extend(word.to_le_bytes());
    }
    to.extend((link as u32).to_le_bytes());
    to.extend((info as u32).to_le_bytes());
    to.extend(alignment.to_le_bytes());
    to.extend(entry.to_le_bytes());
}

/// The file header, for x86-64.
fn header(sections: u64, count: u16) -> [u8; HEADER as usize] {
    let mut header = [0; HEADER as usize];
    header[..7].copy_from_slice(&[0x7f, b'E', b'L', b'F', 2, 1, 1]);
    // Executable, so that addresses are what they are; of version 1.
    header[16..20].copy_from_slice(&[2, 0, 62, 0]);
    header[20] = 1;
    header[40..48].copy_from_slice(&sections.to_le_bytes());
    header[52..54].copy_from_slice(&64_u16.to_le_bytes());
    header[58..60].copy_from_slice(&64_u16.to_le_bytes());
    header[60..62].copy_from_slice(&count.to_le_bytes());
    header[62..64].copy_from_slice(&5_u16.to_le_bytes());
    header
}
