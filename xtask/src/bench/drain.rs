//! The way from a ring's records to the file, within this process: pairing and writing.

use super::lab::{least, median};
use super::row::Row;
use super::synthetic::{Calls, define};
use anyhow::Result;
use sledge_drain::pair::Pairer;
use sledge_trace::Writer;
use sledge_trace::event::{FunctionId, Step};
use sledge_wire::record::Record;
use std::path::Path;
use std::time::Instant;

const BENCH: &str = "drain";
const CALLS: u64 = 2_000_000;
const ROUNDS: usize = 5;
/// Records handed on at a time.
const BATCH: usize = 32 * 1024;

pub(crate) fn run(emit: &mut dyn FnMut(Row)) -> Result<()> {
    let records: Vec<Record> = Calls::new(CALLS).collect();
    let file = tempfile::NamedTempFile::new()?;
    let (mut pairing, mut writing) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let steps = pair(&records, &mut pairing);
        write(&steps, file.path(), &mut writing)?;
    }
    let both: Vec<f64> = pairing.iter().zip(&writing).map(|(pair, write)| pair + write).collect();
    let count = records.len() as f64;
    for (stage, seconds) in [("pair", pairing), ("write", writing), ("pair and write", both)] {
        let row = Row::new(BENCH, "records/s").case("stage", stage);
        emit(row.value(count / least(&seconds)).median(count / median(&seconds)));
    }
    Ok(())
}

fn pair(records: &[Record], times: &mut Vec<f64>) -> Vec<Step> {
    let mut steps = Vec::with_capacity(records.len());
    let mut pairer = Pairer::new();
    let mut batch = Vec::new();
    let mut seconds = 0.0;
    for some in records.chunks(BATCH) {
        let start = Instant::now();
        for record in some {
            pairer.push(*record, FunctionId(record.site), &mut batch);
        }
        seconds += start.elapsed().as_secs_f64();
        steps.append(&mut batch);
    }
    times.push(seconds);
    steps
}

fn write(steps: &[Step], path: &Path, times: &mut Vec<f64>) -> Result<()> {
    let mut writer = Writer::create(path)?;
    let thread = define(&mut writer);
    let start = Instant::now();
    for some in steps.chunks(BATCH) {
        writer.steps(thread, some)?;
    }
    writer.finish()?;
    times.push(start.elapsed().as_secs_f64());
    Ok(())
}
