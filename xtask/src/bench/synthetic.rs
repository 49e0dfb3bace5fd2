//! Made-up calls: the records of one thread, as a ring would hold them.

use sledge_trace::Writer;
use sledge_trace::event::{Function, FunctionId, Object, Process, Thread, ThreadId, Ticks};
use sledge_wire::record::{Kind, Record};

/// Functions that take part.
pub(crate) const FUNCTIONS: u32 = 500;
const DEEPEST: usize = 60;

/// A random walk through a call tree.
pub(crate) struct Calls {
    open: Vec<(u32, u32)>,
    left: u64,
    time: u64,
    seed: u64,
}

impl Calls {
    /// So many calls, each with its return.
    pub(crate) fn new(count: u64) -> Self {
        Self { open: Vec::new(), left: count, time: 1 << 40, seed: 0x9e37_79b9_7f4a_7c15 }
    }

    fn random(&mut self) -> u64 {
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 7;
        self.seed ^= self.seed << 17;
        self.seed
    }
}

impl Iterator for Calls {
    type Item = Record;

    fn next(&mut self) -> Option<Record> {
        let random = self.random();
        self.time += 30 + random % 300;
        let enters = self.open.len() < 2 || self.open.len() < DEEPEST && random & (1 << 20) != 0;
        if self.left > 0 && enters {
            self.left -= 1;
            // Few functions make most of the calls.
            let skewed = ((random >> 24) % 1000) * ((random >> 36) % 1000) / 1000;
            let site = (skewed as u32) * FUNCTIONS / 1000;
            let cell = 0x0fff_0000 - 12 * self.open.len() as u32;
            self.open.push((site, cell));
            return Some(Record { tsc: self.time, kind: Kind::Enter, site, cell });
        }
        let (site, cell) = self.open.pop()?;
        Some(Record { tsc: self.time, kind: Kind::Exit, site, cell })
    }
}

/// Defines what the records name: one thread and all functions.
pub(crate) fn define(writer: &mut Writer) -> ThreadId {
    let object = writer.object(&Object { path: "/usr/bin/made-up".into(), build_id: vec![7; 20] });
    for number in 0..FUNCTIONS {
        let (address, name) = (u64::from(number) * 64, format!("function_number_{number}"));
        let id = writer.function(&Function { object, address, size: 64, name });
        assert_eq!(id, FunctionId(number), "functions are numbered in order");
    }
    let process = writer.process(&Process {
        pid: 1000,
        parent: None,
        executable: "/usr/bin/made-up".into(),
        arguments: vec!["made-up".into()],
    });
    let start = Ticks(1 << 40);
    writer.clock(start, 0);
    writer.thread(&Thread { process, tid: 1000, name: "made-up".into() }, start)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_call_returns_and_time_goes_forward() {
        let records: Vec<Record> = Calls::new(1000).collect();
        assert_eq!(records.len(), 2000);
        assert_eq!(records.iter().filter(|record| record.kind == Kind::Enter).count(), 1000);
        assert!(records.is_sorted_by(|before, after| before.tsc < after.tsc));
        assert!(records.iter().all(|record| record.site < FUNCTIONS));
    }
}
