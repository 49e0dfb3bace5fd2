//! Generate: the trampolines of an ops set. Here: the set of one recorder.
//!
//! A WORD OF CAUTION: this file, `thunk.rs`, `sledge_wire::cell` and the agent's `ranges.rs`
//! and `slow.rs` are one piece of code in five places. `S` is the address of the stack cell that
//! holds the return address of the hooked function.
//!
//! A trampoline is called by a thunk and may change no register but `r10` and the flags. It
//! keeps what it needs in the red zone below its `rsp` and never moves `rsp`: the unwind rule of
//! the range relies on that, and `push` would buy nothing.

use crate::emit::{Condition, Emitter, Label, Mem, Reg};
use sledge_wire::attach;
use sledge_wire::block::{BLOCK_BASE, BLOCK_CURSOR, BLOCK_LIMIT, BLOCK_MASK};
use sledge_wire::cell;
use sledge_wire::record::{CELL_OFFSET, Kind, RECORD_BYTES, TAG_OFFSET};
use std::ops::Range;

/// Bytes reserved for the trampolines at the beginning of their range; gates follow.
pub const TRAMPOLINE_BYTES: u64 = 4096;

/// What the agent told of itself: the addresses that generated code refers to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AgentLayout {
    /// Start of the range for thunks.
    pub thunks: u64,
    /// Start of the range for relocated prologues.
    pub relocated: u64,
    /// Start of the range for trampolines.
    pub trampolines: u64,
    /// The slot table.
    pub slots: u64,
    /// Offset of the thread's word from the thread pointer.
    pub tls_offset: i32,
    /// Slow path: the stack has no slots yet.
    pub cover: u64,
    /// Slow path: the thread has no block yet.
    pub thread: u64,
    /// Slow path: the ring wants attention.
    pub full: u64,
    /// Completes the environment for `execve`, `fexecve`, `execveat`.
    pub exec: [u64; 3],
    /// Takes values for probes; 0 where sites have none, and are not asked.
    pub probe: u64,
}

/// How code in a process that was running already differs: no loader gave the agent a word of
/// thread-local storage, and recording ends while threads are in the code.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attachment {
    /// The table of threads (`sledge_wire::attach::Known`).
    pub table: u64,
    /// Where from the thread pointer a thread's id lies.
    pub tid_offset: i32,
    /// The words through which the trampolines go on.
    pub switches: u64,
}

/// The trampolines of one ops set.
#[derive(Clone, Debug)]
pub struct Trampolines {
    /// Their code, for the beginning of the range.
    pub code: Vec<u8>,
    /// Called on entry to a hooked function; leaves the distance to the slot in `r10`.
    pub enter: u64,
    /// Called on entry to a function whose exit is not hooked.
    pub enter_only: u64,
    /// Called on exit; leaves the distance to the slot in `r10`.
    pub leave: u64,
    /// Switches that must be set before any of it runs: address of the word, and its value.
    pub switches: Vec<(u64, u64)>,
}

impl Trampolines {
    /// Generates the trampolines that record entry and exit.
    ///
    /// With `callers`, only calls from these ranges are hooked; of others the entry is recorded.
    /// Runtimes that compile code find their frames by the return addresses they pushed, and
    /// must find those unchanged.
    #[must_use]
    pub fn recorder(agent: &AgentLayout, callers: &[Range<u64>]) -> Self {
        let mut code = Emitter::at(agent.trampolines);
        let [enter, enter_only, leave] = emit_recorder(&mut code, agent, None, callers);
        code.pad_to(TRAMPOLINE_BYTES);
        Self { code: code.finish(), enter, enter_only, leave, switches: Vec::new() }
    }

    /// Generates the same for a process that was running already. Each trampoline goes on through a
    /// switch: to code that records, or to code that leaves everything as it is.
    #[must_use]
    pub fn attached(agent: &AgentLayout, to: &Attachment, callers: &[Range<u64>]) -> Self {
        let word = |index: usize| to.switches + 8 * index as u64;
        let mut code = Emitter::at(agent.trampolines);
        let [enter, enter_only, leave] =
            [attach::SWITCH_ENTER, attach::SWITCH_ENTER_ONLY, attach::SWITCH_LEAVE].map(|switch| {
                let place = code.here();
                code.jump_through(Mem::Absolute(word(switch)));
                align(&mut code);
                place
            });
        let recording = emit_recorder(&mut code, agent, Some(to), callers);
        align(&mut code);
        let quiet = emit_quiet(&mut code, agent);
        code.pad_to(TRAMPOLINE_BYTES);
        let switches = recording.into_iter().chain(quiet).enumerate();
        let switches = switches.map(|(index, target)| (word(index), target)).collect();
        Self { code: code.finish(), enter, enter_only, leave, switches }
    }
}

/// The trampolines that record: for entries, for entries alone, for exits.
fn emit_recorder(
    code: &mut Emitter,
    agent: &AgentLayout,
    to: Option<&Attachment>,
    callers: &[Range<u64>],
) -> [u64; 3] {
    let enter = code.here();
    emit_enter(code, agent, to, callers);
    align(code);
    let enter_only = code.here();
    emit_enter_only(code, agent, to);
    align(code);
    let leave = code.here();
    emit_leave(code, agent, to);
    [enter, enter_only, leave]
}

/// The trampolines that record nothing: a call goes on without a hook, and who returns finds where
/// to.
fn emit_quiet(code: &mut Emitter, agent: &AgentLayout) -> [u64; 3] {
    let enter = code.here();
    code.add_immediate(Mem::Base(Reg::Rsp, 0), (cell::UNHOOKED - cell::AFTER_ENTER) as i8);
    code.ret();
    align(code);
    let enter_only = code.here();
    code.ret();
    align(code);
    let leave = code.here();
    spill(code, &LEAVING);
    emit_slot_distance(code, agent, &LEAVING);
    restore(code, &LEAVING);
    code.ret();
    [enter, enter_only, leave]
}

fn align(code: &mut Emitter) {
    while !code.here().is_multiple_of(64) {
        code.raw(&[0xcc]);
    }
}

/// Where a trampoline finds things on the stack: distances from its `rsp`.
struct Frame {
    /// The cell of the hooked function's return address.
    cell: i32,
    /// First of the four words that hold `r11`, `rax`, `rdx`.
    spill: i32,
    /// From the address that the trampoline returns to, back to the thunk's site index.
    site: i32,
}

/// Called from a thunk's entry: `rsp = S - 8`; the thunk keeps `r10` at `S - 24`.
const ENTERING: Frame =
    Frame { cell: 8, spill: -24, site: cell::THUNK_SITE as i32 - cell::AFTER_ENTER as i32 };
/// Called from a thunk's exit: `rsp = S`; the thunk keeps `r10` at `S - 24`.
const LEAVING: Frame =
    Frame { cell: 0, spill: -32, site: cell::THUNK_SITE as i32 - cell::AFTER_LEAVE as i32 };

fn spill(code: &mut Emitter, frame: &Frame) {
    for (i, reg) in [Reg::R11, Reg::Rax, Reg::Rdx].into_iter().enumerate() {
        code.store(Mem::Base(Reg::Rsp, frame.spill - 8 * i as i32), reg);
    }
}

fn restore(code: &mut Emitter, frame: &Frame) {
    for (i, reg) in [Reg::R11, Reg::Rax, Reg::Rdx].into_iter().enumerate() {
        code.load(reg, Mem::Base(Reg::Rsp, frame.spill - 8 * i as i32));
    }
}

/// Entry of a hooked function. Tail calls are told by their return address, which lies in a
/// thunk: they are recorded as such, and go on without being hooked.
fn emit_enter(
    code: &mut Emitter,
    agent: &AgentLayout,
    to: Option<&Attachment>,
    callers: &[Range<u64>],
) {
    let (tail, uncovered, covered) = (code.label(), code.label(), code.label());
    let foreign = code.label();
    spill(code, &ENTERING);
    code.load(Reg::R10, Mem::Base(Reg::Rsp, ENTERING.cell));
    code.lea(Reg::R11, Mem::Absolute(agent.thunks));
    code.subtract(Reg::R10, Reg::R11);
    code.compare_immediate(Reg::R10, cell::THUNK_RANGE as i32);
    code.branch(Condition::Below, tail);
    emit_caller_check(code, callers, foreign);
    code.place(covered);
    emit_slot_distance(code, agent, &ENTERING);
    code.test(Reg::R10);
    code.branch(Condition::Zero, uncovered);
    emit_record(code, agent, to, &ENTERING, Kind::Enter);
    emit_probes(code, agent, &ENTERING);
    restore(code, &ENTERING);
    code.ret();

    code.place(tail);
    emit_unhooked(code, agent, to, Kind::Tail);
    code.place(foreign);
    if !callers.is_empty() {
        emit_unhooked(code, agent, to, Kind::EnterOnly);
    }

    code.place(uncovered);
    code.call(agent.cover);
    code.jump_to(covered);
}

/// Records, and returns to where the thunk goes on without a hook.
fn emit_unhooked(code: &mut Emitter, agent: &AgentLayout, to: Option<&Attachment>, kind: Kind) {
    emit_record(code, agent, to, &ENTERING, kind);
    emit_probes(code, agent, &ENTERING);
    restore(code, &ENTERING);
    code.add_immediate(Mem::Base(Reg::Rsp, 0), (cell::UNHOOKED - cell::AFTER_ENTER) as i8);
    code.ret();
}

/// Goes on if the return address lies in one of the ranges; changes `r10` and `r11`.
fn emit_caller_check(code: &mut Emitter, callers: &[Range<u64>], foreign: Label) {
    let known = code.label();
    for range in callers {
        let length = i32::try_from(range.end - range.start).unwrap_or(i32::MAX);
        code.load(Reg::R10, Mem::Base(Reg::Rsp, ENTERING.cell));
        code.set64(Reg::R11, range.start);
        code.subtract(Reg::R10, Reg::R11);
        code.compare_immediate(Reg::R10, length);
        code.branch(Condition::Below, known);
    }
    if !callers.is_empty() {
        code.jump_to(foreign);
    }
    code.place(known);
}

fn emit_enter_only(code: &mut Emitter, agent: &AgentLayout, to: Option<&Attachment>) {
    spill(code, &ENTERING);
    emit_record(code, agent, to, &ENTERING, Kind::EnterOnly);
    emit_probes(code, agent, &ENTERING);
    restore(code, &ENTERING);
    code.ret();
}

fn emit_leave(code: &mut Emitter, agent: &AgentLayout, to: Option<&Attachment>) {
    spill(code, &LEAVING);
    emit_record(code, agent, to, &LEAVING, Kind::Exit);
    emit_probes(code, agent, &LEAVING);
    emit_slot_distance(code, agent, &LEAVING);
    restore(code, &LEAVING);
    code.ret();
}

/// Has values taken, if the site has probes. The agent sees all registers but `r10` as the function
/// does, finds that one where the thunk put it, and gives every one back. Changes `r11`.
fn emit_probes(code: &mut Emitter, agent: &AgentLayout, frame: &Frame) {
    if agent.probe == 0 {
        return;
    }
    let none = code.label();
    let probes = frame.site + (cell::THUNK_PROBES - cell::THUNK_SITE) as i32;
    code.load(Reg::R11, Mem::Base(Reg::Rsp, 0));
    code.load32(Reg::R11, Mem::Base(Reg::R11, probes));
    code.test(Reg::R11);
    code.branch(Condition::Zero, none);
    restore(code, frame);
    code.call(agent.probe);
    code.place(none);
}

/// `r10 = slots[S >> 24]`; changes `r11`.
fn emit_slot_distance(code: &mut Emitter, agent: &AgentLayout, frame: &Frame) {
    code.lea(Reg::R10, Mem::Base(Reg::Rsp, frame.cell));
    code.shift_right(Reg::R10, cell::SLOT_SHIFT as u8);
    code.lea(Reg::R11, Mem::Absolute(agent.slots));
    code.load(Reg::R10, Mem::Scaled(Reg::R11, Reg::R10));
}

/// Writes one record into the thread's ring; changes `r11`, `rax`, `rdx`.
///
/// The place is reserved by one instruction, so that a signal handler's records go before or
/// behind this one; the time is written last, and commits it.
fn emit_record(
    code: &mut Emitter,
    agent: &AgentLayout,
    to: Option<&Attachment>,
    frame: &Frame,
    kind: Kind,
) {
    let (again, arrange, full, done) = (code.label(), code.label(), code.label(), code.label());
    let block = |field: usize| Mem::Base(Reg::R11, field as i32);
    code.place(again);
    match to {
        Some(to) => emit_known_thread(code, to, arrange),
        None => code.load(Reg::R11, Mem::Thread(agent.tls_offset)),
    }
    code.test(Reg::R11);
    code.branch(Condition::Zero, arrange);
    code.load(Reg::Rdx, block(BLOCK_CURSOR));
    code.compare(Reg::Rdx, block(BLOCK_LIMIT));
    code.branch(Condition::AboveOrEqual, full);
    code.read_time();
    code.shift_left(Reg::Rdx, 32);
    code.or(Reg::Rax, Reg::Rdx);
    code.set32(Reg::Rdx, RECORD_BYTES as u32);
    code.exchange_add(block(BLOCK_CURSOR), Reg::Rdx);
    code.and32(Reg::Rdx, block(BLOCK_MASK));
    code.add(Reg::Rdx, block(BLOCK_BASE));
    code.load(Reg::R11, Mem::Base(Reg::Rsp, 0));
    code.load32(Reg::R11, Mem::Base(Reg::R11, frame.site));
    if kind.bits() != 0 {
        code.or_immediate32(Reg::R11, kind.bits());
    }
    code.store32(Mem::Base(Reg::Rdx, TAG_OFFSET as i32), Reg::R11);
    code.lea(Reg::R11, Mem::Base(Reg::Rsp, frame.cell));
    code.shift_right(Reg::R11, 3);
    code.store32(Mem::Base(Reg::Rdx, CELL_OFFSET as i32), Reg::R11);
    code.store(Mem::Base(Reg::Rdx, 0), Reg::Rax);
    code.jump_to(done);
    for (label, path) in [(arrange, agent.thread), (full, agent.full)] {
        code.place(label);
        code.call(path);
        code.jump_to(again);
    }
    code.place(done);
}

/// Looks the thread's block up by its thread pointer and its id, into `r11`; changes `rax`, `rdx`.
fn emit_known_thread(code: &mut Emitter, to: &Attachment, unknown: Label) {
    let (probe, found) = (code.label(), code.label());
    code.load(Reg::Rax, Mem::Thread(0));
    code.set64(Reg::R11, attach::KNOWN_FACTOR);
    code.multiply(Reg::R11, Reg::Rax);
    code.shift_right(Reg::R11, 64 - attach::KNOWN_BITS as u8);
    code.shift_left(Reg::R11, attach::KNOWN_BYTES.trailing_zeros() as u8);
    code.lea(Reg::Rdx, Mem::Absolute(to.table));
    code.lea(Reg::R11, Mem::Indexed(Reg::R11, Reg::Rdx, 0));
    code.place(probe);
    code.load(Reg::Rdx, Mem::Base(Reg::R11, 0));
    code.test(Reg::Rdx);
    code.branch(Condition::Zero, unknown);
    code.subtract(Reg::Rdx, Reg::Rax);
    code.branch(Condition::Zero, found);
    code.lea(Reg::R11, Mem::Base(Reg::R11, attach::KNOWN_BYTES as i32));
    code.jump_to(probe);
    code.place(found);
    code.load32(Reg::Rdx, Mem::Thread(to.tid_offset));
    code.compare(Reg::Rdx, Mem::Base(Reg::R11, attach::KNOWN_TID as i32));
    code.branch(Condition::NotZero, unknown);
    code.load(Reg::R11, Mem::Base(Reg::R11, attach::KNOWN_BLOCK as i32));
}
