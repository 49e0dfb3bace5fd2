//! Prints how quick writing and reading are, and how many bytes a call takes.
#![allow(clippy::print_stdout, reason = "that is what it is for")]

use std::convert::Infallible;
use std::time::Instant;

use sledge_trace::event::*;
use sledge_trace::{Selection, Trace, Writer};

struct Count(u64);

impl Sink for Count {
    type Error = Infallible;

    fn event(&mut self, _: &Directory, event: &Event) -> Result<(), Infallible> {
        self.0 += u64::from(matches!(event.kind, EventKind::Exit { .. }));
        Ok(())
    }
}

/// A program-like stream: a call tree that repeats with variations, times with a noisy tail.
fn stream(stride: u64, functions: u64, calls: usize) -> Vec<Step> {
    let mut state = 88_172_645_463_325_252u64;
    let mut random = |bound: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) % bound
    };
    let (mut steps, mut now, mut open) = (Vec::with_capacity(calls * 2), 1 << 40, Vec::new());
    while steps.len() < calls * 2 {
        let noise = if random(16) == 0 { random(2000) } else { random(60) };
        now += (60 + noise) / stride * stride;
        let enter = open.len() < 3 || open.len() < 30 && random(100) < 50;
        let op = if enter {
            // A function mostly calls the same few others.
            let caller = open.last().copied().unwrap_or(0);
            let favourite = random(8).min(random(8));
            let function = (caller * 7 + favourite * 13 + 1) % functions;
            open.push(function);
            Op::Enter(FunctionId(function as u32))
        } else {
            open.pop();
            Op::Leave(Ending::Returned)
        };
        steps.push(Step { at: Ticks(now), op });
    }
    steps
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let calls = 5_000_000;
    let path = std::env::temp_dir().join(format!("sledge-rates-{}", std::process::id()));
    for (stride, functions) in [(1, 100), (1, 3000), (26, 100), (26, 3000)] {
        let steps = stream(stride, functions, calls);
        let mut writer = Writer::create(&path)?;
        let object = writer.object(&Object { path: "x".into(), build_id: Vec::new() });
        for address in 0..functions {
            let name = format!("f{address}");
            writer.function(&Function { object, address, size: 1, name });
        }
        let (executable, arguments) = ("x".to_owned(), Vec::new());
        let process = writer.process(&Process { pid: 1, parent: None, executable, arguments });
        let thread = Thread { process, tid: 1, name: "x".into() };
        let thread = writer.thread(&thread, Ticks(1 << 40));
        let begin = Instant::now();
        for part in steps.chunks(4096) {
            writer.steps(thread, part)?;
        }
        let plain = writer.plain_bytes();
        writer.finish()?;
        let wrote = steps.len() as f64 / begin.elapsed().as_secs_f64() / 1e6;
        let bytes = std::fs::metadata(&path)?.len() as f64;
        let begin = Instant::now();
        let mut count = Count(0);
        Trace::open(&path)?.events(&Selection::default(), &mut count)?;
        let read = steps.len() as f64 / begin.elapsed().as_secs_f64() / 1e6;
        println!(
            "stride {stride:2}, {functions:4} functions: {:.2} bytes a call, {:.2} packed; \
             wrote {wrote:.0} M steps/s, read {read:.0} M events/s",
            plain as f64 / calls as f64,
            bytes / calls as f64,
        );
    }
    std::fs::remove_file(&path)?;
    Ok(())
}
