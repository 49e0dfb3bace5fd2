//! The `sledge` command.
fn main() {}
