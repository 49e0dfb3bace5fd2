//! Operands addressed from the instruction pointer.

use super::red_zone::{Frame, RED_ZONE};
use super::{Mover, RelocateError};
use iced_x86::{
    Code, Instruction, InstructionInfoFactory, MemoryOperand, Mnemonic, OpKind, Register,
};

/// Where a scratch register is kept, seen from `rsp`: the end of the red zone.
const KEPT: i64 = -RED_ZONE;
/// Where a word read from afar is put.
const WORD: i64 = KEPT + 8;
/// Registers to borrow: caller-saved, so that no unwind row depends on them, and old enough to go
/// with `ah`. No instruction that reads memory names them all.
const SCRATCH: [Register; 5] =
    [Register::RAX, Register::RCX, Register::RDX, Register::RSI, Register::RDI];

impl Mover<'_> {
    /// Whether the operand's target is in reach of the new place.
    pub(super) fn reaches_operand(&self, instruction: &Instruction) -> Result<bool, RelocateError> {
        if instruction.memory_base() != Register::RIP {
            let offset = self.prologue.offset(instruction);
            return Err(RelocateError::Unmovable { offset });
        }
        Ok(self.out.reaches(instruction.ip_rel_memory_address()))
    }

    /// The instruction's own bytes, with the displacement to the same target.
    pub(super) fn with_displacement(&mut self, instruction: &Instruction) {
        let constants = self.prologue.constants_of(instruction);
        let mut bytes = self.prologue.bytes_of(instruction).to_vec();
        let target = instruction.ip_rel_memory_address();
        let displacement = self.out.displacement(target, bytes.len());
        let at = constants.displacement_offset();
        bytes[at..at + displacement.len()].copy_from_slice(&displacement);
        self.out.bytes(&bytes);
    }

    /// An instruction whose operand is out of reach.
    pub(super) fn far_operand(
        &mut self,
        index: usize,
        instruction: &Instruction,
    ) -> Result<(), RelocateError> {
        let address = instruction.ip_rel_memory_address();
        if instruction.mnemonic() == Mnemonic::Lea {
            return self.far_lea(instruction, address);
        }
        if instruction.code() == Code::Push_rm64 {
            // A stack pointer that has moved would leave the scratch register's place elsewhere:
            // the push itself comes last.
            let word = self.copy_far_word(index, instruction)?;
            let copy = Instruction::with1(Code::Push_rm64, stack(word));
            return self.encode_built(copy);
        }
        if let Some(register) = overwritten(instruction) {
            self.load_address(register, address)?;
            return self.encode(&through(instruction, register));
        }
        self.borrow_register(index, instruction, address)
    }

    fn far_lea(&mut self, instruction: &Instruction, address: u64) -> Result<(), RelocateError> {
        let register = instruction.op0_register();
        match instruction.code() {
            Code::Lea_r64_m => self.load_address(register, address),
            Code::Lea_r32_m => self.load_address(register.full_register(), address & 0xffff_ffff),
            _ => Err(RelocateError::Unmovable { offset: self.out.offset() }),
        }
    }

    /// Keeps a register in the red zone and runs the instruction through it.
    fn borrow_register(
        &mut self,
        index: usize,
        instruction: &Instruction,
        address: u64,
    ) -> Result<(), RelocateError> {
        let offset = self.prologue.offset(instruction);
        let mut factory = InstructionInfoFactory::new();
        let info = factory.info(instruction);
        let used = |register: Register| {
            info.used_registers().iter().any(|used| used.register().full_register() == register)
        };
        if instruction.is_stack_instruction() || writes_stack_pointer(instruction) {
            return Err(RelocateError::MovesStackPointer { offset });
        }
        let scratch = SCRATCH.into_iter().find(|&register| !used(register));
        let scratch = scratch.ok_or(RelocateError::Unmovable { offset })?;
        self.check_red_zone(index, instruction, KEPT..KEPT + 8)?;
        self.store(KEPT, scratch)?;
        self.load_address(scratch, address)?;
        self.encode(&through(instruction, scratch))?;
        self.load(scratch, KEPT)
    }

    /// Copies the operand's 8 bytes to the red zone, without a trace in any register. Says where
    /// they are, from `rsp`.
    pub(super) fn copy_far_word(
        &mut self,
        index: usize,
        instruction: &Instruction,
    ) -> Result<i64, RelocateError> {
        if instruction.has_segment_prefix() {
            return Err(RelocateError::Unmovable { offset: self.prologue.offset(instruction) });
        }
        self.check_red_zone(index, instruction, KEPT..WORD + 8)?;
        let scratch = Register::RAX;
        self.store(KEPT, scratch)?;
        self.load_address(scratch, instruction.ip_rel_memory_address())?;
        let operand = MemoryOperand::with_base(scratch);
        self.encode_built(Instruction::with2(Code::Mov_r64_rm64, scratch, operand))?;
        self.store(WORD, scratch)?;
        self.load(scratch, KEPT)?;
        Ok(WORD)
    }

    /// `jmp [rsp + at]`.
    pub(super) fn out_jump_through_stack(&mut self, at: i64) -> Result<(), RelocateError> {
        self.encode_built(Instruction::with1(Code::Jmp_rm64, stack(at)))
    }

    /// What runs before may not have written to this part of the red zone.
    fn check_red_zone(
        &self,
        index: usize,
        instruction: &Instruction,
        cells: std::ops::Range<i64>,
    ) -> Result<(), RelocateError> {
        let frame = Frame::after(&self.prologue.instructions[..index]);
        // With branches inside, the instructions before are not all that ran before.
        let free = !self.prologue.has_branches_inside()
            && frame.is_some_and(|frame| frame.is_unwritten(&cells));
        let offset = self.prologue.offset(instruction);
        free.then_some(()).ok_or(RelocateError::RedZoneInUse { offset })
    }

    fn load_address(&mut self, register: Register, address: u64) -> Result<(), RelocateError> {
        // A 32-bit move clears the upper half.
        let short = u32::try_from(address).ok().zip(low_half(register));
        self.encode_built(match short {
            Some((value, low)) => Instruction::with2(Code::Mov_r32_imm32, low, value),
            None => Instruction::with2(Code::Mov_r64_imm64, register, address),
        })
    }

    fn store(&mut self, at: i64, register: Register) -> Result<(), RelocateError> {
        self.encode_built(Instruction::with2(Code::Mov_rm64_r64, stack(at), register))
    }

    fn load(&mut self, register: Register, at: i64) -> Result<(), RelocateError> {
        self.encode_built(Instruction::with2(Code::Mov_r64_rm64, register, stack(at)))
    }

    fn encode_built(
        &mut self,
        instruction: Result<Instruction, iced_x86::IcedError>,
    ) -> Result<(), RelocateError> {
        let offset = self.out.offset();
        let instruction = instruction.map_err(|_| RelocateError::Unmovable { offset })?;
        self.encode(&instruction)
    }
}

/// The 8 bytes at `rsp + at`.
fn stack(at: i64) -> MemoryOperand {
    MemoryOperand::with_base_displ(Register::RSP, at)
}

/// The instruction with `[register]` as its memory operand.
fn through(instruction: &Instruction, register: Register) -> Instruction {
    let mut copy = *instruction;
    copy.set_memory_base(register);
    copy.set_memory_displacement64(0);
    copy.set_memory_displ_size(0);
    copy
}

/// The register that an instruction overwrites whole, without having read it: free to hold the
/// address until then.
fn overwritten(instruction: &Instruction) -> Option<Register> {
    let moves = [Mnemonic::Mov, Mnemonic::Movzx, Mnemonic::Movsx, Mnemonic::Movsxd];
    let register = instruction.op0_register();
    let whole = register.is_gpr64() || register.is_gpr32();
    let loads = moves.contains(&instruction.mnemonic()) && instruction.op1_kind() == OpKind::Memory;
    let register = register.full_register();
    (loads && whole && register != Register::RSP).then_some(register)
}

fn writes_stack_pointer(instruction: &Instruction) -> bool {
    let mut factory = InstructionInfoFactory::new();
    factory.info(instruction).used_registers().iter().any(|used| {
        used.register().full_register() == Register::RSP && super::red_zone::writes(used.access())
    })
}

/// The 32-bit name of a 64-bit register.
fn low_half(register: Register) -> Option<Register> {
    register.is_gpr64().then(|| register.full_register32())
}
