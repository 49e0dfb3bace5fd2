//! Rust source without its comments and the contents of its strings.

/// The text with comments, strings and characters blanked out; lines keep their numbers.
pub(crate) fn code_only(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let after_name = code.ends_with(|c: char| c.is_alphanumeric() || c == '_');
        let length = match first {
            '/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => block_comment(rest),
            '"' => string(rest),
            '\'' => character(rest),
            'r' | 'b' | 'c' if !after_name => raw_string(rest),
            _ => 0,
        };
        let (kept, blanked, taken) = match length {
            0 => (Some(first), "", first.len_utf8()),
            length => (None, &rest[..length], length),
        };
        code.extend(kept);
        // Something must stand between the words around a comment.
        code.extend(blanked.chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
        rest = &rest[taken..];
    }
    code
}

/// Length of a comment, with those inside it.
fn block_comment(text: &str) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while at < text.len() {
        if text[at..].starts_with("/*") {
            depth += 1;
            at += 2;
        } else if text[at..].starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += text[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    text.len()
}

/// Length of a string literal with escapes.
fn string(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// Length of a character literal; 0 for a lifetime.
fn character(text: &str) -> usize {
    let mut chars = text.char_indices().skip(1);
    match chars.next() {
        Some((_, '\\')) => {
            let end = text.get(3..).and_then(|rest| rest.find('\''));
            end.map_or(text.len(), |end| end + 4)
        }
        Some(_) => match chars.next() {
            Some((at, '\'')) => at + 1,
            _ => 0,
        },
        None => 0,
    }
}

/// Length of a raw string literal; 0 if it is none.
fn raw_string(text: &str) -> usize {
    let Some(rest) = text.trim_start_matches(['b', 'c']).strip_prefix('r') else { return 0 };
    let hashes = rest.len() - rest.trim_start_matches('#').len();
    let Some(body) = rest[hashes..].strip_prefix('"') else { return 0 };
    let end = format!("\"{}", "#".repeat(hashes));
    let start = text.len() - body.len();
    body.find(&end).map_or(text.len(), |at| start + at + end.len())
}

/// Whether a word stands in a line of code by itself.
pub(crate) fn has_word(line: &str, word: &str) -> bool {
    let part_of_word = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        !line[..at].ends_with(part_of_word) && !line[at + word.len()..].starts_with(part_of_word)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_literals_are_blanked() {
        let cases = [
            ("a // b\nc", "a  \nc"),
            ("a/* b /* c */ d */e", "a e"),
            ("f(\"x // \\\" y\") + 1", "f( ) + 1"),
            ("f(r#\"a\"b\"#, c)", "f( , c)"),
            ("x(br\"\\\" + x", "x( + x"),
            ("fn f<'a>(x: &'a str)", "fn f<'a>(x: &'a str)"),
            ("['\"', '\\'', '\\u{41}', x]", "[ , , , x]"),
            ("for r in b", "for r in b"),
            ("a/* open", "a "),
        ];
        let squeeze = |text: &str| {
            text.split(' ').filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
        };
        for (text, expected) in cases {
            let code = code_only(text);
            assert_eq!(code.len(), text.len());
            assert_eq!(squeeze(&code), squeeze(expected), "{text}");
        }
    }

    #[test]
    fn words_are_whole() {
        assert!(has_word("unsafe { x }", "unsafe"));
        assert!(!has_word("#![forbid(unsafe_code)]", "unsafe"));
        assert!(!has_word("very_unsafe", "unsafe"));
    }
}
