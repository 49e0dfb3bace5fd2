//! Bytes that are not what they should be. Alone in its process: it writes to its own text.
#![allow(missing_docs, reason = "tests")]

use nix::sys::mman::{ProtFlags, mprotect};
use sledge::{Ops, Tracer};
use std::ffi::c_void;
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

#[inline(never)]
fn altered(value: u64) -> u64 {
    black_box(value) + 17
}

/// Somebody else has been there: the site is refused, and both byte strings are told.
#[test]
fn unexpected_bytes_are_left_alone() {
    let address = altered as *const () as usize;
    let page = std::ptr::NonNull::new((address / 4096 * 4096) as *mut c_void).unwrap();
    let all = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE | ProtFlags::PROT_EXEC;
    let place = address as *mut [u8; 5];
    // SAFETY: `jmp +0` over five bytes that nobody runs, in two pages of our own text.
    let original = unsafe {
        mprotect(page, 2 * 4096, all).unwrap();
        place.replace([0xe9, 0, 0, 0, 0])
    };
    let tracer = Tracer::current().unwrap();
    let seen = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&seen);
    let ops = Ops::entry(move |_| _ = count.fetch_add(1, Relaxed)).filter("altered::altered");
    let ops = tracer.register(ops).unwrap();
    // SAFETY: as above.
    assert_eq!(unsafe { place.read() }, [0xe9, 0, 0, 0, 0], "not overwritten");
    let refused = tracer.untraced().unwrap();
    let refused = refused.iter().find(|one| one.name == "altered::altered").unwrap();
    assert!(refused.reason.starts_with("expected ["), "{}", refused.reason);
    assert!(refused.reason.contains("found [e9 00 00 00 00"), "{}", refused.reason);
    // SAFETY: as above.
    unsafe { place.write(original) };
    assert_eq!(altered(black_box(1)), 18);
    assert_eq!(seen.load(Relaxed), 0);
    ops.unregister().unwrap();
}
