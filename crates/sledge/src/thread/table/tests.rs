use super::explorer::{Explorer, Mistake, Plan, Setting, Step};
use super::*;
use iced_x86::{Code, Decoder, DecoderOptions, Instruction, OpKind, Register};
use sledge_engine::dispatch::{Displaced, Gate, entry_thunk};
use std::cell::{Cell, RefCell};

/// A table between whose steps something happens.
struct Places {
    places: RefCell<Vec<u64>>,
    used: Cell<usize>,
    /// Taken by others just before this thread takes its first place.
    rival: Cell<u64>,
}

impl Table for Places {
    fn most(&self) -> usize {
        self.places.borrow().len()
    }

    fn used(&self) -> usize {
        self.used.get()
    }

    fn raise_used(&self, to: usize) {
        self.used.set(self.used.get().max(to));
    }

    fn get(&self, at: usize) -> u64 {
        self.places.borrow()[at]
    }

    fn replace(&self, at: usize, from: u64, to: u64) -> bool {
        let place = &mut self.places.borrow_mut()[at];
        if from == 0 && self.rival.get() != 0 {
            *place = self.rival.take();
        }
        let is_as_thought = *place == from;
        if is_as_thought {
            *place = to;
        }
        is_as_thought
    }
}

fn places(rival: u64) -> Places {
    Places { places: RefCell::new(vec![0; 4]), used: Cell::new(0), rival: Cell::new(rival) }
}

#[test]
fn no_entry_lies_behind_what_counts_as_used() {
    let (own, rival) = (entry(0x1000, 1), entry(0x2000, 2));
    let table = places(rival);
    assert!(insert(&table, own));
    let used = &table.places.borrow()[..table.used.get()];
    assert_eq!(used, [rival, own], "a thread that lost its place to another is seen, too");
}

#[test]
fn who_comes_to_a_block_takes_the_entry_of_who_had_it() {
    let table = places(0);
    for generation in 0..10 {
        assert!(insert(&table, entry(0x1000, generation)));
        assert!(insert(&table, entry(0x1000, generation)), "again");
    }
    assert_eq!(*table.places.borrow(), [entry(0x1000, 9), 0, 0, 0]);
}

#[test]
fn an_entry_holds_its_block() {
    let last = 0x7fff_ffff_ffc0;
    assert_eq!(block(entry(last, u64::MAX)), last);
    assert_ne!(entry(last, 1), entry(last, 2));
}

/// The steps of a thunk, from its instructions as they are generated.
fn thunk() -> Vec<Step> {
    let (place, function) = (0x5555_0000_1008, 0x5555_0000_0000);
    let gate = Gate { cell: 0x5555_0000_2000, entered: -128, left: -124, first: 0x5555_0000_3000 };
    // `push rbx; mov rbx, rdi; nop`.
    let bytes = &[0x53, 0x48, 0x89, 0xfb, 0x90];
    let displaced = Displaced { function, address: function, bytes, resume: function + 5 };
    let thunk = entry_thunk(place, &gate, None, &displaced).unwrap();
    let decode = |at: u64| {
        let code = &thunk.code[(at - place) as usize..];
        Decoder::with_ip(64, code, at, DecoderOptions::NONE).decode()
    };
    let counts = |one: &Instruction, offset: i32| {
        one.code() == Code::Inc_rm32
            && one.segment_prefix() == Register::FS
            && one.memory_displacement64() == i64::from(offset).cast_unsigned()
    };
    let mut steps = Vec::new();
    let (mut at, body) = (place + thunk.entry as u64, place + thunk.body as u64);
    while at < body {
        let one = decode(at);
        at = one.next_ip();
        match one.code() {
            Code::Push_r64 | Code::Pop_r64 | Code::Mov_r64_rm64 | Code::Mov_rm64_r64 => {}
            _ if counts(&one, gate.entered) => steps.push(Step::CountIn),
            _ if counts(&one, gate.left) => steps.push(Step::CountOut),
            Code::Js_rel8_64 | Code::Js_rel32_64 => {
                let call = decode(one.near_branch_target());
                assert_eq!(call.code(), Code::Call_rel32_64);
                assert_eq!(call.near_branch_target(), gate.first);
                let back = decode(call.next_ip());
                assert!(back.is_jmp_short_or_near() && back.near_branch_target() == at);
                steps.push(Step::IfUnknown);
            }
            Code::Call_rm64 if one.op0_kind() == OpKind::Memory => {
                assert_eq!(one.memory_displacement64(), gate.cell);
                steps.extend([Step::ReadCell, Step::Run]);
            }
            _ => panic!("what does {one:?} do?"),
        }
    }
    steps
}

/// One hit, which a signal may interrupt for another.
const INTERRUPTED: Plan = Plan { hits: 1, signals: 1, reborn: None };
/// Two, which nothing interrupts.
const TWO: Plan = Plan { hits: 2, signals: 0, reborn: None };
const ONE: Plan = Plan { hits: 1, ..TWO };
/// Ends anywhere, and another comes to its block and number.
const FOLLOWED: Plan = Plan { hits: 1, signals: 0, reborn: Some(1) };

fn setting(threads: &[Plan], rounds: u8, others: u8) -> Setting {
    let (thunk, mistake, threads) = (thunk(), Mistake::None, threads.to_vec());
    Setting { thunk, mistake, threads, rounds, others }
}

fn settings() -> Vec<(&'static str, Setting)> {
    vec![
        ("hits in turn, memory used again", setting(&[TWO], 2, 0)),
        ("an interrupted hit", setting(&[INTERRUPTED], 2, 0)),
        ("two threads come at once", setting(&[ONE, ONE], 1, 0)),
        ("a thread follows another", setting(&[FOLLOWED], 2, 0)),
        ("a thread follows another, others look", setting(&[FOLLOWED], 1, 1)),
        ("an interrupted hit, others look", setting(&[INTERRUPTED], 1, 1)),
    ]
}

/// Takes minutes in whole.
fn large_settings() -> Vec<(&'static str, Setting)> {
    let twice = Plan { signals: 2, ..INTERRUPTED };
    vec![
        ("a hit that is interrupted twice, others look", setting(&[twice], 1, 1)),
        ("two threads, one is interrupted", setting(&[INTERRUPTED, ONE], 1, 0)),
    ]
}

fn holds(settings: Vec<(&'static str, Setting)>) {
    for (name, setting) in settings {
        let mut explorer = Explorer::new(setting);
        let explored = explorer.run();
        assert!(explored.is_ok(), "{name}");
        assert!(explorer.states > 1000, "{name}: {} states", explorer.states);
    }
}

#[test]
fn a_thunk_counts_in_before_it_reads_the_cell_and_out_at_the_end() {
    use Step::{CountIn, CountOut, IfUnknown, ReadCell, Run};
    assert_eq!(thunk(), [CountIn, IfUnknown, ReadCell, Run, CountOut]);
}

#[test]
fn nobody_is_ever_in_what_was_freed() {
    holds(settings());
}

#[test]
#[ignore = "takes minutes, and gigabytes"]
fn nobody_is_ever_in_what_was_freed_in_larger_settings() {
    holds(large_settings());
}

/// Whether some exploration finds a thread in what was freed.
fn is_found(settings: Vec<(&'static str, Setting)>, change: impl Fn(&mut Setting)) -> bool {
    settings.into_iter().any(|(_, mut setting)| {
        change(&mut setting);
        Explorer::new(setting).run().is_err()
    })
}

#[test]
fn each_mistake_is_found() {
    let mistakes = [
        Mistake::NoBarrier,
        Mistake::CountInIsReadFirst,
        Mistake::UsedIsRaisedOnce,
        Mistake::NoGrace,
    ];
    for mistake in mistakes {
        assert!(is_found(settings(), |setting| setting.mistake = mistake), "{mistake:?}");
    }
    // It takes two signals.
    assert!(is_found(large_settings(), |setting| setting.mistake = Mistake::EntryChanges));
}

#[test]
fn each_order_of_steps_but_the_right_one_is_found() {
    use Step::{CountIn, CountOut, IfUnknown, ReadCell, Run};
    let orders = [
        ("counted in after the cell", vec![ReadCell, CountIn, IfUnknown, Run, CountOut]),
        ("made known after the cell", vec![CountIn, ReadCell, IfUnknown, Run, CountOut]),
        ("counted out too early", vec![CountIn, IfUnknown, ReadCell, CountOut, Run]),
        ("never made known", vec![CountIn, ReadCell, Run, CountOut]),
    ];
    for (name, order) in orders {
        assert!(is_found(settings(), |setting| setting.thunk = order.clone()), "{name}");
    }
}
