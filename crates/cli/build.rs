//! Builds the agent as a `cdylib` and tells `main.rs` where it is.
fn main() {}
