//! Which addresses a site's `rel32` can reach when some of its bytes must trap.

use super::pages::{EMPTY, Page, Pages, holds};
use super::{PAGE, SiteSpec};
use std::ops::Range;

/// What one value of a top byte spans.
const TOP_SPAN: i64 = 1 << 24;
/// What one value of the third byte spans.
const SEGMENT: i64 = 1 << 16;
/// What one value of the second byte spans.
const WINDOW: i64 = 1 << 8;

/// The distances that a site may jump.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reach {
    /// Where a distance of nought leads: behind the patch.
    base: i64,
    /// Bit `i`: byte `i` of the distance must trap.
    bound: u8,
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
    fn at(&self, number: u64) -> Option<&Page> {
        match self {
            Self::Open(pages) => pages.get(number),
            Self::Fresh(pages, free) => {
                let free = holds(free, &(number * PAGE..(number + 1) * PAGE));
                (free && pages.get(number).is_none()).then_some(&EMPTY)
            }
        }
    }

    fn search<T>(
        &self,
        range: &Range<u64>,
        mut visit: impl FnMut(u64, &Page) -> Option<T>,
    ) -> Option<T> {
        match self {
            Self::Open(pages) => pages.search(range, |page| visit(page.number, page)),
            Self::Fresh(pages, free) => {
                let first = free.partition_point(|gap| gap.end <= range.start);
                let gaps = free[first..].iter().take_while(|gap| gap.start < range.end);
                let mut numbers = gaps.flat_map(|gap| {
                    let (start, end) = (gap.start.max(range.start), gap.end.min(range.end));
                    start / PAGE..end.div_ceil(PAGE)
                });
                numbers.find_map(|number| match pages.get(number) {
                    None => visit(number, &EMPTY),
                    Some(_) => None,
                })
            }
        }
    }
}

impl Reach {
    pub(super) fn of(site: SiteSpec) -> Self {
        Self { base: site.address.cast_signed() + 5, bound: (site.boundaries >> 1) & 0b1111 }
    }

    /// Whether a byte of the distance must trap; 3 is the top byte.
    pub(super) fn binds(self, byte: u8) -> bool {
        self.bound & (1 << byte) != 0
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
    pub(super) fn parts(self, top: u8, traps: &[u8]) -> impl Iterator<Item = Range<u64>> {
        let bound = self.binds(2);
        let whole = (!bound).then(|| self.span(top));
        let start = self.base + offset(top);
        let segments = traps.iter().filter(move |_| bound);
        let segments = segments.map(move |&trap| range(start + i64::from(trap) * SEGMENT, SEGMENT));
        whole.into_iter().chain(segments).filter(|part| !part.is_empty())
    }

    /// An address in `part` for `size` bytes on one of the pages, with trapping low bytes.
    /// The part must settle the two high bytes.
    pub(super) fn find(
        self,
        part: &Range<u64>,
        traps: &[u8],
        size: u64,
        pages: Source<'_>,
    ) -> Option<u64> {
        if !self.binds(1) {
            return pages.search(part, |number, page| {
                self.on_page(number, page, part.clone(), traps, size)
            });
        }
        traps.iter().find_map(|&trap| {
            let (from, to) = (part.start.cast_signed(), part.end.cast_signed());
            let lowest = from - (WINDOW - 1);
            let first = lowest + ((self.base + i64::from(trap) * WINDOW - lowest) & (SEGMENT - 1));
            (first..to).step_by(SEGMENT as usize).find_map(|start| {
                let (start, end) = (start.max(from), (start + WINDOW).min(to));
                self.in_window(start.cast_unsigned()..end.cast_unsigned(), traps, size, pages)
            })
        })
    }

    fn in_window(
        self,
        window: Range<u64>,
        traps: &[u8],
        size: u64,
        pages: Source<'_>,
    ) -> Option<u64> {
        (window.start / PAGE..window.end.div_ceil(PAGE))
            .find_map(|number| self.on_page(number, pages.at(number)?, window.clone(), traps, size))
    }

    /// An address in `window` for `size` bytes on a page, with a trapping low byte.
    pub(super) fn on_page(
        self,
        number: u64,
        page: &Page,
        window: Range<u64>,
        traps: &[u8],
        size: u64,
    ) -> Option<u64> {
        let start = number * PAGE;
        let starts = window.start.max(start) - start..window.end.min(start + PAGE) - start;
        if !self.binds(0) {
            return page.fit(starts, size).map(|offset| start + offset);
        }
        traps.iter().find_map(|&trap| {
            let low = u64::from(self.low(trap));
            let first = starts.start + (low.wrapping_sub(starts.start) & 0xff);
            let mut offsets = (first..starts.end).step_by(WINDOW as usize);
            offsets
                .find_map(|offset| page.fit(offset..offset + 1, size))
                .map(|offset| start + offset)
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
