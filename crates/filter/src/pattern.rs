//! Patterns for function names.

use globset::{GlobBuilder, GlobMatcher};
use regex::Regex;
use thiserror::Error;

/// How a pattern is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Syntax {
    /// A regular expression, matched anywhere in the name. A pattern without any special
    /// character is a name, and matches only that.
    #[default]
    Regex,
    /// A shell glob, matched against the whole name.
    Glob,
}

/// Why a pattern cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PatternError {
    /// There is nothing before the `@`, nothing after it, or nothing at all.
    #[error("the pattern {pattern:?} names no function or no module")]
    Empty {
        /// As given.
        pattern: String,
    },
    /// It is not written correctly.
    #[error("the {kind} {pattern:?} is wrong: {reason}")]
    Malformed {
        /// As given.
        pattern: String,
        /// `regular expression` or `glob`.
        kind: &'static str,
        /// What is wrong with it.
        reason: String,
    },
}

#[derive(Clone, Debug)]
enum Matcher {
    Name(String),
    Regex(Regex),
    Glob(GlobMatcher),
}

/// A function pattern: a regular expression or glob, and perhaps `@module`.
#[derive(Clone, Debug)]
pub struct Pattern {
    text: String,
    matcher: Matcher,
    module: Option<String>,
}

impl Pattern {
    /// Reads `name` or `name@module`.
    ///
    /// # Errors
    /// When it is empty or malformed.
    pub fn new(text: &str, syntax: Syntax) -> Result<Self, PatternError> {
        let (name, module) = match text.rsplit_once('@') {
            Some((name, module)) => (name, Some(module.to_owned())),
            None => (text, None),
        };
        if name.is_empty() || module.as_ref().is_some_and(String::is_empty) {
            return Err(PatternError::Empty { pattern: text.to_owned() });
        }
        let malformed =
            |kind, reason| PatternError::Malformed { pattern: text.to_owned(), kind, reason };
        let matcher = match syntax {
            Syntax::Regex if !name.contains(is_special) => Matcher::Name(name.to_owned()),
            Syntax::Regex => match Regex::new(name) {
                Ok(regex) => Matcher::Regex(regex),
                Err(error) => return Err(malformed("regular expression", last_line(&error))),
            },
            Syntax::Glob => match GlobBuilder::new(name).literal_separator(false).build() {
                Ok(glob) => Matcher::Glob(glob.compile_matcher()),
                Err(error) => return Err(malformed("glob", error.kind().to_string())),
            },
        };
        Ok(Self { text: text.to_owned(), matcher, module })
    }

    /// The pattern as given.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether one of a function's `names` matches, in the object with this file name.
    #[must_use]
    pub fn matches(&self, names: &[&str], module: &str) -> bool {
        let here = self.module.as_deref().is_none_or(|wanted| module_matches(wanted, module));
        here && names.iter().any(|name| match &self.matcher {
            Matcher::Name(wanted) => is_named(wanted, name),
            Matcher::Regex(regex) => regex.is_match(name),
            Matcher::Glob(glob) => glob.is_match(name),
        })
    }
}

fn is_special(character: char) -> bool {
    ".?*+^$|()[]{}\\".contains(character)
}

/// Whether `name` is `wanted`, perhaps with parameters after it.
fn is_named(wanted: &str, name: &str) -> bool {
    name.strip_prefix(wanted).is_some_and(|rest| rest.is_empty() || rest.starts_with('('))
}

/// Whether a file name is that of the module wanted: `libc` and `c` both mean `libc.so.6` and
/// `libc-2.31.so`, neither means `libcrypto.so.3`.
fn module_matches(wanted: &str, module: &str) -> bool {
    let begins = |module: &str| {
        module
            .strip_prefix(wanted)
            .is_some_and(|rest| !rest.starts_with(|next: char| next.is_alphabetic() || next == '_'))
    };
    begins(module) || module.strip_prefix("lib").is_some_and(begins)
}

/// What is wrong with an expression; the lines before only draw it.
fn last_line(error: &regex::Error) -> String {
    let text = error.to_string();
    let line = text.lines().last().unwrap_or_default();
    line.trim_start_matches("error: ").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, syntax: Syntax, name: &str, module: &str) -> bool {
        Pattern::new(pattern, syntax).unwrap().matches(&["_Zraw", name], module)
    }

    #[test]
    fn a_plain_name_matches_only_itself() {
        assert!(matches("main", Syntax::Regex, "main", "app"));
        assert!(!matches("main", Syntax::Regex, "domain", "app"));
        assert!(!matches("main", Syntax::Regex, "main2", "app"));
        assert!(matches("ns::f", Syntax::Regex, "ns::f(int, char*)", "app"));
        assert!(matches("_Zraw", Syntax::Regex, "f", "app"));
    }

    #[test]
    fn an_expression_matches_anywhere_and_a_glob_the_whole() {
        assert!(matches("^http_", Syntax::Regex, "http_get", "app"));
        assert!(matches("ma.n", Syntax::Regex, "domain", "app"));
        assert!(!matches("^ma.n", Syntax::Regex, "domain", "app"));
        assert!(matches("http_*", Syntax::Glob, "http_get", "app"));
        assert!(!matches("http_*", Syntax::Glob, "my_http_get", "app"));
        assert!(matches("std::*", Syntax::Glob, "std::fs::read/write", "app"));
        assert!(matches("?ain", Syntax::Glob, "main", "app"));
    }

    #[test]
    fn a_module_is_named_by_the_beginning_of_its_file() {
        for (module, wanted, yes) in [
            ("libc.so.6", "libc", true),
            ("libc.so.6", "c", true),
            ("libc.so.6", "libc.so.6", true),
            ("libc-2.31.so", "libc", true),
            ("libcrypto.so.3", "libc", false),
            ("libcrypto.so.3", "crypto", true),
            ("libpython3.11.so", "libpython", true),
            ("app", "app", true),
            ("app", "ap", false),
        ] {
            let pattern = format!("f@{wanted}");
            assert_eq!(matches(&pattern, Syntax::Regex, "f", module), yes, "{pattern} {module}");
        }
        assert!(!matches("g@libc", Syntax::Regex, "f", "libc.so.6"));
    }

    #[test]
    fn what_is_wrong_is_said() {
        for empty in ["", "@libc", "f@"] {
            let error = Pattern::new(empty, Syntax::Regex).unwrap_err();
            assert_eq!(error, PatternError::Empty { pattern: empty.into() });
        }
        let error = Pattern::new("a(b", Syntax::Regex).unwrap_err().to_string();
        assert_eq!(error, "the regular expression \"a(b\" is wrong: unclosed group");
        let error = Pattern::new("a[b", Syntax::Glob).unwrap_err().to_string();
        assert!(error.starts_with("the glob \"a[b\" is wrong: "), "{error}");
    }
}
