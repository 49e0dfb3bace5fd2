//! The list function: the old way, kept to be compared with. One function is called for every
//! traced call; it walks all registered ops, and asks the hashes of each whether the call is its.

use sledge_engine::dispatch::Registers;
use std::cell::Cell;
use std::ffi::c_void;
use std::ptr;

/// What an ops has called.
pub(crate) type Client = extern "C" fn(u64, u64, *const c_void, *mut Registers);

struct Entry {
    next: *const Entry,
    function: u64,
}

/// A set of functions, as the kernel's: chained buckets.
pub(crate) struct Hash {
    buckets: Vec<*const Entry>,
    bits: u32,
    count: usize,
}

impl Hash {
    /// The entries are never freed: other threads may walk them.
    pub(crate) fn new(functions: &[u64]) -> Self {
        let bits = (usize::BITS - (functions.len() / 2).leading_zeros()).min(12);
        let mut hash = Self { buckets: vec![ptr::null(); 1 << bits], bits, count: functions.len() };
        for &function in functions {
            let bucket = hash.bucket(function);
            let next = hash.buckets[bucket];
            hash.buckets[bucket] = Box::leak(Box::new(Entry { next, function }));
        }
        hash
    }

    fn bucket(&self, function: u64) -> usize {
        let mixed = function.wrapping_mul(0x61c8_8646_80b5_83eb);
        if self.bits == 0 { 0 } else { (mixed >> (64 - self.bits)) as usize }
    }

    fn contains(&self, function: u64) -> bool {
        let mut entry = self.buckets[self.bucket(function)];
        // SAFETY: entries are leaked, and linked before they are seen.
        while let Some(found) = unsafe { entry.as_ref() } {
            if found.function == function {
                return true;
            }
            entry = found.next;
        }
        false
    }
}

/// A registered ops.
pub(crate) struct Ops {
    next: *const Ops,
    client: Client,
    argument: u64,
    filter: Hash,
    notrace: Hash,
    stub: bool,
}

/// All registered ops.
pub(crate) struct List {
    first: *const Ops,
}

impl List {
    pub(crate) fn new() -> Self {
        Self { first: ptr::null() }
    }

    /// Registers before those that are registered; an empty filter wants all. Never freed.
    pub(crate) fn register(&mut self, client: Client, argument: u64, filter: Hash, notrace: Hash) {
        let next = self.first;
        let ops = Ops { next, client, argument, filter, notrace, stub: false };
        self.first = Box::leak(Box::new(ops));
    }
}

thread_local! {
    static IN_LIST: Cell<bool> = const { Cell::new(false) };
}

/// The callback of the one trampoline that all sites share; its ops is the [`List`].
pub(crate) extern "C" fn list_function(
    function: u64,
    parent: u64,
    list: *const c_void,
    registers: *mut Registers,
) {
    if IN_LIST.replace(true) {
        return;
    }
    // SAFETY: the list lives as long as its trampoline.
    let mut next = unsafe { (*list.cast::<List>()).first };
    // SAFETY: ops are leaked, and linked before they are seen.
    while let Some(ops) = unsafe { next.as_ref() } {
        let wanted = ops.filter.count == 0 || ops.filter.contains(function);
        let refused = ops.notrace.count != 0 && ops.notrace.contains(function);
        if !ops.stub && wanted && !refused {
            (ops.client)(function, parent, ops.argument as *const c_void, registers);
        }
        next = ops.next;
    }
    IN_LIST.set(false);
}
