//! Sites that are toggled under calls, by the patcher itself.

use crate::Outcome;
use crate::storm;
use crate::text::{Function, Text};
use crate::workers::{Random, THREADS, Tally, yield_to_the_writer};
use sledge_live::memory::OwnMemory;
use sledge_live::patcher::{Patcher, SiteId};
use sledge_live::process::OwnProcess;
use sledge_live::trap;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

const SHAPES: usize = 512;
const SITES: usize = 10_000;
/// Of a hundred calls, so many go to the functions that are being changed.
const CLOSE: u64 = 90;

static TEXT: OnceLock<Text> = OnceLock::new();
/// The function that is being changed.
static TARGET: AtomicUsize = AtomicUsize::new(0);

/// One site after the other, each toggled as fast as it goes, while the threads call it.
pub(crate) fn shapes(until: Instant, storm: bool) -> Outcome {
    run(SHAPES, storm, |patcher, ids, tally| {
        let slice = until.saturating_duration_since(Instant::now()) / (2 * SHAPES as u32);
        let (mut toggles, mut sites, mut number) = (0_u64, 0_u64, 0);
        while Instant::now() < until {
            TARGET.store(number, Relaxed);
            let end = (Instant::now() + slice.max(Duration::from_millis(5))).min(until);
            let id = [ids[number]];
            while Instant::now() < end {
                for _ in 0..50 {
                    tally.check(
                        patcher.arm(&id).is_ok_and(|refused| refused.is_empty()),
                        "a change was refused",
                    );
                    tally.check(
                        patcher.disarm(&id).is_ok_and(|refused| refused.is_empty()),
                        "a change was refused",
                    );
                    toggles += 2;
                }
            }
            tally.while_paused(THREADS, || {
                counts_are_exact(patcher, &[(number, ids[number])], tally)
            });
            sites += 1;
            number = (number + 1) % SHAPES;
        }
        format!("{toggles} changes of one site, of {} prologues in turn", sites.min(SHAPES as u64))
    })
}

/// Ten thousand sites, in batches of all sizes.
pub(crate) fn batches(until: Instant, storm: bool) -> Outcome {
    run(SITES, storm, |patcher, ids, tally| {
        let mut random = Random(88_172_645_463_325_252);
        let (mut batches, mut changes) = (0_u64, 0_u64);
        while Instant::now() < until {
            let most = [1, 16, 1000, SITES][random.below(4)];
            let first = random.below(SITES);
            let chosen = &ids[first..(first + 1 + random.below(most)).min(SITES)];
            TARGET.store(first, Relaxed);
            for _ in 0..10 {
                tally.check(
                    patcher.arm(chosen).is_ok_and(|refused| refused.is_empty()),
                    "a change was refused",
                );
                if random.below(8) == 0 {
                    std::thread::sleep(Duration::from_micros(300));
                }
                tally.check(
                    patcher.disarm(chosen).is_ok_and(|refused| refused.is_empty()),
                    "a change was refused",
                );
                batches += 2;
                changes += 2 * chosen.len() as u64;
            }
            if random.below(50) == 0 {
                let all: Vec<_> = ids.iter().copied().enumerate().collect();
                tally.while_paused(THREADS, || counts_are_exact(patcher, &all, tally));
            }
        }
        format!("{changes} changes of {SITES} sites in {batches} batches")
    })
}

fn run(
    count: usize,
    storm: bool,
    change: impl FnOnce(&mut Patcher<OwnProcess>, &[SiteId], &Tally) -> String,
) -> Outcome {
    let text = TEXT.get_or_init(|| Text::new(count));
    let live = text.live_sites();
    let before = text.bytes();
    if storm {
        let patches = text.functions.iter().map(|function| function.site.address);
        let call = |random: &mut _| {
            is_right(&functions()[Random::below(random, functions().len())], random)
        };
        storm::install(patches.collect(), call, false);
    }
    let mut patcher = OwnProcess::patcher(OwnMemory::new()).expect("the first patcher");
    let ids = patcher.add(live).expect("sites that do not overlap");
    let tally = Tally::default();
    let mut done = String::new();
    std::thread::scope(|scope| {
        for number in 0..THREADS {
            let tally = &tally;
            scope.spawn(move || work(number, storm, tally));
        }
        done = change(&mut patcher, &ids, &tally);
        tally.stop();
    });
    let mut findings = Vec::new();
    if text.bytes() != before {
        findings.push("the text is not as it was".to_owned());
    }
    let handled = storm::handled();
    let [entries, inner] = trap::rescued();
    done += &format!(", {entries} threads sent on at an entry, {inner} inside a patch");
    if storm {
        done += &format!(", {} held inside a patch by a handler", handled.held);
    }
    let calls = tally.calls.into_inner() + handled.calls;
    Outcome { done, calls, wrong: tally.wrong.into_inner() + handled.wrong, findings }
}

fn functions() -> &'static [Function] {
    TEXT.get().map_or(&[], |text| &text.functions)
}

fn work(number: u64, storm: bool, tally: &Tally) {
    yield_to_the_writer();
    let timer = storm.then(|| storm::start_timer(number));
    let mut random = Random(number * 7919 + 1);
    let functions = functions();
    while tally.goes_on(|| ()) {
        let mut wrong = 0;
        let target = TARGET.load(Relaxed);
        for _ in 0..1000 {
            let close = random.next() % 100 < CLOSE;
            let index =
                if close { target + random.below(8) % 2 } else { random.below(functions.len()) };
            wrong += u64::from(!is_right(&functions[index % functions.len()], &mut random));
        }
        tally.add(1000, wrong);
    }
    drop(timer);
}

fn is_right(function: &Function, random: &mut Random) -> bool {
    let argument = random.argument();
    function.call(argument) == function.expected(argument)
}

/// Nobody else calls now: armed functions count each call, others none.
fn counts_are_exact(patcher: &mut Patcher<OwnProcess>, sites: &[(usize, SiteId)], tally: &Tally) {
    let Some(text) = TEXT.get() else { return };
    let ids: Vec<SiteId> = sites.iter().map(|site| site.1).collect();
    let handled = storm::handled().calls;
    let mut all_right = true;
    for armed in [true, false] {
        let changed = if armed { patcher.arm(&ids) } else { patcher.disarm(&ids) };
        tally.check(changed.is_ok_and(|refused| refused.is_empty()), "a change was refused");
        for &(index, _) in sites {
            let (function, before) = (&text.functions[index], text.hits(index));
            tally.check(function.call(77) == function.expected(77), "a result");
            all_right &= text.hits(index) - before == u64::from(armed);
        }
    }
    // A handler may have called meanwhile.
    tally.check(all_right || storm::handled().calls != handled, "counts of armed functions");
    tally.add(2 * sites.len() as u64, 0);
}
