//! Whether threads are still in code of ours.
//!
//! No thread is stopped for it. One that waits in the kernel says where; one that runs has left the
//! few instructions that there are when it has had ten milliseconds of processor time. A thread that was
//! interrupted there is found by the frame of the signal on its stack.

use sledge_discover::maps;
use sledge_wire::attach::RESCUED;
use std::collections::HashMap;
use std::fs::{self, File};
use std::ops::Range;
use std::os::unix::fs::FileExt;

/// Processor time in which any thread has left generated code, a fault there included.
const ENOUGH_NANOSECONDS: u64 = 10_000_000;
/// How much of a stack is searched for frames of signals.
const SEARCHED: u64 = 1 << 20;
/// Segment registers as they lie in every signal frame of a 64-bit thread, two words behind the
/// instruction pointer.
const SEGMENTS: u64 = 0x002b_0000_0000_0033;
/// Words from the instruction pointer of such a frame back to its link.
const LINK: usize = 20;

/// Which threads are out.
#[derive(Debug)]
pub(super) struct Evacuation {
    pid: i32,
    agent: u32,
    ranges: Vec<Range<u64>>,
    /// Threads that were there when originals were back, with the time they had run.
    inside: HashMap<i32, u64>,
}

impl Evacuation {
    pub(super) fn new(pid: i32, agent: u32, ranges: Vec<Range<u64>>) -> Self {
        let threads = threads(pid).into_iter().filter(|&tid| !is_agent(pid, tid, agent));
        let inside = threads.map(|tid| (tid, time_run(pid, tid).unwrap_or(0))).collect();
        Self { pid, agent, ranges, inside }
    }

    /// Whether all are out; those found out are not looked at again.
    pub(super) fn threads_are_out(&mut self) -> bool {
        let _ = self.agent;
        let (pid, ranges) = (self.pid, &self.ranges);
        self.inside.retain(|&tid, before| !is_out(pid, tid, *before, ranges));
        self.inside.is_empty()
    }
}

fn threads(pid: i32) -> Vec<i32> {
    let entries = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// The agent's thread, by its id as its own process sees it.
fn is_agent(pid: i32, tid: i32, agent: u32) -> bool {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{tid}/status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("NSpid:"));
    let inside = line.and_then(|line| line.split_whitespace().last()?.parse::<u32>().ok());
    inside.unwrap_or(tid.cast_unsigned()) == agent
}

fn time_run(pid: i32, tid: i32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{tid}/schedstat")).ok()?;
    text.split_whitespace().next()?.parse().ok()
}

/// Whether a thread can no longer be in one of the ranges.
fn is_out(pid: i32, tid: i32, before: u64, ranges: &[Range<u64>]) -> bool {
    let Ok(text) = fs::read_to_string(format!("/proc/{pid}/task/{tid}/syscall")) else {
        return true;
    };
    let words: Vec<u64> = text.split_whitespace().filter_map(number).collect();
    let [.., stack, place] = words[..] else {
        // It runs.
        return time_run(pid, tid).is_none_or(|now| now >= before + ENOUGH_NANOSECONDS);
    };
    let inside = |address: u64| ranges.iter().any(|range| range.contains(&address));
    !inside(place) && !interrupted(pid, stack).iter().any(|&address| inside(address))
}

fn number(word: &str) -> Option<u64> {
    word.strip_prefix("0x").and_then(|digits| u64::from_str_radix(digits, 16).ok())
}

/// Where signal handlers on a stack, from its pointer up, will return to.
fn interrupted(pid: i32, stack: u64) -> Vec<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
    let mappings = maps::parse(&text);
    let Some(mapping) = mappings.iter().find(|mapping| mapping.contains(stack)) else {
        return Vec::new();
    };
    let length = (mapping.end - stack).min(SEARCHED) as usize & !7;
    let mut bytes = vec![0; length];
    let memory = File::open(format!("/proc/{pid}/mem"));
    if memory.and_then(|memory| memory.read_exact_at(&mut bytes, stack & !7)).is_err() {
        return Vec::new();
    }
    let word = |chunk: &[u8]| u64::from_le_bytes(chunk.try_into().unwrap_or_default());
    let words: Vec<u64> = bytes.chunks_exact(8).map(word).collect();
    in_frames(&words)
}

/// Instruction pointers in the frames of signals among words of a stack; but for those that the agent
/// sent on. It blocks all signals for that and waits for nothing, so a thread that sleeps is done with
/// it: what is found is left over, in a part of the stack that was not written since.
fn in_frames(words: &[u64]) -> Vec<u64> {
    let is_over = |at: usize| at.checked_sub(LINK).is_some_and(|link| words[link] == RESCUED);
    // Instruction pointer, flags, segments.
    let frames = words.windows(3).enumerate().filter(|(_, three)| three[2] == SEGMENTS);
    frames.filter(|(at, _)| !is_over(*at)).map(|(_, three)| three[0]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_that_are_over_are_not_interrupted() {
        let mut words = vec![7; 200];
        for (at, link) in [(30, 0), (80, RESCUED), (130, 0)] {
            words[at..at + 3].copy_from_slice(&[at as u64, 0x246, SEGMENTS]);
            words[at - LINK] = link;
        }
        words[2] = SEGMENTS;
        assert_eq!(in_frames(&words), [7, 30, 130]);
    }

    #[test]
    fn a_sleeping_thread_is_in_or_out_by_where_it_sleeps() {
        let (stop, wait) = std::sync::mpsc::channel::<()>();
        let (tell, told) = std::sync::mpsc::channel();
        let sleeper = std::thread::spawn(move || {
            tell.send(nix::unistd::gettid().as_raw()).unwrap();
            wait.recv().is_err()
        });
        let (pid, tid) = (std::process::id().cast_signed(), told.recv().unwrap());
        while fs::read_to_string(format!("/proc/{pid}/task/{tid}/syscall")).unwrap() == "running\n"
        {
            std::thread::yield_now();
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
        assert!(is_out(pid, tid, u64::MAX / 2, std::slice::from_ref(&(1..2))));
        assert!(!is_out(pid, tid, u64::MAX / 2, std::slice::from_ref(&(1..u64::MAX))));
        drop(stop);
        assert!(sleeper.join().unwrap());
    }
}
