//! sledge-engine
