//! What the execution tests of `dispatch` are made of.

pub(crate) mod arena;
pub(crate) mod gate;
pub(crate) mod list;
pub(crate) mod machine;
