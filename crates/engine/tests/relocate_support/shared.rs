//! Memory: mapped pages, and a note that outlives a crashed child.

use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous};
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU8, Ordering};

/// Anonymous pages at exactly this address, with all rights; never unmapped.
pub(crate) fn map(address: u64, length: usize) {
    let flags = MapFlags::MAP_PRIVATE | MapFlags::MAP_FIXED_NOREPLACE;
    let rights = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE | ProtFlags::PROT_EXEC;
    let wanted = NonZeroUsize::new(address as usize);
    let length = NonZeroUsize::new(length).expect("length");
    // SAFETY: MAP_FIXED_NOREPLACE replaces no mapping.
    let found = unsafe { mmap_anonymous(wanted, length, rights, flags) }.expect("mmap");
    assert_eq!(found.as_ptr() as u64, address);
}

/// A line of text shared with a forked child.
pub(crate) struct Note(&'static [AtomicU8]);

impl Note {
    pub(crate) fn new() -> Self {
        let length = NonZeroUsize::new(4096).expect("length");
        let rights = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new mapping, at an address of the kernel's choice.
        let page = unsafe { mmap_anonymous(None, length, rights, MapFlags::MAP_SHARED) };
        let page = page.expect("mmap").as_ptr().cast::<AtomicU8>();
        // SAFETY: 4096 zeroed bytes that are never unmapped.
        Self(unsafe { std::slice::from_raw_parts(page, 4096) })
    }

    pub(crate) fn write(&self, text: &str) {
        let bytes = text.bytes().chain([0]);
        self.0.iter().zip(bytes).for_each(|(cell, byte)| cell.store(byte, Ordering::Relaxed));
    }

    pub(crate) fn read(&self) -> String {
        let bytes = self.0.iter().map(|cell| cell.load(Ordering::Relaxed));
        let bytes = bytes.take_while(|&byte| byte != 0).collect();
        String::from_utf8(bytes).expect("text")
    }
}
