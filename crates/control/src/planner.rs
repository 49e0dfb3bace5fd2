//! Lays out generated code for what was decided, and the steps that bring it into the image.

use crate::image::{Image, Loaded};
use crate::plan::{Choice, Chosen, hooks_returns};
use sledge_discover::site::{Rung, Site};
use sledge_engine::emit::reaches;
use sledge_engine::islands::AddressSpace;
use sledge_engine::relocate::{Relocated, relocate};
use sledge_engine::thunk::{self, ISLAND_BYTES};
use sledge_engine::trampoline::{AgentLayout, TRAMPOLINE_BYTES, Trampolines};
use sledge_wire::cell;
use sledge_wire::message::Step;
use std::ops::Range;

const PAGE: u64 = 4096;

/// Everything that goes to the agent, and what each site stands for.
#[derive(Debug, Default)]
pub(crate) struct Layout {
    /// Contents of the code descriptor.
    pub(crate) code: Vec<u8>,
    /// Where in it the thunks begin.
    pub(crate) thunks: u64,
    pub(crate) steps: Vec<Step>,
    /// Site index to index in [`Choice::chosen`].
    pub(crate) sites: Vec<usize>,
    /// Chosen functions that could not be laid out, and why.
    pub(crate) failed: Vec<(usize, String)>,
}

/// A site with its cells.
struct Placed {
    chosen: usize,
    /// Where the `jmp rel32` goes: the site, or the filler that it hops to.
    address: u64,
    /// What it jumps to, directly or through an island.
    target: u64,
    found: [u8; 5],
    /// The short jump from the site to the filler.
    hop: Option<Step>,
    object: usize,
}

/// Generates code for one image.
pub(crate) struct Planner<'a> {
    image: &'a Image,
    choice: &'a Choice,
    agent: AgentLayout,
    set: Trampolines,
    thunks: Vec<u8>,
    relocated: Vec<u8>,
    gates: Vec<u8>,
    islands: Vec<(u64, Vec<u8>)>,
    placed: Vec<Placed>,
    layout: Layout,
}

impl<'a> Planner<'a> {
    pub(crate) fn new(image: &'a Image, choice: &'a Choice, agent: AgentLayout) -> Self {
        Self {
            image,
            choice,
            agent,
            set: Trampolines::recorder(&agent, &choice.known_callers()),
            thunks: Vec::new(),
            relocated: Vec::new(),
            gates: Vec::new(),
            islands: Vec::new(),
            placed: Vec::new(),
            layout: Layout::default(),
        }
    }

    /// Lays everything out.
    pub(crate) fn lay_out(mut self) -> Layout {
        let texts: Vec<Vec<Memory>> = self.choice.objects.iter().map(|o| self.texts(o)).collect();
        for (index, chosen) in self.choice.chosen.iter().enumerate() {
            if let Err(why) = self.site(index, chosen, &texts[chosen.object]) {
                self.layout.failed.push((index, why));
            }
        }
        self.placed.sort_by_key(|placed| placed.address);
        let patches = self.patches();
        self.map_code();
        self.windows(&patches);
        self.layout
    }

    fn texts(&self, loaded: &Loaded) -> Vec<Memory> {
        let read = |range: &Range<u64>| Memory {
            start: range.start,
            bytes: self.image.read(range.clone()),
        };
        loaded.text.iter().map(|text| read(&text.range)).collect()
    }

    fn site(&mut self, index: usize, chosen: &Chosen, text: &[Memory]) -> Result<(), String> {
        let loaded = &self.choice.objects[chosen.object];
        let function = &loaded.object.functions[chosen.function];
        let Ok(site) = &function.verdict else { return Err("not a site".into()) };
        let number = self.layout.sites.len() as u64;
        if number >= cell::CELLS {
            return Err("too many sites".into());
        }
        let address = loaded.bias.wrapping_add(site.address);
        let found = verified(address, &site.displaced, text)?;
        let filler = site.hop.map(|hop| loaded.bias.wrapping_add(hop));
        let hop = filler.map(|filler| short_jump(address, filler, &found)).transpose()?;
        let body = self.agent.relocated + number * cell::RELOCATED_BYTES;
        let prologue = move_prologue(site, address, body).map_err(|error| error.to_string())?;
        let skipped = (site.address - function.address) as u8;
        let entry = loaded.bias.wrapping_add(function.address);
        self.relocated.extend(thunk::relocated(&prologue, entry, skipped));
        let place = self.agent.thunks + number * cell::THUNK_BYTES;
        let kind = if hooks_returns(function) { thunk::hooked } else { thunk::entry_only };
        self.thunks.extend(kind(&self.agent, &self.set, place, body, number as u32));
        let target = self.entrance(chosen, place, body);
        let (address, found) = match filler {
            Some(filler) => (filler, verified(filler, &[], text)?),
            None => (address, found),
        };
        let object = chosen.object;
        self.placed.push(Placed { chosen: index, address, target, found, hop, object });
        self.layout.sites.push(index);
        Ok(())
    }

    /// Where a site's patch leads: the thunk, or a gate in front of it.
    fn entrance(&mut self, chosen: &Chosen, thunk: u64, body: u64) -> u64 {
        let mut target = if chosen.recorded { thunk } else { body };
        if chosen.from_executable {
            let text = &self.choice.objects[0].text;
            let start = text.iter().map(|text| text.range.start).min().unwrap_or(0);
            let end = text.iter().map(|text| text.range.end).max().unwrap_or(0);
            let place = self.next_gate();
            let gate = thunk::caller_gate(&self.agent, place, start..end, thunk, body);
            self.gates.extend(gate);
            target = place;
        }
        if let Some(exec) = chosen.exec {
            let place = self.next_gate();
            self.gates.extend(thunk::exec_gate(place, self.agent.exec[exec], target));
            target = place;
        }
        target
    }

    fn next_gate(&self) -> u64 {
        self.agent.trampolines + TRAMPOLINE_BYTES + self.gates.len() as u64
    }

    /// The patch of every site, by address; islands are made where the target is far.
    fn patches(&mut self) -> Vec<Step> {
        let mut space =
            AddressSpace::new(self.image.mappings.iter().map(|m| m.start..m.end).collect());
        if let Some(heap) = self.image.heap_room() {
            space.take(heap);
        }
        let mut patches = Vec::with_capacity(self.placed.len());
        let placed = std::mem::take(&mut self.placed);
        for group in placed.chunk_by(|a, b| a.object == b.object) {
            let sites = group[0].address..group[group.len() - 1].address + 5;
            let far = group.iter().filter(|site| !reaches(site.address, site.target)).count();
            let mut island = space.near(&sites, far as u64 * ISLAND_BYTES);
            let mut code = Vec::with_capacity(far * ISLAND_BYTES as usize);
            let base = island;
            for site in group {
                let mut target = site.target;
                if !reaches(site.address, target) {
                    let Some(place) = island else {
                        let why = "no free address space near it".to_owned();
                        self.layout.failed.push((site.chosen, why));
                        continue;
                    };
                    code.extend(thunk::island(target));
                    island = Some(place + ISLAND_BYTES);
                    target = place;
                }
                let Some(patch) = thunk::patch(site.address, target) else { continue };
                patches.push(Step::Patch {
                    address: site.address,
                    length: 5,
                    expected: word(site.found),
                    replacement: word(patch),
                });
                patches.extend(site.hop);
            }
            if let Some(base) = base.filter(|_| !code.is_empty()) {
                self.islands.push((base, code));
            }
        }
        patches
    }

    fn map_code(&mut self) {
        let mut trampolines = std::mem::take(&mut self.set.code);
        trampolines.append(&mut self.gates);
        let thunks = std::mem::take(&mut self.thunks);
        let relocated = std::mem::take(&mut self.relocated);
        self.layout.thunks = self.layout.code.len() as u64;
        self.map(self.agent.thunks, &thunks, true);
        self.map(self.agent.relocated, &relocated, true);
        self.map(self.agent.trampolines, &trampolines, true);
        for (place, code) in std::mem::take(&mut self.islands) {
            self.map(place, &code, false);
        }
    }

    fn map(&mut self, address: u64, bytes: &[u8], reserved: bool) {
        if bytes.is_empty() {
            return;
        }
        let offset = self.layout.code.len() as u64;
        let length = (bytes.len() as u64).next_multiple_of(PAGE);
        self.layout.code.extend_from_slice(bytes);
        self.layout.code.resize((offset + length) as usize, 0xcc);
        self.layout.steps.push(Step::Map { address, length, offset, reserved });
    }

    /// Opens each mapping that has patches once, from its first patched page to its last.
    fn windows(&mut self, patches: &[Step]) {
        let address_of = |step: &Step| match step {
            Step::Patch { address, .. } => Some(*address),
            _ => None,
        };
        for text in self.choice.objects.iter().flat_map(|loaded| &loaded.text) {
            let inside = |step: &&Step| address_of(step).is_some_and(|at| text.range.contains(&at));
            let inside: Vec<Step> = patches.iter().filter(inside).copied().collect();
            let addresses = || inside.iter().filter_map(address_of);
            let (Some(first), Some(last)) = (addresses().min(), addresses().max()) else {
                continue;
            };
            let address = first & !(PAGE - 1);
            let length = (last + 5).next_multiple_of(PAGE).min(text.range.end) - address;
            self.layout.steps.push(Step::Open { address, length });
            self.layout.steps.extend(inside);
            let protection = text.protection;
            self.layout.steps.push(Step::Close { address, length, protection });
        }
    }
}

/// Memory of the process.
struct Memory {
    start: u64,
    bytes: Vec<u8>,
}

/// The five bytes at an address, if they begin as the file says.
fn verified(address: u64, expected: &[u8], text: &[Memory]) -> Result<[u8; 5], String> {
    let at = |memory: &Memory| {
        let offset = usize::try_from(address.checked_sub(memory.start)?).ok()?;
        let length = expected.len().max(5);
        memory.bytes.get(offset..offset.checked_add(length)?).map(<[u8]>::to_vec)
    };
    let bytes = text.iter().find_map(at).ok_or("its bytes cannot be read")?;
    if !bytes.starts_with(expected) {
        return Err(format!("expected {expected:02x?}, found {bytes:02x?}"));
    }
    bytes[..5].try_into().map_err(|_| "too short".into())
}

/// `jmp short` from a site to filler nearby.
fn short_jump(site: u64, filler: u64, found: &[u8; 5]) -> Result<Step, String> {
    let distance = filler.wrapping_sub(site + 2).cast_signed();
    let distance = i8::try_from(distance).map_err(|_| "the filler is too far away")?;
    Ok(Step::Patch {
        address: site,
        length: 2,
        expected: u64::from(u16::from_le_bytes([found[0], found[1]])),
        replacement: u64::from(u16::from_le_bytes([0xeb, distance.to_le_bytes()[0]])),
    })
}

fn move_prologue(
    site: &Site,
    address: u64,
    place: u64,
) -> Result<Relocated, sledge_engine::relocate::RelocateError> {
    let resume = address + site.displaced.len() as u64;
    // A sled is a jump over filler: nothing of it is worth moving.
    let displaced = if site.rung == Rung::Xray { &[][..] } else { &site.displaced[..] };
    relocate(displaced, address, resume, place, cell::RELOCATED_CODE as usize)
}

fn word(bytes: [u8; 5]) -> u64 {
    let [a, b, c, d, e] = bytes;
    u64::from_le_bytes([a, b, c, d, e, 0, 0, 0])
}
