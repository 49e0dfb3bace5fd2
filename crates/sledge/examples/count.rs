//! Counts calls of one function of this program, while it runs: `cargo run --release -p sledge --example count`.
#![allow(clippy::print_stdout, reason = "a program")]

use sledge::{Error, Ops, Tracer};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

#[inline(never)]
fn btree_insert(key: u64) -> u64 {
    std::hint::black_box(key) + 1
}

fn main() -> Result<(), Error> {
    let tracer = Tracer::current()?;
    let hits = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&hits);
    let closure = move |_: &mut sledge::Call<'_>| _ = count.fetch_add(1, Relaxed);
    let ops = tracer.register(Ops::entry(closure).filter("*btree_*"))?;
    (0..10).for_each(|key| _ = btree_insert(key));
    ops.unregister()?;
    btree_insert(10);
    println!("{} calls", hits.load(Relaxed));
    Ok(())
}
