//! Random prologues, of the instructions that compilers begin functions with.

use super::machine::Machine;
use iced_x86::code_asm::*;
use iced_x86::{BlockEncoder, BlockEncoderOptions, Instruction, InstructionBlock, Register};

/// A reproducible source of numbers (SplitMix64).
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x2545_f491_4f6c_dd1d) ^ 0x9e37_79b9_7f4a_7c15)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    pub(crate) fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.next() as u8).collect()
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }
}

/// One prologue.
pub(crate) struct Case {
    pub(crate) bytes: Vec<u8>,
    /// Whether it may store where `relocate` would keep a register.
    pub(crate) writes_red_zone: bool,
    /// Whether it has a branch inside.
    pub(crate) branches: bool,
}

/// All but the stack pointer, and rdi and rsi, which point to data.
const ANY: [AsmRegister64; 12] = [rax, rcx, rdx, rbx, rbp, r8, r9, r10, r12, r13, r14, r15];
const ANY_32: [AsmRegister32; 9] = [eax, ecx, edx, ebx, ebp, r8d, r10d, r13d, r15d];
const VECTORS: [AsmRegisterXmm; 4] = [xmm0, xmm1, xmm7, xmm15];

/// Stands for the instruction pointer, which the assembler takes with labels only. Its
/// displacement is from the machine's data.
const GLOBAL: AsmRegister64 = r11;

struct Writer<'a> {
    code: CodeAssembler,
    random: &'a mut Random,
    machine: &'a Machine,
    writes_red_zone: bool,
    branches: bool,
    has_locals: bool,
}

impl Case {
    /// One to five instructions, at most 20 bytes, for the machine's original place.
    pub(crate) fn generate(random: &mut Random, machine: &Machine) -> Self {
        loop {
            let code = CodeAssembler::new(64).expect("assembler");
            let mut writer = Writer {
                code,
                random,
                machine,
                writes_red_zone: false,
                branches: false,
                has_locals: false,
            };
            writer.all().expect("instruction");
            let (writes_red_zone, branches) = (writer.writes_red_zone, writer.branches);
            let bytes = assemble(writer.code.instructions(), machine);
            if bytes.len() <= 20 {
                return Self { bytes, writes_red_zone, branches };
            }
        }
    }
}

impl Writer<'_> {
    fn all(&mut self) -> Result<(), IcedError> {
        let mut inside = None;
        for _ in 0..self.random.below(5) {
            if inside.is_none() && self.random.below(12) == 0 {
                let mut label = self.code.create_label();
                self.branch(label)?;
                inside = Some(label);
                self.branches = true;
                self.one()?;
                self.code.set_label(&mut label)?;
            }
            self.one()?;
        }
        self.last()
    }

    fn one(&mut self) -> Result<(), IcedError> {
        match self.random.below(4) {
            0 => self.stack(),
            1 => self.register(),
            2 => self.memory(),
            _ => self.global(),
        }
    }

    fn stack(&mut self) -> Result<(), IcedError> {
        let register = self.random.pick(&ANY);
        let choice = self.random.below(8);
        // What was not written yet is not read.
        self.has_locals |= choice == 5 || choice == 6;
        let code = &mut self.code;
        match choice {
            0..3 => code.push(register),
            3 if !self.has_locals => code.pop(register),
            4 => code.mov(rbp, rsp),
            5 => code.sub(rsp, 8 * self.random.below(16) as i32),
            6 => code.lea(rsp, rsp - 0x28),
            _ => code.push(0x1234),
        }
    }

    fn register(&mut self) -> Result<(), IcedError> {
        let (one, two) = (self.random.pick(&ANY), self.random.pick(&ANY));
        let (low, vector) = (self.random.pick(&ANY_32), self.random.pick(&VECTORS));
        let code = &mut self.code;
        match self.random.below(11) {
            0 => code.endbr64(),
            1 => code.mov(one, two),
            2 => code.mov(low, 0x1234_5678),
            3 => code.xor(low, low),
            4 => code.test(one, two),
            5 => code.cmp(one, 7),
            6 => code.lea(one, two + 4 * r9 + 16),
            7 => code.nop(),
            8 => code.movd(vector, low),
            9 => code.sete(al),
            _ => code.pxor(vector, xmm1),
        }
    }

    fn memory(&mut self) -> Result<(), IcedError> {
        let (register, vector) = (self.random.pick(&ANY), self.random.pick(&VECTORS));
        let at = self.random.below(32) as i32 * 4 - 64;
        let red = self.random.below(16) as i32 * -8 - 8;
        let code = &mut self.code;
        match self.random.below(9) {
            0 => code.mov(register, qword_ptr(rdi + at)),
            1 => code.mov(qword_ptr(rsi + at), register),
            2 => code.movups(vector, xmmword_ptr(rdi + at)),
            3 => code.movups(xmmword_ptr(rsi + at), vector),
            4 => code.cmp(byte_ptr(rdi + at), 3),
            5 => code.movzx(eax, byte_ptr(rdi + at)),
            6 if !self.has_locals => code.mov(register, qword_ptr(rsp + 16)),
            6 => code.mov(qword_ptr(rsp), register),
            7 => code.add(dword_ptr(rsi + at), ecx),
            _ => {
                self.writes_red_zone = true;
                code.mov(qword_ptr(rsp + red), register)
            }
        }
    }

    fn global(&mut self) -> Result<(), IcedError> {
        let (register, low) = (self.random.pick(&ANY), self.random.pick(&ANY_32));
        let vector = self.random.pick(&VECTORS);
        // Past the words that hold addresses of exits; aligned.
        let at = GLOBAL + 64 + 16 * self.random.below(32) as i32;
        let code = &mut self.code;
        match self.random.below(18) {
            0 => code.lea(register, qword_ptr(at)),
            1 => code.mov(register, qword_ptr(at)),
            2 => code.mov(low, dword_ptr(at)),
            3 => code.mov(qword_ptr(at), register),
            4 => code.cmp(dword_ptr(at), 0),
            5 => code.cmp(register, qword_ptr(at)),
            6 => code.add(register, qword_ptr(at)),
            7 => code.lock().inc(dword_ptr(at)),
            8 => code.movaps(vector, xmmword_ptr(at)),
            9 => code.movss(dword_ptr(at), vector),
            10 => code.mov(byte_ptr(at), ah),
            11 => code.movsx(low, byte_ptr(at)),
            12 => code.push(qword_ptr(at)),
            13 => code.mov(ax, word_ptr(at)),
            14 => code.lock().cmpxchg16b(xmmword_ptr(at)),
            15 => code.cmovs(register, qword_ptr(at)),
            16 => code.adc(rdx, qword_ptr(at)),
            _ => code.imul_3(register, qword_ptr(at), 77),
        }
    }

    fn branch(&mut self, label: CodeLabel) -> Result<(), IcedError> {
        let code = &mut self.code;
        match self.random.below(6) {
            0 => code.je(label),
            1 => code.jb(label),
            2 => code.js(label),
            3 => code.jo(label),
            4 => code.jle(label),
            _ => code.jp(label),
        }
    }

    /// The last instruction, often one that leaves.
    fn last(&mut self) -> Result<(), IcedError> {
        let exit = self.machine.exit(self.random.below(self.machine.exits()));
        let word = GLOBAL + 8 * self.random.below(4) as i32;
        let known = self.random.below(4);
        let code = &mut self.code;
        match self.random.below(16) {
            0 => code.jmp(exit),
            1 => code.call(exit),
            2 => code.je(exit),
            3 => code.ja(exit),
            4 => code.jge(exit),
            5 => code.jmp(qword_ptr(word)),
            6 => code.call(qword_ptr(word)),
            7 => code.call(qword_ptr(rdi - 64 + 8 * known as i32)),
            8 => code.jmp(qword_ptr(rsi + 256)),
            9 => code.mov(rax, exit).and_then(|()| code.call(rax)),
            _ => self.one(),
        }
    }
}

fn assemble(instructions: &[Instruction], machine: &Machine) -> Vec<u8> {
    let mut instructions = instructions.to_vec();
    for instruction in &mut instructions {
        if instruction.memory_base() == Register::R11 {
            let at = machine.data().wrapping_add(instruction.memory_displacement64());
            instruction.set_memory_base(Register::RIP);
            instruction.set_memory_displacement64(at);
            instruction.set_memory_displ_size(8);
        }
    }
    let block = InstructionBlock::new(&instructions, machine.original());
    BlockEncoder::encode(64, block, BlockEncoderOptions::NONE).expect("code").code_buffer
}
