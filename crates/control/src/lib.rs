//! sledge-control
