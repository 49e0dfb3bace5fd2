//! The tree over a process that does exactly what a test says.

mod events;
mod files;
mod instances;
mod support;
mod text;
