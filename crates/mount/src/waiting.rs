//! Reads of `trace_pipe` that wait for something to happen.
//!
//! A reader that is sent a signal must not wait on: the kernel holds it until we answer. The
//! library does not pass interruptions on, so we look whether a signal is pending for it.

use fuser::ReplyData;
use sledge_tracefs::{HandleId, Read, Tree};
use std::time::{Duration, Instant};

/// How often pending signals are looked for.
const ROUND: Duration = Duration::from_millis(20);

/// A read that waits.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub(crate) handle: HandleId,
    pub(crate) most: usize,
    pub(crate) tid: u32,
    pub(crate) reply: ReplyData,
}

/// All of them.
#[derive(Debug)]
pub(crate) struct WaitingReads {
    list: Vec<Waiting>,
    looked: Instant,
}

impl Default for WaitingReads {
    fn default() -> Self {
        Self { list: Vec::new(), looked: Instant::now() }
    }
}

impl WaitingReads {
    pub(crate) fn add(&mut self, waiting: Waiting) {
        self.list.push(waiting);
    }

    /// Answers those for which there is something now, and those that are interrupted; with
    /// `ended`, the others find the end of the file.
    pub(crate) fn serve(&mut self, tree: &mut Tree, ended: bool) {
        let look = self.looked.elapsed() > ROUND;
        if look {
            self.looked = Instant::now();
        }
        for it in std::mem::take(&mut self.list) {
            match tree.read(it.handle, 0, it.most) {
                Ok(Read::Data(data)) => it.reply.data(&data),
                Ok(Read::Wait) if ended => it.reply.data(&[]),
                Ok(Read::Wait) if look && is_interrupted(it.tid) => {
                    it.reply.error(fuser::Errno::EINTR);
                }
                Ok(Read::Wait) => self.list.push(it),
                Err(error) => it.reply.error(fuser::Errno::from_i32(error.code())),
            }
        }
    }
}

/// Whether a signal waits for a thread that it does not block, or the thread is gone.
fn is_interrupted(tid: u32) -> bool {
    let Ok(status) = std::fs::read_to_string(format!("/proc/{tid}/status")) else { return true };
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        u64::from_str_radix(line.trim(), 16).ok()
    };
    let pending = field("SigPnd:").unwrap_or(0) | field("ShdPnd:").unwrap_or(0);
    let kept = field("SigBlk:").unwrap_or(0) | field("SigIgn:").unwrap_or(0);
    pending & !kept != 0
}
