//! The oracle: a relocated copy does what the original does.
//!
//! Random prologues run as they are and as copies, near and more than 2 GiB away, from random
//! registers, flags and memory; all of these are compared afterwards.
#![allow(missing_docs, clippy::print_stderr, reason = "tests")]

mod relocate_support;

use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};
use relocate_support::generate::{Case, Random};
use relocate_support::machine::{Machine, Outcome, State};
use sledge_engine::relocate::{RelocateError, relocate};

const CASES: u64 = 20_000;
const CELL: usize = 56;

/// What became of the cases.
#[derive(Debug, Default)]
struct Tally {
    same: u64,
    no_room: u64,
    red_zone: u64,
    unmovable: u64,
}

#[test]
fn a_copy_does_what_the_original_does() {
    let note = relocate_support::shared::Note::new();
    // SAFETY: the child runs only code of this test and ends by `_exit`.
    match unsafe { fork() }.expect("fork") {
        ForkResult::Child => {
            let result = std::panic::catch_unwind(|| run(&note));
            // SAFETY: ends the child without the parent's exit handlers.
            unsafe { nix::libc::_exit(i32::from(result.is_err())) }
        }
        ForkResult::Parent { child } => {
            let status = waitpid(child, None).expect("waitpid");
            assert_eq!(status, WaitStatus::Exited(child, 0), "last case: {}", note.read());
        }
    }
}

fn run(note: &relocate_support::shared::Note) {
    let mut machine = Machine::new();
    let mut tally = Tally::default();
    for seed in 0..CASES {
        let mut random = Random::new(seed);
        let case = Case::generate(&mut random, &machine);
        let start = State::random(&mut random, &machine);
        note.write(&format!("{seed}: {:02x?}", case.bytes));
        for place in [machine.near(), machine.far()] {
            compare(&mut machine, &case, &start, place, &mut tally, seed);
        }
    }
    eprintln!("{tally:?}");
    assert!(tally.same > CASES, "{tally:?}: most cases should be movable");
    assert!(tally.red_zone > 0 && tally.no_room > 0, "{tally:?}: the generator has grown tame");
}

fn compare(
    machine: &mut Machine,
    case: &Case,
    start: &State,
    place: u64,
    tally: &mut Tally,
    seed: u64,
) {
    let original = machine.original();
    let resume = original + case.bytes.len() as u64;
    let moved = match relocate(&case.bytes, original, resume, place, CELL) {
        Ok(moved) => moved,
        Err(RelocateError::NoRoom { .. }) => return tally.no_room += 1,
        Err(RelocateError::RedZoneInUse { .. }) if case.writes_red_zone || case.branches => {
            return tally.red_zone += 1;
        }
        // An indirect call, after a branch that hides where its operand is.
        Err(RelocateError::Unmovable { .. }) if case.branches => return tally.unmovable += 1,
        Err(error) => panic!("case {seed}, {:02x?}: {error}", case.bytes),
    };
    machine.write_original(&case.bytes);
    let expected = machine.run(original, start);
    machine.write_copy(place, &moved.code);
    let found = machine.run(place, start);
    if let Some(difference) = Outcome::difference(start, &expected, &found) {
        panic!(
            "case {seed} at {place:#x}: {difference}\noriginal {:02x?}\ncopy {:02x?}",
            case.bytes, moved.code
        );
    }
    tally.same += 1;
}
