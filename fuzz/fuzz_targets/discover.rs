//! Any bytes as an ELF object: `cargo +nightly fuzz run discover`. Small programs make a good
//! corpus. Without nightly, `cargo test -p sledge-discover --test mutation` does much the same.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use sledge_discover::{Object, maps, names};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = (maps::parse(text), names::demangle(text));
    }
    let Ok(object) = Object::parse(Path::new("input"), bytes) else { return };
    for function in &object.functions {
        assert!(function.address.checked_add(function.size).is_some());
        assert!(object.function_at(function.address).is_some());
        for name in &function.names {
            assert!(object.function_named(name).is_some());
            let _ = names::demangle(name);
        }
    }
    let summary = object.summary();
    let set_aside: usize = summary.set_aside.values().sum();
    assert_eq!(summary.functions + set_aside, object.functions.len());
});
