//! Prints how many records are paired in a second.
#![allow(clippy::print_stdout, reason = "that is what it is for")]

use std::time::Instant;

use sledge_drain::Pairer;
use sledge_trace::event::FunctionId;
use sledge_wire::record::{Kind, Record};

fn main() {
    let (mut records, mut open, mut state) = (Vec::new(), Vec::new(), 88_172_645_463_325_252u64);
    while records.len() < 10_000_000 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let tsc = 1 + records.len() as u64 * 40;
        if open.len() < 3 || open.len() < 40 && state >> 63 == 0 {
            let (site, cell) = ((state >> 40) as u32 % 500, 0x8000_0000 - 9 * open.len() as u32);
            open.push((site, cell));
            records.push(Record { tsc, kind: Kind::Enter, site, cell });
        } else if let Some((site, cell)) = open.pop() {
            records.push(Record { tsc, kind: Kind::Exit, site, cell });
        }
    }
    let (mut pairer, mut steps) = (Pairer::new(), Vec::new());
    let (begin, mut count) = (Instant::now(), 0);
    for part in records.chunks(4096) {
        steps.clear();
        for &record in part {
            pairer.push(record, FunctionId(record.site), &mut steps);
        }
        count += steps.len();
    }
    let rate = records.len() as f64 / begin.elapsed().as_secs_f64() / 1e6;
    println!("{rate:.0} M records/s into {count} steps");
}
