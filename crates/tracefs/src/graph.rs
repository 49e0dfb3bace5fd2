//! The function graph tracer of one instance: which calls it sees, and how deep they are.

use crate::functions::FunctionId;

/// A call that an instance may have recorded.
#[derive(Clone, Copy, Debug)]
struct Frame {
    function: FunctionId,
    entered: u64,
    /// How deep it was recorded; `None` if it was not.
    depth: Option<u16>,
    /// Whether it is one below which everything, or nothing, is traced.
    opens: bool,
    closes: bool,
}

/// What an instance knows of one thread's calls.
#[derive(Clone, Debug, Default)]
pub(crate) struct GraphStack {
    frames: Vec<Frame>,
    depth: u16,
    /// Open calls of `set_graph_function`, and of `set_graph_notrace`.
    inside: u32,
    shut: u32,
}

/// What the lists say of a call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Verdict {
    /// It passes the filters.
    pub(crate) wanted: bool,
    /// It is in `set_graph_function`.
    pub(crate) opens: bool,
    /// It is in `set_graph_notrace`.
    pub(crate) closes: bool,
    /// `set_graph_function` is not blank.
    pub(crate) limited: bool,
    /// `max_graph_depth`; 0 for none.
    pub(crate) most: u16,
}

/// A call that ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ended {
    pub(crate) depth: u16,
    pub(crate) duration: u64,
}

impl GraphStack {
    /// A call: how deep it is to be recorded, if at all.
    pub(crate) fn enter(&mut self, function: FunctionId, time: u64, is: Verdict) -> Option<u16> {
        self.inside += u32::from(is.opens);
        self.shut += u32::from(is.closes);
        let allowed = self.shut == 0 && (!is.limited || self.inside > 0);
        let shallow = is.most == 0 || self.depth < is.most;
        let depth = (is.wanted && allowed && shallow).then_some(self.depth);
        self.depth = self.depth.saturating_add(u16::from(depth.is_some()));
        let (opens, closes) = (is.opens, is.closes);
        self.frames.push(Frame { function, entered: time, depth, opens, closes });
        depth
    }

    /// The innermost call ended. Calls that began before the tracer did are not known.
    pub(crate) fn leave(&mut self, function: FunctionId, time: u64) -> Option<Ended> {
        if self.frames.last()?.function != function {
            return None;
        }
        let frame = self.frames.pop()?;
        self.inside -= u32::from(frame.opens);
        self.shut -= u32::from(frame.closes);
        let depth = frame.depth?;
        self.depth = depth;
        Some(Ended { depth, duration: time.saturating_sub(frame.entered) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Verdict =
        Verdict { wanted: true, opens: false, closes: false, limited: false, most: 0 };

    #[test]
    fn depth_counts_recorded_calls_only() {
        let mut stack = GraphStack::default();
        assert_eq!(stack.enter(FunctionId(1), 10, PLAIN), Some(0));
        assert_eq!(stack.enter(FunctionId(2), 11, Verdict { wanted: false, ..PLAIN }), None);
        assert_eq!(stack.enter(FunctionId(3), 12, PLAIN), Some(1));
        assert_eq!(stack.leave(FunctionId(3), 15).map(|e| (e.depth, e.duration)), Some((1, 3)));
        assert!(stack.leave(FunctionId(2), 16).is_none());
        assert_eq!(stack.leave(FunctionId(1), 20).map(|e| (e.depth, e.duration)), Some((0, 10)));
        assert!(stack.leave(FunctionId(9), 21).is_none());
    }

    #[test]
    fn graph_lists_open_and_close() {
        let mut stack = GraphStack::default();
        let limited = Verdict { limited: true, ..PLAIN };
        assert_eq!(stack.enter(FunctionId(1), 0, limited), None);
        assert_eq!(stack.enter(FunctionId(2), 0, Verdict { opens: true, ..limited }), Some(0));
        assert_eq!(stack.enter(FunctionId(3), 0, limited), Some(1));
        assert_eq!(stack.enter(FunctionId(4), 0, Verdict { closes: true, ..limited }), None);
        assert_eq!(stack.enter(FunctionId(5), 0, limited), None);
        for function in [5, 4, 3, 2, 1] {
            stack.leave(FunctionId(function), 1);
        }
        assert_eq!(stack.enter(FunctionId(3), 0, limited), None);
        stack.leave(FunctionId(3), 1);
        let shallow = Verdict { most: 1, ..PLAIN };
        assert_eq!(stack.enter(FunctionId(1), 0, shallow), Some(0));
        assert_eq!(stack.enter(FunctionId(2), 0, shallow), None);
    }
}
