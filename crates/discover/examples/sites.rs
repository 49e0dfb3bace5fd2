//! Prints how many functions of a file can be traced: `cargo run --release -p sledge-discover
//! --example sites -- FILE [--refused | --entry-only | --sites | FUNCTION]`.
#![allow(clippy::print_stdout, reason = "a command line program")]

use std::path::Path;
use std::time::Instant;

use sledge_discover::{DiscoverError, Object, Returns};

fn main() -> Result<(), DiscoverError> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().unwrap_or_else(|| "/proc/self/exe".into());
    let begin = Instant::now();
    let object = Object::open(Path::new(&path))?;
    let took = begin.elapsed();
    print_summary(&object);
    println!("took {took:.1?}");
    match arguments.next().as_deref() {
        Some("--refused") => print_refused(&object),
        Some("--entry-only") => print_entry_only(&object),
        Some("--sites") => print_sites(&object),
        Some(name) => println!("{:#x?}", object.function_named(name)),
        None => {}
    }
    Ok(())
}

fn print_summary(object: &Object) {
    let summary = object.summary();
    println!("{}: {:?}", object.path.display(), object.kind);
    println!("{} imports, {} IFUNC slots", object.imports.len(), object.irelative.len());
    println!("{} functions, {:.2} % traceable", summary.functions, summary.percent());
    for (rung, count) in &summary.rungs {
        println!("  {rung:<24}{count:>8}");
    }
    for (refusal, count) in &summary.refusals {
        println!("  {refusal:<24}{count:>8}");
    }
    println!("entry only: {} return twice", summary.returns_twice);
    println!("            {} read their return address", summary.reads_return_address);
    println!("            {} move their return address", summary.moves_return_address);
    println!("{} bytes of code belong to no known function", summary.uncovered_bytes);
}

fn print_sites(object: &Object) {
    for function in &object.functions {
        if let Ok(site) = &function.verdict {
            let name = function.names.first().map_or("?", String::as_str);
            let (length, boundaries) = (site.displaced.len(), site.boundaries);
            let hop = site.hop.unwrap_or(0);
            println!("{:#x} {} {length} {boundaries:#x} {hop:#x} {name}", site.address, site.rung);
        }
    }
}

fn print_entry_only(object: &Object) {
    for function in &object.functions {
        let returns = function.verdict.as_ref().map(|site| site.returns);
        if let Ok(Returns::EntryOnly(reason)) = returns {
            let name = function.names.first().map_or("?", String::as_str);
            println!("{reason:?} {:#x} {name}", function.address);
        }
    }
}

fn print_refused(object: &Object) {
    for function in &object.functions {
        if let Err(refusal) = function.verdict {
            let name = function.names.first().map_or("?", String::as_str);
            println!("{refusal:<24}{:#12x} {:>6} {name}", function.address, function.size);
        }
    }
}
