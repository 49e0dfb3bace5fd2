//! The bodies of all small blocks: definitions, clock readings, losses, ends.

use crate::event::{Function, Object, ObjectId, Outcome, Process, ProcessId, Thread, Ticks};
use crate::varint::{Fields, put, put_bytes, put_signed};
use crate::writer::Host;

/// Something that a block defines, numbered in order of appearance.
pub(crate) trait Entry: Sized {
    fn put(&self, out: &mut Vec<u8>);
    fn take(fields: &mut Fields<'_>) -> Option<Self>;
    /// Stands for an entry whose definition was damaged.
    fn unknown() -> Self;
}

impl Entry for Object {
    fn put(&self, out: &mut Vec<u8>) {
        put_bytes(out, self.path.as_bytes());
        put_bytes(out, &self.build_id);
    }

    fn take(fields: &mut Fields<'_>) -> Option<Self> {
        Some(Self { path: fields.text()?, build_id: fields.bytes()?.to_vec() })
    }

    fn unknown() -> Self {
        Self { path: String::new(), build_id: Vec::new() }
    }
}

impl Entry for Function {
    fn put(&self, out: &mut Vec<u8>) {
        put(out, u64::from(self.object.0));
        put(out, self.address);
        put(out, self.size);
        put_bytes(out, self.name.as_bytes());
    }

    fn take(fields: &mut Fields<'_>) -> Option<Self> {
        Some(Self {
            object: ObjectId(fields.number32()?),
            address: fields.number()?,
            size: fields.number()?,
            name: fields.text()?,
        })
    }

    fn unknown() -> Self {
        Self { object: ObjectId(0), address: 0, size: 0, name: String::new() }
    }
}

impl Entry for Process {
    fn put(&self, out: &mut Vec<u8>) {
        put(out, u64::from(self.pid));
        put(out, self.parent.map_or(0, |parent| u64::from(parent.0) + 1));
        put_bytes(out, self.executable.as_bytes());
        put(out, self.arguments.len() as u64);
        for argument in &self.arguments {
            put_bytes(out, argument.as_bytes());
        }
    }

    fn take(fields: &mut Fields<'_>) -> Option<Self> {
        let pid = fields.number32()?;
        let parent = match fields.number()? {
            0 => None,
            after => Some(ProcessId((after - 1).try_into().ok()?)),
        };
        let executable = fields.text()?;
        let count = fields.number()?;
        let arguments = (0..count).map(|_| fields.text()).collect::<Option<_>>()?;
        Some(Self { pid, parent, executable, arguments })
    }

    fn unknown() -> Self {
        Self { pid: 0, parent: None, executable: String::new(), arguments: Vec::new() }
    }
}

/// A thread and when it was first seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Started {
    pub(crate) thread: Thread,
    pub(crate) at: Ticks,
}

impl Entry for Started {
    fn put(&self, out: &mut Vec<u8>) {
        put(out, u64::from(self.thread.process.0));
        put(out, u64::from(self.thread.tid));
        put_bytes(out, self.thread.name.as_bytes());
        put(out, self.at.0);
    }

    fn take(fields: &mut Fields<'_>) -> Option<Self> {
        let process = ProcessId(fields.number32()?);
        let tid = fields.number32()?;
        let thread = Thread { process, tid, name: fields.text()? };
        Some(Self { thread, at: Ticks(fields.number()?) })
    }

    fn unknown() -> Self {
        let thread = Thread { process: ProcessId(0), tid: 0, name: String::new() };
        Self { thread, at: Ticks(u64::MAX) }
    }
}

pub(crate) fn put_host(out: &mut Vec<u8>, host: &Host) {
    put(out, host.ticks_per_second);
    put(out, host.began);
    for text in [&host.name, &host.kernel, &host.processor] {
        put_bytes(out, text.as_bytes());
    }
}

pub(crate) fn take_host(fields: &mut Fields<'_>) -> Option<Host> {
    Some(Host {
        ticks_per_second: fields.number()?,
        began: fields.number()?,
        name: fields.text()?,
        kernel: fields.text()?,
        processor: fields.text()?,
    })
}

pub(crate) fn put_outcome(out: &mut Vec<u8>, outcome: Outcome) {
    let (kind, value) = match outcome {
        Outcome::Exited(status) => (0, status),
        Outcome::Killed(signal) => (1, signal),
        Outcome::Running => (2, 0),
    };
    out.push(kind);
    put_signed(out, i64::from(value));
}

pub(crate) fn take_outcome(fields: &mut Fields<'_>) -> Option<Outcome> {
    let kind = fields.number()?;
    let value = i32::try_from(fields.signed()?).ok()?;
    match kind {
        0 => Some(Outcome::Exited(value)),
        1 => Some(Outcome::Killed(value)),
        2 => Some(Outcome::Running),
        _ => None,
    }
}
