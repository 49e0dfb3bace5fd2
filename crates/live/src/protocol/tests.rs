use super::explorer::{Code, Outcome, explore};
use super::*;
use crate::memory::array::{Array, Event, LoggedSync};
use sledge_engine::islands::TRAPS;

const BASE: u64 = 0x40_1000;
const LENGTH: usize = 5;

/// A site with an invented prologue: instruction starts are as the pattern says, and no original
/// byte is a trap, an opcode of ours, or equal to its neighbour.
struct Case {
    patch: Patch,
    starts: Vec<usize>,
}

/// `traps`: bytes for the boundaries, taken in turn.
fn case(pattern: u8, traps: &[u8]) -> Case {
    let boundaries = pattern << 1;
    let mut jump = [0xe9, 0x11, 0x22, 0x33, 0x44];
    let starts: Vec<usize> =
        (0..LENGTH).filter(|&at| at == 0 || boundaries >> at & 1 != 0).collect();
    for (&at, &trap) in starts[1..].iter().zip(traps.iter().cycle()) {
        jump[at] = trap;
    }
    let original = [0x50, 0x51, 0x52, 0x53, 0x54];
    let patch = Patch::new(BASE, boundaries, Bytes::new(&original), Bytes::new(&jump));
    Case { patch: patch.unwrap(), starts }
}

fn all_cases() -> impl Iterator<Item = Case> {
    let mixes: [&[u8]; 4] = [&[INT3], &[0x06], &[INT3, 0x1f], &[0x27, INT3]];
    (0..16).flat_map(move |pattern| mixes.map(|traps| case(pattern, traps)))
}

impl Case {
    fn memory(&self) -> (Array, LoggedSync) {
        let memory = Array::new(BASE, self.patch.believed.as_slice());
        let sync = LoggedSync { log: memory.log.clone(), left: usize::MAX };
        (memory, sync)
    }

    /// What the protocol does on the way to a goal.
    fn events(&mut self, goal: Goal) -> Vec<Event> {
        let (mut memory, mut sync) = self.memory();
        let patches = std::slice::from_mut(&mut self.patch);
        let refused = change(&mut memory, &mut sync, patches, &[0], goal).unwrap();
        assert!(refused.is_empty());
        assert_eq!(memory.bytes, self.patch.bytes(goal).as_slice());
        memory.log.take()
    }

    fn explore(
        &self,
        start: &[u8],
        events: &[Event],
    ) -> Result<
        std::collections::BTreeMap<usize, std::collections::BTreeSet<Outcome>>,
        super::explorer::Wrong,
    > {
        let code = Code {
            original: self.patch.original.as_slice(),
            jump: self.patch.jump.as_slice(),
            starts: &self.starts,
        };
        explore(&code, start, events)
    }
}

#[test]
fn no_thread_ever_runs_a_mixture() {
    for mut case in all_cases() {
        let (original, jump) = (case.patch.original, case.patch.jump);
        let arming = case.events(Goal::Armed);
        let seen = case.explore(original.as_slice(), &arming).unwrap();
        assert!(seen[&0].contains(&Outcome::Jumped));
        assert!(seen.values().all(|outcomes| outcomes.contains(&Outcome::Rescued)));
        let disarming = case.events(Goal::Original);
        let seen = case.explore(jump.as_slice(), &disarming).unwrap();
        assert!(seen.values().all(|outcomes| outcomes.contains(&Outcome::Original)));
    }
}

#[test]
fn a_change_may_begin_where_another_was_interrupted() {
    for mut case in all_cases() {
        for (goal, other) in [(Goal::Armed, Goal::Original), (Goal::Original, Goal::Armed)] {
            case.events(other);
            let start = case.patch.clone();
            let way = case.events(goal);
            // Each state that a failed barrier can leave.
            for barriers in 0..way.iter().filter(|event| **event == Event::Sync).count() {
                case.patch = start.clone();
                let (mut memory, mut sync) = case.memory();
                sync.left = barriers;
                let patches = std::slice::from_mut(&mut case.patch);
                let failed = change(&mut memory, &mut sync, patches, &[0], goal);
                assert!(matches!(failed, Err(Fault::Sync(_))));
                let (begun, interrupted) = (memory.log.take(), case.patch.clone());
                for next in [Goal::Armed, Goal::Original] {
                    case.patch = interrupted.clone();
                    let events = [begun.clone(), case.events(next)].concat();
                    case.explore(start.believed.as_slice(), &events).unwrap();
                }
            }
            case.patch = start;
        }
    }
}

/// Whether the explorer objects to a sequence for some site.
fn is_found_wrong(change_events: impl Fn(&Case, Vec<Event>) -> Vec<Event>) -> bool {
    let wrong = |mut case: Case| {
        let start = case.patch.original;
        let events = case.events(Goal::Armed);
        case.explore(start.as_slice(), &change_events(&case, events)).is_err()
    };
    all_cases().any(wrong)
}

#[test]
fn the_explorer_sees_what_is_left_out() {
    let without_barrier = |number: usize| {
        is_found_wrong(|_, events| {
            let mut barriers = 0;
            let keep = |event: &Event| {
                barriers += usize::from(*event == Event::Sync);
                *event != Event::Sync || barriers != number
            };
            events.into_iter().filter(keep).collect()
        })
    };
    assert!(without_barrier(1), "between traps and operands");
    assert!(without_barrier(2), "between operands and the entry");
    assert!(without_barrier(3), "between boundaries and the entry");
    assert!(!is_found_wrong(|_, events| events));
    let copied = |case: &Case, _| {
        let jump = case.patch.jump;
        jump.as_slice().iter().enumerate().map(|(at, &byte)| Event::Write(at, byte)).collect()
    };
    assert!(is_found_wrong(copied), "a plain copy");
    let entry_trap_only = |_: &Case, events: Vec<Event>| {
        events.into_iter().filter(|event| !matches!(event, Event::Write(1.., INT3))).collect()
    };
    assert!(is_found_wrong(entry_trap_only), "no traps on boundaries");
}

/// Why gcc's five NOPs stay five instructions.
#[test]
fn five_nops_cannot_become_one() {
    let one_nop = [0x0f, 0x1f, 0x44, 0, 0];
    let made_one = Patch::new(BASE, 0b11110, Bytes::new(&[0x90; 5]), Bytes::new(&one_nop));
    assert!(matches!(made_one, Err(crate::patch::PatchError::NotTrapSafe { .. })));
    let code = Code { original: &[0x90; 5], jump: &one_nop, starts: &[0, 1, 2, 3, 4] };
    // Even when nothing is left to be written: a context saved in the middle.
    let wrong = explore(&code, &one_nop, &[]).unwrap_err();
    assert_eq!((wrong.position, wrong.after_events), (2, 0));
    let mut nops = case(0b1111, &TRAPS);
    nops.patch.original = Bytes::new(&[0x90; 5]);
    nops.patch.believed = nops.patch.original;
    let events = nops.events(Goal::Armed);
    nops.explore(&[0x90; 5], &events).unwrap();
}

#[test]
fn other_bytes_are_refused_at_every_step_and_never_overwritten() {
    for goal in [Goal::Armed, Goal::Original] {
        let mut first = case(0b1011, &[0x06, INT3]);
        if goal == Goal::Original {
            first.events(Goal::Armed);
        }
        let start = first.patch.clone();
        let writes = first.events(goal).iter().filter(|event| **event != Event::Sync).count();
        for (when, at) in (0..writes).flat_map(|when| (0..LENGTH).map(move |at| (when, at))) {
            let mut patch = start.clone();
            let (mut memory, mut sync) = Case { patch: patch.clone(), starts: vec![] }.memory();
            let foreign = 0xf4;
            match when {
                0 => memory.bytes[at] = foreign,
                when => memory.intruder = Some((when, at, foreign)),
            }
            let patches = std::slice::from_mut(&mut patch);
            let refused = change(&mut memory, &mut sync, patches, &[0], goal).unwrap();
            let Some((0, Refusal::OtherBytes { expected, found })) = refused.first() else {
                // It came too late: between the last look and the last write of a step.
                assert!(when > 0);
                continue;
            };
            assert_eq!(*expected, patch.believed);
            assert_eq!(found.as_slice(), memory.bytes);
            assert_eq!(memory.bytes[at], foreign);
            if when == 0 {
                assert!(memory.log.take().is_empty());
            }
        }
    }
}

#[test]
fn one_refused_patch_does_not_stop_the_others() {
    let mut patches: Vec<Patch> = (0..3).map(|_| case(0b0101, &[INT3]).patch).collect();
    let mut bytes = Vec::new();
    for (number, patch) in patches.iter_mut().enumerate() {
        patch.address += (number * LENGTH) as u64;
        bytes.extend_from_slice(patch.original.as_slice());
    }
    bytes[7] = 0xf4;
    let mut memory = Array::new(BASE, &bytes);
    let mut sync = LoggedSync { log: memory.log.clone(), left: usize::MAX };
    let chosen = [2, 1, 0];
    let refused = change(&mut memory, &mut sync, &mut patches, &chosen, Goal::Armed).unwrap();
    assert_eq!(refused.len(), 1);
    assert_eq!(refused[0].0, 1);
    assert!(patches[0].is(Goal::Armed) && patches[2].is(Goal::Armed));
    assert_eq!(memory.bytes[5..10], bytes[5..10]);
    let barriers = memory.log.take().iter().filter(|event| **event == Event::Sync).count();
    assert!(barriers <= 4, "one barrier a step, not a site");
}
