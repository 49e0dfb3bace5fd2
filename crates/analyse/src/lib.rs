//! sledge-analyse
