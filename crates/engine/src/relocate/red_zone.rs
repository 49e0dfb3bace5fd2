//! Which stack cells the instructions before a point have written.

use iced_x86::{
    Code, Instruction, InstructionInfoFactory, Mnemonic, OpAccess, OpKind, Register, UsedMemory,
};
use std::ops::Range;

/// Bytes below the stack pointer that belong to the running function.
pub(super) const RED_ZONE: i64 = 128;

/// What is known of a register.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Value {
    /// As the caller left it, or loaded: no address below the entry's stack pointer.
    Foreign,
    /// The stack pointer at the start, plus this.
    Stack(i64),
    /// Made from the stack pointer somehow.
    Derived,
}

/// Where a memory operand lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// Not in this function's frame.
    Elsewhere,
    /// These bytes, seen from the current stack pointer.
    Stack(Range<i64>),
    /// Perhaps anywhere on the stack.
    Unknown,
}

/// The stack after some instructions in a straight line.
pub(super) struct Frame {
    registers: [Value; 16],
    /// Bytes written, seen from the stack pointer at the start.
    written: Vec<Range<i64>>,
}

impl Frame {
    /// Follows the instructions; `None` when one writes to an unknown part of the stack, or the
    /// stack pointer is lost.
    pub(super) fn after(instructions: &[Instruction]) -> Option<Self> {
        let mut frame = Self { registers: [Value::Foreign; 16], written: Vec::new() };
        frame.set(Register::RSP, Value::Stack(0));
        let mut factory = InstructionInfoFactory::new();
        for instruction in instructions {
            let info = factory.info(instruction);
            for memory in info.used_memory().iter().filter(|memory| writes(memory.access())) {
                match frame.reach(memory) {
                    Reach::Elsewhere => {}
                    Reach::Stack(cell) => {
                        let start = frame.stack_pointer()?;
                        frame.written.push(start + cell.start..start + cell.end);
                    }
                    Reach::Unknown => return None,
                }
            }
            frame.step(instruction, info);
            frame.stack_pointer()?;
        }
        Some(frame)
    }

    /// Whether these bytes, seen from the current stack pointer, are below the stack of the start
    /// and nothing was written to them.
    pub(super) fn is_unwritten(&self, cells: &Range<i64>) -> bool {
        self.stack_pointer().is_some_and(|start| {
            let cells = start + cells.start..start + cells.end;
            let apart = |range: &Range<i64>| range.end <= cells.start || cells.end <= range.start;
            cells.end <= 0 && self.written.iter().all(apart)
        })
    }

    /// Where the explicit memory operand of an instruction lies; 8 bytes of it.
    pub(super) fn operand(&self, instruction: &Instruction) -> Reach {
        self.address(
            instruction.memory_base(),
            instruction.memory_index(),
            instruction.memory_displacement64(),
            8,
        )
    }

    fn reach(&self, memory: &UsedMemory) -> Reach {
        let size = memory.memory_size().size();
        self.address(memory.base(), memory.index(), memory.displacement(), size)
    }

    fn address(&self, base: Register, index: Register, displacement: u64, size: usize) -> Reach {
        match (self.get(base), self.get(index)) {
            (Value::Foreign, Value::Foreign) => Reach::Elsewhere,
            (Value::Stack(value), _) if index == Register::None && size > 0 => {
                let Some(stack_pointer) = self.stack_pointer() else { return Reach::Unknown };
                let start =
                    value.wrapping_add(displacement.cast_signed()).wrapping_sub(stack_pointer);
                Reach::Stack(start..start.saturating_add(size as i64))
            }
            _ => Reach::Unknown,
        }
    }

    fn step(&mut self, instruction: &Instruction, info: &iced_x86::InstructionInfo) {
        let known = self.known_result(instruction);
        let pointer = self.stack_pointer();
        let tainted = info.used_registers().iter().any(|used| {
            let reads = !matches!(used.access(), OpAccess::Write | OpAccess::CondWrite);
            reads && self.get(used.register()) != Value::Foreign
        });
        for used in info.used_registers().iter().filter(|used| writes(used.access())) {
            let kept =
                used.access() != OpAccess::Write && self.get(used.register()) != Value::Foreign;
            let value = if tainted || kept { Value::Derived } else { Value::Foreign };
            self.set(used.register(), value);
        }
        if let Some((register, value)) = known {
            self.set(register, value);
        } else if let Some(pointer) = pointer.filter(|_| moves_by_constant(instruction)) {
            let by = i64::from(instruction.stack_pointer_increment());
            self.set(Register::RSP, Value::Stack(pointer + by));
        }
    }

    /// The result of the usual ways to make one stack address from another.
    fn known_result(&self, instruction: &Instruction) -> Option<(Register, Value)> {
        let register = instruction.op0_register();
        let stack = |register| match self.get(register) {
            Value::Stack(value) => Some(value),
            Value::Foreign | Value::Derived => None,
        };
        let immediate = || instruction.try_immediate(1).ok().map(u64::cast_signed);
        let value = match instruction.code() {
            Code::Mov_r64_rm64 | Code::Mov_rm64_r64 if is_register(instruction, 1) => {
                stack(instruction.op1_register())?
            }
            Code::Lea_r64_m if instruction.memory_index() == Register::None => {
                let displacement = instruction.memory_displacement64().cast_signed();
                stack(instruction.memory_base())?.wrapping_add(displacement)
            }
            Code::Sub_rm64_imm8 | Code::Sub_rm64_imm32 => {
                stack(register)?.wrapping_sub(immediate()?)
            }
            Code::Add_rm64_imm8 | Code::Add_rm64_imm32 => {
                stack(register)?.wrapping_add(immediate()?)
            }
            _ => return None,
        };
        is_register(instruction, 0).then_some((register, Value::Stack(value)))
    }

    fn stack_pointer(&self) -> Option<i64> {
        match self.get(Register::RSP) {
            Value::Stack(value) => Some(value),
            Value::Foreign | Value::Derived => None,
        }
    }

    fn get(&self, register: Register) -> Value {
        match slot(register) {
            Some(slot) => self.registers[slot],
            None => Value::Foreign,
        }
    }

    fn set(&mut self, register: Register, value: Value) {
        if let Some(slot) = slot(register) {
            self.registers[slot] = value;
        }
    }
}

/// Whether an access may write.
pub(super) fn writes(access: OpAccess) -> bool {
    use OpAccess::{CondWrite, ReadCondWrite, ReadWrite, Write};
    matches!(access, Write | CondWrite | ReadWrite | ReadCondWrite)
}

/// `push` and `pop` of anything but the stack pointer itself.
fn moves_by_constant(instruction: &Instruction) -> bool {
    let pops_it =
        instruction.mnemonic() == Mnemonic::Pop && instruction.op0_register() == Register::RSP;
    matches!(
        instruction.mnemonic(),
        Mnemonic::Push | Mnemonic::Pop | Mnemonic::Pushfq | Mnemonic::Popfq
    ) && !pops_it
}

fn is_register(instruction: &Instruction, operand: u32) -> bool {
    instruction.try_op_kind(operand).is_ok_and(|kind| kind == OpKind::Register)
}

fn slot(register: Register) -> Option<usize> {
    register.is_gpr().then(|| register.full_register().number())
}
