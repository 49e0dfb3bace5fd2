//! What the relocation oracle is made of.

pub(crate) mod generate;
pub(crate) mod machine;
pub(crate) mod shared;
