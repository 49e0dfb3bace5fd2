//! What is looked at from outside, before anything is done.

use crate::error::InjectError;
use sledge_discover::maps::{self, Mapping};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// A line of `/proc/PID/status`.
#[must_use]
pub fn status_field(pid: i32, name: &str) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.map(|value| value.trim().to_owned())
}

/// What `/proc/PID/status` says of a process that matters here.
#[derive(Clone, Debug)]
pub struct Status {
    /// Who traces it, 0 for nobody.
    pub tracer: i32,
    /// 0 without seccomp, 1 strict, 2 filters.
    pub seccomp: u32,
    /// Kilobytes locked in memory.
    pub locked: u64,
    /// Its threads.
    pub threads: u64,
    /// Features of user-space shadow stacks.
    pub shadow_stack: bool,
}

impl Status {
    /// Reads it.
    ///
    /// # Errors
    /// When there is no such process.
    pub fn of(pid: i32) -> Result<Self, InjectError> {
        let text = fs::read_to_string(format!("/proc/{pid}/status"));
        let text = text.map_err(|_| InjectError::Gone(pid))?;
        let field = |name: &str| {
            let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            value.and_then(|value| value.split_whitespace().next()).unwrap_or("")
        };
        if field("State").starts_with(['Z', 'X']) {
            return Err(InjectError::Gone(pid));
        }
        Ok(Self {
            tracer: field("TracerPid").parse().unwrap_or(0),
            seccomp: field("Seccomp").parse().unwrap_or(0),
            locked: field("VmLck").parse().unwrap_or(0),
            threads: field("Threads").parse().unwrap_or(0),
            shadow_stack: text
                .lines()
                .any(|line| line.starts_with("x86_Thread_features:") && line.contains("shstk")),
        })
    }
}

/// A process from outside.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) pid: i32,
    pub(crate) memory: File,
    /// Address of a `syscall` instruction.
    pub(crate) gate: u64,
}

impl Target {
    /// Opens its memory and looks at it.
    pub(crate) fn open(pid: i32) -> Result<Self, InjectError> {
        let path = format!("/proc/{pid}/mem");
        let memory = File::options().read(true).write(true).open(path);
        let memory = memory.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => InjectError::Gone(pid),
            _ => InjectError::Denied(pid),
        })?;
        let gate = find_gate(pid, &memory).ok_or(InjectError::Refused {
            pid,
            why: "there is no system call instruction in it",
        })?;
        Ok(Self { pid, memory, gate })
    }

    /// Reads memory; `None` where it is not mapped.
    pub(crate) fn read<const N: usize>(&self, address: u64) -> Option<[u8; N]> {
        let mut bytes = [0; N];
        self.memory.read_exact_at(&mut bytes, address).ok()?;
        Some(bytes)
    }

    pub(crate) fn read_word(&self, address: u64) -> Option<u64> {
        self.read(address).map(u64::from_le_bytes)
    }

    /// Writes memory, whatever its protection.
    pub(crate) fn write(&self, address: u64, bytes: &[u8]) -> Result<(), InjectError> {
        let failed = InjectError::system("writing the memory of the process");
        self.memory.write_all_at(bytes, address).map_err(failed)
    }
}

/// What a process has mapped.
pub(crate) fn mappings(pid: i32) -> Result<Vec<Mapping>, InjectError> {
    let text =
        fs::read_to_string(format!("/proc/{pid}/maps")).map_err(|_| InjectError::Gone(pid))?;
    Ok(maps::parse(&text))
}

/// Finds a `syscall` instruction: in the vDSO, or in any code.
fn find_gate(pid: i32, memory: &File) -> Option<u64> {
    const MOST: u64 = 4 << 20;
    const SYSCALL: [u8; 2] = [0x0f, 0x05];
    let mut places = mappings(pid).ok()?;
    places.retain(|mapping| mapping.execute && mapping.read);
    places.retain(|mapping| mapping.path != Path::new("[vsyscall]"));
    places.sort_by_key(|mapping| mapping.path != Path::new("[vdso]"));
    places.iter().find_map(|mapping| {
        let length = (mapping.end - mapping.start).min(MOST);
        let mut bytes = vec![0; usize::try_from(length).ok()?];
        memory.read_exact_at(&mut bytes, mapping.start).ok()?;
        let found = bytes.windows(2).position(|pair| pair == SYSCALL)?;
        Some(mapping.start + found as u64)
    })
}
