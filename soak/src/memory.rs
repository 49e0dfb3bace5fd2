//! Memory must not grow once everything has been used for a while.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// More than this is not noise: a tenth, and this many KiB.
const SLACK_KIB: u64 = 16 << 10;
const SLACK_MAPPINGS: usize = 64;

/// What the process takes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Memory {
    resident_kib: u64,
    mappings: usize,
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { resident_kib, mappings } = self;
        write!(f, "{} KiB in {mappings} mappings", resident_kib)
    }
}

/// What it took when the watch began.
#[derive(Debug)]
pub(crate) struct Watch(Arc<Mutex<Option<Memory>>>);

/// Looks at the memory after a while, when nothing is new any more.
pub(crate) fn watch(after: Duration) -> Watch {
    let found = Arc::new(Mutex::new(None));
    let shared = Arc::clone(&found);
    std::thread::spawn(move || {
        std::thread::sleep(after);
        *shared.lock().unwrap_or_else(PoisonError::into_inner) = Some(now());
    });
    Watch(found)
}

impl Watch {
    /// Before and now; a finding if it grew.
    pub(crate) fn compare(&self, findings: &mut Vec<String>) -> (Memory, Memory) {
        let after = now();
        let before = self.0.lock().unwrap_or_else(PoisonError::into_inner).unwrap_or(after);
        let most = before.resident_kib + before.resident_kib / 10 + SLACK_KIB;
        if after.resident_kib > most || after.mappings > before.mappings + SLACK_MAPPINGS {
            findings.push(format!("memory grew from {before} to {after}"));
        }
        (before, after)
    }
}

fn now() -> Memory {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let resident = resident.and_then(|text| text.trim().trim_end_matches(" kB").parse().ok());
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    Memory { resident_kib: resident.unwrap_or(0), mappings: maps.lines().count() }
}
