//! The pages that hold islands, byte by byte.

use super::PAGE;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::ops::Range;

/// Pages of a block: what one page-table page maps (2 MiB).
pub(super) const BLOCK_PAGES: u64 = 512;
const WORDS: usize = PAGE as usize / 64;
const CLOSED: u32 = u32::MAX;

/// Which bytes of a page are taken.
#[derive(Clone, Debug)]
pub(super) struct Page {
    pub(super) number: u64,
    taken: [u64; WORDS],
    /// All below is taken.
    first: u64,
}

/// A page of which nothing is taken.
pub(super) static EMPTY: Page = Page { number: 0, taken: [0; WORDS], first: 0 };

impl Page {
    fn new(number: u64) -> Self {
        Self { number, ..EMPTY.clone() }
    }

    fn is_empty(&self) -> bool {
        self.taken == EMPTY.taken
    }

    /// First offset in `starts` where `size` bytes are free.
    pub(super) fn fit(&self, starts: Range<u64>, size: u64) -> Option<u64> {
        let end = starts.end.min((PAGE + 1).saturating_sub(size));
        let mut offset = starts.start.max(self.first);
        while offset < end {
            match self.last_taken(offset, size) {
                None => return Some(offset),
                Some(taken) => offset = self.next_free(taken + 1),
            }
        }
        None
    }

    fn last_taken(&self, offset: u64, size: u64) -> Option<u64> {
        let (start, end) = (offset, offset + size);
        for word in (start / 64..=(end - 1) / 64).rev() {
            let from = start.max(word * 64) - word * 64;
            let to = end.min(word * 64 + 64) - word * 64;
            let mask = (u64::MAX << from) & (u64::MAX >> (64 - to));
            let taken = self.taken[word as usize] & mask;
            if taken != 0 {
                return Some(word * 64 + 63 - u64::from(taken.leading_zeros()));
            }
        }
        None
    }

    fn next_free(&self, offset: u64) -> u64 {
        let mut word = offset / 64;
        let mut shift = offset % 64;
        while let Some(&taken) = self.taken.get(word as usize) {
            let free = !taken & (u64::MAX << shift);
            if free != 0 {
                return word * 64 + u64::from(free.trailing_zeros());
            }
            (word, shift) = (word + 1, 0);
        }
        PAGE
    }

    pub(super) fn take(&mut self, offset: u64, size: u64) {
        for byte in offset..offset + size {
            self.taken[(byte / 64) as usize] |= 1 << (byte % 64);
        }
        if offset <= self.first {
            self.first = self.next_free(self.first);
        }
    }
}

/// All open pages, found by number.
#[derive(Clone, Debug, Default)]
pub(super) struct Pages {
    pages: Vec<Page>,
    blocks: HashMap<u64, Block, BuildHasherDefault<Mix>>,
}

/// The open pages of a block.
#[derive(Clone, Debug)]
struct Block {
    open: [u64; BLOCK_PAGES as usize / 64],
    index: Box<[u32; BLOCK_PAGES as usize]>,
}

impl Pages {
    /// Index of the open page of this number.
    pub(super) fn index(&self, number: u64) -> Option<u32> {
        let block = self.blocks.get(&(number / BLOCK_PAGES))?;
        Some(block.index[(number % BLOCK_PAGES) as usize]).filter(|&index| index != CLOSED)
    }

    /// The open page of this number.
    pub(super) fn get(&self, number: u64) -> Option<&Page> {
        self.index(number).map(|index| self.at(index))
    }

    pub(super) fn at(&self, index: u32) -> &Page {
        &self.pages[index as usize]
    }

    /// Index of the page, and whether it was opened just now.
    pub(super) fn open(&mut self, number: u64) -> (u32, bool) {
        let block = self.blocks.entry(number / BLOCK_PAGES).or_insert_with(|| Block {
            open: [0; BLOCK_PAGES as usize / 64],
            index: Box::new([CLOSED; BLOCK_PAGES as usize]),
        });
        let within = (number % BLOCK_PAGES) as usize;
        let fresh = block.index[within] == CLOSED;
        if fresh {
            block.open[within / 64] |= 1 << (within % 64);
            block.index[within] = self.pages.len() as u32;
            self.pages.push(Page::new(number));
        }
        (block.index[within], fresh)
    }

    pub(super) fn take(&mut self, index: u32, offset: u64, size: u64) {
        self.pages[index as usize].take(offset, size);
    }

    /// First answer for the open pages that `range` touches, ascending. Of each sixteen aligned
    /// pages, those are looked at whose bit is set in `places`.
    pub(super) fn search<T>(
        &self,
        range: &Range<u64>,
        places: u16,
        mut visit: impl FnMut(&Page) -> Option<T>,
    ) -> Option<T> {
        let (first, last) = (range.start / PAGE, (range.end - 1) / PAGE);
        let places = u64::from(places) * 0x0001_0001_0001_0001;
        for number in first / BLOCK_PAGES..=last / BLOCK_PAGES {
            let Some(block) = self.blocks.get(&number) else { continue };
            let base = number * BLOCK_PAGES;
            let within = first.max(base) - base..=last.min(base + BLOCK_PAGES - 1) - base;
            for word in within.start() / 64..=within.end() / 64 {
                let from = (*within.start()).max(word * 64) - word * 64;
                let to = (*within.end()).min(word * 64 + 63) - word * 64;
                let mask = (u64::MAX << from) & (u64::MAX >> (63 - to));
                let mut open = block.open[word as usize] & mask & places;
                while open != 0 {
                    let index = block.index[(word * 64) as usize + open.trailing_zeros() as usize];
                    if let Some(answer) = visit(self.at(index)) {
                        return Some(answer);
                    }
                    open &= open - 1;
                }
            }
        }
        None
    }

    /// How many pages are open.
    pub(super) fn len(&self) -> usize {
        self.pages.len()
    }

    /// The numbers of the open pages, ascending.
    pub(super) fn numbers(&self) -> Vec<u64> {
        let mut numbers: Vec<u64> = self.pages.iter().map(|page| page.number).collect();
        numbers.sort_unstable();
        numbers
    }

    /// Closes the pages that hold nothing.
    pub(super) fn close_empty(&mut self) {
        let pages = std::mem::take(self).pages;
        for page in pages.into_iter().filter(|page| !page.is_empty()) {
            let (index, _) = self.open(page.number);
            self.pages[index as usize] = page;
        }
    }
}

/// Whether one of these ascending ranges holds all of `inner`.
pub(super) fn holds(ranges: &[Range<u64>], inner: &Range<u64>) -> bool {
    let at = ranges.partition_point(|range| range.end <= inner.start);
    ranges.get(at).is_some_and(|range| range.start <= inner.start && inner.end <= range.end)
}

/// Spreads block numbers; they come from the process' own layout, so nobody chooses them to
/// collide.
#[derive(Clone, Debug, Default)]
pub(super) struct Mix(u64);

impl Hasher for Mix {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&byte| self.write_u64(u64::from(byte)));
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = (self.0 ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(20);
    }
}
