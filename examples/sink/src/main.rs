//! An analysis in one file: the deepest chain of calls of each thread.
//!
//! `sledge record ./app`, and then `cargo run -- trace.sledge`.

use std::collections::HashMap;
use std::convert::Infallible;
use std::error::Error;

use sledge_trace::event::{Directory, Event, EventKind, FunctionId, Sink, ThreadId};
use sledge_trace::{Selection, Trace};

#[derive(Default)]
struct Deepest {
    open: HashMap<ThreadId, Vec<FunctionId>>,
    deepest: HashMap<ThreadId, Vec<FunctionId>>,
}

impl Sink for Deepest {
    type Error = Infallible;

    fn event(&mut self, _: &Directory, event: &Event) -> Result<(), Infallible> {
        let open = self.open.entry(event.thread).or_default();
        if let EventKind::Enter { function, depth } = event.kind {
            open.truncate(depth as usize);
            open.push(function);
            let deepest = self.deepest.entry(event.thread).or_default();
            if open.len() > deepest.len() {
                deepest.clone_from(open);
            }
        }
        Ok(())
    }

    fn finish(&mut self, directory: &Directory) -> Result<(), Infallible> {
        for (number, thread) in (0..).map(ThreadId).zip(&directory.threads) {
            let chain = self.deepest.get(&number).into_iter().flatten();
            let names: Vec<&str> =
                chain.map(|f| &*directory.functions[f.0 as usize].name).collect();
            println!("{} [{}]: {} deep: {}", thread.name, thread.tid, names.len(), names.join(" > "));
        }
        Ok(())
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args().nth(1).ok_or("which trace?")?;
    let trace = Trace::open(path)?;
    trace.events(&Selection::default(), &mut Deepest::default())?;
    Ok(())
}
