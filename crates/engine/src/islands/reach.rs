//! Which addresses a site's `rel32` can reach when some of its bytes must trap.

use super::pages::{EMPTY, Page, Pages};
use super::{PAGE, SiteSpec};
use std::ops::Range;

/// What one value of a top byte spans.
const TOP_SPAN: i64 = 1 << 24;
/// What one value of the third byte spans.
const SEGMENT: i64 = 1 << 16;
/// What one value of the second byte spans.
const WINDOW: i64 = 1 << 8;

/// Where the island of a site may lie when these traps are allowed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reach {
    /// Where a distance of nought leads: behind the patch.
    base: i64,
    /// Bit `i`: byte `i` of the distance must trap.
    bound: u8,
    pub(super) traps: &'static [u8],
    size: u64,
    /// Bit `i`: of each sixteen aligned pages, the `i`th may do, by the second byte.
    places: u16,
}

/// Pages on which to look for room.
#[derive(Clone, Copy, Debug)]
pub(super) enum Source<'a> {
    /// Those that are open.
    Open(&'a Pages),
    /// Those that could be opened: in free address space, and not open yet.
    Fresh(&'a Pages, &'a [Range<u64>]),
}

impl Source<'_> {
    /// First answer for the pages that `range` touches, ascending, at these of sixteen places.
    fn search<T>(
        &self,
        range: &Range<u64>,
        places: u16,
        mut visit: impl FnMut(u64, &Page) -> Option<T>,
    ) -> Option<T> {
        match self {
            Self::Open(pages) => pages.search(range, places, |page| visit(page.number, page)),
            Self::Fresh(pages, free) => {
                let first = free.partition_point(|gap| gap.end <= range.start);
                let gaps = free[first..].iter().take_while(|gap| gap.start < range.end);
                let mut numbers = gaps.flat_map(|gap| {
                    let (start, end) = (gap.start.max(range.start), gap.end.min(range.end));
                    start / PAGE..end.div_ceil(PAGE)
                });
                numbers.find_map(|number| {
                    let fresh = places & (1 << (number % 16)) != 0 && pages.get(number).is_none();
                    if fresh { visit(number, &EMPTY) } else { None }
                })
            }
        }
    }
}

impl Reach {
    pub(super) fn of(site: SiteSpec, traps: &'static [u8], size: u64) -> Self {
        let base = site.address.cast_signed() + 5;
        let bound = (site.boundaries >> 1) & 0b1111;
        let mut reach = Self { base, bound, traps, size, places: u16::MAX };
        if reach.binds(1) {
            let ends = |trap: &u8| {
                let start = base + i64::from(*trap) * WINDOW;
                [start, start + WINDOW - 1].map(|end| 1 << ((end >> 12) & 15))
            };
            reach.places = traps.iter().flat_map(ends).fold(0, |places, place: u16| places | place);
        }
        reach
    }

    /// Whether a byte of the distance must trap; 3 is the top byte.
    pub(super) fn binds(self, byte: u8) -> bool {
        self.bound & (1 << byte) != 0
    }

    /// Whether the top byte of the distance may have this value.
    pub(super) fn allows(self, top: u8) -> bool {
        !self.binds(3) || self.traps.contains(&top)
    }

    /// Top byte of the distance to an address within reach.
    pub(super) fn top(self, address: u64) -> u8 {
        ((address.cast_signed() - self.base) >> 24) as u8
    }

    /// The low byte of the islands whose distance ends in `trap`.
    pub(super) fn low(self, trap: u8) -> u8 {
        (self.base as u8).wrapping_add(trap)
    }

    /// The addresses to which one top byte leads: empty where they would be below nought.
    pub(super) fn span(self, top: u8) -> Range<u64> {
        range(self.base + offset(top), TOP_SPAN)
    }

    /// The parts of a span that the third byte leaves; all of it where that byte is not bound.
    pub(super) fn parts(self, top: u8) -> impl Iterator<Item = Range<u64>> {
        let bound = self.binds(2);
        let whole = (!bound).then(|| self.span(top));
        let start = self.base + offset(top);
        let segments = self.traps.iter().filter(move |_| bound);
        let segments = segments.map(move |&trap| range(start + i64::from(trap) * SEGMENT, SEGMENT));
        whole.into_iter().chain(segments).filter(|part| !part.is_empty())
    }

    /// An address for an island in `part`, which must settle the two high bytes, on one of the
    /// pages.
    pub(super) fn find(self, part: &Range<u64>, pages: Source<'_>) -> Option<u64> {
        pages.search(part, self.places, |number, page| self.on_page(number, page, part))
    }

    /// An address for an island in `part`, on this page.
    pub(super) fn on_page(self, number: u64, page: &Page, part: &Range<u64>) -> Option<u64> {
        let start = number * PAGE;
        let starts = part.start.max(start) - start..part.end.min(start + PAGE) - start;
        let found = if self.binds(1) {
            self.traps.iter().find_map(|&trap| {
                let window = self.window(start, trap);
                let starts = starts.start.max(window.start)..starts.end.min(window.end);
                self.in_window(page, starts)
            })
        } else {
            self.in_window(page, starts)
        };
        found.map(|offset| start + offset)
    }

    /// The offsets from `start` at which the second byte of the distance is `trap`; those after the
    /// next 64 KiB are left out.
    fn window(self, start: u64, trap: u8) -> Range<u64> {
        let first = self.base + i64::from(trap) * WINDOW;
        let ahead = (first - start.cast_signed()) & (SEGMENT - 1);
        // It may have begun before.
        range(if ahead > SEGMENT - WINDOW { ahead - SEGMENT } else { ahead }, WINDOW)
    }

    /// An offset in `starts` for an island, with a trapping low byte.
    fn in_window(self, page: &Page, starts: Range<u64>) -> Option<u64> {
        if starts.is_empty() || !self.binds(0) {
            return page.fit(starts, self.size);
        }
        self.traps.iter().find_map(|&trap| {
            let low = u64::from(self.low(trap));
            let first = starts.start + (low.wrapping_sub(starts.start) & 0xff);
            let mut offsets = (first..starts.end).step_by(WINDOW as usize);
            offsets.find_map(|offset| page.fit(offset..offset + 1, self.size))
        })
    }
}

/// The addresses that all sites from `first` to `last` reach with one top byte, whatever the others.
pub(super) fn common(first: u64, last: u64, top: u8) -> Range<u64> {
    let (first, last) = (first.cast_signed(), last.cast_signed());
    range(last + 5 + offset(top), TOP_SPAN - (last - first))
}

fn offset(top: u8) -> i64 {
    i64::from(top.cast_signed()) * TOP_SPAN
}

/// The part of a range that is above nought.
fn range(start: i64, length: i64) -> Range<u64> {
    start.max(0).cast_unsigned()..(start + length).max(0).cast_unsigned()
}
