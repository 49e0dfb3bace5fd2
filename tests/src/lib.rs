//! Whole-system tests; see the files beside this one.
