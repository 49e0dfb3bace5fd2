//! Just enough JSON writing for streams of small objects.

use crate::text;

/// Appends a string literal with its quotes.
pub fn string(out: &mut Vec<u8>, value: &str) {
    out.push(b'"');
    for &byte in value.as_bytes() {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\t' => out.extend_from_slice(b"\\t"),
            b'\r' => out.extend_from_slice(b"\\r"),
            0..0x20 | 0x7f => {
                out.extend_from_slice(b"\\u00");
                out.extend_from_slice(&[hex_digit(byte >> 4), hex_digit(byte & 15)]);
            }
            _ => out.push(byte),
        }
    }
    out.push(b'"');
}

/// A lower-case hexadecimal digit.
#[must_use]
pub const fn hex_digit(value: u8) -> u8 {
    match value {
        0..10 => b'0' + value,
        _ => b'a' + (value - 10),
    }
}

/// Appends the members of one object; [`Object::end`] closes it.
#[derive(Debug)]
pub struct Object<'a> {
    out: &'a mut Vec<u8>,
    first: bool,
}

impl<'a> Object<'a> {
    /// Opens an object.
    pub fn begin(out: &'a mut Vec<u8>) -> Self {
        out.push(b'{');
        Self { out, first: true }
    }

    /// Appends `"key":` and gives the buffer for the value that the caller appends.
    pub fn key(&mut self, key: &str) -> &mut Vec<u8> {
        if !self.first {
            self.out.push(b',');
        }
        self.first = false;
        string(self.out, key);
        self.out.push(b':');
        self.out
    }

    /// A string member.
    pub fn string(&mut self, key: &str, value: &str) -> &mut Self {
        string(self.key(key), value);
        self
    }

    /// A number member.
    pub fn number(&mut self, key: &str, value: u64) -> &mut Self {
        text::number(self.key(key), value);
        self
    }

    /// A number member, or `null`.
    pub fn optional(&mut self, key: &str, value: Option<u64>) -> &mut Self {
        match value {
            Some(value) => self.number(key, value),
            None => {
                self.key(key).extend_from_slice(b"null");
                self
            }
        }
    }

    /// Closes the object.
    pub fn end(&mut self) {
        self.out.push(b'}');
    }
}

/// Appends an array, each item by `write`.
pub fn array<T>(
    out: &mut Vec<u8>,
    items: impl IntoIterator<Item = T>,
    mut write: impl FnMut(&mut Vec<u8>, T),
) {
    out.push(b'[');
    for (index, item) in items.into_iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        write(out, item);
    }
    out.push(b']');
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_string_reads_back(text in any::<String>()) {
            let mut out = Vec::new();
            string(&mut out, &text);
            prop_assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), text);
        }
    }

    #[test]
    fn objects_and_arrays_read_back() {
        let mut out = Vec::new();
        array(&mut out, [1_u64, 2], |out, value| {
            Object::begin(out).number("n", value).string("s", "a\"b").optional("o", None).end();
        });
        let value: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(value[1]["n"], 2);
        assert_eq!(value[1]["s"], "a\"b");
        assert!(value[0]["o"].is_null());
    }
}
