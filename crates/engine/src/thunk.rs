//! Generate: a site's own code.
//!
//! A WORD OF CAUTION: see `trampoline.rs`; the offsets here are those of `sledge_wire::cell`.
//!
//! The thunk takes the return address off the stack and keeps it in a slot, *calls* the rest of
//! the function, and pushes the address back before it returns. The stack cell stays the same,
//! so arguments do not move; calls and returns stay paired for the return predictor and for
//! shadow stacks; and an unwinder finds the true address through the slot.

use crate::emit::{Condition, Emitter, Label, Mem, Reg, reaches};
use crate::relocate::{AT_CALLEE, Relocated};
use crate::trampoline::{AgentLayout, Trampolines};
use sledge_wire::cell;

/// Bytes of a gate.
pub const GATE_BYTES: u64 = 128;

/// The thunk of a site whose exit is hooked.
#[must_use]
pub fn hooked(agent: &AgentLayout, set: &Trampolines, place: u64, body: u64, site: u32) -> Vec<u8> {
    let mut code = Emitter::at(place);
    code.store(Mem::Base(Reg::Rsp, -24), Reg::R10);
    code.call(set.enter);
    debug_assert_eq!(code.here() - place, cell::AFTER_ENTER);
    code.pop(Mem::Indexed(Reg::Rsp, Reg::R10, -8));
    debug_assert_eq!(code.here() - place, cell::IN_SLOT_FIRST);
    code.load(Reg::R10, Mem::Base(Reg::Rsp, -32));
    code.call(body);
    code.store(Mem::Base(Reg::Rsp, -32), Reg::R10);
    code.call(set.leave);
    debug_assert_eq!(code.here() - place, cell::IN_SLOT_LAST);
    code.push(Mem::Indexed(Reg::Rsp, Reg::R10, -8));
    code.load(Reg::R10, Mem::Base(Reg::Rsp, -24));
    code.ret();
    finish(code, agent, body, site)
}

/// The thunk of a site of which only the entry is recorded.
#[must_use]
pub fn entry_only(
    agent: &AgentLayout,
    set: &Trampolines,
    place: u64,
    body: u64,
    site: u32,
) -> Vec<u8> {
    let mut code = Emitter::at(place);
    code.store(Mem::Base(Reg::Rsp, -24), Reg::R10);
    code.call(set.enter_only);
    // Over the part of the cell in which the unwind rule looks for a slot.
    let distance = cell::UNHOOKED - (cell::AFTER_ENTER + 2);
    code.raw(&[0xeb, distance as u8]);
    finish(code, agent, body, site)
}

/// The way on without a hook, and the data of the cell.
fn finish(mut code: Emitter, agent: &AgentLayout, body: u64, site: u32) -> Vec<u8> {
    code.pad_to(cell::UNHOOKED);
    code.load(Reg::R10, Mem::Base(Reg::Rsp, -24));
    code.jump(body);
    code.pad_to(cell::THUNK_SITE);
    code.raw(&site.to_le_bytes());
    code.pad_to(cell::THUNK_PROBES);
    code.raw(&0u32.to_le_bytes());
    code.pad_to(cell::THUNK_SLOTS);
    code.raw(&agent.slots.to_le_bytes());
    code.pad_to(cell::THUNK_BYTES);
    code.finish()
}

/// The cell that holds a relocated prologue; `function` is the function's own address and
/// `skipped` how many bytes of it lie before the patch (an `endbr64`).
#[must_use]
pub fn relocated(prologue: &Relocated, function: u64, skipped: u8) -> Vec<u8> {
    let mut bytes = prologue.code.clone();
    bytes.resize(cell::RELOCATED_FUNCTION as usize, 0xcc);
    bytes.extend_from_slice(&function.to_le_bytes());
    bytes.resize(cell::RELOCATED_MAP as usize, 0);
    // Behind a displaced call's `push` the stack is as at the function's entry: a return address
    // on top, here one that leads back into the function.
    let row = |&offset: &u8| if offset == AT_CALLEE { 0 } else { offset + skipped };
    bytes.extend(prologue.map.iter().map(row));
    bytes.resize(cell::RELOCATED_BYTES as usize, 0);
    bytes
}

/// A gate: lets calls from one range of addresses, and tail calls of hooked functions, through
/// to the thunk, and all others straight to the function.
#[must_use]
pub fn caller_gate(
    agent: &AgentLayout,
    place: u64,
    callers: std::ops::Range<u64>,
    thunk: u64,
    body: u64,
) -> Vec<u8> {
    let mut code = Emitter::at(place);
    let pass = code.label();
    emit_caller_tests(&mut code, agent, callers, pass);
    restore_scratch(&mut code);
    code.jump(body);
    code.place(pass);
    restore_scratch(&mut code);
    code.jump(thunk);
    code.pad_to(GATE_BYTES);
    code.finish()
}

/// A gate that can be switched: calls from one range of addresses, and tail calls of hooked
/// functions, go on at the address that the word at `own` holds, all others at that of `others`.
#[must_use]
pub fn switched_gate(
    agent: &AgentLayout,
    place: u64,
    callers: std::ops::Range<u64>,
    own: u64,
    others: u64,
) -> Vec<u8> {
    let mut code = Emitter::at(place);
    let pass = code.label();
    emit_caller_tests(&mut code, agent, callers, pass);
    restore_scratch(&mut code);
    code.jump_through(Mem::Absolute(others));
    code.place(pass);
    restore_scratch(&mut code);
    code.jump_through(Mem::Absolute(own));
    code.pad_to(GATE_BYTES);
    code.finish()
}

/// Goes to `pass` if the caller is in one of the ranges.
fn emit_caller_tests(
    code: &mut Emitter,
    agent: &AgentLayout,
    callers: std::ops::Range<u64>,
    pass: Label,
) {
    code.store(Mem::Base(Reg::Rsp, -24), Reg::R10);
    code.store(Mem::Base(Reg::Rsp, -32), Reg::R11);
    let length = i32::try_from(callers.end - callers.start).unwrap_or(i32::MAX);
    for (start, length) in [(callers.start, length), (agent.thunks, cell::THUNK_RANGE as i32)] {
        code.load(Reg::R10, Mem::Base(Reg::Rsp, 0));
        code.set64(Reg::R11, start);
        code.subtract(Reg::R10, Reg::R11);
        code.compare_immediate(Reg::R10, length);
        code.branch(Condition::Below, pass);
    }
}

fn restore_scratch(code: &mut Emitter) {
    code.load(Reg::R10, Mem::Base(Reg::Rsp, -24));
    code.load(Reg::R11, Mem::Base(Reg::Rsp, -32));
}

/// A gate in front of `execve` and its like: has the environment completed, then goes on.
#[must_use]
pub fn exec_gate(place: u64, complete: u64, next: u64) -> Vec<u8> {
    let mut code = Emitter::at(place);
    code.call(complete);
    code.jump(next);
    code.pad_to(GATE_BYTES);
    code.finish()
}

/// An island: within reach of a site, it jumps anywhere.
#[must_use]
pub fn island(target: u64) -> [u8; ISLAND_BYTES as usize] {
    let mut bytes = [0xcc; ISLAND_BYTES as usize];
    bytes[..6].copy_from_slice(&[0xff, 0x25, 2, 0, 0, 0]);
    bytes[8..].copy_from_slice(&target.to_le_bytes());
    bytes
}

/// An island whose target is in a word within reach, where it can be changed while threads run.
#[must_use]
pub fn island_through(place: u64, word: u64) -> [u8; ISLAND_BYTES as usize] {
    let mut bytes = [0xcc; ISLAND_BYTES as usize];
    let mut code = Emitter::at(place);
    code.jump_through(Mem::Absolute(word));
    let code = code.finish();
    bytes[..code.len()].copy_from_slice(&code);
    bytes
}

/// Bytes of an island.
pub const ISLAND_BYTES: u64 = 16;

/// The bytes of a patched site: `jmp target`.
///
/// `None` if the target is out of reach.
#[must_use]
pub fn patch(site: u64, target: u64) -> Option<[u8; 5]> {
    if !reaches(site, target) {
        return None;
    }
    let displacement = i32::try_from(target.wrapping_sub(site + 5).cast_signed()).ok()?;
    let [a, b, c, d] = displacement.to_le_bytes();
    Some([0xe9, a, b, c, d])
}

#[cfg(test)]
mod tests;
