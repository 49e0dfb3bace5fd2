//! Which functions there are: symbols and unwind entries, joined.

use object::elf;

use crate::sections::{Region, region_at};
use crate::symbols::{Symbol, Table, unversioned};
use crate::unwind::{Frame, Unwind, UnwindTable};

/// A function, before it is known where it can be hooked.
pub(crate) struct Candidate<'a> {
    pub(crate) start: u64,
    pub(crate) end: u64,
    /// Best first.
    pub(crate) names: Vec<&'a [u8]>,
    pub(crate) ifunc: bool,
    /// Whether it is entered by a call.
    pub(crate) called: bool,
}

/// What is where in the code of an object.
#[derive(Default)]
pub(crate) struct Code<'a> {
    pub(crate) regions: Vec<Region<'a>>,
    /// By address; no two start at the same one.
    pub(crate) candidates: Vec<Candidate<'a>>,
    /// Parts of functions that are entered by a jump.
    pub(crate) fragments: Vec<(u64, u64)>,
    /// Places that are entered for all we know, though no function starts there.
    pub(crate) labels: Vec<u64>,
}

impl<'a> Code<'a> {
    pub(crate) fn find(
        regions: Vec<Region<'a>>,
        tables: [Table<'a>; 2],
        unwind: &UnwindTable<'a>,
    ) -> Self {
        let hosted = |address| region_at(&regions, address).is_some_and(|region| region.hosts);
        let mut symbols: Vec<Symbol> = tables
            .iter()
            .flat_map(Table::iter)
            .filter(|symbol| symbol.defined && is_code(symbol) && hosted(symbol.address))
            .collect();
        symbols.sort_unstable_by_key(|symbol| (symbol.address, rank(symbol)));
        symbols.dedup_by_key(|symbol| (symbol.address, unversioned(symbol.name)));
        let entries: Vec<Unwind> =
            unwind.entries.iter().filter(|entry| hosted(entry.start)).copied().collect();
        let mut code = Self { regions, ..Self::default() };
        code.join(&symbols, &entries, unwind);
        code.settle_ends();
        code
    }

    /// Marks the IFUNC resolvers that relocations tell of, with or without a symbol.
    pub(crate) fn mark_resolvers(&mut self, irelative: &[(u64, u64)]) {
        for &(_, resolver) in irelative {
            let found = self.candidates.binary_search_by_key(&resolver, |function| function.start);
            if let Ok(index) = found {
                self.candidates[index].ifunc = true;
            }
        }
    }

    /// Walks both sorted lists together, one address at a time.
    fn join(&mut self, mut symbols: &[Symbol<'a>], mut entries: &[Unwind], unwind: &UnwindTable) {
        loop {
            let address = match (symbols.first(), entries.first()) {
                (Some(symbol), Some(entry)) => symbol.address.min(entry.start),
                (Some(symbol), None) => symbol.address,
                (None, Some(entry)) => entry.start,
                (None, None) => return,
            };
            let (here, rest) = split(symbols, |symbol| symbol.address == address);
            symbols = rest;
            let (entry, rest) = split(entries, |entry| entry.start == address);
            entries = rest;
            self.add(address, here, entry.first(), unwind);
        }
    }

    fn add(
        &mut self,
        address: u64,
        symbols: &[Symbol<'a>],
        entry: Option<&Unwind>,
        unwind: &UnwindTable,
    ) {
        let function = symbols.iter().any(Symbol::is_function);
        let size = symbols.iter().map(|symbol| symbol.size).max().unwrap_or(0);
        let end = match entry {
            Some(entry) if size == 0 => entry.end,
            _ => address.saturating_add(size),
        };
        let frame = entry.map(|entry| entry.frame);
        if symbols.iter().any(|symbol| is_part(symbol.name, frame)) {
            self.fragments.push((address, end));
            return;
        }
        let listed = function || matches!(frame, Some(Frame::Called | Frame::Outermost));
        if listed {
            let frame = unwind.frame_at(address).unwrap_or(Frame::Called);
            let names = symbols.iter().filter(|symbol| !function || symbol.is_function());
            self.candidates.push(Candidate {
                start: address,
                end,
                names: names.map(|symbol| unversioned(symbol.name)).collect(),
                ifunc: symbols.iter().any(Symbol::is_ifunc),
                called: frame == Frame::Called,
            });
        } else if entry.is_some() {
            self.fragments.push((address, end));
        } else {
            self.labels.push(address);
        }
    }

    /// Gives functions of unknown size the room up to the next one, and clips to the region.
    fn settle_ends(&mut self) {
        let mut starts: Vec<u64> = self.candidates.iter().map(|function| function.start).collect();
        starts.extend(self.fragments.iter().map(|fragment| fragment.0));
        starts.sort_unstable();
        let settle = |start: u64, end: u64| {
            let limit = region_at(&self.regions, start).map_or(start, |region| region.end);
            let next = starts.partition_point(|&other| other <= start);
            let next = starts.get(next).copied().unwrap_or(u64::MAX);
            if end > start { end.min(limit) } else { next.min(limit) }
        };
        for function in &mut self.candidates {
            function.end = settle(function.start, function.end);
        }
        for fragment in &mut self.fragments {
            fragment.1 = settle(fragment.0, fragment.1);
        }
    }
}

fn split<T>(items: &[T], same: impl Fn(&T) -> bool) -> (&[T], &[T]) {
    let count = items.iter().take_while(|item| same(item)).count();
    items.split_at(count)
}

/// Functions, and labels that other objects may know.
fn is_code(symbol: &Symbol) -> bool {
    let label = symbol.kind == elf::STT_NOTYPE && symbol.binding != elf::STB_LOCAL;
    (symbol.is_function() || label) && !symbol.name.is_empty()
}

/// Best name first: global, no leading underscores, short.
fn rank<'a>(symbol: &Symbol<'a>) -> (bool, bool, bool, usize, &'a [u8]) {
    let name = unversioned(symbol.name);
    let local = symbol.binding == elf::STB_LOCAL;
    (!symbol.is_function(), local, name.starts_with(b"_"), name.len(), name)
}

/// Whether a name tells that this is a part of another function: gcc's `.cold`, BOLT's `.warm`
/// and `.cold.0`. LLVM outlines cold code as functions of their own, which are called: `.cold.1`.
fn is_part(name: &[u8], frame: Option<Frame>) -> bool {
    let numbered = name.windows(6).any(|window| window == b".cold.");
    name.ends_with(b".cold") || name.ends_with(b".warm") || numbered && frame != Some(Frame::Called)
}
