//! What lies in a trace buffer.

use crate::functions::FunctionId;
use crate::tracee::{ThreadId, Value};
use std::sync::Arc;

/// One entry of a trace buffer.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// In the time of the instance's clock.
    pub(crate) time: u64,
    pub(crate) who: Who,
    pub(crate) what: Content,
}

/// Whose entry it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    /// A thread of the traced process.
    Thread(ThreadId),
    /// Somebody who wrote into `trace_marker`.
    Writer(Arc<Writer>),
}

/// A thread of any process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Writer {
    /// Its id.
    pub tid: u32,
    /// Its process.
    pub tgid: u32,
    /// Its name.
    pub comm: String,
}

#[derive(Clone, Debug)]
pub(crate) enum Content {
    Function {
        function: FunctionId,
        parent: u64,
    },
    GraphEntry {
        function: FunctionId,
        depth: u16,
    },
    GraphReturn {
        function: FunctionId,
        depth: u16,
        duration: u64,
        value: Option<u64>,
    },
    /// `trace_marker`.
    Print(Arc<[u8]>),
    /// `trace_marker_raw`: a number and bytes.
    Raw(u32, Arc<[u8]>),
    /// Functions, the innermost first.
    Stack(Arc<[u64]>),
    Event(Arc<Hit>),
}

/// An event that was hit.
#[derive(Clone, Debug)]
pub(crate) struct Hit {
    pub(crate) event: crate::events::EventId,
    /// Where the probe lies.
    pub(crate) address: u64,
    /// For a return probe: where it returned to.
    pub(crate) parent: u64,
    pub(crate) is_return: bool,
    pub(crate) values: Box<[Value]>,
}

impl Entry {
    /// Bytes that it takes of the buffer: about what the kernel's own record takes.
    pub(crate) fn bytes(&self) -> usize {
        match &self.what {
            Content::Function { .. } | Content::GraphEntry { .. } => 28,
            Content::GraphReturn { .. } => 44,
            Content::Print(text) => 24 + text.len(),
            Content::Raw(_, bytes) => 16 + bytes.len(),
            Content::Stack(frames) => 20 + 8 * frames.len(),
            Content::Event(hit) => 24 + 8 * hit.values.len(),
        }
    }
}
