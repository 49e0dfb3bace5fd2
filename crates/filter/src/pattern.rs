//! Patterns for function names.

use thiserror::Error;

/// How a pattern is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Syntax {
    /// A regular expression, matched anywhere in the name.
    #[default]
    Regex,
    /// A shell glob, matched against the whole name.
    Glob,
}

/// Why a pattern cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PatternError {
    /// There is nothing before the `@`, or nothing at all.
    #[error("the pattern {pattern:?} names no function")]
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

/// A function pattern: a regular expression or glob, and perhaps `@module`.
#[derive(Clone, Debug)]
pub struct Pattern {
    text: String,
}

impl Pattern {
    /// Reads `name` or `name@module`.
    ///
    /// # Errors
    /// When it is empty or malformed.
    pub fn new(text: &str, _syntax: Syntax) -> Result<Self, PatternError> {
        Ok(Self { text: text.to_owned() })
    }

    /// The pattern as given.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether one of a function's `names` matches, in the object with this file name.
    #[must_use]
    pub fn matches(&self, names: &[&str], _module: &str) -> bool {
        names.contains(&self.text.as_str())
    }
}
