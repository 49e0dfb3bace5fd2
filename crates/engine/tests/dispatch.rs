//! Generated trampolines run: nothing that the program can see changes.
#![allow(missing_docs, reason = "tests")]

mod dispatch_support;

use dispatch_support::arena::{Arena, OTHER_SUM, SUM};
use dispatch_support::gate;
use dispatch_support::list::{Hash, List, list_function};
use dispatch_support::machine::{self, Machine, Random, Seen, State};
use sledge_engine::dispatch::*;
use std::arch::asm;
use std::cell::Cell;
use std::ffi::c_void;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

const ROUNDS: usize = 200;

fn callback(function: unsafe extern "C" fn(), seen: &mut Seen) -> Callback {
    Callback {
        target: Target::Function(function as *const () as u64),
        ops: std::ptr::from_mut(seen) as u64,
        save_regs: false,
        preserve: Preserve::None,
        guard: None,
        threads: None,
    }
}

type Client = extern "C" fn(u64, u64, *const c_void, *mut Registers);

/// A callback written in Rust.
fn client(function: Client, ops: u64) -> Callback {
    let target = Target::Function(function as *const () as u64);
    Callback { target, ops, ..callback(machine::dispatch_general, &mut Seen::default()) }
}

/// A function that has a set attached.
fn attached(arena: &mut Arena, set: &[Callback]) -> u64 {
    let site = arena.function(&SUM);
    let trampoline = arena.trampoline(set);
    arena.hook(&site, trampoline);
    site.function
}

/// Runs a function with and without callbacks, from random states.
fn compare(hooked: u64, plain: u64, width: u64) {
    let mut machine = Machine::new(width);
    let mut random = Random(0x1234_5678_9abc_def1);
    for round in 0..ROUNDS {
        let start = machine.random_state(&mut random, round % 4);
        let mut expected = machine.run(plain, &start);
        let mut found = machine.run(hooked, &start);
        (expected.flags, found.flags) = (0, 0);
        assert_eq!(found, expected, "round {round}");
        gate::all_left();
    }
}

fn xsave() -> Preserve {
    let (leaf, sub) = (0xd, 0);
    let (available, bytes): (u32, u32);
    // SAFETY: every processor with AVX has these; rbx is kept.
    unsafe {
        asm!("xchg {b}, rbx", "cpuid", "xchg {b}, rbx", b = inout(reg) 0_u64 => _,
            inout("eax") leaf => available, inout("ecx") sub => bytes, out("edx") _);
    }
    // All vector state, x87 and SSE.
    let mask = u64::from(available) & 0xe7;
    Preserve::Xsave(XsaveArea { mask, bytes: bytes.min(4096), compacted: false })
}

#[test]
fn registers_survive_callbacks_that_change_all() {
    let breaker = [machine::dispatch_xmm, machine::dispatch_ymm, machine::dispatch_zmm];
    let breaker = breaker[machine::width() as usize];
    let mut cases = vec![
        (machine::dispatch_general as unsafe extern "C" fn(), Preserve::None, 2),
        (machine::dispatch_xmm, Preserve::Xmm, 2),
    ];
    if machine::width() > 0 {
        cases.push((breaker, Preserve::default(), 2));
        cases.push((machine::dispatch_ymm, Preserve::Ymm, 1));
        cases.push((breaker, xsave(), 2));
        if let Preserve::Xsave(area) = xsave() {
            let compacted = XsaveArea { compacted: true, ..area };
            cases.push((breaker, Preserve::Xsave(compacted), 2));
        }
    }
    for mut arena in [Arena::near(), Arena::far()] {
        let plain = arena.function(&SUM).function;
        for &(function, preserve, width) in &cases {
            let mut seen = Seen::default();
            let one = Callback { preserve, ..callback(function, &mut seen) };
            let hooked = attached(&mut arena, &[one, one, one]);
            let before = gate::all_left();
            compare(hooked, plain, width);
            assert_eq!(gate::all_left() - before, ROUNDS as u32);
            assert_eq!(seen.count, 3 * ROUNDS as u64, "{preserve:?}");
            assert_eq!(seen.function, hooked);
            assert_eq!(seen.parent, Machine::parent());
            assert_eq!(seen.registers, 0);
            assert_eq!(seen.stack % 16, 8, "aligned before the call");
        }
    }
}

#[test]
fn registers_survive_a_callback_that_a_thunk_calls_itself() {
    for mut arena in [Arena::near(), Arena::far()] {
        let plain = arena.function(&SUM).function;
        let mut seen = Seen::default();
        let one = Lone {
            function: AtomicU64::new(machine::dispatch_general as *const () as u64),
            data: std::ptr::from_mut(&mut seen) as u64,
        };
        let site = arena.function(&SUM);
        let gate = gate::gate(&mut arena, std::ptr::from_ref(&one) as u64);
        arena.attach(&site, |place| lone_thunk(place, &gate, &site));
        let before = gate::all_left();
        compare(site.function, plain, 2);
        assert_eq!(gate::all_left() - before, ROUNDS as u32);
        assert_eq!(seen.count, ROUNDS as u64);
        assert_eq!(seen.function, site.function);
        assert_eq!(seen.parent, Machine::parent());
        assert_eq!(seen.registers, 0);
        assert_eq!(seen.stack % 16, 8, "aligned before the call");
    }
}

/// The comparison above can fail: a promise that is not kept shows.
#[test]
#[should_panic(expected = "round 0")]
fn a_broken_promise_shows() {
    let mut arena = Arena::near();
    let plain = arena.function(&SUM).function;
    let mut seen = Seen::default();
    let hooked = attached(&mut arena, &[callback(machine::dispatch_xmm, &mut seen)]);
    compare(hooked, plain, 0);
}

#[test]
fn registers_survive_callbacks_that_get_them() {
    let mut arena = Arena::near();
    let plain = arena.function(&SUM).function;
    let mut seen = Seen::default();
    let full = Callback { save_regs: true, ..callback(machine::dispatch_general, &mut seen) };
    let hooked = attached(&mut arena, &[full]);
    compare(hooked, plain, 2);
    assert_eq!(seen.count, ROUNDS as u64);
    assert_ne!(seen.registers, 0);
}

/// A thread counts itself in and out, and is made known on its first way in.
#[test]
fn threads_count_themselves() {
    let mut arena = Arena::near();
    let hooked = attached(&mut arena, &[]);
    assert_eq!(gate::all_left(), 0);
    for calls in 1..10 {
        assert_eq!(call(hooked, 1, 2), 3);
        assert_eq!(gate::all_left(), calls);
    }
    std::thread::scope(|scope| {
        scope.spawn(|| {
            assert_eq!(call(hooked, 1, 2), 3);
            assert_eq!(gate::all_left(), 1);
        });
    });
    assert_eq!(gate::all_left(), 9);
}

/// What the client below saw and does.
#[derive(Default)]
struct Exchange {
    seen: Registers,
    written: Registers,
}

extern "C" fn exchange(_: u64, _: u64, ops: *const c_void, registers: *mut Registers) {
    // SAFETY: the ops is an `Exchange` that nothing else uses now; registers are the trampoline's.
    unsafe {
        let exchange = &mut *ops.cast::<Exchange>().cast_mut();
        exchange.seen = *registers;
        *registers = exchange.written;
    }
}

fn to_registers(state: &State, rip: u64) -> Registers {
    let [rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15] =
        state.general;
    #[rustfmt::skip]
    let registers = Registers {
        r15, r14, r13, r12, rbp, rbx, r11, r10, r9, r8, rax, rcx, rdx, rsi, rdi,
        rip, rflags: state.flags, rsp,
    };
    registers
}

#[test]
fn registers_are_seen_written_and_execution_redirected() {
    let mut arena = Arena::near();
    let plain = arena.function(&SUM).function;
    let other = arena.function(&OTHER_SUM).function;
    let mut exchanged = Exchange::default();
    let ops = std::ptr::from_mut(&mut exchanged);
    let full =
        Callback { save_regs: true, preserve: Preserve::default(), ..client(exchange, ops as u64) };
    let hooked = attached(&mut arena, &[full]);
    let (mut machine, mut random) = (Machine::new(0), Random(77));
    for round in 0..ROUNDS {
        let start = machine.random_state(&mut random, round % 2);
        let stack = start.general[4];
        let mut wanted = machine.random_state(&mut random, round % 2);
        // Vector registers are not exchanged; `rsp` is not written back.
        wanted = State { general: wanted.general, flags: wanted.flags, ..start.clone() };
        let (rip, target) = if round % 3 == 0 { (other, other) } else { (hooked, plain) };
        // SAFETY: no callback runs now.
        unsafe { (*ops).written = Registers { rsp: 1, ..to_registers(&wanted, rip) } };
        let mut found = machine.run(hooked, &start);
        // SAFETY: no callback runs any more.
        let seen = unsafe { (*ops).seen };
        assert_eq!(seen, Registers { rflags: seen.rflags, ..to_registers(&start, hooked) });
        assert_eq!(seen.rsp, stack);
        let mut expected = machine.run(target, &wanted);
        (expected.flags, found.flags) = (0, 0);
        assert_eq!(found, expected, "round {round}");
        gate::all_left();
    }
}

#[test]
fn a_cell_is_changed_by_one_store() {
    for mut arena in [Arena::near(), Arena::far()] {
        let plain = arena.function(&SUM).function;
        let mut seen = Seen::default();
        let before = callback(machine::dispatch_general, &mut seen);
        let Target::Function(general) = before.target else { unreachable!() };
        let cell = AtomicU64::new(general);
        let through = Callback { target: Target::Cell(cell.as_ptr() as u64), ..before };
        let hooked = attached(&mut arena, &[through]);
        compare(hooked, plain, 0);
        assert_eq!(seen.count, ROUNDS as u64);
        cell.store(machine::dispatch_direct_return as *const () as u64, Relaxed);
        compare(hooked, plain, 0);
        assert_eq!(seen.count, ROUNDS as u64, "the new target counts nothing");
    }
}

#[test]
fn caller_supplied_code_has_the_continuation() {
    let mut arena = Arena::near();
    let plain = arena.function(&SUM);
    let site = arena.function(&SUM);
    let mut cell = |function: unsafe extern "C" fn()| {
        let function = function as *const () as u64;
        arena.put(|_| function.to_le_bytes().to_vec())
    };
    let returning = cell(machine::dispatch_direct_return);
    let around = cell(machine::dispatch_direct_around);
    arena.attach(&site, |place| direct_thunk(place, returning, &site));
    compare(site.function, plain.function, 2);

    let mut seen = Seen::default();
    let set = [callback(machine::dispatch_general, &mut seen)];
    let both = arena.function(&SUM);
    let trampoline = arena.trampoline(&set);
    let gate = gate::gate(&mut arena, trampoline);
    arena.attach(&both, |place| entry_thunk(place, &gate, Some(around), &both));
    assert_eq!(call(both.function, 3, 4), 1007);
    assert_eq!((seen.count, seen.function), (1, both.function));
}

/// A thread's note of being in a callback, its count of hits left out, and its filter bits.
#[derive(Default)]
#[repr(C)]
struct Note {
    busy: Cell<u32>,
    left_out: Cell<u32>,
    wanted: Cell<u8>,
}

thread_local! {
    static NOTE: Note = const {
        Note { busy: Cell::new(0), left_out: Cell::new(0), wanted: Cell::new(0) }
    };
}

fn note_offset() -> i32 {
    NOTE.with(|note| gate::thread_offset(std::ptr::from_ref(note).cast()))
}

fn call(function: u64, a: u64, b: u64) -> u64 {
    // SAFETY: a function that adds its arguments.
    let function = unsafe { std::mem::transmute::<u64, extern "C" fn(u64, u64) -> u64>(function) };
    function(a, b)
}

/// Counts, and calls functions that may be traced.
#[derive(Default)]
struct Nested {
    count: AtomicU64,
    calls: AtomicU64,
}

extern "C" fn nest(function: u64, _: u64, ops: *const c_void, registers: *mut Registers) {
    assert!(registers.is_null());
    // SAFETY: the ops is a `Nested`.
    let nested = unsafe { &*ops.cast::<Nested>() };
    nested.count.fetch_add(1, Relaxed);
    for _ in 0..nested.calls.load(Relaxed) {
        assert_eq!(call(function, 20, 22), 42);
    }
}

#[test]
fn a_guarded_callback_is_not_nested() {
    let mut arena = Arena::near();
    let (guarded, open) = (Nested::default(), Nested::default());
    guarded.calls.store(3, Relaxed);
    let guard = Some(Guard { offset: note_offset() });
    let base = |nested: &Nested| Callback {
        preserve: Preserve::default(),
        ..client(nest, std::ptr::from_ref(nested) as u64)
    };
    let set = [base(&open), Callback { guard, ..base(&guarded) }, base(&open)];
    let hooked = attached(&mut arena, &set);
    for _ in 0..10 {
        assert_eq!(call(hooked, 1, 2), 3);
    }
    assert_eq!(guarded.count.load(Relaxed), 10);
    assert_eq!(open.count.load(Relaxed), 2 * 10 * 4, "not guarded: nested calls count");
    assert_eq!(NOTE.with(|note| (note.busy.get(), note.left_out.get())), (0, 30));
}

#[test]
fn the_list_function_asks_every_ops() {
    let mut arena = Arena::near();
    let (sites, mut list) = ([(); 3].map(|()| arena.function(&SUM)), List::new());
    let functions = [0, 1, 2].map(|number: usize| sites[number].function);
    let [all, first, but_first, neither] = [(); 4].map(|()| Nested::default());
    all.calls.store(1, Relaxed);
    let filters: [(&Nested, &[u64], &[u64]); 4] = [
        (&all, &[], &[]),
        (&first, &functions[..1], &[]),
        (&but_first, &[], &functions[..1]),
        (&neither, &functions[..1], &functions[..1]),
    ];
    for (nested, filter, notrace) in filters {
        let argument = std::ptr::from_ref(nested) as u64;
        list.register(nest, argument, Hash::new(filter), Hash::new(notrace));
    }
    let set = [Callback {
        preserve: Preserve::default(),
        ..client(list_function, std::ptr::from_ref(&list) as u64)
    }];
    let trampoline = arena.trampoline(&set);
    for site in &sites {
        arena.hook(site, trampoline);
    }
    for &function in &functions {
        assert_eq!(call(function, 5, 6), 11);
    }
    let counts = [&all, &first, &but_first, &neither].map(|nested| nested.count.load(Relaxed));
    assert_eq!(counts, [3, 1, 2, 0]);
}

#[test]
fn threads_hammer_and_are_told_apart() {
    const CALLS: u64 = 50_000;
    let mut arena = Arena::near();
    let (all, some, nested) = (Nested::default(), Nested::default(), Nested::default());
    nested.calls.store(1, Relaxed);
    let offset = note_offset();
    let guard = Some(Guard { offset });
    let threads = Some(ThreadFilter { offset: offset + 8, mask: 4 });
    let base = |nested: &Nested| Callback {
        preserve: Preserve::default(),
        ..client(nest, std::ptr::from_ref(nested) as u64)
    };
    let set = [
        Callback { guard, ..base(&nested) },
        Callback { threads, ..base(&some) },
        Callback { guard, threads, ..base(&some) },
        base(&all),
    ];
    let hooked = attached(&mut arena, &set);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            scope.spawn(move || {
                NOTE.with(|note| note.wanted.set([0, 4, 3, 6][thread]));
                for value in 0..CALLS {
                    assert_eq!(call(hooked, value, 7), value + 7);
                }
                gate::all_left();
                NOTE.with(|note| assert_eq!(note.busy.get(), 0));
                // The nested call leaves out the guarded ones that this thread wants.
                let left_out = [1, 2, 1, 2][thread] * CALLS;
                assert_eq!(NOTE.with(|note| u64::from(note.left_out.get())), left_out);
            });
        }
    });
    assert_eq!(nested.count.load(Relaxed), 4 * CALLS);
    assert_eq!(all.count.load(Relaxed), 8 * CALLS);
    // Two threads; unguarded: with nested calls, guarded: without.
    assert_eq!(some.count.load(Relaxed), 2 * (2 + 1) * CALLS);
}
