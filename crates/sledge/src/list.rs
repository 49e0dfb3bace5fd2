//! The list function: the old way, kept to be measured against, and for more sets than the budget
//! allows.
//!
//! All sites share one trampoline, which calls one function; that walks all registered ops, and
//! asks the two hashes of each whether the call is its, as `__ftrace_ops_list_func` of the kernel
//! does. A call costs what all ops cost together.
//!
//! What runs in a traced call must not be traced itself: it is written with raw pointers, and lies
//! in the section that is never patched.

use crate::client::Client;
use crate::core::own_preserve;
use crate::thread;
use sledge_engine::dispatch::{Preserve, Registers};
use std::ffi::c_void;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

/// One function in a bucket.
#[derive(Debug)]
struct Entry {
    next: *const Entry,
    function: u64,
}

/// A set of functions, as the kernel's `ftrace_hash`: chained buckets.
#[derive(Debug)]
pub(crate) struct Hash {
    buckets: Box<[*const Entry]>,
    /// What the buckets lead to.
    entries: Box<[Entry]>,
    shift: u32,
}

/// The kernel's `FTRACE_HASH_MAX_BITS`.
const MOST_BITS: u32 = 12;

impl Hash {
    pub(crate) fn new(functions: &[u64]) -> Self {
        let bits = (usize::BITS - (functions.len() / 2).leading_zeros()).clamp(1, MOST_BITS);
        let entry = |&function| Entry { next: ptr::null(), function };
        let mut hash = Self {
            buckets: vec![ptr::null(); 1 << bits].into(),
            entries: functions.iter().map(entry).collect(),
            shift: 64 - bits,
        };
        for entry in &mut hash.entries {
            let bucket = &mut hash.buckets[bucket(entry.function, hash.shift)];
            entry.next = std::mem::replace(bucket, entry);
        }
        hash
    }
}

/// The kernel's `hash_64`.
#[inline(always)]
fn bucket(function: u64, shift: u32) -> usize {
    (function.wrapping_mul(0x61c8_8646_80b5_83eb) >> shift) as usize
}

/// Whether the set holds a function. One without entries is asked nothing.
///
/// # Safety
/// The hash is alive.
#[inline(always)]
unsafe fn contains(hash: *const Hash, function: u64) -> bool {
    // SAFETY: buckets lead to entries, which live as long as the hash.
    unsafe {
        let first: *const *const Entry = (&raw const *(*hash).buckets).cast();
        let mut entry = *first.wrapping_add(bucket(function, (*hash).shift));
        while !entry.is_null() {
            if (*entry).function == function {
                return true;
            }
            entry = (*entry).next;
        }
    }
    false
}

/// One ops on the list.
#[derive(Debug)]
pub(crate) struct Listed {
    client: Arc<Client>,
    /// The cell with what the client calls, and what it passes.
    target: *const AtomicU64,
    argument: u64,
    tests: Tests,
    save_regs: bool,
}

/// What an ops on the list is asked.
#[derive(Debug)]
pub(crate) struct Tests {
    /// What it wants; `None` for everything.
    pub(crate) filter: Option<Hash>,
    /// What it does not want; `None` for nothing.
    pub(crate) notrace: Option<Hash>,
    /// Whether it is left out while a guarded callback runs in this thread.
    pub(crate) guarded: bool,
    /// The bits of its thread filter, if it has one.
    pub(crate) threads: Option<u64>,
}

impl Listed {
    pub(crate) fn new(client: Arc<Client>, tests: Tests, save_regs: bool) -> Self {
        let (target, argument) = (client.target(), client.argument());
        Self { client, target, argument, tests, save_regs }
    }
}

/// All ops that are enabled, in the order of registration.
#[derive(Debug)]
pub(crate) struct List(Box<[Listed]>);

// SAFETY: the pointers in its hashes lead into boxes that are its own and never change.
unsafe impl Send for List {}

impl List {
    pub(crate) fn new(ops: Vec<Listed>) -> Self {
        Self(ops.into())
    }

    /// Whether some ops wants registers.
    pub(crate) fn save_regs(&self) -> bool {
        self.0.iter().any(|listed| listed.save_regs)
    }

    /// What the list function and all its ops need to be saved.
    pub(crate) fn preserve(&self) -> Preserve {
        self.0.iter().fold(own_preserve(), |all, listed| all.and(listed.client.preserve()))
    }
}

/// The list that is walked now; null for none.
static LIST: AtomicPtr<List> = AtomicPtr::new(ptr::null_mut());

/// Lets another list be walked. The one that was may be dropped after a grace period.
pub(crate) fn replace(list: Option<Box<List>>) -> Option<Box<List>> {
    let old = LIST.swap(list.map_or(ptr::null_mut(), Box::into_raw), Ordering::SeqCst);
    // SAFETY: came from `Box::into_raw` above; who still walks it is the caller's to wait for.
    (!old.is_null()).then(|| unsafe { Box::from_raw(old) })
}

/// The callback of the one trampoline.
#[unsafe(link_section = "sledge_trap")]
pub(crate) extern "C" fn list_function(
    function: u64,
    parent: u64,
    _: *const c_void,
    registers: *mut Registers,
) {
    let list = LIST.load(Ordering::Acquire);
    if list.is_null() {
        return;
    }
    // SAFETY: a list lives until a grace period after it was replaced, and this thread has counted
    // itself in; its ops and their clients live as long as it.
    unsafe {
        let all: *const [Listed] = &raw const *(*list).0;
        let (mut listed, end): (*const Listed, _) = (all.cast(), all.len());
        let end = listed.wrapping_add(end);
        while listed != end {
            if wants(listed, function) {
                call(listed, function, parent, registers);
            }
            listed = listed.wrapping_add(1);
        }
    }
}

/// Whether an ops wants the call: the kernel's `ftrace_ops_test`.
///
/// # Safety
/// As in [`list_function`].
#[inline(always)]
unsafe fn wants(listed: *const Listed, function: u64) -> bool {
    // SAFETY: the caller's.
    unsafe {
        if let Some(filter) = &(*listed).tests.filter
            && !contains(filter, function)
        {
            return false;
        }
        if let Some(notrace) = &(*listed).tests.notrace
            && contains(notrace, function)
        {
            return false;
        }
        if let Some(bits) = (*listed).tests.threads
            && thread::wanted() & bits == 0
        {
            return false;
        }
    }
    true
}

/// Calls an ops, as its trampoline would.
///
/// # Safety
/// As in [`list_function`].
#[inline(always)]
unsafe fn call(listed: *const Listed, function: u64, parent: u64, registers: *mut Registers) {
    // SAFETY: the caller's; what a client's target holds is the address of such a function.
    unsafe {
        if (*listed).tests.guarded && !thread::enter_guarded() {
            return;
        }
        let target = (*(*listed).target).load(Ordering::Relaxed);
        let target: extern "C" fn(u64, u64, u64, *mut Registers) =
            std::mem::transmute(ptr::with_exposed_provenance::<()>(target as usize));
        let registers = if (*listed).save_regs { registers } else { ptr::null_mut() };
        target(function, parent, (*listed).argument, registers);
        if (*listed).tests.guarded {
            thread::leave_guarded();
        }
    }
}
