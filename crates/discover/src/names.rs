//! Names that people read.

use std::borrow::Cow;
use std::fmt::{self, Write};

/// Longer symbols are left as they are.
const LONGEST: usize = 4096;
/// Symbols whose readable form is longer are left as they are: repetitions in a symbol can
/// multiply without end.
const LONGEST_READABLE: usize = 1 << 14;
/// C++ symbols nest no deeper.
const DEEPEST: u32 = 64;

/// The readable form of a symbol: Rust paths without the hash, C++ names without parameters.
/// What is neither, or is too long to be one, is returned as it is.
#[must_use]
pub fn demangle(name: &str) -> Cow<'_, str> {
    if name.len() > LONGEST || !name.starts_with('_') {
        return Cow::Borrowed(name);
    }
    let mut readable = Bounded(String::new());
    let done = match rustc_demangle::try_demangle(name) {
        Ok(rust) => write!(readable, "{rust:#}").is_ok(),
        Err(_) => cpp(name, &mut readable).is_some(),
    };
    if done { Cow::Owned(readable.0) } else { Cow::Borrowed(name) }
}

/// Text of limited length.
struct Bounded(String);

impl Write for Bounded {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if self.0.len() + text.len() > LONGEST_READABLE {
            return Err(fmt::Error);
        }
        self.0.push_str(text);
        Ok(())
    }
}

fn cpp(name: &str, readable: &mut Bounded) -> Option<()> {
    // Clones keep their suffix: `_Z3foov.cold` is `foo.cold`.
    let (mangled, suffix) = name.split_at(name.find('.').unwrap_or(name.len()));
    if !mangled.starts_with("_Z") {
        return None;
    }
    let parse = cpp_demangle::ParseOptions::default().recursion_limit(DEEPEST);
    let print = cpp_demangle::DemangleOptions::default()
        .no_params()
        .no_return_type()
        .hide_expression_literal_types()
        .recursion_limit(DEEPEST);
    let symbol = cpp_demangle::Symbol::new_with_options(mangled, &parse).ok()?;
    symbol.structured_demangle(readable, &print).ok()?;
    readable.write_str(suffix).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rust_paths_lose_their_hash() {
        assert_eq!(demangle("_ZN4core3fmt5write17h0123456789abcdefE"), "core::fmt::write");
        assert_eq!(demangle("_RNvC6_123foo3bar"), "123foo::bar");
    }

    #[test]
    fn cpp_names_lose_their_parameters() {
        assert_eq!(demangle("_ZN3foo3barEii"), "foo::bar");
        assert_eq!(demangle("_ZN3fooC1Ev"), "foo::foo");
        assert_eq!(demangle("_Z3foov.cold"), "foo.cold");
        assert_eq!(demangle("_ZNSt6vectorIiSaIiEE9push_backERKi"), {
            "std::vector<int, std::allocator<int> >::push_back"
        });
    }

    #[test]
    fn everything_else_stays() {
        for name in ["", "main", "_Z", "_ZN", "_R", "malloc.part.0", "é"] {
            assert_eq!(demangle(name), name);
        }
    }

    #[test]
    fn hostile_names_end() {
        for piece in ["P", "N1a", "I", "S_", "F", "A1_", "DpT_", "L", "X", "(", "u1x"] {
            let name = format!("_Z1f{}", piece.repeat(1300));
            assert!(!demangle(&name).is_empty());
            assert!(!demangle(&format!("_R{}", piece.repeat(1300))).is_empty());
        }
        // Each pair of substitutions doubles the length.
        let doubling: String = (0..30).map(|n| format!("1aIS{n}_S{n}_E")).collect();
        assert!(demangle(&format!("_Z1fI1bE{doubling}")).len() <= LONGEST_READABLE);
        let pairs = "St4pairI".repeat(20) + "ii" + &"ES0_E".repeat(20);
        assert!(demangle(&format!("_Z1f{pairs}")).len() <= LONGEST_READABLE);
    }
}
