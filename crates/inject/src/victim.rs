//! Which thread to borrow.
//!
//! Best are threads that sleep in a system call which the kernel starts again exactly where it was.
//! Calls that may have transferred a part already would come back short: such threads are never
//! taken.

use std::fs;

/// Calls that start again exactly, best first: nothing is transferred, no time-out is stretched.
const EXACT: [u64; 18] =
    [202, 219, 35, 230, 7, 271, 23, 270, 232, 281, 441, 61, 247, 34, 130, 43, 288, 128];

/// Calls that may have transferred something before they wait: write, writev, pwrite, sendfile,
/// sendto, sendmsg, splice, tee, vmsplice, sendmmsg, recvmmsg, preadv and their
/// like, copy_file_range, io_uring_enter.
const PARTIAL: [u64; 20] =
    [1, 18, 19, 20, 40, 44, 46, 75, 76, 275, 276, 278, 295, 296, 299, 307, 326, 327, 328, 426];
/// Calls that may, if they are told to wait for all: recvfrom and recvmsg, with the argument that
/// says so.
const PARTIAL_IF_ALL: [(u64, usize); 2] = [(45, 3), (47, 2)];
const MSG_WAITALL: u64 = 0x100;

/// What an interrupted call answers with `EINTR` although nothing has happened: it is to be started
/// again instead.
pub(crate) const STARTS_AGAIN: [u64; 16] =
    [232, 281, 441, 65, 220, 128, 208, 333, 426, 43, 288, 0, 299, 42, 45, 47];

/// How a thread is to be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Exact(usize),
    Asleep,
    Running,
}

/// Threads that may be borrowed, best first.
pub(crate) fn candidates(pid: i32, but: Option<i32>) -> Vec<i32> {
    let rank = |tid: i32| -> Option<(Rank, i32)> {
        if is_uninterruptible(pid, tid) {
            return None;
        }
        let text = fs::read_to_string(format!("/proc/{pid}/task/{tid}/syscall")).ok()?;
        Some((rank(&text)?, tid))
    };
    let threads = threads(pid).into_iter().filter(|&tid| Some(tid) != but);
    let mut ranked: Vec<(Rank, i32)> = threads.filter_map(rank).collect();
    ranked.sort_unstable();
    ranked.into_iter().map(|(_, tid)| tid).collect()
}

/// Whether a thread cannot be stopped now: it waits for a device, or for a child of `vfork`.
fn is_uninterruptible(pid: i32, tid: i32) -> bool {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{tid}/stat")).unwrap_or_default();
    text.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('D'))
}

/// From what `/proc/PID/task/TID/syscall` says; `None` for a thread that must not be borrowed.
fn rank(text: &str) -> Option<Rank> {
    let mut words = text.split_whitespace();
    match words.next()?.parse::<i64>() {
        Ok(-1) | Err(_) => Some(Rank::Running),
        Ok(number) => {
            let number = number.cast_unsigned();
            let exact = EXACT.iter().position(|&exact| exact == number);
            let argument = |index: usize| {
                let word = words.clone().nth(index)?.strip_prefix("0x")?;
                u64::from_str_radix(word, 16).ok()
            };
            let all = |&(call, flags): &(u64, usize)| {
                call == number && argument(flags).is_none_or(|flags| flags & MSG_WAITALL != 0)
            };
            let partial = PARTIAL.contains(&number) || PARTIAL_IF_ALL.iter().any(all);
            exact.map(Rank::Exact).or_else(|| (!partial).then_some(Rank::Asleep))
        }
    }
}

/// The threads of a process.
pub(crate) fn threads(pid: i32) -> Vec<i32> {
    let entries = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sleepers_that_start_again_exactly_come_first() {
        let futex = rank("202 0x1 0x80 0x0 0x0 0x0 0x0 0x7ffd 0x7f00");
        let read = rank("0 0x3 0x7ffd 0x400 0x0 0x0 0x0 0x7ffd 0x7f00");
        assert!(futex < read && read < rank("running"));
        assert_eq!(futex, Some(Rank::Exact(0)));
    }

    #[test]
    fn a_thread_that_may_have_written_a_part_is_never_taken() {
        assert_eq!(rank("1 0x3 0x7ffd 0x100000 0x0 0x0 0x0 0x7ffd 0x7f00"), None);
        assert_eq!(rank("47 0x3 0x7ffd 0x100 0x0 0x0 0x0 0x7ffd 0x7f00"), None);
        let some = rank("45 0x3 0x7ffd 0x100 0x0 0x0 0x0 0x7ffd 0x7f00");
        assert_eq!(some, Some(Rank::Asleep));
    }
}
