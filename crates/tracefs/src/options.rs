//! `trace_options`: how an instance records and how its text looks.

/// An option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TraceOption {
    PrintParent,
    SymOffset,
    SymAddr,
    Annotate,
    ContextInfo,
    RecordCmd,
    RecordTgid,
    Overwrite,
    IrqInfo,
    PauseOnTrace,
    Stacktrace,
    FuncStackTrace,
    FuncNoRepeats,
    FuncgraphOverrun,
    FuncgraphCpu,
    FuncgraphOverhead,
    FuncgraphProc,
    FuncgraphDuration,
    FuncgraphAbstime,
    FuncgraphTail,
    GraphTime,
}

use TraceOption as O;

/// Options, their names, and whether they are on at first.
pub(crate) const OPTIONS: [(TraceOption, &str, bool); 21] = [
    (O::PrintParent, "print-parent", true),
    (O::SymOffset, "sym-offset", false),
    (O::SymAddr, "sym-addr", false),
    (O::Annotate, "annotate", true),
    (O::ContextInfo, "context-info", true),
    (O::RecordCmd, "record-cmd", true),
    (O::RecordTgid, "record-tgid", false),
    (O::Overwrite, "overwrite", true),
    (O::IrqInfo, "irq-info", true),
    (O::PauseOnTrace, "pause-on-trace", false),
    (O::Stacktrace, "stacktrace", false),
    (O::FuncStackTrace, "func_stack_trace", false),
    (O::FuncNoRepeats, "func-no-repeats", false),
    (O::FuncgraphOverrun, "funcgraph-overrun", false),
    (O::FuncgraphCpu, "funcgraph-cpu", true),
    (O::FuncgraphOverhead, "funcgraph-overhead", true),
    (O::FuncgraphProc, "funcgraph-proc", false),
    (O::FuncgraphDuration, "funcgraph-duration", true),
    (O::FuncgraphAbstime, "funcgraph-abstime", false),
    (O::FuncgraphTail, "funcgraph-tail", false),
    (O::GraphTime, "graph-time", true),
];

/// Which options are on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Options(u32);

impl Default for Options {
    fn default() -> Self {
        let on = OPTIONS.iter().filter(|(.., on)| *on);
        Self(on.fold(0, |bits, (option, ..)| bits | 1 << *option as u32))
    }
}

impl Options {
    pub(crate) const fn has(self, option: TraceOption) -> bool {
        self.0 >> option as u32 & 1 != 0
    }

    pub(crate) const fn set(&mut self, option: TraceOption, on: bool) {
        let bit = 1 << option as u32;
        self.0 = if on { self.0 | bit } else { self.0 & !bit };
    }

    /// The file: one option a line, `no` in front of those that are off.
    pub(crate) fn listing(self) -> String {
        let line = |(option, name, _): &(TraceOption, &str, bool)| {
            format!("{}{name}\n", if self.has(*option) { "" } else { "no" })
        };
        OPTIONS.iter().map(line).collect()
    }
}

/// The option of that name.
pub(crate) fn named(name: &str) -> Option<TraceOption> {
    OPTIONS.iter().find(|(_, other, _)| *other == name).map(|(option, ..)| *option)
}

/// What a word in `trace_options` asks for.
pub(crate) fn parse(word: &str) -> Option<(TraceOption, bool)> {
    if let Some(option) = named(word) {
        return Some((option, true));
    }
    word.strip_prefix("no").and_then(named).map(|option| (option, false))
}
