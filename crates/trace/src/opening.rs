//! The calls that are open where reading begins, or goes on after a gap.

use crate::chunk::OpenCall;
use crate::event::{Ending, Event, EventKind, FunctionId, Nanos, StackIndex, Ticks};
use crate::lane::Lane;
use crate::stacks::{Stack, Stacks};

/// An open call, with its time in both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Call {
    pub(crate) function: FunctionId,
    pub(crate) entered: Ticks,
    pub(crate) nanos: Nanos,
}

impl Lane<'_> {
    /// Brings what is open in line with what a chunk says is open. They differ only where a
    /// chunk before it is missing.
    pub(crate) fn reconcile<E>(
        &mut self,
        opening: &Stacks<OpenCall>,
        at: Ticks,
        emit: &mut impl FnMut(&Event) -> Result<(), E>,
    ) -> Result<(), E> {
        if self.stacks.agrees_with(opening) {
            return Ok(());
        }
        let common = common_calls(&self.stacks, opening);
        let (now, teller) = (self.nanos(at), self.teller);
        for (stack, &common) in common.iter().enumerate() {
            self.leave_down_to(stack as StackIndex, common, &mut |kind| {
                emit(&teller.event(now, kind))
            })?;
        }
        let current = self.stacks.current_index();
        self.adopt(opening);
        enter_missing(opening, &common, current, &mut |kind| emit(&teller.event(now, kind)))
    }

    /// Ends the calls of a stack above its first `common` ones.
    fn leave_down_to<E>(
        &mut self,
        stack: StackIndex,
        common: usize,
        emit: &mut impl FnMut(EventKind) -> Result<(), E>,
    ) -> Result<(), E> {
        if self.stacks.all()[stack as usize].calls.len() <= common {
            return Ok(());
        }
        if self.stacks.current_index() != stack && self.stacks.switch(stack) {
            emit(EventKind::Switch { stack })?;
        }
        while self.stacks.current().calls.len() > common {
            let Some((call, depth)) = self.stacks.leave() else { break };
            let (function, entered, ending) = (call.function, call.nanos, Ending::Unwound);
            emit(EventKind::Exit { function, depth, entered, ending })?;
        }
        Ok(())
    }

    /// Takes over what a chunk says is open.
    pub(crate) fn adopt(&mut self, opening: &Stacks<OpenCall>) {
        let mut stacks = Vec::with_capacity(opening.all().len());
        for stack in opening.all() {
            let calls = stack.calls.iter().map(|&OpenCall { function, entered }| Call {
                function,
                entered,
                nanos: self.trace.loaded.clock.nanos(entered, &mut self.hint),
            });
            stacks.push(Stack { base: stack.base, calls: calls.collect() });
        }
        if let Some(stacks) = Stacks::from_parts(stacks, opening.current_index()) {
            self.stacks = stacks;
        }
    }

    pub(crate) fn tell_open(&self, told: &mut Vec<(Ticks, EventKind)>) {
        let mut current = 0;
        for (stack, depth, call) in self.open_calls() {
            if stack != current {
                current = stack;
                told.push((call.entered, EventKind::Switch { stack }));
            }
            told.push((call.entered, EventKind::Enter { function: call.function, depth }));
        }
        let stack = self.stacks.current_index();
        if let Some(&(at, _)) = told.last()
            && stack != current
        {
            told.push((at, EventKind::Switch { stack }));
        }
    }

    /// The open calls with their stack and depth, in the order in which they began.
    pub(crate) fn open_calls(&self) -> Vec<(StackIndex, u32, Call)> {
        let mut open = Vec::new();
        for (number, stack) in self.stacks.all().iter().enumerate() {
            for (above, call) in stack.calls.iter().enumerate() {
                open.push((number as StackIndex, stack.base.saturating_add(above as u32), *call));
            }
        }
        open.sort_by_key(|(_, _, call)| call.entered);
        open
    }
}

impl Stacks<OpenCall> {
    /// Those that were open before a time.
    pub(crate) fn open_before(&self, time: Ticks) -> Self {
        let before = |stack: &Stack<OpenCall>| {
            let calls = stack.calls.iter().take_while(|call| call.entered < time);
            Stack { base: stack.base, calls: calls.copied().collect() }
        };
        let stacks = self.all().iter().map(before).collect();
        Self::from_parts(stacks, self.current_index()).unwrap_or_default()
    }
}

impl Stacks<Call> {
    fn agrees_with(&self, opening: &Stacks<OpenCall>) -> bool {
        self.current_index() == opening.current_index()
            && self.all().len() == opening.all().len()
            && self.all().iter().zip(opening.all()).all(|(ours, theirs)| {
                ours.base == theirs.base
                    && ours.calls.len() == theirs.calls.len()
                    && common_prefix(ours, theirs) == ours.calls.len()
            })
    }
}

/// Tells the entries of the calls that are open above the `known` ones of each stack, and ends
/// on the stack that is current.
fn enter_missing<E>(
    opening: &Stacks<OpenCall>,
    known: &[usize],
    mut current: StackIndex,
    emit: &mut impl FnMut(EventKind) -> Result<(), E>,
) -> Result<(), E> {
    for (number, stack) in opening.all().iter().enumerate() {
        let known = known.get(number).copied().unwrap_or(0);
        let number = number as StackIndex;
        if stack.calls.len() > known && current != number {
            current = number;
            emit(EventKind::Switch { stack: number })?;
        }
        for (above, call) in stack.calls.iter().enumerate().skip(known) {
            let depth = stack.base.saturating_add(above as u32);
            emit(EventKind::Enter { function: call.function, depth })?;
        }
    }
    let stack = opening.current_index();
    if current == stack { Ok(()) } else { emit(EventKind::Switch { stack }) }
}

/// For each of our stacks, how many calls at its bottom a chunk knows too.
fn common_calls(ours: &Stacks<Call>, theirs: &Stacks<OpenCall>) -> Vec<usize> {
    let known = |(number, stack): (usize, &Stack<Call>)| match theirs.all().get(number) {
        Some(other) if other.base == stack.base => common_prefix(stack, other),
        _ => 0,
    };
    ours.all().iter().enumerate().map(known).collect()
}

fn common_prefix(ours: &Stack<Call>, theirs: &Stack<OpenCall>) -> usize {
    let same = |(our, their): &(&Call, &OpenCall)| {
        (our.function, our.entered) == (their.function, their.entered)
    };
    ours.calls.iter().zip(&theirs.calls).take_while(same).count()
}
