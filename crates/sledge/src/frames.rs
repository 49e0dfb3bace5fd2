//! Tells the process' unwinders about generated code.
//!
//! Unwinders find the tables of objects through the dynamic loader; those of generated code must be
//! registered with each. One that is linked into an object, and hidden there, cannot be reached: the
//! returns of functions that it might unwind are not hooked.

use crate::objects::Loaded;
use sledge_engine::dispatch::description;
use std::mem::transmute;

unsafe extern "C" {
    /// Of libgcc: takes a table of descriptions, ended by a zero; of LLVM: one description.
    fn __register_frame(begin: *const u8);
}

const REGISTER: &str = "__register_frame";
/// Only LLVM's has this.
const LLVM: &str = "__unw_add_dynamic_fde";
/// Every unwinder has this.
const RAISE: &str = "_Unwind_RaiseException";

/// An unwinder that can be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Unwinder {
    register: u64,
    llvm: bool,
}

/// Tables, and who was told of them.
#[derive(Debug)]
pub(crate) struct Frames {
    tables: Vec<&'static [u8]>,
    unwinders: Vec<Unwinder>,
}

impl Frames {
    /// Begins with the unwinder that this code is linked with; what kind that is, its object will
    /// say.
    pub(crate) const fn new() -> Self {
        Self { tables: Vec::new(), unwinders: Vec::new() }
    }

    /// Registers a table. It stays for ever, as the code does.
    pub(crate) fn add(&mut self, table: Vec<u8>) {
        let table = table.leak();
        self.tables.push(table);
        self.unwinders.iter().for_each(|unwinder| tell(*unwinder, table));
    }

    /// All of them.
    pub(crate) fn tables(&self) -> &[&'static [u8]] {
        &self.tables
    }

    /// An object was loaded: if it is an unwinder, it learns of all tables. Says whether it has one
    /// that cannot be told.
    pub(crate) fn meet(&mut self, loaded: &Loaded) -> bool {
        let object = &loaded.object;
        let exported = object.export(REGISTER).map(|it| it.address.wrapping_add(loaded.bias));
        let linked = __register_frame as *const () as u64;
        let linked = Some(linked).filter(|address| loaded.text.contains(address));
        let Some(register) = exported.or(linked) else {
            return object.function_named(RAISE).is_some();
        };
        let llvm = object.export(LLVM).is_some() || object.function_named(LLVM).is_some();
        let unwinder = Unwinder { register, llvm };
        if !self.unwinders.contains(&unwinder) {
            self.unwinders.push(unwinder);
            self.tables.iter().for_each(|table| tell(unwinder, table));
        }
        false
    }

    /// An object was unloaded.
    pub(crate) fn forget(&mut self, loaded: &Loaded) {
        self.unwinders.retain(|unwinder| !loaded.text.contains(&unwinder.register));
    }
}

fn tell(unwinder: Unwinder, table: &'static [u8]) {
    let begin = if unwinder.llvm { &table[description(table)..] } else { table };
    let register = std::ptr::with_exposed_provenance::<()>(unwinder.register as usize);
    // SAFETY: a function of this name, of an object that is mapped, and a well-formed table that
    // lives for ever.
    unsafe { transmute::<*const (), unsafe extern "C" fn(*const u8)>(register)(begin.as_ptr()) };
}
