//! Variable-length integers (LEB128) and the other primitives of block bodies.

/// Appends `value`, seven bits a byte, least significant first.
pub(crate) fn put(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a signed value, zigzag.
pub(crate) fn put_signed(out: &mut Vec<u8>, value: i64) {
    put(out, ((value << 1) ^ (value >> 63)) as u64);
}

/// Appends bytes with their length before them.
pub(crate) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Reads the variable-length integer at `*position` and moves on; `None` at the end of the bytes
/// or past 64 bits.
#[inline(always)]
pub(crate) fn take(bytes: &[u8], position: &mut usize) -> Option<u64> {
    let first = *bytes.get(*position)?;
    *position += 1;
    if first < 0x80 {
        return Some(u64::from(first));
    }
    // Two bytes are so frequent that they are worth a way of their own.
    match bytes.get(*position) {
        Some(&second) if second < 0x80 => {
            *position += 1;
            Some(u64::from(second) << 7 | u64::from(first & 0x7f))
        }
        _ => take_rest(bytes, position, first),
    }
}

fn take_rest(bytes: &[u8], position: &mut usize, first: u8) -> Option<u64> {
    let mut value = u64::from(first & 0x7f);
    let mut shift = 7;
    loop {
        let byte = *bytes.get(*position)?;
        *position += 1;
        let bits = u64::from(byte & 0x7f);
        if shift == 63 && bits > 1 {
            return None;
        }
        value |= bits << shift;
        if byte < 0x80 {
            return Some(value);
        }
        shift += 7;
        if shift > 63 {
            return None;
        }
    }
}

/// Reads a block body from its beginning.
#[derive(Clone, Debug)]
pub(crate) struct Fields<'b> {
    bytes: &'b [u8],
    position: usize,
}

impl<'b> Fields<'b> {
    pub(crate) fn new(bytes: &'b [u8]) -> Self {
        Self { bytes, position: 0 }
    }

    pub(crate) fn at_end(&self) -> bool {
        self.position >= self.bytes.len()
    }

    pub(crate) fn position(&self) -> usize {
        self.position
    }

    pub(crate) fn number(&mut self) -> Option<u64> {
        take(self.bytes, &mut self.position)
    }

    pub(crate) fn number32(&mut self) -> Option<u32> {
        self.number()?.try_into().ok()
    }

    pub(crate) fn signed(&mut self) -> Option<i64> {
        let value = self.number()?;
        Some((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    pub(crate) fn bytes(&mut self) -> Option<&'b [u8]> {
        let length = usize::try_from(self.number()?).ok()?;
        self.raw(length)
    }

    pub(crate) fn raw(&mut self, length: usize) -> Option<&'b [u8]> {
        let end = self.position.checked_add(length)?;
        let found = self.bytes.get(self.position..end)?;
        self.position = end;
        Some(found)
    }

    /// A string; what is not UTF-8 in it is replaced.
    pub(crate) fn text(&mut self) -> Option<String> {
        Some(String::from_utf8_lossy(self.bytes()?).into_owned())
    }

    pub(crate) fn fixed32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.raw(4)?.try_into().ok()?))
    }

    pub(crate) fn fixed64(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.raw(8)?.try_into().ok()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_survive_the_round_trip() {
        let values = [0, 1, 127, 128, 16_383, 16_384, u64::from(u32::MAX), u64::MAX - 1, u64::MAX];
        let mut bytes = Vec::new();
        for value in values {
            put(&mut bytes, value);
            put_signed(&mut bytes, value as i64);
        }
        let mut fields = Fields::new(&bytes);
        for value in values {
            assert_eq!(fields.number(), Some(value));
            assert_eq!(fields.signed(), Some(value as i64));
        }
        assert!(fields.at_end());
        assert_eq!(fields.number(), None);
    }

    #[test]
    fn more_than_64_bits_are_refused() {
        let too_long = [0xff; 11];
        assert_eq!(take(&too_long, &mut 0), None);
        let too_large = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02];
        assert_eq!(take(&too_large, &mut 0), None);
    }
}
