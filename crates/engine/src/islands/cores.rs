//! Cores: blocks in which the pages of many sites lie densely.

use super::PAGE;
use super::pages::{BLOCK_PAGES, Pages, holds};
use super::reach::{Reach, Source};
use std::ops::Range;

/// Bytes of a core: what one page-table page maps.
pub(super) const CORE: u64 = BLOCK_PAGES * PAGE;
/// A core with so many pages open is not offered to further chunks; strict sites need the rest.
const ENOUGH: usize = 480;
/// Hints: one for each low byte of the address, and one for sites that bind no low byte; all of
/// it once for the preferred trap alone, and once for all traps.
const HINTS: usize = 257;

/// An aligned block of address space, and its open pages.
#[derive(Clone, Debug)]
pub(super) struct Core {
    start: u64,
    /// How many of its pages [`Core::grow`] has looked at.
    seen: u64,
    /// Its open pages by index, in the order in which they were opened.
    pages: Vec<u32>,
    /// Before this place in `pages` there is no room for sites of a kind.
    hints: Vec<u16>,
}

impl Core {
    pub(super) fn new(start: u64) -> Self {
        Self { start, seen: 0, pages: Vec::new(), hints: vec![0; 2 * HINTS] }
    }

    pub(super) fn range(&self) -> Range<u64> {
        self.start..self.start + CORE
    }

    pub(super) fn has_room(&self) -> bool {
        self.seen < BLOCK_PAGES && self.pages.len() < ENOUGH
    }

    /// Notes a page that was opened; those of other blocks are none of its business.
    pub(super) fn note(&mut self, number: u64, index: u32) {
        if self.range().contains(&(number * PAGE)) {
            self.pages.push(index);
        }
    }

    /// Forgets what it believed of its pages, which `pages` may have renumbered.
    pub(super) fn renew(&mut self, pages: &Pages) {
        *self = Self::new(self.start);
        for number in self.start / PAGE..(self.start + CORE) / PAGE {
            self.pages.extend(pages.index(number));
        }
    }

    /// Opens one more page. They come spread over the core: the sooner there is one in each
    /// 64 KiB and at each place within them, the sooner strict sites find one in use.
    pub(super) fn grow(&mut self, pages: &mut Pages, free: &[Range<u64>]) -> bool {
        while self.seen < BLOCK_PAGES {
            let (round, segment) = (self.seen / 32, self.seen % 32);
            let number = self.start / PAGE + segment * 16 + (round * 5 + segment * 3) % 16;
            self.seen += 1;
            if pages.get(number).is_some() || !holds(free, &(number * PAGE..(number + 1) * PAGE)) {
                continue;
            }
            self.pages.push(pages.open(number).0);
            return true;
        }
        false
    }

    /// An address on its open pages.
    pub(super) fn find(&mut self, reach: Reach, pages: &Pages) -> Option<u64> {
        if reach.binds(1) {
            return reach.find(&self.range(), Source::Open(pages));
        }
        let low = if reach.binds(0) { usize::from(reach.low(reach.traps[0])) } else { HINTS - 1 };
        let hint = &mut self.hints[if reach.traps.len() > 1 { HINTS + low } else { low }];
        while let Some(&index) = self.pages.get(usize::from(*hint)) {
            let page = pages.at(index);
            let whole = page.number * PAGE..(page.number + 1) * PAGE;
            let found = reach.on_page(page.number, page, &whole);
            if found.is_some() {
                return found;
            }
            *hint += 1;
        }
        None
    }

    /// An address on a page that is opened for it.
    pub(super) fn find_fresh(
        &mut self,
        reach: Reach,
        pages: &mut Pages,
        free: &[Range<u64>],
    ) -> Option<u64> {
        if reach.binds(1) {
            return reach.find(&self.range(), Source::Fresh(pages, free));
        }
        while self.grow(pages, free) {
            let found = self.find(reach, pages);
            if found.is_some() {
                return found;
            }
        }
        None
    }
}
