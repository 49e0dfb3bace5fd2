//! What each site of a running process needs, made when it is first wanted.
//!
//! Every function has one patch; its island leads to the site's thunk. A library function that the
//! executable imports has two sites: its calls out of the executable, and all others. There the
//! island leads to a gate that tells them apart, and that is switched by two words.

use super::{Attached, Selection};
use crate::error::HubError;
use sledge_control::image::{Image, Loaded, Text};
use sledge_control::plan::{Choice, Scope, hooks_returns, module_name};
use sledge_discover::names;
use sledge_discover::site::{HOP_BYTES, PATCH_BYTES, Rung};
use sledge_engine::islands::{AddressSpace, Options, SiteSpec, Trapped};
use sledge_engine::relocate::{Relocated, relocate};
use sledge_engine::thunk::{self, GATE_BYTES, ISLAND_BYTES};
use sledge_engine::trampoline::{AgentLayout, Attachment, TRAMPOLINE_BYTES, Trampolines};
use sledge_filter::Pattern;
use sledge_wire::attach::{self, NOWHERE, Order, Rescue};
use sledge_wire::cell;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Range;
use std::sync::atomic::Ordering;

const PAGE: u64 = 4096;
/// How often new mappings are tried when others take their place first.
const TRIES: usize = 4;

/// A site by its number, as records have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SiteId(pub u32);

/// Which calls of a function a site stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Caller {
    /// All.
    Any,
    /// Those out of the executable.
    Executable,
    /// The others.
    Others,
}

/// What a site stands for.
#[derive(Clone, Debug)]
pub struct Site {
    /// Index of the object.
    pub object: usize,
    /// Index of the function in it.
    pub function: usize,
    /// Its name: the import's, where that says more than the symbol table.
    pub name: String,
    /// Which calls of it.
    pub caller: Caller,
}

/// A site that somebody wants.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    object: usize,
    function: usize,
    caller: Caller,
}

type Function = (usize, usize);

/// A function that can be patched.
#[derive(Clone, Debug)]
struct Spot {
    patch: u32,
    pad: Option<u32>,
    body: u64,
    gate: Option<Gate>,
}

/// Two words, and what they hold: for calls out of the executable, and for others.
#[derive(Clone, Debug)]
struct Gate {
    word: u64,
    targets: [u64; 2],
    sites: [SiteId; 2],
}

/// Everything made so far.
#[derive(Debug)]
pub(super) struct Layout {
    agent: AgentLayout,
    pub(super) attachment: Attachment,
    set: Trampolines,
    /// Whether returns may be hooked at all.
    returns: bool,
    islands: Trapped,
    sites: Vec<Site>,
    numbers: HashMap<(usize, usize, Caller), SiteId>,
    spots: HashMap<Function, Spot>,
    refused: HashMap<Function, String>,
    patches: Vec<Range<u64>>,
    rescues: Vec<Rescue>,
    gates: usize,
    /// Mappings made for islands and tables.
    pub(super) mapped: Vec<Range<u64>>,
}

impl Layout {
    pub(super) fn new(
        agent: AgentLayout,
        attachment: Attachment,
        set: Trampolines,
        returns: bool,
    ) -> Self {
        Self {
            agent,
            attachment,
            set,
            returns,
            islands: Trapped::new(ISLAND_BYTES, Options::default()),
            sites: Vec::new(),
            numbers: HashMap::new(),
            spots: HashMap::new(),
            refused: HashMap::new(),
            patches: Vec::new(),
            rescues: Vec::new(),
            gates: 0,
            mapped: Vec::new(),
        }
    }

    pub(super) fn trampolines(&self) -> [(u64, &[u8]); 1] {
        [(self.agent.trampolines, &self.set.code)]
    }

    pub(super) fn switches(&self) -> impl Iterator<Item = (u64, u64)> {
        self.set.switches.iter().copied()
    }

    pub(super) fn sites(&self) -> &[Site] {
        &self.sites
    }

    pub(super) fn refused(&self) -> usize {
        self.refused.len()
    }

    pub(super) fn patch_count(&self) -> usize {
        self.patches.len()
    }

    /// Functions of these sites for which nothing was made yet.
    pub(super) fn know(&self, wanted: &[Wanted]) -> Vec<Function> {
        let functions = wanted.iter().map(|wanted| (wanted.object, wanted.function));
        let unknown = |function: &Function| {
            !self.spots.contains_key(function) && !self.refused.contains_key(function)
        };
        let mut unknown: Vec<Function> = functions.filter(unknown).collect();
        unknown.sort_unstable();
        unknown.dedup();
        unknown
    }

    /// The numbers of those that there are.
    pub(super) fn ids(&self, wanted: &[Wanted]) -> Vec<SiteId> {
        let number = |wanted: &Wanted| {
            self.numbers.get(&(wanted.object, wanted.function, wanted.caller)).copied()
        };
        wanted.iter().filter_map(number).collect()
    }

    fn spot(&self, site: SiteId) -> Option<&Spot> {
        let site = self.sites.get(site.0 as usize)?;
        self.spots.get(&(site.object, site.function))
    }

    /// The patches of sites, each once, ascending.
    pub(super) fn patches_of(&self, sites: &HashSet<SiteId>) -> Vec<u32> {
        let patches = sites.iter().filter_map(|&site| Some(self.spot(site)?.patch));
        let mut patches: Vec<u32> = patches.collect();
        patches.sort_unstable();
        patches.dedup();
        patches
    }

    /// The padding that patches lead to by a short jump. A padding's patch comes just before its
    /// function's.
    pub(super) fn pads(&self, patches: &[u32]) -> Vec<u32> {
        let pads: HashSet<u32> = self.spots.values().filter_map(|spot| spot.pad).collect();
        let before = patches.iter().filter_map(|patch| patch.checked_sub(1));
        before.filter(|pad| pads.contains(pad)).collect()
    }

    /// All padding that was ever patched.
    pub(super) fn all_pads(&self) -> Vec<u32> {
        let mut pads: Vec<u32> = self.spots.values().filter_map(|spot| spot.pad).collect();
        pads.sort_unstable();
        pads
    }

    /// Where a thread may be that has not left yet: generated code, and padding that leads there.
    pub(super) fn places(&self) -> Vec<Range<u64>> {
        let pads = self.all_pads();
        let pads = pads.iter().filter_map(|&pad| self.patches.get(pad as usize));
        pads.chain(&self.mapped).cloned().collect()
    }

    /// Words of gates that must hold something else when these sites are wanted.
    pub(super) fn gate_words(&mut self, wanted: &HashSet<SiteId>) -> Vec<(u64, u64)> {
        let thunks = self.agent.thunks;
        let mut words = Vec::new();
        for spot in self.spots.values_mut() {
            let body = spot.body;
            let Some(gate) = &mut spot.gate else { continue };
            for (index, site) in gate.sites.into_iter().enumerate() {
                let thunk = thunks + u64::from(site.0) * cell::THUNK_BYTES;
                let target = if wanted.contains(&site) { thunk } else { body };
                if gate.targets[index] != target {
                    gate.targets[index] = target;
                    words.push((gate.word + 8 * index as u64, target));
                }
            }
        }
        words
    }

    /// In each mapping, the pages from the first patch to the last.
    pub(super) fn windows(&self, objects: &[Loaded], patches: &[u32]) -> Vec<Text> {
        let ranges = || patches.iter().filter_map(|&patch| self.patches.get(patch as usize));
        let texts = objects.iter().flat_map(|loaded| &loaded.text);
        let window = |text: &Text| {
            let inside = || ranges().filter(|range| text.range.contains(&range.start));
            let start = inside().map(|range| range.start).min()? / PAGE * PAGE;
            let end = inside().map(|range| range.end).max()?.next_multiple_of(PAGE);
            let range = start..end.min(text.range.end);
            Some(Text { range, protection: text.protection })
        };
        texts.filter_map(window).take(attach::MAX_TEXTS).collect()
    }
}

/// The library functions that the executable imports, by its names for them.
pub(super) fn imports(image: &Image, choice: &Choice) -> BTreeMap<Function, String> {
    let imports = Choice::make(image, choice.objects.clone(), Scope::Calls, &[], false);
    let imports = imports.chosen.into_iter().filter(|chosen| chosen.from_executable);
    imports.map(|chosen| ((chosen.object, chosen.function), chosen.name)).collect()
}

/// The sites that a selection names.
pub(super) fn choose(
    choice: &Choice,
    imports: &BTreeMap<Function, String>,
    selection: &Selection,
) -> Vec<Wanted> {
    let mut wanted = Vec::new();
    for (object, loaded) in choice.objects.iter().enumerate() {
        let module = module_name(loaded);
        for (function, it) in loaded.object.functions.iter().enumerate() {
            let import = imports.get(&(object, function)).filter(|_| object > 0);
            let in_scope = match selection.scope {
                Scope::Executable => object == 0,
                Scope::Calls => object == 0 || import.is_some(),
                Scope::Libraries => true,
            };
            if !in_scope || it.verdict.is_err() || !is_selected(it, import, &module, selection) {
                continue;
            }
            let callers: &[Caller] = match (import, selection.scope) {
                (None, _) => &[Caller::Any],
                (Some(_), Scope::Libraries) => &[Caller::Executable, Caller::Others],
                (Some(_), _) => &[Caller::Executable],
            };
            wanted.extend(callers.iter().map(|&caller| Wanted { object, function, caller }));
        }
    }
    wanted
}

fn is_selected(
    function: &sledge_discover::site::Function,
    import: Option<&String>,
    module: &str,
    selection: &Selection,
) -> bool {
    if selection.functions.is_empty() && selection.but.is_empty() {
        return true;
    }
    let names: Vec<&str> = match import {
        Some(name) => vec![name],
        None => function.names.iter().map(String::as_str).collect(),
    };
    let demangled: Vec<_> = names.iter().map(|name| names::demangle(name)).collect();
    let all: Vec<&str> =
        names.iter().copied().chain(demangled.iter().map(|name| &**name)).collect();
    let one_of =
        |patterns: &[Pattern]| patterns.iter().any(|pattern| pattern.matches(&all, module));
    (selection.functions.is_empty() || one_of(&selection.functions)) && !one_of(&selection.but)
}

/// A function on its way to be a spot.
struct Candidate {
    function: Function,
    /// As mapped.
    address: u64,
    hop: Option<u64>,
    found: [u8; PATCH_BYTES],
    pad_found: Option<[u8; PATCH_BYTES]>,
}

/// Pieces of generated code, by their addresses.
#[derive(Default)]
struct Code {
    thunks: Vec<u8>,
    relocated: Vec<u8>,
    gates: Vec<u8>,
    islands: BTreeMap<u64, Vec<u8>>,
    journal: Vec<[u64; 6]>,
}

impl Attached {
    /// Makes what these functions need; nothing is patched yet.
    pub(super) fn lay_out(&mut self, functions: &[Function]) -> Result<(), HubError> {
        self.image = Image::of(self.pid)?;
        let candidates = self.candidates(functions);
        let specs: Vec<SiteSpec> = candidates.iter().map(|it| self.spec(it)).collect();
        let islands = self.place_islands(&specs)?;
        let (first_site, first_gate) = (self.layout.sites.len(), self.layout.gates);
        let first_patch = self.layout.patches.len();
        let mut code = Code::default();
        for (candidate, island) in candidates.iter().zip(islands) {
            let made = match island {
                Some(island) => self.make(candidate, island, &mut code),
                None => Err("no free address space at a trapping distance".into()),
            };
            if let Err(why) = made {
                self.layout.refused.insert(candidate.function, why);
            }
        }
        self.write_code(code, first_site, first_gate, first_patch)
    }

    /// Functions whose bytes are those of their files.
    fn candidates(&mut self, functions: &[Function]) -> Vec<Candidate> {
        let mut candidates = Vec::new();
        for group in functions.chunk_by(|a, b| a.0 == b.0) {
            let loaded = &self.choice.objects[group[0].0];
            let texts: Vec<(u64, Vec<u8>)> = loaded
                .text
                .iter()
                .map(|text| (text.range.start, self.image.read(text.range.clone())))
                .collect();
            let bytes = |address: u64, length: usize| {
                texts.iter().find_map(|(start, bytes)| {
                    let offset = usize::try_from(address.checked_sub(*start)?).ok()?;
                    bytes.get(offset..offset.checked_add(length)?)
                })
            };
            for &function in group {
                match candidate(loaded, function, &bytes) {
                    Ok(candidate) => candidates.push(candidate),
                    Err(why) => {
                        self.layout.refused.insert(function, why);
                    }
                }
            }
        }
        candidates
    }

    fn spec(&self, candidate: &Candidate) -> SiteSpec {
        match candidate.hop {
            Some(address) => SiteSpec { address, boundaries: 0 },
            None => {
                let boundaries = self.boundaries(candidate.function);
                SiteSpec { address: candidate.address, boundaries }
            }
        }
    }

    fn boundaries(&self, (object, function): Function) -> u8 {
        let function = &self.choice.objects[object].object.functions[function];
        function.verdict.as_ref().map_or(0, |site| site.boundaries)
    }

    /// Finds islands and has their pages mapped.
    fn place_islands(&mut self, specs: &[SiteSpec]) -> Result<Vec<Option<u64>>, HubError> {
        let mut last = Ok(Vec::new());
        for _ in 0..TRIES {
            let mut space = self.space();
            let mut islands = self.layout.islands.clone();
            let placement = islands.extend(&mut space, specs);
            last = self.map_all(&placement.mappings).map(|()| placement.islands);
            if last.is_ok() {
                self.layout.islands = islands;
                break;
            }
            self.image = Image::of(self.pid)?;
        }
        last
    }

    fn space(&self) -> AddressSpace {
        let taken = self.image.mappings.iter().map(|mapping| mapping.start..mapping.end);
        let mut space = AddressSpace::new(taken.collect());
        if let Some(heap) = self.image.heap_room() {
            space.keep_heap(heap.start);
        }
        for stack in self
            .image
            .mappings
            .iter()
            .filter(|mapping| mapping.path == std::path::Path::new("[stack]"))
        {
            space.keep_stack(stack.start, 0);
        }
        space
    }

    /// Maps ranges; undoes what it did where one cannot be mapped.
    fn map_all(&mut self, ranges: &[Range<u64>]) -> Result<(), HubError> {
        for (index, range) in ranges.iter().enumerate() {
            let length = range.end - range.start;
            if let Err(error) = self.order("map code", Order::Map, [range.start, length]) {
                for range in &ranges[..index] {
                    let with = [range.start, range.end - range.start];
                    self.order("unmap code", Order::Unmap, with)?;
                }
                return Err(error);
            }
        }
        self.layout.mapped.extend_from_slice(ranges);
        Ok(())
    }

    /// Generates a function's code.
    fn make(&mut self, from: &Candidate, island: u64, code: &mut Code) -> Result<(), String> {
        let loaded = &self.choice.objects[from.function.0];
        let function = &loaded.object.functions[from.function.1];
        let Ok(site) = &function.verdict else { return Err("not a site".into()) };
        let imported = from.function.0 > 0 && self.is_imported(from.function);
        let number = self.layout.sites.len() as u64;
        if number + 2 > cell::CELLS || self.layout.patches.len() + 2 > attach::PATCHES {
            return Err("too many sites".into());
        }
        let layout = &self.layout;
        let body = layout.agent.relocated + number * cell::RELOCATED_BYTES;
        let prologue =
            move_prologue(site, from.address, body).map_err(|error| error.to_string())?;
        let target = if imported {
            if layout.gates * 2 + 2 + attach::SWITCH_GATES > attach::SWITCHES {
                return Err("too many gates".into());
            }
            layout.agent.trampolines + TRAMPOLINE_BYTES + layout.gates as u64 * GATE_BYTES
        } else {
            layout.agent.thunks + number * cell::THUNK_BYTES
        };
        let patches = patches(from, site, island, &prologue, target, body)?;
        let skipped = (site.address - function.address) as u8;
        let entry = loaded.bias.wrapping_add(function.address);
        code.relocated.extend(thunk::relocated(&prologue, entry, skipped));
        let hooks = layout.returns && hooks_returns(function);
        let kind = if hooks { thunk::hooked } else { thunk::entry_only };
        let callers: &[Caller] =
            if imported { &[Caller::Executable, Caller::Others] } else { &[Caller::Any] };
        for index in 0..callers.len() as u64 {
            let place = layout.agent.thunks + (number + index) * cell::THUNK_BYTES;
            let site = (number + index) as u32;
            code.thunks.extend(kind(&layout.agent, &layout.set, place, body, site));
        }
        code.relocated.resize(code.thunks.len(), 0xcc);
        code.islands.insert(island, thunk::island(target).to_vec());
        let gate = imported.then(|| self.add_gate(target, number as u32, code));
        let name = self.name(from.function);
        let (object, function) = from.function;
        for (index, &caller) in callers.iter().enumerate() {
            let id = SiteId((number + index as u64) as u32);
            self.layout.numbers.insert((object, function, caller), id);
            self.layout.sites.push(Site { object, function, name: name.clone(), caller });
        }
        let pad = (patches.len() > 1).then_some(self.layout.patches.len() as u32);
        for (journal, rescue) in patches {
            let length = journal[4] & 0xff;
            self.layout.patches.push(rescue.address..rescue.address + length);
            self.layout.rescues.push(rescue);
            code.journal.push(journal);
        }
        let patch = self.layout.patches.len() as u32 - 1;
        self.layout.spots.insert(from.function, Spot { patch, pad, body, gate });
        Ok(())
    }

    fn add_gate(&mut self, place: u64, number: u32, code: &mut Code) -> Gate {
        let text = &self.choice.objects[0].text;
        let start = text.iter().map(|text| text.range.start).min().unwrap_or(0);
        let end = text.iter().map(|text| text.range.end).max().unwrap_or(0);
        let index = attach::SWITCH_GATES + 2 * self.layout.gates;
        let word = self.layout.attachment.switches + 8 * index as u64;
        let agent = &self.layout.agent;
        code.gates.extend(thunk::switched_gate(agent, place, start..end, word, word + 8));
        self.layout.gates += 1;
        // Noughts: they are set before the function is patched.
        Gate { word, targets: [0; 2], sites: [SiteId(number), SiteId(number + 1)] }
    }

    fn is_imported(&self, function: Function) -> bool {
        self.imports.contains_key(&function)
    }

    fn name(&self, function: Function) -> String {
        let of_function = || {
            let object = &self.choice.objects[function.0].object;
            object.functions[function.1].names.first().cloned().unwrap_or_default()
        };
        self.imports.get(&function).cloned().unwrap_or_else(of_function)
    }

    fn write_code(
        &mut self,
        code: Code,
        first_site: usize,
        first_gate: usize,
        first_patch: usize,
    ) -> Result<(), HubError> {
        let agent = self.layout.agent;
        self.write(agent.thunks + first_site as u64 * cell::THUNK_BYTES, &code.thunks)?;
        self.write(agent.relocated + first_site as u64 * cell::RELOCATED_BYTES, &code.relocated)?;
        let gates = agent.trampolines + TRAMPOLINE_BYTES + first_gate as u64 * GATE_BYTES;
        self.write(gates, &code.gates)?;
        // Neighbours in one write; bytes between islands belong to nobody else.
        for (place, bytes) in joined(&code.islands) {
            self.write(place, &bytes)?;
        }
        self.publish_rescues()?;
        self.journal(&code.journal, first_patch);
        Ok(())
    }

    /// A new table of where threads go on that trap.
    fn publish_rescues(&mut self) -> Result<(), HubError> {
        self.layout.rescues.sort_unstable_by_key(|rescue| rescue.address);
        let mut bytes = vec![0; 32];
        bytes[..8].copy_from_slice(&(self.layout.rescues.len() as u64).to_le_bytes());
        for rescue in &self.layout.rescues {
            for word in [rescue.address, rescue.entry, rescue.body] {
                bytes.extend(word.to_le_bytes());
            }
            bytes.extend(rescue.inner);
        }
        self.image = Image::of(self.pid)?;
        let length = (bytes.len() as u64).next_multiple_of(PAGE);
        let mut space = self.space();
        let texts = self.choice.objects.iter().flat_map(|loaded| &loaded.text);
        let place = { texts }.find_map(|text| space.near(&text.range, length));
        let place = place.ok_or(HubError::NoRoom(self.pid))?;
        self.map_all(std::slice::from_ref(&(place..place + length)))?;
        self.write(place, &bytes)?;
        self.order("handle traps", Order::Rescues, [place, 0])
    }

    fn journal(&self, patches: &[[u64; 6]], first: usize) {
        let (rings, bytes) = (self.segment.rings(), self.segment.ring_bytes());
        let array = attach::patches_offset(rings, bytes) as usize;
        for (index, patch) in patches.iter().enumerate() {
            let at = array + (first + index) * attach::PATCH_BYTES;
            for (word, value) in patch.iter().enumerate() {
                self.segment.long(at + 8 * word).store(*value, Ordering::Relaxed);
            }
        }
        let texts = self.choice.objects.iter().flat_map(|loaded| loaded.text.clone());
        let texts: Vec<Text> = texts.take(attach::MAX_TEXTS).collect();
        self.write_texts(0, &texts);
        self.segment.word(attach::TEXTS).store(texts.len() as u32, Ordering::Release);
        let count = (first + patches.len()) as u32;
        self.segment.word(attach::JOURNALED).store(count, Ordering::Release);
    }
}

fn candidate<'a>(
    loaded: &Loaded,
    function: Function,
    bytes: &impl Fn(u64, usize) -> Option<&'a [u8]>,
) -> Result<Candidate, String> {
    let it = &loaded.object.functions[function.1];
    let Ok(site) = &it.verdict else { return Err("not a site".into()) };
    let address = loaded.bias.wrapping_add(site.address);
    let five = |address: u64| -> Result<[u8; PATCH_BYTES], String> {
        let bytes = bytes(address, PATCH_BYTES).ok_or("its bytes cannot be read")?;
        bytes.try_into().map_err(|_| "too short".into())
    };
    let found = bytes(address, site.displaced.len()).ok_or("its bytes cannot be read")?;
    if found != site.displaced {
        return Err(format!("expected {:02x?}, found {found:02x?}", site.displaced));
    }
    let hop = site.hop.filter(|_| site.rung == Rung::Hop);
    let hop = hop.map(|hop| loaded.bias.wrapping_add(hop));
    let pad_found = hop.map(five).transpose()?;
    Ok(Candidate { function, address, hop, found: five(address)?, pad_found })
}

/// The patches of a function, its own last, each with where threads go on that trap in it.
fn patches(
    from: &Candidate,
    site: &sledge_discover::site::Site,
    island: u64,
    prologue: &Relocated,
    entry: u64,
    body: u64,
) -> Result<Vec<([u64; 6], Rescue)>, String> {
    let far = |address: u64| {
        let jump = thunk::patch(address, island);
        jump.map(word).ok_or_else(|| "its island is out of reach".to_owned())
    };
    let mut inner = [NOWHERE; 8];
    for offset in (1..PATCH_BYTES).filter(|&offset| site.boundaries >> offset & 1 != 0) {
        let position = prologue.position(offset as u8);
        let position = position.ok_or("its copy has no place for a thread inside")?;
        inner[offset] = position as u8;
    }
    let rescue = Rescue { address: from.address, entry, body, inner };
    let (Some(hop), Some(pad)) = (from.hop, from.pad_found) else {
        let (original, jump) = (word(from.found), far(from.address)?);
        return Ok(vec![(
            journal(from.address, original, jump, PATCH_BYTES, site.boundaries),
            rescue,
        )]);
    };
    let distance = hop.wrapping_sub(from.address + HOP_BYTES as u64).cast_signed();
    let distance = i8::try_from(distance).map_err(|_| "the filler is too far away")?;
    let jump = u64::from(u16::from_le_bytes([0xeb, distance.cast_unsigned()]));
    let original = word(from.found) & 0xffff;
    let at_pad = Rescue { address: hop, entry, body, inner: [NOWHERE; 8] };
    Ok(vec![
        (journal(hop, word(pad), far(hop)?, PATCH_BYTES, 0), at_pad),
        (journal(from.address, original, jump, HOP_BYTES, site.boundaries & 0b10), rescue),
    ])
}

fn journal(address: u64, original: u64, jump: u64, length: usize, boundaries: u8) -> [u64; 6] {
    [address, original, jump, original, length as u64 | u64::from(boundaries) << 8, 0]
}

fn word(bytes: [u8; PATCH_BYTES]) -> u64 {
    let [a, b, c, d, e] = bytes;
    u64::from_le_bytes([a, b, c, d, e, 0, 0, 0])
}

fn move_prologue(
    site: &sledge_discover::site::Site,
    address: u64,
    place: u64,
) -> Result<Relocated, sledge_engine::relocate::RelocateError> {
    let resume = address + site.displaced.len() as u64;
    // A sled is a jump over filler: nothing of it is worth moving.
    let displaced = if site.rung == Rung::Xray { &[][..] } else { &site.displaced[..] };
    relocate(displaced, address, resume, place, cell::RELOCATED_CODE as usize)
}

/// Pieces that follow each other closely, as one.
fn joined(pieces: &BTreeMap<u64, Vec<u8>>) -> Vec<(u64, Vec<u8>)> {
    let mut joined: Vec<(u64, Vec<u8>)> = Vec::new();
    for (&place, bytes) in pieces {
        match joined.last_mut() {
            Some((start, last)) if *start + last.len() as u64 == place => last.extend(bytes),
            _ => joined.push((place, bytes.clone())),
        }
    }
    joined
}
