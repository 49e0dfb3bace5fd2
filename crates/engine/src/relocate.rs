//! Relocate: the displaced first instructions of a function, rewritten to run elsewhere.
//!
//! The copy does what the original bytes did, to registers, flags and memory, wherever it lies.
//! Three differences can be seen by a program that looks: dead stack below `rsp - 112` (where a
//! scratch register is kept for the length of one instruction), `rcx` after a displaced `syscall`
//! (the kernel's return address), and the address in a signal frame. NOPs are left out.

mod branch;
mod buffer;
mod operand;
mod prologue;
mod red_zone;

use buffer::Buffer;
use iced_x86::{Code, FlowControl, Instruction, Mnemonic};
use prologue::Prologue;

/// In [`Relocated::map`]: the byte stands for no original instruction. Either a displaced call has
/// pushed its return address here, so that the stack is as at the callee's first instruction, or
/// the byte is a literal and never runs.
pub const AT_CALLEE: u8 = u8::MAX;

/// Displaced instructions, rewritten for another address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relocated {
    /// The code, with its literals behind it.
    pub code: Vec<u8>,
    /// For each byte of `code`: the offset of the original instruction whose unwind row holds
    /// while it runs, or [`AT_CALLEE`]. The jump back stands for the number of displaced bytes.
    pub map: Vec<u8>,
}

impl Relocated {
    /// Where in the code a thread goes on that stood at this offset in the original; `None` where
    /// nothing can stand. All state is the original's there.
    #[must_use]
    pub fn position(&self, offset: u8) -> Option<usize> {
        self.map.iter().position(|&mapped| mapped != AT_CALLEE && mapped >= offset)
    }
}

/// Why displaced bytes cannot run elsewhere. `offset` is the instruction's in them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RelocateError {
    /// No valid instruction.
    #[error("no valid instruction at +{offset}")]
    Undecodable {
        /// Where.
        offset: u8,
    },
    /// An instruction that has no equivalent elsewhere.
    #[error("the instruction at +{offset} cannot be moved")]
    Unmovable {
        /// Where.
        offset: u8,
    },
    /// `loop`, `jrcxz` and their kin.
    #[error("the counting branch at +{offset} cannot be moved")]
    CountingBranch {
        /// Where.
        offset: u8,
    },
    /// A call that would return into the displaced bytes.
    #[error("the call at +{offset} is not the last displaced instruction")]
    CallNotLast {
        /// Where.
        offset: u8,
    },
    /// A branch or call to the displaced bytes, but not to one of their instructions.
    #[error("the branch at +{offset} leads into the displaced bytes")]
    BranchIntoDisplaced {
        /// Where.
        offset: u8,
    },
    /// A far operand needs a scratch register, and its place in the red zone may be in use.
    #[error("no free red zone at +{offset} to keep a register in")]
    RedZoneInUse {
        /// Where.
        offset: u8,
    },
    /// A far operand of an instruction that moves the stack pointer.
    #[error("the instruction at +{offset} moves the stack pointer and has a far operand")]
    MovesStackPointer {
        /// Where.
        offset: u8,
    },
    /// More displaced bytes than a map can name.
    #[error("{bytes} displaced bytes are too many")]
    TooManyBytes {
        /// How many.
        bytes: usize,
    },
    /// The result is too long for its cell.
    #[error("the copy takes {needed} bytes, the cell holds {capacity}")]
    NoRoom {
        /// Bytes of the result.
        needed: usize,
        /// Bytes there are.
        capacity: usize,
    },
}

/// Rewrites `displaced`, which runs at address `original`, to run at `place` in at most `capacity`
/// bytes, and to go on at `resume`.
///
/// # Errors
/// When an instruction cannot be moved with exactly its effect, or the result is too long.
pub fn relocate(
    displaced: &[u8],
    original: u64,
    resume: u64,
    place: u64,
    capacity: usize,
) -> Result<Relocated, RelocateError> {
    if displaced.len() >= usize::from(AT_CALLEE) {
        return Err(RelocateError::TooManyBytes { bytes: displaced.len() });
    }
    let prologue = Prologue::decode(displaced, original, resume);
    let mut mover = Mover { prologue: &prologue, out: Buffer::new(place) };
    mover.run()?;
    mover.out.finish(capacity)
}

/// Whether execution goes on behind an instruction.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Flow {
    Continues,
    Ends,
}

/// Moves one prologue.
struct Mover<'a> {
    prologue: &'a Prologue<'a>,
    out: Buffer,
}

impl Mover<'_> {
    fn run(&mut self) -> Result<(), RelocateError> {
        let mut flow = Flow::Continues;
        for (index, instruction) in self.prologue.instructions.iter().enumerate() {
            let offset = self.prologue.offset(instruction);
            if self.prologue.is_target(offset) {
                flow = Flow::Continues;
            }
            // What nothing reaches is filler, or data.
            if flow == Flow::Continues {
                self.out.begin(offset);
                flow = self.one(index, instruction)?;
            }
        }
        if flow == Flow::Continues {
            self.out.begin(self.prologue.len());
            self.out.jump(self.prologue.resume);
        }
        Ok(())
    }

    fn one(&mut self, index: usize, instruction: &Instruction) -> Result<Flow, RelocateError> {
        let offset = self.prologue.offset(instruction);
        let unmovable = RelocateError::Unmovable { offset };
        if instruction.is_invalid() {
            return Err(RelocateError::Undecodable { offset });
        }
        match instruction.flow_control() {
            FlowControl::Next => self.plain(index, instruction),
            FlowControl::UnconditionalBranch => self.jump(instruction),
            FlowControl::ConditionalBranch => self.conditional(instruction),
            FlowControl::IndirectBranch => self.indirect_jump(index, instruction),
            FlowControl::IndirectCall => self.indirect_call(index, instruction),
            FlowControl::Call => match instruction.code() {
                Code::Call_rel32_64 => self.call(instruction),
                Code::Syscall => self.verbatim(instruction, Flow::Continues),
                _ => Err(unmovable),
            },
            FlowControl::Return => match instruction.code() {
                Code::Retnq | Code::Retnq_imm16 => self.verbatim(instruction, Flow::Ends),
                _ => Err(unmovable),
            },
            FlowControl::Exception => self.verbatim(instruction, Flow::Ends),
            FlowControl::Interrupt | FlowControl::XbeginXabortXend => Err(unmovable),
        }
    }

    fn plain(&mut self, index: usize, instruction: &Instruction) -> Result<Flow, RelocateError> {
        if instruction.mnemonic() == Mnemonic::Nop {
            return Ok(Flow::Continues);
        }
        if !instruction.is_ip_rel_memory_operand() {
            return self.verbatim(instruction, Flow::Continues);
        }
        if self.reaches_operand(instruction)? {
            self.with_displacement(instruction);
        } else {
            self.far_operand(index, instruction)?;
        }
        Ok(Flow::Continues)
    }

    fn verbatim(&mut self, instruction: &Instruction, flow: Flow) -> Result<Flow, RelocateError> {
        self.out.bytes(self.prologue.bytes_of(instruction));
        Ok(flow)
    }

    /// The instruction in its new encoding at the current place.
    fn encode(&mut self, instruction: &Instruction) -> Result<(), RelocateError> {
        let offset = self.out.offset();
        self.out.encode(instruction).map_err(|_| RelocateError::Unmovable { offset })
    }
}
