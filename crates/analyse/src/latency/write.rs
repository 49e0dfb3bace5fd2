//! Latencies as text and as rows.

use std::io::{self, Write};

use sledge_trace::event::Directory;

use super::{Latencies, Nested, Slow};
use crate::names::{Names, module_name};
use crate::records::{self, Format, Records, Value};
use crate::text;

/// Columns of the longest bar.
const BAR: u64 = 40;

/// A line that sums up: `3 calls of serve: total …, median …`.
#[must_use]
pub fn headline(what: &str, found: &Latencies) -> String {
    let count = found.durations.total();
    let plural = if count == 1 { "call" } else { "calls" };
    let mut line = format!("{} {plural} of {}", text::grouped(count), text::printable(what));
    if let Some(average) = found.total.checked_div(count) {
        let greatest = found.slowest.first().map_or(0, |slow| slow.duration);
        let quantile =
            |share| found.durations.quantile(share).clamp(found.least, greatest.max(found.least));
        let parts = [
            ("total", found.total),
            ("average", average),
            ("median", quantile(0.5)),
            ("90 %", quantile(0.9)),
            ("99 %", quantile(0.99)),
            ("slowest", greatest),
        ];
        let parts = parts.map(|(name, nanos)| format!("{name} {}", spelled(nanos)));
        line += &format!(":\n#   {}\n#   {}", parts[..3].join(", "), parts[3..].join(", "));
    }
    if found.unseen > 0 {
        line += &format!("\n#   and {} whose exit could not be seen", text::grouped(found.unseen));
    }
    line
}

fn spelled(nanos: u64) -> String {
    let mut out = Vec::new();
    text::duration(&mut out, nanos);
    String::from_utf8(out).unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Writes how often each duration occurred, a line for each doubling.
///
/// # Errors
/// The writer's.
pub fn histogram(writer: &mut impl Write, found: &Latencies, format: Format) -> io::Result<()> {
    let rows = found.durations.doublings();
    if format != Format::Text {
        let values = rows.iter().map(|&(least, greatest, count)| {
            [Value::Number(least), Value::Number(greatest), Value::Number(count)]
        });
        let columns = &["least_ns", "greatest_ns", "calls"];
        return records::write(writer, format, ("durations", columns), values);
    }
    let most = rows.iter().map(|row| row.2).max().unwrap_or(1);
    let mut out = Vec::new();
    for (least, greatest, count) in rows {
        text::duration(&mut out, least);
        out.extend_from_slice(b" .. ");
        text::duration(&mut out, greatest);
        out.extend_from_slice(b"  ");
        text::right(&mut out, count, text::DURATION_COLUMNS);
        out.extend_from_slice(b"  ");
        // What occurred at all is seen.
        let bar = (u128::from(count) * u128::from(BAR)).div_ceil(u128::from(most)) as usize;
        out.resize(out.len() + bar, b'#');
        while out.last() == Some(&b' ') {
            out.pop();
        }
        out.push(b'\n');
    }
    writer.write_all(&out)?;
    writer.flush()
}

const COLUMNS: [&str; 8] =
    ["rank", "level", "function", "module", "tid", "start_ns", "duration_ns", "open"];

/// Writes slow calls with all calls within them, as rows.
///
/// # Errors
/// The writer's.
pub fn rows(
    writer: &mut impl Write,
    directory: &Directory,
    names: &mut Names,
    calls: &[(Slow, Nested)],
    format: Format,
) -> io::Result<()> {
    let mut out = Vec::new();
    let mut records = Records::begin(&mut out, format, "calls", &COLUMNS);
    for (rank, (slow, nested)) in (1..).zip(calls) {
        for call in &nested.calls {
            let thread = directory.threads.get(call.thread.0 as usize);
            let open = call.duration.is_none() && (call.level > 0 || slow.open);
            let values = [
                Value::Number(rank),
                Value::Number(call.level.into()),
                Value::Text(names.of(directory, call.function)),
                Value::Text(module_name(directory, call.function)),
                Value::from(thread.map(|thread| u64::from(thread.tid))),
                Value::Number(call.entered.0),
                Value::from(call.duration),
                Value::Number(open.into()),
            ];
            records.row(&mut out, &values);
        }
    }
    records.end(&mut out);
    writer.write_all(&out)?;
    writer.flush()
}
