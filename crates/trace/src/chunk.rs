//! A chunk: a stretch of one thread's steps, as a steps block holds it.
//!
//! It begins with the calls that are open, so that reading can begin at any chunk. Operations and
//! times are kept apart: operations repeat, which compresses them well, and times do not.

use crate::block::STEPS_HEAD_BYTES;
use crate::checksum::crc32;
use crate::error::Flaw;
use crate::event::{Ending, FunctionId, Op, Step, ThreadId, Ticks};
use crate::stacks::{Stack, Stacks};
use crate::varint::{Fields, put, take};

/// Operation numbers below this are not entries; an entry of function `f` is `ENTER + f`.
const ENTER: u64 = 4;
const RETURNED: u64 = 0;
const UNWOUND: u64 = 1;
const NOT_SEEN: u64 = 2;
const SWITCH: u64 = 3;

/// A call that is open while a thread's steps are written or read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OpenCall {
    pub(crate) function: FunctionId,
    pub(crate) entered: Ticks,
}

/// The uncompressed beginning of a steps block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) thread: ThreadId,
    pub(crate) count: u32,
    pub(crate) first: Ticks,
    pub(crate) last: Ticks,
    /// What nearly all time differences are multiples of; 1 where there is no such number.
    pub(crate) unit: u32,
    /// How many functions were defined before this block.
    pub(crate) functions: u32,
}

impl Head {
    pub(crate) fn encode(&self) -> [u8; STEPS_HEAD_BYTES] {
        let mut bytes = [0; STEPS_HEAD_BYTES];
        bytes[..4].copy_from_slice(&self.thread.0.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.count.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.first.0.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.last.0.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.unit.to_le_bytes());
        bytes[28..32].copy_from_slice(&self.functions.to_le_bytes());
        let check = crc32(&bytes[..36]);
        bytes[36..].copy_from_slice(&check.to_le_bytes());
        bytes
    }

    /// Reads a head; `None` when it is damaged.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.get(..STEPS_HEAD_BYTES)?;
        let mut fields = Fields::new(bytes);
        let head = Self {
            thread: ThreadId(fields.fixed32()?),
            count: fields.fixed32()?,
            first: Ticks(fields.fixed64()?),
            last: Ticks(fields.fixed64()?),
            unit: fields.fixed32()?,
            functions: fields.fixed32()?,
        };
        (head.encode() == bytes && head.first <= head.last && head.unit > 0).then_some(head)
    }
}

/// Collects the steps of a chunk.
#[derive(Debug, Default)]
pub(crate) struct ChunkBuilder {
    opening: Vec<u8>,
    operations: Vec<u8>,
    differences: Vec<u64>,
    first: Ticks,
    last: Ticks,
}

impl ChunkBuilder {
    pub(crate) fn is_empty(&self) -> bool {
        self.differences.is_empty()
    }

    /// Whether the chunk is long enough: `target` bytes, or more where so many calls are open
    /// that listing them would otherwise be most of it.
    pub(crate) fn is_full(&self, target: usize) -> bool {
        self.operations.len() + self.differences.len() >= target.max(4 * self.opening.len())
    }

    /// Begins a chunk whose first step is at `first`, when `stacks` are open.
    pub(crate) fn begin(&mut self, first: Ticks, stacks: &Stacks<OpenCall>) {
        self.opening.clear();
        self.operations.clear();
        self.differences.clear();
        (self.first, self.last) = (first, first);
        put_stacks(&mut self.opening, first, stacks);
    }

    /// Adds a step; its time is not before the last one's.
    #[inline]
    pub(crate) fn push(&mut self, step: Step) {
        self.differences.push(step.at.0 - self.last.0);
        self.last = step.at;
        match step.op {
            Op::Enter(function) => put(&mut self.operations, ENTER + u64::from(function.0)),
            Op::Leave(Ending::Returned) => put(&mut self.operations, RETURNED),
            Op::Leave(Ending::Unwound) => put(&mut self.operations, UNWOUND),
            Op::Leave(Ending::NotSeen) => put(&mut self.operations, NOT_SEEN),
            Op::Switch(stack) => {
                put(&mut self.operations, SWITCH);
                put(&mut self.operations, u64::from(stack));
            }
        }
    }

    /// Lays the chunk out: its content in `content`, its head as the result. The builder is
    /// empty afterwards.
    pub(crate) fn finish(
        &mut self,
        thread: ThreadId,
        functions: u32,
        content: &mut Vec<u8>,
    ) -> Head {
        // A difference of half of all time would leave no room for the mark.
        let plain = (self.last.0 - self.first.0) >> 63 != 0;
        let unit = if plain { 1 } else { common_unit(&self.differences) };
        content.clear();
        content.extend_from_slice(&self.opening);
        put(content, self.operations.len() as u64);
        content.extend_from_slice(&self.operations);
        put_differences(content, &self.differences, unit);
        let count = self.differences.len() as u32;
        self.differences.clear();
        Head { thread, count, first: self.first, last: self.last, unit, functions }
    }
}

fn put_stacks(out: &mut Vec<u8>, now: Ticks, stacks: &Stacks<OpenCall>) {
    put(out, stacks.all().len() as u64);
    put(out, u64::from(stacks.current_index()));
    for stack in stacks.all() {
        put(out, u64::from(stack.base));
        put(out, stack.calls.len() as u64);
        let mut before = None;
        for call in &stack.calls {
            // The outermost is so old, each further one so much younger.
            let since = before.map_or(now.0 - call.entered.0, |before| call.entered.0 - before);
            put(out, u64::from(call.function.0));
            put(out, since);
            before = Some(call.entered.0);
        }
    }
}

fn take_stacks(fields: &mut Fields<'_>, now: Ticks) -> Option<Stacks<OpenCall>> {
    let count = fields.number()?;
    let current = fields.number32()?;
    let mut stacks = Vec::new();
    for _ in 0..count {
        let base = fields.number32()?;
        let mut calls: Vec<OpenCall> = Vec::new();
        for _ in 0..fields.number()? {
            let function = FunctionId(fields.number32()?);
            let since = fields.number()?;
            let entered = match calls.last() {
                None => now.0.checked_sub(since)?,
                Some(before) => before.entered.0.checked_add(since)?,
            };
            if entered > now.0 {
                return None;
            }
            calls.push(OpenCall { function, entered: Ticks(entered) });
        }
        stacks.push(Stack { base, calls });
    }
    Stacks::from_parts(stacks, current)
}

/// Neighbouring differences whose common divisor is taken for a candidate.
const GROUP: usize = 8;

/// Finds what most differences are multiples of: many processors advance the counter in strides.
fn common_unit(differences: &[u64]) -> u32 {
    // Whole groups of neighbours, lest a program's own rhythm be taken for the counter's.
    let step = (differences.len() / GROUP / 64).max(1);
    let groups = || differences.chunks(GROUP).step_by(step);
    let mut candidates: Vec<u64> =
        groups().map(|group| group.iter().fold(0, |a, &b| divisor(a, b))).collect();
    candidates.sort_unstable();
    let commonest = candidates
        .chunk_by(|a, b| a == b)
        .filter(|same| same[0] > 0)
        .max_by_key(|same| same.len())
        .map_or(1, |same| same[0]);
    let sample = || groups().flatten();
    let fits = sample().filter(|&&difference| difference % commonest.max(1) == 0).count();
    match u32::try_from(commonest) {
        Ok(unit) if unit > 1 && fits * 8 >= sample().count() * 7 => unit,
        _ => 1,
    }
}

fn divisor(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// With a unit, multiples of it are written as `multiple << 1`, others as `difference << 1 | 1`.
fn put_differences(out: &mut Vec<u8>, differences: &[u64], unit: u32) {
    for &difference in differences {
        if unit == 1 {
            put(out, difference);
            continue;
        }
        // The narrow division is several times quicker, and nearly always enough.
        let (multiple, rest) = match u32::try_from(difference) {
            Ok(narrow) => (u64::from(narrow / unit), u64::from(narrow % unit)),
            Err(_) => (difference / u64::from(unit), difference % u64::from(unit)),
        };
        if rest == 0 {
            put(out, multiple << 1);
        } else {
            put(out, difference << 1 | 1);
        }
    }
}

/// Reads the steps of a chunk.
#[derive(Debug, Default)]
pub(crate) struct ChunkReader {
    content: Vec<u8>,
    operation: usize,
    operations_end: usize,
    time: usize,
    unit: u64,
    at: u64,
    last: u64,
}

impl ChunkReader {
    /// The buffer to put a chunk's content in before [`begin`](Self::begin).
    pub(crate) fn content_mut(&mut self) -> &mut Vec<u8> {
        &mut self.content
    }

    /// Begins to read the content, and says which calls are open. `None` when it makes no sense.
    pub(crate) fn begin(&mut self, head: &Head) -> Option<Stacks<OpenCall>> {
        // Whatever happens below, nothing is left to read unless all of it is sound.
        (self.operation, self.operations_end) = (0, 0);
        let mut fields = Fields::new(&self.content);
        let stacks = take_stacks(&mut fields, head.first)?;
        let length = usize::try_from(fields.number()?).ok()?;
        let begin = fields.position();
        fields.raw(length)?;
        (self.operation, self.operations_end) = (begin, begin + length);
        self.time = self.operations_end;
        self.unit = u64::from(head.unit);
        (self.at, self.last) = (head.first.0, head.last.0);
        Some(stacks)
    }

    /// Whether all steps have been read.
    #[inline]
    fn at_end(&self) -> bool {
        self.operation >= self.operations_end
    }

    /// Reads steps into `steps` until there are `most` or the chunk ends; they name functions
    /// below `functions`. Those before a flaw are read.
    pub(crate) fn fill(
        &mut self,
        steps: &mut Vec<Step>,
        most: usize,
        functions: usize,
    ) -> Result<(), Flaw> {
        while steps.len() < most && !self.at_end() {
            let step = self.next().ok_or(Flaw::BadContent)?;
            if matches!(step.op, Op::Enter(function) if function.0 as usize >= functions) {
                return Err(Flaw::Undefined);
            }
            steps.push(step);
        }
        Ok(())
    }

    /// The next step; `None` when the content makes no sense.
    #[inline(always)]
    fn next(&mut self) -> Option<Step> {
        let operations = self.content.get(..self.operations_end)?;
        let op = match take(operations, &mut self.operation)? {
            RETURNED => Op::Leave(Ending::Returned),
            UNWOUND => Op::Leave(Ending::Unwound),
            NOT_SEEN => Op::Leave(Ending::NotSeen),
            SWITCH => Op::Switch(take(operations, &mut self.operation)?.try_into().ok()?),
            enter => Op::Enter(FunctionId((enter - ENTER).try_into().ok()?)),
        };
        let coded = take(&self.content, &mut self.time)?;
        let difference = match (self.unit, coded & 1) {
            (1, _) => coded,
            (unit, 0) => (coded >> 1).checked_mul(unit)?,
            _ => coded >> 1,
        };
        self.at = self.at.checked_add(difference)?.min(self.last);
        Some(Step { at: Ticks(self.at), op })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip(steps: &[Step]) -> Head {
        let mut builder = ChunkBuilder::default();
        builder.begin(steps[0].at, &Stacks::default());
        steps.iter().for_each(|&step| builder.push(step));
        let mut reader = ChunkReader::default();
        let head = builder.finish(ThreadId(3), 9, reader.content_mut());
        assert_eq!(Head::decode(&head.encode()), Some(head));
        assert_eq!(reader.begin(&head), Some(Stacks::default()));
        for &step in steps {
            assert_eq!(reader.next(), Some(step));
        }
        assert!(reader.at_end());
        head
    }

    fn at(ticks: u64, op: Op) -> Step {
        Step { at: Ticks(ticks), op }
    }

    #[test]
    fn every_operation_survives() {
        let head = round_trip(&[
            at(1000, Op::Enter(FunctionId(u32::MAX))),
            at(1000, Op::Enter(FunctionId(0))),
            at(1300, Op::Leave(Ending::Returned)),
            at(1 << 40, Op::Leave(Ending::Unwound)),
            at(1 << 62, Op::Leave(Ending::NotSeen)),
            at(1 << 62, Op::Switch(77)),
        ]);
        assert_eq!((head.count, head.first, head.last), (6, Ticks(1000), Ticks(1 << 62)));
    }

    #[test]
    fn strides_of_the_counter_are_found_and_exceptions_to_them_kept() {
        let mut now = 5;
        let steps: Vec<Step> = (0..1000)
            .map(|n| {
                now += if n % 50 == 7 { 1001 } else { 26 * (n % 9) };
                at(now, Op::Enter(FunctionId(1)))
            })
            .collect();
        assert_eq!(round_trip(&steps).unit, 26);
        let odd: Vec<Step> = (0..1000).map(|n| at(n * n + n, Op::Enter(FunctionId(1)))).collect();
        assert_eq!(round_trip(&odd).unit, 2);
        let none: Vec<Step> = (0..9).map(|_| at(7, Op::Enter(FunctionId(1)))).collect();
        assert_eq!(round_trip(&none).unit, 1);
    }

    #[test]
    fn open_calls_survive() {
        let call = |function, entered| OpenCall {
            function: FunctionId(function),
            entered: Ticks(entered),
        };
        let mut stacks = Stacks::default();
        stacks.enter(call(1, 10));
        stacks.enter(call(2, 30));
        stacks.switch(1);
        stacks.enter(call(3, 20));
        let mut bytes = Vec::new();
        put_stacks(&mut bytes, Ticks(40), &stacks);
        assert_eq!(take_stacks(&mut Fields::new(&bytes), Ticks(40)), Some(stacks));
        for length in 0..bytes.len() {
            assert_eq!(take_stacks(&mut Fields::new(&bytes[..length]), Ticks(40)), None);
        }
    }
}
