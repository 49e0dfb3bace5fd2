//! Generate and place what a site needs, once: its island, its thunk, the cell between thunk and
//! trampoline. All of it stays for ever; a thread or a saved context may come back to it.

use crate::client::nobody;
use crate::code::{self, Use, Window};
use crate::hooks::Hooked;
use crate::objects::{self, Loaded};
use sledge_discover::site::{Rung, Site};
use sledge_engine::dispatch::{
    Displaced, EntryThunk, Gate, ThunkError, direct_thunk, entry_thunk, lone_thunk,
};
use sledge_engine::emit::reaches;
use sledge_engine::islands::{AddressSpace, Miss, Options, SiteSpec, Trapped};
use sledge_engine::thunk::{ISLAND_BYTES, island, island_through};
use sledge_live::patch::{LiveSite, PatchError};
use std::io;
use std::ops::Range;

/// Bytes for a thunk in most cases; what is longer takes more.
const THUNK_BYTES: u64 = 96;
/// Thunks begin with a line of the cache: a call is a cycle faster.
const LINE: u64 = 64;
/// Bytes that are mapped for thunks at once, at least.
const BLOCK: u64 = 64 << 10;
/// The address of the trampoline, and where the island leads.
const CELL_BYTES: u64 = 16;
const WAY: u64 = 8;
/// How often new mappings are tried when others take the place first.
const TRIES: usize = 4;

/// Why a site that could be patched is not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SiteError {
    /// What lies there is not what the object's file says, or no safe jump is possible.
    #[error(transparent)]
    Patch(#[from] PatchError),
    /// Its first instructions cannot run where its thunk is.
    #[error(transparent)]
    Thunk(#[from] ThunkError),
    /// No place for its island.
    #[error(transparent)]
    Island(#[from] Miss),
    /// While patching.
    #[error(transparent)]
    Refused(#[from] sledge_live::protocol::Refusal),
    /// Another site's bytes are its, too.
    #[error("its bytes belong to another function, too")]
    Overlap,
}

/// A site, where it lies in this process.
#[derive(Clone, Debug)]
pub(crate) struct Spot {
    /// With addresses as mapped.
    pub(crate) site: Site,
    /// The function's own address.
    pub(crate) function: u64,
}

impl Spot {
    pub(crate) fn new(loaded: &Loaded, function: usize) -> Option<Self> {
        let mut site = loaded.object.functions.get(function)?.verdict.clone().ok()?;
        site.address = site.address.wrapping_add(loaded.bias);
        site.hop = site.hop.map(|hop| hop.wrapping_add(loaded.bias));
        Some(Self { site, function: loaded.address(function) })
    }

    /// Where the jump with 32 bits of distance lies.
    fn spec(&self) -> SiteSpec {
        match (self.site.rung, self.site.hop) {
            (Rung::Hop, Some(hop)) => SiteSpec { address: hop, boundaries: 0 },
            _ => SiteSpec { address: self.site.address, boundaries: self.site.boundaries },
        }
    }

    fn displaced(&self) -> Displaced<'_> {
        let Site { address, displaced, .. } = &self.site;
        let resume = address + displaced.len() as u64;
        Displaced { function: self.function, address: *address, bytes: displaced, resume }
    }
}

/// What was made for a site.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// Holds the address of the trampoline.
    pub(crate) cell: u64,
    /// Where the site's own thunk begins.
    pub(crate) entry: u64,
    /// The function without what is attached to it.
    pub(crate) body: u64,
    direct: Option<Direct>,
    /// Its thunk for a callback that is alone.
    pub(crate) lone: Option<Lone>,
    /// Its cell for calls whose return may be hooked.
    pub(crate) hooked: Option<Hooked>,
    /// Where its island leads.
    way: Way,
}

impl Place {
    fn new(cell: u64, entry: u64, body: u64) -> Self {
        code::store(cell + WAY, entry);
        Self { cell, entry, body, direct: None, lone: None, hooked: None, way: Way::Callbacks }
    }

    /// Lets its calls run this, whichever way they come.
    pub(crate) fn call(&self, called: &Called) {
        code::store(self.cell, called.target);
        if let Some(hooked) = self.hooked {
            code::store(hooked.cell, called.hook.unwrap_or(called.target));
        }
        if let Some(lone) = self.lone {
            // A thread may be on its way there since before others came: it calls what it would
            // have called then, unless that is gone.
            if called.lone.is_some() || !called.present.contains(&code::load(lone.cell)) {
                code::store(lone.cell, called.lone.unwrap_or_else(nobody));
            }
        }
    }
}

/// What the calls of a site run.
#[derive(Clone, Debug)]
pub(crate) struct Called {
    /// The trampoline.
    pub(crate) target: u64,
    /// That which hooks returns.
    pub(crate) hook: Option<u64>,
    /// The callback, if it is alone and a thunk can call it.
    pub(crate) lone: Option<u64>,
    /// All callbacks, as thunks would call them.
    pub(crate) present: Vec<u64>,
}

impl Called {
    /// Just a trampoline.
    pub(crate) fn only(target: u64) -> Self {
        Self { target, hook: None, lone: None, present: Vec::new() }
    }
}

/// The thunk of a site that calls a callback itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lone {
    pub(crate) entry: u64,
    /// The function without what is attached to it, once more.
    pub(crate) body: u64,
    /// Holds the address of what is called.
    cell: u64,
}

/// Thunks of a site that caller-supplied code was attached to.
#[derive(Clone, Copy, Debug)]
struct Direct {
    /// Holds the address of that code.
    cell: u64,
    /// Calls it and nothing else.
    alone: u64,
    /// Calls the trampoline first.
    after: u64,
}

/// Makes places.
#[derive(Debug)]
pub(crate) struct Placer {
    islands: Trapped,
    blocks: Vec<Block>,
    entered: i32,
    left: i32,
    /// Bytes mapped for thunks and cells.
    pub(crate) mapped: u64,
}

/// Memory for thunks, with their cells behind.
#[derive(Debug)]
struct Block {
    code: Range<u64>,
    cells: Range<u64>,
    /// Makes a thread known; see [`Gate::first`].
    first: u64,
}

/// Sites without an island, by their place among those asked for.
type Misses = Vec<(usize, Miss)>;

/// Generates the code that makes a thread known, for a place.
pub(crate) type First<'a> = dyn Fn(u64) -> Vec<u8> + 'a;

impl Placer {
    pub(crate) fn new(entered: i32, left: i32) -> Self {
        let islands = Trapped::new(ISLAND_BYTES, Options::default());
        Self { islands, blocks: Vec::new(), entered, left, mapped: 0 }
    }

    /// Places sites of one object, whose cells hold `target` to begin with.
    pub(crate) fn place(
        &mut self,
        text: &Range<u64>,
        spots: &[Spot],
        first: &First<'_>,
        target: u64,
    ) -> io::Result<Vec<Result<(Place, LiveSite), SiteError>>> {
        let (islands, misses) = self.islands(spots)?;
        let mut writes = Vec::new();
        let mut places = Vec::with_capacity(spots.len());
        for (spot, island) in spots.iter().zip(islands) {
            let Some(island) = island else {
                let miss = misses.iter().find(|miss| miss.0 == places.len());
                places.push(Err(miss.map_or(Miss::NoSpace, |miss| miss.1).into()));
                continue;
            };
            let made =
                self.one(text, spots.len() - places.len(), spot, island, first, &mut writes)?;
            if let Ok((place, _)) = &made {
                code::store(place.cell, target);
            }
            places.push(made);
        }
        write_all(writes)?;
        Ok(places)
    }

    fn one(
        &mut self,
        text: &Range<u64>,
        more: usize,
        spot: &Spot,
        at: u64,
        first: &First<'_>,
        writes: &mut Vec<(u64, Vec<u8>)>,
    ) -> io::Result<Result<(Place, LiveSite), SiteError>> {
        // An island that cannot reach the word that says where it leads goes there by this jump.
        let hop = std::cell::Cell::new(None);
        let made = self.thunk(text, more, first, |place, gate| {
            let mut thunk = entry_thunk(place, gate, None, &spot.displaced())?;
            if !reaches(at, gate.cell + WAY) {
                let end = place + thunk.code.len() as u64;
                thunk.code.extend(island_through(end, gate.cell + WAY));
                hop.set(Some(end));
            }
            Ok(thunk)
        })?;
        let (start, cell, thunk) = match made {
            Ok(made) => made,
            Err(error) => return Ok(Err(error.into())),
        };
        let (entry, body) = (start + thunk.entry as u64, start + thunk.body as u64);
        let read = |address: u64, bytes: &mut [u8]| {
            code::read_text(address, bytes);
            Ok::<(), PatchError>(())
        };
        let live = match LiveSite::new(&spot.site, read, &thunk.relocated, body, at) {
            Ok(live) => live,
            Err(error) => return Ok(Err(error.into())),
        };
        writes.push((start, thunk.code));
        let island = hop.get().map_or_else(|| island_through(at, cell + WAY), island);
        writes.push((at, island.to_vec()));
        Ok(Ok((Place::new(cell, entry, body), live)))
    }

    /// Generates a thunk where there is room for it.
    fn thunk(
        &mut self,
        text: &Range<u64>,
        more: usize,
        first: &First<'_>,
        generate: impl Fn(u64, &Gate) -> Result<EntryThunk, ThunkError>,
    ) -> io::Result<Result<(u64, u64, EntryThunk), ThunkError>> {
        for _ in 0..2 {
            if let Some(block) = self.blocks.iter_mut().rev().find(|block| block.serves(text)) {
                // The entry is eight bytes behind.
                let place = (block.code.start + 8).next_multiple_of(LINE) - 8;
                let cell = block.cells.start;
                let (entered, left) = (self.entered, self.left);
                let gate = Gate { cell, entered, left, first: block.first };
                let thunk = match generate(place, &gate) {
                    Ok(thunk) => thunk,
                    Err(error) => return Ok(Err(error)),
                };
                let end = place + thunk.code.len() as u64;
                if end <= block.code.end && cell < block.cells.end {
                    block.code.start = end;
                    block.cells.start += CELL_BYTES;
                    return Ok(Ok((place, cell, thunk)));
                }
                block.code.start = block.code.end;
            }
            self.grow(text, more, first)?;
        }
        Err(io::ErrorKind::OutOfMemory.into())
    }

    /// Maps another block near an object.
    fn grow(&mut self, text: &Range<u64>, sites: usize, first: &First<'_>) -> io::Result<()> {
        let code = (sites as u64 * THUNK_BYTES * 5 / 4).max(BLOCK).next_multiple_of(code::PAGE);
        let cells = (code / 40 * CELL_BYTES).next_multiple_of(code::PAGE);
        let start = retry(|| {
            let mut space = objects::space()?;
            self.keep(&mut space);
            let start = space.near(text, code + cells).ok_or(io::ErrorKind::OutOfMemory)?;
            code::map(&(start..start + code), Use::Code).map(|()| start)
        })?;
        code::map(&(start + code..start + code + cells), Use::Cells)?;
        self.mapped += code + cells;
        let bytes = first(start);
        Window::open(&(start..start + bytes.len() as u64))?.write(start, &bytes);
        let behind = start + bytes.len() as u64;
        let cells = start + code..start + code + cells;
        self.blocks.push(Block { code: behind..start + code, cells, first: start });
        Ok(())
    }

    fn keep(&self, space: &mut AddressSpace) {
        self.islands.mappings().iter().for_each(|mapping| space.take(mapping.clone()));
    }

    fn islands(&mut self, spots: &[Spot]) -> io::Result<(Vec<Option<u64>>, Misses)> {
        let specs: Vec<SiteSpec> = spots.iter().map(Spot::spec).collect();
        let before = self.islands.clone();
        let placement = retry(|| {
            self.islands = before.clone();
            let placement = self.islands.extend(&mut objects::space()?, &specs);
            // What was mapped before a failure stays, and is taken then.
            placement.mappings.iter().try_for_each(|range| code::map(range, Use::Code))?;
            Ok(placement)
        })?;
        self.mapped += placement.mappings.iter().map(|range| range.end - range.start).sum::<u64>();
        Ok((placement.islands, placement.misses))
    }

    /// Lets calls of an armed or an unarmed site go another way.
    pub(crate) fn lead(
        &mut self,
        text: &Range<u64>,
        spot: &Spot,
        place: &mut Place,
        first: &First<'_>,
        way: Way,
    ) -> io::Result<Result<(), ThunkError>> {
        if way == place.way {
            return Ok(Ok(()));
        }
        let direct = match way.direct() {
            None => None,
            Some(code) => match self.direct(text, spot, place, first)? {
                Ok(direct) => {
                    code::store(direct.cell, code);
                    Some(direct)
                }
                Err(error) => return Ok(Err(error)),
            },
        };
        if let Some(hooked) = place.hooked {
            code::store(hooked.body, direct.map_or(place.body, |direct| direct.alone));
        }
        let target = match (way, direct, place.hooked) {
            (Way::Direct { callbacks: true, .. }, Some(direct), _) => direct.after,
            (Way::Direct { .. }, Some(direct), _) => direct.alone,
            (Way::Hooked { .. }, _, Some(hooked)) => hooked.entry,
            (Way::Lone, ..) => place.lone.map_or(place.entry, |lone| lone.entry),
            _ => place.entry,
        };
        place.way = way;
        code::store(place.cell + WAY, target);
        Ok(Ok(()))
    }

    /// Makes thunks that call a callback themselves, for sites of one object. None where there is
    /// no room.
    pub(crate) fn lone(
        &mut self,
        text: &Range<u64>,
        spots: &[&Spot],
        first: &First<'_>,
    ) -> io::Result<Vec<Option<Lone>>> {
        let mut writes = Vec::new();
        let mut places = Vec::with_capacity(spots.len());
        for (at, spot) in spots.iter().enumerate() {
            let displaced = spot.displaced();
            let made = self.thunk(text, spots.len() - at, first, |place, gate| {
                lone_thunk(place, gate, &displaced)
            })?;
            places.push(made.ok().map(|(start, cell, thunk)| {
                code::store(cell, nobody());
                let (entry, body) = (start + thunk.entry as u64, start + thunk.body as u64);
                writes.push((start, thunk.code));
                Lone { entry, body, cell }
            }));
        }
        write_all(writes)?;
        Ok(places)
    }

    /// The site's thunks for caller-supplied code.
    fn direct(
        &mut self,
        text: &Range<u64>,
        spot: &Spot,
        place: &mut Place,
        first: &First<'_>,
    ) -> io::Result<Result<Direct, ThunkError>> {
        if let Some(direct) = place.direct {
            return Ok(Ok(direct));
        }
        let displaced = spot.displaced();
        let alone =
            self.thunk(text, 1, first, |at, gate| direct_thunk(at, gate.cell, &displaced))?;
        let (start, cell, alone) = match alone {
            Ok(made) => made,
            Err(error) => return Ok(Err(error)),
        };
        let own = place.cell;
        let after = self.thunk(text, 1, first, |at, gate| {
            entry_thunk(at, &Gate { cell: own, ..*gate }, Some(cell), &displaced)
        })?;
        let (second, _, after) = match after {
            Ok(made) => made,
            Err(error) => return Ok(Err(error)),
        };
        let direct =
            Direct { cell, alone: start + alone.entry as u64, after: second + after.entry as u64 };
        write_all(vec![(start, alone.code), (second, after.code)])?;
        place.direct = Some(direct);
        Ok(Ok(direct))
    }
}

/// Where an island leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// To the trampoline in the site's cell.
    Callbacks,
    /// To the thunk that calls a callback itself.
    Lone,
    /// To caller-supplied code, perhaps after the trampoline.
    Direct { code: u64, callbacks: bool },
    /// To the cell whose return may be hooked, perhaps with caller-supplied code.
    Hooked { direct: Option<u64> },
}

impl Way {
    fn direct(self) -> Option<u64> {
        match self {
            Self::Callbacks | Self::Lone => None,
            Self::Direct { code, .. } => Some(code),
            Self::Hooked { direct } => direct,
        }
    }
}

impl Block {
    /// Whether it lies within reach of an object, and has room left.
    fn serves(&self, text: &Range<u64>) -> bool {
        let reach = |address| reaches(self.first, address);
        reach(text.start) && reach(text.end) && !self.code.is_empty()
    }
}

/// Writes code to its places, with one window for each run of pages.
fn write_all(mut writes: Vec<(u64, Vec<u8>)>) -> io::Result<()> {
    writes.sort_unstable_by_key(|write| write.0);
    let near = |a: &(u64, Vec<u8>), b: &(u64, Vec<u8>)| b.0 / code::PAGE - a.0 / code::PAGE <= 1;
    for run in writes.chunk_by(near) {
        let (Some(start), Some(last)) = (run.first(), run.last()) else { continue };
        let window = Window::open(&(start.0..last.0 + last.1.len() as u64))?;
        run.iter().for_each(|(place, bytes)| window.write(*place, bytes));
    }
    Ok(())
}

/// Others map memory at the same time.
fn retry<T>(mut attempt: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    for _ in 1..TRIES {
        match attempt() {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            done => return done,
        }
    }
    attempt()
}
