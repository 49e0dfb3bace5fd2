//! What a call costs more than plain, with callbacks: sets against the list function.
//!
//! `cargo run --release -p sledge-engine --example dispatch`
#![allow(clippy::print_stdout, reason = "its output")]

#[allow(dead_code, reason = "the tests use the rest")]
#[path = "../tests/dispatch_support/arena.rs"]
mod arena;
#[allow(dead_code, reason = "the tests use the rest")]
#[path = "../tests/dispatch_support/gate.rs"]
mod gate;
#[path = "../tests/dispatch_support/list.rs"]
mod list;

use arena::{Arena, OTHER_SUM, SUM};
use list::{Hash, List, list_function};
use sledge_engine::dispatch::{Callback, Guard, Preserve, Registers, Target, promise};
use std::cell::Cell;
use std::ffi::c_void;
use std::hint::black_box;
use std::time::Instant;

const ROUNDS: usize = 201;
const CALLS: u64 = 1000;
const RELEVANT: [usize; 5] = [1, 2, 4, 8, 16];
const IRRELEVANT: [usize; 4] = [0, 1, 10, 100];
const FILTERED: u64 = 100;

#[inline(never)]
extern "C" fn empty(_: u64, _: u64, _: *const c_void, _: *mut Registers) {}

thread_local! {
    static NOTE: Cell<u64> = const { Cell::new(0) };
}

/// A guard for callbacks of this program.
fn guard() -> Guard {
    Guard { offset: NOTE.with(|note| gate::thread_offset(note.as_ptr().cast())) }
}

/// One function to call, and its times.
struct Case {
    function: u64,
    nanoseconds: Vec<f64>,
}

impl Case {
    fn new(function: u64) -> Self {
        Self { function, nanoseconds: Vec::with_capacity(ROUNDS) }
    }

    fn measure(&mut self) {
        // SAFETY: a function that adds its arguments.
        let function =
            unsafe { std::mem::transmute::<u64, extern "C" fn(u64, u64) -> u64>(self.function) };
        let begin = Instant::now();
        let mut sum = 0;
        for _ in 0..CALLS {
            sum = function(sum, 1);
        }
        let elapsed = begin.elapsed().as_secs_f64();
        black_box(sum);
        self.nanoseconds.push(elapsed * 1e9 / CALLS as f64);
    }

    /// The median of what the rounds took more than plain.
    fn over(&self, plain: &Self) -> f64 {
        let pairs = self.nanoseconds.iter().zip(&plain.nanoseconds);
        let mut over: Vec<f64> = pairs.map(|(own, plain)| own - plain).collect();
        over.sort_by(f64::total_cmp);
        over[over.len() / 2]
    }
}

fn callback(function: u64, ops: u64, save_regs: bool, preserve: Preserve) -> Callback {
    let target = Target::Function(function);
    Callback { target, ops, save_regs, preserve, guard: None, threads: None }
}

/// A function with a set attached.
fn attached(arena: &mut Arena, set: &[Callback]) -> u64 {
    let site = arena.function(&SUM);
    let trampoline = arena.trampoline(set);
    arena.hook(&site, trampoline);
    site.function
}

/// A function whose calls go through the list, with so many ops that want them and others. An
/// ops wants a hundred functions.
fn listed(arena: &mut Arena, relevant: usize, irrelevant: usize, save_regs: bool) -> u64 {
    let site = arena.function(&SUM);
    let mut list = List::new();
    for number in 0..relevant + irrelevant {
        // The ones that want it stand among the others.
        let wants = (number + 1) * relevant / (relevant + irrelevant)
            > number * relevant / (relevant + irrelevant);
        let base = if wants { site.function } else { 0x1000_0000 + 0x10_0000 * number as u64 };
        let functions: Vec<u64> = (0..FILTERED).map(|other| base + 48 * other).collect();
        list.register(empty, 0, Hash::new(&functions), Hash::new(&[]));
    }
    let list = Box::leak(Box::new(list));
    let ops = std::ptr::from_ref(list) as u64;
    let shared = callback(list_function as *const () as u64, ops, save_regs, Preserve::None);
    let trampoline = arena.trampoline(&[shared]);
    arena.hook(&site, trampoline);
    site.function
}

fn measure(cases: &mut [Case]) {
    for _ in 0..ROUNDS {
        cases.iter_mut().for_each(Case::measure);
    }
}

fn main() {
    let mut arena = Arena::near();
    let address = empty as *const () as u64;
    // SAFETY: code of this program, which is longer.
    let code = unsafe { std::slice::from_raw_parts(address as *const u8, 64) };
    let preserve = promise(code, address).expect("an empty callback is simple");
    for save_regs in [false, true] {
        table(&mut arena, callback(address, 0, save_regs, preserve));
    }
    demands(&mut arena, callback(address, 0, false, preserve));
}

fn table(arena: &mut Arena, one: Callback) {
    println!("ns over a plain call, full registers: {}", one.save_regs);
    println!("relevant  irrelevant     set    list   ratio");
    let mut cases = vec![Case::new(arena.function(&SUM).function)];
    for relevant in RELEVANT {
        for irrelevant in IRRELEVANT {
            cases.push(Case::new(attached(arena, &vec![one; relevant])));
            cases.push(Case::new(listed(arena, relevant, irrelevant, one.save_regs)));
        }
    }
    measure(&mut cases);
    let mut pairs = cases[1..].chunks(2);
    for relevant in RELEVANT {
        for irrelevant in IRRELEVANT {
            let Some([set, list]) = pairs.next() else { return };
            let (set, list) = (set.over(&cases[0]), list.over(&cases[0]));
            let ratio = list / set;
            println!("{relevant:8}  {irrelevant:10}  {set:6.2}  {list:6.1}  {ratio:6.1}");
        }
    }
}

fn demands(arena: &mut Arena, one: Callback) {
    println!("\none callback, by what it asks to be preserved");
    let guarded = Callback { guard: Some(guard()), ..one };
    let preserving = |preserve| Callback { preserve, ..one };
    let sets = [
        ("nothing", one),
        ("nothing, guarded", guarded),
        ("xmm", preserving(Preserve::Xmm)),
        ("all vectors", preserving(Preserve::default())),
    ];
    // Each by itself: wide registers slow down what comes after.
    for (name, callback) in sets {
        let mut cases = vec![
            Case::new(arena.function(&SUM).function),
            Case::new(arena.function(&OTHER_SUM).function),
            Case::new(attached(arena, &[callback])),
        ];
        measure(&mut cases);
        let [plain, other, hooked] = &cases[..] else { return };
        let (noise, hooked) = (other.over(plain), hooked.over(plain));
        println!("{name:18} {hooked:6.2}  (plain {noise:.2})");
    }
}
