//! The first code of ours in a new image, before any constructor of the program.

use super::environment::{self, Ours};
use super::socket::{Received, Socket};
use super::system::{self, Errno};
use super::{apply, process, ranges, slow, thread};
use sledge_wire::message::{Hello, Origin, Reply};

#[used]
#[unsafe(link_section = ".init_array")]
static START: unsafe extern "C" fn(u64, *mut *mut u8, *mut *mut u8) = start;

/// # Safety
/// The dynamic loader calls it, once. glibc passes `argc`, `argv` and `envp`; musl passes
/// nothing, so the arguments are believed only where they fit each other.
unsafe extern "C" fn start(argc: u64, argv: *mut *mut u8, envp: *mut *mut u8) {
    let expected = (argv.addr() as u64).wrapping_add(argc.wrapping_add(1).wrapping_mul(8));
    let passed = !argv.is_null() && argc < 1 << 24 && envp.addr() as u64 == expected;
    // SAFETY: the kernel says where it put them.
    let Some(envp) = (if passed { Some(envp) } else { unsafe { initial_environment() } }) else {
        return;
    };
    // SAFETY: the kernel's own layout, and the program has not run yet.
    unsafe { enter(envp) }
}

/// The environment in the stack that the kernel laid out: `argc`, the arguments, a null, and
/// then the environment begin where `/proc/self/stat` says that the stack does.
///
/// # Safety
/// The image is as new as it is when constructors run.
unsafe fn initial_environment() -> Option<*mut *mut u8> {
    const START_OF_STACK: usize = 25;
    let mut text = [0u8; 1024];
    let length = system::read_file(b"/proc/self/stat\0", &mut text)?;
    let text = text.get(..length)?;
    // The name may hold anything but ends with the last parenthesis.
    let fields = text.get(text.iter().rposition(|&byte| byte == b')')? + 2..)?;
    let field = fields.split(|&byte| byte == b' ').nth(START_OF_STACK)?;
    let digit = |value: u64, byte: &u8| value * 10 + u64::from(byte.wrapping_sub(b'0'));
    let stack = field.iter().fold(0, digit) as *mut u64;
    // SAFETY: the kernel's word for it: there `argc` lies.
    let argc = unsafe { stack.as_ref() }?;
    Some(stack.wrapping_add(*argc as usize + 2).cast())
}

/// Looks for our variables in an environment, and goes to work if they are there.
///
/// # Safety
/// `environment` is a null-terminated array of zero-terminated strings that nobody else uses
/// now; the program has one thread, which runs none of its own code meanwhile.
pub(crate) unsafe fn enter(environment: *mut *mut u8) {
    // SAFETY: the caller's promise.
    let Some(ours) = (unsafe { environment::take(environment) }) else { return };
    // Whatever fails, the program runs as it is; the controller says what went wrong.
    let _ = arrange(ours);
}

fn arrange(ours: Ours) -> Result<(), Errno> {
    let socket = Socket::connect(ours.socket.as_bytes())?;
    // SAFETY: nothing is patched yet and there is one thread.
    unsafe { process::remember(ours) };
    let [cover, thread_entry, full] = slow::entries();
    let hello = Hello {
        origin: Origin::Image,
        pid: system::process_id(),
        parent: system::parent_id(),
        thunks: ranges::thunks(),
        relocated: ranges::relocated(),
        trampolines: ranges::trampolines(),
        slots: (&raw const slow::SLOTS).addr() as u64,
        tls_offset: thread::tls_offset(),
        cover,
        thread: thread_entry,
        full,
        exec: slow::exec_entries(),
        probe: slow::probe_entry(),
    };
    socket.send(&hello.to_words())?;
    let received = socket.receive()?;
    let result = carry_out(&socket, &received);
    for descriptor in received.descriptors.into_iter().filter(|&d| d >= 0) {
        system::close(descriptor as u64);
    }
    result
}

fn carry_out(socket: &Socket, received: &Received) -> Result<(), Errno> {
    let reply = Reply::from_words(received.words).ok_or(Errno(71))?;
    if !reply.accepted {
        return Ok(());
    }
    let [segment, code, plan] = received.descriptors;
    process::prepare(&reply, segment)?;
    let applied = apply::apply(plan, code, reply.steps);
    socket.send(&applied.to_words())?;
    socket.receive().map(drop)
}
