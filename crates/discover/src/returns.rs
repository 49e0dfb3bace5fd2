//! What a function does with its return address.

use iced_x86::{FlowControl, Instruction, Mnemonic, OpKind, Register};

use crate::filler;
use crate::site::{EntryOnly, Returns};

/// Forward branches whose stack depth is remembered at a time.
const BRANCHES: usize = 16;
/// Registers that `setjmp` and its kin store.
const SAVED: [Register; 6] =
    [Register::RBX, Register::RBP, Register::R12, Register::R13, Register::R14, Register::R15];
/// A function that stores so many of [`SAVED`] behind a pointer argument saves a context.
const CONTEXT: u32 = 4;

const RETURN_TWICE: [&[u8]; 9] = [
    b"setjmp",
    b"_setjmp",
    b"__setjmp",
    b"sigsetjmp",
    b"__sigsetjmp",
    b"getcontext",
    b"vfork",
    b"__vfork",
    b"savectx",
];
const READ_CALLER: [&[u8]; 5] = [b"dlopen", b"dlsym", b"dlvsym", b"dlmopen", b"__dlsym"];

/// What the instructions of a function showed.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub(crate) struct Habits {
    /// It accesses its return address as data, or pops it.
    reads: bool,
    /// It pops its return address and jumps to it.
    jumps: bool,
    /// It stores callee-saved registers behind a pointer argument.
    saves: bool,
    /// It returns from another stack cell than the one it was called with: `ret n`, or a
    /// return address that was popped and pushed elsewhere.
    moves: bool,
    /// Where it ends by a jump with the stack as it was called: a function that does the rest.
    passes_to: Option<u64>,
}

impl Habits {
    /// The function that it passes its call on to, if it does that.
    pub(crate) const fn passes_to(self) -> Option<u64> {
        self.passes_to
    }

    /// Whether returns may be hooked, by the function's names and by what it does.
    pub(crate) fn returns(self, names: &[&[u8]]) -> Returns {
        let named = |list: &[&[u8]]| names.iter().any(|name| list.contains(name));
        if named(&RETURN_TWICE) || self.reads && (self.jumps || self.saves) {
            Returns::EntryOnly(EntryOnly::ReturnsTwice)
        } else if self.reads || named(&READ_CALLER) {
            Returns::EntryOnly(EntryOnly::ReadsReturnAddress)
        } else if self.moves {
            Returns::EntryOnly(EntryOnly::MovesReturnAddress)
        } else {
            Returns::Hooked
        }
    }
}

/// Follows the stack pointer through the instructions of a function, in order of address.
pub(crate) struct Tracker {
    /// Bytes between the stack pointer and the return address, where known.
    depth: Option<i64>,
    /// `rbp` points at the caller's `rbp`, right below the return address.
    framed: bool,
    /// Nothing was pushed, called or branched to yet.
    pristine: bool,
    /// The register that the return address was popped into.
    popped: Register,
    /// Bit set of the members of [`SAVED`] that were stored.
    saved: u32,
    habits: Habits,
    /// The last instruction pushed a register.
    pushed: bool,
    /// Depth at the targets of recent forward branches.
    branches: [(u64, i64); BRANCHES],
    next: usize,
}

impl Default for Tracker {
    fn default() -> Self {
        Self {
            depth: Some(0),
            framed: false,
            pristine: true,
            popped: Register::None,
            saved: 0,
            habits: Habits::default(),
            pushed: false,
            branches: [(0, 0); BRANCHES],
            next: 0,
        }
    }
}

impl Tracker {
    pub(crate) fn habits(&self) -> Habits {
        Habits { saves: self.saved.count_ones() >= CONTEXT, ..self.habits }
    }

    pub(crate) fn step(&mut self, instruction: &Instruction) {
        match instruction.memory_base() {
            Register::None => {}
            Register::RSP | Register::RBP => self.stack_access(instruction),
            Register::RDI => self.store(instruction),
            _ => {}
        }
        if instruction.mnemonic() == Mnemonic::Ret {
            self.habits.moves |= self.pushed || instruction.op_count() > 0;
        }
        self.pushed =
            instruction.mnemonic() == Mnemonic::Push && instruction.op0_kind() == OpKind::Register;
        if instruction.flow_control() == FlowControl::Next {
            self.move_stack(instruction);
        } else {
            self.flow(instruction);
        }
    }

    fn stack_access(&mut self, instruction: &Instruction) {
        let plain = instruction.memory_index() == Register::None
            && !matches!(instruction.mnemonic(), Mnemonic::Lea | Mnemonic::Nop);
        let offset = instruction.memory_displacement64() as i64;
        self.habits.reads |= plain
            && match instruction.memory_base() {
                Register::RSP => self.depth == Some(offset),
                _ => self.framed && offset == 8,
            };
    }

    fn store(&mut self, instruction: &Instruction) {
        if instruction.mnemonic() == Mnemonic::Mov && instruction.op0_kind() == OpKind::Memory {
            let stored = instruction.op1_register();
            if let Some(index) = SAVED.iter().position(|&register| register == stored) {
                self.saved |= 1 << index;
            }
        }
    }

    /// An instruction that execution runs on from.
    fn move_stack(&mut self, instruction: &Instruction) {
        let Some(depth) = self.depth else { return };
        if instruction.is_stack_instruction() {
            if instruction.mnemonic() == Mnemonic::Pop && depth == 0 && self.pristine {
                self.habits.reads = true;
                self.popped = instruction.op0_register();
            }
            self.pristine = false;
            self.depth = match instruction.mnemonic() {
                Mnemonic::Leave => self.framed.then_some(0),
                Mnemonic::Pop if instruction.op0_register() == Register::RSP => None,
                _ => Some(depth.saturating_sub(instruction.stack_pointer_increment().into())),
            };
            return;
        }
        let to_register = instruction.op0_kind() == OpKind::Register;
        match instruction.op0_register() {
            Register::RSP if to_register => self.set_stack(instruction, depth),
            Register::RBP if to_register && instruction.mnemonic() == Mnemonic::Mov => {
                self.framed |= depth == 8 && instruction.op1_register() == Register::RSP;
            }
            _ => {}
        }
    }

    fn set_stack(&mut self, instruction: &Instruction, depth: i64) {
        self.pristine = false;
        let immediate = is_immediate(instruction.op1_kind());
        let value = || instruction.immediate(1) as i64;
        self.depth = match instruction.mnemonic() {
            Mnemonic::Cmp | Mnemonic::Test => Some(depth),
            Mnemonic::Sub if immediate => Some(depth.saturating_add(value())),
            Mnemonic::Add if immediate => Some(depth.saturating_sub(value())),
            Mnemonic::Mov if instruction.op1_register() == Register::RBP => {
                self.framed.then_some(8)
            }
            Mnemonic::Lea => self.depth_at(instruction, depth),
            _ => None,
        };
    }

    /// Depth at the address that a `lea` computes.
    fn depth_at(&self, instruction: &Instruction, depth: i64) -> Option<i64> {
        let offset = instruction.memory_displacement64() as i64;
        match (instruction.memory_base(), instruction.memory_index()) {
            (Register::RSP, Register::None) => Some(depth.saturating_sub(offset)),
            (Register::RBP, Register::None) if self.framed => Some(8i64.saturating_sub(offset)),
            _ => None,
        }
    }

    fn flow(&mut self, instruction: &Instruction) {
        let next = instruction.next_ip();
        let near = instruction.op0_kind() == OpKind::NearBranch64;
        let target = if near { instruction.near_branch_target() } else { 0 };
        if filler::is_call(instruction) {
            // A call of the next instruction only pushes its address.
            let pushed = if target == next { 8 } else { 0 };
            let depth = self.depth.map(|depth| depth.saturating_add(pushed));
            self.depth = self.remembered(next).or(depth);
            self.pristine = false;
            return;
        }
        if let (true, Some(depth)) = (target > next, self.depth) {
            self.branches[self.next % BRANCHES] = (target, depth);
            self.next += 1;
        }
        if filler::ends_flow(instruction) {
            if near && self.depth == Some(0) {
                self.habits.passes_to = Some(target);
            }
            let register = instruction.op0_register();
            self.habits.jumps |= register != Register::None && register == self.popped;
            self.depth = self.remembered(next);
            self.pristine = false;
        }
    }

    fn remembered(&self, address: u64) -> Option<i64> {
        self.branches.iter().find(|branch| branch.0 == address).map(|branch| branch.1)
    }
}

const fn is_immediate(kind: OpKind) -> bool {
    matches!(kind, OpKind::Immediate8to64 | OpKind::Immediate32to64)
}
