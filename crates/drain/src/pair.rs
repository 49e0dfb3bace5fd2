//! Pairing the entries and exits of one thread.
//!
//! Every record names the stack cell that holds the call's return address. Stacks grow down, so a
//! call made by an open one has a smaller cell, and a record at a larger one shows that what was
//! open below it is gone, whichever way that went: an exception, `longjmp`, the end of a thread.

use sledge_trace::event::{Ending, FunctionId, Op, StackIndex, Step, Ticks};
use sledge_wire::record::{Kind, Record};

/// How far, in cells, from what was seen of a stack a record may lie and still belong to it:
/// 32 KiB. A frame that is larger only looks like a stack of its own until it returns; stacks of
/// coroutines that were taken for one would look like endless unwinding.
const NEAR: u32 = (32 << 10) / 8;

/// A call whose end was not seen yet.
#[derive(Clone, Copy, Debug)]
struct Open {
    site: u32,
    cell: u32,
}

/// One of a thread's stacks.
#[derive(Debug)]
struct Stack {
    /// The deepest cell seen since it was last empty.
    low: u32,
    /// The outermost one.
    high: u32,
    calls: Vec<Open>,
}

impl Stack {
    fn at(cell: u32) -> Self {
        Self { low: cell, high: cell, calls: Vec::new() }
    }

    /// Whether `cell` lies in what was seen of it, or at most `slack` cells beside.
    fn covers(&self, cell: u32, slack: u32) -> bool {
        let extent = self.high.wrapping_sub(self.low).saturating_add(2 * slack);
        cell.wrapping_sub(self.low.wrapping_sub(slack)) <= extent
    }

    fn open(&mut self, site: u32, cell: u32) {
        if self.calls.is_empty() {
            (self.low, self.high) = (cell, cell);
        } else if !reaches(cell, self.low) {
            self.low = cell;
        } else if !reaches(self.high, cell) {
            self.high = cell;
        }
        self.calls.push(Open { site, cell });
    }

    /// Where the open call of this site at this cell is. Of a chain of tail calls the outermost
    /// one is meant: the others have no exit of their own.
    #[inline]
    fn find(&self, site: u32, cell: u32) -> Option<usize> {
        let mut found = None;
        for (at, call) in self.calls.iter().enumerate().rev() {
            if call.cell == cell {
                found = if call.site == site { Some(at) } else { found };
            } else if !reaches(cell, call.cell) {
                break;
            }
        }
        found
    }
}

/// Whether `outer` is the same cell as `inner` or further out. Cells are the low half of
/// addresses, so a stack may lie across the place where they begin anew.
fn reaches(outer: u32, inner: u32) -> bool {
    outer.wrapping_sub(inner) <= i32::MAX as u32
}

/// Turns the raw records of one thread into well-formed steps.
#[derive(Debug, Default)]
pub struct Pairer {
    stacks: Vec<Stack>,
    current: usize,
    last: u64,
    stray: u64,
    lossy: bool,
}

impl Pairer {
    /// For a thread of which nothing was seen yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next record, whose site is `function`, and appends the steps it means.
    pub fn push(&mut self, record: Record, function: FunctionId, out: &mut Vec<Step>) {
        self.last = self.last.max(record.tsc);
        let (site, cell) = (record.site, record.cell);
        match record.kind {
            Kind::Enter => {
                self.settle(cell, out);
                self.unwind(cell, true, out);
                self.enter(site, cell, function, out);
            }
            Kind::Tail => {
                self.settle(cell, out);
                self.unwind(cell, false, out);
                self.tail(site, cell, function, out);
            }
            Kind::EnterOnly => {
                self.settle(cell, out);
                // A function open at this very cell may have jumped here, and still return.
                self.unwind(cell, false, out);
                self.emit(Op::Enter(function), out);
                self.emit(Op::Leave(Ending::NotSeen), out);
            }
            Kind::Exit => self.exit(site, cell, out),
        }
    }

    /// Notes that records are missing before the next one. From here on an exit may well belong
    /// to a call whose entry is missing.
    pub fn lost(&mut self) {
        self.lossy = true;
    }

    /// Exits that matched no open call although nothing was lost.
    #[must_use]
    pub fn stray(&self) -> u64 {
        self.stray
    }

    /// Calls open now, over all stacks. At the end of a thread these are the ones that never
    /// ended; the trace reports them as such.
    #[must_use]
    pub fn open(&self) -> usize {
        self.stacks.iter().map(|stack| stack.calls.len()).sum()
    }

    #[inline]
    fn emit(&self, op: Op, out: &mut Vec<Step>) {
        out.push(Step { at: Ticks(self.last), op });
    }

    #[inline]
    fn enter(&mut self, site: u32, cell: u32, function: FunctionId, out: &mut Vec<Step>) {
        self.stacks[self.current].open(site, cell);
        self.emit(Op::Enter(function), out);
    }

    /// Chains a tail call onto the calls at its cell.
    fn tail(&mut self, site: u32, cell: u32, function: FunctionId, out: &mut Vec<Step>) {
        let calls = &mut self.stacks[self.current].calls;
        // A jump back to the entry of the same function is a loop, not a call.
        if calls.last().is_some_and(|top| (top.site, top.cell) == (site, cell)) {
            return;
        }
        // Functions that go on tail calling each other would otherwise nest for ever.
        let chain = calls.iter().rev().take_while(|call| call.cell == cell);
        if let Some(above) = chain.clone().position(|call| call.site == site) {
            calls.truncate(calls.len() - above - 1);
            for _ in 0..=above {
                self.emit(Op::Leave(Ending::Returned), out);
            }
        }
        self.enter(site, cell, function, out);
    }

    /// Ends the calls of the current stack that were jumped over when something happened at
    /// `cell`, including, if so told, those at that very cell.
    #[inline]
    fn unwind(&mut self, cell: u32, including: bool, out: &mut Vec<Step>) {
        while let Some(top) = self.stacks[self.current].calls.last() {
            if !reaches(cell, top.cell) || !including && top.cell == cell {
                break;
            }
            self.stacks[self.current].calls.pop();
            self.emit(Op::Leave(Ending::Unwound), out);
        }
    }

    /// Makes the stack that `cell` belongs to the current one.
    #[inline]
    fn settle(&mut self, cell: u32, out: &mut Vec<Step>) {
        let fits = self.stacks.get(self.current).is_some_and(|stack| {
            let slack = if self.stacks.len() == 1 { NEAR } else { 0 };
            stack.covers(cell, slack)
        });
        if !fits {
            let stack = self.stack_of(cell);
            self.switch(stack, out);
        }
    }

    #[cold]
    fn stack_of(&mut self, cell: u32) -> usize {
        if self.stacks.is_empty() {
            self.stacks.push(Stack::at(cell));
            return 0;
        }
        for slack in [0, NEAR] {
            if self.stacks[self.current].covers(cell, slack) {
                return self.current;
            }
            if let Some(at) = self.stacks.iter().position(|stack| stack.covers(cell, slack)) {
                return at;
            }
        }
        // A stack that is done with lends its number: programs make coroutines by the million.
        let idle = self.stacks.iter().skip(1).position(|stack| stack.calls.is_empty());
        if let Some(at) = idle.map(|at| at + 1).filter(|&at| at != self.current) {
            self.stacks[at] = Stack::at(cell);
            return at;
        }
        self.stacks.push(Stack::at(cell));
        self.stacks.len() - 1
    }

    fn switch(&mut self, stack: usize, out: &mut Vec<Step>) {
        if self.current != stack {
            self.current = stack;
            self.emit(Op::Switch(stack as StackIndex), out);
        }
    }

    #[inline]
    fn exit(&mut self, site: u32, cell: u32, out: &mut Vec<Step>) {
        let Some((stack, at)) = self.find(site, cell) else {
            return self.unmatched(cell, out);
        };
        self.switch(stack, out);
        while self.stacks[stack].calls.len() > at {
            let Some(call) = self.stacks[stack].calls.pop() else { break };
            // What was tail called shares the cell, and returned by this very return.
            let ending = if call.cell == cell { Ending::Returned } else { Ending::Unwound };
            self.emit(Op::Leave(ending), out);
        }
    }

    /// The open call that an exit ends, as (stack, place in it).
    #[inline]
    fn find(&self, site: u32, cell: u32) -> Option<(usize, usize)> {
        let current = self.stacks.get(self.current)?;
        if let Some(at) = current.find(site, cell) {
            return Some((self.current, at));
        }
        let others = self.stacks.iter().enumerate();
        others
            .filter(|(_, stack)| stack.covers(cell, 0))
            .find_map(|(number, stack)| Some((number, stack.find(site, cell)?)))
    }

    /// An exit without its entry. If that was lost, it still shows that what is open deeper on
    /// its stack is gone.
    #[cold]
    fn unmatched(&mut self, cell: u32, out: &mut Vec<Step>) {
        if !self.lossy {
            self.stray += 1;
            return;
        }
        if self.stacks.iter().any(|stack| stack.covers(cell, NEAR)) {
            self.settle(cell, out);
            self.unwind(cell, true, out);
        }
    }
}

#[cfg(test)]
mod tests;
