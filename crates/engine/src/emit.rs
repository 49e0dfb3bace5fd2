//! Writes x86-64 machine code, for the few instruction forms that trampolines need.
//!
//! Instructions are checked against an outside disassembler in the tests of the code made with
//! them; see `trampoline.rs` and `thunk.rs`.

/// A general-purpose register, by its number in encodings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Reg {
    /// `rax`
    Rax = 0,
    /// `rcx`
    Rcx = 1,
    /// `rdx`
    Rdx = 2,
    /// `rbx`
    Rbx = 3,
    /// `rsp`
    Rsp = 4,
    /// `rbp`
    Rbp = 5,
    /// `rsi`
    Rsi = 6,
    /// `rdi`
    Rdi = 7,
    /// `r8`
    R8 = 8,
    /// `r9`
    R9 = 9,
    /// `r10`
    R10 = 10,
    /// `r11`
    R11 = 11,
    /// `r12`
    R12 = 12,
    /// `r13`
    R13 = 13,
    /// `r14`
    R14 = 14,
    /// `r15`
    R15 = 15,
}

/// A memory operand.
#[derive(Clone, Copy, Debug)]
pub enum Mem {
    /// `[base + displacement]`
    Base(Reg, i32),
    /// `[base + 8 * index]`
    Scaled(Reg, Reg),
    /// `[base + index + displacement]`
    Indexed(Reg, Reg, i8),
    /// `[rip + …]`: an absolute address.
    Absolute(u64),
    /// `fs:[displacement]`
    Thread(i32),
}

/// Condition of a jump, by its number in encodings.
#[derive(Clone, Copy, Debug)]
#[repr(u8)]
pub enum Condition {
    /// Unsigned below.
    Below = 2,
    /// Unsigned above or equal.
    AboveOrEqual = 3,
    /// Zero.
    Zero = 4,
    /// Not zero.
    NotZero = 5,
    /// Negative.
    Sign = 8,
}

/// A place in the code to jump to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Label(usize);

/// Code under construction, for a known address.
#[derive(Debug)]
pub struct Emitter {
    bytes: Vec<u8>,
    address: u64,
    labels: Vec<Option<u64>>,
    jumps: Vec<(usize, Label)>,
}

impl Emitter {
    /// Begins code that will lie at `address`.
    #[must_use]
    pub fn at(address: u64) -> Self {
        Self { bytes: Vec::with_capacity(256), address, labels: Vec::new(), jumps: Vec::new() }
    }

    /// The address of the next byte.
    #[must_use]
    pub fn here(&self) -> u64 {
        self.address + self.bytes.len() as u64
    }

    /// A label that is not placed yet.
    pub fn label(&mut self) -> Label {
        self.labels.push(None);
        Label(self.labels.len() - 1)
    }

    /// Places a label here.
    pub fn place(&mut self, label: Label) {
        let here = self.here();
        self.labels[label.0] = Some(here);
    }

    /// The finished code.
    ///
    /// # Panics
    /// If a label that is jumped to was never placed.
    #[must_use]
    pub fn finish(mut self) -> Vec<u8> {
        for (at, label) in std::mem::take(&mut self.jumps) {
            let target = self.labels[label.0].expect("every label that is used is placed");
            let next = self.address + at as u64 + 4;
            self.bytes[at..at + 4].copy_from_slice(&relative(next, target).to_le_bytes());
        }
        self.bytes
    }

    /// Appends bytes as they are.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Fills with `int3` up to an offset from the beginning.
    ///
    /// # Panics
    /// If the code is past it already: a layout that does not fit.
    pub fn pad_to(&mut self, offset: u64) {
        let offset = usize::try_from(offset).expect("small");
        assert!(self.bytes.len() <= offset, "code of {} bytes, {offset} fit", self.bytes.len());
        self.bytes.resize(offset, 0xcc);
    }

    /// `mov memory, reg` (64 bits).
    pub fn store(&mut self, to: Mem, reg: Reg) {
        self.memory(true, &[0x89], reg as u8, to, 0);
    }

    /// `mov reg, memory` (64 bits).
    pub fn load(&mut self, reg: Reg, from: Mem) {
        self.memory(true, &[0x8b], reg as u8, from, 0);
    }

    /// `mov memory, reg` (32 bits).
    pub fn store32(&mut self, to: Mem, reg: Reg) {
        self.memory(false, &[0x89], reg as u8, to, 0);
    }

    /// `mov reg, memory` (32 bits, zero-extended).
    pub fn load32(&mut self, reg: Reg, from: Mem) {
        self.memory(false, &[0x8b], reg as u8, from, 0);
    }

    /// `lea reg, memory`.
    pub fn lea(&mut self, reg: Reg, of: Mem) {
        self.memory(true, &[0x8d], reg as u8, of, 0);
    }

    /// `add reg, memory`.
    pub fn add(&mut self, reg: Reg, of: Mem) {
        self.memory(true, &[0x03], reg as u8, of, 0);
    }

    /// `add memory, imm8`.
    pub fn add_immediate(&mut self, to: Mem, value: i8) {
        self.memory(true, &[0x83], 0, to, 1);
        self.raw(&value.to_le_bytes());
    }

    /// `and reg, memory` (32 bits, zero-extended).
    pub fn and32(&mut self, reg: Reg, of: Mem) {
        self.memory(false, &[0x23], reg as u8, of, 0);
    }

    /// `cmp reg, memory`.
    pub fn compare(&mut self, reg: Reg, with: Mem) {
        self.memory(true, &[0x3b], reg as u8, with, 0);
    }

    /// `xadd memory, reg`: one instruction, so a signal comes before or after it.
    pub fn exchange_add(&mut self, memory: Mem, reg: Reg) {
        self.memory(true, &[0x0f, 0xc1], reg as u8, memory, 0);
    }

    /// `pop memory`; an address made from `rsp` counts it as popped already.
    pub fn pop(&mut self, to: Mem) {
        self.memory(false, &[0x8f], 0, to, 0);
    }

    /// `push memory`.
    pub fn push(&mut self, from: Mem) {
        self.memory(false, &[0xff], 6, from, 0);
    }

    /// `push reg`.
    pub fn push_register(&mut self, reg: Reg) {
        self.short(0x50, reg);
    }

    /// `pop reg`.
    pub fn pop_register(&mut self, reg: Reg) {
        self.short(0x58, reg);
    }

    /// `and rsp, -alignment`; a power of two up to 64.
    pub fn align_stack(&mut self, alignment: i8) {
        self.raw(&[0x48, 0x83, 0xe4, alignment.wrapping_neg().cast_unsigned()]);
    }

    /// `xor reg, reg` (32 bits, zero-extended).
    pub fn clear(&mut self, reg: Reg) {
        let number = reg as u8;
        if number >= 8 {
            self.raw(&[0x45]);
        }
        self.raw(&[0x31, 0xc0 | (number & 7) << 3 | (number & 7)]);
    }

    /// `mov memory, imm32` (32 bits).
    pub fn store_immediate32(&mut self, to: Mem, value: u32) {
        self.memory(false, &[0xc7], 0, to, 4);
        self.raw(&value.to_le_bytes());
    }

    /// `cmp memory, imm8` (32 bits, the immediate sign-extended).
    pub fn compare_immediate32(&mut self, memory: Mem, value: i8) {
        self.memory(false, &[0x83], 7, memory, 1);
        self.raw(&value.to_le_bytes());
    }

    /// `inc memory` (32 bits): one instruction, so a signal comes before or after it.
    pub fn increment32(&mut self, memory: Mem) {
        self.memory(false, &[0xff], 0, memory, 0);
    }

    /// `test memory, imm8` (8 bits).
    pub fn test8(&mut self, memory: Mem, mask: u8) {
        self.memory(false, &[0xf6], 0, memory, 1);
        self.raw(&[mask]);
    }

    /// `call memory`.
    pub fn call_through(&mut self, memory: Mem) {
        self.memory(false, &[0xff], 2, memory, 0);
    }

    /// `call [label]`.
    pub fn call_through_label(&mut self, label: Label) {
        self.raw(&[0xff, 0x15]);
        self.pending(label);
    }

    /// `movups memory, xmm`.
    pub fn store_xmm(&mut self, to: Mem, number: u8) {
        self.memory(false, &[0x0f, 0x11], number, to, 0);
    }

    /// `movups xmm, memory`.
    pub fn load_xmm(&mut self, number: u8, from: Mem) {
        self.memory(false, &[0x0f, 0x10], number, from, 0);
    }

    /// `vmovups [rsp + 32 * number], ymm`.
    pub fn store_ymm(&mut self, number: u8) {
        self.ymm(0x11, number);
    }

    /// `vmovups ymm, [rsp + 32 * number]`.
    pub fn load_ymm(&mut self, number: u8) {
        self.ymm(0x10, number);
    }

    /// `vmovups [rsp + 64 * number], zmm`.
    pub fn store_zmm(&mut self, number: u8) {
        self.zmm(0x11, number);
    }

    /// `vmovups zmm, [rsp + 64 * number]`.
    pub fn load_zmm(&mut self, number: u8) {
        self.zmm(0x10, number);
    }

    /// `kmovq [rsp + offset], k`.
    pub fn store_mask(&mut self, offset: i32, number: u8) {
        self.mask(0x91, offset, number);
    }

    /// `kmovq k, [rsp + offset]`.
    pub fn load_mask(&mut self, number: u8, offset: i32) {
        self.mask(0x90, offset, number);
    }

    /// `xsave64 memory`.
    pub fn xsave(&mut self, to: Mem) {
        self.memory(true, &[0x0f, 0xae], 4, to, 0);
    }

    /// `xsavec64 memory`.
    pub fn xsave_compacted(&mut self, to: Mem) {
        self.memory(true, &[0x0f, 0xc7], 4, to, 0);
    }

    /// `xrstor64 memory`.
    pub fn xrstor(&mut self, from: Mem) {
        self.memory(true, &[0x0f, 0xae], 5, from, 0);
    }

    /// `jmp memory`.
    pub fn jump_through(&mut self, memory: Mem) {
        self.memory(false, &[0xff], 4, memory, 0);
    }

    /// `mov to, from` (64 bits).
    pub fn copy(&mut self, to: Reg, from: Reg) {
        self.registers(&[0x89], from as u8, to as u8);
    }

    /// `sub to, from`.
    pub fn subtract(&mut self, to: Reg, from: Reg) {
        self.registers(&[0x29], from as u8, to as u8);
    }

    /// `imul to, from`.
    pub fn multiply(&mut self, to: Reg, from: Reg) {
        self.registers(&[0x0f, 0xaf], to as u8, from as u8);
    }

    /// `or to, from`.
    pub fn or(&mut self, to: Reg, from: Reg) {
        self.registers(&[0x09], from as u8, to as u8);
    }

    /// `test reg, reg`.
    pub fn test(&mut self, reg: Reg) {
        self.registers(&[0x85], reg as u8, reg as u8);
    }

    /// `shr reg, count`.
    pub fn shift_right(&mut self, reg: Reg, count: u8) {
        self.registers(&[0xc1], 5, reg as u8);
        self.raw(&[count]);
    }

    /// `shl reg, count`.
    pub fn shift_left(&mut self, reg: Reg, count: u8) {
        self.registers(&[0xc1], 4, reg as u8);
        self.raw(&[count]);
    }

    /// `cmp reg, imm32` (sign-extended).
    pub fn compare_immediate(&mut self, reg: Reg, value: i32) {
        self.registers(&[0x81], 7, reg as u8);
        self.raw(&value.to_le_bytes());
    }

    /// `or reg, imm32` (32 bits, zero-extended).
    pub fn or_immediate32(&mut self, reg: Reg, value: u32) {
        let number = reg as u8;
        if number >= 8 {
            self.raw(&[0x41]);
        }
        self.raw(&[0x81, 0xc8 | (number & 7)]);
        self.raw(&value.to_le_bytes());
    }

    /// `mov reg, imm32` (zero-extended).
    pub fn set32(&mut self, reg: Reg, value: u32) {
        let number = reg as u8;
        if number >= 8 {
            self.raw(&[0x41]);
        }
        self.raw(&[0xb8 | (number & 7)]);
        self.raw(&value.to_le_bytes());
    }

    /// `mov reg, imm64`.
    pub fn set64(&mut self, reg: Reg, value: u64) {
        let number = reg as u8;
        self.raw(&[0x48 | (number >> 3), 0xb8 | (number & 7)]);
        self.raw(&value.to_le_bytes());
    }

    /// `rdtsc`.
    pub fn read_time(&mut self) {
        self.raw(&[0x0f, 0x31]);
    }

    /// `ret`.
    pub fn ret(&mut self) {
        self.raw(&[0xc3]);
    }

    /// `call target`.
    pub fn call(&mut self, target: u64) {
        self.raw(&[0xe8]);
        self.displacement(target);
    }

    /// `jmp target`.
    pub fn jump(&mut self, target: u64) {
        self.raw(&[0xe9]);
        self.displacement(target);
    }

    /// `jmp label`.
    pub fn jump_to(&mut self, label: Label) {
        self.raw(&[0xe9]);
        self.pending(label);
    }

    /// `jcc label`.
    pub fn branch(&mut self, condition: Condition, label: Label) {
        self.raw(&[0x0f, 0x80 | condition as u8]);
        self.pending(label);
    }

    fn short(&mut self, opcode: u8, reg: Reg) {
        let number = reg as u8;
        if number >= 8 {
            self.raw(&[0x41]);
        }
        self.raw(&[opcode | (number & 7)]);
    }

    fn ymm(&mut self, opcode: u8, number: u8) {
        let high = if number < 8 { 0x80 } else { 0 };
        self.raw(&[0xc5, high | 0x7c, opcode, 0x84 | (number & 7) << 3, 0x24]);
        self.raw(&(32 * i32::from(number)).to_le_bytes());
    }

    /// The displacement is a byte that counts whole registers.
    fn zmm(&mut self, opcode: u8, number: u8) {
        let high = (!number & 8) << 4 | (!number & 16);
        self.raw(&[0x62, high | 0x61, 0x7c, 0x48, opcode, 0x44 | (number & 7) << 3, 0x24, number]);
    }

    fn mask(&mut self, opcode: u8, offset: i32, number: u8) {
        self.raw(&[0xc4, 0xe1, 0xf8, opcode, 0x84 | (number & 7) << 3, 0x24]);
        self.raw(&offset.to_le_bytes());
    }

    fn pending(&mut self, label: Label) {
        self.jumps.push((self.bytes.len(), label));
        self.raw(&[0; 4]);
    }

    fn displacement(&mut self, target: u64) {
        let value = relative(self.here() + 4, target);
        self.raw(&value.to_le_bytes());
    }

    fn registers(&mut self, opcode: &[u8], reg: u8, rm: u8) {
        self.raw(&[0x48 | ((reg >> 3) << 2) | (rm >> 3)]);
        self.raw(opcode);
        self.raw(&[0xc0 | ((reg & 7) << 3) | (rm & 7)]);
    }

    /// `trailing` immediate bytes follow the operand; a rip-relative address counts from them.
    fn memory(&mut self, wide: bool, opcode: &[u8], reg: u8, memory: Mem, trailing: u64) {
        let (base, index) = match memory {
            Mem::Base(base, _) => (base as u8, 0),
            Mem::Scaled(base, index) | Mem::Indexed(base, index, _) => (base as u8, index as u8),
            Mem::Absolute(_) | Mem::Thread(_) => (0, 0),
        };
        if matches!(memory, Mem::Thread(_)) {
            self.raw(&[0x64]);
        }
        let rex = u8::from(wide) << 3 | (reg >> 3) << 2 | (index >> 3) << 1 | base >> 3;
        if rex != 0 {
            self.raw(&[0x40 | rex]);
        }
        self.raw(opcode);
        let reg = (reg & 7) << 3;
        let (base, index) = (base & 7, (index & 7) << 3);
        match memory {
            Mem::Base(_, displacement) => {
                let short = i8::try_from(displacement);
                let mode = if short.is_ok() { 0x40 } else { 0x80 };
                self.raw(&[mode | reg | base]);
                if base == 4 {
                    self.raw(&[0x24]);
                }
                match short {
                    Ok(byte) => self.raw(&byte.to_le_bytes()),
                    Err(_) => self.raw(&displacement.to_le_bytes()),
                }
            }
            Mem::Scaled(..) => self.raw(&[0x44 | reg, 0xc0 | index | base, 0]),
            Mem::Indexed(_, _, displacement) => {
                self.raw(&[0x44 | reg, index | base]);
                self.raw(&displacement.to_le_bytes());
            }
            Mem::Absolute(address) => {
                self.raw(&[0x05 | reg]);
                let value = relative(self.here() + 4 + trailing, address);
                self.raw(&value.to_le_bytes());
            }
            Mem::Thread(displacement) => {
                self.raw(&[0x04 | reg, 0x25]);
                self.raw(&displacement.to_le_bytes());
            }
        }
    }
}

/// Distance from `next` to `target`.
///
/// # Panics
/// If it exceeds 2 GiB: callers keep their code within reach.
fn relative(next: u64, target: u64) -> i32 {
    let distance = target.wrapping_sub(next).cast_signed();
    i32::try_from(distance).expect("generated code lies within 2 GiB of what it refers to")
}

/// Whether code at `from` can reach `to` with a 32-bit displacement, with a little to spare.
#[must_use]
pub fn reaches(from: u64, to: u64) -> bool {
    to.wrapping_sub(from).cast_signed().unsigned_abs() < (1 << 31) - 4096
}
