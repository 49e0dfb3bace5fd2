//! The callbacks of ops, as generated code calls them.

use crate::exits::Scratch;
use crate::thread::Offsets;
use sledge_engine::dispatch::{
    Callback, Lone, Preserve, Registers, Results, Target, ThreadFilter, promise,
};
use std::ffi::c_void;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::OnceLock;
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

/// The end of a call, as an exit callback sees it.
#[derive(Debug)]
pub struct Return<'a> {
    function: u64,
    parent: u64,
    results: &'a mut Results,
}

impl Return<'_> {
    /// The address of the function.
    #[must_use]
    pub fn function(&self) -> u64 {
        self.function
    }

    /// The address it returns to.
    #[must_use]
    pub fn parent(&self) -> u64 {
        self.parent
    }

    /// What it returns, if that is an integer or a pointer.
    #[must_use]
    pub fn value(&self) -> u64 {
        self.results.rax
    }

    /// Lets it return something else.
    ///
    /// # Safety
    /// The caller of the function must be right with it.
    pub unsafe fn set_value(&mut self, value: u64) {
        self.results.rax = value;
    }
}

/// An entry callback in C of an ops that sees exits: as [`RawCallback`], and 16 bytes in which to
/// leave what the exit callback is to find. Returns whether that is to be called.
pub type EnterFunction = unsafe extern "C" fn(
    function: u64,
    parent: u64,
    data: *mut c_void,
    registers: *mut Registers,
    scratch: *mut Scratch,
) -> bool;

/// An exit callback in C: the traced function, the address it returns to, the ops' data, the
/// registers with its results, and what the entry callback left.
pub type LeaveFunction = unsafe extern "C" fn(
    function: u64,
    parent: u64,
    data: *mut c_void,
    results: *mut Results,
    scratch: *mut Scratch,
);

/// A callback in C: the traced function, the address it returns to, the ops' data, and all
/// registers (or null).
pub type RawCallback =
    unsafe extern "C" fn(function: u64, parent: u64, data: *mut c_void, registers: *mut Registers);

/// Leaves what the exit is to find, if it wants to see that.
pub(crate) type EnterClosure = dyn Fn(&mut Call<'_>, &mut Scratch) -> bool + Send + Sync;
pub(crate) type LeaveClosure = dyn Fn(&mut Return<'_>, &Scratch) + Send + Sync;

/// What an ops does.
pub(crate) enum Action {
    Closure(Box<dyn Fn(&mut Call<'_>) + Send + Sync>),
    Raw {
        callback: RawCallback,
        data: usize,
    },
    /// Sees exits, too.
    Both {
        enter: Box<EnterClosure>,
        leave: Box<LeaveClosure>,
    },
    RawBoth {
        enter: EnterFunction,
        leave: LeaveFunction,
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
            Self::Both { .. } => "Both",
            Self::RawBoth { .. } => "RawBoth",
            Self::Redirect { .. } => "Redirect",
            Self::Direct { .. } => "Direct",
        })
    }
}

/// An ops as trampolines know it. Lives until a grace period after the last of them is gone.
#[derive(Debug)]
pub(crate) struct Client {
    /// What trampolines call: changed by one store. With data only for callbacks in C.
    lone: Lone,
    action: Action,
    panics: AtomicU64,
    preserve: Preserve,
    guarded: bool,
    /// The type of a closure.
    label: Option<&'static str>,
    /// No other has the same, now or later.
    number: u64,
}

impl Client {
    pub(crate) fn new(action: Action, guarded: bool, label: Option<&'static str>) -> Self {
        let target = match &action {
            Action::Closure(_) => closure as *const () as u64,
            Action::Raw { callback, .. } => *callback as *const () as u64,
            Action::Both { .. } => enter as *const () as u64,
            Action::RawBoth { enter, .. } => *enter as *const () as u64,
            Action::Redirect { .. } => redirect as *const () as u64,
            Action::Direct { .. } => nothing as *const () as u64,
        };
        let preserve = match &action {
            Action::Raw { callback, .. } => preserve(*callback as *const () as u64),
            Action::RawBoth { enter, leave, .. } => {
                preserve(*enter as *const () as u64).and(preserve(*leave as *const () as u64))
            }
            Action::Redirect { .. } => Preserve::None,
            _ => Preserve::default(),
        };
        let data = match &action {
            Action::Raw { data, .. } | Action::RawBoth { data, .. } => *data as u64,
            _ => 0,
        };
        let lone = Lone { function: AtomicU64::new(target), data };
        let (panics, number) = (AtomicU64::new(0), NUMBER.fetch_add(1, Ordering::Relaxed));
        Self { lone, action, panics, preserve, guarded, label, number }
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
            target: Target::Cell(self.lone.function.as_ptr().addr() as u64),
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
            Action::Raw { .. } | Action::RawBoth { .. } => self.lone.data,
            Action::Redirect { to } => *to,
            _ => std::ptr::from_ref(self).addr() as u64,
        }
    }

    /// As the thunks of its sites may call it themselves, while it is alone there and asks for no
    /// more.
    pub(crate) fn lone(&self) -> u64 {
        std::ptr::from_ref(&self.lone).addr() as u64
    }

    /// Whether thunks can call it.
    pub(crate) fn can_be_lone(&self) -> bool {
        matches!(self.action, Action::Raw { .. }) && self.preserve == Preserve::None
    }

    /// The cell with what is called.
    pub(crate) fn target(&self) -> *const AtomicU64 {
        &raw const self.lone.function
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

    /// What a closure is called.
    pub(crate) fn label(&self) -> Option<&'static str> {
        self.label
    }

    /// The function that is called, or that calls are sent to.
    pub(crate) fn code(&self) -> u64 {
        match &self.action {
            Action::Redirect { to } => *to,
            Action::Direct { code } => *code,
            _ => self.lone.function.load(Ordering::Relaxed),
        }
    }

    /// The functions of the program's that it calls: they are never traced for it.
    pub(crate) fn callbacks(&self) -> Vec<u64> {
        match &self.action {
            Action::Raw { callback, .. } => vec![*callback as *const () as u64],
            Action::RawBoth { enter, leave, .. } => {
                vec![*enter as *const () as u64, *leave as *const () as u64]
            }
            _ => Vec::new(),
        }
    }

    /// Whether it sees exits.
    pub(crate) fn sees_exits(&self) -> bool {
        matches!(self.action, Action::Both { .. } | Action::RawBoth { .. })
    }

    /// What is called on exit, of those who see that.
    #[inline(always)]
    pub(crate) fn leave_target(&self) -> LeaveFunction {
        match self.action {
            Action::RawBoth { leave, .. } => leave,
            _ => self::leave,
        }
    }

    #[inline(always)]
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    #[inline(always)]
    pub(crate) fn is_guarded(&self) -> bool {
        self.guarded
    }

    /// From here on, who reads the target calls nothing.
    pub(crate) fn stop(&self) {
        let nothing = if self.sees_exits() { no_entry as *const () } else { nothing as *const () };
        self.lone.function.store(nothing as u64, Ordering::SeqCst);
    }

    fn panicked(&self) {
        self.panics.fetch_add(1, Ordering::SeqCst);
        self.stop();
    }

    /// How often the callback panicked. After the first time it is not called again.
    pub(crate) fn panics(&self) -> u64 {
        self.panics.load(Ordering::SeqCst)
    }
}

/// Numbers of clients.
static NUMBER: AtomicU64 = AtomicU64::new(1);

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
        client.panicked();
    }
}

/// Calls the closure for the entry of an ops that sees exits.
extern "C" fn enter(
    function: u64,
    parent: u64,
    ops: *mut c_void,
    registers: *mut Registers,
    scratch: *mut Scratch,
) -> bool {
    // SAFETY: as in `closure`; the scratch is this call's own.
    let (client, registers, scratch) =
        unsafe { (&*ops.cast::<Client>(), registers.as_mut(), &mut *scratch) };
    let Action::Both { enter, .. } = &client.action else { return false };
    let mut call = Call { function, parent, registers };
    let wants = catch_unwind(AssertUnwindSafe(|| enter(&mut call, scratch)));
    wants.unwrap_or_else(|_| {
        client.panicked();
        false
    })
}

/// Calls the closure for the exit.
extern "C" fn leave(
    function: u64,
    parent: u64,
    ops: *mut c_void,
    results: *mut Results,
    scratch: *mut Scratch,
) {
    // SAFETY: as in `closure`; results and scratch are this call's own.
    let (client, results, scratch) = unsafe { (&*ops.cast::<Client>(), &mut *results, &*scratch) };
    let Action::Both { leave, .. } = &client.action else { return };
    if client.panics() != 0 {
        return;
    }
    let mut end = Return { function, parent, results };
    if catch_unwind(AssertUnwindSafe(|| leave(&mut end, scratch))).is_err() {
        client.panicked();
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

/// The address of what a thunk calls that has nothing to call.
pub(crate) fn nobody() -> u64 {
    static NOBODY: OnceLock<Lone> = OnceLock::new();
    let function = || AtomicU64::new(nothing as *const () as u64);
    let nobody = NOBODY.get_or_init(|| Lone { function: function(), data: 0 });
    std::ptr::from_ref(nobody).addr() as u64
}

/// The same for an ops that sees exits.
#[unsafe(link_section = "sledge_trap")]
extern "C" fn no_entry(_: u64, _: u64, _: *mut c_void, _: *mut Registers, _: *mut Scratch) -> bool {
    false
}
