//! What agent and controller say to each other at launch, over a `SOCK_SEQPACKET` socket.
//!
//! Agent: [`Hello`]. Controller: [`Reply`] with descriptors (segment; for a new image also code
//! and plan). Agent, for a new image: [`Applied`] once the plan is carried out, then it waits
//! for one byte, closes the socket and lets the program run.

/// Environment variable that names the controller's socket.
pub const SOCKET_VARIABLE: &str = "SLEDGE_SOCKET";

/// Words of every message.
pub const MESSAGE_WORDS: usize = 16;
/// A message on the wire.
pub type Words = [u64; MESSAGE_WORDS];

/// Why a process says hello.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Origin {
    /// A new image: launched, or executed by a traced process.
    Image = 0,
    /// The child of a `fork`.
    Fork = 1,
}

/// The agent's first message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hello {
    /// Why it speaks.
    pub origin: Origin,
    /// Process id, and for a forked child its parent's.
    pub pid: u32,
    /// The parent's process id.
    pub parent: u32,
    /// Start of the range for thunks.
    pub thunks: u64,
    /// Start of the range for relocated prologues.
    pub relocated: u64,
    /// Start of the range for trampolines.
    pub trampolines: u64,
    /// Address of the slot table.
    pub slots: u64,
    /// Offset from the thread pointer to the agent's thread block.
    pub tls_offset: i64,
    /// Entry of the slow path that covers a stack with slots.
    pub cover: u64,
    /// Entry of the slow path that gives a thread its ring.
    pub thread: u64,
    /// Entry of the slow path for a full ring.
    pub full: u64,
    /// Entries of the code that completes the environment for `execve`, `fexecve`, `execveat`.
    pub exec: [u64; 3],
    /// Entry of the code that takes values for probes.
    pub probe: u64,
}

/// The controller's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Whether to trace at all.
    pub accepted: bool,
    /// Rings in the segment.
    pub ring_count: u32,
    /// Bytes of each.
    pub ring_bytes: u64,
    /// Steps in the plan.
    pub steps: u64,
    /// Whether forked children are traced.
    pub follow: bool,
}

/// How the plan went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Applied {
    /// Sites that are patched.
    pub patched: u64,
    /// Sites left alone because other bytes were found there.
    pub refused: u64,
    /// Index of the step that failed, and the (positive) error number; 0 when none did.
    pub failed_step: u64,
    /// The error number.
    pub error: u64,
}

/// One step of a plan, as it lies in the plan's descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Map a piece of the code descriptor, read-execute.
    Map {
        /// Where.
        address: u64,
        /// Bytes.
        length: u64,
        /// Offset in the descriptor.
        offset: u64,
        /// Over our own reservation (`MAP_FIXED`) or in free space (`MAP_FIXED_NOREPLACE`).
        reserved: bool,
    },
    /// Make pages writable for the patches that follow.
    Open {
        /// First page.
        address: u64,
        /// Bytes.
        length: u64,
    },
    /// Give the pages their protection back.
    Close {
        /// First page.
        address: u64,
        /// Bytes.
        length: u64,
        /// `PROT_*` bits they had.
        protection: u64,
    },
    /// Replace bytes, if they are what is expected.
    Patch {
        /// Where.
        address: u64,
        /// How many bytes, at most 8.
        length: u64,
        /// What must be there.
        expected: u64,
        /// What is written.
        replacement: u64,
    },
}

/// Words of a step.
pub const STEP_WORDS: usize = 8;
/// Word of a step in which the agent notes what became of it.
pub const STEP_RESULT: usize = 7;
/// Result: done.
pub const STEP_DONE: u64 = 1;
/// Result: other bytes were found (they are in word 6).
pub const STEP_REFUSED: u64 = 2;

impl Step {
    /// The step as words.
    #[must_use]
    pub const fn to_words(self) -> [u64; STEP_WORDS] {
        match self {
            Self::Map { address, length, offset, reserved } => {
                [1, address, length, offset, reserved as u64, 0, 0, 0]
            }
            Self::Open { address, length } => [2, address, length, 0, 0, 0, 0, 0],
            Self::Close { address, length, protection } => {
                [3, address, length, protection, 0, 0, 0, 0]
            }
            Self::Patch { address, length, expected, replacement } => {
                [4, address, length, expected, replacement, 0, 0, 0]
            }
        }
    }

    /// Reads a step; `None` for one that this version does not know.
    #[must_use]
    pub const fn from_words(words: [u64; STEP_WORDS]) -> Option<Self> {
        let [kind, address, length, a, b, ..] = words;
        Some(match kind {
            1 => Self::Map { address, length, offset: a, reserved: b != 0 },
            2 => Self::Open { address, length },
            3 => Self::Close { address, length, protection: a },
            4 => Self::Patch { address, length, expected: a, replacement: b },
            _ => return None,
        })
    }
}

impl Hello {
    /// The message as words.
    #[must_use]
    pub const fn to_words(self) -> Words {
        [
            crate::VERSION as u64,
            self.origin as u64,
            self.pid as u64,
            self.parent as u64,
            self.thunks,
            self.relocated,
            self.trampolines,
            self.slots,
            self.tls_offset.cast_unsigned(),
            self.cover,
            self.thread,
            self.full,
            self.exec[0],
            self.exec[1],
            self.exec[2],
            self.probe,
        ]
    }

    /// Reads the message; `None` from another version.
    #[must_use]
    pub const fn from_words(w: Words) -> Option<Self> {
        if w[0] != crate::VERSION as u64 {
            return None;
        }
        let origin = if w[1] == Origin::Image as u64 { Origin::Image } else { Origin::Fork };
        Some(Self {
            origin,
            pid: w[2] as u32,
            parent: w[3] as u32,
            thunks: w[4],
            relocated: w[5],
            trampolines: w[6],
            slots: w[7],
            tls_offset: w[8].cast_signed(),
            cover: w[9],
            thread: w[10],
            full: w[11],
            exec: [w[12], w[13], w[14]],
            probe: w[15],
        })
    }
}

impl Reply {
    /// The message as words.
    #[must_use]
    pub const fn to_words(self) -> Words {
        let mut w = [0; MESSAGE_WORDS];
        w[0] = crate::VERSION as u64;
        w[1] = self.accepted as u64;
        w[2] = self.ring_count as u64;
        w[3] = self.ring_bytes;
        w[4] = self.steps;
        w[5] = self.follow as u64;
        w
    }

    /// Reads the message; `None` from another version.
    #[must_use]
    pub const fn from_words(w: Words) -> Option<Self> {
        if w[0] != crate::VERSION as u64 {
            return None;
        }
        let (ring_count, ring_bytes) = (w[2] as u32, w[3]);
        Some(Self { accepted: w[1] != 0, ring_count, ring_bytes, steps: w[4], follow: w[5] != 0 })
    }
}

impl Applied {
    /// The message as words.
    #[must_use]
    pub const fn to_words(self) -> Words {
        let mut w = [0; MESSAGE_WORDS];
        w[0] = crate::VERSION as u64;
        w[1] = self.patched;
        w[2] = self.refused;
        w[3] = self.failed_step;
        w[4] = self.error;
        w
    }

    /// Reads the message; `None` from another version.
    #[must_use]
    pub const fn from_words(w: Words) -> Option<Self> {
        if w[0] != crate::VERSION as u64 {
            return None;
        }
        Some(Self { patched: w[1], refused: w[2], failed_step: w[3], error: w[4] })
    }
}
