//! Finds out what a callback leaves alone, from its code.

use super::Preserve;
use iced_x86::{CpuidFeature, Decoder, DecoderOptions, EncodingKind, FlowControl, Instruction};
use iced_x86::{InstructionInfoFactory, Register};

/// What has to be preserved for the function at `address`, whose bytes are `code`: proved for
/// functions that do not leave these bytes but by returning, and that use no AVX, x87 or MMX.
///
/// `None` is no answer: preserve all that the processor has.
#[must_use]
pub fn promise(code: &[u8], address: u64) -> Option<Preserve> {
    let mut decoder = Decoder::with_ip(64, code, address, DecoderOptions::NONE);
    let mut info = InstructionInfoFactory::new();
    let mut seen = vec![false; code.len()];
    let mut pending = vec![address];
    let mut found = Preserve::None;
    while let Some(mut at) = pending.pop() {
        loop {
            let offset = usize::try_from(at.checked_sub(address)?).ok()?;
            if std::mem::replace(seen.get_mut(offset)?, true) {
                break;
            }
            decoder.set_position(offset).ok()?;
            decoder.set_ip(at);
            let instruction = decoder.decode();
            found = found.and(touched(&mut info, &instruction)?);
            match instruction.flow_control() {
                FlowControl::Next => {}
                FlowControl::ConditionalBranch => pending.push(instruction.near_branch_target()),
                FlowControl::UnconditionalBranch => {
                    at = instruction.near_branch_target();
                    continue;
                }
                FlowControl::Return | FlowControl::Exception => break,
                _ => return None,
            }
            at = instruction.next_ip();
        }
    }
    Some(found)
}

/// Their registers are not always operands.
const OLD_UNITS: [CpuidFeature; 4] =
    [CpuidFeature::FPU, CpuidFeature::FPU287, CpuidFeature::FPU387, CpuidFeature::MMX];

/// What one instruction asks for, if that can be said.
fn touched(info: &mut InstructionInfoFactory, instruction: &Instruction) -> Option<Preserve> {
    if instruction.is_invalid() || instruction.encoding() != EncodingKind::Legacy {
        return is_general_vex(info, instruction).then_some(Preserve::None);
    }
    if instruction.cpuid_features().iter().any(|feature| OLD_UNITS.contains(feature)) {
        return None;
    }
    let mut found = Preserve::None;
    for used in info.info(instruction).used_registers() {
        let register = used.register();
        if register.is_xmm() {
            found = Preserve::Xmm;
        } else if !is_general(register) {
            return None;
        }
    }
    // Restoring state changes registers that no operand names.
    (!instruction.is_save_restore_instruction()).then_some(found)
}

/// The bit manipulation instructions are encoded like vector instructions.
fn is_general_vex(info: &mut InstructionInfoFactory, instruction: &Instruction) -> bool {
    let info = info.info(instruction);
    !instruction.is_invalid()
        && instruction.encoding() == EncodingKind::VEX
        && !info.used_registers().is_empty()
        && info.used_registers().iter().all(|used| is_general(used.register()))
}

fn is_general(register: Register) -> bool {
    register.is_gpr() || register.is_segment_register() || register.is_ip()
}
