//! Coverage as a table.

use sledge_analyse::text::grouped;
use sledge_discover::Object;

use super::explain::{meaning_of_refusal, meaning_of_rung};

/// Writes the counts of an object.
pub(super) fn write(out: &mut Vec<u8>, object: &Object) {
    let summary = object.summary();
    let mut line = |text: String| {
        out.extend_from_slice(text.trim_end().as_bytes());
        out.push(b'\n');
    };
    line(format!(
        "{}: {} functions, {} traceable ({} %)",
        object.path.display(),
        grouped(summary.functions as u64),
        grouped(summary.traceable as u64),
        percent(summary.traceable, summary.functions),
    ));
    let row = |code: &str, count: usize, meaning: &str| {
        format!("  {code:<22}{:>9}  {meaning}", grouped(count as u64))
    };
    if !summary.rungs.is_empty() {
        line("\ntraceable by".to_owned());
    }
    for (rung, count) in &summary.rungs {
        line(row(rung.name(), *count, meaning_of_rung(*rung)));
    }
    let [twice, reads, moves] =
        [summary.returns_twice, summary.reads_return_address, summary.moves_return_address];
    if twice + reads + moves > 0 {
        line("\nof these, entries only".to_owned());
        line(row("returns-twice", twice, "setjmp, vfork and the like"));
        line(row("reads-return-address", reads, "dlopen, dlsym and the like"));
        line(row("moves-return-address", moves, "callees that remove their arguments"));
    }
    if !summary.refusals.is_empty() {
        line("\nnot traceable".to_owned());
    }
    for (refusal, count) in &summary.refusals {
        line(row(refusal.code(), *count, meaning_of_refusal(*refusal)));
    }
    if !summary.set_aside.is_empty() {
        line("\nset aside: no program calls these as functions".to_owned());
    }
    for (refusal, count) in &summary.set_aside {
        line(row(refusal.code(), *count, meaning_of_refusal(*refusal)));
    }
    if summary.uncovered_bytes > 0 {
        let bytes = grouped(summary.uncovered_bytes);
        line(format!("\n{bytes} bytes of code belong to no known function"));
    }
}

/// Rounded down: all is only what is all.
fn percent(part: usize, whole: usize) -> String {
    let tenths = (part * 1_000).checked_div(whole).unwrap_or(1_000);
    format!("{}.{}", tenths / 10, tenths % 10)
}
