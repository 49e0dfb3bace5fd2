//! Saved contexts whose instruction pointer lies inside a patch, and that go on later.
//!
//! Three kinds: coroutines that a signal handler switches away from where it finds them inside a
//! patch (`swapcontext` in the handler; the interrupted context stays on the coroutine's stack);
//! threads that sleep in handlers on an alternate stack; and contexts made by hand.

use crate::Outcome;
use crate::storm;
use crate::text::{Function, Inside, Text};
use crate::workers::{Random, THREADS, Tally, yield_to_the_writer};
use nix::libc;
use sledge_live::memory::OwnMemory;
use sledge_live::patcher::{Patcher, SiteId};
use sledge_live::process::OwnProcess;
use sledge_live::trap;
use std::arch::asm;
use std::cell::Cell;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

const FUNCTIONS: usize = 256;
const COROUTINES: usize = 24;
const STACK: usize = 64 << 10;

static TEXT: OnceLock<Text> = OnceLock::new();
static PATCHES: OnceLock<Vec<u64>> = OnceLock::new();
static PARKED: AtomicU64 = AtomicU64::new(0);
static SLEPT_ASIDE: AtomicU64 = AtomicU64::new(0);
static MADE: AtomicU64 = AtomicU64::new(0);

pub(crate) fn run(until: Instant) -> Outcome {
    let text = TEXT.get_or_init(|| Text::new(FUNCTIONS));
    let live = text.live_sites();
    let before = text.bytes();
    let mut patches: Vec<u64> = text.functions.iter().map(|one| one.site.address).collect();
    patches.sort_unstable();
    PATCHES.get_or_init(|| patches);
    install();
    let mut patcher = OwnProcess::patcher(OwnMemory::new()).expect("the first patcher");
    let ids = patcher.add(live).expect("sites that do not overlap");
    let tally = Tally::default();
    let mut toggles = 0;
    std::thread::scope(|scope| {
        for number in 0..THREADS {
            let tally = &tally;
            scope.spawn(move || match number % 2 {
                0 => coroutines(number, tally),
                _ => made_by_hand(number, tally),
            });
        }
        toggles = toggle(&mut patcher, &ids, until, &tally);
        tally.stop();
    });
    let mut findings = Vec::new();
    if text.bytes() != before {
        findings.push("the text is not as it was".to_owned());
    }
    let [entries, inner] = trap::rescued();
    let done = format!(
        "{toggles} site changes, {} coroutines parked inside a patch, {} threads held there \
         on an alternate stack, {} contexts made by hand, {entries} threads sent on at an entry, {inner} inside",
        PARKED.load(Relaxed),
        SLEPT_ASIDE.load(Relaxed),
        MADE.load(Relaxed)
    );
    Outcome { done, calls: tally.calls.into_inner(), wrong: tally.wrong.into_inner(), findings }
}

/// Sites stay armed, or as they were, long enough for contexts to be saved in either state.
fn toggle(patcher: &mut Patcher<OwnProcess>, ids: &[SiteId], until: Instant, tally: &Tally) -> u64 {
    let mut random = Random(88_172_645_463_325_252);
    let mut changes = 0;
    while Instant::now() < until {
        let first = random.below(FUNCTIONS);
        let chosen = &ids[first..(first + 1 + random.below(64)).min(FUNCTIONS)];
        for _ in 0..20 {
            tally.check(
                patcher.arm(chosen).is_ok_and(|refused| refused.is_empty()),
                "a change was refused",
            );
            if random.below(4) == 0 {
                std::thread::sleep(Duration::from_micros(500));
            }
            tally.check(
                patcher.disarm(chosen).is_ok_and(|refused| refused.is_empty()),
                "a change was refused",
            );
            changes += 2 * chosen.len() as u64;
        }
        std::thread::sleep(Duration::from_micros(500));
    }
    changes
}

fn functions() -> &'static [Function] {
    TEXT.get().map_or(&[], |text| &text.functions)
}

fn is_right(random: &mut Random) -> bool {
    let function = &functions()[random.below(FUNCTIONS)];
    let argument = random.argument();
    function.call(argument) == function.expected(argument)
}

/// A coroutine: its context, and whether it stands in a handler.
struct Coroutine {
    context: libc::ucontext_t,
    _stack: Vec<u8>,
}

/// What a thread with coroutines knows of itself; handlers read it.
struct Schedule {
    scheduler: libc::ucontext_t,
    coroutines: Vec<Coroutine>,
    /// The one that runs.
    current: Option<usize>,
    random: Random,
    calls: u64,
    wrong: u64,
    ends: AtomicBool,
}

thread_local!(static SCHEDULE: Cell<*mut Schedule> = const { Cell::new(std::ptr::null_mut()) });

/// Handlers: one that switches, one that sleeps on another stack.
fn install() {
    let set = |signal, handler: *const (), flags| {
        // SAFETY: a valid action; what the handlers do is theirs to say.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = handler as usize;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART | flags;
            assert_eq!(libc::sigaction(signal, &raw const action, std::ptr::null_mut()), 0);
        }
    };
    set(libc::SIGPROF, on_tick as *const (), 0);
    set(libc::SIGUSR1, on_alternate as *const (), libc::SA_ONSTACK);
}

fn stands_inside(context: *mut libc::c_void) -> bool {
    PATCHES.get().is_some_and(|patches| storm::is_inside(patches, storm::pointer(context)))
}

extern "C" fn on_tick(_: i32, _: *mut libc::siginfo_t, context: *mut libc::c_void) {
    thread_local!(static SLEPT: Cell<bool> = const { Cell::new(false) });
    let schedule = SCHEDULE.get();
    // A signal that came during a sleep is delivered before one more instruction has run.
    if !stands_inside(context) || SLEPT.replace(false) {
        return;
    }
    if schedule.is_null() {
        SLEPT.set(true);
        // SAFETY: sends this thread a signal, which is handled on its alternate stack.
        unsafe { libc::raise(libc::SIGUSR1) };
        return;
    }
    // SAFETY: this thread's own schedule. Inside a patch a coroutine runs code of the text, and
    // nothing that has hold of the schedule.
    unsafe {
        let Some(current) = (*schedule).current else { return };
        PARKED.fetch_add(1, Relaxed);
        let own = &raw mut (&mut (*schedule).coroutines)[current].context;
        libc::swapcontext(own, &raw const (*schedule).scheduler);
    }
}

extern "C" fn on_alternate(_: i32, _: *mut libc::siginfo_t, _: *mut libc::c_void) {
    SLEPT_ASIDE.fetch_add(1, Relaxed);
    // SAFETY: sleeps.
    unsafe { libc::usleep(2000) };
}

/// Runs coroutines in random order, each until a signal finds it inside a patch.
fn coroutines(number: u64, tally: &Tally) {
    yield_to_the_writer();
    // SAFETY: all zeros is a context that `getcontext` fills in.
    let empty = || unsafe { std::mem::zeroed::<libc::ucontext_t>() };
    let mut schedule = Box::new(Schedule {
        scheduler: empty(),
        coroutines: Vec::new(),
        current: None,
        random: Random(number * 7919 + 1),
        calls: 0,
        wrong: 0,
        ends: AtomicBool::new(false),
    });
    schedule.coroutines =
        (0..COROUTINES).map(|_| Coroutine { context: empty(), _stack: vec![0; STACK] }).collect();
    let own = &raw mut *schedule;
    SCHEDULE.set(own);
    // SAFETY: contexts with stacks of their own, which live as long as the schedule.
    unsafe {
        for coroutine in &mut (*own).coroutines {
            assert_eq!(libc::getcontext(&raw mut coroutine.context), 0);
            coroutine.context.uc_stack.ss_sp = coroutine._stack.as_mut_ptr().cast();
            coroutine.context.uc_stack.ss_size = STACK;
            coroutine.context.uc_link = std::ptr::null_mut();
            libc::makecontext(&raw mut coroutine.context, body, 0);
        }
        let timer = storm::start_timer(number);
        while tally.goes_on(|| ()) {
            let next = (*own).random.below(COROUTINES);
            switch_to(own, next);
            tally.add(std::mem::take(&mut (*own).calls), std::mem::take(&mut (*own).wrong));
        }
        // Each that stands inside a patch goes on from there before its stack is given back.
        (*own).ends.store(true, Relaxed);
        drop(timer);
        (0..COROUTINES).for_each(|next| switch_to(own, next));
        tally.add((*own).calls, (*own).wrong);
    }
    SCHEDULE.set(std::ptr::null_mut());
}

/// Lets a coroutine go on until it comes back.
///
/// # Safety
/// The schedule is this thread's own, and set up.
unsafe fn switch_to(schedule: *mut Schedule, next: usize) {
    // SAFETY: the caller's.
    unsafe {
        (*schedule).current = Some(next);
        let to = &raw const (&(*schedule).coroutines)[next].context;
        libc::swapcontext(&raw mut (*schedule).scheduler, to);
        (*schedule).current = None;
    }
}

/// Calls, and comes back of its own accord now and then.
extern "C" fn body() {
    let schedule = SCHEDULE.get();
    // SAFETY: this thread's own schedule; handlers change it only while this runs code of the text.
    unsafe {
        let current = (*schedule).current.unwrap_or(0);
        let mut random = Random((*schedule).random.next());
        loop {
            for _ in 0..20_000 {
                let right = is_right(&mut random);
                (*schedule).calls += 1;
                (*schedule).wrong += u64::from(!right);
                if (*schedule).ends.load(Relaxed) {
                    break;
                }
            }
            let own = &raw mut (&mut (*schedule).coroutines)[current].context;
            libc::swapcontext(own, &raw const (*schedule).scheduler);
        }
    }
}

/// Goes on inside patches, as if the instructions before had run long ago.
fn made_by_hand(number: u64, tally: &Tally) {
    yield_to_the_writer();
    let timer = storm::start_timer(number);
    let mut random = Random(number * 7919 + 1);
    let places: Vec<(&Function, Inside)> = functions()
        .iter()
        .flat_map(|function| function.inside().into_iter().map(move |place| (function, place)))
        .collect();
    while tally.goes_on(|| ()) {
        let mut wrong = 0;
        for _ in 0..1000 {
            let (function, place) = &places[random.below(places.len())];
            let argument = random.argument();
            let result = go_on(place, argument);
            wrong += u64::from(result != function.expected_from(place, argument));
            wrong += u64::from(!is_right(&mut random));
        }
        MADE.fetch_add(1000, Relaxed);
        tally.add(2000, wrong);
    }
    drop(timer);
}

/// Resumes a context: its stack, its argument, its instruction pointer.
fn go_on(place: &Inside, argument: u64) -> u64 {
    let result;
    // SAFETY: a function of the text goes on, finds the words that it would have pushed, and
    // returns here; it changes `rax`, `rcx` and `rdi`.
    unsafe {
        asm!(
            "lea rax, [rip + 3f]",
            "push rax",
            "2:",
            "jrcxz 4f",
            "push 0",
            "lea rcx, [rcx - 1]",
            "jmp 2b",
            "4:",
            "jmp rdx",
            "3:",
            inlateout("rcx") place.pushed => _,
            in("rdx") place.address,
            inlateout("rdi") argument => _,
            lateout("rax") result,
            clobber_abi("C"),
        );
    }
    result
}
