//! What of an address space is free, and what must stay so.

use super::PAGE;
use std::ops::Range;

/// Farthest that a `jmp rel32` is asked to go.
const REACH: u64 = (1 << 31) - (1 << 20);
/// Lowest address used; the kernel keeps what is below `vm.mmap_min_addr`.
const LOWEST: u64 = 0x11_0000;
/// The last page of user space is never mapped.
const HIGHEST: u64 = 0x7fff_ffff_f000;
/// Room that a heap made by `brk` is left to grow, from the wish to the least: an allocator that
/// runs out of it goes on with `mmap`.
pub(super) const HEAP_ROOMS: [u64; 4] = [1 << 30, 512 << 20, 256 << 20, 64 << 20];
/// Bounds of the room that a stack is left to grow.
const STACK_ROOM: (u64, u64) = (256 << 20, 1 << 40);

/// What is taken: the mappings of a process, and where its heap and stack may grow.
#[derive(Clone, Debug, Default)]
pub struct AddressSpace {
    taken: Vec<Range<u64>>,
    heap: Option<u64>,
}

impl AddressSpace {
    /// From the mapped ranges, in any order.
    #[must_use]
    pub fn new(mut taken: Vec<Range<u64>>) -> Self {
        taken.sort_by_key(|range| range.start);
        Self { taken, heap: None }
    }

    /// Marks a range as taken.
    pub fn take(&mut self, range: Range<u64>) {
        let at = self.taken.partition_point(|other| other.start < range.start);
        if self.taken.get(at) != Some(&range) {
            self.taken.insert(at, range);
        }
    }

    /// Leaves the heap room to grow: 1 GiB from its end (or from where it will start). Trap-safe
    /// islands that fit nowhere else may use the far part of it.
    pub fn keep_heap(&mut self, end: u64) {
        self.heap = Some(end);
    }

    /// Leaves a stack that starts at `start` room to grow to `limit` bytes (`RLIMIT_STACK`), but
    /// not past the mapping below it, which would stop it anyway.
    pub fn keep_stack(&mut self, start: u64, limit: u64) {
        let (least, most) = STACK_ROOM;
        let below = self.taken.iter().filter(|range| range.end <= start);
        let floor = below.map(|range| range.end).max().unwrap_or(0);
        self.take(start.saturating_sub(limit.clamp(least, most)).max(floor)..start);
    }

    /// Free pages for `bytes`, from which everything in `sites` can be reached and the other way
    /// round; the nearest below is preferred, since heaps grow upwards. The range is taken.
    pub fn near(&mut self, sites: &Range<u64>, bytes: u64) -> Option<u64> {
        let bytes = bytes.next_multiple_of(PAGE);
        let lowest = sites.end.saturating_sub(REACH).max(LOWEST).next_multiple_of(PAGE);
        let highest = sites.start.saturating_add(REACH);
        let mut below = None;
        let mut above = None;
        for gap in self.gaps(lowest..highest, HEAP_ROOMS[0]) {
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

    /// Where a heap is known, the rooms it may be left; else a single nought.
    pub(super) fn heap_rooms(&self) -> &'static [u64] {
        if self.heap.is_some() { &HEAP_ROOMS } else { &[0] }
    }

    /// All whole free pages of user space, ascending, when the heap is left `heap_room`.
    pub(super) fn free(&self, heap_room: u64) -> Vec<Range<u64>> {
        let gaps = self.gaps(LOWEST..HIGHEST, heap_room).into_iter();
        let pages = gaps.map(|gap| gap.start.next_multiple_of(PAGE)..gap.end / PAGE * PAGE);
        pages.filter(|gap| gap.start < gap.end).collect()
    }

    fn gaps(&self, within: Range<u64>, heap_room: u64) -> Vec<Range<u64>> {
        let mut taken = self.taken.clone();
        if let Some(end) = self.heap {
            let at = taken.partition_point(|range| range.start < end);
            taken.insert(at, end..end.saturating_add(heap_room));
        }
        let mut gaps = Vec::new();
        let mut free = within.start;
        for taken in &taken {
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

    #[test]
    fn heap_and_stack_keep_their_room() {
        let mut space =
            AddressSpace::new(vec![0x40_0000..0x50_0000, 0x7000_0000_0000..0x7000_0010_0000]);
        space.keep_heap(0x60_0000);
        assert_eq!(space.near(&(0x40_0000..0x50_0000), PAGE), Some(0x3f_f000));
        let free = space.free(1 << 30);
        assert_eq!(free[0..2], [0x11_0000..0x3f_f000, 0x50_0000..0x60_0000]);
        assert_eq!(free[2].start, 0x60_0000 + (1 << 30));
        assert_eq!(space.free(64 << 20)[2].start, 0x60_0000 + (64 << 20));

        let stack = 0x7ff0_0000_0000;
        space.keep_stack(stack, 8 << 20);
        assert_eq!(space.free(0).last().expect("above"), &(stack..HIGHEST));
        let under = |space: &AddressSpace| space.free(0).iter().rev().nth(1).cloned();
        assert_eq!(under(&space), Some(0x7000_0010_0000..stack - (256 << 20)));
    }

    #[test]
    fn an_unlimited_stack_ends_at_the_mapping_below_it() {
        let mut space = AddressSpace::default();
        space.take(0x7fef_f000_0000..0x7fef_f001_0000);
        space.keep_stack(0x7ff0_0000_0000, u64::MAX);
        let free = space.free(0);
        assert_eq!(free[0], LOWEST..0x7fef_f000_0000);
        assert_eq!(free[1].start, 0x7ff0_0000_0000);
    }
}
