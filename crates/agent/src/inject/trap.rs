//! Sends on the threads that trap in a site, while bytes change or because an old instruction began
//! there.
//!
//! `int3` raises `SIGTRAP` with the instruction pointer behind it, the undefined bytes raise
//! `SIGILL` with it at them. What is not ours goes to the program's own handler as the kernel would
//! have sent it, with two differences: `SIGTRAP` and `SIGILL` stay unblocked in it, since code that
//! it calls may be patched, and where a thread has an alternate signal stack it runs there.

use super::system::{self, Errno};
use core::arch::naked_asm;
use core::sync::atomic::{AtomicU64, Ordering};
use sledge_wire::attach::{LONGEST, NOWHERE, RESCUED, Rescue};

/// Address of the table: the number of sites, then from the 32nd byte on the sites.
static TABLE: AtomicU64 = AtomicU64::new(0);

const SIGNALS: [u64; 2] = [SIGTRAP, SIGILL];
const SIGTRAP: u64 = 5;
const SIGILL: u64 = 4;
const TRAPS: u64 = 1 << (SIGTRAP - 1) | 1 << (SIGILL - 1);
/// `si_code` of an `int3`, and of an undefined instruction.
const SI_KERNEL: i32 = 0x80;
const ILL_ILLOPN: i32 = 2;

const SA_SIGINFO: u64 = 4;
const SA_ONSTACK: u64 = 0x0800_0000;
const SA_RESTART: u64 = 0x1000_0000;
const SA_RESTORER: u64 = 0x0400_0000;
const SA_NODEFER: u64 = 0x4000_0000;
const SA_RESETHAND: u64 = 0x8000_0000;

/// The kernel's `struct sigaction`.
#[derive(Clone, Copy)]
#[repr(C)]
struct Action {
    handler: u64,
    flags: u64,
    restorer: u64,
    mask: u64,
}

/// What the program wants done with one of our signals, field by field.
struct Program {
    handler: AtomicU64,
    flags: AtomicU64,
    restorer: AtomicU64,
    mask: AtomicU64,
}

static PROGRAM: [Program; 2] = [const {
    Program {
        handler: AtomicU64::new(0),
        flags: AtomicU64::new(0),
        restorer: AtomicU64::new(0),
        mask: AtomicU64::new(0),
    }
}; 2];

impl Program {
    fn load(&self) -> Action {
        let get = |field: &AtomicU64| field.load(Ordering::SeqCst);
        Action {
            handler: get(&self.handler),
            flags: get(&self.flags),
            restorer: get(&self.restorer),
            mask: get(&self.mask),
        }
    }

    fn store(&self, action: &Action) {
        self.flags.store(action.flags, Ordering::SeqCst);
        self.restorer.store(action.restorer, Ordering::SeqCst);
        self.mask.store(action.mask, Ordering::SeqCst);
        self.handler.store(action.handler, Ordering::SeqCst);
    }
}

/// Threads that trap go on as the table at this address says. Earlier ones stay mapped: a handler
/// may hold one.
pub(crate) fn publish(address: u64) {
    TABLE.store(address, Ordering::SeqCst);
}

fn own_handler() -> u64 {
    (on_trap as *const ()).addr() as u64
}

/// Reads the action of a signal, and sets another if there is one.
fn action(signal: u64, new: Option<&Action>) -> Result<Action, Errno> {
    let mut old = Action { handler: 0, flags: 0, restorer: 0, mask: 0 };
    let new = new.map_or(0, |new| core::ptr::from_ref(new).addr() as u64);
    // SAFETY: reads the new action, writes the old one.
    unsafe { system::retrying(13, [signal, new, (&raw mut old).addr() as u64, 8, 0, 0]) }?;
    // SAFETY: the kernel wrote it behind the compiler's back.
    Ok(unsafe { (&raw const old).read_volatile() })
}

/// Puts our handlers in place, if they are not; what was there is chained to. Called again, it takes
/// in what the program has installed over ours.
pub(crate) fn install() -> Result<(), Errno> {
    for (signal, program) in SIGNALS.into_iter().zip(&PROGRAM) {
        let current = action(signal, None)?;
        if current.handler == own_handler() {
            continue;
        }
        program.store(&current);
        let flags = SA_SIGINFO | SA_ONSTACK | SA_RESTORER | (current.flags & SA_RESTART);
        let restorer = (restore as *const ()).addr() as u64;
        action(signal, Some(&Action { handler: own_handler(), flags, restorer, mask: u64::MAX }))?;
    }
    Ok(())
}

/// Puts the program's actions back where ours still are.
pub(crate) fn remove() -> Result<(), Errno> {
    for (signal, program) in SIGNALS.into_iter().zip(&PROGRAM) {
        if action(signal, None)?.handler == own_handler() {
            action(signal, Some(&program.load()))?;
        }
    }
    Ok(())
}

#[unsafe(naked)]
unsafe extern "C" fn restore() {
    naked_asm!("mov rax, 15", "syscall")
}

/// The kernel's `siginfo_t`, as far as we look.
#[repr(C)]
struct Info {
    signal: i32,
    errno: i32,
    code: i32,
}

/// Where in the context that the kernel passes a handler the instruction pointer, the link and the
/// signal mask lie.
const CONTEXT_RIP: usize = 40 + 16 * 8;
const CONTEXT_LINK: usize = 8;
const CONTEXT_MASK: usize = 296;

/// The handler of both signals.
///
/// # Safety
/// Called by the kernel.
unsafe extern "C" fn on_trap(signal: i32, info: *mut Info, context: *mut u8) {
    let is_trap = signal as u64 == SIGTRAP;
    // SAFETY: the kernel passes both, and nobody else refers to them.
    unsafe {
        let pointer = context.add(CONTEXT_RIP).cast::<u64>();
        let behind = u64::from(is_trap);
        // Sent by somebody, or a debugger's: the address says nothing then.
        if (*info).code == if is_trap { SI_KERNEL } else { ILL_ILLOPN } {
            let next = continuation((*pointer).wrapping_sub(behind));
            if next != 0 {
                *pointer = next;
                context.add(CONTEXT_LINK).cast::<u64>().write(RESCUED);
                return;
            }
        }
        chain(signal as u64, info, context);
    }
}

/// Where a thread that trapped at an address goes on; 0 if that is none of ours.
fn continuation(address: u64) -> u64 {
    let table = TABLE.load(Ordering::SeqCst);
    if table == 0 {
        return 0;
    }
    // SAFETY: a published table: it is never changed, and stays mapped.
    let sites = unsafe {
        let count = *(table as *const u64) as usize;
        core::slice::from_raw_parts((table + 32) as *const Rescue, count)
    };
    let behind = sites.partition_point(|site| site.address <= address);
    let Some(site) = behind.checked_sub(1).and_then(|at| sites.get(at)) else { return 0 };
    match address - site.address {
        0 => site.entry,
        offset if offset < LONGEST => match site.inner.get(offset as usize) {
            Some(&inner) if inner != NOWHERE => site.body + u64::from(inner),
            _ => 0,
        },
        _ => 0,
    }
}

/// Does what the kernel would have done without us.
///
/// # Safety
/// `info` and `context` are the kernel's.
unsafe fn chain(signal: u64, info: *mut Info, context: *mut u8) {
    let [traps, undefined] = &PROGRAM;
    let program = if signal == SIGTRAP { traps } else { undefined };
    let action = program.load();
    // SAFETY: the caller's promise.
    let forced = unsafe { (*info).code } > 0;
    if action.handler == 1 && !forced {
        return;
    }
    // The kernel does not let a trap be ignored.
    if action.handler <= 1 {
        // SAFETY: the caller's promise.
        unsafe { die(signal, info) };
        return;
    }
    if action.flags & SA_RESETHAND != 0 {
        program.handler.store(0, Ordering::SeqCst);
    }
    let own = if action.flags & SA_NODEFER == 0 { 1 << (signal - 1) } else { 0 };
    // SAFETY: the mask that the kernel will restore; the handler is the program's own, and with or
    // without `SA_SIGINFO` the kernel passes all three.
    unsafe {
        let before = context.add(CONTEXT_MASK).cast::<u64>().read_unaligned();
        let mask = before | ((action.mask | own) & !TRAPS);
        system::call(14, [2, (&raw const mask).addr() as u64, 0, 8, 0, 0]);
        let handler: extern "C" fn(u64, *mut Info, *mut u8) = core::mem::transmute(action.handler);
        handler(signal, info, context);
    }
}

/// The default action: sends the signal, as it came, to this thread again, without handler. It is
/// blocked here, and comes when the handler returns, with the context it came with.
///
/// # Safety
/// `info` is the kernel's.
unsafe fn die(signal: u64, info: *mut Info) {
    let default = Action { handler: 0, flags: 0, restorer: 0, mask: 0 };
    let _ = action(signal, Some(&default));
    let (process, thread) = (u64::from(system::process_id()), u64::from(system::thread_id()));
    // SAFETY: the kernel reads the information.
    unsafe { system::call(297, [process, thread, signal, info.addr() as u64, 0, 0]) };
}
