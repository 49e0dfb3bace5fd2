//! Branches, jumps and calls.

use super::prologue::Target;
use super::red_zone::{Frame, Reach};
use super::{Flow, Mover, RelocateError};
use iced_x86::{Code, Instruction, OpKind, Register};

/// The cell that a call pushes its return address to, seen from `rsp`.
const PUSHED: std::ops::Range<i64> = -8..0;

impl Mover<'_> {
    /// `jmp rel`.
    pub(super) fn jump(&mut self, instruction: &Instruction) -> Result<Flow, RelocateError> {
        match self.prologue.target(instruction) {
            Some(Target::Inside(target)) => {
                self.check_target(instruction, target)?;
                self.out.jump_inside(target);
            }
            Some(Target::Outside(address)) => self.out.jump(address),
            None => return Err(self.unmovable(instruction)),
        }
        Ok(Flow::Ends)
    }

    /// `jcc rel`.
    pub(super) fn conditional(&mut self, instruction: &Instruction) -> Result<Flow, RelocateError> {
        if !instruction.is_jcc_short_or_near() {
            let offset = self.prologue.offset(instruction);
            return Err(RelocateError::CountingBranch { offset });
        }
        // iced numbers the conditions as the opcodes do, from 1.
        let condition = instruction.condition_code() as u8 - 1;
        match self.prologue.target(instruction) {
            Some(Target::Inside(target)) => {
                self.check_target(instruction, target)?;
                self.out.jump_inside_if(condition, target);
            }
            Some(Target::Outside(address)) => self.out.jump_if(condition, address),
            None => return Err(self.unmovable(instruction)),
        }
        Ok(Flow::Continues)
    }

    /// `call rel32`. The callee returns to the original code, so that whoever looks at the return
    /// address (unwinders, `call; pop`) finds what it expects.
    pub(super) fn call(&mut self, instruction: &Instruction) -> Result<Flow, RelocateError> {
        let offset = self.prologue.offset(instruction);
        if !self.prologue.is_last(instruction) {
            return Err(RelocateError::CallNotLast { offset });
        }
        let address = match self.prologue.target(instruction) {
            // The function itself, and its patch: a new call.
            Some(Target::Inside(0)) => self.prologue.original(),
            Some(Target::Inside(_)) => return Err(RelocateError::BranchIntoDisplaced { offset }),
            Some(Target::Outside(address)) => address,
            None => return Err(self.unmovable(instruction)),
        };
        self.push_return_address(instruction)?;
        self.out.jump(address);
        Ok(Flow::Ends)
    }

    /// `jmp r/m64`.
    pub(super) fn indirect_jump(
        &mut self,
        index: usize,
        instruction: &Instruction,
    ) -> Result<Flow, RelocateError> {
        if instruction.code() != Code::Jmp_rm64 {
            return Err(self.unmovable(instruction));
        }
        if !instruction.is_ip_rel_memory_operand() {
            return self.verbatim(instruction, Flow::Ends);
        }
        if self.reaches_operand(instruction)? {
            self.with_displacement(instruction);
        } else {
            let word = self.copy_far_word(index, instruction)?;
            self.out_jump_through_stack(word)?;
        }
        Ok(Flow::Ends)
    }

    /// `call r/m64`: pushes the original return address and jumps.
    pub(super) fn indirect_call(
        &mut self,
        index: usize,
        instruction: &Instruction,
    ) -> Result<Flow, RelocateError> {
        if instruction.code() != Code::Call_rm64 || instruction.op0_register() == Register::RSP {
            return Err(self.unmovable(instruction));
        }
        let mut jump = *instruction;
        jump.set_code(Code::Jmp_rm64);
        if instruction.is_ip_rel_memory_operand() && !self.reaches_operand(instruction)? {
            let word = self.copy_far_word(index, instruction)?;
            self.push_return_address(instruction)?;
            self.out_jump_through_stack(word + 8)?;
            return Ok(Flow::Ends);
        }
        if instruction.op0_kind() == OpKind::Memory && !instruction.is_ip_rel_memory_operand() {
            self.check_pushed_cell(index, instruction)?;
            if instruction.memory_base() == Register::RSP {
                move_operand(&mut jump, 8);
            }
        }
        self.push_return_address(instruction)?;
        self.encode(&jump)?;
        Ok(Flow::Ends)
    }

    /// The operand is read after the push here, and before it in the original: they may not meet.
    fn check_pushed_cell(
        &self,
        index: usize,
        instruction: &Instruction,
    ) -> Result<(), RelocateError> {
        let unmovable = self.unmovable(instruction);
        if self.prologue.has_branches_inside() {
            return Err(unmovable);
        }
        let frame = Frame::after(&self.prologue.instructions[..index]).ok_or(unmovable)?;
        match frame.operand(instruction) {
            Reach::Elsewhere => Ok(()),
            Reach::Stack(cell) if cell.end <= PUSHED.start || cell.start >= PUSHED.end => Ok(()),
            Reach::Stack(_) | Reach::Unknown => Err(unmovable),
        }
    }

    fn push_return_address(&mut self, instruction: &Instruction) -> Result<(), RelocateError> {
        if !self.prologue.is_last(instruction) {
            let offset = self.prologue.offset(instruction);
            return Err(RelocateError::CallNotLast { offset });
        }
        self.out.push(instruction.next_ip());
        self.out.begin_callee();
        Ok(())
    }

    fn check_target(&self, instruction: &Instruction, target: u8) -> Result<(), RelocateError> {
        let offset = self.prologue.offset(instruction);
        let boundary = self.prologue.is_boundary(target);
        boundary.then_some(()).ok_or(RelocateError::BranchIntoDisplaced { offset })
    }

    fn unmovable(&self, instruction: &Instruction) -> RelocateError {
        RelocateError::Unmovable { offset: self.prologue.offset(instruction) }
    }
}

/// Adds to the displacement of a memory operand.
fn move_operand(instruction: &mut Instruction, by: u64) {
    instruction.set_memory_displacement64(instruction.memory_displacement64().wrapping_add(by));
    instruction.set_memory_displ_size(1);
}
