//! Holding calls back until it is known whether they are shown.

use std::collections::VecDeque;

/// Number of something that went into a gate.
pub(crate) type Ticket = u64;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// An entry whose call is still open; `wanted` says that nothing but its length is in doubt.
    Held {
        wanted: bool,
    },
    Ready,
    Dropped,
}

#[derive(Debug)]
struct Slot<P> {
    at: u64,
    state: State,
    payload: P,
}

/// A queue in time order. What is at its front leaves as soon as it is known to be shown. As a
/// call is shown once it is `threshold` old, the queue stays short: what waits in it are open
/// calls younger than that, and the few shown calls that began behind them.
#[derive(Debug)]
pub(crate) struct Gate<P> {
    slots: VecDeque<Slot<P>>,
    /// Ticket of the slot at the front.
    front: Ticket,
    threshold: u64,
}

impl<P> Gate<P> {
    pub(crate) fn new(threshold: u64) -> Self {
        Self { slots: VecDeque::new(), front: 0, threshold }
    }

    fn slot(&mut self, ticket: Ticket) -> Option<&mut Slot<P>> {
        let at = ticket.checked_sub(self.front)?;
        self.slots.get_mut(usize::try_from(at).ok()?)
    }

    fn put(&mut self, at: u64, state: State, payload: P) -> Ticket {
        self.slots.push_back(Slot { at, state, payload });
        self.front + self.slots.len() as u64 - 1
    }

    /// Puts in the entry of a call.
    pub(crate) fn enter(&mut self, at: u64, wanted: bool, payload: P) -> Ticket {
        let state =
            if wanted && self.threshold == 0 { State::Ready } else { State::Held { wanted } };
        self.put(at, state, payload)
    }

    /// Puts in something that is shown in any case.
    pub(crate) fn pass(&mut self, at: u64, payload: P) {
        self.put(at, State::Ready, payload);
    }

    /// Notes that a call is wanted. `false` if that was known.
    pub(crate) fn want(&mut self, ticket: Ticket) -> bool {
        match self.slot(ticket) {
            Some(slot) if slot.state == State::Held { wanted: false } => {
                slot.state = State::Held { wanted: true };
                true
            }
            _ => false,
        }
    }

    /// Decides on a call that ends at `now`: whether its end is to be shown.
    pub(crate) fn leave(&mut self, ticket: Ticket, now: u64) -> bool {
        let threshold = self.threshold;
        self.decide(ticket, |at| now.saturating_sub(at) >= threshold)
    }

    /// Decides on a call that never ended.
    pub(crate) fn never_left(&mut self, ticket: Ticket) {
        self.decide(ticket, |_| true);
    }

    fn decide(&mut self, ticket: Ticket, long_enough: impl Fn(u64) -> bool) -> bool {
        // What is in the queue no more has been shown.
        let Some(slot) = self.slot(ticket) else { return true };
        if let State::Held { wanted } = slot.state {
            let shown = wanted && long_enough(slot.at);
            slot.state = if shown { State::Ready } else { State::Dropped };
        }
        slot.state == State::Ready
    }

    /// The next thing that is known at `now` to be shown.
    #[inline]
    pub(crate) fn next(&mut self, now: u64) -> Option<P> {
        loop {
            let slot = self.slots.front()?;
            let old = || now.saturating_sub(slot.at) >= self.threshold;
            let shown = match slot.state {
                State::Held { wanted } if wanted && old() => true,
                State::Held { .. } => return None,
                State::Ready => true,
                State::Dropped => false,
            };
            self.front += 1;
            let slot = self.slots.pop_front()?;
            if shown {
                return Some(slot.payload);
            }
        }
    }
}
