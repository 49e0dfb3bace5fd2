//! Damaged files: no panic, no endless loop, whatever the bytes. Runs two seconds, or as many as
//! `SLEDGE_FUZZ_SECONDS` says.

#![allow(clippy::print_stdout, reason = "says what it skips or did")]

mod common;

use std::path::Path;
use std::time::{Duration, Instant};

use common::Fixture;
use sledge_discover::{Object, names};

/// A small generator of numbers (xorshift): the run is the same every time.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit.max(1) as u64) as usize
    }

    /// Numbers that break arithmetic more often than others.
    fn awkward(&mut self, size: usize) -> u64 {
        const EDGES: [u64; 8] =
            [0, 1, 7, 0x7fff_ffff, 0xffff_ffff, 1 << 63, u64::MAX - 7, u64::MAX];
        match self.below(3) {
            0 => EDGES[self.below(EDGES.len())],
            1 => self.below(size) as u64,
            _ => self.next(),
        }
    }
}

/// Places that matter most: the headers, and the tables they point at.
fn hot_spots(bytes: &[u8]) -> Vec<usize> {
    let word = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap()) as usize;
    let sections = word(0x28);
    let mut spots: Vec<usize> = (0..0x400).collect();
    spots.extend(sections..bytes.len().min(sections + 64 * 40));
    for header in (sections..bytes.len() - 63).step_by(64) {
        let (start, size) = (word(header + 24), word(header + 32));
        spots.extend((start..start + size.min(512)).filter(|&at| at < bytes.len()));
    }
    spots
}

fn mutate(bytes: &mut Vec<u8>, spots: &[usize], random: &mut Random) {
    for _ in 0..=random.below(6) {
        let anywhere = random.below(bytes.len());
        let at = if random.below(4) == 0 { anywhere } else { spots[random.below(spots.len())] };
        match random.below(4) {
            0 => bytes[at] ^= 1 << random.below(8),
            1 => bytes[at] = random.next() as u8,
            _ => {
                let value = random.awkward(bytes.len()).to_le_bytes();
                let end = bytes.len().min(at + [1, 2, 4, 8][random.below(4)]);
                let length = end - at;
                bytes[at..end].copy_from_slice(&value[..length]);
            }
        }
    }
    if random.below(16) == 0 {
        bytes.truncate(random.below(bytes.len()));
    }
}

/// What a reader of an object may rely on.
fn exercise(bytes: &[u8]) -> bool {
    let Ok(object) = Object::parse(Path::new("damaged"), bytes) else { return false };
    let names: usize = object.functions.iter().flat_map(|f| &f.names).map(String::len).sum();
    assert!(names <= bytes.len() * 12, "names take more memory than the file can justify");
    for function in &object.functions {
        object.function_at(function.address).expect("a function is where it is");
        let end = function.address.checked_add(function.size).expect("functions end");
        if let Ok(site) = &function.verdict {
            assert!(site.address >= function.address && site.address < end);
            assert!(!site.displaced.is_empty());
        }
        if let Some(name) = function.names.first() {
            assert!(!names::demangle(name).is_empty() || name.is_empty());
            object.function_named(name).expect("names are found");
        }
    }
    let summary = object.summary();
    let listed = summary.functions + summary.set_aside.values().sum::<usize>();
    assert_eq!(listed, object.functions.len());
    true
}

#[test]
fn damaged_objects_are_read_without_panic() {
    let seconds = std::env::var("SLEDGE_FUZZ_SECONDS").ok().and_then(|text| text.parse().ok());
    let end = Instant::now() + Duration::from_secs(seconds.unwrap_or(2));
    let seeds: Vec<Vec<u8>> = [
        ("program.c", &["-O2", "-fpatchable-function-entry=5"][..]),
        ("ladder.S", &[]),
        ("xray.S", &["-no-pie"]),
        ("program.c", &["-shared", "-fPIC", "-O1", "-s"]),
        ("ifunc.c", &["-no-pie"]),
    ]
    .iter()
    .map(|(source, flags)| std::fs::read(Fixture::build(source, flags).path).unwrap())
    .collect();
    let spots: Vec<_> = seeds.iter().map(|seed| hot_spots(seed)).collect();
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let (mut runs, mut read) = (0, 0);
    while Instant::now() < end {
        let which = random.below(seeds.len());
        let mut bytes = seeds[which].clone();
        mutate(&mut bytes, &spots[which], &mut random);
        let begin = Instant::now();
        read += u64::from(exercise(&bytes));
        assert!(begin.elapsed() < Duration::from_secs(20), "a small file took for ever");
        runs += 1;
    }
    println!("{runs} damaged files, {read} of them still readable");
    assert!(read > 0 && read < runs, "the damage is neither too much nor too little");
}
