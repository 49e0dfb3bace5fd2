//! One measured number, and how it is shown.

use serde_json::{Map, Value, json};

/// One row of a benchmark.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    bench: &'static str,
    case: Map<String, Value>,
    unit: String,
    value: Option<f64>,
    median: Option<f64>,
    baseline: Option<(f64, String)>,
    note: String,
}

impl Row {
    /// A row of `bench`, in `unit`, not measured yet.
    pub(crate) fn new(bench: &'static str, unit: &str) -> Self {
        let case = Map::new();
        Self {
            bench,
            case,
            unit: unit.into(),
            value: None,
            median: None,
            baseline: None,
            note: String::new(),
        }
    }

    /// Says what was varied.
    pub(crate) fn case(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.case.insert(name.into(), value.into());
        self
    }

    /// What was measured.
    pub(crate) fn value(self, value: f64) -> Self {
        Self { value: Some(value), ..self }
    }

    /// The median, where the value is a minimum.
    pub(crate) fn median(self, median: f64) -> Self {
        Self { median: Some(median), ..self }
    }

    /// What the value is compared with.
    pub(crate) fn against(self, what: &str, baseline: f64) -> Self {
        Self { baseline: Some((baseline, what.into())), ..self }
    }

    /// What a reader of the number must know; why there is none, where there is none.
    pub(crate) fn note(self, note: impl Into<String>) -> Self {
        Self { note: note.into(), ..self }
    }

    fn ratio(&self) -> Option<f64> {
        let (baseline, _) = self.baseline.as_ref()?;
        Some(self.value? / baseline)
    }

    /// The row as one JSON object; what was not measured is null.
    pub(crate) fn json(&self) -> Value {
        let (baseline, against) = self.baseline.as_ref().map(|(value, what)| (value, what)).unzip();
        json!({
            "bench": self.bench,
            "case": self.case,
            "unit": self.unit,
            "value": self.value,
            "median": self.median,
            "baseline": baseline,
            "against": against,
            "ratio": self.ratio(),
            "note": self.note,
        })
    }

    fn cells(&self) -> Vec<String> {
        let bare = |value: &Value| value.as_str().map_or(value.to_string(), str::to_owned);
        let case: Vec<String> = self.case.values().map(bare).collect();
        let against =
            self.baseline.as_ref().map(|(value, what)| format!("{} {what}", show(*value)));
        vec![
            case.join(", "),
            self.value.map_or("-".into(), show),
            self.median.map(show).unwrap_or_default(),
            self.unit.clone(),
            self.ratio().map(|ratio| format!("{ratio:.2}")).unwrap_or_default(),
            against.unwrap_or_default(),
            self.note.clone(),
        ]
    }
}

/// Three digits, or more before the point.
fn show(value: f64) -> String {
    match value.abs() {
        size if size >= 1e6 => format!("{:.2} M", value / 1e6),
        size if size >= 100.0 => format!("{value:.0}"),
        _ => format!("{value:.2}"),
    }
}

/// Rows for people, in columns; nothing for none.
pub(crate) fn table(rows: &[Row]) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let head = ["case", "value", "median", "unit", "ratio", "to", "note"].map(String::from);
    let mut lines = vec![head.to_vec()];
    lines.extend(rows.iter().map(Row::cells));
    let wide = |column: usize| lines.iter().map(|line| line[column].chars().count()).max();
    let widths: Vec<usize> = (0..head.len()).map(|column| wide(column).unwrap_or(0)).collect();
    let mut text = String::new();
    for line in &lines {
        let cells = line.iter().zip(&widths).map(|(cell, &width)| format!("{cell:width$}"));
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_one_object_with_its_ratio() {
        let row =
            Row::new("entry", "ns").case("function", "leaf").value(20.0).against("floor", 8.0);
        let json = row.json();
        assert_eq!(json["case"]["function"], "leaf");
        assert_eq!(json["ratio"], 2.5);
        assert_eq!(json["against"], "floor");
        let unmeasured = Row::new("entry", "ns").against("floor", 8.0).note("not installed").json();
        assert!(unmeasured["value"].is_null() && unmeasured["ratio"].is_null());
    }

    #[test]
    fn a_table_has_a_line_a_row() {
        let rows = [Row::new("x", "ns").case("a", 1).value(2.0), Row::new("x", "ns").note("why")];
        let text = table(&rows);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 3);
        assert!(lines[1].contains("2.00") && lines[2].ends_with("why"));
        assert_eq!(table(&[]), "");
    }
}
