//! What the execution tests of `dispatch` are made of.

pub(crate) mod arena;
pub(crate) mod list;
pub(crate) mod machine;
