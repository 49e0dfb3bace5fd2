//! Broken files: cut anywhere, with any bit flipped, or nothing but noise.

mod common;

use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use common::*;
use sledge_trace::event::*;
use sledge_trace::{ReadError, Trace};

fn sample(path: &Path, steps: usize) -> Vec<u8> {
    let mut dice = Dice(5);
    let mut writer = writer(path, 40, 2);
    for round in 0..4 {
        writer.clock(Ticks(round * 1000 + 1), round * 1000 + 1);
        for thread in 0..2 {
            let mut part = random_steps(&mut dice, steps, 40, 2);
            part.iter_mut().for_each(|step| step.at.0 += round * 1_000_000);
            writer.steps(ThreadId(thread), &part).unwrap();
        }
        writer.flush().unwrap();
    }
    writer.lost(ThreadId(0), Ticks(3), Ticks(5), 7);
    writer.thread_end(ThreadId(1), Ticks(9_000_000));
    writer.outcome(Outcome::Exited(3));
    writer.finish().unwrap();
    std::fs::read(path).unwrap()
}

/// Reads a file in every way there is; only its errors count.
fn read_all(path: &Path) -> Result<(Trace, Vec<Event>), ReadError> {
    let trace = Trace::open(path)?;
    let told = events(&trace);
    for thread in 0..trace.directory().threads.len() as u32 {
        assert!(trace.still_open(ThreadId(thread)).len() <= told.len());
        let (from, to) = trace.lifetime(ThreadId(thread)).unwrap();
        assert!(from <= to && to <= trace.duration());
    }
    let middle = trace.duration().0 / 2;
    events_in(&trace, middle, middle + 1000);
    Ok((trace, told))
}

#[test]
fn cut_at_any_byte_it_says_so_and_keeps_what_was_whole() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("trace");
    let whole = sample(&path, 30);
    let all = events(&Trace::open(&path).unwrap()).len();
    let mut most = 0;
    for length in 0..whole.len() {
        std::fs::write(&path, &whole[..length]).unwrap();
        match read_all(&path) {
            Ok((trace, told)) => {
                let index_is_there = trace.cut().is_none();
                assert!(!index_is_there || whole.len() - length <= 48, "{length}");
                assert!(trace.damage().is_empty() || index_is_there, "{length}");
                assert!(told.len() >= most && told.len() <= all);
                most = told.len();
            }
            Err(ReadError::Truncated { length: said }) => assert_eq!(said, length as u64),
            Err(other) => assert!(length < 100, "{length}: {other}"),
        }
    }
    assert_eq!(most, all);
}

#[test]
fn a_flipped_bit_costs_no_more_than_its_block() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("trace");
    let whole = sample(&path, 30);
    let all = events(&Trace::open(&path).unwrap());
    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    for bit in 0..whole.len() * 8 {
        let put = |byte| file.write_all_at(&[byte], bit as u64 / 8).unwrap();
        put(whole[bit / 8] ^ 1 << (bit % 8));
        let (trace, told) = read_all(&path).unwrap_or_else(|error| panic!("{bit}: {error}"));
        // What makes no difference to the reader needs no note.
        assert!(!trace.damage().is_empty() || told == all, "bit {bit}");
        assert_eq!(trace.cut(), None, "bit {bit}");
        let damage = trace.damage();
        assert!(damage.iter().all(|damage| damage.length < 600), "bit {bit}: {damage:?}");
        let entries = told.iter().filter(|event| matches!(event.kind, EventKind::Enter { .. }));
        assert!(entries.count() > 60, "bit {bit}");
        put(whole[bit / 8]);
    }
}

#[test]
fn what_is_no_trace_is_called_so() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("x");
    assert!(matches!(Trace::open(&path), Err(ReadError::Open { .. })));
    assert!(Trace::open(directory.path()).is_err());
    std::fs::write(&path, b"\x7fELF\x02\x01\x01 and so on, for a good while longer").unwrap();
    assert!(matches!(Trace::open(&path), Err(ReadError::NotATrace { .. })));
    std::fs::write(&path, b"").unwrap();
    assert!(matches!(Trace::open(&path), Err(ReadError::Truncated { length: 0 })));
}

#[test]
fn noise_and_mutations_never_panic() {
    let seconds = std::env::var("SLEDGE_FUZZ_SECONDS").ok().and_then(|s| s.parse().ok());
    let until = Instant::now() + Duration::from_secs(seconds.unwrap_or(2));
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("trace");
    let samples = [sample(&path, 5), sample(&path, 300)];
    let mut dice = Dice(seconds.unwrap_or(99) + 1);
    while Instant::now() < until {
        let mut bytes = samples[dice.below(2) as usize].clone();
        for _ in 0..=dice.below(6) {
            mutate(&mut dice, &mut bytes);
        }
        if dice.below(2) == 0 {
            mend(&mut bytes);
        }
        std::fs::write(&path, &bytes).unwrap();
        drop(read_all(&path));
    }
}

fn mutate(dice: &mut Dice, bytes: &mut Vec<u8>) {
    if bytes.is_empty() {
        return;
    }
    let length = bytes.len() as u64;
    let at = dice.below(length) as usize;
    let end = (at + dice.below(60) as usize).min(bytes.len());
    match dice.below(6) {
        0 => bytes.truncate(at),
        1 => bytes[at] = dice.below(256) as u8,
        2 => bytes[at..end].fill(0xff),
        3 => drop(bytes.drain(at..end)),
        4 => {
            let piece = bytes[at..end].to_vec();
            let to = dice.below(length) as usize;
            bytes.splice(to..to, piece);
        }
        _ => bytes[at..end].iter_mut().for_each(|byte| *byte = dice.below(256) as u8),
    }
}

/// Gives damaged blocks right checksums, so that what is behind them is reached.
fn mend(bytes: &mut [u8]) {
    let mut at = 0;
    while at + 16 <= bytes.len() {
        let length = u32::from_le_bytes(bytes[at + 8..at + 12].try_into().unwrap()) as usize;
        let end = at + 16 + length;
        if bytes[at..at + 4] != *b"\x89SLG" || end > bytes.len() {
            at += 1;
            continue;
        }
        if bytes[at + 4] == 8 && length >= 40 {
            let head = crc(&bytes[at + 16..at + 52]);
            bytes[at + 52..at + 56].copy_from_slice(&head.to_le_bytes());
        }
        let body = crc(&bytes[at + 16..end]);
        bytes[at + 12..at + 16].copy_from_slice(&body.to_le_bytes());
        bytes[at + 6..at + 8].fill(0);
        let check = crc(&bytes[at..at + 16]) as u16;
        bytes[at + 6..at + 8].copy_from_slice(&check.to_le_bytes());
        at = end;
    }
}

fn crc(bytes: &[u8]) -> u32 {
    let mut state = !0u32;
    for &byte in bytes {
        state ^= u32::from(byte);
        for _ in 0..8 {
            state = if state & 1 == 1 { state >> 1 ^ 0xedb8_8320 } else { state >> 1 };
        }
    }
    !state
}
