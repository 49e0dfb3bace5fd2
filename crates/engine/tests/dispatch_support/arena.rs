//! Code memory: one mapping to write, another to run, never both in one.

use super::gate;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::mman::{MapFlags, ProtFlags, mmap};
use sledge_engine::dispatch::{
    Callback, Displaced, EntryThunk, ThunkError, entry_thunk, entry_trampoline, redirection,
};
use sledge_engine::thunk::patch;
use std::num::NonZeroUsize;

const BYTES: usize = 1 << 20;
/// Far enough from all else that only a 64-bit address leads there.
const FAR: usize = 0x30_0000_0000;

/// `lea rax, [rdi + rsi]; push rbp; pop rbp; ret`: changes no flag.
pub(crate) const SUM: [u8; 7] = [0x48, 0x8d, 0x04, 0x37, 0x55, 0x5d, 0xc3];
/// `lea rax, [rdi + 2 * rsi]; push rbp; pop rbp; ret`.
pub(crate) const OTHER_SUM: [u8; 7] = [0x48, 0x8d, 0x04, 0x77, 0x55, 0x5d, 0xc3];
const PATCHED: usize = 5;

/// Room for generated code; never unmapped.
#[derive(Debug)]
pub(crate) struct Arena {
    writable: *mut u8,
    runnable: u64,
    used: usize,
}

impl Arena {
    /// Within reach of this program's own functions.
    pub(crate) fn near() -> Self {
        let here = Self::near as *const () as usize;
        Self::at((here & !0xfff) + (256 << 20))
    }

    /// Out of reach of this program's own functions.
    pub(crate) fn far() -> Self {
        Self::at(FAR)
    }

    fn at(hint: usize) -> Self {
        let file = memfd_create(c"code", MFdFlags::MFD_CLOEXEC).expect("memfd");
        nix::unistd::ftruncate(&file, BYTES as i64).expect("ftruncate");
        let map = |hint, rights| {
            let length = NonZeroUsize::new(BYTES).expect("length");
            // SAFETY: a hint replaces no mapping.
            let found = unsafe { mmap(hint, length, rights, MapFlags::MAP_SHARED, &file, 0) };
            found.expect("mmap").as_ptr().cast::<u8>()
        };
        let writable = map(None, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE);
        let runnable = map(NonZeroUsize::new(hint), ProtFlags::PROT_READ | ProtFlags::PROT_EXEC);
        Self { writable, runnable: runnable as u64, used: 0 }
    }

    /// Generates code for a new place, and puts it there.
    pub(crate) fn put(&mut self, generate: impl FnOnce(u64) -> Vec<u8>) -> u64 {
        let place = self.runnable + self.used as u64;
        let code = generate(place);
        assert!(self.used + code.len() <= BYTES, "the arena is full");
        self.write(place, &code);
        self.used += code.len().next_multiple_of(64);
        place
    }

    fn write(&mut self, place: u64, code: &[u8]) {
        let offset = (place - self.runnable) as usize;
        assert!(offset + code.len() <= BYTES);
        // SAFETY: inside the mapping, which nothing refers to.
        unsafe {
            std::ptr::copy_nonoverlapping(code.as_ptr(), self.writable.add(offset), code.len());
        }
    }

    /// A new function that adds its arguments, and what a patch of it displaces.
    pub(crate) fn function(&mut self, code: &'static [u8; 7]) -> Displaced<'static> {
        let function = self.put(|_| code.to_vec());
        let resume = function + PATCHED as u64;
        Displaced { function, address: function, bytes: &code[..PATCHED], resume }
    }

    /// A trampoline for a set, which stays.
    pub(crate) fn trampoline(&mut self, set: &[Callback]) -> u64 {
        let redirected = self.put(|place| redirection(place, gate::left()));
        self.put(|place| entry_trampoline(place, set, redirected))
    }

    /// Has a trampoline called whenever this function is.
    pub(crate) fn hook(&mut self, site: &Displaced<'_>, trampoline: u64) {
        let gate = gate::gate(self, trampoline);
        self.attach(site, |place| entry_thunk(place, &gate, None, site));
    }

    /// Generates a thunk, and patches its function to jump there, before anything runs it.
    pub(crate) fn attach(
        &mut self,
        site: &Displaced<'_>,
        generate: impl FnOnce(u64) -> Result<EntryThunk, ThunkError>,
    ) {
        let mut entry = 0;
        let place = self.put(|place| {
            let thunk = generate(place).expect("the thunk");
            entry = thunk.entry as u64;
            thunk.code
        });
        let jump = patch(site.address, place + entry).expect("within reach");
        self.write(site.address, &jump);
    }
}
