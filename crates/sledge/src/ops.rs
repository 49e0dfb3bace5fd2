//! What is registered: one client of the tracer, with its filters.

use crate::client::{Action, Call, EnterFunction, LeaveFunction, RawCallback, Return};
use sledge_engine::ops::Flags;
use std::any::type_name_of_val;
use std::ffi::c_void;

/// One client: a callback, and which functions it wants. Made by a constructor and completed by
/// the methods that follow it, then given to [`Tracer::register`](crate::Tracer::register).
#[derive(Debug)]
pub struct Ops {
    pub(crate) action: Action,
    pub(crate) flags: Flags,
    /// What a closure is called in listings.
    pub(crate) closure: Option<&'static str>,
    pub(crate) filter: Vec<String>,
    pub(crate) notrace: Vec<String>,
    pub(crate) threads: Option<Vec<i32>>,
    pub(crate) enabled: bool,
}

impl Ops {
    fn new(action: Action, flags: Flags) -> Self {
        let (filter, notrace) = (Vec::new(), Vec::new());
        Self { action, flags, closure: None, filter, notrace, threads: None, enabled: true }
    }

    /// A closure, called on the entry of every function that the filter names, in the thread that
    /// calls it.
    ///
    /// It may do anything, block, and call traced functions: those calls reach no closure again.
    /// If it panics, it is not called any more ([`Registration::panics`](crate::Registration::panics)).
    ///
    /// Three things it must leave alone. It does not wait for a lock that a function it is attached
    /// to is called under; whoever traces `malloc`'s inner functions cannot allocate. It does not
    /// jump away (`longjmp`), and does not go on in another thread or on another stack than it
    /// began on.
    #[must_use]
    pub fn entry(callback: impl Fn(&mut Call<'_>) + Send + Sync + 'static) -> Self {
        let closure = Some(type_name_of_val(&callback));
        let action = Action::Closure(Box::new(callback));
        Self { closure, ..Self::new(action, Flags::DYNAMIC | Flags::RECURSION) }
    }

    /// A function, called by the trampoline itself: the quickest kind. It is not guarded against
    /// recursion, unless [`guarded`](Self::guarded).
    ///
    /// # Safety
    /// `callback` must be right for these arguments from any thread at any call of the functions
    /// that are traced, also inside signal handlers; must not unwind or jump away; and `data` must
    /// live until the ops is unregistered. Unguarded, it must not call what it traces.
    #[must_use]
    pub unsafe fn raw(callback: RawCallback, data: *mut c_void) -> Self {
        Self::new(Action::Raw { callback, data: data.expose_provenance() }, Flags::DYNAMIC)
    }

    /// Two closures: `enter` is called on the entry of every function that the filter names, and for
    /// each call to which it returns something, `leave` is called with that when the function
    /// returns. Of functions whose return cannot be seen
    /// ([`Registration::left_out`](crate::Registration::left_out)) neither is.
    ///
    /// What is handed over is 16 bytes at most. A call that does not return (it throws, jumps away,
    /// or its thread ends) has no exit; nor has one that is running when the ops is unregistered.
    /// A function that ends in a jump to another returns when that does.
    ///
    /// What [`entry`](Self::entry) says of the callback holds for both.
    #[must_use]
    pub fn call<T: Copy + Send + 'static>(
        enter: impl Fn(&mut Call<'_>) -> Option<T> + Send + Sync + 'static,
        leave: impl Fn(&mut Return<'_>, T) + Send + Sync + 'static,
    ) -> Self {
        let closure = Some(type_name_of_val(&enter));
        let action = Action::Both {
            enter: Box::new(move |call, scratch| {
                enter(call).map(|value| scratch::put(scratch, value)).is_some()
            }),
            leave: Box::new(move |end, scratch| leave(end, scratch::get(scratch))),
        };
        let flags = Flags::DYNAMIC | Flags::RECURSION | Flags::ENTRY_EXIT;
        Self { closure, ..Self::new(action, flags) }
    }

    /// Two functions, as in [`call`](Self::call), not guarded against recursion.
    ///
    /// # Safety
    /// As for [`raw`](Self::raw), for both.
    #[must_use]
    pub unsafe fn raw_call(enter: EnterFunction, leave: LeaveFunction, data: *mut c_void) -> Self {
        let action = Action::RawBoth { enter, leave, data: data.expose_provenance() };
        Self::new(action, Flags::DYNAMIC | Flags::ENTRY_EXIT)
    }

    /// Replaces functions: who calls one of those that the filter names comes to `replacement`,
    /// with the same arguments (the kernel's `IPMODIFY`). Two such ops cannot have a function both.
    /// The replacement can call the original through
    /// [`Tracer::original`](crate::Tracer::original).
    ///
    /// # Safety
    /// `replacement` must be the address of a function that can stand for each of those.
    #[must_use]
    pub unsafe fn replace(replacement: *const c_void) -> Self {
        let to = replacement.expose_provenance() as u64;
        Self::new(Action::Redirect { to }, Flags::DYNAMIC | Flags::SAVE_REGS | Flags::IPMODIFY)
    }

    /// Code of one's own in place of a generated trampoline (the kernel's `DIRECT`), called with
    /// all registers as on entry, `[rsp]` the address where the function goes on, `[rsp + 8]` its
    /// return address. Nothing is ever written there. Unregistering does not wait for threads that
    /// are in it.
    ///
    /// # Safety
    /// `code` must be the address of code that keeps what the functions and their callers need, and
    /// stay there for ever.
    #[must_use]
    pub unsafe fn direct(code: *const c_void) -> Self {
        let code = code.expose_provenance() as u64;
        Self::new(Action::Direct { code }, Flags::DYNAMIC | Flags::DIRECT)
    }

    /// Adds functions to those it wants; without any, it wants all. Patterns are shell globs over
    /// readable names, with `@module` behind them if they mean one object: `btree_*`,
    /// `pthread_mutex_*@libc`. What is not loaded yet is found when it is.
    #[must_use]
    pub fn filter(mut self, pattern: impl Into<String>) -> Self {
        self.filter.push(pattern.into());
        self
    }

    /// Adds functions that it does not want, whatever the filter says.
    #[must_use]
    pub fn notrace(mut self, pattern: impl Into<String>) -> Self {
        self.notrace.push(pattern.into());
        self
    }

    /// Only calls in these threads, by their numbers (`gettid`).
    #[must_use]
    pub fn threads(mut self, threads: impl IntoIterator<Item = i32>) -> Self {
        self.threads = Some(threads.into_iter().collect());
        self
    }

    /// Wants all registers; functions that cannot give them are left out.
    #[must_use]
    pub fn save_regs(mut self) -> Self {
        self.flags = self.flags | Flags::SAVE_REGS;
        self
    }

    /// Wants all registers where they can be had.
    #[must_use]
    pub fn save_regs_if_supported(mut self) -> Self {
        self.flags = self.flags | Flags::SAVE_REGS_IF_SUPPORTED;
        self
    }

    /// Leaves out calls that a thread makes while it is in a guarded callback.
    #[must_use]
    pub fn guarded(mut self) -> Self {
        self.flags = self.flags | Flags::RECURSION;
        self
    }

    /// While enabled, tracing cannot be switched off as a whole.
    #[must_use]
    pub fn permanent(mut self) -> Self {
        self.flags = self.flags | Flags::PERMANENT;
        self
    }

    /// Registered, but not begun.
    #[must_use]
    pub fn disabled(mut self) -> Self {
        self.enabled = false;
        self
    }
}

/// What is handed from entry to exit.
mod scratch {
    use crate::exits::Scratch;

    pub(super) fn put<T: Copy + Send + 'static>(scratch: &mut Scratch, value: T) {
        const { assert!(size_of::<T>() <= size_of::<Scratch>()) };
        // SAFETY: it is large enough; nothing is said of its alignment.
        unsafe { std::ptr::from_mut(scratch).cast::<T>().write_unaligned(value) };
    }

    pub(super) fn get<T: Copy + Send + 'static>(scratch: &Scratch) -> T {
        // SAFETY: `put` has written one, or the exit would not be seen.
        unsafe { std::ptr::from_ref(scratch).cast::<T>().read_unaligned() }
    }
}
