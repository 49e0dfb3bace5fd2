//! The ladder: the best way to patch each function, or why there is none.

use std::collections::BTreeMap;

use iced_x86::{Decoder, DecoderOptions, Instruction, Mnemonic};

use crate::candidates::{Candidate, Code};
use crate::filler;
use crate::sections::{Region, region_at};
use crate::site::{EntryOnly, HOP_BYTES, MAX_DISPLACED, PATCH_BYTES, Refusal, Returns, Rung, Site};
use crate::sleds::Sleds;
use crate::sweep::Sweep;

const ENDBR64: [u8; 4] = [0xf3, 0x0f, 0x1e, 0xfa];
/// `jmp +9`, over a NOP of nine bytes.
const XRAY_SLED: [u8; 2] = [0xeb, 0x09];
const XRAY_BYTES: usize = 11;
/// NOPs before a function's address that may belong to it (`-fpatchable-function-entry=N,M`).
const NOPS_BEFORE: u64 = 64;

/// Start-up code, and helpers that are called with registers of their own.
const GLUE: [&str; 15] = [
    "_start",
    "_init",
    "_fini",
    "frame_dummy",
    "register_tm_clones",
    "deregister_tm_clones",
    "__do_global_dtors_aux",
    "_dl_relocate_static_pie",
    "__libc_csu_init",
    "__libc_csu_fini",
    "__x86_return_thunk",
    "mcount",
    "_mcount",
    "__fentry__",
    "__mcount_internal",
];
const GLUE_PREFIXES: [&str; 3] = ["__x86.get_pc_thunk", "__x86_indirect_thunk", "_dl_tlsdesc_"];

/// Whole instructions at the beginning of a patch.
#[derive(Clone, Copy)]
struct Span {
    length: usize,
    boundaries: u8,
}

/// Decides on all functions, in order of address: no two patches overlap.
pub(crate) struct Ladder<'c, 'a> {
    code: &'c Code<'a>,
    sweep: &'c Sweep,
    sleds: &'c Sleds,
    /// All patches so far, filler included: their ends, by start.
    patches: BTreeMap<u64, u64>,
}

/// Who passes its call on to a function that returns twice does so, too: `_setjmp` is such a jump.
fn pass_back(code: &Code<'_>, sweep: &Sweep, verdicts: &mut [Result<Site, Refusal>]) {
    const LONGEST_CHAIN: usize = 4;
    for _ in 0..LONGEST_CHAIN {
        for (index, habits) in sweep.habits.iter().enumerate() {
            let Some(target) = habits.passes_to() else { continue };
            let Ok(to) = code.candidates.binary_search_by_key(&target, |to| to.start) else {
                continue;
            };
            let twice = Returns::EntryOnly(EntryOnly::ReturnsTwice);
            if verdicts[to].as_ref().is_ok_and(|site| site.returns == twice)
                && let Ok(site) = &mut verdicts[index]
            {
                site.returns = twice;
            }
        }
    }
}

impl<'c, 'a> Ladder<'c, 'a> {
    /// The verdict on each candidate.
    pub(crate) fn decide(
        code: &'c Code<'a>,
        sweep: &'c Sweep,
        sleds: &'c Sleds,
    ) -> Vec<Result<Site, Refusal>> {
        let mut ladder = Self { code, sweep, sleds, patches: BTreeMap::new() };
        let functions = code.candidates.iter();
        let mut verdicts: Vec<_> = functions.map(|function| ladder.verdict(function)).collect();
        ladder.hop_the_rest(&mut verdicts);
        for ((verdict, habits), function) in
            verdicts.iter_mut().zip(&sweep.habits).zip(&code.candidates)
        {
            if let Ok(site) = verdict {
                site.returns = habits.returns(&function.names);
            }
        }
        pass_back(code, sweep, &mut verdicts);
        verdicts
    }

    fn verdict(&mut self, function: &Candidate) -> Result<Site, Refusal> {
        refuse_by_nature(function)?;
        let region = self.region(function)?;
        if loads_stack_pointer(region.slice(function.start, function.end)) {
            return Err(Refusal::NotACall);
        }
        let site = self
            .xray(function, region)
            .or_else(|| self.nops(function, region))
            .map_or_else(|| self.prologue(function, region), Ok)?;
        let length = site.displaced.len().max(PATCH_BYTES);
        self.take(site.address, length);
        Ok(site)
    }

    fn take(&mut self, start: u64, length: usize) {
        self.patches.insert(start, start + length as u64);
    }

    fn is_free(&self, start: u64, end: u64) -> bool {
        self.patches.range(..end).next_back().is_none_or(|(_, &taken)| taken <= start)
    }

    fn region(&self, function: &Candidate) -> Result<&'c Region<'a>, Refusal> {
        let region = region_at(&self.code.regions, function.start).ok_or(Refusal::NoBytes)?;
        let bytes = region.slice(function.start, function.end).len() as u64;
        let whole = bytes > 0 && bytes == function.end - function.start;
        if whole { Ok(region) } else { Err(Refusal::NoBytes) }
    }

    fn xray(&self, function: &Candidate, region: &Region) -> Option<Site> {
        let sled = self.sleds.xray_of(function.start)?;
        let bytes = region.slice(sled, function.end).get(..XRAY_BYTES)?;
        let before = region.slice(function.start, sled);
        let reached = sled >= function.start && skip_nops(before) == before.len();
        if !reached || !bytes.starts_with(&XRAY_SLED) {
            return None;
        }
        // Nobody ever stands on the NOP behind the jump: no boundary.
        let span = Span { length: XRAY_BYTES, boundaries: 0 };
        self.clear(sled, span, PATCH_BYTES).ok()?;
        Some(site(region, sled, span, Rung::Xray))
    }

    fn nops(&self, function: &Candidate, region: &Region) -> Option<Site> {
        let start = patch_start(function, region);
        let listed = self.sleds.nops_in(function.start.saturating_sub(NOPS_BEFORE), start)?;
        // NOPs before the function are its own only if there is nothing else in between.
        let before = region.slice(listed, function.start);
        if filler::length(before) < before.len() {
            return None;
        }
        let span = nop_span(region.slice(start, function.end))?;
        self.clear(start, span, PATCH_BYTES).ok()?;
        Some(site(region, start, span, Rung::Sled))
    }

    fn prologue(&self, function: &Candidate, region: &Region) -> Result<Site, Refusal> {
        let start = patch_start(function, region);
        let span = span(region, start, function.end, PATCH_BYTES)?;
        self.clear(start, span, PATCH_BYTES)?;
        let single = span.length >= PATCH_BYTES && span.boundaries == 0;
        let rung = if single { Rung::Single } else { Rung::Prologue };
        Ok(site(region, start, span, rung))
    }

    /// Whether the bytes of a patch are this function's alone, and nothing branches into them.
    fn clear(&self, start: u64, span: Span, patch: usize) -> Result<(), Refusal> {
        let end = start + span.length.max(patch) as u64;
        let next = self.code.candidates.partition_point(|other| other.start <= start);
        let next = self.code.candidates.get(next).map_or(u64::MAX, |other| other.start);
        if next < end || !self.is_free(start, end) {
            Err(Refusal::Overlaps)
        } else if self.sleds.is_critical(start, end) {
            Err(Refusal::RestartableSequence)
        } else if self.sweep.targets.any(start + 1..end) {
            Err(Refusal::BranchIntoPatch)
        } else {
            Ok(())
        }
    }

    /// The last resort for what the other rungs refused: a short jump to filler nearby.
    fn hop_the_rest(&mut self, verdicts: &mut [Result<Site, Refusal>]) {
        const HOPPABLE: [Refusal; 4] = [
            Refusal::TooShort,
            Refusal::BranchIntoPatch,
            Refusal::UnmovableInstruction,
            Refusal::Overlaps,
        ];
        for (function, verdict) in self.code.candidates.iter().zip(verdicts) {
            if !matches!(verdict, Err(refusal) if HOPPABLE.contains(refusal)) {
                continue;
            }
            if let Some(site) = self.hop(function) {
                *verdict = Ok(site);
            }
        }
    }

    fn hop(&mut self, function: &Candidate) -> Option<Site> {
        let region = self.region(function).ok()?;
        let start = patch_start(function, region);
        let span = span(region, start, function.end, HOP_BYTES).ok()?;
        // A thread may stand on the second byte: then the jump cannot be written safely.
        if span.boundaries & 0b10 != 0 {
            return None;
        }
        self.clear(start, span, HOP_BYTES).ok()?;
        let hop = self.hole_near(start + HOP_BYTES as u64)?;
        self.take(start, span.length.max(HOP_BYTES));
        self.take(hop, PATCH_BYTES);
        Some(Site { hop: Some(hop), ..site(region, start, span, Rung::Hop) })
    }

    /// Room for a patch in filler that a short jump which ends at `from` reaches.
    fn hole_near(&self, from: u64) -> Option<u64> {
        let (lowest, highest) = (from.saturating_sub(128), from + 127);
        let first = self.sweep.holes.partition_point(|hole| hole.1 <= lowest);
        let near = self.sweep.holes[first..].iter().take_while(|hole| hole.0 <= highest);
        let room = PATCH_BYTES as u64;
        let places = near.flat_map(|hole| {
            hole.0.max(lowest)..(highest + 1).min((hole.1 + 1).saturating_sub(room))
        });
        let unused = |&hole: &u64| {
            // The room must not be what the hopping function itself ends in.
            let apart = hole >= from || hole + room <= from - HOP_BYTES as u64;
            let end = hole + room;
            apart && self.is_free(hole, end) && !self.sweep.targets.any(hole..end)
        };
        places.into_iter().find(unused)
    }
}

/// What a function is may rule it out, wherever its bytes are.
fn refuse_by_nature(function: &Candidate) -> Result<(), Refusal> {
    let glue = |name: &&[u8]| {
        let Ok(name) = std::str::from_utf8(name) else { return false };
        GLUE.contains(&name) || GLUE_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
    };
    if function.ifunc {
        Err(Refusal::IfuncResolver)
    } else if function.names.iter().any(glue) {
        Err(Refusal::RuntimeGlue)
    } else if !function.called {
        Err(Refusal::NotACall)
    } else {
        Ok(())
    }
}

/// `mov rsp, reg` before anything else: entered with another stack than it goes on with, so there
/// is no return address (`__start_context`).
fn loads_stack_pointer(code: &[u8]) -> bool {
    match code {
        [0x48 | 0x4c, 0x89, modrm, ..] => modrm & 0xc7 == 0xc4,
        [0x48 | 0x49, 0x8b, modrm, ..] => modrm & 0xf8 == 0xe0,
        _ => false,
    }
}

fn patch_start(function: &Candidate, region: &Region) -> u64 {
    let landing = region.slice(function.start, function.end).starts_with(&ENDBR64);
    function.start + if landing { ENDBR64.len() as u64 } else { 0 }
}

fn site(region: &Region, address: u64, span: Span, rung: Rung) -> Site {
    Site {
        address,
        rung,
        displaced: region.slice(address, address + span.length as u64).to_vec(),
        boundaries: span.boundaries,
        returns: crate::site::Returns::Hooked,
        hop: None,
    }
}

/// The whole instructions that a patch of `patch` bytes displaces.
fn span(region: &Region, start: u64, end: u64, patch: usize) -> Result<Span, Refusal> {
    let reach = start.saturating_add((MAX_DISPLACED + PATCH_BYTES) as u64);
    let bytes = region.slice(start, reach);
    let body = usize::try_from(end.saturating_sub(start)).unwrap_or(usize::MAX);
    let mut decoder = Decoder::with_ip(64, bytes, start, DecoderOptions::NONE);
    let mut span = Span { length: 0, boundaries: 0 };
    let mut ended = false;
    while span.length < patch {
        if ended && filler::length(&bytes[span.length..]) + span.length >= patch {
            return Ok(span);
        }
        if span.length >= body {
            return Err(Refusal::TooShort);
        }
        let instruction = decoder.decode();
        if instruction.is_invalid() {
            return Err(Refusal::Undecodable);
        }
        span.boundaries |= boundary(span.length);
        span.length += instruction.len();
        if !is_movable(&instruction, span.length < patch) {
            return Err(Refusal::UnmovableInstruction);
        }
        ended = filler::ends_flow(&instruction);
    }
    Ok(span)
}

fn boundary(offset: usize) -> u8 {
    if (1..PATCH_BYTES).contains(&offset) { 1 << offset } else { 0 }
}

/// Whether an instruction works from elsewhere. A call that ends `inside` the patch would
/// return into the patch.
fn is_movable(instruction: &Instruction, inside: bool) -> bool {
    let fixed = matches!(
        instruction.mnemonic(),
        Mnemonic::Loop
            | Mnemonic::Loope
            | Mnemonic::Loopne
            | Mnemonic::Jcxz
            | Mnemonic::Jecxz
            | Mnemonic::Jrcxz
            | Mnemonic::Xbegin
    );
    !(fixed || inside && filler::is_call(instruction))
}

/// NOPs that make up a whole patch.
fn nop_span(bytes: &[u8]) -> Option<Span> {
    let mut span = Span { length: 0, boundaries: 0 };
    while span.length < PATCH_BYTES {
        span.boundaries |= boundary(span.length);
        span.length += filler::nop(bytes.get(span.length..)?)?;
    }
    Some(span)
}

/// How many of the first bytes are `endbr64` and NOPs.
fn skip_nops(bytes: &[u8]) -> usize {
    let mut at = if bytes.starts_with(&ENDBR64) { ENDBR64.len() } else { 0 };
    while let Some(length) = filler::nop(&bytes[at..]) {
        at += length;
    }
    at
}
