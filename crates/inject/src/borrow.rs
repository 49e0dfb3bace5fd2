//! Borrows a thread by ptrace, makes system calls on it, and gives it back as it was.
//!
//! All calls must come from one thread of ours, and a thread of ours that ends lets go of what it
//! traces without stopping it: so a borrowing that hangs is ended by ending its thread.

use crate::error::InjectError;
use crate::target::Target;
use crate::victim::{STARTS_AGAIN, candidates};
use nix::errno::Errno;
use nix::libc::{self, iovec, siginfo_t, user_regs_struct};
use std::io;
use std::time::{Duration, Instant};

const PTRACE_SEIZE: u32 = 0x4206;
const PTRACE_INTERRUPT: u32 = 0x4207;
const PTRACE_GETSIGMASK: u32 = 0x420a;
const PTRACE_SETSIGMASK: u32 = 0x420b;
const PTRACE_GET_RSEQ_CONFIGURATION: u32 = 0x420f;
const NT_PRSTATUS: usize = 1;
const NT_X86_XSTATE: usize = 0x202;
const TRACESYSGOOD: usize = 1;
const EVENT_STOP: i32 = 128;
const SYSCALL_STOP: i32 = libc::SIGTRAP | 0x80;
/// What a system call returns that is to be started again unless a handler runs: then `EINTR`.
const RESTART_NO_HANDLER: u64 = (-514_i64).cast_unsigned();
const NO_CALL: u64 = u64::MAX;

/// How long a thread may take to stop. From then on it is waited for as long as it lives: to let go of
/// it in the middle would be its end, and on a busy machine it may not get a processor for long.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long the choice of a thread may take in all.
const CHOICE: Duration = Duration::from_secs(3);
/// Looks without sleeping, and with short sleeps.
const EAGER_LOOKS: u32 = 200;
const QUICK_LOOKS: u32 = 10_000;

fn ptrace(request: u32, tid: i32, address: usize, data: usize) -> Result<i64, Errno> {
    // SAFETY: each caller passes what its request reads or writes.
    Errno::result(unsafe { libc::ptrace(request, tid, address, data) })
}

/// A thread of the target that stands still.
#[derive(Debug)]
pub(crate) struct Borrowed<'a> {
    target: &'a Target,
    pub(crate) tid: i32,
    saved: user_regs_struct,
    vectors: Vec<u8>,
    mask: u64,
    /// Signals that came meanwhile.
    held: Vec<siginfo_t>,
    /// The last stop was one in which the kernel looks at calls that are to start again.
    at_event: bool,
    /// As it was, or not changed yet.
    returned: bool,
    /// Whether it stands still as asked.
    taken: bool,
}

impl<'a> Borrowed<'a> {
    /// Takes the thread that minds least.
    pub(crate) fn take(target: &'a Target, but: Option<i32>) -> Result<Self, InjectError> {
        let begin = Instant::now();
        let mut denied = None;
        while begin.elapsed() < CHOICE {
            for tid in candidates(target.pid, but) {
                match Self::take_one(target, tid) {
                    Ok(Some(borrowed)) => return Ok(borrowed),
                    Ok(None) => {}
                    Err(error @ InjectError::NoThread(_)) => return Err(error),
                    Err(error) => denied = Some(error),
                }
            }
            if denied.is_some() {
                break;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Err(denied.unwrap_or(InjectError::NoThread(target.pid)))
    }

    /// `None` for a thread that ended.
    fn take_one(target: &'a Target, tid: i32) -> Result<Option<Self>, InjectError> {
        match ptrace(PTRACE_SEIZE, tid, 0, TRACESYSGOOD) {
            Ok(_) => {}
            Err(Errno::ESRCH) => return Ok(None),
            Err(_) => return Err(denied(target.pid)),
        }
        // SAFETY: zeroes are a valid value of it.
        let saved: user_regs_struct = unsafe { std::mem::zeroed() };
        let mut thread = Self {
            target,
            tid,
            saved,
            vectors: Vec::new(),
            mask: 0,
            held: Vec::new(),
            at_event: false,
            returned: true,
            taken: false,
        };
        thread.stop()?;
        thread.taken = true;
        match thread.keep() {
            Ok(()) => Ok(Some(thread)),
            Err(_) => Ok(None),
        }
    }

    fn stop(&mut self) -> Result<(), InjectError> {
        let hung = || InjectError::NoThread(self.target.pid);
        ptrace(PTRACE_INTERRUPT, self.tid, 0, 0).map_err(|_| hung())?;
        self.reach_event_stop(true).map_err(|_| hung())
    }

    /// Waits for a stop of the thread.
    fn wait(&mut self) -> Result<i32, Errno> {
        let begin = Instant::now();
        let mut looks = 0;
        loop {
            let mut status = 0;
            let flags = libc::__WALL | libc::WNOHANG;
            // SAFETY: writes the status.
            let waited = unsafe { libc::waitpid(self.tid, &raw mut status, flags) };
            match Errno::result(waited) {
                Ok(0) if !self.taken && begin.elapsed() > PATIENCE => {
                    return Err(Errno::ETIMEDOUT);
                }
                Ok(0) if looks < EAGER_LOOKS => std::thread::yield_now(),
                Ok(0) if looks < QUICK_LOOKS => std::thread::sleep(Duration::from_micros(30)),
                Ok(0) => std::thread::sleep(Duration::from_millis(2)),
                Ok(_) if libc::WIFSTOPPED(status) => return Ok(status),
                // It ended: there is nothing to give back.
                Ok(_) => {
                    self.returned = true;
                    return Err(Errno::ESRCH);
                }
                Err(Errno::EINTR) => {}
                Err(error) => return Err(error),
            }
            looks = looks.saturating_add(1);
        }
    }

    /// Waits for the stop that was asked for. A signal on its way is delivered first if `deliver`,
    /// else kept.
    fn reach_event_stop(&mut self, deliver: bool) -> Result<(), Errno> {
        loop {
            let status = self.wait()?;
            if status >> 16 == EVENT_STOP {
                self.at_event = true;
                return Ok(());
            }
            let signal = libc::WSTOPSIG(status);
            let pass = if signal != SYSCALL_STOP && deliver { signal } else { 0 };
            if signal != SYSCALL_STOP && !deliver {
                self.hold()?;
            }
            ptrace(libc::PTRACE_CONT, self.tid, 0, pass as usize)?;
        }
    }

    fn hold(&mut self) -> Result<(), Errno> {
        // SAFETY: zeroes are a valid value of it.
        let mut signal: siginfo_t = unsafe { std::mem::zeroed() };
        ptrace(libc::PTRACE_GETSIGINFO, self.tid, 0, (&raw mut signal).addr())?;
        self.held.push(signal);
        Ok(())
    }

    /// Notes all that a system call could change, and blocks signals.
    fn keep(&mut self) -> Result<(), Errno> {
        self.saved = self.registers()?;
        self.vectors = self.vector_state()?;
        ptrace(PTRACE_GETSIGMASK, self.tid, 8, (&raw mut self.mask).addr())?;
        let all = u64::MAX;
        ptrace(PTRACE_SETSIGMASK, self.tid, 8, (&raw const all).addr())?;
        self.returned = false;
        let call = self.saved.orig_rax;
        let interrupted = self.saved.rax.cast_signed() == i64::from(-libc::EINTR);
        if call.cast_signed() < 0 {
            self.abort_sequence();
        } else if interrupted && STARTS_AGAIN.contains(&call) {
            self.saved.rax = RESTART_NO_HANDLER;
        }
        Ok(())
    }

    /// A restartable sequence that the thread is in begins again: the kernel will not notice.
    fn abort_sequence(&mut self) {
        let mut configuration = [0_u64; 3];
        let at = configuration.as_mut_ptr().addr();
        let read = |address: u64| self.target.read_word(address);
        let known = ptrace(PTRACE_GET_RSEQ_CONFIGURATION, self.tid, 24, at);
        if known.is_err() || configuration[0] == 0 {
            return;
        }
        let sequence = read(configuration[0] + 8).filter(|&sequence| sequence != 0);
        let field = |offset: u64| read(sequence?.wrapping_add(offset));
        let (Some(start), Some(length), Some(abort)) = (field(8), field(16), field(24)) else {
            return;
        };
        if self.saved.rip.wrapping_sub(start) < length {
            self.saved.rip = abort;
        }
    }

    pub(crate) fn saved(&self) -> &user_regs_struct {
        &self.saved
    }

    fn registers(&self) -> Result<user_regs_struct, Errno> {
        // SAFETY: zeroes are a valid value of it.
        let mut registers: user_regs_struct = unsafe { std::mem::zeroed() };
        let length = size_of_val(&registers);
        let mut vector = iovec { iov_base: (&raw mut registers).cast(), iov_len: length };
        ptrace(libc::PTRACE_GETREGSET, self.tid, NT_PRSTATUS, (&raw mut vector).addr())?;
        Ok(registers)
    }

    fn set_registers(&self, registers: &user_regs_struct) -> Result<(), Errno> {
        let base = std::ptr::from_ref(registers).cast_mut().cast();
        let mut vector = iovec { iov_base: base, iov_len: size_of_val(registers) };
        ptrace(libc::PTRACE_SETREGSET, self.tid, NT_PRSTATUS, (&raw mut vector).addr()).map(drop)
    }

    fn vector_state(&self) -> Result<Vec<u8>, Errno> {
        let mut bytes = vec![0; 16 << 10];
        let mut vector = iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
        ptrace(libc::PTRACE_GETREGSET, self.tid, NT_X86_XSTATE, (&raw mut vector).addr())?;
        bytes.truncate(vector.iov_len);
        Ok(bytes)
    }

    /// Makes a system call in the thread.
    pub(crate) fn call(
        &mut self,
        what: &'static str,
        number: u64,
        arguments: [u64; 6],
    ) -> Result<u64, InjectError> {
        self.call_at(what, self.target.gate, number, arguments, |_| {})
    }

    /// Makes it at a `syscall` instruction of choice, with further registers as `with` sets them.
    pub(crate) fn call_at(
        &mut self,
        what: &'static str,
        gate: u64,
        number: u64,
        a: [u64; 6],
        with: impl FnOnce(&mut user_regs_struct),
    ) -> Result<u64, InjectError> {
        let pid = self.target.pid;
        let failed = |error: Errno| InjectError::Remote { pid, what, source: error.into() };
        let mut registers = self.saved;
        (registers.rip, registers.rax, registers.orig_rax) = (gate, number, NO_CALL);
        [registers.rdi, registers.rsi, registers.rdx] = [a[0], a[1], a[2]];
        [registers.r10, registers.r8, registers.r9] = [a[3], a[4], a[5]];
        with(&mut registers);
        self.set_registers(&registers).map_err(failed)?;
        for _ in 0..2 {
            self.reach_syscall_stop().map_err(failed)?;
        }
        let result = self.registers().map_err(failed)?.rax.cast_signed();
        if (-4095..0).contains(&result) {
            let source = io::Error::from_raw_os_error(-result as i32);
            return Err(InjectError::Remote { pid, what, source });
        }
        Ok(result.cast_unsigned())
    }

    /// To the next stop at a system call. Signals cannot be delivered meanwhile, but for `SIGSTOP`.
    fn reach_syscall_stop(&mut self) -> Result<(), Errno> {
        loop {
            ptrace(libc::PTRACE_SYSCALL, self.tid, 0, 0)?;
            let status = self.wait()?;
            self.at_event = false;
            if libc::WSTOPSIG(status) == SYSCALL_STOP {
                return Ok(());
            }
            if status >> 16 == 0 {
                self.hold()?;
            }
        }
    }

    /// Gives the thread back.
    pub(crate) fn give_back(mut self) -> Result<(), InjectError> {
        let returned = self.restore();
        returned.map_err(|error| InjectError::System {
            what: "giving a borrowed thread back",
            source: error.into(),
        })
    }

    /// The last stop must be one in which the kernel looks at calls that are to start again.
    fn restore(&mut self) -> Result<(), Errno> {
        if self.returned {
            return Ok(());
        }
        self.returned = true;
        if !self.at_event {
            let idle = user_regs_struct { orig_rax: NO_CALL, ..self.saved };
            self.set_registers(&idle)?;
            ptrace(PTRACE_INTERRUPT, self.tid, 0, 0)?;
            ptrace(libc::PTRACE_CONT, self.tid, 0, 0)?;
            self.reach_event_stop(false)?;
        }
        self.set_registers(&self.saved)?;
        // It can differ without user code having run, and is best left alone.
        if self.vector_state()? != self.vectors {
            let base = self.vectors.as_mut_ptr().cast();
            let mut vector = iovec { iov_base: base, iov_len: self.vectors.len() };
            ptrace(libc::PTRACE_SETREGSET, self.tid, NT_X86_XSTATE, (&raw mut vector).addr())?;
        }
        ptrace(PTRACE_SETSIGMASK, self.tid, 8, (&raw const self.mask).addr())?;
        for signal in &self.held {
            self.send_again(signal);
        }
        ptrace(libc::PTRACE_DETACH, self.tid, 0, 0).map(drop)
    }

    fn send_again(&self, signal: &siginfo_t) {
        let (pid, tid) = (self.target.pid, self.tid);
        // SAFETY: the signal as the kernel described it.
        unsafe {
            if signal.si_code <= 0 {
                let signal = (signal.si_signo, std::ptr::from_ref(signal));
                libc::syscall(libc::SYS_rt_tgsigqueueinfo, pid, tid, signal.0, signal.1);
            } else {
                libc::syscall(libc::SYS_tgkill, pid, tid, signal.si_signo);
            }
        }
    }
}

impl Drop for Borrowed<'_> {
    fn drop(&mut self) {
        // An error has been told already.
        let _ = self.restore();
    }
}

fn denied(pid: i32) -> InjectError {
    let tracer = crate::target::Status::of(pid).map_or(0, |status| status.tracer);
    if tracer == 0 { InjectError::Denied(pid) } else { InjectError::Traced { pid, tracer } }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Child, Command, Stdio};

    struct Sleeper(Child);

    impl Drop for Sleeper {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    const NANOSLEEP: u64 = 35;
    /// What the program waits in.
    const CLOCK_NANOSLEEP: &str = "230 ";

    /// On a busy machine a thread may not run for longer than anybody has patience.
    #[test]
    fn a_thread_is_not_let_go_of_in_the_middle_of_a_call() {
        let mut command = Command::new("sleep");
        command.arg("1000").stdout(Stdio::null()).stderr(Stdio::null());
        let mut sleeper = Sleeper(command.spawn().unwrap());
        let pid = sleeper.0.id().cast_signed();
        let asleep = || {
            let call = std::fs::read_to_string(format!("/proc/{pid}/syscall"));
            call.is_ok_and(|call| call.starts_with(CLOCK_NANOSLEEP))
        };
        while !asleep() {
            std::thread::sleep(Duration::from_millis(5));
        }
        let target = Target::open(pid).unwrap();
        let mut thread = Borrowed::take(&target, None).unwrap();
        // Below the red zone.
        let time = thread.saved().rsp - 1024;
        let longer = PATIENCE + Duration::from_millis(500);
        let words = [longer.as_secs(), u64::from(longer.subsec_nanos())];
        let bytes: Vec<u8> = words.into_iter().flat_map(u64::to_le_bytes).collect();
        target.write(time, &bytes).unwrap();
        let begin = Instant::now();
        assert_eq!(thread.call("sleep", NANOSLEEP, [time, 0, 0, 0, 0, 0]).unwrap(), 0);
        assert!(begin.elapsed() >= longer);
        thread.give_back().unwrap();
        std::thread::sleep(Duration::from_millis(50));
        assert_eq!(sleeper.0.try_wait().unwrap(), None, "it sleeps on");
    }
}
