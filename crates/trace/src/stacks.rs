//! The open calls of one thread, over all its stacks.

use crate::event::StackIndex;

/// One stack of a thread.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stack<C> {
    /// How many calls were open around it when it was first switched to.
    pub base: u32,
    /// Its open calls, outermost first.
    pub calls: Vec<C>,
}

/// The stacks of one thread. Stack 0 is there, and current, from the beginning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stacks<C> {
    stacks: Vec<Stack<C>>,
    current: usize,
}

impl<C> Default for Stacks<C> {
    fn default() -> Self {
        Self { stacks: vec![Stack { base: 0, calls: Vec::new() }], current: 0 }
    }
}

impl<C> Stacks<C> {
    /// The given stacks; `None` when `current` is none of them.
    #[must_use]
    pub fn from_parts(stacks: Vec<Stack<C>>, current: StackIndex) -> Option<Self> {
        let current = current as usize;
        (current < stacks.len()).then_some(Self { stacks, current })
    }

    /// All stacks, in the order in which they were first switched to.
    #[must_use]
    pub fn all(&self) -> &[Stack<C>] {
        &self.stacks
    }

    /// Which stack is current.
    #[must_use]
    pub fn current_index(&self) -> StackIndex {
        self.current as StackIndex
    }

    /// The current stack.
    #[must_use]
    pub fn current(&self) -> &Stack<C> {
        &self.stacks[self.current]
    }

    /// The innermost open call of the current stack.
    #[must_use]
    pub fn innermost_mut(&mut self) -> Option<&mut C> {
        self.stacks[self.current].calls.last_mut()
    }

    /// The depth that a call entered now would have.
    #[must_use]
    pub fn depth(&self) -> u32 {
        let stack = self.current();
        stack.base.saturating_add(stack.calls.len() as u32)
    }

    /// Opens a call on the current stack and says its depth.
    #[inline(always)]
    pub fn enter(&mut self, call: C) -> u32 {
        let stack = &mut self.stacks[self.current];
        let depth = stack.base.saturating_add(stack.calls.len() as u32);
        stack.calls.push(call);
        depth
    }

    /// Ends the innermost call of the current stack and says its depth.
    #[inline(always)]
    pub fn leave(&mut self) -> Option<(C, u32)> {
        let stack = &mut self.stacks[self.current];
        let call = stack.calls.pop()?;
        Some((call, stack.base.saturating_add(stack.calls.len() as u32)))
    }

    /// Makes a stack current. A new one must have the next free number; otherwise nothing
    /// changes and the answer is `false`.
    pub fn switch(&mut self, to: StackIndex) -> bool {
        let to = to as usize;
        if to > self.stacks.len() {
            return false;
        }
        if to == self.stacks.len() {
            self.stacks.push(Stack { base: self.depth(), calls: Vec::new() });
        }
        self.current = to;
        true
    }

    /// How many calls are open, over all stacks.
    #[must_use]
    pub fn open(&self) -> usize {
        self.stacks.iter().map(|stack| stack.calls.len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stack_keeps_the_depth_at_which_it_was_first_switched_to() {
        let mut stacks = Stacks::default();
        assert_eq!([stacks.enter('a'), stacks.enter('b')], [0, 1]);
        assert!(stacks.switch(1));
        assert_eq!(stacks.enter('x'), 2);
        assert!(stacks.switch(0));
        assert_eq!(stacks.leave(), Some(('b', 1)));
        assert!(stacks.switch(1));
        assert_eq!(stacks.enter('y'), 3);
        assert_eq!(stacks.open(), 3);
        assert!(!stacks.switch(7));
        assert_eq!(stacks.leave(), Some(('y', 3)));
    }
}
