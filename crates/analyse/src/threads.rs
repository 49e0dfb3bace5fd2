//! Only some threads.

use sledge_trace::event::{Directory, Event, Sink};

/// A sink in front of a sink: passes on what happens on threads with certain ids.
#[derive(Debug)]
pub struct OnlyThreads<'a, S> {
    tids: &'a [u32],
    sink: &'a mut S,
}

impl<'a, S: Sink> OnlyThreads<'a, S> {
    /// Passes on to `sink` the events of threads with these ids; of all where there are none.
    pub fn new(tids: &'a [u32], sink: &'a mut S) -> Self {
        Self { tids, sink }
    }
}

impl<S: Sink> Sink for OnlyThreads<'_, S> {
    type Error = S::Error;

    fn event(&mut self, directory: &Directory, event: &Event) -> Result<(), S::Error> {
        let thread = directory.threads.get(event.thread.0 as usize);
        let is_wanted = thread.is_some_and(|known| self.tids.contains(&known.tid));
        if is_wanted || self.tids.is_empty() { self.sink.event(directory, event) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::synthetic::{Script, directory};
    use crate::{AsIs, Names, Report, SortKey};

    #[test]
    fn only_the_threads_asked_for_pass() {
        let mut script = Script::new(directory(&["f", "g"]));
        script.enter(0, 0, 0).enter(1, 1, 1).end(2, 0).end(3, 1);
        let passed = |tids: &[u32]| {
            let mut report = Report::new(Names::new(Box::new(AsIs)));
            script.feed(&mut OnlyThreads::new(tids, &mut report));
            let rows = report.finish(&[SortKey::Function]);
            rows.iter().map(|row| row.name.to_string()).collect::<String>()
        };
        assert_eq!(passed(&[]), "fg");
        assert_eq!(passed(&[4712]), "g");
        assert_eq!(passed(&[4711, 4712]), "fg");
        assert_eq!(passed(&[1]), "");
    }
}
