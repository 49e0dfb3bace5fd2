//! The open calls of one thread, as the filter sees them.

use sledge_trace::event::{FunctionId, StackIndex};

use crate::calls::{CallFilter, Scope};
use crate::gate::{Gate, Ticket};

#[derive(Debug)]
struct Call {
    within: Scope,
    /// Its entry in the gate; `None` for a call that is not shown.
    ticket: Option<Ticket>,
}

#[derive(Debug)]
struct Stack {
    /// What held where the stack was first switched to.
    around: Scope,
    calls: Vec<Call>,
}

/// The stacks of a thread.
#[derive(Debug, Default)]
pub(crate) struct Strand {
    stacks: Vec<Stack>,
    current: usize,
}

impl Strand {
    pub(crate) fn stack(&self) -> StackIndex {
        self.current as StackIndex
    }

    fn scope(&self, filter: &CallFilter) -> Scope {
        match self.stacks.get(self.current) {
            Some(stack) => stack.calls.last().map_or(stack.around, |call| call.within),
            None => filter.outermost(),
        }
    }

    pub(crate) fn enter<P>(
        &mut self,
        filter: &CallFilter,
        gate: &mut Gate<P>,
        (function, at): (FunctionId, u64),
        payload: P,
    ) {
        let scope = self.scope(filter);
        if self.stacks.is_empty() {
            self.stacks.push(Stack { around: scope, calls: Vec::new() });
        }
        let (shown, within) = filter.judge(function, scope);
        let wanted = filter.wants_callers(function);
        let calls = &mut self.stacks[self.current].calls;
        if shown && wanted && filter.selects_callers() {
            // Callers of a wanted call are wanted; above one that is known so, all are.
            let callers = calls.iter().rev().filter_map(|call| call.ticket);
            callers.take_while(|&ticket| gate.want(ticket)).for_each(drop);
        }
        let ticket = shown.then(|| gate.enter(at, wanted, payload));
        calls.push(Call { within, ticket });
    }

    pub(crate) fn leave<P>(&mut self, gate: &mut Gate<P>, now: u64, payload: P) {
        let call = self.stacks.get_mut(self.current).and_then(|stack| stack.calls.pop());
        if call.and_then(|call| call.ticket).is_some_and(|ticket| gate.leave(ticket, now)) {
            gate.pass(now, payload);
        }
    }

    /// Makes a stack current; a new one has the next free number.
    pub(crate) fn switch(&mut self, filter: &CallFilter, to: StackIndex) {
        let around = self.scope(filter);
        if self.stacks.is_empty() {
            self.stacks.push(Stack { around, calls: Vec::new() });
        }
        let to = to as usize;
        if to == self.stacks.len() {
            self.stacks.push(Stack { around, calls: Vec::new() });
        }
        if to < self.stacks.len() {
            self.current = to;
        }
    }

    /// Decides on all calls that are still open.
    pub(crate) fn finish<P>(&mut self, gate: &mut Gate<P>) {
        let calls = self.stacks.iter_mut().flat_map(|stack| stack.calls.drain(..));
        calls.filter_map(|call| call.ticket).for_each(|ticket| gate.never_left(ticket));
    }
}

/// Numbers the stacks that something is shown of, in the order in which it is.
#[derive(Debug)]
pub(crate) struct ShownStacks {
    numbers: Vec<Option<StackIndex>>,
    next: StackIndex,
    current: StackIndex,
}

impl Default for ShownStacks {
    fn default() -> Self {
        // Stack 0 is there from the beginning.
        Self { numbers: vec![Some(0)], next: 1, current: 0 }
    }
}

impl ShownStacks {
    /// Where to switch to before something of `stack` is shown; `None` if nowhere.
    #[inline]
    pub(crate) fn switch(&mut self, stack: StackIndex) -> Option<StackIndex> {
        let at = stack as usize;
        if self.numbers.len() <= at {
            self.numbers.resize(at + 1, None);
        }
        let number = *self.numbers[at].get_or_insert_with(|| {
            self.next += 1;
            self.next - 1
        });
        (number != self.current).then(|| {
            self.current = number;
            number
        })
    }
}
