//! The pairer against an oracle that knows what the program did.

use proptest::prelude::*;

use super::*;

/// A program under a microscope: it keeps its own books of what is called, and writes both the
/// records that the tracee would write and the steps that they should become.
#[derive(Default)]
struct Program {
    now: u64,
    stacks: Vec<Vec<(u32, u32)>>,
    /// The cell at which each stack begins.
    bases: Vec<u32>,
    current: usize,
    /// The stack that was last seen in a record.
    seen: usize,
    records: Vec<Record>,
    steps: Vec<Step>,
}

impl Program {
    fn new() -> Self {
        let bases = vec![0x8000_0000, 0x1000_0000, 0x2000_0000, 0x0000_0100];
        Self { stacks: vec![Vec::new(); bases.len()], bases, ..Self::default() }
    }

    fn record(&mut self, kind: Kind, site: u32, cell: u32) {
        self.now += 7;
        self.records.push(Record { tsc: self.now, kind, site, cell });
        if self.seen != self.current {
            self.seen = self.current;
            self.step(Op::Switch(self.current as u32));
        }
    }

    fn step(&mut self, op: Op) {
        self.steps.push(Step { at: Ticks(self.now), op });
    }

    /// The cell that a call with this frame would have.
    fn next_cell(&self, frame: u32) -> u32 {
        let top = self.stacks[self.current].last();
        top.map_or(self.bases[self.current], |top| top.1).wrapping_sub(frame)
    }

    fn call(&mut self, site: u32, frame: u32) {
        let cell = self.next_cell(frame);
        self.stacks[self.current].push((site, cell));
        self.record(Kind::Enter, site, cell);
        self.step(Op::Enter(FunctionId(site)));
    }

    fn tail_call(&mut self, site: u32) {
        let Some(&(same, cell)) = self.stacks[self.current].last() else { return };
        self.record(Kind::Tail, site, cell);
        if same != site {
            let calls = &self.stacks[self.current];
            if let Some(again) = calls.iter().position(|call| *call == (site, cell)) {
                self.drop_to(again, Ending::Returned);
            }
            self.stacks[self.current].push((site, cell));
            self.step(Op::Enter(FunctionId(site)));
        }
    }

    fn call_setjmp(&mut self, site: u32, frame: u32) {
        self.record(Kind::EnterOnly, site, self.next_cell(frame));
        self.step(Op::Enter(FunctionId(site)));
        self.step(Op::Leave(Ending::NotSeen));
    }

    /// Returns from the innermost frame: the first function entered at its cell is the hooked
    /// one.
    fn leave(&mut self) {
        let Some(&(_, cell)) = self.stacks[self.current].last() else { return };
        let calls = &self.stacks[self.current];
        let first = calls.iter().position(|call| call.1 == cell).unwrap();
        // Coroutines of this program do not end: their stacks would change numbers.
        if self.current > 0 && first == 0 {
            return;
        }
        self.record(Kind::Exit, calls[first].0, cell);
        self.drop_to(first, Ending::Returned);
    }

    fn drop_to(&mut self, length: usize, ending: Ending) {
        for _ in length..self.stacks[self.current].len() {
            self.step(Op::Leave(ending));
        }
        self.stacks[self.current].truncate(length);
    }

    /// Throws out of so many frames, into one that then calls or returns.
    fn throw(&mut self, frames: usize, then_call: bool, site: u32) {
        let calls = &self.stacks[self.current];
        let catcher = calls.len().saturating_sub(frames.max(1) + 1);
        let Some(&(_, cell)) = calls.get(catcher) else { return };
        let last_of_frame = calls.iter().rposition(|call| call.1 == cell).unwrap();
        let first_of_frame = calls.iter().position(|call| call.1 == cell).unwrap();
        let ends_coroutine = self.current > 0 && first_of_frame == 0 && !then_call;
        if last_of_frame + 1 == calls.len() || ends_coroutine {
            return;
        }
        if then_call {
            let next = calls[last_of_frame + 1].1;
            // The catching frame calls at the place of what was thrown over, or further out.
            let new = next.wrapping_add(cell.wrapping_sub(next) / 2);
            self.record(Kind::Enter, site, new);
            self.drop_to(last_of_frame + 1, Ending::Unwound);
            self.stacks[self.current].push((site, new));
            self.step(Op::Enter(FunctionId(site)));
        } else {
            let site = calls[first_of_frame].0;
            self.record(Kind::Exit, site, cell);
            self.drop_to(last_of_frame + 1, Ending::Unwound);
            self.drop_to(first_of_frame, Ending::Returned);
        }
    }

    /// Goes on on another stack, with a call if it is a new one: stacks get their numbers in
    /// that order.
    fn switch(&mut self, to: usize, site: u32) {
        let known = (0..self.bases.len()).filter(|&at| self.seen_before(at)).count();
        self.current = to % self.bases.len().min(known + 1);
        if self.stacks[self.current].is_empty() {
            self.call(site, 4);
        }
    }

    fn seen_before(&self, stack: usize) -> bool {
        stack == 0 || self.steps.iter().any(|step| step.op == Op::Switch(stack as u32))
    }
}

#[derive(Clone, Debug)]
enum Act {
    Call(u32, u32),
    Tail(u32),
    Setjmp(u32, u32),
    Leave,
    Throw(usize, bool, u32),
    Switch(usize, u32),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        8 => (0..6u32, 2..2000u32).prop_map(|(site, frame)| Act::Call(site, frame)),
        2 => (0..6u32).prop_map(Act::Tail),
        1 => (6..8u32, 2..100u32).prop_map(|(site, frame)| Act::Setjmp(site, frame)),
        7 => Just(Act::Leave),
        2 => (1..6usize, any::<bool>(), 0..6u32).prop_map(|(n, call, site)| Act::Throw(n, call, site)),
        1 => (0..4usize, 0..6u32).prop_map(|(to, site)| Act::Switch(to, site)),
    ]
}

fn run(acts: &[Act], stacks: bool) -> Program {
    let mut program = Program::new();
    program.call(0, 2);
    for act in acts {
        match *act {
            Act::Call(site, frame) => program.call(site, frame),
            Act::Tail(site) => program.tail_call(site),
            Act::Setjmp(site, frame) => program.call_setjmp(site, frame),
            Act::Leave => program.leave(),
            Act::Throw(frames, call, site) => program.throw(frames, call, site),
            Act::Switch(to, site) if stacks => program.switch(to, site),
            Act::Switch(..) => {}
        }
    }
    program
}

fn pair(records: &[Record]) -> (Pairer, Vec<Step>) {
    let (mut pairer, mut out) = (Pairer::new(), Vec::new());
    for &record in records {
        pairer.push(record, FunctionId(record.site), &mut out);
    }
    (pairer, out)
}

/// Leaves never exceed entries on any stack, times never go back, stacks are numbered in order.
fn check_well_formed(steps: &[Step]) -> usize {
    let (mut open, mut current, mut last) = (vec![0usize], 0, Ticks(0));
    for step in steps {
        assert!(step.at >= last);
        last = step.at;
        match step.op {
            Op::Enter(_) => open[current] += 1,
            Op::Leave(_) => open[current] = open[current].checked_sub(1).expect("nothing open"),
            Op::Switch(to) => {
                current = to as usize;
                assert!(current <= open.len());
                open.resize(open.len().max(current + 1), 0);
            }
        }
    }
    open.iter().sum()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn what_a_program_did_is_what_comes_out(
        acts in prop::collection::vec(act(), 0..300),
        stacks in any::<bool>(),
    ) {
        let program = run(&acts, stacks);
        let (pairer, steps) = pair(&program.records);
        prop_assert_eq!(&steps, &program.steps);
        prop_assert_eq!(pairer.stray(), 0);
        prop_assert_eq!(pairer.open(), program.stacks.iter().map(Vec::len).sum::<usize>());
    }

    #[test]
    fn with_records_missing_the_steps_stay_well_formed(
        acts in prop::collection::vec(act(), 0..300),
        gaps in prop::collection::vec((0..300usize, 1..40usize), 0..5),
    ) {
        let program = run(&acts, true);
        let missing = |at: usize| gaps.iter().any(|gap| at >= gap.0 && at < gap.0 + gap.1);
        let (mut pairer, mut out) = (Pairer::new(), Vec::new());
        for (at, &record) in program.records.iter().enumerate() {
            if missing(at) {
                pairer.lost();
            } else {
                pairer.push(record, FunctionId(record.site), &mut out);
            }
        }
        prop_assert_eq!(check_well_formed(&out), pairer.open());
        prop_assert!(pairer.stray() == 0 || gaps.is_empty());
    }

    #[test]
    fn garbage_comes_out_well_formed(
        records in prop::collection::vec((any::<u64>(), 0..4u8, 0..5u32, any::<u32>(), 0..3u8), 0..400),
    ) {
        let records: Vec<Record> = records
            .into_iter()
            .map(|(tsc, kind, site, cell, width)| {
                let kinds = [Kind::Enter, Kind::Tail, Kind::Exit, Kind::EnterOnly];
                // Now all over the address space, now so close that records meet.
                let cell = [cell, cell % 16, cell % 20_000][usize::from(width)];
                Record { tsc: tsc >> 8, kind: kinds[usize::from(kind)], site, cell }
            })
            .collect();
        let (pairer, steps) = pair(&records);
        prop_assert_eq!(check_well_formed(&steps), pairer.open());
    }
}

fn record(tsc: u64, kind: Kind, site: u32, cell: u32) -> Record {
    Record { tsc, kind, site, cell }
}

fn ops(steps: &[Step]) -> Vec<Op> {
    steps.iter().map(|step| step.op).collect()
}

#[test]
fn an_exit_that_nothing_entered_is_stray_unless_records_were_lost() {
    let exits = [
        record(1, Kind::Enter, 1, 1000),
        record(2, Kind::Enter, 2, 900),
        record(3, Kind::Exit, 9, 950),
        record(4, Kind::Exit, 1, 1000),
    ];
    let (pairer, steps) = pair(&exits);
    assert_eq!(pairer.stray(), 1);
    let (unwound, returned) = (Op::Leave(Ending::Unwound), Op::Leave(Ending::Returned));
    let entries = [Op::Enter(FunctionId(1)), Op::Enter(FunctionId(2))];
    assert_eq!(ops(&steps), [entries[0], entries[1], unwound, returned]);
    assert_eq!(steps[2].at, Ticks(4));

    let (mut pairer, mut steps) = (Pairer::new(), Vec::new());
    for record in exits {
        pairer.push(record, FunctionId(record.site), &mut steps);
        pairer.lost();
    }
    assert_eq!(pairer.stray(), 0);
    assert_eq!(ops(&steps), [entries[0], entries[1], unwound, returned]);
    assert_eq!(steps[2].at, Ticks(3), "the lost call's exit already shows that it is gone");
}

#[test]
fn a_signal_handler_on_the_same_stack_is_a_deeper_call() {
    let (_, steps) = pair(&[
        record(1, Kind::Enter, 1, 1000),
        record(2, Kind::Enter, 2, 800),
        record(3, Kind::Exit, 2, 800),
        record(4, Kind::Exit, 1, 1000),
    ]);
    assert_eq!(check_well_formed(&steps), 0);
    assert_eq!(steps.len(), 4);
}

#[test]
fn a_stack_may_lie_across_the_place_where_cells_begin_anew() {
    let (pairer, steps) = pair(&[
        record(1, Kind::Enter, 1, 5),
        record(2, Kind::Enter, 2, 0xffff_ff00),
        record(3, Kind::Enter, 3, 2),
        record(4, Kind::Exit, 3, 2),
        record(5, Kind::Exit, 1, 5),
    ]);
    let (unwound, returned) = (Op::Leave(Ending::Unwound), Op::Leave(Ending::Returned));
    let entered = |number| Op::Enter(FunctionId(number));
    let expected = [entered(1), entered(2), unwound, entered(3), returned, returned];
    assert_eq!((ops(&steps).as_slice(), pairer.stray()), (expected.as_slice(), 0));
}

#[test]
fn endless_tail_calls_do_not_nest_for_ever() {
    let (mut pairer, mut out) = (Pairer::new(), Vec::new());
    pairer.push(record(1, Kind::Enter, 0, 1000), FunctionId(0), &mut out);
    for tsc in 2..10_000 {
        let site = (tsc % 3) as u32;
        pairer.push(record(tsc, Kind::Tail, site, 1000), FunctionId(site), &mut out);
        assert!(pairer.open() <= 3);
    }
    let entries = out.iter().filter(|step| matches!(step.op, Op::Enter(_))).count();
    assert_eq!(entries, 9999, "each of them is a call");
}

#[test]
fn finished_coroutines_lend_their_number() {
    let mut records = vec![record(1, Kind::Enter, 0, 0x8000_0000)];
    for number in 0..1000u32 {
        let cell = 0x1000_0000 + number * 0x1_0000;
        records.push(record(2, Kind::Enter, 1, cell));
        records.push(record(3, Kind::Exit, 1, cell));
        records.push(record(4, Kind::Enter, 2, 0x7fff_fff0));
        records.push(record(5, Kind::Exit, 2, 0x7fff_fff0));
    }
    let (pairer, steps) = pair(&records);
    assert_eq!((pairer.stacks.len(), pairer.open(), pairer.stray()), (2, 1, 0));
    assert_eq!(check_well_formed(&steps), 1);
}
