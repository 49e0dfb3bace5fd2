//! Placements are checked against what they promise, by other means than the search uses.

use super::*;
use sledge_discover::{Object, PATCH_BYTES};
use std::path::{Path, PathBuf};

const EXECUTABLE: u64 = 0x5555_5555_4000;
const LOW: u64 = 0x40_0000;
const LIBRARY: u64 = 0x7fff_f7c0_0000;
const STACK: u64 = 0x7fff_fffd_d000;

/// A reproducible source of numbers (SplitMix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    /// Sites in a text, with whatever boundaries.
    fn sites(&mut self, text: &Range<u64>, count: u64) -> Vec<SiteSpec> {
        let step = (text.end - text.start) / count;
        let sites = (0..count).map(|index| SiteSpec {
            address: text.start + index * step + self.below(step - 4),
            boundaries: (self.below(16) << 1) as u8,
        });
        sites.collect()
    }
}

/// The `jmp` of a site, if it reaches its island.
fn patch(site: SiteSpec, island: u64) -> Option<[u8; PATCH_BYTES]> {
    let distance = i128::from(island) - i128::from(site.address) - PATCH_BYTES as i128;
    let [a, b, c, d] = i32::try_from(distance).ok()?.to_le_bytes();
    Some([0xe9, a, b, c, d])
}

fn is_legal(site: SiteSpec, island: u64, size: u64) -> bool {
    let safe = patch(site, island).is_some_and(|patch| is_trap_safe(&patch, site.boundaries));
    safe && island / PAGE == (island + size - 1) / PAGE
}

fn overlap(one: &Range<u64>, other: &Range<u64>) -> bool {
    one.start < other.end && other.start < one.end
}

/// Checks all that a placement promises; `before` is the address space as it was.
fn check(before: &AddressSpace, sites: &[SiteSpec], size: u64, placement: &Placement) {
    let Placement { islands, misses, mappings, .. } = placement;
    assert_eq!(islands.len(), sites.len());
    let missed: Vec<usize> = (0..sites.len()).filter(|&site| islands[site].is_none()).collect();
    assert_eq!(missed, misses.iter().map(|miss| miss.0).collect::<Vec<_>>());
    for (site, island) in sites.iter().zip(islands) {
        let Some(island) = *island else { continue };
        assert!(is_legal(*site, island, size), "{site:x?} {island:x}");
    }
    let mut placed: Vec<u64> = islands.iter().flatten().copied().collect();
    placed.sort_unstable();
    assert!(placed.is_sorted_by(|one, next| one + size <= *next), "islands overlap");

    let free = before.free(if before.heap_rooms().len() > 1 { 64 << 20 } else { 0 });
    for mapping in mappings {
        assert_eq!((mapping.start % PAGE, mapping.end % PAGE), (0, 0));
        assert!(free.iter().any(|gap| gap.start <= mapping.start && mapping.end <= gap.end));
    }
    assert!(mappings.is_sorted_by(|one, next| one.end <= next.start), "{mappings:x?}");
}

/// Every island lies in one of the plan's mappings.
fn check_mapped(plan: &Trapped, islands: &[Option<u64>]) {
    for island in islands.iter().flatten() {
        assert!(plan.mappings().iter().any(|mapping| mapping.contains(island)), "{island:x}");
    }
}

/// Whether any byte of these pages would have done for a site: looks at each.
fn brute_force(
    free: &[Range<u64>],
    placement: &Placement,
    size: u64,
    site: SiteSpec,
) -> Option<u64> {
    let islands = || placement.islands.iter().flatten();
    free.iter().flat_map(Clone::clone).find(|&place| {
        let wanted = place..place + size;
        let apart = |island: &u64| !overlap(&wanted, &(*island..*island + size));
        is_legal(site, place, size) && islands().all(apart)
    })
}

/// A text with nothing else around it.
fn space_around(text: &Range<u64>) -> AddressSpace {
    let mut space = AddressSpace::default();
    space.take(text.clone());
    space
}

/// An executable, a library, a heap and a stack.
fn usual_layout(executable: &Range<u64>, library: &Range<u64>) -> AddressSpace {
    let mut space = AddressSpace::new(vec![executable.clone(), library.clone()]);
    space.keep_heap(executable.end + 0x2_1000);
    space.keep_stack(STACK, 8 << 20);
    space
}

#[test]
fn only_trapping_bytes_are_safe_at_boundaries() {
    let patch = [0xe9, 0xcc, 0x90, 0x06, 0xea];
    for boundaries in 0..=255 {
        assert_eq!(is_trap_safe(&patch, boundaries), boundaries & 0b100 == 0);
    }
    assert_eq!(TRAPS[0], 0xcc);
    for (at, trap) in TRAPS.iter().enumerate() {
        assert!(!TRAPS[..at].contains(trap));
        assert!(is_trap_safe(&[0xe9, *trap, *trap, *trap, *trap], 0b11110));
    }
}

#[test]
fn all_patterns_fit_wherever_the_text_is() {
    let mut random = Random(1);
    for start in [LOW, 0x1000_0000, EXECUTABLE, 0x2aaa_aaaa_b000] {
        for size in [1, 5, 16, 56, 64] {
            let executable = start..start + 0x80_0000;
            let library = LIBRARY..LIBRARY + 0x100_0000;
            let before = usual_layout(&executable, &library);
            let mut sites = random.sites(&executable, 1500);
            sites.extend(random.sites(&library, 3000));
            let mut plan = Trapped::new(size, Options::default());
            let mut space = before.clone();
            let placement = plan.extend(&mut space, &sites);
            assert_eq!(placement.misses, [], "text at {start:x}, islands of {size}");
            check(&before, &sites, size, &placement);
            check_mapped(&plan, &placement.islands);
            for mapping in &placement.mappings {
                assert!(!space.free(0).iter().any(|gap| overlap(gap, mapping)), "left free");
            }
        }
    }
}

#[test]
fn each_pattern_alone_fits_at_any_address() {
    let mut random = Random(2);
    for boundaries in 0..32 {
        for _ in 0..40 {
            let address = 0x20_0000 + random.below((1 << 47) - 0x1_0000_0000);
            let text = address / PAGE * PAGE..(address / PAGE + 2) * PAGE;
            let before = space_around(&text);
            let site = SiteSpec { address, boundaries };
            let placement = place(&mut before.clone(), &[site], 16, Options::default());
            check(&before, &[site], 16, &placement);
            assert_eq!((placement.misses.len(), placement.pages), (0, 1), "{site:x?}");
        }
    }
}

/// A space of which only some pages near a text are free.
fn crowded(random: &mut Random, text: &Range<u64>, pages: u64) -> AddressSpace {
    let mut taken = Vec::new();
    let mut from = 0;
    let mut free: Vec<u64> = (0..pages)
        .map(|_| {
            let distance = random.next().cast_signed() >> 32;
            let page = (text.start.cast_signed() + distance).max(0).cast_unsigned() / PAGE * PAGE;
            page.max(0x11_0000)
        })
        .filter(|page| !overlap(&(*page..page + PAGE), text))
        .collect();
    free.sort_unstable();
    free.dedup();
    for page in free {
        taken.push(from..page);
        from = page + PAGE;
    }
    taken.push(from..u64::MAX);
    AddressSpace::new(taken)
}

#[test]
fn in_crowded_maps_whatever_fits_is_found() {
    let mut random = Random(3);
    let (mut missed, mut found) = (0, 0);
    for round in 0..60 {
        let start = [LOW, EXECUTABLE, LIBRARY][round % 3];
        let text = start..start + 0x10_0000;
        let pages = 1 + random.below(12);
        let before = crowded(&mut random, &text, pages);
        let size = [4, 16, 64, 1000][round % 4];
        let sites = random.sites(&text, 60);
        let placement = place(&mut before.clone(), &sites, size, Options::default());
        check(&before, &sites, size, &placement);
        let free = before.free(0);
        for &(site, _) in &placement.misses {
            assert_eq!(brute_force(&free, &placement, size, sites[site]), None, "{round}");
        }
        missed += placement.misses.len();
        found += placement.islands.iter().flatten().count();
    }
    assert!(missed > 500 && found > 500, "{missed} misses, {found} islands");
}

#[test]
fn the_last_byte_of_the_last_page_is_used() {
    let text = LOW..LOW + 0x10_0000;
    let page = LOW + 0x1000_0000;
    let before = AddressSpace::new(vec![0..page, page + PAGE..u64::MAX]);
    let sites: Vec<SiteSpec> =
        (0..257).map(|at| SiteSpec { address: text.start + at * 64, boundaries: 1 }).collect();
    let placement = place(&mut before.clone(), &sites, 16, Options::default());
    check(&before, &sites, 16, &placement);
    assert_eq!(placement.islands.iter().flatten().count(), 256);
    assert_eq!(placement.misses, [(256, Miss::NoSpace)]);
    assert_eq!((placement.mappings.len(), placement.mappings[0].start), (1, page));
}

#[test]
fn a_miss_says_why() {
    let site = |boundaries| SiteSpec { address: LOW, boundaries };
    // 16 MiB above the text: the top byte is 0 or 1.
    let page = LOW + 0x100_0000;
    let one_page = AddressSpace::new(vec![0..page, page + PAGE..u64::MAX]);
    let sites = [site(0), site(0b10000), SiteSpec { address: 1 << 40, boundaries: 0 }];
    let placement = place(&mut one_page.clone(), &sites, 16, Options::default());
    assert_eq!(placement.misses, [(1, Miss::NoTrap), (2, Miss::NoSpace)]);
    for size in [0, PAGE + 1] {
        let placement = place(&mut one_page.clone(), &sites[..1], size, Options::default());
        assert_eq!(placement.misses, [(0, Miss::Size)]);
    }
}

#[test]
fn addresses_that_no_program_has_are_misses() {
    let addresses = [0, 1, (1 << 47) - 1, 1 << 47, u64::MAX - 4, u64::MAX];
    let sites = addresses.map(|address| SiteSpec { address, boundaries: 0xff });
    let before = AddressSpace::default();
    let placement = place(&mut before.clone(), &sites, 16, Options::default());
    check(&before, &sites, 16, &placement);
    assert_eq!(placement.misses, [3, 4, 5].map(|site| (site, Miss::NoSpace)));
}

#[test]
fn a_large_heap_gives_up_some_of_its_room() {
    let text = LOW..LOW + 0x10_0000;
    let heap_end = 900_000_000_u64.next_multiple_of(PAGE);
    let mut before = AddressSpace::new(vec![text.clone(), text.end..heap_end]);
    before.keep_heap(heap_end);
    let sites = Random(4).sites(&text, 500);
    let placement = place(&mut before.clone(), &sites, 16, Options::default());
    check(&before, &sites, 16, &placement);
    assert_eq!(placement.misses, []);
    let half = heap_end + (512 << 20);
    let free = before.free(1 << 30);
    let own_room = |mapping: &Range<u64>| !pages::holds(&free, mapping);
    assert!(placement.mappings.iter().any(own_room), "needs the heap's room");
    assert!(placement.mappings.iter().all(|it| it.start >= half || it.end <= text.start));
}

#[test]
fn int3_alone_serves_where_asked_unless_it_leads_below_nought_or_across_pages() {
    let executable = LOW..LOW + 0x40_0000;
    let library = LIBRARY..LIBRARY + 0x40_0000;
    let before = usual_layout(&executable, &library);
    let mut random = Random(5);
    let mut sites = random.sites(&library, 4000);
    sites.extend(random.sites(&executable, 4000));
    let options = Options { undefined: false, ..Options::default() };
    let placement = place(&mut before.clone(), &sites, 16, options);
    check(&before, &sites, 16, &placement);
    let mut crossing = 0;
    for (site, island) in sites.iter().zip(&placement.islands) {
        let below = executable.contains(&site.address) && site.boundaries & 0b10000 != 0;
        let offset = (site.address + 5 + 0xcccc) % PAGE;
        let crosses = site.boundaries & 0b110 == 0b110 && offset > PAGE - 16;
        crossing += usize::from(crosses && !below);
        assert_eq!(island.is_none(), below || crosses, "{site:x?}");
        let patch = island.and_then(|island| patch(*site, island)).unwrap_or([0xcc; 5]);
        assert!((1..5).all(|at| site.boundaries & (1 << at) == 0 || patch[at] == 0xcc));
    }
    assert!(crossing > 0, "no site of that kind");
}

#[test]
fn mappings_hold_used_pages_alone_where_asked() {
    let text = LIBRARY..LIBRARY + 0x40_0000;
    let before = space_around(&text);
    let sites = Random(6).sites(&text, 1000);
    let joined = place(&mut before.clone(), &sites, 16, Options::default());
    let options = Options { join: 0, ..Options::default() };
    let apart = place(&mut before.clone(), &sites, 16, options);
    check(&before, &sites, 16, &apart);
    assert_eq!(joined.islands, apart.islands);
    let spanned: u64 = apart.mappings.iter().map(|mapping| mapping.end - mapping.start).sum();
    assert_eq!(spanned, apart.pages as u64 * PAGE);
    assert!(joined.mappings.len() * 4 < apart.mappings.len());
}

#[test]
fn a_plan_grows_and_keeps_what_it_has() {
    let mut random = Random(7);
    let executable = EXECUTABLE..EXECUTABLE + 0x40_0000;
    let library = LIBRARY..LIBRARY + 0x40_0000;
    let mut plan = Trapped::new(16, Options::default());
    let (mut sites, mut islands) = (Vec::new(), Vec::new());
    for round in 0..12 {
        // What /proc says anew, with a library more each time.
        let loaded = LIBRARY - (round + 1) * 0x100_0000;
        let loaded = loaded..loaded + 0x40_0000;
        let mut space = usual_layout(&executable, &library);
        (0..=round)
            .for_each(|n| space.take(LIBRARY - (n + 1) * 0x100_0000..LIBRARY - n * 0x100_0000));
        if round % 2 == 0 {
            plan.mappings().iter().for_each(|mapping| space.take(mapping.clone()));
        }
        let earlier = plan.mappings().to_vec();
        let text = [&executable, &library, &loaded][random.below(3) as usize];
        let more = random.sites(text, 700);
        let mut before = space.clone();
        earlier.iter().for_each(|mapping| before.take(mapping.clone()));
        let placement = plan.extend(&mut space, &more);
        assert_eq!(placement.misses, []);
        check(&before, &more, 16, &placement);
        sites.extend(more);
        islands.extend(placement.islands);
        check_mapped(&plan, &islands);
    }
    let all = Placement { islands, ..Placement::default() };
    check(&AddressSpace::default(), &sites, 16, &all);
    assert!(plan.mappings().len() < 30, "{:x?}", plan.mappings());
}

#[test]
fn few_more_sites_need_no_further_mapping() {
    let text = LIBRARY..LIBRARY + 0x40_0000;
    let mut space = space_around(&text);
    let mut plan = Trapped::new(16, Options::default());
    let mut random = Random(8);
    let first = plan.extend(&mut space, &random.sites(&text, 20_000));
    let second = plan.extend(&mut space, &random.sites(&text, 100));
    assert_eq!((second.misses, second.mappings), (vec![], vec![]));
    assert!(second.pages * 20 < first.pages, "{} pages, then {}", first.pages, second.pages);
}

/// The sites of an object at an address; where the object lies.
fn sites_of(path: &Path, place: u64) -> (Vec<SiteSpec>, Range<u64>) {
    let object = Object::open(path).expect("an object");
    let start = object.segments.iter().map(|segment| segment.address).min().expect("segments");
    let end = object.segments.iter().map(|segment| segment.address + segment.memory_size).max();
    let bias = if start < 0x1_0000 { place } else { 0 };
    let found = object.functions.iter().filter_map(|function| function.verdict.as_ref().ok());
    let sites =
        found.map(|site| SiteSpec { address: bias + site.address, boundaries: site.boundaries });
    let end = (bias + end.expect("segments")).next_multiple_of(PAGE);
    (sites.collect(), (bias + start) / PAGE * PAGE..end)
}

fn c_library() -> PathBuf {
    let maps = std::fs::read_to_string("/proc/self/maps").expect("maps");
    let paths = maps.lines().filter_map(|line| line.split_whitespace().nth(5));
    let library = paths.into_iter().find(|path| path.contains("/libc.so") || path.contains("musl"));
    PathBuf::from(library.expect("a C library"))
}

#[test]
fn every_site_of_real_programs_fits() {
    let (library, library_range) = sites_of(&c_library(), LIBRARY);
    let own = std::env::current_exe().expect("own path");
    let others = ["/bin/bash", "/usr/bin/python3", "/usr/bin/node"].map(PathBuf::from);
    let others = others.into_iter().chain(std::env::var_os("CARGO").map(PathBuf::from));
    for path in others.filter(|path| path.exists()).chain([own]) {
        let (mut sites, range) = sites_of(&path, EXECUTABLE);
        sites.extend(&library);
        let before = usual_layout(&range, &library_range);
        let placement = place(&mut before.clone(), &sites, 16, Options::default());
        check(&before, &sites, 16, &placement);
        assert!(sites.len() > 1000, "{}: {} sites", path.display(), sites.len());
        assert_eq!(placement.misses, [], "{}", path.display());
    }
}
