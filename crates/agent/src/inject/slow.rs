//! The slow paths: what generated code calls when it cannot go on by itself.
//!
//! A WORD OF CAUTION: trampolines keep values in the 64 bytes below their `rsp` and expect every
//! register back, vector registers included; only the flags may change. Agent code is compiled
//! for the x86-64 baseline, so saving the low halves of the sixteen `xmm` registers is enough:
//! it cannot touch what is above them.

use super::{system, thread};
use core::arch::{asm, global_asm};
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use sledge_wire::cell::{SLOT_ENTRIES, SLOT_SHIFT};

/// For each 16 MiB of addresses, the distance from a stack cell to its slot; 0: no slots yet.
#[repr(transparent)]
pub(crate) struct SlotTable([AtomicU64; SLOT_ENTRIES]);
pub(crate) static SLOTS: SlotTable = SlotTable([const { AtomicU64::new(0) }; SLOT_ENTRIES]);

/// Slots that were mapped, so far as they are many: for when they go.
static MAPPED: [AtomicU64; 1024] = [const { AtomicU64::new(0) }; 1024];
static MAPPED_COUNT: AtomicUsize = AtomicUsize::new(0);

/// Unmaps all slots: no hooked call will return any more.
pub(crate) fn unmap_slots() {
    for slots in &MAPPED {
        let address = slots.swap(0, Ordering::Relaxed);
        if address != 0 {
            // SAFETY: mapped by `cover`, and the controller saw that nobody uses it.
            unsafe { system::unmap(address, 1 << SLOT_SHIFT) };
        }
    }
}

macro_rules! stub {
    ($name:literal, $body:literal) => {
        concat!(
            ".p2align 4; .hidden ",
            $name,
            "; .globl ",
            $name,
            "; .type ",
            $name,
            ",@function\n",
            $name,
            ": .cfi_startproc\n",
            "lea rsp, [rsp - 128]; .cfi_adjust_cfa_offset 128\n",
            "push rax; .cfi_adjust_cfa_offset 8\n push rcx; .cfi_adjust_cfa_offset 8\n",
            "push rdx; .cfi_adjust_cfa_offset 8\n push rsi; .cfi_adjust_cfa_offset 8\n",
            "push rdi; .cfi_adjust_cfa_offset 8\n push r8; .cfi_adjust_cfa_offset 8\n",
            "push r9; .cfi_adjust_cfa_offset 8\n push r10; .cfi_adjust_cfa_offset 8\n",
            "push r11; .cfi_adjust_cfa_offset 8\n push rbx; .cfi_adjust_cfa_offset 8\n",
            ".cfi_rel_offset rbx, 0\n",
            "push rbp; .cfi_adjust_cfa_offset 8\n .cfi_rel_offset rbp, 0\n",
            "mov rbp, rsp; .cfi_def_cfa_register rbp\n",
            "sub rsp, 256; and rsp, -64; cld\n",
            "movups [rsp], xmm0; movups [rsp+16], xmm1; movups [rsp+32], xmm2\n",
            "movups [rsp+48], xmm3; movups [rsp+64], xmm4; movups [rsp+80], xmm5\n",
            "movups [rsp+96], xmm6; movups [rsp+112], xmm7; movups [rsp+128], xmm8\n",
            "movups [rsp+144], xmm9; movups [rsp+160], xmm10; movups [rsp+176], xmm11\n",
            "movups [rsp+192], xmm12; movups [rsp+208], xmm13; movups [rsp+224], xmm14\n",
            "movups [rsp+240], xmm15\n",
            $body,
            "\n",
            "movups xmm0, [rsp]; movups xmm1, [rsp+16]; movups xmm2, [rsp+32]\n",
            "movups xmm3, [rsp+48]; movups xmm4, [rsp+64]; movups xmm5, [rsp+80]\n",
            "movups xmm6, [rsp+96]; movups xmm7, [rsp+112]; movups xmm8, [rsp+128]\n",
            "movups xmm9, [rsp+144]; movups xmm10, [rsp+160]; movups xmm11, [rsp+176]\n",
            "movups xmm12, [rsp+192]; movups xmm13, [rsp+208]; movups xmm14, [rsp+224]\n",
            "movups xmm15, [rsp+240]\n",
            "mov rsp, rbp; .cfi_def_cfa_register rsp\n",
            "pop rbp; .cfi_adjust_cfa_offset -8\n .cfi_restore rbp\n",
            "pop rbx; .cfi_adjust_cfa_offset -8\n .cfi_restore rbx\n",
            "pop r11; .cfi_adjust_cfa_offset -8\n pop r10; .cfi_adjust_cfa_offset -8\n",
            "pop r9; .cfi_adjust_cfa_offset -8\n pop r8; .cfi_adjust_cfa_offset -8\n",
            "pop rdi; .cfi_adjust_cfa_offset -8\n pop rsi; .cfi_adjust_cfa_offset -8\n",
            "pop rdx; .cfi_adjust_cfa_offset -8\n pop rcx; .cfi_adjust_cfa_offset -8\n",
            "pop rax; .cfi_adjust_cfa_offset -8\n",
            "lea rsp, [rsp + 128]; .cfi_adjust_cfa_offset -128\n",
            "ret\n .cfi_endproc\n .size ",
            $name,
            ", .-",
            $name,
            "\n",
        )
    };
}

// Eleven registers and 128 bytes lie between `rbp` and the return address: 216. The trampoline
// for entries calls with `rsp = S - 8`, S the cell of the return address: S = rbp + 216 + 16.
global_asm!(
    ".pushsection .text.sledge_slow,\"ax\",@progbits",
    stub!("sledge_slow_cover", "lea rdi, [rbp + 232]; call {cover}"),
    stub!("sledge_slow_thread", "call {thread}"),
    stub!("sledge_slow_full", "call {full}"),
    // The saved registers, lowest first: rbp rbx r11 r10 r9 r8 rdi rsi rdx rcx rax.
    stub!("sledge_exec_path", "mov rdi, rbp; mov esi, 8; mov edx, 1; call {exec}"),
    stub!("sledge_exec_descriptor", "mov rdi, rbp; mov esi, 8; xor edx, edx; call {exec}"),
    stub!("sledge_exec_at", "mov rdi, rbp; mov esi, 9; xor edx, edx; call {exec}"),
    // The other callee-saved registers are as they were.
    stub!("sledge_probe", "mov rdi, rbp; mov rsi, r12; mov rdx, r13; mov rcx, r14; mov r8, r15; call {probe}"),
    ".popsection",
    cover = sym cover,
    thread = sym arrange_thread,
    full = sym full_ring,
    exec = sym super::exec::complete_environment,
    probe = sym super::probe::hit,
);

unsafe extern "C" {
    static sledge_slow_cover: u8;
    static sledge_slow_thread: u8;
    static sledge_slow_full: u8;
    static sledge_exec_path: u8;
    static sledge_exec_descriptor: u8;
    static sledge_exec_at: u8;
    static sledge_probe: u8;
}

/// Addresses of the slow paths: cover, thread, full.
pub(crate) fn entries() -> [u64; 3] {
    [
        (&raw const sledge_slow_cover).addr() as u64,
        (&raw const sledge_slow_thread).addr() as u64,
        (&raw const sledge_slow_full).addr() as u64,
    ]
}

/// Addresses of the code that completes environments.
pub(crate) fn exec_entries() -> [u64; 3] {
    [
        (&raw const sledge_exec_path).addr() as u64,
        (&raw const sledge_exec_descriptor).addr() as u64,
        (&raw const sledge_exec_at).addr() as u64,
    ]
}

/// Address of the code that takes values for probes.
pub(crate) fn probe_entry() -> u64 {
    (&raw const sledge_probe).addr() as u64
}

/// The slot of a stack cell, where it has one.
pub(crate) fn slot(cell: u64) -> Option<u64> {
    let distance = SLOTS.0.get((cell >> SLOT_SHIFT) as usize)?.load(Ordering::Acquire);
    (distance != 0).then(|| cell.wrapping_add(distance))
}

/// Gives the 16 MiB around a stack cell their slots.
extern "C" fn cover(cell: u64) {
    let index = (cell >> SLOT_SHIFT) as usize;
    let Some(entry) = SLOTS.0.get(index) else { return abort() };
    if entry.load(Ordering::Acquire) != 0 {
        return;
    }
    let bytes = 1 << SLOT_SHIFT;
    // Without slots the call cannot be hooked, and it is too late to leave it alone.
    let Ok(slots) = system::map_anonymous(bytes) else { return abort() };
    let distance = slots.wrapping_sub((index as u64) << SLOT_SHIFT);
    if entry.compare_exchange(0, distance, Ordering::AcqRel, Ordering::Acquire).is_err() {
        // SAFETY: mapped above and never published.
        unsafe { system::unmap(slots, bytes) };
    } else if let Some(place) = MAPPED.get(MAPPED_COUNT.fetch_add(1, Ordering::Relaxed)) {
        place.store(slots, Ordering::Relaxed);
    }
}

fn abort() {
    // SAFETY: never returns.
    unsafe { asm!("ud2", options(noreturn)) }
}

extern "C" fn arrange_thread() {
    without_signals(thread::arrange);
}

pub(crate) extern "C" fn full_ring() {
    if thread::drop_one() {
        return;
    }
    without_signals(thread::full);
}

/// Runs with all signals blocked: a handler would find the thread's block half changed.
fn without_signals(work: fn()) {
    const RT_SIGPROCMASK: u64 = 14;
    const SIG_SETMASK: u64 = 2;
    let all = u64::MAX;
    let mut before = 0u64;
    let address = (&raw mut before).addr() as u64;
    // SAFETY: reads and writes the two words named.
    unsafe {
        system::call(
            RT_SIGPROCMASK,
            [SIG_SETMASK, (&raw const all).addr() as u64, address, 8, 0, 0],
        )
    };
    work();
    // SAFETY: likewise.
    unsafe { system::call(RT_SIGPROCMASK, [SIG_SETMASK, address, 0, 8, 0, 0]) };
}
