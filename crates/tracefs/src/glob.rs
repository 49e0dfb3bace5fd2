//! Patterns as ftrace reads them: `name`, `start*`, `*end`, `*middle*`, and full globs.

/// A pattern for names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    text: String,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Exact,
    Start,
    End,
    Middle,
    Glob,
}

impl Pattern {
    /// Reads a pattern. `*` at the ends is cheap; `*` elsewhere, `?`, `[` or `\` make it a glob.
    #[must_use]
    pub fn new(text: &str) -> Self {
        let inner = text.strip_prefix('*').unwrap_or(text);
        let (leading, trailing) = (inner.len() != text.len(), inner.ends_with('*'));
        let core = inner.strip_suffix('*').unwrap_or(inner);
        if core.contains(['*', '?', '[', '\\']) {
            return Self { text: text.to_owned(), kind: Kind::Glob };
        }
        let kind = match (leading, trailing) {
            (false, false) => Kind::Exact,
            (false, true) => Kind::Start,
            (true, false) => Kind::End,
            (true, true) => Kind::Middle,
        };
        Self { text: core.to_owned(), kind }
    }

    /// Whether it can match more than one name.
    #[must_use]
    pub fn is_exact(&self) -> bool {
        self.kind == Kind::Exact
    }

    /// Whether it matches every name.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        self.text.is_empty() && matches!(self.kind, Kind::Start | Kind::End | Kind::Middle)
    }

    /// Whether the whole of `name` matches.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        match self.kind {
            Kind::Exact => name == self.text,
            Kind::Start => name.starts_with(&self.text),
            Kind::End => name.ends_with(&self.text),
            Kind::Middle => name.contains(&self.text),
            Kind::Glob => glob(self.text.as_bytes(), name.as_bytes()),
        }
    }
}

/// The kernel's glob: `*`, `?`, `[a-z]`, `[!a-z]`, `\` escapes; an unclosed `[` stands for itself.
/// Backtracks to the last `*` only, so the time is bounded by the product of the lengths.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    loop {
        let step = match pattern.get(p) {
            None if t == text.len() => return true,
            None => None,
            Some(b'*') => {
                star = Some((p + 1, t));
                p += 1;
                continue;
            }
            Some(&symbol) => text.get(t).and_then(|&byte| one(pattern, p, symbol, byte)),
        };
        match (step, star) {
            (Some(next), _) => (p, t) = (next, t + 1),
            (None, Some((behind, from))) if from < text.len() => {
                (p, t) = (behind, from + 1);
                star = Some((behind, from + 1));
            }
            _ => return false,
        }
    }
}

/// Where the pattern goes on if its symbol at `p` matches `byte`.
fn one(pattern: &[u8], p: usize, symbol: u8, byte: u8) -> Option<usize> {
    match symbol {
        b'?' => Some(p + 1),
        b'[' => match class(pattern, p + 1, byte) {
            Some((true, next)) => Some(next),
            Some((false, _)) => None,
            None => (byte == b'[').then_some(p + 1),
        },
        b'\\' => match pattern.get(p + 1) {
            Some(&escaped) => (escaped == byte).then_some(p + 2),
            None => (byte == b'\\').then_some(p + 1),
        },
        _ => (symbol == byte).then_some(p + 1),
    }
}

/// Whether a character class matches, and where it ends; `None` if it is not closed.
fn class(pattern: &[u8], start: usize, byte: u8) -> Option<(bool, usize)> {
    let inverted = pattern.get(start) == Some(&b'!');
    let mut p = start + usize::from(inverted);
    let (first, mut matched) = (p, false);
    loop {
        let low = *pattern.get(p)?;
        if low == b']' && p != first {
            return Some((matched != inverted, p + 1));
        }
        let ranged = pattern.get(p + 1) == Some(&b'-') && pattern.get(p + 2) != Some(&b']');
        let high = if ranged { *pattern.get(p + 2)? } else { low };
        matched |= (low..=high).contains(&byte);
        p += if ranged { 3 } else { 1 };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_the_kernel_s_do() {
        let cases = [
            ("schedule", "schedule", true),
            ("schedule", "reschedule", false),
            ("*schedule", "reschedule", true),
            ("schedule*", "schedule_work", true),
            ("*sched*", "do_sched_yield", true),
            ("*pin*lock", "_raw_spin_trylock", true),
            ("*pin*lock", "_raw_spin_lock_irq", false),
            ("mutex*unl*", "mutex_unlock", true),
            ("sch*ule", "schedule", true),
            ("[Ss]y[Ss]_*", "SyS_open", true),
            ("[Ss]y[Ss]_*", "syz_open", false),
            ("sch?dule", "schedule", true),
            ("a[!b-d]e", "axe", true),
            ("a[!b-d]e", "ace", false),
            ("a[b", "a[b", true),
            ("a\\*b", "a*b", true),
            ("a\\*b", "axb", false),
            ("*a*b*c", "xxaxxbxxbxxc", true),
            ("[]]", "]", true),
            ("*", "", true),
            ("", "", true),
        ];
        for (pattern, name, expected) in cases {
            assert_eq!(Pattern::new(pattern).matches(name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn a_long_pattern_ends_in_reasonable_time() {
        let pattern = Pattern::new(&"*a?".repeat(40));
        assert!(!pattern.matches(&"a".repeat(79)));
        assert!(pattern.matches(&"a".repeat(80)));
    }
}
