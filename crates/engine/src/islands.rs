//! Finds address space for islands.
//!
//! Two questions are answered. [`AddressSpace::near`]: where are free pages that every site of an
//! object reaches? And [`Trapped`]: where can the island of each site lie so that the `rel32` that
//! leads there has a trapping byte wherever an original instruction began? A thread that stands on
//! such a boundary when the site is patched then traps, rather than run half an instruction, so
//! that sites can be patched without a look at any thread.

mod cores;
mod pages;
mod reach;
mod solve;
mod space;
#[cfg(test)]
mod tests;

pub use space::AddressSpace;

use cores::Core;
use pages::Pages;
use std::ops::Range;

/// The opcodes that trap on x86-64 whatever follows them, the one to prefer first: `int3`, then
/// those that raise #UD.
pub const TRAPS: [u8; 19] = [
    0xcc, 0x06, 0x07, 0x0e, 0x16, 0x17, 0x1e, 0x1f, 0x27, 0x2f, 0x37, 0x3f, 0x60, 0x61, 0xce, 0xd4,
    0x9a, 0xea, 0x82,
];

const PAGE: u64 = 4096;
/// Largest gap between used pages that one mapping spans: address space is cheaper than mappings.
const JOIN: u64 = 64 << 20;

/// Whether a patch has a trapping byte at each boundary (bit `i`: an original instruction starts
/// `i` bytes into the patch).
#[must_use]
pub fn is_trap_safe(patch: &[u8; 5], boundaries: u8) -> bool {
    (1..5).all(|at| boundaries & (1 << at) == 0 || TRAPS.contains(&patch[at]))
}

/// A place that is to be patched with `jmp rel32`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SiteSpec {
    /// Address of the first patched byte.
    pub address: u64,
    /// Bit `i` is set where an original instruction starts `i` bytes into the patch (1..=4).
    pub boundaries: u8,
}

/// How islands are placed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Whether the bytes that raise #UD may serve as traps; `int3` alone otherwise. Then a few
    /// sites of a library have no island, and about half of those of a program at low addresses.
    pub undefined: bool,
    /// Used pages nearer than this to each other come to lie in one mapping. Nought for processes
    /// that lock their memory, where a mapping costs all that it spans.
    pub join: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self { undefined: true, join: JOIN }
    }
}

/// Why a site has no island.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Miss {
    /// Nothing is free, or left, within the reach of the `jmp`.
    #[error("no free address space near it")]
    NoSpace,
    /// What is free within reach is not at a distance that traps where it must.
    #[error("no free address space at a trapping distance")]
    NoTrap,
    /// An island of this size does not fit in a page.
    #[error("an island has between 1 and 4096 bytes")]
    Size,
}

/// Where islands come to lie.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Placement {
    /// The island of each site, in the order of the sites. None lies across the end of a page.
    pub islands: Vec<Option<u64>>,
    /// The sites that have none, by index, and why.
    pub misses: Vec<(usize, Miss)>,
    /// What is to be mapped for them, ascending, page by page, and disjoint from all earlier
    /// mappings. Each is one linear mapping of a sparse file; most of its pages may never be used.
    pub mappings: Vec<Range<u64>>,
    /// How many pages hold islands for the first time.
    pub pages: usize,
}

/// Islands for sites, incrementally: what was placed stays, and its pages fill up.
///
/// Where mapping fails because the process mapped something else there meanwhile, extend a clone
/// that was made before.
#[derive(Clone, Debug)]
pub struct Trapped {
    size: u64,
    options: Options,
    pages: Pages,
    cores: Vec<Core>,
    mappings: Vec<Range<u64>>,
}

impl Trapped {
    /// No islands yet; each will have `size` bytes.
    #[must_use]
    pub fn new(size: u64, options: Options) -> Self {
        let pages = Pages::default();
        Self { size, options, pages, cores: Vec::new(), mappings: Vec::new() }
    }

    /// Places islands for further sites. `space` must be the process' as it is now; it may or may
    /// not show this plan's earlier mappings as taken. The new mappings are taken from it. A site
    /// that is given again gets another island.
    pub fn extend(&mut self, space: &mut AddressSpace, sites: &[SiteSpec]) -> Placement {
        let mut placement = Placement { islands: vec![None; sites.len()], ..Placement::default() };
        let mut pending: Vec<usize> = (0..sites.len()).collect();
        if !(1..=PAGE).contains(&self.size) {
            placement.misses = pending.into_iter().map(|site| (site, Miss::Size)).collect();
            return placement;
        }
        for mapping in &self.mappings {
            space.take(mapping.clone());
        }
        let pages_before = self.pages.len();
        for &room in space.heap_rooms() {
            let unmapped = space.free(room);
            let free = merged(&unmapped, &self.mappings);
            placement.misses = self.solve(&free, sites, &pending, &mut placement.islands);
            self.settle();
            for mapping in self.unmapped_pages(&unmapped) {
                space.take(mapping.clone());
                placement.mappings.push(mapping);
            }
            if placement.misses.is_empty() {
                break;
            }
            pending = placement.misses.iter().map(|miss| miss.0).collect();
        }
        placement.mappings.sort_by_key(|mapping| mapping.start);
        placement.pages = self.pages.len() - pages_before;
        placement
    }

    /// All mappings made so far, ascending.
    #[must_use]
    pub fn mappings(&self) -> &[Range<u64>] {
        &self.mappings
    }

    fn traps(&self) -> &'static [u8] {
        if self.options.undefined { &TRAPS } else { &TRAPS[..1] }
    }

    /// Joins the used pages that no mapping holds into new ones, and remembers these.
    fn unmapped_pages(&mut self, free: &[Range<u64>]) -> Vec<Range<u64>> {
        let mut joined: Vec<Range<u64>> = Vec::new();
        for number in self.pages.numbers() {
            let page = number * PAGE..(number + 1) * PAGE;
            if pages::holds(&self.mappings, &page) {
                continue;
            }
            match joined.last_mut() {
                Some(last)
                    if page.start - last.end <= self.options.join
                        && pages::holds(free, &(last.start..page.end)) =>
                {
                    last.end = page.end;
                }
                _ => joined.push(page),
            }
        }
        self.mappings.extend_from_slice(&joined);
        self.mappings.sort_by_key(|mapping| mapping.start);
        joined
    }
}

/// Places islands of `size` bytes, once and for all; see [`Trapped`].
pub fn place(
    space: &mut AddressSpace,
    sites: &[SiteSpec],
    size: u64,
    options: Options,
) -> Placement {
    Trapped::new(size, options).extend(space, sites)
}

/// Two ascending lists of ranges that do not overlap, as one; neighbours become one range.
fn merged(one: &[Range<u64>], other: &[Range<u64>]) -> Vec<Range<u64>> {
    let mut all: Vec<Range<u64>> = one.iter().chain(other).cloned().collect();
    all.sort_by_key(|range| range.start);
    all.dedup_by(|next, last| {
        let touches = last.end == next.start;
        if touches {
            last.end = next.end;
        }
        touches
    });
    all
}
