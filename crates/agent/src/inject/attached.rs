//! The agent in a process that was running already: a thread of its own that carries out commands.
//!
//! Commands come through the shared segment (`sledge_wire::attach`), so that nothing stays open in
//! the process. Before the first one the thread gives up whatever rights it inherited: a process
//! that drops its privileges does not know of this thread. When the controller dies the thread puts
//! all original bytes back and ends.

use super::process::SETTINGS;
use super::system::{self, Errno};
use super::{change, known, process, ranges, slow, trap};
use core::arch::{global_asm, naked_asm};
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use sledge_wire::attach::{self, Order, State};
use sledge_wire::message::{Hello, Origin};
use sledge_wire::raw;

const STACK_BYTES: usize = 32 << 10;

#[repr(C, align(64))]
struct Stack(UnsafeCell<[u8; STACK_BYTES]>);
// SAFETY: used by our one thread.
unsafe impl Sync for Stack {}
static STACK: Stack = Stack(UnsafeCell::new([0; STACK_BYTES]));

/// Words through which generated code is switched.
struct Switches([AtomicU64; attach::SWITCHES]);
static SWITCHES: Switches = Switches([const { AtomicU64::new(0) }; attach::SWITCHES]);

// The descriptor is the distance from itself to the gate.
global_asm!(
    ".pushsection .note.sledge,\"a\",@note",
    ".p2align 2",
    ".long 7, 4, {kind}",
    ".asciz \"sledge\"; .p2align 2",
    ".long {gate} - .",
    ".popsection",
    kind = const raw::NOTE_THREAD,
    gate = sym gate,
);

/// Entered by a change of `rip`, to make the thread; only the new thread goes on behind the system
/// call. What it must know is in registers that a system call keeps: `rbx` and `rbp`, start and
/// length of what is to be writable; `r12` the segment, `r13` its rings, `r14` the bytes of each,
/// `r15` where a thread's id lies.
#[unsafe(naked)]
unsafe extern "C" fn gate() {
    naked_asm!(
        "syscall",
        "mov rdi, rbx",
        "mov rsi, rbp",
        "mov edx, 3",
        "mov eax, 10",
        "syscall",
        "test eax, eax",
        "jnz 2f",
        "lea rsp, [rip + {stack} + {bytes}]",
        "xor ebp, ebp",
        "cld",
        "mov rdi, r12",
        "mov rsi, r13",
        "mov rdx, r14",
        "mov rcx, r15",
        "call {run}",
        "2:",
        "xor edi, edi",
        "mov eax, 60",
        "syscall",
        "ud2",
        stack = sym STACK,
        bytes = const STACK_BYTES,
        run = sym run,
    )
}

fn half(offset: usize) -> &'static AtomicU32 {
    // SAFETY: in the header page of the mapped segment, aligned by its layout.
    unsafe { &*((SETTINGS.segment.load(Ordering::Relaxed) + offset as u64) as *const AtomicU32) }
}

fn word(offset: usize) -> &'static AtomicU64 {
    // SAFETY: as above.
    unsafe { &*((SETTINGS.segment.load(Ordering::Relaxed) + offset as u64) as *const AtomicU64) }
}

fn set_state(state: State) {
    half(attach::STATE).store(state as u32, Ordering::Release);
    system::futex_wake(half(attach::STATE).as_ptr().addr() as u64);
}

extern "C" fn run(segment: u64, rings: u64, ring_bytes: u64, tid_offset: u64) {
    SETTINGS.segment.store(segment, Ordering::Relaxed);
    known::use_table(tid_offset);
    if let Err(Errno(error)) = begin(segment, rings, ring_bytes) {
        word(attach::ERROR).store(error, Ordering::Relaxed);
        set_state(State::Failed);
        return;
    }
    // Before anybody knows that we are there: a command that comes at once must not be taken for one
    // that was carried out.
    let mut last = half(attach::COMMAND).load(Ordering::Acquire);
    half(attach::DONE).store(last, Ordering::Release);
    set_state(State::Ready);
    while let Some(number) = next_command(last) {
        last = number;
        let order = Order::from_word(word(attach::ORDER).load(Ordering::Acquire));
        let done = order.map_or(Err(Errno(22)), carry_out);
        let error = done.err().map_or(0, |Errno(error)| error);
        word(attach::ERROR).store(error, Ordering::Relaxed);
        half(attach::DONE).store(number, Ordering::Release);
        system::futex_wake(half(attach::DONE).as_ptr().addr() as u64);
        if order == Some(Order::Quit) {
            return;
        }
    }
    abandon();
}

/// What must be there before the first command.
fn begin(segment: u64, rings: u64, ring_bytes: u64) -> Result<(), Errno> {
    process::settle(segment, rings, ring_bytes)?;
    change::register()?;
    lock()?;
    let [cover, thread, full] = slow::entries();
    let hello = Hello {
        origin: Origin::Image,
        pid: system::process_id(),
        parent: 0,
        thunks: ranges::thunks(),
        relocated: ranges::relocated(),
        trampolines: ranges::trampolines(),
        slots: (&raw const slow::SLOTS).addr() as u64,
        tls_offset: 0,
        cover,
        thread,
        full,
        exec: slow::exec_entries(),
        probe: slow::probe_entry(),
    };
    for (index, value) in hello.to_words().into_iter().enumerate() {
        word(attach::HELLO + 8 * index).store(value, Ordering::Relaxed);
    }
    word(attach::TABLE).store(known::table(), Ordering::Relaxed);
    word(attach::SWITCHBOARD).store((&raw const SWITCHES).addr() as u64, Ordering::Relaxed);
    Ok(())
}

/// Waits for the next command; `None` when the controller died.
fn next_command(last: u32) -> Option<u32> {
    loop {
        let owner = half(attach::OWNER).load(Ordering::Acquire);
        let command = half(attach::COMMAND).load(Ordering::Acquire);
        if command != last {
            return Some(command);
        }
        if owner & attach::OWNER_DIED != 0 {
            return None;
        }
        wait_for_either(last, owner);
    }
}

/// Sleeps until there is a command, or the controller died.
fn wait_for_either(command: u32, owner: u32) {
    const FUTEX_WAITV: u64 = 449;
    const SIZE_U32: u64 = 2;
    let address = |offset: usize| half(offset).as_ptr().addr() as u64;
    let waits = [
        [u64::from(command), address(attach::COMMAND), SIZE_U32],
        [u64::from(owner), address(attach::OWNER), SIZE_U32],
    ];
    let waits_at = waits.as_ptr().addr() as u64;
    // SAFETY: reads the list and the two words.
    let result = unsafe { system::call(FUTEX_WAITV, [waits_at, 2, 0, 0, 0, 0]) };
    const ENOSYS: i64 = -38;
    const EPERM: i64 = -1;
    if matches!(result, ENOSYS | EPERM) {
        const TENTH_OF_A_SECOND: u64 = 100_000_000;
        system::futex_wait(address(attach::COMMAND), command, TENTH_OF_A_SECOND);
    }
}

fn carry_out(order: Order) -> Result<(), Errno> {
    let argument = |index: usize| word(attach::ARGUMENTS + 8 * index).load(Ordering::Relaxed);
    let (first, second) = (argument(0), argument(1));
    match order {
        Order::Map => map(first, second),
        Order::Unmap => {
            // SAFETY: the controller saw that no thread will come there again.
            unsafe { system::unmap(first, second) };
            Ok(())
        }
        Order::Store => {
            // SAFETY: one of our own words, named by the controller.
            unsafe { &*(first as *const AtomicU64) }.store(second, Ordering::SeqCst);
            Ok(())
        }
        Order::Rescues => {
            trap::publish(first);
            trap::install()
        }
        Order::Patch => {
            trap::install()?;
            change::change(first != 0, second)
        }
        Order::Barrier => change::barrier(),
        Order::Handlers => trap::remove(),
        Order::Quit => Ok(()),
        Order::Clean => {
            process::unmap();
            if first != 0 {
                slow::unmap_slots();
            }
            Ok(())
        }
    }
}

/// Maps private memory for generated code, under our name; it is written from outside.
fn map(address: u64, length: u64) -> Result<(), Errno> {
    let name = b"sledge\0".as_ptr().addr() as u64;
    const MFD_CLOEXEC: u64 = 1;
    // SAFETY: reads the name.
    let file = unsafe { system::retrying(319, [name, MFD_CLOEXEC, 0, 0, 0, 0]) }?;
    // SAFETY: changes a file of ours.
    let sized = unsafe { system::retrying(77, [file, length, 0, 0, 0, 0]) };
    let flags = system::MAP_PRIVATE | system::MAP_NORESERVE | system::MAP_FIXED_NOREPLACE;
    let protection = system::PROT_READ | system::PROT_EXEC;
    // SAFETY: fails where something is.
    let mapped = sized.and_then(|_| unsafe {
        system::map(address, length, protection, flags, file.cast_signed(), 0)
    });
    system::close(file);
    // A kernel that ignores the flag chose another place.
    if mapped? == address { Ok(()) } else { Err(Errno(17)) }
}

/// The controller died: original bytes go back, generated code stays for whom it may concern.
fn abandon() {
    process::close();
    // What cannot be undone still traps, and traps are handled as before.
    let _ = change::change(false, 0);
    for switch in [attach::SWITCH_ENTER, attach::SWITCH_ENTER_ONLY, attach::SWITCH_LEAVE] {
        let [now, quiet] = [switch, switch + attach::SWITCH_QUIET]
            .map(|index| SWITCHES.0.get(index).map_or(0, |word| word.load(Ordering::Relaxed)));
        if now != 0 && quiet != 0 {
            let _ = SWITCHES.0.get(switch).map(|word| word.store(quiet, Ordering::SeqCst));
        }
    }
    half(attach::STATE).store(State::Abandoned as u32, Ordering::Release);
}

#[repr(C)]
struct Filter {
    length: u16,
    code: u64,
}

/// Gives up all rights but those that commands need: a filter on our own thread's system calls.
fn lock() -> Result<(), Errno> {
    const PRCTL: u64 = 157;
    const CAPSET: u64 = 126;
    const SECCOMP: u64 = 317;
    const SCHED_SETSCHEDULER: u64 = 144;
    let header = [0x2008_0522u32, 0];
    let none = [0u32; 6];
    let policy = 0u64;
    let code = filter();
    let filter = Filter { length: code.len() as u16, code: code.as_ptr().addr() as u64 };
    let at = |address: usize| address as u64;
    // SAFETY: all concern this thread alone, and read what is named.
    unsafe {
        // The borrowed thread's real-time priority is not for us. A failure changes nothing.
        system::call(SCHED_SETSCHEDULER, [0, 0, at((&raw const policy).addr()), 0, 0, 0]);
        system::retrying(PRCTL, [38, 1, 0, 0, 0, 0])?;
        let capabilities = [at(header.as_ptr().addr()), at(none.as_ptr().addr()), 0, 0, 0, 0];
        system::retrying(CAPSET, capabilities)?;
        system::retrying(SECCOMP, [1, 0, at((&raw const filter).addr()), 0, 0, 0]).map(drop)
    }
}

/// What the thread may do: memory, futexes, barriers, signal handlers, its own signals.
const ALLOWED: [u32; 16] = [202, 449, 324, 9, 10, 11, 13, 14, 319, 77, 3, 60, 39, 186, 297, 15];
const FILTER_LENGTH: usize = ALLOWED.len() + 5;

fn filter() -> [u64; FILTER_LENGTH] {
    const LOAD: u16 = 0x20;
    const JUMP_EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    const ARCHITECTURE: u32 = 0xc000_003e;
    const NOT_PERMITTED: u32 = 0x0005_0001;
    const ALLOW: u32 = 0x7fff_0000;
    let instruction = |code: u16, yes: usize, no: usize, value: u32| {
        u64::from(code) | (yes as u64) << 16 | (no as u64) << 24 | u64::from(value) << 32
    };
    let mut code = [0; FILTER_LENGTH];
    let head = [
        instruction(LOAD, 0, 0, 4),
        instruction(JUMP_EQUAL, 0, ALLOWED.len() + 1, ARCHITECTURE),
        instruction(LOAD, 0, 0, 0),
    ];
    let checks = ALLOWED.iter().enumerate();
    let checks = checks.map(|(at, &number)| instruction(JUMP_EQUAL, ALLOWED.len() - at, 0, number));
    let tail = [instruction(RETURN, 0, 0, NOT_PERMITTED), instruction(RETURN, 0, 0, ALLOW)];
    let all = head.into_iter().chain(checks).chain(tail);
    code.iter_mut().zip(all).for_each(|(to, from)| *to = from);
    code
}
