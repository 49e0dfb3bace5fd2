//! The sites that discovery offers in real objects can be relocated, near and far.
//! RELOCATE_CENSUS names one more object to look at.
#![allow(missing_docs, clippy::print_stdout, reason = "tests")]

use sledge_discover::{Object, Rung, Site};
use sledge_engine::relocate::{RelocateError, Relocated, relocate};
use std::path::{Path, PathBuf};

const BASE: u64 = 0x5555_5555_0000;
const NEAR: u64 = BASE + 0x4000_0000;
const FAR: u64 = 0x7fff_0000_0000;
const CELL: usize = 56;

fn relocated(site: &Site, place: u64) -> Result<Relocated, RelocateError> {
    let (displaced, original) = match site.rung {
        Rung::Xray => (&[][..], BASE + site.address + 11),
        _ => (&site.displaced[..], BASE + site.address),
    };
    let resume = original + displaced.len() as u64;
    relocate(displaced, original, resume, place, CELL)
}

/// What became of the sites of an object.
#[derive(Debug, Default)]
struct Census {
    sites: usize,
    no_room: Vec<String>,
    refused: Vec<String>,
}

fn census(path: &Path) -> Census {
    let object = Object::open(path).expect("object");
    let mut census = Census::default();
    for function in &object.functions {
        let Ok(site) = &function.verdict else { continue };
        census.sites += 1;
        let error = [NEAR, FAR].into_iter().find_map(|place| relocated(site, place).err());
        let Some(error) = error else { continue };
        let text = format!("{:#x} {:02x?}: {error}", function.address, site.displaced);
        match error {
            RelocateError::NoRoom { .. } => census.no_room.push(text),
            _ => census.refused.push(text),
        }
    }
    census
}

/// The C library this test itself runs with.
fn c_library() -> PathBuf {
    let maps = std::fs::read_to_string("/proc/self/maps").expect("maps");
    let paths = maps.lines().filter_map(|line| line.split_whitespace().nth(5));
    let library = paths.into_iter().find(|path| path.contains("/libc.so") || path.contains("musl"));
    PathBuf::from(library.expect("a C library"))
}

#[test]
fn sites_of_real_objects_can_be_relocated() {
    let own = std::env::current_exe().expect("own path");
    let more = std::env::var_os("RELOCATE_CENSUS").map(PathBuf::from);
    for path in [c_library(), PathBuf::from("/bin/bash"), own].into_iter().chain(more) {
        let Census { sites, no_room, refused } = census(&path);
        println!("{}: {sites} sites, {} without room: {no_room:#?}", path.display(), no_room.len());
        assert!(sites > 100, "{}: {sites} sites", path.display());
        assert!(refused.is_empty(), "{}: {refused:#?}", path.display());
        // A branch and a far operand in one prologue can exceed the cell by a few bytes.
        assert!(no_room.len() * 1000 <= sites, "{}: {no_room:#?}", path.display());
    }
}
