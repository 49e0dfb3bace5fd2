//! The code being written: bytes, what each stands for, and what is still to be filled in.

use super::{AT_CALLEE, RelocateError, Relocated};
use iced_x86::{Encoder, IcedError, Instruction};

const JUMP_NEAR: u8 = 0xe9;
const JUMP_SHORT: u8 = 0xeb;
const JUMP_LITERAL: [u8; 2] = [0xff, 0x25];
const PUSH_LITERAL: [u8; 2] = [0xff, 0x35];
/// Kept clear of the edge of ±2 GiB: no cell is longer.
const MARGIN: i64 = 512;

/// Code under construction.
pub(super) struct Buffer {
    place: u64,
    code: Vec<u8>,
    map: Vec<u8>,
    /// What the bytes being written stand for.
    current: u8,
    /// Original offset and position of each instruction.
    starts: Vec<(u8, usize)>,
    literals: Vec<u64>,
    /// Position of a `rel32`, and the literal it is to name.
    literal_uses: Vec<(usize, usize)>,
    /// Position of a `rel8`, and the original offset it is to lead to.
    short_jumps: Vec<(usize, u8)>,
}

impl Buffer {
    pub(super) fn new(place: u64) -> Self {
        Self {
            place,
            code: Vec::with_capacity(64),
            map: Vec::with_capacity(64),
            current: 0,
            starts: Vec::new(),
            literals: Vec::new(),
            literal_uses: Vec::new(),
            short_jumps: Vec::new(),
        }
    }

    /// From here on bytes stand for the instruction at this offset.
    pub(super) fn begin(&mut self, offset: u8) {
        self.current = offset;
        self.starts.push((offset, self.code.len()));
    }

    /// From here on a return address has been pushed.
    pub(super) fn begin_callee(&mut self) {
        self.current = AT_CALLEE;
    }

    /// The offset of the instruction being written.
    pub(super) fn offset(&self) -> u8 {
        self.current
    }

    /// Whether a `rel32` of any instruction here reaches the address.
    pub(super) fn reaches(&self, address: u64) -> bool {
        let distance = address.wrapping_sub(self.place).cast_signed();
        i32::try_from(distance.saturating_add(MARGIN)).is_ok()
            && i32::try_from(distance.saturating_sub(MARGIN)).is_ok()
    }

    /// The `rel32` to an address from the end of an instruction of `length` bytes written next.
    pub(super) fn displacement(&self, address: u64, length: usize) -> [u8; 4] {
        let end = self.place.wrapping_add((self.code.len() + length) as u64);
        let [a, b, c, d, ..] = address.wrapping_sub(end).to_le_bytes();
        [a, b, c, d]
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.code.extend_from_slice(bytes);
        self.map.resize(self.code.len(), self.current);
    }

    pub(super) fn encode(&mut self, instruction: &Instruction) -> Result<(), IcedError> {
        let mut encoder = Encoder::new(64);
        encoder.encode(instruction, self.place.wrapping_add(self.code.len() as u64))?;
        self.bytes(&encoder.take_buffer());
        Ok(())
    }

    /// `jmp address`.
    pub(super) fn jump(&mut self, address: u64) {
        if self.reaches(address) {
            let displacement = self.displacement(address, 5);
            self.bytes(&[JUMP_NEAR]);
            self.bytes(&displacement);
        } else {
            self.with_literal(JUMP_LITERAL, address);
        }
    }

    /// `jcc address`, with the condition as opcodes number it.
    pub(super) fn jump_if(&mut self, condition: u8, address: u64) {
        if self.reaches(address) {
            let displacement = self.displacement(address, 6);
            self.bytes(&[0x0f, 0x80 | condition]);
            self.bytes(&displacement);
        } else {
            // Over the far jump if the condition does not hold: bit 0 negates it.
            self.bytes(&[0x70 | (condition ^ 1), 6]);
            self.with_literal(JUMP_LITERAL, address);
        }
    }

    /// `jmp` to where the instruction of this original offset is now.
    pub(super) fn jump_inside(&mut self, offset: u8) {
        self.short_jump(JUMP_SHORT, offset);
    }

    /// `jcc` to where the instruction of this original offset is now.
    pub(super) fn jump_inside_if(&mut self, condition: u8, offset: u8) {
        self.short_jump(0x70 | condition, offset);
    }

    /// `push value`, by way of a literal.
    pub(super) fn push(&mut self, value: u64) {
        self.with_literal(PUSH_LITERAL, value);
    }

    fn short_jump(&mut self, opcode: u8, offset: u8) {
        self.bytes(&[opcode]);
        self.short_jumps.push((self.code.len(), offset));
        self.bytes(&[0]);
    }

    fn with_literal(&mut self, opcode: [u8; 2], value: u64) {
        let known = self.literals.iter().position(|&literal| literal == value);
        let index = known.unwrap_or_else(|| {
            self.literals.push(value);
            self.literals.len() - 1
        });
        self.bytes(&opcode);
        self.literal_uses.push((self.code.len(), index));
        self.bytes(&[0; 4]);
    }

    /// Adds the literals and fills in what refers to them and to instructions.
    pub(super) fn finish(mut self, capacity: usize) -> Result<Relocated, RelocateError> {
        let needed = self.code.len() + 8 * self.literals.len();
        if needed > capacity {
            return Err(RelocateError::NoRoom { needed, capacity });
        }
        self.resolve_short_jumps()?;
        let pool = self.code.len();
        for &(position, index) in &self.literal_uses {
            let distance = (pool + 8 * index - (position + 4)) as u32;
            self.code[position..position + 4].copy_from_slice(&distance.to_le_bytes());
        }
        for literal in &self.literals {
            self.code.extend_from_slice(&literal.to_le_bytes());
        }
        self.map.resize(self.code.len(), AT_CALLEE);
        Ok(Relocated { code: self.code, map: self.map })
    }

    fn resolve_short_jumps(&mut self) -> Result<(), RelocateError> {
        for &(position, target) in &self.short_jumps {
            let offset = self.map[position];
            let start = self.starts.iter().find(|(start, _)| *start == target);
            let distance = start.map(|&(_, to)| to as isize - (position as isize + 1));
            let Some(Ok(distance)) = distance.map(i8::try_from) else {
                return Err(RelocateError::BranchIntoDisplaced { offset });
            };
            self.code[position] = distance.cast_unsigned();
        }
        Ok(())
    }
}
