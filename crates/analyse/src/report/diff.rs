//! Two reports compared: what became slower, and whether that is more than chance.

use std::collections::HashMap;
use std::io::{self, Write};

use super::write::WIDTH;
use super::{By, Row, SortKey};
use crate::records::{self, Format, Value};
use crate::text;

/// What is compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Change {
    /// [`Row::total`].
    #[default]
    Total,
    /// [`Row::own`].
    Own,
    /// [`Row::calls`].
    Calls,
    /// [`Row::average`].
    Average,
}

impl Change {
    /// What a sort key stands for here: the first that can be compared.
    #[must_use]
    pub fn of(keys: &[SortKey]) -> Self {
        let known = keys.iter().find_map(|key| match key {
            SortKey::Total => Some(Self::Total),
            SortKey::Own => Some(Self::Own),
            SortKey::Calls => Some(Self::Calls),
            SortKey::Average => Some(Self::Average),
            SortKey::Min | SortKey::Max | SortKey::Function => None,
        });
        known.unwrap_or_default()
    }

    fn value(self, row: &Row) -> f64 {
        (match self {
            Self::Total => row.total,
            Self::Own => row.own,
            Self::Calls => row.calls,
            Self::Average => row.average(),
        }) as f64
    }

    /// How far `value` may be off by chance, judged by the calls of one run: as if each took its
    /// time independently of the others.
    fn spread_within(self, row: &Row) -> f64 {
        let deviation = row.deviation().unwrap_or(0.0);
        let calls = row.timed() as f64;
        match self {
            Self::Total | Self::Own => deviation * calls.sqrt(),
            Self::Average => deviation / calls.max(1.0).sqrt(),
            Self::Calls => 0.0,
        }
    }

    const fn word(self) -> &'static str {
        match self {
            Self::Total => "total time",
            Self::Own => "self time",
            Self::Calls => "calls",
            Self::Average => "average time",
        }
    }

    fn shown(self, value: f64) -> String {
        if self == Self::Calls {
            return format!("{value:.0}");
        }
        let mut out = Vec::new();
        text::duration(&mut out, value.abs().round() as u64);
        String::from_utf8(out).unwrap_or_default().trim_start().to_owned()
    }
}

/// What to make of a difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is larger than chance explains.
    Real,
    /// Chance explains it.
    Noise,
    /// Nothing is different.
    Same,
    /// It was never called before.
    New,
    /// It is not called any more.
    Gone,
}

impl Verdict {
    const fn word(self) -> &'static str {
        match self {
            Self::Real => "",
            Self::Noise => "noise",
            Self::Same => "same",
            Self::New => "new",
            Self::Gone => "gone",
        }
    }
}

/// One row of a comparison.
#[derive(Clone, Debug, PartialEq)]
pub struct Changed {
    /// Its readable name.
    pub name: Box<str>,
    /// The file name of its object.
    pub module: Box<str>,
    /// The mean over the runs before.
    pub before: f64,
    /// The mean over the runs after.
    pub after: f64,
    /// Within how much chance may have moved the difference, at 95 %.
    pub noise: f64,
    /// What to make of it.
    pub verdict: Verdict,
}

impl Changed {
    /// How much more it is now.
    #[must_use]
    pub fn difference(&self) -> f64 {
        self.after - self.before
    }
}

/// Two sets of runs compared.
#[derive(Clone, Debug, PartialEq)]
pub struct Diff {
    /// What was compared.
    pub change: Change,
    /// How many runs there were before, and after.
    pub runs: (usize, usize),
    /// The rows, the largest difference first.
    pub rows: Vec<Changed>,
}

/// Values of a row, one a run, and how far each may be off judged by its calls.
#[derive(Debug, Default)]
struct Sample {
    values: Vec<f64>,
    within: f64,
}

impl Sample {
    fn mean(&self, runs: usize) -> f64 {
        self.values.iter().sum::<f64>() / runs as f64
    }

    /// The variance of the mean. With one run, it is that of its calls.
    fn variance(&self, runs: usize) -> f64 {
        if runs < 2 {
            return self.within * self.within;
        }
        let mean = self.mean(runs);
        // A run in which it was not called counts as 0.
        let absent = (runs - self.values.len()) as f64 * mean * mean;
        let squares = self.values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() + absent;
        squares / (runs - 1) as f64 / runs as f64
    }
}

impl Diff {
    /// Compares the runs `before` with those `after`.
    ///
    /// With several runs on a side, chance is judged by how they differ among each other (Welch's
    /// test at 95 %); with a single one, by how its calls do, which does not see what makes whole
    /// runs differ.
    #[must_use]
    pub fn new(before: &[Vec<Row>], after: &[Vec<Row>], change: Change) -> Self {
        let runs = (before.len(), after.len());
        let mut samples: HashMap<(&str, &str), (Sample, Sample)> = HashMap::new();
        for row in before.iter().flatten() {
            let sample = &mut samples.entry((&row.name, &row.module)).or_default().0;
            sample.values.push(change.value(row));
            sample.within = change.spread_within(row);
        }
        for row in after.iter().flatten() {
            let sample = &mut samples.entry((&row.name, &row.module)).or_default().1;
            sample.values.push(change.value(row));
            sample.within = change.spread_within(row);
        }
        let compare = |((name, module), (before, after)): ((&str, &str), (Sample, Sample))| {
            let noise = noise((&before, runs.0), (&after, runs.1));
            let (mean_before, mean_after) = (before.mean(runs.0), after.mean(runs.1));
            let difference = (mean_after - mean_before).abs();
            let verdict = match (before.values.is_empty(), after.values.is_empty()) {
                (true, _) => Verdict::New,
                (_, true) => Verdict::Gone,
                _ if difference == 0.0 => Verdict::Same,
                _ if difference <= noise => Verdict::Noise,
                _ => Verdict::Real,
            };
            let (before, after) = (mean_before, mean_after);
            Changed { name: name.into(), module: module.into(), before, after, noise, verdict }
        };
        let mut rows: Vec<Changed> = samples.into_iter().map(compare).collect();
        rows.sort_by(|left, right| {
            let by_difference = right.difference().abs().total_cmp(&left.difference().abs());
            by_difference
                .then_with(|| (&left.name, &left.module).cmp(&(&right.name, &right.module)))
        });
        Self { change, runs, rows }
    }

    /// How chance was judged, in one sentence.
    #[must_use]
    pub fn statement(&self) -> String {
        let (before, after) = self.runs;
        let by = if before < 2 || after < 2 {
            "noise is judged by how calls differ within a run, where there is one run; \
             several (A1,A2 B1,B2) tell more"
                .to_owned()
        } else {
            format!("noise is judged by how {before} and {after} runs differ among each other")
        };
        let count = self.rows.iter().filter(|row| row.verdict == Verdict::Noise).count();
        let plural = if count == 1 { "difference is" } else { "differences are" };
        format!("{count} {plural} within the noise (95 %); {by}")
    }
}

/// Within how much two means may differ by chance, at 95 %.
fn noise((before, runs_before): (&Sample, usize), (after, runs_after): (&Sample, usize)) -> f64 {
    let (left, right) = (before.variance(runs_before), after.variance(runs_after));
    let share = |variance: f64, runs: usize| match runs {
        // As good as known: the calls of a run are many.
        1 => 0.0,
        _ => variance * variance / (runs - 1) as f64,
    };
    let sum = share(left, runs_before) + share(right, runs_after);
    let freedom = if sum > 0.0 { (left + right).powi(2) / sum } else { f64::INFINITY };
    student(freedom) * (left + right).sqrt()
}

/// The two-sided 95 % quantile of Student's distribution, rounded up between the rows of the table.
fn student(freedom: f64) -> f64 {
    const TABLE: [(f64, f64); 13] = [
        (1.0, 12.706),
        (2.0, 4.303),
        (3.0, 3.182),
        (4.0, 2.776),
        (5.0, 2.571),
        (6.0, 2.447),
        (7.0, 2.365),
        (8.0, 2.306),
        (10.0, 2.228),
        (15.0, 2.131),
        (20.0, 2.086),
        (30.0, 2.042),
        (100.0, 1.984),
    ];
    let row = TABLE.iter().rev().find(|row| row.0 <= freedom);
    row.map_or(TABLE[0].1, |row| row.1)
}

/// Writes a comparison.
///
/// # Errors
/// The writer's.
pub fn write(writer: &mut impl Write, diff: &Diff, by: By, format: Format) -> io::Result<()> {
    if format == Format::Text {
        let mut out = Vec::new();
        table(&mut out, diff, by);
        writer.write_all(&out)?;
        return writer.flush();
    }
    const COLUMNS: [&str; 7] =
        ["name", "module", "before", "after", "difference", "noise", "verdict"];
    let values = diff.rows.iter().map(|row| {
        let verdict = if row.verdict == Verdict::Real { "real" } else { row.verdict.word() };
        [
            Value::Text(&row.name),
            Value::Text(&row.module),
            Value::Real(row.before),
            Value::Real(row.after),
            Value::Real(row.difference()),
            Value::Real(row.noise),
            Value::Text(verdict),
        ]
    });
    records::write(writer, format, (by.heading().1, &COLUMNS), values)
}

fn table(out: &mut Vec<u8>, diff: &Diff, by: By) {
    let heading = by.heading().0;
    let line = format!("# {} before and after; {}\n", diff.change.word(), diff.statement());
    out.extend_from_slice(line.as_bytes());
    let line = format!(
        "  {:>WIDTH$}  {:>WIDTH$}  {:>11}  {:>8}  {:5}  {heading}\n",
        "Before", "After", "Difference", "Change", ""
    );
    out.extend_from_slice(line.as_bytes());
    out.extend_from_slice(b"  ==========  ==========  ===========  ========  =====  ");
    out.extend_from_slice(b"====================\n");
    for row in &diff.rows {
        let shown = |value| diff.change.shown(value);
        let sign = match row.difference() {
            more if more > 0.0 => "+",
            less if less < 0.0 => "-",
            _ => "",
        };
        let difference = format!("{sign}{}", shown(row.difference().abs()));
        let change = if row.before > 0.0 && row.verdict != Verdict::Gone {
            format!("{:+.1} %", 100.0 * row.difference() / row.before)
        } else {
            String::new()
        };
        let line = format!(
            "  {:>WIDTH$}  {:>WIDTH$}  {difference:>11}  {change:>8}  {:5}  {}\n",
            shown(row.before),
            shown(row.after),
            row.verdict.word(),
            text::printable(&row.name)
        );
        out.extend_from_slice(line.as_bytes());
    }
}
