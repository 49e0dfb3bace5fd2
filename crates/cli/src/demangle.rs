//! Names as `--demangle` wants them.

use cpp_demangle::{DemangleOptions, ParseOptions, Symbol};
use sledge_analyse::{Names, Naming};
use sledge_discover::names::demangle;

use crate::arguments::Demangle;

/// Longer symbols are left as they are.
const LONGEST: usize = 4096;
/// C++ symbols nest no deeper.
const DEEPEST: u32 = 64;

impl Naming for Demangle {
    fn readable(&self, symbol: &str) -> String {
        match self {
            Self::Simple => demangle(symbol).into_owned(),
            Self::Full => full(symbol).unwrap_or_else(|| symbol.to_owned()),
            Self::No => symbol.to_owned(),
        }
    }

    fn parameters(&self) -> bool {
        *self == Self::Full
    }
}

/// The names of a trace.
pub(crate) fn names(how: Demangle) -> Names {
    Names::new(Box::new(how))
}

/// Rust paths with their hash, C++ names with their parameters.
fn full(symbol: &str) -> Option<String> {
    if symbol.len() > LONGEST {
        return None;
    }
    if let Ok(rust) = rustc_demangle::try_demangle(symbol) {
        return Some(rust.to_string());
    }
    // Clones keep their suffix: `_Z3foov.cold` is `foo().cold`.
    let (mangled, suffix) = symbol.split_at(symbol.find('.').unwrap_or(symbol.len()));
    if !mangled.starts_with("_Z") {
        return None;
    }
    let parse = ParseOptions::default().recursion_limit(DEEPEST);
    let print = DemangleOptions::default().recursion_limit(DEEPEST);
    let parsed = Symbol::new_with_options(mangled, &parse).ok()?;
    Some(parsed.demangle_with_options(&print).ok()? + suffix)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_shown_in_three_ways() {
        let cpp = "_ZN3foo3barEii";
        assert_eq!(Demangle::Simple.readable(cpp), "foo::bar");
        assert_eq!(Demangle::Full.readable(cpp), "foo::bar(int, int)");
        assert_eq!(Demangle::No.readable(cpp), cpp);
        let rust = "_ZN4core3fmt5write17h0123456789abcdefE";
        assert_eq!(Demangle::Full.readable(rust), "core::fmt::write::h0123456789abcdef");
        assert_eq!(Demangle::Full.readable("main"), "main");
        assert_eq!(Demangle::Full.readable("_Z3foov.cold"), "foo().cold");
    }
}
