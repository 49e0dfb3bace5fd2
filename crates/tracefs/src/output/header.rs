//! What stands above the entries.

use super::Look;
use crate::instance::Tracer;
use crate::options::TraceOption as O;

/// The header of `trace`; `there` and `written` count entries.
pub(crate) fn header(look: &Look<'_>, there: u64, written: u64) -> String {
    let mut text = format!("# tracer: {}\n#\n", look.tracer.name());
    if look.tracer == Tracer::FunctionGraph {
        return text + &graph(look);
    }
    if !look.options.has(O::ContextInfo) {
        return text;
    }
    let lanes = look.threads.lanes();
    text += &format!("# entries-in-buffer/entries-written: {there}/{written}   #P:{lanes}\n#\n");
    text + &columns(look)
}

fn columns(look: &Look<'_>) -> String {
    let tgid = look.options.has(O::RecordTgid);
    if !look.options.has(O::IrqInfo) {
        let (name, bar) = if tgid { ("   TGID   ", "     |    ") } else { ("", "") };
        return format!(
            "#           TASK-PID    {name} CPU#     TIMESTAMP  FUNCTION\n\
             #              | |      {bar}   |         |         |\n"
        );
    }
    let (space, name, bar) =
        if tgid { ("            ", "     TGID   ", "       |    ") } else { ("  ", "  ", "  ") };
    let marks = [
        "  _-----=> irqs-off/BH-disabled",
        " / _----=> need-resched",
        "| / _---=> hardirq/softirq",
        "|| / _--=> preempt-depth",
        "||| / _-=> migrate-disable",
        "|||| /     delay",
    ];
    let line = |mark: &&str| format!("#                            {space}{mark}\n");
    let mut text: String = marks.iter().map(line).collect();
    text += &format!("#           TASK-PID  {name} CPU#  |||||  TIMESTAMP  FUNCTION\n");
    text + &format!("#              | |    {bar}   |   |||||     |         |\n")
}

fn graph(look: &Look<'_>) -> String {
    let columns = [
        (O::FuncgraphAbstime, "     TIME       ", "      |         "),
        (O::FuncgraphCpu, " CPU", " |  "),
        (O::FuncgraphProc, "  TASK/PID       ", "   |    |        "),
        (O::FuncgraphDuration, "  DURATION   ", "   |   |      "),
    ];
    let shown = columns.iter().filter(|(option, ..)| look.options.has(*option));
    let (names, bars): (String, String) = shown.map(|(_, name, bar)| (*name, *bar)).unzip();
    format!("#{names}               FUNCTION CALLS\n#{bars}               |   |   |   |\n")
}
