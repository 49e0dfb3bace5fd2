//! Tables in which the compiler tells where it left room for hooks, and where not to touch.

use crate::image::u64_at;
use crate::relocations::Relocations;
use crate::sections::{Section, named};

const XRAY: &str = "xray_instr_map";
const PATCHABLE: &str = "__patchable_function_entries";
const MCOUNT: &str = "__mcount_loc";
const CRITICAL: &str = "__rseq_cs";
const XRAY_ENTRY: usize = 32;
const CRITICAL_ENTRY: usize = 32;

/// What those tables hold. Every list is sorted.
#[derive(Default)]
pub(crate) struct Sleds {
    /// Function and its entry sled.
    pub(crate) xray: Vec<(u64, u64)>,
    /// Where the NOPs of a patchable function begin.
    pub(crate) nops: Vec<u64>,
    /// Restartable sequences: start, end; none overlap.
    pub(crate) critical: Vec<(u64, u64)>,
    /// Where the kernel sends an aborted sequence.
    pub(crate) aborts: Vec<u64>,
}

/// The address ranges of the tables whose contents the dynamic loader relocates.
pub(crate) fn tables(sections: &[Section]) -> Vec<(u64, u64)> {
    let names = [XRAY, PATCHABLE, MCOUNT, CRITICAL].into_iter();
    let found = names.flat_map(|name| named(sections, name));
    found.map(|section| (section.address, section.address.saturating_add(section.size))).collect()
}

impl Sleds {
    pub(crate) fn read(sections: &[Section], relocations: &Relocations) -> Self {
        let mut sleds = Self::default();
        for section in named(sections, XRAY) {
            sleds.read_xray(section, relocations);
        }
        for section in [PATCHABLE, MCOUNT].into_iter().flat_map(|name| named(sections, name)) {
            let words = section.bytes.chunks_exact(8).zip((section.address..).step_by(8));
            let address = |(word, slot)| Some(relocations.address(slot, u64_at(word, 0)?));
            sleds.nops.extend(words.filter_map(address));
        }
        for section in named(sections, CRITICAL) {
            sleds.read_critical(section, relocations);
        }
        sleds.xray.sort_unstable();
        sleds.nops.sort_unstable();
        sleds.critical = merged(std::mem::take(&mut sleds.critical));
        sleds
    }

    fn read_xray(&mut self, section: &Section, relocations: &Relocations) {
        const ENTRY: [u8; 2] = [0, 3];
        let entries = section.bytes.chunks_exact(XRAY_ENTRY);
        for (entry, slot) in entries.zip((section.address..).step_by(XRAY_ENTRY)) {
            let (Some(sled), Some(function)) = (u64_at(entry, 0), u64_at(entry, 8)) else { return };
            let (kind, version) = (entry[16], entry[18]);
            if !ENTRY.contains(&kind) {
                continue;
            }
            let second = slot.wrapping_add(8);
            let (sled, function) = if version >= 2 {
                (slot.wrapping_add(sled), second.wrapping_add(function))
            } else {
                (relocations.address(slot, sled), relocations.address(second, function))
            };
            self.xray.push((function, sled));
        }
    }

    fn read_critical(&mut self, section: &Section, relocations: &Relocations) {
        let entries = section.bytes.chunks_exact(CRITICAL_ENTRY);
        for (entry, slot) in entries.zip((section.address..).step_by(CRITICAL_ENTRY)) {
            let at = |offset: usize| {
                let stored = u64_at(entry, offset)?;
                Some(relocations.address(slot.wrapping_add(offset as u64), stored))
            };
            let (Some(start), Some(length), Some(abort)) = (at(8), u64_at(entry, 16), at(24))
            else {
                return;
            };
            self.critical.push((start, start.saturating_add(length)));
            self.aborts.push(abort);
        }
    }

    pub(crate) fn xray_of(&self, function: u64) -> Option<u64> {
        let first = self.xray.partition_point(|entry| entry.0 < function);
        self.xray.get(first).filter(|entry| entry.0 == function).map(|entry| entry.1)
    }

    /// The table entry nearest before or at `last`, not before `first`.
    pub(crate) fn nops_in(&self, first: u64, last: u64) -> Option<u64> {
        let after = self.nops.partition_point(|&nops| nops <= last);
        self.nops[..after].last().copied().filter(|&nops| nops >= first)
    }

    pub(crate) fn is_critical(&self, start: u64, end: u64) -> bool {
        let before = self.critical.partition_point(|sequence| sequence.0 < end);
        self.critical[..before].last().is_some_and(|sequence| sequence.1 > start)
    }
}

/// Sorts ranges and joins those that overlap.
fn merged(mut ranges: Vec<(u64, u64)>) -> Vec<(u64, u64)> {
    ranges.sort_unstable();
    ranges.dedup_by(|next, last| {
        let joins = next.0 <= last.1;
        last.1 = if joins { last.1.max(next.1) } else { last.1 };
        joins
    });
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_that_overlap_are_joined() {
        assert_eq!(merged(vec![(5, 6), (1, 4), (2, 3), (4, 5), (8, 9)]), [(1, 6), (8, 9)]);
    }

    #[test]
    fn sequences_are_critical_to_their_last_byte() {
        let sleds = Sleds { critical: vec![(10, 20), (30, 40)], ..Sleds::default() };
        assert!(sleds.is_critical(19, 24) && sleds.is_critical(5, 11) && sleds.is_critical(12, 13));
        assert!(!sleds.is_critical(20, 30) && !sleds.is_critical(5, 10));
    }
}
