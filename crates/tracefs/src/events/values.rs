//! Values as probes show them.

use super::fetch::{Argument, Type, TypeKind};
use crate::functions::Functions;
use crate::tracee::Value;
use std::fmt::Write;

/// ` name=value` for each argument.
pub(crate) fn show(arguments: &[Argument], values: &[Value], functions: &Functions) -> String {
    let mut text = String::new();
    for (argument, value) in arguments.iter().zip(values) {
        let _ = write!(text, " {}={}", argument.name, one(&argument.kind, value, functions));
    }
    text
}

fn one(kind: &Type, value: &Value, functions: &Functions) -> String {
    match value {
        Value::Fault => "(fault)".to_owned(),
        Value::Text(text) => format!("\"{}\"", String::from_utf8_lossy(text)),
        Value::Number(number) => number_text(kind, *number, functions),
        Value::Numbers(numbers) => {
            let each = numbers.iter().map(|number| number_text(kind, *number, functions));
            format!("{{{}}}", each.collect::<Vec<_>>().join(","))
        }
    }
}

/// The number that a type makes of a word.
pub(crate) fn narrowed(kind: &Type, word: u64) -> i128 {
    let bits = u32::from(kind.bytes) * 8;
    let low = if bits >= 64 { word } else { word & ((1 << bits) - 1) };
    match kind.kind {
        TypeKind::Signed => {
            let shift = 64 - bits.min(64);
            i128::from((low << shift).cast_signed() >> shift)
        }
        TypeKind::Bitfield { width, offset } => {
            let mask = if width >= 64 { u64::MAX } else { (1 << width) - 1 };
            i128::from(low >> offset & mask)
        }
        _ => i128::from(low),
    }
}

fn number_text(kind: &Type, word: u64, functions: &Functions) -> String {
    let number = narrowed(kind, word);
    match kind.kind {
        TypeKind::Hexadecimal => format!("{number:#x}"),
        TypeKind::Char => format!("'{}'", char::from(number as u8)),
        TypeKind::Symbol => functions.symbol(word, true),
        _ => number.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_become_numbers_of_their_types() {
        let kind = |kind, bytes| Type { kind, bytes, count: 0 };
        let cases = [
            (kind(TypeKind::Signed, 1), 0x1ff, -1),
            (kind(TypeKind::Signed, 8), u64::MAX, -1),
            (kind(TypeKind::Unsigned, 2), 0x1_ffff, 0xffff),
            (kind(TypeKind::Hexadecimal, 8), u64::MAX, i128::from(u64::MAX)),
            (kind(TypeKind::Bitfield { width: 4, offset: 4 }, 1), 0xab, 0xa),
        ];
        for (kind, word, number) in cases {
            assert_eq!(narrowed(&kind, word), number);
        }
    }
}
