//! The stack tracer: the deepest stack of each thread, and whose frames it is made of.
//!
//! A frame reaches from the cell of a function's return address to that of the traced function it
//! called. Depths count from the cell of the outermost traced call of the thread: what lies
//! further out, no traced function has used.

use crate::functions::{FunctionId, Functions};
use crate::list::FunctionList;
use crate::threads::Open;
use std::fmt::Write;

/// Cells are the low bits of addresses.
const CELLS: u64 = (1 << 35) - 1;

/// The deepest stack of a lane.
#[derive(Clone, Debug, Default)]
struct Deepest {
    bytes: u64,
    /// Functions, the innermost first, with the depth of each.
    frames: Vec<(FunctionId, u64)>,
}

/// The stack tracer of a process.
#[derive(Clone, Debug, Default)]
pub(crate) struct StackTracer {
    pub(crate) on: bool,
    pub(crate) filter: FunctionList,
    lanes: Vec<Deepest>,
    /// `stack_max_size` as somebody wrote it: less is no news.
    floor: u64,
}

impl StackTracer {
    /// A call; `calls` are those that are open, this one last.
    pub(crate) fn enter(&mut self, lane: usize, calls: &[Open]) {
        let (Some(first), Some(last)) = (calls.first(), calls.last()) else { return };
        if !self.filter.lets(last.function) {
            return;
        }
        let depth = |open: &Open| first.cell.wrapping_sub(open.cell) & CELLS;
        if self.lanes.len() <= lane {
            self.lanes.resize(lane + 1, Deepest::default());
        }
        let deepest = &mut self.lanes[lane];
        let bytes = depth(last);
        if bytes > deepest.bytes.max(self.floor) && bytes < CELLS / 2 {
            let frames = calls.iter().rev().map(|open| (open.function, depth(open)));
            *deepest = Deepest { bytes, frames: frames.collect() };
        }
    }

    /// Begins anew: only what is deeper counts.
    pub(crate) fn reset(&mut self, floor: u64) {
        self.lanes.clear();
        self.floor = floor;
    }

    fn deepest(&self, lane: Option<usize>) -> Option<&Deepest> {
        match lane {
            Some(lane) => self.lanes.get(lane),
            None => self.lanes.iter().max_by_key(|it| it.bytes),
        }
    }

    pub(crate) fn most(&self, lane: Option<usize>) -> u64 {
        self.deepest(lane).map_or(0, |it| it.bytes).max(self.floor)
    }

    /// `stack_trace`: the frames of the deepest stack of a lane, or of all.
    pub(crate) fn listing(&self, lane: Option<usize>, functions: &Functions) -> String {
        let frames = self.deepest(lane).map_or(&[][..], |it| &it.frames);
        let mut text = format!(
            "        Depth    Size   Location    ({} entries)\n        -----    ----   --------\n",
            frames.len()
        );
        for (at, (id, depth)) in frames.iter().enumerate() {
            let outer = frames.get(at + 1).map_or(0, |(_, depth)| *depth);
            let address = functions.get(*id).map_or(0, |it| it.address);
            let symbol = functions.symbol(address, true);
            let _ = writeln!(text, "{at:3}) {depth:8}   {:5}   {symbol}", depth - outer);
        }
        if frames.is_empty() && !self.on {
            text += "#\n#  Stack tracer disabled\n#\n# To enable the stack tracer:\n\
                     #  echo 1 > stack_tracer_enabled\n#\n";
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::functions::Function;

    #[test]
    fn the_deepest_stack_is_kept_with_the_sizes_of_its_frames() {
        let function =
            |name: &str, address| Function { name: name.into(), module: None, address, size: 0x20 };
        let functions = Functions::new(vec![function("outer", 0x100), function("inner", 0x200)]);
        let open =
            |function, cell| Open { function: FunctionId(function), cell, ..Open::default() };
        let mut tracer = StackTracer::default();
        tracer.enter(0, &[open(0, 0x1000)]);
        tracer.enter(0, &[open(0, 0x1000), open(1, 0xf00), open(1, 0xec0)]);
        tracer.enter(0, &[open(0, 0x1000), open(1, 0xf00)]);
        assert_eq!(tracer.most(None), 0x140);
        let text = tracer.listing(None, &functions);
        assert!(text.contains("(3 entries)"));
        assert!(text.contains("  0)      320      64   inner+0x0/0x20\n"));
        assert!(text.contains("  1)      256     256   inner+0x0/0x20\n"));
        assert!(text.contains("  2)        0       0   outer+0x0/0x20\n"));
        tracer.reset(1000);
        tracer.enter(0, &[open(0, 0x1000), open(1, 0xf00)]);
        assert_eq!(tracer.most(Some(0)), 1000);
    }
}
