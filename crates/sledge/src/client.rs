//! The callbacks of ops, as generated code calls them.

use crate::thread::Offsets;
use sledge_engine::dispatch::{Callback, Preserve, Registers, Target, ThreadFilter, promise};
use std::ffi::c_void;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};

/// One call of a traced function, as a callback sees it.
#[derive(Debug)]
pub struct Call<'a> {
    function: u64,
    parent: u64,
    registers: Option<&'a mut Registers>,
}

impl Call<'_> {
    /// The address of the function.
    #[must_use]
    pub fn function(&self) -> u64 {
        self.function
    }

    /// The address it will return to.
    #[must_use]
    pub fn parent(&self) -> u64 {
        self.parent
    }

    /// All registers on entry, if the ops asked for them and this function can give them.
    #[must_use]
    pub fn registers(&self) -> Option<&Registers> {
        self.registers.as_deref()
    }

    /// The integer or pointer argument `number` (from 0 to 5), by the C calling convention; needs
    /// registers.
    #[must_use]
    pub fn argument(&self, number: usize) -> Option<u64> {
        let Registers { rdi, rsi, rdx, rcx, r8, r9, .. } = self.registers()?;
        [rdi, rsi, rdx, rcx, r8, r9].get(number).map(|register| **register)
    }

    /// All registers, to be changed: the function starts with what is left here.
    ///
    /// # Safety
    /// The function, and whoever called it, must be right with the new values.
    #[must_use]
    pub unsafe fn registers_mut(&mut self) -> Option<&mut Registers> {
        self.registers.as_deref_mut()
    }
}

/// A callback in C: the traced function, the address it returns to, the ops' data, and all
/// registers (or null).
pub type RawCallback =
    unsafe extern "C" fn(function: u64, parent: u64, data: *mut c_void, registers: *mut Registers);

/// What an ops does on entry.
pub(crate) enum Action {
    Closure(Box<dyn Fn(&mut Call<'_>) + Send + Sync>),
    Raw {
        callback: RawCallback,
        data: usize,
    },
    /// Goes on in another function.
    Redirect {
        to: u64,
    },
    /// Caller-supplied code, called by the thunk itself.
    Direct {
        code: u64,
    },
}

impl fmt::Debug for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Closure(_) => "Closure",
            Self::Raw { .. } => "Raw",
            Self::Redirect { .. } => "Redirect",
            Self::Direct { .. } => "Direct",
        })
    }
}

/// An ops as trampolines know it. Lives until a grace period after the last of them is gone.
#[derive(Debug)]
pub(crate) struct Client {
    /// What trampolines call: changed by one store.
    target: AtomicU64,
    action: Action,
    panics: AtomicU64,
    preserve: Preserve,
}

impl Client {
    pub(crate) fn new(action: Action) -> Self {
        let target = match &action {
            Action::Closure(_) => closure as *const () as u64,
            Action::Raw { callback, .. } => *callback as *const () as u64,
            Action::Redirect { .. } => redirect as *const () as u64,
            Action::Direct { .. } => nothing as *const () as u64,
        };
        let preserve = match &action {
            Action::Raw { callback, .. } => preserve(*callback as *const () as u64),
            Action::Redirect { .. } => Preserve::None,
            _ => Preserve::default(),
        };
        Self { target: AtomicU64::new(target), action, panics: AtomicU64::new(0), preserve }
    }

    /// As generated code needs it. The client must not move any more.
    pub(crate) fn callback(
        &self,
        save_regs: bool,
        guarded: bool,
        threads: Option<ThreadFilter>,
        offsets: &Offsets,
    ) -> Callback {
        Callback {
            target: Target::Cell(self.target.as_ptr().addr() as u64),
            ops: self.argument(),
            save_regs,
            preserve: self.preserve,
            guard: guarded.then_some(offsets.guard),
            threads,
        }
    }

    /// What its function is passed as ops. The client must not move any more.
    pub(crate) fn argument(&self) -> u64 {
        match &self.action {
            Action::Raw { data, .. } => *data as u64,
            Action::Redirect { to } => *to,
            _ => std::ptr::from_ref(self).addr() as u64,
        }
    }

    /// The cell with what is called.
    pub(crate) fn target(&self) -> *const AtomicU64 {
        &raw const self.target
    }

    /// What has to be saved for it.
    pub(crate) fn preserve(&self) -> Preserve {
        self.preserve
    }

    /// The address of caller-supplied code.
    pub(crate) fn direct(&self) -> Option<u64> {
        match self.action {
            Action::Direct { code } => Some(code),
            _ => None,
        }
    }

    /// From here on, who reads the target calls nothing.
    pub(crate) fn stop(&self) {
        self.target.store(nothing as *const () as u64, Ordering::SeqCst);
    }

    /// How often the callback panicked. After the first time it is not called again.
    pub(crate) fn panics(&self) -> u64 {
        self.panics.load(Ordering::SeqCst)
    }
}

/// Bytes of a callback that are looked at.
const LOOK: usize = 256;

/// What must be saved for a callback of which only the code is known.
fn preserve(callback: u64) -> Preserve {
    let page = crate::code::PAGE;
    let length = LOOK.min((page - callback % page) as usize);
    let mut code = [0; LOOK];
    crate::code::read_text(callback, &mut code[..length]);
    promise(&code[..length], callback).unwrap_or_default()
}

/// Calls a closure; a panic ends here, and with it the ops.
extern "C" fn closure(function: u64, parent: u64, ops: *const c_void, registers: *mut Registers) {
    // SAFETY: a client whose action is a closure; it lives until a grace period after the last
    // trampoline that names it is gone, and registers are this call's own.
    let (client, registers) = unsafe { (&*ops.cast::<Client>(), registers.as_mut()) };
    let Action::Closure(callback) = &client.action else { return };
    let mut call = Call { function, parent, registers };
    if catch_unwind(AssertUnwindSafe(|| callback(&mut call))).is_err() {
        client.panics.fetch_add(1, Ordering::SeqCst);
        client.stop();
    }
}

/// Lets the function go on at the address that is passed as data.
#[unsafe(link_section = "sledge_trap")]
extern "C" fn redirect(_: u64, _: u64, to: *const c_void, registers: *mut Registers) {
    if !registers.is_null() {
        // SAFETY: the registers of this call.
        unsafe { (*registers).rip = to as u64 };
    }
}

/// The callback of an ops that has ended.
#[unsafe(link_section = "sledge_trap")]
extern "C" fn nothing(_: u64, _: u64, _: *const c_void, _: *mut Registers) {}
