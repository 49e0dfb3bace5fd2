//! The search: strict sites first, into few dense cores.

use super::cores::{CORE, Core};
use super::pages::{Pages, holds};
use super::reach::{Reach, Source, common};
use super::{Miss, PAGE, SiteSpec, Trapped};
use std::cmp::Reverse;
use std::ops::Range;

/// Text whose sites share their cores. A top byte's 16 MiB, less this, is common to all of them.
const CHUNK: u64 = 4 << 20;
/// Above are shared libraries, and above those only the stack.
const LIBRARIES: u64 = 0x6000_0000_0000;
/// Where user space ends.
const USER_END: u64 = 1 << 47;

/// Sites near each other.
#[derive(Debug)]
struct Chunk {
    first: u64,
    last: u64,
    sites: u64,
    /// Cores by index, with the top byte that leads there.
    cores: Vec<(usize, u8)>,
    /// Top bytes that led to an island before.
    tops: Vec<u8>,
}

/// One search.
struct Solver<'a> {
    plan: &'a mut Trapped,
    free: &'a [Range<u64>],
    traps: &'static [u8],
}

impl Trapped {
    /// Finds islands in `free` for the `pending` sites; the misses are returned.
    pub(super) fn solve(
        &mut self,
        free: &[Range<u64>],
        sites: &[SiteSpec],
        pending: &[usize],
        islands: &mut [Option<u64>],
    ) -> Vec<(usize, Miss)> {
        let traps = self.traps();
        let mut solver = Solver { plan: self, free, traps };
        let user = |&site: &usize| sites[site].address < USER_END;
        let (mut order, outside): (Vec<usize>, Vec<usize>) =
            pending.iter().copied().partition(user);
        let mut misses: Vec<_> = outside.into_iter().map(|site| (site, Miss::NoSpace)).collect();

        order.sort_unstable_by_key(|&site| sites[site].address);
        let mut chunks = chunks(order.iter().map(|&site| sites[site].address));
        for chunk in &mut chunks {
            solver.reserve(chunk);
        }
        order.sort_by_key(|&site| Reverse(strictness(sites[site].boundaries)));
        for site in order {
            let spec = sites[site];
            let chunk = chunks.partition_point(|chunk| chunk.last < spec.address);
            islands[site] = solver.place(&mut chunks[chunk], spec);
            if islands[site].is_none() {
                misses.push((site, solver.reason(spec)));
            }
        }
        misses.sort_unstable_by_key(|miss| miss.0);
        misses
    }

    /// Closes the pages that were opened in vain.
    pub(super) fn settle(&mut self) {
        self.pages.close_empty();
        for core in &mut self.cores {
            core.renew(&self.pages);
        }
    }
}

impl Solver<'_> {
    /// Gives a chunk as many open pages as its sites will need, in cores that it reaches.
    fn reserve(&mut self, chunk: &mut Chunk) {
        let mut wanted = (chunk.sites * self.plan.size * 21 / 20).div_ceil(PAGE);
        let tops = preference(self.traps, chunk.first);
        // Where no trapping top byte leads to a core, any serves the sites that need none.
        let others: Vec<u8> = (0..=255).filter(|top| !tops.contains(top)).collect();
        while wanted > 0 {
            let found = self.core(chunk, &tops);
            let found = match found {
                None if chunk.cores.is_empty() => self.core(chunk, &others),
                found => found,
            };
            let Some((core, top)) = found else { break };
            if !chunk.cores.contains(&(core, top)) {
                chunk.cores.push((core, top));
            }
            if !chunk.tops.contains(&top) {
                chunk.tops.push(top);
            }
            let core = &mut self.plan.cores[core];
            while wanted > 0 && core.has_room() && core.grow(&mut self.plan.pages, self.free) {
                wanted -= 1;
            }
        }
    }

    /// A core with room that all of a chunk reaches by one of these top bytes: one that exists, or
    /// else a new one, as high as possible, so that the chunks that follow reach it too.
    fn core(&mut self, chunk: &Chunk, tops: &[u8]) -> Option<(usize, u8)> {
        let cores = &mut self.plan.cores;
        let within = |range: &Range<u64>, outer: &Range<u64>| {
            outer.start <= range.start && range.end <= outer.end
        };
        let spans = || tops.iter().map(|&top| (common(chunk.first, chunk.last, top), top));
        let existing = spans().find_map(|(span, top)| {
            let fits = |core: &Core| core.has_room() && within(&core.range(), &span);
            Some((cores.iter().position(fits)?, top))
        });
        if existing.is_some() {
            return existing;
        }
        let (start, top) = spans().find_map(|(span, top)| {
            let mut starts = (span.start.div_ceil(CORE)..span.end / CORE).rev().map(|n| n * CORE);
            let fresh = |start: &u64| {
                holds(self.free, &(*start..*start + CORE))
                    && cores.iter().all(|core| core.range().start != *start)
            };
            Some((starts.find(fresh)?, top))
        })?;
        let mut core = Core::new(start);
        core.renew(&self.plan.pages);
        cores.push(core);
        Some((cores.len() - 1, top))
    }

    /// The first place that a series of ever wider searches finds; it is taken.
    fn place(&mut self, chunk: &mut Chunk, site: SiteSpec) -> Option<u64> {
        let int3 = Reach::of(site, &self.traps[..1], self.plan.size);
        let all = Reach::of(site, self.traps, self.plan.size);
        let island = if all.binds(2) {
            // Each trap leads to another place: what is in use serves better than a page of its own.
            self.on_open_pages(chunk, int3)
                .or_else(|| self.on_open_pages(chunk, all))
                .or_else(|| self.anywhere(chunk, int3))
        } else {
            self.in_cores(chunk, int3)
                .or_else(|| self.in_grown_cores(chunk, int3))
                .or_else(|| self.in_cores(chunk, all))
        };
        let island = island.or_else(|| self.anywhere(chunk, all))?;
        self.take(island);
        let top = all.top(island);
        if !chunk.tops.contains(&top) {
            chunk.tops.push(top);
        }
        Some(island)
    }

    fn take(&mut self, island: u64) {
        let number = island / PAGE;
        let (index, fresh) = self.plan.pages.open(number);
        self.plan.pages.take(index, island % PAGE, self.plan.size);
        if fresh {
            self.plan.cores.iter_mut().for_each(|core| core.note(number, index));
        }
    }

    /// Open pages of the chunk's cores.
    fn in_cores(&mut self, chunk: &Chunk, reach: Reach) -> Option<u64> {
        let Trapped { pages, cores, .. } = &mut *self.plan;
        allowed_cores(chunk, reach).find_map(|core| cores[core].find(reach, pages))
    }

    /// Pages of the chunk's cores that are opened for it.
    fn in_grown_cores(&mut self, chunk: &Chunk, reach: Reach) -> Option<u64> {
        let Trapped { pages, cores, .. } = &mut *self.plan;
        let mut allowed = allowed_cores(chunk, reach);
        allowed.find_map(|core| cores[core].find_fresh(reach, pages, self.free))
    }

    /// Open pages wherever the chunk has islands.
    fn on_open_pages(&self, chunk: &Chunk, reach: Reach) -> Option<u64> {
        let open = Source::Open(&self.plan.pages);
        let mut tops = chunk.tops.iter().filter(|top| reach.allows(**top));
        tops.find_map(|&top| self.with_top(reach, top, open))
    }

    /// All pages that the site can reach: where the chunk has islands already, then elsewhere.
    fn anywhere(&self, chunk: &Chunk, reach: Reach) -> Option<u64> {
        let is_trap = |top: &u8| reach.traps.contains(top);
        let others = reach.traps.iter().copied().chain((0..=255).filter(|top| !is_trap(top)));
        let others = others.filter(|top| !chunk.tops.contains(top));
        let tops = chunk.tops.iter().copied().chain(others);
        let pages: &Pages = &self.plan.pages;
        tops.filter(|&top| reach.allows(top)).find_map(|top| {
            self.with_top(reach, top, Source::Open(pages))
                .or_else(|| self.with_top(reach, top, Source::Fresh(pages, self.free)))
        })
    }

    fn with_top(&self, reach: Reach, top: u8, pages: Source<'_>) -> Option<u64> {
        let mut parts = reach.parts(top).filter(|part| self.is_partly_free(part));
        parts.find_map(|part| reach.find(&part, pages))
    }

    fn is_partly_free(&self, part: &Range<u64>) -> bool {
        let at = self.free.partition_point(|gap| gap.end <= part.start);
        self.free.get(at).is_some_and(|gap| gap.start < part.end)
    }

    fn reason(&self, site: SiteSpec) -> Miss {
        const FARTHEST: u64 = 1 << 31;
        let near = site.address.saturating_sub(FARTHEST)..site.address + FARTHEST;
        let bound = site.boundaries & 0b11110 != 0;
        if bound && self.is_partly_free(&near) { Miss::NoTrap } else { Miss::NoSpace }
    }
}

/// The chunk's cores whose top byte will do.
fn allowed_cores(chunk: &Chunk, reach: Reach) -> impl Iterator<Item = usize> {
    chunk.cores.iter().filter(move |core| reach.allows(core.1)).map(|core| core.0)
}

/// Cuts ascending addresses into chunks.
fn chunks(addresses: impl Iterator<Item = u64>) -> Vec<Chunk> {
    let mut chunks: Vec<Chunk> = Vec::new();
    for address in addresses {
        match chunks.last_mut() {
            Some(chunk) if address - chunk.first < CHUNK => {
                chunk.last = address;
                chunk.sites += 1;
            }
            _ => chunks.push(Chunk {
                first: address,
                last: address,
                sites: 1,
                cores: Vec::new(),
                tops: Vec::new(),
            }),
        }
    }
    chunks
}

/// The traps as top bytes, best first: the preferred one, then those that lead away from where
/// mappings will be made, which is down from an executable and up from a library.
fn preference(traps: &[u8], address: u64) -> Vec<u8> {
    let mut tops = traps.to_vec();
    let upwards = address >= LIBRARIES;
    tops[1..].sort_by_key(|top| (top.cast_signed() > 0) != upwards);
    tops
}

/// How much the boundaries take away: those in the middle cost most, for they decide which pages
/// will do.
fn strictness(boundaries: u8) -> u32 {
    let weight = |at: u8, weight: u32| if boundaries & (1 << at) == 0 { 0 } else { weight };
    let both = if boundaries & 0b1100 == 0b1100 { 50 } else { 0 };
    weight(1, 8) + weight(2, 40) + weight(3, 30) + weight(4, 4) + both
}
