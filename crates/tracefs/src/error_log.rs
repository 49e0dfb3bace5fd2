//! `error_log`: what was wrong with what was written.

use std::collections::VecDeque;

/// Errors that are kept.
const MOST: usize = 8;

#[derive(Clone, Debug)]
struct Logged {
    time: u64,
    place: String,
    error: &'static str,
    command: String,
    position: usize,
}

/// The latest errors of an instance.
#[derive(Clone, Debug, Default)]
pub(crate) struct ErrorLog {
    list: VecDeque<Logged>,
}

impl ErrorLog {
    /// Notes an error at a byte of a command.
    pub(crate) fn note(
        &mut self,
        time: u64,
        place: &str,
        error: &'static str,
        command: &str,
        position: usize,
    ) {
        if self.list.len() == MOST {
            self.list.pop_front();
        }
        let command: String = command.chars().take(1024).collect();
        let position = position.min(command.len());
        self.list.push_back(Logged { time, place: place.to_owned(), error, command, position });
    }

    pub(crate) fn clear(&mut self) {
        self.list.clear();
    }

    /// The file: place, error and command, with a caret under what is wrong.
    pub(crate) fn listing(&self) -> String {
        let show = |it: &Logged| {
            let (seconds, micros) = (it.time / 1_000_000_000, it.time / 1000 % 1_000_000);
            format!(
                "[{seconds:5}.{micros:06}] {}: error: {}\n  Command: {}\n{:width$}^\n",
                it.place,
                it.error,
                it.command.trim_end_matches('\n'),
                "",
                width = 11 + it.position
            )
        };
        self.list.iter().map(show).collect()
    }
}
