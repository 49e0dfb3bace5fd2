//! Sends on the threads that trap in a site.
//!
//! `int3` raises `SIGTRAP` with the instruction pointer behind it, the undefined bytes raise
//! `SIGILL` with it at them. The handler finds the address in a sorted table that is swapped
//! whole and never changed; it takes no lock and calls nothing. What is not ours goes to the
//! program's own handler as the kernel would have sent it, with two differences: `SIGTRAP` and
//! `SIGILL` stay unblocked in it, since code that it calls may be patched, and where a thread has
//! an alternate signal stack it runs there.

use crate::patch::Rescue;
use nix::libc;
use sledge_discover::site::PATCH_BYTES;
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicPtr, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

unsafe extern "C" {
    #[link_name = "__start_sledge_trap"]
    static OWN_CODE_START: u8;
    #[link_name = "__stop_sledge_trap"]
    static OWN_CODE_END: u8;
}

/// Code that runs while a trap is handled: patched, it would trap for ever.
#[must_use]
pub fn own_code() -> Range<u64> {
    (&raw const OWN_CODE_START).addr() as u64..(&raw const OWN_CODE_END).addr() as u64
}

/// What readers see: sorted by address, never changed.
struct Table {
    sites: *const Rescue,
    count: usize,
}

static TABLE: AtomicPtr<Table> = AtomicPtr::new(std::ptr::null_mut());
/// Handlers that may hold a table.
static READERS: AtomicUsize = AtomicUsize::new(0);
/// Tables that a handler may still hold.
static RETIRED: Mutex<Vec<Retired>> = Mutex::new(Vec::new());

struct Retired(*mut Table);

// SAFETY: owned by the list alone; the pointer is used again only to free it.
unsafe impl Send for Retired {}

/// Threads sent on: from a first byte, and from bytes behind one.
static RESCUED: [AtomicU64; 2] = [const { AtomicU64::new(0) }; 2];

/// How many threads have been sent on so far: at the first byte of a site, where they were about
/// to call, and at one behind it, where they were inside the displaced instructions.
#[must_use]
pub fn rescued() -> [u64; 2] {
    RESCUED.each_ref().map(|count| count.load(Ordering::Relaxed))
}

/// Replaces the table: sites sorted by address. Late traps of sites that are not in it any more
/// go to the program.
pub(crate) fn publish(sites: Vec<Rescue>) {
    let sites: &'static [Rescue] = Box::leak(sites.into_boxed_slice());
    let table = Box::new(Table { sites: sites.as_ptr(), count: sites.len() });
    let mut retired = RETIRED.lock().unwrap_or_else(PoisonError::into_inner);
    let old = TABLE.swap(Box::into_raw(table), Ordering::SeqCst);
    if !old.is_null() {
        retired.push(Retired(old));
    }
    // A handler that comes from here on finds the new table: whoever has an old one is counted.
    if READERS.load(Ordering::SeqCst) == 0 {
        for Retired(table) in retired.drain(..) {
            // SAFETY: made by `Box::into_raw` above, out of `TABLE`, and no handler holds it; its
            // sites are a leaked boxed slice of that length.
            unsafe {
                let table = Box::from_raw(table);
                let sites = std::ptr::slice_from_raw_parts_mut(table.sites.cast_mut(), table.count);
                drop(Box::from_raw(sites));
            }
        }
    }
}

/// What the program wants done with one of our signals.
#[derive(Clone, Copy)]
struct Action {
    handler: usize,
    flags: libc::c_int,
    mask: u64,
}

/// The program's actions for `SIGTRAP` and `SIGILL`. Replaced ones are kept: a handler may hold
/// them, and they are few.
static PROGRAM: [AtomicPtr<Action>; 2] = [const { AtomicPtr::new(std::ptr::null_mut()) }; 2];
const SIGNALS: [libc::c_int; 2] = [libc::SIGTRAP, libc::SIGILL];

/// Puts our handlers in place, if they are not; what was there is chained to. Called again, it
/// takes in what the program has installed over ours.
///
/// # Errors
/// What the system says.
pub fn install() -> io::Result<()> {
    SIGNALS.iter().zip(&PROGRAM).try_for_each(|(&signal, program)| install_one(signal, program))
}

fn install_one(signal: libc::c_int, program: &AtomicPtr<Action>) -> io::Result<()> {
    let current = action(signal, None)?;
    let ours = on_trap as *const () as usize;
    if current.sa_sigaction == ours {
        return Ok(());
    }
    let saved = Action {
        handler: current.sa_sigaction,
        flags: current.sa_flags,
        mask: first_word(&current.sa_mask),
    };
    program.store(Box::into_raw(Box::new(saved)), Ordering::SeqCst);
    let mut new = current;
    new.sa_sigaction = ours;
    new.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | (current.sa_flags & libc::SA_RESTART);
    // Nothing may leave the handler by a jump while it counts as a reader.
    // Also the two signals of libc's own, which `sigfillset` leaves out: see `Blocking`.
    // SAFETY: a set is bits.
    unsafe { (&raw mut new.sa_mask).write_bytes(0xff, 1) };
    action(signal, Some(&new)).map(|_| ())
}

/// Reads the action of a signal, after a new one was set if there is one.
fn action(signal: libc::c_int, new: Option<&libc::sigaction>) -> io::Result<libc::sigaction> {
    let new = new.map_or(std::ptr::null(), std::ptr::from_ref);
    // SAFETY: all zeros is a valid action; the call reads `new` and writes `old`.
    let (old, result) = unsafe {
        let mut old: libc::sigaction = std::mem::zeroed();
        let result = libc::sigaction(signal, new, &raw mut old);
        (old, result)
    };
    if result == 0 { Ok(old) } else { Err(io::Error::last_os_error()) }
}

/// The signals that the kernel knows: 64.
fn first_word(set: &libc::sigset_t) -> u64 {
    // SAFETY: a set begins with the kernel's 64 bits.
    unsafe { std::ptr::from_ref(set).cast::<u64>().read() }
}

/// A thread that has `SIGTRAP` or `SIGILL` blocked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blocking {
    /// Its number.
    pub thread: i32,
    /// Only for a moment, however long that takes on a busy machine: signals are blocked that libc
    /// keeps from programs. It is libc that does so where it makes and ends threads and processes,
    /// or the handler of traps.
    pub passing: bool,
}

/// Threads that have `SIGTRAP` or `SIGILL` blocked now: one that runs into a site while its bytes
/// change is killed by the kernel, with the process.
///
/// # Errors
/// When the threads cannot be listed.
pub fn threads_with_traps_blocked() -> io::Result<Vec<Blocking>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc/self/task")? {
        let entry = entry?;
        // A thread may end at any time.
        let Ok(status) = std::fs::read_to_string(entry.path().join("status")) else { continue };
        let blocked = status.lines().find_map(|line| line.strip_prefix("SigBlk:"));
        let blocked = blocked.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
        let thread: Option<i32> = entry.file_name().to_str().and_then(|name| name.parse().ok());
        if let (Some(mask), Some(thread)) = (blocked.filter(|mask| mask & TRAPS != 0), thread) {
            found.push(Blocking { thread, passing: mask & LIBC_OWN != 0 });
        }
    }
    Ok(found)
}

/// The first real-time signals are libc's own, and not in any set that it makes for a program.
const LIBC_OWN: u64 = bit(32) | bit(33);
const TRAPS: u64 = bit(libc::SIGTRAP) | bit(libc::SIGILL);

const fn bit(signal: libc::c_int) -> u64 {
    1 << (signal - 1)
}

/// The handler of both signals.
#[unsafe(link_section = "sledge_trap")]
unsafe extern "C" fn on_trap(
    signal: libc::c_int,
    info: *mut libc::siginfo_t,
    context: *mut libc::c_void,
) {
    let context = context.cast::<libc::ucontext_t>();
    // SAFETY: the kernel passes both, and nobody else refers to them.
    unsafe {
        let pointer = (&raw mut (*context).uc_mcontext.gregs)
            .cast::<u64>()
            .wrapping_add(libc::REG_RIP as usize);
        let behind = if signal == libc::SIGTRAP { 1 } else { 0 };
        // Sent by somebody, or a debugger's: the address says nothing then.
        if (*info).si_code == if behind == 1 { SI_KERNEL } else { ILL_ILLOPN } {
            let next = continuation((*pointer).wrapping_sub(behind));
            if next != 0 {
                *pointer = next;
                return;
            }
        }
        chain(signal, info, context);
    }
}

/// `si_code` of an `int3`.
const SI_KERNEL: libc::c_int = 0x80;
/// `si_code` of an undefined instruction.
const ILL_ILLOPN: libc::c_int = 2;

/// Where a thread that trapped at an address goes on; 0 if that is none of ours.
#[unsafe(link_section = "sledge_trap")]
fn continuation(address: u64) -> u64 {
    READERS.fetch_add(1, Ordering::SeqCst);
    let table = TABLE.load(Ordering::SeqCst);
    let mut next = 0;
    if !table.is_null() {
        // SAFETY: a published table; it is not freed while this handler counts as a reader.
        next = unsafe { find((*table).sites, (*table).count, address) };
    }
    READERS.fetch_sub(1, Ordering::SeqCst);
    next
}

/// Searches sites that are sorted by address.
#[unsafe(link_section = "sledge_trap")]
unsafe fn find(sites: *const Rescue, count: usize, address: u64) -> u64 {
    let (mut low, mut high) = (0, count);
    // SAFETY: `low` and `high` stay within the sites; `offset` is checked.
    unsafe {
        while low < high {
            let middle = low.wrapping_add(high.wrapping_sub(low) >> 1);
            if (*sites.wrapping_add(middle)).address <= address {
                low = middle.wrapping_add(1);
            } else {
                high = middle;
            }
        }
        if low == 0 {
            return 0;
        }
        let site = sites.wrapping_add(low.wrapping_sub(1));
        let offset = address.wrapping_sub((*site).address);
        if offset == 0 {
            RESCUED[0].fetch_add(1, Ordering::Relaxed);
            return (*site).entry;
        }
        if offset >= PATCH_BYTES as u64 {
            return 0;
        }
        RESCUED[1].fetch_add(1, Ordering::Relaxed);
        *(&raw const (*site).inner).cast::<u64>().wrapping_add(offset as usize)
    }
}

/// Does what the kernel would have done without us.
#[unsafe(link_section = "sledge_trap")]
unsafe fn chain(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::ucontext_t) {
    let slot = (&raw const PROGRAM)
        .cast::<AtomicPtr<Action>>()
        .wrapping_add(if signal == libc::SIGTRAP { 0 } else { 1 });
    // SAFETY: one of two slots; actions are never freed; `info` and `context` are the kernel's.
    unsafe {
        let action = (*slot).load(Ordering::SeqCst);
        let handler = if action.is_null() { libc::SIG_DFL } else { (*action).handler };
        let forced = (*info).si_code > 0;
        if handler == libc::SIG_IGN && !forced {
            return;
        }
        // The kernel does not let a trap be ignored.
        if handler == libc::SIG_DFL || handler == libc::SIG_IGN {
            die(signal, info);
            return;
        }
        if (*action).flags & libc::SA_RESETHAND != 0 {
            (*slot).store(std::ptr::null_mut(), Ordering::SeqCst);
        }
        let own = if (*action).flags & libc::SA_NODEFER == 0 { bit(signal) } else { 0 };
        let before = (&raw const (*context).uc_sigmask).cast::<u64>().read_unaligned();
        let mask = before | (((*action).mask | own) & !TRAPS);
        system_call(
            libc::SYS_rt_sigprocmask,
            [libc::SIG_SETMASK as u64, (&raw const mask).addr() as u64, 0, 8],
        );
        // With or without `SA_SIGINFO`, the kernel passes all three.
        let handler: extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::ucontext_t) =
            std::mem::transmute(handler);
        handler(signal, info, context);
    }
}

/// The default action: sends the signal, as it came, to this thread again, without handler.
/// It is blocked here, and comes when the handler returns, with the context it came with.
#[unsafe(link_section = "sledge_trap")]
unsafe fn die(signal: libc::c_int, info: *mut libc::siginfo_t) {
    // What the kernel takes: handler, flags, restorer, mask.
    let default = [0_u64; 4];
    // SAFETY: the kernel reads the action and the information.
    unsafe {
        let action = (&raw const default).addr() as u64;
        system_call(libc::SYS_rt_sigaction, [signal as u64, action, 0, 8]);
        let process = system_call(libc::SYS_getpid, [0; 4]) as u64;
        let thread = system_call(libc::SYS_gettid, [0; 4]) as u64;
        let info = info.addr() as u64;
        system_call(libc::SYS_rt_tgsigqueueinfo, [process, thread, signal as u64, info]);
    }
}

/// Not by way of libc, whose functions may be patched; `errno` stays as it is.
#[unsafe(link_section = "sledge_trap")]
unsafe fn system_call(number: libc::c_long, arguments: [u64; 4]) -> i64 {
    let [first, second, third, fourth] = arguments;
    let result: i64;
    // SAFETY: the caller's arguments are valid for that call; a system call keeps all
    // registers but these.
    unsafe {
        std::arch::asm!(
            "syscall",
            inlateout("rax") number => result,
            in("rdi") first,
            in("rsi") second,
            in("rdx") third,
            in("r10") fourth,
            out("rcx") _,
            out("r11") _,
            options(nostack),
        );
    }
    result
}
