//! A child under ptrace, for the few milliseconds before its own code begins.
//!
//! All calls must come from the thread that started the child. When the child ends, that is left
//! for others to collect.

use super::refuse;
use crate::error::ControlError;
use crate::signals;
use nix::errno::Errno;
use nix::libc::{self, user_regs_struct};
use nix::sys::ptrace::{self, Options};
use nix::unistd::Pid;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

/// The signal number of a stop at a system call (`PTRACE_O_TRACESYSGOOD`).
const SYSCALL_STOP: i32 = libc::SIGTRAP | 0x80;
/// Looks without sleeping, and the longest sleep between two looks.
const EAGER_LOOKS: u32 = 64;
const LONGEST_NAP: Duration = Duration::from_millis(1);

/// Why it stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// Before or after a system call.
    Syscall,
    /// A signal is to be delivered.
    Signal(i32),
    /// It has executed another program.
    Replaced,
}

/// How it goes on.
#[derive(Clone, Copy, Debug)]
pub(super) enum Resume {
    /// To the next stop at a system call.
    ToSyscall,
    /// To the next signal.
    Freely,
}

/// The child.
#[derive(Debug)]
pub(super) struct Tracee {
    pid: Pid,
    memory: File,
}

impl Tracee {
    /// Takes over a child that asked to be traced and executes its program.
    pub(super) fn meet(pid: i32) -> Result<Self, ControlError> {
        let failed = |source| ControlError::System { what: "opening the program's memory", source };
        wait(pid, None)?;
        let path = format!("/proc/{pid}/mem");
        let memory = OpenOptions::new().read(true).write(true).open(path).map_err(failed)?;
        let pid = Pid::from_raw(pid);
        let options = Options::PTRACE_O_TRACESYSGOOD
            | Options::PTRACE_O_TRACEEXEC
            | Options::PTRACE_O_EXITKILL;
        ptrace::setoptions(pid, options).map_err(ControlError::system("PTRACE_SETOPTIONS"))?;
        Ok(Self { pid, memory })
    }

    pub(super) fn registers(&self) -> Result<user_regs_struct, ControlError> {
        ptrace::getregs(self.pid).map_err(ControlError::system("PTRACE_GETREGS"))
    }

    pub(super) fn set_registers(&self, registers: user_regs_struct) -> Result<(), ControlError> {
        ptrace::setregs(self.pid, registers).map_err(ControlError::system("PTRACE_SETREGS"))
    }

    /// Lets it go on, with a signal to be delivered (0: none).
    pub(super) fn resume(&self, how: Resume, signal: i32) -> Result<(), ControlError> {
        let request = match how {
            Resume::ToSyscall => libc::PTRACE_SYSCALL,
            Resume::Freely => libc::PTRACE_CONT,
        };
        // SAFETY: the request touches no memory of ours. nix has no signals above 31.
        let result = unsafe { libc::ptrace(request, self.pid.as_raw(), 0, signal) };
        Errno::result(result).map(drop).map_err(ControlError::system("resuming the program"))
    }

    /// Waits for the next stop; `None` when the time is over.
    pub(super) fn wait(&self, at_most: Option<Duration>) -> Result<Option<Stop>, ControlError> {
        wait(self.pid.as_raw(), at_most)
    }

    /// Makes a system call in the child; `gate` is the address of a `syscall` instruction.
    pub(super) fn call(&self, gate: u64, number: u64, a: [u64; 6]) -> Result<u64, ControlError> {
        let mut registers = self.registers()?;
        registers.rip = gate;
        registers.rax = number;
        registers.orig_rax = u64::MAX;
        [registers.rdi, registers.rsi, registers.rdx] = [a[0], a[1], a[2]];
        [registers.r10, registers.r8, registers.r9] = [a[3], a[4], a[5]];
        self.set_registers(registers)?;
        self.to_syscall_stop()?;
        self.to_syscall_stop()?;
        let result = self.registers()?.rax.cast_signed();
        if (-4095..0).contains(&result) {
            let source = std::io::Error::from_raw_os_error(-result as i32);
            let what = "making room for the agent in the program";
            return Err(ControlError::System { what, source });
        }
        Ok(result.cast_unsigned())
    }

    fn to_syscall_stop(&self) -> Result<(), ControlError> {
        let mut signal = 0;
        loop {
            self.resume(Resume::ToSyscall, signal)?;
            match self.wait(None)? {
                Some(Stop::Signal(other)) => signal = other,
                _ => return Ok(()),
            }
        }
    }

    /// Lets it run to the stop at a system call that fits; `false` if that does not come.
    pub(super) fn run_to_syscall(
        &self,
        fits: impl Fn(&user_regs_struct) -> bool,
        most: u32,
        patience: Duration,
    ) -> Result<bool, ControlError> {
        let mut signal = 0;
        for _ in 0..most {
            self.resume(Resume::ToSyscall, signal)?;
            signal = match self.wait(Some(patience))? {
                Some(Stop::Syscall) if fits(&self.registers()?) => return Ok(true),
                Some(Stop::Syscall) => 0,
                Some(Stop::Signal(signal)) => signal,
                Some(Stop::Replaced) => return Ok(false),
                None => return self.halt().map(|()| false),
            };
        }
        Ok(false)
    }

    /// Stops it wherever it is.
    fn halt(&self) -> Result<(), ControlError> {
        // A failure means that it has ended, which `wait` tells.
        let _ = nix::sys::signal::kill(self.pid, nix::sys::signal::Signal::SIGSTOP);
        while self.wait(None)? != Some(Stop::Signal(libc::SIGSTOP)) {
            self.resume(Resume::Freely, 0)?;
        }
        Ok(())
    }

    /// Lets it go for good.
    pub(super) fn release(&self) -> Result<(), ControlError> {
        ptrace::detach(self.pid, None).map_err(ControlError::system("PTRACE_DETACH"))
    }

    /// Reads its memory; shorter where it is not mapped.
    pub(super) fn read(&self, address: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        let mut read = 0;
        while read < length {
            match self.memory.read_at(&mut bytes[read..], address.wrapping_add(read as u64)) {
                Ok(0) | Err(_) => break,
                Ok(count) => read += count,
            }
        }
        bytes.truncate(read);
        bytes
    }

    /// Writes its memory, whatever the protection.
    pub(super) fn write(&self, address: u64, bytes: &[u8]) -> Result<(), ControlError> {
        let failed = |source| ControlError::System { what: "writing the program's memory", source };
        self.memory.write_all_at(bytes, address).map_err(failed)
    }
}

/// Waits for a stop of a child; its end is noticed but not collected.
fn wait(pid: i32, at_most: Option<Duration>) -> Result<Option<Stop>, ControlError> {
    let begin = Instant::now();
    let mut looks = 0;
    loop {
        match look(pid)? {
            Some(stop) => return Ok(Some(stop)),
            None if at_most.is_some_and(|at_most| begin.elapsed() > at_most) => return Ok(None),
            None if looks < EAGER_LOOKS => std::thread::yield_now(),
            None => std::thread::sleep(LONGEST_NAP.min(begin.elapsed() / 8)),
        }
        signals::forward(pid);
        looks += 1;
    }
}

/// The stop of a child, if it has stopped.
fn look(pid: i32) -> Result<Option<Stop>, ControlError> {
    let id = pid.cast_unsigned();
    let flags = libc::WNOHANG | libc::WNOWAIT | libc::WEXITED | libc::WSTOPPED;
    // SAFETY: zeroes are a valid value of it.
    let mut seen: libc::siginfo_t = unsafe { std::mem::zeroed() };
    // SAFETY: writes what it saw.
    let result = unsafe { libc::waitid(libc::P_PID, id, &raw mut seen, flags) };
    match Errno::result(result) {
        Err(Errno::EINTR) => return Ok(None),
        other => other.map_err(ControlError::system("waiting for the program"))?,
    };
    // SAFETY: `waitid` filled in the fields of a child's change of state.
    if unsafe { seen.si_pid() } == 0 {
        return Ok(None);
    }
    if matches!(seen.si_code, libc::CLD_EXITED | libc::CLD_KILLED | libc::CLD_DUMPED) {
        return Err(refuse("it ended before the agent could be brought in"));
    }
    let mut status = 0;
    // SAFETY: writes the status.
    unsafe { libc::waitpid(pid, &raw mut status, libc::WNOHANG) };
    Ok(libc::WIFSTOPPED(status).then(|| match libc::WSTOPSIG(status) {
        _ if status >> 16 != 0 => Stop::Replaced,
        SYSCALL_STOP => Stop::Syscall,
        signal => Stop::Signal(signal),
    }))
}
