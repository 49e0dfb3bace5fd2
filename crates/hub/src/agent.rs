//! Commands to the agent's thread, through the shared segment.

use crate::error::HubError;
use sledge_control::segment::Segment;
use sledge_control::system;
use sledge_inject::status_field;
use sledge_wire::attach::{self, Order};
use std::io;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// How long an answer may take; a process that is stopped answers when it goes on.
const PATIENCE: Duration = Duration::from_secs(20);
const NAP: Duration = Duration::from_millis(20);

/// Has a command carried out.
pub(crate) fn order(
    pid: i32,
    segment: &Segment,
    what: &'static str,
    order: Order,
    arguments: [u64; 2],
) -> Result<(), HubError> {
    segment.long(attach::ORDER).store(order as u64, Ordering::Relaxed);
    for (index, argument) in arguments.into_iter().enumerate() {
        segment.long(attach::ARGUMENTS + 8 * index).store(argument, Ordering::Relaxed);
    }
    let command = segment.word(attach::COMMAND);
    let number = command.load(Ordering::Relaxed).wrapping_add(1);
    command.store(number, Ordering::SeqCst);
    system::futex_wake(command);
    wait(pid, segment, number)?;
    match segment.long(attach::ERROR).load(Ordering::Relaxed) {
        0 => Ok(()),
        error => {
            let source = io::Error::from_raw_os_error(error as i32);
            Err(HubError::Agent { pid, what, source })
        }
    }
}

fn wait(pid: i32, segment: &Segment, number: u32) -> Result<(), HubError> {
    let done = segment.word(attach::DONE);
    let mut since = Instant::now();
    loop {
        let seen = done.load(Ordering::Acquire);
        if seen == number {
            return Ok(());
        }
        system::futex_wait(done, seen, NAP);
        if done.load(Ordering::Acquire) == number {
            return Ok(());
        }
        // The kernel clears it when the thread has ended: the process did, or executed another
        // program.
        if segment.word(attach::THREAD).load(Ordering::Acquire) == 0 {
            return Err(HubError::Ended(pid));
        }
        match status_field(pid, "State") {
            None => return Err(HubError::Ended(pid)),
            Some(state) if state.starts_with(['T', 't']) => since = Instant::now(),
            Some(_) if since.elapsed() > PATIENCE => return Err(HubError::Silent(pid)),
            Some(_) => {}
        }
    }
}
