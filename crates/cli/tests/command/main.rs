//! Whole commands on small traces.

mod broken;
mod errors;
mod fixture;
mod looking;
mod reading;
