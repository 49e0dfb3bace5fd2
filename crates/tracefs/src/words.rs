//! Words that are written into files, in any number of pieces.

use crate::errno::Errno;

/// The longest word.
const MOST: usize = 512;

/// Splits what is written at white space; a word may be written in several pieces.
#[derive(Clone, Debug, Default)]
pub(crate) struct Words {
    begun: Vec<u8>,
}

impl Words {
    /// Takes what was written, and gives each complete word to `accept`. Returns how many bytes
    /// were taken: a word that is refused ends the write before it, or fails it if it is the first.
    pub(crate) fn write(
        &mut self,
        bytes: &[u8],
        mut accept: impl FnMut(&str) -> Result<(), Errno>,
    ) -> Result<usize, Errno> {
        let mut taken = 0;
        let mut any = false;
        for piece in bytes.split_inclusive(u8::is_ascii_whitespace) {
            let ends = piece.last().is_some_and(u8::is_ascii_whitespace);
            let text = if ends { &piece[..piece.len() - 1] } else { piece };
            let accepted =
                self.add(text).and_then(|()| if ends { self.end(&mut accept) } else { Ok(()) });
            match accepted {
                Ok(()) => (taken, any) = (taken + piece.len(), true),
                Err(_) if any => return Ok(taken),
                Err(error) => return Err(error),
            }
        }
        Ok(taken)
    }

    fn add(&mut self, text: &[u8]) -> Result<(), Errno> {
        if self.begun.len() + text.len() > MOST {
            self.begun.clear();
            return Err(Errno::Invalid);
        }
        self.begun.extend_from_slice(text);
        Ok(())
    }

    /// The word that was begun is complete.
    pub(crate) fn end(
        &mut self,
        mut accept: impl FnMut(&str) -> Result<(), Errno>,
    ) -> Result<(), Errno> {
        let word = std::mem::take(&mut self.begun);
        if word.is_empty() {
            return Ok(());
        }
        accept(std::str::from_utf8(&word).map_err(|_| Errno::Invalid)?)
    }
}

/// A number as the kernel reads one from a file: decimal, `0x…` or `0…`, with white space around.
pub(crate) fn number(text: &[u8]) -> Result<u64, Errno> {
    let text = std::str::from_utf8(text).map_err(|_| Errno::Invalid)?.trim();
    parse_number(text).ok_or(Errno::Invalid)
}

/// A number: decimal, `0x…` or `0…`.
pub(crate) fn parse_number(text: &str) -> Option<u64> {
    let text = text.strip_prefix('+').unwrap_or(text);
    let digits = |text: &str, radix| {
        let plain = !text.starts_with(['+', '-']);
        plain.then(|| u64::from_str_radix(text, radix).ok()).flatten()
    };
    if let Some(hex) = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        return digits(hex, 16);
    }
    match text.strip_prefix('0') {
        Some(octal) if !octal.is_empty() => digits(octal, 8),
        _ => digits(text, 10),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn collect(pieces: &[&str]) -> Vec<String> {
        let (mut words, mut all) = (Words::default(), Vec::new());
        for piece in pieces {
            words
                .write(piece.as_bytes(), |word| {
                    all.push(word.to_owned());
                    Ok(())
                })
                .unwrap();
        }
        words
            .end(|word| {
                all.push(word.to_owned());
                Ok(())
            })
            .unwrap();
        all
    }

    #[test]
    fn words_may_come_in_pieces() {
        assert_eq!(collect(&["a b\n", "c", "d e", "f"]), ["a", "b", "cd", "ef"]);
        assert_eq!(collect(&["", "  \n\n", " a "]), ["a"]);
    }

    #[test]
    fn a_refused_word_ends_the_write_before_it() {
        let mut words = Words::default();
        let mut accept = |word: &str| if word == "bad" { Err(Errno::Invalid) } else { Ok(()) };
        assert_eq!(words.write(b"good bad more\n", &mut accept), Ok(5));
        assert_eq!(words.write(b"bad more\n", &mut accept), Err(Errno::Invalid));
        assert_eq!(words.write(&[b'x'; 600], &mut accept), Err(Errno::Invalid));
        assert_eq!(words.write(b"fine\n", &mut accept), Ok(5));
    }

    #[test]
    fn numbers_are_read_as_the_kernel_does() {
        assert_eq!(number(b" 12\n"), Ok(12));
        assert_eq!(number(b"0x1f"), Ok(31));
        assert_eq!(number(b"010"), Ok(8));
        for wrong in [&b""[..], b"x", b"-1", b"1a", b"0x", b"\xff", b"99999999999999999999"] {
            assert_eq!(number(wrong), Err(Errno::Invalid));
        }
    }
}
