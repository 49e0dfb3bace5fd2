//! sledge-filter
