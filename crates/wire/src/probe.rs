//! What probes take: little programs that the agent runs when a site is hit, and the records in
//! which values come back.
//!
//! A thunk's word at `cell::THUNK_PROBES` is the offset, in words, of the site's list in the area of
//! the segment: the site's index, the number of probes, and for each probe its [`Head`] and its
//! steps, two words each. A list that a thunk has named is never changed; one that is of no use any
//! more stays where it is, since some thread could just read it.
//!
//! A hit is [`HIT_SITE`] (the time; `Enter` or `Exit`; the probe's number as `cell`), and then, each
//! in one or more records of [`VALUE_SITE`], the address of the caller and the values. Such a record
//! holds eight bytes in place of the time; since a record's first word is never 0, `Exit` says that
//! the bytes are. Its `cell` tells how many bytes the value still has, these included.

use crate::record::MAX_SITES;

/// Bytes of the area.
pub const AREA_BYTES: u64 = 1 << 20;
/// Words of the area.
pub const AREA_WORDS: u64 = AREA_BYTES / 8;
/// Words in front of a list's probes.
pub const LIST_WORDS: u64 = 2;

/// Site of the record that begins a hit.
pub const HIT_SITE: u32 = MAX_SITES - 2;
/// Site of the records that hold its values.
pub const VALUE_SITE: u32 = MAX_SITES - 3;
/// In the `cell` of a value: the hit ends with it.
pub const VALUE_LAST: u32 = 1 << 30;
/// In the `cell` of a value: the memory could not be read.
pub const VALUE_FAULT: u32 = 1 << 31;
/// The other bits: bytes.
pub const VALUE_BYTES: u32 = 0xffff;
/// Records of a hit, at most. So many fit behind a ring's limit.
pub const MOST_RECORDS: usize = 100;
/// The longest string, without its end.
pub const MOST_STRING: usize = 255;

/// What a probe is: the word in front of its steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Its number.
    pub probe: u32,
    /// Hit when the function returns, not when it is called.
    pub on_return: bool,
    /// Steps that follow.
    pub steps: u16,
}

impl Head {
    /// The head as a word.
    #[must_use]
    pub const fn to_word(self) -> u64 {
        self.probe as u64 | (self.on_return as u64) << 32 | (self.steps as u64) << 48
    }

    /// Reads a head.
    #[must_use]
    pub const fn from_word(word: u64) -> Self {
        Self { probe: word as u32, on_return: word >> 32 & 1 != 0, steps: (word >> 48) as u16 }
    }
}

/// A step. There is one number to work on; when a step cannot read memory, the argument is a fault,
/// and its other steps are left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The number becomes a register, by its number in [`REGISTERS`].
    Register(u64),
    /// The number becomes this one.
    Number(u64),
    /// The number becomes a word of the stack, counted from where the return address is.
    Stack(u64),
    /// The number becomes the word so far behind the address that it is.
    Follow(i64),
    /// Ends an argument: the number.
    Give,
    /// Ends an argument: so many bytes, so far behind the address.
    Bytes(u16, i64),
    /// Ends an argument: the string, so far behind the address.
    String(i64),
    /// Ends an argument: it is a fault.
    Fault,
}

/// Registers by their numbers; the stack pointer is where the return address is, or was.
pub const REGISTERS: [&str; 16] = [
    "ax", "bx", "cx", "dx", "si", "di", "bp", "sp", "r8", "r9", "r10", "r11", "r12", "r13", "r14",
    "r15",
];

impl Step {
    /// The step as words.
    #[must_use]
    pub const fn to_words(self) -> [u64; 2] {
        match self {
            Self::Register(number) => [1, number],
            Self::Number(number) => [2, number],
            Self::Stack(index) => [3, index],
            Self::Follow(offset) => [4, offset.cast_unsigned()],
            Self::Give => [5, 0],
            Self::Bytes(length, offset) => [6 | (length as u64) << 8, offset.cast_unsigned()],
            Self::String(offset) => [7, offset.cast_unsigned()],
            Self::Fault => [8, 0],
        }
    }

    /// Reads a step; what is none is a fault.
    #[must_use]
    pub const fn from_words([kind, operand]: [u64; 2]) -> Self {
        match kind & 0xff {
            1 => Self::Register(operand),
            2 => Self::Number(operand),
            3 => Self::Stack(operand),
            4 => Self::Follow(operand.cast_signed()),
            5 => Self::Give,
            6 => Self::Bytes((kind >> 8) as u16, operand.cast_signed()),
            7 => Self::String(operand.cast_signed()),
            _ => Self::Fault,
        }
    }

    /// Whether an argument ends with it.
    #[must_use]
    pub const fn ends(self) -> bool {
        matches!(self, Self::Give | Self::Bytes(..) | Self::String(_) | Self::Fault)
    }

    /// Records that its value takes at most; 0 if it ends no argument.
    #[must_use]
    pub const fn records(self) -> usize {
        match self {
            Self::Give | Self::Fault => 1,
            Self::Bytes(length, _) => records_of(length as usize),
            Self::String(_) => records_of(MOST_STRING),
            _ => 0,
        }
    }
}

/// Records of a value of so many bytes.
#[must_use]
pub const fn records_of(bytes: usize) -> usize {
    if bytes == 0 { 1 } else { bytes.div_ceil(8) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_survive_the_round_trip() {
        let steps = [
            Step::Register(5),
            Step::Number(u64::MAX),
            Step::Stack(3),
            Step::Follow(-8),
            Step::Give,
            Step::Bytes(512, -1),
            Step::String(i64::MIN),
            Step::Fault,
        ];
        for step in steps {
            assert_eq!(Step::from_words(step.to_words()), step);
        }
        let head = Head { probe: u32::MAX, on_return: true, steps: u16::MAX };
        assert_eq!(Head::from_word(head.to_word()), head);
    }
}
