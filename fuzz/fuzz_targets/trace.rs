//! Any bytes as a trace file: `cargo +nightly fuzz run trace`. Small recordings make a good
//! corpus. Without nightly, `cargo test -p sledge-trace --test damage` does much the same.
#![no_main]

use std::convert::Infallible;

use libfuzzer_sys::fuzz_target;
use sledge_trace::{Selection, Trace};
use sledge_trace::event::{Directory, Event, EventKind, Nanos, Sink, ThreadId};

#[derive(Default)]
struct Check(Nanos);

impl Sink for Check {
    type Error = Infallible;

    fn event(&mut self, directory: &Directory, event: &Event) -> Result<(), Infallible> {
        assert!(self.0 <= event.at);
        self.0 = event.at;
        assert!((event.thread.0 as usize) < directory.threads.len());
        if let EventKind::Enter { function, .. } | EventKind::Exit { function, .. } = event.kind {
            assert!((function.0 as usize) < directory.functions.len());
        }
        Ok(())
    }
}

fuzz_target!(|bytes: &[u8]| {
    let path = std::env::temp_dir().join(format!("sledge-fuzz-{}", std::process::id()));
    std::fs::write(&path, bytes).unwrap();
    let Ok(trace) = Trace::open(&path) else { return };
    trace.events(&Selection::default(), &mut Check::default()).unwrap();
    let middle = trace.duration().0 / 2;
    let range = Nanos(middle)..Nanos(middle.saturating_add(1000));
    trace.events(&Selection::from(range), &mut Check::default()).unwrap();
    for thread in 0..trace.directory().threads.len() as u32 {
        let _ = (trace.still_open(ThreadId(thread)), trace.lifetime(ThreadId(thread)));
    }
});
