//! Brings the agent into a statically linked program, which has no loader to do it.
//!
//! The child is stopped before its first instruction. A region near it gets
//! * the agent's whole image, relocated here;
//! * a second table of program headers, to which the auxiliary vector is then pointed. It names
//!   the region as a loaded segment, so `dl_iterate_phdr` tells every unwinder of it;
//! * an index of the unwind rules of program and agent together;
//! * an initial image of thread-local storage that has room for the agent's word.
//!
//! Then the program runs until its C library has set the thread pointer; there its only thread is
//! sent through the agent's entry, which speaks with the controller as everywhere else.
//! Whatever is unusual about a program is a reason not to trace it.

mod program;
mod storage;
#[cfg(test)]
mod tests;
mod tracee;

use crate::error::ControlError;
use nix::libc::{SIGSTOP, user_regs_struct};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use program::Program;
use sledge_inject::Agent;
use sledge_inject::header::{self, Additions, HEADER_BYTES};
use sledge_inject::index::Index;
use sledge_wire::message::SOCKET_VARIABLE;
use sledge_wire::raw::{FINISHED, NOTE_ENTRY};
use std::ffi::OsStr;
use std::path::Path;
use std::time::Duration;
use storage::Storage;
use tracee::{Resume, Stop, Tracee};

const PAGE: u64 = 4096;
const MMAP: u64 = 9;
const MPROTECT: u64 = 10;
const PROT_READ: u64 = 1;
/// Private, anonymous, not reserved, at this address and nowhere else.
const MAP_FLAGS: u64 = 0x02 | 0x20 | 0x4000 | 0x10_0000;
/// A program that makes so many system calls, or none for so long, before it sets its thread
/// pointer never does.
const MOST_SYSCALLS: u32 = 4096;
const PATIENCE: Duration = Duration::from_secs(10);
/// What a function may use below its stack pointer.
const RED_ZONE: u64 = 128;

pub(crate) fn refuse(why: &'static str) -> ControlError {
    ControlError::Static(why)
}

/// Asks to be traced by the parent: to be called in a child before it executes its program.
pub(crate) fn ask_to_be_traced() -> std::io::Result<()> {
    nix::sys::ptrace::traceme().map_err(std::io::Error::from)
}

/// Brings the agent into a child that asked to be traced, and lets it go. Its controller must be
/// served by another thread meanwhile.
pub(crate) fn enter(
    pid: i32,
    agent: &[u8],
    socket: &Path,
    agent_path: &Path,
) -> Result<(), ControlError> {
    let (tracee, raw) = match prepare(pid, agent) {
        Ok(prepared) => prepared,
        Err(error) => {
            // Nothing of it has run; if it cannot be killed, it has ended.
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            return Err(error);
        }
    };
    let entered = raw.enter(&tracee, [(SOCKET_VARIABLE, socket), ("LD_PRELOAD", agent_path)]);
    let released = tracee.release();
    entered.and(released)
}

/// Loads the agent into a child that is about to execute its first instruction.
fn prepare(pid: i32, agent: &[u8]) -> Result<(Tracee, Raw), ControlError> {
    let agent = Agent::read(agent)?;
    let tracee = Tracee::meet(pid)?;
    let begin = tracee.registers()?;
    let raw = load(&tracee, pid, &agent)?;
    tracee.set_registers(begin)?;
    Ok((tracee, raw))
}

/// Whether a stop is that after a successful `arch_prctl(ARCH_SET_FS)`.
fn has_thread_pointer(registers: &user_regs_struct) -> bool {
    const ARCH_PRCTL: u64 = 158;
    const ARCH_SET_FS: u64 = 0x1002;
    registers.orig_rax == ARCH_PRCTL && registers.rdi == ARCH_SET_FS && registers.rax == 0
}

/// The agent in the child.
#[derive(Debug)]
struct Raw {
    entry: u64,
    bias: u64,
    storage: Storage,
    /// Where the initial image of thread-local storage lies, and what it is so far.
    storage_at: u64,
    storage_image: Vec<u8>,
}

/// Lays everything out and writes it into the child, which is stopped at its first instruction.
fn load(tracee: &Tracee, pid: i32, agent: &Agent<'_>) -> Result<Raw, ControlError> {
    let program = Program::look(tracee, pid)?;
    let bias = program.bias;
    let storage = Storage::of(&program.headers)?;
    let storage_image = initial_storage(tracee, bias, &storage)?;
    let own = program.index(tracee)?;
    // Table, index, storage; then the agent.
    let headers = header::second_count(&program.headers) * HEADER_BYTES;
    let rules = own.size() + agent.index(0)?.size();
    let front = headers + rules + storage_image.len() as u64 + 2 * PAGE;
    let front = front.next_multiple_of(PAGE);
    let bytes = front + agent.span();
    let base = program.room(bytes)?;
    let home = base + front;
    let index = own.join(agent.index(home)?);
    let index_at = base + headers;
    let storage_at = storage.place(index_at + index.size(), bias);
    let additions = Additions {
        bias,
        table: base,
        region: base..base + bytes,
        index: index_at..index_at + index.size(),
        storage: storage.header(storage_at),
    };
    let second = header::second(&program.headers, &additions);
    map(tracee, program.gate, base, bytes)?;
    tracee.write(base, &second.iter().flat_map(|header| header.to_bytes()).collect::<Vec<_>>())?;
    tracee.write(index_at, &written(&index, index_at)?)?;
    tracee.write(storage_at, &storage_image)?;
    for piece in agent.pieces(home, storage.word())? {
        tracee.write(piece.address, &piece.bytes)?;
    }
    for (pages, protection) in agent.protections() {
        let arguments = [home + pages.start, pages.end - pages.start, protection, 0, 0, 0];
        tracee.call(program.gate, MPROTECT, arguments)?;
    }
    program.point_to(tracee, base, second.len() as u64)?;
    Ok(Raw { entry: home + agent.entry(NOTE_ENTRY)?, bias, storage, storage_at, storage_image })
}

/// The initial image of thread-local storage, made from what the program's own is now.
fn initial_storage(tracee: &Tracee, bias: u64, storage: &Storage) -> Result<Vec<u8>, ControlError> {
    let original = storage.original();
    let length = (original.end - original.start) as usize;
    let original = tracee.read(bias.wrapping_add(original.start), length);
    if original.len() != length {
        return Err(refuse("its thread-local storage is not in its memory"));
    }
    Ok(storage.image(&original))
}

fn map(tracee: &Tracee, gate: u64, base: u64, bytes: u64) -> Result<(), ControlError> {
    let arguments = [base, bytes, PROT_READ, MAP_FLAGS, u64::MAX, 0];
    // A kernel that ignores the flag chose another place.
    match tracee.call(gate, MMAP, arguments)? {
        place if place == base => Ok(()),
        _ => Err(refuse("the room for the agent near it was taken")),
    }
}

fn written(index: &Index, at: u64) -> Result<Vec<u8>, ControlError> {
    index.to_bytes(at).ok_or_else(|| refuse("its unwind rules are too far apart"))
}

impl Raw {
    /// Lets the program run to where the agent can work, and has it work.
    fn enter(&self, tracee: &Tracee, variables: [(&str, &Path); 2]) -> Result<(), ControlError> {
        let arrived = tracee.run_to_syscall(has_thread_pointer, MOST_SYSCALLS, PATIENCE)?;
        if !arrived || !self.has_storage(tracee)? {
            return Err(refuse("its C library does not set up thread-local storage as usual"));
        }
        self.run(tracee, variables)
    }

    /// Whether the program's first thread has the storage that the second table describes.
    ///
    /// A position-independent program has relocated its own image meanwhile, and copied ours: what
    /// is in its image now goes to ours, and to the copy that the first thread has.
    fn has_storage(&self, tracee: &Tracee) -> Result<bool, ControlError> {
        let thread = tracee.registers()?.fs_base;
        let block = thread.wrapping_add_signed(self.storage.block());
        if tracee.read(block, self.storage_image.len()) != self.storage_image {
            return Ok(false);
        }
        let relocated = initial_storage(tracee, self.bias, &self.storage)?;
        if relocated != self.storage_image {
            tracee.write(self.storage_at, &relocated)?;
            tracee.write(block, &relocated)?;
        }
        Ok(true)
    }

    /// Sends the thread through the agent's entry and puts its registers back.
    fn run(&self, tracee: &Tracee, variables: [(&str, &Path); 2]) -> Result<(), ControlError> {
        let saved = tracee.registers()?;
        let texts = variables.map(|(name, path)| variable(name, path.as_os_str()));
        let length: usize = texts.iter().map(Vec::len).sum::<usize>() + 3 * 8;
        let at = (saved.rsp - RED_ZONE - length as u64) / 64 * 64;
        let second = at + 24 + texts[0].len() as u64;
        let array = [at + 24, second, 0].into_iter().flat_map(u64::to_le_bytes);
        let bytes: Vec<u8> = array.chain(texts.concat()).collect();
        tracee.write(at, &bytes)?;
        let mut registers = saved;
        registers.rip = self.entry;
        registers.rdi = at;
        registers.rsp = at;
        registers.orig_rax = u64::MAX;
        tracee.set_registers(registers)?;
        let mut signal = 0;
        loop {
            tracee.resume(Resume::Freely, signal)?;
            match tracee.wait(None)? {
                Some(Stop::Signal(SIGSTOP)) if tracee.registers()?.r15 == FINISHED => break,
                Some(Stop::Signal(other)) => signal = other,
                _ => signal = 0,
            }
        }
        tracee.set_registers(saved)
    }
}

/// `NAME=value`, zero-terminated.
fn variable(name: &str, value: &OsStr) -> Vec<u8> {
    [name.as_bytes(), b"=", value.as_encoded_bytes(), b"\0"].concat()
}
