//! Protocol buffers, as far as writing them goes: <https://protobuf.dev/programming-guides/encoding>.

/// Appends a varint: seven bits a byte, least significant first.
#[inline]
pub(crate) fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// A field that holds a number.
#[inline]
pub(crate) fn number(out: &mut Vec<u8>, field: u32, value: u64) {
    varint(out, u64::from(field) << 3);
    varint(out, value);
}

/// A field that holds eight bytes.
pub(crate) fn fixed64(out: &mut Vec<u8>, field: u32, value: u64) {
    varint(out, u64::from(field) << 3 | 1);
    out.extend_from_slice(&value.to_le_bytes());
}

/// A field that holds text or bytes.
pub(crate) fn bytes(out: &mut Vec<u8>, field: u32, value: &[u8]) {
    varint(out, u64::from(field) << 3 | 2);
    varint(out, value.len() as u64);
    out.extend_from_slice(value);
}

/// A field that holds many numbers.
pub(crate) fn packed(out: &mut Vec<u8>, field: u32, values: impl IntoIterator<Item = u64>) {
    message(out, field, |out| values.into_iter().for_each(|value| varint(out, value)));
}

/// A field that holds a message, which `write` appends.
#[inline]
pub(crate) fn message(out: &mut Vec<u8>, field: u32, write: impl FnOnce(&mut Vec<u8>)) {
    varint(out, u64::from(field) << 3 | 2);
    let at = out.len();
    // Most messages are short: one byte of length is kept free, more are made room for.
    out.push(0);
    write(out);
    let length = out.len() - at - 1;
    if length < 0x80 {
        out[at] = length as u8;
        return;
    }
    let mut prefix = Vec::with_capacity(5);
    varint(&mut prefix, length as u64);
    out.splice(at..=at, prefix);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_as_the_encoding_guide_has_them() {
        let mut out = Vec::new();
        number(&mut out, 1, 150);
        assert_eq!(out, [0x08, 0x96, 0x01]);
        out.clear();
        bytes(&mut out, 2, b"testing");
        assert_eq!(out, b"\x12\x07testing");
        out.clear();
        message(&mut out, 3, |out| number(out, 1, 150));
        assert_eq!(out, [0x1a, 0x03, 0x08, 0x96, 0x01]);
        out.clear();
        packed(&mut out, 6, [3, 270, 86942]);
        assert_eq!(out, [0x32, 0x06, 0x03, 0x8e, 0x02, 0x9e, 0xa7, 0x05]);
    }

    #[test]
    fn long_messages_have_long_lengths() {
        for length in [127, 128, 20_000, 3_000_000] {
            let mut out = Vec::new();
            message(&mut out, 1, |out| out.resize(out.len() + length, 7));
            let mut expected = vec![0x0a];
            varint(&mut expected, length as u64);
            assert_eq!(out[..expected.len()], expected);
            assert_eq!(out.len(), expected.len() + length);
        }
    }
}
