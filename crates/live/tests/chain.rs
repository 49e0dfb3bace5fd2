//! What is not ours goes to the program as the kernel would have sent it. Each case runs in a
//! process of its own: actions of signals belong to the process, and some cases end it.

use nix::libc;
use sledge_live::memory::OwnMemory;
use sledge_live::process::OwnProcess;
use sledge_live::trap;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicI32, AtomicU32, AtomicU64, Ordering::SeqCst};

static RUNS: AtomicU32 = AtomicU32::new(0);
static POINTER: AtomicU64 = AtomicU64::new(0);
static BLOCKED: AtomicU64 = AtomicU64::new(0);

/// Runs one of the ignored tests below in a process of its own.
fn run(case: &str) -> ExitStatus {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--ignored", "--exact", case, "--test-threads=1"]);
    command.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap()
}

/// The process chains to this action from here on.
fn with(signal: i32, handler: usize, flags: i32, masked: Option<i32>) {
    // SAFETY: a valid action, and a valid set.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler;
        action.sa_flags = flags;
        if let Some(masked) = masked {
            libc::sigaddset(&raw mut action.sa_mask, masked);
        }
        assert_eq!(libc::sigaction(signal, &raw const action, std::ptr::null_mut()), 0);
    }
    assert!(OwnProcess::patcher(OwnMemory::new()).is_ok());
}

extern "C" fn plain(_: i32) {
    RUNS.fetch_add(1, SeqCst);
}

extern "C" fn informed(_: i32, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the kernel's, passed on; a set begins with 64 bits.
    unsafe {
        let context = &mut *context.cast::<libc::ucontext_t>();
        let pointer = &mut context.uc_mcontext.gregs[libc::REG_RIP as usize];
        POINTER.store(pointer.cast_unsigned(), SeqCst);
        if (*info).si_signo == libc::SIGILL {
            *pointer += 2;
        }
        let mut now: libc::sigset_t = std::mem::zeroed();
        libc::pthread_sigmask(libc::SIG_BLOCK, std::ptr::null(), &raw mut now);
        BLOCKED.store((&raw const now).cast::<u64>().read(), SeqCst);
    }
    RUNS.fetch_add(1, SeqCst);
}

fn breakpoint() {
    // SAFETY: whoever asks for it handles it.
    unsafe { std::arch::asm!("int3") }
}

/// Answers where it trapped.
fn undefined() -> u64 {
    let place: u64;
    // SAFETY: as above; the handler steps over its two bytes.
    unsafe { std::arch::asm!("lea {place}, [rip + 2f]", "2: ud2", place = out(reg) place) }
    place
}

fn raise(signal: i32) {
    // SAFETY: sends a signal to this thread.
    unsafe { libc::raise(signal) };
}

#[test]
fn without_a_handler_the_program_ends_by_the_same_signal() {
    assert_eq!(run("breakpoint_by_default").signal(), Some(libc::SIGTRAP));
    assert_eq!(run("undefined_by_default").signal(), Some(libc::SIGILL));
    assert_eq!(run("raised_by_default").signal(), Some(libc::SIGTRAP));
    assert_eq!(run("ignored_breakpoint").signal(), Some(libc::SIGTRAP));
}

#[test]
fn handlers_run_with_what_they_asked_for() {
    for case in
        ["plain_handler", "informed_handler", "ignored_signal", "once_only", "installed_later"]
    {
        assert!(run(case).success(), "{case}");
    }
}

#[test]
#[ignore = "a case"]
fn breakpoint_by_default() {
    with(libc::SIGTRAP, libc::SIG_DFL, 0, None);
    breakpoint();
}

#[test]
#[ignore = "a case"]
fn undefined_by_default() {
    with(libc::SIGILL, libc::SIG_DFL, 0, None);
    let _ = undefined();
}

#[test]
#[ignore = "a case"]
fn raised_by_default() {
    with(libc::SIGTRAP, libc::SIG_DFL, 0, None);
    raise(libc::SIGTRAP);
}

/// The kernel does not let a trap be ignored.
#[test]
#[ignore = "a case"]
fn ignored_breakpoint() {
    with(libc::SIGTRAP, libc::SIG_IGN, 0, None);
    breakpoint();
}

#[test]
#[ignore = "a case"]
fn ignored_signal() {
    with(libc::SIGTRAP, libc::SIG_IGN, 0, None);
    raise(libc::SIGTRAP);
    raise(libc::SIGTRAP);
}

#[test]
#[ignore = "a case"]
fn plain_handler() {
    with(libc::SIGTRAP, plain as *const () as usize, 0, None);
    breakpoint();
    raise(libc::SIGTRAP);
    assert_eq!(RUNS.load(SeqCst), 2);
}

#[test]
#[ignore = "a case"]
fn informed_handler() {
    let handler = informed as *const () as usize;
    with(libc::SIGILL, handler, libc::SA_SIGINFO, Some(libc::SIGUSR1));
    assert_eq!(undefined(), POINTER.load(SeqCst));
    assert_eq!(RUNS.load(SeqCst), 1);
    let blocked = BLOCKED.load(SeqCst);
    assert_ne!(blocked & 1 << (libc::SIGUSR1 - 1), 0, "its own mask");
    assert_eq!(blocked & 1 << (libc::SIGUSR2 - 1), 0, "not ours");
    assert_eq!(blocked & 1 << (libc::SIGTRAP - 1), 0, "it may call patched code");
    assert_eq!(trap::threads_with_traps_blocked().unwrap(), []);
}

#[test]
#[ignore = "a case"]
fn once_only() {
    with(libc::SIGTRAP, plain as *const () as usize, libc::SA_RESETHAND, None);
    breakpoint();
    assert_eq!(RUNS.load(SeqCst), 1);
    // SAFETY: the child does no more than trap.
    let child = unsafe { libc::fork() };
    if child == 0 {
        breakpoint();
        // SAFETY: ends the child.
        unsafe { libc::_exit(0) };
    }
    let mut status = 0;
    // SAFETY: waits for that child.
    unsafe { libc::waitpid(child, &raw mut status, 0) };
    assert!(libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGTRAP);
}

/// The program replaces our handler; the next batch takes it in.
#[test]
#[ignore = "a case"]
fn installed_later() {
    trap::install().unwrap();
    with(libc::SIGTRAP, plain as *const () as usize, 0, None);
    trap::install().unwrap();
    breakpoint();
    assert_eq!(RUNS.load(SeqCst), 1);
}

/// The thread of the next test, which may run beside others.
static BLOCKS_FOR_GOOD: AtomicI32 = AtomicI32::new(0);

#[test]
fn threads_that_block_traps_are_told() {
    let (tell, told) = std::sync::mpsc::channel();
    let (stop, wait) = std::sync::mpsc::channel::<()>();
    let thread = std::thread::spawn(move || {
        // SAFETY: a valid set, for this thread only.
        unsafe {
            let mut all: libc::sigset_t = std::mem::zeroed();
            libc::sigfillset(&raw mut all);
            BLOCKS_FOR_GOOD.store(libc::gettid(), SeqCst);
            libc::pthread_sigmask(libc::SIG_BLOCK, &raw const all, std::ptr::null_mut());
            tell.send(libc::gettid()).unwrap();
        }
        let _ = wait.recv();
    });
    let blocking = told.recv().unwrap();
    let found = trap::threads_with_traps_blocked().unwrap();
    assert!(found.contains(&trap::Blocking { thread: blocking, passing: false }), "{found:?}");
    drop(stop);
    thread.join().unwrap();
}

/// On its way out a thread blocks all signals: that is not the program's doing.
#[test]
fn threads_that_come_and_go_block_traps_in_passing_only() {
    let stop = std::sync::atomic::AtomicBool::new(false);
    let mut seen = 0;
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !stop.load(SeqCst) {
                    std::thread::spawn(|| ()).join().unwrap();
                }
            });
        }
        let until = std::time::Instant::now() + std::time::Duration::from_secs(20);
        while seen < 50 && std::time::Instant::now() < until {
            for blocking in trap::threads_with_traps_blocked().unwrap() {
                let known = blocking.thread == BLOCKS_FOR_GOOD.load(SeqCst);
                assert!(blocking.passing || known, "{blocking:?}");
                seen += u32::from(blocking.passing);
            }
        }
        stop.store(true, SeqCst);
    });
    assert!(seen > 0, "nobody was met: this test shows nothing");
}

/// A trap is handled by code that calls nothing but itself and the program's handler.
#[test]
fn the_handler_calls_nothing_that_could_be_patched() {
    use iced_x86::{Decoder, DecoderOptions, FlowControl, OpKind};
    let own = trap::own_code();
    let length = (own.end - own.start) as usize;
    // SAFETY: the section is mapped, and nobody writes it.
    let code = unsafe { std::slice::from_raw_parts(own.start as *const u8, length) };
    let (mut by_register, mut by_memory) = (0, 0);
    for instruction in Decoder::with_ip(64, code, own.start, DecoderOptions::NONE) {
        if instruction.flow_control() == FlowControl::IndirectCall {
            let memory = instruction.op0_kind() == OpKind::Memory;
            *(if memory { &mut by_memory } else { &mut by_register }) += 1;
        }
        if instruction.op0_kind() == OpKind::NearBranch64 {
            let target = instruction.near_branch64();
            assert!(own.contains(&target), "{:?} at {:#x}", instruction.code(), instruction.ip());
        }
    }
    assert!(length > 100);
    assert_eq!(by_register, 1, "the program's handler");
    // Checks of pointers that cannot fail, and are not there in a release.
    assert!(cfg!(debug_assertions) || by_memory == 0, "{by_memory} calls by way of tables");
}
