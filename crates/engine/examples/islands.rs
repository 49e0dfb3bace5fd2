//! How well trap-safe islands fit, what they cost, and how long the search takes.
//!
//! Run with paths of ELF objects, or without: then some that are often installed. Each is laid out
//! as a process of its own, with a C library where there is one.
#![allow(clippy::print_stdout, reason = "an example")]

use sledge_discover::Object;
use sledge_engine::islands::{AddressSpace, Options, Placement, SiteSpec, TRAPS, Trapped};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const ISLAND: u64 = 16;
const PAGE: u64 = 4096;
const EXECUTABLE: u64 = 0x5555_5555_4000;
const LIBRARY: u64 = 0x7fff_f7c0_0000;
const STACK: u64 = 0x7fff_fffd_d000;
const USUAL: [&str; 5] =
    ["/bin/bash", "/usr/bin/python3", "/usr/bin/node", "/usr/bin/gdb", "/usr/bin/perl"];

fn main() {
    let named: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let usual = USUAL.into_iter().map(PathBuf::from).filter(|path| path.exists());
    let paths = if named.is_empty() { usual.collect() } else { named };
    let library = c_library().and_then(|path| Object::open(&path).ok());
    println!(
        "{:28} {:>7} {:>7} {:>6} {:>6} {:>5} {:>6} {:>6} {:>9}",
        "sites of", "sites", "fit %", "pages", "tables", "maps", "B/site", "#UD %", "ms/100k"
    );
    for path in paths {
        match Object::open(&path) {
            Ok(object) => {
                let (space, sites) = process(&object, library.as_ref());
                report(&path.display().to_string(), space, &sites);
            }
            Err(error) => println!("{}: {error}", path.display()),
        }
    }
    let (space, sites) = synthetic(0x7fff_f000_0000);
    report("synthetic library", space, &sites);
    let (space, sites) = synthetic(0x40_0000);
    report("synthetic, at 4 MiB", space, &sites);
}

fn report(name: &str, space: AddressSpace, sites: &[SiteSpec]) {
    let runs = (0..5).map(|_| {
        let mut space = space.clone();
        let started = Instant::now();
        let placement = Trapped::new(ISLAND, Options::default()).extend(&mut space, sites);
        (started.elapsed(), placement)
    });
    let Some((time, placement)) = runs.min_by_key(|run| run.0) else { return };
    print(name, sites, &placement, time);
}

fn print(name: &str, sites: &[SiteSpec], placement: &Placement, time: Duration) {
    let placed = placement.islands.iter().flatten();
    let tables = placed.map(|island| island / (512 * PAGE)).collect::<BTreeSet<_>>().len();
    let percent = |part: usize| part as f64 * 100.0 / sites.len().max(1) as f64;
    let undefined = sites.iter().zip(&placement.islands);
    let undefined = undefined.filter(|(site, island)| island.is_some_and(|at| !int3(site, at)));
    let bytes = (placement.pages + tables) as f64 * PAGE as f64 / sites.len().max(1) as f64;
    let time = time.as_secs_f64() * 1e3 * 1e5 / sites.len().max(1) as f64;
    println!(
        "{name:28} {:>7} {:>7.2} {:>6} {tables:>6} {:>5} {bytes:>6.1} {:>6.1} {time:>9.1}",
        sites.len(),
        percent(sites.len() - placement.misses.len()),
        placement.pages,
        placement.mappings.len(),
        percent(undefined.count()),
    );
}

/// Whether `int3` alone is what a site's boundaries hold.
fn int3(site: &SiteSpec, island: u64) -> bool {
    let distance = (island.wrapping_sub(site.address + 5) as u32).to_le_bytes();
    (1..5).all(|at| site.boundaries & (1 << at) == 0 || distance[at - 1] == TRAPS[0])
}

/// An executable and a C library where Linux puts them.
fn process(program: &Object, library: Option<&Object>) -> (AddressSpace, Vec<SiteSpec>) {
    let mut space = AddressSpace::default();
    let fixed = program.segments.iter().any(|segment| {
        segment.address >= 0x1_0000 && segment.address < 0x1000_0000 && segment.file_offset == 0
    });
    let bias = if fixed { 0 } else { EXECUTABLE };
    let mut sites = Vec::new();
    let end = load(program, bias, &mut space, &mut sites);
    space.keep_heap(end);
    if let Some(library) = library {
        load(library, LIBRARY, &mut space, &mut sites);
    }
    space.take(STACK..STACK + 0x2_1000);
    space.keep_stack(STACK, 8 << 20);
    (space, sites)
}

/// Adds an object's mappings and sites; tells where it ends.
fn load(object: &Object, bias: u64, space: &mut AddressSpace, sites: &mut Vec<SiteSpec>) -> u64 {
    for segment in &object.segments {
        let start = (bias + segment.address) / PAGE * PAGE;
        space.take(start..(bias + segment.address + segment.memory_size).next_multiple_of(PAGE));
    }
    let found = object.functions.iter().filter_map(|function| function.verdict.as_ref().ok());
    sites.extend(
        found.map(|site| SiteSpec { address: bias + site.address, boundaries: site.boundaries }),
    );
    let ends = object.segments.iter().map(|segment| bias + segment.address + segment.memory_size);
    ends.max().unwrap_or(bias).next_multiple_of(PAGE)
}

/// 100 000 sites, every 512 bytes, with boundaries as common as in a large C program.
fn synthetic(text: u64) -> (AddressSpace, Vec<SiteSpec>) {
    const SHARES: [(u64, u8); 14] = [
        (178, 0b00000),
        (103, 0b10000),
        (27, 0b00010),
        (181, 0b00100),
        (117, 0b01000),
        (66, 0b10010),
        (193, 0b10100),
        (23, 0b00110),
        (87, 0b01010),
        (9, 0b01100),
        (3, 0b11000),
        (12, 0b11100),
        (2, 0b11010),
        (1, 0b11110),
    ];
    let all: u64 = SHARES.iter().map(|share| share.0).sum();
    let mut state = 1_u64;
    let sites = (0..100_000).map(|index| {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        let mut pick = (state >> 33) % all;
        let chosen = SHARES.iter().find(|share| {
            let here = pick < share.0;
            pick = pick.saturating_sub(share.0);
            here
        });
        let jitter = (state >> 20) % 480 / 16 * 16;
        SiteSpec { address: text + index * 512 + jitter, boundaries: chosen.map_or(0, |it| it.1) }
    });
    let sites = sites.collect();
    let end = text + (100 << 20);
    let mut space = AddressSpace::default();
    space.take(text..end);
    if text < EXECUTABLE {
        space.keep_heap(end);
    }
    space.keep_stack(STACK, 8 << 20);
    (space, sites)
}

/// The C library that this program runs with, if it is a file of its own.
fn c_library() -> Option<PathBuf> {
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    let mut paths = maps.lines().filter_map(|line| line.split_whitespace().nth(5));
    paths.find(|path| path.contains("/libc.so")).map(|path| Path::new(path).to_owned())
}
