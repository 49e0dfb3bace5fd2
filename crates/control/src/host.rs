//! The machine that records.

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use sledge_trace::Host;

/// This machine, now. What it does not say of itself stays empty.
pub(crate) fn this_machine() -> Host {
    let line = |path: &str| fs::read_to_string(path).unwrap_or_default().trim_end().to_owned();
    let processors = line("/proc/cpuinfo");
    let model = processors.lines().find_map(|line| line.strip_prefix("model name"));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Host {
        name: line("/proc/sys/kernel/hostname"),
        kernel: line("/proc/sys/kernel/osrelease"),
        processor: model.unwrap_or_default().trim_matches([' ', '\t', ':']).to_owned(),
        ticks_per_second: 0,
        began: u64::try_from(now.as_nanos()).unwrap_or(0),
    }
}
