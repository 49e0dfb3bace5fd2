//! Sites are armed and disarmed while four threads run through them, and no result is wrong.
//!
//! `SLEDGE_SOAK_SECONDS` says for how long.
#![allow(clippy::print_stderr, reason = "a long run says what it did")]

mod storm;
#[allow(dead_code, reason = "its other user needs the rest")]
mod text;

use sledge_live::memory::OwnMemory;
use sledge_live::patcher::{Patcher, SiteId};
use sledge_live::process::OwnProcess;
use sledge_live::trap;
use std::process::Command;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};
use storm::{Random, Tally};
use text::Text;

const FUNCTIONS: usize = 512;
const SECONDS: u64 = 4;

fn duration() -> Duration {
    let asked = std::env::var("SLEDGE_SOAK_SECONDS").ok().and_then(|text| text.parse().ok());
    Duration::from_secs(asked.unwrap_or(SECONDS))
}

/// Single sites as fast as it goes, then batches of all sizes, in turn.
fn toggle(patcher: &mut Patcher<OwnProcess>, ids: &[SiteId], until: Instant) -> (u64, u64) {
    let mut random = Random(88_172_645_463_325_252);
    let (mut sites, mut batches) = (0, 0);
    while Instant::now() < until {
        let number = random.next();
        let first = (number >> 8) as usize % ids.len();
        let length =
            if number.is_multiple_of(2) { 1 } else { 1 + (number >> 32) as usize % ids.len() };
        let chosen = &ids[first..(first + length).min(ids.len())];
        let times = if length == 1 { 50 } else { 20 };
        for _ in 0..times {
            assert_eq!(patcher.arm(chosen).unwrap(), []);
            if number.is_multiple_of(7) {
                std::thread::sleep(Duration::from_micros(300));
            }
            assert_eq!(patcher.disarm(chosen).unwrap(), []);
            sites += 2 * chosen.len() as u64;
            batches += 2;
        }
    }
    (sites, batches)
}

#[test]
fn no_call_goes_wrong_while_sites_are_toggled() {
    let text = Text::new(FUNCTIONS);
    let live = text.live_sites();
    let before = text.bytes();
    storm::install(&text.functions);
    let mut patcher = OwnProcess::patcher(OwnMemory::new()).unwrap();
    let ids = patcher.add(live).unwrap();
    let tally = Tally::default();
    let (mut sites, mut batches) = (0, 0);
    storm::under_calls(&text.functions, &tally, || {
        (sites, batches) = toggle(&mut patcher, &ids, Instant::now() + duration());
    });
    let [entries, inner] = trap::rescued();
    eprintln!(
        "{} calls, {} wrong; {sites} site changes in {batches} batches; {} contexts held inside \
         a patch; sent on at an entry {entries}, inside {inner}",
        tally.calls.load(Relaxed),
        tally.wrong.load(Relaxed),
        storm::held(),
    );
    assert_eq!(tally.wrong.load(Relaxed), 0);
    assert!(entries > 0 && inner > 0, "the race was never lost: the test shows nothing");
    assert!(text.bytes() == before, "the text is as it was");
    every_armed_call_passes_the_island(&text, &mut patcher, &ids);
}

fn every_armed_call_passes_the_island(
    text: &Text,
    patcher: &mut Patcher<OwnProcess>,
    ids: &[SiteId],
) {
    let count = |expected: u64| {
        for (index, function) in text.functions.iter().enumerate() {
            let before = text.hits(index);
            assert_eq!(function.call(77), function.expected(77), "{function:?}");
            assert_eq!(text.hits(index) - before, expected, "{function:?}");
        }
    };
    count(0);
    patcher.arm(ids).unwrap();
    count(1);
    patcher.disarm_all().unwrap();
    count(0);
}

/// The same race, with a writer that copies five bytes.
#[test]
#[ignore = "meant to crash: run by the next test"]
fn plain_copies() {
    let text = Text::new(FUNCTIONS);
    let live = text.live_sites();
    storm::install(&text.functions);
    text.open();
    let tally = Tally::default();
    storm::under_calls(&text.functions, &tally, || {
        let mut random = Random(1);
        let until = Instant::now() + Duration::from_secs(SECONDS);
        while Instant::now() < until {
            let site = &live[random.next() as usize % live.len()];
            // The padding of hops is not written: leave them out.
            if site.patch().jump.as_slice().len() == sledge_discover::site::PATCH_BYTES {
                text::put(site.patch().address as usize, &text::plain_jump(site));
                text::put(site.patch().address as usize, site.patch().original.as_slice());
            }
        }
    });
    assert_eq!(tally.wrong.load(Relaxed), 0);
}

#[test]
fn the_race_is_lost_by_plain_copies() {
    let own = std::env::current_exe().unwrap();
    let status = Command::new(own)
        .args(["--ignored", "--exact", "plain_copies"])
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .status();
    assert!(!status.unwrap().success(), "a plain copy survived: this test shows nothing");
}
