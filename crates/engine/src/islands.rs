//! Finds address space for islands: free, and within reach of every site of an object.

use std::ops::Range;

/// Farthest that a `jmp rel32` is asked to go.
const REACH: u64 = (1 << 31) - (1 << 20);
/// Lowest address used; the kernel keeps what is below `vm.mmap_min_addr`.
const LOWEST: u64 = 0x11_0000;
const PAGE: u64 = 4096;

/// What is taken: the mappings of a process, and where its heap may grow.
#[derive(Clone, Debug, Default)]
pub struct AddressSpace {
    taken: Vec<Range<u64>>,
}

impl AddressSpace {
    /// From the mapped ranges, in any order.
    #[must_use]
    pub fn new(mut taken: Vec<Range<u64>>) -> Self {
        taken.sort_by_key(|range| range.start);
        Self { taken }
    }

    /// Marks a range as taken.
    pub fn take(&mut self, range: Range<u64>) {
        let at = self.taken.partition_point(|other| other.start < range.start);
        self.taken.insert(at, range);
    }

    /// Free pages for `bytes`, from which everything in `sites` can be reached and the other way
    /// round; the nearest below is preferred, since heaps grow upwards. The range is taken.
    pub fn near(&mut self, sites: &Range<u64>, bytes: u64) -> Option<u64> {
        let bytes = bytes.next_multiple_of(PAGE);
        let lowest = sites.end.saturating_sub(REACH).max(LOWEST).next_multiple_of(PAGE);
        let highest = sites.start.saturating_add(REACH);
        let mut below = None;
        let mut above = None;
        for gap in self.gaps(lowest..highest) {
            if gap.end - gap.start < bytes {
                continue;
            }
            if gap.end <= sites.start {
                below = Some((gap.end - bytes) / PAGE * PAGE);
            } else if above.is_none() {
                above = Some(gap.start.next_multiple_of(PAGE));
            }
        }
        let place = below.or(above)?;
        self.take(place..place + bytes);
        Some(place)
    }

    fn gaps(&self, within: Range<u64>) -> Vec<Range<u64>> {
        let mut gaps = Vec::new();
        let mut free = within.start;
        for taken in &self.taken {
            if taken.start > free && free < within.end {
                gaps.push(free..taken.start.min(within.end));
            }
            free = free.max(taken.end);
        }
        if free < within.end {
            gaps.push(free..within.end);
        }
        gaps
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SITES: Range<u64> = 0x5555_5555_6000..0x5555_5555_9000;

    #[test]
    fn the_nearest_gap_below_is_taken_once() {
        let mut space = AddressSpace::default();
        space.take(0x5555_5555_4000..0x5555_5556_0000);
        assert_eq!(space.near(&SITES, 100), Some(0x5555_5555_3000));
        assert_eq!(space.near(&SITES, 5000), Some(0x5555_5555_1000));
    }

    #[test]
    fn an_executable_at_a_low_address_gets_room_above() {
        let sites = 0x40_1000..0x48_0000;
        let mut space = AddressSpace::new(vec![0..0x50_0000, 0x60_0000..0x4060_0000]);
        assert_eq!(space.near(&sites, 0x20_0000), Some(0x4060_0000));
    }

    #[test]
    fn nothing_out_of_reach_is_offered() {
        let sites = 0x40_1000..0x48_0000;
        let mut space = AddressSpace::default();
        space.take(0..0x9000_0000);
        assert_eq!(space.near(&sites, 16), None);
    }
}
