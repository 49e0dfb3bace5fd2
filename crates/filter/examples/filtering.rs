//! Prints how many steps are filtered in a second while recording.
#![allow(clippy::print_stdout, reason = "that is what it is for")]

use std::time::Instant;

use sledge_filter::{CallFilter, FilterSpec, Pattern, StepFilter, Syntax};
use sledge_trace::event::{Ending, FunctionId, Nanos, Op, Step, Ticks};

fn stream(count: usize) -> Vec<Step> {
    let (mut steps, mut open, mut state) = (Vec::new(), 0, 88_172_645_463_325_252u64);
    while steps.len() < count {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let at = Ticks(steps.len() as u64 * 50);
        let enter = open < 3 || open < 40 && state >> 63 == 0;
        open = if enter { open + 1 } else { open - 1 };
        let function = FunctionId((state >> 40) as u32 % 500);
        let op = if enter { Op::Enter(function) } else { Op::Leave(Ending::Returned) };
        steps.push(Step { at, op });
    }
    steps
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let steps = stream(10_000_000);
    let some = vec![Pattern::new("^f7[0-9]$", Syntax::Regex)?];
    let specs = [
        ("-F", FilterSpec { filter: some.clone(), ..FilterSpec::default() }),
        ("-N", FilterSpec { notrace: some, ..FilterSpec::default() }),
        ("-D", FilterSpec { depth: Some(10), ..FilterSpec::default() }),
        ("-t", FilterSpec { threshold: Some(Nanos(1000)), ..FilterSpec::default() }),
    ];
    for (letter, spec) in specs {
        let threshold = Ticks(spec.threshold.unwrap_or_default().0);
        let mut filter = CallFilter::new(spec);
        for function in 0..500 {
            filter.learn(FunctionId(function), &[&format!("f{function}")], "app");
        }
        let (mut thread, mut out, mut shown) = (StepFilter::new(threshold), Vec::new(), 0);
        let begin = Instant::now();
        for part in steps.chunks(4096) {
            out.clear();
            part.iter().for_each(|&step| thread.push(&filter, step, &mut out));
            shown += out.len();
        }
        let rate = steps.len() as f64 / begin.elapsed().as_secs_f64() / 1e6;
        println!("{letter}: {rate:.0} M steps/s, {shown} shown");
    }
    Ok(())
}
