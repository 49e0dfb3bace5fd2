//! sledge-drain
