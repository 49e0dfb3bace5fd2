//! The displaced bytes, decoded.

use iced_x86::{ConstantOffsets, Decoder, DecoderOptions, Instruction};

/// The displaced bytes of a function.
pub(super) struct Prologue<'a> {
    bytes: &'a [u8],
    original: u64,
    /// Where execution goes on behind them.
    pub(super) resume: u64,
    /// Up to the first invalid one, included.
    pub(super) instructions: Vec<Instruction>,
    /// Offsets that branches among these instructions lead to.
    targets: Vec<u8>,
}

/// Where a direct branch or call leads.
#[derive(Clone, Copy)]
pub(super) enum Target {
    /// An offset in the displaced bytes.
    Inside(u8),
    /// An address elsewhere.
    Outside(u64),
}

impl<'a> Prologue<'a> {
    /// Decodes fewer than 255 bytes.
    pub(super) fn decode(bytes: &'a [u8], original: u64, resume: u64) -> Self {
        let mut decoder = Decoder::with_ip(64, bytes, original, DecoderOptions::NONE);
        let mut prologue =
            Self { bytes, original, resume, instructions: Vec::new(), targets: Vec::new() };
        while decoder.can_decode() {
            let instruction = decoder.decode();
            prologue.instructions.push(instruction);
            if instruction.is_invalid() {
                break;
            }
            if let Some(Target::Inside(offset)) = prologue.target(&instruction) {
                prologue.targets.push(offset);
            }
        }
        prologue
    }

    /// Number of displaced bytes.
    pub(super) fn len(&self) -> u8 {
        small(self.bytes.len() as u64)
    }

    /// Where an instruction begins.
    pub(super) fn offset(&self, instruction: &Instruction) -> u8 {
        small(instruction.ip().wrapping_sub(self.original))
    }

    /// The bytes of an instruction.
    pub(super) fn bytes_of(&self, instruction: &Instruction) -> &'a [u8] {
        let start = usize::from(self.offset(instruction));
        &self.bytes[start..start + instruction.len()]
    }

    /// Where an instruction's displacement and immediates are in its bytes.
    pub(super) fn constants_of(&self, instruction: &Instruction) -> ConstantOffsets {
        let bytes = self.bytes_of(instruction);
        let mut decoder = Decoder::with_ip(64, bytes, instruction.ip(), DecoderOptions::NONE);
        let again = decoder.decode();
        decoder.get_constant_offsets(&again)
    }

    /// Where a direct branch or call leads; `None` for other instructions.
    pub(super) fn target(&self, instruction: &Instruction) -> Option<Target> {
        let address = match instruction.op0_kind() {
            iced_x86::OpKind::NearBranch64 => instruction.near_branch64(),
            _ => return None,
        };
        let offset = address.wrapping_sub(self.original);
        let length = self.bytes.len() as u64;
        Some(if offset < length {
            Target::Inside(small(offset))
        } else if offset == length {
            Target::Outside(self.resume)
        } else {
            Target::Outside(address)
        })
    }

    /// Whether a branch inside leads to this offset.
    pub(super) fn is_target(&self, offset: u8) -> bool {
        self.targets.contains(&offset)
    }

    /// Whether any branch stays inside.
    pub(super) fn has_branches_inside(&self) -> bool {
        !self.targets.is_empty()
    }

    /// Whether an instruction begins at this offset.
    pub(super) fn is_boundary(&self, offset: u8) -> bool {
        self.instructions.iter().any(|instruction| self.offset(instruction) == offset)
    }

    /// Where the displaced bytes are.
    pub(super) fn original(&self) -> u64 {
        self.original
    }

    /// Whether this is the last displaced instruction.
    pub(super) fn is_last(&self, instruction: &Instruction) -> bool {
        usize::from(self.offset(instruction)) + instruction.len() == self.bytes.len()
    }
}

/// Offsets are below 255, as `relocate` checks.
fn small(offset: u64) -> u8 {
    u8::try_from(offset).unwrap_or(u8::MAX)
}
