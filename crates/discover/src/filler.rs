//! Filler between functions: bytes that nobody executes.

use iced_x86::{Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic};

/// How many of the first bytes are filler: NOPs, `int3`, zeros.
pub(crate) fn length(bytes: &[u8]) -> usize {
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        at += match byte {
            0x90 | 0xcc | 0x00 => 1,
            _ => match nop(&bytes[at..]) {
                Some(length) => length,
                None => break,
            },
        };
    }
    at
}

/// The length of the NOP that the bytes begin with.
pub(crate) fn nop(bytes: &[u8]) -> Option<usize> {
    // All NOPs begin with one of these: a quick no for everything else.
    if !matches!(bytes.first(), Some(0x90 | 0x66 | 0x0f | 0x2e | 0x3e)) {
        return None;
    }
    let instruction = Decoder::new(64, bytes, DecoderOptions::NONE).decode();
    (instruction.mnemonic() == Mnemonic::Nop).then(|| instruction.len())
}

/// Whether execution never goes on behind the instruction.
pub(crate) fn ends_flow(instruction: &Instruction) -> bool {
    let stops = matches!(instruction.mnemonic(), Mnemonic::Ud2 | Mnemonic::Int3 | Mnemonic::Hlt);
    stops
        || matches!(
            instruction.flow_control(),
            FlowControl::Return | FlowControl::UnconditionalBranch | FlowControl::IndirectBranch
        )
}

/// Whether the instruction pushes a return address.
pub(crate) fn is_call(instruction: &Instruction) -> bool {
    instruction.is_call_near()
        || instruction.is_call_near_indirect()
        || instruction.is_call_far()
        || instruction.is_call_far_indirect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nops_breakpoints_and_zeros_fill() {
        assert_eq!(length(&[0x90, 0x66, 0x90, 0x0f, 0x1f, 0x00, 0xcc, 0xcc, 0x00, 0xc3]), 9);
        assert_eq!(length(&[0x66, 0x66, 0x2e, 0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0, 0x55]), 11);
        assert_eq!(length(&[]), 0);
    }

    #[test]
    fn instructions_that_do_something_do_not_fill() {
        assert_eq!(length(&[0xf3, 0x90]), 0, "pause");
        assert_eq!(length(&[0xf3, 0x0f, 0x1e, 0xfa]), 0, "endbr64");
        assert_eq!(length(&[0x0f, 0x1f]), 0, "cut off");
        assert_eq!(length(&[0xc3, 0x90]), 0);
    }
}
