//! Tells the process' unwinder about generated code.

use nix::libc;
use sledge_engine::dispatch::description;

unsafe extern "C" {
    /// Of libgcc: takes a table of descriptions, ended by a zero; of LLVM: one description.
    fn __register_frame(begin: *const u8);
}

/// Registers an unwind table. It stays for ever, as the code does.
pub(crate) fn register(table: Vec<u8>) {
    let table = table.leak();
    let one = &table[description(table)..];
    // SAFETY: asks for the address of a function by its name.
    let llvm = unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"__unw_add_dynamic_fde".as_ptr()) };
    let begin = if llvm.is_null() { table.as_ptr() } else { one.as_ptr() };
    // SAFETY: a well-formed table that lives for ever.
    unsafe { __register_frame(begin) };
}
