//! One pass over all code: where branches lead, what functions do with their return address,
//! and where filler is.

use iced_x86::{Decoder, DecoderOptions, Instruction, OpKind};

use crate::candidates::Code;
use crate::filler;
use crate::returns::{Habits, Tracker};
use crate::sections::Region;

/// What the pass found.
#[derive(Default)]
pub(crate) struct Sweep {
    pub(crate) targets: Targets,
    /// Filler between functions that execution does not run into, by address.
    pub(crate) holes: Vec<(u64, u64)>,
    /// What each candidate does with its return address.
    pub(crate) habits: Vec<Habits>,
    /// Bytes that are code, but of no known function.
    pub(crate) uncovered: u64,
}

/// A set of addresses in the regions of code: one bit a byte.
#[derive(Default)]
pub(crate) struct Targets {
    regions: Vec<(u64, u64, Vec<u64>)>,
}

impl Targets {
    fn new(regions: &[Region]) -> Self {
        let words = |region: &Region| region.bytes.len().div_ceil(64);
        let bits = |region: &Region| (region.start, region.end, vec![0; words(region)]);
        Self { regions: regions.iter().map(bits).collect() }
    }

    pub(crate) fn mark(&mut self, address: u64) {
        let after = self.regions.partition_point(|region| region.0 <= address);
        let Some((start, _, bits)) = self.regions[..after].last_mut() else { return };
        let at = address - *start;
        if let Some(word) = usize::try_from(at / 64).ok().and_then(|word| bits.get_mut(word)) {
            *word |= 1 << (at % 64);
        }
    }

    fn is_marked(&self, address: u64) -> bool {
        let after = self.regions.partition_point(|region| region.0 <= address);
        self.regions[..after].last().is_some_and(|(start, _, bits)| {
            let at = address - start;
            let word = usize::try_from(at / 64).ok().and_then(|word| bits.get(word));
            word.is_some_and(|word| word & 1 << (at % 64) != 0)
        })
    }

    /// Whether any address of a (short) range is in the set.
    pub(crate) fn any(&self, mut range: std::ops::Range<u64>) -> bool {
        range.any(|address| self.is_marked(address))
    }
}

/// The pass over one region.
struct Pass<'c, 'a> {
    code: &'c Code<'a>,
    region: &'c Region<'a>,
    decoder: Decoder<'a>,
    sweep: &'c mut Sweep,
    /// The candidate that the code at hand belongs to, if it is one.
    current: Option<usize>,
    tracker: Tracker,
    /// Whether execution does not run on from the last instruction.
    ended: bool,
}

/// Decodes all code of the object.
pub(crate) fn run(code: &Code) -> Sweep {
    let mut sweep = Sweep { targets: Targets::new(&code.regions), ..Sweep::default() };
    sweep.habits.resize(code.candidates.len(), Habits::default());
    let parts = code.fragments.iter().map(|fragment| fragment.0);
    for label in code.labels.iter().copied().chain(parts) {
        sweep.targets.mark(label);
    }
    let mut extents: Vec<(u64, u64, Option<usize>)> =
        code.fragments.iter().map(|&(start, end)| (start, end, None)).collect();
    let candidates = code.candidates.iter().enumerate();
    extents.extend(candidates.map(|(index, function)| (function.start, function.end, Some(index))));
    extents.sort_unstable();
    for region in &code.regions {
        let first = extents.partition_point(|extent| extent.0 < region.start);
        let last = extents.partition_point(|extent| extent.0 < region.end);
        Pass::new(code, region, &mut sweep).run(&extents[first..last]);
    }
    sweep
}

impl<'c, 'a> Pass<'c, 'a> {
    fn new(code: &'c Code<'a>, region: &'c Region<'a>, sweep: &'c mut Sweep) -> Self {
        Self {
            code,
            region,
            decoder: Decoder::with_ip(64, region.bytes, region.start, DecoderOptions::NONE),
            sweep,
            current: None,
            tracker: Tracker::default(),
            ended: false,
        }
    }

    /// Cuts the region where anything starts or ends: decoding falls in step there.
    fn run(&mut self, extents: &[(u64, u64, Option<usize>)]) {
        let filled = self.region.start + self.region.bytes.len() as u64;
        let edges = extents.iter().flat_map(|extent| [extent.0, extent.1]);
        let mut cuts: Vec<u64> = edges.chain([self.region.start, filled]).collect();
        cuts.retain(|&cut| cut <= filled);
        cuts.sort_unstable();
        cuts.dedup();
        let (mut extents, mut covered) = (extents.iter().peekable(), 0);
        for piece in cuts.windows(2) {
            let (start, end) = (piece[0], piece[1]);
            if self.current.is_some_and(|index| start >= self.code.candidates[index].end) {
                self.leave();
            }
            while let Some(extent) = extents.next_if(|extent| extent.0 <= start) {
                covered = covered.max(extent.1);
                self.leave();
                self.current = extent.2;
            }
            if start < covered { self.decode(start, end) } else { self.gap(start, end) }
        }
        self.leave();
    }

    /// Ends the function at hand.
    fn leave(&mut self) {
        if let Some(index) = self.current.take() {
            self.sweep.habits[index] = self.tracker.habits();
        }
        self.tracker = Tracker::default();
    }

    fn gap(&mut self, start: u64, end: u64) {
        let filler = filler::length(self.region.slice(start, end)) as u64;
        let code = (start + filler).min(end);
        if code > start && code == end && self.ended {
            self.sweep.holes.push((start, end));
        }
        if code < end {
            self.sweep.uncovered += if self.region.hosts { end - code } else { 0 };
            self.decode(code, end);
        }
    }

    fn decode(&mut self, start: u64, end: u64) {
        let position = usize::try_from(start - self.region.start).unwrap_or(usize::MAX);
        if self.decoder.set_position(position).is_err() {
            return;
        }
        self.decoder.set_ip(start);
        let mut instruction = Instruction::default();
        while self.decoder.ip() < end && self.decoder.can_decode() {
            self.decoder.decode_out(&mut instruction);
            self.visit(&instruction);
        }
        let whole = !instruction.is_invalid() && self.decoder.ip() == end;
        self.ended = whole && (filler::ends_flow(&instruction) || filler::is_call(&instruction));
    }

    fn visit(&mut self, instruction: &Instruction) {
        if instruction.op0_kind() == OpKind::NearBranch64 {
            self.sweep.targets.mark(instruction.near_branch_target());
        }
        if self.current.is_some() {
            self.tracker.step(instruction);
        }
    }
}
