//! Histograms: `hist:keys=common_pid,arg1.hex:vals=arg2:sort=arg2.descending:size=512`.

use super::fields::{Field, Fields, Found};
use crate::functions::Functions;
use std::collections::HashMap;
use std::fmt::Write;

/// How a key is shown, or made coarser.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Modifier {
    None,
    Hex,
    Symbol,
    SymbolOffset,
    ExecName,
    Log2,
    Micros,
    Buckets(u64),
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Key {
    field: Field,
    text: String,
    name: String,
    modifier: Modifier,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Sort {
    text: String,
    /// `None` for the hit count.
    column: Column,
    descending: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Column {
    Hits,
    Key(usize),
    Value(usize),
}

/// A histogram and what it has counted.
#[derive(Clone, Debug)]
pub(crate) struct Histogram {
    keys: Vec<Key>,
    values: Vec<(Field, String)>,
    sorts: Vec<Sort>,
    size: usize,
    name: Option<String>,
    pub(crate) paused: bool,
    table: HashMap<Vec<Found>, Row>,
    hits: u64,
    dropped: u64,
}

#[derive(Clone, Debug, Default)]
struct Row {
    hits: u64,
    sums: Vec<i128>,
    comm: String,
}

/// What is wrong, and where it stands behind `hist:`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HistError {
    pub(crate) error: &'static str,
    pub(crate) at: usize,
}

/// What a command asks of a histogram that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Pause,
    Continue,
    Clear,
}

const MOST_KEYS: usize = 3;
const MOST_SORTS: usize = 2;
const SIZES: std::ops::RangeInclusive<usize> = 128..=131_072;

fn error<T>(error: &'static str, at: usize) -> Result<T, HistError> {
    Err(HistError { error, at })
}

impl Histogram {
    /// Reads what stands behind `hist:`; `at` is where that begins.
    pub(crate) fn parse(
        text: &str,
        at: usize,
        fields: &Fields<'_>,
    ) -> Result<(Self, Option<Change>), HistError> {
        let mut hist = Self {
            keys: Vec::new(),
            values: Vec::new(),
            sorts: Vec::new(),
            size: 2048,
            name: None,
            paused: false,
            table: HashMap::new(),
            hits: 0,
            dropped: 0,
        };
        let (mut change, mut sort, mut at) = (None, None, at);
        for part in text.split(':') {
            match part.split_once('=') {
                Some((name, "")) => {
                    let known = ["keys", "key", "vals", "values", "val", "sort", "size", "name"];
                    let what =
                        if known.contains(&name) { "Empty assignment" } else { "Invalid field" };
                    return error(what, at);
                }
                Some(("keys" | "key", list)) => {
                    hist.add_keys(list, at + part.len() - list.len(), fields)?
                }
                Some(("vals" | "values" | "val", list)) => {
                    hist.add_values(list, at + part.len() - list.len(), fields)?;
                }
                Some(("sort", list)) => sort = Some((list, at)),
                Some(("size", number)) => {
                    let size: Option<usize> = number.parse().ok();
                    let size = size.map(usize::next_power_of_two).filter(|it| SIZES.contains(it));
                    let Some(size) = size else { return error("Invalid size", at) };
                    hist.size = size;
                }
                Some(("name", name)) => hist.name = Some(name.to_owned()),
                None if part == "pause" => change = Some(Change::Pause),
                None if part == "cont" || part == "continue" => change = Some(Change::Continue),
                None if part == "clear" => change = Some(Change::Clear),
                _ => return error("Variables and actions are not supported", at),
            }
            at += part.len() + 1;
        }
        if hist.keys.is_empty() {
            return error("No keys", at.saturating_sub(text.len() + 1));
        }
        if let Some((list, at)) = sort {
            hist.add_sorts(list, at)?;
        }
        hist.paused = change == Some(Change::Pause);
        Ok((hist, change))
    }

    fn add_keys(&mut self, list: &str, at: usize, fields: &Fields<'_>) -> Result<(), HistError> {
        let mut at = at;
        for text in list.split(',') {
            let (name, modifier) = text.split_once('.').unwrap_or((text, ""));
            let Some(field) = fields.named(name) else { return error("Couldn't find field", at) };
            let modifier = match modifier {
                "" => Modifier::None,
                "hex" => Modifier::Hex,
                "sym" => Modifier::Symbol,
                "sym-offset" => Modifier::SymbolOffset,
                "execname" if field == Field::Pid => Modifier::ExecName,
                "log2" => Modifier::Log2,
                "usecs" if field == Field::Time => Modifier::Micros,
                other => match other.strip_prefix("buckets=").and_then(|it| it.parse().ok()) {
                    Some(size @ 1..) => Modifier::Buckets(size),
                    _ => return error("Invalid field modifier", at + name.len() + 1),
                },
            };
            if self.keys.len() == MOST_KEYS {
                return error("Too many keys", at);
            }
            let (text, name) = (text.to_owned(), name.to_owned());
            at += text.len() + 1;
            self.keys.push(Key { field, text, name, modifier });
        }
        Ok(())
    }

    fn add_values(&mut self, list: &str, at: usize, fields: &Fields<'_>) -> Result<(), HistError> {
        let mut at = at;
        for name in list.split(',') {
            if name != "hitcount" {
                let Some(field) = fields.named(name) else {
                    return error("Couldn't find field", at);
                };
                if fields.is_text(field) {
                    return error("Invalid value", at);
                }
                self.values.push((field, name.to_owned()));
            }
            at += name.len() + 1;
        }
        Ok(())
    }

    fn add_sorts(&mut self, list: &str, at: usize) -> Result<(), HistError> {
        let texts: Vec<&str> = list.split(',').collect();
        if texts.len() > MOST_SORTS {
            return error("Too many sort fields (Max = 2)", at);
        }
        let mut place = at + "sort=".len();
        for text in texts {
            let (name, modifier) = text.split_once('.').unwrap_or((text, ""));
            if text.is_empty() {
                return error("Empty sort field", at);
            }
            let key = || self.keys.iter().position(|key| key.name == name).map(Column::Key);
            let value = || self.values.iter().position(|it| it.1 == name).map(Column::Value);
            let column = if name == "hitcount" { Some(Column::Hits) } else { key().or_else(value) };
            let Some(column) = column else {
                return error("Sort field must be a key or a val", place);
            };
            let descending = match modifier {
                "" | "ascending" => false,
                "descending" => true,
                _ => return error("Invalid sort modifier", place + name.len() + 1),
            };
            self.sorts.push(Sort { text: text.to_owned(), column, descending });
            place += text.len() + 1;
        }
        Ok(())
    }

    /// By which it is told from others.
    pub(crate) fn definition(&self) -> String {
        let mut text = String::from("hist:");
        if let Some(name) = &self.name {
            let _ = write!(text, "{name}:");
        }
        let keys: Vec<&str> = self.keys.iter().map(|key| key.text.as_str()).collect();
        let _ = write!(text, "keys={}:vals=hitcount", keys.join(","));
        for (_, name) in &self.values {
            let _ = write!(text, ",{name}");
        }
        let sorts: Vec<&str> = self.sorts.iter().map(|sort| sort.text.as_str()).collect();
        let sorts = if sorts.is_empty() { "hitcount".to_owned() } else { sorts.join(",") };
        let _ = write!(text, ":sort={sorts}:size={}", self.size);
        text
    }

    /// Whether a command means this one.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.keys == other.keys && self.values == other.values && self.name == other.name
    }

    pub(crate) fn change(&mut self, change: Change) {
        match change {
            Change::Pause => self.paused = true,
            Change::Continue => self.paused = false,
            Change::Clear => {
                self.table.clear();
                (self.hits, self.dropped) = (0, 0);
            }
        }
    }

    /// Counts an event.
    pub(crate) fn hit(&mut self, find: &dyn Fn(Field) -> Found) {
        if self.paused {
            return;
        }
        self.hits += 1;
        let keys = self.keys.iter().map(|key| coarser(key.modifier, find(key.field)));
        let keys: Vec<Found> = keys.collect();
        if self.table.len() >= self.size && !self.table.contains_key(&keys) {
            self.dropped += 1;
            return;
        }
        let row = self.table.entry(keys).or_default();
        row.hits += 1;
        row.sums.resize(self.values.len(), 0);
        for (sum, (field, _)) in row.sums.iter_mut().zip(&self.values) {
            if let Found::Number(number) = find(*field) {
                *sum = sum.wrapping_add(number);
            }
        }
        if row.comm.is_empty()
            && let Found::Text(comm) = find(Field::Comm)
        {
            row.comm = comm;
        }
    }

    /// The file: what it is, its rows, and totals.
    pub(crate) fn listing(&self, line: &str, functions: &Functions) -> String {
        let mut text = format!("# event histogram\n#\n# trigger info: {line}#\n\n");
        let mut rows: Vec<(&Vec<Found>, &Row)> = self.table.iter().collect();
        rows.sort_by(|one, other| self.order(one, other));
        for (keys, row) in rows {
            let shown = self.keys.iter().zip(keys);
            let shown: Vec<String> = shown.map(|(key, it)| key.show(it, row, functions)).collect();
            let _ = write!(text, "{{ {} }} hitcount: {:10}", shown.join(", "), row.hits);
            for ((_, name), sum) in self.values.iter().zip(&row.sums) {
                let _ = write!(text, "  {name}: {sum:10}");
            }
            text.push('\n');
        }
        let (hits, entries, dropped) = (self.hits, self.table.len(), self.dropped);
        let _ = write!(
            text,
            "\nTotals:\n    Hits: {hits}\n    Entries: {entries}\n    Dropped: {dropped}\n"
        );
        text
    }

    fn order(&self, one: &(&Vec<Found>, &Row), other: &(&Vec<Found>, &Row)) -> std::cmp::Ordering {
        let by = |column| match column {
            Column::Hits => one.1.hits.cmp(&other.1.hits),
            Column::Key(at) => one.0.get(at).cmp(&other.0.get(at)),
            Column::Value(at) => one.1.sums.get(at).cmp(&other.1.sums.get(at)),
        };
        let default = [Sort { text: String::new(), column: Column::Hits, descending: false }];
        let sorts = if self.sorts.is_empty() { &default[..] } else { &self.sorts };
        let ordered = sorts.iter().map(|sort| {
            let order = by(sort.column);
            if sort.descending { order.reverse() } else { order }
        });
        let first = ordered.into_iter().find(|order| order.is_ne());
        first.unwrap_or_else(|| one.0.cmp(other.0))
    }
}

fn coarser(modifier: Modifier, found: Found) -> Found {
    let Found::Number(number) = found else { return found };
    Found::Number(match modifier {
        Modifier::Log2 => {
            let number = u64::try_from(number).unwrap_or(u64::MAX).max(1);
            i128::from(number.next_power_of_two().trailing_zeros())
        }
        Modifier::Buckets(size) => number.div_euclid(i128::from(size)) * i128::from(size),
        Modifier::Micros => number / 1000,
        _ => number,
    })
}

impl Key {
    fn show(&self, found: &Found, row: &Row, functions: &Functions) -> String {
        let name = &self.name;
        let number = match found {
            Found::Text(text) => return format!("{name}: {text:<50}"),
            Found::Nothing => return format!("{name}: (fault)"),
            Found::Number(number) => *number,
        };
        let address = number as u64;
        match self.modifier {
            Modifier::Hex => format!("{name}: {number:x}"),
            Modifier::Symbol => {
                format!("{name}: [{address:x}] {:<45}", functions.symbol(address, false))
            }
            Modifier::SymbolOffset => {
                format!("{name}: [{address:x}] {:<55}", functions.symbol(address, true))
            }
            Modifier::ExecName => format!("{name}: {:<16}[{number:10}]", row.comm),
            Modifier::Log2 => format!("{name}: ~ 2^{number:<2}"),
            Modifier::Buckets(size) => {
                format!("{name}: ~ {number}-{}", number + i128::from(size) - 1)
            }
            Modifier::None | Modifier::Micros => format!("{name}: {number:10}"),
        }
    }
}
